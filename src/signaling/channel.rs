//! The W3C examples' SignalingChannel: a WebSocket whose frames everybody else gets, descriptions and candidates alone.
//!
//! A pure core. Nobody signs in, and nobody is seen coming or going: who says nothing is not there. Frames that say `from` are of several viewers, which
//! are answered by `to`; all others are of one, the first. What is agreed with them outlasts the connection, as nothing else ends it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::id::{PeerId, SessionId};
use crate::signaling::client::frames::{Breach, FrameProtocol, Output};
use crate::signaling::peers::{CallPolicy, Peers, Useless};
use crate::signaling::words::{self, Kind, Word};

#[cfg(test)]
mod tests;

/// The viewer whose frames don't say `from`.
const ANONYMOUS: PeerId = PeerId(1);
/// The most viewers that are told apart; the one that was silent longest gives way.
const MOST_VIEWERS: usize = 256;
/// The longest `from`.
const FROM_BYTES: usize = 256;
/// How many of the daemon's own descriptions are recognised, where a relay sends them back.
const OWN_DESCRIPTIONS: usize = 64;
/// How long an offer stands that nobody answers.
const UNANSWERED: Duration = Duration::from_secs(30);
/// A viewer that is heard of again gets another offer after so long at the earliest.
const CALL_AGAIN: Duration = Duration::from_secs(5);
/// The least time from an offer that was answered to one for the same page, loaded again.
const LOADED_AGAIN: Duration = Duration::from_secs(1);

/// The daemon at such a server.
pub struct Channel {
    name: String,
    call: CallPolicy,
    peers: Peers,
    /// Who was heard last is last; the anonymous one is always there.
    viewers: Vec<Viewer>,
    last_id: u64,
    /// The `ice-ufrag`s of the daemon's own descriptions.
    own: VecDeque<String>,
    outputs: VecDeque<Output>,
    /// Since when the connection stands, while it does.
    opened: Option<Instant>,
}

#[derive(Debug)]
struct Viewer {
    id: PeerId,
    /// What its frames say as `from`.
    from: Option<Value>,
    key: Key,
    offer: Offered,
}

/// Under which name a viewer has its descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// It has sent none: it gets both, and takes the one that it knows.
    Both,
    /// `desc`.
    Desc,
    /// `description`.
    Description,
}

impl Key {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Both => &["desc", "description"],
            Self::Desc => &["desc"],
            Self::Description => &["description"],
        }
    }
}

/// When the daemon offered to a viewer last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offered {
    /// Never, or so long ago that it does not matter.
    No,
    /// Just now; the time is noted with the next tick.
    Now,
    /// Then.
    At(Instant),
}

impl Viewer {
    fn new(id: PeerId, from: Option<Value>) -> Self {
        Self { id, from, key: Key::Both, offer: Offered::No }
    }
}

impl Channel {
    /// Answers as `name` where others have names, and calls by `call`; `sessions` draws fresh ids.
    pub fn new(name: &str, call: CallPolicy, sessions: impl FnMut() -> SessionId + Send + 'static) -> Self {
        Self {
            name: name.to_owned(),
            call: call.clone(),
            peers: Peers::new(call, sessions),
            viewers: vec![Viewer::new(ANONYMOUS, None)],
            last_id: ANONYMOUS.0,
            own: VecDeque::new(),
            outputs: VecDeque::new(),
            opened: None,
        }
    }

    fn viewer(&mut self, id: PeerId) -> Option<&mut Viewer> {
        self.viewers.iter_mut().find(|viewer| viewer.id == id)
    }

