//! Whose a datagram is, whatever one session does.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use super::addresses::{MOST_ADDRESSES, MOST_STREAMS, SPARE_WAIT};
use super::*;
use crate::clock::Clock;
use crate::encoder::Bitrate;
use crate::session::engine::IceRole;
use crate::session::engine::identity::Identity;
use crate::session::sdp::{LocalStreams, Sync};
use crate::session::streams::Streams;
use crate::session::viewer::StreamKit;
use crate::session::wake::Waker;

/// A media thread's state, and what it tells the join thread.
fn media() -> (Media, Inbox<JoinIn>) {
    fn inbox<T>() -> Inbox<T> {
        Inbox::new(10_000, Waker::new().unwrap())
    }
    let join = inbox();
    let sink = SocketSink::new(MediaSocket::bind(0).unwrap(), Streams::default());
    let units = UnitQueues { pictures: inbox(), sound: inbox(), packets: inbox() };
    (Media::new(sink, inbox(), units, join.clone(), Arc::new(|_| {})), join)
}

fn id(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], port))
}

/// A request of which no more is right than its name.
fn request(ufrag: &str) -> Vec<u8> {
    let name = format!("{ufrag}:them");
    let padded = name.len().next_multiple_of(4);
    let mut request = vec![0, 1, 0, padded as u8 + 4, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    request.extend([0, 6, 0, name.len() as u8]);
    request.extend(name.bytes());
    request.resize(24 + padded, 0);
    request
}

fn arrive(media: &mut Media, from: SocketAddr, data: &[u8]) {
    media.handle_packet(Path::udp(address(1), from), data);
}

fn remote(port: u16) -> Remote {
    Path::udp(address(1), address(port)).end()
}

#[test]
fn a_flood_for_a_session_that_joins_is_dropped_before_the_join_thread() {
    let (mut media, join) = media();
    let now = Instant::now();
    media.expect(now, id(1), "flooded".into());
    media.expect(now, id(2), "other".into());
    for _ in 0..5_000 {
        arrive(&mut media, address(2), &request("flooded"));
    }
    arrive(&mut media, address(3), &request("other"));
    arrive(&mut media, address(3), &request("nobody"));
    let allowed = JOINING_AT_ONCE as usize + 1 + (now.elapsed().as_millis() / JOINING_INTERVAL.as_millis()) as usize;
    let handed = join.drain();
    let of = |wanted| {
        handed.iter().filter(|item| matches!(item, JoinIn::Datagram { session, .. } if *session == wanted)).count()
    };
    assert!((128..=allowed).contains(&of(id(1))), "{} of {allowed}", of(id(1)));
    assert_eq!((of(id(2)), media.strange), (1, 1));
    assert!(media.routes[&id(1)].handed.refused() as usize >= 5_000 - allowed);
}

#[test]
fn restarts_that_come_to_nothing_leave_the_first_generation_heard() {
    let (mut media, _) = media();
    for generation in 0..9 {
        media.expect(Instant::now(), id(1), format!("generation{generation}"));
    }
    for generation in [0, 8] {
        let (path, data) = (Path::udp(address(1), address(2)), request(&format!("generation{generation}")));
        assert_eq!(media.route(path, &data), Some(id(1)), "generation {generation}");
    }
    (9..100).for_each(|generation| media.expect(Instant::now(), id(1), format!("generation{generation}")));
    assert_eq!(media.by_ufrag.len(), MOST_UFRAGS);
    media.forget(id(1));
    assert!(media.by_ufrag.is_empty());
}

#[test]
fn a_session_that_shows_addresses_without_end_has_the_last_of_them_only() {
    let (mut media, _) = media();
    let now = Instant::now();
    media.expect(now, id(1), "one".into());
    media.expect(now, id(2), "two".into());
    (1_000..3_000).for_each(|port| media.bind(now, id(1), remote(port)));
    assert_eq!(media.by_address.len(), MOST_ADDRESSES);
    media.bind(now, id(2), remote(2_990));
    assert_eq!((media.by_address[&remote(2_990)], media.by_address[&remote(2_999)]), (id(2), id(1)));
    media.forget(id(1));
    assert_eq!(media.by_address.len(), 1, "what another has since stays with it");
    media.forget(id(2));
    assert!(media.by_address.is_empty());
}

#[test]
fn a_connection_is_closed_where_it_is_nobodys_and_with_its_session() {
    let (mut media, join) = media();
    let now = Instant::now();
    media.expect(now, id(1), "one".into());
    media.bind(now, id(2), remote(2));
    let streams = media.sink.streams().clone();
    let paths = [2, 3, 4].map(|port| Path::tcp(address(1), address(port)));
    let [own, stranger, silent] = paths.map(|path| streams.open(path));
    media.handle_packet(paths[0], &request("one"));
    media.bind(now, id(1), paths[0].end());
    media.handle_packet(paths[1], &request("nobody"));
    assert_eq!([&own, &stranger, &silent].map(|stream| stream.is_closing()), [false, true, false]);
    let handed = join.drain();
    assert!(matches!(&handed[0], JoinIn::Datagram { path, .. } if *path == paths[0]), "as it came");
    media.forget(id(1));
    assert!(own.is_closing() && !silent.is_closing());
}

#[test]
fn the_same_address_by_the_other_protocol_is_another() {
    let (mut media, _) = media();
    let now = Instant::now();
    media.expect(now, id(1), "one".into());
    media.expect(now, id(2), "two".into());
    let (by_udp, by_tcp) = (Path::udp(address(1), address(2)), Path::tcp(address(1), address(2)));
    media.bind(now, id(1), by_udp.end());
    media.bind(now, id(2), by_tcp.end());
    assert_eq!((media.route(by_udp, &[20; 60]), media.route(by_tcp, &[20; 60])), (Some(id(1)), Some(id(2))));
}

/// Has a session go live whose media goes along `path`.
fn adopt(media: &mut Media, now: Instant, n: u8, path: Path) {
    let identity = Identity::generate().unwrap();
    let (mut engine, local) = RtcEngine::new(now, &identity, &[path.local.into()], IceRole::Controlled).unwrap();
    engine.set_path(path);
    let streams = LocalStreams {
        video_ssrc: 1,
        rtx_ssrc: 2,
        audio_ssrc: 3,
        name: "n".into(),
        cname: "c".into(),
        sync: Sync::Lip,
        video_section: None,
        audio_section: None,
    };
    let clock = Clock::from_parts(now, Duration::from_secs(1_700_000_000));
    let kit = StreamKit { clock, streams, rate: Bitrate(2_500_000) };
    media.expect(now, id(n), local.ufrag);
    media.adopt(now, Box::new(Viewer::new(now, id(n), n.into(), engine, kit)));
}

fn tcp(port: u16) -> Path {
    Path::tcp(address(1), address(port))
}

#[test]
fn a_session_keeps_a_few_connections_and_one_that_joins_the_first_of_them() {
    let (mut media, _) = media();
    let now = Instant::now();
    media.expect(now, id(1), "one".into());
    let streams = media.sink.streams().clone();
    let bind = |media: &mut Media, port| {
        let stream = streams.open(tcp(port));
        media.bind(now, id(1), tcp(port).end());
        stream
    };
    let first: Vec<_> = (0..MOST_STREAMS as u16).map(|port| bind(&mut media, 10 + port)).collect();
    assert!(bind(&mut media, 20).is_closing());
    assert!(first.iter().all(|stream| !stream.is_closing()));
    // Live it comes from another network: what it does not use gives way, the oldest first.
    adopt(&mut media, now, 1, tcp(10));
    let next = bind(&mut media, 30);
    let closing: Vec<_> = first.iter().chain([&next]).map(|stream| stream.is_closing()).collect();
    assert_eq!(closing, [false, true, false, false, false]);
    assert_eq!(media.by_address.len(), MOST_STREAMS);
}

#[test]
fn connections_are_closed_once_media_has_gone_over_udp_for_a_while() {
    let (mut media, _) = media();
    let now = Instant::now();
    let (by_udp, by_tcp) = (Path::udp(address(1), address(2)), tcp(3));
    let streams = media.sink.streams().clone();
    let [spare, in_use] = [by_tcp, tcp(4)].map(|path| streams.open(path));
    for (n, path) in [(1, by_udp), (2, tcp(4))] {
        adopt(&mut media, now, n, path);
        media.bind(now, id(n), path.end());
    }
    media.bind(now, id(1), by_tcp.end());
    let mut closing = |after| {
        media.bind(now + after, id(1), by_udp.end());
        media.bind(now + after, id(2), tcp(4).end());
        (spare.is_closing(), in_use.is_closing(), media.by_address.len())
    };
    assert_eq!(closing(SPARE_WAIT - Duration::from_millis(1)), (false, false, 3), "ICE may still choose it");
    assert_eq!(closing(SPARE_WAIT), (true, false, 2));
}

#[test]
fn a_joiner_that_takes_nothing_is_forgotten_once_it_catches_up_no_more() {
    let (mut media, _) = media();
    let now = Instant::now();
    adopt(&mut media, now, 1, tcp(2));
    let stream = media.sink.streams().open(tcp(2));
    while stream.push(1_000, &mut |_| true).is_ok() {}
    assert!(media.sink.is_behind(tcp(2)));
    media.joiners.push_back(id(1));
    media.catch_up(now);
    assert!(media.joiners.is_empty());
}
