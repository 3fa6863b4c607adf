//! The session core in virtual time, over a simulated link to a receiver that behaves as libwebrtc's does.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::plain::PlainEngine;
use super::engine::{Engine, Feedback, LocalTransport, Path, RemoteTransport};
use super::sdp::{Agreement, AudioParameters, LocalStreams, Sync, VideoParameters};
use super::stream::PacketSink;
use super::viewer::{Change, EndReason, StreamKit, Viewer, ViewerEvent};
use crate::clock::Clock;
use crate::encoder::{AccessUnit, Bitrate, Codec};
use crate::fanout::{Fanout, Unit};
use crate::id::SessionId;

mod class;

const SSRC: u32 = 77;
const RTX_SSRC: u32 = 78;
const AUDIO_SSRC: u32 = 79;
const TICK: Duration = Duration::from_millis(1);

/// A link: what is pushed into it comes out after `delay`, unless `lose` says no.
struct Link<'a> {
    now: Instant,
    delay: Duration,
    sent: u64,
    lose: &'a mut dyn FnMut(u64, &[u8]) -> bool,
    flying: VecDeque<(Instant, Vec<u8>)>,
    packets: Vec<Vec<u8>>,
}

impl<'a> Link<'a> {
    fn new(now: Instant, delay: Duration, lose: &'a mut dyn FnMut(u64, &[u8]) -> bool) -> Self {
        Self { now, delay, sent: 0, lose, flying: VecDeque::new(), packets: Vec::new() }
    }
}

impl PacketSink for Link<'_> {
    fn push(&mut self, _: Path, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool) {
        let mut packet = vec![0; length];
        assert!(write(&mut packet));
        let number = self.sent;
        self.sent += 1;
        self.packets.push(packet.clone());
        if !(self.lose)(number, &packet) {
            self.flying.push_back((self.now + self.delay, packet));
        }
    }
}

/// The receiving side: NACKs gaps that a newer media packet shows (a repeat shows none), and reports arrivals every 50 ms.
#[derive(Default)]
struct Receiver {
    media: BTreeSet<u64>,
    arrived_at: BTreeMap<u64, Instant>,
    newest: Option<u64>,
    numbers: Vec<u16>,
    asked: BTreeMap<u64, Instant>,
}

impl Receiver {
    fn handle(&mut self, now: Instant, packet: &[u8]) {
        if (192..=223).contains(&packet[1]) {
            return;
        }
        let ssrc = u32::from_be_bytes(packet[8..12].try_into().unwrap());
        let header = 16 + 4 * usize::from(u16::from_be_bytes([packet[14], packet[15]]));
        assert_eq!(packet[16], 3 << 4 | 1, "transport-wide number comes first");
        self.numbers.push(u16::from_be_bytes([packet[17], packet[18]]));
        let sequence = if ssrc == SSRC { [packet[2], packet[3]] } else { [packet[header], packet[header + 1]] };
        let sequence = u64::from(u16::from_be_bytes(sequence));
        if self.media.insert(sequence) {
            self.arrived_at.insert(sequence, now);
        }
        if ssrc == SSRC {
            self.newest = Some(self.newest.map_or(sequence, |newest| newest.max(sequence)));
        }
    }

    fn feedback(&mut self, now: Instant, tick: u32) -> Vec<Feedback> {
        let mut out = Vec::new();
        let (Some(newest), Some(first)) = (self.newest, self.media.first().copied()) else { return out };
        let missing: Vec<u16> = (first..newest)
            .filter(|s| !self.media.contains(s))
            .filter(|s| self.asked.get(s).is_none_or(|at| now - *at > Duration::from_millis(100)))
            .map(|s| s as u16)
            .collect();
        for sequence in &missing {
            self.asked.insert(u64::from(*sequence), now);
        }
        if !missing.is_empty() {
            out.push(Feedback::Missing { ssrc: SSRC, sequences: missing });
        }
        if tick.is_multiple_of(50) && !self.numbers.is_empty() {
            out.push(Feedback::Arrived(std::mem::take(&mut self.numbers)));
        }
        out
    }
}

fn access_unit(codec: Codec, captured: Instant, keyframe: bool, size: usize) -> AccessUnit {
    let mut data = if codec == Codec::H264 { vec![0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }] } else { vec![] };
    data.resize(data.len() + size, 9);
    AccessUnit { codec, data: data.into(), keyframe, captured, sample: 0 }
}

fn unit(captured: Instant, keyframe: bool, size: usize) -> Arc<Unit> {
    Arc::new(Unit::new(access_unit(Codec::H264, captured, keyframe, size)))
}