    /// Whose frame it is, and whether that viewer is new; `None` where it is not for the daemon.
    fn sender(&mut self, now: Instant, frame: &Value) -> Option<(PeerId, bool)> {
        let own_name = |value: &Value| value.as_str() == Some(&self.name);
        if frame.get("to").is_some_and(|to| !to.is_null() && !own_name(to)) {
            return None;
        }
        let Some(from) = frame.get("from").filter(|from| !from.is_null()) else { return Some((ANONYMOUS, false)) };
        // A relay may send the daemon its own frames.
        if own_name(from) {
            return None;
        }
        if let Some(at) = self.viewers.iter().position(|viewer| viewer.from.as_ref() == Some(from)) {
            let viewer = self.viewers.remove(at);
            let id = viewer.id;
            self.viewers.push(viewer);
            return Some((id, false));
        }
        let name = match from {
            Value::String(name) if name.len() <= FROM_BYTES => name.clone(),
            Value::Number(number) => number.to_string(),
            _ => {
                self.peers.handle_useless(ANONYMOUS, Useless::Unknown);
                return None;
            }
        };
        if self.viewers.len() > MOST_VIEWERS
            && let Some(at) = self.viewers.iter().position(|viewer| viewer.id != ANONYMOUS)
        {
            let silent = self.viewers.remove(at);
            self.peers.handle_dropped(silent.id);
        }
        self.last_id += 1;
        let id = PeerId(self.last_id);
        self.viewers.push(Viewer::new(id, Some(from.clone())));
        self.peers.handle_joined(id, name.as_bytes(), now);
        Some((id, true))
    }

    /// Takes a frame that says nothing that is known: where the daemon calls, a viewer makes itself known by it. One that has a picture has it
    /// no more where it says that it is ready: its page was loaded again.
    fn handle_unknown(&mut self, now: Instant, id: PeerId, is_new: bool, is_ready: bool) {
        if !self.call.includes(self.peers.name(id)) {
            return self.peers.handle_useless(id, Useless::Unknown);
        }
        let is_called = self.peers.is_called(id);
        let watches = self.peers.session(id).is_some() && !is_called;
        let Some(viewer) = self.viewer(id) else { return };
        let is_due = match viewer.offer {
            Offered::No => true,
            Offered::Now => false,
            Offered::At(at) => now.saturating_duration_since(at) >= if watches { LOADED_AGAIN } else { CALL_AGAIN },
        };
        // Whoever is new is called by its joining.
        if is_new || !is_due || (watches && !is_ready) {
            return;
        }
        if is_called {
            self.peers.withdraw_call(id);
        }
        // Whoever is busy is being served already.
        let _ = self.peers.call(id, now);
    }

    fn handle_described(&mut self, id: PeerId, key: Key, description: &Value) {
        let Some(Word::Description { kind, sdp }) = words::description(description) else {
            return self.peers.handle_useless(id, Useless::Unknown);
        };
        if words::ufrag(&sdp).is_some_and(|ufrag| self.own.iter().any(|own| own == ufrag)) {
            return;
        }
        if let Some(viewer) = self.viewer(id) {
            viewer.key = key;
        }
        self.peers.handle_word(id, Word::Description { kind, sdp });
    }

    /// Notes the time of those offers that were just made.
    fn date_offers(&mut self, now: Instant) {
        for viewer in self.viewers.iter_mut().filter(|viewer| viewer.offer == Offered::Now) {
            viewer.offer = Offered::At(now);
        }
    }

    /// Takes the offers back that are with those who can't answer them any more. All others go on as they are: that they leave would not be said either.
    fn take_offers_back(&mut self) {
        let called: Vec<PeerId> =
            self.viewers.iter().map(|viewer| viewer.id).filter(|id| self.peers.is_called(*id)).collect();
        for id in called {
            self.peers.withdraw_call(id);
        }
    }

