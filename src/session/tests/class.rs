//! Viewers over the fanouts of both codecs, and what slow and hostile ones of them do to themselves.
//!
//! A class goes as the media thread does: live units first, then a slice of what the first joiner is owed.

use std::collections::BTreeMap;

use super::*;

/// Packets of one slice.
const SLICE: usize = 8;
const CODECS: [Codec; 2] = [Codec::H264, Codec::Vp8];

/// All that was sent to one viewer since it was looked at.
#[derive(Default)]
struct Tape(Vec<Vec<u8>>);

impl PacketSink for Tape {
    fn push(&mut self, _: Path, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool) {
        let mut packet = vec![0; length];
        assert!(write(&mut packet));
        self.0.push(packet);
    }
}

/// A unit that says which one it is.
fn numbered(codec: Codec, number: u64, captured: Instant, keyframe: bool, size: usize) -> Arc<Unit> {
    let mut data = if codec == Codec::H264 { vec![0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }] } else { vec![] };
    data.extend(format!("#@{number:08}{}", if keyframe { 'K' } else { 'D' }).bytes());
    data.resize(data.len() + size, 9);
    Arc::new(Unit::new(AccessUnit { codec, data: data.into(), keyframe, captured, sample: 0 }))
}

/// What a decoder makes of the packets of one viewer; it fails where an honest one would.
#[derive(Default)]
struct Decoder {
    sequence: Option<u16>,
    timestamp: Option<u32>,
    /// The last unit, and whether it is whole.
    unit: Option<(Codec, u64)>,
    whole: bool,
    /// Whether units may come again, from a keyframe on: something else was agreed.
    again: bool,
    units: usize,
}

impl Decoder {
    fn watch(&mut self, packet: &[u8]) {
        if (192..=223).contains(&packet[1]) || packet[8..12] != SSRC.to_be_bytes() {
            return;
        }
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        assert!(self.sequence.is_none_or(|last| sequence == last.wrapping_add(1)), "sequence numbers are continuous");
        self.sequence = Some(sequence);
        let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let codec = if packet[1] & 0x7f == 100 { Codec::Vp8 } else { Codec::H264 };
        match (24..packet.len().min(32)).find(|at| packet[*at..].starts_with(b"#@")) {
            Some(at) => {
                assert!(self.whole || self.unit.is_none(), "a unit begins before the last is whole");
                let number: u64 = std::str::from_utf8(&packet[at + 2..at + 10]).unwrap().parse().unwrap();
                let step = timestamp.wrapping_sub(self.timestamp.unwrap_or(timestamp.wrapping_sub(1)));
                assert!((1..1 << 31).contains(&step), "timestamps grow: {step}");
                if packet[at + 10] == b'D' {
                    assert_eq!(self.unit, Some((codec, number - 1)), "unit {number} of {codec:?} can't be decoded");
                } else {
                    let later = self.unit.is_none_or(|(of, last)| of != codec || number > last);
                    assert!(later || self.again, "unit {number} of {codec:?} is sent twice");
                    self.again = false;
                }
                (self.unit, self.timestamp) = (Some((codec, number)), Some(timestamp));
                self.units += 1;
            }
            None => assert!(!self.whole && self.timestamp == Some(timestamp), "a packet without its unit's first"),
        }
        self.whole = packet[1] & 0x80 != 0;
    }
}

struct Seat {
    viewer: Viewer<PlainEngine>,
    tape: Tape,
    decoder: Decoder,
}

/// What is made of one codec.
#[derive(Default)]
struct Made {
    fanout: Fanout,
    number: u64,
    /// Whether a keyframe is asked for, or must come first.
    wanted: bool,
    first: bool,
    keyframe: Option<Instant>,
    keyframes: usize,
}

struct Class {
    now: Instant,
    made: [Made; 2],
    seats: BTreeMap<u32, Seat>,
    joiners: VecDeque<u32>,
    joined: u32,
}

impl Class {
    fn new() -> Self {
        let made = CODECS.map(|_| Made { first: true, ..Made::default() });
        Self { now: Instant::now(), made, seats: BTreeMap::new(), joiners: VecDeque::new(), joined: 0 }
    }

