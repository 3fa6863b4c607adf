//! What operators ask over the control socket: how the daemon is, who is there, and to call or to end somebody.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::access::{Codes, CodesError};
use super::announce::urls;
use super::herald;
use super::makers::Makers;
use super::problems::{self, Chronicle, Known, Lost};
use super::steering::Order;
use crate::clock::wall_now;
use crate::config::one_line;
use crate::control::print::listening;
use crate::control::server::Operator;
use crate::control::socket::{ControlSocket, SocketError, places};
use crate::control::target;
use crate::control::wire::{self, Called, Complaint, Event, Kicked, Kind, Reply, Request, Stage, Status};
use crate::encoder::Codec;
use crate::events::{Events, Listener};
use crate::fanout::Unit;
use crate::id::{PeerId, SessionId};
use crate::session::broadcast::{BroadcastState, Place, ViewerState, Way};
use crate::session::inbox::Inbox;
use crate::session::messages::JoinIn;
use crate::session::relay::server as relay;
use crate::signaling::access::{BookError, Entry, Origin};
use crate::signaling::client::{Desk, ServerState};
use crate::signaling::server::Looks;
use crate::signaling::server::tls::Tls;

/// How long a server's task may take to say how it stands.
const LOOKING: Duration = Duration::from_secs(2);

/// Makes the control socket where it is `given`, else at the first default place that can be had; without one the daemon runs all the same.
///
/// # Errors
/// Where the one that is given can't be made, or another daemon is at a default one.
pub(super) fn open(given: Option<&Path>, group: Option<&str>) -> Result<Option<ControlSocket>, SocketError> {
    open_first(&places(given, std::env::var_os("XDG_RUNTIME_DIR")), group, given.is_some())
}

fn open_first(places: &[PathBuf], group: Option<&str>, is_given: bool) -> Result<Option<ControlSocket>, SocketError> {
    let mut refusals = Vec::new();
    for place in places {
        match ControlSocket::bind(place, group) {
            Ok(socket) => {
                info!(path = %socket.path().display(), "control socket");
                return Ok(Some(socket));
            }
            Err(error @ (SocketError::Live { .. } | SocketError::Group { .. })) => return Err(error),
            Err(error) if is_given => return Err(error),
            Err(error) => refusals.push(error.to_string()),
        }
    }
    warn!(why = refusals.join("; "), "no control socket: `laterna status` and the like won't find this daemon");
    Ok(None)
}

/// What of the daemon stays as it is.
pub(super) struct Facts {
    pub(super) started: Instant,
    pub(super) http: Vec<SocketAddr>,
    pub(super) udp: u16,
    pub(super) tls: Option<Tls>,
    /// Whether viewers can come by TCP too.
    pub(super) has_tcp: bool,
    pub(super) queues: Queues,
    /// The URLs of STUN and TURN servers, and where each one's task tells how it stands.
    pub(super) ice_servers: Vec<(String, watch::Receiver<relay::Standing>)>,
}

/// Where makers put what they have made.
pub(super) struct Queues {
    pub(super) pictures: Inbox<Arc<Unit>>,
    pub(super) sound: Inbox<Arc<Unit>>,
}

impl Queues {
    fn lost(&self, now: Instant, join: &Inbox<JoinIn>) -> Lost {
        Lost { pictures: self.pictures.overflow(now), sound: self.sound.overflow(now), requests: join.overflow(now) }
    }
}

/// What of the daemon a reload may change.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) name: String,
    pub(super) max_viewers: usize,
    pub(super) fps: u32,
    /// The config file in use.
    pub(super) file: Option<Arc<Path>>,
    /// The room's first, where there is one.
    pub(super) desks: Vec<Desk>,
}

/// Answers operators.
pub(super) struct Desks {
    pub(super) facts: Facts,
    pub(super) join: Inbox<JoinIn>,
    pub(super) makers: Makers,
    codes: Arc<Codes>,
    /// To who steers.
    orders: mpsc::Sender<Order>,
    pub(super) events: Events,
    live: Mutex<Live>,
    /// Since when what is away.
    chronicle: Arc<Mutex<Chronicle>>,
}

