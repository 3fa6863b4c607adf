//! The command line: the commands and flags of the outside contract, as they are written.
//!
//! Owns the names, the help and the variables; never judges a value (that is [`crate::config`]). What the contract has and this
//! version does not is known and refused as "not yet".

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::Arg;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Asked, one_line};
use crate::control::client::Command as Operation;

/// The commands of the contract that come in later versions.
pub const COMMANDS_NOT_YET: &[&str] = &[
    "switch",
    "sources",
    "audio",
    "record",
    "play",
    "pause",
    "seek",
    "snapshot",
    "codes",
    "events",
    "doctor",
    "config",
    "completions",
    "man",
];

/// The flags of `run` that come in later versions, each with its variable.
pub const FLAGS_NOT_YET: &[(&str, &str)] = &[
    ("config", "LATERNA_CONFIG"),
    ("fallback", "LATERNA_FALLBACK"),
    ("fit", "LATERNA_FIT"),
    ("capture", "LATERNA_CAPTURE"),
    ("tls", "LATERNA_TLS"),
    ("tls-cert", "LATERNA_TLS_CERT"),
    ("tls-key", "LATERNA_TLS_KEY"),
    ("allow-origin", "LATERNA_ALLOW_ORIGIN"),
    ("record", "LATERNA_RECORD"),
    ("control-group", "LATERNA_CONTROL_GROUP"),
];

const EXAMPLES: &str = "\
Examples:
  laterna run                                    the screen if there is one, else a test card
  laterna run --source pattern                   the test card: needs no screen
  laterna run --listen 127.0.0.1:8888            for browsers on this machine only
  laterna run --size 1280x720 --bitrate 1500k    a smaller picture for a slow network
  laterna run --signaling mdn+ws://host:6503     for the pages of another signaling server
  laterna run --call joined                      for pages of the peerconnection protocol, which wait to be called
  DISPLAY=:1 laterna run --source screen         the screen of another X server

It prints a line `open http://...`: open that address in a browser to watch.
Every flag has a variable: --udp-port is LATERNA_UDP_PORT. A flag goes before its variable.";

