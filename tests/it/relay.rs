//! STUN and TURN: coturn between a daemon and viewers that reach each other by nothing else.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::{CAME, GONE, SOON, millis};
use crate::support::browser::Browser;
use crate::support::daemon::{Daemon, Setup};
use crate::support::process::{Output, Process};
use crate::support::servers::NodeServer;
use crate::support::turn::{Networks, SECRET, TurnServer, USER, command_in};
use crate::support::{heavy, http};

const PATTERN: [u16; 2] = [1280, 720];
const READY: &[&str] = &["relay is ready"];
const AWAY: &[&str] = &["relay is away"];
/// Ports in a network of its own.
const PORTS: (u16, u16) = (3478, 5349);
/// What an inner half finds its networks by.
const NETWORKS: &str = "LATERNA_TEST_NETWORKS";

/// Watches by WHEP with ICE servers of its own.
const WATCH: &str = "
    const [config, ms] = args;
    const video = document.createElement('video');
    Object.assign(video, { autoplay: true, muted: true, playsInline: true });
    document.body.replaceChildren(video);
    const pc = (window.watching = new RTCPeerConnection(config));
    pc.addTransceiver('video', { direction: 'recvonly' });
    pc.ontrack = ({ track }) => { lt.video().srcObject = new MediaStream([track]); };
    await pc.setLocalDescription();
    await lt.until(() => pc.iceGatheringState === 'complete', ms, () => 'gathering ' + pc.iceGatheringState);
    const init = { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: pc.localDescription.sdp };
    const response = await fetch('/whep', init);
    if (response.status !== 201) throw new Error(await response.text());
    const sdp = await response.text();
    await pc.setRemoteDescription({ type: 'answer', sdp });
    await lt.until(() => pc.connectionState === 'connected', ms, () => 'connection ' + pc.connectionState + sdp);
    await lt.until(() => lt.video().videoWidth, ms, () => 'a picture');";

const PAIR: &str = "
    const stats = [...(await watching.getStats()).values()];
    const by = (id) => stats.find((entry) => entry.id === id);
    const transport = stats.find((entry) => entry.type === 'transport');
    const pair = by(transport.selectedCandidatePairId);
    const [local, remote] = [by(pair.localCandidateId), by(pair.remoteCandidateId)];
    return [local.candidateType, remote.candidateType, remote.port];";

/// Watches a daemon, and fails unless the picture goes on; gives what the two candidates of the pair in use are, and the daemon's port in it.
fn watches(browser: &Browser, daemon: &Daemon, config: &Value) -> (String, String, u16) {
    // A document of the daemon's without a viewer in it.
    browser.open(&format!("http://{}/healthz", daemon.http()));
    browser.run::<Value>(WATCH, &[config.clone(), millis(SOON)]);
    goes_on(browser);
    browser.run(PAIR, &[])
}

fn goes_on(browser: &Browser) {
    let script = "const now = await lt.number(0, ...args);
                  return (await lt.number(now.number + 20, ...args)).number";
    browser.run::<u32>(script, &[millis(SOON), json!(PATTERN)]);
}

