//! (d) What a picture of each source costs until the encoder has it, what composition costs, and how long a switch takes.
//!
//! Costs are CPU time of the thread that works, so that whatever else runs on the machine doesn't count.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use laterna::alive::Watch;
use laterna::frame::canvas::{Canvas, FitMode};
use laterna::frame::overlay::{Layer, Placement};
use laterna::frame::{Damage, Frame, Picture, Size};
use laterna::source::{Source, SourceOptions, SourceSpec};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::delay::Bench;
use crate::report::{Percentiles, Report, percent};
use crate::support::browser::Browser;
use crate::support::daemon::{Setup, binary};
use crate::support::xclient::{XClient, unix_millis};
use crate::support::xvfb::Xvfb;
use crate::{Effort, SCREEN};

/// Pictures that are composed for one figure.
const COMPOSED: u32 = 200;
/// Switches of one run.
const SWITCHES: usize = 20;
/// The bar for a switch between sources that are open or quick to open (issue: on screens within 300 ms).
const SWITCH_BAR: f64 = 300.0;

/// Measures sources, composition, lessons and switches.
pub fn measure(effort: Effort, report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let lessons = Lessons::make(folder.path());
    sources(&lessons, effort, report);
    composition(report);
    passing(&lessons, effort, report);
    switches(report);
}

/// Recorded lessons of 1080p30, by `ffmpeg`.
struct Lessons {
    /// H.264 with B pictures.
    high: PathBuf,
    vp9: PathBuf,
    /// What can be sent as it is.
    baseline: PathBuf,
    slide: PathBuf,
}

impl Lessons {
    fn make(folder: &Path) -> Self {
        let make = |name: &str, arguments: &[&str]| {
            let path = folder.join(name);
            let source = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=1920x1080:r=30:d=8", "-pix_fmt", "yuv420p"];
            let made = Command::new("ffmpeg").args(source).args(arguments).arg(&path).status().unwrap();
            assert!(made.success(), "{name}");
            path
        };
        let x264 =
            ["-c:v", "libx264", "-preset", "veryfast", "-b:v", "2M", "-maxrate", "2M", "-bufsize", "1M", "-g", "30"];
        Self {
            high: make("high.mp4", &x264),
            vp9: make("vp9.webm", &["-c:v", "libvpx-vp9", "-b:v", "2M", "-deadline", "realtime", "-cpu-used", "8"]),
            baseline: make(
                "baseline.mp4",
                &[&x264[..], &["-profile:v", "baseline", "-colorspace", "bt709", "-color_range", "tv"]].concat(),
            ),
            slide: make("slide.png", &["-frames:v", "1"]),
        }
    }
}

/// What the thread or the process that `clock` is of has used of the processors, in milliseconds.
fn used(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// What the threads of this process with that name have used, in milliseconds (proc(5), schedstat).
fn used_by(name: &str) -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |path: PathBuf| {
        let is_it = std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| name.starts_with(comm.trim()));
        let stat = std::fs::read_to_string(path.join("schedstat")).ok().filter(|_| is_it)?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    threads.filter_map(|thread| of(thread.path())).sum::<f64>() / 1e6
}

/// How many frames come within this time.
fn frames(came: &mpsc::Receiver<()>, within: Duration) -> u32 {
    let end = Instant::now() + within;
    std::iter::from_fn(|| came.recv_timeout(end.saturating_duration_since(Instant::now())).ok()).map(|()| 1).sum()
}

/// Milliseconds of a core for each picture of each source.
fn sources(lessons: &Lessons, effort: Effort, report: &mut Report) {
    let screen = Xvfb::start(SCREEN.0, SCREEN.1);
    let file = |path: &Path| format!("file:{}?loop", path.display());
    let cases = [
        ("screen, typing", "screen".to_owned(), Some("capture-x11")),
        ("screen, scrolling", "screen".to_owned(), Some("capture-x11")),
        ("pattern", "pattern".to_owned(), Some("capture-pattern")),
        // Decoders have threads of their own, which come and go.
        ("lesson, H.264", file(&lessons.high), None),
        ("lesson, VP9", file(&lessons.vp9), None),
    ];
    for (name, spec, thread) in cases {
        let drawing = thread.map(|_| {
            let mut client = XClient::open(&screen.display());
            client.fill_with_text();
            client.draw_steadily(20, if name.ends_with("typing") { XClient::type_letter } else { XClient::scroll })
        });
        let (sender, came) = mpsc::sync_channel(1 << 16);
        let sink = Arc::new(move |_: Frame| sender.send(()).unwrap_or_default());
        let layer = SourceSpec::parse(&spec).unwrap().base;
        let size = Some(Size::new(u32::from(SCREEN.0), u32::from(SCREEN.1)));
        let options = SourceOptions { size, ..SourceOptions::default() };
        let source = Source::open_on(Some(&screen.display()), &layer, &options, sink, &Watch::new().0).unwrap();
        source.set_active(true);
        frames(&came, effort.warm);
        let used = || thread.map_or_else(|| used(ClockId::ProcessCPUTime), used_by);
        let before = used();
        let frames = frames(&came, effort.drawing / 3);
        let cpu = used() - before;
        drawing.into_iter().for_each(|drawing| drop(drawing.stop()));
        report.add(&format!("{name}: CPU a picture"), "ms", cpu / f64::from(frames.max(1)), None, None);
    }
    // A still picture costs nothing at all once it was shown.
    let layer = SourceSpec::parse(&format!("image:{}", lessons.slide.display())).unwrap().base;
    let begun = used(ClockId::ProcessCPUTime);
    let source = Source::open_on(None, &layer, &SourceOptions::default(), Arc::new(|_| ()), &Watch::new().0).unwrap();
    source.set_active(true);
    report.add("image: CPU to open it", "ms", used(ClockId::ProcessCPUTime) - begun, None, None);
}

