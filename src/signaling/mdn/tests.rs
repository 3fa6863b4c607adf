//! The daemon's side of the chat server's protocol without sockets: the recording, each turn of a talk, then talk at random.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::signaling::peers::{self, AskId, BACK_WITHIN, CALL_AFTER, Outcome, Question};

const RECORDED: &str = include_str!("../../../tests/data/mdn_chatserver.txt");

struct Stage {
    mdn: Mdn,
    now: Instant,
}

impl Stage {
    /// A daemon that has just been connected, at this time of day.
    fn open(name: &str, call: &str, date: u64) -> Self {
        let mut drawn = 0;
        let sessions = move || {
            drawn += 1;
            session(drawn)
        };
        let now = Instant::now();
        let clock = Clock::from_parts(now, Duration::from_millis(date));
        let mut mdn = Mdn::new(name, CallPolicy::parse(call).unwrap(), sessions, clock);
        mdn.handle_open(now);
        Self { mdn, now }
    }

    /// A daemon that is signed in as `desk`, beside these users.
    fn signed_in(call: &str, users: &[&str]) -> Self {
        let mut stage = Self::open("desk", call, 0);
        stage.hears(json!({ "type": "id", "id": 5 }));
        stage.lists(users);
        let outputs = stage.outputs();
        assert!(matches!(&outputs[..], [Output::Frame(_), Output::SignedIn(name)] if name == "desk"), "{outputs:?}");
        stage
    }

    fn hears(&mut self, message: Value) {
        self.mdn.handle_frame(self.now, &message.to_string()).unwrap();
    }

    /// The server lists these users beside the daemon, which came first.
    fn lists(&mut self, users: &[&str]) {
        let users: Vec<&str> = ["desk"].iter().chain(users).copied().collect();
        self.hears(json!({ "type": "userlist", "users": users }));
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.mdn.poll_output()).collect()
    }

    /// What comes out, which is words to the server alone.
    fn frames(&mut self) -> Vec<Value> {
        let frame = |output| match output {
            Output::Frame(frame) => serde_json::from_str(&frame).unwrap(),
            other => panic!("{other:?} where a frame is expected"),
        };
        self.outputs().into_iter().map(frame).collect()
    }

    /// The only output, which is a question.
    fn question(&mut self) -> (AskId, PeerId, Question) {
        match &self.outputs()[..] {
            [Output::Broadcast(peers::Output::Ask(ask, peer, question))] => (*ask, *peer, question.clone()),
            other => panic!("{other:?} where a question is expected"),
        }
    }

    fn name_of(&self, peer: PeerId) -> &str {
        self.mdn.peers().name(peer)
    }

    /// A user offers, and has its answer.
    fn agrees(&mut self, user: &str, ufrag: &str) {
        self.hears(offer(user, "desk", ufrag));
        let (ask, _, _) = self.question();
        self.mdn.peers_mut().handle_outcome(ask, described());
        assert_eq!(self.frames(), [answer("desk", user)]);
    }
}

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn sdp(ufrag: &str) -> String {
    format!("v=0\r\no=- 1{ufrag} 2 IN IP4 127.0.0.1\r\na=ice-ufrag:{ufrag}\r\n")
}

fn described() -> Outcome {
    Outcome::Described("v=0\r\nours".to_owned())
}

fn offer(name: &str, target: &str, ufrag: &str) -> Value {
    json!({ "name": name, "target": target, "type": "video-offer", "sdp": { "type": "offer", "sdp": sdp(ufrag) } })
}

fn answer(name: &str, target: &str) -> Value {
    json!({ "name": name, "target": target, "type": "video-answer", "sdp": { "type": "answer", "sdp": "v=0\r\nours" } })
}

fn candidate(ufrag: &str) -> Value {
    let line = format!("candidate:1 1 udp 1 192.0.2.7 9 typ host generation 0 ufrag {ufrag}");
    let candidate = json!({ "candidate": line, "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": ufrag });
    json!({ "type": "new-ice-candidate", "target": "desk", "candidate": candidate })
}

fn leave(number: u8) -> Output {
    Output::Broadcast(peers::Output::Leave(session(number)))
}

/// To whom candidates are given.
fn trickled(outputs: &[Output]) -> Vec<SessionId> {
    let to = |output: &Output| match output {
        Output::Broadcast(peers::Output::Trickle(session, _)) => *session,
        other => panic!("{other:?} where a candidate is expected"),
    };
    outputs.iter().map(to).collect()
}

