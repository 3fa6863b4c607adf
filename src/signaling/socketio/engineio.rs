//! One connection of Engine.IO 3 or 4 over a WebSocket: its handshake, its heartbeats, and the main namespace of Socket.IO in it.
//!
//! Which version a server speaks shows at the handshake. Version 4 is asked for first; a server of version 3 that doesn't look at the question joins the
//! socket unasked, and is understood. One that refuses, or ends the connection before the socket is joined, is asked for the other version next time.
//! The server's silence is not borne for longer than it has announced.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;

use super::packet::{self, Handshake, Malformed, Packet};
use crate::signaling::client::frames::Breach;

/// Where servers listen that say nothing else.
const PATH: &str = "/socket.io/";
/// How long the handshake may take, and joining after it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server that may be of version 3 has to join the socket unasked.
const UNASKED_WITHIN: Duration = Duration::from_secs(1);
/// The most bytes of a frame that is sent where the server names no bound: socket.io's own.
const MOST_BYTES: usize = 1_000_000;
/// How servers refuse a version that they don't speak (HTTP).
const BAD_REQUEST: u16 = 400;

/// A version of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The server joins the socket unasked, the client sends the heartbeats.
    Three,
    /// The client asks to be joined, the server sends the heartbeats.
    Four,
}

impl Version {
    fn other(self) -> Self {
        match self {
            Self::Three => Self::Four,
            Self::Four => Self::Three,
        }
    }

    fn number(self) -> &'static str {
        match self {
            Self::Three => "3",
            Self::Four => "4",
        }
    }
}

/// What a frame was.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Nothing that concerns anybody else.
    Nothing,
    /// The socket is joined, and has this id.
    Joined(String),
    /// An event.
    Event {
        /// Its name.
        name: String,
        /// What comes with it.
        arguments: Vec<Value>,
    },
    /// Nothing that can be read; the connection is none the worse for it.
    Malformed(Malformed),
}

/// The connection to one server, and what is remembered from one to the next.
#[derive(Debug)]
pub struct EngineIo {
    asks_for: Version,
    state: State,
    frames: VecDeque<String>,
}

#[derive(Debug)]
enum State {
    /// There is no connection.
    Closed,
    /// The handshake is awaited.
    Opening {
        /// Until then.
        until: Instant,
    },
    /// The socket is about to be joined.
    Joining {
        handshake: Handshake,
        /// When that is asked for; not again, and never of version 3.
        ask_at: Option<Instant>,
        until: Instant,
    },
    /// Events may come and go.
    Joined {
        handshake: Handshake,
        /// When the server was heard last.
        heard: Instant,
        /// When the next heartbeat of ours is due, in version 3.
        beat_at: Option<Instant>,
    },
}

impl EngineIo {
    /// A server that nothing is known of.
    pub fn new() -> Self {
        Self { asks_for: Version::Four, state: State::Closed, frames: VecDeque::new() }
    }

    /// The URL of the next WebSocket, made from the server's.
    pub fn address(&self, url: &Url) -> Url {
        let mut request = url.clone();
        let scheme = match url.scheme() {
            "https" | "wss" => "wss",
            _ => "ws",
        };
        // Each of these may become each other one.
        let _ = request.set_scheme(scheme);
        if matches!(url.path(), "" | "/") {
            request.set_path(PATH);
        }
        let ours = |name: &str| matches!(name, "EIO" | "transport" | "sid");
        let kept: Vec<_> = url.query_pairs().filter(|(name, _)| !ours(name)).collect();
        request
            .query_pairs_mut()
            .clear()
            .extend_pairs(kept)
            .extend_pairs([("EIO", self.asks_for.number()), ("transport", "websocket")]);
        request
    }

    /// Notes that the server answered the request for a WebSocket with this status instead.
    pub fn handle_refused(&mut self, status: u16) {
        if status == BAD_REQUEST {
            self.ask_for_the_other();
        }
    }

    /// Notes that a connection stands.
    pub fn handle_open(&mut self, now: Instant) {
        self.frames.clear();
        self.state = State::Opening { until: now + PATIENCE };
    }

