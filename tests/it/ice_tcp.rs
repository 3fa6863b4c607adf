//! Viewers whose network lets no UDP through: media over TCP at the same port number, and what others do at that port.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stage::{CAME, GONE, SOON, Stage, millis};
use crate::support::browser::Browser;
use crate::support::daemon::{Daemon, Setup};
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;
use crate::support::{heavy, http, report_wall_time};

const PATTERN: (u16, u16) = (1280, 720);

const OFFER: &str = include_str!("../data/offers/chromium-recvonly-video.sdp");

/// The candidates of the daemon's answer to an offer: protocol, address, port.
fn told(daemon: &Daemon) -> Vec<(String, String, u16)> {
    let answer = http::offer(daemon.http(), daemon.code().as_deref(), OFFER.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.body);
    let fields = answer.body.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    let fields = fields.map(|line| line.split(' ').collect::<Vec<_>>());
    fields.map(|fields| (fields[2].to_owned(), fields[4].to_owned(), fields[5].parse().unwrap())).collect()
}

#[test]
fn answers_tell_the_ways_that_there_are() {
    let daemon = Setup::new(&["--source", "pattern", "--public-ip", "203.0.113.9", "--network", "no-such*"]).start();
    let port = daemon.udp();
    let expected: Vec<_> = told(&daemon).into_iter().filter(|(_, address, _)| !address.contains(':')).collect();
    let at = |protocol: &str, address: &str| (protocol.to_owned(), address.to_owned(), port);
    let ways = ["udp", "tcp"].into_iter().flat_map(|protocol| [at(protocol, "203.0.113.9"), at(protocol, "127.0.0.1")]);
    assert_eq!(
        expected,
        ways.collect::<Vec<_>>(),
        "the public address first, loopback always, nothing of other interfaces"
    );
}

#[test]
fn a_port_that_another_has_for_tcp_costs_a_warning_and_the_way_over_tcp() {
    // Somewhere the same number is free for UDP.
    let (_taken, daemon) = (0..20)
        .find_map(|_| {
            let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
            let port = taken.local_addr().unwrap().port();
            std::net::UdpSocket::bind(("0.0.0.0", port)).ok()?;
            let daemon = Setup::new(&["--source", "pattern", "--udp-port", &port.to_string()]).start();
            Some((taken, daemon))
        })
        .unwrap();
    daemon.logged(&["WARN", "can't be had for TCP", "--udp-port"], SOON);
    let told = told(&daemon);
    assert!(!told.is_empty() && told.iter().all(|(protocol, ..)| protocol == "udp"), "{told:?}");
}

/// Has a browser watch that hears of the daemon's TCP candidates alone, and tells it of none of its own.
fn watch_by_tcp(browser: &Browser, daemon: &Daemon) {
    let page = daemon.page();
    let (address, code) = page.split_once('#').unwrap();
    browser.open(address);
    let script = "
        const is = () => document.documentElement.dataset.state;
        await lt.until(() => is() === 'code', args[1], () => `it is ${is()}`);
        const original = RTCPeerConnection.prototype.setRemoteDescription;
        RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
          const lines = sdp.split('\\r\\n').filter((line) => !line.startsWith('a=candidate:') || line.includes(' tcp '));
          return original.call(this, { type, sdp: lines.join('\\r\\n') });
        };
        const ask = window.fetch;
        window.fetch = (to, options) => ask(to, { ...options, body: options.body?.replace(/a=candidate:.*\\r\\n/g, '') });
        location.hash = args[0]";
    browser.run::<Value>(script, &[json!(code), millis(SOON)]);
}

/// What carries the media of the present window's page.
fn protocols(browser: &Browser) -> [String; 2] {
    let script = "
        const all = [...(await window.laterna.pc.getStats()).values()];
        const of = (id) => all.find((entry) => entry.id === id);
        const pair = of(all.find((entry) => entry.type === 'transport').selectedCandidatePairId);
        return [of(pair.localCandidateId).protocol, of(pair.remoteCandidateId).protocol]";
    browser.run(script, &[])
}

