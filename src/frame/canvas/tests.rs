#![allow(clippy::unwrap_used)]
use std::time::{Duration, Instant};

use super::*;
use crate::frame::overlay::{Corner, Extent};

/// A picture whose pixels tell where they are; `seed` changes them all.
fn picture(size: Size, padding: usize, seed: u32) -> Picture {
    let stride = size.width as usize * 4 + padding;
    let mut store = vec![0xee; stride * size.height as usize];
    for row in 0..size.height {
        for column in 0..size.width {
            let at = row as usize * stride + column as usize * 4;
            store[at..at + 4].copy_from_slice(&noise(column / 3, row / 3, seed));
        }
    }
    Picture::new(Arc::new(store), size, stride).unwrap()
}

fn noise(column: u32, row: u32, seed: u32) -> [u8; 4] {
    let mixed = (column.wrapping_mul(73_856_093) ^ row.wrapping_mul(19_349_663) ^ seed).wrapping_mul(2_654_435_761);
    (mixed ^ (mixed >> 13)).to_le_bytes()
}

/// The same picture with `rect` drawn anew.
fn redrawn(old: &Picture, rect: Rect, seed: u32) -> Picture {
    let mut store = old.bytes().to_vec();
    let rect = rect.clipped(old.size());
    for row in rect.y..rect.y + rect.height {
        for column in rect.x..rect.x + rect.width {
            let at = row as usize * old.stride() + column as usize * 4;
            store[at..at + 4].copy_from_slice(&noise(column, row, seed));
        }
    }
    Picture::new(Arc::new(store), old.size(), old.stride()).unwrap()
}

fn frame(picture: &Picture, damage: Damage, pointer: Option<Pointer>) -> Frame {
    Frame { pointer, ..Frame::new(picture.clone(), damage, Instant::now()) }
}

fn arrow(x: i32, y: i32) -> Pointer {
    let argb = (0..12 * 19u32).map(|i| if i % 5 == 0 { 0 } else { 0xff00_0000 | (i * 1_000) }).collect();
    Pointer { image: Arc::new(PointerImage { size: Size::new(12, 19), argb }), x, y }
}

/// The planes that a fresh canvas shows of a frame.
fn afresh(canvas: Size, mode: FitMode, picture: &Picture, pointer: Option<Pointer>) -> I420 {
    let mut fresh = Canvas::new(canvas, mode);
    assert_eq!(fresh.compose(&frame(picture, Damage::none(), pointer)), Damage::whole(canvas));
    fresh.i420().clone()
}

