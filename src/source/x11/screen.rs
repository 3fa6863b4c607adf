//! One connection to an X server, aimed at what is captured: the requests that capture needs, in as few round trips as
//! it takes.
//!
//! It decides nothing about when to ask.

use std::os::fd::{AsFd, BorrowedFd};

use tracing::debug;
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::errors::{ConnectionError, ReplyError};
use x11rb::protocol::Event;
use x11rb::protocol::damage::{self, ConnectionExt as _};
use x11rb::protocol::xfixes::{self, ConnectionExt as _};
use x11rb::protocol::xinput::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, ConnectionExt as _};
use x11rb::rust_connection::RustConnection;

use crate::frame::{Rect, Size};

mod aim;
pub(in crate::source) mod connect;
mod grab;
mod window;

use aim::{Aim, View};

/// A connected X screen, and what of it is captured.
pub(super) struct Screen {
    connection: RustConnection,
    root: xproto::Window,
    /// The extent of all of it, as last told or measured.
    whole: Size,
    damage: damage::Damage,
    region: xfixes::Region,
    transport: Transport,
    motion: Motion,
    aim: Aim,
    view: View,
}

/// How pixels come over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    /// MIT-SHM 1.2: the server makes segments and passes their file descriptors.
    Shared,
    /// `GetImage`, through the socket.
    Plain,
}

/// How moves of the pointer are learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Motion {
    /// By XInput2's raw events.
    Raw,
    /// By asking again and again.
    Asked,
}

/// What the server tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Something was drawn.
    Drawn,
    /// The pointer has moved.
    PointerMoved,
    /// The pointer looks different.
    PointerShape,
    /// What is captured may be elsewhere, of another size, or gone: [`Screen::renew`] tells.
    Place,
}

/// The hot spot's place in the picture; `None` while it is outside.
pub(super) type Spot = Option<(i32, i32)>;

impl Screen {
    /// The extent of what is captured.
    pub(super) fn size(&self) -> Size {
        self.view.size
    }

    /// How the pointer's moves are learnt.
    pub(super) fn motion(&self) -> Motion {
        self.motion
    }

    /// Whether the server is Xwayland, whose root shows nothing of Wayland's own windows.
    pub(super) fn is_xwayland(&self) -> bool {
        matches!(self.connection.extension_information("XWAYLAND"), Ok(Some(_)))
    }

    /// The socket, for poll(2); everything asked so far is sent first.
    pub(super) fn input(&self) -> Result<BorrowedFd<'_>, ConnectionError> {
        self.connection.flush()?;
        Ok(self.connection.stream().as_fd())
    }

    /// Has the server tell about drawing and, if asked, the pointer.
    pub(super) fn watch(&self, pointer: bool) -> Result<(), ReplyError> {
        let level = damage::ReportLevel::NON_EMPTY;
        self.connection.damage_create(self.damage, self.view.window, level)?.check()?;
        if pointer {
            self.select_pointer(xfixes::CursorNotifyMask::DISPLAY_CURSOR, xinput::XIEventMask::RAW_MOTION)?;
        }
        Ok(())
    }

    /// Has the server tell nothing and keep no account of drawing.
    pub(super) fn unwatch(&self, pointer: bool) -> Result<(), ReplyError> {
        self.connection.damage_destroy(self.damage)?.check()?;
        if pointer {
            self.select_pointer(xfixes::CursorNotifyMask::default(), xinput::XIEventMask::default())?;
        }
        Ok(())
    }

    fn select_pointer(
        &self,
        shape: xfixes::CursorNotifyMask,
        moves: xinput::XIEventMask,
    ) -> Result<(), ConnectionError> {
        self.connection.xfixes_select_cursor_input(self.root, shape)?;
        if self.motion == Motion::Raw {
            let deviceid = xinput::Device::ALL_MASTER.into();
            let masks = [xinput::EventMask { deviceid, mask: vec![moves] }];
            self.connection.xinput_xi_select_events(self.root, &masks)?;
        }
        Ok(())
    }

    /// The next thing that the server has told; `None` when it has told nothing more.
    pub(super) fn poll_change(&mut self) -> Result<Option<Change>, ConnectionError> {
        while let Some(event) = self.connection.poll_for_event()? {
            match event {
                Event::DamageNotify(_) => return Ok(Some(Change::Drawn)),
                Event::XfixesCursorNotify(_) => return Ok(Some(Change::PointerShape)),
                Event::XinputRawMotion(_) => return Ok(Some(Change::PointerMoved)),
                Event::Error(error) => debug!("the X server refuses: {error:?}"),
                event => {
                    if self.handle_place(&event) {
                        return Ok(Some(Change::Place));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes what was drawn since the last time (if `drawn`) and the pointer's place (if `pointer`), in one round trip.
    pub(super) fn look(&self, drawn: bool, pointer: bool) -> Result<(Vec<Rect>, Spot), ReplyError> {
        let region = if drawn {
            self.connection.damage_subtract(self.damage, x11rb::NONE, self.region)?;
            Some(self.connection.xfixes_fetch_region(self.region)?)
        } else {
            None
        };
        let place = if pointer { Some(self.connection.query_pointer(self.view.window)?) } else { None };
        // A window says where the pointer is in it; the root, whether it is over another one there.
        let over = match self.aim.top() {
            Some(top) if pointer => Some((self.connection.query_pointer(self.root)?, top)),
            _ => None,
        };
        let mut rects = Vec::new();
        if let Some(region) = region {
            rects.extend(region.reply()?.rectangles.into_iter().map(|rectangle| self.view.inside(rectangle)));
        }
        let spot = match place {
            Some(place) => self.view.spot(&place.reply()?),
            None => None,
        };
        let covered = match over {
            Some((over, top)) => over.reply()?.child != top,
            None => false,
        };
        Ok((rects, spot.filter(|_| !covered)))
    }

    /// The pointer's image, its hot spot and its extent.
    pub(super) fn pointer_image(&self) -> Result<xfixes::GetCursorImageReply, ReplyError> {
        self.connection.xfixes_get_cursor_image()?.reply()
    }

    /// Goes without shared memory, as with a server that has none.
    #[cfg(test)]
    pub(super) fn without_shared_memory(&mut self) {
        self.transport = Transport::Plain;
    }

    /// Goes without XInput2, as with a server that has none.
    #[cfg(test)]
    pub(super) fn without_raw_motion(&mut self) {
        self.motion = Motion::Asked;
    }

    /// Follows monitors as on a server whose RANDR is older.
    #[cfg(test)]
    pub(super) fn with_old_randr(&mut self, older: (u32, u32)) {
        if let Aim::Monitor { version, .. } = &mut self.aim {
            *version = older;
        }
    }
}
