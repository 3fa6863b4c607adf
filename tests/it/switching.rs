//! Switching, layers, fallbacks and cards, as a viewer sees them who stays connected all the while.

use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::{refused, says};
use crate::stage::{CAME, GONE, SOON, Stage, millis};
use crate::support::daemon::{Setup, binary};
use crate::support::xclient::{XClient, unix_millis};
use crate::support::xvfb::Xvfb;
use crate::support::{heavy, long, report_wall_time};

const SIZE: (u16, u16) = (1280, 720);
/// The background of cards, and of the pattern (red, green, blue).
const CARD: [f64; 3] = [24.0, 26.0, 32.0];
const PATTERN: [f64; 3] = [48.0, 48.0, 56.0];
/// Where a card has nothing but its background, and the pattern too.
const PLAIN: (i16, i16) = (640, 712);

/// A number of the strip, when it was drawn (by the strip) and when it was shown (wall time).
#[derive(Debug, Deserialize)]
struct Seen {
    millis: u32,
    at: f64,
}

impl Seen {
    /// The pattern counts from its opening, X clients show the time of day.
    fn is_pattern(&self) -> bool {
        self.millis < 3_600_000
    }
}

/// Awaits that the page shows this colour at a point of the source.
fn awaits_colour(stage: &Stage, point: (i16, i16), rgb: [f64; 3], within: Duration) {
    let script =
        "const near = () => lt.colours([args[0]], args[2])[0].every((part, at) => Math.abs(part - args[1][at]) < 8);
                  await lt.until(near, args[3], () => `${args[1]}, it is ${lt.colours([args[0]], args[2])[0]}`)";
    stage.browser.run::<Value>(script, &[json!(point), json!(rgb), stage.size(), millis(within)]);
}

/// Makes an image of one colour.
pub fn image(directory: &std::path::Path, name: &str, colour: &str, size: &str) -> String {
    let path = directory.join(name);
    let made = Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            &format!("color={colour}:size={size}"),
            "-frames:v",
            "1",
        ])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    path.to_str().unwrap().to_owned()
}

#[test]
fn switches_keep_the_connection_and_show_the_other_source_soon() {
    let _machine = heavy();
    let screen = Xvfb::start(SIZE.0, SIZE.1);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let setup = Setup::new(&["--source", "pattern"]).display(&screen.display());
    let stage = Stage::open(&setup, SIZE);
    let control = stage.daemon.setup().control();
    let drawing = client.draw_steadily(20, XClient::type_letter);
    stage.goes_on();
    stage.browser.run::<Value>("lt.watch(...args)", &[stage.size()]);
    let (mut took, mut seen): (Vec<f64>, Vec<Seen>) = (Vec::new(), Vec::new());
    // What the daemon holds: descriptors and threads.
    let held =
        || ["fd", "task"].map(|what| std::fs::read_dir(format!("/proc/{}/{what}", stage.daemon.id())).unwrap().count());
    let mut holds = held();
    for round in 0..if long() { 100 } else { 20 } {
        let (to, to_pattern) = if round % 2 == 0 { ("screen", false) } else { ("pattern", true) };
        let asked = unix_millis();
        says(&control, &["switch", to]);
        // A strip of the other source is there, and some more behind it.
        let script = "const other = () => lt.seen.filter((seen) => (seen.millis < 3600000) === args[0]).length >= 5;
                      await lt.until(other, args[1], () => `the other source, ${JSON.stringify(lt.seen.slice(-3))}`);
                      return lt.take()";
        let more: Vec<Seen> = stage.browser.run(script, &[json!(to_pattern), millis(SOON)]);
        let first = more.iter().find(|seen| seen.is_pattern() == to_pattern && seen.at >= asked).unwrap();
        took.push(first.at - asked);
        seen.extend(more);
        if round == 1 {
            holds = held();
        }
    }
    // A thread of those that may block stays for some seconds.
    let (now, before) = (held(), holds);
    println!("descriptors and threads after two switches: {before:?}, after all: {now:?}");
    assert!(now.iter().zip(before).all(|(now, before)| *now <= before + 2), "switches leak: {before:?}, then {now:?}");
    drawing.stop();
    let gap = seen.windows(2).map(|pair| pair[1].at - pair[0].at).fold(0.0, f64::max);
    took.sort_by(f64::total_cmp);
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{} switches, from the command to the other picture: p50 {median:.0} ms, worst {worst:.0} ms; largest gap {gap:.0} ms",
        took.len()
    );
    report_wall_time("a switch, p50", Duration::from_secs_f64(median / 1000.0), Duration::from_millis(300));
    assert_eq!((stage.daemon.count_logged(CAME), stage.daemon.count_logged(GONE)), (1, 0));
    stage.goes_on();
}

