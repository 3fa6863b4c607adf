#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use super::*;
use crate::cli::{Invocation, parse};
use crate::config::print::{print, verdict};
use crate::config::written::Origin;
use crate::encoder::Bitrate;

fn flags(line: &str) -> Written {
    let words = ["laterna", "run"].into_iter().chain(line.split_whitespace()).map(OsString::from);
    match parse(words).unwrap() {
        Invocation::Run(args) => args.written,
        other => panic!("{other:?}"),
    }
}

/// The same as if it came from variables.
fn variables(line: &str) -> Written {
    let mut written = Written::default();
    for setting in crate::config::setting::SETTINGS {
        let mut given = flags(line).given(setting);
        if given.origin == Origin::Flag {
            given.origin = Origin::Variable;
            given.values.iter_mut().for_each(|asked| asked.origin = Origin::Variable);
            written.insert(setting, given);
        }
    }
    written
}

fn over(given: &Written, text: &str) -> Result<Loaded, String> {
    let found = Found { path: Path::new("/f").into(), bytes: text.into() };
    let lines = |errors: Vec<ConfigError>| LoadError::Invalid(errors).to_string();
    layer(given, Some(&found), "host").map_err(lines)
}

/// What is wrong with a file, a line each.
fn complaints(text: &str) -> Vec<String> {
    over(&Written::default(), text).unwrap_err().lines().map(str::to_owned).collect()
}

#[test]
fn flags_go_before_variables_before_the_file_before_the_defaults() {
    let file = "fps = 10\nmax-viewers = 11\nudp-port = 12\nlisten = [\"[::]:1\", \"[::]:2\"]\n";
    let given = flags("--fps 30 --listen off").over(&variables("--fps 20 --max-viewers 21"));
    let Loaded { config, file, .. } = over(&given, file).unwrap();
    assert_eq!((config.fps, config.max_viewers, config.udp_port), (30, 21, 12));
    assert_eq!((config.bitrate, config.listen), (Bitrate(2_500_000), crate::config::Listen::Off));
    assert_eq!(file.as_deref(), Some(Path::new("/f")));
    let config = layer(&given, None, "host").unwrap().config;
    assert_eq!((config.fps, config.udp_port), (30, 8889));
}

#[test]
fn values_are_written_as_toml_or_as_the_flag_has_them() {
    for (one, other) in [
        ("fps = 25", "fps = \"25\""),
        ("fps = 0x19", "fps = 2_5"),
        ("bitrate = 2_500_000", "bitrate = \"2.5M\""),
        ("bitrate = 2500000.0", "'bitrate' = '''2500k'''"),
        ("cursor = false", "cursor = \"off\""),
        ("cursor = true", "cursor = \"on\""),
        ("listen = [\"[::]:1\", \"127.0.0.1:2\"]", "listen = \"[::]:1,127.0.0.1:2\""),
        ("codec = [\n  \"h264\", # one\n]", "codec = \"h264\""),
        ("\u{feff}signaling = []", "# nothing\r\n"),
    ] {
        let read = |text| over(&Written::default(), text).map(|loaded| loaded.config);
        assert_eq!(read(one), read(other));
        assert!(read(one).is_ok(), "{one}: {:?}", read(one));
    }
    let commas = over(&Written::default(), "signaling = [\"mdn+ws://h/a,b\"]").unwrap().config;
    assert_eq!(commas.signaling[0].url.as_str(), "ws://h/a,b");
}

