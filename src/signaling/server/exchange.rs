//! One request and its reply: names, routes, bodies with limits, and the wait for the broadcast.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::complaint::Complaint;
use super::observe::{self, Observer};
use super::room::RoomService;
use super::tls::Tls;
use super::whole::{Whole, bare, response};
use super::{Deadlines, Reply, ServerTerms, Stage, pages};
use crate::clock;
use crate::ice_server::IceServers;
use crate::id::SessionId;
use crate::signaling::access::{Access, OwnNames, Pace};
use crate::signaling::room::RoomPolicy;
use crate::signaling::room::wire::{self, Endpoint, Target, Wanted};
use crate::signaling::whep::{self, Ask};
use crate::signaling::{Caller, Refusal, SignalIn, Trickle};

/// The most that is read of an offer or a fragment.
const BODY_BYTES: usize = 64 * 1024;
/// What is read past that and dropped, so that the sender gets to read the refusal.
const DISCARDED_BYTES: usize = 4 * 1024 * 1024;
/// Where it is asked whether the server runs.
const HEALTH: &str = "/healthz";
/// How long the answer to a wrong code takes, and to one of too many.
const WRONG_CODE_WAIT: Duration = Duration::from_millis(200);
const TOO_MANY_WAIT: Duration = Duration::from_secs(1);

/// The names in `Host` that are answered: this machine's, and those that its certificate is for.
#[derive(Debug)]
pub(super) struct HostCheck {
    pub(super) own_names: OwnNames,
    pub(super) tls: Option<Tls>,
}

impl HostCheck {
    fn allows(&self, host: &str) -> bool {
        self.own_names.allows(host) || self.tls.as_ref().is_some_and(|tls| tls.is_for(host))
    }
}

/// What takes more than a request's head to answer.
enum Asked {
    /// Something of WHEP's, by the body.
    Whep(whep::Wanted),
    /// How the daemon is.
    State,
}

/// Answers requests.
#[derive(Debug)]
pub(super) struct Exchange {
    access: Arc<Mutex<Access>>,
    hosts: HostCheck,
    signals: mpsc::Sender<SignalIn>,
    observer: Observer,
    room: Option<Arc<RoomService>>,
    ice: IceServers,
    terms: watch::Receiver<ServerTerms>,
    queue_full: Mutex<Complaint>,
    wrong_codes: Mutex<Complaint>,
    pace: Mutex<Pace>,
}

impl Exchange {
    /// Lets viewers in by `access`, answers to the names of `hosts`, asks by `signals` and `observer`, has `room` among its addresses, and tells viewers of `ice`.
    pub(super) fn new(
        access: Arc<Mutex<Access>>,
        hosts: HostCheck,
        (signals, observer): (mpsc::Sender<SignalIn>, Observer),
        room: Option<Arc<RoomService>>,
        ice: IceServers,
        terms: watch::Receiver<ServerTerms>,
    ) -> Self {
        let pace = Pace::new(terms.borrow().offers_per_minute);
        Self {
            access,
            hosts,
            signals,
            observer,
            room,
            ice,
            pace: Mutex::new(pace),
            terms,
            queue_full: Mutex::default(),
            wrong_codes: Mutex::default(),
        }
    }

