//! CPU and memory of the daemon by number of viewers, beside the floor of the same packets in the same run.

use std::time::Instant;

use serde_json::json;

use super::child::{Child, Taken};
use super::threads::Threads;
use super::{Effort, RATE, Scene, dropped_by, floor};
use crate::report::{Report, percent};
use crate::support::daemon::Daemon;

/// Packets of sound a second: 20 ms each.
const SOUND_RATE: f64 = 50.0;

/// What a number of viewers costs.
struct Step {
    viewers: usize,
    /// Percent of a core: all threads but those that capture and encode.
    serving: f64,
    /// Bits a second for each viewer.
    rate: f64,
}

/// Measures each number of viewers.
pub fn measure(effort: &Effort, report: &mut Report) {
    let scene = Scene::start();
    let daemon = scene.broadcast("off");
    let mut receiver = Child::of(&daemon, false);
    let (mut steps, mut memory, mut lost, mut missing, mut repeats) = (Vec::new(), Vec::new(), 0, 0, 0);
    let mut last: Option<Taken> = None;
    for viewers in effort.viewers.iter().copied() {
        let have = steps.last().map_or(0, |step: &Step| step.viewers);
        receiver.join(viewers - have);
        let (step, taken) = watch(viewers, effort, &daemon, &mut receiver, &format!("{viewers} viewers"), report);
        repeats += taken.repeats;
        lost += taken.socket_lost;
        missing += taken.missing;
        memory.push(resident(daemon.id()));
        steps.push(step);
        last = Some(taken);
    }
    drop(receiver);
    let dropped = dropped_by(daemon);
    if let Some(most) = steps.last() {
        with_sound(most.viewers, most, effort, &scene, report);
    }
    drop(scene);
    let pictures = last.map(|taken| taken.pictures).unwrap_or_default().swap_remove(0);
    let viewers = steps.last().map_or(0, |step| step.viewers);
    let least = steps.first().map_or(0, |step| step.viewers);
    let floor = floor::measure(viewers, &pictures, report);
    tell(&steps, &floor, report);
    report.add("sender drops", "packets", missing.saturating_sub(lost).max(dropped) as f64, None, Some(0.0));
    report.note("losses of the receiver's sockets, and retransmissions", json!(format!("{lost}, {repeats}")));
    let grown = memory.last().zip(memory.first()).map_or(0.0, |(last, first)| last - first);
    report.add("memory of a further viewer", "KiB", grown / (viewers - least).max(1) as f64, None, Some(300.0));
}

/// Measures so many viewers, who are there.
fn watch(
    viewers: usize,
    effort: &Effort,
    daemon: &Daemon,
    receiver: &mut Child,
    name: &str,
    report: &mut Report,
) -> (Step, Taken) {
    receiver.run(effort.settle);
    receiver.mark();
    let (start, before, own) = (Instant::now(), Threads::of(daemon.id()), receiver.cpu());
    receiver.run(effort.window);
    let (took, used) = (start.elapsed(), Threads::of(daemon.id()).since(&before));
    let own = percent(receiver.cpu().saturating_sub(own), took);
    let taken = receiver.take(1);
    let each = |count: u64| count as f64 / took.as_secs_f64() / viewers as f64;
    let step =
        Step { viewers, serving: percent(used.sum(|name| !makes_media(name)), took), rate: each(taken.bytes) * 8.0 };
    report.add(&format!("{name}: CPU of serving"), "% of a core", step.serving, None, None);
    let text = format!(
        "media thread {:.2} %, capture and encoders {:.1} %; to each {:.2} Mbit/s, {:.0} packets/s of pictures and {:.0} of sound; receiver {own:.1} %",
        percent(used.sum(|name| name == "media"), took),
        percent(used.sum(makes_media), took),
        step.rate / 1e6,
        each(taken.packets),
        each(taken.sound),
    );
    report.note(name, json!(text));
    (step, taken)
}

/// Measures what sound adds to each viewer.
fn with_sound(viewers: usize, silent: &Step, effort: &Effort, scene: &Scene, report: &mut Report) {
    let daemon = scene.broadcast("tone");
    let mut receiver = Child::of(&daemon, true);
    receiver.join(viewers);
    let (step, taken) =
        watch(viewers, effort, &daemon, &mut receiver, &format!("{viewers} viewers with sound"), report);
    let heard = taken.sound as f64 / effort.window.as_secs_f64() / viewers as f64;
    report.add("packets of sound that a viewer lacks", "a second", SOUND_RATE - heard, None, Some(1.0));
    let adds = (step.serving - silent.serving * step.rate / silent.rate) / viewers as f64;
    report.add("sound of a viewer", "% of a core", adds, None, None);
    drop(receiver);
    dropped_by(daemon);
}

/// Whether a thread's work does not depend on the number of viewers.
fn makes_media(thread: &str) -> bool {
    ["encode-", "capture-", "audio", "sound"].iter().any(|start| thread.starts_with(start))
}

/// The slopes between steps, scaled to the rate of the bars.
fn tell(steps: &[Step], floor: &floor::Floor, report: &mut Report) {
    let slope = |from: &Step, to: &Step| {
        let rate = (from.rate + to.rate) / 2.0;
        (to.serving - from.serving) / (to.viewers - from.viewers) as f64 * RATE / rate
    };
    for pair in steps.windows(2) {
        let name = format!("a further viewer, {} to {}", pair[0].viewers, pair[1].viewers);
        report.add(&name, "% of a core", slope(&pair[0], &pair[1]), Some(floor.segmented), None);
    }
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return };
    report.add(
        &format!("a further viewer, {} to {}", first.viewers, last.viewers),
        "% of a core",
        slope(first, last),
        Some(floor.segmented),
        Some(0.15),
    );
    if let Some(middle) = steps.iter().find(|step| step.viewers == 50) {
        let ratio = slope(middle, last) / slope(first, middle);
        report.add("slope 50 to 200 / slope 1 to 50", "ratio", ratio, None, Some(1.15));
    }
}

/// Resident memory in KiB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
