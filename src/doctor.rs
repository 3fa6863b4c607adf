//! `laterna doctor`: whether this machine can broadcast as it is configured, and what to do where it can't; with or without a daemon.
//!
//! Each check is a verdict over facts: [`screen`], [`layers`], [`media`], [`network`] and [`machine`] judge and are pure, `gather` asks the system. A check has a thread and
//! a deadline of its own, so that one that hangs is told as such and keeps no other from its say. Nothing is changed, and nothing needs root.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;

use crate::config::load::{LoadError, Loaded};
use crate::config::{RunConfig, one_line};
use crate::control::wire::Status;
use crate::source::{Kind, Layer, SourceOptions};

mod gather;
pub mod layers;
pub mod machine;
pub mod media;
pub mod network;
pub mod screen;

/// How long a check may take.
const WITHIN: Duration = Duration::from_secs(6);
/// The column where the words begin.
const WORDS: usize = 18;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing stands in the way.
    Ok,
    /// Broadcasting works, but not all of it, or not well.
    Warn,
    /// What the configuration asks for does not work.
    Fail,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it ended.
    pub level: Level,
    /// What was found; one line.
    pub found: String,
    /// What to do; one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: None }
    }

    /// Something is not as it should be.
    pub fn new(check: &'static str, level: Level, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level, found: found.into(), advice: Some(advice.into()) }
    }

    /// What an error of the house says: what was found, and after a semicolon what to do.
    pub fn of_error(check: &'static str, level: Level, error: &str) -> Self {
        match error.split_once("; ") {
            Some((found, advice)) => Self::new(check, level, found, advice),
            None => Self { check, level, found: error.to_owned(), advice: None },
        }
    }

    /// With what may be done, although nothing has to.
    #[must_use]
    pub fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// laterna's version.
    pub version: &'static str,
    /// In the order of the checks.
    pub checks: Vec<Finding>,
}

impl Report {
    /// Whether anything that was asked for does not work.
    pub fn has_failed(&self) -> bool {
        self.checks.iter().any(|finding| finding.level == Level::Fail)
    }

    /// In words: a line for each check, another for what to do, and a sum.
    pub fn in_words(&self) -> String {
        let mut text = String::new();
        for finding in &self.checks {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            // Writing to a text never fails.
            let _ = writeln!(text, "{level:<6}{:<12}{}", finding.check, one_line(&finding.found));
            if let Some(advice) = &finding.advice {
                let _ = writeln!(text, "{:WORDS$}-> {}", "", one_line(advice));
            }
        }
        let count = |level| self.checks.iter().filter(|finding| finding.level == level).count();
        let sum = match (count(Level::Fail), count(Level::Warn)) {
            (0, 0) => "all is well".to_owned(),
            (0, 1) => "it works; 1 warning".to_owned(),
            (0, warnings) => format!("it works; {warnings} warnings"),
            (failed, warnings) => format!("{failed} failed, {}", plural(warnings, "warning")),
        };
        let _ = writeln!(text, "\n{sum}");
        text
    }
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What is looked at.
#[derive(Debug)]
pub struct Patient {
    /// The configuration, or why there is none.
    pub loaded: Result<Loaded, LoadError>,
    /// What holds where the configuration makes no sense.
    pub defaults: RunConfig,
    /// Where the control socket is, if that is known.
    pub control: Option<PathBuf>,
}

/// Examines this machine.
pub fn examine(patient: Patient) -> Report {
    let config = patient.loaded.as_ref().map_or(&patient.defaults, |loaded| &loaded.config).clone();
    let mut checks = machine::config(&patient.loaded.as_ref().map(|loaded| loaded.file.as_deref()));
    if let Ok(loaded) = &patient.loaded
        && let Err(error) = crate::daemon::check_files(&loaded.config)
    {
        let advice = "`laterna run` would end there: mend it, or leave it out";
        checks.push(Finding::new("config", Level::Fail, format!("{error:#}"), advice));
    }
    let control = patient.control;
    let daemon = Check::start("daemon", move || gather::daemon(control.as_deref())).finish();
    let has_daemon = daemon.as_ref().map_or(true, layers::is_there);
    let status: Option<Status> = match daemon {
        Ok(found) => {
            checks.extend(machine::daemon(&found));
            found.ok()
        }
        Err(lost) => {
            checks.push(lost);
            None
        }
    };
    // What waits for others goes on beside what takes time of this machine.
    let servers = gather::network::servers(&config);
    let servers: Vec<_> = servers.into_iter().map(|look| Check::start("servers", look)).collect();
    let mut add = |findings: Result<Vec<Finding>, Finding>| checks.extend(findings.unwrap_or_else(|lost| vec![lost]));

    let source = config.source.clone();
    let (fps, by) = (config.fps, config.capture);
    let display = Check::start("display", move || gather::screen::display(source, by)).finish();
    add(display.as_ref().map(screen::display).map_err(Clone::clone));
    if let Some(display) = display.ok().filter(screen::is_there) {
        let asked = display.asked.clone();
        let captured = Check::start("capture", move || gather::screen::capture(&display, fps)).finish();
        add(captured.map(|captured| vec![screen::capture(&asked, &captured)]));
    }
    let to_open = layers::to_open(&config.source, config.fallback.as_ref(), has_daemon);
    let look = |(role, layer): (layers::Role, Layer)| {
        let options = SourceOptions { fps, pointer: false, capture: by, ..SourceOptions::default() };
        (role, Check::start("source", move || gather::screen::open(&layer, &options)).finish())
    };
    let opened: Vec<_> = to_open.into_iter().map(look).collect();
    let is_lost = |(role, opened): &(layers::Role, Result<Result<String, String>, Finding>)| {
        *role == layers::Role::Fallback && !matches!(opened, Ok(Ok(_)))
    };
    let has_fallback = config.fallback.is_some() && !opened.iter().any(is_lost);
    for (role, opened) in opened {
        add(opened.map(|opened| vec![layers::layer(role, has_fallback, &opened)]));
    }
    add(Check::start("cameras", gather::screen::cameras).finish().map(|found| screen::cameras(&found)));
    let (audio, with_lesson) = (config.audio.clone(), matches!(config.source.base.kind, Kind::File { .. }));
    add(Check::start("sound", move || gather::media::sound(audio, with_lesson))
        .finish()
        .map(|found| vec![media::sound(&found)]));
    for (codec, is_asked) in media::codecs(&config) {
        let (size, bitrate) = (config.size.unwrap_or(media::LARGEST_DEFAULT), config.bitrate);
        let found = Check::start("codec", move || gather::media::codec(codec, size, bitrate, fps)).finish();
        add(found.map(|result| vec![media::codec(&media::CodecFacts { codec, size, fps, is_asked, result })]));
    }
    add(Ok(vec![media::processor(&gather::media::processor())]));
    let asked = config.clone();
    let own = status.map(|status| network::own_ports(&status)).unwrap_or_default();
    add(Check::start("ports", move || gather::network::ports(&asked, own))
        .finish()
        .map(|found| network::ports(&found)));
    let ports = network::ports_of(&config);
    add(Check::start("firewall", gather::network::firewall)
        .finish()
        .map(|found| vec![network::firewall(&found, &ports)]));
    let asked = config.clone();
    add(Check::start("addresses", move || gather::network::addresses(&asked))
        .finish()
        .map(|f| vec![network::addresses(&f)]));
    for server in servers {
        add(server.finish().map(|found| vec![network::server(&found)]));
    }
    add(Ok(network::browsers(&config)));
    add(Check::start("clock", || gather::clock::clock().is_synchronised())
        .finish()
        .map(|found| vec![machine::clock(found)]));
    add(Check::start("limits", gather::machine::limits).finish().map(|found| machine::limits(&found)));
    let auth = config.auth.clone();
    add(Check::start("state", move || gather::machine::state(&auth)).finish().map(|found| machine::state(&found)));
    add(Check::start("service", gather::machine::units).finish().map(|found| vec![machine::units(&found)]));
    Report { version: env!("CARGO_PKG_VERSION"), checks }
}

/// A look at something, in a thread of its own.
struct Check<T> {
    name: &'static str,
    found: mpsc::Receiver<T>,
    until: std::time::Instant,
}

impl<T: Send + 'static> Check<T> {
    fn start(name: &'static str, look: impl FnOnce() -> T + Send + 'static) -> Self {
        let (tell, found) = mpsc::sync_channel(1);
        let until = std::time::Instant::now() + WITHIN;
        // A thread that can't be made drops the sender; one that comes too late finds nobody listening.
        let _ = std::thread::Builder::new().name(format!("doctor-{name}")).spawn(move || drop(tell.send(look())));
        Self { name, found, until }
    }

