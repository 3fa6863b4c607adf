//! The daemon's side of a channel without sockets: each turn of a talk, then talk at random.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::signaling::peers::{self, AskId, CALL_AFTER, Outcome, Question};

struct Stage {
    channel: Channel,
    now: Instant,
}

impl Stage {
    /// A daemon called `desk` whose connection stands.
    fn open(call: &str) -> Self {
        let mut drawn = 0;
        let sessions = move || {
            drawn += 1;
            session(drawn)
        };
        let channel = Channel::new("desk", CallPolicy::parse(call).unwrap(), sessions);
        let mut stage = Self { channel, now: Instant::now() };
        stage.channel.handle_open(stage.now);
        assert_eq!(stage.outputs(), [Output::SignedIn("desk".to_owned())]);
        stage
    }

    fn hears(&mut self, frame: Value) {
        self.channel.handle_frame(self.now, &frame.to_string()).unwrap();
    }

    /// Lets time pass, as the shell does: what is due is done in between.
    fn passes(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.channel.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.channel.handle_timeout(self.now).unwrap();
        }
        self.now = end;
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.channel.poll_output()).collect()
    }

    /// The only output, which is a question.
    fn question(&mut self) -> (AskId, PeerId, Question) {
        match &self.outputs()[..] {
            [Output::Broadcast(peers::Output::Ask(ask, peer, question))] => (*ask, *peer, question.clone()),
            other => panic!("{other:?} where a question is expected"),
        }
    }

    /// Has the broadcast answer the only question, and gives the frame that goes out then.
    fn described(&mut self) -> Value {
        let (ask, _, _) = self.question();
        self.channel.peers_mut().handle_outcome(ask, described());
        let outputs = self.outputs();
        let [Output::Frame(frame)] = &outputs[..] else { panic!("{outputs:?} where a frame is expected") };
        serde_json::from_str(frame).unwrap()
    }

    fn unexpected(&self) -> u64 {
        self.channel.peers().counts().unexpected
    }
}

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn sdp(ufrag: &str) -> String {
    format!("v=0\r\no=- 1{ufrag} 2 IN IP4 127.0.0.1\r\na=ice-ufrag:{ufrag}\r\n")
}

fn described() -> Outcome {
    Outcome::Described(sdp("ours"))
}

fn description(kind: &str, ufrag: &str) -> Value {
    json!({ "type": kind, "sdp": sdp(ufrag) })
}

