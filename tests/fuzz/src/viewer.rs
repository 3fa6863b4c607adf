//! A viewer's session over an engine without a cipher: what it reports, in any order with units, time and renegotiations.
//!
//! The input is a list of steps, see [`step`]. The engine opens whatever comes, and itself refuses to seal a packet index twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use laterna::clock::Clock;
use laterna::encoder::{AccessUnit, Bitrate, Codec};
use laterna::fanout::{Fanout, Unit};
use laterna::id::SessionId;
use laterna::session::engine::{
    Base, Engine, EngineEvent, Feedback, LocalTransport, Path, RemoteTransport, Transmit, TransportError, feedback,
};
use laterna::session::sdp::{Agreement, AudioParameters, LocalStreams, Sync, VideoParameters};
use laterna::session::stream::PacketSink;
use laterna::session::viewer::{Change, EndReason, StreamKit, Viewer, ViewerEvent};

use super::input::{Input, start};

#[path = "../../../src/session/engine/plain.rs"]
#[allow(dead_code, reason = "its tests use the rest")]
mod plain;

use plain::PlainEngine;

const SSRC: u32 = 11;
const RTX_SSRC: u32 = 12;
const AUDIO_SSRC: u32 = 13;
const MOST_STEPS: usize = 256;
/// Bytes of the longest packet without its tag, and packets that one step may have sent.
const LARGEST: usize = 1200;
const MOST_SENT: usize = 2048;
/// Bytes of the longest unit here.
const MOST_UNIT: u16 = 16_000;
/// What a viewer may want: a few keyframes at once, then one each second.
const KEYFRAMES_AT_ONCE: u64 = 8;

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut stage = Stage::new(input.byte());
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut stage, &mut input);
        stage.drain();
    }
}

/// What was sent, and what must hold of it.
#[derive(Default)]
struct Wire {
    step: usize,
    /// The packets of the picture, by their numbers.
    media: HashMap<u16, Vec<u8>>,
    next: HashMap<u32, u16>,
    is_over: bool,
}

impl PacketSink for Wire {
    fn push(&mut self, _: Path, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool) {
        assert!(!self.is_over, "a packet after the end");
        assert!((8..=LARGEST).contains(&length), "{length} bytes");
        self.step += 1;
        assert!(self.step <= MOST_SENT, "it sends without end");
        let mut packet = vec![0; length];
        assert!(write(&mut packet));
        if (192..=223).contains(&packet[1]) {
            assert!(matches!(feedback::parse(&packet).first(), Some(Feedback::SenderReport { .. })));
            return;
        }
        let ssrc = u32::from_be_bytes(*packet[8..].first_chunk().unwrap());
        let number = u16::from_be_bytes([packet[2], packet[3]]);
        let next = self.next.get(&ssrc).copied();
        if ssrc == SSRC && next.is_some_and(|next| next != number) {
            assert_eq!(self.media.get(&number), Some(&packet), "a repeat is the same to the letter");
            return;
        }
        assert!(next.is_none_or(|next| next == number), "{number} of {ssrc} where {next:?} comes");
        self.next.insert(ssrc, number.wrapping_add(1));
        match ssrc {
            SSRC => drop(self.media.insert(number, packet)),
            RTX_SSRC => {
                let payload = payload(&packet);
                let original = u16::from_be_bytes([payload[0], payload[1]]);
                let original = self.media.get(&original).unwrap_or_else(|| panic!("{original} was never sent"));
                assert_eq!(&payload[2..], self::payload(original));
            }
            AUDIO_SSRC => {}
            other => panic!("whose stream is {other}?"),
        }
    }
}

/// What is behind the header of an RTP packet and its extensions.
fn payload(packet: &[u8]) -> &[u8] {
    let words = if packet[0] & 0x10 == 0 { 0 } else { 1 + u16::from_be_bytes([packet[14], packet[15]]) };
    &packet[12 + 4 * usize::from(words)..]
}

struct Stage {
    viewer: Viewer<PlainEngine>,
    fanouts: [Fanout; 2],
    wire: Wire,
    now: Instant,
    wanted: u64,
    samples: u64,
}

fn agreement(kind: u8) -> Agreement {
    let codec = if kind & 1 == 0 { Codec::H264 } else { Codec::Vp8 };
    let video = VideoParameters {
        codec,
        section: 0,
        payload_type: 96,
        format: String::new(),
        rtx: (kind & 2 == 0).then_some(97),
        transport_cc: (kind & 4 == 0).then_some(3),
        playout_delay: (kind & 8 == 0).then_some(5),
        feedback: Vec::new(),
    };
    let audio = AudioParameters { section: 1, payload_type: 111, format: String::new() };
    let remote = RemoteTransport {
        ufrag: "them".to_owned(),
        password: "password".to_owned(),
        fingerprints: Vec::new(),
        dtls_client: false,
        candidates: Vec::new(),
    };
    Agreement {
        section: 0,
        video: (kind & 48 != 48).then_some(video),
        audio: (kind & 64 == 0).then_some(audio),
        remote,
    }
}