    fn join(&mut self) -> u32 {
        let mut seat = Seat { viewer: viewer(self.now, Some(97)), tape: Tape::default(), decoder: Decoder::default() };
        seat.viewer.handle_datagram(self.now, PlainEngine::default().path().unwrap(), &[], &mut seat.tape);
        self.joined += 1;
        self.seats.insert(self.joined, seat);
        self.begin(self.joined);
        self.joined
    }

    fn begin(&mut self, id: u32) {
        let begins = self.seats.get_mut(&id).is_some_and(|seat| seat.viewer.begin_catchup(self.now));
        if begins && !self.joiners.contains(&id) {
            self.joiners.push_back(id);
        }
        self.look();
    }

    fn change(&mut self, id: u32, codec: Option<Codec>, restart: bool) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        let parameters = codec.map(|codec| VideoParameters {
            codec,
            payload_type: if codec == Codec::Vp8 { 100 } else { 96 },
            ..parameters(Some(97))
        });
        let restart = restart.then(|| (LocalTransport::random(), vec![]));
        seat.viewer.handle_change(self.now, Change { agreement: agreement(parameters, true), restart });
        seat.decoder.again = true;
        self.begin(id);
    }

    fn encode(&mut self, codec: Codec, size: usize) {
        let made = &mut self.made[index(codec)];
        let open = made.keyframe.is_none_or(|at| self.now >= at + Duration::from_secs(1));
        let keyframe = made.first || (made.wanted && open);
        if keyframe {
            (made.first, made.wanted, made.keyframe) = (false, false, Some(self.now));
            made.keyframes += 1;
        }
        made.number += 1;
        let unit = numbered(codec, made.number, self.now, keyframe, size);
        made.fanout.push(unit.clone());
        for seat in self.seats.values_mut().filter(|seat| seat.viewer.video_codec() == Some(codec)) {
            seat.viewer.handle_unit(self.now, &unit, &mut seat.tape);
        }
        self.look();
    }

    /// A slice for the first joiner.
    fn slice(&mut self) -> bool {
        let Some(id) = self.joiners.front().copied() else { return false };
        let more = self.seats.get_mut(&id).is_some_and(|seat| {
            let Some(codec) = seat.viewer.video_codec() else { return false };
            seat.viewer.handle_catchup(self.now, &self.made[index(codec)].fanout, SLICE, &mut seat.tape)
        });
        if !more {
            self.joiners.pop_front();
        }
        self.look();
        true
    }

    fn overflow(&mut self, id: u32) {
        if let Some(seat) = self.seats.get_mut(&id)
            && let Some(codec) = seat.viewer.video_codec()
        {
            seat.viewer.handle_overflow(self.now);
            self.made[index(codec)].wanted = true;
        }
    }

    /// The queue to the media thread was full.
    fn lose(&mut self) {
        for made in &mut self.made {
            made.number += 1;
            made.fanout.clear();
            made.wanted = true;
        }
        for seat in self.seats.values_mut() {
            seat.viewer.handle_overflow(self.now);
        }
    }

    /// An encoder starts anew.
    fn restart(&mut self, codec: Codec) {
        let made = &mut self.made[index(codec)];
        made.fanout.clear();
        made.first = true;
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for seat in self.seats.values_mut() {
            seat.viewer.handle_datagram(self.now, PlainEngine::default().path().unwrap(), &[], &mut seat.tape);
            if seat.viewer.poll_timeout().is_some_and(|due| due <= self.now) {
                seat.viewer.handle_timeout(self.now, &mut seat.tape);
            }
        }
        self.look();
    }

    /// Looks at all that was sent, and does what viewers want.
    fn look(&mut self) {
        for seat in self.seats.values_mut() {
            seat.tape.0.drain(..).for_each(|packet| seat.decoder.watch(&packet));
            while let Some(event) = seat.viewer.poll_event() {
                match event {
                    ViewerEvent::KeyframeWanted => {
                        let codec = seat.viewer.video_codec();
                        codec.into_iter().for_each(|codec| self.made[index(codec)].wanted = true);
                    }
                    ViewerEvent::Connected | ViewerEvent::Address(_) => {}
                    ViewerEvent::Ended(reason) => panic!("{reason}"),
                }
            }
        }
    }

    fn feed(&mut self, id: u32, feedback: Feedback) {
        self.seats.get_mut(&id).into_iter().for_each(|seat| seat.viewer.engine_for_test().feed(feedback.clone()));
    }

    fn shown(&self, id: u32) -> Option<(Codec, u64)> {
        self.seats[&id].decoder.unit
    }
}

