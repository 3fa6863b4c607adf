//! What the media thread, the join thread and the servers' tasks share: for each server how it is reached, and what it is used for at present.
//!
//! A shell around the cores: it carries what they put out to the socket, to the streams' queues, to [`Reach`] and to the tasks. Its lock is held for a message at a time.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::allocation::Allocation;
use super::probe::Probe;
use super::wire::{Envelope, Message};
use super::{Event, Lost};
use crate::session::engine::Path;
use crate::session::inbox::Inbox;
use crate::session::reach::Reach;
use crate::session::wake::Waker;

/// How long a packet may wait for a stream: as long as for the socket, and a repetition of TCP's more.
const MOST_WAIT: Duration = Duration::from_millis(400);

/// Messages of streams that wait for the media thread.
const MOST_MESSAGES: usize = 1024;

/// Names a server; they are numbered as they were added.
pub type ServerId = usize;

/// How messages go to a server.
#[derive(Debug, Clone)]
pub enum Way {
    /// By the media socket, to this address.
    Datagrams(SocketAddr),
    /// By a stream, whose writer reads this queue.
    Stream(mpsc::Sender<Departing>),
}

/// A message on its way to a stream.
#[derive(Debug)]
pub struct Departing {
    /// Whose it is; 0 is the daemon.
    pub viewer: u32,
    /// Since when it waits.
    pub at: Instant,
    /// Its bytes, padded.
    pub data: Vec<u8>,
}

impl Departing {
    /// Whether it came too late to be of use to its viewer.
    pub fn is_late(&self, now: Instant) -> bool {
        self.viewer != 0 && now.saturating_duration_since(self.at) > MOST_WAIT
    }
}

/// What a server is used for.
pub enum Contact {
    /// It tells what it sees.
    Probe(Probe),
    /// It relays.
    Allocation(Box<Allocation>),
}

/// What the task of a server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It does what it is for.
    Ready,
    /// Nothing goes by it any more.
    Lost(Lost),
}

type Servers = BTreeMap<ServerId, Server>;

#[derive(Default)]
struct Table {
    servers: Servers,
    /// How many there have been.
    count: ServerId,
}

struct Server {
    used: Option<(Way, Contact)>,
    /// The local address that it was heard at last.
    heard_at: Option<SocketAddr>,
    /// Its address for us, once viewers are told of it.
    relayed: Option<SocketAddr>,
    /// The local address, and what it sees of it.
    seen: Option<(SocketAddr, SocketAddr)>,
    news: mpsc::Sender<News>,
    /// The label of the signaling server that named it, which alone is told of its address for us; none where everybody is.
    only: Option<Arc<str>>,
    /// Whether it is taken out as soon as its last words are sent.
    is_leaving: bool,
}

/// The servers of the daemon.
pub struct Relays {
    reach: Arc<Reach>,
    /// What came by streams; its waker is the media thread's.
    messages: Inbox<(ServerId, Vec<u8>)>,
    table: Mutex<Table>,
    /// Counts changes of the addresses that a [`View`] has.
    version: AtomicU64,
    /// Viewers of whom a stream lost packets.
    late: Mutex<HashSet<u32>>,
    has_late: AtomicBool,
}

/// Refuses to relay at one address twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another entry uses the same server over UDP, which takes both for one client: one of them is enough")]
pub struct SameServer;

/// How a payload goes to a viewer by a relay.
pub struct Wrapped {
    /// Where the server is.
    pub way: Way,
    /// What goes around it.
    pub envelope: Envelope,
    /// Whether that is a channel: else one may be wanted.
    pub is_channel: bool,
}

impl Relays {
    /// Makes an empty table; `waker` is the media thread's.
    pub fn new(reach: Arc<Reach>, waker: Waker) -> Self {
        Self {
            reach,
            messages: Inbox::new(MOST_MESSAGES, waker),
            table: Mutex::default(),
            version: AtomicU64::new(0),
            late: Mutex::default(),
            has_late: AtomicBool::new(false),
        }
    }

    /// Adds a server that is not used yet; its task gets the news. Where a signaling server has named it, its label is `only`: nobody else is told.
    pub fn add(&self, news: mpsc::Sender<News>, only: Option<Arc<str>>) -> ServerId {
        let mut table = self.lock();
        let id = table.count;
        table.count += 1;
        let server = Server { used: None, heard_at: None, relayed: None, seen: None, news, only, is_leaving: false };
        table.servers.insert(id, server);
        id
    }

