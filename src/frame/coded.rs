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