impl Stage {
    fn new(kind: u8) -> Self {
        let now = start() + Duration::from_secs(60);
        let streams = LocalStreams {
            video_ssrc: SSRC,
            rtx_ssrc: RTX_SSRC,
            audio_ssrc: AUDIO_SSRC,
            name: "n".to_owned(),
            cname: "c".to_owned(),
            sync: Sync::Lip,
            video_section: None,
            audio_section: None,
        };
        let clock = Clock::from_parts(start(), Duration::from_secs(1_700_000_000));
        let kit = StreamKit { clock, streams, rate: Bitrate(2_500_000) };
        let mut viewer = Viewer::new(now, SessionId::from_bytes([1; 16]), 1, PlainEngine::default(), kit);
        viewer.start(now, &agreement(kind)).unwrap();
        Self { viewer, fanouts: Default::default(), wire: Wire::default(), now, wanted: 0, samples: 0 }
    }

    fn hears(&mut self, datagram: &[u8]) {
        let path = self.viewer.path().unwrap();
        self.viewer.handle_datagram(self.now, path, datagram, &mut self.wire);
    }

    fn drain(&mut self) {
        self.wire.step = 0;
        while let Some(event) = self.viewer.poll_event() {
            assert!(!self.wire.is_over, "{event:?} after the end");
            match event {
                ViewerEvent::KeyframeWanted => self.wanted += 1,
                ViewerEvent::Ended(_) => self.wire.is_over = true,
                _ => {}
            }
        }
        let seconds = self.now.saturating_duration_since(start() + Duration::from_secs(60)).as_secs();
        assert!(self.wanted <= KEYFRAMES_AT_ONCE + 2 * seconds, "{} keyframes in {seconds} s", self.wanted);
    }

    fn pass(&mut self, pause: Duration) {
        self.now += pause;
        for _ in 0..8 {
            if self.viewer.poll_timeout().is_none_or(|due| due > self.now) {
                return;
            }
            self.viewer.handle_timeout(self.now, &mut self.wire);
        }
        panic!("what is due is not done");
    }
}

/// Takes a step: its kind, then what that needs.
fn step(stage: &mut Stage, input: &mut Input<'_>) {
    match input.byte() % 12 {
        0 | 1 => {
            let (kind, size) = (input.byte(), input.word() % MOST_UNIT);
            unit(stage, kind, size.into());
        }
        2 => {
            stage.samples += 960;
            let data = vec![7; usize::from(input.byte()) + 1].into();
            let sample = stage.samples;
            let sound = AccessUnit { codec: Codec::Opus, data, keyframe: true, captured: stage.now, sample };
            stage.viewer.handle_sound(&Unit::new(sound), &mut stage.wire);
        }
        3 => stage.hears(input.chunk()),
        4 => {
            // A NACK of this picture: a packet near the last one, and which of the sixteen after it.
            let last = stage.wire.next.get(&SSRC).copied().unwrap_or_default();
            let first = last.wrapping_sub(input.word() % 1024);
            let nack = report(0x81, 205, &[first.to_be_bytes(), input.word().to_be_bytes()].concat());
            stage.hears(&nack);
        }
        5 => stage.hears(&report(0x81, 206, &[])),
        6 => {
            let block = [&SSRC.to_be_bytes()[..], &[input.byte(), 0, 0, 0], &[0; 2], &input.word().to_be_bytes()];
            let times = [[0; 4], input.number().to_be_bytes(), input.number().to_be_bytes()].concat();
            let body = [&[0, 0, 0, 1][..], &block.concat(), &times].concat();
            stage.hears(&[&[0x81, 201, 0, 7][..], &body].concat());
        }
        7 | 8 => stage.pass(Duration::from_millis(u64::from(input.word() % 8192))),
        9 => {
            stage.viewer.begin_catchup(stage.now);
            let packets = usize::from(input.byte());
            let at = usize::from(stage.viewer.video_codec() == Some(Codec::Vp8));
            stage.viewer.handle_catchup(stage.now, &stage.fanouts[at], packets, &mut stage.wire);
        }
        10 => {
            let kind = input.byte();
            match kind >> 6 {
                0 => drop(stage.viewer.handle_overflow(stage.now)),
                1 => stage.viewer.set_rate(stage.now, Bitrate(50_000 + u32::from(input.word()) * 1000)),
                2 if kind & 63 == 63 => stage.viewer.end(stage.now, EndReason::Left),
                _ => {}
            }
        }
        _ => {
            let agreement = agreement(input.byte());
            stage.viewer.handle_change(stage.now, Change { agreement, restart: None });
        }
    }
}

/// Has an encoder make a unit, which the viewer gets where it takes that codec.
fn unit(stage: &mut Stage, kind: u8, size: usize) {
    let codec = if kind & 1 == 0 { Codec::H264 } else { Codec::Vp8 };
    let keyframe = kind & 0xe == 0;
    let mut data = if codec == Codec::H264 { vec![0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }] } else { Vec::new() };
    data.resize(data.len() + size + 1, kind | 1);
    let unit = AccessUnit { codec, data: data.into(), keyframe, captured: stage.now, sample: 0 };
    let unit = Arc::new(Unit::new(unit));
    stage.fanouts[usize::from(codec == Codec::Vp8)].push(unit.clone());
    if stage.viewer.video_codec() == Some(codec) {
        stage.viewer.handle_unit(stage.now, &unit, &mut stage.wire);
    }
}

/// Feedback about the picture (RFC 4585, section 6.1).
fn report(first: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let words = 2 + body.len() as u16 / 4;
    [&[first, kind][..], &words.to_be_bytes(), &[0, 0, 0, 1], &SSRC.to_be_bytes(), body].concat()
}
