//! The `laterna` binary: arguments → logs → run → exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use laterna::cli::{self, Invocation};
use laterna::config::{Exit, RunConfig, one_line};
use laterna::control;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    let exit = match cli::parse(std::env::args_os()) {
        Ok(Invocation::Run(args)) => match RunConfig::resolve(&args, &hostname()) {
            Ok(config) => match laterna::daemon::check(&config) {
                Ok(()) => run(config),
                Err(error) => fail(Exit::Usage, &error),
            },
            Err(error) => fail(Exit::Usage, &error.to_string()),
        },
        Ok(Invocation::Operate { operation, control }) => {
            match control::client::run(&operation, control.as_deref(), &mut std::io::stdout().lock()) {
                Ok(()) => Exit::Done,
                Err(error) => fail(Exit::Failed, &error.to_string()),
            }
        }
        Ok(Invocation::Print(text)) => match text.print() {
            Ok(()) => Exit::Done,
            Err(error) => fail(Exit::Failed, &format!("stdout: {error}")),
        },
        Err(error) => fail(Exit::Usage, &error.to_string()),
    };
    ExitCode::from(exit as u8)
}

fn run(config: RunConfig) -> Exit {
    start_logs(config.log);
    match laterna::daemon::run(config) {
        Ok(()) => Exit::Done,
        Err(error) => fail(Exit::Failed, &format!("{error:#}")),
    }
}

/// Says in one line why nothing more is done.
fn fail(exit: Exit, why: &str) -> Exit {
    eprintln!("laterna: {}", one_line(why));
    exit
}

/// Logs go to stderr; stdout belongs to the ready lines.
fn start_logs(level: LevelFilter) {
    // The engine's crates (rtc, rtc_ice, rtc_dtls, ...) log what any remote can cause: sessions count it instead.
    let targets = Targets::new().with_default(level).with_target("rtc", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
