//! The 'stream ok' flow of socket.io pages: the daemon as one of a server's users.
//!
//! A pure core. A viewer asks by `chat request`, is told `stream ok`, says the same when it is ready, and is offered to: it has asked, whatever `--call`
//! says. A page that offers by itself is answered. Whom `--call` includes gets an offer without being asked first, unless it begins one of the two; who bears
//! the daemon's own name is never called, as it may be the daemon's former self that the server has not missed yet.
//!
//! Candidates come without their sender and are matched by the `ice-ufrag` in them; those whose description is still to come are kept. The server's ids
//! are texts; peers are numbered here, in the order of their coming, and no number is used again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use serde_json::{Value, json};
use url::Url;

use super::Trickle;
use super::client::frames::{Breach, FrameProtocol, Output};
use super::peers::{CallError, CallPolicy, Peers, Useless};
use super::words::{self, Kind, Word};
use crate::id::{PeerId, SessionId};

pub mod engineio;
pub mod packet;
#[cfg(test)]
mod tests;

use engineio::{EngineIo, Heard};
use packet::Malformed;

/// The most peers that are known at a time; the oldest without a session gives way.
const MOST_PEERS: usize = 4096;
/// The most characters of a name.
const NAME_CHARACTERS: usize = 128;
/// The most candidates that are kept until somebody's description has their `ice-ufrag`.
const KEPT_CANDIDATES: usize = 64;

/// The daemon at such a server.
pub struct SocketIo {
    name: String,
    engine: EngineIo,
    /// The socket's id, while it is joined.
    own: Option<String>,
    signed_in: Option<String>,
    /// Whether the server has said on this connection who is there.
    is_listed: bool,
    peers: Peers,
    ids: HashMap<String, PeerId>,
    members: BTreeMap<PeerId, Member>,
    numbered: u64,
    descriptions: u64,
    kept: VecDeque<Trickle>,
}

/// A peer as this server knows it.
#[derive(Debug)]
struct Member {
    id: String,
    talk: Talk,
}

/// How far the flow is with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Talk {
    /// Nothing has been said.
    Silent,
    /// It asked, and has been told `stream ok`; its own is awaited.
    Asked,
    /// It has described itself, or is to.
    Described {
        /// Later ones have higher numbers.
        number: u64,
        /// Whether it trickles: its description has no candidates, or is not there yet.
        trickles: bool,
    },
}

impl SocketIo {
    /// Signs in as `name` and calls by `call`; `sessions` draws fresh ids.
    pub fn new(name: &str, call: CallPolicy, sessions: impl FnMut() -> SessionId + Send + 'static) -> Self {
        Self {
            name: name.to_owned(),
            engine: EngineIo::new(),
            own: None,
            signed_in: None,
            is_listed: false,
            peers: Peers::new(call, sessions),
            ids: HashMap::new(),
            members: BTreeMap::new(),
            numbered: 0,
            descriptions: 0,
            kept: VecDeque::new(),
        }
    }

    fn handle_event(&mut self, now: Instant, name: &str, arguments: Vec<Value>) {
        let heard = match name {
            "online" => self.online(now, &arguments),
            "offline" => self.offline(&arguments),
            "chat request" => self.asks(now, &arguments),
            "stream ok" => self.is_ready(now, &arguments),
            "offer" | "answer" => self.describes(now, name, &arguments),
            "candidate" => self.trickles(&arguments),
            "stop" => self.stops(&arguments),
            // What else a server says to its pages, such as a variant's `ping`.
            _ => Ok(()),
        };
        if let Err((peer, why)) = heard {
            self.peers.handle_useless(peer, why);
        }
    }

    fn online(&mut self, now: Instant, arguments: &[Value]) -> Result<(), Fault> {
        for entry in list(arguments)? {
            let Some(id) = id_of(&entry) else { continue };
            let name = name_of(&entry);
            match self.ids.get(id) {
                Some(&peer) if self.peers.name(peer) == name => {}
                Some(&peer) => self.peers.handle_renamed(peer, name.as_bytes()),
                None => drop(self.join(now, id, name)),
            }
        }
        if !std::mem::replace(&mut self.is_listed, true) {
            self.peers.handle_listed(now);
        }
        Ok(())
    }

    fn offline(&mut self, arguments: &[Value]) -> Result<(), Fault> {
        for entry in list(arguments)? {
            let Some(peer) = id_of(&entry).and_then(|id| self.ids.remove(id)) else { continue };
            self.members.remove(&peer);
            // Its page may be there still, with a new socket: what is connected ends by itself where not.
            self.peers.handle_dropped(peer);
        }
        Ok(())
    }

    fn asks(&mut self, now: Instant, arguments: &[Value]) -> Result<(), Fault> {
        let entry = arguments.first().unwrap_or(&Value::Null);
        let id = id_of(entry).ok_or(UNKNOWN)?;
        let peer = self.ids.get(id).copied().or_else(|| self.join(now, id, name_of(entry))).ok_or(UNEXPECTED)?;
        self.peers.handle_asking(peer);
        if let Some(member) = self.members.get_mut(&peer) {
            member.talk = Talk::Asked;
            self.engine.send("stream ok", &[json!(member.id)]);
        }
        Ok(())
    }

