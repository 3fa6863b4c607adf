//! An independent viewer: the `webrtc` crate, whose packets are written down as they come off the wire.
//!
//! Owns one connection by WHEP and the thread that drives it. It keeps, and loses where it is told to, what arrives; what that means
//! is the tests' to say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket};
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use tokio::sync::oneshot;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCSessionDescription, Registry,
    register_default_interceptors,
};

use super::daemon::Daemon;
use super::http;

/// How long the answer may take.
const WITHIN: Duration = Duration::from_secs(20);
/// Nearest to the wire of all that look at packets.
const TAP: usize = 500;

/// One RTP packet that came.
#[derive(Debug, Clone)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// Of which stream.
    pub ssrc: u32,
    /// Its number in the stream.
    pub number: u16,
    /// Its time, in 1/90000 s for pictures.
    pub timestamp: u32,
    /// Whether it is the last of its frame.
    pub marker: bool,
    /// What it carries.
    pub payload: Bytes,
}

/// What has come so far.
#[derive(Debug, Default)]
pub struct Taped {
    /// All RTP, but for what was lost.
    pub packets: Vec<Heard>,
    /// All sender reports.
    pub reports: Vec<(Instant, SenderReport)>,
    /// The packet that was lost.
    pub lost: Option<Heard>,
    /// The numbers that this viewer has asked for again.
    pub nacked: Vec<u16>,
    lose: Option<u32>,
}

impl Taped {
    /// The packets of one stream.
    pub fn stream(&self, ssrc: u32) -> Vec<Heard> {
        self.packets.iter().filter(|heard| heard.ssrc == ssrc).cloned().collect()
    }
}

#[derive(Default)]
struct Tape {
    taped: Mutex<Taped>,
    changed: Condvar,
}

impl Tape {
    fn note(&self, change: impl FnOnce(&mut Taped)) {
        change(&mut self.taped.lock().unwrap());
        self.changed.notify_all();
    }
}

/// A connected viewer; leaves when dropped.
pub struct RtcViewer {
    tape: Arc<Tape>,
    answer: String,
    location: String,
    daemon: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RtcViewer {
    /// Asks a daemon for its pictures and takes the answer.
    pub fn join(daemon: &Daemon) -> Self {
        let tape = Arc::new(Tape::default());
        let (tap, to, code) = (Tap::new(Arc::clone(&tape)), daemon.http(), daemon.code());
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let connection = connection(tap).await;
                let offer = connection.create_offer(None).await.unwrap();
                connection.set_local_description(offer.clone()).await.unwrap();
                let answer = http::offer(to, code.as_deref(), offer.sdp.as_bytes());
                tell.send(answer.clone()).unwrap();
                if answer.status == 201 {
                    let answer = RTCSessionDescription::answer(answer.body).unwrap();
                    connection.set_remote_description(answer).await.unwrap();
                    // Dropping the viewer ends it no less.
                    let _ = stopped.await;
                }
                connection.close().await.unwrap();
            });
        });
        let answer = told.recv_timeout(WITHIN).unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        let location = answer.header("location").unwrap().to_owned();
        Self { tape, answer: answer.body, location, daemon: to, stop: Some(stop), thread: Some(thread) }
    }

    /// The SSRCs of the pictures and of their retransmissions, as the answer names them.
    pub fn streams(&self) -> [u32; 2] {
        let group = self.answer.lines().find_map(|line| line.strip_prefix("a=ssrc-group:FID "));
        let group = group.unwrap_or_else(|| panic!("no group of streams in {}", self.answer));
        let ssrcs: Vec<u32> = group.split_whitespace().map(|ssrc| ssrc.parse().unwrap()).collect();
        ssrcs.try_into().unwrap_or_else(|ssrcs| panic!("not two streams: {ssrcs:?}"))
    }

    /// Awaits that `wanted` finds something in what has come.
    pub fn awaits<T>(&self, what: &str, within: Duration, mut wanted: impl FnMut(&Taped) -> Option<T>) -> T {
        let deadline = Instant::now() + within;
        let mut taped = self.tape.taped.lock().unwrap();
        loop {
            if let Some(found) = wanted(&taped) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let (packets, reports) = (taped.packets.len(), taped.reports.len());
            assert!(!left.is_zero(), "no {what} within {within:?}; {packets} packets and {reports} reports came");
            taped = self.tape.changed.wait_timeout(taped, left).unwrap().0;
        }
    }

    /// Loses the next packet of a stream that is not the last of its frame.
    pub fn lose_one(&self, ssrc: u32) {
        self.tape.note(|taped| taped.lose = Some(ssrc));
    }
}

impl Drop for RtcViewer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
            let path = self.location.find("/whep").map_or(self.location.as_str(), |at| &self.location[at..]);
            http::request(self.daemon, "DELETE", path, &[], b"");
        }
    }
}

/// A connection that wants pictures; `tap` sees its packets first.
async fn connection(tap: Tap) -> impl PeerConnection {
    let mut media = MediaEngine::default();
    media.register_default_codecs().unwrap();
    let registry = register_default_interceptors(Registry::new(), &mut media).unwrap();
    let connection = PeerConnectionBuilder::new()
        .with_media_engine(media)
        .with_interceptor_registry(registry.with(Slot::from(TAP), tap))
        .with_handler(Arc::new(Silent))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .unwrap();
    let receives = RTCRtpTransceiverInit {
        direction: RTCRtpTransceiverDirection::Recvonly,
        streams: vec![],
        send_encodings: vec![],
    };
    connection.add_transceiver_from_kind(RtpCodecKind::Video, Some(receives)).await.unwrap();
    connection
}

/// Hears of nothing: what counts is seen on the wire.
struct Silent;

impl PeerConnectionEventHandler for Silent {}

/// Writes down what passes, and loses what is to be lost.
struct Tap {
    tape: Arc<Tape>,
    arriving: VecDeque<TaggedPacket>,
    leaving: VecDeque<TaggedPacket>,
}

impl Tap {
    fn new(tape: Arc<Tape>) -> Self {
        Self { tape, arriving: VecDeque::new(), leaving: VecDeque::new() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        let at = Instant::now();
        let mut is_lost = false;
        self.tape.note(|taped| match &message.message.packet {
            Packet::Rtp(packet) => {
                let header = &packet.header;
                let heard = Heard {
                    at,
                    ssrc: header.ssrc,
                    number: header.sequence_number,
                    timestamp: header.timestamp,
                    marker: header.marker,
                    payload: packet.payload.clone(),
                };
                is_lost = !heard.marker && taped.lose.take_if(|ssrc| *ssrc == heard.ssrc).is_some();
                if is_lost {
                    taped.lost = Some(heard);
                } else {
                    taped.packets.push(heard);
                }
            }
            Packet::Rtcp(packets) => {
                let reports = packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>());
                taped.reports.extend(reports.map(|report| (at, report.clone())));
            }
            _ => {}
        });
        if !is_lost {
            self.arriving.push_back(message);
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.arriving.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &message.message.packet {
            let nacks = packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>());
            let numbers: Vec<u16> = nacks.flat_map(|nack| &nack.nacks).flat_map(|pair| pair.packet_list()).collect();
            self.tape.note(|taped| taped.nacked.extend(numbers));
        }
        self.leaving.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.leaving.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
