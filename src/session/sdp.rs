//! Offers and answers (RFC 8866, RFC 3264, RFC 8829, RFC 9143): what a viewer offers, what of it the daemon takes, and the answer's words.
//!
//! A pure core. It never answers with anything the offer does not allow: payload types, extensions, directions and codecs are the offer's own.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::engine::RemoteTransport;
use super::engine::rtc::LocalTransport;

mod offer;
#[cfg(test)]
mod tests;

pub use offer::{Direction, Kind, Offer as Description, Offer, OfferError, Section};

/// Header extension of transport-wide sequence numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Header extension that bounds the receiver's playout delay.
pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// What was agreed for the video of one viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoParameters {
    /// c
    pub codec: crate::encoder::Codec,
    /// Index of its section in the offer.
    pub section: usize,
    /// Payload type of the codec.
    pub payload_type: u8,
    /// The answer's `a=fmtp` parameters.
    pub format: String,
    /// Payload type of retransmissions (RFC 4588).
    pub rtx: Option<u8>,
    /// Id of the transport-wide sequence number extension.
    pub transport_cc: Option<u8>,
    /// Id of the playout delay extension.
    pub playout_delay: Option<u8>,
    /// Which of the daemon's feedback kinds the offer has for this payload type, in its own order.
    pub feedback: Vec<&'static str>,
}

/// What is agreed with one viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The video.
    pub video: Option<VideoParameters>,
    /// a
    pub audio: Option<AudioParameters>,
    /// The viewer's transport.
    pub remote: RemoteTransport,
}

/// The daemon's streams as the answer names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalStreams {
    /// SSRC of the video.
    pub video_ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx_ssrc: u32,
    /// a
    pub audio_ssrc: u32,
    /// s
    pub sync: Sync,
    /// The broadcast's name, which the page shows.
    pub name: String,
    /// Canonical name (RFC 3550, section 6.5.1).
    pub cname: String,
}

/// S
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// L
    Lip,
    /// L
    LowLatency,
}
/// A
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioParameters {
    /// s
    pub section: usize,
    /// p
    pub payload_type: u8,
    /// f
    pub format: String,
}
/// C
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// v
    pub video: Vec<crate::encoder::Codec>,
    /// a
    pub audio: bool,
}
/// O
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// i
    pub id: u64,
    /// v
    pub version: u64,
}
/// o
pub fn offer(_can: &Capabilities, _transport: &LocalTransport, _streams: &LocalStreams, _origin: Origin, _fingerprint: &[u8; 32], _candidates: &[SocketAddr]) -> String { String::new() }
/// a
pub fn accept(_own: &str, _answer: &Description, _can: &Capabilities) -> Result<Agreement, NegotiationError> { Err(NegotiationError::NoMedia) }
/// c
pub fn candidates(_addresses: &[SocketAddr]) -> Vec<String> { vec![] }

/// Why an offer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// It can't be understood.
    #[error("the offer is no usable SDP: {0}")]
    Offer(#[from] OfferError),
    /// It lacks what WebRTC demands.
    #[error(
        "the offer has no {0}; a WebRTC offer has ICE credentials and a SHA-256 fingerprint for each section it bundles"
    )]
    Incomplete(&'static str),
    /// There is no video section that can be sent to.
    #[error("the offer asks for no video: it has no m=video section that is recvonly or sendrecv")]
    NoMedia,
    /// There is video, but not in a codec that the daemon encodes.
    #[error(
        "no common video codec: the offer has {offered}, this broadcaster sends H264 (constrained baseline, packetization-mode=1)"
    )]
    NoCommonCodec {
        /// The names of the codecs offered.
        offered: String,
    },
}

/// The feedback kinds that the daemon acts on.
const FEEDBACK: [&str; 4] = ["transport-cc", "ccm fir", "nack", "nack pli"];

/// Decides what of an offer is taken.
///
/// # Errors
/// Where the offer can't be answered with video.
pub fn negotiate(offer: &Offer, _can: &Capabilities) -> Result<Vec<Agreement>, NegotiationError> {
    let wanted = |section: &&(usize, &Section)| {
        section.1.kind == Kind::Video && section.1.wanted() && section.1.direction.receives()
    };
    let sections: Vec<_> = offer.sections.iter().enumerate().collect();
    let videos: Vec<_> = sections.iter().filter(wanted).collect();
    if videos.is_empty() {
        return Err(NegotiationError::NoMedia);
    }
    for (index, section) in &videos {
        // An offer without a transport is broken, whatever its codecs are.
        let remote = remote_transport(offer, section)?;
        if let Some(video) = h264_parameters(*index, section) {
            return Ok(vec![Agreement { remote, video: Some(video), audio: None }]);
        }
    }
    let mut names: Vec<_> = videos.iter().flat_map(|(_, section)| section.codec_names()).collect();
    names.sort_unstable();
    names.dedup();
    let offered = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(NegotiationError::NoCommonCodec { offered })
}