/// The command line of this version.
#[derive(Debug, Parser)]
#[command(
    name = "laterna",
    version,
    about = "Shows this machine's screen in web browsers: one encode, any number of viewers",
    arg_required_else_help = false
)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Starts the broadcast; Ctrl-C ends it
    Run(Box<RunArgs>),
    /// Says how the running daemon is: addresses, encoders, viewers, signaling, STUN and TURN servers
    Status {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
        /// Again whenever something has changed, until Ctrl-C or the daemon's end
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Lists who is signed in where
    Peers {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Offers the stream to a peer, as `laterna peers` lists them
    Call {
        /// Its id, or its name: of several with one name at a server the newest
        #[arg(value_name = "NAME|ID")]
        peer: String,
        /// The server, or a part of its label that no other has; needed where several servers have such a peer
        #[arg(long, value_name = "LABEL")]
        server: Option<String>,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Ends a viewer's connection; its number is in `laterna status`
    Kick {
        /// The viewer's number
        viewer: u32,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Which daemon a command is for.
#[derive(Debug, Clone, Args)]
struct DaemonArgs {
    /// The daemon's control socket (default: laterna/control.sock in $XDG_RUNTIME_DIR, else in /run)
    #[arg(long, value_name = "PATH", env = "LATERNA_CONTROL", hide_env_values = true)]
    control: Option<PathBuf>,
}

/// The settings of `laterna run`, as written.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Where pictures come from: auto (the screen if there is one, else the pattern), screen, pattern
    #[arg(long, value_name = "SPEC", default_value = "auto", env = "LATERNA_SOURCE", hide_env_values = true)]
    pub source: String,
    /// The name of this broadcast (default: laterna@HOSTNAME)
    #[arg(long, value_name = "NAME", env = "LATERNA_NAME", hide_env_values = true)]
    pub name: Option<String>,
    /// Where the web page is served; several by comma or by repeating the flag; off for nowhere; port 0 takes any
    #[arg(
        long,
        value_name = "ADDR:PORT|off",
        value_delimiter = ',',
        default_value = "[::]:8888",
        env = "LATERNA_LISTEN",
        hide_env_values = true
    )]
    pub listen: Vec<String>,
    /// The UDP port of pictures, on all addresses; 0 takes any
    #[arg(long, value_name = "N", default_value = "8889", env = "LATERNA_UDP_PORT", hide_env_values = true)]
    pub udp_port: String,
    /// The codecs, the preferred one first: h264, vp8
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = if cfg!(feature = "vp8") { "h264,vp8" } else { "h264" },
        env = "LATERNA_CODEC",
        hide_env_values = true
    )]
    pub codec: Vec<String>,
    /// The rate of the video at most, in bits per second: 50k to 100M
    #[arg(long, value_name = "BPS", default_value = "2.5M", env = "LATERNA_BITRATE", hide_env_values = true)]
    pub bitrate: String,
    /// Pictures a second at most: 1 to 120
    #[arg(long, value_name = "N", default_value = "30", env = "LATERNA_FPS", hide_env_values = true)]
    pub fps: String,
    /// The size of the picture sent, 16x16 to 3840x2160 (default: the source's at start, at most 1920x1080)
    #[arg(long, value_name = "WxH", env = "LATERNA_SIZE", hide_env_values = true)]
    pub size: Option<String>,
    /// Whether the pointer is shown
    #[arg(long, value_name = "on|off", default_value = "on", env = "LATERNA_CURSOR", hide_env_values = true)]
    pub cursor: String,
    /// So many viewers at once, at most
    #[arg(long, value_name = "N", default_value = "500", env = "LATERNA_MAX_VIEWERS", hide_env_values = true)]
    pub max_viewers: String,
    /// Who may watch: code (whoever has the code), none (everyone who reaches the port)
    #[arg(long, value_name = "none|code", default_value = "code", env = "LATERNA_AUTH", hide_env_values = true)]
    pub auth: String,
    /// The file of the code; made with a fresh one if absent (default: in the state directory)
    #[arg(long, value_name = "PATH", env = "LATERNA_AUTH_CODE_FILE", hide_env_values = true)]
    pub auth_code_file: Option<PathBuf>,
    /// Who sees whom in the room, where clients of the peerconnection protocol meet: closed (only the daemon), open (everybody)
    #[arg(long, value_name = "closed|open", default_value = "closed", env = "LATERNA_ROOM", hide_env_values = true)]
    pub room: String,
    /// Whom the daemon offers the stream when they join the room: none, joined (everybody), glob:PATTERN (names; * and ?)
    #[arg(
        long,
        value_name = "none|joined|glob:PATTERN",
        default_value = "none",
        env = "LATERNA_CALL",
        hide_env_values = true
    )]
    pub call: String,
    /// A signaling server to sign in to, as PROTOCOL+URL: peerconnection+http, mdn+ws, socketio+http, channel+ws, whip+http, or with https and wss; several by comma or by repeating the flag
    #[arg(long, value_name = "URL", value_delimiter = ',', env = "LATERNA_SIGNALING", hide_env_values = true)]
    pub signaling: Vec<String>,
    /// A STUN or TURN server, as stun:HOST or turn:HOST?user=NAME&password-file=PATH; several by comma or by repeating the flag
    #[arg(long, value_name = "URL", value_delimiter = ',', env = "LATERNA_ICE_SERVER", hide_env_values = true)]
    pub ice_server: Vec<String>,
    /// The public address of this machine behind a NAT that maps it one to one; one for each family at most
    #[arg(long, value_name = "IP", value_delimiter = ',', env = "LATERNA_PUBLIC_IP", hide_env_values = true)]
    pub public_ip: Vec<String>,
    /// Which of this machine's networks viewers are told of: names of interfaces (* and ?) or address blocks, as eth0 or 10.0.0.0/8; with ! before it, which not
    #[arg(long, value_name = "LIST", value_delimiter = ',', env = "LATERNA_NETWORK", hide_env_values = true)]
    pub network: Vec<String>,
    /// Where sound comes from: auto (system where a sound server runs, else off), system, mic, mic:NAME, tone, off
    #[arg(long, value_name = "SPEC", default_value = "auto", env = "LATERNA_AUDIO", hide_env_values = true)]
    pub audio: String,
    /// Whether pictures wait for their sound: auto, lip, low-latency (auto: lip where the sound is the system's)
    #[arg(long, value_name = "HOW", default_value = "auto", env = "LATERNA_SYNC", hide_env_values = true)]
    pub sync: String,
    /// Where the control socket is made, for `laterna status` and the like (default: laterna/control.sock in $XDG_RUNTIME_DIR, else in /run)
    #[arg(long, value_name = "PATH", env = "LATERNA_CONTROL", hide_env_values = true)]
    pub control: Option<PathBuf>,
    /// What is logged on stderr: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "LATERNA_LOG", hide_env_values = true)]
    pub log: String,
    /// The flags above whose value comes from a variable.
    #[arg(skip)]
    variables: Vec<String>,
}

