//! Parsing of offers: lenient where the RFCs allow much, bounded everywhere.

/// Most bytes, lines and sections of an offer that are looked at.
const MOST_BYTES: usize = 65_536;
const MOST_LINES: usize = 4_000;
const MOST_SECTIONS: usize = 32;

/// A parsed offer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// The mids of the BUNDLE group, in order.
    pub bundle: Vec<String>,
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

/// A section's direction as the offer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways, which is the default.
    SendReceive,
    /// The viewer only sends.
    SendOnly,
    /// The viewer only receives.
    ReceiveOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Whether the viewer wants to receive.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendReceive | Self::ReceiveOnly)
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
    /// The payload types of the `m=` line; empty for what is not RTP.
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
    raw_formats: String,
    bundle_only: bool,
    maps: Vec<(u8, String)>,
    formats: Vec<(u8, String)>,
    feedback: Vec<(Option<u8>, String)>,
    extensions: Vec<(u8, String)>,
}

/// Why a text is no offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// It does not begin as SDP does.
    #[error("it does not begin with v=0")]
    NotSdp,
    /// It is larger than any real offer.
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

impl Offer {
    /// Parses an offer.
    ///
    /// # Errors
    /// Where it is no SDP, has no media, or is larger than the bounds.
    pub fn parse(text: &str) -> Result<Self, OfferError> {
        if text.len() > MOST_BYTES {
            return Err(OfferError::TooLarge { found: text.len(), unit: "bytes", most: MOST_BYTES });
        }
        let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        if lines.len() > MOST_LINES {
            return Err(OfferError::TooLarge { found: lines.len(), unit: "lines", most: MOST_LINES });
        }
        if lines.first() != Some(&"v=0") {
            return Err(OfferError::NotSdp);
        }
        let mut offer = Self::default();
        for (index, line) in lines.iter().enumerate() {
            let bad = |what| OfferError::Line { number: index + 1, what };
            if line.contains(char::is_control) {
                return Err(bad("it has a control character"));
            }
            let (kind, value) = line.split_once('=').filter(|(kind, _)| kind.len() == 1).ok_or(bad("no x=value"))?;
            match kind {
                "m" => {
                    if offer.sections.len() == MOST_SECTIONS {
                        return Err(OfferError::TooLarge {
                            found: offer.sections.len() + 1,
                            unit: "m= sections",
                            most: MOST_SECTIONS,
                        });
                    }
                    offer
                        .sections
                        .push(Section::parse(value).ok_or(bad("an m= line has media, port, protocol and formats"))?);
                }
                "a" => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    match offer.sections.last_mut() {
                        Some(section) => section.attribute(name, value),
                        None => offer.attribute(name, value),
                    }
                }
                _ => {}
            }
        }
        if offer.sections.is_empty() {
            return Err(OfferError::NoMedia);
        }
        Ok(offer)
    }

    /// Whether a section is in the BUNDLE group.
    pub fn bundles(&self, section: &Section) -> bool {
        section.mid.as_ref().is_some_and(|mid| self.bundle.contains(mid))
    }

    fn attribute(&mut self, name: &str, value: &str) {
        match name {
            "group" => {
                if let Some(mids) = value.strip_prefix("BUNDLE") {
                    self.bundle = mids.split_ascii_whitespace().map(str::to_owned).collect();
                }
            }
            "ice-ufrag" => self.ufrag = credential(value),
            "ice-pwd" => self.password = credential(value),
            "setup" => self.setup = Some(value.to_owned()),
            "fingerprint" => self.fingerprints.extend(fingerprint(value)),
            _ => {}
        }
    }
}