/// The best H.264 payload type of a section: constrained baseline, packetization-mode 1.
fn h264_parameters(index: usize, section: &Section) -> Option<VideoParameters> {
    let rank = |profile: &str| match profile.to_ascii_lowercase().as_str() {
        p if p.starts_with("42e0") => Some(0),
        p if p.starts_with("42") => Some(1),
        _ => None,
    };
    let (payload_type, profile, asymmetric) = section
        .codecs("H264", 90_000)
        .filter(|(_, format)| offer::parameter(format, "packetization-mode") == Some("1"))
        .filter_map(|(payload_type, format)| {
            let profile = offer::parameter(format, "profile-level-id").filter(|p| p.len() == 6 && p.is_ascii())?;
            let asymmetric = offer::parameter(format, "level-asymmetry-allowed") == Some("1");
            Some((rank(profile)?, payload_type, profile, asymmetric))
        })
        .min_by_key(|(rank, ..)| *rank)
        .map(|(_, payload_type, profile, asymmetric)| (payload_type, profile, asymmetric))?;
    // RFC 6184, section 8.2.2: without asymmetry the level is the offer's. 1080p30 needs level 4.0.
    let level = if asymmetric { "28" } else { &profile[4..] };
    let mut format = format!("packetization-mode=1;profile-level-id={}{level}", &profile[..4].to_ascii_lowercase());
    if asymmetric {
        format.insert_str(0, "level-asymmetry-allowed=1;");
    }
    let rtx = section
        .codecs("rtx", 90_000)
        .find(|(_, format)| offer::parameter(format, "apt").and_then(|apt| apt.parse().ok()) == Some(payload_type))
        .map(|(rtx, _)| rtx);
    let feedback = FEEDBACK.into_iter().filter(|kind| section.has_feedback(payload_type, kind)).collect();
    Some(VideoParameters {
        codec: crate::encoder::Codec::H264,
        section: index,
        payload_type,
        format,
        rtx,
        transport_cc: section.extension(TRANSPORT_CC),
        playout_delay: section.extension(PLAYOUT_DELAY),
        feedback,
    })
}

fn remote_transport(offer: &Offer, section: &Section) -> Result<RemoteTransport, NegotiationError> {
    // With BUNDLE the transport is that of the group's first section that is taken (RFC 9143, section 7.3.1).
    let transport =
        offer.sections.iter().find(|s| offer.bundles(section) && offer.bundles(s) && s.taken()).unwrap_or(section);
    let of = |value: &Option<String>, session: &Option<String>| value.clone().or_else(|| session.clone());
    let ufrag = of(&transport.ufrag, &offer.ufrag).ok_or(NegotiationError::Incomplete("a=ice-ufrag"))?;
    let password = of(&transport.password, &offer.password).ok_or(NegotiationError::Incomplete("a=ice-pwd"))?;
    let mut fingerprints = transport.fingerprints.clone();
    if fingerprints.is_empty() {
        fingerprints.clone_from(&offer.fingerprints);
    }
    if fingerprints.is_empty() {
        return Err(NegotiationError::Incomplete("a=fingerprint of SHA-256"));
    }
    let setup = of(&transport.setup, &offer.setup);
    let candidates = offer
        .sections
        .iter()
        .filter(|s| std::ptr::eq(*s, transport) || std::ptr::eq(*s, section))
        .flat_map(|s| s.candidates.iter().cloned())
        .collect();
    Ok(RemoteTransport { ufrag, password, fingerprints, dtls_client: setup.as_deref() == Some("passive"), candidates })
}

