//! The daemon at servers of both kinds without sockets: the recording of the original, its traps one by one; then anything at random.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::signaling::peers::Question;

mod loss;
mod random;

const RECORDED: &str = include_str!("../../../../tests/data/peerconnection_server.txt");
const CANDIDATE: &str = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.7 9 typ host","sdpMLineIndex":0,"sdpMid":"0"}"#;

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn replied(status: u16, pragma: u64, body: &str) -> Reply {
    Ok(Response { status, pragma: Some(PeerId(pragma)).filter(|id| id.0 > 0), body: Some(body.as_bytes().to_vec()) })
}

fn failed(was_sent: bool) -> Reply {
    Err(Failure { why: "as the test wants".to_owned(), was_sent })
}

fn offer(origin: u32) -> String {
    format!(r#"{{"type":"offer","sdp":"v=0\r\no=- {origin} 2 IN IP4 127.0.0.1\r\n"}}"#)
}

fn described() -> Outcome {
    Outcome::Described("v=0\r\n".to_owned())
}

struct Stage {
    client: Client,
    now: Instant,
    wait: Option<RequestId>,
    /// Messages under way.
    posts: Vec<(RequestId, PeerId, String)>,
    asks: Vec<(AskId, PeerId, Question)>,
    left: Vec<SessionId>,
    abandoned: Vec<RequestId>,
    /// Changes of state, and the ids that were given back.
    changes: Vec<String>,
}

impl Stage {
    fn new(call: &str) -> Self {
        let mut drawn = 0;
        let sessions = move || {
            drawn += 1;
            session(drawn)
        };
        let now = Instant::now();
        let client = Client::new("desk", CallPolicy::parse(call).unwrap(), sessions, || u32::MAX, now);
        let (posts, asks, left, abandoned, changes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { client, now, wait: None, posts, asks, left, abandoned, changes }
    }

    /// A daemon that is signed in as 1, with this list beside itself.
    fn signed_in(call: &str, list: &str) -> Self {
        let mut stage = Self::new(call);
        let request = stage.signs_in();
        stage.reply(request, replied(200, 1, &format!("desk,1,1\n{list}")));
        assert_eq!(stage.changes, ["in as desk,1"]);
        stage
    }

    /// Awaits that the daemon asks to come in.
    fn signs_in(&mut self) -> RequestId {
        self.now = self.client.poll_timeout().unwrap().max(self.now);
        self.client.handle_timeout(self.now);
        let Some(Output::Send(request, Request::SignIn)) = self.client.poll_output() else { panic!("no sign-in") };
        request
    }

    fn reply(&mut self, request: RequestId, reply: Reply) {
        self.posts.retain(|(post, ..)| *post != request);
        self.client.handle_reply(request, reply, self.now);
        self.settle();
    }

    /// The server answers the wait that hangs, a second after it began.
    fn waited(&mut self, reply: Reply) {
        self.later(Duration::from_secs(1));
        self.waited_at_once(reply);
    }

    fn waited_at_once(&mut self, reply: Reply) {
        let wait = self.wait.take().expect("a wait hangs");
        self.reply(wait, reply);
    }

    fn later(&mut self, pause: Duration) {
        self.now += pause;
        self.client.handle_timeout(self.now);
        self.settle();
    }

    fn answer(&mut self, outcome: Outcome) {
        let (ask, ..) = self.asks.pop().expect("a question is open");
        self.client.handle_outcome(ask, outcome);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Send(request, Request::Wait(id)) => {
                    assert_eq!(Some(id), self.own());
                    self.wait = Some(request);
                }
                Output::Send(request, Request::Message { from, to, body }) => {
                    assert_eq!(Some(from), self.own());
                    self.posts.push((request, to, body));
                }
                Output::Abandon(request) => self.abandoned.push(request),
                Output::Send(_, Request::SignIn) => panic!("the test is to ask for it"),
                Output::Send(_, Request::SignOut(id)) => self.changes.push(format!("leaves {id}")),
                Output::SignedIn { name, id } => self.changes.push(format!("in as {name},{id}")),
                Output::Away(why) => self.changes.push(format!("away: {why}")),
                Output::Broadcast(peers::Output::Ask(ask, peer, question)) => self.asks.push((ask, peer, question)),
                Output::Broadcast(peers::Output::Leave(session)) => self.left.push(session),
                Output::Broadcast(peers::Output::Trickle(..)) => {}
                Output::Broadcast(other) => panic!("{other:?} is not for the broadcast"),
            }
        }
    }

    fn own(&self) -> Option<PeerId> {
        if let State::SignedIn(membership) = &self.client.state { Some(membership.id) } else { None }
    }

    /// Who is there, as `id name`.
    fn there(&self) -> Vec<String> {
        self.client.peers.states().map(|peer| format!("{} {}", peer.id, peer.name)).collect()
    }

    /// Whom the broadcast is asked to offer to.
    fn called(&self) -> Vec<u64> {
        let called = self.asks.iter().filter(|(.., question)| matches!(question, Question::Call { .. }));
        called.map(|(_, peer, _)| peer.0).collect()
    }
}

