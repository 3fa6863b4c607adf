//! The screen in a browser: it shows, advances, has the source's colours and pointer, and costs nothing while it is still.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::stage::{GONE, SOON, Stage, millis};
use crate::support::daemon::Setup;
use crate::support::heavy;
use crate::support::xclient::{XClient, strip_millis, unix_millis};
use crate::support::xvfb::Xvfb;

/// A number of the strip, when it was drawn (by the strip) and when it was shown (wall time).
#[derive(Debug, Deserialize)]
struct Seen {
    number: u32,
    millis: u32,
    at: f64,
}

fn full_hd() -> (Xvfb, XClient, Setup) {
    let screen = Xvfb::start(1920, 1080);
    let client = XClient::open(&screen.display());
    let setup = Setup::new(&["--source", "screen"]).display(&screen.display());
    (screen, client, setup)
}

#[test]
fn the_picture_shows_and_advances() {
    let _machine = heavy();
    let (screen, mut client, setup) = full_hd();
    client.fill_with_text();
    let stage = Stage::open(&setup, screen.size());
    stage.browser.run::<Value>("lt.watch(...args)", &[stage.size()]);
    let start = client.stamp().number;
    let drawing = client.draw_steadily(10, XClient::scroll);
    stage.shows(start + 40, SOON);
    drawing.stop();

    let seen: Vec<Seen> = stage.browser.run("return lt.take()", &[]);
    assert!(seen.len() >= 20, "of 40 changes in 4 s only {} were shown", seen.len());
    assert!(seen.is_sorted_by_key(|s| s.number), "numbers went back: {seen:?}");
    assert!(seen.is_sorted_by_key(|s| s.millis), "timestamps went back: {seen:?}");
    // The strip holds the low 32 bits of the time in milliseconds.
    let delay = |s: &Seen| strip_millis(s.at).wrapping_sub(s.millis).cast_signed();
    let mut delays: Vec<i32> = seen.iter().map(delay).collect();
    delays.sort_unstable();
    println!(
        "draw to shown: p50 {} ms, worst {} ms of {}",
        delays[delays.len() / 2],
        delays[delays.len() - 1],
        delays.len()
    );
    assert!(delays[0] >= 0 && delays[delays.len() / 2] < 1000, "delays in ms: {delays:?}");
    stage.daemon.stop();
}

#[test]
fn colours_are_those_of_the_source_after_a_still_second() {
    let _machine = heavy();
    let (screen, mut client, setup) = full_hd();
    let stage = Stage::open(&setup, screen.size());
    let patches = client.draw_patches();
    let last = client.stamp().number;
    stage.shows(last, SOON);
    stage.settles(Duration::from_secs(1), SOON);
    stage.shows_colours_of(&patches);
}

#[test]
fn a_moved_pointer_is_seen() {
    let _machine = heavy();
    let (screen, mut client, setup) = full_hd();
    client.move_pointer(1900, 1000);
    let stage = Stage::open(&setup, screen.size());
    stage.shows(client.stamp().number, SOON);
    stage.settles(Duration::from_secs(1), SOON);
    // The arrow is black on white; its body is below and to the right of its tip.
    let arrow_at = |x: i16, y: i16| {
        let script = "const dark = () => lt.colours([[args[0], args[1]]], args[2])[0][1] < 128;
                      await lt.until(dark, args[3], () => 'an arrow')";
        stage.browser.run::<Value>(script, &[json!(x + 3), json!(y + 6), stage.size(), millis(SOON)]);
    };
    client.move_pointer(400, 300);
    arrow_at(400, 300);
    client.warp_pointer(800, 600);
    arrow_at(800, 600);
    stage.settles(Duration::from_secs(1), SOON);
    assert!(stage.colours(&[(403, 306)])[0][1] > 200.0, "the pointer is still shown where it was");
}

