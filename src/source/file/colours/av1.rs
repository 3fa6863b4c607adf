//! The sequence header of AV1.

use super::bits::Bits;
use super::{Told, named};

const SEQUENCE_HEADER: u8 = 1;

/// Reads the header in an av1C record (AV1 in ISOBMFF, 2.3) or in a temporal unit.
pub(super) fn told(bytes: &[u8]) -> Option<Told> {
    let mut rest = match bytes {
        // The record's marker; an open bitstream unit never begins with that bit set.
        [0x81, _, _, _, units @ ..] => units,
        units => units,
    };
    while let [header, after @ ..] = rest {
        let after = if header & 4 == 0 { after } else { after.get(1..)? };
        let (size, after) = if header & 2 == 0 { (after.len(), after) } else { leb128(after)? };
        let payload = after.get(..size)?;
        if header >> 3 & 15 == SEQUENCE_HEADER {
            return sequence_header(&mut Bits::new(payload));
        }
        rest = &after[size..];
    }
    None
}

/// A length (4.10.5) and what follows it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut size = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(8) {
        size |= u64::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Some((usize::try_from(size).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

fn sequence_header(bits: &mut Bits<'_>) -> Option<Told> {
    let profile = bits.number(3)?;
    bits.skip(1)?;
    let reduced = bits.flag()?;
    if reduced {
        bits.skip(5)?;
    } else {
        operating_points(bits)?;
    }
    let (width, height) = (bits.number(4)?, bits.number(4)?);
    bits.skip(width + 1 + height + 1)?;
    if !reduced && bits.flag()? {
        bits.skip(7)?;
    }
    bits.skip(3)?;
    if !reduced {
        tools(bits)?;
    }
    bits.skip(3)?;
    color_config(bits, profile)
}

fn operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.skip(64)?;
        if bits.flag()? {
            bits.golomb()?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.number(5)? + 1);
            bits.skip(42)?;
        }
    }
    let has_display_delay = bits.flag()?;
    for _ in 0..=bits.number(5)? {
        bits.skip(12)?;
        if bits.number(5)? > 7 {
            bits.skip(1)?;
        }
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if has_display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

fn tools(bits: &mut Bits<'_>) -> Option<()> {
    bits.skip(4)?;
    let order_hint = bits.flag()?;
    if order_hint {
        bits.skip(2)?;
    }
    let screen_content = bits.flag()? || bits.flag()?;
    if screen_content && !bits.flag()? {
        bits.skip(1)?;
    }
    if order_hint {
        bits.skip(3)?;
    }
    Some(())
}

fn color_config(bits: &mut Bits<'_>, profile: u32) -> Option<Told> {
    if bits.flag()? && profile == 2 {
        bits.skip(1)?;
    }
    let monochrome = profile != 1 && bits.flag()?;
    let codes = if bits.flag()? { [bits.number(8)?, bits.number(8)?, bits.number(8)?] } else { [2, 2, 2] };
    // sRGB in RGB has no bit for its range.
    let full = (!monochrome && codes == [1, 13, 0]) || bits.flag()?;
    Some(Told { matrix: named(codes[2]), full: Some(full), aspect: None })
}
