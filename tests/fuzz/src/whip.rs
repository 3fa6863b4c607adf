//! A publication to an SFU whose server responds anything, and whose sessions go any way.
//!
//! The first line is `https` or `http`. Then each line is a step: `rSTATUS NAME: VALUE|NAME: VALUE||BODY` responds to what the server was asked (lines
//! parted by `|`), `!` fails it, `p` and `x` say that what a publication needs is there or not, `d`, `a`, `f` and `u` are the broadcast's word, `l`, `e`
//! and `k` say how the session goes, `v` that a relay has come up, `+N` passes N ms, `c` is the operator's call, `q` ends it all.

use std::collections::BTreeSet;
use std::time::Instant;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use laterna::id::SessionId;
use laterna::signaling::client::Standing;
use laterna::signaling::peers::Outcome;
use laterna::signaling::whip::{Output, Request, Response, Whip};
use laterna::signaling::{Life, Refusal};
use url::Url;

use super::input::{Step, assert_one_line, script, sessions, start};

const MOST_STEPS: usize = 256;
/// What one step may have it put out; more is without end.
const MOST_OUTPUTS: usize = 16;
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n";

pub fn run(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let endpoint = if &data[..end] == b"https" { "https://sfu.example/whip" } else { "http://sfu.example/whip" };
    let at = Url::parse(endpoint).unwrap();
    let whip = Whip::new(start(), at.clone(), sessions(), || 7);
    let mut play = Play { whip, now: start(), endpoint: at.clone(), at, world: World::default() };
    for (verb, rest) in script(data.get(end + 1..).unwrap_or_default(), MOST_STEPS) {
        play.step(&Step { verb, rest: &rest });
        play.drain();
        play.check();
    }
    play.ends();
}

/// What the core has asked and not been told, and what is left of what it has begun.
#[derive(Default)]
struct World {
    preparing: bool,
    /// The session, and whether an offer of the daemon's is wanted.
    question: Option<(SessionId, bool)>,
    request: Option<Request>,
    living: BTreeSet<SessionId>,
    known: BTreeSet<SessionId>,
    live: Option<SessionId>,
    needs_relay: bool,
    /// Whether the next offer is the first of its publication.
    begins: bool,
    /// Sessions that responses have named, and those that were ended.
    named: u32,
    ended: u32,
}

struct Play {
    whip: Whip,
    now: Instant,
    endpoint: Url,
    /// Where the last request went.
    at: Url,
    world: World,
}

impl Play {
    fn step(&mut self, step: &Step<'_>) {
        let (whip, world, now) = (&mut self.whip, &mut self.world, self.now);
        match step.verb {
            'r' | '!' => {
                let Some(request) = world.request.take() else { return };
                let response = if step.verb == 'r' { response(step.rest) } else { None };
                let makes = |response: &Response| {
                    response.status == StatusCode::CREATED && response.headers.contains_key(header::LOCATION)
                };
                let is_offer = matches!(request, Request::Offer { .. });
                world.named += u32::from(is_offer && response.as_ref().is_some_and(makes));
                whip.handle_response(now, response.ok_or_else(|| "as the fuzzer wants".to_owned()));
            }
            'p' | 'x' if std::mem::take(&mut world.preparing) => {
                whip.handle_prepared(now, if step.verb == 'p' { Ok(()) } else { Err("no token".to_owned()) });
            }
            verb @ ('d' | 'a' | 'f' | 'u') => {
                let Some((session, wants_offer)) = world.question.take() else { return };
                let outcome = match verb {
                    // What connects was accepted, whichever word comes first.
                    _ if world.live == Some(session) => Outcome::Accepted,
                    'f' => {
                        world.living.remove(&session);
                        Outcome::Refused(Refusal::Closing)
                    }
                    'u' => Outcome::Unanswered,
                    _ if wants_offer => Outcome::Described(OFFER.to_owned()),
                    _ => Outcome::Accepted,
                };
                whip.handle_outcome(now, session, outcome);
            }
            'l' => {
                let is_offered = matches!(world.question, Some((_, true))) || world.request.is_some();
                if let Some(session) = world.living.first().filter(|_| !is_offered) {
                    world.live = Some(*session);
                    whip.handle_life(now, *session, Life::Live);
                }
            }
            'e' | 'k' => {
                if let Some(session) = world.living.pop_first() {
                    let life = if step.verb == 'k' { Life::Dismissed } else { Life::Ended("over".to_owned()) };
                    whip.handle_life(now, session, life);
                }
            }
            'v' if std::mem::take(&mut world.needs_relay) => whip.handle_relay(now),
            '+' => {
                self.now += step.pause();
                whip.handle_timeout(self.now);
                let due = whip.poll_timeout();
                assert!(due.is_none_or(|due| due > self.now), "what is due is done");
            }
            'c' => drop(whip.call(now)),
            'q' => whip.stop(now),
            _ => {}
        }
    }

