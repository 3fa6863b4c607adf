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
use super::peers::{CallError, Outcome};
use crate::id::SessionId;

pub mod link;
mod response;
#[cfg(test)]
mod tests;

pub use response::Response;

use link::OfferedServer;
use response::Said;

/// Redirections of one publication that are followed.
const MOST_REDIRECTIONS: u32 = 5;
/// So long after its answer a publication that has not connected needs one of the relays that the server names.
const DIRECT_PATIENCE: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The token is read, so that nothing is published in vain; what came of it comes back by [`Whip::handle_prepared`].
    Prepare,
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
    /// The server named these STUN and TURN servers, and one is needed; that a relay has come up comes back by [`Whip::handle_relay`].
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
    /// The token is being read.
    Preparing,
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
    /// Nothing is published until the operator calls.
    Dismissed,
    /// Nothing will be done any more.
    Over,
}

/// What follows once a publication is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Another.
    Another,
    /// None, until the operator calls.
    Call,
    /// None.
    Stop,
}

/// The daemon at one server.
pub struct Whip {
    endpoint: Url,
    state: State,
    then: Then,
    /// The servers that the present answer names, and when they are used unless it has connected.
    named: Option<(Instant, Vec<OfferedServer>)>,
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
            then: Then::Another,
            named: None,
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
            self.state = State::Preparing;
            self.outputs.push_back(Output::Prepare);
        }
        if matches!(self.state, State::Connecting(..))
            && let Some((_, servers)) = self.named.take_if(|(turn, _)| now >= *turn)
        {
            self.outputs.push_back(Output::IceServers(servers));
        }
    }

    /// Takes word that a relay has come up which the server has named. The next offer tells of it: what has not connected without it is published anew.
    pub fn handle_relay(&mut self, now: Instant) {
        if let State::Connecting(session, _) = self.state {
            self.outputs.push_back(Output::Leave(session));
            self.end(now);
        }
    }

    /// Takes word of what the next publication needs: it is there, or why it is not.
    pub fn handle_prepared(&mut self, now: Instant, prepared: Result<(), String>) {
        match (&self.state, prepared) {
            (State::Preparing, Ok(())) => {
                let session = (self.sessions)();
                self.state = State::Offering(session);
                self.outputs.push_back(Output::Publish(session));
            }
            (State::Preparing, Err(why)) => self.lose(now, why, Duration::ZERO),
            // It was given up meanwhile.
            _ => {}
        }
    }

    /// The session of the present publication.
    pub fn session(&self) -> Option<SessionId> {
        match &self.state {
            State::Offering(session)
            | State::Posting { session, .. }
            | State::Connecting(session, _)
            | State::Published(session, _) => Some(*session),
            State::Waiting(_) | State::Preparing | State::Ending(_) | State::Dismissed | State::Over => None,
        }
    }

    /// Publishes at once, by the operator's word.
    ///
    /// # Errors
    /// Where that is done already, or the daemon is ending.
    pub fn call(&mut self, now: Instant) -> Result<(), CallError> {
        if self.then == Then::Stop {
            return Err(CallError::Unknown);
        }
        let is_over = matches!(&self.state, State::Posting { over: Some(_), .. });
        match &mut self.state {
            State::Waiting(until) | State::Ending(until) => *until = now,
            State::Dismissed => self.state = State::Waiting(now),
            // What is left of the last is ended first.
            State::Posting { .. } if is_over => {}
            _ => return Err(CallError::Published),
        }
        if std::mem::replace(&mut self.then, Then::Another) == Then::Call {
            self.standing = Standing::Connecting;
        }
        Ok(())
    }

    /// When [`Whip::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(until) => Some(until),
            State::Connecting(..) => self.named.as_ref().map(|(turn, _)| *turn),
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
                self.standing = Standing::Publishing;
            }
            (_, Life::Dismissed) => self.dismiss(now, of),
            // The request can't be taken back: its answer says what to end.
            (State::Posting { session, over, .. }, Life::Ended(why)) if *session == of => *over = Some(why),
            (
                State::Offering(session) | State::Connecting(session, _) | State::Published(session, _),
                Life::Ended(why),
            ) if *session == of => self.lose(now, why, Duration::ZERO),
            _ => {}
        }
    }

    fn dismiss(&mut self, now: Instant, of: SessionId) {
        if self.then == Then::Stop || self.session().is_some_and(|session| session != of) {
            return;
        }
        (self.then, self.standing) = (Then::Call, Standing::Dismissed);
        match &mut self.state {
            // The request can't be taken back: its answer says what to end.
            State::Posting { over, .. } => *over = Some("ended by the operator".to_owned()),
            // It may have been given up before this is heard.
            State::Ending(_) | State::Dismissed | State::Over => {}
            _ => self.end(now),
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
        let given_up = self.then != Then::Another || over.is_some();
        match said {
            Said::Answer { sdp, resource, servers } if !given_up => {
                self.state = State::Connecting(session, resource);
                self.named = Some((now + DIRECT_PATIENCE, servers)).filter(|(_, servers)| !servers.is_empty());
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
                let (why, retry_after, resource) = match said {
                    Said::Refused { why, retry_after } => (why, retry_after, None),
                    Said::Unusable { why, resource } => (why, Duration::ZERO, resource),
                    _ => (format!("the server redirects more than {MOST_REDIRECTIONS} times"), Duration::ZERO, None),
                };
                if over.is_none() {
                    self.outputs.push_back(Output::Leave(session));
                }
                self.state = State::Connecting(session, resource);
                self.lose(now, over.unwrap_or(why), retry_after);
            }
        }
    }

    /// Ends what there is; [`Whip::is_over`] once that is done.
    pub fn stop(&mut self, now: Instant) {
        self.then = Then::Stop;
        let is_over = matches!(&self.state, State::Posting { over: Some(_), .. });
        self.outputs.extend(self.session().filter(|_| !is_over).map(Output::Leave));
        match &mut self.state {
            State::Ending(_) | State::Over => {}
            // What the server answers may have to be ended.
            State::Posting { over, .. } => *over = Some(String::new()),
            _ => self.end(now),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn post(&mut self, session: SessionId, to: Url, sdp: String, redirections: u32) {
        let request = Request::Offer { to: to.clone(), sdp: sdp.clone() };
        self.state = State::Posting { session, at: to, sdp, redirections, over: None };
        self.outputs.push_back(Output::Ask(request));
    }

    /// The stream is not, or no more, at the server: what is left there is ended, and after a pause it is tried again.
    fn lose(&mut self, now: Instant, why: String, at_least: Duration) {
        if self.then == Then::Another {
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
        self.state = match self.then {
            Then::Another => State::Waiting(until),
            Then::Call => State::Dismissed,
            Then::Stop => State::Over,
        };
    }
}