    /// Begins to use a server.
    ///
    /// # Errors
    /// Where another server of the table relays at the same address by the media socket: it takes both for one client, which has one allocation (RFC 8656, section 5).
    pub fn open(&self, server: ServerId, way: Way, contact: Contact) -> Result<(), SameServer> {
        let mut table = self.lock();
        let is_taken = |(id, other): (&ServerId, &Server)| {
            let address = match (&way, &contact, &other.used) {
                (Way::Datagrams(address), Contact::Allocation(_), Some((at, Contact::Allocation(_)))) => (address, at),
                _ => return false,
            };
            *id != server && matches!(address, (one, Way::Datagrams(other)) if one == other)
        };
        if table.servers.iter().any(is_taken) {
            return Err(SameServer);
        }
        if let Some(server) = table.servers.get_mut(&server) {
            server.used = Some((way, contact));
        }
        self.version.fetch_add(1, Ordering::Release);
        self.messages.waker().wake();
        Ok(())
    }

    /// Takes a server out; its allocation is given back.
    pub fn remove(&self, now: Instant, id: ServerId) {
        let mut table = self.lock();
        let Some(server) = table.servers.get_mut(&id) else { return };
        server.is_leaving = true;
        if let Some((_, Contact::Allocation(allocation))) = &mut server.used {
            allocation.close(now);
        }
        self.messages.waker().wake();
    }

    /// Ends the use of a server whose stream has ended.
    pub fn close(&self, server: ServerId) {
        self.forget(&mut self.lock().servers, server);
    }

    /// Gives all allocations back; [`Self::pump`] sends it.
    pub fn close_all(&self, now: Instant) {
        for server in self.lock().servers.values_mut() {
            if let Some((_, Contact::Allocation(allocation))) = &mut server.used {
                allocation.close(now);
            }
        }
    }

    /// Does what is due and carries what the cores put out: messages of the socket go to `send`. Returns when it wants to be called next.
    pub fn pump(&self, now: Instant, mut send: impl FnMut(SocketAddr, &[u8])) -> Option<Instant> {
        let mut table = self.lock();
        let servers = &mut table.servers;
        let mut next: Option<Instant> = None;
        let ids: Vec<_> = servers.keys().copied().collect();
        for id in ids {
            let Some(server) = servers.get_mut(&id) else { continue };
            let is_leaving = server.is_leaving;
            let mut events = Vec::new();
            let Some((way, contact)) = &mut server.used else {
                if is_leaving {
                    servers.remove(&id);
                }
                continue;
            };
            let mut transmit = |message: Vec<u8>| match way {
                Way::Datagrams(address) => send(*address, &message),
                // A stream that takes nothing more loses a request, which fails in time.
                Way::Stream(queue) => drop(queue.try_send(Departing { viewer: 0, at: now, data: message })),
            };
            let due = match contact {
                Contact::Probe(probe) => {
                    match probe.handle_timeout(now) {
                        Ok(question) => question.into_iter().for_each(transmit),
                        Err(lost) => events.push(Event::Lost(lost)),
                    }
                    Some(probe.poll_timeout())
                }
                Contact::Allocation(allocation) => {
                    allocation.handle_timeout(now);
                    std::iter::from_fn(|| allocation.poll_transmit()).for_each(&mut transmit);
                    events.extend(std::iter::from_fn(|| allocation.poll_event()));
                    allocation.poll_timeout()
                }
            };
            next = next.into_iter().chain(due).min();
            for event in events {
                self.handle_event(servers, id, event);
            }
            if is_leaving {
                self.forget(servers, id);
                servers.remove(&id);
            }
        }
        next
    }