fn worst(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn assert_same(got: &I420, want: &I420, tolerance: u8, why: &str) {
    assert_eq!(got.size, want.size);
    let differ = worst(&got.y, &want.y).max(worst(&got.u, &want.u)).max(worst(&got.v, &want.v));
    assert!(differ <= tolerance, "{why}: planes differ by {differ}");
}

/// Asserts that outside of `damage` the planes have not changed.
fn assert_told(before: &I420, after: &I420, damage: &Damage, why: &str) {
    for row in 0..before.size.height {
        for column in 0..before.size.width {
            let (luma, chroma) = (row * before.size.width + column, row / 2 * (before.size.width / 2) + column / 2);
            let (luma, chroma) = (luma as usize, chroma as usize);
            let same = before.y[luma] == after.y[luma]
                && before.u[chroma] == after.u[chroma]
                && before.v[chroma] == after.v[chroma];
            let told = damage
                .rects()
                .iter()
                .any(|r| (r.x..r.x + r.width).contains(&column) && (r.y..r.y + r.height).contains(&row));
            assert!(same || told, "{why}: ({column}, {row}) changed untold");
        }
    }
    for rect in damage.rects() {
        assert!((rect.x | rect.y | rect.width | rect.height) & 1 == 0, "{why}: {rect:?} is odd");
    }
}

/// Each way a picture comes into a canvas, with the tolerance of resampling a part.
const WAYS: [(Size, Size, u8); 6] = [
    (Size::new(160, 120), Size::new(160, 120), 0),
    (Size::new(157, 119), Size::new(158, 120), 0),
    (Size::new(11, 9), Size::new(16, 16), 0),
    (Size::new(320, 200), Size::new(160, 120), 1),
    (Size::new(213, 77), Size::new(160, 120), 1),
    (Size::new(64, 48), Size::new(160, 120), 1),
];

#[test]
fn damage_and_pointer_give_what_a_fresh_canvas_shows() {
    for ((source, size, tolerance), mode) in WAYS.into_iter().flat_map(|way| MODES.map(|mode| (way, mode))) {
        for padding in [0, 12, 13] {
            let mut shown = picture(source, padding, 1);
            let mut canvas = Canvas::new(size, mode);
            canvas.compose(&frame(&shown, Damage::none(), None));
            for step in 0..40u32 {
                let why = format!("{source} in {size} by {mode:?}, padding {padding}, step {step}");
                let mut damage = Damage::none();
                if step % 4 != 3 {
                    let rect = Rect {
                        x: step * 37 % source.width,
                        y: step * 23 % source.height,
                        width: 1 + step % 9,
                        height: 1 + step % 5,
                    };
                    shown = redrawn(&shown, rect, step);
                    damage.add(rect);
                }
                let at = |extent: u32| (step / 2 * 29 % (extent + 20)) as i32 - 10;
                let pointer = (step % 8 < 6).then(|| arrow(at(source.width), at(source.height)));
                let before = canvas.i420().clone();
                let told = canvas.compose(&frame(&shown, damage, pointer.clone()));
                assert_told(&before, canvas.i420(), &told, &why);
                assert_same(canvas.i420(), &afresh(size, mode, &shown, pointer), tolerance, &why);
            }
        }
    }
}

const MODES: [FitMode; 3] = [FitMode::Letterbox, FitMode::Crop, FitMode::Stretch];

/// Overlays in two corners, the second one over the first.
fn overlays(serials: [u64; 2], sizes: [Size; 2]) -> Vec<Layer> {
    let widths = [Extent::Percent(60), Extent::Pixels(50)];
    (0..2)
        .map(|at| Layer {
            picture: picture(sizes[at], 0, serials[at] as u32),
            place: Placement { corner: Corner::TopLeft, width: widths[at], margin: Extent::Pixels(6) },
            serial: serials[at],
        })
        .collect()
}

#[test]
fn overlays_stand_over_all_and_give_what_a_fresh_canvas_shows() {
    let (size, sizes) = (Size::new(160, 120), [Size::new(64, 48), Size::new(33, 60)]);
    let mut shown = picture(size, 0, 1);
    let mut canvas = Canvas::new(size, FitMode::Letterbox);
    let mut serials = [1, 2];
    for step in 0..60u32 {
        let mut damage = Damage::none();
        if step % 3 == 0 {
            let rect = Rect { x: step * 37 % 150, y: step * 23 % 110, width: 1 + step % 40, height: 1 + step % 30 };
            shown = redrawn(&shown, rect, step);
            damage.add(rect);
        }
        if step % 4 == 1 {
            serials[(step / 4 % 2) as usize] += 2;
        }
        let present = if step % 20 < 15 { 2 } else { (step % 2) as usize };
        let sizes = if step < 40 { sizes } else { [sizes[1], sizes[0]] };
        let overlays: Vec<_> = overlays(serials, sizes).into_iter().take(present).collect();
        let pointer = (step % 8 < 6).then(|| arrow((step * 29 % 160) as i32, (step * 7 % 120) as i32));
        let whole = Frame { overlays: overlays.clone(), ..frame(&shown, damage, pointer.clone()) };
        let before = canvas.i420().clone();
        let told = canvas.compose(&whole);
        assert_told(&before, canvas.i420(), &told, &format!("step {step}"));
        let mut fresh = Canvas::new(size, FitMode::Letterbox);
        fresh.compose(&whole);
        assert_same(canvas.i420(), fresh.i420(), 0, &format!("step {step}"));
    }
    // What only an overlay changes costs no more than its own area.
    let overlays = |serial| overlays([serial, 2], sizes);
    canvas.compose(&Frame { overlays: overlays(1001), ..frame(&shown, Damage::none(), None) });
    let told = canvas.compose(&Frame { overlays: overlays(1003), ..frame(&shown, Damage::none(), None) });
    assert_eq!(told.rects(), [Rect { x: 6, y: 6, width: 96, height: 72 }]);
}

#[test]
fn nothing_changed_is_no_damage() {
    let size = Size::new(160, 120);
    let shown = picture(size, 0, 1);
    let mut canvas = Canvas::new(size, FitMode::Letterbox);
    canvas.compose(&frame(&shown, Damage::whole(size), Some(arrow(5, 5))));
    assert!(canvas.compose(&frame(&shown, Damage::none(), Some(arrow(5, 5)))).is_empty());
    let mut far = Damage::none();
    far.add(Rect { x: 100, y: 100, width: 4, height: 4 });
    assert_eq!(canvas.compose(&frame(&shown, far.clone(), Some(arrow(5, 5)))), far);
    let gone = canvas.compose(&frame(&shown, Damage::none(), None));
    assert_eq!(gone.bounds(), Rect { x: 4, y: 4, width: 14, height: 20 });
}

#[test]
fn odd_pictures_repeat_their_last_column_and_row() {
    let (odd, even) = (Size::new(157, 119), Size::new(158, 120));
    let shown = picture(odd, 0, 7);
    let mut padded = Vec::new();
    for row in 0..even.height.min(odd.height + 1) {
        let start = row.min(odd.height - 1) as usize * shown.stride();
        let line = &shown.bytes()[start..start + shown.stride()];
        padded.extend_from_slice(line);
        padded.extend_from_slice(&line[line.len() - 4..]);
    }
    let padded = Picture::new(Arc::new(padded), even, even.width as usize * 4).unwrap();
    assert_same(
        &afresh(even, FitMode::Letterbox, &shown, None),
        &afresh(even, FitMode::Letterbox, &padded, None),
        0,
        "odd",
    );
}

#[test]
fn another_aspect_leaves_black_bars() {
    let size = Size::new(160, 90);
    let white = |size: Size| {
        let store = vec![255; size.width as usize * size.height as usize * 4];
        Picture::new(Arc::new(store), size, size.width as usize * 4).unwrap()
    };
    let mut canvas = Canvas::new(size, FitMode::Letterbox);
    canvas.compose(&frame(&white(size), Damage::none(), None));
    assert!(canvas.i420().y.iter().all(|y| *y >= 234));
    let damage = canvas.compose(&frame(&white(Size::new(400, 300)), Damage::none(), None));
    assert_eq!(damage, Damage::whole(size));
    for (at, luma) in canvas.i420().y.iter().enumerate() {
        let column = at % 160;
        let expected = if (20..140).contains(&column) { 234..=236 } else { 16..=16 };
        assert!(expected.contains(luma), "luma {luma} in column {column}");
    }
}

#[test]
fn a_picture_without_pixels_changes_nothing() {
    let mut canvas = Canvas::new(Size::new(16, 16), FitMode::Letterbox);
    let empty = Picture::new(Arc::new(Vec::new()), Size::new(0, 0), 0).unwrap();
    assert!(canvas.compose(&frame(&empty, Damage::whole(Size::new(5, 5)), Some(arrow(0, 0)))).is_empty());
}

/// Prints what a whole redraw costs; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_whole_redraw() {
    for (source, canvas) in [((1920, 1080), (1920, 1080)), ((3840, 2160), (1920, 1080)), ((1280, 720), (1920, 1080))] {
        let shown = picture(Size::new(source.0, source.1), 0, 3);
        let mut canvas = Canvas::new(Size::new(canvas.0, canvas.1), FitMode::Letterbox);
        let mut times: Vec<Duration> = (0..50)
            .map(|i| {
                let whole = frame(&shown, Damage::whole(shown.size()), Some(arrow(i, i)));
                let start = Instant::now();
                canvas.compose(&whole);
                start.elapsed()
            })
            .collect();
        times.sort();
        eprintln!("{source:?}: median {:?}, best {:?}", times[25], times[0]);
    }
}

/// Prints what a camera of 640x480 over a 1080p screen costs; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_an_overlay() {
    let shown = picture(Size::new(1920, 1080), 0, 3);
    let cameras = [1, 2].map(|seed| picture(Size::new(640, 480), 0, seed));
    let mut canvas = Canvas::new(shown.size(), FitMode::Letterbox);
    let mut median = |alone: bool| {
        let mut times: Vec<Duration> = (0..50_u64)
            .map(|serial| {
                let layer =
                    Layer { picture: cameras[serial as usize % 2].clone(), place: Placement::default(), serial };
                let damage = if alone { Damage::none() } else { Damage::whole(shown.size()) };
                let whole = Frame { overlays: vec![layer], ..frame(&shown, damage, None) };
                let start = Instant::now();
                canvas.compose(&whole);
                start.elapsed()
            })
            .collect();
        times.sort();
        times[25]
    };
    let (alone, both) = (median(true), median(false));
    eprintln!("the overlay alone: median {alone:?}; with a whole screen that has changed: {both:?}");
}
