//! The shell of WHIP (RFC 9725): the daemon publishes to an SFU.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, redirect};
use tokio::sync::{mpsc, watch};
use url::{Host, Url};

use super::{ClientConfig, MOST_SIGNING_OUT, Operation, ServerState, Standing, tls, token, why};
use crate::ice_server::{IceServer, Login};
use crate::id::{PeerId, SessionId, random_bytes};
use crate::session::relay::told::ToldServer;
use crate::signaling::peers::{Outcome, PeerState, Question};
use crate::signaling::whip::link::OfferedServer;
use crate::signaling::whip::{Output, Request, Response, Whip};
use crate::signaling::{Caller, Life};

/// How long a server may take to be reached, to answer an offer, and to end a session.
const MOST_CONNECTING: Duration = Duration::from_secs(4);
const MOST_ANSWERING: Duration = Duration::from_secs(10);
const MOST_ENDING: Duration = Duration::from_secs(2);
/// The only one who is there, for the operator: the server itself.
const SFU: PeerId = PeerId(1);
/// The most bytes of a response's body.
const BODY_BYTES: usize = 64 * 1024;

/// Runs until `stop` says so.
pub(super) async fn run(config: ClientConfig, operations: mpsc::Receiver<Operation>, stop: watch::Receiver<bool>) {
    if config.url.token_file.is_some() && !config.url.is_secure() && !is_this_machine(&config.url.url) {
        let server = config.url.label();
        tracing::warn!(%server, "the token goes over the network unencrypted: give a whip+https URL if the server has one");
    }
    let core =
        Whip::new(Instant::now(), config.url.url.clone(), SessionId::random, || u32::from_ne_bytes(random_bytes()));
    let http = Http {
        client: None,
        token: None,
        ca_file: config.url.ca_file.clone(),
        token_file: config.url.token_file.clone(),
    };
    let said = Standing::Connecting;
    let publisher = Publisher {
        config,
        core,
        http: Some(http),
        said,
        prepared: None,
        word: None,
        answer: None,
        life: None,
        relays: Vec::new(),
    };
    publisher.run(operations, stop).await;
}

type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// What came of a preparation or a request, and what is needed for the next.
type Exchanged<T> = (Http, Result<T, String>);

/// The core and what it waits for: a token, a word of the broadcast, an answer of the server, a session's life.
struct Publisher {
    config: ClientConfig,
    core: Whip,
    /// Not here while a request is under way.
    http: Option<Http>,
    /// What was logged last.
    said: Standing,
    prepared: Pending<Exchanged<()>>,
    word: Pending<(SessionId, Outcome)>,
    answer: Pending<Exchanged<Response>>,
    life: Option<(SessionId, watch::Receiver<Life>)>,
    /// Those that the server has named.
    relays: Vec<ToldServer>,
}

impl Publisher {
    async fn run(mut self, mut operations: mpsc::Receiver<Operation>, mut stop: watch::Receiver<bool>) {
        let mut ends = None;
        loop {
            self.act();
            if self.core.is_over() {
                return;
            }
            let due = self.core.poll_timeout();
            tokio::select! {
                // Whoever stops knows before sessions tell that they ended.
                biased;
                _ = stop.wait_for(|stop| *stop), if ends.is_none() => {
                    ends = Some(Instant::now() + MOST_SIGNING_OUT);
                    self.core.stop(Instant::now());
                }
                () = until(ends) => {
                    tracing::warn!(server = %self.label(), "the server did not say in time that the publication is over");
                    return;
                }
                Some(operation) = operations.recv() => self.operate(operation),
                (http, prepared) = ready(&mut self.prepared) => {
                    self.http = Some(http);
                    self.core.handle_prepared(Instant::now(), prepared);
                }
                (session, outcome) = ready(&mut self.word) => self.core.handle_outcome(Instant::now(), session, outcome),
                (http, response) = ready(&mut self.answer) => {
                    self.http = Some(http);
                    self.core.handle_response(Instant::now(), response);
                }
                (session, life) = lived(&mut self.life) => self.core.handle_life(Instant::now(), session, life),
                () = comes_up(&mut self.relays) => self.core.handle_relay(Instant::now()),
                () = until(due) => self.core.handle_timeout(Instant::now()),
            }
        }
    }

