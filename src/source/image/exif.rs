//! The orientation in a JPEG's EXIF data (CIPA DC-008, 4.5 and 4.6.4); a pure core.

const ORIENTATION: u16 = 0x0112;

/// How the picture was taken, 1 to 8; 1 where nothing says it.
pub(super) fn orientation(jpeg: &[u8]) -> u16 {
    segment(jpeg).and_then(tag).filter(|value| (1..=8).contains(value)).unwrap_or(1)
}

/// The TIFF data of the APP1 segment.
fn segment(jpeg: &[u8]) -> Option<&[u8]> {
    let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
    while let [0xff, marker, high, low, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let content = rest.get(4..2 + length)?;
        match (marker, content.strip_prefix(b"Exif\0\0")) {
            (0xe1, Some(tiff)) => return Some(tiff),
            // The picture itself.
            (0xda, _) => return None,
            _ => rest = &rest[2 + length..],
        }
    }
    None
}

/// The tag in the first directory.
fn tag(tiff: &[u8]) -> Option<u16> {
    let is_little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = tiff.get(at..at + 2)?.try_into().ok()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = tiff.get(at..at + 4)?.try_into().ok()?;
        Some(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    };
    let directory = long(4)?;
    let count = usize::from(short(directory)?);
    let mut entries = (0..count).map(|number| directory + 2 + number * 12);
    let entry = entries.find(|at| short(*at) == Some(ORIENTATION))?;
    short(entry + 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(order: &[u8; 2], orientation: u8) -> Vec<u8> {
        let is_little = order == b"II";
        let short = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let long = |number: u32| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let mut tiff = [&order[..], &short(42), &long(8), &short(1), &short(ORIENTATION), &short(3), &long(1)].concat();
        tiff.extend(short(orientation.into()));
        tiff.extend([0; 6]);
        let content = [b"Exif\0\0", &tiff[..]].concat();
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&[0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xe1], &length[..], &content, &[0xff, 0xd9]].concat()
    }

    #[test]
    fn the_orientation_is_read_in_both_byte_orders() {
        for number in 1..=8 {
            assert_eq!(orientation(&jpeg(b"II", number)), u16::from(number));
            assert_eq!(orientation(&jpeg(b"MM", number)), u16::from(number));
        }
        assert_eq!(orientation(&jpeg(b"MM", 9)), 1);
    }

    #[test]
    fn what_is_cut_off_or_no_jpeg_has_none() {
        let whole = jpeg(b"II", 6);
        for length in 0..whole.len() - 8 {
            assert!([1, 6].contains(&orientation(&whole[..length])));
        }
        assert_eq!(orientation(b"\x89PNG"), 1);
    }
}