/// Runs beside other tests: it needs time, not the machine.
#[test]
fn a_still_minute_costs_no_keyframe_request() {
    let (screen, mut client, setup) = full_hd();
    client.fill_with_text();
    let stage = Stage::open(&setup, screen.size());
    stage.shows(client.stamp().number, SOON);
    stage.settles(Duration::from_secs(2), SOON * 2);
    let (before, cpu) = (stage.stats(), stage.daemon.cpu());
    let minute = Duration::from_secs(60);
    stage.browser.run::<Value>("return lt.pass(args[0])", &[millis(minute)]);
    let (after, cpu) = (stage.stats(), stage.daemon.cpu().saturating_sub(cpu));
    let moved = |counter| difference(&before, &after, counter);
    let (frames, bytes) = (moved("framesReceived"), moved("bytesReceived"));
    println!("a still minute: {cpu:?} of CPU, {frames} frames of {bytes} bytes in all");
    for counter in ["pliCount", "firCount", "nackCount", "keyFramesDecoded"] {
        assert_eq!(moved(counter), 0, "{counter} moved: {before} then {after}");
    }
    // What keeps Chromium from asking is a frame now and then in which nothing changes.
    assert!(frames <= 60 && bytes <= 60_000, "{frames} frames of {bytes} bytes while nothing changed");
    assert!(cpu < minute / 10, "standing still took {cpu:?} of CPU");
    let change = client.stamp();
    let shown = stage.shows(change.number, Duration::from_secs(2));
    assert_eq!(shown, change.number);
    println!("the change after it was shown within {:.0} ms", unix_millis() - change.at);
    assert_eq!(difference(&before, &stage.stats(), "pliCount"), 0);
}

#[test]
fn two_viewers_are_served_off_one_encoder() {
    let _machine = heavy();
    let (screen, mut client, setup) = full_hd();
    client.fill_with_text();
    let stage = Stage::open(&setup, screen.size());
    let start = client.stamp().number;
    let drawing = client.draw_steadily(10, XClient::type_letter);
    let code = stage.daemon.code();
    let other: usize = stage.browser.run("return lt.connect({ code: args[0] })", &[json!(code)]);
    let script = "await lt.number(args[1], args[2], args[3], lt.viewers[args[0]].video);
                  return [await lt.stats(), await lt.stats(lt.viewers[args[0]].pc)]";
    let arguments = [json!(other), json!(start + 50), millis(SOON), stage.size()];
    let [one, two]: [Value; 2] = stage.browser.run(script, &arguments);
    stage.shows(start + 50, SOON);
    drawing.stop();
    assert_eq!(stage.daemon.count_logged(&["encoder started"]), 1);

    let script = "await fetch(lt.viewers[args[0]].location, { method: 'DELETE' })";
    stage.browser.run::<Value>(script, &[json!(other)]);
    stage.browser.open("about:blank");
    let line = stage.daemon.logged(&["encoder stopped", "units="], SOON).text;
    let units = logged_number(&line, "units=");
    let frames = [&one, &two].map(|stats| stats["framesDecoded"].as_u64().unwrap());
    println!("{units} units were encoded, {frames:?} frames were decoded when both were counted");
    assert!(frames.iter().all(|&frames| frames > 20 && frames <= units), "{frames:?} frames of {units} units");
    // Each join may cost a keyframe, and so may a request of each viewer; more is a storm.
    let keyframes = logged_number(&line, "keyframes=");
    assert!(keyframes <= 4, "{keyframes} keyframes for two viewers");
    stage.daemon.logged_times(2, GONE, SOON);
}

#[test]
fn a_screen_that_dies_and_comes_back_is_shown_again() {
    let _machine = heavy();
    let (mut screen, client, setup) = full_hd();
    let stage = Stage::open(&setup, screen.size());
    drop(client);
    screen.restart(1920, 1080);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let start = client.stamp().number;
    let drawing = client.draw_steadily(5, XClient::type_letter);
    stage.shows(start + 10, SOON);
    drawing.stop();
}

fn difference(before: &Value, after: &Value, counter: &str) -> i64 {
    let read = |stats: &Value| stats[counter].as_i64().unwrap_or_default();
    read(after) - read(before)
}

fn logged_number(line: &str, field: &str) -> u64 {
    let value = line.split(field).nth(1).unwrap_or_else(|| panic!("no {field} in: {line}"));
    value.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
