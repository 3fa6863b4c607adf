//! WHIP, by which the daemon publishes to a server that takes the stream for many viewers (RFC 9725).
//!
//! Owns the life of one publication after another: the offer, redirections, the answer, the session, its end at the server. A pure core: it asks
//! the broadcast and the server by [`Output`]s, one question and one request at a time. It never trickles and never restarts ICE (PATCH): the
//! daemon's offer has all candidates in it, and what ended is published anew; so it has no use for an `ETag`. It never sees the token.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use url::Url;

use super::Life;
use super::client::Standing;
use super::client::backoff::Backoff;
use super::peers::Outcome;
use crate::id::SessionId;

pub mod link;
mod response;
#[cfg(test)]
mod tests;

pub use response::Response;

use link::OfferedServer;
use response::Said;

/// What [`Standing::SignedIn`] says once the server has the stream.
pub const PUBLISHING: &str = "publishing";
/// Redirections of one publication that are followed.
const MOST_REDIRECTIONS: u32 = 5;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The broadcast is asked for an offer; what it says comes back by [`Whip::handle_outcome`], how the session goes by [`Whip::handle_life`].
    Publish(SessionId),
    /// The broadcast is given the server's answer; what it says comes back by [`Whip::handle_outcome`].
    Accept {
        /// The session.
        session: SessionId,
        /// The answer.
        sdp: String,
    },
    /// The broadcast is told that the session is not wanted any more.
    Leave(SessionId),
    /// The server is asked something; what it says comes back by [`Whip::handle_response`].
    Ask(Request),
    /// The server names STUN and TURN servers for this publication.
    IceServers(Vec<OfferedServer>),
}

/// What a server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// POST: to take the stream.
    Offer {
        /// Where: the endpoint, or where it has sent the daemon.
        to: Url,
        /// The offer.
        sdp: String,
        /// Whether it begins a publication.
        first: bool,
    },
    /// DELETE: to end a session.
    End {
        /// The session's URL.
        at: Url,
    },
}

enum State {
    /// Nothing is published until then.
    Waiting(Instant),
    /// The broadcast makes an offer.
    Offering(SessionId),
    /// The server has it.
    Posting {
        session: SessionId,
        at: Url,
        sdp: String,
        redirections: u32,
        /// Why the session is over already, where it is.
        over: Option<String>,
    },
    /// The broadcast looks at the server's answer, or connects.
    Connecting(SessionId, Option<Url>),
    /// The server has the stream.
    Published(SessionId, Option<Url>),
    /// The server is told that it is over; the next publication begins then.
    Ending(Instant),
    /// Nothing will be done any more.
    Over,
}

/// The daemon at one server.
pub struct Whip {
    endpoint: Url,
    state: State,
    stopping: bool,
    standing: Standing,
    backoff: Backoff,
    sessions: Box<dyn FnMut() -> SessionId + Send>,
    random: Box<dyn FnMut() -> u32 + Send>,
    outputs: VecDeque<Output>,
}

impl Whip {
    /// Publishes at `endpoint` from `now` on; `sessions` draws fresh ids, `random` the jitter of pauses.
    pub fn new(
        now: Instant,
        endpoint: Url,
        sessions: impl FnMut() -> SessionId + Send + 'static,
        random: impl FnMut() -> u32 + Send + 'static,
    ) -> Self {
        Self {
            endpoint,
            state: State::Waiting(now),
            stopping: false,
            standing: Standing::Connecting,
            backoff: Backoff::default(),
            sessions: Box::new(sessions),
            random: Box::new(random),
            outputs: VecDeque::new(),
        }
    }

