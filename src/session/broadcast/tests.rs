//! The broadcast in virtual time.

#![allow(clippy::unwrap_used)]
use super::*;

fn newcomer(ufrag: &str) -> Newcomer {
    Newcomer {
        caller: Caller::new(&"test".into(), ufrag),
        ufrags: vec![ufrag.to_owned()],
        codecs: vec![Codec::H264],
        replaces: None,
    }
}

fn id(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

#[test]
fn pictures_are_wanted_from_the_first_offer_to_the_last_leaving() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(2);
    assert_eq!(broadcast.handle_offer(now, id(1), newcomer("ufrag")), Ok(1));
    assert_eq!(broadcast.handle_offer(now, id(2), newcomer("ufrag")), Ok(2));
    assert_eq!(broadcast.handle_offer(now, id(3), newcomer("ufrag")), Err(Refusal::Full { limit: 2 }));
    broadcast.handle_connected(now, id(1));
    broadcast.handle_ended(now, id(2), EndReason::Left);
    broadcast.handle_ended(now, id(1), EndReason::Left);
    broadcast.handle_ended(now, id(1), EndReason::Left);
    let outputs: Vec<_> = std::iter::from_fn(|| broadcast.poll_output()).collect();
    let zero = Duration::ZERO;
    assert_eq!(
        outputs,
        [
            Output::Demand { codec: Codec::H264, wanted: true },
            Output::Came { number: 1, who: newcomer("ufrag").caller, took: zero, watching: 1 },
            Output::Failed { number: 2, who: newcomer("ufrag").caller, why: EndReason::Left },
            Output::Demand { codec: Codec::H264, wanted: false },
            Output::Left { number: 1, who: newcomer("ufrag").caller, why: EndReason::Left, after: zero, watching: 0 },
        ]
    );
    broadcast.handle_shutdown();
    assert_eq!(broadcast.handle_offer(now, id(4), newcomer("ufrag")), Err(Refusal::Closing));
}

#[test]
fn fragments_of_another_generation_are_refused() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(2);
    assert_eq!(broadcast.handle_offer(now, id(1), newcomer("abcd")), Ok(1));
    let trickle = |ufrag: Option<&str>| Trickle { ufrag: ufrag.map(str::to_owned), end: true, ..Trickle::default() };
    for ufrag in [None, Some("abcd")] {
        assert_eq!(broadcast.handle_trickle(id(1), &trickle(ufrag)), Ok(Place::Joining));
    }
    assert!(matches!(broadcast.handle_trickle(id(1), &trickle(Some("efgh"))), Err(Refusal::Conflict(_))));
    assert_eq!(broadcast.handle_trickle(id(2), &trickle(None)), Err(Refusal::UnknownSession));
}

#[test]
fn an_offer_that_does_not_connect_has_a_head_start_and_gives_way() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(1);
    assert_eq!(broadcast.handle_offer(now, id(1), newcomer("ufrag")), Ok(1));
    assert_eq!((broadcast.gives_way(now, &newcomer("next")), broadcast.poll_timeout()), (None, Some(now + HEAD_START)));
    assert_eq!(broadcast.gives_way(now + MOST_PATIENCE, &newcomer("next")), Some(id(1)));
    broadcast.handle_timeout(now + HEAD_START);
    assert_eq!(broadcast.poll_timeout(), None);
    broadcast.handle_connected(now + HEAD_START * 2, id(1));
    assert_eq!((broadcast.gives_way(now + HEAD_START * 3, &newcomer("next")), broadcast.poll_timeout()), (None, None));
    let demands = std::iter::from_fn(|| broadcast.poll_output()).filter_map(|output| match output {
        Output::Demand { wanted, .. } => Some(wanted),
        _ => None,
    });
    assert_eq!(demands.collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn each_codec_is_wanted_while_somebody_takes_it() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(3);
    let takes = |codecs: &[Codec]| Newcomer { codecs: codecs.to_vec(), ..newcomer("ufrag") };
    broadcast.handle_offer(now, id(1), takes(&[Codec::H264])).unwrap();
    broadcast.handle_offer(now, id(2), takes(&[Codec::Vp8, Codec::Opus])).unwrap();
    assert!([Codec::H264, Codec::Vp8, Codec::Opus].iter().all(|codec| broadcast.wants(*codec)));
    broadcast.handle_connected(now, id(1));
    broadcast.handle_timeout(now + HEAD_START);
    assert_eq!([Codec::H264, Codec::Vp8].map(|codec| broadcast.wants(codec)), [true, false]);
    broadcast.handle_change(now + HEAD_START, id(1), vec![], vec![Codec::Opus]);
    assert_eq!([Codec::H264, Codec::Opus].map(|codec| broadcast.wants(codec)), [false, true]);
}