fn audio_parameters() -> AudioParameters {
    AudioParameters { section: 1, payload_type: 111, format: String::new() }
}

fn parameters(rtx: Option<u8>) -> VideoParameters {
    VideoParameters {
        codec: Codec::H264,
        section: 0,
        payload_type: 96,
        format: String::new(),
        rtx,
        transport_cc: Some(3),
        playout_delay: Some(5),
        feedback: vec![],
    }
}

fn viewer(now: Instant, rtx: Option<u8>) -> Viewer<PlainEngine> {
    let streams = LocalStreams {
        video_ssrc: SSRC,
        rtx_ssrc: RTX_SSRC,
        audio_ssrc: AUDIO_SSRC,
        name: "n".into(),
        cname: "c".into(),
        sync: Sync::Lip,
        video_section: None,
        audio_section: None,
    };
    let clock = Clock::from_parts(now - Duration::from_secs(10), Duration::from_secs(1_700_000_000));
    let kit = StreamKit { clock, streams, rate: Bitrate(2_500_000) };
    let mut viewer = Viewer::new(now, SessionId::from_bytes([1; 16]), 1, PlainEngine::connected(), kit);
    viewer.start(now, &agreement(Some(parameters(rtx)), false)).unwrap();
    viewer
}

struct Run {
    receiver: Receiver,
    packets: Vec<Vec<u8>>,
    events: Vec<ViewerEvent>,
    start: Instant,
}

/// Runs a session for `length`, with units where `units` says, over a link of `delay` each way.
fn run(
    rtx: Option<u8>,
    length: Duration,
    delay: Duration,
    mut units: impl FnMut(u32, Instant) -> Option<Arc<Unit>>,
    lose: &mut dyn FnMut(u64, &[u8]) -> bool,
) -> Run {
    let start = Instant::now();
    let mut viewer = viewer(start, rtx);
    let mut link = Link::new(start, delay, lose);
    let mut receiver = Receiver::default();
    let mut backwards: VecDeque<(Instant, Feedback)> = VecDeque::new();
    let mut events = Vec::new();
    let path = PlainEngine::default().path().unwrap();
    for tick in 0..length.as_millis() as u32 {
        let now = start + TICK * tick;
        link.now = now;
        if tick == 0 {
            viewer.handle_datagram(now, path, &[], &mut link);
        }
        if let Some(unit) = units(tick, now) {
            viewer.handle_unit(now, &unit, &mut link);
        }
        while viewer.poll_timeout().is_some_and(|due| due <= now) {
            viewer.handle_timeout(now, &mut link);
        }
        while link.flying.front().is_some_and(|(due, _)| *due <= now) {
            let (_, packet) = link.flying.pop_front().unwrap();
            receiver.handle(now, &packet);
        }
        for feedback in receiver.feedback(now, tick) {
            backwards.push_back((now + delay, feedback));
        }
        while backwards.front().is_some_and(|(due, _)| *due <= now) {
            let (_, feedback) = backwards.pop_front().unwrap();
            viewer.engine_for_test().feed(feedback);
            viewer.handle_datagram(now, path, &[], &mut link);
        }
        while let Some(event) = viewer.poll_event() {
            events.push(event);
        }
    }
    Run { receiver, packets: link.packets, events, start }
}

fn media_sequences(packets: &[Vec<u8>]) -> Vec<u64> {
    let of = |p: &&Vec<u8>| !(192..=223).contains(&p[1]) && p[8..12] == SSRC.to_be_bytes();
    packets.iter().filter(of).map(|p| u64::from(u16::from_be_bytes([p[2], p[3]]))).collect()
}

#[test]
fn the_last_packet_before_silence_is_repaired_within_300_ms() {
    for delay in [1, 20, 40] {
        let delay = Duration::from_millis(delay);
        // 30 units a second for half a second, then nothing; the very last media packet (number 46: 3 of the keyframe, 14 units of 3, …) is lost.
        let units = |tick: u32, now| (tick.is_multiple_of(33) && tick < 500).then(|| unit(now, tick == 0, 3_000));
        let clean =
            media_sequences(&run(Some(97), Duration::from_millis(520), delay, units, &mut |_, _| false).packets).len();
        let mut seen = 0;
        let run = run(Some(97), Duration::from_secs(2), delay, units, &mut |_, packet| {
            let media = !(192..=223).contains(&packet[1]) && packet[8..12] == SSRC.to_be_bytes();
            seen += usize::from(media);
            media && seen == clean
        });
        let lost = *media_sequences(&run.packets).last().unwrap();
        let at = run.receiver.arrived_at.get(&lost).expect("it was repaired");
        let sent = run.start + TICK * 495;
        let took = at.saturating_duration_since(sent);
        assert!(took <= Duration::from_millis(300), "took {took:?} with {delay:?} each way");
        assert!(!run.events.contains(&ViewerEvent::KeyframeWanted));
    }
}