fn candidate() -> Value {
    json!({ "candidate": "candidate:1 1 udp 1 192.0.2.7 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0 })
}

fn trickled(number: u8) -> Output {
    let line = "candidate:1 1 udp 1 192.0.2.7 9 typ host".to_owned();
    let trickle = crate::signaling::Trickle { candidates: vec![line], ..Default::default() };
    Output::Broadcast(peers::Output::Trickle(session(number), trickle))
}

fn leave(number: u8) -> Output {
    Output::Broadcast(peers::Output::Leave(session(number)))
}

#[test]
fn an_offer_is_answered_under_the_name_that_it_came_under() {
    for key in ["desc", "description"] {
        let mut stage = Stage::open("none");
        stage.hears(json!({ "candidate": candidate() }));
        assert_eq!(stage.outputs(), [], "its description is to come");
        stage.hears(json!({ key: description("offer", "a"), "candidate": null }));
        let outputs = stage.outputs();
        let [Output::Broadcast(peers::Output::Ask(ask, ANONYMOUS, Question::Offer { .. })), early] = &outputs[..]
        else {
            panic!("{outputs:?}")
        };
        assert_eq!(*early, trickled(1));
        stage.channel.peers_mut().handle_outcome(*ask, described());
        let frame = json!({ key: description("answer", "ours") }).to_string();
        assert_eq!(stage.outputs(), [Output::Frame(frame)]);
        stage.hears(json!({ "candidate": candidate() }));
        assert_eq!(stage.outputs(), [trickled(1)]);
        stage.hears(json!({ "candidate": null }));
        assert!(matches!(&stage.outputs()[..], [Output::Broadcast(peers::Output::Trickle(_, trickle))] if trickle.end));
        stage.hears(json!({ key: description("offer", "a") }));
        assert!(matches!(stage.question().2, Question::Renegotiate { session: of, .. } if of == session(1)));
    }
}

#[test]
fn what_a_relay_sends_back_is_passed_over() {
    let mut stage = Stage::open("joined");
    stage.passes(CALL_AFTER);
    let offer = stage.described();
    stage.hears(offer);
    stage.hears(json!({ "from": "desk", "to": "alice", "desc": description("offer", "x") }));
    assert_eq!((stage.outputs(), stage.channel.peers().counts().total()), (vec![], 0));
}

#[test]
fn viewers_with_names_are_told_apart() {
    let mut stage = Stage::open("none");
    stage.hears(json!({ "from": "alice", "desc": description("offer", "a") }));
    let answer = stage.described();
    assert_eq!(answer, json!({ "from": "desk", "to": "alice", "desc": description("answer", "ours") }));
    stage.hears(json!({ "from": 7, "to": "desk", "description": description("offer", "b") }));
    let answer = stage.described();
    assert_eq!(answer, json!({ "from": "desk", "to": 7, "description": description("answer", "ours") }));
    stage.hears(json!({ "from": "alice", "to": "desk", "candidate": candidate() }));
    assert_eq!(stage.outputs(), [trickled(1)]);
    stage.hears(json!({ "from": 7, "candidate": candidate() }));
    assert_eq!(stage.outputs(), [trickled(2)]);
    for to in [json!("bob"), json!(7), json!({})] {
        stage.hears(json!({ "from": "alice", "to": to, "desc": description("offer", "c") }));
        assert_eq!(stage.outputs(), [], "it is for another");
    }
    let names: Vec<_> = stage.channel.peers().states().map(|state| state.name).collect();
    assert_eq!(names, ["", "alice", "7"]);
}

#[test]
fn viewers_are_bounded_and_who_was_silent_longest_is_forgotten() {
    let mut stage = Stage::open("none");
    stage.hears(json!({ "from": "first", "desc": description("offer", "a") }));
    stage.described();
    for number in 1..MOST_VIEWERS {
        stage.hears(json!({ "from": number, "candidate": candidate() }));
    }
    stage.hears(json!({ "from": "first", "candidate": null }));
    stage.outputs();
    stage.hears(json!({ "from": "last", "candidate": null }));
    let names: Vec<_> = stage.channel.peers().states().map(|state| state.name).collect();
    assert_eq!(names.len(), MOST_VIEWERS + 1);
    assert!(names.contains(&"first".to_owned()) && !names.contains(&"1".to_owned()));
    for bad in [json!([]), json!({}), json!("x".repeat(FROM_BYTES + 1))] {
        stage.hears(json!({ "from": bad, "candidate": null }));
    }
    assert_eq!((stage.channel.viewers.len(), stage.channel.peers().counts().unknown), (MOST_VIEWERS + 1, 3));
}

#[test]
fn the_daemon_offers_once_the_channel_is_open_and_takes_the_answer() {
    let mut stage = Stage::open("joined");
    stage.passes(CALL_AFTER);
    let ours = description("offer", "ours");
    assert_eq!(stage.described(), json!({ "desc": ours, "description": ours }));
    stage.hears(json!({ "candidate": candidate() }));
    stage.hears(json!({ "description": description("answer", "a") }));
    let outputs = stage.outputs();
    let [Output::Broadcast(peers::Output::Ask(ask, _, Question::Accept { .. })), early] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*early, trickled(1));
    stage.channel.peers_mut().handle_outcome(*ask, Outcome::Accepted);
    stage.passes(LOADED_AGAIN / 2);
    stage.hears(json!({ "ready": true }));
    assert_eq!(stage.outputs(), [], "the page says so of the offer that it has just answered");
    stage.passes(UNANSWERED * 2);
    stage.hears(json!({ "chat": "hello", "ready": 1 }));
    assert_eq!((stage.outputs(), stage.channel.poll_timeout()), (vec![], None), "who has a picture keeps it");
    // But not a page that was loaded again.
    stage.hears(json!({ "ready": true }));
    let (ask, _, question) = stage.question();
    assert!(matches!(question, Question::Call { replaces: Some(before), .. } if before == session(1)), "{question:?}");
    stage.channel.peers_mut().handle_outcome(ask, described());
    assert_eq!(stage.outputs().len(), 1);
    stage.hears(json!({ "ready": true }));
    assert_eq!(stage.outputs(), [], "one offer at a time");
}

#[test]
fn an_offer_that_nobody_answers_is_made_again_for_who_is_heard_and_never_at_once() {
    let mut stage = Stage::open("joined");
    stage.hears(json!({ "ready": true }));
    assert!(matches!(stage.question().2, Question::Call { .. }), "it is there already");
    stage.passes(CALL_AFTER);
    assert_eq!(stage.outputs(), [], "its call is under way");

    let mut stage = Stage::open("joined");
    stage.passes(CALL_AFTER);
    stage.described();
    stage.hears(json!({ "ready": true }));
    stage.passes(CALL_AGAIN / 2);
    stage.hears(json!({ "ready": true }));
    assert_eq!(stage.outputs(), []);
    stage.passes(CALL_AGAIN / 2);
    stage.hears(json!({ "ready": true }));
    let outputs = stage.outputs();
    let [left, Output::Broadcast(peers::Output::Ask(ask, _, Question::Call { .. }))] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*left, leave(1));
    stage.channel.peers_mut().handle_outcome(*ask, described());
    assert_eq!(stage.outputs().len(), 1);
    stage.passes(UNANSWERED);
    assert_eq!(stage.outputs(), [leave(2)], "it is taken back");
    assert_eq!(stage.channel.peers_mut().call(ANONYMOUS, stage.now), Ok(()), "the operator may call");

    let mut stage = Stage::open("none");
    stage.hears(json!({ "ready": true }));
    stage.hears(json!(["ready"]));
    assert_eq!((stage.outputs(), stage.channel.peers().counts().unknown), (vec![], 2));
}

