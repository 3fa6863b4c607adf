//! The sequence parameter set of H.264.

use super::bits::Bits;
use super::{Told, named};

/// Pixels of these shapes have a number (table E-1); 255 says that the shape is written.
const ASPECTS: [(u32, u32); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];
const WRITTEN_ASPECT: u32 = 255;

/// Reads the parameter set in an avcC record (ISO/IEC 14496-15, 5.3.3.1) or in a stream with start codes (annex B).
pub(super) fn told(bytes: &[u8]) -> Option<Told> {
    let unit = match bytes {
        [1, _, _, _, _, count, high, low, rest @ ..] if count & 31 > 0 => {
            rest.get(..usize::from(u16::from_be_bytes([*high, *low])))?
        }
        _ => {
            let at = bytes.windows(4).position(|code| code[..3] == [0, 0, 1] && code[3] & 31 == 7)?;
            &bytes[at + 3..]
        }
    };
    parameter_set(&mut Bits::new(&without_escapes(unit.get(1..)?)))
}

/// Takes out the bytes that keep start codes from appearing (7.4.1).
fn without_escapes(unit: &[u8]) -> Vec<u8> {
    let (mut bytes, mut zeros) = (Vec::with_capacity(unit.len()), 0);
    for byte in unit {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        if zeros >= 2 && *byte == 1 {
            break;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        bytes.push(*byte);
    }
    bytes
}

fn parameter_set(bits: &mut Bits<'_>) -> Option<Told> {
    let profile = bits.number(8)?;
    bits.skip(16)?;
    bits.golomb()?;
    if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(&profile) {
        let chroma = bits.golomb()?;
        if chroma == 3 {
            bits.skip(1)?;
        }
        bits.golomb()?;
        bits.golomb()?;
        bits.skip(1)?;
        if bits.flag()? {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.golomb()?;
    match bits.golomb()? {
        0 => {
            bits.golomb()?;
        }
        1 => {
            bits.skip(1)?;
            bits.golomb()?;
            bits.golomb()?;
            for _ in 0..bits.golomb()?.min(255) {
                bits.golomb()?;
            }
        }
        _ => {}
    }
    bits.golomb()?;
    bits.skip(1)?;
    bits.golomb()?;
    bits.golomb()?;
    if !bits.flag()? {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    if bits.flag()? {
        for _ in 0..4 {
            bits.golomb()?;
        }
    }
    if bits.flag()? { usability(bits) } else { Some(Told::default()) }
}

fn scaling_list(bits: &mut Bits<'_>, length: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..length {
        if next != 0 {
            next = (last + bits.signed_golomb()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// The first part of the video usability information (E.1.1).
fn usability(bits: &mut Bits<'_>) -> Option<Told> {
    let mut told = Told::default();
    if bits.flag()? {
        let number = bits.number(8)?;
        told.aspect = if number == WRITTEN_ASPECT {
            Some((bits.number(16)?, bits.number(16)?))
        } else {
            (number as usize).checked_sub(1).and_then(|at| ASPECTS.get(at).copied())
        };
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(3)?;
        told.full = Some(bits.flag()?);
        if bits.flag()? {
            bits.skip(16)?;
            told.matrix = named(bits.number(8)?);
        }
    }
    Some(told)
}
