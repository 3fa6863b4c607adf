//! Parsing of viewers' descriptions: lenient where the RFCs allow much, bounded everywhere.
//!
//! It knows nothing of what the daemon can send.

/// Most bytes, lines and sections of a description that are looked at.
const MOST_BYTES: usize = 65_536;
const MOST_LINES: usize = 4_000;
const MOST_SECTIONS: usize = 32;
/// Formats that carry no medium of their own.
const AUXILIARY: [&str; 6] = ["rtx", "red", "ulpfec", "flexfec-03", "cn", "telephone-event"];

/// A parsed offer or answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// The session id of the `o=` line: it stays over all descriptions of one connection.
    pub origin_id: Option<String>,
    /// The mids of each BUNDLE group, in order: those of sections, each once.
    pub bundles: Vec<Vec<String>>,
    /// Whether the viewer is an ICE lite agent, which begins no checks.
    pub ice_lite: bool,
    /// Session-level `a=ice-ufrag`.
    pub ufrag: Option<String>,
    /// Session-level `a=ice-pwd`.
    pub password: Option<String>,
    /// Session-level `a=setup`.
    pub setup: Option<String>,
    /// Session-level fingerprints of SHA-256.
    pub fingerprints: Vec<[u8; 32]>,
    /// The media sections, in order.
    pub sections: Vec<Section>,
    /// What session-level lines say for each section that does not say otherwise.
    direction: Direction,
    extensions: Vec<Extension>,
}

/// What a section is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `m=audio`.
    Audio,
    /// `m=video`.
    Video,
    /// Anything else.
    Other,
}

/// A direction as the viewer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both ways, which is the default.
    #[default]
    SendReceive,
    /// The viewer only sends.
    SendOnly,
    /// The viewer only receives.
    ReceiveOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "sendrecv" => Some(Self::SendReceive),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::ReceiveOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        }
    }

    /// Whether the viewer wants to receive.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendReceive | Self::ReceiveOnly)
    }
}

/// A header extension (RFC 8285).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its id, 1 to 14: the one-byte form.
    pub id: u8,
    /// What it is.
    pub uri: String,
    /// Its direction as the viewer has it.
    pub direction: Direction,
}

impl Extension {
    fn parse(value: &str) -> Option<Self> {
        let (id, uri) = value.split_once(' ')?;
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        Some(Self {
            id: plain_number(id).filter(|id| (1..=14).contains(id))?,
            uri: uri.split_ascii_whitespace().next()?.to_owned(),
            direction: Direction::parse(direction)?,
        })
    }
}

/// One `m=` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its kind.
    pub kind: Kind,
    /// The media word of the `m=` line, as offered.
    pub media: String,
    /// The port of the `m=` line; 0 with no `a=bundle-only` means that it is not wanted.
    pub port: u16,
    /// The protocol of the `m=` line.
    pub protocol: String,
    /// The payload types of the `m=` line, each once; empty for what is not RTP.
    pub payload_types: Vec<u8>,
    /// `a=mid`.
    pub mid: Option<String>,
    /// Its direction.
    pub direction: Direction,
    /// `a=ice-ufrag`.
    pub ufrag: Option<String>,
    /// `a=ice-pwd`.
    pub password: Option<String>,
    /// `a=setup`.
    pub setup: Option<String>,
    /// Fingerprints of SHA-256.
    pub fingerprints: Vec<[u8; 32]>,
    /// Values of `a=candidate` lines, from `candidate:` on.
    pub candidates: Vec<String>,
    /// Whether `a=rtcp-rsize` is there.
    pub reduced_size: bool,
    /// Whether RTP and RTCP may share a port (`a=rtcp-mux`).
    pub rtcp_mux: bool,
    /// `a=maxptime`: the most milliseconds of sound in a packet.
    pub most_packet_time: Option<u32>,
    raw_formats: String,
    bundle_only: bool,
    maps: Vec<(u8, String)>,
    formats: Vec<(u8, String)>,
    feedback: Vec<(Option<u8>, String)>,
    extensions: Vec<Extension>,
}

