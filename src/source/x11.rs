//! The X11 screen: MIT-SHM with fd passing, DAMAGE, XFixes and XInput2 (extensions' specs: xorgproto).
//!
//! Owns the thread `capture-x11`: it sleeps until the server or the handle has something to say, and outlives the
//! server. What is captured and when is for `capture` to decide; `screen` has the requests.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};
use x11rb::errors::ReplyOrIdError;

use super::list::Found;
use super::{FrameSink, Opened, Region, Source, SourceError, SourceOptions, WindowSpec};
use crate::alive::Watch;
use crate::orders::{Health, Mode, Orders};

mod capture;
mod pointer;
pub mod probe;
mod screen;
mod segment;
#[cfg(test)]
mod tests;

use capture::{Capture, Sleep};
use screen::Screen;

/// How long to wait before trying again to reach a server that is gone.
const RETRY: Duration = Duration::from_secs(1);

/// What is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All of the screen, or one monitor.
    Screen(Option<String>),
    /// One window, wherever it is.
    Window(WindowSpec),
    /// A part of the screen.
    Region(Region),
}

/// What the server of `display` has to show; nothing where it can't be reached.
pub(super) fn list(display: Option<&str>) -> Vec<Found> {
    let display = display.filter(|name| !name.is_empty());
    let probe = display.and_then(|name| Some((name, probe::probe(name).ok()?)));
    probe
        .map(|(name, probe)| Found::new("screen", format!("all of display {name}, {}", probe.size)))
        .into_iter()
        .collect()
}

/// Opens the screen of `display` (as in `$DISPLAY`), or a part of it.
///
/// # Errors
/// [`SourceError::Unavailable`] with what was found and what to do.
pub(super) fn open(
    display: Option<&str>,
    target: Target,
    options: &SourceOptions,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    let Some(name) = display.filter(|name| !name.is_empty()).map(str::to_owned) else {
        let advice = "set it to a running X server (DISPLAY=:0), or use the source pattern";
        return Err(SourceError::unavailable("screen", "DISPLAY is not set", advice));
    };
    if target != Target::Screen(None) {
        return Err(SourceError::unavailable("screen", "not yet", "use the whole screen"));
    }
    let (options, capture_options) = (options.clone(), options.clone());
    let open = move || {
        let screen = Screen::connect(&name)?;
        if screen.is_xwayland() {
            warn!("display {name} is Xwayland and shows X11 windows only; an Xorg session would show all");
        }
        let description = format!("screen {name} {}", screen.size());
        Ok((Opened::silent(screen.size(), description), (name, Capture::new(screen, capture_options))))
    };
    Source::spawn("screen", "capture-x11", watch, open, move |(name, capture), orders| {
        run(&name, capture, &options, orders, &sink);
    })
}

/// Serves the display until the source is stopped, over as many servers as it takes.
fn run(name: &str, mut capture: Capture, options: &SourceOptions, orders: &Orders, sink: &FrameSink) {
    loop {
        match serve(&mut capture, orders, sink) {
            Ok(()) => return,
            Err(error) => {
                warn!("display {name} is lost ({error}); trying to reach it every second");
                orders.tell(Health::Lost { why: error.to_string() });
            }
        }
        drop(capture);
        let ControlFlow::Continue(screen) = reconnect(name, orders) else { return };
        info!("display {name} is back: {}", screen.size());
        orders.tell(Health::Well);
        capture = Capture::new(screen, options.clone());
    }
}

/// Captures until the source is stopped (`Ok`) or the server is lost (`Err`).
fn serve(capture: &mut Capture, orders: &Orders, sink: &FrameSink) -> Result<(), ReplyOrIdError> {
    loop {
        let wanted = orders.take();
        if wanted.mode == Mode::Stopped {
            return Ok(());
        }
        capture.set_active(wanted.mode == Mode::Active, Instant::now())?;
        if wanted.refresh {
            capture.refresh(Instant::now());
        }
        capture.drain(Instant::now())?;
        let (input, deadline) = match capture.advance(Instant::now(), sink)? {
            Sleep::No => continue,
            Sleep::Until(at) => (None, Some(at)),
            Sleep::UntilInput(at) => (Some(capture.input()?), at),
        };
        if let Err(error) = orders.wait(input, deadline) {
            error!("waiting for the display: {error}");
            return Err(x11rb::errors::ConnectionError::IoError(error).into());
        }
    }
}

/// Tries until the display is there again; breaks off when the source is stopped.
fn reconnect(name: &str, orders: &Orders) -> ControlFlow<(), Screen> {
    let mut due = Instant::now() + RETRY;
    loop {
        if orders.take().mode == Mode::Stopped {
            return ControlFlow::Break(());
        }
        if Instant::now() >= due {
            // A server that takes the connection and says nothing is gone too.
            match orders.waiting(|| Screen::connect(name)) {
                Ok(screen) => return ControlFlow::Continue(screen),
                Err(error) => tracing::debug!("{error}"),
            }
            due = Instant::now() + RETRY;
        }
        if let Err(error) = orders.wait(None, Some(due)) {
            error!("waiting for the display: {error}");
            return ControlFlow::Break(());
        }
    }
}
