//! A connection's socket, read and written by hyper and watched beside it.
//!
//! hyper stops to look for the other end's end once bytes came behind a request that is still being answered; a wait is answered for hours.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One of several handles of a socket; only one of them may be read and written.
#[derive(Debug, Clone)]
pub(super) struct SharedStream(Arc<TcpStream>);

impl SharedStream {
    /// Shares a socket.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Waits until there is something to read, or the other end has ended or failed.
    pub(super) async fn stirs(&self) {
        // Which of them it is makes no difference here.
        let _ = self.0.peek(&mut [0]).await;
    }

    /// Waits for the first byte, and leaves it there.
    pub(super) async fn first_byte(&self) -> io::Result<u8> {
        let mut first = [0];
        if self.0.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(first[0])
    }

    /// Says something as far as it can be said without waiting.
    pub(super) fn say(&self, words: &[u8]) {
        // What doesn't arrive would not have been read.
        let _ = self.0.try_write(words);
    }

    /// Ends what is said and reads to the other side's end: a socket closed with something unread takes back what it said last.
    pub(super) async fn drain(&self) {
        // It may have ended already.
        let _ = shutdown(&*self.0, Shutdown::Write);
        let mut unread = [0; 4096];
        while self.0.readable().await.is_ok() {
            match self.0.try_read(&mut unread) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&*self.0, Shutdown::Write).map_err(Into::into))
    }
}

/// Runs its closure when it goes out of scope, also where the future is dropped.
pub(super) struct Afterwards<F: FnMut()>(pub(super) F);

impl<F: FnMut()> Drop for Afterwards<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Says 503 as far as it can be said without waiting.
pub(super) fn refuse(stream: &TcpStream) {
    const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Length: 57\r\nRetry-After: 1\r\nConnection: close\r\n\r\n\
        the broadcaster has too many connections open; try again\n";
    // The socket is dropped either way.
    let _ = stream.try_write(REFUSAL);
}