#[test]
fn a_connection_that_is_lost_and_comes_back_leaves_what_is_agreed() {
    let mut stage = Stage::open("joined");
    stage.hears(json!({ "desc": description("offer", "a") }));
    stage.described();
    stage.hears(json!({ "from": "alice" }));
    stage.passes(CALL_AFTER);
    let offer = stage.described();
    assert_eq!(offer["to"], "alice");
    stage.channel.handle_closed(stage.now);
    assert_eq!(stage.outputs(), [leave(2)], "the call can't be answered any more");
    stage.channel.handle_open(stage.now);
    assert_eq!(stage.outputs(), [Output::SignedIn("desk".to_owned())]);
    stage.passes(CALL_AFTER * 2);
    assert_eq!(stage.outputs(), [], "nobody who has a picture is called");
    stage.hears(json!({ "desc": description("offer", "a") }));
    assert!(matches!(stage.question().2, Question::Renegotiate { session: of, .. } if of == session(1)));

    let mut stage = Stage::open("joined");
    stage.channel.handle_closed(stage.now);
    stage.passes(CALL_AFTER * 4);
    assert_eq!(stage.outputs(), [], "nobody could hear it");
    stage.channel.handle_open(stage.now);
    stage.passes(CALL_AFTER);
    assert!(stage.outputs().len() > 1, "who has none is called");
}

