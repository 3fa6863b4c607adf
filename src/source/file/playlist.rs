//! Which files a path stands for, and in which order: a file itself, or the videos of a folder by their names.
//!
//! Only plain files are opened, so that no named pipe or device keeps anybody waiting; folders in the folder are left out.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Names that videos end with.
const VIDEOS: [&str; 22] = [
    "3g2", "3gp", "asf", "avi", "divx", "f4v", "flv", "h264", "hevc", "ivf", "m2ts", "m4v", "mkv", "mov", "mp4",
    "mpeg", "mpg", "mts", "ogv", "ts", "webm", "wmv",
];

/// What was found, and what to do.
pub(in crate::source) type Wrong = (String, String);

/// The files that `path` stands for, one at least.
///
/// # Errors
/// Where there are none.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, Wrong> {
    let metadata = path.metadata().map_err(|error| refused(&error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = path.read_dir().map_err(|error| refused(&error))?;
    let is_video = |path: &PathBuf| {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && extension.is_some_and(|extension| VIDEOS.contains(&extension.as_str())) && !path.is_dir()
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_video).collect();
    files.sort_by(|a, b| natural(&name(a), &name(b)).then_with(|| a.cmp(b)));
    if files.is_empty() {
        return Err((
            "a folder without videos".to_owned(),
            "put some there, with names such as 01.mp4, or name a file".to_owned(),
        ));
    }
    Ok(files)
}

/// Opens a plain file for reading; nothing else, and without waiting for anybody.
///
/// # Errors
/// Where it is not there, may not be read or is something else.
pub(in crate::source) fn open(path: &Path) -> Result<File, Wrong> {
    let options = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(options).open(path).map_err(|error| refused(&error))?;
    let metadata = file.metadata().map_err(|error| refused(&error))?;
    let found = match metadata.len() {
        _ if metadata.is_dir() => {
            let advice = "name a file in it; file:FOLDER plays the lessons in a folder";
            return Err(("a folder where a file must be".to_owned(), advice.to_owned()));
        }
        _ if !metadata.is_file() => "a special file where a plain file must be",
        0 => "an empty file",
        _ => return Ok(file),
    };
    Err((found.to_owned(), "name a plain file with something in it".to_owned()))
}

fn refused(error: &io::Error) -> Wrong {
    match error.kind() {
        io::ErrorKind::NotFound => ("there is no such file".to_owned(), "check its path".to_owned()),
        io::ErrorKind::PermissionDenied => (
            "this user may not read it".to_owned(),
            "let it be read (chmod), or put it where the daemon's user may read".to_owned(),
        ),
        _ => (format!("it can't be opened ({error})"), "check its path".to_owned()),
    }
}

/// A file's name, for people and for sorting.
pub(in crate::source) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Compares names as people do: numbers in them by their value, letters in capitals or not.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (parts(a), parts(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) if a != b => return a.cmp(&b),
            _ => {}
        }
    }
}

/// A part of a name: numbers are before letters.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Its digits, without leading zeros, the more of them the later.
    Number(usize, String),
    Letter(String),
}

fn parts(name: &str) -> impl Iterator<Item = Part> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            rest = &rest[first.len_utf8()..];
            return Some(Part::Letter(first.to_lowercase().collect()));
        }
        let number = rest[..digits].trim_start_matches('0');
        rest = &rest[digits..];
        Some(Part::Number(number.len(), number.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_are_in_their_order_and_capitals_make_no_difference() {
        let mut names =
            ["Part 10.mp4", "part 9.mp4", "Part 1.mp4", "part 02.mp4", "10.mp4", "2.mp4", "intro.mp4", "é.mp4"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["2.mp4", "10.mp4", "intro.mp4", "Part 1.mp4", "part 02.mp4", "part 9.mp4", "Part 10.mp4", "é.mp4"]
        );
    }

    #[test]
    fn a_folder_is_its_videos_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["10.MP4", "9.webm", ".hidden.mp4", "notes.txt", "mp4"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(folder.path().join("1.mp4")).unwrap();
        let names: Vec<_> = files(folder.path()).unwrap().iter().map(|path| name(path)).collect();
        assert_eq!(names, ["9.webm", "10.MP4"]);
    }

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, empty) = (folder.path().join("pipe.mp4"), folder.path().join("empty.mp4"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        std::fs::write(&empty, "").unwrap();
        for (path, word) in [
            (pipe.as_path(), "special"),
            (Path::new("/dev/zero"), "special"),
            (folder.path(), "folder"),
            (&empty, "empty"),
            (Path::new("/nowhere/x.mp4"), "no such file"),
        ] {
            let (found, _) = open(path).unwrap_err();
            assert!(found.contains(word), "{}: {found}", path.display());
        }
        assert!(files(Path::new("/nowhere")).unwrap_err().0.contains("no such file"));
        let bare = tempfile::tempdir().unwrap();
        assert!(files(bare.path()).unwrap_err().0.contains("without videos"));
    }
}
