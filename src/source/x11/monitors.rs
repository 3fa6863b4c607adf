//! Monitors: those of RANDR 1.5, or where the server is older, the outputs that show something (randrproto).

use std::fmt;

use x11rb::connection::RequestConnection as _;
use x11rb::errors::ReplyError;
use x11rb::protocol::randr::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, ConnectionExt as _};
use x11rb::rust_connection::RustConnection;

use super::trouble::Miss;
use crate::frame::{Rect, Size};

/// A monitor of a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Monitor {
    /// What the server calls it: `HDMI-1`.
    pub(in crate::source) name: String,
    /// Column of its left edge on the screen.
    pub(in crate::source) x: i32,
    /// Row of its top edge on the screen.
    pub(in crate::source) y: i32,
    /// Its extent.
    pub(in crate::source) size: Size,
    /// Whether the desktop's panel is there.
    pub(in crate::source) primary: bool,
}

/// The version of RANDR from which on there are monitors.
const HAS_MONITORS: (u32, u32) = (1, 5);

impl Monitor {
    /// The part of it that is on a screen of this size; `None` where nothing is.
    pub(in crate::source) fn on(&self, screen: Size) -> Option<Rect> {
        let span = |from: i32, length: u32, most: u32| {
            let (from, most) = (i64::from(from), i64::from(most));
            let (start, end) = (from.clamp(0, most), (from + i64::from(length)).clamp(0, most));
            (start as u32, (end - start) as u32)
        };
        let (x, width) = span(self.x, self.size.width, screen.width);
        let (y, height) = span(self.y, self.size.height, screen.height);
        Some(Rect { x, y, width, height }).filter(|rect| !rect.is_empty())
    }
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:+}{:+}", self.size, self.x, self.y)
    }
}

/// The version of RANDR that the server and we speak; `None` where it has none.
pub(in crate::source) fn version(connection: &RustConnection) -> Result<Option<(u32, u32)>, ReplyError> {
    if connection.extension_information(randr::X11_EXTENSION_NAME)?.is_none() {
        return Ok(None);
    }
    let version = connection.randr_query_version(HAS_MONITORS.0, HAS_MONITORS.1)?.reply()?;
    Ok(Some((version.major_version, version.minor_version)))
}

/// All monitors that show a part of the screen, in the server's order, as a server of this version tells them.
pub(in crate::source) fn all(
    connection: &RustConnection,
    root: xproto::Window,
    version: (u32, u32),
) -> Result<Vec<Monitor>, ReplyError> {
    if version < HAS_MONITORS {
        return outputs(connection, root, version);
    }
    let told = connection.randr_get_monitors(root, true)?.reply()?.monitors;
    let names: Vec<_> = told.iter().map(|monitor| connection.get_atom_name(monitor.name)).collect::<Result<_, _>>()?;
    let mut monitors = Vec::new();
    for (monitor, name) in told.into_iter().zip(names) {
        monitors.push(Monitor {
            name: String::from_utf8_lossy(&name.reply()?.name).into_owned(),
            x: monitor.x.into(),
            y: monitor.y.into(),
            size: Size::new(monitor.width.into(), monitor.height.into()),
            primary: monitor.primary,
        });
    }
    Ok(monitors)
}

/// The outputs that show something.
fn outputs(connection: &RustConnection, root: xproto::Window, version: (u32, u32)) -> Result<Vec<Monitor>, ReplyError> {
    let mut monitors = Vec::new();
    if version < (1, 2) {
        return Ok(monitors);
    }
    // The later request has the server not look at the cables first, which takes a while and may blank the screen.
    let (outputs, primary, config) = if version >= (1, 3) {
        let told = connection.randr_get_screen_resources_current(root)?.reply()?;
        let primary = connection.randr_get_output_primary(root)?.reply()?.output;
        (told.outputs, primary, told.config_timestamp)
    } else {
        let told = connection.randr_get_screen_resources(root)?.reply()?;
        (told.outputs, x11rb::NONE, told.config_timestamp)
    };
    for output in outputs {
        let info = connection.randr_get_output_info(output, config)?.reply()?;
        if info.crtc == x11rb::NONE {
            continue;
        }
        let place = connection.randr_get_crtc_info(info.crtc, config)?.reply()?;
        monitors.push(Monitor {
            name: String::from_utf8_lossy(&info.name).into_owned(),
            x: place.x.into(),
            y: place.y.into(),
            size: Size::new(place.width.into(), place.height.into()),
            primary: output == primary,
        });
    }
    Ok(monitors)
}

/// The monitor of this name, in capitals or not, or of this number, counted from 1 in the server's order.
///
/// # Errors
/// [`Miss`] with those that are there.
pub(in crate::source) fn find<'a>(monitors: &'a [Monitor], asked: &str) -> Result<&'a Monitor, Miss> {
    let number = asked.parse::<usize>().ok();
    let found = monitors
        .iter()
        .find(|monitor| monitor.name == asked)
        .or_else(|| monitors.iter().find(|monitor| monitor.name.eq_ignore_ascii_case(asked)))
        .or_else(|| monitors.get(number?.checked_sub(1)?));
    found.ok_or_else(|| missing(monitors, asked))
}

/// Says that a monitor is not among these.
pub(in crate::source) fn missing(monitors: &[Monitor], asked: &str) -> Miss {
    let what = match asked.parse::<usize>() {
        Ok(number) => format!("there is no monitor {number}"),
        Err(_) => format!("the monitor {} is not connected", crate::config::one_line(asked)),
    };
    let known: Vec<_> = (1..)
        .zip(monitors)
        .map(|(number, monitor)| format!("{number} or {} ({monitor}), ", crate::config::one_line(&monitor.name)))
        .collect();
    Miss::absent(what, format!("write screen:NAME with {}or screen for all of it", known.concat()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn monitor(name: &str, x: i32, y: i32) -> Monitor {
        Monitor { name: name.to_owned(), x, y, size: Size::new(800, 600), primary: x == 0 }
    }

    #[test]
    fn names_come_before_numbers_and_misses_list_what_is_there() {
        let monitors = [monitor("eDP-1", 0, 0), monitor("HDMI-1", 800, 0), monitor("1", 1600, 0)];
        for (asked, x) in [("eDP-1", 0), ("hdmi-1", 800), ("2", 800), ("1", 1600), ("3", 1600)] {
            assert_eq!(find(&monitors, asked).unwrap().x, x, "{asked}");
        }
        let miss = find(&monitors[..2], "DP-3").unwrap_err();
        assert_eq!(miss.found, "the monitor DP-3 is not connected");
        let known = "1 or eDP-1 (800x600+0+0), 2 or HDMI-1 (800x600+800+0)";
        assert_eq!(miss.advice, format!("write screen:NAME with {known}, or screen for all of it"));
        for asked in ["0", "4"] {
            assert_eq!(find(&monitors, asked).unwrap_err().found, format!("there is no monitor {asked}"));
        }
    }

    #[test]
    fn a_monitor_is_cut_to_the_screen() {
        let screen = Size::new(1000, 700);
        assert_eq!(monitor("a", 800, 200).on(screen), Some(Rect { x: 800, y: 200, width: 200, height: 500 }));
        assert_eq!(monitor("a", -300, -100).on(screen), Some(Rect { x: 0, y: 0, width: 500, height: 500 }));
        assert_eq!(monitor("a", 1000, 0).on(screen), None);
        assert_eq!(monitor("a", -800, 0).on(screen), None);
    }
}
