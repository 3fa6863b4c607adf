//! Who is recognised when the server was lost and is back, and as what.

use super::*;

#[test]
fn who_had_a_picture_when_the_server_was_lost_is_not_called_again() {
    let mut stage = Stage::served();
    stage.peers.handle_joined(PeerId(8), b"bob", stage.now);
    stage.peers.handle_lost(stage.now);
    assert_eq!((stage.outputs(), stage.peers.states().count()), (vec![], 0));
    // It is lost again at once, and again before there is a list.
    for id in [20, 30] {
        stage.peers.handle_joined(PeerId(id), b"alice", stage.now);
        assert_eq!(stage.peers.poll_timeout(), None, "it sees the daemon");
        stage.peers.handle_lost(stage.now);
        stage.peers.handle_lost(stage.now);
    }
    stage.peers.handle_joined(PeerId(40), b"alice", stage.now);
    stage.peers.handle_joined(PeerId(41), b"bob", stage.now);
    stage.peers.handle_joined(PeerId(42), b"alice", stage.now);
    stage.peers.handle_timeout(stage.now + CALL_AFTER);
    let asked: Vec<_> =
        stage.outputs().into_iter().map(|output| matches!(output, Output::Ask(_, PeerId(41 | 42), _))).collect();
    assert_eq!(asked, [true, true], "who had none is called, and a second of the name is somebody else");
    assert_eq!(stage.peers.call(PeerId(40), stage.now), Ok(()), "the operator may");

    for (is_listed, later) in [(true, BACK_WITHIN), (false, Duration::from_secs(301))] {
        let mut stage = Stage::served();
        stage.peers.handle_lost(stage.now);
        if is_listed {
            stage.peers.handle_listed(stage.now);
        }
        stage.now += later;
        stage.peers.handle_joined(PeerId(20), b"alice", stage.now);
        assert_eq!(stage.peers.poll_timeout(), Some(stage.now + CALL_AFTER), "it is a page that was loaded again");
        assert_eq!(stage.peers.session(PeerId(20)), None);
    }
}

#[test]
fn who_comes_back_later_than_the_daemon_is_recognised_for_a_while() {
    const MOMENT: Duration = Duration::from_millis(1);
    let mut stage = Stage::served();
    stage.peers.handle_lost(stage.now);
    stage.peers.handle_listed(stage.now);
    assert_eq!(stage.peers.poll_timeout(), Some(stage.now + BACK_WITHIN));
    // It is lost again before alice is back, for long.
    stage.now += BACK_WITHIN - MOMENT;
    stage.peers.handle_lost(stage.now);
    assert_eq!(stage.peers.poll_timeout(), None);
    stage.now += BACK_WITHIN * 2;
    stage.peers.handle_listed(stage.now);
    stage.now += BACK_WITHIN - MOMENT;
    stage.peers.handle_timeout(stage.now);
    stage.peers.handle_joined(PeerId(20), b"alice", stage.now);
    assert_eq!((stage.peers.poll_timeout(), stage.peers.session(PeerId(20))), (None, Some(session(1))));
    // A page that is loaded again after that has no picture.
    stage.peers.handle_dropped(PeerId(20));
    stage.peers.handle_joined(PeerId(21), b"alice", stage.now);
    assert_eq!(stage.peers.poll_timeout(), Some(stage.now + CALL_AFTER));

    let mut stage = Stage::served();
    stage.peers.handle_lost(stage.now);
    stage.peers.handle_listed(stage.now);
    stage.peers.handle_timeout(stage.now + BACK_WITHIN);
    assert_eq!(stage.peers.poll_timeout(), None, "who did not come back is forgotten");
    stage.peers.handle_joined(PeerId(20), b"alice", stage.now);
    assert_eq!(stage.peers.session(PeerId(20)), None);
}

#[test]
fn who_is_recognised_has_its_session_again() {
    let again = || {
        let mut stage = Stage::served();
        stage.peers.handle_lost(stage.now);
        stage.peers.handle_joined(PEER, b"alice", stage.now);
        stage.peers.handle_listed(stage.now);
        stage
    };
    let state = PeerState { id: PEER, name: "alice".to_owned(), session: Some(session(1)) };
    let mut stage = again();
    assert_eq!(stage.peers.states().collect::<Vec<_>>(), [state]);
    assert_eq!((stage.peers.with_ufrag("u9"), stage.peers.is_called(PEER)), (Some(PEER), false));
    stage.says(CANDIDATE);
    assert_eq!(stage.outputs(), [Output::Trickle(session(1), one_candidate())]);
    stage.offers(9);
    assert_eq!(stage.settle(described()), Question::Renegotiate { session: session(1), sdp: sdp(9) });
    assert_eq!(stage.outputs(), [said(Kind::Answer)]);
    stage.says("BYE");
    assert_eq!(stage.outputs(), [Output::Leave(session(1)), Output::Withdraw { to: PEER }]);

    let mut stage = again();
    stage.offers(8);
    assert_eq!(stage.question().1, offer(2, 8, Some(session(1))), "another connection takes its place");
    let mut stage = again();
    assert_eq!(stage.peers.call(PEER, stage.now), Ok(()));
    assert_eq!(stage.question().1, Question::Call { session: session(2), replaces: Some(session(1)) });
}

