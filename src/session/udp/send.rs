//! Batches of datagrams to send: written in place, sent in runs (rule 8).
//!
//! Owns the buffer, what becomes one message, and what is given up when the kernel refuses. Without a socket of its own:
//! the tests put another sender in its place.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::MediaSocket;
use super::sys::{self, Departure, SEND_CHUNK};

/// Bytes of the batch's buffer: a few pictures' packets, and still in the processor's cache.
const CAPACITY: usize = 512 << 10;
/// Most messages that wait in a batch.
const MOST_RUNS: usize = 1024;
/// Most datagrams of one run (the kernel's UDP_MAX_SEGMENTS).
const MOST_SEGMENTS: usize = 64;
/// Most bytes of one run: below the largest UDP payload.
const MOST_RUN_BYTES: usize = 64_000;
/// Most destinations remembered for refusing runs.
const MOST_REFUSING: usize = 1024;

/// Datagrams that wait for [`SendBatch::flush`]; used again and again.
///
/// Consecutive datagrams to one destination under one tag, of equal size but for a shorter last one, become one message.
#[derive(Debug)]
pub struct SendBatch {
    buffer: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
    dropped: Vec<Dropped>,
    segmentation: Segmentation,
}

/// Whether and for whom runs are used.
#[derive(Debug)]
enum Segmentation {
    /// One message for each datagram.
    Off,
    /// Runs, but not to these: their path (its MTU, or IPsec) does not take them.
    Except(HashSet<SocketAddr>),
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
    /// Whether the kernel's buffer was full.
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
    /// The kernel's buffer was full.
    Full,
    /// The system refused this destination (no route, forbidden, too large).
    Refused,
}

impl SendBatch {
    /// Makes an empty batch for `socket`.
    pub fn new(socket: &MediaSocket) -> Self {
        let segmentation = if socket.segmentation { Segmentation::Except(HashSet::new()) } else { Segmentation::Off };
        Self::with_segmentation(segmentation)
    }

    fn with_segmentation(segmentation: Segmentation) -> Self {
        Self { buffer: vec![0; CAPACITY], used: 0, runs: Vec::new(), dropped: Vec::new(), segmentation }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
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
        let start = self.used;
        if self.runs.len() >= MOST_RUNS {
            return Err(BatchFull);
        }
        let space = self.buffer.get_mut(start..start + room).ok_or(BatchFull)?;
        let length = write(space).min(room);
        if length == 0 {
            return Ok(());
        }
        self.used += length;
        let segmented = match &self.segmentation {
            Segmentation::Off => false,
            Segmentation::Except(refusing) => refusing.is_empty() || !refusing.contains(&to),
        };
        match self.runs.last_mut() {
            Some(run) if segmented && run.takes(tag, from, to, length) => {
                run.length += length;
                run.packets += 1;
            }
            _ => self.runs.push(Run { tag, from, to, start, length, segment: length, packets: 1 }),
        }
        Ok(())
    }

    /// Sends all that waits, in order, and empties the batch; what the kernel does not take at once is dropped.
    pub fn flush(&mut self, socket: &MediaSocket) -> SendReport {
        let family = socket.family;
        self.flush_by(|messages| sys::send(socket.as_fd(), family, messages))
    }

