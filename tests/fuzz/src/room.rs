//! The embedded room: requests as they come by HTTP → members, mailboxes, waits → replies.
//!
//! The first byte chooses who sees whom (`o` is open). Then each line is a step: `+N` passes N ms; `1` to `4` is an address that asks for what follows, as in
//! `1GET /wait?peer_id=2` or `2POST /message?peer_id=3&to=1 text`; `>N text` is the daemon's word to N, `-N` takes that back, `!N` breaks the N-th wait.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method};
use laterna::id::PeerId;
use laterna::signaling::room::mailbox;
use laterna::signaling::room::wire::{self, Wanted};
use laterna::signaling::room::{DAEMON, Output, Room, RoomLimits, RoomPolicy, WaitToken};
use laterna::signaling::server::Reply;

use super::input::{Step, script, start};

const LIMITS: RoomLimits = RoomLimits { members: 6, per_address: 4 };
const MOST_STEPS: usize = 256;

pub fn run(data: &[u8]) {
    let [policy, rest @ ..] = data else { return };
    let policy = if *policy == b'o' { RoomPolicy::Open } else { RoomPolicy::Closed };
    let room = Room::new(policy, LIMITS, "de,sk\r\n");
    let mut stage = Stage { room, now: start(), waits: BTreeMap::new(), tokens: 0, ids: vec![DAEMON] };
    for (verb, rest) in script(rest, MOST_STEPS) {
        stage.step(&Step { verb, rest: &rest });
        stage.drain();
    }
}

struct Stage {
    room: Room,
    now: Instant,
    /// Those that hang.
    waits: BTreeMap<WaitToken, PeerId>,
    tokens: u64,
    /// All that were ever given.
    ids: Vec<PeerId>,
}

impl Stage {
    fn step(&mut self, step: &Step<'_>) {
        match step.verb {
            '+' => {
                self.now += step.pause();
                self.room.handle_timeout(self.now);
                assert!(self.room.poll_timeout().is_none_or(|due| due > self.now), "what is due is done");
            }
            '1'..='3' => self.request([192, 0, 2, step.verb as u8].into(), step.rest),
            '4' => self.request("2001:db8::1".parse().unwrap(), step.rest),
            '>' => self.room.send(PeerId(step.number()), Bytes::from(step.rest.to_owned()), self.now),
            '-' => self.room.withdraw(PeerId(step.number())),
            '!' => {
                let which = usize::try_from(step.number()).unwrap_or_default();
                let wait = self.waits.iter().nth(which).map(|(token, id)| (*token, *id));
                if let Some((token, id)) = wait {
                    self.waits.remove(&token);
                    self.room.handle_wait_gone(id, token, self.now);
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, from: IpAddr, text: &str) {
        let mut words = text.splitn(3, ' ');
        let (method, target, body) = (words.next(), words.next(), words.next().unwrap_or_default());
        let (Some(method), Some(target)) = (method, target) else { return };
        let Ok(method) = method.parse::<Method>() else { return };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some(target) = wire::target(path) else { return };
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            let kind = body.split(' ').next().and_then(|word| HeaderValue::from_str(word).ok());
            headers.extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
        }
        match wire::read(&method, target.endpoint, query, &headers) {
            Ok(wanted) => self.wanted(from, wanted, body),
            Err(reply) => assert_reply(&reply),
        }
    }

    fn wanted(&mut self, from: IpAddr, wanted: Wanted, body: &str) {
        match wanted {
            Wanted::Preflight => assert_reply(&wire::preflight(&HeaderMap::new())),
            Wanted::SignIn(name) => match self.room.handle_sign_in(name.as_bytes(), from, self.now) {
                Ok((id, list)) => {
                    assert!(!self.ids.contains(&id), "an id is used again");
                    self.ids.push(id);
                    assert_list(&list, id);
                    assert_reply(&wire::added(id, list));
                }
                Err(refusal) => assert_reply(&wire::full(refusal)),
            },
            Wanted::Wait(id) => {
                self.tokens += 1;
                let token = WaitToken(self.tokens);
                if self.room.handle_wait(id, from, token, self.now).is_ok() {
                    assert!(self.ids.contains(&id) && id != DAEMON);
                    self.waits.insert(token, id);
                }
            }
            Wanted::SignOut(id) => {
                if self.room.handle_sign_out(id, from, self.now).is_ok() {
                    assert!(self.ids.contains(&id) && id != DAEMON);
                }
            }
            Wanted::Post { from: sender, to, content_type } => {
                let body = Bytes::from(body.to_owned());
                let at = SocketAddr::new(from, 40000);
                let passed = self.room.handle_message((sender, at), to, content_type, body, self.now).is_ok();
                let is_allowed = to == DAEMON || self.room.policy() == RoomPolicy::Open;
                assert!(!passed || is_allowed, "a closed room passes nothing on");
            }
        }
    }

    fn drain(&mut self) {
        assert!(self.room.count() <= LIMITS.members);
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Deliver { wait, to, message } => {
                    assert_eq!(self.waits.remove(&wait), Some(to), "a wait is answered once, and to its own");
                    assert!(message.body.len() <= mailbox::BYTES);
                    assert_reply(&wire::delivered(to, message));
                }
                Output::End { wait, why } => {
                    assert!(self.waits.remove(&wait).is_some(), "a wait ends once");
                    assert_reply(&wire::ended(why));
                }
                Output::Joined { peer, .. } | Output::Received { peer, .. } | Output::Left { peer, .. } => {
                    assert!(self.ids.contains(&peer) && peer != DAEMON);
                }
            }
        }
        let members: std::collections::BTreeSet<_> = self.waits.values().collect();
        assert_eq!(members.len(), self.waits.len(), "a member has one wait");
    }
}

/// Each line has three fields, the first is the newcomer's, and the second the daemon's.
fn assert_list(list: &[u8], id: PeerId) {
    let lines: Vec<_> = list.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').collect();
    let fields = |line: &&[u8]| line.iter().filter(|byte| **byte == b',').count() == 2;
    assert!(lines.iter().all(fields), "{:?}", String::from_utf8_lossy(list));
    assert!(lines[0].ends_with(format!(",{id},1").as_bytes()) && lines[1].ends_with(b",1,1"));
    assert!(lines.len() <= LIMITS.members + 1);
}

fn assert_reply(reply: &Reply) {
    let length = reply.headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
    assert_eq!(length, Some(reply.body.len().to_string().as_bytes()));
    let kind =
        reply.headers.get(header::CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).to_lowercase());
    let is_page = kind.is_some_and(|kind| kind.contains("html"));
    assert!(!is_page || reply.body == wire::sorry().body, "a message becomes a page");
}