/// Whether the daemon has ended a connection by now.
fn is_closed(connection: &mut TcpStream) -> bool {
    match connection.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

fn connect(daemon: &Daemon) -> TcpStream {
    let address = SocketAddr::from(([127, 0, 0, 1], daemon.udp()));
    let connection = TcpStream::connect_timeout(&address, SOON).unwrap();
    connection.set_read_timeout(Some(SOON)).unwrap();
    connection
}

#[test]
fn a_viewer_without_udp_watches_beside_garbage_and_idle_connections() {
    let _machine = heavy();
    let daemon = Setup::new(&["--source", "pattern", "--log", "debug"]).start();
    let browser = Browser::start();
    watch_by_tcp(&browser, &daemon);
    let stage = Stage::of(browser, daemon, PATTERN);
    stage.awaits_state(&["playing"], SOON);
    stage.goes_on();
    assert_eq!(protocols(&stage.browser), ["tcp", "tcp"]);

    let begun = Instant::now();
    let mut idle: Vec<_> = (0..200).map(|_| connect(&stage.daemon)).collect();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0, 40, 22, 254, 253, 0], &[0, 0, 0, 0]] {
        let mut connection = connect(&stage.daemon);
        // It may be closed in the middle of it.
        let _ = (0..20).try_for_each(|_| connection.write_all(garbage));
        assert!(garbage.len() == 4 || is_closed(&mut connection), "{garbage:?}");
    }
    stage.goes_on();
    // Viewers still come, by either way.
    let window = stage.browser.new_window();
    stage.browser.open(&stage.daemon.page());
    stage.awaits_state(&["playing"], SOON);
    assert_eq!(protocols(&stage.browser), ["udp", "udp"], "where there is UDP it is preferred");
    stage.browser.switch(&window.before);
    stage.goes_on();
    for connection in &mut idle {
        assert!(is_closed(connection), "an idle connection is open after {:.1?}", begun.elapsed());
    }
    report_wall_time("idle connections were closed", begun.elapsed(), Duration::from_secs(15));
    stage.goes_on();
    // A closed page is noticed at once: its goodbye comes by TCP as well.
    stage.browser.open("about:blank");
    stage.daemon.logged_times(1, GONE, Duration::from_secs(5));
}

#[test]
fn a_viewer_whose_connection_takes_nothing_slows_nobody_and_costs_little() {
    let _machine = heavy();
    // A screen of text that is written anew all the time makes megabits.
    let screen = Xvfb::start(1280, 800);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let setup = Setup::new(&["--source", "screen", "--bitrate", "12M", "--log", "debug"]).display(&screen.display());
    let daemon = setup.start();
    let drawing = client.draw_steadily(10, |client| client.rewrite(40));
    let stuck = Browser::start();
    watch_by_tcp(&stuck, &daemon);
    daemon.logged(CAME, SOON);
    let browser = Browser::start();
    watch_by_tcp(&browser, &daemon);
    let stage = Stage::of(browser, daemon, screen.size());
    stage.awaits_state(&["playing"], SOON);
    stage.goes_on();
    let before = memory(&stage.daemon);
    stuck.freeze();
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    let script = "return (await lt.number(...args)).number";
    let mut shown: u32 = stage.browser.run(script, &[json!(0), millis(SOON), stage.size()]);
    while stage.daemon.count_logged(GONE) == 0 {
        let asked = Instant::now();
        shown = stage.browser.run(script, &[json!(shown + 1), millis(SOON), stage.size()]);
        longest = longest.max(asked.elapsed());
        assert!(begun.elapsed() < SOON, "the frozen viewer is still there");
    }
    let slow = stage.daemon.count_logged(&["connection is too slow"]);
    let more = memory(&stage.daemon).saturating_sub(before);
    println!("passed over {slow} times; {more} KiB more; longest pause of the other: {longest:.1?}");
    assert!((1..=12).contains(&slow), "passed over {slow} times");
    assert!(more < 8 << 10, "{more} KiB more");
    assert!(longest < Duration::from_secs(2), "{longest:.1?}");
    stage.goes_on();
    drawing.stop();
}

/// The daemon's resident memory in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