fn index(codec: Codec) -> usize {
    usize::from(codec == Codec::Vp8)
}

#[test]
fn whatever_happens_to_a_class_all_that_is_sent_can_be_decoded_and_everybody_is_served_in_the_end() {
    for seed in 0..40_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = move |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        let mut class = Class::new();
        for _ in 0..1_500 {
            let ids: Vec<u32> = class.seats.keys().copied().collect();
            let id = ids.get(below(ids.len().max(1))).copied().unwrap_or(0);
            match below(100) {
                0..50 => {
                    class.pass(TICK * below(40) as u32);
                    class.encode(CODECS[below(2)], [50, 3_000, 30_000][below(3)]);
                }
                50..80 => drop(class.slice()),
                80..84 if ids.len() < 10 => drop(class.join()),
                84 if ids.len() > 2 => drop(class.seats.remove(&id)),
                85 | 86 => class.overflow(id),
                87 => class.lose(),
                88 => class.restart(CODECS[below(2)]),
                89 => (0..320).for_each(|_| class.encode(Codec::H264, 50)),
                90..93 => class.change(id, [None, Some(Codec::H264), Some(Codec::Vp8)][below(3)], false),
                93 => class.change(id, Some(CODECS[below(2)]), true),
                94..97 => class.feed(id, Feedback::KeyframeRequest { ssrc: SSRC }),
                97..99 => {
                    let sequences = (0..100).map(|_| below(65_536) as u16).collect();
                    class.feed(id, Feedback::Missing { ssrc: SSRC, sequences });
                }
                _ => class.pass(Duration::from_millis(below(3_000) as u64)),
            }
        }
        for _ in 0..400 {
            class.pass(TICK * 33);
            CODECS.into_iter().for_each(|codec| class.encode(codec, 500));
            while class.slice() {}
        }
        for (id, seat) in &class.seats {
            let latest = seat.viewer.video_codec().map(|codec| (codec, class.made[index(codec)].number));
            assert!(latest.is_none() || class.shown(*id) == latest, "seed {seed}: viewer {id} is left behind");
        }
    }
}

#[test]
fn a_joiner_overtaken_by_a_keyframe_goes_on_there_while_live_units_come() {
    let mut class = Class::new();
    (0..20).for_each(|_| class.encode(Codec::H264, 5_000));
    let id = class.join();
    assert!(class.slice());
    assert_eq!(class.shown(id), Some((Codec::H264, 2)), "slices are of whole units");
    class.pass(Duration::from_secs(2));
    class.made[0].wanted = true;
    class.encode(Codec::H264, 5_000);
    class.encode(Codec::H264, 5_000);
    while class.slice() {}
    assert_eq!((class.shown(id), class.seats[&id].decoder.units), (Some((Codec::H264, 22)), 4));
    class.encode(Codec::H264, 100);
    assert_eq!(class.shown(id), Some((Codec::H264, 23)));
}

#[test]
fn a_socket_that_is_full_during_catchup_costs_its_viewer_the_wait_for_a_keyframe() {
    let mut class = Class::new();
    (0..20).for_each(|_| class.encode(Codec::H264, 5_000));
    let (slow, other) = (class.join(), class.join());
    class.slice();
    class.overflow(slow);
    while class.slice() {}
    assert_eq!((class.shown(slow), class.shown(other)), (Some((Codec::H264, 2)), Some((Codec::H264, 20))));
    class.pass(Duration::from_secs(1));
    class.encode(Codec::H264, 100);
    assert_eq!((class.shown(slow), class.shown(other)), (Some((Codec::H264, 21)), Some((Codec::H264, 21))));
}