#[test]
fn layers_stand_in_their_corners_and_a_source_of_another_size_breaks_nothing() {
    let _machine = heavy();
    let screen = Xvfb::start(SIZE.0, SIZE.1);
    let client = XClient::open(&screen.display());
    let setup = Setup::new(&["--source", "screen"]).display(&screen.display());
    let stage = Stage::open(&setup, SIZE);
    let control = stage.daemon.setup().control();
    let [red, tall] = [("red.png", "red", "64x48"), ("tall.png", "0x0000ff", "90x600")]
        .map(|(name, colour, size)| image(stage.daemon.setup().state(), name, colour, size));
    let spec = format!("screen + image:{red}?at=bottom-right&width=25%&margin=0");
    let told = says(&control, &["switch", &spec]);
    assert!(told.contains("screen") && told.contains("red.png"), "{told}");
    // 25 % of 1280 by its own aspect: 320x240 in the corner.
    for point in [(965, 485), (1275, 715), (1100, 600)] {
        awaits_colour(&stage, point, [255.0, 0.0, 0.0], SOON);
    }
    let outside = stage.colours(&[(950, 600), (1100, 470)]);
    assert!(outside.iter().all(|rgb| rgb[1] > 200.0), "the overlay is larger than it is to be: {outside:?}");
    // A picture of quite other sides, then another layer over it.
    says(&control, &["switch", &format!("image:{tall} + image:{red}?at=top-left&width=64&margin=0")]);
    awaits_colour(&stage, (640, 360), [0.0, 0.0, 255.0], SOON);
    awaits_colour(&stage, (30, 20), [255.0, 0.0, 0.0], SOON);
    assert!(stage.colours(&[(300, 500)])[0].iter().all(|part| *part < 12.0), "bars are black");
    says(&control, &["switch", "pattern"]);
    stage.goes_on();
    assert_eq!((stage.daemon.count_logged(CAME), stage.daemon.count_logged(GONE)), (1, 0));
    drop(client);
}

#[test]
fn a_lost_source_shows_its_card_or_the_fallback_and_comes_back() {
    let _machine = heavy();
    let mut screen = Xvfb::start(SIZE.0, SIZE.1);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let setup = Setup::new(&["--source", "screen"]).display(&screen.display());
    let stage = Stage::open(&setup, SIZE);
    stage.shows(client.stamp().number, SOON);
    drop(client);
    screen.kill();
    awaits_colour(&stage, PLAIN, CARD, SOON);
    let control = stage.daemon.setup().control();
    let status = says(&control, &["status"]);
    assert!(status.contains("a card in the place of screen") && status.contains("is lost"), "{status}");
    screen.restart(SIZE.0, SIZE.1);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    stage.shows(client.stamp().number, SOON);

    // Nothing at all, and back, by hand.
    says(&control, &["switch", "off"]);
    awaits_colour(&stage, PLAIN, CARD, SOON);
    says(&control, &["switch", "screen"]);
    stage.shows(client.stamp().number, SOON);
    assert_eq!((stage.daemon.count_logged(CAME), stage.daemon.count_logged(GONE)), (1, 0));
    drop((client, stage));

    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let stage = Stage::open(&setup.args(&["--fallback", "pattern"]), SIZE);
    stage.shows(client.stamp().number, SOON);
    drop(client);
    screen.kill();
    awaits_colour(&stage, PLAIN, PATTERN, SOON);
    stage.goes_on();
    screen.restart(SIZE.0, SIZE.1);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let stamp = client.stamp();
    let back = Instant::now();
    let script =
        "const drawn = () => { const strip = lt.strip(lt.video(), args[0]); return strip && strip.millis > 3600000; };
                  await lt.until(drawn, args[1], () => 'the screen again')";
    stage.browser.run::<Value>(script, &[stage.size(), millis(SOON)]);
    println!("the screen was shown again {:?} after it was back (number {})", back.elapsed(), stamp.number);
    assert_eq!((stage.daemon.count_logged(CAME), stage.daemon.count_logged(GONE)), (1, 0));
}

#[test]
fn what_can_not_be_opened_ends_the_start_and_leaves_a_running_daemon_as_it_was() {
    let missing = "image:/nowhere/slide.png";
    let failure = Setup::new(&["--source", missing]).fail();
    assert_eq!(failure.status.code(), Some(1), "{}", failure.stderr.join("\n"));
    assert!(failure.stderr.join("\n").contains("/nowhere/slide.png"), "{}", failure.stderr.join("\n"));
    for (wrong, advice) in
        [("region:10x10", "region:1280x720+100+50"), ("screen + auto", "camera"), ("moon", "write auto")]
    {
        let failure = Setup::new(&["--source", wrong]).fail();
        assert_eq!(failure.status.code(), Some(2), "{wrong}: {}", failure.stderr.join("\n"));
        assert!(
            failure.stderr.join("\n").contains(wrong) && failure.stderr.join("\n").contains(advice),
            "{}",
            failure.stderr.join("\n")
        );
    }
    let daemon = Setup::new(&["--source", missing, "--fallback", "pattern", "--size", "320x180"]).start();
    let control = daemon.setup().control();
    let status = says(&control, &["status"]);
    assert!(status.contains("pattern 320x180 in the place of image:/nowhere/slide.png"), "{status}");
    assert!(status.contains("is lost"), "the problem is told: {status}");
    let why = refused(&control, &["switch", "camera:/dev/nothing"], 1);
    assert!(why.contains("camera:/dev/nothing") && why.contains("is shown as before"), "{why}");
    assert!(refused(&control, &["switch", "window"], 2).contains("window:TITLE"));
    assert!(says(&control, &["switch", "off"]).contains("off"));
    daemon.stop();
}

#[test]
fn sources_are_listed_with_what_to_type() {
    let screen = Xvfb::start(640, 360);
    let listed = |args: &[&str]| {
        let run = Command::new(binary()).args(args).env("DISPLAY", screen.display()).output().unwrap();
        assert!(run.status.success());
        String::from_utf8(run.stdout).unwrap()
    };
    let text = listed(&["sources"]);
    println!("{text}");
    assert!(text.lines().any(|line| line.starts_with("screen ") && line.contains("640x360")), "{text}");
    let found: Value = serde_json::from_str(&listed(&["sources", "--json"])).unwrap();
    assert!(found.as_array().unwrap().iter().any(|source| source["spec"] == "pattern"), "{found}");
}