#[test]
fn a_replaced_session_ends_once_its_successor_connects() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(1);
    broadcast.handle_offer(now, id(1), newcomer("old")).unwrap();
    broadcast.handle_connected(now, id(1));
    let successor = Newcomer { replaces: Some(id(1)), ..newcomer("next") };
    assert_eq!(broadcast.handle_offer(now, id(3), newcomer("other")), Err(Refusal::Full { limit: 1 }));
    assert_eq!(broadcast.handle_offer(now, id(2), successor), Ok(2), "it will have the place of the other");
    let ends = |broadcast: &mut Broadcast| {
        let all = std::iter::from_fn(|| broadcast.poll_output());
        all.filter(|output| matches!(output, Output::End { .. })).collect::<Vec<_>>()
    };
    assert_eq!(ends(&mut broadcast), []);
    broadcast.handle_connected(now, id(2));
    assert_eq!(ends(&mut broadcast), [Output::End { session: id(1), why: EndReason::Replaced }]);
}

#[test]
fn who_offers_again_and_again_without_connecting_holds_two_places_at_most() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(2);
    broadcast.handle_offer(now, id(1), newcomer("first")).unwrap();
    broadcast.handle_connected(now, id(1));
    broadcast.handle_offer(now, id(9), newcomer("other")).unwrap();
    for n in 2..8 {
        let again = Newcomer { replaces: Some(id(n - 1)), ..newcomer("again") };
        assert_eq!(broadcast.gives_way(now + MOST_PATIENCE, &again), None, "nobody else has to go");
        assert!(broadcast.handle_offer(now, id(n), again).is_ok());
        while let Some(output) = broadcast.poll_output() {
            if let Output::End { session, why } = output {
                broadcast.handle_ended(now, session, why);
            }
        }
        assert_eq!(broadcast.taken(), 3, "the one that is connected, the one that joins, and another's");
    }
    broadcast.handle_connected(now, id(7));
    let ends = std::iter::from_fn(|| broadcast.poll_output()).find(|output| matches!(output, Output::End { .. }));
    assert_eq!(ends, Some(Output::End { session: id(1), why: EndReason::Replaced }), "the first is not left over");
}

#[test]
fn a_second_transport_takes_no_place_and_ends_with_its_session() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(1);
    broadcast.handle_offer(now, id(1), newcomer("video")).unwrap();
    broadcast.handle_second(now, id(2), id(1), Newcomer { codecs: vec![Codec::Opus], ..newcomer("audio") });
    let trickle = |ufrag: &str| Trickle { ufrag: Some(ufrag.to_owned()), ..Trickle::default() };
    assert_eq!(broadcast.handle_trickle(id(1), &trickle("audio")), Ok(Place::Joining));
    broadcast.handle_connected(now, id(2));
    broadcast.handle_connected(now, id(1));
    assert_eq!((broadcast.watching(), broadcast.second_of(id(1))), (1, Some(id(2))));
    broadcast.handle_ended(now, id(1), EndReason::Left);
    broadcast.handle_ended(now, id(2), EndReason::Left);
    let outputs: Vec<_> = std::iter::from_fn(|| broadcast.poll_output()).collect();
    assert!(outputs.contains(&Output::End { session: id(2), why: EndReason::Left }));
    assert_eq!(outputs.iter().filter(|output| matches!(output, Output::Came { .. } | Output::Left { .. })).count(), 2);
    assert!(broadcast.is_empty() && !broadcast.wants(Codec::Opus));
}

#[test]
fn the_operator_sees_viewers_by_their_numbers_and_no_second_transports() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(3);
    broadcast.handle_offer(now, id(7), newcomer("video")).unwrap();
    broadcast.handle_second(now, id(2), id(7), Newcomer { codecs: vec![Codec::Opus], ..newcomer("audio") });
    broadcast.handle_offer(now, id(1), newcomer("other")).unwrap();
    broadcast.handle_connected(now + HEAD_START, id(7));
    let state = broadcast.state();
    assert_eq!(state.wanted, [Codec::H264]);
    let viewer = |number, session, name: &str, place, since, codecs: &[Codec]| ViewerState {
        number,
        session,
        caller: newcomer(name).caller,
        place,
        since,
        codecs: codecs.to_vec(),
        link: None,
        way: None,
    };
    let first = viewer(1, id(7), "video", Place::Live, now + HEAD_START, &[Codec::H264, Codec::Opus]);
    let second = viewer(2, id(1), "other", Place::Joining, now, &[Codec::H264]);
    assert_eq!(state.viewers, [first, second]);
}

#[test]
fn places_are_taken_from_where_the_most_are_joining() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(5);
    let at = |server: &str| Newcomer { caller: Caller::new(&server.into(), ""), ..newcomer("x") };
    for (n, server) in ["whep", "flooded", "flooded", "whip", "flooded"].into_iter().enumerate() {
        broadcast.handle_offer(now + Duration::from_millis(n as u64), id(n as u8), at(server)).unwrap();
    }
    let late = now + MOST_PATIENCE * 2;
    assert_eq!([at("whep"), at("flooded")].map(|newcomer| broadcast.gives_way(late, &newcomer)), [Some(id(1)); 2]);
    broadcast.handle_ended(late, id(1), EndReason::Left);
    broadcast.handle_offer(late, id(9), at("flooded")).unwrap();
    assert_eq!(broadcast.gives_way(late, &at("whep")), Some(id(2)), "not one that has just come");
}

