//! Pictures in which nothing changes, written rather than encoded: a slice of skipped blocks takes no look at the picture.
//!
//! Where all blocks of a P slice are skipped, none has a neighbour that moves, so each shows what the picture before it has there (ITU-T H.264, 8.4.1.1), and
//! nothing is filtered (8.7.2.1). The encoder knows nothing of such a picture, which has a number all the same: the pictures that the encoder makes after it
//! are numbered anew, up to the next IDR picture. That slices are written here as the encoder writes them is shown by one of its own before any is sent. Pure.

use bytes::Bytes;

use crate::encoder::picture::Qp;
use crate::frame::Size;

/// The bits of `frame_num`, openh264's choice in each sequence parameter set.
const NUMBER_BITS: u32 = 15;
const NUMBERS: u16 = 1 << NUMBER_BITS;
/// The quantiser that openh264's picture parameter sets begin with.
const FIRST_QP: i32 = 26;
/// A start code and the header of a slice that later ones refer to.
const P_SLICE: [u8; 5] = [0, 0, 0, 1, 0x61];

/// What is known of the pictures that were sent.
#[derive(Debug)]
pub(super) struct Stills {
    /// How many blocks a picture has.
    blocks: u32,
    /// The number of the last picture as it was sent.
    number: Option<u16>,
    /// How many pictures were sent since the last IDR picture that the encoder knows nothing of.
    unknown: u16,
    /// The encoder has written such a picture as it would have been written here.
    pub(super) is_shown: bool,
}

impl Stills {
    /// For pictures of `size`.
    pub(super) fn new(size: Size) -> Self {
        let blocks = size.width.div_ceil(16) * size.height.div_ceil(16);
        Self { blocks, number: None, unknown: 0, is_shown: false }
    }

    /// The next picture, in which nothing changes; `None` where only the encoder can make it.
    pub(super) fn next(&mut self, qp: Qp) -> Option<Bytes> {
        let number = (self.number.filter(|_| self.is_shown)? + 1) % NUMBERS;
        self.number = Some(number);
        self.unknown = (self.unknown + 1) % NUMBERS;
        Some(slice(number, qp, self.blocks).into())
    }

    /// Takes a unit that the encoder made, in which nothing should have changed where `still` tells its quantiser; as it is to be sent, or `None` where it
    /// can't be.
    pub(super) fn handle_unit(&mut self, unit: Vec<u8>, idr: bool, still: Option<Qp>) -> Option<Bytes> {
        if idr {
            (self.number, self.unknown) = (Some(0), 0);
            return Some(unit.into());
        }
        let own = number(&unit);
        if let (Some(qp), Some(own)) = (still, own) {
            self.is_shown = unit == slice(own, qp, self.blocks);
        }
        let unknown = self.unknown;
        self.number = own.map(|own| (own + unknown) % NUMBERS);
        match (unknown, self.number) {
            (0, _) => Some(unit.into()),
            (_, Some(number)) => Some(renumbered(&unit, number).into()),
            (_, None) => None,
        }
    }
}

/// The number of a picture of one P slice.
fn number(unit: &[u8]) -> Option<u16> {
    let first = unescaped(unit.strip_prefix(&P_SLICE)?.get(..4)?);
    let [a, b, c, ..] = first[..] else { return None };
    // Its first block, that it is a P slice, and its parameter set, a bit each.
    let number = u16::from(a & 0x1f) << 10 | u16::from(b) << 2 | u16::from(c >> 6);
    (a >> 5 == 0b111).then_some(number)
}

/// The same picture with another number.
fn renumbered(unit: &[u8], number: u16) -> Vec<u8> {
    let mut payload = unescaped(&unit[P_SLICE.len()..]);
    if let [a, b, c, ..] = &mut payload[..] {
        *a = *a & !0x1f | (number >> 10) as u8 & 0x1f;
        *b = (number >> 2) as u8;
        *c = *c & 0x3f | (number << 6) as u8;
    }
    escaped(&payload)
}

/// A picture of one P slice in which all blocks are skipped (7.3.3).
fn slice(number: u16, qp: Qp, blocks: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    // The first block, a P slice, its picture parameter set.
    (0..3).for_each(|_| bits.golomb(0));
    bits.push(number.into(), NUMBER_BITS);
    // One reference picture, which is the one before.
    bits.push(1, 1);
    bits.golomb(0);
    bits.push(1, 1);
    (0..2).for_each(|_| bits.golomb(0));
    bits.golomb(3);
    // References are given up in their order.
    bits.push(0, 1);
    bits.signed_golomb(i32::from(qp.0) - FIRST_QP);
    // The deblocking filter as usual.
    (0..3).for_each(|_| bits.golomb(0));
    bits.golomb(blocks);
    bits.push(1, 1);
    escaped(&bits.bytes)
}

