//! Bad input: each kind gets its answer, and a viewer beside it goes on undisturbed.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::stage::{CAME, FAILED, SOON, Stage};
use crate::support::daemon::Setup;
use crate::support::http::{self, Response, request};
use crate::support::{heavy, report_wall_time};

fn stage() -> Stage {
    let stage = Stage::open(&Setup::new(&["--source", "pattern"]), (1280, 720));
    stage.goes_on();
    stage
}

/// A fresh offer of the browser's own.
fn offer(stage: &Stage) -> String {
    let script = "const pc = new RTCPeerConnection();
                  pc.addTransceiver('video', { direction: 'recvonly' });
                  const { sdp } = await pc.createOffer();
                  pc.close();
                  return sdp";
    stage.browser.run(script, &[])
}

fn without_lines(sdp: &str, unwanted: impl Fn(&str) -> bool) -> String {
    sdp.split_inclusive("\r\n").filter(|line| !unwanted(line)).collect()
}

#[test]
fn bad_offers_are_answered_and_harm_nobody() {
    let _machine = heavy();
    let stage = stage();
    let good = offer(&stage);
    let post = |sdp: &str| http::offer(stage.daemon.http(), stage.daemon.code().as_deref(), sdp.as_bytes());
    let renamed = |line: &str| match line.split_once(' ') {
        Some((name, _)) if name.starts_with("a=rtpmap:") => format!("{name} XYZ/90000\r\n"),
        _ => line.to_owned(),
    };
    let unknown: String = good.split_inclusive("\r\n").map(renamed).collect();
    let cut = |at: &str| good[..good.find(at).unwrap()].to_owned();
    let cases: [(&str, String, &[u16]); 11] = [
        ("not SDP", "hello, is this a television?".to_owned(), &[400]),
        ("nothing", String::new(), &[400]),
        ("JSON", json!({ "type": "offer", "sdp": good }).to_string(), &[400]),
        ("truncated before its media", cut("m=video"), &[400]),
        // Without what says which codecs the formats are, it may as well be one that has none of ours.
        ("truncated in its media", cut("a=fingerprint"), &[400, 406]),
        ("1 MiB of it", good.clone() + &"a=x\r\n".repeat((1 << 20) / 5), &[413]),
        ("1 MiB of anything", "v".repeat(1 << 20), &[413]),
        ("without ICE", without_lines(&good, |line| line.starts_with("a=ice-")), &[400]),
        ("without a fingerprint", without_lines(&good, |line| line.starts_with("a=fingerprint")), &[400]),
        ("zero bytes in it", good.replacen("a=", "a\0=", 1), &[400]),
        ("unknown codecs only", unknown, &[406]),
    ];
    for (what, sdp, wanted) in cases {
        let answer = post(&sdp);
        println!("{what}: {} {}", answer.status, answer.body.trim());
        assert!(wanted.contains(&answer.status), "{what}: {answer:?}");
        assert!(answer.body.trim().len() > 10, "{what}: no reason is given");
        if answer.status == 406 {
            assert!(
                answer.body.contains("H.264") || answer.body.contains("H264"),
                "ours is not named: {}",
                answer.body
            );
        }
    }
    assert_eq!(stage.daemon.count_logged(CAME), 1, "a bad offer made a viewer");
    stage.goes_on();
}

