//! What a coded stream says of its colours and of the shape of its pixels; a pure core.
//!
//! Reads what the demuxer does not tell: the sequence parameter set of H.264 (ITU-T H.264, 7.3.2.1.1 and annex E), the header of a VP9 keyframe (VP9 bitstream
//! specification, 6.2 and 6.2.2) and the sequence header of AV1 (AV1 specification, 5.5). Codes are those of ITU-T H.273. It reads nothing past these headers,
//! and what it can't read it leaves unsaid.

use yuv::{YuvRange, YuvStandardMatrix};

mod av1;
mod bits;
mod h264;
mod vp9;

/// What is said of a stream's colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told {
    /// The code of the matrix, where one is named.
    pub(super) matrix: Option<u8>,
    /// Whether all values are used, where that is said.
    pub(super) full: Option<bool>,
    /// A pixel's width and height in relation, where it is said.
    pub(super) aspect: Option<(u32, u32)>,
}

/// What is said by the codec's own data, or by a keyframe; `codec` is called as FFmpeg's decoder is.
pub(super) fn told(codec: &str, extradata: &[u8], keyframe: &[u8]) -> Told {
    let told = match codec {
        "h264" => h264::told(extradata).or_else(|| h264::told(keyframe)),
        "vp9" => vp9::told(keyframe),
        "libdav1d" | "libaom-av1" | "av1" => av1::told(extradata).or_else(|| av1::told(keyframe)),
        // RFC 6386, section 9.2: the one colour space that is defined.
        "vp8" => Some(Told { matrix: Some(BT601), full: Some(false), aspect: None }),
        _ => None,
    };
    told.unwrap_or_default()
}

const BT601: u8 = 6;
const UNSPECIFIED: u8 = 2;
/// Pictures of so many rows and more are taken for BT.709 where nothing is said, as browsers take those of files.
const HIGH_DEFINITION: usize = 720;

impl Told {
    /// The matrix to convert by.
    pub(super) fn matrix(&self, rows: usize) -> YuvStandardMatrix {
        match self.matrix {
            Some(1) => YuvStandardMatrix::Bt709,
            Some(4) => YuvStandardMatrix::Fcc,
            Some(5 | 6) => YuvStandardMatrix::Bt601,
            Some(7) => YuvStandardMatrix::Smpte240,
            Some(9 | 10) => YuvStandardMatrix::Bt2020,
            _ if rows >= HIGH_DEFINITION => YuvStandardMatrix::Bt709,
            _ => YuvStandardMatrix::Bt601,
        }
    }

    /// Whether browsers show it as it is converted here: they take what is unsaid in a stream for BT.601, and not all of them know the full range.
    pub(super) fn is_shown_alike(&self, rows: usize) -> bool {
        let matrix = match self.matrix {
            Some(matrix) => [1, 5, 6].contains(&matrix),
            None => rows < HIGH_DEFINITION,
        };
        matrix && self.full != Some(true)
    }

    /// The range to convert by.
    pub(super) fn range(&self) -> YuvRange {
        if self.full == Some(true) { YuvRange::Full } else { YuvRange::Limited }
    }
}

/// A matrix as it is written, `None` for the one that says nothing.
fn named(matrix: u32) -> Option<u8> {
    u8::try_from(matrix).ok().filter(|code| *code != UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_guessed_by_the_number_of_rows() {
        let told = Told::default();
        assert!(matches!(told.matrix(719), YuvStandardMatrix::Bt601));
        assert!(matches!(told.matrix(720), YuvStandardMatrix::Bt709));
        assert!(matches!(told.range(), YuvRange::Limited));
        let told = Told { matrix: Some(9), full: Some(true), aspect: None };
        assert!(matches!(told.matrix(100), YuvStandardMatrix::Bt2020));
        assert!(matches!(told.range(), YuvRange::Full));
    }

    #[test]
    fn no_header_makes_it_panic() {
        let mut random = 1_u64;
        let mut bytes = vec![0; 96];
        for round in 0..20_000 {
            for byte in &mut bytes {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (random >> 56) as u8;
            }
            let start: &[u8] = match round % 4 {
                0 => &[0, 0, 1, 0x67],
                1 => &[1, 100, 0, 40, 0xff, 0xe1, 0, 64, 0x67],
                2 => &[0x82, 0x49, 0x83, 0x42],
                _ => &[0x81, 0, 0, 0, 0x0a, 60],
            };
            bytes[..start.len()].copy_from_slice(start);
            let length = bytes.len() - round % 90;
            for codec in ["h264", "vp9", "libdav1d", "vp8", "hevc"] {
                told(codec, &bytes[..length], &bytes[..length]);
            }
        }
    }
}
