#![allow(clippy::unwrap_used)]
use super::*;

const SIZE: Size = Size::new(100, 50);

fn words(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect { x, y, width, height }
}

fn picture(metas: &[Meta<'_>]) -> Fresh {
    let mut news = News::default();
    news.handle_picture(metas, SIZE);
    news.picture.unwrap()
}

#[test]
fn lengths_are_those_of_the_headers() {
    assert_eq!(size_of::<sys::spa_meta_region>(), REGION_BYTES);
    assert_eq!(size_of::<sys::spa_meta_cursor>(), CURSOR_BYTES);
    assert_eq!(size_of::<sys::spa_meta_bitmap>(), BITMAP_BYTES);
    assert_eq!(size_of::<sys::spa_meta_header>(), HEADER_BYTES);
}

#[test]
fn damage_is_known_only_where_it_is_told() {
    let damage = |regions: &[i32]| picture(&[(sys::SPA_META_VideoDamage, &words(regions))]).damage;
    assert_eq!(picture(&[]).damage, Damage::whole(SIZE));
    assert_eq!(damage(&[0, 0, 0, 0]), Damage::whole(SIZE));
    assert_eq!(damage(&[1, 2, 3, 4, 0, 0, 0, 0, 50, 0, 9, 9]).rects(), [rect(1, 2, 3, 4)]);
    assert_eq!(damage(&[1, 2, 3, 4, 50, 0, 90, 9]).rects(), [rect(1, 2, 3, 4), rect(50, 0, 50, 9)]);
    assert_eq!(damage(&[-10, 2, 15, 4]).rects(), [rect(0, 2, 5, 4)]);
    assert!(damage(&[300, 2, 15, 4]).is_empty(), "nothing of the picture");
    assert_eq!(damage(&[1, 2, 3]), Damage::whole(SIZE), "a list that was cut off");
    assert_eq!(damage(&[0, 0, -1, -1]).rects(), [Rect::whole(SIZE)], "the largest extent");
}

#[test]
fn a_crop_moves_the_damage() {
    let crop = words(&[10, 20, 60, 30]);
    let damage = words(&[0, 0, 100, 25, 69, 49, 5, 5]);
    let fresh = picture(&[(sys::SPA_META_VideoCrop, &crop), (sys::SPA_META_VideoDamage, &damage)]);
    assert_eq!(fresh.area, rect(10, 20, 60, 30));
    assert_eq!(fresh.damage.rects(), [rect(0, 0, 60, 5), rect(59, 29, 1, 1)]);
}

#[test]
fn pictures_that_are_skipped_leave_their_damage() {
    let mut news = News::default();
    let first = words(&[0, 0, 10, 10]);
    let second = words(&[50, 0, 10, 10]);
    news.handle_picture(&[(sys::SPA_META_VideoDamage, &first)], SIZE);
    news.handle_picture(&[(sys::SPA_META_VideoDamage, &second)], SIZE);
    assert_eq!(news.picture.as_ref().unwrap().damage.rects().len(), 2);
    let crop = words(&[1, 1, 10, 10]);
    news.handle_picture(&[(sys::SPA_META_VideoCrop, &crop), (sys::SPA_META_VideoDamage, &second)], SIZE);
    assert_eq!(news.picture.unwrap().damage, Damage::whole(Size::new(10, 10)), "another part of the buffer");
}

#[test]
fn the_header_has_the_time_and_says_what_is_broken() {
    let mut header = words(&[0, 0]);
    header.extend(1_234_567_890_123_i64.to_ne_bytes());
    header.extend([0; 16]);
    assert_eq!(picture(&[(sys::SPA_META_Header, &header)]).nanos, Some(1_234_567_890_123));
    assert!(!is_corrupted(&[(sys::SPA_META_Header, &header)]) && !is_corrupted(&[]));
    header[0] = sys::SPA_META_HEADER_FLAG_CORRUPTED as u8;
    assert!(is_corrupted(&[(sys::SPA_META_Header, &header)]));
    assert_eq!(picture(&[(sys::SPA_META_Header, &header[..20])]).nanos, None);
}

/// A pointer's metadata with an image of 2x1 after it.
fn cursor(id: i32, bitmap_offset: i32, format: u32, size: [i32; 2], stride: i32) -> Vec<u8> {
    let mut bytes = words(&[id, 0, 30, 40, 3, 5, bitmap_offset]);
    bytes.extend(words(&[format.cast_signed(), size[0], size[1], stride, BITMAP_BYTES as i32]));
    bytes.extend([0x10, 0x20, 0x30, 0xff, 1, 2, 3, 4]);
    bytes
}

#[test]
fn the_pointer_keeps_its_image_until_another_comes() {
    let mut shape = PointerShape::default();
    let mut told = |bytes: &[u8]| {
        let mut news = News::default();
        news.handle_pointer(&[(sys::SPA_META_Cursor, bytes)], &mut shape);
        news.pointer
    };
    assert_eq!(told(&cursor(1, 0, 0, [0, 0], 0)), Some(None), "no image yet");
    let pointer = told(&cursor(1, 28, sys::SPA_VIDEO_FORMAT_RGBA, [2, 1], 8)).unwrap().unwrap();
    assert_eq!((pointer.x, pointer.y), (27, 35));
    assert_eq!(pointer.image.argb, [0xff10_2030, 0x0401_0203]);
    assert_eq!(told(&cursor(1, 0, 0, [0, 0], 0)).unwrap().unwrap().image, pointer.image);
    assert_eq!(told(&cursor(0, 0, 0, [0, 0], 0)), Some(None), "not on this screen");
    let blue = told(&cursor(1, 28, sys::SPA_VIDEO_FORMAT_BGRA, [2, 1], 8)).unwrap().unwrap();
    assert_eq!(blue.image.argb, [0xff30_2010, 0x0403_0201]);
    assert_eq!(told(&cursor(1, 28, sys::SPA_VIDEO_FORMAT_RGBA, [0, 0], 8)), Some(None), "made invisible");
    let mut news = News::default();
    news.handle_pointer(&[], &mut PointerShape::default());
    assert_eq!(news.pointer, None);
}

#[test]
fn an_image_is_not_read_beyond_its_end() {
    let argb = sys::SPA_VIDEO_FORMAT_ARGB;
    for (size, stride) in [([3, 1], 12), ([2, 2], 8), ([2, 1], 4), ([2, 1], -8), ([-1, -1], 8), ([100_000, 1], 400_000)]
    {
        assert_eq!(image(&cursor(1, 28, argb, size, stride)[28..]), None, "{size:?} {stride}");
    }
    assert!(image(&cursor(1, 28, argb, [2, 1], 8)[28..]).is_some());
    for length in 0..cursor(1, 28, argb, [2, 1], 8).len() {
        let bytes = &cursor(1, 28, argb, [2, 1], 8)[..length];
        let mut news = News::default();
        news.handle_pointer(&[(sys::SPA_META_Cursor, bytes)], &mut PointerShape::default());
        assert!(!matches!(news.pointer, Some(Some(_))), "{length}");
    }
}