impl Operator for Desks {
    async fn answer(&self, request: Request) -> Reply {
        let reply = match request {
            Request::Status => self.status().await.map(|status| Reply::Status(Box::new(status))),
            Request::Peers => self.peers().await.map(Reply::Peers),
            Request::Call { peer, server } => self.call(&peer, server.as_deref()).await.map(Reply::Called),
            Request::Kick { viewer } => self.kick(viewer).await.map(Reply::Kicked),
            Request::Switch { to } => self.switch(to).await.map(Reply::Switched),
            Request::Codes { show } => self.list_codes(show).await.map(Reply::Codes),
            Request::AddCode { name, expires_s } => self.add_code(&name, expires_s).map(Reply::CodeAdded),
            Request::RevokeCode { name } => self.revoke_code(&name).await.map(Reply::CodeRevoked),
            Request::Events => Err(Complaint::new(Kind::Other, "events are followed, not asked for")),
        };
        reply.unwrap_or_else(Reply::Error)
    }

    fn follow(&self) -> (Listener, Event) {
        (self.events.listen(), Event::Following { name: self.live().name })
    }
}

impl Desks {
    pub(super) fn new(
        (facts, live): (Facts, Live),
        join: Inbox<JoinIn>,
        makers: Makers,
        (codes, orders): (Arc<Codes>, mpsc::Sender<Order>),
        events: Events,
        chronicle: Arc<Mutex<Chronicle>>,
    ) -> Self {
        Self { facts, join, makers, codes, orders, events, live: Mutex::new(live), chronicle }
    }

    /// What holds now.
    pub(super) fn live(&self) -> Live {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_live(&self, live: Live) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// What is broadcast, to so many that are `watching` and where, for the service manager's status line.
    pub(super) fn in_words(&self, watching: usize) -> String {
        let whom = match watching {
            0 => "nobody".to_owned(),
            1 => "1 viewer".to_owned(),
            more => format!("{more} viewers"),
        };
        let (what, name) = (self.makers.source().what, self.live().name);
        let (http, udp) = (listening(&self.facts.http), self.facts.udp);
        format!("broadcasting {what} to {whom} as {name}: http {http}, media at UDP port {udp}")
    }

    /// Tells the HTTP server how the daemon is, whenever it asks, until `stopped`.
    pub(super) async fn tell(self: Arc<Self>, mut looks: Looks, mut stopped: watch::Receiver<bool>) {
        loop {
            let reply = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                reply = looks.recv() => reply,
            };
            let Some(reply) = reply else { return };
            if let Ok(status) = self.status().await {
                // Whoever asked may have gone away.
                let _ = reply.send(status);
            }
        }
    }

