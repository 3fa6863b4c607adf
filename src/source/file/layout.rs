//! What the layout of a file says that FFmpeg does not: whether its end is missing, and whether a decoder is set up anew in its middle.
//!
//! Reads the headers of an MP4 file's boxes (ISO/IEC 14496-12, 4.2) or of a Matroska file's segment (RFC 8794, 4; RFC 9559, 5.1). It knows no clock.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// So many boxes are looked at, at most.
const MOST_BOXES: u32 = 4096;
/// The ids of Matroska's first two elements.
const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];
const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout {
    /// How many bytes its last part says to have beyond the end of the file.
    pub(super) missing: Option<u64>,
    /// Whether some track has more than one sample description, as recordings that were joined may have: FFmpeg tells of the others to its decoders alone.
    pub(super) changes: bool,
}

/// Boxes that are looked at.
struct Boxes<'a> {
    file: &'a File,
    left: u32,
}

impl Layout {
    /// Reads it; of a file that is of neither kind nothing is known.
    pub(super) fn read(file: &File) -> Self {
        let end = file.metadata().map_or(0, |metadata| metadata.len());
        let mut first = [0; 8];
        if file.read_exact_at(&mut first, 0).is_err() {
            return Self::default();
        }
        if first[..4] == EBML {
            return Self { missing: segment_end(file).and_then(|at| missing(at, end)), changes: false };
        }
        // One of those that a file may begin with, of QuickTime's too.
        if ![&b"ftyp"[..], b"styp", b"moov", b"mdat", b"free", b"skip", b"wide"].contains(&&first[4..]) {
            return Self::default();
        }
        let (mut boxes, mut at, mut changes) = (Boxes { file, left: MOST_BOXES }, 0, false);
        while at < end {
            let Some((kind, content, next)) = boxes.next(at, end) else { break };
            changes |= &kind == b"moov" && boxes.changes_within(content, next.min(end));
            at = next;
        }
        Self { missing: missing(at, end), changes }
    }
}

fn missing(at: u64, end: u64) -> Option<u64> {
    at.checked_sub(end).filter(|bytes| *bytes > 0)
}

impl Boxes<'_> {
    /// The kind of the box at `at`, where its content begins and where the next one does; `None` past the last that is looked at.
    fn next(&mut self, at: u64, end: u64) -> Option<([u8; 4], u64, u64)> {
        self.left = self.left.checked_sub(1)?;
        let mut header = [0; 8];
        self.file.read_exact_at(&mut header, at).ok()?;
        let [a, b, c, d, kind @ ..] = header;
        let (content, next) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (at + 8, end),
            1 => {
                let mut long = [0; 8];
                self.file.read_exact_at(&mut long, at + 8).ok()?;
                (at + 16, at.saturating_add(u64::from_be_bytes(long).max(16)))
            }
            length => (at + 8, at + u64::from(length).max(8)),
        };
        Some((kind, content, next))
    }

    /// Whether a track between two places has more than one sample description (8.5.2).
    fn changes_within(&mut self, mut at: u64, end: u64) -> bool {
        while at < end {
            // Where there are more boxes than are looked at, nobody knows.
            let Some((kind, content, next)) = self.next(at, end) else { return self.left == 0 };
            let changes = match &kind {
                b"trak" | b"mdia" | b"minf" | b"stbl" => self.changes_within(content, next.min(end)),
                b"stsd" => {
                    let mut count = [0; 8];
                    self.file.read_exact_at(&mut count, content).is_ok() && count[4..] > [0, 0, 0, 1][..]
                }
                _ => false,
            };
            if changes {
                return true;
            }
            at = next;
        }
        false
    }
}

/// Where a Matroska file's segment ends, where it says so.
fn segment_end(file: &File) -> Option<u64> {
    let header = Element::read(file, 0)?;
    let segment = Element::read(file, header.content + header.length?)?;
    (segment.id == SEGMENT).then_some(segment.content.checked_add(segment.length?)).flatten()
}

/// An element of a Matroska file whose id has four bytes.
struct Element {
    id: [u8; 4],
    /// Where its content begins.
    content: u64,
    /// The bytes of that, where they are told.
    length: Option<u64>,
}

