//! The join thread's state with the real engine, in virtual time: what viewers begin and do not finish is over and forgotten.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{oneshot, watch};

use super::*;
use crate::encoder::Bitrate;
use crate::session::reach::{Reach, ReachConfig};
use crate::session::sdp::Sync;
use crate::session::streams::Streams;
use crate::session::udp::MediaSocket;
use crate::session::wake::Waker;
use crate::signaling::{Answer, Caller, Life, Refusal, SignalIn, Trickle};

const CHROMIUM: &str = include_str!("../../../tests/data/offers/chromium-recvonly-both-max-bundle.sdp");
const NO_BUNDLE: &str = include_str!("../../../tests/data/offers/made-no-bundle.sdp");

/// A join thread of two places, and what it tells the media thread.
fn join_with(demand: Demand) -> (Join, Inbox<MediaIn>) {
    let config = JoinConfig {
        terms: Terms { name: "test".into(), max_viewers: 2, audio: true, sync: Sync::Lip, bitrate: Bitrate(2_500_000) },
        codecs: vec![Codec::H264, Codec::Vp8],
        clock: Clock::start(),
        identity: Identity::generate().unwrap(),
        reach: Arc::new(Reach::new(ReachConfig { port: 9, ..ReachConfig::default() })),
        watching: watch::Sender::new(0),
        events: Events::default(),
    };
    let inbox = || Inbox::new(100, Waker::new().unwrap());
    let media = Inbox::new(100, Waker::new().unwrap());
    let sink = SocketSink::new(MediaSocket::bind(0).unwrap(), Streams::default());
    (Join::new(config, sink, inbox(), media.clone(), demand), media)
}

fn join() -> (Join, Inbox<MediaIn>) {
    join_with(Box::new(|_, _| {}))
}

