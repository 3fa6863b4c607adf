//! X11: a screen, a monitor or a part of it, or a window. MIT-SHM with fd passing, DAMAGE, XFixes, XInput2, RANDR and
//! Composite (extensions' specs: xorgproto).
//!
//! Owns the thread `capture-x11`: it sleeps until the server or the handle has something to say, and outlives the
//! server and the target. What is captured and when is for `capture` to decide; `screen` has the requests.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::{Caption, FrameSink, Kind, Opened, Region, Source, SourceError, SourceOptions, WindowSpec};
use crate::alive::Watch;
use crate::frame::Size;
use crate::orders::{Health, Mode, Orders};

mod capture;
mod list;
pub(super) mod monitors;
mod pointer;
pub mod probe;
pub(super) mod screen;
mod segment;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
pub(super) mod trouble;
mod windows;

use capture::{Capture, Sleep};
pub(crate) use list::list_of;
use screen::Screen;
use trouble::{Miss, Trouble};

/// How long to wait before trying again to reach what is gone.
const RETRY: Duration = Duration::from_secs(1);

/// What is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All of the screen, or one monitor: by its name, or by its number as they are listed, from 1 on.
    Screen(Option<String>),
    /// One window, wherever it is.
    Window(WindowSpec),
    /// A part of the screen.
    Region(Region),
}

impl Target {
    /// The target as it is written.
    fn spec(&self) -> String {
        match self.clone() {
            Self::Screen(name) => Kind::Screen(name),
            Self::Window(window) => Kind::Window(window),
            Self::Region(region) => Kind::Region(region),
        }
        .to_string()
    }

    /// Whether it can be found again once it is gone: numbers of windows are given to others.
    fn can_come_back(&self) -> bool {
        !matches!(self, Self::Window(WindowSpec::Id(_)))
    }
}

/// One target of one display.
struct Place {
    display: String,
    target: Target,
    spec: String,
}

/// Why a target can't be had.
enum Unreached {
    /// The display is not there, or won't do.
    Display(SourceError),
    /// The target is not there.
    Target(Miss),
}

impl Place {
    /// What is shown is called so; `what` is what was found.
    fn caption(&self, what: &str, size: Size) -> Caption {
        let name = match self.target {
            Target::Screen(None) => format!("screen {}", self.display),
            _ => format!("{what} of {}", self.display),
        };
        Caption::new(name, size, "")
    }

    /// Connects, and finds the target; gives what it is, for people.
    fn reach(&self) -> Result<(Screen, String), Unreached> {
        let mut screen = Screen::connect(&self.display, &self.spec).map_err(Unreached::Display)?;
        match screen.aim(&self.target) {
            Ok(what) => Ok((screen, what)),
            Err(Trouble::Target(miss)) => Err(Unreached::Target(miss)),
            Err(Trouble::Display(error)) => {
                Err(Unreached::Display(screen::connect::disobedient_display(&self.spec, &self.display, &error)))
            }
        }
    }
}

/// Opens the screen of `display` (as in `$DISPLAY`), a part of it, or a window there.
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
    let spec = target.spec();
    let Some(display) = display.filter(|name| !name.is_empty()).map(str::to_owned) else {
        let advice = "set it to a running X server (DISPLAY=:0), or use the source pattern";
        return Err(SourceError::unavailable(spec, "DISPLAY is not set", advice));
    };
    let mut place = Place { display, target, spec: spec.clone() };
    let options = options.clone();
    let open = move || {
        let (screen, what) = place.reach().map_err(|error| match error {
            Unreached::Display(error) => error,
            Unreached::Target(miss) => SourceError::unavailable(&place.spec, miss.found, miss.advice),
        })?;
        if screen.is_xwayland() && !matches!(place.target, Target::Window(_)) {
            let name = &place.display;
            warn!("display {name} is Xwayland and shows X11 windows only; an Xorg session would show all");
        }
        // A number is that of another monitor when one is unplugged.
        if let Some(name) = screen.monitor() {
            place.target = Target::Screen(Some(name.to_owned()));
        }
        let caption = place.caption(&what, screen.size());
        let opened = Opened::silent(screen.size(), caption.text());
        Ok((opened, (place, Capture::new(screen, options.clone()), caption, options)))
    };
    Source::spawn(&spec, "capture-x11", watch, open, move |(place, capture, caption, options), orders| {
        run(&place, &options, capture, caption, orders, &sink);
    })
}

/// Serves the target until the source is stopped, over as many servers as it takes.
fn run(
    place: &Place,
    options: &SourceOptions,
    mut capture: Capture,
    mut caption: Caption,
    orders: &Orders,
    sink: &FrameSink,
) {
    let Place { display: name, spec, target } = place;
    loop {
        let Err(trouble) = serve(&mut capture, &mut caption, orders, sink) else { return };
        let trouble = capture.explain(trouble);
        drop(capture);
        let again =
            if target.can_come_back() { "trying to reach it every second" } else { "its number won't come back" };
        let why = match &trouble {
            Trouble::Display(error) => {
                warn!("display {name} is lost ({error}); {again}");
                error.to_string()
            }
            Trouble::Target(miss) => {
                warn!("source {spec} is lost: {}; {again}", miss.found);
                miss.found.clone()
            }
        };
        orders.tell(Health::Lost { why: why.clone() });
        let was_closed = matches!(&trouble, Trouble::Target(miss) if miss.absent);
        let ControlFlow::Continue((screen, what)) = reach_again(place, why, was_closed, orders) else { return };
        match &trouble {
            Trouble::Display(_) => info!("display {name} is back: {what} {}", screen.size()),
            Trouble::Target(_) => info!("source {spec} is back: {what} {}", screen.size()),
        }
        caption = place.caption(&what, screen.size());
        orders.describe(caption.text());
        orders.tell(Health::Well);
        capture = Capture::new(screen, options.clone());
    }
}

/// Captures until the source is stopped (`Ok`), or the server or the target is lost (`Err`).
fn serve(capture: &mut Capture, caption: &mut Caption, orders: &Orders, sink: &FrameSink) -> Result<(), Trouble> {
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
        caption.follow(capture.size(), orders);
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

/// Tries until the target is there again, which is lost because of `why`; breaks off when the source is stopped.
///
/// While it `was_closed`, that there is none is no news.
fn reach_again(
    place: &Place,
    mut why: String,
    mut was_closed: bool,
    orders: &Orders,
) -> ControlFlow<(), (Screen, String)> {
    let may_come = place.target.can_come_back();
    let mut due = Instant::now() + RETRY;
    loop {
        if orders.take().mode == Mode::Stopped {
            return ControlFlow::Break(());
        }
        if may_come && Instant::now() >= due {
            // A server that takes the connection and says nothing is gone too.
            match orders.waiting(|| place.reach()) {
                Ok(reached) => return ControlFlow::Continue(reached),
                Err(Unreached::Display(error)) => debug!("{error}"),
                Err(Unreached::Target(miss)) => {
                    was_closed &= miss.absent;
                    if !was_closed && miss.found != why {
                        warn!("source {}: {}", place.spec, miss.found);
                        why = miss.found;
                        orders.tell(Health::Lost { why: why.clone() });
                    }
                }
            }
            due = Instant::now() + RETRY;
        }
        if let Err(error) = orders.wait(None, may_come.then_some(due)) {
            error!("waiting for the display: {error}");
            return ControlFlow::Break(());
        }
    }
}
