//! Recorded lessons, as a viewer sees and hears them.
#![cfg(feature = "files")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::says;
use crate::heard::hears;
use crate::stage::{SOON, Stage, millis};
use crate::support::daemon::Setup;
use crate::support::heavy;

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
