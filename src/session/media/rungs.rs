//! What the media thread keeps of each video codec.

use crate::encoder::Codec;
use crate::fanout::Fanout;
use crate::session::turns::Turns;

/// What is kept of one video codec.
#[derive(Default)]
pub(super) struct Rung {
    pub(super) fanout: Fanout,
    pub(super) turns: Turns,
}

/// One for each video codec.
#[derive(Default)]
pub(super) struct Rungs {
    pub(super) h264: Rung,
    pub(super) vp8: Rung,
}

impl Rungs {
    /// That of a codec; sound has none.
    pub(super) fn of(&mut self, codec: Codec) -> Option<&mut Rung> {
        match codec {
            Codec::H264 => Some(&mut self.h264),
            Codec::Vp8 => Some(&mut self.vp8),
            Codec::Opus => None,
        }
    }
}