/// What the desk sent and got in the recording: heads' first lines with bodies, and replies.
fn recorded() -> Vec<(String, Reply)> {
    let mut turns: Vec<(String, Reply)> = Vec::new();
    let (mut sent, mut rest) = (VecDeque::new(), RECORDED);
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        let Some((who, direction)) = line.split_once(' ').filter(|(_, way)| matches!(*way, ">>>" | "<<<")) else {
            continue;
        };
        let mut head = Vec::new();
        while let Some((line, after)) = rest.split_once('\n').filter(|(line, _)| line.ends_with("\\r\\n")) {
            rest = after;
            let line = line.trim_end_matches("\\r\\n");
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        let field =
            |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(|value| value.parse().unwrap());
        let (body, after) = rest.split_at(field("Content-Length: ").unwrap_or(0) as usize);
        rest = after;
        match (who, direction) {
            ("desk", ">>>") => sent.push_back(format!("{}\n{body}", head[0].trim_end_matches(" HTTP/1.1"))),
            ("desk", _) => {
                let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
                turns.push((sent.pop_front().unwrap(), replied(status, field("Pragma: ").unwrap_or(0), body)));
            }
            _ => {}
        }
    }
    turns
}

#[test]
fn the_recording_of_the_original_is_followed() {
    let (mut stage, mut seen) = (Stage::new("none"), Vec::new());
    let request = stage.signs_in();
    for (sent, reply) in recorded() {
        let (line, body) = sent.split_once('\n').unwrap();
        match line.split(['?', ' ']).nth(1).unwrap() {
            "/sign_in" => stage.reply(request, reply),
            "/wait" => {
                assert_eq!((line, stage.own()), ("GET /wait?peer_id=1", Some(PeerId(1))));
                stage.waited(reply);
            }
            "/message" if body.contains("answer") => {
                stage.answer(Outcome::Described("v=0\r\n...".to_owned()));
                let (request, to, said) = stage.posts[0].clone();
                let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
                assert_eq!((json(&said), to), (json(body), PeerId(2)));
                stage.reply(request, reply);
            }
            // The daemon sends no candidates, and nothing to who is not there.
            "/message" => continue,
            other => panic!("{other}"),
        }
        seen.push((stage.there().join("; "), stage.asks.len(), stage.left.len()));
    }
    let expected = [("", 0, 0), ("2 alice_smith", 0, 0), ("2 alice_smith", 1, 0), ("2 alice_smith", 0, 0)];
    let then = [("2 alice_smith", 0, 1), ("2 alice_smith; 3 native@host", 0, 1), ("3 native@host", 0, 1)];
    let expected: Vec<_> =
        expected.into_iter().chain(then).map(|(there, asks, left)| (there.to_owned(), asks, left)).collect();
    assert_eq!(seen, expected);
    assert_eq!(stage.changes, ["in as desk,1"]);
    assert_eq!(stage.client.peers().counts().total(), 0);
}

#[test]
fn the_originals_refusals_are_told_apart() {
    let replies: Vec<_> = recorded().into_iter().filter_map(|(_, reply)| reply.ok()).collect();
    let gone = replies.iter().find(|reply| reply.status == 500).unwrap();
    assert!(gone.is_gone() && !gone.is_sorry());
    let sorry = replied(500, 0, "<html><body>Sorry, not yet implemented</body></html>").unwrap();
    assert!(RECORDED.contains("<html><body>Sorry, not yet implemented</body></html>"));
    assert!(sorry.is_sorry() && !sorry.is_gone());
}

