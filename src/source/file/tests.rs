//! Lessons made by the command `ffmpeg`, decoded and played.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::lesson::{Lesson, Step};
use super::screen::{Painted, Screen};
use super::*;
use crate::frame::{Damage, Frame, Size};

mod played;
mod recorded;
mod sounding;

const DEADLINE: Duration = Duration::from_secs(20);
const H264: &[&str] = &["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"];
/// Black, white, red, green, blue, yellow, grey and a colour of everyday.
const BARS: [[u8; 3]; 8] =
    [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [128, 128, 128], [30, 90, 160]];

/// A folder for files that `ffmpeg` makes.
struct Made {
    folder: tempfile::TempDir,
}

impl Made {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `ffmpeg`; arguments in groups.
    fn file(&self, name: &str, arguments: &[&[&str]]) -> PathBuf {
        let path = self.path(name);
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-y", "-threads", "2"])
            .args(arguments.concat())
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        path
    }

    /// One colour for so many pictures, 25 a second.
    fn colour(&self, name: &str, colour: &str, pictures: u32) -> PathBuf {
        let source = format!("color=c={colour}:s=128x96:r=25");
        self.file(name, &[&["-f", "lavfi", "-i", &source, "-frames:v", &pictures.to_string()], H264])
    }

    /// The bars in pictures of this size, by these filters and this encoder.
    fn bars(&self, name: &str, size: Size, filters: &str, encoder: &[&str]) -> PathBuf {
        let raw: Vec<u8> = (0..size.height)
            .flat_map(|_| (0..size.width).flat_map(|x| BARS[(x * BARS.len() as u32 / size.width) as usize]))
            .collect();
        let path = self.path("bars.rgb");
        std::fs::write(&path, raw).unwrap();
        let input = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &size.to_string(), "-r", "25", "-stream_loop", "4"]
            .map(str::to_owned);
        let input: Vec<&str> = input.iter().map(String::as_str).collect();
        self.file(name, &[&input, &["-i", path.to_str().unwrap(), "-vf", filters], encoder])
    }
}

fn rgb(frame: &Frame, x: u32, y: u32) -> [u8; 3] {
    let at = y as usize * frame.picture.stride() + x as usize * 4;
    let pixel = &frame.picture.bytes()[at..at + 3];
    [pixel[2], pixel[1], pixel[0]]
}

/// Converts a picture.
fn painted(picture: &Picture) -> Frame {
    let mut screen = Screen::new();
    assert!(matches!(screen.paint(picture).unwrap(), Painted::Differs(_)));
    screen.frame(None, Instant::now()).unwrap()
}

/// All pictures of a lesson from where it is, `most` of them at most.
fn pictures(lesson: &mut Lesson, most: usize) -> Vec<Picture> {
    let (mut pictures, deadline) = (Vec::new(), Instant::now() + DEADLINE);
    while pictures.len() < most {
        match lesson.next_picture(None) {
            Step::Picture(picture) => pictures.push(picture),
            Step::End | Step::Gone(_) => break,
            Step::NotYet => {
                lesson.fill(Duration::from_secs(3600), None);
                std::thread::yield_now();
            }
        }
        assert!(Instant::now() < deadline, "pictures that never come");
    }
    pictures
}

fn lesson(path: &Path) -> Lesson {
    Lesson::open(path, false, Duration::ZERO).unwrap()
}

fn wrong(path: &Path, start: Duration) -> String {
    let (found, advice) = Lesson::open(path, false, start).err().unwrap();
    format!("{found}; {advice}")
}

/// Asserts that a picture has the bars; how far off the worst of them is.
fn assert_bars(path: &Path, most: u8) -> u8 {
    let frame = painted(&pictures(&mut lesson(path), 1)[0]);
    let size = frame.picture.size();
    let worst = BARS.iter().enumerate().map(|(number, bar)| {
        let x = (number as u32 * 2 + 1) * size.width / (BARS.len() as u32 * 2);
        let seen = rgb(&frame, x, size.height / 2);
        let off = (0..3).map(|at| seen[at].abs_diff(bar[at])).max().unwrap();
        assert!(off <= most, "{}: bar {bar:?} is {seen:?}", path.display());
        off
    });
    worst.max().unwrap()
}

