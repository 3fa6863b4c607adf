//! Protocols that are text frames over a WebSocket: what their cores do, and the shell that all of them share.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout, timeout_at};
use url::Url;

use super::backoff::Backoff;
use super::websocket::{Address, ConnectError, Lost, Patience, WebSocket};
use super::{ClientConfig, MOST_SIGNING_OUT, Operation, ServerState, Standing};
use crate::id::{PeerId, random_bytes};
use crate::signaling::Caller;
use crate::signaling::peers::{self, AskId, Counts, Outcome, Peers};
use crate::signaling::server::complaint::Noted;
use crate::signaling::words::Word;

#[cfg(test)]
mod tests;

/// How long a server may take to sign the daemon in once it is connected.
const SIGNING_IN: Duration = Duration::from_secs(10);

/// What a protocol's core wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The server gets a text frame.
    Frame(String),
    /// The daemon is signed in, under this name.
    SignedIn(String),
    /// Something for the broadcast: a question, a candidate, a goodbye. Words for peers have become frames.
    Broadcast(peers::Output),
}

/// Why a server's frames can't be gone on with: the connection is closed and made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Breach(pub String);

/// The daemon's side of a protocol at one server: a pure core, the same over all connections to that server.
pub trait FrameProtocol: Send {
    /// The subprotocol that is asked for (RFC 6455, section 1.9).
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    /// Whether frames of bytes are taken as text, for relays that don't know one from the other.
    fn takes_bytes(&self) -> bool {
        true
    }

    /// Where its WebSocket is at the server of this URL; asked before each connection.
    fn address(&self, url: &Url) -> Url {
        url.clone()
    }

    /// The server answers the request for a WebSocket with this status (HTTP) instead.
    fn handle_refused(&mut self, _status: u16) {}

    /// A connection stands.
    fn handle_open(&mut self, now: Instant);

    /// Takes a text frame.
    ///
    /// # Errors
    /// Where the server breaks its protocol so that nothing can be made of what follows.
    fn handle_frame(&mut self, now: Instant, frame: &str) -> Result<(), Breach>;

    /// The connection is gone: who was there is not known any more, what is connected goes on.
    fn handle_closed(&mut self, now: Instant);

    /// Says goodbye to the server, where the protocol has a word for it; the connection is closed after what it puts out.
    fn sign_out(&mut self);

    /// Does what is due.
    ///
    /// # Errors
    /// Where the server has been silent for too long.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Breach>;

    /// When [`FrameProtocol::handle_timeout`] is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Signs in under another name from the next connection on.
    fn rename(&mut self, name: &str);

    /// What the protocol itself wants next.
    fn poll_own(&mut self) -> Option<Output>;

    /// Says a word to a peer, where the protocol has one for it: [`FrameProtocol::poll_own`] has it then.
    fn say(&mut self, to: PeerId, word: &Word);

    /// What is to be done next.
    fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(own) = self.poll_own() {
                return Some(own);
            }
            match self.peers_mut().poll_output()? {
                peers::Output::Say { to, word } => self.say(to, &word),
                // What was sent can't be taken back.
                peers::Output::Withdraw { .. } => {}
                output => return Some(Output::Broadcast(output)),
            }
        }
    }

    /// The talks with those who are there.
    fn peers(&self) -> &Peers;

    /// The same, to be told outcomes and calls; [`FrameProtocol::poll_output`] has what follows.
    fn peers_mut(&mut self) -> &mut Peers;
}

/// Runs a protocol over a WebSocket until `stop` says so.
pub(super) async fn run(
    config: ClientConfig,
    protocol: impl FrameProtocol,
    operations: mpsc::Receiver<Operation>,
    stop: watch::Receiver<bool>,
) {
    Shell::new(config, protocol, Patience::default(), SIGNING_IN).run(operations, stop).await;
}

/// A protocol's core, and its way to the server.
struct Shell<P> {
    config: ClientConfig,
    label: Arc<str>,
    protocol: P,
    line: Line,
    standing: Standing,
    backoff: Backoff,
    outcomes: JoinSet<(AskId, Outcome)>,
    useless: Noted,
    patience: Patience,
    signing_in: Duration,
}