#[test]
fn a_full_list_is_told_from_single_changes_and_names_may_have_commas() {
    let mut stage = Stage::signed_in("none", "b, the second,2,1\nc,3,0\n");
    assert_eq!(stage.there(), ["2 b, the second", "3 c"]);
    stage.waited(replied(200, 1, "d,4,1\n"));
    assert_eq!(stage.there(), ["2 b, the second", "3 c", "4 d"], "a single change");
    stage.waited(replied(200, 1, "d,4,0\ne,5,1\n"));
    assert_eq!(stage.there(), ["2 b, the second", "3 c", "5 e"], "two of them in one reply");
    stage.waited(replied(200, 1, "e,5,0\ndesk,1,0\nb, the 2nd,2,1\n"));
    assert_eq!(stage.there(), ["2 b, the 2nd", "5 e"], "all: 3 is gone, 5 does not wait just now, 2 has another name");
    stage.waited(replied(200, 1, "desk,1,1\n"));
    assert_eq!(stage.there(), [""; 0]);
    stage.waited(replied(200, 1, "x,9,0\n"));
    assert_eq!(stage.there(), [""; 0], "who leaves has not come");
}

#[test]
fn a_list_from_before_a_newcomer_does_not_make_it_leave() {
    let mut stage = Stage::signed_in("joined", "");
    stage.waited(replied(200, 1, "c,3,1\nb,2,1\ndesk,1,1\n"));
    // Queued replies come last first.
    stage.waited_at_once(replied(200, 1, "b,2,1\ndesk,1,1\n"));
    assert_eq!(stage.there(), ["2 b", "3 c"]);
    stage.later(peers::CALL_AFTER);
    assert_eq!(stage.called(), [2, 3]);
    stage.waited_at_once(replied(200, 1, "c,3,1\ndesk,1,1\n"));
    assert_eq!(stage.there(), ["3 c"], "older than somebody listed, it is gone");
    stage.waited(replied(200, 1, "desk,1,1\n"));
    assert_eq!(stage.there(), [""; 0], "a list for which was waited is the last");
}

#[test]
fn who_speaks_before_it_is_listed_is_heard() {
    let mut stage = Stage::signed_in("none", "");
    stage.waited(replied(200, 7, CANDIDATE));
    stage.waited(replied(200, 7, &offer(5)));
    assert!(matches!(&stage.asks[..], [(_, PeerId(7), Question::Offer { .. })]));
    stage.waited(replied(200, 1, "late,7,1\ndesk,1,1\n"));
    assert_eq!(stage.there(), ["7 late"]);
    stage.answer(described());
    assert_eq!(stage.posts.len(), 1);
}

#[test]
fn namesakes_of_the_daemon_are_neither_called_nor_taken_for_it() {
    let mut stage = Stage::new("joined");
    let request = stage.signs_in();
    // The server lists the name in its own way; 3 and 4 are what a crash left.
    stage.reply(request, replied(200, 9, "desk_,9,1\ndesk_,3,1\ndesk,4,0\nalice,5,1\n"));
    assert_eq!(stage.changes, ["in as desk_,9"]);
    stage.waited(replied(200, 9, "desk_,3,1\ndesk_,10,1\n"));
    stage.later(peers::CALL_AFTER);
    assert_eq!((stage.called(), stage.there()), (vec![5], vec!["5 alice".to_owned()]));
    stage.waited(replied(200, 9, "desk_,3,0\n"));
    assert_eq!(stage.own(), Some(PeerId(9)));
    stage.waited(replied(200, 10, &offer(5)));
    assert_eq!(stage.asks.len(), 2, "a namesake that speaks is somebody else, and is heard");
}