#[test]
fn all_that_is_wrong_is_told_with_its_line() {
    let table: &[(&str, &[&str])] = &[
        ("fps = \"fast\"", &["/f:1:7: fps = \"fast\": not a frame rate; write a whole number from 1 to 120"]),
        ("\n# ü\n  fps = 500 # ü", &["/f:3:9: fps = 500: too high"]),
        ("name = \"ü\" \nudp_port = 1", &["/f:2:1: udp_port: no such key; did you mean udp-port?"]),
        ("moon = 1", &["/f:1:1: moon: no such key; `laterna config default` lists all"]),
        ("config = \"/x\"", &["/f:1:1: config: no such key; the file is named by --config"]),
        ("record = \"a.mp4\"", &["/f:1:1: record: not yet; leave it out"]),
        (
            "[limits]\nx = 1\n[[codes]]\ny = 2",
            &["/f:2:5: limits.x: no such key", "/f:3:1: codes: a list where a table must be"],
        ),
        ("[moon]\nx = 1\n[audio]\n", &["/f:1:2: moon: no such table", "/f:3:1: audio: a table; write audio = \"…\""]),
        ("audio.source = 1", &["audio: a table; write audio = \"…\" with SPEC between the quotes"]),
        ("codec = \"av1\"", &["/f:1:9: codec = \"av1\": not yet"]),
        ("name = 5", &["/f:1:8: name: a number; write name = \"…\" with NAME"]),
        ("source = true", &["/f:1:10: source: true or false; write source"]),
        ("fps = 2001-01-01", &["/f:1:7: fps: a date; write fps = N with a number"]),
        ("fps = [30]", &["/f:1:7: fps: a list; write fps = N"]),
        ("fps = 29.97", &["/f:1:7: fps = 29.97: not a whole number"]),
        ("fps = -1", &["/f:1:7: fps = -1: too low"]),
        ("cursor = 1", &["/f:1:10: cursor: a number; write cursor = \"on\" or \"off\""]),
        ("listen = []", &["/f:1:10: listen: nothing in the list; write listen = "]),
        ("listen = 8888", &["/f:1:10: listen: a number; write listen = "]),
        (
            "codec = [\"h265\",\n \"h264\",\n  \"h266\"]",
            &["/f:1:10: codec = \"h265\": no codec", "/f:3:3: codec = \"h266\": no codec"],
        ),
        (
            "public-ip = [\"1\", 2, []]",
            &["/f:1:19: public-ip: a number in the list", "/f:1:22: public-ip: a list in the list"],
        ),
        (
            "signaling = [\"mdn+ws://me:hunter2@h\",\n\"x\"]",
            &["/f:1:14: signaling = \"(hidden)\": a password in a URL", "/f:2:1: signaling = \"x\": not a URL"],
        ),
        ("auth-code-file = \"\"", &["/f:1:18: auth-code-file = \"\": no path"]),
        (
            "log = \"loud\"\nfps = 0\nmoon = 1\nroom = \"ajar\"",
            &["/f:1:7: log", "/f:2:7: fps", "/f:3:1: moon", "/f:4:8: room"],
        ),
        ("fps = fast\nroom = \"ajar\"", &["/f:1:7: not TOML: neither a number nor a text in quotes", "/f:2:8: room"]),
        ("room = open\nlog = loud", &["/f:1:8: not TOML: neither", "/f:2:7: not TOML: neither"]),
        ("fps 30", &["/f:1:5: not TOML: key with no value"]),
        (
            "fps 30\nname \"ü\"\nroom = \"ajar\"\nmoon = 1\nlog =\ncall\nfps = 0 1",
            &[
                "/f:1:5: not TOML: key with no value",
                "/f:2:6: not TOML: key with no value",
                "/f:3:8: room",
                "/f:4:1: moon",
                "/f:5:6: not TOML: ",
                "/f:6:5: not TOML: key with no value",
                "/f:7:7: not TOML: neither",
            ],
        ),
        ("listen = [\n\"x\"\n\"y\"\n]\nfps = 0", &["/f:2:1: listen = \"x\"", "/f:3:1: not TOML: ", "/f:5:7: fps"]),
        ("fps 30\nlog = = 2\nfps = 0", &["/f:1:5: not TOML", "/f:2:7: not TOML", "/f:3:7: fps"]),
        ("fps = 1\nfps = 2", &["/f:2:1: not TOML: duplicate key"]),
        ("name = \"a", &["/f:1:10: not TOML: "]),
        ("fps = 30.5", &["/f:1:7: fps = 30.5: not a whole number; write a whole number from 1 to 120"]),
        ("max-viewers = -2", &["/f:1:15: max-viewers = -2: too low; write a whole number from 1 to 10000"]),
        ("bitrate = 2.5M", &["not TOML: neither a number nor a text in quotes; put it in quotes: bitrate = \"2.5M\""]),
        (
            "size = 1280x720",
            &["not TOML: neither a number nor a text in quotes; put it in quotes: size = \"1280x720\""],
        ),
        ("cursor = yes", &["not TOML: neither a number nor a text in quotes; write cursor = \"on\" or \"off\""]),
        ("fps = fast", &["not TOML: neither a number nor a text in quotes; write fps = "]),
        (
            "signaling = mdn+ws://me:hunter2@h/",
            &["not TOML: neither a number nor a text in quotes; put texts in quotes"],
        ),
        ("a=[[[[", &["/f:1:3: not TOML: a list begins here and has no end; write ] where it ends"]),
        ("a = {{{{", &["/f:1:5: not TOML: a table begins here and has no end; write } where it ends"]),
        (
            "fps = 0\nlisten = [\n\"[::]:1\",\ncodec = [\"h264\"]\nroom = \"open\"",
            &["/f:1:7: fps = 0: too low", "/f:2:10: not TOML: a list begins here and has no end"],
        ),
    ];
    for (text, expected) in table {
        let found = complaints(text);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.contains(expected), "{text}: {found}");
            assert!(found.contains("; ") && !found.contains("hunter2"), "{text}: {found}");
        }
    }
}