#[test]
fn motion_is_not_repeated_without_need() {
    let units = |tick: u32, now| tick.is_multiple_of(33).then(|| unit(now, tick == 0, 3_000));
    let run = run(Some(97), Duration::from_secs(3), Duration::from_millis(5), units, &mut |_, _| false);
    let repeats = run.packets.iter().filter(|p| p[8..12] == RTX_SSRC.to_be_bytes()).count();
    let media = media_sequences(&run.packets).len();
    assert!(repeats * 20 <= media, "{repeats} repeats for {media} packets that all arrived");
}

#[test]
fn random_loss_is_repaired_by_few_repeats() {
    let mut state = 1u64;
    let mut lose = |_: u64, _: &[u8]| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % 100 < 5
    };
    let units = |tick: u32, now| (tick.is_multiple_of(33) && tick < 9_000).then(|| unit(now, tick == 0, 9_000));
    let run = run(Some(97), Duration::from_secs(10), Duration::from_millis(40), units, &mut lose);
    let media = media_sequences(&run.packets);
    let repeats = run.packets.iter().filter(|p| p[8..12] == RTX_SSRC.to_be_bytes()).count();
    assert!(media.iter().all(|s| run.receiver.media.contains(s)), "all arrive in the end");
    assert!(media.windows(2).all(|w| w[1] == w[0] + 1), "sequence numbers are continuous");
    let lost = media.len() / 20;
    assert!(repeats < lost * 3, "{repeats} repeats for about {lost} losses");
}

#[test]
fn without_rtx_the_identical_bytes_are_sent_again() {
    let units = |tick: u32, now| (tick == 0).then(|| unit(now, true, 3_000));
    let mut lost = Vec::new();
    let run = run(None, Duration::from_secs(1), Duration::from_millis(5), units, &mut |number, packet| {
        if number == 2 {
            lost = packet.to_vec();
        }
        number == 2
    });
    assert!(run.packets.iter().filter(|p| **p == lost).count() >= 2, "PlainEngine panics if anything is sealed twice");
    assert_eq!(run.receiver.media.len(), 3);
}

#[test]
fn picture_ids_of_vp8_are_consecutive_and_repeats_keep_theirs() {
    let units = |tick: u32, now| {
        let keyframe = tick == 0;
        let data = vec![5; 3_000].into();
        let unit = AccessUnit { codec: Codec::Vp8, data, keyframe, captured: now, sample: 0 };
        (tick.is_multiple_of(33) && tick < 1_000).then(|| Arc::new(Unit::new(unit)))
    };
    let run = run(Some(97), Duration::from_secs(2), Duration::from_millis(5), units, &mut |number, _| number % 7 == 3);
    let mut ids = BTreeMap::new();
    let mut pictures = Vec::new();
    let mut repeats = 0;
    for packet in run.packets.iter().filter(|p| !(192..=223).contains(&p[1])) {
        let header = 16 + 4 * usize::from(u16::from_be_bytes([packet[14], packet[15]]));
        let repeat = packet[8..12] == RTX_SSRC.to_be_bytes();
        let (sequence, payload) =
            if repeat { (&packet[header..], &packet[header + 2..]) } else { (&packet[2..], &packet[header..]) };
        let sequence = u16::from_be_bytes([sequence[0], sequence[1]]);
        assert_eq!((payload[0] & 0xef, payload[1], payload[2] & 0x80), (0x80, 0x80, 0x80), "a long picture id");
        let id = u16::from_be_bytes([payload[2] & 0x7f, payload[3]]);
        if repeat {
            repeats += 1;
            assert_eq!(ids.get(&sequence), Some(&(id, payload[0])));
        } else {
            ids.insert(sequence, (id, payload[0]));
            if payload[0] & 0x10 != 0 {
                pictures.push(id);
            }
        }
    }
    assert!(repeats > 5 && pictures.len() == 31, "{repeats} repeats of {} pictures", pictures.len());
    assert!(pictures.windows(2).all(|two| two[1] == (two[0] + 1) & 0x7fff), "{pictures:?}");
}