/// Runs an inner half where the viewers are, with UDP blocked between them and the daemon (TCP is not, unless the inner half does it).
fn where_udp_is_blocked(inner: &str) {
    let _machine = heavy();
    let networks = match Networks::make() {
        Ok(networks) => networks,
        Err(why) => {
            println!("skipped: networks of one's own are not permitted here ({why})");
            return;
        }
    };
    let mut command = command_in(Some(&networks.viewers()), &std::env::current_exe().unwrap());
    command.args(["--exact", inner, "--ignored", "--nocapture"]);
    command.env(NETWORKS, format!("{} {}", networks.daemon(), networks.middle()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let output = Output::follow(process.child().stdout.take().unwrap());
    let errors = Output::follow(process.child().stderr.take().unwrap());
    let status = process.wait(Duration::from_secs(240));
    let passed = status.is_some_and(|status| status.success());
    assert!(passed, "{status:?}\n{}{}", output.tail(60), errors.tail(120));
    assert!(output.wait(SOON, |line| line.contains("1 passed")).is_some(), "it did not run:\n{}", output.tail(20));
    output.lines().iter().filter(|line| line.text.starts_with("by ")).for_each(|line| println!("{}", line.text));
}

/// What an inner half has: the networks' names.
fn names() -> (String, String) {
    let names = std::env::var(NETWORKS).unwrap();
    let (daemon, middle) = names.split_once(' ').unwrap();
    (daemon.to_owned(), middle.to_owned())
}

fn coturn(middle: &str, shared: bool) -> TurnServer {
    let addresses: [IpAddr; 2] = [Networks::MIDDLE, Networks::MIDDLE_FOR_VIEWERS].map(|ip| ip.parse().unwrap());
    TurnServer::start(Some(middle), &addresses, PORTS, shared)
}

fn setup(network: &str, url: &str) -> Setup {
    let listen = format!("{}:0", Networks::DAEMON);
    let args = ["--source", "pattern", "--auth", "none", "--listen", &listen, "--udp-port", "0", "--ice-server", url];
    Setup::new(&args).in_network(network)
}

/// Fails unless a datagram to the daemon comes back as forbidden.
fn assert_udp_is_blocked(daemon: &Daemon) {
    // The middle says so to an address once a second only: this one has it to itself.
    let source = Networks::add_viewer();
    let socket = UdpSocket::bind((source, 0)).unwrap();
    socket.connect(SocketAddr::new(daemon.http().ip(), daemon.udp())).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let forbidden = (0..20).any(|_| {
        socket.send(b"is there a way?").is_err()
            || socket.recv(&mut [0; 16]).is_err_and(|error| {
                !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
            })
    });
    assert!(forbidden, "nobody says that this is no way");
}

/// By itself Chromium hides its addresses behind names that nobody here resolves.
const CANDID: &str = "--disable-features=WebRtcHideLocalIpsWithMdns";

#[test]
fn viewers_come_by_the_daemons_relay_over_udp_tcp_and_tls() {
    where_udp_is_blocked("relay::inside_by_the_daemons_relay");
}

#[test]
#[ignore = "run by its outer half, in network namespaces"]
fn inside_by_the_daemons_relay() {
    let (network, middle) = names();
    for (scheme, transport, shared) in [("turn", "udp", true), ("turn", "tcp", false), ("turns", "tcp", true)] {
        let server = coturn(&middle, shared);
        let daemon = setup(&network, &server.url(scheme, transport)).start();
        daemon.logged(READY, SOON);
        assert_udp_is_blocked(&daemon);
        Networks::block_tcp(&middle, daemon.udp());
        let browser = Browser::start_with(&[CANDID]);
        let (_, remote, port) = watches(&browser, &daemon, &json!({}));
        assert_eq!(remote, "relay", "the viewer knows the daemon's address by its answer");
        assert_ne!(port, daemon.udp());
        let bound = server.log.wait(SOON, |line| line.contains("CHANNEL_BIND processed, success"));
        assert!(bound.is_some(), "pictures go without a channel:\n{}", server.log.tail(40));
        println!("by {scheme} over {transport}: {}", daemon.logged(CAME, SOON).text);
        assert_eq!(daemon.count_logged(&[SECRET]), 0, "the secret is in the log");
        drop(browser);
        let mark = server.log.mark();
        daemon.stop();
        let given_back = server.log.wait_from(mark, SOON, |line| line.contains("delete") || line.contains("closed"));
        assert!(given_back.is_some(), "the allocation was not given back:\n{}", server.log.tail(20));
    }
}

#[test]
fn viewers_come_by_tcp_at_the_media_port() {
    where_udp_is_blocked("relay::inside_by_tcp");
}

#[test]
#[ignore = "run by its outer half, in network namespaces"]
fn inside_by_tcp() {
    let (network, _) = names();
    let listen = format!("{}:0", Networks::DAEMON);
    let args = ["--source", "pattern", "--auth", "none", "--listen", &listen, "--udp-port", "0"];
    let daemon = Setup::new(&args).in_network(&network).start();
    assert_udp_is_blocked(&daemon);
    let browser = Browser::start_with(&[CANDID]);
    let (_, remote, port) = watches(&browser, &daemon, &json!({}));
    assert_eq!((remote.as_str(), port), ("host", daemon.udp()));
    println!("by tcp: {}", daemon.logged(CAME, SOON).text);
    daemon.stop();
}

#[test]
fn viewers_with_a_relay_alone_come() {
    where_udp_is_blocked("relay::inside_by_both_relays");
}

#[test]
#[ignore = "run by its outer half, in network namespaces"]
fn inside_by_both_relays() {
    let (network, middle) = names();
    let server = coturn(&middle, false);
    let daemon = setup(&network, &server.url("turn", "udp")).start();
    daemon.logged(READY, SOON);
    let browser = Browser::start_with(&[CANDID]);
    for transport in ["udp", "tcp"] {
        let url = format!("turn:{}:{}?transport={transport}", Networks::MIDDLE_FOR_VIEWERS, PORTS.0);
        let server = json!({ "urls": url, "username": USER, "credential": SECRET });
        let config = json!({ "iceServers": [server], "iceTransportPolicy": "relay" });
        let (local, remote, _) = watches(&browser, &daemon, &config);
        assert_eq!(local, "relay");
        println!("by {transport} of the viewer's: its relay and a candidate of kind {remote}");
    }
}

#[test]
fn an_sfu_that_only_its_relay_reaches_gets_the_stream_by_it() {
    where_udp_is_blocked("relay::inside_an_sfu_with_a_relay");
}

#[test]
#[ignore = "run by its outer half, in network namespaces"]
fn inside_an_sfu_with_a_relay() {
    let (network, middle) = names();
    let server = coturn(&middle, false);
    let relay = format!("turn:{}:{}", Networks::MIDDLE, PORTS.0);
    let arguments = ["0", "--host", Networks::VIEWERS, "--relay", &relay, "--login", USER, SECRET];
    let sfu = NodeServer::start("whip_receiver.py", &arguments);
    let url = format!("whip+http://{}:{}/whip", Networks::VIEWERS, sfu.address.port());
    let listen = format!("{}:0", Networks::DAEMON);
    let args = ["--source", "pattern", "--listen", &listen, "--udp-port", "0", "--signaling", &url];
    let daemon = Setup::new(&args).in_network(&network).start();
    assert_udp_is_blocked(&daemon);
    daemon.logged(&["a relay that the server names is tried", &relay], SOON);
    daemon.logged(READY, SOON);
    daemon.logged(&["INFO", "publishing"], SOON);
    let is_picture = |line: &str| line.starts_with("frames 2 ");
    assert!(sfu.output.wait_nth(3, 0, SOON, is_picture).is_some(), "no pictures:\n{}", sfu.output.tail(30));
    assert_eq!(daemon.count_logged(&["not publishing"]), 0, "{}", daemon.log().tail(20));
    assert_eq!(daemon.count_logged(&[SECRET]), 0, "the password is in the log");
    let mark = server.log.mark();
    daemon.stop();
    let given_back = server.log.wait_from(mark, SOON, |line| line.contains("delete") || line.contains("closed"));
    assert!(given_back.is_some(), "the allocation was not given back:\n{}", server.log.tail(20));
}

#[test]
fn a_relay_that_is_started_again_is_used_again() {
    where_udp_is_blocked("relay::inside_a_relay_started_again");
}

#[test]
#[ignore = "run by its outer half, in network namespaces"]
fn inside_a_relay_started_again() {
    let (network, middle) = names();
    for transport in ["udp", "tcp"] {
        let server = coturn(&middle, false);
        let daemon = setup(&network, &server.url("turn", transport)).start();
        daemon.logged(READY, SOON);
        let server = server.replace(|| {
            // By datagrams nobody says so: the next question does, 20 s later at most, and 12 s of repeating it.
            drop(daemon.logged(AWAY, Duration::from_secs(60)));
        });
        daemon.logged_times(2, READY, SOON);
        assert_eq!(daemon.count_logged(AWAY), 1);
        let browser = Browser::start_with(&[CANDID]);
        let (_, remote, _) = watches(&browser, &daemon, &json!({}));
        println!("by the {transport} relay that came back, a candidate of kind {remote}");
        drop(browser);
        daemon.logged(GONE, Duration::from_secs(60));
        drop(server);
    }
}

#[test]
fn a_wrong_password_is_said_once_and_harms_nobody() {
    let server = TurnServer::start(None, &["127.0.0.1".parse().unwrap()], free_ports(), false);
    let url = server.url("turn", "udp").replace(&format!("user={USER}"), "user=nobody");
    let daemon = Setup::new(&["--source", "pattern", "--ice-server", &url]).start();
    let line = daemon.logged(AWAY, SOON).text;
    assert!(line.contains("neither this user nor this password"), "{line}");
    // It goes on trying, in silence.
    let refused = |line: &str| line.contains("401") || line.contains("Cannot find credentials");
    assert!(server.log.wait_nth(4, 0, Duration::from_secs(30), refused).is_some(), "{}", server.log.tail(30));
    assert_eq!(daemon.count_logged(AWAY), 1);
    daemon.stop();
}

#[test]
fn what_a_stun_server_sees_is_a_candidate() {
    let stun = UdpSocket::bind("127.0.0.1:0").unwrap();
    stun.set_read_timeout(Some(SOON)).unwrap();
    let url = format!("stun:{}", stun.local_addr().unwrap());
    let daemon = Setup::new(&["--source", "pattern", "--auth", "none", "--ice-server", &url]).start();
    let mut question = [0; 100];
    let (length, from) = stun.recv_from(&mut question).unwrap();
    assert_eq!((length, &question[..2], from.port()), (20, &[0, 1][..], daemon.udp()), "it asks from the media port");
    // XOR-MAPPED-ADDRESS: 203.0.113.9:4711, by the cookie.
    let (port, ip) = (4711 ^ 0x2112_u16, u32::from_be_bytes([203, 0, 113, 9]) ^ 0x2112_a442);
    let mut answer = vec![1, 1, 0, 12];
    answer.extend(&question[4..20]);
    answer.extend([0, 0x20, 0, 8, 0, 1]);
    answer.extend(port.to_be_bytes());
    answer.extend(ip.to_be_bytes());
    stun.send_to(&answer, from).unwrap();
    daemon.logged(&["STUN server has answered"], SOON);
    let offer =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/offers/chromium-recvonly-video.sdp")).unwrap();
    let answer = http::offer(daemon.http(), None, &offer);
    let candidate = answer.body.lines().find(|line| line.contains(" typ srflx"));
    let candidate = candidate.unwrap_or_else(|| panic!("no such candidate: {answer:?}"));
    assert!(candidate.contains("203.0.113.9 4711 typ srflx raddr"), "{candidate}");
    daemon.stop();
}

/// Two ports that nobody has now.
fn free_ports() -> (u16, u16) {
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (one, two) = (port(), port());
    (one.local_addr().unwrap().port(), two.local_addr().unwrap().port())
}
