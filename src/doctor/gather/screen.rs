//! Facts of displays and cameras.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::alive::Watch;
use crate::doctor::screen::{Camera, Captured, DisplayFacts, PortalFacts};
use crate::frame::{Frame, Picture};
use crate::source::x11::probe::probe;
use crate::source::{CaptureBackend, Layer, Source, SourceOptions, SourceSpec};

/// How long the first picture may take.
const PICTURE: Duration = Duration::from_secs(4);

/// How long the portal may take to say what it can do; it may have to be started.
#[cfg(feature = "wayland")]
const PORTAL: Duration = Duration::from_secs(4);

/// What the environment says of displays, and what the server there is.
pub(in crate::doctor) fn display(asked: SourceSpec, by: CaptureBackend) -> DisplayFacts {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let display = variable("DISPLAY");
    let is_wayland =
        variable("WAYLAND_DISPLAY").is_some() || variable("XDG_SESSION_TYPE").as_deref() == Some("wayland");
    let probe = display.as_deref().map(|name| probe(name).map_err(|error| error.to_string()));
    DisplayFacts {
        asked,
        display,
        is_wayland,
        portal: portal(by),
        sockets: sockets(Path::new("/tmp/.X11-unix")),
        probe,
    }
}

/// What the portal says, where screens are captured by it; it is asked for no screen, since that may open a dialog.
#[cfg(feature = "wayland")]
fn portal(by: CaptureBackend) -> Option<PortalFacts> {
    use crate::source::portal;

    let is_asked = match by {
        CaptureBackend::Portal => true,
        CaptureBackend::Auto => portal::is_session(),
        CaptureBackend::X11 | CaptureBackend::Scrap => false,
    };
    is_asked.then(|| PortalFacts { found: portal::look(PORTAL), has_pipewire: has_pipewire() })
}

#[cfg(not(feature = "wayland"))]
fn portal(_by: CaptureBackend) -> Option<PortalFacts> {
    None
}

/// Whether PipeWire listens where its clients look for it.
#[cfg(feature = "wayland")]
fn has_pipewire() -> bool {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let directory = variable("PIPEWIRE_RUNTIME_DIR").or_else(|| variable("XDG_RUNTIME_DIR"));
    directory.is_some_and(|directory| UnixStream::connect(Path::new(&directory).join("pipewire-0")).is_ok())
}

/// The displays that listen at the sockets of a directory: `X0` is `:0`.
fn sockets(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix('X')?.parse::<u32>().ok();
    // A server that was killed leaves its socket behind.
    let live = entries.filter(|entry| UnixStream::connect(entry.path()).is_ok());
    let mut numbers: Vec<_> = live.filter_map(|entry| number(&entry.file_name().to_string_lossy())).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| format!(":{number}")).collect()
}

/// What a layer is once it is open, or why it can't be opened; nothing of it is captured.
pub(in crate::doctor) fn open(layer: &Layer, options: &SourceOptions) -> Result<String, String> {
    let (watch, _ended) = Watch::new();
    let source = Source::open(layer, options, Arc::new(|_| ()), &watch);
    source.map(|source| source.describe()).map_err(|error| error.to_string())
}

/// Captures one picture of the display.
pub(in crate::doctor) fn capture(facts: &DisplayFacts, fps: u32) -> Result<Captured, String> {
    let (tell, frames) = mpsc::sync_channel(1);
    let sink = Arc::new(move |frame: Frame| drop(tell.try_send(frame)));
    let options = SourceOptions { fps, pointer: false, ..SourceOptions::default() };
    let (watch, _ended) = Watch::new();
    let source = Source::open_on(facts.display.as_deref(), &SourceSpec::SCREEN.base, &options, sink, &watch);
    let source = source.map_err(|error| error.to_string())?;
    let begun = Instant::now();
    source.set_active(true);
    let within = || format!("no picture came within {} s; look into the X server's log", PICTURE.as_secs());
    let frame = frames.recv_timeout(PICTURE).map_err(|_| within())?;
    Ok(Captured { size: frame.picture.size(), took: begun.elapsed(), is_black: is_black(&frame.picture) })
}

fn is_black(picture: &Picture) -> bool {
    let row = picture.size().width as usize * 4;
    let rows = picture.bytes().chunks(picture.stride()).take(picture.size().height as usize);
    // The fourth byte of a pixel is nothing.
    let is_dark = |pixel: &[u8]| pixel[..3].iter().all(|part| *part == 0);
    rows.into_iter().all(|bytes| bytes[..row.min(bytes.len())].chunks_exact(4).all(is_dark))
}

/// The cameras, and what each would show.
#[cfg(feature = "camera")]
pub(in crate::doctor) fn cameras() -> Vec<Camera> {
    let camera =
        |(path, name, shows): (std::path::PathBuf, _, _)| Camera { path: path.display().to_string(), name, shows };
    crate::source::v4l2::check().into_iter().map(camera).collect()
}

/// None: this program was built without them.
#[cfg(not(feature = "camera"))]
pub(in crate::doctor) fn cameras() -> Vec<Camera> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::frame::Size;

    #[test]
    fn black_is_black_whatever_is_beside_the_picture() {
        let picture = |pixels: Vec<u8>| Picture::new(Arc::new(pixels), Size::new(1, 2), 8).unwrap();
        assert!(is_black(&picture(vec![0, 0, 0, 255, 9, 9, 9, 9, 0, 0, 0, 0, 9, 9, 9, 9])));
        assert!(!is_black(&picture(vec![0, 0, 0, 255, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])));
    }

    #[test]
    fn sockets_are_displays_by_their_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let listen = |name| UnixListener::bind(directory.path().join(name)).unwrap();
        let _live = ["X10", "X2", "X0", "Xa", "lock"].map(listen);
        drop(listen("X3"));
        assert_eq!(sockets(directory.path()), [":0", ":2", ":10"]);
        assert!(sockets(&directory.path().join("none")).is_empty());
    }
}
