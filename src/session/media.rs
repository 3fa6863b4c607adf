//! The media thread: the UDP socket, the fanout and all live sessions. It never blocks but in poll.
//!
//! A shell: it moves datagrams and units between the socket, the queues and the [`Viewer`]s, which decide.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, warn};

use super::allowance::Allowance;
use super::broadcast::Way;
use super::engine::rtc::RtcEngine;
use super::engine::stun;
use super::engine::{Path, Protocol, Remote};
use super::fault::attended;
use super::inbox::Inbox;
use super::messages::{JoinIn, MediaIn};
use super::sink::SocketSink;
use super::streams::StreamPacket;
use super::timers::Timers;
use super::udp::{Datagram, MediaSocket};
use super::viewer::{EndReason, Viewer, ViewerEvent};
use super::wake::{Interest, poll_until};
use crate::alive::beats::Beat;
use crate::encoder::Codec;
use crate::fanout::Unit;
use crate::id::SessionId;

mod rungs;

use rungs::Rungs;

mod addresses;
mod overflow;

use addresses::Known;

/// Asks the encoder of a codec for a keyframe, through its gate.
pub type KeyframeRequest = Arc<dyn Fn(Codec) + Send + Sync>;

/// Packets that joiners are sent before live units are looked for again: a fraction of a millisecond.
const CATCHUP_SLICE: usize = 48;
/// When joiners are looked at again whose connections all have enough to send.
const CATCHUP_PAUSE: Duration = Duration::from_millis(10);
/// The least time between two looks at one session.
const LEAST_PAUSE: Duration = Duration::from_millis(1);
/// ICE generations of a session whose requests are heard: the one in use, and those that were begun since (an engine begins eight in ten seconds).
const MOST_UFRAGS: usize = 10;
/// Datagrams of one session that is still joining which the join thread gets: some at once, then one at such intervals. A handshake has about fifty.
const JOINING_AT_ONCE: u32 = 128;
const JOINING_INTERVAL: Duration = Duration::from_millis(10);

/// The queues from the encoders and from connections; all have the waker of the commands.
pub struct UnitQueues {
    /// Pictures of all codecs.
    pub pictures: Inbox<Arc<Unit>>,
    /// Sound.
    pub sound: Inbox<Arc<Unit>>,
    /// What viewers send over TCP.
    pub packets: Inbox<StreamPacket>,
}

/// A turn that begins so much later than asked follows a time in which this thread could not run.
const LATE: Duration = Duration::from_secs(1);
/// Turns of reading then: more than the kernel's buffer holds.
const MOST_LATE_TURNS: u32 = 64;

struct Route {
    /// Of the ICE generations, the newest last.
    ufrags: Vec<String>,
    addresses: Vec<Known>,
    viewer: Option<Box<Viewer<RtcEngine>>>,
    /// What the join thread gets of it before it is connected.
    handed: Allowance,
}

/// The media thread's state.
pub struct Media {
    sink: SocketSink,
    inbox: Inbox<MediaIn>,
    units: UnitQueues,
    units_lost: u64,
    join: Inbox<JoinIn>,
    keyframe: KeyframeRequest,
    rungs: Rungs,
    timers: Timers,
    /// Joiners that are sent what the fanouts hold, the first to come first.
    joiners: VecDeque<SessionId>,
    routes: HashMap<SessionId, Route>,
    by_ufrag: HashMap<String, SessionId>,
    by_address: HashMap<Remote, SessionId>,
    /// Datagrams that were nobody's.
    strange: u64,
    running: bool,
}

