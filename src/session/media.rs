//! The media thread: the UDP socket, the fanout and all live sessions. It never blocks but in poll.
//!
//! A shell: it moves datagrams and units between the socket, the queues and the [`Viewer`]s, which decide.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, error, warn};

use super::engine::Path;
use super::engine::rtc::RtcEngine;
use super::engine::stun;
use super::fault::survives;
use super::inbox::Inbox;
use super::messages::{JoinIn, MediaIn};
use super::sink::SocketSink;
use super::turns::Turns;
use super::udp::{Datagram, MediaSocket};
use super::viewer::{EndReason, Viewer, ViewerEvent};
use super::wake::{Interest, poll_until};
use crate::fanout::{Catchup, Fanout, Unit};
use crate::id::SessionId;

/// Asks the encoder for a keyframe, through its gate.
pub type KeyframeRequest = Arc<dyn Fn() + Send + Sync>;

struct Route {
    ufrag: String,
    addresses: Vec<SocketAddr>,
    viewer: Option<Box<Viewer<RtcEngine>>>,
}

/// The media thread's state.
pub struct Media {
    sink: SocketSink,
    inbox: Inbox<MediaIn>,
    units: Inbox<Arc<Unit>>,
    units_lost: u64,
    join: Inbox<JoinIn>,
    keyframe: KeyframeRequest,
    fanout: Fanout,
    turns: Turns,
    routes: HashMap<SessionId, Route>,
    by_ufrag: HashMap<String, SessionId>,
    by_address: HashMap<SocketAddr, SessionId>,
    running: bool,
}

impl Media {
    /// Makes the state; [`Media::run`] is the thread.
    ///
    /// `units` has the units of the rung, and the waker of `inbox`.
    pub fn new(
        sink: SocketSink,
        inbox: Inbox<MediaIn>,
        units: Inbox<Arc<Unit>>,
        join: Inbox<JoinIn>,
        keyframe: KeyframeRequest,
    ) -> Self {
        Self {
            sink,
            inbox,
            units,
            units_lost: 0,
            join,
            keyframe,
            fanout: Fanout::default(),
            turns: Turns::default(),
            routes: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_address: HashMap::new(),
            running: true,
        }
    }

    /// Runs until [`MediaIn::Shutdown`], with what comes to `socket`.
    pub fn run(mut self, mut socket: MediaSocket) {
        let mut due = None;
        while self.running {
            // While the kernel's buffer is full, what waits goes on as soon as it has room.
            let interest = if self.sink.poll_timeout().is_some() { Interest::Both } else { Interest::Readable };
            let waker = (self.inbox.waker().as_fd(), Interest::Readable);
            if let Err(error) = poll_until([(socket.as_fd(), interest), waker], due) {
                error!(%error, "the media thread can't wait for its descriptors");
                return;
            }
            self.inbox.waker().drain();
            self.flush();
            self.take_commands();
            self.take_units();
            socket.receive(|datagram| self.handle(&datagram));
            due = self.do_what_is_due(Instant::now());
            self.flush();
            due = due.into_iter().chain(self.sink.poll_timeout()).min();
        }
        // The last words of sessions are waited for as everything is.
        while let until @ Some(_) = self.sink.poll_timeout() {
            if poll_until([(socket.as_fd(), Interest::Writable)], until).is_err() {
                break;
            }
            self.sink.flush();
        }
        let ((sent, dropped), received) = (self.sink.counters(), socket.counters());
        debug!(
            sent,
            dropped,
            oversized = received.oversized,
            errors = received.errors,
            "datagrams of the media socket"
        );
    }