impl Section {
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let (media, port, protocol) = (words.next()?, words.next()?, words.next()?);
        let raw_formats = words.collect::<Vec<_>>().join(" ");
        if raw_formats.is_empty() {
            return None;
        }
        let is_rtp = protocol.ends_with("RTP/SAVPF");
        let payload_types = raw_formats.split(' ').filter_map(|word| word.parse().ok()).filter(|pt| *pt < 128);
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
            direction: Direction::SendReceive,
            ufrag: None,
            password: None,
            setup: None,
            fingerprints: Vec::new(),
            candidates: Vec::new(),
            reduced_size: false,
            raw_formats,
            bundle_only: false,
            maps: Vec::new(),
            formats: Vec::new(),
            feedback: Vec::new(),
            extensions: Vec::new(),
        })
    }

    fn attribute(&mut self, name: &str, value: &str) {
        let numbered = || {
            let (number, rest) = value.split_once(' ')?;
            Some((number, rest.trim().to_owned()))
        };
        match name {
            "mid" => self.mid = token(value),
            "sendrecv" => self.direction = Direction::SendReceive,
            "sendonly" => self.direction = Direction::SendOnly,
            "recvonly" => self.direction = Direction::ReceiveOnly,
            "inactive" => self.direction = Direction::Inactive,
            "ice-ufrag" => self.ufrag = credential(value),
            "ice-pwd" => self.password = credential(value),
            "setup" => self.setup = Some(value.to_owned()),
            "fingerprint" => self.fingerprints.extend(fingerprint(value)),
            "candidate" => self.candidates.push(format!("candidate:{value}")),
            "rtcp-rsize" => self.reduced_size = true,
            "bundle-only" => self.bundle_only = true,
            "rtpmap" => self.maps.extend(numbered().and_then(|(pt, map)| Some((pt.parse().ok()?, map)))),
            "fmtp" => self.formats.extend(numbered().and_then(|(pt, format)| Some((pt.parse().ok()?, format)))),
            "rtcp-fb" => self.feedback.extend(numbered().and_then(|(pt, kind)| {
                if pt == "*" { Some((None, kind)) } else { Some((Some(pt.parse().ok()?), kind)) }
            })),
            "extmap" => self.extensions.extend(numbered().and_then(|(id, uri)| {
                // The one-byte form has ids 1 to 14; an extension that only the viewer sends is of no use here.
                let (id, direction) = id.split_once('/').unwrap_or((id, ""));
                let id = id.parse().ok().filter(|id| (1..=14).contains(id))?;
                (direction != "sendonly" && direction != "inactive").then_some((id, uri.split(' ').next()?.to_owned()))
            })),
            _ => {}
        }
    }

    /// Whether the section is offered at all (a zero port without `a=bundle-only` is not).
    pub fn wanted(&self) -> bool {
        self.port != 0 || self.bundle_only
    }

    /// Whether the answer keeps the section: RTP sections are, if only as inactive.
    pub fn taken(&self) -> bool {
        self.wanted() && self.kind != Kind::Other && !self.payload_types.is_empty()
    }

    /// The formats of the `m=` line as offered.
    pub fn formats(&self) -> &str {
        &self.raw_formats
    }

    /// The `a=rtpmap` of a payload type.
    pub fn map(&self, payload_type: u8) -> Option<&str> {
        self.maps.iter().find(|(pt, _)| *pt == payload_type).map(|(_, map)| map.as_str())
    }

    /// The payload types of a codec with their `a=fmtp`, in the offer's order of preference.
    pub fn codecs<'a>(&'a self, name: &'a str, clock_rate: u32) -> impl Iterator<Item = (u8, &'a str)> {
        self.payload_types.iter().copied().filter_map(move |pt| {
            let mut map = self.map(pt)?.split('/');
            let matches = map.next()?.eq_ignore_ascii_case(name) && map.next()?.parse() == Ok(clock_rate);
            let format = self.formats.iter().find(|(of, _)| *of == pt).map_or("", |(_, format)| format.as_str());
            matches.then_some((pt, format))
        })
    }

    /// The names of all codecs, without retransmission and redundancy formats.
    pub fn codec_names(&self) -> impl Iterator<Item = &str> {
        self.maps
            .iter()
            .filter_map(|(_, map)| map.split('/').next())
            .filter(|name| !["rtx", "red", "ulpfec", "flexfec-03"].contains(name))
            .filter(|name| name.len() <= 16 && name.bytes().all(|b| b.is_ascii_graphic()))
    }

    /// Whether a kind of feedback is offered for a payload type.
    pub fn has_feedback(&self, payload_type: u8, kind: &str) -> bool {
        self.feedback.iter().any(|(pt, offered)| pt.is_none_or(|pt| pt == payload_type) && offered == kind)
    }

    /// The id of a header extension.
    pub fn extension(&self, uri: &str) -> Option<u8> {
        self.extensions.iter().find(|(_, offered)| offered == uri).map(|(id, _)| *id)
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

/// A mid or another token that is echoed: short and without anything that could break a line.
fn token(value: &str) -> Option<String> {
    (!value.is_empty() && value.len() <= 64 && value.bytes().all(|b| b.is_ascii_graphic())).then(|| value.to_owned())
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