    fn drain(&mut self) {
        for _ in 0..MOST_OUTPUTS {
            let Some(output) = self.whip.poll_output() else { return };
            let world = &mut self.world;
            match output {
                Output::Prepare => world.preparing = true,
                Output::Publish(session) => {
                    assert!(world.known.insert(session), "a session is made twice");
                    world.living.insert(session);
                    assert_eq!(world.living.len(), 1, "one publication at a time");
                    (world.question, world.begins) = (Some((session, true)), true);
                }
                Output::Accept { session, sdp } => {
                    assert!(sdp.starts_with("v=0"), "{sdp:?} is no answer");
                    world.question = Some((session, false));
                }
                Output::Leave(session) => assert!(world.living.remove(&session), "it was not there"),
                Output::Ask(request) => {
                    self.goes(&request);
                    assert!(self.world.request.replace(request).is_none(), "one request at a time");
                }
                Output::IceServers(servers) => {
                    assert!((1..=16).contains(&servers.len()));
                    world.needs_relay = true;
                }
            }
        }
        panic!("outputs without end");
    }

    /// The token goes with each request: never from TLS to none, and never with a login of the server's own.
    fn goes(&mut self, request: &Request) {
        let to = match request {
            Request::Offer { to, sdp } => {
                assert_eq!(sdp, OFFER);
                to
            }
            Request::End { at } => {
                self.world.ended += 1;
                assert!(self.world.ended <= self.world.named, "{at} was never named");
                at
            }
        };
        assert!(matches!(to.scheme(), "http" | "https") && to.has_host(), "{to}");
        assert!(to.username().is_empty() && to.password().is_none() && to.fragment().is_none(), "{to}");
        if std::mem::take(&mut self.world.begins) {
            assert_eq!(*to, self.endpoint, "each publication begins at the endpoint");
        } else {
            assert!(self.at.scheme() == "http" || to.scheme() == "https", "{to} after {}", self.at);
        }
        self.at = to.clone();
    }

    fn check(&self) {
        if let Standing::Away(why) = self.whip.standing() {
            assert_one_line(why);
            assert!(why.len() <= 1024, "{} bytes say why", why.len());
        }
        let world = &self.world;
        let is_idle =
            !world.preparing && world.question.is_none() && world.request.is_none() && world.living.is_empty();
        let waits = self.whip.poll_timeout().is_some() || *self.whip.standing() == Standing::Dismissed;
        assert!(waits || !is_idle || self.whip.is_over(), "it waits for nothing that will ever come");
    }

    /// Whatever came, it ends once the server answers no more.
    fn ends(mut self) {
        self.whip.stop(self.now);
        self.drain();
        for _ in 0..=8 {
            let Some(_) = self.world.request.take() else { break };
            self.whip.handle_response(self.now, Err("as the fuzzer wants".to_owned()));
            self.drain();
        }
        assert!(self.whip.is_over() && self.world.living.is_empty(), "something is left");
        assert!(self.whip.poll_timeout().is_none());
    }
}

/// Reads `STATUS NAME: VALUE|…||BODY`.
fn response(text: &str) -> Option<Response> {
    let (status, rest) = text.split_once(' ').unwrap_or((text, ""));
    let status = StatusCode::from_u16(status.parse().ok()?).ok()?;
    let (head, body) = rest.split_once("||").unwrap_or((rest, ""));
    let mut headers = HeaderMap::new();
    for line in head.split('|').filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::try_from(value.trim()).ok()?);
    }
    Some(Response { status, headers, body: body.replace('|', "\r\n").into_bytes() })
}