    /// The frame that says a word to a viewer, where there is one for it.
    fn frame(&mut self, to: PeerId, word: &Word) -> Option<String> {
        let Word::Description { kind, sdp } = word else { return None };
        if let Some(ufrag) = words::ufrag(sdp) {
            self.own.push_back(ufrag.to_owned());
            self.own.drain(..self.own.len().saturating_sub(OWN_DESCRIPTIONS));
        }
        let name = self.name.clone();
        let viewer = self.viewer(to)?;
        if *kind == Kind::Offer {
            viewer.offer = Offered::Now;
        }
        let described = words::described(*kind, sdp);
        let mut frame: Map<String, Value> =
            viewer.key.names().iter().map(|key| ((*key).to_owned(), described.clone())).collect();
        if let Some(from) = &viewer.from {
            frame.insert("to".to_owned(), from.clone());
            frame.insert("from".to_owned(), name.into());
        }
        Some(Value::from(frame).to_string())
    }
}

impl FrameProtocol for Channel {
    fn handle_open(&mut self, now: Instant) {
        self.opened = Some(now);
        self.outputs.push_back(Output::SignedIn(self.name.clone()));
        // Made while there was no connection.
        self.take_offers_back();
        if self.peers.session(ANONYMOUS).is_none() {
            self.peers.handle_joined(ANONYMOUS, b"", now);
            if let Some(Viewer { offer: Offered::At(at), .. }) = self.viewer(ANONYMOUS) {
                let again_at = *at + CALL_AGAIN;
                self.peers.put_off_call(ANONYMOUS, again_at);
            }
        }
    }

    fn handle_frame(&mut self, now: Instant, frame: &str) -> Result<(), Breach> {
        let Ok(frame) = serde_json::from_str::<Value>(frame) else {
            self.peers.handle_useless(ANONYMOUS, Useless::NotJson);
            return Ok(());
        };
        let Some((id, is_new)) = self.sender(now, &frame) else { return Ok(()) };
        let described = [Key::Desc, Key::Description].into_iter().find_map(|key| {
            let description = key.names().iter().find_map(|name| frame.get(*name))?;
            (!description.is_null()).then_some((key, description))
        });
        if let Some((key, description)) = described {
            self.handle_described(id, key, description);
        } else if let Some(candidate) = frame.get("candidate") {
            match words::candidate(candidate) {
                Some(word) => self.peers.handle_word(id, word),
                None => self.peers.handle_useless(id, Useless::Unknown),
            }
        } else {
            let is_ready = frame.get("ready").is_some_and(|ready| *ready == Value::Bool(true));
            self.handle_unknown(now, id, is_new, is_ready);
        }
        Ok(())
    }

    fn handle_closed(&mut self, now: Instant) {
        self.opened = None;
        self.outputs.clear();
        self.date_offers(now);
        self.take_offers_back();
    }

    /// There is no word for it.
    fn sign_out(&mut self) {}

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Breach> {
        self.date_offers(now);
        for viewer in &mut self.viewers {
            match viewer.offer {
                Offered::At(at) if now >= at + UNANSWERED => {
                    viewer.offer = Offered::No;
                    if self.peers.is_called(viewer.id) {
                        self.peers.withdraw_call(viewer.id);
                    }
                }
                Offered::At(_) | Offered::Now | Offered::No => {}
            }
        }
        // Nobody is called while nobody can hear it.
        if self.opened.is_some() {
            self.peers.handle_timeout(now);
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let mut due = self.opened.and_then(|_| self.peers.poll_timeout());
        for viewer in &self.viewers {
            let at = match viewer.offer {
                Offered::No => None,
                // At once: that time has passed.
                Offered::Now => self.opened,
                Offered::At(at) => Some(at + UNANSWERED),
            };
            due = due.into_iter().chain(at).min();
        }
        due
    }

    fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    fn poll_own(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn say(&mut self, to: PeerId, word: &Word) {
        match self.frame(to, word) {
            Some(frame) => self.outputs.push_back(Output::Frame(frame)),
            None => tracing::debug!(peer = %to, "a word is not said: the viewer is forgotten"),
        }
    }

    fn peers(&self) -> &Peers {
        &self.peers
    }

    fn peers_mut(&mut self) -> &mut Peers {
        &mut self.peers
    }
}
