//! A client of `peerconnection_server` against a server that replies anything.
//!
//! The first line says whom the daemon calls. Then each line is a step: `s`, `w` and `p` reply to the sign-in, the wait and the oldest message, as in
//! `w200 3 body` (status, `Pragma` or `-`, and a body whose lines are parted by `|`); `xs`, `xw`, `xp` break those; `+N` passes N ms, `cN` calls peer N,
//! `d`, `a`, `r`, `f` and `u` are the broadcast's word, `q` signs out.

use std::collections::VecDeque;
use std::time::Instant;

use laterna::id::PeerId;
use laterna::signaling::client::Standing;
use laterna::signaling::peerconnection::client::{
    Client, Failure, MOST_REPLY, Output, Reply, Request, RequestId, Response, list,
};
use laterna::signaling::peerconnection::message;
use laterna::signaling::peers::CallPolicy;
use laterna::signaling::words::Word;

use super::input::{Step, script, sessions, start};
use super::talk::Broadcast;

const MOST_STEPS: usize = 128;
const MOST_OUTPUTS: usize = 4096;
/// Messages that are under way at a time, with those of ids that are gone.
const MOST_POSTS: usize = 64;

pub fn run(data: &[u8]) {
    read(data);
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Some(call) = CallPolicy::parse(&String::from_utf8_lossy(&data[..end])) else { return };
    let client = Client::new("desk", call, sessions(), || 7, start());
    let (broadcast, posts) = (Broadcast::default(), VecDeque::new());
    let mut play = Play { client, broadcast, now: start(), sign_in: None, wait: None, posts, is_in: false };
    play.pass();
    for (verb, rest) in script(data.get(end + 1..).unwrap_or_default(), MOST_STEPS) {
        play.step(&Step { verb, rest: &rest });
        play.drain();
    }
}

/// The input as a list of members, and as a message.
fn read(data: &[u8]) {
    let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
    assert!(list::members(data).count() <= lines);
    for member in list::members(data) {
        assert!(!member.name.contains(&b'\n'));
    }
    if let Ok(word @ Word::Description { .. }) = message::parse(data) {
        let written = message::write(&word).unwrap();
        assert_eq!(message::parse(written.as_bytes()), Ok(word));
    }
}

struct Play {
    client: Client,
    broadcast: Broadcast,
    now: Instant,
    sign_in: Option<RequestId>,
    wait: Option<RequestId>,
    posts: VecDeque<RequestId>,
    is_in: bool,
}

impl Play {
    fn step(&mut self, step: &Step<'_>) {
        match step.verb {
            's' | 'w' | 'p' => {
                if let Some(reply) = response(step.rest) {
                    self.reply(step.verb, Ok(reply));
                }
            }
            'x' => {
                let failure = Failure { why: "as the fuzzer wants".to_owned(), was_sent: step.rest.contains('!') };
                self.reply(step.rest.chars().next().unwrap_or_default(), Err(failure));
            }
            '+' => {
                self.now += step.pause();
                self.pass();
            }
            'c' => drop(self.client.call(PeerId(step.number()), self.now)),
            'q' => self.client.sign_out(),
            verb => {
                if let Some((ask, outcome)) = self.broadcast.says(verb) {
                    self.client.handle_outcome(ask, outcome);
                }
            }
        }
    }

    fn pass(&mut self) {
        self.client.handle_timeout(self.now);
        assert!(self.client.poll_timeout().is_none_or(|due| due > self.now), "what is due is done");
        self.drain();
    }

    fn reply(&mut self, to: char, reply: Reply) {
        let request = match to {
            's' => self.sign_in.take(),
            'w' => self.wait.take(),
            _ => self.posts.pop_front(),
        };
        if let Some(request) = request {
            self.client.handle_reply(request, reply, self.now);
        }
    }

    fn drain(&mut self) {
        for _ in 0..MOST_OUTPUTS {
            let Some(output) = self.client.poll_output() else { return self.check() };
            match output {
                Output::Send(request, Request::SignIn) => {
                    assert!(!self.is_in, "it is in already");
                    (self.sign_in, self.wait) = (Some(request), None);
                }
                Output::Send(request, Request::Wait(_)) => {
                    assert!(self.is_in || self.client.is_over());
                    assert!(self.wait.replace(request).is_none(), "one wait hangs at a time");
                }
                Output::Send(request, Request::Message { from, to, body }) => {
                    assert!(from != to && message::parse(body.as_bytes()).is_ok(), "{body}");
                    self.posts.push_back(request);
                    let gone = self.posts.len().saturating_sub(MOST_POSTS);
                    self.posts.drain(..gone);
                }
                Output::Send(_, Request::SignOut(_)) => self.wait = None,
                Output::Abandon(request) => self.posts.retain(|post| *post != request),
                Output::SignedIn { .. } => assert!(!std::mem::replace(&mut self.is_in, true), "it is in already"),
                Output::Away(_) => self.is_in = false,
                Output::Broadcast(output) => self.broadcast.hears(output),
            }
        }
        panic!("outputs without end");
    }

    fn check(&self) {
        let count = self.client.peers().states().count();
        assert!(count <= 4096);
        let is_in = matches!(self.client.standing(), Standing::SignedIn(_));
        assert!(is_in || count == 0, "nobody is known where the daemon is no member");
    }
}

/// Reads `status pragma body`.
fn response(text: &str) -> Option<Response> {
    let mut words = text.splitn(3, ' ');
    let status = words.next()?.parse().ok()?;
    let pragma = words.next().and_then(|word| list::id(word.as_bytes()));
    let body = words.next().unwrap_or_default().replace('|', "\n").into_bytes();
    Some(Response { status, pragma, body: Some(body).filter(|body| body.len() <= MOST_REPLY) })
}