#[test]
fn an_id_that_the_server_forgot_is_not_used_again() {
    for reply in [replied(500, 0, "<html>Sorry"), replied(404, 0, ""), failed(true), failed(false), replied(409, 0, "")]
    {
        let mut stage = Stage::signed_in("none", "alice,2,1\n");
        stage.waited(replied(200, 2, &offer(5)));
        stage.answer(described());
        let (post, ..) = stage.posts[0];
        stage.waited(reply);
        assert!(stage.changes[1].starts_with("away: ") && matches!(stage.client.standing(), Standing::Away(_)));
        assert_eq!((stage.there(), &stage.left[..]), (vec![], &[][..]), "what is connected goes on");
        stage.reply(post, replied(200, 0, ""));
        let request = stage.signs_in();
        stage.reply(request, replied(200, 1, "desk,1,1\n"));
        assert_eq!(stage.changes[2..], ["in as desk,1"]);
        assert_eq!(stage.posts.len(), 0, "what was for the members of before is not for those of now");
    }
}

#[test]
fn a_server_that_is_away_is_complained_of_once_and_tried_for_ever() {
    let mut stage = Stage::new("none");
    let start = stage.now;
    for _ in 0..50 {
        let request = stage.signs_in();
        stage.reply(request, failed(false));
        assert!(stage.client.poll_timeout().unwrap() <= stage.now + Duration::from_secs(5));
    }
    assert_eq!(stage.changes, ["away: as the test wants"]);
    assert!(stage.now - start > Duration::from_secs(200), "it is not hammered");
    for (status, words) in
        [(400, "sign-in="), (401, "token-file="), (302, "another address"), (503, "503 Service Unavailable")]
    {
        let request = stage.signs_in();
        stage.reply(request, replied(status, 0, ""));
        assert!(matches!(stage.client.standing(), Standing::Away(why) if why.contains(words)), "{status}");
    }
    let request = stage.signs_in();
    stage.reply(request, replied(200, 0, "<html>welcome"));
    assert!(matches!(stage.client.standing(), Standing::Away(why) if why.contains("Pragma")));
    assert_eq!(stage.changes.len(), 1, "one line for one change of state");
    let request = stage.signs_in();
    stage.reply(request, replied(200, 1, "desk,1,1\n"));
    assert_eq!(stage.changes[1..], ["in as desk,1"]);
}

#[test]
fn waits_that_bring_nothing_are_followed_by_others_but_not_in_a_circle() {
    let mut stage = Stage::signed_in("none", "alice,2,1\n");
    for reply in
        [replied(504, 0, "late"), replied(204, 0, ""), replied(408, 0, ""), replied(200, 0, ""), replied(200, 1, "")]
    {
        stage.waited(reply.clone());
        assert!(stage.wait.is_some(), "it hung for a second: the next is due");
        stage.waited_at_once(reply);
        assert_eq!(stage.wait, None);
        stage.later(FRUITLESS_WAIT);
        assert!(stage.wait.is_some());
    }
    assert_eq!((stage.there(), stage.changes.len()), (vec!["2 alice".to_owned()], 1));
    stage.waited(replied(200, 0, "<html>welcome"));
    assert!(stage.changes[1].contains("Pragma"), "{:?}", stage.changes);
}

