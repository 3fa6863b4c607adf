//! The room's shell: its members' hanging waits, the daemon's side of their messages, and the clock of both.
//!
//! Holds the two cores ([`Room`], [`Peers`]) under one lock, carries what one puts out to the other, and asks the broadcast.
//! It decides nothing.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hyper::body::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::complaint::Noted;
use super::{Reply, ServerTerms};
use crate::id::{PeerId, SessionId};
use crate::signaling::access::PassId;
use crate::signaling::ask::Asker;
use crate::signaling::client::{Operation, ServerState, Standing};
use crate::signaling::peerconnection::message;
use crate::signaling::peers::{AskId, CallPolicy, Outcome, Peers};
use crate::signaling::room::wire;
use crate::signaling::room::{Leaving, Message, Room, RoomPolicy, WaitEnd, WaitToken};
use crate::signaling::{Caller, SignalIn, peers, room};

/// How the room is set up.
#[derive(Debug, Clone)]
pub struct RoomConfig {
    /// The name under which the daemon is in it.
    pub name: String,
    /// Who sees whom.
    pub policy: RoomPolicy,
    /// Whom the daemon calls.
    pub call: CallPolicy,
}

/// The room and the daemon in it.
pub(super) struct RoomService {
    policy: RoomPolicy,
    state: Mutex<State>,
    asker: Asker,
    label: Arc<str>,
    terms: watch::Receiver<ServerTerms>,
    /// Told whenever something may be due earlier than before.
    due: Notify,
}

struct State {
    /// The daemon's name here.
    name: String,
    room: Room,
    peers: Peers,
    /// The codes by which members came.
    passes: HashMap<PeerId, PassId>,
    waits: HashMap<WaitToken, oneshot::Sender<Waited>>,
    tokens: u64,
    is_closed: bool,
    lost: Noted,
    useless: Noted,
}

/// How a wait ends.
enum Waited {
    Message(Message),
    End(WaitEnd),
}

impl RoomService {
    /// Opens the room, which the operator knows by `label`; what peers ask of the daemon goes through `signals`.
    pub(super) fn new(
        config: RoomConfig,
        label: Arc<str>,
        signals: mpsc::Sender<SignalIn>,
        terms: watch::Receiver<ServerTerms>,
    ) -> Arc<Self> {
        let state = State {
            name: config.name.clone(),
            room: Room::new(config.policy, terms.borrow().members, &config.name),
            peers: Peers::new(config.call, SessionId::random),
            passes: HashMap::new(),
            waits: HashMap::new(),
            tokens: 0,
            is_closed: false,
            lost: Noted::default(),
            useless: Noted::default(),
        };
        let policy = config.policy;
        let asker = Asker::new(signals, terms.borrow().deadlines.answer);
        Arc::new(Self { policy, state: Mutex::new(state), asker, label, terms, due: Notify::new() })
    }

    /// Who sees whom.
    pub(super) fn policy(&self) -> RoomPolicy {
        self.policy
    }

    /// Takes in a member, by this code where one is needed.
    pub(super) fn sign_in(self: &Arc<Self>, name: &str, pass: Option<PassId>, from: SocketAddr) -> Reply {
        self.with(|state, now| {
            state.room.set_limits(self.terms.borrow().members);
            match state.room.handle_sign_in(name.as_bytes(), from.ip(), now) {
                Ok((id, list)) => {
                    state.passes.extend(pass.map(|pass| (id, pass)));
                    wire::added(id, list)
                }
                Err(refusal) => wire::full(refusal),
            }
        })
    }

    /// Waits for a member's next message, for as long as it takes; calls `hanging` once it is clear that the member may wait.
    pub(super) async fn wait(self: &Arc<Self>, id: PeerId, from: SocketAddr, hanging: impl FnOnce()) -> Reply {
        let (answer, answered) = oneshot::channel();
        let token = self.with(|state, now| {
            state.tokens += 1;
            let token = WaitToken(state.tokens);
            let is_member = !state.is_closed && state.room.handle_wait(id, from.ip(), token, now).is_ok();
            is_member.then(|| {
                state.waits.insert(token, answer);
                token
            })
        });
        let Some(token) = token else {
            return if self.state().is_closed { wire::closing() } else { wire::sorry() };
        };
        hanging();
        let mut hanging = Hanging { service: self, id, token, answered, is_over: false };
        let waited = (&mut hanging.answered).await;
        hanging.is_over = true;
        match waited {
            Ok(Waited::Message(message)) => wire::delivered(id, message),
            Ok(Waited::End(why)) => wire::ended(why),
            Err(_) => wire::closing(),
        }
    }

    /// Passes a message on.
    pub(super) fn post(
        self: &Arc<Self>,
        from: (PeerId, SocketAddr),
        to: PeerId,
        content_type: Bytes,
        body: Vec<u8>,
    ) -> Reply {
        if body.is_empty() {
            return wire::empty_body();
        }
        self.with(|state, now| match state.room.handle_message(from, to, content_type, body.into(), now) {
            Ok(()) => wire::done(),
            Err(_) => wire::gone(),
        })
    }

    /// Lets a member go.
    pub(super) fn sign_out(self: &Arc<Self>, id: PeerId, from: SocketAddr) -> Reply {
        self.with(|state, now| match state.room.handle_sign_out(id, from.ip(), now) {
            Ok(()) => wire::done(),
            Err(_) => wire::sorry(),
        })
    }

