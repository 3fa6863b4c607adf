#![allow(clippy::unwrap_used)]

use super::*;
use crate::encoder::picture::Qp;
use crate::encoder::viewer::{Viewer, luma_psnr};
use crate::encoder::{Codec, scenes};

const RATE: Bitrate = Bitrate(2_500_000);
const SIZE: Size = Size::new(642, 362);

fn order(qp: u8, keyframe: bool) -> Order {
    Order { qp: Qp(qp), keyframe, refine: false, still: false, measure: true }
}

/// The types of the NAL units of an Annex B byte stream.
fn nal_types(unit: &[u8]) -> Vec<u8> {
    let starts = unit.windows(4).filter(|window| window[..3] == [0, 0, 1]);
    starts.map(|window| window[3] & 31).collect()
}

#[test]
fn keyframes_carry_their_parameter_sets_and_only_asked_ones_come() {
    for tool in [Tool::Camera, Tool::Screen] {
        let mut encoder = H264Encoder::new(SIZE, tool, RATE, 30).unwrap();
        let page = scenes::text(SIZE, 1, 5);
        for picture in 0..40u64 {
            let wanted = picture == 20;
            // A quantiser that changes with each picture neither resets the encoder nor makes an IDR.
            let how = order(20 + (picture % 20) as u8, wanted);
            let unit = encoder.encode(&page, MediaTime(picture * 33_000_000), how).unwrap();
            let keyframe = wanted || picture == 0;
            assert_eq!(unit.keyframe, keyframe, "{tool:?}, picture {picture}");
            assert_eq!(nal_types(&unit.data), if keyframe { vec![7, 8, 5] } else { vec![1] });
        }
    }
}

#[test]
fn profile_level_and_colour_are_signalled() {
    for (size, fps, level) in
        [(Size::new(640, 360), 30, 31), (Size::new(1920, 1080), 30, 40), (Size::new(3840, 2160), 30, 51)]
    {
        let mut encoder = H264Encoder::new(size, Tool::Camera, RATE, fps).unwrap();
        let unit = encoder.encode(&scenes::paper(size), MediaTime(0), order(30, true)).unwrap();
        let sps = unit.data.windows(4).position(|window| window[..3] == [0, 0, 1] && window[3] & 31 == 7).unwrap() + 4;
        assert_eq!(unit.data[sps..sps + 3], [0x42, 0xc0, level], "constrained baseline, {size}");
        // video_format 5, limited range, colour description: primaries 1, transfer 1, matrix 6, at some bit offset.
        let bits: Vec<_> =
            unit.data[sps..sps + 40].iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
        let expected: Vec<u8> = [1, 1, 0, 1, 0, 1]
            .into_iter()
            .chain([1u8, 1, 6].into_iter().flat_map(|code| (0..8).rev().map(move |bit| code >> bit & 1)))
            .collect();
        assert!(bits.windows(expected.len()).any(|window| window == expected), "BT.601's matrix, limited range");
    }
}

#[test]
fn what_is_decoded_is_what_was_encoded() {
    let mut encoder = H264Encoder::new(SIZE, Tool::Camera, RATE, 30).unwrap();
    let page = scenes::text(SIZE, 1, 5);
    let unit = encoder.encode(&page, MediaTime(0), order(16, true)).unwrap();
    let psnr = luma_psnr(&page, &Viewer::new(Codec::H264).see(&unit.data));
    assert!((psnr - f64::from(unit.luma_psnr.unwrap())).abs() < 0.5, "{psnr} against {:?}", unit.luma_psnr);
    assert!(psnr > 38.0, "{psnr}");
}

#[test]
fn refinement_sharpens_an_unchanged_source_with_either_tool() {
    for tool in [Tool::Camera, Tool::Screen] {
        let mut encoder = H264Encoder::new(SIZE, tool, RATE, 30).unwrap();
        let page = scenes::text(SIZE, 1, 5);
        let first = encoder.encode(&page, MediaTime(0), order(30, true)).unwrap();
        let mut last = first.luma_psnr.unwrap();
        for (picture, qp) in [26, 22, 18].into_iter().enumerate() {
            let how = Order { refine: true, ..order(qp, false) };
            let unit = encoder.encode(&page, MediaTime(100_000_000 * (picture as u64 + 1)), how).unwrap();
            let psnr = unit.luma_psnr.unwrap();
            assert!(psnr > last + 1.0, "{tool:?} at {qp}: {psnr} dB after {last} dB");
            last = psnr;
        }
    }
}

#[test]
fn sizes_and_planes_that_do_not_fit_are_refused() {
    for size in [Size::new(14, 16), Size::new(641, 360), Size::new(4096, 2160), Size::new(2162, 2162)] {
        assert_eq!(H264Encoder::new(size, Tool::Camera, RATE, 30).err(), Some(EncoderError::Size(size)));
    }
    let mut encoder = H264Encoder::new(SIZE, Tool::Camera, RATE, 30).unwrap();
    let other = Size::new(640, 362);
    let error = encoder.encode(&scenes::paper(other), MediaTime(0), order(30, true)).err();
    assert_eq!(error, Some(EncoderError::Planes { expected: SIZE, found: other }));
    let mut short = scenes::paper(SIZE);
    short.v.pop();
    assert!(encoder.encode(&short, MediaTime(0), order(30, true)).is_err());
}

