//! Viewers that leave are gone: by DELETE, by a closed page, in silence; and a page comes back after the daemon was away.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stage::{CAME, GONE, SOON, Stage};
use crate::support::daemon::{Daemon, Setup};
use crate::support::{heavy, report_wall_time};

const PATTERN: (u16, u16) = (1280, 720);

fn pattern() -> Setup {
    Setup::new(&["--source", "pattern"])
}

/// Awaits the log line of a viewer that has gone, and with it the encoder's end; the time is that of the viewer's line.
fn gone_since(daemon: &Daemon, mark: usize, since: Instant, within: Duration) -> Duration {
    let line = daemon.logged_from(mark, GONE, within);
    println!("{}", line.text);
    line.at.saturating_duration_since(since)
}

#[test]
fn a_viewer_that_says_delete_is_gone_within_a_fifth_of_a_second() {
    let _machine = heavy();
    let stage = Stage::open(&pattern(), PATTERN);
    let code = stage.daemon.code();
    let other: usize = stage.browser.run("return lt.connect({ code: args[0] })", &[json!(code)]);
    let script = "await lt.number(0, 20000, args[1], lt.viewers[args[0]].video)";
    stage.browser.run::<Value>(script, &[json!(other), stage.size()]);
    stage.daemon.logged_times(2, CAME, SOON);
    let mark = stage.daemon.log().mark();
    let script = "const { location } = lt.viewers[args[0]];
                  const at = lt.wall();
                  const status = async () => (await fetch(location, { method: 'DELETE' })).status;
                  return [await status(), lt.wall() - at, await status()]";
    let (first, took, second): (u16, f64, u16) = stage.browser.run(script, &[json!(other)]);
    assert_eq!((first, second), (200, 404));
    report_wall_time("DELETE answered", Duration::from_secs_f64(took / 1000.0), Duration::from_millis(200));
    stage.daemon.logged_from(mark, GONE, SOON);
    stage.goes_on();
}

#[test]
fn a_closed_page_is_gone_within_a_second() {
    let _machine = heavy();
    let stage = Stage::open(&pattern(), PATTERN);
    let window = stage.browser.new_window();
    stage.browser.open(&stage.daemon.page());
    stage.awaits_state(&["playing"], SOON);
    let mark = stage.daemon.log().mark();
    let since = Instant::now();
    stage.browser.close_window(&window.before);
    let took = gone_since(&stage.daemon, mark, since, SOON);
    report_wall_time("page closed", took, Duration::from_secs(1));
    stage.goes_on();
}

#[test]
fn a_viewer_that_falls_silent_is_gone_within_fifteen_seconds_and_the_encoder_stops() {
    let stage = Stage::open(&pattern(), PATTERN);
    let since = Instant::now();
    stage.browser.freeze();
    let took = gone_since(&stage.daemon, 0, since, SOON * 8);
    report_wall_time("silence", took, Duration::from_secs(15));
    stage.daemon.logged(&["encoder stopped"], SOON);
}

#[test]
fn a_page_comes_back_after_the_daemon_was_stopped_and_after_it_crashed() {
    let _machine = heavy();
    let setup = pattern();
    let mut stage = Stage::open(&setup, PATTERN);
    let setup = setup.on_ports_of(&stage.daemon);
    let page = stage.daemon.page();
    for way in ["stopped", "crashed"] {
        let seen: u32 = stage.shows(0, SOON);
        match way {
            "stopped" => stage.daemon.stop(),
            _ => drop(stage.daemon.crash()),
        }
        let since = Instant::now();
        let away = stage.browser.run::<String>(
            "const states = ['waiting', 'connecting', 'ended', 'error', 'paused']; return lt.state(states, 20000)",
            &[],
        );
        println!("{way}: the page says {away} after {:.1?} (it had shown {seen})", since.elapsed());
        stage.daemon = setup.start();
        assert_eq!(stage.daemon.page(), page, "the address changed");
        let (_, took) = stage.awaits_state(&["playing"], SOON);
        println!("{way}: playing again {took:.1?} after the restart");
        stage.browser.run::<Value>("lt.kept = undefined", &[]);
        stage.goes_on();
    }
}
