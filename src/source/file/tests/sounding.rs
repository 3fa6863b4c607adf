//! The sound of lessons, and that it goes with the pictures.

use super::*;
use crate::audio::feed::time_of;
use crate::audio::{CHANNELS, SAMPLE_RATE};

/// Where the flash begins, and the beep.
const FLASH: Duration = Duration::from_secs(1);

/// Three seconds: black and silent, but for a tenth of a second after the first.
fn flash_and_beep(made: &Made, name: &str, encoders: &[&str]) -> PathBuf {
    let picture = "color=c=black:s=160x96:r=25:d=3,drawbox=c=white:t=fill:enable='between(t,0.99,1.09)'";
    let beep = "if(between(t,1,1.1),0.5*sin(2*PI*1000*t),0)";
    let sound = format!("aevalsrc='{beep}|{beep}':s=44100:d=3");
    made.file(name, &[&["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", &sound], encoders])
}

/// All samples of one channel, by their numbers.
fn heard(lesson: &mut Lesson) -> Vec<i16> {
    let mut all = Vec::new();
    while lesson.listen(&mut |at, samples: &[i16]| {
        all.resize((at as usize).max(all.len()), 0);
        all.extend(samples.iter().step_by(CHANNELS));
    }) {}
    all
}

#[test]
fn words_go_with_lips_in_each_container() {
    let made = Made::new();
    let vpx: &[&str] = &["-b:v", "1M", "-deadline", "realtime"];
    let (aac, opus): (&[&str], &[&str]) = (&["-c:a", "aac"], &["-c:a", "libopus"]);
    let x264 = [H264, &["-bf", "2"]].concat();
    let vp8 = [&["-c:v", "libvpx"], vpx].concat();
    let vp9 = [&["-c:v", "libvpx-vp9", "-cpu-used", "8"], vpx].concat();
    let av1 = ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-pix_fmt", "yuv420p"];
    for (name, encoders) in [
        ("h264-aac.mp4", [&x264[..], aac].concat()),
        ("h264-opus.mkv", [&x264[..], opus].concat()),
        ("h264-aac.ts", [&x264[..], aac].concat()),
        ("vp8-opus.webm", [&vp8[..], opus].concat()),
        ("vp9-opus.webm", [&vp9[..], opus].concat()),
        ("av1-aac.mp4", [&av1[..], aac].concat()),
    ] {
        let path = flash_and_beep(&made, name, &encoders);
        let mut lesson = lesson(&path);
        assert!(lesson.feed().is_some(), "{name}");
        let sound = heard(&mut lesson);
        let beep = sound.iter().position(|sample| sample.unsigned_abs() > 3_000).map(|at| time_of(at as u64));
        let flash = pictures(&mut lesson, 200).into_iter().find(|picture| rgb(&painted(picture), 80, 48)[1] > 128);
        let (beep, flash) = (beep.expect("no beep"), flash.expect("no flash").at);
        let off = beep.as_secs_f64() - flash.as_secs_f64();
        println!("{name}: flash at {flash:?}, beep at {beep:?}: {:+.1} ms", off * 1e3);
        assert!(off.abs() < 0.04, "{name}: {off} s apart");
        assert!(flash.abs_diff(FLASH) < Duration::from_millis(60), "{name}: flash at {flash:?}");
        let length = sound.len().abs_diff(3 * SAMPLE_RATE as usize);
        assert!(length < SAMPLE_RATE as usize / 20, "{name}: {} samples", sound.len());
    }
}

#[test]
fn a_tone_has_no_break_and_goes_on_from_file_to_file() {
    let made = Made::new();
    for name in ["1.mkv", "2.mkv"] {
        let inputs = ["-f", "lavfi", "-i", "color=s=64x48:r=25:d=2", "-f", "lavfi", "-i"];
        // 44.1 kHz in packets whose times are rounded to a millisecond.
        made.file(name, &[&inputs, &["sine=f=441:r=44100:d=2"], H264, &["-c:a", "pcm_s16le"]]);
    }
    let mut lesson = Lesson::open(made.folder.path(), false, Duration::ZERO).unwrap();
    let sound = heard(&mut lesson);
    assert!(sound.len().abs_diff(96_000) <= 64, "{} samples", sound.len());
    let largest = sound.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max().unwrap();
    let peak = sound.iter().map(|sample| i32::from(sample.unsigned_abs())).max().unwrap();
    // The steepest step of a sine of 441 Hz at 48 kHz.
    assert!(f64::from(largest) < f64::from(peak) * 0.065 && peak > 3_900, "a step of {largest} at a peak of {peak}");
    let mut lesson = Lesson::open(made.folder.path(), false, Duration::ZERO).unwrap();
    assert_eq!(pictures(&mut lesson, 200).len(), 100, "of both files");
}

#[test]
fn a_lesson_without_sound_has_no_feed_and_a_folder_has_one_where_a_file_has_sound() {
    let made = Made::new();
    let mute = made.colour("1.mp4", "red", 5);
    assert!(lesson(&mute).feed().is_none());
    let inputs = ["-f", "lavfi", "-i", "color=s=64x48:r=25:d=1", "-f", "lavfi", "-i", "sine=d=1"];
    made.file("2.mp4", &[&inputs, H264, &["-c:a", "aac"]]);
    let mut lesson = lesson(made.folder.path());
    assert!(lesson.feed().is_some());
    assert_eq!(pictures(&mut lesson, 100).len(), 30);
}