/// Why a text is no description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// It does not begin as SDP does.
    #[error("it does not begin with v=0")]
    NotSdp,
    /// It is larger than any real description.
    #[error("it is too large ({found} {unit}, at most {most})")]
    TooLarge {
        /// How much there was.
        found: usize,
        /// Of what.
        unit: &'static str,
        /// How much there may be.
        most: usize,
    },
    /// It has no media.
    #[error("it has no m= section")]
    NoMedia,
    /// A line breaks the grammar.
    #[error("line {number} can't be read: {what}")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Description {
    /// Parses an offer or an answer.
    ///
    /// # Errors
    /// Where it is no SDP, has no media, or is larger than the bounds.
    pub fn parse(text: &str) -> Result<Self, DescriptionError> {
        if text.len() > MOST_BYTES {
            return Err(DescriptionError::TooLarge { found: text.len(), unit: "bytes", most: MOST_BYTES });
        }
        let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        if lines.len() > MOST_LINES {
            return Err(DescriptionError::TooLarge { found: lines.len(), unit: "lines", most: MOST_LINES });
        }
        if lines.first() != Some(&"v=0") {
            return Err(DescriptionError::NotSdp);
        }
        let mut description = Self::default();
        for (index, line) in lines.iter().enumerate() {
            let bad = |what| DescriptionError::Line { number: index + 1, what };
            if line.contains(char::is_control) {
                return Err(bad("it has a control character"));
            }
            let (kind, value) = line.split_once('=').filter(|(kind, _)| kind.len() == 1).ok_or(bad("no x=value"))?;
            match kind {
                "o" => description.origin_id = value.split_ascii_whitespace().nth(1).and_then(token),
                "m" => {
                    if description.sections.len() == MOST_SECTIONS {
                        let found = description.sections.len() + 1;
                        return Err(DescriptionError::TooLarge { found, unit: "m= sections", most: MOST_SECTIONS });
                    }
                    let section = Section::parse(value, &description)
                        .ok_or(bad("an m= line has media, port, protocol and formats"))?;
                    description.sections.push(section);
                }
                "a" => {
                    // What has a colon and nothing behind it is no flag either.
                    let split = value.split_once(':').filter(|(_, value)| !value.is_empty());
                    let (name, value) = split.unwrap_or((value, ""));
                    if name == "mid" && description.sections.iter().any(|s| s.mid.as_deref() == Some(value)) {
                        return Err(bad("another a=mid has the same value"));
                    }
                    match description.sections.last_mut() {
                        Some(section) => section.attribute(name, value),
                        None => description.attribute(name, value),
                    }
                }
                _ => {}
            }
        }
        if description.sections.is_empty() {
            return Err(DescriptionError::NoMedia);
        }
        description.keep_grouped_sections();
        Ok(description)
    }

    /// Keeps of each group the mids that a section has, each once: all that is decided by groups goes through them again and again.
    fn keep_grouped_sections(&mut self) {
        for mids in &mut self.bundles {
            let mut kept: Vec<String> = Vec::new();
            mids.retain(|mid| {
                let is_kept = self.sections.iter().any(|s| s.mid.as_ref() == Some(mid)) && !kept.contains(mid);
                if is_kept {
                    kept.push(mid.clone());
                }
                is_kept
            });
        }
        self.bundles.retain(|mids| !mids.is_empty());
    }

    /// Which BUNDLE group a section is in.
    pub fn group_of(&self, section: &Section) -> Option<usize> {
        let mid = section.mid.as_ref()?;
        self.bundles.iter().position(|mids| mids.contains(mid))
    }

    /// Whether a section is offered at all: a zero port is not, but in a BUNDLE group with `a=bundle-only` (RFC 9143, section 6).
    pub fn offers(&self, section: &Section) -> bool {
        section.port != 0 || (section.bundle_only && self.group_of(section).is_some())
    }

    fn attribute(&mut self, name: &str, value: &str) {
        let is_flag = value.is_empty();
        match name {
            "group" => {
                if let Some(mids) = value.strip_prefix("BUNDLE ") {
                    self.bundles.push(mids.split_ascii_whitespace().map(str::to_owned).collect());
                }
            }
            "ice-ufrag" => keep(&mut self.ufrag, credential(value)),
            "ice-pwd" => keep(&mut self.password, credential(value)),
            "setup" => keep(&mut self.setup, role(value)),
            "fingerprint" => self.fingerprints.extend(fingerprint(value)),
            "ice-lite" if is_flag => self.ice_lite = true,
            "extmap" => self.extensions.extend(Extension::parse(value)),
            name if is_flag => self.direction = Direction::parse(name).unwrap_or(self.direction),
            _ => {}
        }
    }
}

