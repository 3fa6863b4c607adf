//! MDN's video-offer/video-answer chat server: the daemon as one of its users.
//!
//! A pure core. The server gives an id, takes a name (another than was asked for, where that is taken), and says who is there in whole lists; everything
//! else goes from user to user through it, as it is. It falls over for everybody when it is sent something that it does not expect, so it is sent nothing
//! but the daemon's name and words for users who are there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::id::{PeerId, SessionId};
use crate::signaling::Trickle;
use crate::signaling::client::frames::{Breach, FrameProtocol, Output};
use crate::signaling::peers::{CallPolicy, Peers, Useless};
use crate::signaling::words::{self, Kind, Word};

#[cfg(test)]
mod tests;

/// Whose messages those of nobody known are counted as; no user has this id.
const NOBODY: PeerId = PeerId(0);
/// The most users that are told apart; the others are not heard.
const MOST_USERS: usize = 4096;
/// The longest name.
const NAME_BYTES: usize = 256;
/// The longest frame: the server closes the connection at a longer one.
const FRAME_BYTES: usize = 64 << 10;
/// The most candidates that are kept until it is known whose they are.
const EARLY_CANDIDATES: usize = 256;

/// The daemon at such a server.
pub struct Mdn {
    /// The name that is asked for.
    wanted: String,
    clock: Clock,
    peers: Peers,
    stage: Stage,
    /// Names as the server listed them last; `None` is somebody without one.
    listed: Vec<Option<String>>,
    users: BTreeMap<String, PeerId>,
    last_id: u64,
    /// Candidates that name nobody, and belong to no description so far.
    early: VecDeque<Trickle>,
    outputs: VecDeque<Output>,
}

/// How far signing in has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The server has given no id on this connection.
    New,
    /// It knows the name, or has given another; its list is awaited.
    Named(String),
    /// The daemon is in the list.
    SignedIn(String),
}

