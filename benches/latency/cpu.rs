//! (b) CPU of the daemon and of the X server, beside the same drawing without a daemon and the bare encoder on the same frames.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use laterna::clock::MediaTime;
use laterna::encoder::Bitrate;
use laterna::encoder::h264::H264Encoder;
use laterna::encoder::picture::{Order, Qp, Tool};
use laterna::frame::canvas::{Canvas, FitMode};
use laterna::frame::colour::I420;
use laterna::frame::{Damage, Frame, Picture, Size};
use serde_json::{Value, json};

use crate::delay::{Bench, Run};
use crate::report::{Report, percent};
use crate::support::process::cpu_of;
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;
use crate::{Effort, Kind, SCREEN};

/// The rate at which the daemon encodes unless told otherwise.
const BITRATE: Bitrate = Bitrate(2_500_000);
const FPS: u32 = 30;
/// A quantiser at which text is read with ease; the time that encoding takes hardly depends on it.
const QP: Qp = Qp(26);
/// Frames that the bare encoder gets.
const FRAMES: usize = 120;

/// Puts what a run of drawing cost beside its floors.
pub fn measure_drawing(kind: Kind, effort: Effort, run: Run, report: &mut Report) {
    let name = kind.name();
    let alone = server_alone(kind, effort);
    let encoder = bare_encoder(kind, report);
    let daemon = percent(run.daemon, run.took);
    let server = percent(run.server, run.took);
    report.add(&format!("{name}: CPU of the daemon"), "% of a core", daemon, Some(encoder), None);
    report.add(&format!("{name}: CPU of the X server"), "% of a core", server, Some(alone), None);
    let bar = (kind == Kind::Scrolling).then_some(1.5);
    let told = daemon + (server - alone).max(0.0);
    report.add(&format!("{name}: all told / bare encoder"), "ratio", told / encoder, Some(1.0), bar);
}

/// Measures the cost of a screen that stands still while it is watched.
pub fn measure_still(effort: Effort, report: &mut Report) {
    let (bench, mut client) = Bench::open();
    bench.shows(client.stamp());
    bench.browser.run::<Value>("return lt.settle(2000, 60000)", &[]);
    let (start, daemon, server) = (Instant::now(), bench.daemon.cpu(), bench.screen.cpu());
    bench.browser.run::<Value>("return lt.pass(args[0])", &[json!(effort.still.as_millis() as u64)]);
    let took = start.elapsed();
    let daemon = percent(bench.daemon.cpu().saturating_sub(daemon), took);
    let server = percent(bench.screen.cpu().saturating_sub(server), took);
    report.add("still: CPU of the daemon", "% of a core", daemon, None, None);
    report.add("still: CPU of the X server", "% of a core", server, None, None);
    report.add("still: all told", "% of a core", daemon + server, Some(0.0), Some(1.0));
}

/// The X server's CPU for the same drawing when nobody captures.
fn server_alone(kind: Kind, effort: Effort) -> f64 {
    let screen = Xvfb::start(SCREEN.0, SCREEN.1);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    client.sync();
    let (start, before) = (Instant::now(), screen.cpu());
    let (client, _) = client.draw_steadily(kind.rate(), kind.draw()).stop_after(effort.drawing);
    client.sync();
    percent(screen.cpu().saturating_sub(before), start.elapsed())
}

/// The tool that the daemon chooses for this kind of drawing.
fn tool(kind: Kind) -> Tool {
    match kind {
        Kind::Typing => Tool::Camera,
        Kind::Scrolling => Tool::Screen,
    }
}

/// The encoder's CPU at this rate of changes: one unit per change when its time has come, frames converted beforehand, nothing else.
///
/// What waits for its time finds caches that others have used meanwhile, as it does in the daemon; beside it stands what the same frames cost one after the other.
fn bare_encoder(kind: Kind, report: &mut Report) -> f64 {
    let frames = captured(kind);
    let [(paced, bytes), (at_once, _)] = [true, false].map(|is_paced| encoded(kind, &frames, is_paced));
    let rate = bytes as f64 * 8.0 / 1000.0 / (f64::from(FRAMES as u32 - 1) / f64::from(kind.rate()));
    report.note(
        &format!("{} bare encoder", kind.name()),
        json!(format!("{:?}, qp {}, {rate:.0} kbit/s; {at_once:.1} % of a core one after the other", tool(kind), QP.0)),
    );
    paced
}

/// Encodes frames, each when its time has come or one after the other: CPU in percent of a core at their rate, and the bytes of all but the first.
fn encoded(kind: Kind, frames: &[I420], is_paced: bool) -> (f64, usize) {
    let mut encoder = H264Encoder::new(frames[0].size, tool(kind), BITRATE, FPS).unwrap();
    let (step, start) = (Duration::from_secs(1) / kind.rate(), Instant::now());
    let (_silent, never) = mpsc::sync_channel::<()>(0);
    // The first is a keyframe, which a connection pays once: it doesn't count.
    let (mut before, mut bytes) = (Duration::ZERO, 0);
    for (index, frame) in frames.iter().enumerate() {
        let due = step * index as u32;
        if is_paced {
            // The frame's time is what is waited for.
            let _ = never.recv_timeout((start + due).saturating_duration_since(Instant::now()));
        }
        let at = MediaTime(due.as_nanos() as u64);
        let order = Order { qp: QP, keyframe: index == 0, refine: false, still: false, measure: false };
        let unit = encoder.encode(frame, at, order).unwrap();
        if index == 0 {
            before = cpu_of(std::process::id());
        } else {
            bytes += unit.data.len();
        }
    }
    let spent = cpu_of(std::process::id()).saturating_sub(before);
    (percent(spent, step * (frames.len() as u32 - 1)), bytes)
}

fn captured(kind: Kind) -> Vec<I420> {
    let screen = Xvfb::start(SCREEN.0, SCREEN.1);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let size = Size::new(u32::from(SCREEN.0), u32::from(SCREEN.1));
    let mut canvas = Canvas::new(size, FitMode::Letterbox);
    let mut frames = Vec::new();
    for _ in 0..FRAMES {
        kind.draw()(&mut client);
        let picture = Picture::new(Arc::new(client.picture()), size, SCREEN.0 as usize * 4).unwrap();
        canvas.compose(&Frame::new(picture, Damage::whole(size), Instant::now()));
        frames.push(canvas.i420().clone());
    }
    frames
}