/// Writes the answer.
pub fn answer(
    offer: &Offer,
    agreements: &[Agreement],
    transports: &[LocalTransport],
    streams: &LocalStreams,
    _origin: Origin,
    fingerprint: &[u8; 32],
    candidates: &[SocketAddr],
) -> String {
    let mut out = String::with_capacity(2048);
    let (agreement, transport) = (&agreements[0], &transports[0]);
    let video = agreement.video.as_ref().expect("v");
    let taken = |index: usize, section: &Section| {
        section.taken()
            && (index == video.section || (offer.bundles(section) && offer.bundles(&offer.sections[video.section])))
    };
    let bundled: Vec<_> = offer
        .sections
        .iter()
        .enumerate()
        .filter(|(index, section)| taken(*index, section))
        .filter_map(|(_, section)| section.mid.as_deref().filter(|_| offer.bundles(section)))
        .collect();
    // A session name is one line and not empty (RFC 8866, section 5.3).
    let name: String = streams.name.chars().filter(|c| !c.is_control()).collect();
    let name = if name.trim().is_empty() { "-" } else { name.trim() };
    let _ = write!(out, "v=0\r\no=- {} 2 IN IP4 127.0.0.1\r\ns={name}\r\nt=0 0\r\n", streams.video_ssrc);
    if !bundled.is_empty() {
        let _ = write!(out, "a=group:BUNDLE {}\r\n", bundled.join(" "));
    }
    let _ = write!(out, "a=msid-semantic: WMS laterna\r\na=ice-options:trickle\r\n");
    // Candidates belong to the section that carries the transport: the first of the group.
    let carrier = bundled
        .first()
        .and_then(|mid| offer.sections.iter().position(|s| s.mid.as_deref() == Some(mid)))
        .unwrap_or(video.section);
    for (index, section) in offer.sections.iter().enumerate() {
        if !taken(index, section) {
            let _ =
                write!(out, "m={} 0 {} {}\r\nc=IN IP4 0.0.0.0\r\n", section.media, section.protocol, section.formats());
            if let Some(mid) = &section.mid {
                let _ = write!(out, "a=mid:{mid}\r\n");
            }
            let _ = write!(out, "a=inactive\r\n");
            continue;
        }
        let formats = if index != video.section {
            section.payload_types[0].to_string()
        } else if let Some(rtx) = video.rtx {
            format!("{} {rtx}", video.payload_type)
        } else {
            video.payload_type.to_string()
        };
        let _ = write!(
            out,
            "m={} 9 {} {formats}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n",
            section.media, section.protocol
        );
        if let Some(mid) = &section.mid {
            let _ = write!(out, "a=mid:{mid}\r\n");
        }
        let _ = write!(out, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", transport.ufrag, transport.password);
        let hash: Vec<_> = fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
        let setup = if agreement.remote.dtls_client { "active" } else { "passive" };
        let _ = write!(out, "a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\na=rtcp-mux\r\n", hash.join(":"));
        if index == video.section {
            write_video(&mut out, section, video, streams);
        } else {
            let payload_type = section.payload_types[0];
            if let Some(map) = section.map(payload_type) {
                let _ = write!(out, "a=rtpmap:{payload_type} {map}\r\n");
            }
            let _ = write!(out, "a=inactive\r\n");
        }
        if index == carrier {
            write_candidates(&mut out, candidates);
        }
    }
    out
}

fn write_video(out: &mut String, section: &Section, video: &VideoParameters, streams: &LocalStreams) {
    let (pt, ssrc) = (video.payload_type, streams.video_ssrc);
    let _ = write!(out, "a=sendonly\r\na=rtpmap:{pt} H264/90000\r\na=fmtp:{pt} {}\r\n", video.format);
    for kind in &video.feedback {
        let _ = write!(out, "a=rtcp-fb:{pt} {kind}\r\n");
    }
    if let Some(rtx) = video.rtx {
        let _ = write!(out, "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={pt}\r\n");
    }
    for (id, uri) in [(video.transport_cc, TRANSPORT_CC), (video.playout_delay, PLAYOUT_DELAY)] {
        if let Some(id) = id {
            let _ = write!(out, "a=extmap:{id} {uri}\r\n");
        }
    }
    if section.reduced_size {
        let _ = write!(out, "a=rtcp-rsize\r\n");
    }
    let _ = write!(out, "a=msid:laterna video\r\n");
    // libwebrtc takes the first a=ssrc line for the media, whatever the group says.
    let rtx = streams.rtx_ssrc;
    if video.rtx.is_some() {
        let _ = write!(out, "a=ssrc-group:FID {ssrc} {rtx}\r\n");
    }
    let _ = write!(out, "a=ssrc:{ssrc} cname:{}\r\n", streams.cname);
    if video.rtx.is_some() {
        let _ = write!(out, "a=ssrc:{rtx} cname:{}\r\n", streams.cname);
    }
}

/// Host candidates in order of preference (RFC 8445, section 5.1.2.1), component 1 only: RTCP is multiplexed.
fn write_candidates(out: &mut String, candidates: &[SocketAddr]) {
    for (index, address) in candidates.iter().enumerate() {
        let priority = (126u32 << 24) | ((65_535 - index as u32) << 8) | 255;
        let _ =
            write!(out, "a=candidate:{} 1 udp {priority} {} {} typ host\r\n", index + 1, address.ip(), address.port());
    }
    let _ = write!(out, "a=end-of-candidates\r\n");
}