    /// How the daemon stands with the server; it stays the same while the same failure repeats itself.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether all is done after [`Whip::stop`].
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Waiting(until) = self.state
            && now >= until
        {
            let session = (self.sessions)();
            self.state = State::Offering(session);
            self.outputs.push_back(Output::Publish(session));
        }
    }

    /// When [`Whip::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(until) => Some(until),
            _ => None,
        }
    }

    /// Takes the broadcast's word on a session.
    pub fn handle_outcome(&mut self, now: Instant, of: SessionId, outcome: Outcome) {
        match (&self.state, outcome) {
            (State::Offering(session), Outcome::Described(sdp)) if *session == of => {
                self.post(of, self.endpoint.clone(), sdp, 0);
            }
            (State::Offering(session) | State::Connecting(session, _), Outcome::Refused(refusal)) if *session == of => {
                // The session is over by the refusal.
                self.lose(now, refusal.to_string(), Duration::ZERO);
            }
            (State::Offering(session) | State::Connecting(session, _), Outcome::Unanswered) if *session == of => {
                self.outputs.push_back(Output::Leave(of));
                self.lose(now, "the broadcast has too much to do and did not answer".to_owned(), Duration::ZERO);
            }
            // Once the answer is taken, the session says how it goes; and late words are about what was given up.
            _ => {}
        }
    }

    /// Takes word of how a session goes.
    pub fn handle_life(&mut self, now: Instant, of: SessionId, life: Life) {
        match (&mut self.state, life) {
            (State::Connecting(session, resource), Life::Live) if *session == of => {
                self.state = State::Published(of, resource.take());
                self.backoff.handle_signed_in(now);
                self.standing = Standing::SignedIn(PUBLISHING.to_owned());
            }
            // The request can't be taken back: its answer says what to end.
            (State::Posting { session, over, .. }, Life::Ended(why)) if *session == of => *over = Some(why),
            (
                State::Offering(session) | State::Connecting(session, _) | State::Published(session, _),
                Life::Ended(why),
            ) if *session == of => self.lose(now, why, Duration::ZERO),
            _ => {}
        }
    }

    /// Takes the server's response, or why there is none.
    pub fn handle_response(&mut self, now: Instant, response: Result<Response, String>) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Ending(until) => self.rest(until),
            State::Posting { session, at, sdp, redirections, over } => {
                let said = match response {
                    Ok(response) => response.read(&at),
                    Err(why) => Said::Refused { why, retry_after: Duration::ZERO },
                };
                self.handle_answer(now, session, said, (sdp, redirections), over);
            }
            // Nothing was asked.
            other => self.state = other,
        }
    }

    fn handle_answer(
        &mut self,
        now: Instant,
        session: SessionId,
        said: Said,
        (sdp, redirections): (String, u32),
        over: Option<String>,
    ) {
        let given_up = self.stopping || over.is_some();
        match said {
            Said::Answer { sdp, resource, servers } if !given_up => {
                if !servers.is_empty() {
                    self.outputs.push_back(Output::IceServers(servers));
                }
                self.state = State::Connecting(session, resource);
                self.outputs.push_back(Output::Accept { session, sdp });
            }
            Said::Answer { resource, .. } => {
                self.state = State::Connecting(session, resource);
                self.lose(now, over.unwrap_or_default(), Duration::ZERO);
            }
            Said::Elsewhere(to) if !given_up && redirections < MOST_REDIRECTIONS => {
                self.post(session, to, sdp, redirections + 1);
            }
            said => {
                let (why, retry_after) = match said {
                    Said::Refused { why, retry_after } => (why, retry_after),
                    _ => (format!("the server redirects more than {MOST_REDIRECTIONS} times"), Duration::ZERO),
                };
                if over.is_none() {
                    self.outputs.push_back(Output::Leave(session));
                }
                self.lose(now, over.unwrap_or(why), retry_after);
            }
        }
    }

    /// Ends what there is; [`Whip::is_over`] once that is done.
    pub fn stop(&mut self, now: Instant) {
        self.stopping = true;
        let session = match &self.state {
            State::Waiting(_) | State::Ending(_) | State::Over => None,
            State::Offering(session) | State::Connecting(session, _) | State::Published(session, _) => Some(*session),
            State::Posting { session, over, .. } => Some(*session).filter(|_| over.is_none()),
        };
        if let Some(session) = session {
            self.outputs.push_back(Output::Leave(session));
        }
        match &mut self.state {
            State::Ending(_) | State::Over => {}
            // What the server answers may have to be ended.
            State::Posting { over, .. } => *over = Some(String::new()),
            State::Waiting(_) | State::Offering(_) | State::Connecting(..) | State::Published(..) => self.end(now),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn post(&mut self, session: SessionId, to: Url, sdp: String, redirections: u32) {
        let request = Request::Offer { to: to.clone(), sdp: sdp.clone(), first: redirections == 0 };
        self.state = State::Posting { session, at: to, sdp, redirections, over: None };
        self.outputs.push_back(Output::Ask(request));
    }

    /// The stream is not, or no more, at the server: what is left there is ended, and after a pause it is tried again.
    fn lose(&mut self, now: Instant, why: String, at_least: Duration) {
        if !self.stopping {
            self.standing = Standing::Away(why);
        }
        let pause = self.backoff.handle_lost(now, (self.random)());
        self.end(now + pause.max(at_least));
    }

    /// Ends what the server still has, and goes on after `until`.
    fn end(&mut self, until: Instant) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Connecting(_, Some(at)) | State::Published(_, Some(at)) => {
                self.state = State::Ending(until);
                self.outputs.push_back(Output::Ask(Request::End { at }));
            }
            _ => self.rest(until),
        }
    }

    fn rest(&mut self, until: Instant) {
        self.state = if self.stopping { State::Over } else { State::Waiting(until) };
    }
}
