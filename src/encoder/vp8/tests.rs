#![allow(clippy::unwrap_used, clippy::print_stdout)] // the tables explain a failure

use super::*;
use crate::clock::MediaTime;
use crate::encoder::h264::H264Encoder;
use crate::encoder::viewer::{Viewer, luma_psnr};
use crate::encoder::{Bitrate, Codec, scenes};

const SIZE: Size = Size::new(642, 362);
const TOOLS: [Tool; 2] = [Tool::Camera, Tool::Screen];

fn order(qp: u8, keyframe: bool) -> Order {
    Order { qp: Qp(qp), keyframe, refine: false, still: false, measure: true }
}

#[test]
fn only_asked_keyframes_come_whatever_else_changes() {
    let mut encoder = Vp8Encoder::new(SIZE).unwrap();
    let mut viewer = Viewer::new(Codec::Vp8);
    for picture in 0..60u64 {
        // Each picture has another quantiser and another tool; every fifth is a new page.
        let page = scenes::text(SIZE, picture / 5, 5);
        let asked = picture == 20;
        let tool = TOOLS[picture as usize % 2];
        let unit = encoder.encode(&page, tool, order(20 + (picture % 20) as u8, asked)).unwrap();
        let keyframe = asked || picture == 0;
        assert_eq!((unit.keyframe, unit.data[0] & 1), (keyframe, u8::from(!keyframe)), "picture {picture}");
        let seen = luma_psnr(&page, &viewer.see(&unit.data));
        let told = f64::from(unit.luma_psnr.unwrap());
        assert!((seen - told).abs() < 0.01 && told > 25.0, "picture {picture}: {seen} dB is seen, {told} told");
    }
}

#[test]
fn pictures_of_each_size_are_seen_whole() {
    for (width, height) in [(16, 16), (18, 16), (16, 34), (322, 182), (1366, 768), (2160, 3840), (3840, 2160)] {
        let size = Size::new(width, height);
        let (mut encoder, mut viewer) = (Vp8Encoder::new(size).unwrap(), Viewer::new(Codec::Vp8));
        for seed in 0..2 {
            let page = scenes::text(size, seed, 5);
            let unit = encoder.encode(&page, Tool::Camera, order(20, false)).unwrap();
            let psnr = luma_psnr(&page, &viewer.see(&unit.data));
            assert!(psnr > 36.0, "{size}: {psnr} dB");
        }
    }
}

#[test]
fn sizes_and_planes_that_do_not_fit_are_refused() {
    for size in [Size::new(14, 16), Size::new(641, 360), Size::new(4096, 2160), Size::new(2162, 2162), Size::new(0, 0)]
    {
        assert_eq!(Vp8Encoder::new(size).err(), Some(EncoderError::Size(size)));
    }
    let mut encoder = Vp8Encoder::new(SIZE).unwrap();
    let other = Size::new(640, 362);
    let error = encoder.encode(&scenes::paper(other), Tool::Camera, order(30, true)).err();
    assert_eq!(error, Some(EncoderError::Planes { expected: SIZE, found: other }));
    let mut short = scenes::paper(SIZE);
    short.v.pop();
    assert!(encoder.encode(&short, Tool::Camera, order(30, true)).is_err());
}

#[test]
fn quantisers_grow_with_those_of_h264_and_text_is_as_true() {
    let all: Vec<_> = (0..=u8::MAX).map(|qp| quantiser(Qp(qp))).collect();
    assert!(all.windows(2).all(|two| two[0] <= two[1]), "{all:?}");
    assert!(all[12..=46].windows(2).all(|two| two[0] < two[1]), "each of those in use is one of its own: {all:?}");
    assert_eq!((all[0], all[51], all[255]), (0, MOST_QUANTISER, MOST_QUANTISER));
    let page = scenes::text(SIZE, 1, 4);
    for qp in (20..=42).step_by(2) {
        let mut h264 = H264Encoder::new(SIZE, Tool::Camera, Bitrate(2_500_000), 30).unwrap();
        let one = h264.encode(&page, MediaTime(0), order(qp, true)).unwrap();
        let other = Vp8Encoder::new(SIZE).unwrap().encode(&page, Tool::Camera, order(qp, true)).unwrap();
        let (a, b) = (one.luma_psnr.unwrap(), other.luma_psnr.unwrap());
        println!("{qp}: h264 {a:.1} dB {} B, vp8 {b:.1} dB {} B", one.data.len(), other.data.len());
        assert!((-1.0..2.5).contains(&(b - a)), "at {qp} H.264 has {a} dB and VP8 {b} dB");
    }
}

#[test]
fn an_unchanged_source_becomes_sharp() {
    for tool in TOOLS {
        let mut encoder = Vp8Encoder::new(SIZE).unwrap();
        let page = scenes::text(SIZE, 1, 5);
        let mut last = encoder.encode(&page, tool, order(32, true)).unwrap().luma_psnr.unwrap();
        for qp in [28, 24, 20, 16] {
            let unit = encoder.encode(&page, tool, Order { refine: true, ..order(qp, false) }).unwrap();
            let psnr = unit.luma_psnr.unwrap();
            assert!(psnr > last + 0.7 && !unit.keyframe, "{tool:?} at {qp}: {psnr} dB after {last} dB");
            last = psnr;
        }
        assert!(last > 45.0, "{tool:?}: {last} dB");
    }
}

