//! A stream to a TURN server (RFC 8656, section 3.1): what waits is written, messages that come are cut out.
//!
//! A shell. A stream that is slow loses packets that wait too long, counted by whose they are; it slows nobody.

use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::table::Departing;
use super::wire::frame;

/// Bytes of the longest message taken: a datagram in a Data indication.
const LONGEST: usize = 4096;
/// Bytes that are written at once.
const AT_ONCE: usize = 32 << 10;

/// Carries messages both ways until the stream ends; returns why it did.
pub async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    queue: &mut mpsc::Receiver<Departing>,
    deliver: impl FnMut(&[u8]),
    late: impl FnMut(u32),
) -> String {
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        why = read(reader, deliver) => why,
        why = write(writer, queue, late) => why,
    }
}

async fn read(mut stream: impl AsyncRead + Unpin, mut deliver: impl FnMut(&[u8])) -> String {
    let mut buffer = Vec::with_capacity(2 * AT_ONCE);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return "it has closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => return format!("the connection is lost ({error})"),
        }
        let mut start = 0;
        loop {
            match frame(&buffer[start..], LONGEST) {
                Ok(Some(length)) => {
                    deliver(&buffer[start..start + length]);
                    start += length;
                }
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
        buffer.drain(..start);
    }
}

async fn write(
    mut stream: impl AsyncWrite + Unpin,
    queue: &mut mpsc::Receiver<Departing>,
    mut late: impl FnMut(u32),
) -> String {
    let mut buffer = Vec::with_capacity(2 * AT_ONCE);
    while let Some(first) = queue.recv().await {
        buffer.clear();
        let now = Instant::now();
        let mut next = Some(first);
        while let Some(message) = next {
            if message.is_late(now) {
                late(message.viewer);
            } else {
                buffer.extend(&message.data);
            }
            next = if buffer.len() < AT_ONCE { queue.try_recv().ok() } else { None };
        }
        let written = async {
            stream.write_all(&buffer).await?;
            stream.flush().await
        };
        if let Err(error) = written.await {
            return format!("the connection is lost ({error})");
        }
    }
    "it is not used any more".to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::session::relay::wire::Envelope;

    fn message(length: usize) -> Vec<u8> {
        let envelope = Envelope::channel(0x4000, length, true);
        let mut message = envelope.head().to_vec();
        message.resize(4 + length + envelope.padding, 7);
        message
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.unwrap() })
    }

    #[test]
    fn messages_are_cut_out_however_the_stream_is_cut() {
        let messages: Vec<_> = (0..300).map(message).collect();
        let bytes = messages.concat();
        for piece in [1, 3, 1000, bytes.len()] {
            let (near, mut far) = tokio::io::duplex(piece);
            let (_sender, mut queue) = mpsc::channel(1);
            let mut got = Vec::new();
            let carried = carry(near, &mut queue, |data| got.push(data.to_vec()), |_| {});
            let (why, ()) = block_on(async {
                tokio::join!(carried, async {
                    far.write_all(&bytes).await.unwrap();
                    drop(far);
                })
            });
            assert_eq!(got, messages);
            assert!(why.contains("closed"), "{why}");
        }
    }

    #[test]
    fn what_is_no_turn_ends_the_stream() {
        let (near, mut far) = tokio::io::duplex(64);
        let (_sender, mut queue) = mpsc::channel(1);
        let carried = carry(near, &mut queue, |_| panic!("nothing is whole"), |_| {});
        let (why, ()) = block_on(async {
            tokio::join!(carried, async { far.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap() })
        });
        assert!(why.contains("TURN"), "{why}");
    }

    #[test]
    fn what_waited_too_long_is_dropped_but_for_the_daemons_own_words() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (sender, mut queue) = mpsc::channel(8);
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_secs(5)).unwrap();
        for (viewer, at, length) in [(1, long_ago, 10), (0, long_ago, 20), (2, now, 30)] {
            sender.try_send(Departing { viewer, at, data: message(length) }).unwrap();
        }
        drop(sender);
        let mut late = Vec::new();
        let why = block_on(carry(near, &mut queue, |_| {}, |viewer| late.push(viewer)));
        assert!(why.contains("not used"), "{why}");
        let mut written = Vec::new();
        block_on(far.read_to_end(&mut written)).unwrap();
        assert_eq!((late, written), (vec![1], [message(20), message(30)].concat()));
    }
}
