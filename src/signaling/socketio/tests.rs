//! The flow without sockets: what real servers said, each turn of it, then talk at random.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::signaling::peers::{self, AskId, BACK_WITHIN, CALL_AFTER, Outcome, Question};

mod handshake;

const RECORDED: [&str; 2] =
    [include_str!("../../../tests/data/socketio_v3.txt"), include_str!("../../../tests/data/socketio_v4.txt")];
const OPEN_3: &str = r#"0{"sid":"desk-id","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
const OPEN_4: &str = r#"0{"sid":"other","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
const JOINED_4: &str = r#"40{"sid":"desk-id"}"#;
const OURS: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n";

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn sdp(origin: u64) -> String {
    format!("v=0\r\no=- {origin} 2 IN IP4 127.0.0.1\r\na=ice-ufrag:u{origin}\r\n")
}

fn candidate(ufrag: Option<&str>) -> Value {
    let of = ufrag.map_or(String::new(), |ufrag| format!(" generation 0 ufrag {ufrag}"));
    json!({"type": "candidate", "label": 0, "id": "0", "candidate": format!("candidate:1 1 udp 1 192.0.2.7 9 typ host{of}")})
}

fn described() -> Outcome {
    Outcome::Described(OURS.to_owned())
}

struct Stage {
    core: SocketIo,
    now: Instant,
}

impl Stage {
    fn new(call: &str) -> Self {
        let mut drawn = 0;
        let sessions = move || {
            drawn += 1;
            session(drawn)
        };
        Self { core: SocketIo::new("desk", CallPolicy::parse(call).unwrap(), sessions), now: Instant::now() }
    }

    /// Signed in at a server of version 4, where `desk-id` is the daemon's id.
    fn signed_in(call: &str) -> Self {
        let mut stage = Self::new(call);
        stage.signs_in();
        stage
    }