impl Media {
    /// Makes the state; [`Media::run`] is the thread.
    ///
    /// `units` has the units of all encoders, and the waker of `inbox`.
    pub fn new(
        sink: SocketSink,
        inbox: Inbox<MediaIn>,
        units: UnitQueues,
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
            rungs: Rungs::default(),
            timers: Timers::default(),
            joiners: VecDeque::new(),
            routes: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_address: HashMap::new(),
            strange: 0,
            running: true,
        }
    }

    /// Runs until [`MediaIn::Shutdown`], with what comes to `socket`.
    pub fn run(mut self, mut socket: MediaSocket, beat: &Beat) {
        let mut due = None;
        while self.running {
            // While the kernel's buffer is full, what waits goes on as soon as it has room.
            let interest = if self.sink.poll_timeout().is_some() { Interest::Both } else { Interest::Readable };
            let waker = (self.inbox.waker().as_fd(), Interest::Readable);
            if let Err(error) = beat.waiting(|| poll_until([(socket.as_fd(), interest), waker], due)) {
                error!(%error, "the media thread can't wait for its descriptors");
                return;
            }
            self.inbox.waker().drain();
            self.flush();
            self.take_commands();
            self.take_units();
            socket.receive(|datagram| self.handle(&datagram));
            if due.is_some_and(|due| Instant::now() > due + LATE) {
                // Who is judged by their silence is heard first: nobody listened meanwhile.
                let mut turns = 0..MOST_LATE_TURNS;
                while turns.next().is_some() && socket.receive(|datagram| self.handle(&datagram)) > 0 {}
            }
            self.take_packets();
            self.take_relayed();
            self.do_what_is_due(Instant::now());
            let servers_due = self.sink.pump(Instant::now());
            self.flush();
            due = self.timers.next().into_iter().chain(self.sink.poll_timeout()).chain(servers_due).min();
            // Joiners come after all that is live, and wait where the kernel has no room.
            if !self.joiners.is_empty() && self.sink.poll_timeout().is_none() {
                due = due.into_iter().chain([self.catch_up(Instant::now())]).min();
            }
        }
        // The last words of sessions are waited for as everything is.
        while let until @ Some(_) = self.sink.poll_timeout() {
            if beat.waiting(|| poll_until([(socket.as_fd(), Interest::Writable)], until)).is_err() {
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
            strange = self.strange,
            join_lost = self.join.lost(),
            "datagrams of the media socket"
        );
    }

    fn take_commands(&mut self) {
        for command in self.inbox.drain() {
            let now = Instant::now();
            match command {
                MediaIn::Restarted(codec) => {
                    if let Some(rung) = self.rungs.of(codec) {
                        rung.fanout.clear();
                    }
                }
                MediaIn::Expect { session, ufrag } => self.expect(now, session, ufrag),
                MediaIn::Address { session, remote } => self.bind(now, session, remote),
                MediaIn::Adopt(viewer) => self.adopt(now, viewer),
                MediaIn::Change { session, change } => {
                    self.attend(now, session, |viewer, _| viewer.handle_change(now, *change));
                    self.begin_catchup(now, session);
                }
                MediaIn::Candidates { session, candidates } => {
                    self.attend(now, session, |viewer, _| {
                        candidates.iter().for_each(|candidate| viewer.handle_candidate(candidate));
                    });
                }
                MediaIn::End { session, reason } => self.attend(now, session, |viewer, _| viewer.end(now, reason)),
                MediaIn::Forget(session) => self.forget(session),
                MediaIn::Look { mut state, reply } => {
                    for viewer in &mut state.viewers {
                        let Some(live) = self.viewer(viewer.session) else { continue };
                        let path = live.path();
                        viewer.link = live.link();
                        viewer.way = path.map(|path| self.way(path));
                    }
                    // Whoever asked may have gone away.
                    drop(reply.send(state));
                }
                MediaIn::Rate(rate) => {
                    let viewers = self.routes.values_mut().filter_map(|route| route.viewer.as_mut());
                    viewers.for_each(|viewer| viewer.set_rate(now, rate));
                }
                MediaIn::Shutdown => self.shut_down(now),
            }
        }
    }

    fn way(&mut self, path: Path) -> Way {
        match path.protocol {
            Protocol::Tcp => Way::Tcp,
            Protocol::Udp if self.sink.relays().relays().is_some_and(|relays| relays.has_relayed(path.local)) => {
                Way::Relayed
            }
            Protocol::Udp => Way::Udp,
        }
    }

    fn take_units(&mut self) {
        for unit in self.units.sound.drain() {
            self.send_sound(Instant::now(), &unit);
        }
        let units = self.units.pictures.drain();
        let lost = self.units.pictures.lost();
        if lost != self.units_lost {
            warn!(lost = lost - self.units_lost, "the media thread fell behind: pictures are lost for all viewers");
            self.units_lost = lost;
            // What follows a gap can't be decoded.
            for rung in [&mut self.rungs.h264, &mut self.rungs.vp8] {
                rung.fanout.clear();
            }
            for viewer in self.routes.values_mut().filter_map(|route| route.viewer.as_mut()) {
                viewer.handle_overflow(Instant::now());
            }
            [Codec::H264, Codec::Vp8].into_iter().for_each(|codec| (self.keyframe)(codec));
        }
        for unit in units {
            self.send(Instant::now(), &unit);
        }
    }

    fn send_sound(&mut self, now: Instant, unit: &Unit) {
        let mut faulty = Vec::new();
        for (session, route) in &mut self.routes {
            let Some(viewer) = route.viewer.as_mut().filter(|viewer| viewer.hears()) else { continue };
            if !attended(viewer, &mut self.sink, |viewer, sink| viewer.handle_sound(unit, sink)) {
                faulty.push(*session);
            }
        }
        faulty.into_iter().for_each(|session| self.end(now, session, EndReason::Fault));
    }

    fn send(&mut self, now: Instant, unit: &Arc<Unit>) {
        let (codec, keyframe) = (unit.access_unit.codec, unit.access_unit.keyframe);
        let Some(rung) = self.rungs.of(codec) else { return };
        rung.fanout.push(unit.clone());
        let routes = self.routes.iter_mut();
        let mut viewers: Vec<_> = routes
            .filter_map(|(session, route)| Some((*session, route.viewer.as_mut()?)))
            .filter(|(_, viewer)| viewer.video_codec() == Some(codec))
            .collect();
        viewers.sort_unstable_by_key(|(_, viewer)| viewer.number);
        rung.turns.rotate(&mut viewers, keyframe);
        let mut faulty = Vec::new();
        for (session, viewer) in viewers {
            if !attended(viewer, &mut self.sink, |viewer, sink| viewer.handle_unit(now, unit, sink)) {
                faulty.push(session);
                continue;
            }
            if let Some(due) = viewer.poll_timeout() {
                self.timers.set(session, due);
            }
            while let Some(event) = viewer.poll_event() {
                if event == ViewerEvent::KeyframeWanted {
                    (self.keyframe)(codec);
                }
            }
        }
        faulty.into_iter().for_each(|session| self.end(now, session, EndReason::Fault));
        self.flush();
    }

    fn expect(&mut self, now: Instant, session: SessionId, ufrag: String) {
        self.by_ufrag.insert(ufrag.clone(), session);
        let handed = || Allowance::new(now, JOINING_AT_ONCE, JOINING_INTERVAL);
        let none = || Route { ufrags: Vec::new(), addresses: Vec::new(), viewer: None, handed: handed() };
        let ufrags = &mut self.routes.entry(session).or_insert_with(none).ufrags;
        ufrags.push(ufrag);
        if ufrags.len() > MOST_UFRAGS {
            self.by_ufrag.remove(&ufrags.remove(0));
        }
    }

    fn adopt(&mut self, now: Instant, viewer: Box<Viewer<RtcEngine>>) {
        let session = viewer.id;
        let Some(route) = self.routes.get_mut(&session) else { return };
        route.viewer = Some(viewer);
        route.addresses.iter_mut().for_each(|known| known.since = now);
        self.begin_catchup(now, session);
        self.collect(now, session);
    }

    fn begin_catchup(&mut self, now: Instant, session: SessionId) {
        let waiting = self.joiners.len() + 1;
        let Some(codec) = self.viewer(session).and_then(|viewer| viewer.video_codec()) else { return };
        if self.rungs.of(codec).is_some_and(|rung| rung.fanout.is_dear_for(waiting)) {
            debug!(waiting, "so many joiners wait for the next keyframe");
            (self.keyframe)(codec);
        } else if self.viewer(session).is_some_and(|viewer| viewer.begin_catchup(now))
            && !self.joiners.contains(&session)
        {
            self.joiners.push_back(session);
        }
    }

    /// Sends joiners a slice of what leads up to now; tells when to go on.
    fn catch_up(&mut self, now: Instant) -> Instant {
        let Some(session) = self.next_joiner() else { return now + CATCHUP_PAUSE };
        let (mut more, mut survived) = (false, true);
        if let Some(viewer) = self.routes.get_mut(&session).and_then(|route| route.viewer.as_mut())
            && let Some(rung) = viewer.video_codec().and_then(|codec| self.rungs.of(codec))
        {
            survived = attended(viewer, &mut self.sink, |viewer, sink| {
                more = viewer.handle_catchup(now, &rung.fanout, CATCHUP_SLICE, sink);
            });
        }
        if more {
            self.joiners.push_front(session);
        }
        if survived {
            self.collect(now, session);
        } else {
            self.end(now, session, EndReason::Fault);
        }
        self.flush();
        now
    }

    /// Takes out the first joiner that takes what it is sent: others wait, and those that don't catch up any more are forgotten.
    fn next_joiner(&mut self) -> Option<SessionId> {
        for _ in 0..self.joiners.len() {
            let session = self.joiners.pop_front()?;
            let Some(viewer) = self.viewer(session).filter(|viewer| viewer.catches_up()) else { continue };
            let path = viewer.path();
            if path.is_none_or(|path| !self.sink.is_behind(path)) {
                return Some(session);
            }
            self.joiners.push_back(session);
        }
        None
    }

    fn take_packets(&mut self) {
        for packet in self.units.packets.drain() {
            self.handle_packet(packet.path, &packet.data);
        }
    }

    fn handle(&mut self, datagram: &Datagram<'_>) {
        let Some(relays) = self.sink.relays().server_at(datagram.from) else {
            return self.handle_packet(Path::udp(datagram.to, datagram.from), datagram.data);
        };
        if let Some((path, range)) = relays.handle_datagram(Instant::now(), datagram.from, datagram.to, datagram.data) {
            self.handle_packet(path, &datagram.data[range]);
        }
    }

    /// Takes what came by the streams of TURN servers.
    fn take_relayed(&mut self) {
        let Some(relays) = self.sink.relays().relays().cloned() else { return };
        for (server, data) in relays.take_messages() {
            if let Some((path, range)) = relays.handle_message(Instant::now(), server, &data) {
                self.handle_packet(path, &data[range]);
            }
        }
    }

    fn handle_packet(&mut self, path: Path, data: &[u8]) {
        let session = self.route(path, data).or_else(|| {
            // The join thread may just have said whose this is.
            self.take_commands();
            self.route(path, data)
        });
        let Some(session) = session else {
            self.strange += 1;
            // A connection that is nobody's has no place here.
            self.sink.close(path);
            return;
        };
        let now = Instant::now();
        match self.routes.get_mut(&session) {
            Some(Route { viewer: Some(_), .. }) => {
                self.attend(now, session, |viewer, sink| viewer.handle_datagram(now, path, data, sink));
            }
            // Whoever sends more than any handshake has would keep the join thread from others.
            Some(Route { handed, .. }) => {
                let spared = handed.take(now).then(|| data.to_vec());
                // A full queue loses it, counted; whoever sent it repeats it.
                let _ = spared.map(|data| self.join.push(JoinIn::Datagram { session, path, data }).is_ok());
            }
            None => {}
        }
    }

    /// Whose a datagram is: requests say so, the rest is known by its address.
    fn route(&self, path: Path, data: &[u8]) -> Option<SessionId> {
        match stun::local_ufrag(data) {
            Some(ufrag) => self.by_ufrag.get(ufrag).copied(),
            None => self.by_address.get(&path.end()).copied(),
        }
    }

    fn do_what_is_due(&mut self, now: Instant) {
        while let Some(session) = self.timers.pop(now) {
            self.attend(now, session, |viewer, sink| viewer.handle_timeout(now, sink));
        }
    }

    /// Has a session do something, and whatever follows from it; a fault in it ends it.
    fn attend(&mut self, now: Instant, session: SessionId, act: impl FnOnce(&mut Viewer<RtcEngine>, &mut SocketSink)) {
        let Some(viewer) = self.routes.get_mut(&session).and_then(|route| route.viewer.as_mut()) else { return };
        if attended(viewer, &mut self.sink, act) {
            self.collect(now, session);
        } else {
            self.end(now, session, EndReason::Fault);
        }
    }

    /// Sends what a session's engine has to say, and acts on its events.
    fn collect(&mut self, now: Instant, session: SessionId) {
        let Some(viewer) = self.routes.get_mut(&session).and_then(|route| route.viewer.as_mut()) else { return };
        let mut due = None;
        let says = |viewer: &mut Viewer<RtcEngine>, sink: &mut SocketSink| {
            while let Some(transmit) = viewer.poll_transmit() {
                sink.transmit(&transmit);
            }
            due = viewer.poll_timeout();
        };
        if !attended(viewer, &mut self.sink, says) {
            return self.end(now, session, EndReason::Fault);
        }
        // A deadline that handling does not move would spin: it is looked at again in a moment.
        if let Some(due) = due {
            self.timers.set(session, due.max(now + LEAST_PAUSE));
        }
        let codec = viewer.video_codec();
        while let Some(event) = self.viewer(session).and_then(|viewer| viewer.poll_event()) {
            match event {
                ViewerEvent::Address(remote) => self.bind(now, session, remote),
                ViewerEvent::KeyframeWanted => codec.into_iter().for_each(|codec| (self.keyframe)(codec)),
                ViewerEvent::Connected => {}
                ViewerEvent::Ended(reason) => self.end(now, session, reason),
            }
        }
    }

    fn end(&mut self, now: Instant, session: SessionId, reason: EndReason) {
        // What it still had to say (close_notify) goes out before it is forgotten.
        self.flush();
        if let Some(viewer) = self.routes.get(&session).and_then(|route| route.viewer.as_ref()) {
            debug!(viewer = viewer.number, counters = ?viewer.counters(), "what a viewer asked for");
        }
        self.forget(session);
        self.join.push_always(JoinIn::Ended { session, at: now, reason });
    }

    fn forget(&mut self, session: SessionId) {
        let Some(route) = self.routes.remove(&session) else { return };
        self.timers.remove(session);
        if route.handed.refused() > 0 {
            debug!(dropped = route.handed.refused(), "a session sent more than any handshake has");
        }
        for ufrag in &route.ufrags {
            self.by_ufrag.remove(ufrag);
        }
        route.addresses.into_iter().for_each(|known| self.release(session, known.remote));
    }

    fn shut_down(&mut self, now: Instant) {
        let sessions: Vec<_> = self.routes.keys().copied().collect();
        for session in sessions {
            if let Some(viewer) = self.viewer(session) {
                viewer.end(now, EndReason::Shutdown);
            }
            self.collect(now, session);
        }
        if let Some(relays) = self.sink.relays().relays() {
            relays.close_all(now);
        }
        self.sink.pump(now);
        self.flush();
        self.running = false;
    }

    fn viewer(&mut self, session: SessionId) -> Option<&mut Box<Viewer<RtcEngine>>> {
        self.routes.get_mut(&session).and_then(|route| route.viewer.as_mut())
    }
}

#[cfg(test)]
mod tests;