    /// Answers one request; calls `enter` with what its connection is doing once all of it is there.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        from: SocketAddr,
        enter: impl Fn(Stage),
    ) -> Result<Response<Whole>, Infallible> {
        let (head, body) = request.into_parts();
        if let Some((room, target)) = self.of_room(head.uri.path()) {
            let reply = match self.is_for_pages_of(&head.headers) {
                Ok(()) => self.answer_member(room, target, &head, body, from, enter).await,
                Err(reply) => {
                    discard(body, &head.headers, self.deadlines().body).await;
                    wire::foreign(*reply)
                }
            };
            let reply = self.narrowed(reply, &head.headers);
            if target.code.is_some() {
                self.hold_back(reply.status).await;
            }
            let (path, status) = (wire::redacted(head.uri.path()), reply.status.as_u16());
            tracing::debug!(%from, method = %head.method, path, status, "answered");
            return Ok(bare(reply));
        }
        let is_session = head.uri.path().starts_with("/whep/");
        let reply = match self.at_once(&head.method, &head.uri, &head.headers, from) {
            Ok(Asked::Whep(wanted)) => match read(body, &head.headers, self.deadlines().body).await {
                Ok(body) => {
                    enter(Stage::Answered);
                    match whep::read_body(wanted, &body) {
                        Ok(ask) => self.ask(ask, from).await,
                        Err(reply) => *reply,
                    }
                }
                Err(reply) => whep::cors(*reply),
            },
            Ok(Asked::State) => {
                discard(body, &head.headers, self.deadlines().body).await;
                enter(Stage::Answered);
                let is_operator = |bearer: Option<&str>| {
                    let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
                    access.check_operator(from.ip(), bearer, Instant::now())
                };
                observe::answer(head.uri.path(), from, &head.headers, is_operator, &self.observer).await
            }
            Err(reply) => {
                discard(body, &head.headers, self.deadlines().body).await;
                *reply
            }
        };
        let reply = self.narrowed(reply, &head.headers);
        if head.headers.contains_key(header::AUTHORIZATION) {
            self.hold_back(reply.status).await;
        }
        // A session's address is a secret.
        let path = if is_session { "/whep/…" } else { head.uri.path() };
        tracing::debug!(%from, method = %head.method, path, status = reply.status.as_u16(), "answered");
        Ok(response(if head.version == Version::HTTP_10 { reply.closing() } else { reply }))
    }

    fn deadlines(&self) -> Deadlines {
        self.terms.borrow().deadlines
    }

    /// Refuses what pages of other sites ask where they may not.
    fn is_for_pages_of(&self, headers: &HeaderMap) -> Result<(), Box<Reply>> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let origin = origin.to_str().unwrap_or_default();
        if self.terms.borrow().origins.allow(origin, host) {
            return Ok(());
        }
        let shown: String = origin.chars().filter(|c| c.is_ascii_graphic()).take(100).collect();
        let sentence = format!(
            "pages of {shown} may not use this broadcast; the broadcaster names those that may with --allow-origin"
        );
        Err(Box::new(Reply::sentence(StatusCode::FORBIDDEN, sentence)))
    }

    /// Tells the browser that a reply is for the page that asked, where it is not for all.
    fn narrowed(&self, mut reply: Reply, headers: &HeaderMap) -> Reply {
        if self.terms.borrow().origins.are_all() || !reply.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return reply;
        }
        reply.headers.append(header::VARY, HeaderValue::from_static("Origin"));
        match headers.get(header::ORIGIN).filter(|_| self.is_for_pages_of(headers).is_ok()) {
            Some(origin) => reply.headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
            None => reply.headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN),
        };
        reply
    }

    /// The room where `path` is one of its addresses; an open one also answers where nothing else does, as the original.
    fn of_room<'a>(&self, path: &'a str) -> Option<(&Arc<RoomService>, Target<'a>)> {
        let room = self.room.as_ref()?;
        let is_others = path == HEALTH || observe::owns(path) || whep::owns(path) || pages::at(path).is_some();
        let target = match wire::target(path) {
            None if room.policy() == RoomPolicy::Open && !is_others => {
                Some(Target { code: None, endpoint: Endpoint::Other })
            }
            target => target,
        };
        target.map(|target| (room, target))
    }

    /// Answers a request of the room's.
    async fn answer_member(
        &self,
        room: &Arc<RoomService>,
        target: Target<'_>,
        head: &Parts,
        body: Incoming,
        from: SocketAddr,
        enter: impl Fn(Stage),
    ) -> Reply {
        let mut pass = None;
        let wanted = self.is_for_us(&head.uri, &head.headers).map_err(|reply| Box::new(wire::foreign(*reply)));
        let wanted = wanted.and_then(|()| {
            let query = head.uri.query().unwrap_or_default();
            let is_nowhere = target == Target { code: None, endpoint: Endpoint::Other };
            if head.method != Method::OPTIONS && !is_nowhere {
                let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
                pass = wire::admit(access.check(from.ip(), target.code, Instant::now()))?;
            }
            wire::read(&head.method, target.endpoint, query, &head.headers)
        });
        if let Ok(Wanted::Post { from: sender, to, content_type }) = wanted {
            return match read(body, &head.headers, self.deadlines().body).await {
                Ok(body) => {
                    enter(Stage::Answered);
                    room.post((sender, from), to, content_type, body)
                }
                Err(reply) => wire::foreign(*reply),
            };
        }
        discard(body, &head.headers, self.deadlines().body).await;
        enter(Stage::Answered);
        match wanted {
            Ok(Wanted::Preflight) => wire::preflight(&head.headers),
            Ok(Wanted::SignIn(name)) => room.sign_in(&name, pass, from),
            Ok(Wanted::Wait(id)) => room.wait(id, from, || enter(Stage::Waiting)).await,
            Ok(Wanted::SignOut(id)) => room.sign_out(id, from),
            // Taken above.
            Ok(Wanted::Post { .. }) => wire::gone(),
            Err(reply) => *reply,
        }
    }

    /// Keeps whoever tries codes waiting for the answer, and tells of it; a connection answers one request at a time, and there are
    /// only so many for an address. The holder of a right code never comes here.
    async fn hold_back(&self, status: StatusCode) {
        let wait = match status {
            StatusCode::UNAUTHORIZED => WRONG_CODE_WAIT,
            StatusCode::TOO_MANY_REQUESTS => TOO_MANY_WAIT,
            _ => return,
        };
        let times = self.wrong_codes.lock().unwrap_or_else(PoisonError::into_inner).raise(Instant::now());
        if let Some(times) = times {
            tracing::warn!(times, "wrong access codes were tried");
        }
        tokio::time::sleep(wait).await;
    }

    /// What is asked for by the request's head, or the reply where the head is enough.
    fn at_once(&self, method: &Method, uri: &Uri, headers: &HeaderMap, from: SocketAddr) -> Result<Asked, Box<Reply>> {
        self.is_for_us(uri, headers)?;
        let path = uri.path();
        if whep::owns(path) {
            let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
            self.is_for_pages_of(headers)?;
            let links = || self.ice.links(clock::wall_now());
            let wanted = whep::read_head(method, path, headers, &mut access, from.ip(), Instant::now(), links);
            return wanted.map(Asked::Whep);
        }
        let is_get = method == Method::GET || method == Method::HEAD;
        if observe::owns(path) {
            return if is_get { Ok(Asked::State) } else { Err(Box::new(Reply::method_not_allowed("GET, HEAD"))) };
        }
        let reply = match (path, pages::at(path)) {
            (HEALTH, _) | (_, Some(_)) if !is_get => Reply::method_not_allowed("GET, HEAD"),
            (_, Some(page)) => page.reply(headers),
            (HEALTH, None) => Reply::sentence(StatusCode::OK, "ok"),
            _ => Reply::not_found(),
        };
        Err(Box::new(reply))
    }

    /// Refuses requests that name another machine: a page that made its own name point here sends that name.
    fn is_for_us(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Box<Reply>> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Box::new(Reply::sentence(
                StatusCode::BAD_REQUEST,
                "the request has more than one Host header",
            )));
        }
        // HTTP/1.0 has none, and nobody to mislead: browsers always send it.
        let host = host.map(|host| host.to_str().unwrap_or_default());
        let authority = uri.authority().map(|authority| authority.as_str());
        match host.into_iter().chain(authority).find(|name| !self.hosts.allows(name)) {
            None => Ok(()),
            Some(name) => {
                let sentence = format!(
                    "the request is for \"{}\", which is none of this machine's names (a guard against DNS rebinding); \
                     use its IP address, its hostname, localhost or a name of its certificate",
                    name.chars().filter(|c| c.is_ascii_graphic()).take(100).collect::<String>()
                );
                Err(Box::new(Reply::sentence(StatusCode::FORBIDDEN, sentence)))
            }
        }
    }

    /// Refuses offers of an address that offers too often.
    fn keeps_pace(&self, from: SocketAddr) -> Result<(), Box<Reply>> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.set_per_minute(self.terms.borrow().offers_per_minute);
        pace.admit(from.ip(), Instant::now()).map_err(|wait| Box::new(whep::too_often(wait)))
    }

    /// Puts the question to the broadcast and waits for its answer.
    async fn ask(&self, ask: Ask, from: SocketAddr) -> Reply {
        match ask {
            Ask::Offer(sdp, pass) => {
                if let Err(reply) = self.keeps_pace(from) {
                    return *reply;
                }
                let session = SessionId::random();
                let (reply, answer) = oneshot::channel();
                let caller = Caller::new(&"whep".into(), &from.ip().to_string()).by(pass);
                if let Err(reply) = self.send(SignalIn::Offer { session, sdp, caller, replaces: None, reply }) {
                    return *reply;
                }
                let mut abandoned = Abandoned { signals: &self.signals, session: Some(session) };
                let reply = match timeout(self.deadlines().answer, answer).await {
                    Err(_) => return whep::late(self.deadlines().answer),
                    Ok(Ok(Ok(answer))) => whep::answered(session, answer, self.ice.links(clock::wall_now())),
                    Ok(Ok(Err(refusal))) => whep::refused(&refusal),
                    Ok(Err(_)) => whep::failed(),
                };
                abandoned.session = None;
                reply
            }
            Ask::Trickle(session, trickle) => {
                let (reply, answer) = oneshot::channel();
                self.ask_session(SignalIn::Trickle { session, trickle, reply }, answer, |()| whep::trickled()).await
            }
            Ask::Restart(session, trickle) => {
                let (reply, answer) = oneshot::channel();
                let mid = trickle.mid.clone();
                let done = move |own: Trickle| whep::restarted(&Trickle { mid, ..own });
                self.ask_session(SignalIn::Restart { session, trickle, reply }, answer, done).await
            }
            Ask::Leave(session) => {
                let (reply, answer) = oneshot::channel();
                self.ask_session(SignalIn::Leave { session, reply }, answer, |()| whep::left()).await
            }
        }
    }

    async fn ask_session<T>(
        &self,
        signal: SignalIn,
        answer: oneshot::Receiver<Result<T, Refusal>>,
        done: impl FnOnce(T) -> Reply,
    ) -> Reply {
        if let Err(reply) = self.send(signal) {
            return *reply;
        }
        match timeout(self.deadlines().answer, answer).await {
            Err(_) => whep::late(self.deadlines().answer),
            Ok(Ok(Ok(said))) => done(said),
            Ok(Ok(Err(refusal))) => whep::refused(&refusal),
            Ok(Err(_)) => whep::failed(),
        }
    }

    fn send(&self, signal: SignalIn) -> Result<(), Box<Reply>> {
        self.signals.try_send(signal).map_err(|error| {
            Box::new(match error {
                mpsc::error::TrySendError::Full(_) => {
                    let mut queue_full = self.queue_full.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(times) = queue_full.raise(Instant::now()) {
                        tracing::warn!(times, "requests are refused: the broadcast's queue is full");
                    }
                    whep::busy()
                }
                mpsc::error::TrySendError::Closed(_) => whep::refused(&Refusal::Closing),
            })
        })
    }
}

