#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::code::state_dir_of;
use super::*;
use crate::private_file::FileError;

const CODE: &str = "abcdefgh23";
const WRONG: Option<&str> = Some("abcdefgh24");

fn gate() -> Access {
    Access::with_code(Code::parse(CODE).unwrap())
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn is_throttled(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::TooMany { .. })
}

#[test]
fn a_code_is_granted_missing_or_wrong() {
    let now = Instant::now();
    let mut access = gate();
    assert_eq!(access.check(address(1), Some(CODE), now), Verdict::Granted(Some(PassId(0))));
    assert_eq!(access.check(address(1), None, now), Verdict::Missing);
    for wrong in ["", "abcdefgh2", "abcdefgh234", "ABCDEFGH23", "abcdefgh23 ", "日本語"] {
        let mut access = gate();
        assert_eq!(access.check(address(1), Some(wrong), now), Verdict::Wrong, "{wrong}");
    }
    assert_eq!(Access::open().check(address(1), None, now), Verdict::Granted(None));
}

#[test]
fn wrong_codes_are_slowed_by_address_but_never_a_right_one() {
    let start = Instant::now();
    let mut access = gate();
    for _ in 0..FREE_TRIES {
        assert_eq!(access.check(address(1), WRONG, start), Verdict::Wrong);
    }
    assert_eq!(access.check(address(1), WRONG, start), Verdict::TooMany { retry_after: FIRST_WAIT });
    assert_eq!(access.check(address(2), WRONG, start), Verdict::Wrong, "another address is not concerned");
    assert_eq!(access.check(address(1), Some(CODE), start), Verdict::Granted(Some(PassId(0))));
}