    /// Whose datagrams the last flush gave up.
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// [`Self::flush`] by any sender that takes some of the messages from the front, or says why not the first.
    fn flush_by(&mut self, mut send: impl FnMut(&[Departure<'_>]) -> io::Result<usize>) -> SendReport {
        let mut report = SendReport::default();
        self.dropped.clear();
        let mut next = 0;
        while next < self.runs.len() {
            let chunk = &self.runs[next..self.runs.len().min(next + SEND_CHUNK)];
            let Some(first) = chunk.first().copied() else { break };
            let mut messages = [first.departure(&self.buffer); SEND_CHUNK];
            for (message, run) in messages.iter_mut().zip(chunk) {
                *message = run.departure(&self.buffer);
            }
            report.calls += 1;
            match send(&messages[..chunk.len()]) {
                Ok(taken) => {
                    // A sender that takes nothing and says nothing would hold us up for ever.
                    let taken = taken.max(1);
                    report.sent += chunk.iter().take(taken).map(|run| run.packets).sum::<usize>();
                    next += taken;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    report.would_block = true;
                    for run in &self.runs[next..] {
                        give_up(&mut self.dropped, &mut report, run, DropCause::Full);
                    }
                    break;
                }
                Err(error) if first.packets > 1 && refuses_runs(&error) => {
                    self.refuse_runs(first.to, &error);
                    let same_path = |run: &Run| run.to == first.to;
                    let rest: Vec<Run> = self.runs.drain(next..).collect();
                    self.runs.extend(rest.into_iter().flat_map(|run| run.split(same_path(&run))));
                }
                Err(error) => {
                    tracing::trace!(%error, tag = first.tag, "a message was refused");
                    give_up(&mut self.dropped, &mut report, &first, DropCause::Refused);
                    next += 1;
                }
            }
        }
        self.runs.clear();
        self.used = 0;
        report
    }

    /// Remembers that the path to `to` takes no runs.
    fn refuse_runs(&mut self, to: SocketAddr, error: &io::Error) {
        if let Segmentation::Except(refusing) = &mut self.segmentation {
            if refusing.is_empty() {
                tracing::debug!(%error, "a path takes no UDP segmentation: each of its packets is a message of its own");
            }
            if refusing.len() >= MOST_REFUSING {
                refusing.clear();
            }
            refusing.insert(to);
        }
    }
}

impl Run {
    /// Whether a datagram of `length` bytes may follow in the same message.
    fn takes(&self, tag: u32, from: SocketAddr, to: SocketAddr, length: usize) -> bool {
        self.to == to
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

/// Whether an error can mean that runs are not to be had on this path: no checksum offload, IPsec, or a small MTU.
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn to(port: u16) -> SocketAddr {
        SocketAddr::new(FROM.ip(), port)
    }

    fn push(batch: &mut SendBatch, tag: u32, byte: u8, length: usize) {
        let write = |space: &mut [u8]| {
            space[..length].fill(byte);
            length
        };
        batch.push(tag, FROM, to(tag as u16), 1500, write).unwrap();
    }

    fn runs() -> SendBatch {
        SendBatch::with_segmentation(Segmentation::Except(HashSet::new()))
    }

    /// What a sender saw: destination port, bytes, segment.
    type Seen = Vec<(u16, usize, Option<u16>)>;

    fn seen(message: &Departure<'_>) -> (u16, usize, Option<u16>) {
        (message.to.port(), message.payload.len(), message.segment)
    }

    #[test]
    fn equal_packets_to_one_destination_are_one_message() {
        let mut batch = runs();
        for (tag, length) in [(1, 1000), (1, 1000), (1, 400), (1, 1000), (2, 100), (2, 200), (1, 50)] {
            push(&mut batch, tag, 7, length);
        }
        batch.push(9, FROM, to(9), 1500, |_| 0).unwrap();
        let mut sent = Seen::new();
        let report = batch.flush_by(|messages| {
            sent.extend(messages.iter().map(seen));
            Ok(messages.len())
        });
        assert_eq!(sent, [(1, 2400, Some(1000)), (1, 1000, None), (2, 100, None), (2, 200, None), (1, 50, None)]);
        assert_eq!(report, SendReport { sent: 7, dropped: 0, calls: 1, would_block: false });
        assert!(batch.is_empty());
    }

    #[test]
    fn runs_stay_within_the_kernels_limits() {
        let mut batch = runs();
        (0..70).for_each(|_| push(&mut batch, 1, 0, 100));
        (0..60).for_each(|_| push(&mut batch, 2, 0, 1200));
        let mut sent = Seen::new();
        batch.flush_by(|messages| {
            sent.extend(messages.iter().map(seen));
            Ok(messages.len())
        });
        let expected = [(1, 6400, Some(100)), (1, 600, Some(100)), (2, 63_600, Some(1200)), (2, 8400, Some(1200))];
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_full_buffer_drops_the_rest_and_tells_whose() {
        let mut batch = runs();
        for tag in [1, 1, 2, 2, 2, 3] {
            push(&mut batch, tag, 0, 100);
        }
        let mut calls = 0;
        let report = batch.flush_by(|_| {
            calls += 1;
            if calls == 1 { Ok(1) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        assert_eq!(report, SendReport { sent: 2, dropped: 4, calls: 2, would_block: true });
        let dropped = |tag, packets| Dropped { tag, packets, cause: DropCause::Full };
        assert_eq!(batch.dropped(), [dropped(2, 3), dropped(3, 1)]);
        assert_eq!(batch.flush_by(|_| Ok(1)), SendReport::default());
        assert!(batch.dropped().is_empty());
    }

    #[test]
    fn an_unreachable_destination_harms_no_other() {
        let mut batch = runs();
        for tag in [1, 2, 2, 3] {
            push(&mut batch, tag, 0, 100);
        }
        let mut sent = Seen::new();
        let report = batch.flush_by(|messages| match messages[0].to.port() {
            2 => Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
            _ => {
                sent.push(seen(&messages[0]));
                Ok(1)
            }
        });
        assert_eq!((report.sent, report.dropped), (2, 2));
        assert_eq!(batch.dropped(), [Dropped { tag: 2, packets: 2, cause: DropCause::Refused }]);
        assert_eq!(sent, [(1, 100, None), (3, 100, None)]);
    }

    #[test]
    fn a_path_without_segmentation_gets_single_packets() {
        for errno in [libc::EIO, libc::EINVAL, libc::EMSGSIZE] {
            let mut batch = runs();
            let mut refusals = 0;
            for _ in 0..2 {
                for (tag, length) in [(1, 300), (1, 300), (1, 120), (2, 300), (2, 300), (1, 300), (1, 300)] {
                    push(&mut batch, tag, 0, length);
                }
                let mut sent = Seen::new();
                let report = batch.flush_by(|messages| {
                    let refused = |m: &Departure<'_>| m.to.port() == 1 && m.segment.is_some();
                    let taken = messages.iter().take_while(|m| !refused(m)).count();
                    sent.extend(messages.iter().take(taken).map(seen));
                    if taken > 0 {
                        return Ok(taken);
                    }
                    refusals += 1;
                    Err(io::Error::from_raw_os_error(errno))
                });
                let single = (1, 300, None);
                assert_eq!(sent, [single, single, (1, 120, None), (2, 600, Some(300)), single, single]);
                assert_eq!((report.sent, report.dropped), (7, 0));
            }
            assert_eq!(refusals, 1, "the path is remembered");
        }
    }

    #[test]
    fn a_full_batch_says_so() {
        let mut batch = runs();
        let mut pushed = 0;
        while batch.push(pushed, FROM, to(1), 1500, |_| 1200).is_ok() {
            pushed += 1;
        }
        assert!((400..=MOST_RUNS as u32).contains(&pushed), "{pushed}");
        assert_eq!(batch.flush_by(|messages| Ok(messages.len())).sent, pushed as usize);
        assert!(batch.push(0, FROM, to(1), 1500, |_| 1200).is_ok());
    }
}
