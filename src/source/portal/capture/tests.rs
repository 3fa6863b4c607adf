#![allow(clippy::unwrap_used)]
use std::time::Duration;

use super::*;
use crate::frame::PointerImage;
use crate::source::portal::pixels::Order;
use std::sync::Arc;

const SIZE: Size = Size::new(8, 100);
const STRIDE: usize = 40;

/// A buffer whose every byte has this value.
fn buffer(value: u8) -> Vec<u8> {
    vec![value; STRIDE * 100]
}

fn pixels(bytes: &[u8]) -> Option<Pixels<'_>> {
    Some(Pixels { bytes, stride: STRIDE, order: Order::Bgr })
}

fn rows(y: u32, height: u32) -> Rect {
    Rect { x: 0, y, width: 8, height }
}

fn brings(capture: &mut Capture, rect: Rect, now: Instant) {
    let mut damage = Damage::none();
    damage.add(rect);
    let picture = Some(Fresh { area: Rect::whole(SIZE), damage, nanos: None });
    capture.handle(News { picture, pointer: None }, now, |_| now);
}

/// The first byte of a row.
fn at_row(frame: &Frame, y: usize) -> u8 {
    frame.picture.bytes()[y * frame.picture.stride()]
}

#[test]
fn the_first_frame_is_whole_and_nothing_flows_before() {
    let now = Instant::now();
    let mut capture = Capture::new(SIZE, 30);
    assert!(!capture.has_picture());
    brings(&mut capture, rows(10, 5), now);
    assert!(capture.has_picture() && capture.poll_timeout().is_none(), "idle");
    capture.set_active(true, now);
    assert_eq!(capture.poll_timeout(), Some(now));
    let frame = capture.capture(now, pixels(&buffer(7))).unwrap();
    assert_eq!((at_row(&frame, 0), at_row(&frame, 99)), (7, 7));
    assert_eq!(frame.damage, Damage::whole(SIZE));
    assert!(!capture.is_waiting() && capture.poll_timeout().is_none(), "nothing changes");
}

#[test]
fn the_last_picture_is_there_again_without_a_buffer() {
    let now = Instant::now();
    let mut capture = Capture::new(SIZE, 30);
    capture.set_active(true, now);
    assert_eq!(capture.poll_timeout(), None, "no picture yet");
    brings(&mut capture, rows(0, 100), now);
    let first = capture.capture(now, pixels(&buffer(7))).unwrap();
    capture.set_active(false, now);
    capture.set_active(true, now);
    assert_eq!(capture.poll_timeout(), Some(now));
    let again = capture.capture(now, None).unwrap();
    assert_eq!((at_row(&again, 50), &again.damage), (7, &Damage::whole(SIZE)));
    assert_eq!(again.picture.bytes().as_ptr(), first.picture.bytes().as_ptr(), "it was not copied");
    capture.refresh(now);
    assert_eq!(capture.capture(now, None).unwrap().damage, Damage::whole(SIZE));
}

#[test]
fn damaged_bands_alone_are_copied_at_the_rate_that_is_allowed() {
    let start = Instant::now();
    let mut capture = Capture::new(SIZE, 10);
    capture.set_active(true, start);
    brings(&mut capture, rows(0, 100), start);
    drop(capture.capture(start, pixels(&buffer(1))).unwrap());
    brings(&mut capture, rows(40, 5), start);
    let due = capture.poll_timeout().unwrap();
    assert!(due >= start + Duration::from_millis(50), "{:?}", due - start);
    brings(&mut capture, rows(80, 5), start);
    let frame = capture.capture(due, pixels(&buffer(2))).unwrap();
    assert_eq!([0, 40, 44, 60, 80, 84, 99].map(|y| at_row(&frame, y)), [1, 2, 2, 1, 2, 2, 1]);
    assert_eq!(frame.damage.rects(), [rows(40, 5), rows(80, 5)]);
}