/// A NAL unit of this payload, with the bytes that keep start codes from appearing (7.4.1).
fn escaped(payload: &[u8]) -> Vec<u8> {
    let mut unit = Vec::with_capacity(P_SLICE.len() + payload.len() + 8);
    unit.extend(P_SLICE);
    let mut zeros = 0;
    for byte in payload {
        if zeros == 2 && *byte <= 3 {
            unit.push(3);
            zeros = 0;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        unit.push(*byte);
    }
    unit
}

fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for byte in bytes {
        if zeros == 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        payload.push(*byte);
    }
    payload
}

/// Bits one after the other; the last byte is filled with zeros.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// How many bits of the last byte are used; 0 where it is full.
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    /// An Exp-Golomb code (9.1).
    fn golomb(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        self.push(0, length - 1);
        self.push(value + 1, length);
    }

    fn signed_golomb(&mut self, value: i32) {
        let code = value.unsigned_abs() * 2;
        self.golomb(if value > 0 { code - 1 } else { code });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// openh264's for 642x362 at quantiser 40, without the start code.
    const OWN: [u8; 9] = [0x61, 0xe0, 0x00, 0x7e, 0x40, 0x73, 0x80, 0x3b, 0x08];

    fn own() -> Vec<u8> {
        [&P_SLICE[..4], &OWN].concat()
    }

    fn stills() -> Stills {
        Stills::new(Size::new(642, 362))
    }

    #[test]
    fn a_slice_is_written_as_the_encoder_writes_it() {
        assert_eq!(slice(1, Qp(40), 41 * 23), own());
        assert_eq!(number(&own()), Some(1));
        for number in (0..NUMBERS).step_by(7).chain([0, 1, 2, 3, NUMBERS - 1]) {
            let unit = slice(number, Qp(20), 8160);
            assert_eq!(self::number(&unit), Some(number));
            assert!(!unit[4..].windows(3).any(|bytes| bytes[..2] == [0, 0] && bytes[2] < 3), "{unit:02x?}");
            assert_eq!(renumbered(&own(), number), slice(number, Qp(40), 41 * 23));
        }
    }

    #[test]
    fn none_is_written_before_the_encoder_has_shown_how_it_writes_them() {
        let mut stills = stills();
        assert!(stills.next(Qp(40)).is_none());
        stills.handle_unit(vec![0, 0, 0, 1, 0x65], true, None).unwrap();
        assert!(stills.next(Qp(40)).is_none());
        // A change that happens to be none, and one that should have been none.
        stills.handle_unit(own(), false, None).unwrap();
        assert!(stills.next(Qp(40)).is_none());
        let mut other = own();
        other[11] = 0x3a;
        stills.handle_unit(other, false, Some(Qp(40))).unwrap();
        assert!(stills.next(Qp(40)).is_none());
        stills.handle_unit(own(), false, Some(Qp(40))).unwrap();
        assert_eq!(stills.next(Qp(40)).unwrap(), slice(2, Qp(40), 41 * 23));
    }

    #[test]
    fn what_the_encoder_makes_is_numbered_anew_up_to_its_next_idr_picture() {
        let mut stills = stills();
        stills.handle_unit(own(), false, Some(Qp(40))).unwrap();
        let numbers: Vec<_> = (0..3).map(|_| number(&stills.next(Qp(40)).unwrap())).collect();
        assert_eq!(numbers, [Some(2), Some(3), Some(4)]);
        let change = [&slice(2, Qp(30), 100)[..], &[9; 50]].concat();
        let sent = stills.handle_unit(change.clone(), false, None).unwrap();
        assert_eq!((number(&sent), sent.len()), (Some(5), change.len()));
        assert_eq!(sent[8..], change[8..]);
        assert_eq!(number(&stills.next(Qp(40)).unwrap()), Some(6));
        let unreadable = [&P_SLICE[..], &[0x10, 0, 0, 1]].concat();
        assert!(stills.handle_unit(unreadable.clone(), false, None).is_none(), "nobody could decode what follows");
        let idr = vec![0, 0, 0, 1, 0x65, 0xb8];
        assert_eq!(stills.handle_unit(idr.clone(), true, None).unwrap(), idr);
        assert_eq!(stills.handle_unit(unreadable.clone(), false, None).unwrap(), unreadable);
        assert!(stills.next(Qp(40)).is_none(), "its number is not known");
        assert_eq!(stills.handle_unit(own(), false, None).unwrap(), own());
        assert_eq!(number(&stills.next(Qp(40)).unwrap()), Some(2));
    }

    #[test]
    fn numbers_begin_again_after_the_last() {
        let mut stills = stills();
        stills.handle_unit(slice(NUMBERS - 1, Qp(40), 41 * 23), false, Some(Qp(40))).unwrap();
        assert_eq!(number(&stills.next(Qp(40)).unwrap()), Some(0));
        let sent = stills.handle_unit(slice(0, Qp(40), 41 * 23), false, None).unwrap();
        assert_eq!(number(&sent), Some(1));
    }
}