impl Section {
    fn parse(value: &str, session: &Description) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let (media, port, protocol) = (words.next()?, words.next()?, words.next()?);
        let raw_formats = words.collect::<Vec<_>>().join(" ");
        if raw_formats.is_empty() {
            return None;
        }
        // What protects the media is said by a=fingerprint, not by the profile (RFC 8829, section 5.1.2).
        let is_rtp = protocol.split_once("RTP/").is_some_and(|(transport, profile)| {
            matches!(transport, "" | "UDP/TLS/" | "TCP/DTLS/") && matches!(profile, "AVP" | "AVPF" | "SAVP" | "SAVPF")
        });
        let mut seen = [false; 128];
        let is_first = |pt: &u8| seen.get_mut(usize::from(*pt)).is_some_and(|seen| !std::mem::replace(seen, true));
        let payload_types = raw_formats.split(' ').filter_map(plain_number).filter(is_first);
        Some(Self {
            kind: match media {
                "audio" if is_rtp => Kind::Audio,
                "video" if is_rtp => Kind::Video,
                _ => Kind::Other,
            },
            media: media.to_owned(),
            port: port.split('/').next()?.parse().ok()?,
            protocol: protocol.to_owned(),
            payload_types: if is_rtp { payload_types.collect() } else { Vec::new() },
            mid: None,
            direction: session.direction,
            ufrag: None,
            password: None,
            setup: None,
            fingerprints: Vec::new(),
            candidates: Vec::new(),
            reduced_size: false,
            rtcp_mux: false,
            most_packet_time: None,
            raw_formats,
            bundle_only: false,
            maps: Vec::new(),
            formats: Vec::new(),
            feedback: Vec::new(),
            extensions: session.extensions.clone(),
        })
    }

    fn attribute(&mut self, name: &str, value: &str) {
        let numbered = || {
            let (number, rest) = value.split_once(' ')?;
            Some((number, rest.trim().to_owned()))
        };
        let is_flag = value.is_empty();
        match name {
            "mid" => keep(&mut self.mid, token(value)),
            "ice-ufrag" => keep(&mut self.ufrag, credential(value)),
            "ice-pwd" => keep(&mut self.password, credential(value)),
            "setup" => keep(&mut self.setup, role(value)),
            "fingerprint" => self.fingerprints.extend(fingerprint(value)),
            "candidate" => self.candidates.push(format!("candidate:{value}")),
            "rtcp-rsize" if is_flag => self.reduced_size = true,
            "rtcp-mux" | "rtcp-mux-only" if is_flag => self.rtcp_mux = true,
            // The least of those that are numbers.
            "maxptime" => {
                self.most_packet_time = self.most_packet_time.into_iter().chain(value.parse().ok()).min();
            }
            "bundle-only" if is_flag => self.bundle_only = true,
            "rtpmap" => self.maps.extend(numbered().and_then(|(pt, map)| Some((plain_number(pt)?, map)))),
            "fmtp" => self.formats.extend(numbered().and_then(|(pt, format)| Some((plain_number(pt)?, format)))),
            "rtcp-fb" => self.feedback.extend(numbered().and_then(|(pt, kind)| {
                if pt == "*" { Some((None, kind)) } else { Some((Some(plain_number(pt)?), kind)) }
            })),
            "extmap" => self.extensions.extend(Extension::parse(value)),
            name if is_flag => self.direction = Direction::parse(name).unwrap_or(self.direction),
            _ => {}
        }
    }

    /// The formats of the `m=` line as offered.
    pub fn formats(&self) -> &str {
        &self.raw_formats
    }

    /// The `a=rtpmap` of a payload type.
    pub fn map(&self, payload_type: u8) -> Option<&str> {
        self.maps.iter().find(|(pt, _)| *pt == payload_type).map(|(_, map)| map.as_str())
    }

    /// The payload types of a codec with their `a=fmtp`, in the viewer's order of preference; `map` is its whole `a=rtpmap`, as in `opus/48000/2`.
    pub fn codecs<'a>(&'a self, map: &'a str) -> impl Iterator<Item = (u8, &'a str)> {
        let is_such = move |pt: &u8| self.map(*pt).is_some_and(|offered| offered.eq_ignore_ascii_case(map));
        self.payload_types.iter().copied().filter(is_such).map(|pt| (pt, self.format(pt).unwrap_or_default()))
    }

    /// The first payload type that could carry media on its own.
    pub fn first_codec(&self) -> Option<u8> {
        // Numbers below 35 are codecs without a map (RFC 3551, table 4).
        self.payload_types.iter().copied().find(|pt| match self.map(*pt) {
            Some(map) => !AUXILIARY.contains(&map.split('/').next().unwrap_or_default().to_ascii_lowercase().as_str()),
            None => *pt < 35,
        })
    }

    /// The `a=fmtp` of a payload type.
    pub fn format(&self, payload_type: u8) -> Option<&str> {
        self.formats.iter().find(|(of, _)| *of == payload_type).map(|(_, format)| format.as_str())
    }

    /// The names of all codecs, without retransmission and redundancy formats.
    pub fn codec_names(&self) -> impl Iterator<Item = &str> {
        self.maps
            .iter()
            .filter_map(|(_, map)| map.split('/').next())
            .filter(|name| !AUXILIARY.contains(&name.to_ascii_lowercase().as_str()))
            .filter(|name| name.len() <= 16 && name.bytes().all(|b| b.is_ascii_graphic()))
    }

    /// Whether a kind of feedback is offered for a payload type.
    pub fn has_feedback(&self, payload_type: u8, kind: &str) -> bool {
        self.feedback.iter().any(|(pt, offered)| pt.is_none_or(|pt| pt == payload_type) && offered == kind)
    }

    /// A header extension that the viewer is ready to receive; one whose id has another meaning too is none.
    pub fn extension(&self, uri: &str) -> Option<&Extension> {
        let of_other = |id| self.extensions.iter().any(|other| other.id == id && other.uri != uri);
        self.extensions
            .iter()
            .find(|offered| offered.uri == uri && offered.direction.receives() && !of_other(offered.id))
    }

    /// The section without what another does not have: payload types of another meaning, extensions, feedback.
    pub fn restricted_to(&self, other: &Self) -> Self {
        let mut section = self.clone();
        let same = |a: Option<&str>, b: Option<&str>| a.zip(b).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
        let apt =
            |section: &Self, pt| section.format(pt).and_then(|format| parameter(format, "apt")).map(str::to_owned);
        section.payload_types.retain(|pt| {
            other.payload_types.contains(pt) && same(self.map(*pt), other.map(*pt)) && apt(self, *pt) == apt(other, *pt)
        });
        section.extensions.retain(|ours| other.extensions.iter().any(|its| (its.id, &its.uri) == (ours.id, &ours.uri)));
        section.feedback = other
            .feedback
            .iter()
            .filter(|(pt, kind)| pt.is_some_and(|pt| self.has_feedback(pt, kind)))
            .cloned()
            .collect();
        section
    }
}