#[test]
fn a_broken_file_is_refused_also_where_flags_are_over_it_and_with_what_is_wrong_with_those() {
    let error = over(&flags("--fps 30 --room ajar"), "fps = 0\nroom = \"wide\"").unwrap_err();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(lines[0].starts_with("/f:1:7: fps = 0:") && lines[1].starts_with("/f:2:8: room = \"wide\":"), "{error}");
    assert!(lines[2].starts_with("--room ajar:"), "{error}");
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_line() {
    let found = Found { path: Path::new("/f").into(), bytes: b"fps = 1\n# \xc3\xbc \xff\n".into() };
    let errors = layer(&Written::default(), Some(&found), "host").unwrap_err();
    let error = LoadError::Invalid(errors);
    assert_eq!(error.to_string(), "/f:2:5: a byte that is no UTF-8; save the file in UTF-8");
    assert_eq!(error.exit(), Exit::Usage);
}

#[test]
fn nothing_makes_the_reading_of_a_file_fail_badly() {
    let pieces = [
        "fps", "=", " ", "\n", "[", "]", "\"", "'", "#", "1", "é", ",", "{", "}", ".", "\u{0}", "listen", "\r", "\\u",
        "'''",
    ];
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[usize::try_from(state >> 40).unwrap() % pieces.len()]);
        }
        if let Err(error) = over(&Written::default(), &text) {
            let lines = text.matches('\n').count() + 1;
            for line in error.lines() {
                let place = line.strip_prefix("/f:").unwrap_or_else(|| panic!("{text:?}: {error}"));
                let number: usize = place.split(':').next().unwrap().parse().unwrap();
                assert!((1..=lines).contains(&number), "{text:?}: {error}");
            }
        }
    }
}

#[test]
fn what_is_printed_gives_the_same_again_and_says_where_it_comes_from() {
    let file = "fps = 10\nname = \"a \\\"b\\\" \\\\\"\n\nnetwork = [\n \"eth0\",\n \"!10.0.0.0/8\"]\nbitrate = \"1.5M\"\ncursor = false\n";
    let given = flags("--listen 127.0.0.1:0,[::1]:0 --size 640x480").over(&variables("--udp-port 0 --call glob:a-*"));
    let loaded = over(&given, file).unwrap();
    let text = print(&loaded);
    for (line, origin) in [
        ("fps = 10", "/f:1"),
        ("name = \"a \\\"b\\\" \\\\\"", "/f:2"),
        ("network = [\"eth0\", \"!10.0.0.0/8\"]", "/f:4"),
        ("listen = [\"127.0.0.1:0\", \"[::1]:0\"]", "flag"),
        ("size = \"640x480\"", "flag"),
        ("udp-port = 0", "LATERNA_UDP_PORT"),
        ("call = \"glob:a-*\"", "LATERNA_CALL"),
        ("cursor = \"off\"", "/f:8"),
        ("max-viewers = 500", "default"),
        ("signaling = []", "default"),
        ("# control: laterna/control.sock in $XDG_RUNTIME_DIR, else in /run", "default"),
    ] {
        let found = text.lines().find(|found| found.starts_with(line)).unwrap_or_else(|| panic!("{line}: {text}"));
        assert_eq!(found.rsplit_once(" # ").map(|(before, origin)| (before.trim_end(), origin)), Some((line, origin)));
    }
    assert_eq!(over(&Written::default(), &text).unwrap().config, loaded.config);
    let nothing = layer(&Written::default(), None, "host").unwrap();
    let text = print(&nothing);
    assert!(text.contains("name = \"laterna@host\"") && text.starts_with("# There is no config file"), "{text}");
    assert_eq!(over(&Written::default(), &text).unwrap().config, nothing.config);
    let places = ["/a".into(), "/b".into()];
    assert_eq!(verdict(&loaded, &places), "/f: ok\n");
    assert_eq!(verdict(&nothing, &places), "no config file at /a or /b; the defaults hold: ok\n");
}