    /// Uses the relays that the server names now; one that relays already is kept, whatever its login is by now.
    fn use_relays(&mut self, servers: Vec<OfferedServer>) {
        let told = servers.into_iter().filter_map(|OfferedServer { url, username, credential }| {
            IceServer::told(&url, Login { username: username?, password: credential? })
        });
        let mut before = std::mem::take(&mut self.relays);
        for server in told {
            let url = server.url();
            let is_given = self.config.relays.given.contains(&url);
            if is_given || self.relays.iter().any(|relay| relay.url() == url) {
                continue;
            }
            let kept = before.iter().position(|relay| relay.url() == url && relay.is_ready());
            self.relays.push(match kept {
                Some(at) => before.swap_remove(at),
                None => {
                    tracing::info!(server = %self.label(), relay = url, "not connected yet: a relay that the server names is tried");
                    self.config.relays.start(server, self.config.url.ca_file.clone(), self.label())
                }
            });
        }
    }

    fn label(&self) -> std::sync::Arc<str> {
        self.config.url.label()
    }

    /// Does what the core wants, and says how the daemon stands where that has changed.
    fn act(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                // Where it is not here it is being prepared already, for a publication that was given up.
                Output::Prepare => {
                    if let Some(http) = self.http.take() {
                        self.prepared = Some(Box::pin(http.prepare()));
                    }
                }
                Output::Publish(session) => {
                    let (life, lives) = watch::channel(Life::Joining);
                    self.life = Some((session, lives));
                    let caller = Caller::new(&self.label(), "");
                    let asked = self.config.asker.publish(session, caller, life);
                    self.word = Some(Box::pin(outcome(session, asked)));
                }
                Output::Accept { session, sdp } => {
                    let caller = Caller::new(&self.label(), "");
                    let asked = self.config.asker.ask(Question::Accept { session, sdp }, caller);
                    self.word = Some(Box::pin(outcome(session, asked)));
                }
                Output::Leave(session) => self.config.asker.leave(session),
                Output::Ask(request) => match self.http.take() {
                    Some(http) => self.answer = Some(Box::pin(http.exchange(request))),
                    None => tracing::error!("a request while another is under way; this is a bug"),
                },
                Output::IceServers(servers) => self.use_relays(servers),
            }
        }
        let standing = self.core.standing();
        if *standing == self.said {
            return;
        }
        standing.tell(&self.label(), &self.said, &self.config.events);
        self.said = standing.clone();
        let server = self.label();
        match standing {
            Standing::Publishing => tracing::info!(%server, "publishing"),
            Standing::Away(why) => tracing::warn!(%server, ?why, "not publishing, and trying again"),
            Standing::Dismissed => tracing::info!(%server, "not publishing any more: the operator has ended it"),
            Standing::Connecting | Standing::SignedIn(_) => {}
        }
    }

    fn operate(&mut self, operation: Operation) {
        // Whoever asked may have gone away.
        match operation {
            Operation::Look(reply) => {
                let (label, standing) = (self.label().to_string(), self.core.standing().clone());
                let sfu = PeerState { id: SFU, name: label.clone(), session: self.core.session() };
                let _ = reply.send(ServerState { label, standing, peers: vec![sfu] });
            }
            Operation::Call(_, reply) => {
                let _ = reply.send(self.core.call(Instant::now()));
            }
            // A publication has no name, and there is nobody to call.
            Operation::Terms(..) => {}
        }
    }
}

async fn outcome(session: SessionId, asked: Option<impl Future<Output = Outcome>>) -> (SessionId, Outcome) {
    let outcome = match asked {
        Some(asked) => asked.await,
        None => Outcome::Unanswered,
    };
    (session, outcome)
}

/// Awaits what is pending; for ever where nothing is.
async fn ready<T>(pending: &mut Pending<T>) -> T {
    let Some(future) = pending else { return std::future::pending().await };
    let value = future.await;
    *pending = None;
    value
}