/// Ends the session of an offer whose sender is gone before the answer: nobody else knows its address.
struct Abandoned<'a> {
    signals: &'a mpsc::Sender<SignalIn>,
    session: Option<SessionId>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let Some(session) = self.session else { return };
        let (reply, _) = oneshot::channel();
        if self.signals.try_send(SignalIn::Leave { session, reply }).is_err() {
            tracing::debug!(session = session.short(), "an abandoned session is left to its silence");
        }
    }
}

/// Reads a whole body, and buffers no more than it may have.
async fn read(mut body: Incoming, headers: &HeaderMap, wait: Duration) -> Result<Vec<u8>, Box<Reply>> {
    let refused = |status, sentence: String| Err(Box::new(Reply::sentence(status, sentence).closing()));
    let too_large = || {
        refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {BODY_BYTES} bytes, the most that is taken (an offer has a few thousand)"),
        )
    };
    if body.size_hint().lower() > BODY_BYTES as u64 {
        discard(body, headers, wait).await;
        return too_large();
    }
    let mut whole = Vec::new();
    let reading = timeout(wait, async {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if whole.len() + data.len() > BODY_BYTES {
                return Ok(false);
            }
            whole.extend_from_slice(&data);
        }
        Ok::<_, hyper::Error>(true)
    });
    match reading.await {
        Ok(Ok(true)) => Ok(whole),
        Ok(Ok(false)) => {
            discard(body, headers, wait).await;
            too_large()
        }
        Ok(Err(error)) => refused(StatusCode::BAD_REQUEST, format!("the body could not be read: {error}")),
        Err(_) => refused(StatusCode::REQUEST_TIMEOUT, format!("the body was not there within {} s", wait.as_secs())),
    }
}

/// Reads what is left of a body and drops it: a connection closed with bytes unread is reset, and its reply lost.
async fn discard(mut body: Incoming, headers: &HeaderMap, wait: Duration) {
    // Whoever waits for a word before sending has not sent; whoever sends this much is not waited for.
    if headers.contains_key(header::EXPECT) || body.size_hint().lower() > DISCARDED_BYTES as u64 {
        return;
    }
    let mut left = DISCARDED_BYTES;
    let reading = timeout(wait, async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    });
    if reading.await.is_err() {
        tracing::debug!("a refused body did not end in time");
    }
}