impl RunArgs {
    /// Pairs a value of this command line with the way it was written.
    pub fn asked(&self, flag: &'static str, value: &str) -> Asked {
        Asked { flag, variable: self.variables.iter().any(|name| name == flag), value: value.to_owned() }
    }
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// To broadcast.
    Run(Box<RunArgs>),
    /// Something of a daemon that runs.
    Operate {
        /// What.
        operation: Operation,
        /// Its control socket, where one is named.
        control: Option<PathBuf>,
    },
    /// To print the help or the version.
    Print(Box<clap::Error>),
}

/// Why a command line is refused; one line.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The contract has it, this version does not.
    #[error("{asked}: not yet; {advice}")]
    NotYet {
        /// The command or flag.
        asked: String,
        /// What this version does instead.
        advice: &'static str,
    },
    /// Nothing the contract has.
    #[error("{asked}: {found}; {advice}")]
    Unknown {
        /// What was written.
        asked: String,
        /// What is wrong with it.
        found: String,
        /// What to write.
        advice: String,
    },
}

/// Reads a command line (the program's name first) and the `LATERNA_*` variables.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, CliError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let explain = |error: &clap::Error| explain(error, &help_of(args.get(1)));
    let matches = match command().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Invocation::Print(Box::new(error)));
        }
        Err(error) => return Err(explain(&error)),
    };
    if let Some(run) = matches.subcommand_matches("run") {
        refuse_not_yet(run)?;
    }
    let operate = |operation, daemon: DaemonArgs| Ok(Invocation::Operate { operation, control: daemon.control });
    match Cli::from_arg_matches(&matches).map_err(|error| explain(&error))?.command {
        CliCommand::Run(mut args) => {
            if let Some(run) = matches.subcommand_matches("run") {
                args.variables = from_variables(run);
            }
            Ok(Invocation::Run(args))
        }
        CliCommand::Status { json, watch, daemon } => operate(Operation::Status { json, watch }, daemon),
        CliCommand::Peers { json, daemon } => operate(Operation::Peers { json }, daemon),
        CliCommand::Call { peer, .. } if peer.trim().is_empty() => Err(CliError::Unknown {
            asked: format!("call '{}'", one_line(&peer)),
            found: "an empty name".to_owned(),
            advice: "write the id or the name of a peer, as `laterna peers` lists them".to_owned(),
        }),
        CliCommand::Call { peer, server, daemon } => operate(Operation::Call { peer, server }, daemon),
        CliCommand::Kick { viewer, daemon } => operate(Operation::Kick { viewer }, daemon),
        CliCommand::Other(words) => Err(refuse_command(&words)),
    }
}

/// The whole command line; the flags of later versions are named at the end of the help only.
pub fn command() -> Command {
    let flags = FLAGS_NOT_YET.iter().map(|(flag, _)| format!("--{flag}")).collect::<Vec<_>>().join(" ");
    let help = format!(
        "`laterna run --help` lists the settings, with examples.\n\nNot yet in this version: {}",
        COMMANDS_NOT_YET.join(" ")
    );
    Cli::command().after_help(help).mut_subcommand("run", |run| {
        let run = run.after_help(format!("{EXAMPLES}\n\nNot yet in this version: {flags}"));
        FLAGS_NOT_YET.iter().fold(run, |run, (flag, variable)| {
            let arg = Arg::new(*flag).long(*flag).env(*variable).hide(true);
            run.arg(arg.num_args(0..=1).action(ArgAction::Append).value_parser(clap::value_parser!(OsString)))
        })
    })
}