/// Milliseconds of a core for what the canvas does with a 1080p picture.
fn composition(report: &mut Report) {
    let (size, camera) = (Size::new(1920, 1080), Size::new(640, 480));
    let noise = |size: Size, seed: u32| {
        let pixels = (0..size.width * size.height).flat_map(|at| (at.wrapping_mul(seed) >> 3).to_le_bytes());
        Picture::new(Arc::new(pixels.collect::<Vec<u8>>()), size, size.width as usize * 4).unwrap()
    };
    let (shown, cameras) = (noise(size, 2_654_435_761), [noise(camera, 40_503), noise(camera, 69_069)]);
    let mut cost = |name: &str, is_whole: bool, has_overlay: bool| {
        let mut canvas = Canvas::new(size, FitMode::Letterbox);
        canvas.compose(&Frame::new(shown.clone(), Damage::whole(size), Instant::now()));
        let begun = used(ClockId::ThreadCPUTime);
        for serial in 0..COMPOSED {
            let damage = if is_whole { Damage::whole(size) } else { Damage::none() };
            let picture = cameras[serial as usize % 2].clone();
            let layer = Layer { picture, place: Placement::default(), serial: u64::from(serial) };
            let overlays = if has_overlay { vec![layer] } else { Vec::new() };
            canvas.compose(&Frame { overlays, ..Frame::new(shown.clone(), damage, Instant::now()) });
        }
        let each = (used(ClockId::ThreadCPUTime) - begun) / f64::from(COMPOSED);
        report.add(&format!("composition, {name}: CPU a picture"), "ms", each, None, None);
    };
    cost("a whole screen", true, false);
    cost("a camera over a still screen", false, true);
    cost("a camera over a whole screen", true, true);
}

/// What the daemon takes for a lesson that is sent as it is recorded, and for the same encoded again.
fn passing(lessons: &Lessons, effort: Effort, report: &mut Report) {
    for (name, lesson) in [("encoded again", &lessons.high), ("sent as recorded", &lessons.baseline)] {
        let source = format!("file:{}?loop", lesson.display());
        let daemon = Setup::new(&["--source", &source, "--codec", "h264", "--audio", "off"]).start();
        let browser = Browser::start();
        browser.open(&daemon.page());
        browser.run::<String>("return lt.state(['playing'], 20000)", &[]);
        browser.run::<Value>("return lt.pass(args[0])", &[json!(effort.warm.as_millis() as u64)]);
        let (begun, before) = (Instant::now(), daemon.cpu());
        browser.run::<Value>("return lt.pass(args[0])", &[json!((effort.drawing / 3).as_millis() as u64)]);
        let cpu = percent(daemon.cpu().saturating_sub(before), begun.elapsed());
        report.add(&format!("lesson 1080p30, {name}: CPU"), "% of a core", cpu, None, None);
    }
}

/// A number of the strip, when it was drawn (by the strip) and when it was shown.
#[derive(Deserialize)]
struct Seen {
    millis: u32,
    at: f64,
}

/// From the command to the first picture of the other source in Chromium, back and forth.
fn switches(report: &mut Report) {
    let (bench, client) = Bench::open();
    let control = bench.daemon.setup().control();
    let drawing = client.draw_steadily(20, XClient::type_letter);
    bench.browser.run::<Value>("lt.watch(...args)", &[json!([SCREEN.0, SCREEN.1])]);
    let (mut took, mut last, mut gap) = (Vec::new(), None::<f64>, 0.0_f64);
    for round in 0..SWITCHES {
        let (to, is_pattern) = if round % 2 == 0 { ("pattern", true) } else { ("screen", false) };
        let asked = unix_millis();
        let done = Command::new(binary()).args(["switch", to]).env("LATERNA_CONTROL", &control).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        // The pattern counts from its opening, X clients show the time of day.
        let script = "const other = () => lt.seen.filter((seen) => (seen.millis < 3600000) === args[0]).length >= 5;
                      await lt.until(other, 20000, () => 'the other source');
                      return lt.take()";
        let seen: Vec<Seen> = bench.browser.run(script, &[json!(is_pattern)]);
        for one in &seen {
            gap = gap.max(last.map_or(0.0, |last| one.at - last));
            last = Some(one.at);
        }
        let first = seen.iter().find(|seen| (seen.millis < 3_600_000) == is_pattern && seen.at >= asked).unwrap();
        took.push(first.at - asked);
    }
    drawing.stop();
    let values = Percentiles::of(took).unwrap();
    report.add_percentiles("switch: command to the other picture", values, None, [Some(SWITCH_BAR); 2]);
    report.add("switch: largest gap between pictures", "ms", gap, None, None);
}