#[test]
fn what_may_connect_yet_when_the_server_is_lost_is_recognised_too() {
    // Its answer is being taken.
    let mut stage = Stage::called();
    stage.describes(Kind::Answer, &sdp(9));
    stage.outputs();
    stage.peers.handle_lost(stage.now);
    stage.peers.handle_joined(PeerId(20), b"alice", stage.now);
    assert_eq!((stage.outputs(), stage.peers.session(PeerId(20))), (vec![], Some(session(1))));
    // It has a picture, and was called for another.
    let mut stage = Stage::served();
    assert_eq!(stage.peers.call(PEER, stage.now + CALL_STANDS), Ok(()));
    stage.settle(described());
    stage.outputs();
    stage.peers.handle_lost(stage.now + CALL_STANDS);
    assert_eq!(stage.outputs(), [Output::Leave(session(2))]);
    stage.peers.handle_joined(PeerId(20), b"alice", stage.now + CALL_STANDS);
    assert_eq!((stage.peers.poll_timeout(), stage.peers.session(PeerId(20))), (None, Some(session(1))));
}

#[test]
fn nobody_is_given_the_session_of_a_namesake_or_of_somebody_without_a_name() {
    for (name, count) in [("alice", 2_u64), ("", 1)] {
        let mut stage = Stage::new("joined");
        stage.peers.handle_signed_out(PEER);
        for id in 10..10 + count {
            stage.peers.handle_joined(PeerId(id), name.as_bytes(), stage.now);
            stage.peers.handle_word(PeerId(id), Word::Description { kind: Kind::Offer, sdp: sdp(9) });
        }
        for output in stage.outputs() {
            if let Output::Ask(ask, ..) = output {
                stage.peers.handle_outcome(ask, described());
            }
        }
        assert_eq!(stage.peers.states().filter(|state| state.session.is_some()).count() as u64, count);
        stage.outputs();
        // Also where only one of them was back before the server was lost again.
        for first in [20, 30] {
            stage.peers.handle_lost(stage.now);
            stage.peers.handle_joined(PeerId(first), name.as_bytes(), stage.now);
            assert_eq!((stage.peers.poll_timeout(), stage.peers.session(PeerId(first))), (None, None));
        }
        stage.peers.handle_word(PeerId(30), Word::Bye);
        assert_eq!(stage.outputs(), [Output::Withdraw { to: PeerId(30) }], "no picture ends");
        for id in 31..31 + count {
            stage.peers.handle_joined(PeerId(id), name.as_bytes(), stage.now);
        }
        let called = stage.peers.peers.values().filter(|peer| peer.call_at.is_some()).count();
        assert_eq!(called, 1, "one more than had a picture");
    }
}

#[test]
fn whoever_comes_and_goes_a_session_is_one_peers_and_stays_under_its_name() {
    const NAMES: [&str; 4] = ["a", "b", "c", ""];
    for seed in 1..=40_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut stage = Stage::new("joined");
        let mut names: BTreeMap<SessionId, String> = BTreeMap::new();
        let (mut last, mut recognised) = (PEER.0, 0);
        for _ in 0..600 {
            stage.now += Duration::from_millis(below(2000));
            let there: Vec<PeerId> = stage.peers.states().map(|state| state.id).collect();
            let somebody = there.get(below(there.len().max(1) as u64) as usize).copied();
            match (below(10), somebody) {
                (0, _) => stage.peers.handle_lost(stage.now),
                (1, _) => stage.peers.handle_listed(stage.now),
                (2, Some(id)) => stage.peers.handle_dropped(id),
                (3, Some(id)) => stage.peers.handle_word(id, Word::Bye),
                (4 | 5, Some(id)) => {
                    let sdp = sdp(below(3) as u32);
                    stage.peers.handle_word(id, Word::Description { kind: Kind::Offer, sdp });
                }
                (6, _) => stage.peers.handle_timeout(stage.now),
                _ => {
                    last += 1;
                    stage.peers.handle_joined(PeerId(last), NAMES[below(4) as usize].as_bytes(), stage.now);
                    recognised += u32::from(stage.peers.session(PeerId(last)).is_some());
                }
            }
            while let Some(output) = stage.peers.poll_output() {
                let Output::Ask(ask, id, question) = output else { continue };
                if let Question::Offer { session, .. } | Question::Call { session, .. } = question {
                    names.insert(session, stage.peers.name(id).to_owned());
                }
                stage.peers.handle_outcome(ask, described());
            }
            let states: Vec<PeerState> = stage.peers.states().collect();
            let mut held: Vec<SessionId> = states.iter().filter_map(|state| state.session).collect();
            assert!(states.iter().all(|state| state.session.is_none_or(|session| names[&session] == state.name)));
            let all = held.len();
            held.sort();
            held.dedup();
            assert_eq!(held.len(), all, "two have one session, seed {seed}");
        }
        assert!(recognised > 2 && names.len() > 10, "seed {seed}: {recognised} of {}", names.len());
    }
}

#[test]
fn an_offer_that_was_under_way_when_the_server_was_lost_is_not_followed_by_another_soon() {
    let mut stage = Stage::called();
    let again_at = stage.now + CALL_STANDS;
    stage.now += Duration::from_secs(2);
    stage.peers.handle_lost(stage.now);
    assert_eq!(stage.outputs(), [Output::Leave(session(1))], "nobody hears the answer");
    stage.peers.handle_joined(PeerId(20), b"alice", stage.now);
    assert_eq!(stage.peers.poll_timeout(), Some(again_at));
}