#[test]
fn who_turns_pictures_off_and_on_all_the_time_costs_others_no_more_keyframes_than_who_asks() {
    let mut class = Class::new();
    let (honest, hostile) = (class.join(), class.join());
    let mut units = 0;
    for tick in 0..3_000 {
        class.pass(TICK * 20);
        class.change(hostile, None, false);
        class.change(hostile, Some(Codec::H264), false);
        class.encode(Codec::H264, 3_000);
        while class.slice() {}
        units += 1;
        assert_eq!(class.shown(honest), Some((Codec::H264, tick + 1)));
    }
    let (keyframes, sent) = (class.made[0].keyframes, class.seats[&hostile].decoder.units);
    assert!(keyframes <= 20, "{keyframes} keyframes in a minute");
    assert!(sent <= 20 * 300 && class.seats[&hostile].viewer.counters().catchups_refused > 2_000, "{sent} for {units}");
}

#[test]
fn nothing_of_the_pictures_is_repeated_once_they_are_off_and_sound_goes_on() {
    let mut class = Class::new();
    let id = class.join();
    while class.slice() {}
    class.encode(Codec::H264, 3_000);
    assert_eq!(class.shown(id), Some((Codec::H264, 1)));
    class.change(id, None, false);
    let seat = class.seats.get_mut(&id).unwrap();
    for millisecond in (0..1_000).step_by(20) {
        let now = class.now + TICK * millisecond;
        seat.viewer.handle_sound(&sound(now, u64::from(millisecond) * 48), &mut seat.tape);
        seat.viewer.handle_timeout(now, &mut seat.tape);
    }
    let of = |ssrc: u32| {
        seat.tape.0.iter().filter(|p| !(192..=223).contains(&p[1]) && p[8..12] == ssrc.to_be_bytes()).count()
    };
    assert_eq!((of(SSRC), of(RTX_SSRC), of(AUDIO_SSRC)), (0, 0, 50));
}

#[test]
fn an_ice_restart_gives_a_silent_viewer_time_to_be_found_again_but_once() {
    let mut class = Class::new();
    let id = class.join();
    let start = class.now;
    let seconds = Duration::from_secs;
    let seat = class.seats.get_mut(&id).unwrap();
    let restart = |viewer: &mut Viewer<PlainEngine>, at| {
        let restart = Some((LocalTransport::random(), vec![]));
        viewer.handle_change(start + at, Change { agreement: agreement(Some(parameters(None)), false), restart });
    };
    restart(&mut seat.viewer, seconds(10));
    restart(&mut seat.viewer, seconds(20));
    seat.viewer.handle_timeout(start + seconds(21), &mut seat.tape);
    assert!(!seat.viewer.engine_for_test().closed, "its new path is being looked for");
    seat.viewer.handle_timeout(start + seconds(22), &mut seat.tape);
    assert!(seat.viewer.engine_for_test().closed, "who only restarts is not there");

    class.seats.clear();
    let id = class.join();
    let seat = class.seats.get_mut(&id).unwrap();
    restart(&mut seat.viewer, seconds(10));
    seat.viewer.handle_datagram(start + seconds(15), PlainEngine::default().path().unwrap(), &[], &mut seat.tape);
    restart(&mut seat.viewer, seconds(26));
    seat.viewer.handle_timeout(start + seconds(37), &mut seat.tape);
    assert!(!seat.viewer.engine_for_test().closed, "it was heard in between");
}

#[test]
fn an_address_stays_with_the_session_that_is_heard_there() {
    let mut class = Class::new();
    let id = class.join();
    let (viewer, now) = (&class.seats[&id].viewer, class.now);
    let [own, other] = [9, 10].map(|port| ([127, 0, 0, 1], port).into()).map(|at| Path::udp(at, at).end());
    assert!(viewer.holds(now + Duration::from_secs(4), own) && !viewer.holds(now, other));
    assert!(!viewer.holds(now + Duration::from_secs(5), own), "whoever is silent loses it");
}
