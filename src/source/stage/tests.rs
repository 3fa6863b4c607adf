#![allow(clippy::unwrap_used)]
use std::sync::mpsc::{Receiver, sync_channel};

use std::time::{Duration, Instant};

use super::*;
use crate::frame::{Damage, Frame};

const DEADLINE: Duration = Duration::from_secs(20);

fn open(spec: &str, fallback: Option<&str>) -> (Result<Stage, SourceError>, Receiver<Frame>) {
    let (sender, frames) = sync_channel(10_000);
    let parse = |text: &str| SourceSpec::parse(text).unwrap();
    let options = SourceOptions { fps: 50, size: Some(Size::new(320, 180)), ..SourceOptions::default() };
    let config = StageConfig { spec: parse(spec), fallback: fallback.map(parse), options };
    (Stage::open(config, None, Arc::new(move |frame| drop(sender.send(frame))), &Watch::new().0), frames)
}

fn await_frame(frames: &Receiver<Frame>, holds: impl Fn(&Frame) -> bool) -> Frame {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let frame = frames.recv_timeout(deadline.saturating_duration_since(Instant::now())).expect("a frame in time");
        if holds(&frame) {
            return frame;
        }
    }
}

#[test]
fn layers_come_as_one_frame() {
    let (stage, frames) = open("pattern + pattern?size=64x48&at=top-left&fps=10", None);
    let stage = stage.unwrap();
    assert_eq!(stage.describe(), "pattern 320x180 + pattern 64x48");
    stage.set_active(true);
    let first = frames.recv_timeout(DEADLINE).unwrap();
    assert_eq!((first.picture.size(), first.damage), (Size::new(320, 180), Damage::whole(Size::new(320, 180))));
    let both = await_frame(&frames, |frame| frame.overlays.len() == 1);
    assert_eq!(both.overlays[0].picture.size(), Size::new(64, 48));
    await_frame(&frames, |frame| frame.overlays[0].serial >= 5);
    stage.set_active(false);
    while frames.recv_timeout(Duration::from_millis(200)).is_ok() {}
}

#[test]
fn what_can_not_be_opened_is_an_error_unless_there_is_a_fallback() {
    let (stage, _frames) = open("image:/nowhere/slide.png", None);
    assert!(stage.unwrap_err().to_string().contains("/nowhere/slide.png"));
    let (stage, _frames) = open("image:/nowhere/slide.png", Some("file:/nowhere/lesson.mp4"));
    let error = format!("{:#}", anyhow::Error::from(stage.unwrap_err()));
    for path in ["/nowhere/slide.png", "/nowhere/lesson.mp4"] {
        assert_eq!(error.matches(path).count(), 1, "{error}");
    }
    let (stage, frames) = open("image:/nowhere/slide.png", Some("pattern?size=64x48"));
    let stage = stage.unwrap();
    assert_eq!(stage.describe(), "pattern 64x48 in the place of image:/nowhere/slide.png");
    assert!(matches!(&*stage.health().borrow(), Health::Lost { why } if why.contains("slide.png")));
    stage.set_active(true);
    assert_eq!(frames.recv_timeout(DEADLINE).unwrap().picture.size(), Size::new(64, 48));
}

#[test]
fn the_pause_card_is_given_to_each_who_comes() {
    let (stage, frames) = open("off", None);
    let stage = stage.unwrap();
    for _ in 0..2 {
        stage.set_active(true);
        assert_eq!(frames.recv_timeout(DEADLINE).unwrap().picture.size(), Size::new(320, 180));
        assert!(frames.recv_timeout(Duration::from_millis(200)).is_err(), "it stands still");
        stage.set_active(false);
    }
}

#[cfg(feature = "files")]
#[test]
fn sound_is_that_of_what_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let lesson = folder.path().join("lesson.mp4");
    let output = std::process::Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=s=64x48:d=2",
            "-f",
            "lavfi",
            "-i",
            "sine=d=2",
            "-c:a",
            "aac",
        ])
        .arg(&lesson)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let late = folder.path().join("late.mp4");
    let (stage, frames) = open(&format!("file:{}", late.display()), Some(&format!("file:{}?loop", lesson.display())));
    let stage = stage.unwrap();
    let (of_fallback, sounds) = (stage.sound(), stage.sounds());
    assert!(matches!(of_fallback, StageSound::Own(_)));
    stage.set_active(true);
    await_frame(&frames, |frame| frame.picture.size() == Size::new(64, 48));
    assert_eq!(stage.sound(), of_fallback);
    std::fs::copy(&lesson, &late).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let is_other = || matches!(stage.sound(), StageSound::Own(_)) && stage.sound() != of_fallback;
    // It is told, and not before it is so.
    while !(sounds.has_changed().unwrap() && is_other()) {
        assert!(Instant::now() < deadline, "the sound is still that of the fallback, or nobody was told");
        std::thread::yield_now();
    }

    for (source, sound) in [("image:/nowhere/a.png", StageSound::None), ("file:/nowhere/a.mp4", StageSound::Lost)] {
        let (stage, _frames) = open(source, Some("pattern"));
        assert_eq!(stage.unwrap().sound(), sound, "{source}");
    }
}