/// The connection to the server.
enum Line {
    /// It is made anew then.
    Pausing(Instant),
    /// It is being made.
    Connecting(Pin<Box<dyn Future<Output = Result<WebSocket, ConnectError>> + Send>>),
    /// It stands.
    Open {
        socket: Box<WebSocket>,
        /// When the daemon has to be signed in, where it is not yet.
        sign_in_by: Option<Instant>,
    },
}

/// What has come of it.
enum Event {
    /// It is time to connect.
    Due,
    Connected(Box<WebSocket>),
    Frame(String),
    NotConnected(ConnectError),
    Lost(Lost),
    NotSignedIn,
}

impl Line {
    /// What comes next; dropped before it is there, nothing is lost.
    async fn next(&mut self) -> Event {
        match self {
            Self::Pausing(until) => {
                sleep_until((*until).into()).await;
                Event::Due
            }
            Self::Connecting(connected) => match connected.await {
                Ok(socket) => Event::Connected(Box::new(socket)),
                Err(error) => Event::NotConnected(error),
            },
            Self::Open { socket, sign_in_by } => {
                let message = match sign_in_by {
                    Some(by) => timeout_at((*by).into(), socket.next()).await,
                    None => Ok(socket.next().await),
                };
                match message {
                    Ok(Ok(frame)) => Event::Frame(frame),
                    Ok(Err(lost)) => Event::Lost(lost),
                    Err(_) => Event::NotSignedIn,
                }
            }
        }
    }
}

impl<P: FrameProtocol> Shell<P> {
    fn new(config: ClientConfig, protocol: P, patience: Patience, signing_in: Duration) -> Self {
        Self {
            label: config.url.label(),
            config,
            protocol,
            line: Line::Pausing(Instant::now()),
            standing: Standing::Connecting,
            backoff: Backoff::default(),
            outcomes: JoinSet::new(),
            useless: Noted::default(),
            patience,
            signing_in,
        }
    }

    async fn run(mut self, mut operations: mpsc::Receiver<Operation>, mut stop: watch::Receiver<bool>) {
        loop {
            let due = self.protocol.poll_timeout();
            let later = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            // Whoever could say it and is gone has said it.
            let stopped = async { drop(stop.wait_for(|is_stopped| *is_stopped).await) };
            tokio::select! {
                () = stopped => break,
                event = self.line.next() => self.handle_event(event),
                Some(operation) = operations.recv() => self.handle_operation(operation),
                Some(outcome) = self.outcomes.join_next() => match outcome {
                    Ok((ask, outcome)) => self.protocol.peers_mut().handle_outcome(ask, outcome),
                    Err(error) => tracing::error!(%error, "a question to the broadcast has failed"),
                },
                () = later => {
                    if let Err(breach) = self.protocol.handle_timeout(Instant::now()) {
                        self.lose(&breach);
                    }
                }
            }
            self.settle();
        }
        self.protocol.sign_out();
        self.settle();
        if let Line::Open { socket, .. } = self.line {
            let closed = timeout(MOST_SIGNING_OUT, socket.close()).await;
            tracing::info!(server = %self.label, in_order = closed.is_ok(), "signed out");
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Due => {
                let address = Address {
                    url: self.protocol.address(&self.config.url.url),
                    subprotocol: self.protocol.subprotocol(),
                    takes_bytes: self.protocol.takes_bytes(),
                    token_file: self.config.url.token_file.clone(),
                    ca_file: self.config.url.ca_file.clone(),
                };
                self.line = Line::Connecting(Box::pin(WebSocket::connect(address, self.patience)));
            }
            Event::Connected(socket) => {
                tracing::debug!(server = %self.label, "connected");
                self.line = Line::Open { socket, sign_in_by: Some(now + self.signing_in) };
                self.protocol.handle_open(now);
            }
            Event::Frame(frame) => {
                if let Err(breach) = self.protocol.handle_frame(now, &frame) {
                    self.lose(&breach);
                }
            }
            Event::NotConnected(error) => {
                if let ConnectError::Refused { status, .. } = &error {
                    self.protocol.handle_refused(*status);
                }
                self.lose(&error);
            }
            Event::Lost(lost) => self.lose(&lost),
            Event::NotSignedIn => {
                self.lose(&Breach(format!("connected, but not signed in within {:?}", self.signing_in)))
            }
        }
    }

