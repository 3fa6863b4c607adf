//! scrap on X11, with a connection of our own beside it that tells what scrap does not: that the server is gone, and
//! that the screen has another size.
//!
//! scrap lists displays out of memory that it has freed, so it is told here which rectangle of which root to capture.
//! Its shared memory is open to every local user and outlives a killed process; both end right after the server has
//! taken hold of it. No pixel is ever compared here.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::rc::Rc;
use std::time::Instant;

use scrap::x11::{Capturer, Display, Rect as Part, Server};
use tracing::{debug, warn};
use x11rb::connection::Connection as _;
use x11rb::errors::{ConnectionError, ReplyError};
use x11rb::protocol::Event;
use x11rb::protocol::randr::{ConnectionExt as _, NotifyMask};
use x11rb::protocol::xproto::{self, ConnectionExt as _, EventMask};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::Trouble;
use crate::frame::{Rect, Size};
use crate::source::SourceError;
use crate::source::x11::monitors;
use crate::source::x11::screen::connect::{odd_format, unreachable_display};
use crate::source::x11::trouble::Miss;

const ADVICE: &str = "use --capture x11";

/// A screen, or a monitor of it.
pub(super) struct Desk {
    name: String,
    side: RustConnection,
    root: xproto::Window,
    monitor: Option<Followed>,
    part: Rect,
    capturer: Option<Capturer>,
}

impl Desk {
    /// Connects to `display`, and finds the monitor of this name or number, or all of the screen.
    pub(super) fn open(display: Option<&str>, monitor: Option<&str>) -> Result<Self, Trouble> {
        let Some(name) = display.filter(|name| !name.is_empty()).map(str::to_owned) else {
            return Err(Trouble::new("DISPLAY is not set", "set it to a running X server (DISPLAY=:0)"));
        };
        let (side, number) =
            RustConnection::connect(Some(&name)).map_err(|error| unreachable_display("screen", &name, &error))?;
        let gone = |error: ReplyError| lost(&name, &error);
        let Some(screen) = side.setup().roots.get(number) else {
            return Err(Trouble::new(format!("display {name} has no such screen"), "look at DISPLAY"));
        };
        if let Some(odd) = odd_format(side.setup(), screen) {
            return Err(Trouble::new(format!("display {name} has {odd}"), "use an X server with 24-bit colour"));
        }
        let root = screen.root;
        let resizes = xproto::ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
        side.change_window_attributes(root, &resizes)
            .map_err(ReplyError::from)
            .and_then(|asked| asked.check())
            .map_err(gone)?;
        let monitor = match monitor {
            Some(asked) => Some(follow(&side, root, &name, asked)?),
            None => None,
        };
        let part = Rect { x: 0, y: 0, width: 0, height: 0 };
        let mut desk = Self { name, side, root, monitor, part, capturer: None };
        desk.measure()?;
        Ok(desk)
    }

    /// The extent of what is captured.
    pub(super) fn size(&self) -> Size {
        Size::new(self.part.width, self.part.height)
    }

    /// What it is, for people.
    pub(super) fn describe(&self) -> String {
        match &self.monitor {
            Some((monitor, _)) => format!("monitor {} of {}", crate::config::one_line(monitor), self.name),
            None => format!("screen {}", self.name),
        }
    }

    /// What becomes readable when there is something to check.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        Some(self.side.stream().as_fd())
    }

    /// Makes ready to capture.
    #[expect(unsafe_code, reason = "telling scrap what to capture, which it would else read out of freed memory")]
    pub(super) fn start(&mut self) -> Result<(), Trouble> {
        let refused = |what: &str| Trouble::new(format!("scrap can't capture {} ({what})", self.name), ADVICE);
        let name = CString::new(self.name.as_str()).map_err(|_| refused("no name of a display"))?;
        let server = Server::connect(name.as_ptr().cast()).map_err(|error| refused(&format!("{error:?}")))?;
        let Rect { x, y, width, height } = self.part;
        let part = Part { x: x as i16, y: y as i16, w: width as u16, h: height as u16 };
        // SAFETY: the display is made of plain values and a connection that it owns; `root` is a window of that server.
        let display = unsafe { Display::new(Rc::new(server), true, part, self.root) };
        let mut capturer = Capturer::new(display).map_err(|error| refused(&error.to_string()))?;
        // Has the server take hold of the memory, which is then closed to all others.
        capturer.frame();
        let size = 2 * 4 * u64::from(width) * u64::from(height);
        match close_segments(size) {
            Ok(true) => self.capturer = Some(capturer),
            Ok(false) => {
                let found = format!("the X server of {} has no hold of this process's memory", self.name);
                return Err(Trouble::new(found, "run both in one IPC namespace, or use --capture x11"));
            }
            Err(error) => {
                warn!("other users of this machine can read the screen while it is captured ({error}); {ADVICE}");
                self.capturer = Some(capturer);
            }
        }
        Ok(())
    }

    /// Gives back all that capturing holds.
    pub(super) fn stop(&mut self) {
        self.capturer = None;
    }

    /// Looks whether the server is there, and has what is captured where it was; goes on elsewhere if not.
    pub(super) fn check(&mut self, active: bool) -> Result<(), Trouble> {
        while told(&self.side, self.root).map_err(|error| lost(&self.name, &error.into()))? {
            let before = self.part;
            self.measure()?;
            if self.part != before && active {
                self.stop();
                self.start()?;
            }
        }
        Ok(())
    }

    /// The picture of now: BGRX, rows without gaps, and when it was asked for; `None` while it can't be had.
    pub(super) fn capture(&mut self, now: Instant) -> Result<Option<(&[u8], Instant)>, Trouble> {
        let Some(capturer) = &mut self.capturer else { return Ok(None) };
        // scrap asks for each picture when the one before is taken, but its request leaves with the next call only.
        let pixels = capturer.frame();
        // What a server left behind when it died looks like a picture: it must have lived until after it.
        self.side.sync().map_err(|error| lost(&self.name, &error))?;
        Ok(Some((pixels, now)))
    }

    /// Asks where what is captured is now.
    fn measure(&mut self) -> Result<(), Trouble> {
        let gone = |error: ReplyError| lost(&self.name, &error);
        let geometry = self.side.get_geometry(self.root).map_err(ReplyError::from).and_then(|asked| asked.reply());
        let geometry = geometry.map_err(gone)?;
        let whole = Size::new(geometry.width.into(), geometry.height.into());
        self.part = match &self.monitor {
            Some((name, version)) => {
                let all = monitors::all(&self.side, self.root, *version).map_err(gone)?;
                let found = all.iter().find(|monitor| monitor.name == *name);
                let part = found.ok_or_else(|| monitors::missing(&all, name))?.on(whole);
                part.ok_or_else(|| Trouble::new(format!("the monitor {name} shows no part of the screen"), ADVICE))?
            }
            None => Rect::whole(whole),
        };
        Ok(())
    }
}