#[test]
fn each_codec_shows_the_colours_of_its_source() {
    let (made, size) = (Made::new(), Size::new(384, 96));
    let with = |matrix: &str, range: &str, format: &str| {
        format!("scale=out_color_matrix={matrix}:out_range={range}:flags=accurate_rnd+full_chroma_int,format={format}")
    };
    let tag = |matrix: &'static str, range: &'static str| ["-colorspace", matrix, "-color_range", range];
    let x264 = ["-c:v", "libx264", "-qp", "4"];
    let vp9 = ["-c:v", "libvpx-vp9", "-b:v", "4M", "-deadline", "realtime", "-cpu-used", "8"];
    let av1 = ["-c:v", "libaom-av1", "-crf", "10", "-cpu-used", "8", "-usage", "realtime"];
    let cases: Vec<(&str, String, Vec<&str>)> = vec![
        ("h264-709.mp4", with("bt709", "tv", "yuv420p"), [&x264[..], &tag("bt709", "tv")].concat()),
        ("h264-601-full.mp4", with("bt601", "pc", "yuvj420p"), [&x264[..], &tag("smpte170m", "pc")].concat()),
        ("h264-unsaid.mkv", with("bt601", "tv", "yuv420p"), x264.to_vec()),
        ("h264-2020-10bit.mp4", with("bt2020", "tv", "yuv420p10le"), [&x264[..], &tag("bt2020nc", "tv")].concat()),
        ("h264-444.mp4", with("bt709", "tv", "yuv444p"), [&x264[..], &tag("bt709", "tv")].concat()),
        ("h264-rgb.mkv", "format=rgb24".to_owned(), vec!["-c:v", "libx264rgb", "-qp", "4"]),
        ("vp8.webm", with("bt601", "tv", "yuv420p"), vec!["-c:v", "libvpx", "-b:v", "4M", "-deadline", "realtime"]),
        ("vp9-709.webm", with("bt709", "tv", "yuv420p"), [&vp9[..], &tag("bt709", "tv")].concat()),
        ("vp9-601-full.webm", with("bt601", "pc", "yuv420p"), [&vp9[..], &tag("smpte170m", "pc")].concat()),
        ("av1-709.mp4", with("bt709", "tv", "yuv420p"), [&av1[..], &tag("bt709", "tv")].concat()),
        ("av1-601-full.mkv", with("bt601", "pc", "yuv420p"), [&av1[..], &tag("smpte170m", "pc")].concat()),
        ("mjpeg.avi", "format=yuvj420p".to_owned(), vec!["-c:v", "mjpeg", "-q:v", "2"]),
    ];
    for (name, filters, encoder) in cases {
        println!("{name}: off by {}", assert_bars(&made.bars(name, size, &filters, &encoder), 6));
    }
    // Where nothing is said, many rows are BT.709.
    let high = made.bars("high.mp4", Size::new(256, 720), &with("bt709", "tv", "yuv420p"), &x264);
    println!("high.mp4: off by {}", assert_bars(&high, 6));
}

