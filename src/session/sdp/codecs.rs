//! What of a section's codecs can be served (RFC 6184, RFC 7741, RFC 7587).
//!
//! It looks at one section at a time and knows no transports.

use super::description::parameter;
use super::{AudioParameters, PLAYOUT_DELAY, Section, TRANSPORT_CC, VideoParameters};
use crate::encoder::Codec;

/// The feedback kinds that the daemon acts on, for video.
pub const FEEDBACK: [&str; 4] = ["transport-cc", "ccm fir", "nack", "nack pli"];
/// Milliseconds of sound in a packet.
const PACKET_TIME: u32 = 20;

/// How a codec is called towards people.
pub fn description(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "H264 (constrained baseline, packetization-mode=1)",
        Codec::Vp8 => "VP8",
        Codec::Opus => "Opus (48 kHz, stereo, packets of 20 ms)",
    }
}

/// The best way to send a codec in a video section.
pub fn video(index: usize, section: &Section, codec: Codec) -> Option<VideoParameters> {
    let (payload_type, format) = match codec {
        Codec::H264 => h264(section)?,
        // What VP8 has for parameters bounds what its author receives (RFC 7741, section 6.1), and nothing is received here.
        Codec::Vp8 => (section.codecs("VP8/90000").next()?.0, String::new()),
        Codec::Opus => return None,
    };
    // As an answer would write it: 097 is nobody's.
    let apt = payload_type.to_string();
    let rtx = section
        .codecs("rtx/90000")
        .find(|(_, format)| parameter(format, "apt") == Some(apt.as_str()))
        .map(|(rtx, _)| rtx);
    Some(VideoParameters {
        codec,
        section: index,
        payload_type,
        format,
        rtx,
        transport_cc: section.extension(TRANSPORT_CC).map(|extension| extension.id),
        playout_delay: section.extension(PLAYOUT_DELAY).map(|extension| extension.id),
        feedback: FEEDBACK.into_iter().filter(|kind| section.has_feedback(payload_type, kind)).collect(),
    })
}

/// The best H.264 payload type, with the answer's parameters: a profile that decodes constrained baseline, packetization-mode 1.
fn h264(section: &Section) -> Option<(u8, String)> {
    let (payload_type, profile, asymmetric) = section
        .codecs("H264/90000")
        .filter(|(_, format)| parameter(format, "packetization-mode") == Some("1"))
        .filter_map(|(payload_type, format)| {
            let profile = parameter(format, "profile-level-id").filter(|p| p.len() == 6 && p.is_ascii())?;
            let asymmetric = parameter(format, "level-asymmetry-allowed") == Some("1");
            Some((rank(u32::from_str_radix(profile, 16).ok()?)?, payload_type, profile, asymmetric))
        })
        .min_by_key(|(rank, ..)| *rank)
        .map(|(_, payload_type, profile, asymmetric)| (payload_type, profile.to_ascii_lowercase(), asymmetric))?;
    // RFC 6184, section 8.2.2: without asymmetry the level is the offer's. 1080p30 needs level 4.0.
    let (profile, level) = profile.split_at(4);
    let format = if asymmetric {
        format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile}28")
    } else {
        format!("packetization-mode=1;profile-level-id={profile}{level}")
    };
    Some((payload_type, format))
}

/// How well a `profile-level-id` suits: 0 for constrained baseline, 1 for baseline (RFC 6184, table 5).
fn rank(profile_level: u32) -> Option<u8> {
    let [_, profile, constraints, _] = profile_level.to_be_bytes();
    match (profile, constraints) {
        (_, constraints) if constraints & 0x0f != 0 => None,
        (0x42, c) if c & 0x40 != 0 => Some(0),
        (0x4d, c) if c & 0x80 != 0 => Some(0),
        (0x58, c) if c & 0xc0 == 0xc0 => Some(0),
        (0x42, _) => Some(1),
        (0x58, c) if c & 0x80 != 0 => Some(1),
        _ => None,
    }
}

/// The way to send sound in an audio section.
pub fn audio(index: usize, section: &Section) -> Option<AudioParameters> {
    if section.most_packet_time.is_some_and(|most| most < PACKET_TIME) {
        return None;
    }
    let (payload_type, offered) = section.codecs("opus/48000/2").next()?;
    let is = |name, value| parameter(offered, name) == Some(value);
    // What is sent is stereo in any case; that it is preferred so is not said to whoever prefers mono.
    let mut format = String::from("minptime=10;sprop-stereo=1");
    if !is("stereo", "0") {
        format.push_str(";stereo=1");
    }
    if is("useinbandfec", "1") {
        format.push_str(";useinbandfec=1");
    }
    Some(AudioParameters { section: index, payload_type, format })
}
