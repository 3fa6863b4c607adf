//! Datagrams on their way to the kernel: written in place, sent in runs (rule 8).
//!
//! Owns the buffers, what becomes one message, what waits while the kernel takes no more, and what is given up. Without a
//! socket or clock of its own: the tests put another sender in its place.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::MediaSocket;
use super::sys::{self, Departure, SEND_CHUNK};

/// Bytes of one chunk's buffer: a few pictures' packets, and still in the processor's cache.
const CAPACITY: usize = 512 << 10;
/// Most messages that one chunk takes.
const MOST_RUNS: usize = 1024;
/// Most chunks: 24 MiB, more than a gigabit link carries in [`MOST_WAIT`].
const MOST_CHUNKS: usize = 48;
/// Most datagrams of one run (the kernel's UDP_MAX_SEGMENTS).
const MOST_SEGMENTS: usize = 64;
/// Most bytes of one run: below the largest UDP payload.
const MOST_RUN_BYTES: usize = 64_000;
/// Most destinations remembered for refusing runs.
const MOST_REFUSING: usize = 1024;
/// How long a full kernel buffer is waited for: a picture later than this is better replaced by the next keyframe.
const MOST_WAIT: Duration = Duration::from_millis(150);
/// How long a destination that refused a run gets none; the reason may have been a passing one (an address that went away).
const REFUSAL: Duration = Duration::from_secs(10);

/// Datagrams that wait to be sent; used again and again.
///
/// Consecutive datagrams to one destination under one tag, of equal size but for a shorter last one, become one message.
/// Messages leave in the order in which they came: for no destination does a newer one overtake an older one.
#[derive(Debug)]
pub struct SendBatch {
    /// Never empty: new datagrams are written to the last one, the first one is sent.
    chunks: VecDeque<Chunk>,
    /// The buffer of a chunk that is done.
    spare: Option<Chunk>,
    dropped: Vec<Dropped>,
    segmentation: Segmentation,
}

/// A buffer that is written from its start, and used again once all of its runs have left.
#[derive(Debug)]
struct Chunk {
    buffer: Vec<u8>,
    used: usize,
    runs: VecDeque<Run>,
}

/// Whether and for whom runs are used.
#[derive(Debug)]
enum Segmentation {
    /// One message for each datagram.
    Off,
    /// Runs, but until then not to these: their path (its MTU, or IPsec) does not take them.
    Except(HashMap<SocketAddr, Instant>),
}

/// Consecutive datagrams of one message.
#[derive(Debug, Clone, Copy)]
struct Run {
    tag: u32,
    from: SocketAddr,
    to: SocketAddr,
    start: usize,
    length: usize,
    segment: usize,
    packets: usize,
    /// When the kernel took no more before it.
    held: Option<Instant>,
}

/// Refuses a datagram: flush first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the batch is full")]
pub struct BatchFull;

/// What one flush did, in datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendReport {
    /// Handed to the kernel.
    pub sent: usize,
    /// Given up; [`SendBatch::dropped`] tells whose.
    pub dropped: usize,
    /// System calls made.
    pub calls: usize,
    /// Whether the kernel's buffer was full: what was not taken waits for the next flush.
    pub would_block: bool,
}

/// Datagrams of one destination that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// The caller's name for the destination.
    pub tag: u32,
    /// How many.
    pub packets: usize,
    /// Why.
    pub cause: DropCause,
}

/// Why datagrams were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropCause {
    /// The kernel's buffer was full for too long, or too much waited for it.
    Full,
    /// The system refused this destination (no route, forbidden, too large).
    Refused,
}

impl SendBatch {
    /// Makes an empty batch for `socket`.
    pub fn new(socket: &MediaSocket) -> Self {
        let segmentation = if socket.segmentation { Segmentation::Except(HashMap::new()) } else { Segmentation::Off };
        Self::with_segmentation(segmentation)
    }

    fn with_segmentation(segmentation: Segmentation) -> Self {
        Self { chunks: VecDeque::from([Chunk::new()]), spare: None, dropped: Vec::new(), segmentation }
    }

