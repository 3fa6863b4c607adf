//! Recorded lessons, as a viewer sees and hears them.
#![cfg(feature = "files")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control::{json_of, says};
use crate::heard::hears;
use crate::stage::{SOON, Stage, millis};
use crate::support::daemon::Setup;
use crate::support::heavy;
use crate::switching::image;

const SIZE: (u16, u16) = (640, 360);
const H264: &[&str] = &["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"];
const VP9: &[&str] =
    &["-c:v", "libvpx-vp9", "-b:v", "1M", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"];

/// Makes a lesson: one colour with a tone, for so many seconds.
fn lesson(folder: &Path, name: &str, colour: &str, seconds: u32, encoders: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let picture = format!("color=c={colour}:s={}x{}:r=25:d={seconds}", SIZE.0, SIZE.1);
    let sound = format!("sine=f=1000:r=44100:d={seconds},volume=4");
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y", "-f", "lavfi", "-i", &picture])
        .args(["-f", "lavfi", "-i", &sound])
        .args(encoders)
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    path
}

/// Awaits that the page shows this colour.
fn awaits(stage: &Stage, rgb: [u8; 3]) {
    let script = "const shown = () => lt.colours([args[0]], args[2])[0];
                  const near = () => shown().every((part, at) => Math.abs(part - args[1][at]) < 8);
                  await lt.until(near, args[3], () => `${args[1]}, it is ${shown()}`)";
    let middle = json!([SIZE.0 / 2, SIZE.1 / 2]);
    stage.browser.run::<Value>(script, &[middle, json!(rgb), stage.size(), millis(SOON)]);
}

#[test]
fn a_lesson_is_seen_in_its_colours_and_heard() {
    let _machine = heavy();
    let folder = tempfile::tempdir().unwrap();
    for (name, encoders) in [("a lesson.mp4", H264), ("lesson.webm", VP9)] {
        let path = lesson(folder.path(), name, "0x1E5AA0", 3, encoders);
        let stage = Stage::open(&Setup::new(&["--source", &format!("file:{}?loop", path.display())]), SIZE);
        awaits(&stage, [30, 90, 160]);
        hears(&stage);
        stage.daemon.logged(&["ready", "file"], Duration::ZERO);
        // The sound of another source, and the same after a while of none, is no past.
        let control = stage.daemon.setup().control();
        says(&control, &["switch", "pattern"]);
        stage.browser.run::<Value>("return lt.pass(args[0])", &[millis(Duration::from_secs(8))]);
        says(&control, &["switch", &format!("file:{}?loop", path.display())]);
        awaits(&stage, [30, 90, 160]);
        hears(&stage);
    }
}

#[test]
fn the_sound_is_that_of_what_is_shown_whether_it_comes_late_or_as_the_fallback() {
    let _machine = heavy();
    let folder = tempfile::tempdir().unwrap();
    let [late, ahead] = ["late.mp4", "ahead.mp4"].map(|name| folder.path().join(name));
    let instead = lesson(folder.path(), "instead.mp4", "red", 3, H264);
    lesson(folder.path(), "ahead.mp4", "0x1E5AA0", 3, H264);
    let [source, fallback] = [&late, &instead].map(|path| format!("file:{}?loop", path.display()));
    let stage = Stage::open(&Setup::new(&["--source", &source, "--fallback", &fallback, "--audio", "auto"]), SIZE);
    awaits(&stage, [255, 0, 0]);
    hears(&stage);
    std::fs::rename(ahead, &late).unwrap();
    awaits(&stage, [30, 90, 160]);
    hears(&stage);
    std::fs::remove_file(&late).unwrap();
    awaits(&stage, [255, 0, 0]);
    hears(&stage);
}

/// The counts of the H.264 encoder: pictures, and those of them that were sent as they are recorded.
fn pictures(stage: &Stage) -> (u64, u64) {
    let status = json_of(&stage.daemon.setup().control(), &["status", "--json"]);
    let encoder = status["encoders"].as_array().unwrap().iter().find(|encoder| encoder["codec"] == "h264").unwrap();
    (encoder["units"].as_u64().unwrap(), encoder["passed"].as_u64().unwrap())
}

/// Awaits that this holds of the counts; what they are then.
fn awaits_pictures(stage: &Stage, what: &str, holds: impl Fn((u64, u64)) -> bool) -> (u64, u64) {
    let deadline = Instant::now() + SOON;
    loop {
        let now = pictures(stage);
        if holds(now) {
            return now;
        }
        assert!(Instant::now() < deadline, "{what}: {now:?}");
        stage.browser.run::<Value>("return lt.pass(args[0])", &[millis(Duration::from_millis(100))]);
    }
}

#[test]
fn a_lesson_that_fits_is_sent_as_it_is_recorded_until_something_stands_over_it() {
    let _machine = heavy();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lesson.mp4");
    // Constrained baseline, a keyframe each second, a white box that wanders.
    let picture = "color=c=0x1E5AA0:s=640x360:r=25:d=60[below];color=white:s=60x40:r=25:d=60[above];[below][above]overlay=x=mod(n\\,560):y=20";
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y", "-f", "lavfi", "-i", picture, "-c:v", "libx264"])
        .args(["-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "25", "-colorspace", "smpte170m"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let source = format!("file:{}?loop", path.display());
    let stage = Stage::open(&Setup::new(&["--source", &source, "--codec", "h264"]), SIZE);
    awaits(&stage, [30, 90, 160]);
    let before = awaits_pictures(&stage, "nothing is passed on", |(_, passed)| passed > 0);
    let after = awaits_pictures(&stage, "it goes on", |(_, passed)| passed >= before.1 + 60);
    let encoded = (after.0 - after.1) - (before.0 - before.1);
    println!("{} pictures passed on, {encoded} encoded meanwhile", after.1 - before.1);
    assert!(encoded <= 1, "{encoded} pictures were encoded though they could be sent as they are");
    awaits(&stage, [30, 90, 160]);
    let stats = stage.stats();
    println!("{stats}");

    let control = stage.daemon.setup().control();
    let red = image(folder.path(), "red.png", "red", "64x64");
    says(&control, &["switch", &format!("{source} + image:{red}?at=bottom-right")]);
    let at_switch = pictures(&stage);
    let with_layer = awaits_pictures(&stage, "it is encoded", |(units, _)| units >= at_switch.0 + 40);
    assert_eq!(with_layer.1, at_switch.1, "what stands over it is not recorded");
    says(&control, &["switch", &source]);
    awaits_pictures(&stage, "it is passed on again", |(_, passed)| passed > with_layer.1);
    awaits(&stage, [30, 90, 160]);
}

#[test]
fn a_folder_goes_on_from_lesson_to_lesson_over_one_connection() {
    let _machine = heavy();
    let folder = tempfile::tempdir().unwrap();
    lesson(folder.path(), "10.webm", "blue", 3, VP9);
    lesson(folder.path(), "9.mp4", "red", 3, H264);
    let source = format!("file:{}?loop", folder.path().display());
    let stage = Stage::open(&Setup::new(&["--source", &source, "--audio", "file"]), SIZE);
    for _ in 0..2 {
        awaits(&stage, [255, 0, 0]);
        awaits(&stage, [0, 0, 255]);
    }
    hears(&stage);
    stage.daemon.logged(&["10.webm follows"], SOON);
}

#[test]
fn what_is_no_lesson_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.mp4");
    std::fs::write(&text, "no video").unwrap();
    for (source, words) in [
        (format!("file:{}", text.display()), "no video that FFmpeg can read"),
        (format!("file:{}", folder.path().join("none.mp4").display()), "no such file"),
        (format!("image:{}", text.display()), "no image that FFmpeg can read"),
        ("file:/dev/zero".to_owned(), "special file"),
    ] {
        let failure = Setup::new(&["--source", &source]).fail();
        let message = failure.stderr.join("\n");
        assert_eq!(failure.status.code(), Some(1), "{message}");
        assert!(failure.stderr.iter().any(|line| line.contains(words) && line.contains(&source)), "{message}");
    }
}