#[test]
fn timestamps_are_true_and_always_grow() {
    let now = Instant::now();
    let mut viewer = viewer(now, Some(97));
    let path = PlainEngine::default().path().unwrap();
    let mut no = |_: u64, _: &[u8]| false;
    let mut link = Link::new(now, TICK, &mut no);
    viewer.handle_datagram(now, path, &[], &mut link);
    let old: Vec<_> = (0..10).map(|i| unit(now - Duration::from_secs(9), i == 0, 100)).collect();
    let mut fanout = Fanout::default();
    old.iter().for_each(|unit| fanout.push(unit.clone()));
    assert!(viewer.begin_catchup(now));
    assert!(viewer.handle_catchup(now, &fanout, 4, &mut link), "in slices");
    assert!(!viewer.handle_catchup(now, &fanout, 100, &mut link));
    for millisecond in [5u64, 5, 38, 71, 1_071] {
        viewer.handle_unit(now, &unit(now + TICK * millisecond as u32, false, 100), &mut link);
    }
    let stamps: Vec<u32> = link
        .packets
        .iter()
        .filter(|p| !(192..=223).contains(&p[1]))
        .map(|p| u32::from_be_bytes(p[4..8].try_into().unwrap()))
        .collect();
    let steps: Vec<u32> = stamps.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    assert_eq!(&steps[..9], &[90; 9], "joiners get old units in quick order");
    assert_eq!(&steps[10..], &[90, 33 * 90 - 90, 33 * 90, 90_000]);
}

#[test]
fn silence_ends_a_session_and_a_handshake_has_its_time() {
    let now = Instant::now();
    let ended = |viewer: &mut Viewer<PlainEngine>, connect: bool| {
        let mut no = |_: u64, _: &[u8]| false;
        let mut link = Link::new(now, TICK, &mut no);
        if connect {
            viewer.handle_datagram(now, PlainEngine::default().path().unwrap(), &[], &mut link);
        }
        let mut at = now;
        while let Some(due) = viewer.poll_timeout() {
            at = due;
            if connect || due > now + Duration::from_secs(14) {
                viewer.handle_timeout(due, &mut link);
            } else {
                break;
            }
        }
        let reason = std::iter::from_fn(|| viewer.poll_event()).find_map(|e| match e {
            ViewerEvent::Ended(reason) => Some(reason),
            _ => None,
        });
        (at - now, reason.unwrap())
    };
    let (after, reason) = ended(&mut viewer(now, None), true);
    assert!(after <= Duration::from_secs(15) && matches!(reason, EndReason::Silent(_)), "{after:?} {reason}");
    let mut never = viewer(now, None);
    never.engine_for_test().forget_connected();
    let (after, reason) = ended(&mut never, false);
    assert!(after <= Duration::from_secs(15) && matches!(reason, EndReason::NeverConnected(_)), "{after:?} {reason}");
}

#[test]
fn who_asks_for_keyframes_all_the_time_is_heard_now_and_then() {
    let start = Instant::now();
    let mut viewer = viewer(start, Some(97));
    let path = PlainEngine::default().path().unwrap();
    let mut no = |_: u64, _: &[u8]| false;
    let mut link = Link::new(start, TICK, &mut no);
    let mut wanted = 0;
    for tick in 0..60_000 {
        if tick % 10 == 0 {
            viewer.engine_for_test().feed(Feedback::KeyframeRequest { ssrc: SSRC });
            viewer.engine_for_test().feed(Feedback::KeyframeRequest { ssrc: 1 });
            viewer.handle_datagram(start + TICK * tick, path, &[], &mut link);
        }
        wanted += std::iter::from_fn(|| viewer.poll_event()).filter(|e| *e == ViewerEvent::KeyframeWanted).count();
    }
    assert!((10..=20).contains(&wanted), "{wanted} keyframes in a minute");
    assert!(viewer.counters().keyframes_refused > 5_000);
}

fn agreement(video: Option<VideoParameters>, audio: bool) -> Agreement {
    let remote = RemoteTransport {
        ufrag: "ufrag".into(),
        password: "password".into(),
        fingerprints: vec![],
        dtls_client: false,
        candidates: vec![],
    };
    Agreement { section: 0, video, audio: audio.then(audio_parameters), remote }
}

fn sound(captured: Instant, sample: u64) -> Unit {
    Unit::new(AccessUnit { sample, ..access_unit(Codec::Opus, captured, true, 240) })
}

