//! The way to a server, and whether it can be captured.

use tracing::{debug, warn};
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::errors::{ConnectError, ReplyError, ReplyOrIdError};
use x11rb::protocol::damage::{self, ConnectionExt as _};
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xfixes::{self, ConnectionExt as _};
use x11rb::protocol::xinput::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, ConnectionExt as _};
use x11rb::rust_connection::RustConnection;

use super::aim::{Aim, View};
use super::{Motion, Screen, Transport};
use crate::frame::{Rect, Size};
use crate::source::SourceError;

impl Screen {
    /// Connects to `display` and checks that it can be captured: all of it, until it is aimed at a part.
    pub(in crate::source::x11) fn connect(display: &str, spec: &str) -> Result<Self, SourceError> {
        let (connection, number) =
            RustConnection::connect(Some(display)).map_err(|error| unreachable_display(spec, display, &error))?;
        let incapable = |what: &str| {
            SourceError::unavailable(
                spec,
                format!("display {display} has {what}"),
                "use an X server with 24-bit colour and the DAMAGE and XFIXES extensions",
            )
        };
        let Some(screen) = connection.setup().roots.get(number) else { return Err(incapable("no such screen")) };
        if let Some(what) = odd_format(connection.setup(), screen) {
            return Err(incapable(&what));
        }
        let (root, size) = (screen.root, Size::new(screen.width_in_pixels.into(), screen.height_in_pixels.into()));
        for name in [damage::X11_EXTENSION_NAME, xfixes::X11_EXTENSION_NAME] {
            let found = connection.extension_information(name);
            if found.map_err(|error| disobedient_display(spec, display, &error.into()))?.is_none() {
                return Err(incapable(&format!("no {name} extension")));
            }
        }
        Self::prepare(connection, root, size).map_err(|error| disobedient_display(spec, display, &error))
    }

    fn prepare(connection: RustConnection, root: xproto::Window, size: Size) -> Result<Self, ReplyOrIdError> {
        // The server refuses requests of an extension whose version was not agreed on.
        connection.xfixes_query_version(5, 0)?.reply()?;
        connection.damage_query_version(1, 1)?.reply()?;
        let transport = transport(&connection)?;
        let motion = motion(&connection)?;
        debug!("display: {size}, {transport:?} memory, {motion:?} pointer");
        let (damage, region) = (connection.generate_id()?, connection.generate_id()?);
        connection.xfixes_create_region(region, &[])?.check()?;
        let resizes = xproto::ChangeWindowAttributesAux::new().event_mask(xproto::EventMask::STRUCTURE_NOTIFY);
        connection.change_window_attributes(root, &resizes)?.check()?;
        let (aim, view) = (Aim::Whole, View::of_root(root, Rect::whole(size)));
        let mut screen = Self { connection, root, whole: size, damage, region, transport, motion, aim, view };
        screen.renew_whole()?;
        Ok(screen)
    }
}

/// Says that a display refuses, or is gone already.
pub(in crate::source) fn disobedient_display(spec: &str, display: &str, error: &ReplyOrIdError) -> SourceError {
    SourceError::unavailable(
        spec,
        format!("display {display} does not do as asked ({error})"),
        "look into the X server's log, or use the source pattern",
    )
}

fn transport(connection: &RustConnection) -> Result<Transport, ReplyError> {
    if connection.extension_information(shm::X11_EXTENSION_NAME)?.is_none() {
        warn!("the X server has no MIT-SHM; capture goes through its socket and costs more");
        return Ok(Transport::Plain);
    }
    let version = connection.shm_query_version()?.reply()?;
    let passes_fds = (version.major_version, version.minor_version) >= (1, 2);
    if !passes_fds {
        warn!("the X server's MIT-SHM passes no file descriptors; capture goes through its socket and costs more");
    }
    Ok(if passes_fds { Transport::Shared } else { Transport::Plain })
}

fn motion(connection: &RustConnection) -> Result<Motion, ReplyError> {
    if connection.extension_information(xinput::X11_EXTENSION_NAME)?.is_none() {
        return Ok(Motion::Asked);
    }
    // Version 2.1 is the first whose raw events come while another client holds a grab.
    let version = connection.xinput_xi_query_version(2, 2)?.reply()?;
    let raw = (version.major_version, version.minor_version) >= (2, 1);
    Ok(if raw { Motion::Raw } else { Motion::Asked })
}

/// What keeps the root's pixels from being read as BGRX, if anything does.
pub(in crate::source) fn odd_format(setup: &xproto::Setup, screen: &xproto::Screen) -> Option<String> {
    odd_visual(setup, screen.root_depth, screen.root_visual)
        .or_else(|| (setup.image_byte_order != xproto::ImageOrder::LSB_FIRST).then(|| "big-endian pixels".to_owned()))
}

/// What keeps the pixels of a visual from being read as BGRX, if anything does.
pub(super) fn odd_visual(setup: &xproto::Setup, depth: u8, visual: xproto::Visualid) -> Option<String> {
    let format = setup.pixmap_formats.iter().find(|format| format.depth == depth);
    let bits = format.map_or(0, |format| format.bits_per_pixel);
    let depths = setup.roots.iter().flat_map(|screen| &screen.allowed_depths);
    let known = depths.flat_map(|depth| &depth.visuals).find(|known| known.visual_id == visual);
    let masks = known.map(|visual| (visual.red_mask, visual.green_mask, visual.blue_mask));
    let usual = masks == Some((0xff_0000, 0xff00, 0xff));
    let odd = !matches!(depth, 24 | 32) || bits != 32 || !usual;
    odd.then(|| format!("a depth of {depth} with {bits} bits a pixel"))
}

/// Says why a display can't be reached, and what to do.
pub(in crate::source) fn unreachable_display(spec: &str, display: &str, error: &ConnectError) -> SourceError {
    let (found, advice) = match error {
        ConnectError::DisplayParsingError(_) => {
            (format!("'{display}' is not the name of a display"), "DISPLAY looks like :0 or host:0".to_owned())
        }
        ConnectError::SetupFailed(_) | ConnectError::SetupAuthenticate(_) => (
            format!("display {display} lets us not in"),
            "run as the user who is logged in there, or point XAUTHORITY to that user's file".to_owned(),
        ),
        error => (
            format!("display {display} can't be reached ({})", error.to_string().replace('\n', " ")),
            "check that an X server runs there, or use the source pattern".to_owned(),
        ),
    };
    SourceError::unavailable(spec, found, advice)
}