#[test]
fn odd_sizes_wide_pixels_and_turned_pictures_are_shown_as_they_should_be() {
    let made = Made::new();
    let vp9 = ["-c:v", "libvpx-vp9", "-b:v", "4M", "-deadline", "realtime", "-cpu-used", "8"];
    let odd = made.bars("odd.webm", Size::new(333, 187), "format=yuv420p", &vp9);
    assert_bars(&odd, 6);
    assert_eq!(painted(&pictures(&mut lesson(&odd), 1)[0]).picture.size(), Size::new(333, 187));
    let wide = made.bars("wide.mp4", Size::new(160, 96), "format=yuv420p,setsar=2", &["-c:v", "libx264", "-qp", "4"]);
    assert_bars(&wide, 6);
    assert_eq!(painted(&pictures(&mut lesson(&wide), 1)[0]).picture.size(), Size::new(320, 96));
    let lying = made.bars("lying.mp4", Size::new(160, 96), "format=yuv420p", &["-c:v", "libx264", "-qp", "4"]);
    let rotated =
        made.file("turned.mp4", &[&["-i", lying.to_str().unwrap(), "-c", "copy", "-metadata:s:v", "rotate=90"]]);
    let frame = painted(&pictures(&mut lesson(&rotated), 1)[0]);
    assert_eq!(frame.picture.size(), Size::new(96, 160));
    // What was on the left (black) is at the top then, or at the bottom: ffmpeg's own player says which.
    let upright = made.file("upright.png", &[&["-i", rotated.to_str().unwrap(), "-frames:v", "1"]]);
    let upright = painted(&pictures(&mut lesson(&upright), 1)[0]);
    for y in [5, 30, 80, 130, 155] {
        let (ours, theirs) = (rgb(&frame, 48, y), rgb(&upright, 48, y));
        assert!((0..3).all(|at| ours[at].abs_diff(theirs[at]) <= 6), "row {y}: {ours:?}, not {theirs:?}");
    }
}

#[test]
fn pictures_come_in_the_order_of_their_times_whatever_the_order_in_the_file() {
    let made = Made::new();
    let source = ["-f", "lavfi", "-i", "testsrc=s=160x96:r=25:d=2"];
    let frames = ["-bf", "3", "-b_strategy", "0", "-g", "20"];
    for name in ["b.mp4", "b.mkv", "b.ts"] {
        let mut lesson = lesson(&made.file(name, &[&source, H264, &frames]));
        let times: Vec<u64> = pictures(&mut lesson, 100).iter().map(|picture| picture.at.as_micros() as u64).collect();
        assert_eq!(times.len(), 50, "{name}");
        for (number, at) in times.iter().enumerate() {
            assert!(at.abs_diff(number as u64 * 40_000) <= 1_000, "{name}: picture {number} at {at} us");
        }
        assert_eq!(lesson.movie().facts().codecs, ("h264", None), "{name}");
    }
}

#[test]
fn recordings_that_were_put_together_go_on_where_their_times_begin_anew() {
    let made = Made::new();
    let source = ["-f", "lavfi", "-i", "testsrc=s=160x96:r=25:d=2"];
    let once = std::fs::read(made.file("once.ts", &[&source, H264, &["-g", "25"]])).unwrap();
    std::fs::write(made.path("twice.ts"), [&once[..], &once].concat()).unwrap();
    let times: Vec<_> = pictures(&mut lesson(&made.path("twice.ts")), 200).iter().map(|picture| picture.at).collect();
    println!("{} pictures, the last at {:?}", times.len(), times.last());
    assert!((96..=100).contains(&times.len()), "{} pictures", times.len());
    let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(
        steps.clone().max().unwrap() < Duration::from_millis(130) && steps.min().unwrap() > Duration::from_millis(20)
    );
}

#[test]
fn a_folder_is_played_in_the_order_of_its_names_and_over_again() {
    let made = Made::new();
    made.colour("10 last.mp4", "blue", 7);
    made.colour("2 first.mp4", "red", 10);
    std::fs::write(made.path("3 broken.mp4"), "no video").unwrap();
    std::fs::write(made.path("notes.txt"), "").unwrap();
    let mut lesson = Lesson::open(made.folder.path(), true, Duration::ZERO).unwrap();
    let pictures = pictures(&mut lesson, 40);
    let reds: Vec<bool> = pictures.iter().map(|picture| rgb(&painted(picture), 64, 48)[0] > 200).collect();
    let round = [vec![true; 10], vec![false; 7]].concat();
    assert_eq!(reds, [&round[..], &round, &round[..6]].concat());
    for (number, picture) in pictures.iter().enumerate() {
        assert_eq!(picture.at, Duration::from_millis(40) * number as u32, "a gap before picture {number}");
    }
    let mut once = Lesson::open(made.folder.path(), false, Duration::ZERO).unwrap();
    assert_eq!(self::pictures(&mut once, 100).len(), 17);
}

