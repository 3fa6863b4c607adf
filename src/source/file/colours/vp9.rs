//! The header of a VP9 keyframe.

use super::Told;
use super::bits::Bits;

const SYNC: u32 = 0x49_83_42;

pub(super) fn told(keyframe: &[u8]) -> Option<Told> {
    let bits = &mut Bits::new(keyframe);
    let marker = bits.number(2)?;
    let profile = bits.number(1)? | bits.number(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let (shows_another, is_inter) = (bits.flag()?, bits.flag()?);
    if marker != 2 || shows_another || is_inter {
        return None;
    }
    bits.skip(2)?;
    if bits.number(24)? != SYNC {
        return None;
    }
    if profile >= 2 {
        bits.skip(1)?;
    }
    let space = bits.number(3)?;
    // CS_BT_601, CS_BT_709, CS_SMPTE_170, CS_SMPTE_240, CS_BT_2020 and CS_RGB (table of 7.2.2), by their codes in H.273.
    let matrix = match space {
        1 | 3 => Some(6),
        2 => Some(1),
        4 => Some(7),
        5 => Some(9),
        7 => Some(0),
        _ => None,
    };
    let full = space == 7 || bits.flag()?;
    Some(Told { matrix, full: Some(full), aspect: None })
}
