//! The configuration: what was written on the command line, in the environment and in the config file → what is resolved and valid.
//!
//! Pure, but for [`load::load`], which reads the file: it opens nothing else, reads no environment and asks no system. The values of
//! the outside contract that this version does not do yet are told apart from those that nobody ever will.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tracing::level_filters::LevelFilter;

use crate::audio::AudioSpec;
use crate::encoder::{Bitrate, Codec};
use crate::frame::Size;
use crate::frame::canvas::FitMode;
use crate::ice_server::IceServer;
use crate::session::reach::NetworkFilter;
use crate::session::sdp::Sync;
use crate::signaling::access::Origins;
use crate::signaling::client::url::SignalingUrl;
use crate::signaling::peers::CallPolicy;
use crate::signaling::room::RoomPolicy;
use crate::source::{CaptureBackend, SourceSpec};

pub mod changes;
mod file;
pub mod load;
pub mod print;
mod read;
pub mod setting;
pub mod tables;
mod value;
pub mod written;

use tables::Tables;
use written::{Asked, Place};

/// The config file as it is shipped: the manual of all settings.
pub const MANUAL: &str = include_str!("../config/laterna.toml");

#[cfg(test)]
mod tests;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked is done.
    Done = 0,
    /// It failed while running.
    Failed = 1,
    /// What was asked can't be parsed, or is not done yet.
    Usage = 2,
}

/// Whether HTTP is encrypted, and by which certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsConfig {
    /// It is not.
    Off,
    /// By one that signs itself, made at the first start.
    SelfSigned,
    /// By these files (PEM).
    Files {
        /// The certificates, the server's first.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// Everything that `laterna run` needs to know, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunConfig {
    /// Where pictures come from.
    pub source: SourceSpec,
    /// What is shown while the source is lost; `None` is a card that says so.
    pub fallback: Option<SourceSpec>,
    /// Under which name viewers and servers know this daemon.
    pub name: String,
    /// Where the web page, WHEP and the room are served.
    pub listen: Listen,
    /// The UDP port of all media; 0 takes any.
    pub udp_port: u16,
    /// The codecs, the preferred one first; never empty.
    pub codecs: Vec<Codec>,
    /// The video's rate at most.
    pub bitrate: Bitrate,
    /// Frames a second at most, 1 to 120.
    pub fps: u32,
    /// The canvas; `None` follows the source at start.
    pub size: Option<Size>,
    /// What becomes of a source whose sides are not the canvas's.
    pub fit: FitMode,
    /// Whether the pointer is shown.
    pub pointer: bool,
    /// By which means screens are captured.
    pub capture: CaptureBackend,
    /// So many viewers at once, at least 1.
    pub max_viewers: usize,
    /// Who may watch.
    pub auth: AuthConfig,
    /// Whether HTTP is encrypted.
    pub tls: TlsConfig,
    /// Whether pictures wait for their sound.
    pub sync: SyncConfig,
    /// Who sees whom in the room.
    pub room: RoomPolicy,
    /// Whom the daemon calls in the room.
    pub call: CallPolicy,
    /// Where sound comes from.
    pub audio: AudioSpec,
    /// The signaling servers to sign in to.
    pub signaling: Vec<SignalingUrl>,
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// Addresses that a NAT maps to this machine, one of a family at most.
    pub public_ips: Vec<IpAddr>,
    /// Which of this machine's addresses viewers are told.
    pub networks: NetworkFilter,
    /// Where the control socket is to be; `None` is the first default place that can be had.
    pub control: Option<PathBuf>,
    /// The group that may use the control socket beside its owner.
    pub control_group: Option<String>,
    /// The sites whose pages may ask for the stream.
    pub origins: Origins,
    /// What is logged.
    pub log: LevelFilter,
    /// What the config file alone says.
    pub tables: Tables,
}

/// Where HTTP listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At each of these, at least one; port 0 takes any.
    At(Vec<SocketAddr>),
}

/// Who may watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthConfig {
    /// Everyone who reaches the port.
    None,
    /// Who holds the code.
    Code {
        /// Where the code is kept; `None` is the state directory.
        file: Option<PathBuf>,
    },
}

/// Whether pictures wait for their sound: browsers delay a picture to its sound where both are one MediaStream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncConfig {
    /// Where the source itself carries the sound.
    Auto,
    /// They do.
    Lip,
    /// They don't.
    LowLatency,
}

impl SyncConfig {
    /// How it is for the sound of `audio`: what the machine plays belongs to its screen, what a microphone hears or a tone does not.
    pub fn resolve(self, audio: &AudioSpec) -> Sync {
        match (self, audio) {
            (Self::Lip, _) | (Self::Auto, AudioSpec::Auto | AudioSpec::System | AudioSpec::File) => Sync::Lip,
            (Self::LowLatency | Self::Auto, _) => Sync::LowLatency,
        }
    }
}

/// Why a setting is refused; one line that says what was asked, what was found and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The contract has it, this version does not.
    #[error("{asked}: not yet: {advice}")]
    NotYet {
        /// What was written.
        asked: Asked,
        /// What this version does instead.
        advice: String,
    },
    /// The value is none that this setting can have.
    #[error("{asked}: {found}; {advice}")]
    Invalid {
        /// What was written.
        asked: Asked,
        /// What is wrong with it.
        found: String,
        /// What to write.
        advice: String,
    },
    /// The config file is not written as one.
    #[error("{place}: {found}; {advice}")]
    File {
        /// Where.
        place: Place,
        /// What is wrong there.
        found: String,
        /// What to write.
        advice: String,
    },
}

impl ConfigError {
    /// What was written, where a setting was.
    pub fn asked(&self) -> Option<&Asked> {
        match self {
            Self::NotYet { asked, .. } | Self::Invalid { asked, .. } => Some(asked),
            Self::File { .. } => None,
        }
    }

    /// Where in the config file, if it is there.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::NotYet { asked, .. } | Self::Invalid { asked, .. } => asked.place(),
            Self::File { place, .. } => Some(place),
        }
    }
}

/// Whether a character shows as itself and leaves its neighbours alone (Unicode's explicit directional formatting, UAX #9, does not).
pub fn is_shown(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes control characters and those that turn the direction of writing, so that what somebody else wrote can't break or disguise a line.
pub fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        match c {
            c if !is_shown(c) => line.extend(c.escape_default()),
            c => line.push(c),
        }
        line
    })
}

impl RunConfig {
    /// The signaling server that is this daemon's own listener, where one is; `is_here` says whether a host is this machine.
    pub fn own_signaling(&self, is_here: impl Fn(&str) -> bool) -> Option<&SignalingUrl> {
        let Listen::At(addresses) = &self.listen else { return None };
        self.signaling.iter().find(|signaling| {
            let port = signaling.url.port_or_known_default();
            let is_listened = addresses.iter().any(|address| address.port() != 0 && Some(address.port()) == port);
            is_listened && signaling.url.host_str().is_some_and(&is_here)
        })
    }
}