#[test]
fn what_is_no_message_is_counted() {
    let mut stage = Stage::open("none");
    for text in [
        "",
        "hello",
        "{",
        "7",
        "null",
        r#"{"desc":7}"#,
        r#"{"desc":{"type":"rollback","sdp":""}}"#,
        r#"{"candidate":7}"#,
    ] {
        stage.channel.handle_frame(stage.now, text).unwrap();
    }
    stage.hears(json!({ "desc": description("answer", "a") }));
    assert_eq!(stage.outputs(), []);
    let counts = stage.channel.peers().counts();
    assert_eq!((counts.not_json, counts.unknown, stage.unexpected()), (3, 5, 1));
}

#[test]
fn whatever_is_relayed_no_two_offers_follow_each_other_quickly() {
    let mut frames = 0;
    for seed in 1..=60_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        let mut stage = Stage::open(["none", "joined", "glob:a*"][below(3)]);
        let mut open: Vec<AskId> = Vec::new();
        let mut offered: Vec<(Value, Instant)> = Vec::new();
        for _ in 0..600 {
            let from = [json!(null), json!("alice"), json!("bob"), json!(3)][below(4)].clone();
            let (ufrag, key) = (["a", "b", "c"][below(3)], ["desc", "description"][below(2)]);
            match below(12) {
                0..=2 => stage.hears(json!({ "from": from, key: description("offer", ufrag) })),
                3 => stage.hears(json!({ "from": from, key: description("answer", ufrag) })),
                4 => stage.hears(json!({ "from": from, "to": "desk", "candidate": candidate() })),
                5 | 6 => stage.hears(json!({ "from": from, "ready": 1 })),
                7 => stage.passes(Duration::from_millis(700)),
                8 if below(20) == 0 => {
                    stage.channel.handle_closed(stage.now);
                    stage.channel.handle_open(stage.now);
                    // Nobody has heard what was offered before.
                    offered.clear();
                }
                _ => {
                    if let Some(ask) = open.pop() {
                        let outcome = [described(), Outcome::Accepted, Outcome::Unanswered][below(3)].clone();
                        stage.channel.peers_mut().handle_outcome(ask, outcome);
                    }
                }
            }
            for output in stage.outputs() {
                match output {
                    Output::Frame(frame) => {
                        frames += 1;
                        let frame: Value = serde_json::from_str(&frame).unwrap();
                        let described = frame.get("desc").or(frame.get("description")).unwrap();
                        assert_eq!(frame.get("to").is_some(), frame.get("from") == Some(&json!("desk")));
                        let to = frame.get("to").cloned().unwrap_or_default();
                        if described["type"] == "offer" {
                            let last = offered.iter().rev().find(|(whom, _)| *whom == to);
                            let is_quick = last.is_some_and(|(_, at)| stage.now - *at < CALL_AGAIN);
                            assert!(!is_quick, "seed {seed}: {to} is offered to again");
                            offered.push((to, stage.now));
                        }
                    }
                    Output::Broadcast(peers::Output::Ask(ask, _, _)) => open.push(ask),
                    Output::Broadcast(_) | Output::SignedIn(_) => {}
                }
            }
            stage.passes(Duration::ZERO);
            assert!(stage.channel.viewers.len() <= 4 && stage.channel.own.len() <= OWN_DESCRIPTIONS);
        }
    }
    assert!(frames > 1000, "{frames}");
}

#[test]
fn a_connection_that_comes_back_at_once_brings_no_second_offer_at_once() {
    let mut stage = Stage::open("joined");
    stage.passes(CALL_AFTER);
    stage.described();
    let offered_at = stage.now;
    stage.channel.handle_closed(stage.now);
    stage.channel.handle_open(stage.now);
    assert_eq!(stage.outputs(), [Output::SignedIn("desk".to_owned()), leave(1)]);
    stage.passes(CALL_AGAIN - Duration::from_millis(1));
    assert_eq!(stage.outputs(), []);
    stage.passes(Duration::from_millis(1));
    assert_eq!((stage.described()["desc"]["type"].as_str(), stage.now), (Some("offer"), offered_at + CALL_AGAIN));
}