    fn take_commands(&mut self) {
        for command in self.inbox.drain() {
            let now = Instant::now();
            match command {
                MediaIn::Restarted => self.fanout.clear(),
                MediaIn::Expect { session, ufrag } => {
                    self.by_ufrag.insert(ufrag.clone(), session);
                    self.routes.insert(session, Route { ufrag, addresses: Vec::new(), viewer: None });
                }
                MediaIn::Address { session, address } => self.bind(session, address),
                MediaIn::Adopt(viewer) => self.adopt(now, viewer),
                MediaIn::Candidates { session, candidates } => {
                    if let Some(viewer) = self.viewer(session) {
                        candidates.iter().for_each(|candidate| viewer.handle_candidate(candidate));
                    }
                    self.collect(now, session);
                }
                MediaIn::End { session, reason } => {
                    if let Some(viewer) = self.viewer(session) {
                        viewer.end(now, reason);
                    }
                    self.collect(now, session);
                }
                MediaIn::Forget(session) => self.forget(session),
                MediaIn::Shutdown => self.shut_down(now),
            }
        }
    }

    fn take_units(&mut self) {
        let units = self.units.drain();
        let lost = self.units.lost();
        if lost != self.units_lost {
            warn!(lost = lost - self.units_lost, "the media thread fell behind: pictures are lost for all viewers");
            self.units_lost = lost;
            // What follows a gap can't be decoded.
            self.fanout.clear();
            self.routes
                .values_mut()
                .filter_map(|route| route.viewer.as_mut())
                .for_each(|viewer| viewer.handle_overflow(Instant::now()));
            (self.keyframe)();
        }
        for unit in units {
            self.send(Instant::now(), &unit);
        }
    }

    fn send(&mut self, now: Instant, unit: &Arc<Unit>) {
        self.fanout.push(unit.clone());
        let mut viewers: Vec<_> = self.routes.values_mut().filter_map(|route| route.viewer.as_mut()).collect();
        self.turns.rotate(&mut viewers, unit.access_unit.keyframe);
        for viewer in viewers {
            self.sink.begin(viewer.number);
            viewer.handle_unit(now, unit, &mut self.sink);
        }
        self.flush();
    }

    fn adopt(&mut self, now: Instant, viewer: Box<Viewer<RtcEngine>>) {
        let session = viewer.id;
        let Some(route) = self.routes.get_mut(&session) else { return };
        let viewer = route.viewer.insert(viewer);
        match self.fanout.catchup() {
            Catchup::Units(count) => {
                debug!(viewer = viewer.number, count, "a joiner is served from what is there");
                self.sink.begin(viewer.number);
                viewer.handle_catchup(now, self.fanout.units(), &mut self.sink);
            }
            // The first unit will be a keyframe; if it has just been missed, another one is needed.
            Catchup::Nothing | Catchup::NeedsKeyframe => (self.keyframe)(),
        }
        self.collect(now, session);
    }

    fn handle(&mut self, datagram: &Datagram<'_>) {
        let session = self.route(datagram).or_else(|| {
            // The join thread may just have said whose this is.
            self.take_commands();
            self.route(datagram)
        });
        let Some(session) = session else { return };
        let (now, path) = (Instant::now(), Path { local: datagram.to, remote: datagram.from });
        match self.routes.get_mut(&session).map(|route| route.viewer.as_mut()) {
            Some(Some(_)) => {
                self.attend(now, session, |viewer, sink| viewer.handle_datagram(now, path, datagram.data, sink));
            }
            Some(None) => {
                // A full queue loses it, counted; whoever sent it repeats it.
                let _ = self.join.push(JoinIn::Datagram { session, path, data: datagram.data.to_vec() });
            }
            None => {}
        }
    }

    /// Whose a datagram is: requests say so, the rest is known by its address.
    fn route(&self, datagram: &Datagram<'_>) -> Option<SessionId> {
        match stun::local_ufrag(datagram.data) {
            Some(ufrag) => self.by_ufrag.get(ufrag).copied(),
            None => self.by_address.get(&datagram.from).copied(),
        }
    }

    fn do_what_is_due(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut ready = Vec::new();
        for (session, route) in &mut self.routes {
            let Some(viewer) = route.viewer.as_mut() else { continue };
            match viewer.poll_timeout() {
                Some(due) if due <= now => ready.push(*session),
                Some(due) => next = Some(next.map_or(due, |n| n.min(due))),
                None => {}
            }
        }
        for session in ready {
            self.attend(now, session, |viewer, sink| viewer.handle_timeout(now, sink));
            // A deadline that handling does not move would spin: it is looked at again in a moment.
            if let Some(due) = self.viewer(session).and_then(|viewer| viewer.poll_timeout()) {
                let due = due.max(now + std::time::Duration::from_millis(1));
                next = Some(next.map_or(due, |n| n.min(due)));
            }
        }
        next
    }