    fn is_ready(&mut self, now: Instant, arguments: &[Value]) -> Result<(), Fault> {
        let peer = self.sender(arguments)?;
        if self.members.get(&peer).map(|member| member.talk) != Some(Talk::Asked) {
            return Err((Some(peer), Useless::Unexpected));
        }
        if self.peers.call(peer, now) == Err(CallError::Busy) {
            // It has gone through the whole handshake since: what is under way with it is for a connection that it has given up.
            self.peers.handle_word(peer, Word::Bye);
            let _ = self.peers.call(peer, now);
        }
        self.has_described(peer, true);
        Ok(())
    }

    fn describes(&mut self, now: Instant, event: &str, arguments: &[Value]) -> Result<(), Fault> {
        let id = arguments.first().and_then(Value::as_str).filter(|id| packet::is_id(id)).ok_or(UNKNOWN)?;
        let description = arguments.get(1).map(unwrapped).as_ref().and_then(words::description);
        let Some(Word::Description { kind, sdp }) = description else {
            return Err((self.ids.get(id).copied(), Useless::Unknown));
        };
        let peer = match self.ids.get(id) {
            Some(&peer) => peer,
            // A server that tells nobody who is there.
            None if event == "offer" => self.join(now, id, "").ok_or(UNEXPECTED)?,
            None => return Err(UNEXPECTED),
        };
        let ufrag = words::ufrag(&sdp).map(str::to_owned);
        let trickles = !sdp.contains("a=candidate:");
        self.peers.handle_word(peer, Word::Description { kind, sdp });
        self.has_described(peer, trickles);
        let (its, others): (VecDeque<_>, _) = self.kept.drain(..).partition(|trickle| trickle.ufrag == ufrag);
        self.kept = others;
        for trickle in its {
            self.peers.handle_word(peer, Word::Candidate(trickle));
        }
        Ok(())
    }

    /// Takes a candidate, alone or after or before the id of its sender.
    fn trickles(&mut self, arguments: &[Value]) -> Result<(), Fault> {
        let sender = self.sender(arguments).ok();
        let said = arguments.iter().map(unwrapped).find(|value| !value.is_string());
        let Some(Word::Candidate(trickle)) = said.as_ref().and_then(words::candidate) else {
            return Err((sender, Useless::Unknown));
        };
        let known = sender.or_else(|| match &trickle.ufrag {
            Some(ufrag) => self.peers.with_ufrag(ufrag),
            None => self.newest_that_trickles(trickle.end),
        });
        match known {
            Some(peer) => self.peers.handle_word(peer, Word::Candidate(trickle)),
            None if trickle.ufrag.is_some() => {
                self.kept.push_back(trickle);
                if self.kept.len() > KEPT_CANDIDATES {
                    self.kept.pop_front();
                    return Err(UNEXPECTED);
                }
            }
            // The daemon's own checks find who can reach it: nothing is lost by an end.
            None if trickle.end => {}
            None => return Err(UNEXPECTED),
        }
        Ok(())
    }

    /// Takes a variant's `stop`, which goes to everyone: the first id is the target's, the second the sender's where the server tells it.
    fn stops(&mut self, arguments: &[Value]) -> Result<(), Fault> {
        let target = arguments.first().and_then(Value::as_str).ok_or(UNKNOWN)?;
        if !self.is_own(target) {
            return Ok(());
        }
        let mut talking = self.members.iter().filter(|(_, member)| member.talk != Talk::Silent).map(|(peer, _)| *peer);
        let sender = match (arguments.get(1), talking.next(), talking.next()) {
            (Some(_), ..) => self.sender(&arguments[1..])?,
            (None, Some(only), None) => only,
            // It may be anybody's: whose connection ends is seen from that.
            (None, ..) => return Ok(()),
        };
        self.peers.handle_word(sender, Word::Bye);
        if let Some(member) = self.members.get_mut(&sender) {
            member.talk = Talk::Silent;
        }
        Ok(())
    }

    /// Numbers a new peer; `None` for the daemon itself, and where there are too many with sessions.
    fn join(&mut self, now: Instant, id: &str, name: &str) -> Option<PeerId> {
        if self.is_own(id) {
            return None;
        }
        if self.members.len() >= MOST_PEERS {
            let oldest = self.members.keys().copied().find(|peer| self.peers.session(*peer).is_none())?;
            if let Some(member) = self.members.remove(&oldest) {
                self.ids.remove(&member.id);
            }
            self.peers.handle_dropped(oldest);
        }
        self.numbered += 1;
        let peer = PeerId(self.numbered);
        self.ids.insert(id.to_owned(), peer);
        self.members.insert(peer, Member { id: id.to_owned(), talk: Talk::Silent });
        self.peers.handle_joined(peer, name.as_bytes(), now);
        if name == self.name {
            self.peers.handle_asking(peer);
        }
        Some(peer)
    }