#[test]
fn waits_double_up_to_a_minute_and_are_forgotten() {
    let mut now = Instant::now();
    let mut access = gate();
    for _ in 0..FREE_TRIES {
        access.check(address(1), WRONG, now);
    }
    let mut waits = Vec::new();
    for _ in 0..9 {
        match access.check(address(1), WRONG, now) {
            Verdict::TooMany { retry_after } => {
                waits.push(retry_after.as_secs());
                now += retry_after;
                assert_eq!(access.check(address(1), WRONG, now), Verdict::Wrong);
            }
            other => panic!("{other:?} where a wait was due"),
        }
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    now += MEMORY + Duration::from_secs(1);
    for _ in 0..FREE_TRIES {
        assert_eq!(access.check(address(1), WRONG, now), Verdict::Wrong);
    }
}

#[test]
fn wrong_codes_in_all_are_slowed_for_the_rest_of_the_minute() {
    let start = Instant::now();
    let mut access = gate();
    for last in 0..100 {
        assert_eq!(access.check(address(last), WRONG, start), Verdict::Wrong);
    }
    let later = start + Duration::from_secs(20);
    let waiting = Verdict::TooMany { retry_after: Duration::from_secs(40) };
    assert_eq!(access.check(address(200), WRONG, later), waiting);
    assert_eq!(access.check(address(200), Some(CODE), later), Verdict::Granted(Some(PassId(0))));
    assert_eq!(access.check(address(200), WRONG, start + MINUTE), Verdict::Wrong);
}

#[test]
fn wrong_codes_are_counted_by_the_minute_and_forgotten() {
    let start = Instant::now();
    let mut access = gate();
    assert_eq!(access.wrong_codes(start), 0);
    for _ in 0..30 {
        access.check(address(1), WRONG, start);
    }
    access.check(address(1), Some(CODE), start);
    assert_eq!(access.wrong_codes(start + MINUTE / 2), 30, "those that had to wait too, and no right one");
    assert_eq!(access.wrong_codes(start + MINUTE), 30);
    access.check(address(1), WRONG, start + MINUTE);
    assert_eq!(access.wrong_codes(start + MINUTE), 30, "the minute before counts still");
    assert_eq!(access.wrong_codes(start + MINUTE * 2), 1);
    assert_eq!(access.wrong_codes(start + MINUTE * 3), 0);
}

#[test]
fn a_slash_64_and_a_mapped_address_count_as_one() {
    let now = Instant::now();
    let mut access = gate();
    for host in 0..FREE_TRIES {
        access.check(format!("2001:db8::{host:x}").parse().unwrap(), WRONG, now);
        access.check(format!("::ffff:192.0.2.{}", 7).parse().unwrap(), WRONG, now);
    }
    assert!(is_throttled(access.check("2001:db8::ffff:1".parse().unwrap(), WRONG, now)));
    assert!(is_throttled(access.check(address(7), WRONG, now)));
    assert!(!is_throttled(access.check("2001:db8:0:1::1".parse().unwrap(), WRONG, now)));
}

#[test]
fn the_table_of_addresses_is_bounded() {
    let mut now = Instant::now();
    let mut access = gate();
    for n in 0..u16::try_from(ADDRESSES + 100).unwrap() {
        let [high, low] = n.to_be_bytes();
        access.check(IpAddr::from([10, 0, high, low]), WRONG, now);
        now += Duration::from_millis(700);
    }
    let gate = &access.gate;
    assert!(gate.addresses.len() <= ADDRESSES);
}

#[test]
fn own_names_and_addresses_are_allowed_and_no_other() {
    let own = OwnNames::new("Teacher.school.lan", ["screen.example"]);
    for good in [
        "127.0.0.1",
        "192.0.2.1:8888",
        "[::1]",
        "[2001:db8::1]:8888",
        "localhost",
        "LOCALHOST:8888",
        "localhost.",
        "teacher",
        "teacher:80",
        "Teacher.Local:8888",
        "teacher.school.lan",
        "screen.example:443",
        "localhost:",
    ] {
        assert!(own.allows(good), "{good}");
    }
    for bad in [
        "",
        "evil.example",
        "teacher.evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "[::1",
        "[evil]:80",
        "localhost:x",
        "a b",
        ":80",
        ":::",
        "::1:80",
        "fe80:::",
    ] {
        assert!(!own.allows(bad), "{bad}");
    }
    assert!(!OwnNames::new("", []).allows(".local"));
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_code_is_made_once_and_only_its_owner_reads_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state/laterna/code");
    let code = Code::load_or_create(&path).unwrap();
    assert_eq!(Code::load_or_create(&path).unwrap(), code);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", code.reveal()));
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left over");
    assert_eq!(format!("{code:?}"), "Code(..)");
}

#[test]
fn a_code_may_end_with_a_newline_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("code");
    for good in ["abcdefgh23", "abcdefgh23\n", "abcdefgh23\r\n"] {
        std::fs::write(&path, good).unwrap();
        assert_eq!(Code::load_or_create(&path).unwrap().reveal(), "abcdefgh23");
    }
    for bad in ["", "\n", "abcdefgh2", "abcdefgh23\n\n", "abcdefgh01", "ABCDEFGH23", &"a".repeat(1 << 20)] {
        std::fs::write(&path, bad).unwrap();
        let error = Code::load_or_create(&path).unwrap_err();
        assert!(matches!(error, AccessError::Content { .. }), "{error}");
        assert!(error.to_string().contains("write a code into it"), "{error}");
    }
}

#[test]
fn a_code_is_read_from_plain_files_only() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("target");
    std::fs::write(&target, "abcdefgh23").unwrap();
    let link = home.path().join("link");
    symlink(&target, &link).unwrap();
    assert!(matches!(
        Code::load_or_create(&link),
        Err(AccessError::File(FileError::NotAFile { found: "a symbolic link", .. }))
    ));
    let dangling = home.path().join("dangling");
    symlink(home.path().join("nowhere"), &dangling).unwrap();
    assert!(matches!(Code::load_or_create(&dangling), Err(AccessError::File(FileError::NotAFile { .. }))));
    assert!(matches!(
        Code::load_or_create(home.path()),
        Err(AccessError::File(FileError::NotAFile { found: "a directory", .. }))
    ));
    assert!(matches!(Code::load_or_create(&target.join("code")), Err(AccessError::File(FileError::Io { .. }))));
}

#[test]
fn the_state_directory_follows_the_contract() {
    let of = |set: &[(&str, &str)]| {
        state_dir_of(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
    };
    let home = ("HOME", "/home/t");
    let xdg = ("XDG_STATE_HOME", "/xdg");
    assert_eq!(
        of(&[home, xdg, ("STATE_DIRECTORY", "/var/lib/laterna:/var/lib/b")]),
        Some(PathBuf::from("/var/lib/laterna"))
    );
    assert_eq!(of(&[home, xdg]), Some(PathBuf::from("/xdg/laterna")));
    assert_eq!(of(&[home, ("XDG_STATE_HOME", "relative")]), Some(PathBuf::from("/home/t/.local/state/laterna")));
    assert_eq!(of(&[("STATE_DIRECTORY", "")]), None);
}