    async fn status(&self) -> Result<Status, Complaint> {
        let state = self.broadcast().await?;
        let live = self.live();
        let signaling = servers(&live.desks, &state).await;
        let (facts, makers, now) = (&self.facts, &self.makers, Instant::now());
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: live.name,
            uptime_s: now.saturating_duration_since(facts.started).as_secs(),
            http: facts.http.clone(),
            udp: facts.udp,
            tls_fingerprint: facts.tls.as_ref().map(Tls::fingerprint),
            max_viewers: live.max_viewers,
            source: makers.source(),
            sound: makers.sound(state.wanted.contains(&Codec::Opus)),
            size: makers.canvas().to_string(),
            encoders: makers.encoders(&state.wanted),
            viewers: state.viewers.iter().map(|viewer| told(viewer, now)).collect(),
            signaling,
            ice_servers: facts.ice_servers.iter().map(|(url, standing)| ice_server(url, &standing.borrow())).collect(),
            config: live.file.map(|file| file.to_string_lossy().into_owned()),
            problems: Vec::new(),
        };
        let known = Known {
            now,
            fps: live.fps,
            has_tcp: facts.has_tcp,
            descriptors: descriptors(),
            wrong_codes: self.codes.wrong(now),
            lost: facts.queues.lost(now, &self.join),
        };
        let chronicle = self.chronicle.lock().unwrap_or_else(PoisonError::into_inner);
        status.problems = problems::problems(&status, &known, &chronicle);
        Ok(status)
    }

    async fn peers(&self) -> Result<Vec<wire::Server>, Complaint> {
        let state = self.broadcast().await?;
        Ok(servers(&self.live().desks, &state).await)
    }

    async fn call(&self, peer: &str, server: Option<&str>) -> Result<Called, Complaint> {
        let desks = self.live().desks;
        let servers = servers(&desks, &self.broadcast().await?).await;
        let (index, peer) = target::resolve(&servers, peer, server)?;
        let called = Called { server: servers[index].server.clone(), id: peer.id, name: peer.name.clone() };
        let refused = |error| {
            let message = format!("{} at {}: {error}; see `laterna peers`", called.id, called.server);
            Complaint::new(Kind::Busy, message)
        };
        // A desk for each server, in the same order.
        desks[index].call(PeerId(called.id)).await.map_err(refused)?;
        info!(peer = called.id, server = called.server, "called by the operator");
        Ok(called)
    }

    async fn kick(&self, viewer: u32) -> Result<Kicked, Complaint> {
        let (reply, who) = oneshot::channel();
        self.join.push(JoinIn::Kick { number: viewer, reply }).map_err(|_| away())?;
        let unknown = || {
            let message = format!("no viewer has the number {viewer}; `laterna status` lists them");
            Complaint::new(Kind::Unknown, message)
        };
        let who = who.await.map_err(|_| away())?.ok_or_else(unknown)?;
        Ok(Kicked { viewer, at: who.at.to_string(), name: who.name })
    }

    async fn switch(&self, to: String) -> Result<wire::Switched, Complaint> {
        let (reply, outcome) = oneshot::channel();
        self.orders.try_send(Order::Switch { to, reply }).map_err(|_| away())?;
        let outcome = outcome.await.map_err(|_| away())?;
        outcome.map(|source| wire::Switched { source }).map_err(|why| Complaint::new(Kind::Unavailable, why))
    }

    async fn list_codes(&self, show: bool) -> Result<Vec<wire::Code>, Complaint> {
        let entries = self.codes.list().map_err(refused)?;
        let viewers = self.broadcast().await?.viewers;
        Ok(entries.iter().map(|entry| self.code(entry, &viewers, show)).collect())
    }

    fn add_code(&self, name: &str, expires_s: Option<u64>) -> Result<wire::Code, Complaint> {
        let expires = expires_s.map(Duration::from_secs);
        if expires.is_some_and(|expires| expires <= wall_now()) {
            let message = format!("the code {} would expire before now; name a later time", one_line(name));
            return Err(Complaint::new(Kind::BadRequest, message));
        }
        let entry = self.codes.add(name, expires).map_err(refused)?;
        Ok(self.code(&entry, &[], true))
    }

    async fn revoke_code(&self, name: &str) -> Result<wire::Revoked, Complaint> {
        let viewers = self.broadcast().await?.viewers;
        let (entry, instead, unkept) = self.codes.revoke(name).map_err(refused)?;
        // Nobody comes by it any more; those who did are ended.
        self.join.push_always(JoinIn::Revoke(entry.pass));
        let viewers = self.code(&entry, &viewers, false).viewers;
        if let Some(why) = unkept {
            let message = format!(
                "{} is revoked, and {viewers} viewers by it are ended, but it is still in the state directory ({why}): a restart would let it in again. \
                 It is tried again until it is out: make room, or let the daemon write there{}",
                entry.name,
                if instead.is_some() { "; the new code is in `laterna codes list --show`" } else { "" }
            );
            return Err(Complaint::new(Kind::Unavailable, message));
        }
        Ok(wire::Revoked { name: entry.name, viewers, instead: instead.map(|entry| self.code(&entry, &[], true)) })
    }

    fn code(&self, entry: &Entry, viewers: &[ViewerState], show: bool) -> wire::Code {
        let scheme = if self.facts.tls.is_some() { "https" } else { "http" };
        let open = || urls(scheme, &self.facts.http, Some(&entry.code));
        wire::Code {
            name: entry.name.clone(),
            origin: match entry.origin {
                Origin::Main => wire::CodeOrigin::Main,
                Origin::Config => wire::CodeOrigin::Config,
                Origin::Added => wire::CodeOrigin::Added,
            },
            expires_s: entry.expires.map(|expires| expires.as_secs()),
            expired: entry.is_expired(wall_now()),
            viewers: viewers.iter().filter(|viewer| viewer.caller.pass == Some(entry.pass)).count(),
            open: if show { open() } else { Vec::new() },
        }
    }

    async fn broadcast(&self) -> Result<BroadcastState, Complaint> {
        let (reply, state) = oneshot::channel();
        self.join.push(JoinIn::Look(reply)).map_err(|_| away())?;
        state.await.map_err(|_| away())
    }
}

