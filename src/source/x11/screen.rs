//! One connection to an X server: the requests that capture needs, in as few round trips as it takes.
//!
//! It decides nothing about when to ask.

use std::os::fd::{AsFd, BorrowedFd};

use tracing::{debug, warn};
use x11rb::connection::{Connection, RequestConnection};
use x11rb::errors::{ConnectError, ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::damage::{self, ConnectionExt as _};
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xfixes::{self, ConnectionExt as _};
use x11rb::protocol::xinput::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, ConnectionExt as _};
use x11rb::protocol::{Event, xproto::ImageFormat};
use x11rb::rust_connection::RustConnection;

use super::segment::{Segment, Store};
use crate::frame::{Rect, Size};
use crate::source::SourceError;
use crate::source::pool::Bands;

/// A connected X screen.
pub(super) struct Screen {
    connection: RustConnection,
    root: xproto::Window,
    size: Size,
    damage: damage::Damage,
    region: xfixes::Region,
    transport: Transport,
    motion: Motion,
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
    /// The screen has another size.
    Resized(Size),
}

/// The hot spot's place on the screen; `None` while the pointer is on another screen.
pub(super) type Spot = Option<(i32, i32)>;

impl Screen {
    /// Connects to `display` and checks that it can be captured.
    pub(super) fn connect(display: &str) -> Result<Self, SourceError> {
        let (connection, number) =
            RustConnection::connect(Some(display)).map_err(|error| unreachable_display(display, &error))?;
        let lost = |error: ReplyOrIdError| {
            SourceError::unavailable(
                "screen",
                format!("display {display} does not do as asked ({error})"),
                "look into the X server's log, or use the source pattern",
            )
        };
        let incapable = |what: &str| {
            SourceError::unavailable(
                "screen",
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
            if connection.extension_information(name).map_err(|error| lost(error.into()))?.is_none() {
                return Err(incapable(&format!("no {name} extension")));
            }
        }
        Self::prepare(connection, root, size).map_err(lost)
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
        let mut screen = Self { connection, root, size, damage, region, transport, motion };
        screen.measure()?;
        Ok(screen)
    }

    /// The screen's extent as last told or measured.
    pub(super) fn size(&self) -> Size {
        self.size
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

    /// Asks the server for the screen's size now.
    pub(super) fn measure(&mut self) -> Result<Size, ReplyError> {
        let geometry = self.connection.get_geometry(self.root)?.reply()?;
        self.size = Size::new(geometry.width.into(), geometry.height.into());
        Ok(self.size)
    }

    /// Has the server tell about drawing and, if asked, the pointer.
    pub(super) fn watch(&self, pointer: bool) -> Result<(), ReplyError> {
        self.connection.damage_create(self.damage, self.root, damage::ReportLevel::NON_EMPTY)?.check()?;
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
                Event::ConfigureNotify(root) if root.window == self.root => {
                    let size = Size::new(root.width.into(), root.height.into());
                    if size != self.size {
                        self.size = size;
                        return Ok(Some(Change::Resized(size)));
                    }
                }
                Event::Error(error) => debug!("the X server refuses: {error:?}"),
                _ => {}
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
        let place = if pointer { Some(self.connection.query_pointer(self.root)?) } else { None };
        let mut rects = Vec::new();
        if let Some(region) = region {
            rects.extend(region.reply()?.rectangles.into_iter().map(|rectangle| self.inside(rectangle)));
        }
        let spot = match place {
            Some(place) => Some(place.reply()?)
                .filter(|place| place.same_screen)
                .map(|place| (place.root_x.into(), place.root_y.into())),
            None => None,
        };
        Ok((rects, spot))
    }

    /// The part of a rectangle that is on the screen.
    fn inside(&self, rectangle: xproto::Rectangle) -> Rect {
        let span = |from: i16, length: u16| {
            let (from, to) = (i64::from(from), i64::from(from) + i64::from(length));
            (from.max(0) as u32, (to.max(0) - from.max(0)) as u32)
        };
        let ((x, width), (y, height)) = (span(rectangle.x, rectangle.width), span(rectangle.y, rectangle.height));
        Rect { x, y, width, height }.clipped(self.size)
    }

    /// The pointer's image, its hot spot and its extent.
    pub(super) fn pointer_image(&self) -> Result<xfixes::GetCursorImageReply, ReplyError> {
        self.connection.xfixes_get_cursor_image()?.reply()
    }

    /// Makes memory for one picture: plain where the server can't share any.
    pub(super) fn allocate(&mut self) -> Result<Store, ReplyOrIdError> {
        let length = self.stride() * self.size.height as usize;
        if self.transport == Transport::Shared {
            let id = self.connection.generate_id()?;
            let bytes = u32::try_from(length).unwrap_or(u32::MAX);
            let why = match self.connection.shm_create_segment(id, bytes, false)?.reply() {
                Ok(made) => match Segment::map(id, made.shm_fd, length) {
                    Ok(segment) => return Ok(Store::Shared(segment)),
                    Err(error) => error.to_string(),
                },
                Err(ReplyError::X11Error(error)) => format!("{:?}", error.error_kind),
                Err(error) => return Err(error.into()),
            };
            warn!("the X server shares no memory ({why}); capture goes through its socket and costs more");
            self.transport = Transport::Plain;
        }
        Ok(Store::Plain(vec![0; length]))
    }

    /// Has the server forget a segment; readers here keep it.
    pub(super) fn forget(&self, store: &Store) -> Result<(), ConnectionError> {
        if let Store::Shared(segment) = store {
            self.connection.shm_detach(segment.id())?;
        }
        Ok(())
    }

    /// Bytes from one row of a store to the next.
    pub(super) fn stride(&self) -> usize {
        self.size.width as usize * 4
    }

    /// Brings rows of a store up to date: full rows are contiguous, so that the server writes them where they belong.
    pub(super) fn grab(&self, store: &mut Store, bands: &Bands) -> Result<(), ReplyError> {
        let (width, stride) = (self.size.width as u16, self.stride());
        let format = ImageFormat::Z_PIXMAP;
        match store {
            Store::Shared(segment) => {
                let mut asked = Vec::new();
                for band in bands.iter() {
                    let (y, rows) = (band.start as i16, (band.end - band.start) as u16);
                    let offset = (band.start as usize * stride) as u32;
                    let id = segment.id();
                    let (root, all) = (self.root, !0);
                    asked.push(self.connection.shm_get_image(
                        root,
                        0,
                        y,
                        width,
                        rows,
                        all,
                        format.into(),
                        id,
                        offset,
                    )?);
                }
                asked.into_iter().try_for_each(|cookie| cookie.reply().map(drop))
            }
            Store::Plain(bytes) => {
                for band in bands.iter() {
                    let (y, rows) = (band.start as i16, (band.end - band.start) as u16);
                    let image = self.connection.get_image(format, self.root, 0, y, width, rows, !0)?.reply()?;
                    let start = band.start as usize * stride;
                    let length = image.data.len().min(stride * usize::from(rows));
                    if let Some(target) = bytes.get_mut(start..start + length) {
                        target.copy_from_slice(&image.data[..length]);
                    }
                }
                Ok(())
            }
        }
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
pub(super) fn odd_format(setup: &xproto::Setup, screen: &xproto::Screen) -> Option<String> {
    let depth = screen.root_depth;
    let format = setup.pixmap_formats.iter().find(|format| format.depth == depth);
    let bits = format.map_or(0, |format| format.bits_per_pixel);
    let visual = screen
        .allowed_depths
        .iter()
        .flat_map(|depth| &depth.visuals)
        .find(|visual| visual.visual_id == screen.root_visual);
    let masks = visual.map(|visual| (visual.red_mask, visual.green_mask, visual.blue_mask));
    let usual = masks == Some((0xff_0000, 0xff00, 0xff));
    if !matches!(depth, 24 | 32) || bits != 32 || !usual {
        return Some(format!("a depth of {depth} with {bits} bits a pixel"));
    }
    (setup.image_byte_order != xproto::ImageOrder::LSB_FIRST).then(|| "big-endian pixels".to_owned())
}

pub(super) fn unreachable_display(display: &str, error: &ConnectError) -> SourceError {
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
    SourceError::unavailable("screen", found, advice)
}