#[test]
fn a_lesson_begins_where_it_is_asked_to() {
    let made = Made::new();
    let filter = "color=c=red:s=128x96:r=25:d=2[a];color=c=blue:s=128x96:r=25:d=2[b];[a][b]concat=n=2:v=1";
    for (name, keyframes) in [("many.mp4", "10"), ("few.mp4", "1000"), ("few.mkv", "1000"), ("few.webm", "1000")] {
        let encoder: &[&str] =
            if name.ends_with("webm") { &["-c:v", "libvpx", "-b:v", "1M", "-deadline", "realtime"] } else { H264 };
        let path = made.file(name, &[&["-filter_complex", filter], encoder, &["-g", keyframes]]);
        for (millis, is_red, count) in [(1_500, true, 63), (3_000, false, 25), (3_990, false, 1)] {
            let mut lesson = Lesson::open(&path, false, Duration::from_millis(millis)).unwrap();
            let pictures = pictures(&mut lesson, 200);
            let [red, _, blue] = rgb(&painted(&pictures[0]), 64, 48);
            assert_eq!(red > blue, is_red, "{name} at {millis}");
            assert!(pictures.len().abs_diff(count) <= 1, "{name} at {millis}: {} pictures", pictures.len());
            assert_eq!(pictures[0].at, Duration::ZERO);
        }
        let found = wrong(&path, Duration::from_secs(5));
        assert!(found.contains("only 4.0 s long") && found.contains("start"), "{name}: {found}");
    }
}

