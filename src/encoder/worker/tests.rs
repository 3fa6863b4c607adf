#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use super::*;
use crate::alive::tests::next_end;
use crate::clock::MediaTime;
use crate::encoder::picture::{Order, Qp, Tool};
use crate::encoder::viewer::{CODECS, Viewer, luma_psnr};
use crate::frame::canvas::Canvas;
use crate::frame::coded::{Coded, Coding, Serial};
use crate::frame::{Damage, Picture, Rect};

const SIZE: Size = Size::new(322, 182);
const DEADLINE: Duration = Duration::from_secs(20);

fn start(codec: Codec, canvas: Size) -> (EncodeWorker, Receiver<AccessUnit>) {
    let (sender, receiver) = sync_channel(1024);
    let config = WorkerConfig { codec, canvas, bitrate: Bitrate(1_000_000), fps: 30, fit: FitMode::Letterbox };
    // A unit that nobody waits for any more is no fault of the worker's.
    let worker = EncodeWorker::start(config, Arc::new(move |unit| drop(sender.send(unit))), &Watch::new().0).unwrap();
    (worker, receiver)
}

/// A grey frame with a white square at column `x`.
fn frame(size: Size, x: u32, damage: Damage) -> Frame {
    let mut pixels = vec![90u8; size.width as usize * size.height as usize * 4];
    for row in 40..72 {
        let at = (row * size.width + x) as usize * 4;
        pixels[at..at + 32 * 4].fill(230);
    }
    let picture = Picture::new(Arc::new(pixels), size, size.width as usize * 4).unwrap();
    Frame::new(picture, damage, Instant::now())
}

fn next(units: &Receiver<AccessUnit>) -> AccessUnit {
    units.recv_timeout(DEADLINE).unwrap()
}

/// Waits until no unit has come for half a second: longer than any schedule of a small picture.
fn silence(units: &Receiver<AccessUnit>) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < deadline, "units keep coming");
        if units.recv_timeout(Duration::from_millis(500)).is_err() {
            return;
        }
    }
}

#[test]
fn a_frame_comes_out_as_a_keyframe_and_stillness_is_silent() {
    for &codec in CODECS {
        let (worker, units) = start(codec, SIZE);
        worker.set_active(true);
        worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
        let unit = next(&units);
        assert!(unit.keyframe && unit.codec == codec);
        let seen = Viewer::new(codec).see(&unit.data).size;
        assert_eq!(seen, SIZE);
        silence(&units);
        let before = worker.counters();
        assert_eq!((before.keyframes, before.faults, before.restarts), (1, 0, 0));
        worker.put(frame(SIZE, 10, Damage::none()));
        assert_eq!(
            units.recv_timeout(Duration::from_millis(300)).err(),
            Some(RecvTimeoutError::Timeout),
            "nothing changed"
        );
        let mut damage = Damage::none();
        damage.add(Rect { x: 10, y: 40, width: 80, height: 32 });
        worker.put(frame(SIZE, 40, damage));
        let moved = next(&units);
        assert!(!moved.keyframe && moved.captured > unit.captured);
    }
}

#[test]
fn requests_on_a_still_screen_make_one_keyframe_a_second() {
    for &codec in CODECS {
        let (worker, units) = start(codec, SIZE);
        worker.set_active(true);
        worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
        assert!(next(&units).keyframe);
        let first = Instant::now();
        (0..50).for_each(|_| worker.request_keyframe());
        let mut keyframes = 0;
        while first.elapsed() < Duration::from_millis(1_800) {
            if let Ok(unit) = units.recv_timeout(Duration::from_millis(100)) {
                keyframes += u32::from(unit.keyframe);
                assert!(!unit.keyframe || first.elapsed() > Duration::from_millis(900));
            }
        }
        assert_eq!(keyframes, 1);
    }
}

#[test]
fn an_inactive_worker_does_nothing_and_starts_with_a_keyframe() {
    for &codec in CODECS {
        let (worker, units) = start(codec, SIZE);
        worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
        worker.request_keyframe();
        worker.put(frame(SIZE, 20, Damage::whole(SIZE)));
        assert_eq!(units.recv_timeout(Duration::from_millis(200)).err(), Some(RecvTimeoutError::Timeout));
        assert_eq!(worker.counters(), EncoderCounters::default());
        for _ in 0..3 {
            worker.set_active(true);
            worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
            assert!(next(&units).keyframe, "at once, whatever the gate says");
            silence(&units);
            worker.set_active(false);
        }
    }
}

