#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// Makes an image by `ffmpeg`: red on the left, blue on the right.
fn made(folder: &Path, name: &str, size: &str, more: &[&str]) -> std::path::PathBuf {
    let path = folder.join(name);
    let input = format!("color=c=red:s={size}[a];color=c=blue:s={size}[b];[a][b]hstack");
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y", "-filter_complex", &input, "-frames:v", "1"])
        .args(more)
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    path
}

fn rgb(picture: &Picture, x: u32, y: u32) -> [u8; 3] {
    let at = y as usize * picture.stride() + x as usize * 4;
    [picture.bytes()[at + 2], picture.bytes()[at + 1], picture.bytes()[at]]
}

fn near(seen: [u8; 3], wanted: [u8; 3]) -> bool {
    (0..3).all(|at| seen[at].abs_diff(wanted[at]) <= 6)
}

#[test]
fn images_of_each_kind_have_their_colours() {
    let folder = tempfile::tempdir().unwrap();
    for (name, more) in [
        ("a.png", &[][..]),
        ("a.jpg", &["-q:v", "1", "-pix_fmt", "yuvj444p"]),
        ("b.jpg", &["-q:v", "1", "-pix_fmt", "yuvj420p"]),
        ("a.webp", &["-c:v", "libwebp", "-quality", "100"]),
        ("b.webp", &["-c:v", "libwebp", "-lossless", "1"]),
        ("a.bmp", &[]),
        ("a.gif", &["-pix_fmt", "rgb8"]),
    ] {
        let picture =
            picture(&made(folder.path(), name, "52x38", more)).map_err(|wrong| format!("{name}: {wrong:?}")).unwrap();
        assert_eq!(picture.size(), Size::new(104, 38), "{name}");
        let (left, right) = (rgb(&picture, 10, 18), rgb(&picture, 90, 36));
        println!("{name}: {left:?} {right:?}");
        assert!(near(left, [255, 0, 0]) && near(right, [0, 0, 255]), "{name}: {left:?} {right:?}");
    }
}

#[test]
fn what_shines_through_is_black() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let input = "color=c=white:s=16x16,format=rgba,colorchannelmixer=aa=0.5";
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-f", "lavfi", "-i", input, "-frames:v", "1"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    let seen = rgb(&picture(&path).unwrap(), 8, 8);
    assert!(near(seen, [128; 3]), "{seen:?}");
}

#[test]
fn a_photograph_is_turned_upright() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "a.jpg", "40x40", &["-q:v", "1"]);
    let jpeg = std::fs::read(&path).unwrap();
    // Taken with the camera held to the left: the left is the top.
    let tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = (tiff.len() as u16 + 2).to_be_bytes();
    std::fs::write(&path, [&jpeg[..2], &[0xff, 0xe1], &length, tiff, &jpeg[2..]].concat()).unwrap();
    let picture = picture(&path).unwrap();
    assert_eq!(picture.size(), Size::new(40, 80));
    assert!(near(rgb(&picture, 20, 10), [254, 0, 0]) && near(rgb(&picture, 20, 70), [0, 0, 254]));
}

#[test]
fn what_is_no_image_or_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text.png"), "no image").unwrap();
    let large = made(folder.path(), "large.png", "8200x8", &[]);
    let whole = std::fs::read(made(folder.path(), "whole.png", "600x600", &[])).unwrap();
    std::fs::write(folder.path().join("cut.png"), &whole[..40]).unwrap();
    let film = made(folder.path(), "film.mp4", "64x64", &["-frames:v", "3"]);
    for (path, word) in [
        (large, "too large (16400x8"),
        (film, "a video"),
        (folder.path().join("text.png"), "no image"),
        (folder.path().join("cut.png"), "no image"),
        (folder.path().join("none.png"), "no such file"),
        (folder.path().to_owned(), "folder"),
        ("/dev/zero".into(), "special"),
    ] {
        let (found, _) = picture(&path).unwrap_err();
        assert!(found.contains(word), "{}: {found}", path.display());
    }
}

#[test]
fn it_is_given_once_whenever_somebody_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "a b.png", "32x32", &[]);
    let (sender, frames) = mpsc::sync_channel(100);
    let source = open(&path, Arc::new(move |frame| sender.send(frame).unwrap()), &Watch::new().0).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(source.describe(), "image a b.png 64x32");
    for _ in 0..2 {
        source.set_active(true);
        assert_eq!(frames.recv_timeout(Duration::from_secs(10)).unwrap().picture.size(), Size::new(64, 32));
        source.set_active(false);
        assert!(frames.recv_timeout(Duration::from_millis(100)).is_err());
    }
}