#[test]
fn noise_at_the_sharp_quantiser_is_encoded() {
    let mut encoder = H264Encoder::new(SIZE, Tool::Camera, RATE, 30).unwrap();
    let mut noise = scenes::paper(SIZE);
    let mut dice = scenes::Dice::new(1);
    for picture in 0..3u64 {
        noise.y.iter_mut().for_each(|pixel| *pixel = dice.below(256) as u8);
        let unit = encoder.encode(&noise, MediaTime(picture * 33_000_000), order(20, false)).unwrap();
        assert_eq!(unit.keyframe, picture == 0);
    }
}

#[test]
fn a_decoder_need_not_be_set_up_anew_for_the_other_tool() {
    let parameter_sets = |tool| {
        let mut encoder = H264Encoder::new(SIZE, tool, RATE, 30).unwrap();
        let unit = encoder.encode(&scenes::text(SIZE, 1, 5), MediaTime(0), order(30, true)).unwrap();
        let slice = unit.data.windows(4).position(|window| window[..3] == [0, 0, 1] && window[3] & 31 == 5).unwrap();
        unit.data.slice(..slice)
    };
    assert_eq!(parameter_sets(Tool::Camera), parameter_sets(Tool::Screen));
}

#[test]
fn saturated_colours_are_true_as_keyframe_and_as_change() {
    for tool in [Tool::Camera, Tool::Screen] {
        for change in [false, true] {
            for qp in [20, 26, 36] {
                let (page, centres) = scenes::patches(SIZE);
                let mut encoder = H264Encoder::new(SIZE, tool, RATE, 30).unwrap();
                let mut viewer = Viewer::new(Codec::H264);
                if change {
                    let first = encoder.encode(&scenes::text(SIZE, 3, 2), MediaTime(0), order(20, true)).unwrap();
                    viewer.see(&first.data);
                }
                let unit = encoder.encode(&page, MediaTime(40_000_000), order(qp, !change)).unwrap();
                let first = scenes::worst_chroma(&viewer.see(&unit.data), &page, &centres);
                let fine = Order { qp: Qp(20), keyframe: false, refine: true, still: false, measure: true };
                let unit = encoder.encode(&page, MediaTime(140_000_000), fine).unwrap();
                let refined = scenes::worst_chroma(&viewer.see(&unit.data), &page, &centres);
                assert!(
                    first <= 3 && refined <= 1,
                    "{tool:?} change {change} at {qp}: off by {first}, refined {refined}"
                );
            }
        }
    }
}

#[test]
fn what_stands_still_costs_no_encoding_and_what_follows_shows_the_same_as_without_it() {
    let is_same = |a: &I420, b: &I420| a.y == b.y && a.u == b.u && a.v == b.v;
    let still = Order { still: true, measure: false, ..order(40, false) };
    for tool in [Tool::Camera, Tool::Screen] {
        let [mut encoder, mut twin] = [(); 2].map(|()| H264Encoder::new(SIZE, tool, RATE, 30).unwrap());
        let [mut viewer, mut other] = [(); 2].map(|()| Viewer::new(Codec::H264));
        let (mut stream, mut now) = (Vec::new(), 0);
        let mut at = || {
            now += 33_000_000;
            MediaTime(now)
        };
        for round in 0..24 {
            // One of the later ones is a keyframe.
            let (page, how, at) = (scenes::text(SIZE, round, 5), order(28, round == 17), at());
            let [unit, same] = [&mut encoder, &mut twin].map(|encoder| encoder.encode(&page, at, how).unwrap());
            stream.extend(&unit.data);
            let (shown, wanted) = (viewer.see(&unit.data), other.see(&same.data));
            assert!(is_same(&shown, &wanted), "{tool:?}, round {round}");
            for number in 0..50 {
                // The encoder makes the first itself, after which it may choose otherwise than if it had not.
                if !twin.stills.is_shown {
                    other.see(&twin.encode(&page, at, still).unwrap().data);
                }
                let unit = encoder.encode(&page, at, still).unwrap();
                assert!(unit.data.len() < 24 && !unit.keyframe);
                assert!(is_same(&viewer.see(&unit.data), &shown), "{tool:?}, round {round}, number {number}");
                assert!(encoder.stills.is_shown, "{tool:?}, round {round}, number {number}");
                stream.extend(&unit.data);
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &stream).unwrap();
        let mut command = std::process::Command::new("ffmpeg");
        command.args(["-v", "warning", "-f", "h264", "-i"]).arg(file.path()).args(["-f", "null", "-"]);
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && words.is_empty(), "{tool:?}: {words}");
    }
}
