//! Connections that carry sessions over TCP: what waits to be written to each (RFC 6544).
//!
//! Owns the queues, which the threads of sessions fill and the tasks of the connections ([`super::tcp`]) empty. It never waits for anybody: what
//! finds a queue full is given up, and whoever fills it is told so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::engine::{Path, Remote};
use super::tcp::frames::HEADER;

/// Bytes that wait for one connection: a keyframe and some more.
const MOST_WAITING: usize = 512 << 10;
/// Bytes of an emptied buffer that are kept for the next use.
const MOST_SPARE: usize = 64 << 10;

/// A packet that came by a connection.
#[derive(Debug)]
pub struct StreamPacket {
    /// The connection.
    pub path: Path,
    /// The packet.
    pub data: BytesMut,
    /// Holds the connection's place in the queue until the packet is handled.
    pub permit: OwnedSemaphorePermit,
}

/// The open connections; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<Mutex<HashMap<Path, Arc<Stream>>>>);

impl Streams {
    /// Enters a connection.
    pub fn open(&self, path: Path) -> Arc<Stream> {
        let (queue, stirred, kept) = (Mutex::default(), Notify::new(), Notify::new());
        let stream = Arc::new(Stream { path, queue, stirred, kept });
        self.table().insert(path, stream.clone());
        stream
    }

    /// The connection of a path.
    pub fn of(&self, path: Path) -> Option<Arc<Stream>> {
        self.table().get(&path).cloned()
    }

    /// Has a connection end once all that waits for it is written.
    pub fn close(&self, path: Path) {
        self.of(path).into_iter().for_each(|stream| stream.close());
    }

    /// The same for all that lead to `end`.
    pub fn close_all_to(&self, end: Remote) {
        self.table().values().filter(|stream| stream.path.end() == end).for_each(|stream| stream.close());
    }

    /// Notes that a session has heard something authentic by all that lead to `end`: they no longer give way to newcomers.
    pub fn keep_all_to(&self, end: Remote) {
        self.table().values().filter(|stream| stream.path.end() == end).for_each(|stream| stream.kept.notify_one());
    }

    /// Takes a connection out that has ended.
    pub fn remove(&self, stream: &Arc<Stream>) {
        let mut table = self.table();
        if table.get(&stream.path).is_some_and(|known| Arc::ptr_eq(known, stream)) {
            table.remove(&stream.path);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table().len()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Path, Arc<Stream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's queue.
#[derive(Debug)]
pub struct Stream {
    path: Path,
    queue: Mutex<Queue>,
    stirred: Notify,
    kept: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole frames.
    waiting: Vec<u8>,
    /// Bytes that were taken and are being written.
    writing: usize,
    closing: bool,
}

/// Refuses a packet: too much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection takes less than it is sent")]
pub struct StreamFull;

impl Stream {
    /// Adds a packet of `length` bytes that `write` fills; nothing where that returns false, or where the connection ends.
    ///
    /// [`Stream::stir`] has it written.
    ///
    /// # Errors
    /// Where too much waits; `write` was not called then.
    pub fn push(&self, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool) -> Result<(), StreamFull> {
        let mut queue = self.queue();
        let start = queue.waiting.len();
        if queue.writing + start + HEADER + length > MOST_WAITING {
            return Err(StreamFull);
        }
        let Ok(header) = u16::try_from(length) else { return Ok(()) };
        if queue.closing {
            return Ok(());
        }
        queue.waiting.extend_from_slice(&header.to_be_bytes());
        queue.waiting.resize(start + HEADER + length, 0);
        if !write(&mut queue.waiting[start + HEADER..]) {
            queue.waiting.truncate(start);
        }
        Ok(())
    }

    /// Wakes the task that writes.
    pub fn stir(&self) {
        self.stirred.notify_one();
    }

    /// Waits until a session has heard something authentic by it.
    pub async fn kept(&self) {
        self.kept.notified().await;
    }

    /// Whether so much waits that nothing urgent should be added.
    pub fn is_behind(&self) -> bool {
        let queue = self.queue();
        queue.writing + queue.waiting.len() > MOST_WAITING / 2
    }

    /// Ends it once all that waits is written.
    pub fn close(&self) {
        self.queue().closing = true;
        self.stir();
    }

    /// Whether it is to end.
    pub fn is_closing(&self) -> bool {
        self.queue().closing
    }

    /// What is to be written next, whole frames; waits for it, and takes `spare` for what comes then. `None` at the end.
    ///
    /// What it gave before counts as written.
    pub async fn next(&self, mut spare: Vec<u8>) -> Option<Vec<u8>> {
        spare.clear();
        spare.shrink_to(MOST_SPARE);
        loop {
            {
                let mut queue = self.queue();
                queue.writing = 0;
                if !queue.waiting.is_empty() {
                    let taken = std::mem::replace(&mut queue.waiting, spare);
                    queue.writing = taken.len();
                    return Some(taken);
                }
                if queue.closing {
                    return None;
                }
            }
            self.stirred.notified().await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere leaves a queue that is still whole, but for a packet that was not sealed: that connection's viewer drops it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::SocketAddr;

    use super::*;

    fn path(port: u16) -> Path {
        Path::tcp(SocketAddr::from(([127, 0, 0, 1], 9)), SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn fill(byte: u8) -> impl FnMut(&mut [u8]) -> bool {
        move |out| {
            out.fill(byte);
            true
        }
    }

    #[tokio::test]
    async fn a_slow_connection_loses_what_comes_last_and_frames_stay_whole() {
        let stream = Streams::default().open(path(1));
        let mut taken = 0;
        while stream.push(1000, &mut fill(7)).is_ok() {
            taken += 1;
        }
        assert_eq!((taken, stream.is_behind()), (MOST_WAITING / 1002, true));
        let written = stream.next(Vec::new()).await.unwrap();
        assert_eq!(written.len(), taken * 1002);
        assert!(written.chunks(1002).all(|frame| frame[..2] == 1000_u16.to_be_bytes() && frame[2..] == [7; 1000]));
        // It is not written yet: the bound is for both.
        assert_eq!(stream.push(1000, &mut fill(8)), Err(StreamFull));
        stream.close();
        assert_eq!(stream.next(written).await, None);
        assert_eq!(stream.push(3, &mut fill(9)), Ok(()));
        assert_eq!(stream.next(Vec::new()).await, None);
    }

    #[tokio::test]
    async fn what_was_not_sealed_is_not_sent_and_an_end_waits_for_the_rest() {
        let streams = Streams::default();
        let stream = streams.open(path(1));
        stream.push(3, &mut |_| false).unwrap();
        stream.push(2, &mut fill(1)).unwrap();
        streams.close_all_to(path(2).end());
        assert!(!stream.is_closing());
        streams.close_all_to(path(1).end());
        assert_eq!(stream.next(Vec::new()).await.unwrap(), [0, 2, 1, 1]);
        assert_eq!(stream.next(Vec::new()).await, None);
        let again = streams.open(path(1));
        streams.remove(&stream);
        assert_eq!(streams.count(), 1, "another connection has the same addresses now");
        streams.remove(&again);
        assert_eq!(streams.count(), 0);
    }
}
