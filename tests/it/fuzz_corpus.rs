//! The fuzzer's corpora: whatever was found once holds for ever.

use std::path::{Path, PathBuf};

use crate::fuzz::TARGETS;

/// Files and bytes that a corpus may have: they are all in the repository.
const MOST_FILES: usize = 200;
const MOST_BYTES: usize = 300_000;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn corpora_of_the_fuzzer_hold() {
    for (target, run) in TARGETS {
        let directory = corpora().join(target);
        let (files, mut bytes) = (names(&directory), 0);
        assert!((1..=MOST_FILES).contains(&files.len()), "{target}: {} files", files.len());
        for file in files {
            let data = std::fs::read(directory.join(&file)).unwrap();
            bytes += data.len();
            let outcome = std::panic::catch_unwind(|| run(&data));
            assert!(outcome.is_ok(), "{target} fails by {file}: ./dev fuzz says how to look into it");
        }
        assert!(bytes <= MOST_BYTES, "{target}: {bytes} bytes");
    }
}

/// Each target has its corpus and its binary, and there are no others.
#[test]
fn targets_corpora_and_binaries_are_the_same() {
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    assert_eq!(names(&corpora()), targets);
    let binaries = names(&corpora().with_file_name("bin"));
    assert_eq!(binaries, targets.iter().map(|name| format!("{name}.rs")).collect::<Vec<_>>());
}
