//! Writes answers.
//!
//! It decides nothing that [`negotiate`](super::negotiate) has decided; what an answer must not say is left out here.

use super::attributes::{
    write_audio_source, write_candidates, write_codec, write_session, write_transport, write_video_codec,
    write_video_sources,
};
use super::description::{Description, Direction, Section};
use super::negotiate::Transport;
use super::{Agreement, LocalStreams, Origin, PLAYOUT_DELAY, TRANSPORT_CC, VideoParameters};
use crate::session::engine::rtc::LocalTransport;
use crate::session::reach::LocalCandidate;
use std::fmt::Write as _;

/// Writes the answer; `transports[i]` belongs to `agreements[i]`.
pub fn answer(
    offer: &Description,
    agreements: &[Agreement],
    transports: &[LocalTransport],
    streams: &LocalStreams,
    origin: Origin,
    fingerprint: &[u8; 32],
    candidates: &[LocalCandidate],
) -> String {
    let used: Vec<_> = agreements.iter().zip(transports).map(|pair| Used::new(offer, pair)).collect();
    let mid = |index: &usize| offer.sections[*index].mid.as_deref();
    let groups: Vec<Vec<_>> = used
        .iter()
        .filter(|used| matches!(used.transport, Transport::Group(_)))
        .map(|used| used.sections.iter().filter_map(mid).collect())
        .collect();
    let mut out = String::with_capacity(2048);
    write_session(&mut out, streams, origin, &groups);
    for (index, section) in offer.sections.iter().enumerate() {
        let Some(used) = used.iter().find(|used| used.sections.contains(&index)) else {
            write_rejected(&mut out, section);
            continue;
        };
        let video = used.agreement.video.as_ref().filter(|video| video.section == index);
        let audio = used.agreement.audio.as_ref().filter(|audio| audio.section == index);
        let unserved = || section.first_codec().map(|pt| pt.to_string()).unwrap_or_default();
        let formats = match (video, audio) {
            (Some(VideoParameters { payload_type, rtx: Some(rtx), .. }), _) => format!("{payload_type} {rtx}"),
            (Some(video), _) => video.payload_type.to_string(),
            (_, Some(audio)) => audio.payload_type.to_string(),
            _ => unserved(),
        };
        write_media(&mut out, section, 9, &formats);
        let _ = write!(out, "a=rtcp:9 IN IP4 0.0.0.0\r\n");
        let setup = if used.agreement.remote.dtls_client { "active" } else { "passive" };
        write_transport(&mut out, used.local, fingerprint, setup);
        let _ = write!(out, "{}\r\n", if video.is_some() || audio.is_some() { "a=sendonly" } else { "a=inactive" });
        if section.reduced_size {
            let _ = write!(out, "a=rtcp-rsize\r\n");
        }
        if let Some(video) = video {
            write_video_codec(&mut out, video, section.map(video.payload_type).unwrap_or_default());
            write_extensions(&mut out, section, video);
            write_video_sources(&mut out, streams, video.rtx.is_some());
        } else if let Some(audio) = audio {
            let map = section.map(audio.payload_type).unwrap_or_default();
            write_codec(&mut out, audio.payload_type, map, &audio.format);
            write_audio_source(&mut out, streams);
        } else if let Some((pt, map)) = section.first_codec().and_then(|pt| section.map(pt).map(|map| (pt, map))) {
            write_codec(&mut out, pt, map, section.format(pt).unwrap_or_default());
            // Chromium shows a stream that was not named meanwhile no more when it comes back.
            if let Some((_, has_rtx)) = streams.video_section.filter(|(paused, _)| *paused == index) {
                write_video_sources(&mut out, streams, has_rtx);
            }
            if streams.audio_section == Some(index) {
                write_audio_source(&mut out, streams);
            }
        }
        // Candidates belong to the section that carries the transport.
        if used.sections.first() == Some(&index) {
            write_candidates(&mut out, candidates);
        }
    }
    out
}

/// A transport that the answer keeps.
struct Used<'a> {
    transport: Transport,
    /// The sections on it that are kept, the tagged one first.
    sections: Vec<usize>,
    agreement: &'a Agreement,
    local: &'a LocalTransport,
}

impl<'a> Used<'a> {
    fn new(offer: &Description, (agreement, local): (&'a Agreement, &'a LocalTransport)) -> Self {
        let transport = Transport::of(offer, agreement.section);
        Self { transport, sections: transport.sections(offer), agreement, local }
    }
}

fn write_media(out: &mut String, section: &Section, port: u16, formats: &str) {
    let _ = write!(out, "m={} {port} {} {formats}\r\nc=IN IP4 0.0.0.0\r\n", section.media, section.protocol);
    if let Some(mid) = &section.mid {
        let _ = write!(out, "a=mid:{mid}\r\n");
    }
}

fn write_rejected(out: &mut String, section: &Section) {
    write_media(out, section, 0, section.formats());
    let _ = write!(out, "a=inactive\r\n");
}

fn write_extensions(out: &mut String, section: &Section, video: &VideoParameters) {
    let taken = [(video.transport_cc, TRANSPORT_CC), (video.playout_delay, PLAYOUT_DELAY)];
    for extension in taken.into_iter().filter(|(id, _)| id.is_some()).filter_map(|(_, uri)| section.extension(uri)) {
        // What is offered one way is answered the other way (RFC 8285, section 7).
        let direction = if extension.direction == Direction::ReceiveOnly { "/sendonly" } else { "" };
        let _ = write!(out, "a=extmap:{}{direction} {}\r\n", extension.id, extension.uri);
    }
}
