//! The `laterna` binary: arguments → logs → run → exit code.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use laterna::cli::{self, Invocation, RunArgs, manual};
use laterna::config::load::{self, LoadError, Loaded};
use laterna::config::written::Written;
use laterna::config::{Exit, MANUAL, one_line, print};
use laterna::control::client::ClientError;
use laterna::daemon::Reloads;
use laterna::logs::Destination;
use laterna::source::list;
use laterna::{control, doctor};
use tracing::info;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

fn main() -> ExitCode {
    let exit = match cli::parse(std::env::args_os()) {
        Ok(Invocation::Run(args)) => load(&args).map_or_else(refuse, |loaded| run(loaded, args)),
        Ok(Invocation::CheckConfig(args)) => {
            load(&args).map_or_else(refuse, |loaded| match laterna::daemon::check_files(&loaded.config) {
                Ok(()) => say(&print::verdict(&loaded, &places())),
                Err(error) => fail(Exit::Failed, &format!("{error:#}")),
            })
        }
        Ok(Invocation::PrintConfig(args)) => load(&args).map_or_else(refuse, |loaded| say(&print::print(&loaded))),
        Ok(Invocation::DefaultConfig) => say(MANUAL),
        Ok(Invocation::Completions(shell)) => say(&manual::completions(shell)),
        Ok(Invocation::Man(None)) => say(&manual::first().text),
        Ok(Invocation::Man(Some(dir))) => match write_pages(&dir) {
            Ok(()) => Exit::Done,
            Err(error) => {
                fail(Exit::Failed, &format!("man {}: {error}; name a directory that can be written", dir.display()))
            }
        },
        Ok(Invocation::Sources { json }) => {
            let (found, unseen) = list::all(std::env::var("DISPLAY").ok().as_deref());
            unseen.iter().for_each(|what| eprintln!("{}", one_line(what)));
            say(&if json { control::print::json(&found) + "\n" } else { list::in_words(&found) })
        }
        Ok(Invocation::Doctor { json, settings }) => examine(&settings, json),
        Ok(Invocation::Operate { operation, control }) => {
            match control::client::run(&operation, control.as_deref(), &mut std::io::stdout().lock()) {
                Ok(()) => Exit::Done,
                Err(ClientError::Output(error)) => unsaid(&error),
                Err(error) => fail(Exit::Failed, &error.to_string()),
            }
        }
        Ok(Invocation::Print(text)) => match text.print() {
            Ok(()) => Exit::Done,
            Err(error) => unsaid(&error),
        },
        Err(error) => fail(Exit::Usage, &error.to_string()),
    };
    ExitCode::from(exit as u8)
}

/// The configuration that is asked for, as far as it makes sense on this machine.
fn load(args: &RunArgs) -> Result<Loaded, LoadError> {
    let loaded = load::load(&args.written, args.file.as_deref(), &places(), &hostname())?;
    match laterna::daemon::check(&loaded) {
        Ok(()) => Ok(loaded),
        Err(error) => Err(LoadError::Invalid(vec![error])),
    }
}

/// Where the config file is looked for.
fn places() -> Vec<PathBuf> {
    load::places(|name| std::env::var_os(name))
}

fn run(loaded: Loaded, args: Box<RunArgs>) -> Exit {
    laterna::heap::give_back();
    let log = start_logs(loaded.config.log);
    match &loaded.file {
        Some(file) => info!(file = %file.display(), "the config file is read"),
        None => info!("there is no config file"),
    }
    let reloads = Reloads { load: Arc::new(move || load(&args)), log };
    match laterna::daemon::run(loaded.config, loaded.file, reloads) {
        Ok(()) => Exit::Done,
        Err(error) => fail(Exit::Failed, &format!("{error:#}")),
    }
}

/// Examines this machine for a configuration, whether that makes sense or not.
fn examine(args: &RunArgs, json: bool) -> Exit {
    let defaults = match load::layer(&Written::default(), None, &hostname()) {
        Ok(defaults) => defaults.config,
        Err(errors) => return refuse(LoadError::Invalid(errors)),
    };
    let loaded = load(args);
    let control = loaded.as_ref().ok().and_then(|loaded| loaded.config.control.clone());
    let report = doctor::examine(doctor::Patient { loaded, defaults, control });
    let text = if json { control::print::json(&report) + "\n" } else { report.in_words() };
    match say(&text) {
        Exit::Done if report.has_failed() => Exit::Failed,
        exit => exit,
    }
}

/// Says all that is wrong with a configuration, a line each.
fn refuse(error: LoadError) -> Exit {
    for line in error.to_string().lines() {
        fail(error.exit(), line);
    }
    error.exit()
}

/// Writes what was asked for to stdout.
fn say(text: &str) -> Exit {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Exit::Done,
        Err(error) => unsaid(&error),
    }
}

/// What can't be written to stdout; whoever reads no further, as `head`, has what they wanted.
fn unsaid(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Exit::Done;
    }
    fail(Exit::Failed, &format!("stdout: {error}"))
}

/// Writes all man pages into a directory.
fn write_pages(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    manual::pages().iter().try_for_each(|page| std::fs::write(dir.join(&page.file), &page.text))
}

/// Says in one line why nothing more is done.
fn fail(exit: Exit, why: &str) -> Exit {
    // Where nobody can be told, the exit code has to do.
    let _ = writeln!(std::io::stderr(), "laterna: {}", one_line(why));
    exit
}

/// Logs go to stderr; stdout belongs to the ready lines.
///
/// Gives what changes the level.
fn start_logs(level: LevelFilter) -> Arc<dyn Fn(LevelFilter) + Send + Sync> {
    // The engine's crates (rtc, rtc_ice, rtc_dtls, ...) log what any remote can cause: sessions count it instead.
    // The bus's crate warns of properties that objects of the portal do not have.
    let targets = |level| {
        Targets::new().with_default(level).with_target("rtc", LevelFilter::OFF).with_target("zbus", LevelFilter::ERROR)
    };
    let (filter, handle) = reload::Layer::new(targets(level));
    let destination = Destination::of_this_process();
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_writer(destination)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // The journal notes the time itself.
    let lines = if destination.is_journal { lines.without_time().boxed() } else { lines.boxed() };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    // It fails only once nothing is logged any more.
    Arc::new(move |level| drop(handle.reload(targets(level))))
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
