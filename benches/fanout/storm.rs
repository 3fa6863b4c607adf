//! First pictures of viewers that come alone and all at once, and what whoever was there before notices of it.

use std::time::Duration;

use serde_json::json;

use super::child::{Child, Joined, Picture, Taken};
use super::{Effort, Scene, dropped_by};
use crate::report::{Percentiles, Report};

/// Viewers that are there before.
const RESIDENTS: usize = 3;
/// A picture so many times the usual one is a keyframe.
const KEYFRAME: usize = 3;
/// What is captured so long after a keyframe is reported apart (seconds).
const AFTERMATH: f64 = 0.1;
/// How long a storm is watched after its last picture.
const CALMING: Duration = Duration::from_secs(2);

/// Measures joins.
pub fn measure(effort: &Effort, report: &mut Report) {
    let scene = Scene::start();
    for (index, count) in effort.storms.iter().copied().enumerate() {
        let daemon = scene.broadcast("off");
        let mut receiver = Child::of(&daemon, false);
        for _ in 0..RESIDENTS {
            receiver.join(1);
        }
        receiver.run(effort.settle);
        if index == 0 {
            alone(effort, &mut receiver, report);
        }
        receiver.mark();
        receiver.run(effort.calm);
        let calm = Watched::of(&receiver.take(RESIDENTS));
        receiver.mark();
        let joined = receiver.join(count);
        receiver.run(CALMING);
        let taken = receiver.take(RESIDENTS);
        storm(count, &joined, &taken, &calm, report);
        receiver.leave(0);
        drop(receiver);
        let given_up = dropped_by(daemon);
        report.note(&format!("storm of {count}: datagrams given up by the daemon"), json!(given_up));
    }
}

fn alone(effort: &Effort, receiver: &mut Child, report: &mut Report) {
    let (mut connected, mut pictured) = (Vec::new(), Vec::new());
    for _ in 0..effort.alone {
        let joined = receiver.join(1);
        connected.extend(joined.connected);
        pictured.extend(joined.pictured);
        receiver.leave(RESIDENTS);
        receiver.run(Duration::from_millis(300));
    }
    let (connected, pictured) = (Percentiles::of(connected).unwrap(), Percentiles::of(pictured).unwrap());
    report.note("alone: offer to connection p50 [ms]", json!(connected.p50));
    report.add_percentiles("alone: offer to first picture", pictured, None, [None, None]);
}

fn storm(count: usize, joined: &Joined, taken: &Taken, calm: &Watched, report: &mut Report) {
    let connected = Percentiles::of(joined.connected.clone()).unwrap();
    let text = format!("p50 {:.0}, p95 {:.0} ms", connected.p50, connected.p95);
    report.note(&format!("storm of {count}: offer to connection"), json!(text));
    let pictured = Percentiles::of(joined.pictured.clone()).unwrap();
    report.add_percentiles(&format!("storm of {count}: offer to first picture"), pictured, None, [None, None]);
    let watched = Watched::of(taken);
    // One may be due at once; from then on, one a second.
    let most = 1.0 + watched.span.floor();
    report.add(&format!("storm of {count}: keyframes"), "pictures", watched.keyframes as f64, None, Some(most));
    report.note(&format!("storm of {count}: watched for [s]"), json!(watched.span));
    let before = Percentiles::of(calm.delays.clone()).unwrap();
    let during = Percentiles::of(watched.delays.clone()).unwrap();
    let name = format!("storm of {count}: capture to arrival for others p99");
    report.add(&name, "ms", during.p99, Some(before.p99), Some(before.p99 + 5.0));
    let text = format!(
        "calm p50 {:.1}, p95 {:.1}, p99 {:.1} ({} keyframes); storm p50 {:.1}, p95 {:.1}, p99 {:.1}, most {:.1} ms",
        before.p50,
        before.p95,
        before.p99,
        calm.keyframes,
        during.p50,
        during.p95,
        during.p99,
        watched.delays.iter().copied().fold(0.0, f64::max),
    );
    report.note(&format!("storm of {count}: capture to arrival"), json!(text));
    let joining = pictured_most(joined);
    let each: Vec<_> = taken.pictures.iter().map(|pictures| by_phase(pictures, joining)).collect();
    report.note(&format!("storm of {count}: each of those who were there"), json!(each));
    let apart = Percentiles::of(watched.apart.clone());
    let apart = apart.map_or_else(|| "none".to_owned(), |p| format!("p50 {:.1}, p99 {:.1} ms", p.p50, p.p99));
    report.note(&format!("storm of {count}: keyframes and what follows them"), json!(apart));
    report.note(
        &format!("storm of {count}: packets missing, and lost by the receiver's sockets"),
        json!(format!("{}, {}", taken.missing, taken.socket_lost)),
    );
}

/// How long the joins took, in seconds.
fn pictured_most(joined: &Joined) -> f64 {
    joined.pictured.iter().copied().fold(0.0, f64::max) / 1000.0
}

/// A viewer's delays while others joined, and once they were there; keyframes included.
fn by_phase(pictures: &[Picture], joining: f64) -> String {
    let start = pictures.first().map_or(0.0, |picture| picture.0);
    let (during, after): (Vec<_>, Vec<_>) = pictures.iter().partition(|picture| picture.0 < start + joining);
    let tell = |pictures: Vec<&Picture>| {
        let delays = Percentiles::of(pictures.iter().map(|picture| picture.1).collect());
        delays.map_or_else(|| "none".to_owned(), |p| format!("p50 {:.1}, p99 {:.1}", p.p50, p.p99))
    };
    format!("joining {}; then {}", tell(during), tell(after))
}

/// What the viewers who were there noticed.
struct Watched {
    /// From capture to arrival in ms, without keyframes and what was captured within 100 ms after one.
    delays: Vec<f64>,
    /// Those.
    apart: Vec<f64>,
    /// Keyframes, by their size.
    keyframes: usize,
    /// The time that was watched, in seconds.
    span: f64,
}

impl Watched {
    fn of(taken: &Taken) -> Self {
        let mut watched = Self { delays: Vec::new(), apart: Vec::new(), keyframes: 0, span: 0.0 };
        for pictures in &taken.pictures {
            let packets = |picture: &Picture| picture.2.len();
            let mut sorted: Vec<_> = pictures.iter().map(packets).collect();
            sorted.sort_unstable();
            let usual = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
            let mut keyframe = f64::NEG_INFINITY;
            let mut keyframes = 0;
            for picture in pictures {
                if packets(picture) > KEYFRAME * usual {
                    keyframe = picture.0;
                    keyframes += 1;
                }
                let apart = picture.0 <= keyframe + AFTERMATH;
                (if apart { &mut watched.apart } else { &mut watched.delays }).push(picture.1);
            }
            watched.keyframes = watched.keyframes.max(keyframes);
            let span = pictures.last().zip(pictures.first()).map_or(0.0, |(last, first)| last.0 - first.0);
            watched.span = watched.span.max(span);
        }
        watched
    }
}
