//! The version in status lines: 1.1 also for clients of 1.0 (RFC 9110, section 2.5), as the original of the room writes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What hyper begins a reply to a client of 1.0 with.
const OLD: &[u8] = b"HTTP/1.0 ";
/// Where the minor version stands.
const MINOR: usize = 7;

/// A stream that writes 1.1 for 1.0 in the reply that is announced to it.
#[derive(Debug)]
pub(super) struct AsOneOne<S> {
    stream: S,
    /// Set when a reply to a client of 1.0 comes next.
    announced: Arc<AtomicBool>,
    /// Bytes of that reply that are written.
    written: usize,
}

impl<S> AsOneOne<S> {
    /// Changes the replies that are announced by setting the flag.
    pub(super) fn new(stream: S, announced: Arc<AtomicBool>) -> Self {
        Self { stream, announced, written: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AsOneOne<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AsOneOne<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if !this.announced.load(Ordering::Relaxed) || !buf.starts_with(&OLD[this.written..]) {
            return Pin::new(&mut this.stream).poll_write(cx, buf);
        }
        let mut changed = buf.to_vec();
        changed[MINOR - this.written] = b'1';
        let written = std::task::ready!(Pin::new(&mut this.stream).poll_write(cx, &changed))?;
        this.written += written;
        if this.written > MINOR {
            this.announced.store(false, Ordering::Relaxed);
            this.written = 0;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn only_an_announced_reply_is_changed_however_small_the_pieces_are() {
        for room in [1, 3, 8, 100] {
            let (near, mut far) = tokio::io::duplex(room);
            let announced = Arc::new(AtomicBool::new(false));
            let mut stream = AsOneOne::new(near, Arc::clone(&announced));
            let writing = async move {
                stream.write_all(b"HTTP/1.0 first").await.unwrap();
                announced.store(true, Ordering::Relaxed);
                stream.write_all(b"HTTP/1.0 200 OK, HTTP/1.0 ").await.unwrap();
                stream.write_all(b"HTTP/1.0 ").await.unwrap();
            };
            let mut all = String::new();
            let (_, read) = tokio::join!(writing, far.read_to_string(&mut all));
            read.unwrap();
            assert_eq!(all, "HTTP/1.0 firstHTTP/1.1 200 OK, HTTP/1.0 HTTP/1.0 ");
        }
    }
}
