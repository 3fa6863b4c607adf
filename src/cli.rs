//! The command line: the commands and flags of the outside contract, as they are written.
//!
//! Owns the commands and their help; never judges a value, nor opens a file (that is [`crate::config`]). What the contract has and this
//! version does not is known and refused as "not yet".

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::clock::wall_now;
use crate::config::one_line;
use crate::config::tables::{NAME_ADVICE, expiry};
use crate::control::client::Command as Operation;
use crate::signaling::access::is_name;
use crate::source::{GRAMMAR, SourceSpec, SpecError};

pub mod manual;
mod run;
#[cfg(test)]
mod tests;

pub use clap_complete::Shell;
pub use run::RunArgs;

/// The commands of the contract that come in later versions.
pub const COMMANDS_NOT_YET: &[&str] = &["audio", "record", "play", "pause", "seek", "snapshot"];

/// The flags of `run` that come in later versions, each with its variable.
pub const FLAGS_NOT_YET: &[(&str, &str)] = &[("record", "LATERNA_RECORD")];

const EXAMPLES: &str = "\
Examples:
  laterna run                                    the screen if there is one, else a test card
  laterna run --source pattern                   the test card: needs no screen
  laterna run --listen 127.0.0.1:8888            for browsers on this machine only
  laterna run --size 1280x720 --bitrate 1500k    a smaller picture for a slow network
  laterna run --signaling mdn+ws://host:6503     for the pages of another signaling server
  laterna run --call joined                      for pages of the peerconnection protocol, which wait to be called
  DISPLAY=:1 laterna run --source screen         the screen of another X server
  laterna run --source screen+camera             the screen with the camera in a corner
  laterna run --source 'file:lesson.mp4?loop'    a recorded lesson, again and again

It prints a line `open http://...`: open that address in a browser to watch.
Every flag has a variable: --udp-port is LATERNA_UDP_PORT; and but for --config a key in the config file: udp-port.
A flag goes before its variable, a variable before the file. `laterna config default` prints a file that explains all.";

const EVENTS_EXAMPLES: &str = "\
Examples:
  laterna events                                 what happens from now on
  laterna events --json | jq 'select(.what == \"viewer-connected\")'

Times are UTC. A line `lost N` says that so many were not read in time.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  laterna doctor                                 this machine, with the config file that `laterna run` would take
  laterna doctor --source screen                 what is wrong with the screen, if it must be the screen
  laterna doctor --config laterna.toml --json    for programs
  sudo -u laterna laterna doctor                 as the service's user sees it