    /// Ends all waits, and lets no other begin.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.waits.clear();
    }

    /// Does what operators want until there is none any more.
    pub(super) async fn operate(self: Arc<Self>, mut operations: mpsc::Receiver<Operation>) {
        while let Some(operation) = operations.recv().await {
            // Whoever asked may have gone away.
            match operation {
                Operation::Look(reply) => drop(reply.send(self.look())),
                Operation::Call(peer, reply) => {
                    let called = self.with(|state, now| state.peers.call(peer, now));
                    let _ = reply.send(called);
                }
                Operation::Terms(name, call) => self.with(|state, now| {
                    state.room.rename_daemon(&name);
                    state.peers.set_call(call, now);
                    state.name = name;
                }),
            }
        }
    }

    fn look(&self) -> ServerState {
        let state = self.state();
        let standing = Standing::SignedIn(state.name.clone());
        ServerState { label: self.label.to_string(), standing, peers: state.peers.states().collect() }
    }

    /// Tells both cores the time whenever something is due; never ends.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let due = {
                let state = self.state();
                state.room.poll_timeout().into_iter().chain(state.peers.poll_timeout()).min()
            };
            let later = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = later => {
                    let mut state = self.state();
                    let now = Instant::now();
                    state.room.handle_timeout(now);
                    state.peers.handle_timeout(now);
                    self.settle(&mut state, now);
                }
                () = self.due.notified() => {}
            }
        }
    }

    /// Changes the state, and carries on what follows from it.
    fn with<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.state();
        let now = Instant::now();
        let result = change(&mut state, now);
        self.settle(&mut state, now);
        self.due.notify_one();
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries the cores' outputs to where they belong until there are none.
    fn settle(self: &Arc<Self>, state: &mut State, now: Instant) {
        loop {
            if let Some(output) = state.room.poll_output() {
                state.carry(output, now);
            } else if let Some(output) = state.peers.poll_output() {
                self.carry(state, output, now);
            } else {
                break;
            }
        }
        if let Some(lost) = state.lost.grown(state.room.lost(), now) {
            tracing::warn!(lost, "messages of the room are lost: their receivers don't fetch them");
        }
        let counts = state.peers.counts();
        if let Some(useless) = state.useless.grown(counts.total(), now) {
            let peer = state.peers.last_useless().map(tracing::field::display);
            tracing::warn!(useless, peer, ?counts, "messages of peers are of no use, the last of them this peer's");
        }
    }

    fn carry(self: &Arc<Self>, state: &mut State, output: peers::Output, now: Instant) {
        use peers::Output;
        match output {
            Output::Ask(ask, peer, question) => {
                let caller = Caller::new(&self.label, state.peers.name(peer)).by(state.passes.get(&peer).copied());
                match self.asker.ask(question, caller) {
                    Some(outcome) => drop(tokio::spawn(Arc::clone(self).hear(ask, outcome))),
                    None => state.peers.handle_outcome(ask, Outcome::Unanswered),
                }
            }
            Output::Trickle(session, trickle) => self.asker.trickle(session, trickle),
            Output::Leave(session) => self.asker.leave(session),
            Output::Say { to, word } => {
                if let Some(body) = message::write(&word) {
                    state.room.send(to, body.into(), now);
                }
            }
            Output::Withdraw { to } => state.room.withdraw(to),
        }
    }

    /// Takes the broadcast's word on a question to the core.
    async fn hear(self: Arc<Self>, ask: AskId, outcome: impl Future<Output = Outcome>) {
        let outcome = outcome.await;
        self.with(|state, _| state.peers.handle_outcome(ask, outcome));
    }
}

impl State {
    fn carry(&mut self, output: room::Output, now: Instant) {
        use room::Output;
        match output {
            Output::Deliver { wait, to, message } => {
                let undelivered = match self.waits.remove(&wait).map(|wait| wait.send(Waited::Message(message))) {
                    Some(Err(Waited::Message(message))) => message,
                    Some(_) => return,
                    None => {
                        tracing::error!(peer = %to, "a wait is answered that is not there");
                        return;
                    }
                };
                self.room.handle_undelivered(to, undelivered, now);
            }
            Output::End { wait, why } => {
                // Whoever waited and is gone needs no word.
                drop(self.waits.remove(&wait).map(|wait| wait.send(Waited::End(why))));
            }
            Output::Joined { peer, name } => {
                self.peers.handle_joined(peer, &name, now);
                let name = Caller::new(&"".into(), self.peers.name(peer)).name;
                tracing::info!(%peer, name, members = self.room.count(), "a peer is in the room");
            }
            Output::Received { peer, body } => match message::parse(&body) {
                Ok(word) => self.peers.handle_word(peer, word),
                Err(why) => self.peers.handle_useless(peer, why),
            },
            Output::Left { peer, why } => {
                self.passes.remove(&peer);
                tracing::info!(%peer, why = why.words(), members = self.room.count(), "a peer has left the room");
                match why {
                    Leaving::SignedOut => self.peers.handle_signed_out(peer),
                    Leaving::Silent => self.peers.handle_dropped(peer),
                }
            }
        }
    }
}

impl fmt::Debug for RoomService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomService").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// A wait that hangs; when its connection goes, the room is told, and gets back what came too late.
struct Hanging<'a> {
    service: &'a Arc<RoomService>,
    id: PeerId,
    token: WaitToken,
    answered: oneshot::Receiver<Waited>,
    is_over: bool,
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.service.with(|state, now| {
            state.waits.remove(&self.token);
            state.room.handle_wait_gone(self.id, self.token, now);
            if let Ok(Waited::Message(message)) = self.answered.try_recv() {
                state.room.handle_undelivered(self.id, message, now);
            }
        });
    }
}