#[test]
fn nothing_that_was_shown_before_an_idle_time_is_shown_after_it() {
    for &codec in CODECS {
        let (worker, units) = start(codec, SIZE);
        worker.set_active(true);
        worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
        next(&units);
        silence(&units);
        worker.set_active(false);
        worker.put(frame(SIZE, 20, Damage::whole(SIZE)));
        worker.set_active(true);
        worker.request_keyframe();
        let early = units.recv_timeout(Duration::from_millis(1_500)).err();
        assert_eq!(early, Some(RecvTimeoutError::Timeout), "there is no new picture yet");
        // The square stood at column 10; what says that only a corner has changed must not keep it.
        let mut corner = Damage::none();
        corner.add(Rect { x: 280, y: 150, width: 16, height: 16 });
        worker.put(frame(SIZE, 200, corner));
        let unit = next(&units);
        assert!(unit.keyframe);
        let seen = Viewer::new(codec).see(&unit.data);
        let luma = |x: usize| i32::from(seen.y[56 * SIZE.width as usize + x]);
        let grey = luma(100);
        assert!((luma(26) - grey).abs() < 20, "the old square is still there: {} in {grey}", luma(26));
        assert!(luma(216) - grey > 60, "the new square is there: {} in {grey}", luma(216));
    }
}

#[test]
fn a_sink_that_panics_ends_the_thread_and_the_watch_hears_of_it() {
    for &codec in CODECS {
        let (watch, mut news) = Watch::new();
        let config =
            WorkerConfig { codec, canvas: SIZE, bitrate: Bitrate(1_000_000), fps: 30, fit: FitMode::Letterbox };
        drop(EncodeWorker::start(config, Arc::new(|_| {}), &watch).unwrap());
        let worker = EncodeWorker::start(config, Arc::new(|_| panic!("as the test wants")), &watch).unwrap();
        worker.set_active(true);
        worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
        assert_eq!(next_end(&mut news).as_deref(), Some(&*format!("encode-{codec}")));
        drop((worker, watch));
        assert_eq!(next_end(&mut news), None, "nothing was heard of the one that was dropped");
    }
}

#[test]
fn the_rate_changes_without_a_keyframe() {
    for &codec in CODECS {
        let (worker, units) = start(codec, SIZE);
        worker.set_active(true);
        worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
        next(&units);
        silence(&units);
        worker.set_bitrate(Bitrate(300_000));
        worker.put(frame(SIZE, 60, Damage::whole(SIZE)));
        assert!(!next(&units).keyframe);
    }
}

#[test]
fn odd_canvases_are_rounded_up_and_impossible_ones_refused() {
    for &codec in CODECS {
        let (worker, units) = start(codec, Size::new(321, 181));
        worker.set_active(true);
        worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
        let unit = next(&units);
        let seen = Viewer::new(codec).see(&unit.data).size;
        assert_eq!(seen, SIZE);
        let config = WorkerConfig {
            codec,
            canvas: Size::new(8, 8),
            bitrate: Bitrate(1_000_000),
            fps: 30,
            fit: FitMode::Letterbox,
        };
        assert!(EncodeWorker::start(config, Arc::new(|_| {}), &Watch::new().0).is_err());
    }
}

/// A frame of rows of dark strokes on white, as sharp as text.
fn strokes(size: Size) -> Frame {
    let mut pixels = vec![255u8; size.width as usize * size.height as usize * 4];
    for (at, pixel) in pixels.chunks_exact_mut(4).enumerate() {
        let (x, y) = (at % size.width as usize, at / size.width as usize);
        if y % 13 < 9 && (x * 7 + y / 13 * 5) % 23 < 4 || y % 13 == 4 && x % 11 < 6 {
            pixel[..3].fill(20);
        }
    }
    let picture = Picture::new(Arc::new(pixels), size, size.width as usize * 4).unwrap();
    Frame::new(picture, Damage::whole(size), Instant::now())
}

#[test]
fn a_still_page_becomes_sharp_and_then_costs_little() {
    for &codec in CODECS {
        let (worker, units) = start(codec, SIZE);
        worker.set_active(true);
        let frame = strokes(SIZE);
        let mut canvas = Canvas::new(SIZE, FitMode::Letterbox);
        canvas.compose(&frame);
        worker.put(frame);
        let mut viewer = Viewer::new(codec);
        let first = Instant::now();
        let mut psnr = luma_psnr(canvas.i420(), &viewer.see(&next(&units).data));
        while psnr < 45.0 {
            assert!(first.elapsed() < Duration::from_secs(10), "{codec}: {psnr:.1} dB");
            psnr = luma_psnr(canvas.i420(), &viewer.see(&next(&units).data));
        }
        silence(&units);
        let pulse = next(&units);
        assert!(!pulse.keyframe && pulse.data.len() < 100, "{codec}: a pulse of {} bytes", pulse.data.len());
        assert!(luma_psnr(canvas.i420(), &viewer.see(&pulse.data)) >= psnr);
    }
}

