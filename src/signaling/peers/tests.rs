//! The daemon's side of the protocol without sockets: each turn of a talk with a peer, then talk at random.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::signaling::peerconnection::message;

mod lost;

const PEER: PeerId = PeerId(2);
const CANDIDATE: &str = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.7 9 typ host","sdpMLineIndex":0,"sdpMid":"0"}"#;

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn sdp(origin: u32) -> String {
    format!("v=0\r\no=- {origin} 2 IN IP4 127.0.0.1\r\na=ice-ufrag:u{origin}\r\n")
}

struct Stage {
    peers: Peers,
    now: Instant,
}

impl Stage {
    fn new(call: &str) -> Self {
        let mut drawn = 0;
        let sessions = move || {
            drawn += 1;
            session(drawn)
        };
        let mut stage = Self { peers: Peers::new(CallPolicy::parse(call).unwrap(), sessions), now: Instant::now() };
        stage.peers.handle_joined(PEER, b"alice", stage.now);
        stage
    }

    fn says(&mut self, body: &str) {
        self.says_as(PEER, body);
    }

    fn says_as(&mut self, peer: PeerId, body: &str) {
        match message::parse(body.as_bytes()) {
            Ok(word) => self.peers.handle_word(peer, word),
            Err(why) => self.peers.handle_useless(peer, why),
        }
    }

    fn describes(&mut self, kind: Kind, sdp: &str) {
        self.peers.handle_word(PEER, Word::Description { kind, sdp: sdp.to_owned() });
    }

    fn offers(&mut self, origin: u32) {
        self.describes(Kind::Offer, &sdp(origin));
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.peers.poll_output()).collect()
    }

    /// The only output, which is a question.
    fn question(&mut self) -> (AskId, Question) {
        match &self.outputs()[..] {
            [Output::Ask(ask, PEER, question)] => (*ask, question.clone()),
            other => panic!("{other:?} where a question is expected"),
        }
    }

    /// Has the broadcast answer the only question; gives the question.
    fn settle(&mut self, outcome: Outcome) -> Question {
        let (ask, question) = self.question();
        self.peers.handle_outcome(ask, outcome);
        question
    }

    /// A peer that has offered, and has its answer.
    fn agreed(origin: u32) -> Self {
        let mut stage = Self::new("none");
        stage.offers(origin);
        stage.settle(described());
        assert_eq!(stage.outputs(), [said(Kind::Answer)]);
        stage
    }

    /// A peer that was called, and has the offer.
    fn called() -> Self {
        let mut stage = Self::new("joined");
        stage.now += CALL_AFTER;
        stage.peers.handle_timeout(stage.now);
        assert_eq!(stage.settle(described()), Question::Call { session: session(1), replaces: None });
        assert_eq!(stage.outputs(), [said(Kind::Offer)]);
        stage
    }

    /// A peer that was called, and has answered.
    fn served() -> Self {
        let mut stage = Self::called();
        stage.describes(Kind::Answer, &sdp(9));
        stage.settle(Outcome::Accepted);
        stage
    }
}

fn described() -> Outcome {
    Outcome::Described("v=0\r\nours".to_owned())
}

fn said(kind: Kind) -> Output {
    Output::Say { to: PEER, word: Word::Description { kind, sdp: "v=0\r\nours".to_owned() } }
}

fn offer(number: u8, origin: u32, replaces: Option<SessionId>) -> Question {
    Question::Offer { session: session(number), sdp: sdp(origin), replaces }
}

fn one_candidate() -> Trickle {
    Trickle { candidates: vec!["candidate:1 1 udp 1 192.0.2.7 9 typ host".to_owned()], ..Trickle::default() }
}

