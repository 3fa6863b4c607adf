//! What of the screen is captured, and where it is now.

use x11rb::errors::ReplyError;
use x11rb::protocol::Event;
use x11rb::protocol::randr::{ConnectionExt as _, NotifyMask};
use x11rb::protocol::xproto::{self, ConnectionExt as _};

use super::Screen;
use super::window::Window;
use crate::frame::{Rect, Size};
use crate::source::x11::monitors::{self, Monitor};
use crate::source::x11::trouble::{Miss, Trouble};
use crate::source::x11::{Target, windows};
use crate::source::{Region, WindowSpec};

/// What is captured, as it is known by.
#[derive(Debug)]
pub(super) enum Aim {
    /// All of the screen.
    Whole,
    /// A monitor, by its name, on a server of this version of RANDR.
    Monitor {
        /// What the server calls it.
        name: String,
        /// What is asked in which way.
        version: (u32, u32),
    },
    /// A part of the screen.
    Region(Region),
    /// A window, by its number.
    Window(Window),
}

/// Where the pixels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// What pixels are read from.
    pub(super) drawable: xproto::Drawable,
    /// Column of its leftmost pixel there.
    pub(super) x: i16,
    /// Row of its topmost pixel there.
    pub(super) y: i16,
    /// Its extent.
    pub(super) size: Size,
    /// What is drawn to, and the pointer is in.
    pub(super) window: xproto::Window,
    /// Where its pixels begin in that window.
    origin: (i32, i32),
}

impl View {
    /// A part of the root, inside of it.
    pub(super) fn of_root(root: xproto::Window, Rect { x, y, width, height }: Rect) -> Self {
        let size = Size::new(width, height);
        let origin = (x.cast_signed(), y.cast_signed());
        Self { drawable: root, x: x as i16, y: y as i16, size, window: root, origin }
    }

    /// A window that is drawn in a pixmap of its own, inside a border of this width.
    pub(super) fn of_window(window: xproto::Window, pixmap: xproto::Pixmap, border: u16, size: Size) -> Self {
        let edge = border as i16;
        Self { drawable: pixmap, x: edge, y: edge, size, window, origin: (0, 0) }
    }

    /// The part of a rectangle of the window that is in the picture, and where it is there.
    pub(super) fn inside(&self, rectangle: xproto::Rectangle) -> Rect {
        let span = |from: i16, length: u16, origin: i32, most: u32| {
            let start = i64::from(from) - i64::from(origin);
            let end = (start + i64::from(length)).clamp(0, most.into());
            let start = start.clamp(0, most.into());
            (start as u32, (end - start) as u32)
        };
        let (x, width) = span(rectangle.x, rectangle.width, self.origin.0, self.size.width);
        let (y, height) = span(rectangle.y, rectangle.height, self.origin.1, self.size.height);
        if width == 0 || height == 0 { Rect { x: 0, y: 0, width: 0, height: 0 } } else { Rect { x, y, width, height } }
    }

    /// The pointer's place in the picture.
    pub(super) fn spot(&self, place: &xproto::QueryPointerReply) -> super::Spot {
        let (x, y) = (i32::from(place.win_x) - self.origin.0, i32::from(place.win_y) - self.origin.1);
        let within = |at: i32, most: u32| u32::try_from(at).is_ok_and(|at| at < most);
        (place.same_screen && within(x, self.size.width) && within(y, self.size.height)).then_some((x, y))
    }
}

impl Aim {
    /// The child of the root that the pointer is in while it is in the window; `None` where the target is no window.
    pub(super) fn top(&self) -> Option<xproto::Window> {
        match self {
            Self::Window(window) => Some(window.top()),
            _ => None,
        }
    }
}

