//! A picture as a file has it, coded already: what may be sent without encoding it again.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// How such a picture is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// H.264, constrained baseline.
    H264,
    /// VP8.
    Vp8,
}

/// One coded picture, which is made of the one before it in its row unless it is a keyframe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coded {
    /// How it is coded.
    pub coding: Coding,
    /// H.264: Annex B, parameter sets before each IDR picture. VP8: one frame, which is shown.
    pub data: Bytes,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// Its place.
    pub serial: Serial,
}

/// The place of a coded picture: which row it is of, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial {
    row: u64,
    number: u64,
}

impl Serial {
    /// The first place of a row of its own.
    pub fn first() -> Self {
        static ROWS: AtomicU64 = AtomicU64::new(0);
        Self { row: ROWS.fetch_add(1, Ordering::Relaxed), number: 0 }
    }

    /// Whether both are of one row.
    pub fn is_beside(self, other: Self) -> bool {
        self.row == other.row
    }

    /// The place after this one.
    pub fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }
}

/// The NAL units between the start codes of an Annex B stream, without trailing zeros.
pub fn nal_units(data: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(found) = find_start_code(&data[at..]) {
        starts.push(at + found + 3);
        at += found + 3;
    }
    starts.push(data.len() + 3);
    (0..starts.len() - 1).filter_map(move |i| {
        let (start, mut end) = (starts[i], starts[i + 1] - 3);
        while end > start && data[end - 1] == 0 {
            end -= 1;
        }
        (end > start).then(|| data.slice(start..end))
    })
}

/// Where `00 00 01` is next.
fn find_start_code(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        // A start code ends in 1; everything in between can be skipped three bytes at a time.
        match data.get(at + 2)? {
            0 => at += 1,
            1 if data[at] == 0 && data[at + 1] == 0 => return Some(at),
            _ => at += 3,
        }
    }
}
