//! What a display has to show, for `laterna sources`.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use x11rb::connection::Connection as _;
use x11rb::errors::ReplyError;
use x11rb::protocol::xproto::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use super::{monitors, windows};
use crate::config::one_line;
use crate::frame::Size;
use crate::source::list::Found;
use crate::source::{Kind, WindowSpec};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_millis(900);

/// The screen of `display`, its monitors, and the windows that are there.
///
/// # Errors
/// Why nothing of it can be listed.
pub(crate) fn list_of(display: Option<&str>) -> Result<Vec<Found>, String> {
    let Some(name) = display.filter(|name| !name.is_empty()).map(str::to_owned) else {
        return Err("DISPLAY is not set".to_owned());
    };
    // A server that takes the connection may still say nothing: whoever lists is not held up by it.
    let (sender, found) = sync_channel(1);
    let silent = format!("display {name} does not answer");
    let listing = move || drop(sender.send(ask(&name).map_err(|error| format!("display {name}: {error}"))));
    let spawned = std::thread::Builder::new().name("list-x11".to_owned()).spawn(listing);
    spawned.map_err(|error| format!("no thread to ask the display ({error})"))?;
    found.recv_timeout(PATIENCE).map_err(|_| silent)?
}

fn ask(display: &str) -> Result<Vec<Found>, Box<dyn std::error::Error + Send + Sync>> {
    let (connection, number) = RustConnection::connect(Some(display))?;
    let Some(screen) = connection.setup().roots.get(number) else { return Ok(Vec::new()) };
    let root = screen.root;
    let geometry = connection.get_geometry(root)?.reply()?;
    let size = Size::new(geometry.width.into(), geometry.height.into());
    let mut found = vec![entry(&Kind::Screen(None), format!("all of the screen {display}, {size}"))];
    found.extend(list_monitors(&connection, root)?);
    found.extend(list_windows(&connection, root)?);
    Ok(found)
}

fn list_monitors(connection: &RustConnection, root: u32) -> Result<Vec<Found>, ReplyError> {
    let Some(version) = monitors::version(connection)? else { return Ok(Vec::new()) };
    let listed = (1..).zip(monitors::all(connection, root, version)?);
    let describe = |(number, monitor): (u32, monitors::Monitor)| {
        let primary = if monitor.primary { ", the primary one" } else { "" };
        entry(&Kind::Screen(Some(monitor.name.clone())), format!("monitor {number}, {monitor}{primary}"))
    };
    Ok(listed.map(describe).collect())
}

fn list_windows(connection: &RustConnection, root: u32) -> Result<Vec<Found>, ReplyError> {
    let describe = |window: windows::Candidate| {
        let class = if window.class.is_empty() { String::new() } else { format!(" of {}", one_line(&window.class)) };
        let hidden = if window.shown { "" } else { ", not on the screen now" };
        let what = format!("window {}{class}, {}{hidden}", windows::quoted(&window.title), window.size);
        entry(&Kind::Window(WindowSpec::Id(window.id)), what)
    };
    Ok(windows::all(connection, root)?.into_iter().map(describe).collect())
}

fn entry(kind: &Kind, what: String) -> Found {
    Found { spec: kind.to_string(), what, details: Vec::new() }
}