impl Mdn {
    /// Signs in as `name` and calls by `call`; `sessions` draws fresh ids, `clock` knows the date that goes with a name.
    pub fn new(
        name: &str,
        call: CallPolicy,
        sessions: impl FnMut() -> SessionId + Send + 'static,
        clock: Clock,
    ) -> Self {
        Self {
            wanted: name.to_owned(),
            clock,
            peers: Peers::new(call, sessions),
            stage: Stage::New,
            listed: Vec::new(),
            users: BTreeMap::new(),
            last_id: 0,
            early: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The daemon's name on this connection.
    fn name(&self) -> Option<&str> {
        match &self.stage {
            Stage::New => None,
            Stage::Named(name) | Stage::SignedIn(name) => Some(name),
        }
    }

    /// Whether a message is for the daemon: by its target or, where it `may_be_for_all`, by having none.
    fn is_for_us(&self, message: &Value, may_be_for_all: bool) -> bool {
        match message.get("target") {
            None | Some(Value::Null) => may_be_for_all,
            Some(Value::String(target)) if target.is_empty() => may_be_for_all,
            Some(target) => target.as_str().is_some_and(|target| self.name() == Some(target)),
        }
    }

    /// The user that a message names as its sender.
    fn sender(&self, message: &Value) -> Option<PeerId> {
        self.users.get(message.get("name")?.as_str()?).copied()
    }

    fn handle_id(&mut self, now: Instant, message: &Value) -> Result<(), Breach> {
        let id = message.get("id").filter(|id| id.is_number() || id.is_string());
        let Some(id) = id else { return Err(Breach("the server gives an id that is none".to_owned())) };
        if self.stage != Stage::New {
            return Err(Breach("the server gives a second id".to_owned()));
        }
        let date = u64::try_from(self.clock.wall(now).as_millis()).unwrap_or_default();
        let username = json!({ "name": self.wanted, "date": date, "id": id, "type": "username" });
        self.outputs.push_back(Output::Frame(username.to_string()));
        self.stage = Stage::Named(self.wanted.clone());
        Ok(())
    }

    fn handle_rejected(&mut self, message: &Value) -> Result<(), Breach> {
        let name = message.get("name").and_then(Value::as_str);
        let name = name.filter(|name| (1..=NAME_BYTES).contains(&name.len()));
        match name {
            Some(name) if self.stage != Stage::New => {
                self.stage = Stage::Named(name.to_owned());
                Ok(())
            }
            _ => Err(Breach("the server refuses the daemon's name and gives no other".to_owned())),
        }
    }

    fn handle_list(&mut self, now: Instant, message: &Value) {
        let Some(listed) = message.get("users").and_then(Value::as_array) else {
            return self.peers.handle_useless(NOBODY, Useless::Unknown);
        };
        let Some(own) = self.name().map(str::to_owned) else { return };
        let names = listed.iter().map(|name| name.as_str().filter(|name| name.len() <= NAME_BYTES).map(str::to_owned));
        let listed: Vec<Option<String>> = names.collect();
        let is_listed = listed.iter().flatten().any(|name| *name == own);
        let is_first = is_listed && self.stage != Stage::SignedIn(own.clone());
        if is_first {
            self.stage = Stage::SignedIn(own.clone());
            self.outputs.push_back(Output::SignedIn(own.clone()));
        }
        if !matches!(self.stage, Stage::SignedIn(_)) {
            return;
        }
        if let Some((old, new)) = renamed(&self.listed, &listed)
            && let Some(id) = self.users.remove(old)
        {
            self.peers.handle_renamed(id, new.as_bytes());
            self.users.insert(new.to_owned(), id);
        }
        let there: BTreeSet<&String> = listed.iter().flatten().filter(|name| **name != own).collect();
        let (users, peers) = (&mut self.users, &mut self.peers);
        users.retain(|name, id| {
            let stays = there.contains(name);
            if !stays {
                peers.handle_dropped(*id);
            }
            stays
        });
        for name in there {
            if !users.contains_key(name) && users.len() < MOST_USERS {
                self.last_id += 1;
                users.insert(name.clone(), PeerId(self.last_id));
                peers.handle_joined(PeerId(self.last_id), name.as_bytes(), now);
            }
        }
        if is_first {
            self.peers.handle_listed(now);
        }
        self.listed = listed;
    }

    fn handle_description(&mut self, message: &Value, is_offer: bool) {
        if !self.is_for_us(message, false) || message.get("name").and_then(Value::as_str) == self.name() {
            return;
        }
        let Some(sender) = self.sender(message) else {
            return self.peers.handle_useless(NOBODY, Useless::Unexpected);
        };
        match message.get("sdp").and_then(words::description) {
            Some(Word::Description { kind, sdp }) if (kind == Kind::Offer) == is_offer => {
                self.peers.handle_word(sender, Word::Description { kind, sdp });
                self.retry_candidates();
            }
            _ => self.peers.handle_useless(sender, Useless::Unknown),
        }
    }

    fn handle_candidate(&mut self, message: &Value) {
        if !self.is_for_us(message, false) {
            return;
        }
        let named = self.sender(message);
        let Some(Word::Candidate(trickle)) = message.get("candidate").and_then(words::candidate) else {
            return self.peers.handle_useless(named.unwrap_or(NOBODY), Useless::Unknown);
        };
        let described = || trickle.ufrag.as_deref().and_then(|ufrag| self.peers.with_ufrag(ufrag));
        match named.or_else(described) {
            Some(id) => self.peers.handle_word(id, Word::Candidate(trickle)),
            None if trickle.ufrag.is_some() => self.keep(trickle),
            None => match self.only_viewer() {
                Some(id) => self.peers.handle_word(id, Word::Candidate(trickle)),
                None => self.peers.handle_useless(NOBODY, Useless::Unexpected),
            },
        }
    }

    /// The only user with whom something is agreed, where there is one.
    fn only_viewer(&self) -> Option<PeerId> {
        let mut viewers = self.peers.states().filter(|state| state.session.is_some());
        viewers.next().filter(|_| viewers.next().is_none()).map(|state| state.id)
    }

    /// Keeps a candidate until its description comes; the oldest gives way.
    fn keep(&mut self, trickle: Trickle) {
        if self.early.len() >= EARLY_CANDIDATES {
            self.early.pop_front();
            self.peers.handle_useless(NOBODY, Useless::Unexpected);
        }
        self.early.push_back(trickle);
    }

    /// Gives those their candidates that have described themselves since.
    fn retry_candidates(&mut self) {
        for trickle in std::mem::take(&mut self.early) {
            match trickle.ufrag.as_deref().and_then(|ufrag| self.peers.with_ufrag(ufrag)) {
                Some(id) => self.peers.handle_word(id, Word::Candidate(trickle)),
                None => self.early.push_back(trickle),
            }
        }
    }

    /// The frame that says a word to a user, where there is one for it.
    fn frame(&self, to: PeerId, word: &Word) -> Option<String> {
        let Word::Description { kind, sdp } = word else { return None };
        let Stage::SignedIn(name) = &self.stage else { return None };
        let target = self.users.iter().find_map(|(name, id)| (*id == to).then_some(name))?;
        let kind_of_message = if *kind == Kind::Offer { "video-offer" } else { "video-answer" };
        let sdp = words::described(*kind, sdp);
        let frame = json!({ "name": name, "target": target, "type": kind_of_message, "sdp": sdp }).to_string();
        Some(frame).filter(|frame| frame.len() <= FRAME_BYTES)
    }
}

impl FrameProtocol for Mdn {
    /// The server falls over when it is asked for none.
    fn subprotocol(&self) -> Option<&'static str> {
        Some("json")
    }

    fn handle_open(&mut self, _: Instant) {
        self.stage = Stage::New;
    }

    fn handle_frame(&mut self, now: Instant, frame: &str) -> Result<(), Breach> {
        let Ok(message) = serde_json::from_str::<Value>(frame) else {
            self.peers.handle_useless(NOBODY, Useless::NotJson);
            return Ok(());
        };
        match message.get("type").and_then(Value::as_str) {
            Some("id") => self.handle_id(now, &message)?,
            Some("rejectusername") => self.handle_rejected(&message)?,
            Some("userlist") => self.handle_list(now, &message),
            Some("video-offer") => self.handle_description(&message, true),
            Some("video-answer") => self.handle_description(&message, false),
            Some("new-ice-candidate") => self.handle_candidate(&message),
            // Pages hang up to everybody, and mean whomever they talk with: it counts who hangs up.
            Some("hang-up") if self.is_for_us(&message, true) => {
                if let Some(sender) = self.sender(&message) {
                    self.peers.handle_word(sender, Word::Bye);
                }
            }
            // Users chat.
            Some(_) => {}
            None => self.peers.handle_useless(NOBODY, Useless::Unknown),
        }
        Ok(())
    }

    fn handle_closed(&mut self, now: Instant) {
        self.stage = Stage::New;
        self.listed.clear();
        self.users.clear();
        self.peers.handle_lost(now);
        self.early.clear();
        self.outputs.clear();
    }

    /// Closing the connection is the protocol's only goodbye.
    fn sign_out(&mut self) {}

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Breach> {
        self.peers.handle_timeout(now);
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.peers.poll_timeout()
    }

    fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.wanted);
    }

    fn poll_own(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn say(&mut self, to: PeerId, word: &Word) {
        match self.frame(to, word) {
            Some(frame) => self.outputs.push_back(Output::Frame(frame)),
            None => tracing::debug!(peer = %to, "a word is not said: the user is gone, or it is too long"),
        }
    }

    fn peers(&self) -> &Peers {
        &self.peers
    }

    fn peers_mut(&mut self) -> &mut Peers {
        &mut self.peers
    }
}

/// The old and the new name, where nothing else differs between two lists: each change of the server's makes a list of its own, and keeps the order.
fn renamed<'a>(old: &'a [Option<String>], new: &'a [Option<String>]) -> Option<(&'a str, &'a str)> {
    if old.len() != new.len() {
        return None;
    }
    let mut differing = old.iter().zip(new).filter(|(old, new)| old != new);
    let (was, is) = differing.next().filter(|_| differing.next().is_none())?;
    let (was, is) = (was.as_deref()?, is.as_deref()?);
    let names = |list: &[Option<String>], name: &str| list.iter().flatten().any(|listed| listed == name);
    (!names(new, was) && !names(old, is)).then_some((was, is))
}
