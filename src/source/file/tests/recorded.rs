//! Recorded pictures that are sent as they are.

use super::*;
use crate::frame::coded::{Coded, Coding};

const SOURCE: &[&str] = &["-f", "lavfi", "-i", "testsrc=s=160x96:r=25:d=2"];
const BASELINE: &[&str] = &["-profile:v", "baseline"];

/// The pixels that are shown of a file of so many pictures.
fn shown(path: &Path) -> Vec<u8> {
    let decode = ["-f", "rawvideo", "-fps_mode", "passthrough", "-"];
    let output = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(path).args(decode).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Asserts that recorded pictures show what their file does.
fn assert_shown(made: &Made, rows: &[&Coded], file: &Path) {
    let vp8 = rows[0].coding == Coding::Vp8;
    let sent = made.path(if vp8 { "sent.ivf" } else { "sent.h264" });
    let bytes: Vec<u8> = if vp8 { ivf(rows) } else { rows.iter().flat_map(|row| row.data.to_vec()).collect() };
    std::fs::write(&sent, bytes).unwrap();
    assert!(shown(&sent) == shown(file), "{}: other pictures", file.display());
}

#[test]
fn what_could_be_sent_as_it_is_recorded_comes_with_its_pictures_and_nothing_else_does() {
    let made = Made::new();
    let (source, baseline, often) = (SOURCE, BASELINE, &["-g", "20", "-sc_threshold", "0"][..]);
    let vp8: &[&str] = &["-c:v", "libvpx", "-auto-alt-ref", "0", "-g", "20"];
    let files = [
        made.file("baseline.mp4", &[source, H264, baseline, often]),
        made.file("baseline.mkv", &[source, H264, baseline, often]),
        made.file("vp8.webm", &[source, vp8]),
    ];
    for file in &files {
        let pictures = pictures(&mut lesson(file), 100);
        let rows: Vec<_> = pictures.iter().map(|picture| picture.coded.as_deref().unwrap()).collect();
        assert_eq!(rows.len(), 50, "{}", file.display());
        assert!(rows.windows(2).all(|pair| pair[1].serial == pair[0].serial.next()), "{}", file.display());
        let keyframes: Vec<_> = (0..50).filter(|at| rows[*at].keyframe).collect();
        assert_eq!(keyframes, [0, 20, 40], "{}", file.display());
        assert_shown(&made, &rows, file);
    }
    let lying = ["-i", files[0].to_str().unwrap(), "-c", "copy", "-metadata:s:v", "rotate=180"];
    let never = [
        made.file("high.mp4", &[source, H264, &["-bf", "0"]]),
        made.file("wide.mp4", &[source, H264, baseline, &["-vf", "setsar=2"]]),
        made.file("turned.mp4", &[&lying]),
        made.file("full.mp4", &[source, H264, baseline, &["-color_range", "pc"]]),
        made.file("high-unsaid.mp4", &[source, H264, baseline, &["-vf", "scale=-2:720"]]),
    ];
    for file in &never {
        let mut screen = Screen::new();
        for picture in pictures(&mut lesson(file), 5) {
            screen.paint(&picture).unwrap();
            assert!(!screen.is_coded(), "{}", file.display());
        }
    }
}

/// A file of VP8 frames.
fn ivf(frames: &[&Coded]) -> Vec<u8> {
    let mut file = b"DKIF\0\0\x20\0VP80\xa0\0\x60\0\x19\0\0\0\x01\0\0\0".to_vec();
    file.extend([frames.len() as u32, 0].iter().flat_map(|number| number.to_le_bytes()));
    for (number, frame) in frames.iter().enumerate() {
        file.extend((frame.data.len() as u32).to_le_bytes());
        file.extend((number as u64).to_le_bytes());
        file.extend(&frame.data);
    }
    file
}

/// The boxes of a file, or of a box (ISO/IEC 14496-12, 4.2).
fn boxes(mut bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut boxes = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>() {
        let (whole, rest) = bytes.split_at(u32::from_be_bytes(*length) as usize);
        boxes.push((&whole[4..8], &whole[8..]));
        bytes = rest;
    }
    boxes
}

/// Makes another content of a box of this kind.
type Edit<'a> = dyn FnMut(&[u8], &[u8]) -> Vec<u8> + 'a;

/// The same with what `edit` makes of the boxes that have no others in them.
fn edited(bytes: &[u8], edit: &mut Edit<'_>) -> Vec<u8> {
    let mut edited_bytes = Vec::new();
    for (kind, content) in boxes(bytes) {
        let is_outer = [&b"moov"[..], b"trak", b"mdia", b"minf", b"stbl"].contains(&kind);
        let content = if is_outer { edited(content, edit) } else { edit(kind, content) };
        edited_bytes.extend((content.len() as u32 + 8).to_be_bytes());
        edited_bytes.extend([kind, &content].concat());
    }
    edited_bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Two recordings of as many pictures in one file, each with its own sample description, as some editors join them.
fn joined(made: &Made, first: &Path, second: &Path) -> PathBuf {
    let list = [first, second].map(|path| format!("file '{}'\n", path.display())).concat();
    std::fs::write(made.path("list.txt"), list).unwrap();
    let input = ["-f", "concat", "-safe", "0", "-i", made.path("list.txt").to_str().unwrap()].map(str::to_owned);
    let input: Vec<&str> = input.iter().map(String::as_str).collect();
    let path = made.file("joined.mp4", &[&input, &["-c", "copy", "-bsf:v", "filter_units=remove_types=7-8"]]);
    let mut descriptions = Vec::new();
    edited(&std::fs::read(second).unwrap(), &mut |kind, content| {
        if kind == b"stsd" {
            descriptions.extend(&content[8..]);
        }
        content.to_vec()
    });
    let (mut sizes, bytes) = (Vec::new(), std::fs::read(&path).unwrap());
    edited(&bytes, &mut |kind, content| {
        if kind == b"stsz" {
            sizes = content[12..].chunks(4).map(|size| u32::from_be_bytes(size.try_into().unwrap())).collect();
        }
        content.to_vec()
    });
    let half = sizes.len() / 2;
    let bytes = edited(&bytes, &mut |kind, content| match kind {
        b"stsd" => [&words(&[0, 2]), &content[8..], &descriptions].concat(),
        // The first chunk has the first half of the pictures by the first description, the second one the others by the second.
        b"stsc" => words(&[0, 2, 1, half as u32, 1, 2, half as u32, 2]),
        b"stco" => {
            let first = u32::from_be_bytes(content[8..12].try_into().unwrap());
            words(&[0, 2, first, first + sizes[..half].iter().sum::<u32>()])
        }
        _ => content.to_vec(),
    });
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_recording_whose_parameter_sets_change_in_its_middle_is_not_sent_as_it_is() {
    let made = Made::new();
    let first = made.file("first.mp4", &[SOURCE, H264, BASELINE]);
    let other = made.file("other.mp4", &[SOURCE, H264, BASELINE, &["-preset", "ultrafast"]]);
    for second in [&first, &other] {
        let file = joined(&made, &first, second);
        let pictures = pictures(&mut lesson(&file), 200);
        assert_eq!(pictures.len(), 100);
        assert!(pictures.iter().all(|picture| picture.coded.is_none()));
        // It is such a file: it can be shown, and both halves are as they were.
        assert!(shown(&file) == [shown(&first), shown(second)].concat(), "{}", second.display());
    }
}

#[test]
fn parameter_sets_that_are_repeated_in_the_stream_hinder_nothing() {
    let made = Made::new();
    let file = made.file("repeated.mkv", &[SOURCE, H264, BASELINE, &["-x264-params", "repeat-headers=1"]]);
    let pictures = pictures(&mut lesson(&file), 200);
    let rows: Vec<_> = pictures.iter().map(|picture| picture.coded.as_deref().unwrap()).collect();
    assert_shown(&made, &rows, &file);
}