    fn signs_in(&mut self) {
        self.core.handle_open(self.now);
        self.hears(OPEN_4);
        self.hears(JOINED_4);
        let signed_in = [frame("40"), frame(r#"42["online","desk"]"#), Output::SignedIn("desk".to_owned())];
        assert_eq!(self.outputs(), signed_in);
    }

    fn hears(&mut self, frame: &str) {
        self.core.handle_frame(self.now, frame).unwrap();
    }

    fn breach(&mut self, frame: &str) -> String {
        self.core.handle_frame(self.now, frame).unwrap_err().to_string()
    }

    fn event(&mut self, name: &str, arguments: &[Value]) {
        self.hears(&packet::event(name, arguments));
    }

    fn online(&mut self, id: &str, name: &str) {
        self.event("online", &[json!(json!([{"id": id, "name": name}]).to_string())]);
    }

    fn offers(&mut self, id: &str, origin: u64) {
        self.event("offer", &[json!(id), json!({"type": "offer", "sdp": sdp(origin)})]);
    }

    fn answers(&mut self, id: &str, origin: u64) {
        self.event("answer", &[json!(id), json!({"type": "answer", "sdp": sdp(origin)})]);
    }

    fn asks(&mut self, id: &str) {
        self.event("chat request", &[json!({"id": id, "name": "pupil"})]);
        assert_eq!(self.outputs(), [frame(&format!(r#"42["stream ok","{id}"]"#))]);
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.core.poll_output()).collect()
    }

    /// The only output, which is a question.
    fn question(&mut self) -> (AskId, PeerId, Question) {
        match &self.outputs()[..] {
            [Output::Broadcast(peers::Output::Ask(ask, peer, question))] => (*ask, *peer, question.clone()),
            other => panic!("{other:?} where a question is expected"),
        }
    }

    /// Has the broadcast answer the only question; gives the question.
    fn settle(&mut self, outcome: Outcome) -> Question {
        let (ask, _, question) = self.question();
        self.core.peers_mut().handle_outcome(ask, outcome);
        question
    }

    fn names(&self) -> Vec<String> {
        self.core.peers().states().map(|state| state.name).collect()
    }

    /// Awaits `after`, where something is due.
    fn passes(&mut self, after: Duration) {
        self.now += after;
        self.core.handle_timeout(self.now).unwrap();
    }
}

fn frame(text: &str) -> Output {
    Output::Frame(text.to_owned())
}

fn says(event: &str, id: &str) -> Output {
    frame(&packet::event(event, &[json!(id), json!({"sdp": OURS, "type": event})]))
}

fn left(number: u8) -> Output {
    Output::Broadcast(peers::Output::Leave(session(number)))
}

fn call(number: u8, replaces: Option<u8>) -> Question {
    Question::Call { session: session(number), replaces: replaces.map(session) }
}

fn trickled(outputs: &[Output]) -> Vec<SessionId> {
    let session = |output: &Output| match output {
        Output::Broadcast(peers::Output::Trickle(session, _)) => Some(*session),
        _ => None,
    };
    outputs.iter().filter_map(session).collect()
}

#[test]
fn what_real_servers_said_is_answered_as_it_was() {
    for recorded in RECORDED {
        let mut stage = Stage::new("none");
        stage.core.handle_open(stage.now);
        let (mut sent, mut outcomes) = (Vec::new(), Vec::new());
        for line in recorded.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(' ').unwrap() {
                ("<", frame) => stage.hears(frame),
                (">", "41") => stage.core.sign_out(),
                // Nothing calls for it but the time.
                (">", "2") => stage.passes(Duration::from_secs(25)),
                _ => {}
            }
            while let Some(output) = stage.core.poll_output() {
                match output {
                    Output::Frame(frame) => sent.push(frame),
                    Output::SignedIn(name) => assert_eq!(name, "desk"),
                    Output::Broadcast(peers::Output::Ask(ask, _, question)) => {
                        let outcome = match question {
                            Question::Accept { .. } => Outcome::Accepted,
                            _ => described(),
                        };
                        outcomes.push(format!("{question:?}").split(' ').next().unwrap().to_owned());
                        stage.core.peers_mut().handle_outcome(ask, outcome);
                    }
                    Output::Broadcast(other) => {
                        outcomes.push(format!("{other:?}").split('(').next().unwrap().to_owned())
                    }
                }
            }
            if let Some(expected) = line.strip_prefix("> ") {
                assert_eq!(sent.first().map(String::as_str), Some(expected));
                sent.remove(0);
            }
        }
        assert_eq!((&sent[..], stage.names()), (&[][..], Vec::new()));
        assert_eq!(outcomes, ["Call", "Accept", "Trickle", "Leave"]);
        assert_eq!(stage.core.peers().counts().total(), 0);
    }
}

#[test]
fn a_viewer_that_asks_is_offered_to_and_one_that_asks_again_replaces_its_session() {
    let mut stage = Stage::signed_in("none");
    stage.online("a", "alice");
    stage.asks("a");
    stage.event("stream ok", &[json!("a")]);
    assert_eq!(stage.settle(described()), call(1, None));
    assert_eq!(stage.outputs(), [says("offer", "a")]);
    stage.answers("a", 7);
    assert_eq!(stage.settle(Outcome::Accepted), Question::Accept { session: session(1), sdp: sdp(7) });
    stage.asks("a");
    stage.event("stream ok", &[json!("a")]);
    assert_eq!(stage.settle(described()), call(2, Some(1)));
    assert_eq!(stage.outputs(), [says("offer", "a")]);

    stage.asks("a");
    stage.event("stream ok", &[json!("a")]);
    let outputs = stage.outputs();
    assert_eq!(outputs[..2], [left(2), left(1)], "the offer that it never answered is given up");
    assert!(
        matches!(&outputs[2..], [Output::Broadcast(peers::Output::Ask(_, _, question))] if *question == call(3, None))
    );
    stage.event("stream ok", &[json!("a")]);
    assert_eq!((stage.outputs(), stage.core.peers().counts().unexpected), (vec![], 1), "it has not asked");
}

#[test]
fn a_viewer_that_nobody_announced_may_ask_and_offer() {
    let mut stage = Stage::signed_in("none");
    stage.asks("a");
    stage.offers("b", 8);
    assert!(matches!(stage.question(), (_, PeerId(2), Question::Offer { .. })));
    assert_eq!(stage.names(), ["pupil", ""]);
    stage.online("b", "bob");
    assert_eq!(stage.names(), ["pupil", "bob"]);
    for (event, arguments) in [
        ("chat request", json!({"id": "desk-id", "name": "desk"})),
        ("chat request", json!({"id": 7})),
        ("chat request", json!({"id": "x".repeat(129)})),
        ("answer", json!("c")),
        ("stream ok", json!("c")),
    ] {
        stage.event(event, &[arguments, json!({"type": "answer", "sdp": sdp(1)})]);
    }
    assert_eq!((stage.outputs(), stage.names().len()), (vec![], 2));
    assert_eq!(stage.core.peers().counts().total(), 5);
}

#[test]
fn a_direct_offer_is_answered_whatever_its_form() {
    let mut stage = Stage::signed_in("none");
    stage.event("online", &[json!([{"id": "a", "name": "alice"}, {"id": "desk-id"}, {"name": "x"}, 7])]);
    assert_eq!(stage.names(), ["alice"]);
    stage.offers("a", 7);
    assert_eq!(stage.settle(described()), Question::Offer { session: session(1), sdp: sdp(7), replaces: None });
    assert_eq!(stage.outputs(), [says("answer", "a")]);
    let text = json!({"type": "offer", "sdp": sdp(7)}).to_string();
    stage.event("offer", &[json!("a"), json!(text)]);
    assert!(matches!(stage.settle(described()), Question::Renegotiate { .. }));
    assert_eq!(stage.outputs(), [says("answer", "a")]);
    stage.hears(&format!("429{}", &packet::event("offline", &[json!([{"id": "a"}])])[2..]));
    assert_eq!(stage.outputs(), [frame("439[]")], "who asks for an acknowledgement gets it; the picture stays");
    assert_eq!(stage.names(), [""; 0]);
}

#[test]
fn who_is_to_be_called_is_called_unless_it_asks_or_bears_our_name() {
    let mut stage = Stage::signed_in("joined");
    stage.online("a", "alice");
    stage.online("b", "bob");
    stage.online("old", "desk");
    stage.asks("b");
    stage.passes(CALL_AFTER);
    let (ask, peer, question) = stage.question();
    assert_eq!((peer, question), (PeerId(1), call(1, None)));
    stage.core.peers_mut().handle_outcome(ask, described());
    assert_eq!(stage.outputs(), [says("offer", "a")]);
    stage.event("stream ok", &[json!("b")]);
    assert_eq!(stage.question().1, PeerId(2));
    assert_eq!(stage.core.peers_mut().call(PeerId(3), stage.now), Ok(()), "the operator may");
}

#[test]
fn candidates_find_their_description_by_their_ufrag() {
    let mut stage = Stage::signed_in("none");
    for (id, origin) in [("a", 7), ("b", 8)] {
        stage.offers(id, origin);
        stage.settle(described());
        stage.outputs();
    }
    let mut of = |arguments: &[Value]| {
        stage.event("candidate", arguments);
        trickled(&stage.outputs())
    };
    assert_eq!(of(&[candidate(Some("u7"))]), [session(1)]);
    assert_eq!(of(&[candidate(Some("u8"))]), [session(2)]);
    assert_eq!(of(&[json!({"candidate": "", "usernameFragment": "u7"})]), [session(1)]);
    assert_eq!(of(&[json!("a"), candidate(None)]), [session(1)], "a server that tells the sender");
    assert_eq!(of(&[candidate(None)]), [session(2)], "else it is the newest's");
    assert_eq!(of(&[json!({"candidate": null})]), [], "but whose end it is nobody knows");
    for number in 0..KEPT_CANDIDATES + 2 {
        let ufrag = if number < 3 { "u9" } else { "elsewhere" };
        assert_eq!(of(&[candidate(Some(ufrag))]), []);
    }
    stage.offers("c", 9);
    assert_eq!(trickled(&stage.outputs()), [session(3)], "two were displaced, one waited for its description");
    stage.event("candidate", &[json!("c"), json!({"label": 0})]);
    assert_eq!((stage.core.peers().counts().unexpected, stage.core.peers().counts().unknown), (2, 1));
}

#[test]
fn a_candidate_that_says_nothing_waits_for_the_answer_of_whom_was_called() {
    let mut stage = Stage::signed_in("none");
    stage.event("candidate", &[candidate(None)]);
    assert_eq!(stage.core.peers().counts().unexpected, 1, "nobody's");
    stage.asks("a");
    stage.event("stream ok", &[json!("a")]);
    stage.settle(described());
    stage.outputs();
    stage.event("candidate", &[candidate(None)]);
    stage.event("candidate", &[json!({"type": "candidate", "candidate": null})]);
    assert_eq!(stage.outputs(), []);
    stage.answers("a", 7);
    assert_eq!(trickled(&stage.outputs()), [session(1); 2]);
}

#[test]
fn stop_ends_a_session_only_where_it_is_clear_whose() {
    let mut stage = Stage::signed_in("none");
    for (id, origin) in [("a", 7), ("b", 8)] {
        stage.offers(id, origin);
        stage.settle(described());
        stage.outputs();
    }
    for arguments in
        [vec![json!("a")], vec![json!("desk-id")], vec![json!("c"), json!("a")], vec![json!("desk-id"), json!("c")]]
    {
        stage.event("stop", &arguments);
        assert_eq!(stage.outputs(), [], "{arguments:?}");
    }
    stage.event("stop", &[json!("desk-id"), json!("b")]);
    assert_eq!(stage.outputs(), [left(2)]);
    stage.event("stop", &[json!("desk-id")]);
    assert_eq!(stage.outputs(), [left(1)], "only one is left that can have meant us");
}

#[test]
fn what_is_connected_outlives_the_server_and_peers_come_anew() {
    let mut stage = Stage::signed_in("none");
    stage.offers("a", 7);
    stage.settle(described());
    stage.outputs();
    stage.asks("b");
    stage.event("stream ok", &[json!("b")]);
    stage.settle(described());
    stage.outputs();
    stage.core.handle_closed(stage.now);
    assert_eq!((stage.outputs(), stage.names()), (vec![left(2)], vec![]), "nobody is left to answer the offer");
    stage.core.sign_out();
    assert_eq!(stage.outputs(), []);
    stage.signs_in();
    stage.online("a", "alice");
    assert_eq!(stage.core.peers().states().next().unwrap().id, PeerId(3));
    stage.core.sign_out();
    assert_eq!(stage.outputs(), [frame("41")]);
}

#[test]
fn attachments_and_broken_events_harm_nobody() {
    let mut stage = Stage::signed_in("none");
    for text in [r#"451-["offer","a",{"_placeholder":true,"num":0}]"#, "bAQID", "6", "43", "40", r#"42["moon",{}]"#] {
        stage.hears(text);
    }
    assert_eq!((stage.outputs(), stage.core.peers().counts().total()), (vec![], 0));
    for text in ["", "42[", "42{}", "\u{4}\u{0}", r#"42["online","["]"#, r#"42["offer"]"#, r#"42["candidate"]"#] {
        stage.hears(text);
    }
    assert_eq!((stage.outputs(), stage.core.peers().counts().total()), (vec![], 7));
    let entries: Vec<Value> = (0..5000).map(|n| json!({"id": format!("i{n}"), "name": "é".repeat(999)})).collect();
    stage.event("online", &[json!(entries)]);
    assert_eq!(stage.names().len(), MOST_PEERS);
    assert!(stage.names().iter().all(|name| name.chars().count() == NAME_CHARACTERS));
}

#[test]
fn whatever_is_said_the_tables_agree_and_no_session_is_forgotten() {
    for seed in 1..=60_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut stage = Stage::signed_in(if seed % 2 == 0 { "joined" } else { "none" });
        let mut open: Vec<(AskId, Question)> = Vec::new();
        let (mut made, mut left, mut numbers) = (HashSet::new(), HashSet::new(), HashSet::new());
        for _ in 0..600 {
            let ids = ["a", "b", "c", "desk-id", "nobody"];
            let (id, origin) = (ids[below(5) as usize], below(4));
            match below(16) {
                0 => stage.online(id, id),
                1 => stage.event("offline", &[json!([{"id": id}])]),
                2 | 3 => stage.event("chat request", &[json!({"id": id, "name": id})]),
                4 | 5 => stage.event("stream ok", &[json!(id)]),
                6 => stage.offers(id, origin),
                7 | 8 => stage.answers(id, origin),
                9 => stage.event("candidate", &[candidate(Some(&format!("u{origin}")))]),
                10 => stage.event("candidate", &[candidate(None)]),
                11 => stage.event("stop", &[json!("desk-id"), json!(id)][..1 + below(2) as usize]),
                12 if below(8) == 0 => {
                    stage.core.handle_closed(stage.now);
                    assert!(stage.core.members.is_empty() && stage.names().is_empty());
                    stage.core.handle_open(stage.now);
                    stage.hears(OPEN_4);
                    stage.hears(JOINED_4);
                }
                13 => {
                    stage.now += Duration::from_millis(400);
                    stage.hears("2");
                    stage.core.handle_timeout(stage.now).unwrap();
                }
                _ if !open.is_empty() => {
                    let (ask, question) = open.swap_remove(below(open.len() as u64) as usize);
                    let outcome = match (below(5), question) {
                        (0, _) => Outcome::Refused(super::super::Refusal::UnknownSession),
                        (1, _) => Outcome::Unanswered,
                        (_, Question::Accept { .. }) => Outcome::Accepted,
                        _ => described(),
                    };
                    stage.core.peers_mut().handle_outcome(ask, outcome);
                }
                _ => {}
            }
            for output in stage.outputs() {
                match output {
                    Output::Broadcast(peers::Output::Ask(ask, peer, question)) => {
                        if let Question::Offer { session, .. } | Question::Call { session, .. } = question {
                            assert!(made.insert(session), "a session is made twice");
                        }
                        numbers.insert(peer);
                        open.push((ask, question));
                    }
                    Output::Broadcast(peers::Output::Leave(session)) => drop(left.insert(session)),
                    Output::Broadcast(peers::Output::Trickle(session, _)) => assert!(made.contains(&session)),
                    Output::Broadcast(other) => panic!("{other:?} is left to the shell"),
                    Output::Frame(text) => {
                        let said = packet::Packet::parse(&text);
                        assert!(said.is_ok(), "{text}");
                        if let Ok(packet::Packet::Event { name, arguments, .. }) = said {
                            assert!(name == "online" || arguments[0] != json!("desk-id"), "{text} goes to ourselves");
                        }
                    }
                    Output::SignedIn(_) => {}
                }
            }
            let known: Vec<PeerId> = stage.core.peers().states().map(|state| state.id).collect();
            assert_eq!(known, stage.core.members.keys().copied().collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(stage.core.ids.len(), known.len());
            assert!(stage.core.ids.iter().all(|(id, peer)| stage.core.members[peer].id == *id));
            assert!(stage.core.kept.len() <= KEPT_CANDIDATES && known.len() <= 4);
        }
        assert!(made.len() > 10 && !left.is_empty() && numbers.len() > 4, "seed {seed}");
    }
}

#[test]
fn who_has_a_picture_is_not_called_by_a_daemon_that_is_back() {
    for (is_in_list, later) in [(true, Duration::ZERO), (false, Duration::ZERO), (false, BACK_WITHIN)] {
        let mut stage = Stage::signed_in("joined");
        stage.online("a", "alice");
        stage.offers("a", 7);
        stage.settle(described());
        stage.outputs();
        stage.core.handle_closed(stage.now);
        stage.signs_in();
        if !is_in_list {
            stage.online("desk-id", "desk");
            stage.passes(later);
        }
        stage.online("b", "alice");
        stage.online("c", "bob");
        stage.passes(CALL_AFTER);
        let called = stage.outputs().len();
        assert_eq!(called, if later < BACK_WITHIN { 1 } else { 2 }, "{:?}", stage.names());
    }
}

#[test]
fn a_newcomer_takes_the_place_of_the_oldest_that_has_no_session() {
    let mut stage = Stage::signed_in("none");
    stage.offers("first", 7);
    stage.settle(described());
    stage.outputs();
    for number in 1..MOST_PEERS {
        stage.online(&format!("id{number}"), &format!("name{number}"));
    }
    assert_eq!(stage.names().len(), MOST_PEERS);
    stage.offers("last", 8);
    assert!(matches!(stage.settle(described()), Question::Offer { .. }), "who comes last is heard");
    stage.outputs();
    let names = stage.names();
    assert_eq!((names.len(), stage.core.ids.len(), stage.core.members.len()), (MOST_PEERS, MOST_PEERS, MOST_PEERS));
    assert!(!names.contains(&"name1".to_owned()) && names.contains(&"name2".to_owned()));
    stage.offers("first", 7);
    assert!(matches!(stage.question().2, Question::Renegotiate { .. }), "who has a picture stays");
}