    /// Whether nothing waits; after a flush, whether the kernel took everything.
    pub fn is_empty(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.runs.is_empty())
    }

    /// When the oldest of what the kernel did not take is given up: flush by then, or as soon as the socket is writable.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.chunks.iter().find_map(|chunk| chunk.runs.front())?;
        oldest.held.map(|held| held + MOST_WAIT)
    }

    /// Adds one datagram from the local address `from` to `to`: `write` fills at most `room` bytes and returns how many.
    ///
    /// Nothing is added where it returns 0. `tag` names the destination to the caller, should the datagram be dropped.
    ///
    /// # Errors
    /// Where there is no room before a flush; `write` was not called then.
    pub fn push(
        &mut self,
        tag: u32,
        from: SocketAddr,
        to: SocketAddr,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), BatchFull> {
        let chunk = self.chunks.back_mut().ok_or(BatchFull)?;
        let start = chunk.used;
        if chunk.runs.len() >= MOST_RUNS {
            return Err(BatchFull);
        }
        let space = chunk.buffer.get_mut(start..start + room).ok_or(BatchFull)?;
        let length = write(space).min(room);
        if length == 0 {
            return Ok(());
        }
        chunk.used += length;
        let segmented = match &self.segmentation {
            Segmentation::Off => false,
            Segmentation::Except(refusing) => refusing.is_empty() || !refusing.contains_key(&to),
        };
        match chunk.runs.back_mut() {
            Some(run) if segmented && run.takes(tag, from, to, length) => {
                run.length += length;
                run.packets += 1;
            }
            _ => chunk.runs.push_back(Run { tag, from, to, start, length, segment: length, packets: 1, held: None }),
        }
        Ok(())
    }

    /// Sends what waits, in order, as far as the kernel takes it at once; the rest waits for the next flush.
    ///
    /// What has waited for 150 ms, and the oldest of more than 24 MiB, is given up. Afterwards there is room again.
    pub fn flush(&mut self, socket: &MediaSocket, now: Instant) -> SendReport {
        let family = socket.family;
        self.flush_by(now, |messages| sys::send(socket.as_fd(), family, messages))
    }

    /// Whose datagrams the last flush gave up.
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// [`Self::flush`] by any sender that takes some of the messages from the front, or says why not the first.
    fn flush_by(&mut self, now: Instant, mut send: impl FnMut(&[Departure<'_>]) -> io::Result<usize>) -> SendReport {
        let mut report = SendReport::default();
        self.dropped.clear();
        if let Segmentation::Except(refusing) = &mut self.segmentation {
            refusing.retain(|_, until| now < *until);
        }
        while let Some(chunk) = self.oldest() {
            let Some(first) = chunk.runs.front().copied() else { break };
            let mut messages = [first.departure(&chunk.buffer); SEND_CHUNK];
            for (message, run) in messages.iter_mut().zip(&chunk.runs) {
                *message = run.departure(&chunk.buffer);
            }
            let count = chunk.runs.len().min(SEND_CHUNK);
            report.calls += 1;
            match send(&messages[..count]) {
                Ok(taken) => {
                    // A sender that takes nothing and says nothing would hold us up for ever.
                    let taken = taken.clamp(1, count);
                    report.sent += chunk.runs.drain(..taken).map(|run| run.packets).sum::<usize>();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    report.would_block = true;
                    break;
                }
                Err(error) if first.packets > 1 && refuses_runs(&error) => {
                    let rest: Vec<Run> = chunk.runs.drain(..).collect();
                    chunk.runs.extend(rest.into_iter().flat_map(|run| run.split(run.to == first.to)));
                    self.refuse_runs(now, first.to, &error);
                }
                Err(error) => {
                    tracing::trace!(%error, tag = first.tag, "a message was refused");
                    chunk.runs.pop_front();
                    give_up(&mut self.dropped, &mut report, &first, DropCause::Refused);
                }
            }
        }
        if report.would_block {
            self.hold(now);
            self.give_up_late(now, &mut report);
            self.make_room(&mut report);
        }
        report
    }

    /// The first chunk that has something to send; those before it are done.
    fn oldest(&mut self) -> Option<&mut Chunk> {
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(|chunk| chunk.runs.is_empty()) {
            self.spare = self.chunks.pop_front();
        }
        let chunk = self.chunks.front_mut()?;
        if chunk.runs.is_empty() {
            chunk.used = 0;
            return None;
        }
        Some(chunk)
    }

    /// Notes since when each run waits for the kernel.
    fn hold(&mut self, now: Instant) {
        let newest_first = self.chunks.iter_mut().rev().flat_map(|chunk| chunk.runs.iter_mut().rev());
        newest_first.take_while(|run| run.held.is_none()).for_each(|run| run.held = Some(now));
    }

    fn give_up_late(&mut self, now: Instant, report: &mut SendReport) {
        while let Some(chunk) = self.chunks.iter_mut().find(|chunk| !chunk.runs.is_empty()) {
            let late = |run: &Run| run.held.is_some_and(|held| now >= held + MOST_WAIT);
            if !chunk.runs.front().is_some_and(late) {
                break;
            }
            let Some(run) = chunk.runs.pop_front() else { break };
            give_up(&mut self.dropped, report, &run, DropCause::Full);
        }
    }

    /// Opens another chunk where the last one may not take a whole run more, at the expense of the oldest one.
    fn make_room(&mut self, report: &mut SendReport) {
        let Some(last) = self.chunks.back() else { return };
        if last.used + MOST_RUN_BYTES <= CAPACITY && last.runs.len() < MOST_RUNS {
            return;
        }
        // What is done makes room by itself.
        if self.oldest().is_none() {
            return;
        }
        if self.chunks.len() >= MOST_CHUNKS
            && let Some(oldest) = self.chunks.pop_front()
        {
            oldest.runs.iter().for_each(|run| give_up(&mut self.dropped, report, run, DropCause::Full));
            self.spare = Some(oldest);
        }
        let next = self.spare.take().map_or_else(Chunk::new, Chunk::emptied);
        self.chunks.push_back(next);
    }

    /// Remembers that the path to `to` takes no runs.
    fn refuse_runs(&mut self, now: Instant, to: SocketAddr, error: &io::Error) {
        if let Segmentation::Except(refusing) = &mut self.segmentation {
            if refusing.is_empty() {
                tracing::debug!(%error, "a path takes no UDP segmentation: each of its packets is a message of its own");
            }
            if refusing.len() >= MOST_REFUSING {
                refusing.clear();
            }
            refusing.insert(to, now + REFUSAL);
        }
    }
}

impl Chunk {
    fn new() -> Self {
        Self { buffer: vec![0; CAPACITY], used: 0, runs: VecDeque::new() }
    }

    /// The same buffer without content.
    fn emptied(mut self) -> Self {
        self.used = 0;
        self.runs.clear();
        self
    }
}

impl Run {
    /// Whether a datagram of `length` bytes may follow in the same message.
    fn takes(&self, tag: u32, from: SocketAddr, to: SocketAddr, length: usize) -> bool {
        self.held.is_none()
            && self.to == to
            && self.tag == tag
            && self.from == from
            && self.length == self.segment * self.packets
            && length <= self.segment
            && self.packets < MOST_SEGMENTS
            && self.length + length <= MOST_RUN_BYTES
    }

    fn departure<'a>(&self, buffer: &'a [u8]) -> Departure<'a> {
        Departure {
            from: self.from,
            to: self.to,
            payload: &buffer[self.start..self.start + self.length],
            segment: if self.packets > 1 { u16::try_from(self.segment).ok() } else { None },
        }
    }

    /// Each of its datagrams as a run of its own where `apart`, else itself.
    fn split(self, apart: bool) -> impl Iterator<Item = Run> {
        let (pieces, packets) = if apart { (self.packets, 1) } else { (1, self.packets) };
        (0..pieces).map(move |i| {
            let offset = i * self.segment;
            let length = if apart { self.segment.min(self.length - offset) } else { self.length };
            Run { start: self.start + offset, length, segment: self.segment.min(length), packets, ..self }
        })
    }
}

/// Whether an error can mean that runs are not to be had on this path: no checksum offload, IPsec, or a small MTU (EINVAL
/// before Linux 6.8, and what a local address that went away gives as well).
fn refuses_runs(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
    )
}

fn give_up(dropped: &mut Vec<Dropped>, report: &mut SendReport, run: &Run, cause: DropCause) {
    report.dropped += run.packets;
    match dropped.last_mut() {
        Some(last) if last.tag == run.tag && last.cause == cause => last.packets += run.packets,
        _ => dropped.push(Dropped { tag: run.tag, packets: run.packets, cause }),
    }
}

#[cfg(test)]
mod tests;