/// A monitor's name, and the version of RANDR by which the server is asked for it.
type Followed = (String, (u32, u32));

/// Finds a monitor, and has the server tell of it.
fn follow(side: &RustConnection, root: xproto::Window, name: &str, asked: &str) -> Result<Followed, Trouble> {
    let gone = |error: ReplyError| lost(name, &error);
    let Some(version) = monitors::version(side).map_err(gone)? else {
        return Err(Trouble::new("the display has no RANDR extension", "show all of it: screen"));
    };
    let selected = side.randr_select_input(root, NotifyMask::SCREEN_CHANGE);
    selected.map_err(ReplyError::from).and_then(|asked| asked.check()).map_err(gone)?;
    let all = monitors::all(side, root, version).map_err(gone)?;
    Ok((monitors::find(&all, asked)?.name.clone(), version))
}

/// Whether the server has told of something that may have moved.
fn told(side: &RustConnection, root: xproto::Window) -> Result<bool, ConnectionError> {
    let mut moved = false;
    while let Some(event) = side.poll_for_event()? {
        moved |= match event {
            Event::ConfigureNotify(event) => event.window == root,
            Event::RandrScreenChangeNotify(_) => true,
            _ => false,
        };
    }
    Ok(moved)
}

fn lost(name: &str, error: &ReplyError) -> Trouble {
    Trouble::new(format!("display {name} is gone ({error})"), "check that an X server runs there")
}

impl From<Miss> for Trouble {
    fn from(Miss { found, advice, .. }: Miss) -> Self {
        Self { found, advice }
    }
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unavailable { found, advice, .. } => Self { found, advice },
            SourceError::System { what, error, .. } => Self::new(format!("{what}: {error}"), ADVICE),
            other @ SourceError::Both { .. } => Self::new(other.to_string(), ADVICE),
        }
    }
}

/// Closes this process's shared segments of so many bytes to all but their owner, and lets them end with their last
/// holder; says whether another process has hold of them.
///
/// # Errors
/// What the system said, where they stay open.
fn close_segments(size: u64) -> io::Result<bool> {
    let listed = std::fs::read_to_string("/proc/sysvipc/shm")?;
    let mut held = None;
    for segment in listed.lines().skip(1).filter_map(parse_segment) {
        if segment.creator == std::process::id() && segment.size == size && segment.mode & 0o777 == 0o777 {
            close_segment(segment.id)?;
            held = Some(segment.holders > 1);
            debug!("the shared segment {} is closed to others", segment.id);
        }
    }
    held.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its shared memory is not listed"))
}

/// A line of `/proc/sysvipc/shm` (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    id: i32,
    mode: u32,
    size: u64,
    creator: u32,
    holders: u32,
}

fn parse_segment(line: &str) -> Option<Segment> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_key, id, mode, size, creator, _last, holders, ..] = fields[..] else { return None };
    Some(Segment {
        id: id.parse().ok()?,
        mode: u32::from_str_radix(mode, 8).ok()?,
        size: size.parse().ok()?,
        creator: creator.parse().ok()?,
        holders: holders.parse().ok()?,
    })
}

#[expect(unsafe_code, reason = "shmctl(2) has no safe wrapper")]
fn close_segment(id: i32) -> io::Result<()> {
    let done = |result: i32| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: all of its fields are numbers, for which zero is a value.
    let mut about: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: `about` is valid for writes of its type.
    done(unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut about) })?;
    about.shm_perm.mode = 0o600;
    // SAFETY: `about` is as the system filled it, but for the mode.
    done(unsafe { libc::shmctl(id, libc::IPC_SET, &raw mut about) })?;
    // SAFETY: no structure is read or written; who has hold of the segment keeps it.
    done(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn segments_are_read_as_proc_lists_them() {
        let line =
            "         0     163840   777              2457600  31337  31340      2     0     0     0     0 1 2 3 0 0";
        let segment = Segment { id: 163_840, mode: 0o777, size: 2_457_600, creator: 31_337, holders: 2 };
        assert_eq!(parse_segment(line), Some(segment));
        assert_eq!(parse_segment("       key      shmid perms                  size"), None);
        assert!(close_segments(12_345).is_err(), "none of ours has that size");
    }
}
