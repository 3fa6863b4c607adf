#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

use super::*;
use crate::alive::tests::next_end;
use crate::frame::{Damage, Picture, Rect};

const SIZE: Size = Size::new(322, 182);
const DEADLINE: Duration = Duration::from_secs(20);

fn start(canvas: Size) -> (EncodeWorker, Receiver<AccessUnit>) {
    let (sender, receiver) = sync_channel(1024);
    let config = WorkerConfig { codec: Codec::H264, canvas, bitrate: Bitrate(1_000_000), fps: 30 };
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
    Frame { picture, damage, pointer: None, captured: Instant::now() }
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
    let (worker, units) = start(SIZE);
    worker.set_active(true);
    worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
    let unit = next(&units);
    assert!(unit.keyframe && unit.codec == crate::encoder::Codec::H264);
    let seen = Decoder::new().unwrap().decode(&unit.data).unwrap().map(|seen| seen.dimensions());
    assert_eq!(seen, Some((322, 182)));
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

#[test]
fn requests_on_a_still_screen_make_one_keyframe_a_second() {
    let (worker, units) = start(SIZE);
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

#[test]
fn an_inactive_worker_does_nothing_and_starts_with_a_keyframe() {
    let (worker, units) = start(SIZE);
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

#[test]
fn nothing_that_was_shown_before_an_idle_time_is_shown_after_it() {
    let (worker, units) = start(SIZE);
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
    let mut decoder = Decoder::new().unwrap();
    let seen = decoder.decode(&unit.data).unwrap().unwrap();
    let luma = |x: usize| i32::from(seen.y()[56 * seen.strides().0 + x]);
    let grey = luma(100);
    assert!((luma(26) - grey).abs() < 20, "the old square is still there: {} in {grey}", luma(26));
    assert!(luma(216) - grey > 60, "the new square is there: {} in {grey}", luma(216));
}

#[test]
fn a_sink_that_panics_ends_the_thread_and_the_watch_hears_of_it() {
    let (watch, mut news) = Watch::new();
    let config = WorkerConfig { codec: Codec::H264, canvas: SIZE, bitrate: Bitrate(1_000_000), fps: 30 };
    drop(EncodeWorker::start(config, Arc::new(|_| {}), &watch).unwrap());
    let worker = EncodeWorker::start(config, Arc::new(|_| panic!("as the test wants")), &watch).unwrap();
    worker.set_active(true);
    worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
    assert_eq!(next_end(&mut news).as_deref(), Some("encode-h264"));
    drop((worker, watch));
    assert_eq!(next_end(&mut news), None, "nothing was heard of the one that was dropped");
}

#[test]
fn the_rate_changes_without_a_keyframe() {
    let (worker, units) = start(SIZE);
    worker.set_active(true);
    worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
    next(&units);
    silence(&units);
    worker.set_bitrate(Bitrate(300_000));
    worker.put(frame(SIZE, 60, Damage::whole(SIZE)));
    assert!(!next(&units).keyframe);
}

#[test]
fn odd_canvases_are_rounded_up_and_impossible_ones_refused() {
    let (worker, units) = start(Size::new(321, 181));
    worker.set_active(true);
    worker.put(frame(SIZE, 10, Damage::whole(SIZE)));
    let unit = next(&units);
    let seen = Decoder::new().unwrap().decode(&unit.data).unwrap().map(|seen| seen.dimensions());
    assert_eq!(seen, Some((322, 182)));
    let config = WorkerConfig { codec: Codec::H264, canvas: Size::new(8, 8), bitrate: Bitrate(1_000_000), fps: 30 };
    assert!(EncodeWorker::start(config, Arc::new(|_| {}), &Watch::new().0).is_err());
}