/// The value of a parameter in an `a=fmtp` list.
pub fn parameter<'a>(format: &'a str, name: &str) -> Option<&'a str> {
    format
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

/// Keeps the first that is one, where an attribute that may be said once is said again.
fn keep<T>(kept: &mut Option<T>, read: Option<T>) {
    if kept.is_none() {
        *kept = read;
    }
}

/// A mid or another token that is echoed: short and without anything that could break a line.
fn token(value: &str) -> Option<String> {
    (!value.is_empty() && value.len() <= 64 && value.bytes().all(|b| b.is_ascii_graphic())).then(|| value.to_owned())
}

/// A DTLS role (RFC 8842, section 5.2); what is none there, as `holdconn`, is as if it was not said.
fn role(value: &str) -> Option<String> {
    matches!(value, "active" | "passive" | "actpass").then(|| value.to_owned())
}

/// ICE credentials: 4 to 256 characters (RFC 8839, section 5.4).
fn credential(value: &str) -> Option<String> {
    ((4..=256).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic() && b != b':'))
        .then(|| value.to_owned())
}

/// The bytes of a SHA-256 fingerprint (RFC 8122); `None` for other hashes.
fn fingerprint(value: &str) -> Option<[u8; 32]> {
    let (hash, digits) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        digits.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2)).collect();
    bytes?.try_into().ok()
}

/// The payload type, or another small number, that a word is; none where an answer would have to write it otherwise, as 08.
fn plain_number(word: &str) -> Option<u8> {
    word.parse().ok().filter(|number: &u8| number.to_string() == word)
}