/// Awaits a session's next word; the last is that it has ended.
async fn lived(life: &mut Option<(SessionId, watch::Receiver<Life>)>) -> (SessionId, Life) {
    let Some((session, lives)) = life else { return std::future::pending().await };
    let session = *session;
    let word = match lives.changed().await {
        Ok(()) => lives.borrow_and_update().clone(),
        // Its last word was heard, or there is none since nobody has the session.
        Err(_) => Life::Ended("the broadcast has no such session".to_owned()),
    };
    if matches!(word, Life::Ended(_) | Life::Dismissed) {
        *life = None;
    }
    (session, word)
}

/// Awaits that one of the relays begins to relay; for ever where none does.
async fn comes_up(relays: &mut [ToldServer]) {
    let mut changes: FuturesUnordered<_> = relays.iter_mut().map(ToldServer::comes_up).collect();
    if changes.next().await.is_none() {
        std::future::pending().await
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The way to the server.
struct Http {
    client: Option<Client>,
    /// That of the present publication.
    token: Option<HeaderValue>,
    ca_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

impl Http {
    /// Reads what the next publication needs.
    async fn prepare(mut self) -> Exchanged<()> {
        let read = self.read_files().await;
        (self, read)
    }

    async fn read_files(&mut self) -> Result<(), String> {
        if self.client.is_none() {
            let ca_file = self.ca_file.clone();
            self.client = Some(on_its_own_thread(move || connector(ca_file.as_deref())).await?);
        }
        self.token = match self.token_file.clone() {
            Some(path) => {
                Some(on_its_own_thread(move || token::bearer(&path).map_err(|error| error.to_string())).await?)
            }
            None => None,
        };
        Ok(())
    }

    async fn exchange(self, request: Request) -> Exchanged<Response> {
        let response = self.response(request).await;
        (self, response)
    }

    async fn response(&self, request: Request) -> Result<Response, String> {
        let client = self.client.as_ref().ok_or("nothing is prepared; this is a bug")?;
        let scheme = match &request {
            Request::Offer { to: url, .. } | Request::End { at: url } => url.scheme().to_owned(),
        };
        let (mut builder, patience) = match request {
            Request::Offer { to, sdp } => {
                let builder = client.post(to).header(CONTENT_TYPE, "application/sdp").header(ACCEPT, "application/sdp");
                (builder.body(sdp), MOST_ANSWERING)
            }
            Request::End { at } => (client.delete(at), MOST_ENDING),
        };
        if let Some(token) = &self.token {
            builder = builder.header(AUTHORIZATION, token);
        }
        let mut response = builder.timeout(patience).send().await.map_err(|error| failure(error, &scheme, patience))?;
        let (status, headers, mut body) = (response.status(), response.headers().clone(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(error, &scheme, patience))? {
            if body.len() + chunk.len() > BODY_BYTES {
                return Err(format!("the server's answer is longer than {} KiB", BODY_BYTES / 1024));
            }
            body.extend_from_slice(&chunk);
        }
        tracing::debug!(%status, "the server answers");
        Ok(Response { status, headers, body })
    }
}

/// Makes the client: each request has a connection of its own, so none is met by a connection that has died meanwhile.
fn connector(ca_file: Option<&Path>) -> Result<Client, String> {
    let tls = tls::client(ca_file).map_err(|error| error.to_string())?;
    let builder = Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(MOST_CONNECTING);
    builder.build().map_err(|error| format!("HTTP can't be set up: {}", why::root(&error)))
}

/// Does what may block, such as reading a file of a server that is away.
async fn on_its_own_thread<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Why a request to a server of this `scheme` failed; a URL's query may hold a secret, so none is said.
fn failure(error: reqwest::Error, scheme: &str, patience: Duration) -> String {
    let error = error.without_url();
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => why::unreachable_within(MOST_CONNECTING),
        (true, false) => format!("it does not answer within {patience:?}"),
        (false, true) => why::not_connected(scheme, &error),
        (false, false) => {
            let hint = if why::is_no_http(&error) { why::hint_at_tls(scheme) } else { String::new() };
            format!("its answer can't be read: {}{hint}", why::root(&error))
        }
    }
}

/// Whether what is sent there stays in this machine.
fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
