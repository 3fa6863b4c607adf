//! The daemon's own offer, for viewers that make none, and what an answer to it agrees to.
//!
//! Its mids are `video` and `audio`, and its sources have `a=ssrc` lines, as pages of before 2017 expect.

use super::attributes::{
    write_audio_source, write_candidates, write_codec, write_session, write_transport, write_video_codec,
    write_video_sources,
};
use super::description::{Description, Section};
use super::negotiate::{NegotiationError, Transport, remote_transport, sent};
use super::{Agreement, Capabilities, LocalStreams, Origin, PLAYOUT_DELAY, TRANSPORT_CC, VideoParameters, codecs};
use crate::encoder::Codec;
use crate::session::engine::rtc::LocalTransport;
use crate::session::reach::LocalCandidate;
use std::fmt::Write as _;

const TRANSPORT_CC_ID: u8 = 3;
const PLAYOUT_DELAY_ID: u8 = 5;
const OPUS: u8 = 111;
/// Level 4.0 is what 1080p30 needs; level 3.1 is for whoever takes no higher one.
const H264_FORMATS: [(u8, &str); 2] = [(102, "42e028"), (104, "42e01f")];
const VP8: u8 = 96;

/// Whom the daemon offers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// A page or a native client, of whatever age.
    Viewer,
    /// A server that takes the stream for many: the transport can't be but one (RFC 9725, section 4.4.1; RFC 9429's `max-bundle`; RFC 8858).
    Sfu,
}

/// Writes an offer of all that the daemon can send.
pub fn offer(
    party: Party,
    can: &Capabilities,
    transport: &LocalTransport,
    streams: &LocalStreams,
    origin: Origin,
    fingerprint: &[u8; 32],
    candidates: &[LocalCandidate],
) -> String {
    let video: Vec<_> = can.video.iter().flat_map(|codec| offered(*codec)).collect();
    let mut out = String::with_capacity(2048);
    let mids = [("video", !video.is_empty()), ("audio", can.audio)];
    let mids: Vec<_> = mids.into_iter().filter(|(_, there)| *there).map(|(mid, _)| mid).collect();
    write_session(&mut out, streams, origin, std::slice::from_ref(&mids));
    for mid in &mids {
        let is_video = *mid == "video";
        let formats = if is_video { payload_types(&video) } else { OPUS.to_string() };
        // What is only there in the group has no port of its own (RFC 9143, section 6).
        let bundle_only = party == Party::Sfu && Some(mid) != mids.first();
        let port = if bundle_only { 0 } else { 9 };
        let _ = write!(out, "m={mid} {port} UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\n");
        let _ = write!(out, "a=rtcp:9 IN IP4 0.0.0.0\r\na=mid:{mid}\r\n");
        if bundle_only {
            out.push_str("a=bundle-only\r\n");
        }
        write_transport(&mut out, transport, fingerprint, "actpass");
        if party == Party::Sfu {
            out.push_str("a=rtcp-mux-only\r\n");
        }
        out.push_str("a=sendonly\r\na=rtcp-rsize\r\n");
        if is_video {
            for (id, uri) in [(TRANSPORT_CC_ID, TRANSPORT_CC), (PLAYOUT_DELAY_ID, PLAYOUT_DELAY)] {
                let _ = write!(out, "a=extmap:{id} {uri}\r\n");
            }
            video.iter().for_each(|(parameters, map)| write_video_codec(&mut out, parameters, map));
            write_video_sources(&mut out, streams, true);
        } else {
            write_codec(&mut out, OPUS, "opus/48000/2", "minptime=10;stereo=1;sprop-stereo=1;useinbandfec=1");
            write_audio_source(&mut out, streams);
        }
        if Some(mid) == mids.first() {
            write_candidates(&mut out, candidates);
        }
    }
    out
}

fn payload_types(video: &[(VideoParameters, &str)]) -> String {
    let numbers = video.iter().flat_map(|(parameters, _)| [Some(parameters.payload_type), parameters.rtx]);
    numbers.flatten().map(|pt| pt.to_string()).collect::<Vec<_>>().join(" ")
}

/// The ways in which a codec is offered, each with its map.
fn offered(codec: Codec) -> Vec<(VideoParameters, &'static str)> {
    let parameters = |payload_type: u8, format: String| VideoParameters {
        codec,
        section: 0,
        payload_type,
        format,
        rtx: Some(payload_type + 1),
        transport_cc: Some(TRANSPORT_CC_ID),
        playout_delay: Some(PLAYOUT_DELAY_ID),
        feedback: codecs::FEEDBACK.to_vec(),
    };
    let h264 = |(payload_type, profile)| {
        let format = format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile}");
        (parameters(payload_type, format), "H264/90000")
    };
    match codec {
        Codec::H264 => H264_FORMATS.map(h264).to_vec(),
        Codec::Vp8 => vec![(parameters(VP8, String::new()), "VP8/90000")],
        Codec::Opus => Vec::new(),
    }
}

/// What the answer to [`offer`] agrees to; never anything that the offer did not have. Its side may be a lite one: whoever offers controls.
///
/// # Errors
/// Where the answer belongs to another offer, takes nothing, or has no usable transport.
pub fn accept(own_offer: &str, answer: &Description, can: &Capabilities) -> Result<Agreement, NegotiationError> {
    let own = Description::parse(own_offer)?;
    let (asked, found) = (own.sections.len(), answer.sections.len());
    if asked != found {
        return Err(NegotiationError::OtherSections { asked, found });
    }
    let both = || own.sections.iter().zip(&answer.sections).enumerate();
    let taken: Vec<(usize, Section)> = both()
        .filter(|(_, (ours, its))| ours.kind == its.kind && its.port != 0 && its.rtcp_mux && its.direction.receives())
        .map(|(index, (ours, its))| (index, its.restricted_to(ours)))
        .collect();
    let video = can
        .video
        .iter()
        .find_map(|codec| taken.iter().find_map(|(index, section)| codecs::video(*index, section, *codec)));
    let audio = taken.iter().filter(|_| can.audio).find_map(|(index, section)| codecs::audio(*index, section));
    // There is one transport: what the answer doesn't bundle with the video has none.
    let served = video.as_ref().map(|video| video.section).or(audio.as_ref().map(|audio| audio.section));
    let served = served.ok_or_else(|| NegotiationError::NothingTaken(sent(can)))?;
    let transport = Transport::of(answer, served);
    let audio = audio.filter(|audio| Transport::of(answer, audio.section) == transport);
    Ok(Agreement { section: served, video, audio, remote: remote_transport(answer, served)? })
}