#[test]
fn after_a_gap_nothing_is_taken_for_unchanged() {
    let now = Instant::now();
    let mut capture = Capture::new(SIZE, 30);
    capture.set_active(true, now);
    brings(&mut capture, rows(0, 100), now);
    drop(capture.capture(now, pixels(&buffer(1))).unwrap());
    for gap in [
        |capture: &mut Capture, now| (capture.set_active(false, now), capture.set_active(true, now)).1,
        |capture: &mut Capture, _| capture.handle_gone(),
    ] {
        gap(&mut capture, now);
        brings(&mut capture, rows(40, 5), now);
        let frame = capture.capture(now, pixels(&buffer(2))).unwrap();
        assert_eq!((at_row(&frame, 0), frame.damage), (2, Damage::whole(SIZE)));
    }
}

#[test]
fn a_picture_that_was_taken_away_is_not_shown() {
    let now = Instant::now();
    let mut capture = Capture::new(SIZE, 30);
    capture.set_active(true, now);
    brings(&mut capture, rows(0, 100), now);
    capture.handle_gone();
    assert_eq!(capture.poll_timeout(), None);
    brings(&mut capture, rows(0, 100), now);
    assert!(capture.capture(now, pixels(&buffer(1)[..50])).is_none(), "too short");
    assert_eq!(capture.poll_timeout(), None);
}

#[test]
fn a_screen_of_another_size_begins_whole() {
    let now = Instant::now();
    let mut capture = Capture::new(SIZE, 30);
    capture.set_active(true, now);
    brings(&mut capture, rows(0, 100), now);
    drop(capture.capture(now, pixels(&buffer(1))).unwrap());
    let area = Rect { x: 2, y: 1, width: 4, height: 50 };
    let picture = Some(Fresh { area, damage: Damage::none(), nanos: None });
    capture.handle(News { picture, pointer: None }, now, |_| now);
    let frame = capture.capture(now + Duration::from_secs(1), pixels(&buffer(3))).unwrap();
    assert_eq!((frame.picture.size(), frame.picture.stride()), (Size::new(4, 50), 16));
    assert_eq!(frame.damage, Damage::whole(Size::new(4, 50)));
}

#[test]
fn the_pointer_alone_makes_a_frame_of_the_last_picture() {
    let now = Instant::now();
    let mut capture = Capture::new(SIZE, 30);
    capture.set_active(true, now);
    brings(&mut capture, rows(0, 100), now);
    drop(capture.capture(now, pixels(&buffer(1))).unwrap());
    let image = Arc::new(PointerImage { size: Size::new(1, 1), argb: vec![u32::MAX] });
    let pointer = Pointer { image, x: 3, y: 4 };
    for (told, frames) in [(Some(pointer.clone()), true), (Some(pointer.clone()), false), (None, true)] {
        capture.handle(News { picture: None, pointer: Some(told.clone()) }, now, |_| now);
        assert_eq!(capture.poll_timeout().is_some(), frames, "{told:?}");
        if frames {
            let frame = capture.capture(now + Duration::from_secs(1), None).unwrap();
            assert!(frame.damage.is_empty());
            assert_eq!(frame.pointer, told);
        }
    }
}

#[test]
fn while_all_stores_are_read_the_picture_waits() {
    let mut now = Instant::now();
    let mut capture = Capture::new(SIZE, 30);
    capture.set_active(true, now);
    let mut readers = Vec::new();
    for value in 1..=4 {
        now += Duration::from_secs(1);
        brings(&mut capture, rows(0, 100), now);
        readers.push(capture.capture(now, pixels(&buffer(value))).unwrap());
    }
    now += Duration::from_secs(1);
    brings(&mut capture, rows(0, 100), now);
    assert!(capture.capture(now, pixels(&buffer(5))).is_none());
    assert!(capture.is_waiting() && capture.poll_timeout().unwrap() > now);
    readers.clear();
    now += Duration::from_secs(1);
    assert_eq!(at_row(&capture.capture(now, pixels(&buffer(5))).unwrap(), 9), 5);
}