    /// Takes a datagram from a server's address that came to `to`: who sent what is in it, if it carries something.
    pub fn handle_datagram(
        &self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        data: &[u8],
    ) -> Option<(Path, Range<usize>)> {
        let mut table = self.lock();
        let servers = &mut table.servers;
        let at_address =
            |server: &Server| matches!(&server.used, Some((Way::Datagrams(address), _)) if *address == from);
        // A STUN server and a TURN server may be one: a message is for the one that waits for it.
        let ids: Vec<_> = servers.iter().filter(|(_, server)| at_address(server)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(server) = servers.get_mut(&id) {
                server.heard_at = Some(to);
            }
            match self.take(servers, id, now, data) {
                Taken::Carried(path, range) => return Some((path, range)),
                Taken::Response => return None,
                Taken::No => {}
            }
        }
        None
    }

    /// The same for a message from a server's stream.
    pub fn handle_message(&self, now: Instant, server: ServerId, data: &[u8]) -> Option<(Path, Range<usize>)> {
        match self.take(&mut self.lock().servers, server, now, data) {
            Taken::Carried(path, range) => Some((path, range)),
            Taken::Response | Taken::No => None,
        }
    }

    /// Takes a message that came by a server's stream, for the media thread; a full queue loses it, counted, and whoever sent it repeats it.
    pub fn push_message(&self, server: ServerId, data: &[u8]) {
        let _ = self.messages.push((server, data.to_vec()));
    }

    /// What came by streams.
    pub fn take_messages(&self) -> VecDeque<(ServerId, Vec<u8>)> {
        self.messages.drain()
    }

    /// How `length` bytes go along a path that begins at a relayed address; `None` where they can't.
    pub fn wrap(&self, now: Instant, path: Path, length: usize) -> Option<Wrapped> {
        self.with_allocation(path.local, |way, allocation| {
            let (envelope, is_channel) = allocation.wrap(now, path.remote, length)?;
            Some(Wrapped { way: way.clone(), envelope, is_channel })
        })?
    }

    /// Wants a channel along a path that begins at a relayed address.
    pub fn want_channel(&self, now: Instant, path: Path) {
        self.with_allocation(path.local, |_, allocation| allocation.want_channel(now, path.remote));
    }

