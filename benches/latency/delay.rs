//! (a) From a change drawn by an X client to the frame that shows it, beside the same browser's floor.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::report::{Percentiles, Report};
use crate::support::browser::Browser;
use crate::support::daemon::{Daemon, Setup};
use crate::support::xclient::{Drawn, XClient, unix_millis};
use crate::support::xvfb::Xvfb;
use crate::{Effort, Kind, SCREEN};

/// What a run of drawing cost, for the figures of CPU.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// How long it took.
    pub took: Duration,
    /// CPU time of the daemon.
    pub daemon: Duration,
    /// CPU time of the X server.
    pub server: Duration,
}

/// A number of the strip and when it was shown.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Seen {
    number: u32,
    at: f64,
}

/// A canvas looped back in the page.
#[derive(Debug, Deserialize)]
struct Floor {
    drawn: Vec<Seen>,
    seen: Vec<Seen>,
}

/// Everything that a measurement through the daemon needs, playing.
pub struct Bench {
    /// The screen.
    pub screen: Xvfb,
    /// The daemon.
    pub daemon: Daemon,
    /// The browser, whose page plays.
    pub browser: Browser,
}

impl Bench {
    /// Starts all, with a page of text on the screen.
    pub fn open() -> (Self, XClient) {
        let screen = Xvfb::start(SCREEN.0, SCREEN.1);
        let mut client = XClient::open(&screen.display());
        client.fill_with_text();
        let setup = Setup::new(&["--source", "screen", "--log", "info"]).display(&screen.display());
        let daemon = setup.start();
        let browser = Browser::start();
        browser.open(&daemon.page());
        browser.run::<String>("return lt.state(['playing'], 20000)", &[]);
        (Self { screen, daemon, browser }, client)
    }

    /// Awaits that the page shows this change or a later one.
    pub fn shows(&self, change: Drawn) {
        self.browser.run::<Value>("return lt.number(...args)", &[json!(change.number), json!(20_000), size()]);
    }
}

/// The screen's size as an argument for scripts.
fn size() -> Value {
    json!([SCREEN.0, SCREEN.1])
}

/// Measures one kind of drawing; gives what it cost.
pub fn measure(kind: Kind, effort: Effort, report: &mut Report) -> Run {
    let (bench, client) = Bench::open();
    report.note(&format!("{} clocks apart [ms]", kind.name()), json!(clocks_apart(&bench.browser)));
    let changes = |time: Duration| (time.as_secs_f64() * f64::from(kind.rate())) as usize;

    let warm = client.draw_steadily(kind.rate(), kind.draw());
    let mut client = warm.stop_after(effort.warm).0;
    bench.shows(client.stamp());
    bench.browser.run::<Value>("lt.watch(...args)", &[size()]);
    let (start, daemon, server) = (Instant::now(), bench.daemon.cpu(), bench.screen.cpu());
    let drawing = client.draw_steadily(kind.rate(), kind.draw());
    let (client, drawn) = drawing.stop_after(effort.drawing);
    let run = Run {
        took: start.elapsed(),
        daemon: bench.daemon.cpu().saturating_sub(daemon),
        server: bench.screen.cpu().saturating_sub(server),
    };
    bench.shows(*drawn.last().unwrap());
    let stats: Value = bench.browser.run("return lt.stats()", &[]);
    let seen: Vec<Seen> = bench.browser.run("return lt.take()", &[]);
    assert!(drawn.len() + 2 >= changes(effort.drawing), "the client drew {} changes only", drawn.len());
    drop((client, bench));

    let drawn: Vec<Seen> = drawn.iter().map(|d| Seen { number: d.number, at: d.at }).collect();
    let values = delays(&drawn, &seen).unwrap();
    let floor = best_floor(kind, effort, report);
    let bars = match kind {
        Kind::Typing => [Some(25.0), Some(45.0)],
        Kind::Scrolling => [Some(40.0), Some(70.0)],
    };
    report.add_percentiles(&format!("{}: drawn to shown", kind.name()), values, floor, bars);
    let shown = 100.0 * seen.len() as f64 / drawn.len() as f64;
    report.add(&format!("{}: changes in a frame of their own", kind.name()), "%", shown, None, None);
    report.note(&format!("{} in Chromium", kind.name()), json!(in_chromium(&stats)));
    run
}

/// What the browser says of the frames: counters, and where their time went on average.
fn in_chromium(stats: &Value) -> String {
    let read = |name: &str| stats[name].as_f64().unwrap_or_default();
    let counters =
        ["framesDecoded", "framesDropped", "pliCount", "nackCount", "packetsLost", "freezeCount", "bytesReceived"];
    let counters: Vec<String> = counters.iter().map(|name| format!("{name} {}", read(name))).collect();
    let mean = |total: &str, count: &str| 1000.0 * read(total) / read(count).max(1.0);
    let buffered = mean("jitterBufferDelay", "jitterBufferEmittedCount");
    let (decoded, processed) =
        (mean("totalDecodeTime", "framesDecoded"), mean("totalProcessingDelay", "framesDecoded"));
    let times =
        format!("buffered {buffered:.1} ms, decoded {decoded:.1} ms, first packet to decoded {processed:.1} ms");
    format!("{}; mean of a frame: {times}", counters.join(", "))
}

/// The delay of each change: to the first frame that carries its number or a later one.
fn delays(drawn: &[Seen], seen: &[Seen]) -> Option<Percentiles> {
    let shown = |change: &Seen| seen.iter().find(|s| s.number >= change.number).map(|s| s.at - change.at);
    Percentiles::of(drawn.iter().filter_map(shown).collect())
}

/// The same browser, freshly started each time, showing a canvas of its own by the codec that does best.
fn best_floor(kind: Kind, effort: Effort, report: &mut Report) -> Option<Percentiles> {
    let mut best: Option<Percentiles> = None;
    for codec in ["video/VP8", "video/H264"] {
        let browser = Browser::start();
        browser.open("data:text/html,<title>floor</title>");
        let options = json!({
            "kind": kind.name(), "rate": kind.rate(), "width": SCREEN.0, "height": SCREEN.1, "codec": codec, "hint": "",
            "warm": effort.warm.as_secs(), "seconds": effort.drawing.as_secs() / 2,
        });
        let floor: Floor = browser.run("return lt.floor(args[0])", &[options]);
        let Some(values) = delays(&floor.drawn, &floor.seen) else { continue };
        let text = format!("p50 {:.1}, p95 {:.1}, p99 {:.1} ms", values.p50, values.p95, values.p99);
        report.note(&format!("{} floor by {codec}", kind.name()), json!(text));
        if best.is_none_or(|best| values.p50 < best.p50) {
            best = Some(values);
        }
    }
    best
}

/// How far the page's clock is behind ours, at most: a question's answer must lie between its asking and its arrival.
fn clocks_apart(browser: &Browser) -> String {
    let mut bounds = (f64::NEG_INFINITY, f64::INFINITY);
    for _ in 0..20 {
        let before = unix_millis();
        let page: f64 = browser.run("return lt.wall()", &[]);
        let after = unix_millis();
        bounds = (bounds.0.max(before - page), bounds.1.min(after - page));
    }
    format!("{:.1} to {:.1}", bounds.0, bounds.1)
}