    /// Whether an id is the daemon's; early servers put their namespace before it.
    fn is_own(&self, id: &str) -> bool {
        self.own.as_deref().is_some_and(|own| id == own || id.strip_prefix("/#") == Some(own))
    }

    /// The known peer whose id is among the arguments.
    fn sender(&self, arguments: &[Value]) -> Result<PeerId, Fault> {
        let id = arguments.iter().find_map(Value::as_str).ok_or(UNKNOWN)?;
        self.ids.get(id).copied().ok_or(UNEXPECTED)
    }

    fn has_described(&mut self, peer: PeerId, trickles: bool) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        self.descriptions += 1;
        member.talk = Talk::Described { number: self.descriptions, trickles };
    }

    /// Whose candidate it is that says so in no way: the newest connection's; with `alone`, only where there is one.
    fn newest_that_trickles(&self, alone: bool) -> Option<PeerId> {
        let mut trickling: Vec<_> = self
            .members
            .iter()
            .filter_map(|(peer, member)| match member.talk {
                Talk::Described { number, trickles: true } => Some((number, *peer)),
                Talk::Silent | Talk::Asked | Talk::Described { .. } => None,
            })
            .collect();
        trickling.sort_unstable();
        trickling.pop().filter(|_| !alone || trickling.is_empty()).map(|(_, peer)| peer)
    }
}

impl FrameProtocol for SocketIo {
    /// They are what viewers attach to their events, and no packets.
    fn takes_bytes(&self) -> bool {
        false
    }

    fn address(&self, url: &Url) -> Url {
        self.engine.address(url)
    }

    fn handle_refused(&mut self, status: u16) {
        self.engine.handle_refused(status);
    }

    fn handle_open(&mut self, now: Instant) {
        self.engine.handle_open(now);
    }

    fn handle_frame(&mut self, now: Instant, frame: &str) -> Result<(), Breach> {
        match self.engine.handle_frame(now, frame)? {
            Heard::Nothing => {}
            Heard::Joined(own) => {
                self.own = Some(own);
                self.engine.send("online", &[json!(self.name)]);
                self.signed_in = Some(self.name.clone());
            }
            Heard::Event { name, arguments } if self.own.is_some() => self.handle_event(now, &name, arguments),
            Heard::Event { .. } => {}
            Heard::Malformed(Malformed::Json) => self.peers.handle_useless(None::<PeerId>, Useless::NotJson),
            Heard::Malformed(Malformed::Unknown) => self.peers.handle_useless(None::<PeerId>, Useless::Unknown),
        }
        Ok(())
    }

    fn handle_closed(&mut self, now: Instant) {
        self.engine.handle_closed();
        (self.own, self.signed_in, self.is_listed) = (None, None, false);
        self.ids.clear();
        self.kept.clear();
        self.members.clear();
        self.peers.handle_lost(now);
    }

    fn sign_out(&mut self) {
        self.engine.leave();
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Breach> {
        self.peers.handle_timeout(now);
        self.engine.handle_timeout(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.peers.poll_timeout().into_iter().chain(self.engine.poll_timeout()).min()
    }

    fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    fn poll_own(&mut self) -> Option<Output> {
        let frame = self.engine.poll_frame().map(Output::Frame);
        frame.or_else(|| self.signed_in.take().map(Output::SignedIn))
    }

    fn say(&mut self, to: PeerId, word: &Word) {
        let Some(member) = self.members.get(&to) else { return };
        // The daemon's candidates are in its descriptions, and it never hangs up by a word.
        let Word::Description { kind, sdp } = word else { return };
        let event = if *kind == Kind::Offer { "offer" } else { "answer" };
        self.engine.send(event, &[json!(member.id), words::described(*kind, sdp)]);
        if *kind == Kind::Offer && member.talk != Talk::Asked {
            self.has_described(to, true);
        }
    }

    fn peers(&self) -> &Peers {
        &self.peers
    }

    fn peers_mut(&mut self) -> &mut Peers {
        &mut self.peers
    }
}

/// Whose message is of no use, where that is known, and why.
type Fault = (Option<PeerId>, Useless);

const UNKNOWN: Fault = (None, Useless::Unknown);
const UNEXPECTED: Fault = (None, Useless::Unexpected);

/// A list of peers: an array, or the text of one.
fn list(arguments: &[Value]) -> Result<Vec<Value>, Fault> {
    match arguments.first().map(unwrapped) {
        Some(Value::Array(entries)) => Ok(entries),
        _ => Err(UNKNOWN),
    }
}

/// A value, or the one that it is the text of.
fn unwrapped(value: &Value) -> Value {
    let of_text = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    of_text.unwrap_or_else(|| value.clone())
}

fn id_of(entry: &Value) -> Option<&str> {
    entry.get("id").and_then(Value::as_str).filter(|id| packet::is_id(id))
}

fn name_of(entry: &Value) -> &str {
    let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
    name.char_indices().nth(NAME_CHARACTERS).map_or(name, |(at, _)| &name[..at])
}