#[test]
fn a_goodbye_counts_once() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(1);
    broadcast.handle_offer(now, id(1), newcomer("viewer")).unwrap();
    assert_eq!([id(1), id(1), id(2)].map(|session| broadcast.handle_goodbye(session)), [true, false, false]);
}

#[test]
fn whom_the_operator_ends_is_known_for_a_while() {
    let now = Instant::now();
    let mut broadcast = Broadcast::new(1);
    for n in 0..=MOST_KICKED as u8 {
        let number = broadcast.handle_offer(now, id(n), newcomer("viewer")).unwrap();
        broadcast.handle_second(now, id(200), id(n), newcomer("second"));
        assert_eq!((broadcast.handle_kick(number + 1), broadcast.was_kicked(id(n))), (None, false));
        assert_eq!(broadcast.handle_kick(number), Some(newcomer("viewer").caller));
        let is_its_end = |output: &Output| matches!(output, Output::End { session, .. } if *session == id(n));
        let end = std::iter::from_fn(|| broadcast.poll_output()).find(is_its_end);
        assert_eq!(end, Some(Output::End { session: id(n), why: EndReason::Kicked }));
        broadcast.handle_ended(now, id(n), EndReason::Kicked);
        assert!(broadcast.was_kicked(id(n)) && !broadcast.was_kicked(id(200)));
        broadcast.handle_ended(now, id(200), EndReason::Kicked);
        while broadcast.poll_output().is_some() {}
        assert_eq!(broadcast.handle_kick(number), None, "it has ended");
    }
    assert_eq!((broadcast.was_kicked(id(0)), broadcast.was_kicked(id(1))), (false, true));
}

/// Random operations: demand of each codec alternates and is true exactly while a session takes it; nobody leaves who didn't come;
/// nobody has more than their place.
#[test]
fn random_operations_keep_the_invariants() {
    const CODECS: [Codec; 3] = [Codec::H264, Codec::Vp8, Codec::Opus];
    let now = Instant::now();
    let mut broadcast = Broadcast::new(5);
    let (mut state, mut demand, mut watching) = (7u64, Vec::new(), 0usize);
    for _ in 0..50_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let session = id((state >> 40) as u8 % 8);
        let other = id((state >> 44) as u8 % 8);
        let codecs: Vec<_> =
            CODECS.into_iter().enumerate().filter(|(i, _)| state >> (50 + i) & 1 == 1).map(|(_, c)| c).collect();
        let replaces = (state >> 55 & 3 == 0).then_some(other);
        let newcomer = Newcomer { codecs: codecs.clone(), replaces, ..Newcomer::default() };
        match (state >> 60) % 6 {
            0 if broadcast.place(session).is_none() => drop(broadcast.handle_offer(now, session, newcomer)),
            1 => broadcast.handle_connected(now, session),
            2 => broadcast.handle_ended(now, session, EndReason::Left),
            3 => broadcast.handle_change(now, session, vec![], codecs),
            4 if broadcast.place(session).is_none() && session != other => {
                let is_first = broadcast.entries.get(&other).is_some_and(|entry| entry.second_of.is_none());
                if is_first && broadcast.second_of(other).is_none() {
                    broadcast.handle_second(now, session, other, newcomer);
                }
            }
            _ => {
                if broadcast.place(session) == Some(Place::Joining) {
                    broadcast.handle_unanswered(now, session);
                }
            }
        }
        while let Some(output) = broadcast.poll_output() {
            match output {
                Output::Demand { codec, wanted } => {
                    assert_ne!(wanted, demand.contains(&codec));
                    demand.retain(|other| *other != codec);
                    if wanted {
                        demand.push(codec);
                    }
                }
                Output::Came { watching: now, .. } => {
                    watching += 1;
                    assert_eq!(now, watching);
                }
                Output::Left { watching: now, .. } => {
                    watching -= 1;
                    assert_eq!(now, watching);
                }
                Output::End { session, why } => broadcast.handle_ended(now, session, why),
                Output::Failed { .. } => {}
            }
        }
        for codec in CODECS {
            let taken = broadcast.entries.values().any(|entry| entry.newcomer.codecs.contains(&codec));
            assert_eq!(demand.contains(&codec), taken, "no time passes");
        }
        let firsts = broadcast.entries.values().filter(|entry| entry.second_of.is_none()).count();
        let successors = broadcast.entries.values().filter(|entry| entry.newcomer.replaces.is_some()).count();
        assert!(firsts <= 5 + successors);
        let orphan = broadcast
            .entries
            .values()
            .filter_map(|entry| entry.second_of)
            .find(|first| broadcast.place(*first).is_none());
        assert_eq!(orphan, None);
    }
    assert!(watching <= 6);
}