/// The frames of somebody in the recording: whether they are sent, and what is in them; the descriptions have an `ice-ufrag`, as real ones do.
fn recorded(who: &str) -> Vec<(bool, Value)> {
    let text = RECORDED.replace(r"v=0\r\n...", r"v=0\r\na=ice-ufrag:abcd\r\n");
    let frame = |line: &str| {
        let (is_sent, frame) = match line.strip_prefix(who)?.strip_prefix(' ')?.split_at(4) {
            (">>> ", frame) => (true, frame),
            ("<<< ", frame) => (false, frame),
            _ => return None,
        };
        Some((is_sent, serde_json::from_str(frame).unwrap()))
    };
    text.lines().filter_map(frame).collect()
}

#[test]
fn the_recording_is_followed_word_for_word() {
    let turns = recorded("desk");
    let mut stage = Stage::open("desk", "none", 1_795_170_117_345);
    let (mut sent, mut signed_in, mut trickled, mut left) = (Vec::new(), 0, Vec::new(), Vec::new());
    for (_, heard) in turns.iter().filter(|(is_sent, _)| !is_sent) {
        stage.hears(heard.clone());
        for output in stage.outputs() {
            match output {
                Output::Frame(frame) => sent.push(serde_json::from_str::<Value>(&frame).unwrap()),
                Output::SignedIn(name) => signed_in += usize::from(name == "desk"),
                Output::Broadcast(peers::Output::Ask(ask, peer, question)) => {
                    assert_eq!(stage.name_of(peer), "desk1");
                    assert!(matches!(question, Question::Offer { .. }), "{question:?}");
                    let answer = Outcome::Described("v=0\r\na=ice-ufrag:abcd\r\n".to_owned());
                    stage.mdn.peers_mut().handle_outcome(ask, answer);
                    let outputs = stage.outputs();
                    let [Output::Frame(frame)] = &outputs[..] else { panic!("{outputs:?}") };
                    sent.push(serde_json::from_str(frame).unwrap());
                }
                Output::Broadcast(peers::Output::Trickle(session, _)) => trickled.push(session),
                Output::Broadcast(peers::Output::Leave(session)) => left.push(session),
                Output::Broadcast(other) => panic!("{other:?}"),
            }
        }
    }
    let is_ours = |frame: &&Value| frame["target"] != "nobody";
    let expected: Vec<&Value> = turns.iter().filter(|(is_sent, _)| *is_sent).map(|(_, frame)| frame).collect();
    assert_eq!(expected.len(), 3, "its name, an answer, and a word to nobody that it has no reason for");
    assert_eq!(sent.iter().collect::<Vec<_>>(), expected.into_iter().filter(is_ours).collect::<Vec<_>>());
    assert_eq!((signed_in, trickled, left), (1, vec![session(1)], vec![session(1)]));
    assert_eq!((stage.mdn.peers().states().count(), stage.mdn.peers().counts().total()), (0, 0));
}