#[test]
fn messages_to_one_peer_keep_their_order_and_a_peer_that_is_gone_is_dropped() {
    let mut stage = Stage::signed_in("none", "alice,2,1\nbob,3,1\n");
    for (peer, origin) in [(2, 5), (3, 6), (2, 7)] {
        stage.waited(replied(200, peer, &offer(origin)));
        stage.answer(Outcome::Described(format!("v=0 {origin}")));
    }
    let under_way = |stage: &Stage| stage.posts.iter().map(|(_, to, body)| (to.0, body.clone())).collect::<Vec<_>>();
    let answer = |origin: u32| format!(r#"{{"sdp":"v=0 {origin}","type":"answer"}}"#);
    assert_eq!(under_way(&stage), [(2, answer(5)), (3, answer(6))]);
    let [(first, ..), (to_bob, ..)] = stage.posts[..] else { panic!("two are under way") };
    stage.reply(first, replied(200, 0, ""));
    assert_eq!(under_way(&stage), [(3, answer(6)), (2, answer(7))]);
    stage.reply(to_bob, replied(500, 0, "Peer most likely gone."));
    assert_eq!(stage.there(), ["2 alice"]);
    let (second, ..) = stage.posts[0];
    stage.reply(second, replied(404, 0, ""));
    assert_eq!((stage.there(), stage.left.len(), stage.client.lost()), (vec![], 0, 0));
}

#[test]
fn a_message_that_the_server_stumbles_over_is_sent_again_and_one_it_may_have_is_not() {
    let mut stage = Stage::signed_in("none", "alice,2,1\n");
    stage.waited(replied(200, 2, &offer(5)));
    stage.answer(described());
    for reply in [failed(false), replied(500, 0, "Error: Can't set headers after they are sent.")] {
        let (request, ..) = stage.posts.pop().unwrap();
        stage.reply(request, reply);
        assert_eq!(stage.posts.len(), 0);
        stage.later(Duration::from_secs(1));
        assert_eq!(stage.posts.len(), 1);
    }
    let (request, ..) = stage.posts[0];
    stage.reply(request, failed(true));
    stage.later(Duration::from_secs(60));
    assert_eq!((stage.posts.len(), stage.client.lost()), (0, 1));
    assert_eq!(stage.there(), ["2 alice"]);
}

#[test]
fn who_joins_is_called_once_and_no_two_offers_follow_closely() {
    let mut stage = Stage::signed_in("joined", "alice,2,1\n");
    stage.later(peers::CALL_AFTER);
    assert_eq!(stage.called(), [2]);
    stage.answer(described());
    assert_eq!(stage.client.call(PeerId(2), stage.now), Err(CallError::Busy), "the offer is stored before it is sent");
    let (request, _, body) = stage.posts[0].clone();
    assert!(body.contains(r#""type":"offer""#));
    // The answer may come before the server has said that it took the offer.
    stage.waited_at_once(replied(200, 2, r#"{"type":"answer","sdp":"v=0\r\no=- 8 2 IN IP4 127.0.0.1\r\n"}"#));
    stage.reply(request, replied(200, 0, ""));
    stage.answer(Outcome::Accepted);
    assert_eq!(stage.client.call(PeerId(2), stage.now), Err(CallError::Busy), "it has just had one");
    stage.later(BETWEEN_OFFERS);
    assert_eq!(stage.client.call(PeerId(2), stage.now), Ok(()));
    assert_eq!(stage.client.call(PeerId(9), stage.now), Err(CallError::Unknown));
    stage.settle();
    stage.waited(replied(200, 2, "BYE"));
    assert_eq!(stage.left.len(), 2, "a goodbye ends both connections");
    assert!(stage.posts.iter().all(|(.., body)| !body.contains("BYE")));
}

#[test]
fn what_is_too_much_is_not_heard() {
    let mut stage = Stage::signed_in("none", "");
    let long = format!(r#"{{"type":"offer","sdp":"{}"}}"#, "x".repeat(MOST_MESSAGE));
    stage.waited(replied(200, 2, &long));
    stage.waited(Ok(Response { status: 200, pragma: Some(PeerId(2)), body: None }));
    stage.waited(Ok(Response { status: 200, pragma: Some(PeerId(1)), body: None }));
    assert_eq!((stage.client.peers().counts().total(), stage.asks.len()), (2, 0));
    let crowd: String = (3..10_000).map(|id| format!("p,{id},1\n")).collect();
    stage.waited(replied(200, 1, &crowd));
    stage.waited(replied(200, 20_000, &offer(5)));
    assert_eq!((stage.there().len(), stage.asks.len()), (MOST_PEERS, 0));
}

#[test]
fn leaving_gives_the_id_back_also_one_that_is_still_to_come() {
    let mut stage = Stage::signed_in("none", "alice,2,1\n");
    stage.client.sign_out();
    stage.settle();
    assert_eq!((&*stage.changes[1], stage.client.is_over()), ("leaves 1", false));
    let State::SigningOut(request) = stage.client.state else { panic!("it is not signing out") };
    stage.reply(request, replied(200, 0, ""));
    assert!(stage.client.is_over() && stage.client.poll_timeout().is_none());

    let mut stage = Stage::new("none");
    let request = stage.signs_in();
    stage.client.sign_out();
    assert!(!stage.client.is_over());
    stage.reply(request, replied(200, 6, "desk,6,1\n"));
    assert_eq!(stage.changes, ["leaves 6"]);

    for reply in [None, Some(failed(false))] {
        let mut stage = Stage::new("none");
        if let Some(reply) = reply {
            let request = stage.signs_in();
            stage.reply(request, reply);
        }
        stage.client.sign_out();
        assert!(stage.client.is_over(), "there is nothing to give back");
    }
}