    /// Notes that a viewer's packets were lost on the way to a stream.
    pub fn note_late(&self, viewer: u32) {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).insert(viewer);
        self.has_late.store(true, Ordering::Release);
        self.messages.waker().wake();
    }

    /// Whose packets were since the last call.
    pub fn take_late(&self) -> HashSet<u32> {
        if !self.has_late.swap(false, Ordering::Acquire) {
            return HashSet::new();
        }
        std::mem::take(&mut self.late.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether an address of the daemon's is one at a TURN server.
    pub fn has_relayed(&self, local: SocketAddr) -> bool {
        self.lock().servers.values().any(|server| server.relayed == Some(local))
    }

    fn with_allocation<T>(&self, relayed: SocketAddr, act: impl FnOnce(&Way, &mut Allocation) -> T) -> Option<T> {
        let mut table = self.lock();
        let used = table.servers.values_mut().filter_map(|server| match &mut server.used {
            Some((way, Contact::Allocation(allocation))) => Some((way, allocation)),
            Some((_, Contact::Probe(_))) | None => None,
        });
        let (way, allocation) = used.into_iter().find(|(_, allocation)| allocation.relayed() == Some(relayed))?;
        let before = allocation.poll_timeout();
        let result = act(way, allocation);
        // What is to be asked of the server is the media thread's to send.
        if allocation.has_transmits() || allocation.poll_timeout() < before {
            self.messages.waker().wake();
        }
        Some(result)
    }

    fn take(&self, servers: &mut Servers, id: ServerId, now: Instant, data: &[u8]) -> Taken {
        let Some((_, contact)) = servers.get_mut(&id).and_then(|server| server.used.as_mut()) else { return Taken::No };
        let event = match contact {
            Contact::Probe(probe) => {
                let Some(event) = Message::parse(data).and_then(|message| probe.handle_message(now, &message)) else {
                    return Taken::No;
                };
                event
            }
            Contact::Allocation(allocation) => {
                if let (Some((remote, range)), Some(local)) = (allocation.unwrap(now, data), allocation.relayed()) {
                    return Taken::Carried(Path::udp(local, remote), range);
                }
                let taken = Message::parse(data).is_some_and(|message| allocation.handle_message(now, &message));
                // What it says of that is carried by the pump.
                return if taken { Taken::Response } else { Taken::No };
            }
        };
        event.into_iter().for_each(|event| self.handle_event(servers, id, event));
        Taken::Response
    }

    fn handle_event(&self, servers: &mut Servers, id: ServerId, event: Event) {
        let Some(server) = servers.get_mut(&id) else { return };
        let is_probe = matches!(server.used, Some((_, Contact::Probe(_))));
        match event {
            Event::Seen(seen) => {
                let by_datagrams = matches!(server.used, Some((Way::Datagrams(_), _)));
                let new = server.heard_at.filter(|_| by_datagrams).map(|base| (base, seen));
                if server.seen != new {
                    let old = std::mem::replace(&mut server.seen, new);
                    self.tell_seen(servers, [old, new]);
                }
                if is_probe {
                    self.tell_task(servers, id, News::Ready);
                }
            }
            Event::Relayed(address) => {
                server.relayed = Some(address);
                self.reach.add_relayed(address, server.only.clone());
                self.version.fetch_add(1, Ordering::Release);
                self.tell_task(servers, id, News::Ready);
            }
            Event::Lost(lost) => {
                // Its task hears why before it finds its queue gone.
                self.tell_task(servers, id, News::Lost(lost));
                self.forget(servers, id);
            }
        }
    }

    fn forget(&self, servers: &mut Servers, id: ServerId) {
        let Some(server) = servers.get_mut(&id) else { return };
        server.used = None;
        let (relayed, seen) = (server.relayed.take(), server.seen.take());
        if let Some(address) = relayed {
            self.reach.remove_relayed(address);
        }
        self.tell_seen(servers, [seen, None]);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Where several servers see one address, the first one's word counts.
    fn tell_seen(&self, servers: &Servers, changed: [Option<(SocketAddr, SocketAddr)>; 2]) {
        for (base, _) in changed.into_iter().flatten() {
            let seen = servers.values().filter_map(|server| server.seen).find(|(of, _)| *of == base);
            self.reach.set_reflexive(base, seen.map(|(_, seen)| seen));
        }
    }

    /// A task that has not read its news yet knows by the next one.
    fn tell_task(&self, servers: &Servers, id: ServerId, news: News) {
        if let Some(server) = servers.get(&id) {
            let _ = server.news.try_send(news);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves at worst a server that fails in time.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Taken {
    /// It carries what a viewer sent.
    Carried(Path, Range<usize>),
    /// It was a response that was waited for.
    Response,
    /// It was nothing of this server's.
    No,
}

/// A thread's own picture of the table's addresses, so that packets that go by no relay take no lock.
#[derive(Default)]
pub struct View {
    relays: Option<Arc<Relays>>,
    version: Option<u64>,
    relayed: Vec<SocketAddr>,
    servers: Vec<SocketAddr>,
}

impl View {
    /// A view of a table.
    pub fn new(relays: Arc<Relays>) -> Self {
        Self { relays: Some(relays), ..Self::default() }
    }

    /// The table, where an address is a relay's.
    pub fn relay_at(&mut self, address: SocketAddr) -> Option<&Arc<Relays>> {
        self.look();
        self.relays.as_ref().filter(|_| self.relayed.contains(&address))
    }

    /// The table, where an address is that of a server.
    pub fn server_at(&mut self, address: SocketAddr) -> Option<&Arc<Relays>> {
        self.look();
        self.relays.as_ref().filter(|_| self.servers.contains(&address))
    }

    /// The table, where there is one.
    pub fn relays(&self) -> Option<&Arc<Relays>> {
        self.relays.as_ref()
    }

    fn look(&mut self) {
        let Some(relays) = &self.relays else { return };
        let version = relays.version.load(Ordering::Acquire);
        if self.version == Some(version) {
            return;
        }
        self.version = Some(version);
        let table = relays.lock();
        let used = || table.servers.values().filter_map(|server| server.used.as_ref());
        self.relayed.clear();
        self.relayed.extend(used().filter_map(|(_, contact)| match contact {
            Contact::Allocation(allocation) => allocation.relayed(),
            Contact::Probe(_) => None,
        }));
        self.servers.clear();
        self.servers.extend(used().filter_map(|(way, _)| match way {
            Way::Datagrams(address) => Some(*address),
            Way::Stream(_) => None,
        }));
    }
}

#[cfg(test)]
mod tests;