#[test]
fn a_name_that_is_taken_is_given_up_for_the_servers_and_asked_for_again_later() {
    let turns = recorded("viewer");
    let mut stage = Stage::open("desk", "none", 1_795_170_117_949);
    for (_, heard) in turns.iter().filter(|(is_sent, _)| !is_sent).take(3) {
        stage.hears(heard.clone());
    }
    let asked: Value = turns.iter().find(|(is_sent, _)| *is_sent).unwrap().1.clone();
    let outputs = stage.outputs();
    let [Output::Frame(frame), Output::SignedIn(name)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((serde_json::from_str::<Value>(frame).unwrap(), &name[..]), (asked, "desk1"));
    let users: Vec<_> = stage.mdn.peers().states().map(|state| state.name).collect();
    assert_eq!(users, ["desk"], "the namesake is somebody else");

    stage.mdn.handle_closed(stage.now);
    stage.mdn.handle_open(stage.now);
    stage.hears(json!({ "type": "id", "id": "an-id-of-text" }));
    let frames = stage.frames();
    assert_eq!((&frames[0]["name"], &frames[0]["id"]), (&json!("desk"), &json!("an-id-of-text")));
}

#[test]
fn nothing_is_said_before_the_server_gives_an_id_that_can_be_used() {
    let mut stage = Stage::open("desk", "joined", 0);
    stage.hears(json!({ "type": "userlist", "users": ["desk", "alice", null] }));
    stage.hears(offer("alice", "desk", "a"));
    assert_eq!((stage.outputs(), stage.mdn.poll_timeout()), (vec![], None));
    for bad in
        [json!({ "type": "id" }), json!({ "type": "id", "id": null }), json!({ "type": "rejectusername", "name": "x" })]
    {
        assert!(stage.mdn.handle_frame(stage.now, &bad.to_string()).is_err(), "{bad}");
        assert_eq!(stage.outputs(), []);
    }
    stage.hears(json!({ "type": "id", "id": 1 }));
    assert_eq!(stage.outputs().len(), 1);
    for bad in [json!({ "type": "id", "id": 2 }), json!({ "type": "rejectusername", "name": "" })] {
        assert!(stage.mdn.handle_frame(stage.now, &bad.to_string()).is_err(), "{bad}");
    }
}

#[test]
fn users_come_and_go_by_the_lists_and_a_new_name_is_no_new_user() {
    let mut stage = Stage::signed_in("none", &["alice", "bob"]);
    let ids = |stage: &Stage| stage.mdn.peers().states().map(|state| (state.name, state.id.0)).collect::<Vec<_>>();
    let was = |name: &str, id| (name.to_owned(), id);
    assert_eq!(ids(&stage), [was("alice", 1), was("bob", 2)]);
    stage.lists(&["alice", "bobby"]);
    assert_eq!(ids(&stage), [was("alice", 1), was("bobby", 2)]);
    stage.lists(&["bobby"]);
    stage.lists(&["bobby", "alice"]);
    assert_eq!(ids(&stage), [was("bobby", 2), was("alice", 3)], "who comes back is another");
    stage.hears(json!({ "type": "userlist", "users": ["desk", "bobby", null, 7] }));
    assert_eq!(ids(&stage), [was("bobby", 2)]);
    stage.hears(json!({ "type": "userlist", "users": ["desk", null, "bobby", "desk", "bobby"] }));
    assert_eq!(ids(&stage), [was("bobby", 2)]);
}

#[test]
fn who_joins_is_called_and_candidates_without_a_name_find_their_viewer() {
    let mut stage = Stage::signed_in("joined", &["alice", "bob"]);
    stage.now += CALL_AFTER;
    stage.mdn.handle_timeout(stage.now).unwrap();
    let asks: Vec<_> = stage.outputs();
    for output in asks {
        let Output::Broadcast(peers::Output::Ask(ask, _, Question::Call { .. })) = output else { panic!("{output:?}") };
        stage.mdn.peers_mut().handle_outcome(ask, described());
    }
    let frames = stage.frames();
    let ours = json!({ "type": "offer", "sdp": "v=0\r\nours" });
    let called = |user| json!({ "name": "desk", "target": user, "type": "video-offer", "sdp": ours });
    assert_eq!(frames, [called("alice"), called("bob")]);
    // Bob's candidates come before his answer, Alice's after hers.
    stage.hears(candidate("b"));
    assert_eq!(stage.outputs(), []);
    for (user, ufrag, number) in [("alice", "a", 1), ("bob", "b", 2)] {
        let sdp = json!({ "type": "answer", "sdp": sdp(ufrag) });
        stage.hears(json!({ "name": user, "target": "desk", "type": "video-answer", "sdp": sdp }));
        stage.hears(candidate("a"));
        let outputs = stage.outputs();
        let Output::Broadcast(peers::Output::Ask(ask, _, Question::Accept { session: accepted, .. })) = &outputs[0]
        else {
            panic!("{outputs:?}")
        };
        assert_eq!(*accepted, session(number));
        let expected = if user == "alice" { vec![session(1)] } else { vec![session(2), session(1)] };
        assert_eq!(trickled(&outputs[1..]), expected);
        stage.mdn.peers_mut().handle_outcome(*ask, Outcome::Accepted);
        assert_eq!(stage.outputs(), []);
    }
}

#[test]
fn candidates_before_their_offer_are_kept_and_a_name_settles_whose_they_are() {
    let mut stage = Stage::signed_in("none", &["alice", "bob"]);
    for ufrag in ["b", "x", "a"] {
        stage.hears(candidate(ufrag));
    }
    let mut named = candidate("b2");
    named["name"] = json!("bob");
    stage.hears(named);
    assert_eq!(stage.outputs(), []);
    stage.hears(offer("bob", "desk", "b"));
    let outputs = stage.outputs();
    assert!(matches!(outputs[0], Output::Broadcast(peers::Output::Ask(..))), "{outputs:?}");
    assert_eq!(trickled(&outputs[1..]), [session(1), session(1)]);
    for _ in 0..EARLY_CANDIDATES + 5 {
        stage.hears(candidate("nobody"));
    }
    assert_eq!((stage.mdn.early.len(), stage.mdn.peers().counts().unexpected), (EARLY_CANDIDATES, 7));

    let mut stage = Stage::signed_in("none", &["alice", "bob"]);
    let mut bare = candidate("");
    bare["candidate"] = json!({ "candidate": "candidate:1 1 udp 1 192.0.2.7 9 typ host", "sdpMid": "0" });
    stage.hears(bare.clone());
    stage.agrees("bob", "b");
    stage.hears(bare.clone());
    assert_eq!(trickled(&stage.outputs()), [session(1)], "there is only one whose it can be");
    stage.agrees("alice", "a");
    stage.hears(bare);
    assert_eq!((stage.outputs(), stage.mdn.peers().counts().unexpected), (vec![], 2));
}

#[test]
fn hanging_up_is_of_who_says_it_and_not_for_others() {
    let hang_up = |name: &str, target: Value| json!({ "name": name, "target": target, "type": "hang-up" });
    for target in [json!(null), json!(""), json!("desk")] {
        let mut stage = Stage::signed_in("none", &["alice", "bob"]);
        stage.agrees("alice", "a");
        for other in [hang_up("bob", target.clone()), hang_up("nobody", target.clone()), hang_up("alice", json!("bob"))]
        {
            stage.hears(other);
            assert_eq!(stage.outputs(), []);
        }
        stage.hears(hang_up("alice", target));
        assert_eq!(stage.outputs(), [leave(1)]);
        assert_eq!(stage.mdn.peers().counts().total(), 0);
    }
    let mut stage = Stage::signed_in("none", &["alice"]);
    stage.agrees("alice", "a");
    stage.hears(json!({ "name": "alice", "type": "hang-up" }));
    assert_eq!(stage.outputs(), [leave(1)], "a target may be missing");
}

#[test]
fn what_is_for_others_or_from_nobody_is_not_answered() {
    let mut stage = Stage::signed_in("none", &["alice", "bob"]);
    let mut to_all = offer("alice", "", "a");
    for not_ours in [offer("alice", "bob", "a"), to_all.clone(), offer("desk", "desk", "a")] {
        stage.hears(not_ours);
    }
    to_all["target"] = json!(null);
    stage.hears(to_all);
    stage.hears(json!({ "type": "message", "name": "alice", "text": "hello", "date": 1 }));
    assert_eq!((stage.outputs(), stage.mdn.peers().counts().total()), (vec![], 0));
    stage.hears(offer("nobody", "desk", "a"));
    stage.hears(json!({ "name": "alice", "target": "desk", "type": "video-offer", "sdp": "v=0" }));
    stage.hears(
        json!({ "name": "alice", "target": "desk", "type": "video-offer", "sdp": { "type": "answer", "sdp": "" } }),
    );
    stage.mdn.handle_frame(stage.now, "{").unwrap();
    stage.hears(json!(7));
    assert_eq!(stage.outputs(), []);
    let counts = stage.mdn.peers().counts();
    assert_eq!((counts.unexpected, counts.unknown, counts.not_json), (1, 3, 1));
}

#[test]
fn a_server_that_goes_takes_nobodys_picture() {
    let mut stage = Stage::signed_in("none", &["alice", "bob"]);
    stage.agrees("alice", "a");
    stage.hears(offer("bob", "desk", "b"));
    let (ask, _, _) = stage.question();
    stage.mdn.handle_closed(stage.now);
    stage.mdn.peers_mut().handle_outcome(ask, described());
    assert_eq!((stage.outputs(), stage.mdn.peers().states().count()), (vec![], 0));
    stage.mdn.handle_open(stage.now);
    stage.hears(json!({ "type": "id", "id": 6 }));
    stage.lists(&["bob"]);
    assert_eq!(stage.outputs().len(), 2);
    assert_eq!(stage.mdn.peers().states().map(|state| state.id).collect::<Vec<_>>(), [PeerId(3)]);
}

#[test]
fn whatever_the_server_says_it_is_sent_only_what_it_can_take() {
    const NAMES: [&str; 5] = ["alice", "bob", "carol", "desk", "desk1"];
    let mut sent = 0;
    for seed in 1..=60_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        let mut stage = Stage::open("desk", if seed % 2 == 0 { "joined" } else { "none" }, 1000);
        let (mut given, mut listed): (Option<u64>, Vec<&str>) = (None, Vec::new());
        let mut open: Vec<AskId> = Vec::new();
        let mut names_of: BTreeMap<PeerId, String> = BTreeMap::new();
        for step in 0..600 {
            let (name, ufrag) = (NAMES[below(5)], ["a", "b", "c"][below(3)]);
            match below(14) {
                0 | 1 => {
                    listed = NAMES.iter().copied().filter(|_| below(3) > 0).collect();
                    stage.hears(json!({ "type": "userlist", "users": listed }));
                }
                2 if given.is_none() => {
                    given = Some(step);
                    stage.hears(json!({ "type": "id", "id": step }));
                }
                3 if given.is_some() && below(8) == 0 => {
                    stage.hears(json!({ "type": "rejectusername", "id": given, "name": "desk1" }));
                }
                4 if below(10) == 0 => {
                    (given, listed) = (None, Vec::new());
                    stage.mdn.handle_closed(stage.now);
                    stage.mdn.handle_open(stage.now);
                }
                5..=7 => stage.hears(offer(name, NAMES[3 + below(2)], ufrag)),
                8 => {
                    let sdp = json!({ "type": "answer", "sdp": sdp(ufrag) });
                    stage.hears(json!({ "name": name, "target": "desk", "type": "video-answer", "sdp": sdp }));
                }
                9 => stage.hears(candidate(ufrag)),
                10 => stage.hears(json!({ "name": name, "target": null, "type": "hang-up" })),
                11 => {
                    stage.now += Duration::from_millis(300);
                    stage.mdn.handle_timeout(stage.now).unwrap();
                }
                _ => {
                    if let Some(ask) = open.pop() {
                        let outcome = [described(), Outcome::Accepted, Outcome::Unanswered][below(3)].clone();
                        stage.mdn.peers_mut().handle_outcome(ask, outcome);
                    }
                }
            }
            for output in stage.outputs() {
                match output {
                    Output::Frame(frame) => {
                        sent += 1;
                        let frame: Value = serde_json::from_str(&frame).unwrap();
                        match frame["type"].as_str().unwrap() {
                            "username" => assert_eq!(frame["id"], json!(given), "seed {seed}"),
                            "video-offer" | "video-answer" => {
                                let target = frame["target"].as_str().unwrap();
                                assert!(listed.contains(&target) && frame["name"] != target, "seed {seed}: {frame}");
                                assert_eq!(frame["name"].as_str(), stage.mdn.name());
                            }
                            other => panic!("seed {seed}: {other}"),
                        }
                    }
                    Output::SignedIn(name) => assert!(listed.contains(&&*name), "seed {seed}"),
                    Output::Broadcast(peers::Output::Ask(ask, _, _)) => open.push(ask),
                    Output::Broadcast(_) => {}
                }
            }
            let own = stage.mdn.name().unwrap_or_default();
            if matches!(stage.mdn.stage, super::Stage::SignedIn(_)) {
                let users: Vec<&str> = stage.mdn.users.keys().map(String::as_str).collect();
                let others: Vec<&str> =
                    stage.mdn.listed.iter().flatten().map(String::as_str).filter(|name| *name != own).collect();
                assert_eq!(users, others, "seed {seed}");
            }
            for (name, id) in &stage.mdn.users {
                assert_eq!(stage.name_of(*id), name);
                let had = names_of.insert(*id, name.clone());
                // A new name is the only change that keeps an id.
                assert!(
                    had.is_none_or(|had| had == *name || !listed.contains(&&*had)),
                    "seed {seed}: an id is used again"
                );
            }
            assert!(stage.mdn.early.len() <= EARLY_CANDIDATES);
        }
    }
    assert!(sent > 500, "{sent}");
}

