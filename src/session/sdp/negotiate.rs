//! Decides what of an offer is taken, and which transports that needs.
//!
//! It writes nothing.

use super::description::{Description, DescriptionError, Kind, Section};
use super::{Agreement, Capabilities, codecs};
use crate::encoder::Codec;
use crate::session::engine::RemoteTransport;

/// Why an offer, or the answer to the daemon's own, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// It can't be understood.
    #[error("the viewer's description is no usable SDP: {0}")]
    Description(#[from] DescriptionError),
    /// It lacks what WebRTC demands.
    #[error(
        "the viewer's description has no {0}; in WebRTC there are ICE credentials and a SHA-256 fingerprint for each transport"
    )]
    Incomplete(&'static str),
    /// The viewer waits for checks that the daemon, as the controlled side, does not begin.
    #[error("the viewer is an ICE lite agent (a=ice-lite); this broadcaster serves viewers that begin the checks")]
    IceLite,
    /// RTP and RTCP would need a port each.
    #[error(
        "the offer has no a=rtcp-mux where it asks for video or sound; this broadcaster sends RTP and RTCP on one port"
    )]
    NoMultiplexing,
    /// There is nothing to send to.
    #[error(
        "the offer asks for nothing that is sent here: it has no m=video or m=audio section that is recvonly or sendrecv"
    )]
    NothingWanted,
    /// There is something to send to, but not in a codec that the daemon encodes.
    #[error("no common codec: the offer asks for {offered}, this broadcaster sends {sent}")]
    NoCommonCodec {
        /// The kinds of media asked for, with the names of their codecs.
        offered: String,
        /// The names of the codecs that the daemon has.
        sent: String,
    },
    /// There is nothing to send to but for sound, and no sound.
    #[error(
        "the offer asks for sound only, and this broadcast has none; ask for video, which is sent as {sent}, or give the broadcaster a sound by --audio"
    )]
    NoSound {
        /// The names of the codecs that the daemon has.
        sent: String,
    },
    /// The answer is not one to the daemon's offer.
    #[error("the answer has {found} m= sections, the offer it is for has {asked}")]
    OtherSections {
        /// How many the daemon offered.
        asked: usize,
        /// How many there are.
        found: usize,
    },
    /// The answer takes nothing.
    #[error("the answer takes nothing of what was offered ({0})")]
    NothingTaken(String),
}

/// A transport that an offer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// That of a BUNDLE group, by its index.
    Group(usize),
    /// That of one section, by its index.
    Section(usize),
}

impl Transport {
    /// The transport of a section.
    pub fn of(description: &Description, index: usize) -> Self {
        description.group_of(&description.sections[index]).map_or(Self::Section(index), Self::Group)
    }

    /// The sections on it that can be kept, the tagged one first (RFC 9143, section 7.3.1): in the group's order, but none first that has a
    /// zero port, if that can be.
    pub fn sections(self, description: &Description) -> Vec<usize> {
        let indices: Vec<_> = match self {
            Self::Section(index) => vec![index],
            Self::Group(group) => description.bundles[group]
                .iter()
                .filter_map(|mid| description.sections.iter().position(|s| s.mid.as_ref() == Some(mid)))
                .filter(|index| Self::of(description, *index) == self)
                .collect(),
        };
        let mut members = Vec::new();
        for index in indices {
            if can_be_kept(description, &description.sections[index]) && !members.contains(&index) {
                members.push(index);
            }
        }
        if let Some(tagged) = members.iter().position(|index| description.sections[*index].port != 0) {
            members[..=tagged].rotate_right(1);
        }
        members
    }
}

/// Whether the answer can keep a section, if only as inactive.
fn can_be_kept(description: &Description, section: &Section) -> bool {
    description.offers(section) && section.kind != Kind::Other && section.rtcp_mux && section.first_codec().is_some()
}

/// Decides what of an offer is taken: one agreement for each transport that is used, the video's first.
///
/// # Errors
/// Where neither video nor sound can be sent.
pub fn negotiate(offer: &Description, can: &Capabilities) -> Result<Vec<Agreement>, NegotiationError> {
    if offer.ice_lite {
        return Err(NegotiationError::IceLite);
    }
    let wanted: Vec<_> = offer
        .sections
        .iter()
        .enumerate()
        .filter(|(_, section)| section.kind != Kind::Other && offer.offers(section) && section.direction.receives())
        .collect();
    if wanted.is_empty() {
        return Err(NegotiationError::NothingWanted);
    }
    let usable: Vec<_> = wanted.iter().filter(|(_, section)| section.rtcp_mux).copied().collect();
    if usable.is_empty() {
        return Err(NegotiationError::NoMultiplexing);
    }
    let reachable: Vec<_> =
        usable.iter().map(|(index, section)| Ok((*index, *section, remote_transport(offer, *index)?))).collect();
    let of_kind = |kind| reachable.iter().flatten().filter(move |(_, section, _)| section.kind == kind);
    let video = can
        .video
        .iter()
        .find_map(|codec| of_kind(Kind::Video).find_map(|(index, s, _)| codecs::video(*index, s, *codec)));
    let audio =
        of_kind(Kind::Audio).filter(|_| can.audio).find_map(|(index, section, _)| codecs::audio(*index, section));
    let remote =
        |index: usize| reachable.iter().flatten().find(|(of, ..)| *of == index).map(|(.., remote)| remote.clone());
    let mut agreements = Vec::new();
    let video_transport = video.as_ref().map(|video| Transport::of(offer, video.section));
    if let Some((video, remote)) = video.and_then(|video| remote(video.section).map(|remote| (video, remote))) {
        agreements.push(Agreement { section: video.section, video: Some(video), audio: None, remote });
    }
    if let Some((audio, remote)) = audio.and_then(|audio| remote(audio.section).map(|remote| (audio, remote))) {
        match agreements.first_mut().filter(|_| video_transport == Some(Transport::of(offer, audio.section))) {
            Some(shared) => shared.audio = Some(audio),
            None => {
                agreements.push(Agreement { section: audio.section, video: None, audio: Some(audio), remote });
            }
        }
    }
    if !agreements.is_empty() {
        return Ok(agreements);
    }
    // An offer without a transport is broken, whatever its codecs are.
    reachable.into_iter().collect::<Result<Vec<_>, NegotiationError>>()?;
    if !can.audio && usable.iter().all(|(_, section)| section.kind == Kind::Audio) {
        return Err(NegotiationError::NoSound { sent: sent(can) });
    }
    Err(no_common_codec(usable.iter().map(|(_, section)| *section), can))
}