#[test]
fn what_can_not_be_shown_is_refused_with_the_reason() {
    let made = Made::new();
    let tone = ["-f", "lavfi", "-i", "sine=d=1"];
    let alone = made.file("alone.m4a", &[&tone, &["-c:a", "aac"]]);
    std::fs::write(made.path("text.mp4"), "this is no video at all\n".repeat(100)).unwrap();
    let whole = std::fs::read(made.colour("whole.mp4", "red", 50)).unwrap();
    std::fs::write(made.path("cut.mp4"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(made.path("list.m3u8"), "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n").unwrap();
    for (path, word) in [
        (alone, "it has no video"),
        (made.path("text.mp4"), "no video that FFmpeg can read"),
        (made.path("cut.mp4"), "no video that FFmpeg can read"),
        (made.path("list.m3u8"), "no video that FFmpeg can read"),
        (made.path("none.mp4"), "no such file"),
        (PathBuf::from("/dev/zero"), "special file"),
    ] {
        let found = wrong(&path, Duration::ZERO);
        assert!(found.contains(word), "{}: {found}", path.display());
    }
    let error = open(
        &made.path("text.mp4"),
        false,
        Duration::ZERO,
        &SourceOptions::default(),
        Arc::new(|_| {}),
        &Watch::new().0,
    );
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with("source file:/") && message.lines().count() == 1, "{message}");
}

#[test]
fn a_file_that_was_cut_off_is_played_as_far_as_it_goes_and_that_is_known() {
    let made = Made::new();
    let source = ["-f", "lavfi", "-i", "testsrc=s=320x180:r=25:d=4", "-f", "lavfi", "-i", "sine=d=4"];
    let vp8 = ["-c:v", "libvpx", "-deadline", "realtime", "-b:v", "1M", "-c:a", "libopus"];
    for (name, encoder) in [("whole.mp4", H264), ("whole.mkv", H264), ("whole.webm", &vp8)] {
        let whole = made.file(name, &[&source, encoder, &["-g", "25", "-movflags", "+faststart"]]);
        let bytes = std::fs::read(&whole).unwrap();
        let cut = made.path(&name.replace("whole", "cut"));
        std::fs::write(&cut, &bytes[..bytes.len() * 4 / 10]).unwrap();
        for (file, is_cut) in [(&cut, true), (&whole, false)] {
            let mut lesson = lesson(file);
            let count = pictures(&mut lesson, 200).len();
            assert_eq!((10..90).contains(&count), is_cut, "{}: {count} pictures", file.display());
            let missing = is_cut.then(|| (bytes.len() - bytes.len() * 4 / 10) as u64);
            assert_eq!(lesson.movie().missing(), missing, "{}", file.display());
        }
    }
}

#[test]
fn a_damaged_file_is_played_as_far_as_it_can_be() {
    let made = Made::new();
    let source = ["-f", "lavfi", "-i", "testsrc=s=320x180:r=25:d=4"];
    let flags = ["-g", "25", "-movflags", "+faststart"];
    let mut bytes = std::fs::read(made.file("whole.mp4", &[&source, H264, &flags])).unwrap();
    // A hole in the middle.
    let length = bytes.len();
    for byte in &mut bytes[length / 2..length / 2 + 3_000] {
        *byte ^= 0x5a;
    }
    let hole = made.path("hole.mp4");
    std::fs::write(&hole, &bytes).unwrap();
    let mut lesson = lesson(&hole);
    let pictures = pictures(&mut lesson, 200);
    let last = pictures.last().unwrap().at;
    println!(
        "{} pictures of a file with a hole, {} errors, the last at {last:?}",
        pictures.len(),
        lesson.movie().errors()
    );
    assert!(pictures.len() > 60 && (3_900..4_100).contains(&last.as_millis()), "it ended at {last:?}");
}

#[test]
fn a_picture_of_which_only_a_part_was_converted_is_the_same_as_one_that_was_converted_whole() {
    let made = Made::new();
    let source = ["-f", "lavfi", "-i", "testsrc=s=318x182:r=25:d=2"];
    let mut screen = Screen::new();
    let (mut held, mut parts) = (Vec::new(), 0);
    for (number, picture) in pictures(&mut lesson(&made.file("a.mp4", &[&source, H264])), 100).iter().enumerate() {
        let Painted::Differs(damage) = screen.paint(picture).unwrap() else { continue };
        parts += u32::from(damage != Damage::whole(Size::new(318, 182)));
        let frame = screen.frame(Some(damage), Instant::now()).unwrap();
        assert!(frame.picture.bytes() == painted(picture).picture.bytes(), "picture {number}");
        // Readers of different patience, so that stores are out of date by more than one picture.
        held.push(frame);
        if number % 3 == 0 || held.len() > 2 {
            held.remove(0);
        }
    }
    println!("{parts} pictures differed in a part");
    assert!(parts > 0);
}

/// `cargo test --release cost_of_a_lesson -- --ignored --nocapture`
#[test]
#[ignore = "measures; run it alone"]
fn cost_of_a_lesson() {
    let made = Made::new();
    let moving: &[&str] = &["-f", "lavfi", "-i", "testsrc2=s=1920x1080:r=30:d=8"];
    let slides: &[&str] = &["-f", "lavfi", "-i", "testsrc=s=1920x1080:r=30:d=8"];
    let x264: &[&str] = &["-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p", "-b:v", "4M"];
    let vp9: &[&str] = &["-c:v", "libvpx-vp9", "-b:v", "4M", "-deadline", "realtime", "-cpu-used", "8"];
    for (name, source, encoder) in
        [("moving.mp4", moving, x264), ("slides.mp4", slides, x264), ("moving.webm", moving, vp9)]
    {
        let mut lesson = lesson(&made.file(name, &[source, encoder]));
        let (mut screen, mut decoding, mut converting, mut count) = (Screen::new(), Duration::ZERO, Duration::ZERO, 0);
        loop {
            let before = cpu();
            let Some(picture) = pictures(&mut lesson, 1).pop() else { break };
            let decoded = cpu();
            screen.paint(&picture).unwrap();
            (decoding, converting, count) = (decoding + (decoded - before), converting + (cpu() - decoded), count + 1);
        }
        let each = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(count);
        println!("{name} 1080p: decoding {:.2} ms, converting {:.2} ms a picture", each(decoding), each(converting));
    }
}

/// What this process has used of the processors.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
