//! The shell of libwebrtc's `peerconnection` protocol (HTTP): one request per connection, one of them hanging.
//!
//! Carries requests of [`Client`] to the server, and decides nothing. The original server is particular: it wants header names in
//! title case and a request's head and body in one write, which reqwest does (a test reads it from the wire), and never closes a connection by itself.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{ClientConfig, MOST_SIGNING_OUT, Operation, ServerState, Standing};
use crate::events::Events;
use crate::id::{SessionId, random_bytes};
use crate::signaling::Caller;
use crate::signaling::ask::Asker;
use crate::signaling::peerconnection::client::{Client, Output, Reply, Request, RequestId};
use crate::signaling::peers::CallPolicy;
use crate::signaling::peers::{self, AskId, Outcome};
use crate::signaling::server::complaint::Noted;

mod http;

use http::HttpServer;

/// Runs until `stop` says so.
pub(super) async fn run(
    config: ClientConfig,
    mut operations: mpsc::Receiver<Operation>,
    mut stop: watch::Receiver<bool>,
) {
    let mut shell = Shell::new(config);
    let mut deadline = None;
    loop {
        shell.settle(Instant::now());
        if shell.client.is_over() {
            return;
        }
        let due = shell.client.poll_timeout().into_iter().chain(deadline).min();
        let later = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = shell.tasks.join_next() => match event {
                Ok(Event::Replied(request, reply)) => shell.client.handle_reply(request, reply, Instant::now()),
                Ok(Event::Heard(ask, outcome)) => shell.client.handle_outcome(ask, outcome),
                // It was abandoned.
                Err(error) if error.is_cancelled() => {}
                Err(error) => tracing::error!(%error, "a request to a signaling server has failed by a bug"),
            },
            Some(operation) = operations.recv() => shell.operate(operation),
            () = later => shell.client.handle_timeout(Instant::now()),
            // Whoever could say so and is gone has stopped too.
            _ = stop.wait_for(|stop| *stop), if deadline.is_none() => {
                deadline = Some(Instant::now() + MOST_SIGNING_OUT);
                shell.client.sign_out();
            }
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            tracing::debug!(server = %shell.label, "signing out has taken too long");
            return;
        }
    }
}

/// What a task ends with.
enum Event {
    Replied(RequestId, Reply),
    Heard(AskId, Outcome),
}

struct Shell {
    label: Arc<str>,
    asker: Asker,
    events: Events,
    /// What was told last.
    said: Standing,
    server: HttpServer,
    client: Client,
    /// Whom the server's URL says to call.
    own_call: Option<CallPolicy>,
    /// Requests, and questions to the broadcast.
    tasks: JoinSet<Event>,
    /// The last wait.
    wait: Option<(RequestId, AbortHandle)>,
    lost: Noted,
    useless: Noted,
}

impl Shell {
    fn new(config: ClientConfig) -> Self {
        let random = || u32::from_ne_bytes(random_bytes());
        let client = Client::new(&config.name, config.call(), SessionId::random, random, Instant::now());
        let label = config.url.label();
        let own_call = config.url.call.clone();
        let server = HttpServer::new(config.url, &config.name);
        let (lost, useless) = (Noted::default(), Noted::default());
        Self {
            label,
            asker: config.asker,
            events: config.events,
            said: Standing::Connecting,
            server,
            client,
            own_call,
            tasks: JoinSet::new(),
            wait: None,
            lost,
            useless,
        }
    }

    /// Carries on what the core puts out until there is nothing.
    fn settle(&mut self, now: Instant) {
        let server = Arc::clone(&self.label);
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Send(id, request) => {
                    let reply = self.server.send(&request);
                    let task = self.tasks.spawn(async move { Event::Replied(id, reply.await) });
                    if matches!(request, Request::Wait(_)) {
                        self.wait = Some((id, task));
                    }
                }
                Output::Abandon(id) => {
                    if let Some((_, task)) = self.wait.take_if(|(wait, _)| *wait == id) {
                        task.abort();
                    }
                }
                Output::Broadcast(output) => self.tell(output),
                Output::SignedIn { name, id } => tracing::info!(%server, name, %id, "signed in"),
                Output::Away(why) => {
                    tracing::warn!(%server, why, "signaling server is away; it is tried again until it is back");
                }
            }
        }
        self.client.standing().tell(&server, &self.said, &self.events);
        self.said = self.client.standing().clone();
        if let Some(lost) = self.lost.grown(self.client.lost(), now) {
            tracing::warn!(%server, lost, "messages to peers are lost: the server does not take them");
        }
        let counts = self.client.peers().counts();
        if let Some(useless) = self.useless.grown(counts.total(), now) {
            let peer = self.client.peers().last_useless().map(tracing::field::display);
            tracing::warn!(%server, useless, peer, ?counts, "messages of peers are of no use, the last of them this peer's");
        }
    }

    fn tell(&mut self, output: peers::Output) {
        let asker = &self.asker;
        match output {
            peers::Output::Ask(ask, peer, question) => {
                let caller = Caller::new(&self.label, self.client.peers().name(peer));
                match asker.ask(question, caller) {
                    Some(outcome) => drop(self.tasks.spawn(async move { Event::Heard(ask, outcome.await) })),
                    None => self.client.handle_outcome(ask, Outcome::Unanswered),
                }
            }
            peers::Output::Trickle(session, trickle) => asker.trickle(session, trickle),
            peers::Output::Leave(session) => asker.leave(session),
            // The core has made requests of them.
            peers::Output::Say { .. } | peers::Output::Withdraw { .. } => {}
        }
    }

    fn operate(&mut self, operation: Operation) {
        // Whoever asked and is gone needs no word.
        match operation {
            Operation::Look(reply) => {
                let (standing, peers) = (self.client.standing().clone(), self.client.peers().states().collect());
                drop(reply.send(ServerState { label: self.label.to_string(), standing, peers }));
            }
            Operation::Call(peer, reply) => drop(reply.send(self.client.call(peer, Instant::now()))),
            Operation::Terms(name, call) => {
                let call = self.own_call.clone().unwrap_or(call);
                self.server.rename(&name);
                self.client.set_terms(&name, call, Instant::now());
            }
        }
    }
}