    /// Has a session do something, and whatever follows from it; a fault in it ends it.
    fn attend(&mut self, now: Instant, session: SessionId, act: impl FnOnce(&mut Viewer<RtcEngine>, &mut SocketSink)) {
        let Some(viewer) = self.routes.get_mut(&session).and_then(|route| route.viewer.as_mut()) else { return };
        let (number, sink) = (viewer.number, &mut self.sink);
        sink.begin(number);
        if survives(number, || act(viewer, sink)) {
            self.collect(now, session);
        } else {
            self.end(now, session, EndReason::Fault);
        }
    }

    /// Sends what a session's engine has to say, and acts on its events.
    fn collect(&mut self, now: Instant, session: SessionId) {
        let Some(viewer) = self.routes.get_mut(&session).and_then(|route| route.viewer.as_mut()) else { return };
        self.sink.begin(viewer.number);
        while let Some(transmit) = viewer.poll_transmit() {
            self.sink.transmit(&transmit);
        }
        let events: Vec<_> = std::iter::from_fn(|| viewer.poll_event()).collect();
        for event in events {
            match event {
                ViewerEvent::Address(address) => self.bind(session, address),
                ViewerEvent::KeyframeWanted => (self.keyframe)(),
                ViewerEvent::Connected => {}
                ViewerEvent::Ended(reason) => self.end(now, session, reason),
            }
        }
    }

    fn end(&mut self, now: Instant, session: SessionId, reason: EndReason) {
        // What it still had to say (close_notify) goes out before it is forgotten.
        self.flush();
        if let Some(viewer) = self.routes.get(&session).and_then(|route| route.viewer.as_ref()) {
            debug!(viewer = viewer.number, counters = ?viewer.stream().history.counters(), "repeats");
        }
        self.forget(session);
        self.join.push_always(JoinIn::Ended { session, at: now, reason });
    }

    fn bind(&mut self, session: SessionId, address: SocketAddr) {
        if !self.routes.contains_key(&session) {
            return;
        }
        if let Some(old) = self.by_address.insert(address, session).filter(|old| *old != session)
            && let Some(old) = self.routes.get_mut(&old)
        {
            old.addresses.retain(|a| *a != address);
        }
        if let Some(route) = self.routes.get_mut(&session).filter(|route| !route.addresses.contains(&address)) {
            route.addresses.push(address);
        }
    }

    fn forget(&mut self, session: SessionId) {
        let Some(route) = self.routes.remove(&session) else { return };
        self.by_ufrag.remove(&route.ufrag);
        for address in route.addresses {
            if self.by_address.get(&address) == Some(&session) {
                self.by_address.remove(&address);
            }
        }
    }

    fn shut_down(&mut self, now: Instant) {
        let sessions: Vec<_> = self.routes.keys().copied().collect();
        for session in sessions {
            if let Some(viewer) = self.viewer(session) {
                viewer.end(now, EndReason::Shutdown);
            }
            self.collect(now, session);
        }
        self.flush();
        self.running = false;
    }

    fn flush(&mut self) {
        self.sink.flush();
        for number in self.sink.take_overflowed() {
            let route = self.routes.values_mut().filter_map(|route| route.viewer.as_mut()).find(|v| v.number == number);
            if let Some(viewer) = route {
                debug!(viewer = number, "the socket is full: the picture goes on at the next keyframe");
                viewer.handle_overflow(Instant::now());
                (self.keyframe)();
            }
        }
    }

    fn viewer(&mut self, session: SessionId) -> Option<&mut Box<Viewer<RtcEngine>>> {
        self.routes.get_mut(&session).and_then(|route| route.viewer.as_mut())
    }
}