fn refuse_not_yet(run: &ArgMatches) -> Result<(), CliError> {
    let advice = "leave it out; `laterna run --help` lists what this version does";
    for (flag, variable) in FLAGS_NOT_YET {
        let asked = match run.value_source(flag) {
            Some(ValueSource::CommandLine) => format!("run --{flag}"),
            Some(ValueSource::EnvVariable) => (*variable).to_owned(),
            _ => continue,
        };
        return Err(CliError::NotYet { asked, advice });
    }
    Ok(())
}

fn refuse_command(words: &[OsString]) -> CliError {
    let asked = words.first().map(|word| one_line(&word.to_string_lossy())).unwrap_or_default();
    if COMMANDS_NOT_YET.contains(&asked.as_str()) {
        return CliError::NotYet { asked, advice: "`laterna --help` lists what this version does" };
    }
    CliError::Unknown {
        asked,
        found: "no such command".into(),
        advice: "try `laterna run`, or see `laterna --help`".into(),
    }
}

fn from_variables(run: &ArgMatches) -> Vec<String> {
    let by_variable = |id: &&str| run.value_source(id) == Some(ValueSource::EnvVariable);
    run.ids().map(clap::Id::as_str).filter(by_variable).map(|id| id.replace('_', "-")).collect()
}

/// Where the help is on what was asked for.
fn help_of(word: Option<&OsString>) -> String {
    let word = word.and_then(|word| word.to_str()).filter(|word| Cli::command().find_subcommand(word).is_some());
    word.map_or_else(|| "see `laterna --help`".to_owned(), |word| format!("see `laterna {word} --help`"))
}

/// Makes one line of what clap says in several.
fn explain(error: &clap::Error, help: &str) -> CliError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(one_line(text)),
        Some(ContextValue::Strings(texts)) => texts.first().map(|text| one_line(text)),
        _ => None,
    };
    let help = help.to_owned();
    let asked = text(ContextKind::InvalidArg).or_else(|| text(ContextKind::InvalidSubcommand)).unwrap_or_default();
    let unknown = |found: &str, advice| CliError::Unknown { asked: asked.clone(), found: found.to_owned(), advice };
    match error.kind() {
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => CliError::Unknown {
            asked: "no command".into(),
            found: "found nothing after `laterna`".into(),
            advice: "try `laterna run`, or see `laterna --help`".into(),
        },
        ErrorKind::UnknownArgument => match text(ContextKind::SuggestedArg) {
            Some(near) => unknown("no such flag", format!("did you mean {near}? {}", capital(&help))),
            None if asked.starts_with('-') => unknown("no such flag", help),
            None => unknown("not a flag", help),
        },
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => match text(ContextKind::InvalidValue) {
            Some(value) if !value.is_empty() => unknown(&format!("can't be '{value}'"), help),
            _ => unknown("its value is missing", help),
        },
        ErrorKind::MissingRequiredArgument => unknown("it is missing", help),
        ErrorKind::ArgumentConflict => unknown("given more than once", "give it once".into()),
        ErrorKind::InvalidUtf8 => CliError::Unknown {
            asked: "the command line".into(),
            found: "found a value that is not UTF-8".into(),
            advice: "write it in UTF-8".into(),
        },
        ErrorKind::InvalidSubcommand => unknown("no such command", "see `laterna --help`".into()),
        kind => unknown(&kind.to_string(), help),
    }
}

/// The same words at the beginning of a sentence.
fn capital(words: &str) -> String {
    let mut characters = words.chars();
    characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
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
                let line = refused(&format!("laterna run --{flag}{rest}"));
                assert!(line.starts_with(&format!("run --{flag}: not yet")), "{line}");
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
            ("laterna kick", "<VIEWER>: it is missing; see `laterna kick --help`"),
            ("laterna kick x", "<VIEWER>: can't be 'x'; see `laterna kick --help`"),
            ("laterna kick 1 2", "2: not a flag"),
            ("laterna call", "<NAME|ID>: it is missing"),
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
        let call =
            |peer: &str, server: Option<&str>| Operation::Call { peer: peer.into(), server: server.map(Into::into) };
        for (line, operation, at) in [
            ("laterna status", Operation::Status { json: false, watch: false }, None),
            (
                "laterna status --watch --json --control /x",
                Operation::Status { json: true, watch: true },
                control.clone(),
            ),
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
}
