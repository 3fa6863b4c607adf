//! `./dev bench`: what it takes from the screen to the browser, in time and in CPU, each figure beside its floor and its bar.
//!
//! `--only latency`: audio off, one viewer, 1920x1080, Chromium through chromedriver. `--only sources`: what pictures of each
//! source, composition and switches cost. `--only fanout`: many light viewers, what they cost
//! (`--only cost`, perhaps for other numbers of them: `--viewers 1,200`) and how they join (`--only storm`). A table goes to stdout, JSON
//! to `--json PATH`; `--quick` makes everything short (for smoke tests: its figures mean little).
//!
//! *Shown* is the time of the `requestVideoFrameCallback` of the first frame that carries a change's number (or a later one, where
//! changes were put into one frame): `performance.timeOrigin + performance.now()`, the same wall clock that the X client reads
//! right before it sends the change's requests. How far the two clocks are apart is measured and printed.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark: a failure is a panic, a report is printed")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use report::Report;

#[path = "latency/cpu.rs"]
mod cpu;
#[path = "latency/delay.rs"]
mod delay;
#[path = "fanout/mod.rs"]
mod fanout;
#[path = "latency/join.rs"]
mod join;
#[path = "latency/report.rs"]
mod report;
#[path = "latency/sources.rs"]
mod sources;
#[path = "../tests/support/mod.rs"]
mod support;

/// The screen of all measurements.
const SCREEN: (u16, u16) = (1920, 1080);

/// How long things are measured.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Before anything counts: connections and rate control settle.
    warm: Duration,
    /// Each kind of drawing.
    drawing: Duration,
    /// The still screen.
    still: Duration,
    /// Fresh connections.
    joins: usize,
}

impl Effort {
    const FULL: Self = Self {
        warm: Duration::from_secs(6),
        drawing: Duration::from_secs(30),
        still: Duration::from_secs(60),
        joins: 20,
    };
    const QUICK: Self =
        Self { warm: Duration::from_secs(3), drawing: Duration::from_secs(6), still: Duration::from_secs(8), joins: 5 };
}

/// A kind of drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A letter at a time.
    Typing,
    /// The whole page up by a line at a time.
    Scrolling,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Typing, Self::Scrolling];

    fn name(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::Scrolling => "scrolling",
        }
    }

    /// Changes a second.
    fn rate(self) -> u32 {
        match self {
            Self::Typing => 10,
            Self::Scrolling => 20,
        }
    }

    fn draw(self) -> fn(&mut support::xclient::XClient) -> support::xclient::Drawn {
        match self {
            Self::Typing => support::xclient::XClient::type_letter,
            Self::Scrolling => support::xclient::XClient::scroll,
        }
    }
}

const PARTS: [&str; 5] = ["latency", "sources", "fanout", "cost", "storm"];
const USAGE: &str = "[--quick] [--only latency|sources|fanout|cost|storm] [--viewers N,N…] [--json PATH]";

/// What is asked for on the command line.
struct Arguments {
    quick: bool,
    only: Option<String>,
    viewers: Option<Vec<usize>>,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, rest @ ..] = &args[..]
        && word == fanout::RECEIVER
    {
        fanout::receive(rest);
        return ExitCode::SUCCESS;
    }
    let Arguments { quick, only, viewers, json } = match arguments(args) {
        Ok(arguments) => arguments,
        Err(arg) => {
            eprintln!("latency: {arg:?} can't be understood; usage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    let wanted = |parts: [&str; 2]| only.as_deref().is_none_or(|only| parts.contains(&only));
    let mut report = Report::new();
    println!("{}", report.machine());
    if wanted(["latency", "latency"]) {
        measure_latency(if quick { Effort::QUICK } else { Effort::FULL }, &mut report);
    }
    if wanted(["sources", "sources"]) {
        sources::measure(if quick { Effort::QUICK } else { Effort::FULL }, &mut report);
    }
    let mut effort = if quick { fanout::Effort::QUICK } else { fanout::Effort::FULL };
    effort.viewers = viewers.map_or(effort.viewers, Into::into);
    if wanted(["fanout", "cost"]) {
        fanout::cost::measure(&effort, &mut report);
    }
    if wanted(["fanout", "storm"]) {
        fanout::storm::measure(&effort, &mut report);
    }
    println!("\n{}", report.table());
    if let Some(path) = json {
        std::fs::write(&path, report.json()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    ExitCode::SUCCESS
}

fn measure_latency(effort: Effort, report: &mut Report) {
    for kind in Kind::ALL {
        let run = delay::measure(kind, effort, report);
        cpu::measure_drawing(kind, effort, run, report);
    }
    cpu::measure_still(effort, report);
    join::measure(effort, report);
}

/// The arguments, or the one that can't be understood.
fn arguments(args: Vec<String>) -> Result<Arguments, String> {
    let mut understood = Arguments { quick: false, only: None, viewers: None, json: None };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => understood.quick = true,
            "--only" => {
                let part = args.next().filter(|part| PARTS.contains(&part.as_str()));
                understood.only = Some(part.ok_or(arg)?);
            }
            "--viewers" => {
                let numbers = args.next().unwrap_or_default();
                let numbers: Vec<usize> = numbers.split(',').map_while(|number| number.parse().ok()).collect();
                let rising = numbers.is_sorted_by(|a, b| a < b) && numbers.first().is_some_and(|least| *least > 0);
                understood.viewers = Some(rising.then_some(numbers).ok_or(arg)?);
            }
            "--json" => understood.json = Some(PathBuf::from(args.next().ok_or(arg)?)),
            // Cargo says so to every benchmark.
            "--bench" => {}
            _ => return Err(arg),
        }
    }
    Ok(understood)
}