impl Screen {
    /// Captures `target` from now on, to be called before anything is watched; gives what it is, for people.
    pub(in crate::source::x11) fn aim(&mut self, target: &Target) -> Result<String, Trouble> {
        self.renew_whole()?;
        let what = match target {
            Target::Screen(None) => "screen".to_owned(),
            Target::Screen(Some(asked)) => {
                let Some(version) = monitors::version(&self.connection)? else {
                    return Err(Miss::unfit("the display has no RANDR extension", "show all of it: screen").into());
                };
                // Asked for first, so that no change is missed.
                let mask = NotifyMask::SCREEN_CHANGE | NotifyMask::CRTC_CHANGE | NotifyMask::OUTPUT_CHANGE;
                let mask = if version < (1, 2) { NotifyMask::SCREEN_CHANGE } else { mask };
                self.connection.randr_select_input(self.root, mask)?.check()?;
                let monitors = monitors::all(&self.connection, self.root, version)?;
                let monitor = monitors::find(&monitors, asked)?;
                self.view = self.view_of(monitor)?;
                self.aim = Aim::Monitor { name: monitor.name.clone(), version };
                format!("monitor {}", crate::config::one_line(&monitor.name))
            }
            Target::Region(region) => {
                self.view = self.view_of_region(region)?;
                self.aim = Aim::Region(*region);
                format!("region {}+{}+{}", region.size, region.x, region.y)
            }
            Target::Window(spec) => {
                let id = match spec {
                    WindowSpec::Id(id) => *id,
                    WindowSpec::Title(part) => windows::find(&windows::all(&self.connection, self.root)?, part)?.id,
                };
                let (window, view) = Window::attach(&self.connection, self.root, id)?;
                let what = format!("window {}", window.title());
                (self.view, self.aim) = (view, Aim::Window(window));
                what
            }
        };
        Ok(what)
    }

    /// The name of the monitor that is captured, if one is.
    pub(in crate::source::x11) fn monitor(&self) -> Option<&str> {
        match &self.aim {
            Aim::Monitor { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Notes what an event says; returns whether what is captured may be elsewhere.
    pub(super) fn handle_place(&mut self, event: &Event) -> bool {
        match (&mut self.aim, event) {
            (Aim::Window(window), event) => window.handle(event),
            (aim, Event::ConfigureNotify(root)) if root.window == self.root => {
                let size = Size::new(root.width.into(), root.height.into());
                let resized = std::mem::replace(&mut self.whole, size) != size;
                // A monitor that is set by a request makes no event but this one, which says nothing new.
                resized || matches!(aim, Aim::Monitor { .. })
            }
            (Aim::Monitor { .. }, Event::RandrNotify(_) | Event::RandrScreenChangeNotify(_)) => true,
            _ => false,
        }
    }

    /// Asks the server where what is captured is now; returns whether its pixels are others.
    pub(in crate::source::x11) fn renew(&mut self) -> Result<bool, Trouble> {
        let before = self.view;
        match &mut self.aim {
            Aim::Whole => self.renew_whole()?,
            Aim::Monitor { .. } | Aim::Region(_) => self.renew_part()?,
            Aim::Window(window) => match window.renew(&self.connection, self.root)? {
                Some(view) => self.view = view,
                None => return Ok(false),
            },
        }
        Ok(self.view != before)
    }

    /// Measures all of the screen.
    pub(super) fn renew_whole(&mut self) -> Result<(), ReplyError> {
        let geometry = self.connection.get_geometry(self.root)?.reply()?;
        self.whole = Size::new(geometry.width.into(), geometry.height.into());
        if matches!(self.aim, Aim::Whole) {
            self.view = View::of_root(self.root, Rect::whole(self.whole));
        }
        Ok(())
    }

    fn renew_part(&mut self) -> Result<(), Trouble> {
        self.renew_whole()?;
        let view = match &self.aim {
            Aim::Monitor { name, version } => {
                let monitors = monitors::all(&self.connection, self.root, *version)?;
                let found = monitors.iter().find(|monitor| monitor.name == *name);
                self.view_of(found.ok_or_else(|| monitors::missing(&monitors, name))?)?
            }
            Aim::Region(region) => self.view_of_region(region)?,
            Aim::Whole | Aim::Window(_) => return Ok(()),
        };
        self.view = view;
        Ok(())
    }

    fn view_of(&self, monitor: &Monitor) -> Result<View, Miss> {
        let part = monitor.on(self.whole).ok_or_else(|| {
            let name = crate::config::one_line(&monitor.name);
            Miss::unfit(format!("the monitor {name} shows no part of the screen"), "switch it on")
        })?;
        Ok(View::of_root(self.root, part))
    }

    fn view_of_region(&self, Region { size, x, y }: &Region) -> Result<View, Miss> {
        let (Size { width, height }, whole) = (*size, self.whole);
        if x + width > whole.width || y + height > whole.height {
            let found = format!("the screen is {whole}, and {size}+{x}+{y} is not inside of it");
            return Err(Miss::unfit(found, "choose a part of it: region:WIDTHxHEIGHT+LEFT+TOP"));
        }
        Ok(View::of_root(self.root, Rect { x: *x, y: *y, width, height }))
    }
}
