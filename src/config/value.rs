//! One function for each setting: its text → its value.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tracing::level_filters::LevelFilter;

use super::written::Asked;
use super::{AuthConfig, ConfigError, Listen, SyncConfig, TlsConfig};
use crate::audio::{AudioSpec, AudioSpecError};
use crate::encoder::{Bitrate, Codec};
use crate::frame::Size;
use crate::frame::canvas::FitMode;
use crate::ice_server::{IceServer, IceServerError};
use crate::session::reach::NetworkFilter;
use crate::signaling::access::Origins;
use crate::signaling::client::url::{SignalingUrl, SignalingUrlError};
use crate::signaling::peers::CallPolicy;
use crate::signaling::room::RoomPolicy;
use crate::source::{CaptureBackend, SourceSpec, SpecError};

/// Below this a screen can't be read.
const BITRATE_MIN: u64 = 50_000;
/// Above this no browser's decoder keeps up.
const BITRATE_MAX: u64 = 100_000_000;
const FPS_MAX: u32 = 120;
const VIEWERS_MAX: u32 = 10_000;
const NAME_MAX: usize = 128;

pub(super) fn source(asked: Asked) -> Result<SourceSpec, ConfigError> {
    SourceSpec::parse(&asked.value).map_err(|SpecError { found, advice, .. }| asked.invalid(&found, advice))
}

pub(super) fn fallback(asked: Asked) -> Result<SourceSpec, ConfigError> {
    let spec = source(asked.clone())?;
    let advice = "write one source alone, as pattern, off or image:/path/to/card.png";
    if spec.overlays.is_empty() { Ok(spec) } else { Err(asked.invalid("layers in a fallback", advice)) }
}

pub(super) fn name(asked: Asked) -> Result<String, ConfigError> {
    if asked.value.trim().is_empty() {
        return Err(asked.invalid("an empty name", "give one that viewers will recognise"));
    }
    if asked.value.len() > NAME_MAX {
        return Err(asked.invalid("too long a name", format!("at most {NAME_MAX} bytes")));
    }
    if asked.value.chars().any(char::is_control) {
        return Err(asked.invalid("a control character in a name", "leave it out"));
    }
    Ok(asked.value)
}

pub(super) fn listen(all: impl Iterator<Item = Asked>) -> Result<Listen, ConfigError> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut off = None;
    for asked in all {
        if asked.value == "off" {
            off = Some(asked);
            continue;
        }
        let Ok(address) = asked.value.parse() else {
            let advice = "write ADDRESS:PORT, as [::]:8888 (everywhere) or 127.0.0.1:8888 (this machine only), or off";
            return Err(asked.invalid("not an address with a port", advice));
        };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match off {
        Some(asked) if !addresses.is_empty() => Err(asked.invalid("off beside an address", "give either one")),
        Some(_) => Ok(Listen::Off),
        None => Ok(Listen::At(addresses)),
    }
}

pub(super) fn udp_port(asked: Asked) -> Result<u16, ConfigError> {
    asked
        .value
        .parse()
        .map_err(|_| asked.invalid("not a port", "write a number from 1 to 65535, or 0 for any free one"))
}