    fn handle_operation(&mut self, operation: Operation) {
        // Whoever asked and is gone needs no reply.
        match operation {
            Operation::Look(reply) => {
                let peers = self.protocol.peers().states().collect();
                let state = ServerState { label: self.label.to_string(), standing: self.standing.clone(), peers };
                let _ = reply.send(state);
            }
            Operation::Call(peer, reply) => {
                let _ = reply.send(self.protocol.peers_mut().call(peer, Instant::now()));
            }
            Operation::Terms(name, call) => {
                self.config.call = call;
                let call = self.config.call();
                self.protocol.peers_mut().set_call(call, Instant::now());
                if name != self.config.name {
                    self.protocol.rename(&name);
                    self.config.name = name;
                    self.connect_anew();
                }
            }
        }
    }

    /// Says goodbye and connects again at once.
    fn connect_anew(&mut self) {
        self.protocol.sign_out();
        self.settle();
        let now = Instant::now();
        if let Line::Open { socket, .. } = std::mem::replace(&mut self.line, Line::Pausing(now)) {
            self.protocol.handle_closed(now);
            // The server hears it when it can; what is new does not wait for that.
            drop(tokio::spawn(timeout(MOST_SIGNING_OUT, socket.close())));
        }
    }

    /// Gives the connection up, and draws when it is made anew.
    fn lose(&mut self, why: &dyn std::error::Error) {
        let now = Instant::now();
        if matches!(self.line, Line::Open { .. }) {
            self.protocol.handle_closed(now);
        }
        let pause = self.backoff.handle_lost(now, u32::from_ne_bytes(random_bytes()));
        self.line = Line::Pausing(now + pause);
        match &self.standing {
            Standing::Away(_) => {
                tracing::debug!(server = %self.label, %why, ?pause, "signaling server is still away")
            }
            _ => {
                tracing::warn!(server = %self.label, %why, "signaling server is away; it is tried again until it is back")
            }
        }
        self.stand(Standing::Away(why.to_string()));
    }

    fn stand(&mut self, standing: Standing) {
        standing.tell(&self.label, &self.standing, &self.config.events);
        self.standing = standing;
    }

    /// Carries what the core puts out to where it belongs until there is nothing.
    fn settle(&mut self) {
        while let Some(output) = self.protocol.poll_output() {
            match output {
                Output::Frame(frame) => {
                    let Line::Open { socket, .. } = &mut self.line else {
                        tracing::debug!(server = %self.label, "a frame is dropped: there is no connection");
                        continue;
                    };
                    if let Err(lost) = socket.send(frame) {
                        self.lose(&lost);
                    }
                }
                Output::SignedIn(name) => self.signed_in(name),
                Output::Broadcast(output) => self.carry(output),
            }
        }
        let peers = self.protocol.peers();
        let counts = peers.counts();
        if let Some(useless) = self.useless.grown(counts.total(), Instant::now()) {
            let peer = peers.last_useless().map(tracing::field::display);
            let Counts { not_json, unknown, unexpected, candidates_lost } = counts;
            tracing::warn!(
                server = %self.label, useless, peer, not_json, unknown, unexpected, candidates_lost,
                "messages of peers are of no use"
            );
        }
    }

    fn signed_in(&mut self, name: String) {
        let Line::Open { sign_in_by, .. } = &mut self.line else { return };
        *sign_in_by = None;
        let standing = Standing::SignedIn(name);
        if self.standing == standing {
            return;
        }
        if let Standing::SignedIn(name) = &standing {
            tracing::info!(server = %self.label, name, "signed in");
        }
        self.stand(standing);
        self.backoff.handle_signed_in(Instant::now());
    }

    fn carry(&mut self, output: peers::Output) {
        use peers::Output;
        let asker = &self.config.asker;
        match output {
            Output::Ask(ask, peer, question) => {
                let caller = Caller::new(&self.label, self.protocol.peers().name(peer));
                match asker.ask(question, caller) {
                    Some(outcome) => drop(self.outcomes.spawn(async move { (ask, outcome.await) })),
                    None => self.protocol.peers_mut().handle_outcome(ask, Outcome::Unanswered),
                }
            }
            Output::Trickle(session, trickle) => asker.trickle(session, trickle),
            Output::Leave(session) => asker.leave(session),
            Output::Say { to, .. } => tracing::error!(peer = %to, "a protocol left a word for a peer unsaid"),
            // What was sent can't be taken back.
            Output::Withdraw { .. } => {}
        }
    }
}