#[test]
fn sound_counts_samples_and_is_reported_on_the_one_clock() {
    let start = Instant::now();
    let mut viewer = viewer(start, Some(97));
    let path = PlainEngine::default().path().unwrap();
    let mut no = |_: u64, _: &[u8]| false;
    let mut link = Link::new(start, TICK, &mut no);
    viewer.handle_datagram(start, path, &[], &mut link);
    viewer.handle_sound(&sound(start, 0), &mut link);
    assert!(link.packets.is_empty(), "nothing was agreed");
    viewer.handle_change(start, Change { agreement: agreement(None, true), restart: None });
    // The third packet is 7 ms late, which is not heard of; 3 s are missing before the fourth.
    for (sample, milliseconds) in [(0, 0), (960, 20), (1920, 47), (146_880, 3_060)] {
        viewer.handle_sound(&sound(start + TICK * milliseconds, sample), &mut link);
    }
    let header = |p: &Vec<u8>| (p[1], u32::from_be_bytes(p[4..8].try_into().unwrap()));
    let headers: Vec<_> = link.packets.iter().map(header).collect();
    assert_eq!(headers.iter().map(|(kind, _)| kind & 0x80).collect::<Vec<_>>(), [0x80, 0, 0, 0x80]);
    let stamps: Vec<u32> = headers.iter().map(|(_, stamp)| stamp.wrapping_sub(headers[0].1)).collect();
    assert_eq!(stamps, [0, 960, 1920, 146_880]);
    let now = start + TICK * 4_060;
    viewer.handle_timeout(now, &mut link);
    let report = viewer.engine_for_test().reports.pop().expect("a sender report");
    assert_eq!(report[4..8], AUDIO_SSRC.to_be_bytes());
    let rtp = u32::from_be_bytes(report[16..20].try_into().unwrap());
    assert_eq!(rtp.wrapping_sub(headers[3].1), 48_000, "a second after the last packet was captured");
}

#[test]
fn a_renegotiation_turns_pictures_off_and_on_and_to_another_codec() {
    let start = Instant::now();
    let mut viewer = viewer(start, Some(97));
    let path = PlainEngine::default().path().unwrap();
    let mut no = |_: u64, _: &[u8]| false;
    let mut link = Link::new(start, TICK, &mut no);
    viewer.handle_datagram(start, path, &[], &mut link);
    viewer.handle_unit(start, &unit(start, true, 100), &mut link);
    viewer.handle_change(start, Change { agreement: agreement(None, false), restart: None });
    assert_eq!(viewer.video_codec(), None);
    viewer.handle_unit(start + TICK, &unit(start + TICK, true, 100), &mut link);
    assert_eq!(link.packets.len(), 1);
    let vp8 = VideoParameters { codec: Codec::Vp8, payload_type: 100, ..parameters(None) };
    viewer.handle_change(start, Change { agreement: agreement(Some(vp8), false), restart: None });
    assert_eq!(viewer.video_codec(), Some(Codec::Vp8));
    let vp8_unit = |keyframe| Arc::new(Unit::new(access_unit(Codec::Vp8, start + TICK * 2, keyframe, 100)));
    viewer.handle_unit(start + TICK * 2, &vp8_unit(false), &mut link);
    assert_eq!(link.packets.len(), 1, "another codec begins with a keyframe");
    viewer.handle_unit(start + TICK * 2, &vp8_unit(true), &mut link);
    let sequences = media_sequences(&link.packets);
    assert_eq!((sequences.len(), sequences[1]), (2, sequences[0] + 1), "sequence numbers go on");
    assert_eq!(link.packets[1][1] & 0x7f, 100);
}

#[test]
fn what_is_over_sends_and_wants_nothing_more_whatever_comes() {
    let start = Instant::now();
    let mut viewer = viewer(start, Some(97));
    let path = PlainEngine::default().path().unwrap();
    let mut no = |_: u64, _: &[u8]| false;
    let mut link = Link::new(start, TICK, &mut no);
    viewer.handle_datagram(start, path, &[], &mut link);
    viewer.handle_unit(start, &unit(start, true, 3_000), &mut link);
    viewer.end(start, EndReason::Left);
    while viewer.poll_event().is_some() {}
    let (sent, sequences) = (link.packets.len(), media_sequences(&link.packets));
    let later = start + TICK * 300;
    viewer.engine_for_test().feed(Feedback::Missing { ssrc: SSRC, sequences: vec![sequences[0] as u16] });
    viewer.engine_for_test().feed(Feedback::KeyframeRequest { ssrc: SSRC });
    viewer.handle_datagram(later, path, &[], &mut link);
    viewer.handle_timeout(later, &mut link);
    viewer.handle_unit(later, &unit(later, true, 100), &mut link);
    assert!(!viewer.handle_catchup(later, &Fanout::default(), 10, &mut link));
    assert_eq!((link.packets.len(), viewer.poll_event(), viewer.poll_timeout()), (sent, None, None));
}
