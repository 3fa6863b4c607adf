//! The fanout: the access units since the last keyframe, packetised once, that all sessions read (rules 1, 5 and 8).
//!
//! It holds a whole group of pictures or nothing: a joiner either gets all that it needs to decode, or a keyframe is asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::encoder::{AccessUnit, Codec};

pub mod h264;

/// Most bytes of an RTP payload.
///
/// 1200 bytes of UDP payload pass every network that WebRTC meets; of these 12 are the RTP header, 12 the fixed set of header extensions,
/// 16 the SRTP tag and 2 the original sequence number of a retransmission.
pub const MOST_PAYLOAD: usize = 1200 - 12 - 12 - 16 - 2;

/// Bounds of what is kept for joiners (rule 5).
const MOST_UNITS: usize = 300;
const MOST_BYTES: usize = 2_000_000;

/// One RTP payload: a few bytes of its own, then a slice of the access unit.
#[derive(Debug, Clone)]
pub struct Payload {
    head: [u8; 2],
    head_length: u8,
    body: Bytes,
}

impl Payload {
    /// A payload of `head` (at most two bytes) and `body`.
    pub fn new(head: &[u8], body: Bytes) -> Self {
        let mut own = [0; 2];
        let length = head.len().min(own.len());
        own[..length].copy_from_slice(&head[..length]);
        Self { head: own, head_length: length as u8, body }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        usize::from(self.head_length) + self.body.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes it to the front of `out`, which must be at least [`Payload::len`] long.
    pub fn write(&self, out: &mut [u8]) {
        let head = usize::from(self.head_length);
        out[..head].copy_from_slice(&self.head[..head]);
        out[head..head + self.body.len()].copy_from_slice(&self.body);
    }
}

/// An access unit with its payloads.
#[derive(Debug)]
pub struct Unit {
    /// The access unit itself.
    pub access_unit: AccessUnit,
    /// Its RTP payloads in order; the marker bit belongs to the last.
    pub payloads: Vec<Payload>,
}

impl Unit {
    /// Packetises an access unit.
    pub fn new(access_unit: AccessUnit) -> Self {
        let payloads = match access_unit.codec {
            Codec::H264 => h264::packetise(&access_unit.data, MOST_PAYLOAD),
            // No VP8 encoder exists yet, so no such unit can be made.
            Codec::Vp8 => Vec::new(),
            Codec::Opus => vec![Payload::new(&[], access_unit.data.clone())],
        };
        Self { access_unit, payloads }
    }
}

/// The units since the last keyframe.
#[derive(Debug, Default)]
pub struct Fanout {
    units: VecDeque<Arc<Unit>>,
    bytes: usize,
    /// Whether a unit was taken that `units` can't be decoded up to.
    broken: bool,
}

/// What a joiner finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Catchup {
    /// These many units lead up to now.
    Units(usize),
    /// The encoder has made nothing yet: its first unit will be a keyframe.
    Nothing,
    /// Too much came since the last keyframe: another one is needed.
    NeedsKeyframe,
}

impl Fanout {
    /// Takes the next unit of the rung.
    pub fn push(&mut self, unit: Arc<Unit>) {
        if unit.access_unit.keyframe {
            self.clear();
        }
        if self.broken {
            return;
        }
        self.bytes += unit.access_unit.data.len();
        self.units.push_back(unit);
        if self.units.len() > MOST_UNITS || self.bytes > MOST_BYTES {
            self.units.clear();
            self.broken = true;
        }
    }

    /// Forgets all: the encoder stopped, or starts anew.
    pub fn clear(&mut self) {
        self.units.clear();
        self.bytes = 0;
        self.broken = false;
    }

    /// Whether and how a joiner can be served.
    pub fn catchup(&self) -> Catchup {
        match self.units.front() {
            Some(first) if first.access_unit.keyframe => Catchup::Units(self.units.len()),
            None if !self.broken => Catchup::Nothing,
            _ => Catchup::NeedsKeyframe,
        }
    }

    /// The units from the last keyframe on.
    pub fn units(&self) -> impl ExactSizeIterator<Item = &Arc<Unit>> {
        self.units.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn unit(keyframe: bool, size: usize) -> Arc<Unit> {
        let mut data = vec![0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }];
        data.resize(size.max(6), 7);
        Arc::new(Unit::new(AccessUnit {
            codec: Codec::H264,
            data: data.into(),
            keyframe,
            captured: Instant::now(),
            sample: 0,
        }))
    }

    #[test]
    fn joiners_get_a_whole_group_or_none() {
        let mut fanout = Fanout::default();
        assert_eq!(fanout.catchup(), Catchup::Nothing);
        fanout.push(unit(true, 1000));
        for _ in 0..MOST_UNITS - 1 {
            fanout.push(unit(false, 100));
        }
        assert_eq!(fanout.catchup(), Catchup::Units(MOST_UNITS));
        fanout.push(unit(false, 100));
        assert_eq!(fanout.catchup(), Catchup::NeedsKeyframe);
        fanout.push(unit(false, 100));
        assert_eq!(fanout.catchup(), Catchup::NeedsKeyframe, "a group without its head is of no use");
        fanout.push(unit(true, 100));
        assert_eq!(fanout.catchup(), Catchup::Units(1));
        for _ in 0..3 {
            fanout.push(unit(false, MOST_BYTES / 2));
        }
        assert_eq!(fanout.catchup(), Catchup::NeedsKeyframe);
        fanout.clear();
        assert_eq!(fanout.catchup(), Catchup::Nothing);
    }
}
