#![allow(clippy::unwrap_used)]

use super::*;

fn refused(line: &str) -> String {
    parse(line.split_whitespace().map(OsString::from)).unwrap_err().to_string()
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
    for (flag, variable) in FLAGS_NOT_YET {
        assert_eq!(*variable, format!("LATERNA_{}", flag.replace('-', "_").to_ascii_uppercase()));
    }
    let run = command().find_subcommand("run").unwrap().clone();
    for arg in run.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let flag = arg.get_long().unwrap();
        let variable = format!("LATERNA_{}", flag.replace('-', "_").to_ascii_uppercase());
        assert_eq!(arg.get_env().unwrap(), OsString::from(variable).as_os_str(), "{flag}");
    }
}

#[test]
fn later_commands_and_flags_are_not_yet() {
    for command in COMMANDS_NOT_YET {
        for rest in ["", "--json", "--help", "a b --c"] {
            let line = refused(&format!("laterna {command} {rest}"));
            assert!(line.starts_with(command) && line.contains("not yet"), "{line}");
        }
    }
    for (flag, _) in FLAGS_NOT_YET {
        for rest in ["", " value", "=value", " --fps 30"] {
            for command in ["run", "config check", "config print", "doctor"] {
                let line = refused(&format!("laterna {command} --{flag}{rest}"));
                assert!(line.starts_with(&format!("{command} --{flag}: not yet")), "{line}");
            }
        }
    }
}

#[test]
fn what_the_contract_lacks_is_explained_in_one_line() {
    let table = [
        ("laterna", "no command: found nothing"),
        ("laterna moon", "moon: no such command"),
        ("laterna --moon", "--moon: no such flag"),
        ("laterna run --moon", "--moon: no such flag"),
        ("laterna run --fp 30", "--fp: no such flag; did you mean --fps?"),
        ("laterna run moon", "moon: not a flag"),
        ("laterna run --fps", "--fps <N>: its value is missing"),
        ("laterna run --fps 1 --fps 2", "--fps <N>: given more than once"),
        ("laterna help moon", "moon: no such command"),
        ("laterna config", "config: found nothing after `laterna config`; see `laterna config --help`"),
        ("laterna config moon", "moon: no such command; see `laterna config --help`"),
        ("laterna config check x", "x: not a flag; see `laterna config --help`"),
        ("laterna config default --fps 1", "--fps: no such flag"),
        ("laterna completions", "<SHELL>: it is missing; see `laterna completions --help`"),
        ("laterna completions moon", "<SHELL>: can't be 'moon'; see `laterna completions --help`"),
        ("laterna run --config", "--config <FILE>: its value is missing"),
        ("laterna kick", "<VIEWER>: it is missing; see `laterna kick --help`"),
        ("laterna kick x", "<VIEWER>: can't be 'x'; see `laterna kick --help`"),
        ("laterna kick 1 2", "2: not a flag"),
        ("laterna call", "<NAME|ID>: it is missing"),
        ("laterna codes add a/b", "codes add a/b: no name of a code; write 1 to 64 of a-z A-Z 0-9 . _ -"),
        (
            "laterna codes add x --expires -5m",
            "codes add --expires -5m: neither a time from now on nor a date; write 45m",
        ),
        ("laterna codes add x --expires 0h", "codes add --expires 0h: neither a time from now on nor a date"),
        ("laterna status --jso", "--jso: no such flag; did you mean --json? See `laterna status --help`"),
        ("laterna peers --control", "--control <PATH>: its value is missing; see `laterna peers --help`"),
    ];
    for (line, expected) in table {
        let found = refused(line);
        assert!(found.starts_with(expected) && !found.contains('\n'), "{line}: {found}");
    }
}

#[test]
fn nobody_without_a_name_is_called() {
    for name in ["", " ", "\n"] {
        let line = parse(["laterna", "call", name].map(OsString::from)).unwrap_err().to_string();
        assert!(line.starts_with("call '") && line.contains("an empty name; write the id"), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}

#[test]
fn commands_for_a_daemon_are_read() {
    let read = |line: &str| match parse(line.split_whitespace().map(OsString::from)).unwrap() {
        Invocation::Operate { operation, control } => (operation, control),
        other => panic!("{line}: {other:?}"),
    };
    let control = Some(PathBuf::from("/x"));
    let call = |peer: &str, server: Option<&str>| Operation::Call { peer: peer.into(), server: server.map(Into::into) };
    for (line, operation, at) in [
        ("laterna status", Operation::Status { json: false, watch: false }, None),
        ("laterna status --watch --json --control /x", Operation::Status { json: true, watch: true }, control.clone()),
        ("laterna peers --json", Operation::Peers { json: true }, None),
        ("laterna call laterna@desk", call("laterna@desk", None), None),
        ("laterna call 7 --server room --control /x", call("7", Some("room")), control.clone()),
        ("laterna call -- --name", call("--name", None), None),
        ("laterna kick 3 --control /x", Operation::Kick { viewer: 3 }, control.clone()),
    ] {
        assert_eq!(read(line), (operation, at), "{line}");
    }
}

#[test]
fn help_and_version_are_printed() {
    for line in ["laterna --help", "laterna -h", "laterna run --help", "laterna help run", "laterna --version"] {
        let words = line.split_whitespace().map(OsString::from);
        assert!(matches!(parse(words), Ok(Invocation::Print(_))), "{line}");
    }
}