pub(super) fn codecs(all: impl Iterator<Item = Asked>) -> Result<Vec<Codec>, ConfigError> {
    let mut codecs = Vec::new();
    for asked in all {
        let codec = match asked.value.as_str() {
            "h264" => Codec::H264,
            "vp8" if cfg!(feature = "vp8") => Codec::Vp8,
            "vp8" => {
                return Err(
                    asked.invalid("this program was built without VP8", "write h264, or build with its feature vp8")
                );
            }
            "av1" => return Err(asked.not_yet("h264 and vp8 are the encoders of this version; write h264,vp8")),
            _ => return Err(asked.invalid("no codec of that name", "write h264, vp8, h264,vp8 or vp8,h264")),
        };
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    Ok(codecs)
}

pub(super) fn bitrate(asked: Asked) -> Result<Bitrate, ConfigError> {
    let advice = "write bits per second from 50k to 100M, as 2500000, 2500k or 2.5M";
    let Some(rate) = scaled(&asked.value) else {
        return Err(asked.invalid("not a rate", advice));
    };
    match u32::try_from(rate) {
        Ok(bits) if (BITRATE_MIN..=BITRATE_MAX).contains(&rate) => Ok(Bitrate(bits)),
        _ if rate < BITRATE_MIN => Err(asked.invalid("too low a rate", advice)),
        _ => Err(asked.invalid("too high a rate", advice)),
    }
}

/// Reads decimal digits with at most one point and a suffix k or M; parts of a bit are cut.
pub(super) fn scaled(text: &str) -> Option<u64> {
    let (number, scale) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1_000),
        None => match text.strip_suffix(['m', 'M']) {
            Some(number) => (number, 1_000_000),
            None => (text, 1),
        },
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if [whole, part].iter().any(|digits| digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    // Saturates: what overflows is too high a rate, whatever it is.
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(scale);
    let mut digit_scale = scale;
    let part = part.bytes().map(|digit| {
        let value = u64::from(digit - b'0') * digit_scale;
        digit_scale /= 10;
        value / 10
    });
    Some(whole.saturating_add(part.sum()))
}

pub(super) fn fps(asked: Asked) -> Result<u32, ConfigError> {
    match asked.value.parse() {
        Ok(fps @ 1..=FPS_MAX) => Ok(fps),
        _ => {
            let found = no_whole_number(&asked.value, FPS_MAX, "not a frame rate");
            Err(asked.invalid(found, format!("write a whole number from 1 to {FPS_MAX}")))
        }
    }
}

/// What is wrong with a text that is no whole number from 1 to `most`; `what` it is not where it is no number at all.
fn no_whole_number(text: &str, most: u32, what: &'static str) -> &'static str {
    match text.parse::<f64>() {
        Ok(number) if number < 1.0 => "too low",
        Ok(number) if number > f64::from(most) => "too high",
        Ok(_) => "not a whole number",
        Err(_) => what,
    }
}

pub(super) fn size(asked: Asked) -> Result<Size, ConfigError> {
    let (least, most) = (Size::SMALLEST_SENT, Size::LARGEST_SENT);
    let advice = format!("write WIDTHxHEIGHT from {least} to {most}, upright or not, as 1280x720");
    let parts = asked.value.split_once(['x', 'X']);
    let Some((Ok(width), Ok(height))) = parts.map(|(width, height)| (width.parse::<u32>(), height.parse::<u32>()))
    else {
        return Err(asked.invalid("not a size", advice));
    };
    if width < least.width || height < least.height {
        return Err(asked.invalid("too small", advice));
    }
    let size = Size::new(width, height);
    if size.can_be_sent() { Ok(size) } else { Err(asked.invalid("too large", advice)) }
}

pub(super) fn fit(asked: Asked) -> Result<FitMode, ConfigError> {
    match asked.value.as_str() {
        "letterbox" => Ok(FitMode::Letterbox),
        "crop" => Ok(FitMode::Crop),
        "stretch" => Ok(FitMode::Stretch),
        _ => Err(asked.invalid("no such way", "write letterbox (black bars), crop or stretch")),
    }
}

pub(super) fn capture(asked: Asked) -> Result<CaptureBackend, ConfigError> {
    let built_without = |what| format!("write auto or x11, or build with its feature {what}");
    match asked.value.as_str() {
        "auto" => Ok(CaptureBackend::Auto),
        "x11" => Ok(CaptureBackend::X11),
        "portal" if cfg!(feature = "wayland") => Ok(CaptureBackend::Portal),
        "portal" => Err(asked.invalid("this program was built without it", built_without("wayland"))),
        "scrap" if cfg!(feature = "scrap") => Ok(CaptureBackend::Scrap),
        "scrap" => Err(asked.invalid("this program was built without it", built_without("scrap"))),
        _ => Err(asked.invalid("no such way", "write auto, x11, portal or scrap")),
    }
}

pub(super) fn cursor(asked: Asked) -> Result<bool, ConfigError> {
    match asked.value.as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(asked.invalid("neither on nor off", "write on to show the pointer, off to hide it")),
    }
}

pub(super) fn max_viewers(asked: Asked) -> Result<usize, ConfigError> {
    match asked.value.parse() {
        Ok(viewers @ 1..=VIEWERS_MAX) => Ok(viewers as usize),
        _ => {
            let found = no_whole_number(&asked.value, VIEWERS_MAX, "not a number of viewers");
            Err(asked.invalid(found, format!("write a whole number from 1 to {VIEWERS_MAX}")))
        }
    }
}

pub(super) fn auth(asked: Asked, file: Option<PathBuf>) -> Result<AuthConfig, ConfigError> {
    match asked.value.as_str() {
        "none" => Ok(AuthConfig::None),
        "code" => Ok(AuthConfig::Code { file }),
        _ => Err(asked.invalid("no such way to sign in", "write code, or none to let everyone watch")),
    }
}

pub(super) fn tls(asked: Asked, files: Option<(PathBuf, PathBuf)>) -> Result<TlsConfig, ConfigError> {
    match (asked.value.as_str(), files) {
        ("off", None) => Ok(TlsConfig::Off),
        ("off", Some((certificate, key))) => Ok(TlsConfig::Files { certificate, key }),
        ("self-signed", None) => Ok(TlsConfig::SelfSigned),
        ("self-signed", Some(_)) => Err(asked.invalid("tls-cert names another certificate", "leave either one out")),
        _ => Err(asked.invalid(
            "no certificate",
            "write self-signed, or off; files of your own are named by tls-cert and tls-key",
        )),
    }
}

pub(super) fn path(asked: Asked) -> Result<PathBuf, ConfigError> {
    if asked.value.is_empty() {
        return Err(asked.invalid("no path", "write the path of a file"));
    }
    Ok(asked.value.into())
}

pub(super) fn room(asked: Asked) -> Result<RoomPolicy, ConfigError> {
    match asked.value.as_str() {
        "closed" => Ok(RoomPolicy::Closed),
        "open" => Ok(RoomPolicy::Open),
        _ => Err(asked
            .invalid("no such room", "write closed (peers see the daemon only), or open (everybody sees everybody)")),
    }
}

pub(super) fn call(asked: Asked) -> Result<CallPolicy, ConfigError> {
    let advice = "write none, joined (whoever joins the room), or glob:PATTERN (names; * and ? stand for others; at most 128 characters)";
    CallPolicy::parse(&asked.value).ok_or_else(|| asked.invalid("nobody that can be called", advice))
}

pub(super) fn audio(asked: Asked) -> Result<AudioSpec, ConfigError> {
    AudioSpec::parse(&asked.value).map_err(|error| {
        let advice = "write auto, system, mic, mic:NAME, file, tone or off";
        match error {
            AudioSpecError::NotYet { what, .. } => asked.not_yet(&format!("{what}; {advice}")),
            AudioSpecError::Unknown { .. } => asked.invalid("no such sound", advice),
        }
    })
}

pub(super) fn sync(asked: Asked) -> Result<SyncConfig, ConfigError> {
    match asked.value.as_str() {
        "auto" => Ok(SyncConfig::Auto),
        "lip" => Ok(SyncConfig::Lip),
        "low-latency" => Ok(SyncConfig::LowLatency),
        _ => Err(asked.invalid("no such way", "write auto, lip or low-latency")),
    }
}

pub(super) fn signaling(asked: Asked) -> Result<SignalingUrl, ConfigError> {
    SignalingUrl::parse(&asked.value).map_err(|error| {
        let advice = match error {
            SignalingUrlError::NotUrl | SignalingUrlError::Protocol => {
                "write peerconnection+http://HOST:PORT, mdn+ws://…, socketio+http://…, channel+ws://… or whip+http://…, or with https and wss"
            }
            SignalingUrlError::Credentials => "write the token into a file and ?token-file=PATH after the URL",
            SignalingUrlError::OtherProtocols { .. } => "leave it out, or give it to one of those",
            SignalingUrlError::Option("call") => "write ?call=none, call=joined or call=glob:PATTERN",
            SignalingUrlError::Option("sign-in") => "write the query of its sign-in with {name} for the name, as ?sign-in=peer_name%3D{name}",
            SignalingUrlError::Option(_) => "write the path of a file",
        };
        // The URL may hold the password that it is refused for.
        let asked = if error == SignalingUrlError::Credentials { asked.hidden() } else { asked };
        asked.invalid(&error.to_string(), advice)
    })
}

pub(super) fn ice_server(asked: Asked) -> Result<IceServer, ConfigError> {
    IceServer::parse(&asked.value).map_err(|error| {
        let advice = match error {
            IceServerError::Scheme | IceServerError::Address => "write stun:HOST[:PORT], stuns:…, turn:HOST[:PORT]?user=NAME&password-file=PATH or turns:…",
            IceServerError::Password => "write the password into a file and password-file=PATH, or a shared secret and secret-file=PATH",
            IceServerError::Option(_) => "turn: takes transport=udp or tcp, user, password-file and secret-file; turns: transport=tcp; stun: nothing",
            IceServerError::NoCredentials => "write ?user=NAME&password-file=PATH, or ?secret-file=PATH for passwords that expire",
            IceServerError::TwoCredentials => "give either user=NAME and password-file=PATH, or secret-file=PATH alone: names and passwords that expire are made of the secret",
        };
        let asked = if error == IceServerError::Password { asked.hidden() } else { asked };
        asked.invalid(&error.to_string(), advice)
    })
}

pub(super) fn public_ips(all: impl Iterator<Item = Asked>) -> Result<Vec<IpAddr>, ConfigError> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for asked in all {
        let Ok(address) = asked.value.parse::<IpAddr>() else {
            return Err(asked.invalid("not an IP address", "write the address that the NAT has, as 203.0.113.7"));
        };
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(
                asked.invalid("not an address that others reach", "write the address that the NAT has, as 203.0.113.7")
            );
        }
        if addresses.iter().any(|known| known.is_ipv4() == address.is_ipv4()) {
            return Err(asked.invalid("a second address of one family", "give one IPv4 and one IPv6 address at most"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

pub(super) fn networks(all: impl Iterator<Item = Asked>) -> Result<NetworkFilter, ConfigError> {
    let mut filter = NetworkFilter::default();
    for asked in all {
        if filter.add(&asked.value).is_err() {
            let advice = "write the name of an interface (* and ? stand for others) or a block of addresses, as eth0, wl* or 10.0.0.0/8; ! before it excludes";
            return Err(asked.invalid("neither an interface nor a block of addresses", advice));
        }
    }
    Ok(filter)
}

pub(super) fn log(asked: Asked) -> Result<LevelFilter, ConfigError> {
    match asked.value.as_str() {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(asked.invalid("no such level", "write error, warn, info, debug or trace")),
    }
}

impl Asked {
    pub(super) fn invalid(self, found: &str, advice: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { asked: self, found: found.to_owned(), advice: advice.into() }
    }

    /// Itself without its value, which is a secret.
    fn hidden(self) -> Self {
        Self { value: "(hidden)".to_owned(), ..self }
    }

    fn not_yet(self, advice: &str) -> ConfigError {
        ConfigError::NotYet { asked: self, advice: advice.to_owned() }
    }
}

pub(super) fn group(asked: Asked) -> Result<String, ConfigError> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b',' | b'/');
    if asked.value.is_empty() || asked.value.len() > 64 || !asked.value.bytes().all(fits) {
        return Err(asked.invalid("no name of a group", "write one of those that `getent group` lists"));
    }
    Ok(asked.value)
}

pub(super) fn origins(all: impl Iterator<Item = Asked>) -> Result<Origins, ConfigError> {
    let mut origins = Origins::default();
    for asked in all {
        if !origins.add(&asked.value) {
            let advice = "write https://HOST or http://HOST:PORT, without a path";
            return Err(asked.invalid("no site that pages come from", advice));
        }
    }
    Ok(origins)
}