    /// What was found, or that it was not in time.
    fn finish(self) -> Result<T, Finding> {
        let left = self.until.saturating_duration_since(std::time::Instant::now());
        self.found.recv_timeout(left).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => Finding::new(
                self.name,
                Level::Fail,
                format!("the check hangs: nothing came within {} s", WITHIN.as_secs()),
                "what it looks at does not answer: see the log of that, or of the kernel",
            ),
            mpsc::RecvTimeoutError::Disconnected => Finding::new(
                self.name,
                Level::Fail,
                "the check itself failed; this is a bug",
                "its message is above: report it",
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_report_has_a_line_for_each_check_and_a_sum() {
        let mut report = Report { version: "1.2.3", checks: vec![Finding::ok("display", ":0 1920x1080\n")] };
        assert_eq!(report.in_words(), "ok    display     :0 1920x1080\\n\n\nall is well\n");
        report.checks.push(Finding::of_error("sound", Level::Warn, "no server; start one; or not"));
        assert!(
            report.in_words().ends_with(
                "warn  sound       no server\n                  -> start one; or not\n\nit works; 1 warning\n"
            )
        );
        assert!(!report.has_failed());
        report.checks.push(Finding::of_error("clock", Level::Fail, "none"));
        assert!(report.has_failed() && report.in_words().ends_with("\n1 failed, 1 warning\n"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][1]["level"], "warn");
        assert_eq!(json["checks"][1]["advice"], "start one; or not");
        assert!(json["checks"][2].get("advice").is_none());
    }

    #[test]
    fn a_check_that_hangs_or_panics_is_told_as_such() {
        let (release, held) = mpsc::sync_channel::<()>(0);
        let mut hanging = Check::start("display", move || held.recv().is_ok());
        hanging.until = std::time::Instant::now();
        let lost = hanging.finish().unwrap_err();
        assert!(lost.level == Level::Fail && lost.found.contains("hangs"), "{lost:?}");
        drop(release);
        let lost = Check::<()>::start("sound", || panic!("as the test wants")).finish().unwrap_err();
        assert!(lost.found.contains("bug"), "{lost:?}");
        assert_eq!(Check::start("clock", || 7).finish(), Ok(7));
    }
}