#[test]
fn secrets_are_not_printed() {
    let file = "signaling = [\"peerconnection+http://h/k/hunter2\", \"mdn+ws://h?key=hunter2&token-file=/t\"]\n\
                ice-server = \"turn:h?user=u&password-file=/p\"";
    let text = print(&over(&Written::default(), file).unwrap());
    assert!(!text.contains("hunter2") && text.contains("token-file=/t") && text.contains("password-file=/p"), "{text}");
}

#[test]
fn the_daemons_own_listener_is_no_server_to_sign_in_to() {
    let loaded = over(&Written::default(), "signaling = [\n\"mdn+ws://you\",\n\"mdn+ws://me:8888\"]").unwrap();
    assert!(loaded.refuse_own_signaling(|_| false).is_ok());
    let error = loaded.refuse_own_signaling(|host| host == "me").unwrap_err().to_string();
    assert!(
        error.starts_with("/f:3:1: signaling = \"mdn+ws://me:8888\": this is the daemon's own listener"),
        "{error}"
    );
}

#[test]
fn the_places_are_the_users_then_the_systems() {
    let of = |variables: &[(&str, &str)]| {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let places = places(|name| variables.get(name).map(OsString::from));
        places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(&[]), [SYSTEM_FILE]);
    assert_eq!(of(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]), ["/c/laterna/laterna.toml", SYSTEM_FILE]);
    for other in ["", "relative"] {
        let found = of(&[("XDG_CONFIG_HOME", other), ("HOME", "/h")]);
        assert_eq!(found, ["/h/.config/laterna/laterna.toml", SYSTEM_FILE]);
    }
}

#[test]
fn the_first_file_is_used_and_one_that_can_not_be_read_is_no_reason_for_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let load = |named: Option<&str>, places: &[&str]| {
        let places: Vec<_> = places.iter().map(|name| path(name)).collect();
        load(&Written::default(), named.map(path).as_deref(), &places, "host")
    };
    std::fs::write(path("one"), "fps = 1").unwrap();
    std::fs::write(path("two"), "fps = 2\nmoon = 1").unwrap();
    std::fs::write(path("large"), "#".repeat(1 << 20) + "\n").unwrap();
    std::fs::create_dir(path("directory")).unwrap();
    let used = |loaded: Loaded| (loaded.config.fps, loaded.file.map(|file| file.to_path_buf()));
    assert_eq!(used(load(None, &["absent", "one/under", "one", "two"]).unwrap()), (1, Some(path("one"))));
    assert_eq!(used(load(Some("one"), &["two"]).unwrap()), (1, Some(path("one"))));
    assert_eq!(used(load(None, &["absent"]).unwrap()), (30, None));
    for (named, places, name) in [
        (Some("absent"), &["one"][..], "absent"),
        (None, &["directory", "one"], "directory"),
        (Some("large"), &[], "large"),
    ] {
        let error = load(named, places).unwrap_err();
        assert_eq!(error.exit(), Exit::Failed, "{error}");
        assert!(error.to_string().starts_with(&format!("config file {}: ", path(name).display())), "{error}");
    }
    let error = load(None, &["two", "one"]).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage, "{error}");
}

#[test]
fn a_file_that_may_not_even_be_looked_at_is_none_of_this_users() {
    let of = |kind: io::ErrorKind| io::Error::from(kind);
    let denied = of(io::ErrorKind::PermissionDenied);
    assert!(is_absent(&denied, Some(&denied)));
    assert!(!is_absent(&denied, None), "it is there, and what it says is not to be passed over");
    assert!(is_absent(&of(io::ErrorKind::NotFound), None));
    assert!(!is_absent(&of(io::ErrorKind::IsADirectory), None));
}
