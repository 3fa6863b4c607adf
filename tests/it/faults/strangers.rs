//! What strangers and viewers do: a thousand connections that want nothing good, and garbage of all protocols.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Eye as _, Fault, times};
use crate::light::{Manner, Viewer, offer};
use crate::stage::SOON;
use crate::support::daemon::Setup;
use crate::support::heavy;

fn address(index: u8) -> IpAddr {
    Ipv4Addr::new(127, 7, 0, index).into()
}

#[test]
fn a_thousand_hostile_connections_are_survived() {
    let _machine = heavy();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let daemon = Setup::new(&["--source", "pattern", "--size", "640x360", "--audio", "off"]).start();
    let viewer = Viewer::join(&daemon, address(1), Manner::Honest);
    viewer.goes_on();
    let media = SocketAddr::from(([127, 0, 0, 1], daemon.udp()));
    let heads: [&[u8]; 5] = [
        b"",
        b"GET / HTT",
        b"POST /whep HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/sdp\r\nContent-Length: 9000\r\n\r\nv=0",
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        &[0xff; 900],
    ];
    let fault = Fault {
        name: "a thousand hostile connections",
        comes: &[],
        passes: &[],
        lasting: Duration::ZERO,
        most: Duration::from_millis(200),
    };
    for round in 1..=times() {
        let mark = daemon.log().mark();
        viewer.begin();
        let begun = Instant::now();
        let mut open = Vec::new();
        for (index, head) in (0..1000).zip(heads.iter().cycle()) {
            let to = if index % 4 == 3 { media } else { daemon.http() };
            let mut stream = TcpStream::connect_timeout(&to, SOON).unwrap();
            // It may be closed in the middle of it.
            let _ = stream.write_all(head);
            open.push(stream);
        }
        let opened = begun.elapsed();
        // Beside them a viewer still comes.
        let asked = Instant::now();
        Viewer::join(&daemon, address(2), Manner::Honest).goes_on();
        println!("1000 were open after {opened:.1?}; a newcomer had pictures within {:.1?}", asked.elapsed());
        viewer.goes_on();
        drop(open);
        viewer.goes_on();
        fault.judge(round, viewer.gap(), &daemon.log().lines()[mark..]);
    }
    assert_eq!((viewer.seen().missing, viewer.seen().ended), (0, None));
    drop(viewer);
    daemon.stop();
}

#[test]
fn garbage_from_viewers_is_survived() {
    let _machine = heavy();
    let daemon = Setup::new(&["--source", "pattern", "--size", "640x360", "--audio", "off"]).start();
    let viewer = Viewer::join(&daemon, address(1), Manner::Honest);
    viewer.goes_on();
    let fault = Fault {
        name: "garbage from four viewers and a stranger",
        comes: &[],
        passes: &[],
        lasting: Duration::ZERO,
        most: Duration::from_millis(200),
    };
    let stranger = UdpSocket::bind((address(3), 0)).unwrap();
    let target = offer(&daemon, address(4), Manner::Honest).unwrap();
    let (forger, to, forged) = offer(&daemon, address(5), Manner::Honest).unwrap().forge(&target.remote);
    let mut noise = 1_u32;
    for round in 1..=times() {
        let mark = daemon.log().mark();
        viewer.begin();
        let garbling: Vec<_> = (10..14).map(|index| Viewer::join(&daemon, address(index), Manner::Garbling)).collect();
        for one in &garbling {
            one.sees("a picture", SOON, |seen| !seen.pictures.is_empty());
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            for first in [0, 1, 22, 64, 128, 144, 200] {
                let mut garbage = vec![first; 20 + (noise % 1200) as usize];
                garbage.iter_mut().skip(1).for_each(|byte| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (noise >> 24) as u8;
                });
                // A full buffer loses it, as a network may.
                let _ = stranger.send_to(&garbage, to);
                let _ = forger.send_to(&forged, to);
            }
            let seen = viewer.seen().pictures.len();
            viewer.sees("the next picture", SOON, |now| now.pictures.len() > seen);
        }
        viewer.goes_on();
        fault.judge(round, viewer.gap(), &daemon.log().lines()[mark..]);
        drop(garbling);
    }
    assert_eq!((viewer.seen().missing, viewer.seen().ended), (0, None));
    drop((viewer, target));
    daemon.stop();
}