/// What is agreed where a viewer that is connected wants nothing for now: its transport, and nothing on it.
///
/// # Errors
/// Where no transport can be kept either.
pub fn pause(offer: &Description) -> Result<Vec<Agreement>, NegotiationError> {
    let kept = (0..offer.sections.len()).find(|index| can_be_kept(offer, &offer.sections[*index]));
    let section = kept.ok_or(NegotiationError::NothingWanted)?;
    Ok(vec![Agreement { section, video: None, audio: None, remote: remote_transport(offer, section)? }])
}

fn no_common_codec<'a>(sections: impl Iterator<Item = &'a Section> + Clone, can: &Capabilities) -> NegotiationError {
    let of_kind = |kind, word| names_of(kind, sections.clone()).map(|names| format!("{word} as {names}"));
    let offered: Vec<_> =
        [of_kind(Kind::Video, "video"), of_kind(Kind::Audio, "sound")].into_iter().flatten().collect();
    NegotiationError::NoCommonCodec { offered: offered.join(" and "), sent: sent(can) }
}

/// The codecs of the sections of one kind, in words; `None` where there is no such section.
fn names_of<'a>(kind: Kind, sections: impl Iterator<Item = &'a Section>) -> Option<String> {
    let mut sections = sections.filter(|section| section.kind == kind).peekable();
    sections.peek()?;
    let mut names: Vec<_> = sections.flat_map(Section::codec_names).collect();
    names.sort_unstable();
    names.dedup();
    Some(if names.is_empty() { "nothing".to_owned() } else { names.join(", ") })
}

/// The codecs of the video that an offer asks for, in words; `None` where it asks for none.
pub fn video_wanted(offer: &Description) -> Option<String> {
    let wanted = offer.sections.iter().filter(|section| offer.offers(section) && section.direction.receives());
    names_of(Kind::Video, wanted)
}

/// What the daemon can send, in words.
pub fn sent(can: &Capabilities) -> String {
    let codecs = can.video.iter().copied().chain(can.audio.then_some(Codec::Opus));
    let names: Vec<_> = codecs.map(codecs::description).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// The viewer's side of a section's transport.
pub fn remote_transport(description: &Description, index: usize) -> Result<RemoteTransport, NegotiationError> {
    let transport = Transport::of(description, index);
    let tagged = transport.sections(description).first().copied().unwrap_or(index);
    let sections = &description.sections;
    let has_credentials = |section: &&Section| section.ufrag.is_some();
    // A section with a=bundle-only may leave its transport to the one that the offer tags, whether that is kept or not.
    let offered =
        || sections.iter().filter(|s| description.group_of(s).is_some_and(|g| transport == Transport::Group(g)));
    let tagged = Some(&sections[tagged]).filter(has_credentials).or_else(|| offered().find(has_credentials));
    let section = tagged.unwrap_or(&sections[index]);
    let of = |value: &Option<String>, session: &Option<String>| value.clone().or_else(|| session.clone());
    let ufrag = of(&section.ufrag, &description.ufrag).ok_or(NegotiationError::Incomplete("a=ice-ufrag"))?;
    let password = of(&section.password, &description.password).ok_or(NegotiationError::Incomplete("a=ice-pwd"))?;
    let fingerprints =
        if section.fingerprints.is_empty() { &description.fingerprints } else { &section.fingerprints }.clone();
    if fingerprints.is_empty() {
        return Err(NegotiationError::Incomplete("a=fingerprint of SHA-256"));
    }
    let setup = of(&section.setup, &description.setup);
    // A viewer may list its candidates under another section of the same transport.
    let of_same = |s: &&Section| !s.candidates.is_empty() && s.ufrag.is_some() && s.ufrag == section.ufrag;
    let lists_them = Some(section).filter(|s| !s.candidates.is_empty()).or_else(|| sections.iter().find(of_same));
    let candidates = lists_them.map(|s| s.candidates.clone()).unwrap_or_default();
    Ok(RemoteTransport { ufrag, password, fingerprints, dtls_client: setup.as_deref() == Some("passive"), candidates })
}