#[test]
fn a_picture_that_is_repeated_coarsely_costs_little_and_stays_as_it_is() {
    let mut encoder = Vp8Encoder::new(SIZE).unwrap();
    let page = scenes::text(SIZE, 1, 5);
    let sharp = encoder.encode(&page, Tool::Camera, order(16, true)).unwrap().luma_psnr.unwrap();
    for _ in 0..50 {
        let unit = encoder.encode(&page, Tool::Camera, order(40, false)).unwrap();
        let psnr = unit.luma_psnr.unwrap();
        assert!(unit.data.len() < 100 && psnr > sharp - 0.1, "{} bytes, {psnr} dB of {sharp}", unit.data.len());
    }
}

/// Luma PSNR of the rows above `bottom`.
fn psnr_above(page: &I420, seen: &I420, bottom: usize) -> f64 {
    let cut = |picture: &I420| {
        let luma = picture.y[..bottom * SIZE.width as usize].to_vec();
        I420 { size: Size::new(SIZE.width, bottom as u32), y: luma, u: Vec::new(), v: Vec::new() }
    };
    luma_psnr(&cut(page), &cut(seen))
}

#[test]
fn what_does_not_change_is_not_worn_out_by_what_does() {
    let (mut encoder, mut viewer) = (Vp8Encoder::new(SIZE).unwrap(), Viewer::new(Codec::Vp8));
    let width = SIZE.width as usize;
    let mut page = scenes::text(SIZE, 1, 5);
    // Soft shapes beside the text: what a loop filter would smooth.
    let soft = scenes::film(SIZE, 0);
    for row in 0..200 {
        page.y[row * width..][..300].copy_from_slice(&soft.y[row * width..][..300]);
    }
    let first = encoder.encode(&page, Tool::Camera, order(14, true)).unwrap();
    let before = psnr_above(&page, &viewer.see(&first.data), 192);
    for frame in 0..60 {
        let film = scenes::film(SIZE, frame);
        page.y[250 * width..].copy_from_slice(&film.y[250 * width..]);
        let unit = encoder.encode(&page, Tool::Camera, order(40, false)).unwrap();
        let after = psnr_above(&page, &viewer.see(&unit.data), 192);
        assert!(after > before - 1.0, "{after} dB of {before} dB are left after {frame} pictures");
    }
}

#[test]
fn noise_at_the_sharp_quantiser_is_encoded() {
    let mut encoder = Vp8Encoder::new(SIZE).unwrap();
    let mut noise = scenes::paper(SIZE);
    let mut dice = scenes::Dice::new(1);
    for picture in 0..3 {
        noise.y.iter_mut().for_each(|pixel| *pixel = dice.below(256) as u8);
        let unit = encoder.encode(&noise, Tool::Camera, order(20, false)).unwrap();
        assert!(unit.keyframe == (picture == 0) && unit.luma_psnr.unwrap() > 36.0);
    }
}

#[test]
fn saturated_colours_are_true_as_keyframe_and_as_change() {
    for change in [false, true] {
        for qp in [20, 26, 36] {
            let (page, centres) = scenes::patches(SIZE);
            let (mut encoder, mut viewer) = (Vp8Encoder::new(SIZE).unwrap(), Viewer::new(Codec::Vp8));
            if change {
                let first = encoder.encode(&scenes::text(SIZE, 3, 2), Tool::Camera, order(20, true)).unwrap();
                viewer.see(&first.data);
            }
            let unit = encoder.encode(&page, Tool::Camera, order(qp, !change)).unwrap();
            let first = scenes::worst_chroma(&viewer.see(&unit.data), &page, &centres);
            let unit = encoder.encode(&page, Tool::Camera, Order { refine: true, ..order(16, false) }).unwrap();
            let refined = scenes::worst_chroma(&viewer.see(&unit.data), &page, &centres);
            assert!(first <= 4 && refined <= 2, "change {change} at {qp}: off by {first}, refined {refined}");
        }
    }
}

#[test]
fn a_scrolled_page_is_found_by_the_searching_tool_at_once() {
    let tall = scenes::text(Size::new(642, 1400), 9, 3);
    let mut encoder = Vp8Encoder::new(SIZE).unwrap();
    let page = encoder.encode(&scenes::window(&tall, SIZE, 0), Tool::Camera, order(28, true)).unwrap().data.len();
    for step in 1..10 {
        let unit = encoder.encode(&scenes::window(&tall, SIZE, step * 60), Tool::Screen, order(28, false)).unwrap();
        assert!(!unit.keyframe && unit.data.len() * 2 < page, "step {step}: {} of {page} bytes", unit.data.len());
    }
}