#[test]
fn a_codec_that_is_none_of_pictures_is_refused() {
    let config = WorkerConfig {
        codec: Codec::Opus,
        canvas: SIZE,
        bitrate: Bitrate(1_000_000),
        fps: 30,
        fit: FitMode::Letterbox,
    };
    let error = EncodeWorker::start(config, Arc::new(|_| {}), &Watch::new().0).err();
    assert_eq!(error, Some(EncoderError::Unavailable(Codec::Opus)));
}

/// A recorded row of pictures of a white square that wanders, ten a second, with a keyframe every `group` pictures.
fn recording(codec: Codec, pictures: u32, group: u32) -> Vec<Frame> {
    let coding = if codec == Codec::Vp8 { Coding::Vp8 } else { Coding::H264 };
    let size = rung::even(SIZE);
    let (mut encoder, mut canvas) = (
        VideoEncoder::new(codec, size, Tool::Camera, Bitrate(1_000_000), 30).unwrap(),
        Canvas::new(size, FitMode::Letterbox),
    );
    let (mut serial, begun) = (Serial::first(), Instant::now());
    let picture = |number: u32| {
        let captured = begun + Duration::from_millis(100) * number;
        let frame = Frame { captured, ..frame(size, number % 100, Damage::whole(size)) };
        canvas.compose(&frame);
        let keyframe = number.is_multiple_of(group);
        let order = Order { qp: Qp(24), keyframe, refine: false, still: false, measure: false };
        let at = MediaTime(u64::from(number) * 100_000_000);
        let unit = encoder.encode(canvas.i420(), at, Tool::Camera, order).unwrap();
        assert_eq!(unit.keyframe, keyframe);
        serial = serial.next();
        Frame { coded: Some(Arc::new(Coded { coding, data: unit.data, keyframe, serial })), ..frame }
    };
    (0..pictures).map(picture).collect()
}

#[test]
fn what_was_recorded_is_passed_on_whole_until_something_else_is_needed() {
    for &codec in CODECS {
        let (worker, units) = start(codec, rung::even(SIZE));
        worker.set_active(true);
        let frames = recording(codec, 20, 5);
        let mut viewer = Viewer::new(codec);
        for frame in &frames {
            worker.put(frame.clone());
        }
        // One group is encoded, as far as the worker keeps up, since only then is it known that it could have been sent; all others go as they are.
        let wanted: Vec<_> = frames[5..].iter().filter_map(|frame| frame.coded.clone()).collect();
        let mut unit = next(&units);
        while unit.data != wanted[0].data {
            viewer.see(&unit.data);
            unit = next(&units);
        }
        for (coded, frame) in wanted.iter().zip(&frames[5..]) {
            assert_eq!((&unit.data, unit.keyframe), (&coded.data, coded.keyframe));
            assert!(unit.captured >= frame.captured);
            viewer.see(&unit.data);
            if !Arc::ptr_eq(coded, wanted.last().unwrap()) {
                unit = next(&units);
            }
        }
        assert_eq!(worker.counters().passed, 15);
        worker.put(Frame { damage: Damage::whole(rung::even(SIZE)), ..frames[19].clone() });
        assert_eq!(
            units.recv_timeout(Duration::from_millis(100)).err(),
            Some(RecvTimeoutError::Timeout),
            "it was sent already"
        );

        worker.request_keyframe();
        let own = next(&units);
        assert!(own.keyframe && own.captured > unit.captured && worker.counters().passed == 15);
        let mut canvas = Canvas::new(rung::even(SIZE), FitMode::Letterbox);
        canvas.compose(&frames[19]);
        let psnr = luma_psnr(canvas.i420(), &viewer.see(&own.data));
        assert!(psnr > 30.0, "the keyframe shows another picture: {psnr} dB");

        worker.put(frame(rung::even(SIZE), 60, Damage::whole(rung::even(SIZE))));
        let after = next(&units);
        assert!(!after.keyframe && worker.counters().passed == 15);
    }
}

#[test]
fn the_last_recorded_picture_is_encoded_where_no_other_comes() {
    let (worker, units) = start(Codec::H264, rung::even(SIZE));
    worker.set_active(true);
    recording(Codec::H264, 10, 5).into_iter().for_each(|frame| worker.put(frame));
    while worker.counters().passed < 5 {
        next(&units);
    }
    while !units.recv_timeout(Duration::from_secs(5)).unwrap().keyframe {}
    assert_eq!(worker.counters().passed, 5, "a viewer would ask for a keyframe by now");
}
