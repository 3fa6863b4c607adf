//! RTP payloads of VP8 (RFC 7741): one frame, one partition index, cut into equal sizes (rule 8).
//!
//! Owns the payload descriptor; never the picture id's value, which is each viewer's own and comes when a packet is written.

use bytes::Bytes;

use super::{Head, Payload};

/// Bytes of a payload descriptor: X and S, I, and a picture id of 15 bits (RFC 7741, section 4.2).
pub(super) const DESCRIPTOR: usize = 4;
/// An extended control byte follows.
const X: u8 = 0x80;
/// The payload begins a partition; since all index 0, this is the frame's first.
const S: u8 = 0x10;
/// A picture id follows.
const I: u8 = 0x80;
/// The picture id has 15 bits.
const M: u8 = 0x80;

/// Splits a VP8 frame into payloads of at most `most` bytes and of equal size; the last may be shorter.
///
/// Partitions are not told apart: all carry index 0 and only the first the start bit, as section 4.2 allows.
pub fn packetise(data: &Bytes, most: usize) -> Vec<Payload> {
    let count = data.len().div_ceil(most - DESCRIPTOR);
    let size = data.len().div_ceil(count.max(1));
    (0..count)
        .map(|at| {
            let (start, end) = (at * size, ((at + 1) * size).min(data.len()));
            Payload { head: Head::Vp8 { start: at == 0 }, body: data.slice(start..end) }
        })
        .collect()
}

/// The descriptor of a payload that does or does not start its frame, in the picture with the id `picture` (15 bits).
pub(super) fn descriptor(start: bool, picture: u16) -> [u8; DESCRIPTOR] {
    let [high, low] = picture.to_be_bytes();
    [X | if start { S } else { 0 }, I, M | high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a receiver reads of one packet: whether a partition starts, its index, the picture id, the rest (RFC 7741, section 4.2).
    fn read(packet: &[u8]) -> (bool, u8, Option<u16>, &[u8]) {
        let (first, mut rest) = packet.split_first().expect("a descriptor");
        let mut picture = None;
        if first & 0x80 != 0 {
            let (extension, tail) = rest.split_first().expect("an extension byte");
            rest = tail;
            if extension & 0x80 != 0 {
                let long = rest[0] & 0x80 != 0;
                picture = Some(if long { u16::from_be_bytes([rest[0] & 0x7f, rest[1]]) } else { u16::from(rest[0]) });
                rest = &rest[if long { 2 } else { 1 }..];
            }
            assert_eq!(extension & 0x70, 0, "no layers and no key index are sent");
        }
        assert_eq!(first & 0x60, 0, "no reserved bit, and each frame is referred to");
        (first & 0x10 != 0, first & 0x0f, picture, rest)
    }

    #[test]
    fn frames_of_any_size_come_back_whole() {
        for size in [1usize, 2, 95, 96, 97, 191, 192, 193, 1000, 4321, 96 * 96, 96 * 96 + 1] {
            for picture in [0u16, 1, 0x7f, 0x80, 0x100, 0x7fff] {
                let frame: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
                let payloads = packetise(&frame.clone().into(), 100);
                let mut back = Vec::new();
                for (index, payload) in payloads.iter().enumerate() {
                    let mut packet = vec![0xaa; payload.len()];
                    payload.write(&mut packet, picture);
                    let (start, partition, id, body) = read(&packet);
                    assert_eq!((start, partition, id), (index == 0, 0, Some(picture)), "{size}");
                    back.extend_from_slice(body);
                }
                assert_eq!(back, frame);
                let lengths: Vec<_> = payloads.iter().map(Payload::len).collect();
                let (last, equal) = lengths.split_last().expect("a frame has payloads");
                assert!(lengths.iter().all(|l| (DESCRIPTOR + 1..=100).contains(l)), "{size}: {lengths:?}");
                assert!(equal.iter().all(|l| *l == equal[0] && last <= l), "{size}: {lengths:?}");
            }
        }
    }

    #[test]
    fn an_empty_frame_gives_nothing() {
        assert!(packetise(&Bytes::new(), 100).is_empty());
    }
}
