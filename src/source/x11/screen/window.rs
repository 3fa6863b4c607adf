//! One window, drawn apart from what covers it (Composite 0.4: redirection, and the pixmap behind a window).
//!
//! The window is redirected for as long as it is a target, and so is drawn even where it is covered. Its pixmap is
//! another one each time that it is resized or shown again; the last one outlives the window's being hidden.

use tracing::info;
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::errors::{ConnectionError, ReplyError};
use x11rb::protocol::Event;
use x11rb::protocol::composite::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, ConnectionExt as _, EventMask, MapState, WindowClass};
use x11rb::rust_connection::RustConnection;

use super::aim::View;
use super::connect::odd_visual;
use crate::frame::Size;
use crate::source::x11::trouble::{Miss, Trouble, granted};
use crate::source::x11::windows;

/// A window that is captured.
#[derive(Debug)]
pub(super) struct Window {
    id: xproto::Window,
    /// In quotation marks, or its number where it has none.
    title: String,
    /// What it is in, from its parent up to a child of the root.
    ancestors: Vec<xproto::Window>,
    shape: Option<Shape>,
    hidden: bool,
    /// Whether it was put into another window.
    moved: bool,
}

/// What the picture was taken of last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    pixmap: xproto::Pixmap,
    size: Size,
    border: u16,
}

impl Window {
    /// Has the server draw the window apart, and tell of what becomes of it.
    pub(super) fn attach(
        connection: &RustConnection,
        root: xproto::Window,
        id: xproto::Window,
    ) -> Result<(Self, View), Trouble> {
        let absent =
            || Miss::absent(format!("no window has the number {id:#x}"), "`laterna sources` lists what is there");
        if id == root {
            return Err(Miss::unfit(format!("{id:#x} is the screen itself"), "write screen").into());
        }
        if connection.extension_information(composite::X11_EXTENSION_NAME)?.is_none() {
            let advice = "switch it on in the X server, or show the part of the screen where it is: region:WxH+X+Y";
            return Err(Miss::unfit("the display has no Composite extension", advice).into());
        }
        connection.composite_query_version(0, 4)?.reply()?;
        let Some(title) = windows::title(connection, id)? else { return Err(absent().into()) };
        let title = if title.trim().is_empty() { format!("{id:#x}") } else { windows::quoted(&title) };
        let mut window = Self { id, title, ancestors: Vec::new(), shape: None, hidden: false, moved: false };
        // Selected before it is looked at, so that nothing is missed in between.
        window.climb(connection, root)?;
        let attributes = granted(connection.get_window_attributes(id)?.reply())?;
        let geometry = granted(connection.get_geometry(id)?.reply())?;
        let (Some(attributes), Some(geometry)) = (attributes, geometry) else { return Err(absent().into()) };
        if attributes.class != WindowClass::INPUT_OUTPUT {
            return Err(Miss::unfit(format!("the window {} has no pixels", window.title), "choose another one").into());
        }
        if let Some(odd) = odd_visual(connection.setup(), geometry.depth, attributes.visual) {
            let found = format!("the window {} has {odd}", window.title);
            return Err(Miss::unfit(found, "show the part of the screen where it is: region:WxH+X+Y").into());
        }
        granted(connection.composite_redirect_window(id, composite::Redirect::AUTOMATIC)?.check())?;
        match window.renew(connection, root)? {
            Some(view) => Ok((window, view)),
            None => {
                let found = format!("the window {} is not on the screen now", window.title);
                Err(Miss::unfit(found, "show it first: it is minimised, or on another workspace").into())
            }
        }
    }

    /// What it is called, in quotation marks.
    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// The child of the root that it is in, or is.
    pub(super) fn top(&self) -> xproto::Window {
        self.ancestors.last().copied().unwrap_or(self.id)
    }

    /// Notes what an event says of it; returns whether its picture may come from elsewhere now.
    pub(super) fn handle(&mut self, event: &Event) -> bool {
        let concerns = |window: &xproto::Window| *window == self.id || self.ancestors.contains(window);
        match event {
            Event::ConfigureNotify(now) if now.window == self.id => {
                let size = Size::new(now.width.into(), now.height.into());
                self.shape.is_none_or(|shape| (shape.size, shape.border) != (size, now.border_width))
            }
            Event::MapNotify(now) => concerns(&now.window),
            Event::UnmapNotify(now) => concerns(&now.window),
            Event::ReparentNotify(now) if concerns(&now.window) => {
                self.moved = true;
                true
            }
            Event::DestroyNotify(now) => now.window == self.id,
            _ => false,
        }
    }

    /// Takes hold of the picture behind the window as it is now; `None` while it is hidden, and the last one stands.
    pub(super) fn renew(&mut self, connection: &RustConnection, root: xproto::Window) -> Result<Option<View>, Trouble> {
        if std::mem::take(&mut self.moved) {
            self.climb(connection, root)?;
        }
        let Some(attributes) = granted(connection.get_window_attributes(self.id)?.reply())? else {
            return Err(self.closed().into());
        };
        if attributes.map_state != MapState::VIEWABLE {
            if !std::mem::replace(&mut self.hidden, true) && self.shape.is_some() {
                info!("the window {} is hidden; its last picture stands until it is shown again", self.title);
            }
            return Ok(None);
        }
        let pixmap = connection.generate_id().map_err(Trouble::from)?;
        let named = connection.composite_name_window_pixmap(self.id, pixmap)?;
        let (drawn, outer) = (connection.get_geometry(pixmap)?, connection.get_geometry(self.id)?);
        let (named, drawn, outer) = (granted(named.check())?, granted(drawn.reply())?, granted(outer.reply())?);
        let Some(outer) = outer else { return Err(self.closed().into()) };
        // Refused where it was hidden just now.
        let (Some(()), Some(drawn)) = (named, drawn) else { return Ok(None) };
        if let Some(last) = self.shape.take() {
            connection.free_pixmap(last.pixmap)?;
        }
        if std::mem::take(&mut self.hidden) {
            info!("the window {} is shown again", self.title);
        }
        let border = outer.border_width;
        let inner = |outer: u16| u32::from(outer).saturating_sub(2 * u32::from(border)).max(1);
        let size = Size::new(inner(drawn.width), inner(drawn.height));
        self.shape = Some(Shape { pixmap, size, border });
        Ok(Some(View::of_window(self.id, pixmap, border, size)))
    }

    /// Learns what it is in, and has the server tell of all of that: it is hidden with any of them.
    fn climb(&mut self, connection: &RustConnection, root: xproto::Window) -> Result<(), ReplyError> {
        self.ancestors = windows::ancestors(connection, root, self.id)?;
        let mask = xproto::ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
        let all = self.ancestors.iter().chain([&self.id]);
        let asked: Result<Vec<_>, ConnectionError> =
            all.map(|window| connection.change_window_attributes(*window, &mask)).collect();
        asked?.into_iter().try_for_each(|cookie| granted(cookie.check()).map(drop)).map_err(ReplyError::from)
    }

    fn closed(&self) -> Miss {
        Miss::absent(format!("the window {} was closed", self.title), "open it again")
    }
}