fn id(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

/// Puts a signal, and gives what is said to it; `None` where nobody says anything.
fn ask<T>(join: &mut Join, now: Instant, signal: impl FnOnce(oneshot::Sender<T>) -> SignalIn) -> Option<T> {
    let (reply, mut answer) = oneshot::channel();
    join.handle(now, JoinIn::Signal(signal(reply)));
    join.report();
    answer.try_recv().ok()
}

fn offer(join: &mut Join, now: Instant, session: SessionId, sdp: &str) -> Option<Result<Answer, Refusal>> {
    let caller = Caller::new(&"test".into(), "alice");
    ask(join, now, |reply| SignalIn::Offer { session, sdp: sdp.to_owned(), caller, replaces: None, reply })
}

fn call(join: &mut Join, now: Instant, session: SessionId) -> String {
    ask(join, now, |reply| SignalIn::Call {
        session,
        caller: Caller::new(&"test".into(), "bob"),
        replaces: None,
        reply,
    })
    .unwrap()
    .unwrap()
    .sdp
}

fn accept(join: &mut Join, now: Instant, session: SessionId, sdp: &str) -> Result<(), Refusal> {
    ask(join, now, |reply| SignalIn::Accept { session, sdp: sdp.to_owned(), reply }).unwrap()
}

/// Whether nothing is left of any session; the media thread is told to forget each that it was told to expect.
fn is_clean(join: &Join, media: &Inbox<MediaIn>) -> bool {
    let (mut expected, mut forgotten) = (Vec::new(), Vec::new());
    for item in media.drain() {
        match item {
            MediaIn::Expect { session, .. } => expected.push(session),
            MediaIn::Forget(session) => forgotten.push(session),
            _ => {}
        }
    }
    assert!(!expected.is_empty(), "nothing was begun");
    join.joining.is_empty()
        && join.dialogues.is_empty()
        && join.lives.is_empty()
        && join.broadcast.is_empty()
        && expected.iter().all(|session| forgotten.contains(session))
}

#[test]
fn a_call_that_nobody_answers_is_over_after_15_s() {
    let (mut join, media) = join();
    let now = Instant::now();
    call(&mut join, now, id(1));
    join.do_what_is_due(now + Duration::from_millis(14_900));
    assert!(join.broadcast.place(id(1)).is_some());
    join.do_what_is_due(now + Duration::from_secs(15));
    assert!(is_clean(&join, &media));
    assert_eq!(accept(&mut join, now + Duration::from_secs(16), id(1), CHROMIUM), Err(Refusal::UnknownSession));
}

#[test]
fn garbage_for_an_answer_ends_the_call_only() {
    let (mut join, media) = join();
    let now = Instant::now();
    assert!(offer(&mut join, now, id(9), CHROMIUM).unwrap().is_ok());
    let own = call(&mut join, now, id(1));
    let without =
        |unwanted: &str| own.split_inclusive("\r\n").filter(|line| !line.starts_with(unwanted)).collect::<String>();
    let cut = own[..own.find("m=").unwrap()].to_owned();
    for garbage in ["", "yes", &cut, &without("a=fingerprint"), &without("a=ice-"), &without("a=rtpmap")] {
        let refused = accept(&mut join, now, id(1), garbage);
        assert!(refused.is_err(), "{garbage}");
        assert!(join.broadcast.place(id(1)).is_none() && !join.joining.contains_key(&id(1)), "it is over");
        assert!(join.joining.contains_key(&id(9)), "another is not");
        call(&mut join, now, id(1));
    }
    for session in [id(1), id(9)] {
        assert!(ask(&mut join, now, |reply| SignalIn::Leave { session, reply }).unwrap().is_ok());
    }
    assert!(is_clean(&join, &media));
}

#[test]
fn an_offer_without_bundle_takes_one_place_and_leaves_nothing_behind() {
    let (mut join, media) = join();
    let now = Instant::now();
    for (session, expected) in [(id(1), 2), (id(2), 4)] {
        assert!(offer(&mut join, now, session, NO_BUNDLE).unwrap().is_ok());
        assert_eq!(join.joining.len(), expected, "a transport for each section");
    }
    assert!(matches!(offer(&mut join, now, id(3), NO_BUNDLE), Some(Err(Refusal::Full { limit: 2 }))));
    assert!(ask(&mut join, now, |reply| SignalIn::Leave { session: id(1), reply }).unwrap().is_ok());
    assert_eq!(join.joining.len(), 2, "both transports of the one that left are gone");
    join.do_what_is_due(now + Duration::from_secs(15));
    join.report();
    assert!(is_clean(&join, &media));
}

#[test]
fn offers_that_are_abandoned_or_give_way_are_forgotten() {
    let (mut join, media) = join();
    let now = Instant::now();
    for n in 0..100 {
        let (reply, gone) = oneshot::channel();
        drop(gone);
        let (session, caller) = (id(n), Caller::new(&"test".into(), "alice"));
        let signal = SignalIn::Offer { session, sdp: CHROMIUM.to_owned(), caller, replaces: None, reply };
        join.handle(now, JoinIn::Signal(signal));
        join.report();
        assert!(join.joining.is_empty() && join.dialogues.is_empty(), "who asked has gone");
    }
    // Each takes the place of one that did not connect within two seconds.
    for n in 100..140 {
        let at = now + Duration::from_secs(u64::from(n));
        assert!(offer(&mut join, at, id(n), CHROMIUM).unwrap().is_ok());
        assert!(join.joining.len() <= 2 && join.dialogues.len() <= 2);
    }
    join.do_what_is_due(now + Duration::from_secs(200));
    assert!(is_clean(&join, &media));
}

#[test]
fn a_restart_that_crosses_the_sessions_end_leaves_no_route() {
    let (mut join, media) = join();
    let now = Instant::now();
    assert!(offer(&mut join, now, id(1), CHROMIUM).unwrap().is_ok());
    // As it is once connected: the media thread has it.
    join.broadcast.handle_connected(now, id(1));
    join.joining.clear();
    let trickle = Trickle {
        ufrag: Some("fresh".into()),
        password: Some("freshfreshfreshfreshfresh".into()),
        ..Trickle::default()
    };
    assert!(ask(&mut join, now, |reply| SignalIn::Restart { session: id(1), trickle, reply }).unwrap().is_ok());
    join.handle(now, JoinIn::Ended { session: id(1), at: now, reason: EndReason::Left });
    join.report();
    let told = media.drain();
    let last = told.iter().rposition(|item| matches!(item, MediaIn::Expect { .. })).unwrap();
    assert!(told.iter().skip(last).any(|item| matches!(item, MediaIn::Forget(session) if *session == id(1))));
    assert!(join.broadcast.is_empty() && join.dialogues.is_empty());
}

#[test]
fn who_publishes_is_told_how_its_session_goes() {
    let (mut join, media) = join();
    let now = Instant::now();
    let publish = |join: &mut Join, session| {
        let (life, lives) = watch::channel(Life::Joining);
        let caller = Caller::new(&"whip+http://sfu/".into(), "");
        let said = ask(join, now, |reply| SignalIn::Publish { session, caller, life, reply }).unwrap();
        (said.map(|offer| offer.sdp), lives)
    };
    let (offer, unanswered) = publish(&mut join, id(1));
    assert!(offer.unwrap().contains("a=bundle-only"));
    let (offer, connected) = publish(&mut join, id(2));
    assert!(offer.is_ok() && *unanswered.borrow() == Life::Joining);
    let (refused, lives) = publish(&mut join, id(3));
    assert_eq!((refused, lives.has_changed().is_err()), (Err(Refusal::Full { limit: 2 }), true), "nobody tells");
    assert!(accept(&mut join, now, id(1), "v=0\r\n").is_err());
    let ended =
        |lives: &watch::Receiver<Life>, word: &str| matches!(&*lives.borrow(), Life::Ended(why) if why.contains(word));
    assert!(ended(&unanswered, "the answer could not be used"), "{unanswered:?}");
    // As it is once connected: the media thread has it.
    join.broadcast.handle_connected(now, id(2));
    join.joining.clear();
    join.handle(now, JoinIn::Ended { session: id(2), at: now, reason: EndReason::Silent(Duration::from_secs(12)) });
    assert!(ended(&connected, "nothing heard for 12 s"), "{connected:?}");
    join.report();
    assert!(is_clean(&join, &media));
}

#[test]
fn a_lite_side_is_known_by_the_addresses_that_its_answer_lists() {
    const ANSWER: &str = include_str!("../../../tests/data/answers/chromium.sdp");
    let own = "a=candidate:9 1 udp 2130706431 192.0.2.9 7000 typ host\r\na=candidate:8 1 UDP 1 2001:db8::9 7000 typ host\r\n\
               a=candidate:7 1 tcp 1 192.0.2.9 7001 typ host tcptype passive\r\na=candidate:6 1 udp 1 a.local 7002 typ host\r\n";
    let answer = ANSWER.replacen("a=ice-ufrag", &format!("{own}a=ice-ufrag"), 1);
    let lite = answer.replacen("s=-\r\n", "s=-\r\na=ice-lite\r\n", 1);
    assert!(answer != ANSWER && lite != answer);
    let listed = vec!["192.0.2.9:7000", "[2001:db8::9]:7000"];
    for (answer, is_sfu, expected) in [(answer, true, vec![]), (lite.clone(), false, vec![]), (lite, true, listed)] {
        let (mut join, media) = join();
        let now = Instant::now();
        let (life, _watch) = watch::channel(Life::Joining);
        if is_sfu {
            let caller = Caller::new(&"test".into(), "");
            ask(&mut join, now, |reply| SignalIn::Publish { session: id(1), caller, life, reply }).unwrap().unwrap();
        } else {
            call(&mut join, now, id(1));
        }
        assert_eq!(accept(&mut join, now, id(1), &answer), Ok(()));
        let addresses: Vec<_> = media
            .drain()
            .into_iter()
            .filter_map(|told| match told {
                MediaIn::Address { session, remote } => Some((session, remote.address)),
                _ => None,
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|address| (id(1), address.parse().unwrap())).collect();
        assert!(expected.iter().all(|wanted| addresses.contains(wanted)), "{addresses:?}");
        assert_eq!(addresses.is_empty(), expected.is_empty(), "who is no lite SFU is known by its requests alone");
        assert!(addresses.iter().all(|(_, address)| address.port() < 7001 || address.port() > 7002));
    }
}

#[test]
fn a_fault_while_an_offer_is_answered_ends_that_session_only() {
    let faulty = Arc::new(AtomicBool::new(true));
    let once = faulty.clone();
    let (mut join, media) = join_with(Box::new(move |_, _| assert!(!once.swap(false, Ordering::Relaxed), "as a test")));
    let now = Instant::now();
    assert!(offer(&mut join, now, id(1), CHROMIUM).is_none(), "who asked is told by the reply's end");
    assert!(join.broadcast.is_empty() && join.joining.is_empty() && join.dialogues.is_empty());
    assert!(offer(&mut join, now, id(2), CHROMIUM).unwrap().is_ok(), "others go on");
    assert!(ask(&mut join, now, |reply| SignalIn::Leave { session: id(2), reply }).unwrap().is_ok());
    assert!(is_clean(&join, &media));
}

#[test]
fn shutdown_ends_joiners_at_once_and_takes_no_more() {
    let (mut join, media) = join();
    let now = Instant::now();
    assert!(offer(&mut join, now, id(1), NO_BUNDLE).unwrap().is_ok());
    call(&mut join, now, id(2));
    join.handle(now, JoinIn::Shutdown);
    join.report();
    assert!(join.closed(now));
    assert!(matches!(offer(&mut join, now, id(3), CHROMIUM), Some(Err(Refusal::Closing))));
    assert!(is_clean(&join, &media));
}

#[test]
fn a_viewer_that_the_operator_ends_is_told_so_and_the_others_stay() {
    let (mut join, media) = join();
    let now = Instant::now();
    for n in [1, 2] {
        assert!(offer(&mut join, now, id(n), CHROMIUM).unwrap().is_ok());
    }
    let mut kick = |number| {
        let (reply, mut who) = oneshot::channel();
        join.handle(now, JoinIn::Kick { number, reply });
        join.report();
        who.try_recv().unwrap().map(|caller| caller.to_string())
    };
    assert_eq!([kick(3), kick(1), kick(1)], [None, Some("alice at test".to_owned()), None]);
    let leave = |join: &mut Join, n| ask(join, now, |reply| SignalIn::Leave { session: id(n), reply }).unwrap();
    assert_eq!([leave(&mut join, 1), leave(&mut join, 9)], [Err(Refusal::Kicked), Err(Refusal::UnknownSession)]);
    let (reply, _) = oneshot::channel();
    join.handle(now, JoinIn::Look(reply));
    let looked = media.drain().into_iter().find_map(|item| match item {
        MediaIn::Look { state, .. } => Some(state.viewers.iter().map(|viewer| viewer.number).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(looked, Some(vec![2]));
}