/// How the daemon stands with each server, in the order of the desks; all are asked at once.
async fn servers(desks: &[Desk], broadcast: &BroadcastState) -> Vec<wire::Server> {
    let mut asked = JoinSet::new();
    for (index, desk) in desks.iter().cloned().enumerate() {
        asked.spawn(async move { (index, timeout(LOOKING, desk.look()).await.ok().flatten()) });
    }
    let mut states: Vec<Option<ServerState>> = desks.iter().map(|_| None).collect();
    while let Some(said) = asked.join_next().await {
        if let Ok((index, state)) = said {
            states[index] = state;
        }
    }
    let numbers: HashMap<_, _> = broadcast.viewers.iter().map(|viewer| (viewer.session, viewer.number)).collect();
    desks.iter().zip(states).map(|(desk, state)| server(desk, state, &numbers)).collect()
}

fn server(desk: &Desk, state: Option<ServerState>, numbers: &HashMap<SessionId, u32>) -> wire::Server {
    let unknown = wire::Server {
        server: desk.label.to_string(),
        standing: wire::Standing::Unknown,
        name: None,
        why: None,
        peers: Vec::new(),
    };
    let Some(state) = state else { return unknown };
    let (standing, name, why) = state.standing.told();
    let peers = state.peers.into_iter().map(|peer| {
        let viewer = peer.session.and_then(|session| numbers.get(&session)).copied();
        wire::Peer { id: peer.id.0, name: peer.name, viewer }
    });
    wire::Server { standing, name, why, peers: peers.collect(), ..unknown }
}

fn ice_server(url: &str, standing: &relay::Standing) -> wire::IceServer {
    let (standing, why) = herald::ice_standing(standing);
    wire::IceServer { url: url.to_owned(), standing, why }
}

fn told(viewer: &ViewerState, now: Instant) -> wire::Viewer {
    let rtt_ms = viewer.link.map(|link| u64::try_from(link.round_trip.as_millis()).unwrap_or(u64::MAX));
    // One packet of hundreds is no nothing.
    let loss_percent = viewer.link.map(|link| (u32::from(link.fraction_lost) * 100).div_ceil(256));
    let way = viewer.way.map(|way| match way {
        Way::Udp => wire::Way::Udp,
        Way::Tcp => wire::Way::Tcp,
        Way::Relayed => wire::Way::Relayed,
    });
    let (quality, because) = problems::quality(rtt_ms, loss_percent, way);
    wire::Viewer {
        viewer: viewer.number,
        at: viewer.caller.at.to_string(),
        name: viewer.caller.name.clone(),
        state: match viewer.place {
            Place::Joining => Stage::Joining,
            Place::Live => Stage::Connected,
        },
        since_s: now.saturating_duration_since(viewer.since).as_secs(),
        codecs: viewer.codecs.iter().map(ToString::to_string).collect(),
        rtt_ms,
        loss_percent,
        way,
        quality,
        because,
    }
}

fn refused(error: CodesError) -> Complaint {
    let kind = match &error {
        CodesError::Open | CodesError::NotKept(_) => Kind::Unavailable,
        CodesError::Book(BookError::Unknown(_)) => Kind::Unknown,
        CodesError::Book(_) => Kind::BadRequest,
    };
    Complaint::new(kind, error.to_string())
}

/// Descriptors that are open, and how many there may be; `None` where the system does not say.
fn descriptors() -> Option<(u64, u64)> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some((open as u64, getrlimit(Resource::Nofile).current?))
}

fn away() -> Complaint {
    Complaint::new(Kind::Unavailable, "the daemon is too busy, or ending; try again")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_default_place_that_can_not_be_had_is_passed_over_and_a_given_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let [bad, good] = [file.join("laterna/control.sock"), directory.path().join("laterna/control.sock")];
        let socket = open_first(&[bad.clone(), good.clone()], None, false).unwrap().unwrap();
        assert_eq!(socket.path(), good);
        assert!(matches!(open_first(&[bad.clone(), good.clone()], None, false), Err(SocketError::Live { .. })));
        assert!(open_first(std::slice::from_ref(&bad), None, false).unwrap().is_none());
        let error = open_first(std::slice::from_ref(&bad), None, true).unwrap_err().to_string();
        assert!(error.contains(&bad.display().to_string()), "{error}");
    }
}