impl Element {
    fn read(file: &File, at: u64) -> Option<Self> {
        let mut header = [0; 12];
        file.read_exact_at(&mut header, at).ok()?;
        let [a, b, c, d, length @ ..] = header;
        // The first bit that is set tells how many bytes the length has; all others set say that it is not known.
        let bytes = length[0].leading_zeros() + 1;
        let length = u64::from_be_bytes(length) >> (8 * 8_u32.checked_sub(bytes)?);
        let most = (1_u64 << (7 * bytes)) - 1;
        let length = Some(length & most).filter(|length| *length != most);
        Some(Self { id: [a, b, c, d], content: at + 4 + u64::from(bytes), length })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes(), &kind[..], content].concat()
    }

    fn read(bytes: &[u8]) -> Layout {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Layout::read(file.as_file())
    }

    /// A file whose tracks have so many descriptions each, with `before` in front of it.
    fn movie(before: &[u8], counts: &[u32]) -> Vec<u8> {
        let track = |count: &u32| {
            let stsd = boxed(b"stsd", &[&[0; 4], &count.to_be_bytes()[..], &[0; 90]].concat());
            let stbl = boxed(b"stbl", &[boxed(b"stts", &[0; 8]), stsd].concat());
            boxed(b"trak", &boxed(b"mdia", &[boxed(b"hdlr", b"vide"), boxed(b"minf", &stbl)].concat()))
        };
        let tracks: Vec<u8> = counts.iter().flat_map(track).collect();
        [before, &boxed(b"moov", &[boxed(b"mvhd", &[0; 100]), tracks].concat())].concat()
    }

    #[test]
    fn descriptions_are_counted_in_each_track_and_behind_boxes_of_each_length() {
        let long = [&[0, 0, 0, 1][..], b"mdat", &40_u64.to_be_bytes(), &[7; 24]].concat();
        for before in [&[][..], &boxed(b"mdat", &[9; 50]), &long, &boxed(b"free", &[]).repeat(3)] {
            for (counts, changes) in [(&[1, 1][..], false), (&[1, 2], true), (&[3], true), (&[], false)] {
                assert_eq!(read(&movie(before, counts)), Layout { missing: None, changes }, "{counts:?}");
            }
        }
        let mut to_the_end = movie(&[], &[2]);
        to_the_end[..4].fill(0);
        assert_eq!(read(&to_the_end), Layout { missing: None, changes: true });
    }

    #[test]
    fn what_is_missing_at_the_end_is_known_in_bytes() {
        let movie = movie(&[], &[1, 1]);
        let whole = [&movie[..], &boxed(b"mdat", &[9; 1000])].concat();
        for length in movie.len() + 8..whole.len() {
            assert_eq!(read(&whole[..length]).missing, Some((whole.len() - length) as u64), "{length} bytes");
        }
        for length in 0..movie.len() {
            assert!(!read(&whole[..length]).changes, "{length} bytes");
        }
        let segment = |length: &[u8]| [&EBML[..], &[0x83, 1, 2, 3], &SEGMENT, length, &[5; 100]].concat();
        for (length, missing) in [
            (&[0x01, 0, 0, 0, 0, 0, 0, 100][..], None),
            (&[0x01, 0, 0, 0, 0, 0, 1, 100], Some(256)),
            (&[0x41, 0], Some(156)),
            (&[0xe4], None),
            (&[0xff], None),
            (&[0x01, 255, 255, 255, 255, 255, 255, 255], None),
        ] {
            assert_eq!(read(&segment(length)), Layout { missing, changes: false }, "{length:?}");
        }
        for length in 0..30 {
            read(&segment(&[0x41, 0])[..length]);
        }
    }

    #[test]
    fn what_is_no_such_file_is_not_looked_at_and_no_file_for_long() {
        for other in [&b"RIFF\x10\0\0\0AVI LIST\xff\xff"[..], b"G\x40\0\x10 a stream", b"", b"moov"] {
            assert_eq!(read(other), Layout::default());
        }
        let many = boxed(b"moof", &[]).repeat(5_000);
        assert_eq!(read(&[movie(&[], &[2]), many.clone()].concat()), Layout { missing: None, changes: true });
        assert_eq!(read(&[boxed(b"ftyp", b"mp42"), many].concat()), Layout::default());
        let deep = (0..200).fold(boxed(b"stsd", &[9; 8]), |inner, _| boxed(b"trak", &inner));
        read(&boxed(b"moov", &deep));
    }
}
