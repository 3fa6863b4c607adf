//! The lines that the daemon's answers and offers have in common.
//!
//! It decides nothing: what is written is the caller's to know.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{LocalStreams, Origin, Sync, VideoParameters};
use crate::session::engine::rtc::LocalTransport;
use crate::session::reach::{CandidateKind, LocalCandidate};

/// The MediaStream of the picture, and of its sound where both are one.
const STREAM: &str = "laterna";
/// The MediaStream of the sound where neither waits for the other.
const SOUND_STREAM: &str = "laterna-audio";

/// The session's lines, down to the first section; a group for each list of mids.
pub fn write_session(out: &mut String, streams: &LocalStreams, origin: Origin, groups: &[Vec<&str>]) {
    // A session name is one line and not empty (RFC 8866, section 5.3).
    let name: String = streams.name.chars().filter(|c| !c.is_control()).collect();
    let name = if name.trim().is_empty() { "-" } else { name.trim() };
    let Origin { id, version } = origin;
    let _ = write!(out, "v=0\r\no=- {id} {version} IN IP4 127.0.0.1\r\ns={name}\r\nt=0 0\r\n");
    for mids in groups {
        let _ = write!(out, "a=group:BUNDLE {}\r\n", mids.join(" "));
    }
    let _ = write!(out, "a=msid-semantic: WMS {STREAM}");
    if streams.sync == Sync::LowLatency {
        let _ = write!(out, " {SOUND_STREAM}");
    }
    let _ = write!(out, "\r\na=ice-options:trickle\r\n");
}

/// What a section says of its transport.
pub fn write_transport(out: &mut String, transport: &LocalTransport, fingerprint: &[u8; 32], setup: &str) {
    let hash: Vec<_> = fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
    let _ = write!(
        out,
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\na=rtcp-mux\r\n",
        transport.ufrag,
        transport.password,
        hash.join(":")
    );
}

/// A codec's lines; the format may be empty.
pub fn write_codec(out: &mut String, payload_type: u8, map: &str, format: &str) {
    let _ = write!(out, "a=rtpmap:{payload_type} {map}\r\n");
    if !format.is_empty() {
        let _ = write!(out, "a=fmtp:{payload_type} {format}\r\n");
    }
}

/// The video's codec with its feedback and its retransmissions.
pub fn write_video_codec(out: &mut String, video: &VideoParameters, map: &str) {
    let pt = video.payload_type;
    write_codec(out, pt, map, &video.format);
    for kind in &video.feedback {
        let _ = write!(out, "a=rtcp-fb:{pt} {kind}\r\n");
    }
    if let Some(rtx) = video.rtx {
        write_codec(out, rtx, "rtx/90000", &format!("apt={pt}"));
    }
}

/// The sources of a video section.
pub fn write_video_sources(out: &mut String, streams: &LocalStreams, rtx: bool) {
    let _ = write!(out, "a=msid:{STREAM} video\r\n");
    // libwebrtc takes the first a=ssrc line for the media, whatever the group says.
    if rtx {
        let _ = write!(out, "a=ssrc-group:FID {} {}\r\n", streams.video_ssrc, streams.rtx_ssrc);
    }
    write_source(out, streams.video_ssrc, &streams.cname, STREAM, "video");
    if rtx {
        write_source(out, streams.rtx_ssrc, &streams.cname, STREAM, "video");
    }
}

/// The source of an audio section.
pub fn write_audio_source(out: &mut String, streams: &LocalStreams) {
    let stream = match streams.sync {
        Sync::Lip => STREAM,
        Sync::LowLatency => SOUND_STREAM,
    };
    let _ = write!(out, "a=msid:{stream} audio\r\n");
    write_source(out, streams.audio_ssrc, &streams.cname, stream, "audio");
}

/// A source with the stream it belongs to, as viewers of before `a=msid` read it.
fn write_source(out: &mut String, ssrc: u32, cname: &str, stream: &str, track: &str) {
    let _ = write!(out, "a=ssrc:{ssrc} cname:{cname}\r\na=ssrc:{ssrc} msid:{stream} {track}\r\n");
}

/// Candidates with their priorities (RFC 8445, section 5.1.2.1; RFC 6544, section 4.2), component 1 only: RTCP is multiplexed.
///
/// Related addresses are left out by zeros, as browsers do: they are of use to diagnostics only, and say where in a network the machine is.
pub fn candidates(candidates: &[LocalCandidate]) -> Vec<String> {
    let candidate = |(index, candidate): (u32, &LocalCandidate)| {
        let (preference, transport, rest) = match candidate.kind {
            CandidateKind::Host => (126u32, "udp", "typ host"),
            CandidateKind::TcpPassive => (90, "tcp", "typ host tcptype passive"),
            CandidateKind::ServerReflexive => (100, "udp", "typ srflx"),
            CandidateKind::Relayed => (0, "udp", "typ relay"),
        };
        let priority = (preference << 24) | ((65_535 - index) << 8) | 255;
        let (ip, port) = (candidate.address.ip(), candidate.address.port());
        let related = match (candidate.kind, ip) {
            (CandidateKind::Host | CandidateKind::TcpPassive, _) => "",
            (_, IpAddr::V4(_)) => " raddr 0.0.0.0 rport 0",
            (_, IpAddr::V6(_)) => " raddr :: rport 0",
        };
        format!("candidate:{} 1 {transport} {priority} {ip} {port} {rest}{related}", index + 1)
    };
    (0..65_535).zip(candidates).map(candidate).collect()
}

/// Writes all candidates of the daemon.
pub fn write_candidates(out: &mut String, all: &[LocalCandidate]) {
    for candidate in candidates(all) {
        let _ = write!(out, "a={candidate}\r\n");
    }
    let _ = write!(out, "a=end-of-candidates\r\n");
}