#[test]
fn who_has_a_picture_is_not_called_by_a_daemon_that_is_back() {
    let moment = Duration::from_millis(1);
    for (later, expected) in [
        (Duration::ZERO, vec!["bob"]),
        (moment, vec!["bob"]),
        (BACK_WITHIN - moment, vec!["bob"]),
        (BACK_WITHIN, vec!["alice", "bob"]),
    ] {
        let mut stage = Stage::signed_in("joined", &["alice"]);
        stage.agrees("alice", "a");
        stage.mdn.handle_closed(stage.now);
        stage.mdn.handle_open(stage.now);
        stage.hears(json!({ "type": "id", "id": 6 }));
        if later > Duration::ZERO {
            stage.lists(&[]);
        }
        stage.now += later;
        stage.lists(&["alice"]);
        stage.lists(&["alice", "bob"]);
        assert_eq!(stage.outputs().len(), 2, "it signs in");
        stage.now += CALL_AFTER;
        stage.mdn.handle_timeout(stage.now).unwrap();
        let asked = stage.outputs().into_iter().map(|output| match output {
            Output::Broadcast(peers::Output::Ask(_, peer, Question::Call { .. })) => stage.name_of(peer).to_owned(),
            other => panic!("{other:?} where a call is expected"),
        });
        assert_eq!(asked.collect::<Vec<_>>(), expected, "{later:?} after the daemon");
    }
}