#[test]
fn an_offer_is_answered_and_a_second_of_the_same_connection_renegotiates() {
    let mut stage = Stage::agreed(7);
    stage.offers(7);
    assert_eq!(stage.settle(described()), Question::Renegotiate { session: session(1), sdp: sdp(7) });
    assert_eq!(stage.outputs(), [said(Kind::Answer)]);
    stage.says("BYE");
    assert_eq!(stage.outputs(), [Output::Leave(session(1)), Output::Withdraw { to: PEER }]);
    stage.offers(7);
    assert_eq!(stage.question().1, offer(2, 7, None), "who hung up begins anew");
}

#[test]
fn a_renegotiation_of_a_session_that_has_ended_is_a_new_session() {
    let mut stage = Stage::agreed(7);
    stage.offers(7);
    let (ask, _) = stage.question();
    stage.says(CANDIDATE);
    assert_eq!(stage.outputs(), [Output::Trickle(session(1), one_candidate())]);
    stage.peers.handle_outcome(ask, Outcome::Refused(Refusal::UnknownSession));
    match &stage.outputs()[..] {
        [Output::Ask(_, _, question), Output::Trickle(to, _)] => {
            assert_eq!((question, *to), (&offer(2, 7, None), session(2)), "its candidates go along");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_offer_of_another_connection_replaces_the_session() {
    let mut stage = Stage::agreed(7);
    stage.offers(8);
    assert_eq!(stage.settle(described()), offer(2, 8, Some(session(1))));
    assert_eq!(stage.outputs(), [said(Kind::Answer)]);
    stage.peers.handle_signed_out(PEER);
    let left = [Output::Leave(session(2)), Output::Leave(session(1)), Output::Withdraw { to: PEER }];
    assert_eq!(stage.outputs(), left, "neither is left behind");
}

#[test]
fn a_refused_offer_leaves_what_was_agreed() {
    let mut stage = Stage::agreed(7);
    stage.offers(8);
    stage.settle(Outcome::Refused(Refusal::Full { limit: 1 }));
    assert_eq!(stage.outputs(), []);
    stage.offers(7);
    assert!(matches!(stage.question().1, Question::Renegotiate { session: of, .. } if of == session(1)));
}

#[test]
fn one_question_is_open_at_a_time_and_the_newest_offer_waits() {
    let mut stage = Stage::new("none");
    stage.offers(1);
    let (first, _) = stage.question();
    stage.offers(2);
    stage.says(CANDIDATE);
    stage.offers(3);
    stage.says(CANDIDATE);
    assert_eq!(stage.outputs(), []);
    stage.peers.handle_outcome(first, described());
    match &stage.outputs()[..] {
        [answer, Output::Ask(_, _, question), Output::Trickle(to, _)] => {
            assert_eq!((answer, question, *to), (&said(Kind::Answer), &offer(2, 3, Some(session(1))), session(2)));
        }
        other => panic!("{other:?}"),
    }
    stage.peers.handle_outcome(first, described());
    assert_eq!(stage.outputs(), [], "a question is answered once");
}

#[test]
fn candidates_before_their_offer_are_kept_and_bounded() {
    let mut stage = Stage::new("none");
    for _ in 0..EARLY_CANDIDATES + 3 {
        stage.says(CANDIDATE);
    }
    assert_eq!(stage.outputs(), []);
    assert_eq!(stage.peers.counts(), Counts { candidates_lost: 3, ..Counts::default() });
    stage.offers(7);
    let outputs = stage.outputs();
    assert!(matches!(&outputs[0], Output::Ask(_, _, question) if *question == offer(1, 7, None)));
    assert_eq!(outputs[1..], vec![Output::Trickle(session(1), one_candidate()); EARLY_CANDIDATES]);
}

#[test]
fn a_candidate_of_the_next_generation_waits_for_its_offer() {
    let mut stage = Stage::agreed(7);
    let candidate = |ufrag| format!(r#"{{"candidate":"candidate:1 1 udp 1 ::1 9 typ host ufrag {ufrag}"}}"#);
    stage.says(&candidate("u7"));
    assert!(matches!(stage.outputs()[..], [Output::Trickle(to, _)] if to == session(1)));
    stage.says(&candidate("u8"));
    assert_eq!(stage.outputs(), []);
    stage.offers(8);
    assert!(matches!(stage.outputs()[..], [Output::Ask(..), Output::Trickle(to, _)] if to == session(2)));
}

#[test]
fn who_joins_is_called_after_a_second_and_its_answer_is_taken() {
    let mut stage = Stage::new("glob:a*e");
    assert_eq!(stage.peers.poll_timeout(), Some(stage.now + CALL_AFTER));
    stage.peers.handle_timeout(stage.now + CALL_AFTER / 2);
    assert_eq!(stage.outputs(), []);

    let mut stage = Stage::called();
    assert_eq!(stage.peers.poll_timeout(), None, "it is called once");
    stage.says(CANDIDATE);
    stage.describes(Kind::ProvisionalAnswer, &sdp(9));
    assert_eq!(stage.outputs(), [], "the answer is still to come");
    stage.describes(Kind::Answer, &sdp(9));
    let outputs = stage.outputs();
    let [Output::Ask(ask, _, Question::Accept { session: accepted, .. }), Output::Trickle(..)] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*accepted, session(1));
    stage.peers.handle_outcome(*ask, Outcome::Accepted);
    stage.offers(9);
    assert!(matches!(stage.question().1, Question::Renegotiate { session: of, .. } if of == session(1)));
}

#[test]
fn who_is_not_meant_or_has_offered_is_not_called() {
    for call in ["none", "glob:bob"] {
        assert_eq!(Stage::new(call).peers.poll_timeout(), None);
    }
    let mut stage = Stage::new("joined");
    stage.offers(7);
    stage.settle(described());
    assert_eq!((stage.peers.poll_timeout(), stage.outputs()), (None, vec![said(Kind::Answer)]));
}

#[test]
fn a_class_that_joins_at_once_is_called_in_parts() {
    let mut stage = Stage::new("joined");
    for number in 0..CALLS_AT_ONCE as u64 {
        stage.peers.handle_joined(PeerId(100 + number), b"pupil", stage.now);
    }
    stage.now += CALL_AFTER;
    stage.peers.handle_timeout(stage.now);
    assert_eq!(stage.outputs().len(), CALLS_AT_ONCE);
    assert_eq!(stage.peers.poll_timeout(), Some(stage.now + NEXT_CALLS_AFTER));
    stage.peers.handle_timeout(stage.now + NEXT_CALLS_AFTER);
    assert_eq!((stage.outputs().len(), stage.peers.poll_timeout()), (1, None));
}

#[test]
fn when_both_offer_the_peers_wins() {
    let mut stage = Stage::called();
    stage.offers(7);
    match &stage.outputs()[..] {
        [Output::Leave(left), Output::Withdraw { to: PEER }, Output::Ask(ask, _, question)] => {
            assert_eq!((*left, question), (session(1), &offer(2, 7, None)));
            stage.peers.handle_outcome(*ask, described());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.outputs(), [said(Kind::Answer)]);

    let mut stage = Stage::new("joined");
    stage.peers.handle_timeout(stage.now + CALL_AFTER);
    let (call, _) = stage.question();
    stage.offers(7);
    assert_eq!(stage.outputs()[0], Output::Leave(session(1)), "also where our offer is still being made");
    stage.peers.handle_outcome(call, described());
    assert_eq!(stage.outputs(), [], "and then it is not sent");
}

#[test]
fn the_operator_calls_whoever_is_there_and_the_connection_before_lives_until_then() {
    let mut stage = Stage::agreed(7);
    assert_eq!(stage.peers.call(PeerId(9), stage.now), Err(CallError::Unknown));
    assert_eq!(stage.peers.call(PEER, stage.now), Ok(()));
    assert_eq!(stage.peers.call(PEER, stage.now), Err(CallError::Busy), "while the offer is being made");
    let replaces = Some(session(1));
    assert_eq!(stage.settle(described()), Question::Call { session: session(2), replaces });
    assert_eq!(stage.outputs(), [said(Kind::Offer)]);
    assert_eq!(stage.peers.call(PEER, stage.now), Err(CallError::Busy), "and while it waits for its answer");
    stage.now += CALL_STANDS;
    assert_eq!(stage.peers.call(PEER, stage.now), Ok(()), "but not for ever");
    let outputs = stage.outputs();
    let [Output::Leave(left), Output::Ask(ask, PEER, Question::Call { session: again, replaces: after })] = outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!((left, again, after), (session(2), session(3), replaces));
    stage.peers.handle_outcome(ask, described());
    stage.outputs();
    stage.describes(Kind::Answer, &sdp(9));
    stage.settle(Outcome::Accepted);
    let state = PeerState { id: PEER, name: "alice".to_owned(), session: Some(session(3)) };
    assert_eq!(stage.peers.states().collect::<Vec<_>>(), [state]);
    stage.says("BYE");
    assert_eq!(stage.outputs()[..2], [Output::Leave(session(3)), Output::Leave(session(1))], "neither is left behind");
}

#[test]
fn a_call_that_comes_to_nothing_leaves_what_was_agreed() {
    for is_answered in [false, true] {
        let mut stage = Stage::agreed(7);
        assert_eq!(stage.peers.call(PEER, stage.now), Ok(()));
        stage.settle(described());
        stage.outputs();
        if is_answered {
            stage.describes(Kind::Answer, &sdp(9));
            stage.settle(Outcome::Refused(Refusal::BadOffer("no".to_owned())));
            assert_eq!(stage.outputs(), []);
        } else {
            stage.peers.withdraw_call(PEER);
            assert_eq!(stage.outputs(), [Output::Leave(session(2)), Output::Withdraw { to: PEER }]);
        }
        stage.offers(7);
        assert!(matches!(stage.question().1, Question::Renegotiate { session: of, .. } if of == session(1)));
    }
}

#[test]
fn who_hangs_up_keeps_its_name_and_can_be_called_again() {
    let mut stage = Stage::called();
    stage.says("BYE");
    assert_eq!(stage.peers.name(PEER), "alice");
    assert_eq!(stage.peers.call(PEER, stage.now), Ok(()));
    stage.peers.handle_renamed(PEER, b"alice2");
    assert_eq!(stage.peers.name(PEER), "alice2");
}

#[test]
fn a_peer_is_known_by_the_credentials_of_its_descriptions() {
    let mut stage = Stage::agreed(7);
    assert_eq!((stage.peers.with_ufrag("u7"), stage.peers.with_ufrag("u8")), (Some(PEER), None));
    stage.offers(8);
    assert_eq!(stage.peers.with_ufrag("u8"), Some(PEER), "also while the broadcast is asked");
    stage.settle(described());
    assert_eq!((stage.peers.with_ufrag("u8"), stage.peers.with_ufrag("u7")), (Some(PEER), None));
}

#[test]
fn an_answer_that_can_not_be_used_ends_the_call() {
    let mut stage = Stage::called();
    stage.describes(Kind::Answer, "garbage");
    stage.settle(Outcome::Refused(Refusal::BadOffer("no".to_owned())));
    stage.describes(Kind::Answer, &sdp(9));
    assert_eq!(stage.outputs(), []);
    assert_eq!(stage.peers.counts().unexpected, 1);
    stage.offers(9);
    assert_eq!(stage.question().1, offer(2, 9, None));
}

#[test]
fn a_broadcast_that_says_nothing_leaves_no_session() {
    let mut stage = Stage::new("none");
    stage.offers(7);
    stage.settle(Outcome::Unanswered);
    assert_eq!(stage.outputs(), [Output::Leave(session(1))]);
}

#[test]
fn a_peer_that_is_dropped_keeps_its_picture_and_one_that_signs_out_does_not() {
    let mut stage = Stage::agreed(7);
    stage.peers.handle_dropped(PEER);
    assert_eq!(stage.outputs(), []);
    let mut stage = Stage::agreed(7);
    stage.peers.handle_signed_out(PEER);
    assert_eq!(stage.outputs(), [Output::Leave(session(1)), Output::Withdraw { to: PEER }]);
    let mut stage = Stage::called();
    stage.peers.handle_dropped(PEER);
    assert_eq!(stage.outputs(), [Output::Leave(session(1))], "nobody is left to answer the call");
}

#[test]
fn what_is_no_message_is_counted_and_harms_nobody() {
    let mut stage = Stage::agreed(7);
    for body in ["", "{", "{}", r#"{"type":"offer-loopback"}"#, r#"{"type":"answer","sdp":""}"#, "BYE BYE"] {
        stage.says(body);
    }
    assert_eq!(stage.peers.last_useless(), Some(PEER));
    stage.says_as(PeerId(77), "BYE");
    assert_eq!(stage.outputs(), []);
    assert_eq!(stage.peers.last_useless(), Some(PeerId(77)));
    assert_eq!(stage.peers.counts(), Counts { not_json: 3, unknown: 1, unexpected: 3, candidates_lost: 0 });
}

#[test]
fn whatever_a_peer_says_one_question_is_open_and_no_session_is_forgotten() {
    for seed in 1..=60_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut stage = Stage::new(if seed % 2 == 0 { "joined" } else { "none" });
        let mut open: Vec<(AskId, Question)> = Vec::new();
        let (mut made, mut left): (Vec<SessionId>, Vec<SessionId>) = (Vec::new(), Vec::new());
        let mut offers_sent = 0;
        for _ in 0..500 {
            match below(9) {
                0 | 1 => stage.offers(below(3) as u32),
                2 => stage.describes(Kind::Answer, &sdp(below(3) as u32)),
                3 => stage.says(CANDIDATE),
                4 if below(4) == 0 => stage.says("BYE"),
                5 => {
                    stage.now += Duration::from_millis(300);
                    stage.peers.handle_timeout(stage.now);
                }
                _ => {
                    if let Some((ask, question)) = open.pop() {
                        let outcome = match (below(5), question) {
                            (0, _) => Outcome::Refused(Refusal::UnknownSession),
                            (1, _) => Outcome::Unanswered,
                            (_, Question::Accept { .. }) => Outcome::Accepted,
                            _ => described(),
                        };
                        stage.peers.handle_outcome(ask, outcome);
                    }
                }
            }
            for output in stage.outputs() {
                match output {
                    Output::Ask(ask, _, question) => {
                        if let Question::Offer { session, .. } | Question::Call { session, .. } = question {
                            assert!(!made.contains(&session), "a session is made twice");
                            made.push(session);
                        }
                        open.push((ask, question));
                    }
                    Output::Leave(session) => left.push(session),
                    Output::Trickle(session, _) => assert!(made.contains(&session)),
                    Output::Say { word, .. } => {
                        assert_ne!(word, Word::Bye);
                        offers_sent += u32::from(matches!(word, Word::Description { kind: Kind::Offer, .. }));
                    }
                    Output::Withdraw { .. } => {}
                }
            }
            // Those whose question was given up are still to be answered by the broadcast; one is waited for.
            let waited = stage.peers.peers[&PEER].asked.as_ref().map(|(ask, _)| *ask);
            open.retain(|(ask, _)| Some(*ask) == waited);
            assert_eq!(open.len(), usize::from(waited.is_some()), "seed {seed}");
            assert!(stage.peers.peers[&PEER].early.len() <= EARLY_CANDIDATES);
        }
        assert!(offers_sent <= 1, "a peer is called once");
        assert!(made.len() > 10 && !left.is_empty(), "seed {seed}");
    }
}
