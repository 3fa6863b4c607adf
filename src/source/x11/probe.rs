//! What an X server is and has, for whoever asks before anything is captured.

use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::errors::ReplyError;
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xinput::{self, ConnectionExt as _};
use x11rb::protocol::{damage, randr, xfixes};
use x11rb::rust_connection::RustConnection;

use super::screen::connect::{disobedient_display, odd_format, unreachable_display};
use crate::frame::Size;
use crate::source::SourceError;

/// How a server shares memory (MIT-SHM).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedMemory {
    /// Not at all.
    None,
    /// By numbers, not by descriptors: older than version 1.2.
    WithoutDescriptors,
    /// By descriptors.
    Whole,
}

/// What an X server is and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The extent of its screen.
    pub size: Size,
    /// Who made it.
    pub vendor: String,
    /// Whether it is Xwayland.
    pub is_xwayland: bool,
    /// How it shares memory.
    pub shared_memory: SharedMemory,
    /// Whether it tells what is drawn (DAMAGE).
    pub has_damage: bool,
    /// Whether it tells regions and pointers (XFIXES).
    pub has_xfixes: bool,
    /// Whether its size can change (RANDR).
    pub has_randr: bool,
    /// Whether it tells of the pointer's moves wherever they are (XInput 2.1).
    pub has_raw_motion: bool,
    /// Why its pixels can't be read, where they can't.
    pub odd: Option<String>,
}

impl Probe {
    /// What it lacks without which it can't be captured.
    pub fn lacks(&self) -> Option<String> {
        let missing = [(self.has_damage, "no DAMAGE extension"), (self.has_xfixes, "no XFIXES extension")];
        let missing = missing.into_iter().find(|(has_it, _)| !has_it).map(|(_, what)| what.to_owned());
        self.odd.clone().or(missing)
    }
}

/// Looks at the server of `display`.
///
/// # Errors
/// [`SourceError::Unavailable`] where it can't be reached, or does not answer.
pub fn probe(display: &str) -> Result<Probe, SourceError> {
    let (connection, number) =
        RustConnection::connect(Some(display)).map_err(|error| unreachable_display("screen", display, &error))?;
    ask(&connection, number).map_err(|error| disobedient_display("screen", display, &error.into()))
}

fn ask(connection: &RustConnection, number: usize) -> Result<Probe, ReplyError> {
    let setup = connection.setup();
    let has = |name| connection.extension_information(name).map(|found| found.is_some());
    let screen = setup.roots.get(number);
    let (size, odd) = match screen {
        Some(screen) => {
            let size = Size::new(screen.width_in_pixels.into(), screen.height_in_pixels.into());
            (size, odd_format(setup, screen))
        }
        None => (Size::new(0, 0), Some("no such screen".to_owned())),
    };
    let shared_memory = if has(shm::X11_EXTENSION_NAME)? {
        let version = connection.shm_query_version()?.reply()?;
        let passes = (version.major_version, version.minor_version) >= (1, 2);
        if passes { SharedMemory::Whole } else { SharedMemory::WithoutDescriptors }
    } else {
        SharedMemory::None
    };
    let has_raw_motion = has(xinput::X11_EXTENSION_NAME)? && {
        let version = connection.xinput_xi_query_version(2, 2)?.reply()?;
        (version.major_version, version.minor_version) >= (2, 1)
    };
    Ok(Probe {
        size,
        vendor: String::from_utf8_lossy(&setup.vendor).into_owned(),
        is_xwayland: has("XWAYLAND")?,
        shared_memory,
        has_damage: has(damage::X11_EXTENSION_NAME)?,
        has_xfixes: has(xfixes::X11_EXTENSION_NAME)?,
        has_randr: has(randr::X11_EXTENSION_NAME)?,
        has_raw_motion,
        odd,
    })
}