It needs no daemon, and asks one that runs. It takes the flags of `laterna run`, and checks what these would need.";

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
    /// Tells what happens, a line each, until Ctrl-C or the daemon's end: viewers, the source, sound, encoders, servers
    #[command(after_help = EVENTS_EXAMPLES)]
    Events {
        /// Each as a line of JSON
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
    /// Shows another source to all who watch, without a break; it holds until the next one, or the daemon's end
    Switch {
        /// The source, as --source takes it, or scene:NAME with a name of the config file's table scenes
        #[arg(value_name = "SPEC|scene:NAME")]
        to: String,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Lists what this machine can show, each with what to type after --source or `laterna switch`; needs no daemon
    Sources {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Lists, adds and revokes the codes by which viewers come in
    Codes {
        #[command(subcommand)]
        command: CodesArgs,
    },
    /// Checks whether this machine can broadcast as it is configured, and says what to do; exit code 1 where something fails
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Box<RunArgs>,
    },
    /// Checks the config file, or says what holds and why
    Config {
        #[command(subcommand)]
        command: ConfigArgs,
    },
    /// Prints what completes commands and flags in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Prints the manual page laterna(1), or writes all manual pages into a directory
    Man {
        /// The directory; made where it is absent
        dir: Option<PathBuf>,
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

#[derive(Debug, Subcommand)]
enum CodesArgs {
    /// Lists the codes: their names, when they expire, and how many watch by each
    List {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
        /// With the addresses to open, which have the codes in them
        #[arg(long)]
        show: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Makes a code and prints the addresses to open with it
    Add {
        /// Its name: a-z A-Z 0-9 . _ -
        name: String,
        /// When it expires: after a time, as 45m, 8h, 7d or 2w, or at a date, as 2027-07-31T18:00:00+02:00
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        expires: Option<String>,
        /// As one line of JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Takes a code back at once, and ends who watches by it; the daemon's own, main, is replaced by a new one
    Revoke {
        /// Its name
        name: String,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigArgs {
    /// Says whether `laterna run` would take the config file, the variables and the flags; all that is wrong, a line each
    Check(Box<RunArgs>),
    /// Prints all settings as `laterna run` would have them, each with where it comes from
    Print(Box<RunArgs>),
    /// Prints a config file that explains each setting and changes none
    Default,
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
    /// To say whether that would be taken.
    CheckConfig(Box<RunArgs>),
    /// To print what that would be.
    PrintConfig(Box<RunArgs>),
    /// To print the config file that explains all.
    DefaultConfig,
    /// To print what completes command lines in this shell.
    Completions(Shell),
    /// To print the first man page, or to write all into a directory.
    Man(Option<PathBuf>),
    /// To check whether this machine can do that.
    Doctor {
        /// As JSON.
        json: bool,
        /// The settings.
        settings: Box<RunArgs>,
    },
    /// To list what this machine can show.
    Sources {
        /// As JSON.
        json: bool,
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
    let explain = |error: &clap::Error| explain(error, command_of(args.get(1)).as_deref());
    let matches = match command().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Invocation::Print(Box::new(error)));
        }
        Err(error) => return Err(explain(&error)),
    };
    refuse_not_yet(&matches)?;
    let operate = |operation, daemon: DaemonArgs| Ok(Invocation::Operate { operation, control: daemon.control });
    match Cli::from_arg_matches(&matches).map_err(|error| explain(&error))?.command {
        CliCommand::Run(args) => Ok(Invocation::Run(args)),
        CliCommand::Config { command: ConfigArgs::Check(args) } => Ok(Invocation::CheckConfig(args)),
        CliCommand::Config { command: ConfigArgs::Print(args) } => Ok(Invocation::PrintConfig(args)),
        CliCommand::Config { command: ConfigArgs::Default } => Ok(Invocation::DefaultConfig),
        CliCommand::Completions { shell } => Ok(Invocation::Completions(shell)),
        CliCommand::Man { dir } => Ok(Invocation::Man(dir)),
        CliCommand::Doctor { json, settings } => Ok(Invocation::Doctor { json, settings }),
        CliCommand::Status { json, watch, daemon } => operate(Operation::Status { json, watch }, daemon),
        CliCommand::Peers { json, daemon } => operate(Operation::Peers { json }, daemon),
        CliCommand::Events { json, daemon } => operate(Operation::Events { json }, daemon),
        CliCommand::Switch { to, daemon } => {
            let is_scene = to.strip_prefix("scene:").is_some_and(|name| !name.is_empty());
            if let (false, Err(error)) = (is_scene, SourceSpec::parse(&to)) {
                return Err(switch_refused(&to, &error));
            }
            // The daemon has another working directory.
            let to = match SourceSpec::parse(&to) {
                Ok(spec) if !is_scene => spec.with_absolute_paths().to_string(),
                _ => to,
            };
            operate(Operation::Switch { to }, daemon)
        }
        CliCommand::Sources { json } => Ok(Invocation::Sources { json }),
        CliCommand::Codes { command } => {
            let (operation, daemon) = codes(command)?;
            operate(operation, daemon)
        }
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
    let run = |run: Command| run.after_help(format!("{EXAMPLES}\n\nNot yet in this version: {flags}"));
    Cli::command().after_help(help).mut_subcommand("run", run)
}

/// Refuses the flags and variables of later versions, where the settings of `run` are taken.
fn refuse_not_yet(matches: &ArgMatches) -> Result<(), CliError> {
    let advice = "leave it out; `laterna run --help` lists what this version does";
    let (command, settings) = match matches.subcommand() {
        Some(("run", settings)) => ("run", settings),
        Some(("doctor", settings)) => ("doctor", settings),
        Some(("config", config)) => match config.subcommand() {
            Some(("check", settings)) => ("config check", settings),
            Some(("print", settings)) => ("config print", settings),
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    for (flag, variable) in FLAGS_NOT_YET {
        let asked = match settings.value_source(flag) {
            Some(ValueSource::CommandLine) => format!("{command} --{flag}"),
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

/// The command that was asked for, where it is one.
fn command_of(word: Option<&OsString>) -> Option<String> {
    let word = word.and_then(|word| word.to_str())?;
    Cli::command().find_subcommand(word).map(|_| word.to_owned())
}

fn switch_refused(to: &str, error: &SpecError) -> CliError {
    let asked = format!("switch {}", one_line(to));
    let or_scene = if error.advice == GRAMMAR { ", or scene:NAME" } else { "" };
    CliError::Unknown { asked, found: error.found.clone(), advice: format!("{}{or_scene}", error.advice) }
}

fn codes(command: CodesArgs) -> Result<(Operation, DaemonArgs), CliError> {
    Ok(match command {
        CodesArgs::List { json, show, daemon } => (Operation::Codes { json, show }, daemon),
        CodesArgs::Revoke { name, daemon } => (Operation::RevokeCode { name }, daemon),
        CodesArgs::Add { name, .. } if !is_name(&name) => {
            return Err(CliError::Unknown {
                asked: format!("codes add {}", one_line(&name)),
                found: "no name of a code".to_owned(),
                advice: NAME_ADVICE.to_owned(),
            });
        }
        CodesArgs::Add { name, expires, json, daemon } => {
            let expires = expires.map(|text| match expiry(&text, wall_now()) {
                Some(expires) => Ok(expires),
                None => Err(CliError::Unknown {
                    asked: format!("codes add --expires {}", one_line(&text)),
                    found: "neither a time from now on nor a date".to_owned(),
                    advice: "write 45m, 8h, 7d or 2w, or a date as 2027-07-31T18:00:00+02:00".to_owned(),
                }),
            });
            (Operation::AddCode { name, expires: expires.transpose()?, json }, daemon)
        }
    })
}

/// Makes one line of what clap says in several.
fn explain(error: &clap::Error, command: Option<&str>) -> CliError {
    let help = command.map_or_else(|| "see `laterna --help`".to_owned(), |name| format!("see `laterna {name} --help`"));
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(one_line(text)),
        Some(ContextValue::Strings(texts)) => texts.first().map(|text| one_line(text)),
        _ => None,
    };
    let asked = text(ContextKind::InvalidArg).or_else(|| text(ContextKind::InvalidSubcommand)).unwrap_or_default();
    let unknown = |found: &str, advice| CliError::Unknown { asked: asked.clone(), found: found.to_owned(), advice };
    match error.kind() {
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let (asked, after, advice) = match command {
                Some(command) => (command, format!("laterna {command}"), help),
                None => ("no command", "laterna".to_owned(), "try `laterna run`, or see `laterna --help`".to_owned()),
            };
            CliError::Unknown { asked: asked.to_owned(), found: format!("found nothing after `{after}`"), advice }
        }
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
        ErrorKind::InvalidSubcommand => unknown("no such command", help),
        kind => unknown(&kind.to_string(), help),
    }
}

/// The same words at the beginning of a sentence.
fn capital(words: &str) -> String {
    let mut characters = words.chars();
    characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect()
}