#[test]
fn bad_requests_are_answered_and_harm_nobody() {
    let _machine = heavy();
    let stage = stage();
    let (to, good) = (stage.daemon.http(), offer(&stage));
    let code = format!("Bearer {}", stage.daemon.code().unwrap());
    let sdp = ("Content-Type", "application/sdp");
    let fragment = ("Content-Type", "application/trickle-ice-sdpfrag");
    let candidate =
        b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
        a=candidate:1 1 UDP 2122252543 192.0.2.1 61764 typ host\r\n";
    let nobody = format!("/whep/{}", "0".repeat(32));
    let right = ("Authorization", code.as_str());
    let wrong = ("Authorization", "Bearer aaaaaaaaaa");
    let cases: [(&str, Response, &[u16]); 9] = [
        ("a candidate before its offer", request(to, "PATCH", &nobody, &[fragment, right], candidate), &[404]),
        ("a session that never was", request(to, "DELETE", &nobody, &[right], b""), &[404]),
        ("an id that is none", request(to, "DELETE", "/whep/../../etc/passwd", &[right], b""), &[400, 404]),
        (
            "another type",
            request(to, "POST", "/whep", &[("Content-Type", "text/plain"), right], good.as_bytes()),
            &[415],
        ),
        ("no code", request(to, "POST", "/whep", &[sdp], good.as_bytes()), &[401]),
        ("a wrong code", request(to, "POST", "/whep", &[sdp, wrong], good.as_bytes()), &[401, 429]),
        ("another method", request(to, "PUT", "/whep", &[sdp, right], good.as_bytes()), &[405]),
        ("another path", request(to, "GET", "/nowhere", &[], b""), &[404]),
        ("a header too long", request(to, "GET", "/", &[("X-Long", &"x".repeat(1 << 17))], b""), &[400, 431]),
    ];
    for (what, answer, wanted) in cases {
        println!("{what}: {} {}", answer.status, answer.body.trim());
        assert!(wanted.contains(&answer.status), "{what}: {answer:?}");
    }
    // Guessing slows the guesser, never the holder of the right code.
    for _ in 0..30 {
        let status = http::offer(to, Some("bbbbbbbbbb"), good.as_bytes()).status;
        assert!([401, 429].contains(&status), "a wrong code got {status}");
    }
    let accepted = http::offer(to, stage.daemon.code().as_deref(), good.as_bytes());
    assert_eq!(accepted.status, 201, "the right code was refused after wrong ones: {accepted:?}");
    let location = accepted.header("location").unwrap().to_owned();
    let path = location.find("/whep").map_or(location.as_str(), |at| &location[at..]);
    let garbage = request(to, "PATCH", path, &[fragment, right], b"\xff\xfe a candidate, perhaps");
    assert_eq!(garbage.status, 400, "garbage as a candidate: {garbage:?}");
    assert_eq!(request(to, "DELETE", path, &[right], b"").status, 200);
    stage.goes_on();
}

#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    let _machine = heavy();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let stage = stage();
    let to = stage.daemon.http();
    // Some say nothing at all, some stop in the middle of a request; the daemon may close any of them.
    let silent: Vec<TcpStream> = (0..1000)
        .filter_map(|index| {
            let mut stream = TcpStream::connect_timeout(&to, SOON).ok()?;
            if index % 2 == 1 {
                let _ = stream.write_all(b"POST /whep HTTP/1.1\r\nContent-Le");
            }
            Some(stream)
        })
        .collect();
    println!("{} of 1000 connections were taken", silent.len());
    let since = Instant::now();
    let health = request(to, "GET", "/healthz", &[], b"");
    assert_eq!(health.status, 200, "{health:?}");
    report_wall_time("an answer beside 1000 silent connections", since.elapsed(), Duration::from_secs(1));
    let code = stage.daemon.code();
    let other: usize = stage.browser.run("return lt.connect({ code: args[0] })", &[json!(code)]);
    let script = "await lt.number(0, 20000, args[1], lt.viewers[args[0]].video)";
    stage.browser.run::<Value>(script, &[json!(other), stage.size()]);
    stage.goes_on();

    // They are not kept for ever either.
    let mut first = silent.into_iter().next().unwrap();
    first.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let closed = match first.read(&mut [0; 1024]) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(closed, "a silent connection was kept for a minute");
}

#[test]
fn offers_that_never_connect_and_a_handshake_that_never_ends_are_dropped() {
    let stage = stage();
    let (to, good, code) = (stage.daemon.http(), offer(&stage), stage.daemon.code());
    for _ in 0..20 {
        assert_eq!(http::offer(to, code.as_deref(), good.as_bytes()).status, 201);
    }
    let script = "return lt.connect({ code: args[0], swapSetup: true })";
    stage.browser.run::<usize>(script, &[json!(code)]);
    stage.goes_on();
    let since = Instant::now();
    stage.daemon.logged_times(21, FAILED, Duration::from_secs(60));
    println!("all 21 are gone after {:.1?}", since.elapsed());
    stage.goes_on();
}

#[test]
fn noise_on_the_media_port_is_ignored() {
    let _machine = heavy();
    let stage = stage();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", stage.daemon.udp())).unwrap();
    let mut noise: u32 = 1;
    for length in (0..1500).step_by(7) {
        // First bytes of every kind that shares the port: STUN, DTLS, RTP and RTCP, TURN, and none of them.
        for first in [0, 1, 20, 22, 63, 64, 128, 192, 255] {
            let mut packet: Vec<u8> = (0..length)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (noise >> 24) as u8
                })
                .collect();
            packet.insert(0, first);
            socket.send(&packet).unwrap();
        }
    }
    // A well-formed binding request without integrity gets no answer.
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    socket.send(&request).unwrap();
    stage.goes_on();
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 2048]).is_err(), "noise was answered");
}