    /// Notes that the connection is gone.
    pub fn handle_closed(&mut self) {
        if matches!(self.state, State::Opening { .. } | State::Joining { .. }) {
            self.ask_for_the_other();
        }
        self.frames.clear();
        self.state = State::Closed;
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// Where the server ends the connection, refuses the socket, or opens with something else than a handshake.
    pub fn handle_frame(&mut self, now: Instant, frame: &str) -> Result<Heard, Breach> {
        if let State::Joined { heard, .. } = &mut self.state {
            *heard = now;
        }
        let packet = match (Packet::parse(frame), &self.state) {
            (Ok(packet), _) => packet,
            (Err(why), State::Joined { .. }) => return Ok(Heard::Malformed(why)),
            (Err(why), _) => return Err(breach(format!("{why}, before the socket is joined"))),
        };
        match packet {
            Packet::Open(handshake) => self.opened(now, handshake)?,
            Packet::Close => return Err(breach("the server closes the connection (Engine.IO)")),
            Packet::Ping(probe) => self.frames.push_back(format!("3{probe}")),
            Packet::Pong | Packet::Other => {}
            Packet::Joined(sid) => return self.joined(now, sid),
            Packet::Left => return Err(breach("the server closes the connection (Socket.IO)")),
            Packet::Refused(why) => return Err(breach(format!("the server refuses the connection: {why}"))),
            Packet::Event { name, arguments, ack } => {
                self.frames.extend(ack.map(packet::acknowledgement));
                return Ok(Heard::Event { name, arguments });
            }
        }
        Ok(Heard::Nothing)
    }

    /// Sends an event, where the socket is joined and the server takes so much.
    pub fn send(&mut self, name: &str, arguments: &[Value]) {
        let State::Joined { handshake, .. } = &self.state else { return };
        let most = handshake.most_bytes.unwrap_or(MOST_BYTES).min(MOST_BYTES);
        let frame = packet::event(name, arguments);
        if frame.len() > most {
            tracing::warn!(
                event = name,
                bytes = frame.len(),
                most,
                "the server takes no event of this size: it is not sent"
            );
            return;
        }
        self.frames.push_back(frame);
    }

    /// Leaves the namespace, where the socket is joined.
    pub fn leave(&mut self) {
        if matches!(self.state, State::Joined { .. }) {
            self.frames.push_back("41".to_owned());
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// Where the server has been silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Breach> {
        match &mut self.state {
            State::Closed => {}
            State::Opening { until } if *until <= now => {
                return Err(breach(format!("no handshake of Engine.IO within {PATIENCE:?}")));
            }
            State::Opening { .. } => {}
            State::Joining { until, .. } if *until <= now => {
                return Err(breach(format!("the socket was not joined within {PATIENCE:?}")));
            }
            State::Joining { ask_at, .. } => {
                if ask_at.take_if(|at| *at <= now).is_some() {
                    self.frames.push_back("40".to_owned());
                }
            }
            State::Joined { handshake, heard, .. } if *heard + handshake.silence() <= now => {
                return Err(breach(format!("the server was silent for {:?}", handshake.silence())));
            }
            State::Joined { handshake, beat_at, .. } => {
                if let Some(at) = beat_at.as_mut().filter(|at| **at <= now) {
                    *at = now + handshake.interval;
                    self.frames.push_back("2".to_owned());
                }
            }
        }
        Ok(())
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Closed => None,
            State::Opening { until } => Some(*until),
            State::Joining { ask_at, until, .. } => Some(ask_at.map_or(*until, |at| at.min(*until))),
            State::Joined { handshake, heard, beat_at } => {
                let silent = *heard + handshake.silence();
                Some(beat_at.map_or(silent, |at| at.min(silent)))
            }
        }
    }

    /// The next frame for the server.
    pub fn poll_frame(&mut self) -> Option<String> {
        self.frames.pop_front()
    }

    fn opened(&mut self, now: Instant, handshake: Handshake) -> Result<(), Breach> {
        if !matches!(self.state, State::Opening { .. }) {
            return Err(breach("a second handshake of Engine.IO"));
        }
        // To be asked makes a server of version 3 join the socket a second time.
        let ask_at = match (self.asks_for, handshake.most_bytes) {
            (Version::Four, Some(_)) => {
                self.frames.push_back("40".to_owned());
                None
            }
            (Version::Four, None) => Some(now + UNASKED_WITHIN),
            (Version::Three, _) => None,
        };
        self.state = State::Joining { handshake, ask_at, until: now + PATIENCE };
        Ok(())
    }

    /// Notes that the socket is joined: only version 4 gives it an id of its own.
    fn joined(&mut self, now: Instant, sid: Option<String>) -> Result<Heard, Breach> {
        let handshake = match &self.state {
            State::Joining { handshake, .. } => handshake.clone(),
            // Once more, by whatever reason.
            State::Joined { .. } => return Ok(Heard::Nothing),
            State::Closed | State::Opening { .. } => {
                return Err(breach("no handshake of Engine.IO before the first packet"));
            }
        };
        let beat_at = sid.is_none().then(|| now + handshake.interval);
        let id = sid.unwrap_or_else(|| handshake.sid.clone());
        tracing::debug!(version = if beat_at.is_some() { 3 } else { 4 }, "the server's Engine.IO");
        self.state = State::Joined { handshake, heard: now, beat_at };
        Ok(Heard::Joined(id))
    }

    fn ask_for_the_other(&mut self) {
        self.asks_for = self.asks_for.other();
        tracing::debug!(
            version = self.asks_for.number(),
            "the server is asked for another version of Engine.IO next time"
        );
    }
}

impl Default for EngineIo {
    fn default() -> Self {
        Self::new()
    }
}

impl Handshake {
    /// How long the server may be silent.
    fn silence(&self) -> Duration {
        self.interval + self.timeout
    }
}

fn breach(why: impl Into<String>) -> Breach {
    Breach(why.into())
}
