//! Frames of a connection: a length of two bytes before each packet (RFC 4571, section 2).
//!
//! A core: bytes come in as they arrive, packets go out.

use bytes::{Buf as _, BytesMut};

/// Bytes of a frame's length.
pub const HEADER: usize = 2;
/// Bytes of the largest packet taken: as of the media socket.
pub const LARGEST: usize = 2048;

/// A packet longer than any that a viewer sends: what follows can't be trusted to be frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes, more than {LARGEST}")]
pub struct TooLong(usize);

/// Bytes that have arrived and are no whole frame yet.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Where further bytes are to be appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole packet; empty ones are passed over.
    ///
    /// # Errors
    /// Where a frame says that it is longer than any that is taken.
    pub fn poll_packet(&mut self) -> Result<Option<BytesMut>, TooLong> {
        while let Some(header) = self.buffer.first_chunk::<HEADER>() {
            let length = usize::from(u16::from_be_bytes(*header));
            if length > LARGEST {
                return Err(TooLong(length));
            }
            if self.buffer.len() < HEADER + length {
                break;
            }
            self.buffer.advance(HEADER);
            if length > 0 {
                return Ok(Some(self.buffer.split_to(length)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A small generator of its own, so that a failure can be repeated.
    fn next(seed: &mut u32) -> usize {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 16) as usize
    }

    #[test]
    fn packets_come_out_whole_however_the_bytes_are_cut() {
        for mut seed in 0..200 {
            let packets: Vec<Vec<u8>> = (0..20).map(|n| vec![n; next(&mut seed) % (LARGEST + 1)]).collect();
            let framed = |packet: &Vec<u8>| [&(packet.len() as u16).to_be_bytes()[..], packet].concat();
            let bytes = packets.iter().flat_map(framed).collect::<Vec<u8>>();
            let (mut frames, mut got, mut rest) = (Frames::default(), Vec::new(), &bytes[..]);
            while !rest.is_empty() {
                let (now, later) = rest.split_at((1 + next(&mut seed) % 3000).min(rest.len()));
                frames.buffer().extend_from_slice(now);
                rest = later;
                while let Some(packet) = frames.poll_packet().unwrap() {
                    got.push(packet.to_vec());
                }
            }
            let expected: Vec<_> = packets.into_iter().filter(|packet| !packet.is_empty()).collect();
            assert_eq!((got, frames.buffer().len()), (expected, 0));
        }
    }

    #[test]
    fn what_is_no_frame_is_found_out_by_its_length() {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(frames.poll_packet(), Err(TooLong(0x4745)));
    }
}
