//! Sources: where pictures come from. Each backend runs in a thread of its own and hands frames to a [`FrameSink`].
//!
//! Owns the handle by which one layer is steered, and the choice of the backend. It never looks at pixels and never decides who watches.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::alive::Watch;
use crate::audio::feed::Feed;
use crate::frame::{Frame, Size};
use crate::orders::{Health, OPENING, OrderedThread, Orders, SpawnError};

pub mod card;
#[cfg(feature = "files")]
mod file;
#[cfg(feature = "files")]
mod image;
pub mod list;
mod open;
pub mod pattern;
mod pool;
#[cfg(feature = "wayland")]
pub(crate) mod portal;
#[cfg(feature = "scrap")]
mod scrap;
mod spec;
pub mod stage;
mod still;
#[cfg(feature = "camera")]
pub(crate) mod v4l2;
pub mod x11;

pub use spec::{GRAMMAR, Kind, Layer, Overlay, Region, SourceSpec, SpecError, WindowSpec};

/// Takes each captured frame; must not block.
pub type FrameSink = Arc<dyn Fn(Frame) + Send + Sync>;

/// By which means a screen is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureBackend {
    /// The portal in a Wayland session, else X11.
    Auto,
    /// X11 (x11rb).
    X11,
    /// The ScreenCast portal and PipeWire.
    Portal,
    /// The portable one.
    Scrap,
}

/// How a source is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOptions {
    /// At most so many frames a second.
    pub fps: u32,
    /// Whether the pointer is shown.
    pub pointer: bool,
    /// The size of a source that can choose one (cameras, the pattern); screens have their own.
    pub size: Option<Size>,
    /// How screens are captured.
    pub capture: CaptureBackend,
    /// Where what is to outlast the daemon is kept (the portal's permission); `None` is nowhere.
    pub state: Option<PathBuf>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self { fps: 30, pointer: true, size: None, capture: CaptureBackend::Auto, state: None }
    }
}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not there, or can't be had.
    #[error("source {spec}: {found}; {advice}")]
    Unavailable {
        /// The source asked for.
        spec: String,
        /// What was found.
        found: String,
        /// What to do.
        advice: String,
    },
    /// Neither it nor what is shown in its place.
    #[error("{asked}; nor can the fallback be shown: {fallback}")]
    Both {
        /// What is wrong with the source.
        asked: Box<Self>,
        /// What is wrong with the fallback.
        fallback: Box<Self>,
    },
    /// The operating system refuses something.
    #[error("source {spec}: {what}: {error}")]
    System {
        /// The source asked for.
        spec: String,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

impl SourceError {
    /// What was asked for can't be had.
    pub(crate) fn unavailable(spec: impl ToString, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Unavailable { spec: spec.to_string(), found: found.into(), advice: advice.into() }
    }
}

/// An open source of one layer: idle until it is made active; closed when dropped.
#[derive(Debug)]
pub struct Source {
    thread: OrderedThread<Opened>,
}

/// What a backend tells of itself once it is open.
#[derive(Debug)]
struct Opened {
    size: Size,
    /// For people: `screen :0 1920x1080`.
    description: String,
    /// Its own sound, where it has one.
    sound: Option<Arc<Feed>>,
}

impl Opened {
    fn silent(size: Size, description: String) -> Self {
        Self { size, description, sound: None }
    }
}

/// What a source is called whose pictures change their size.
#[derive(Debug)]
struct Caption {
    name: String,
    size: Size,
    how: &'static str,
}

impl Caption {
    /// A source that is called `name`; `how` follows the size.
    fn new(name: String, size: Size, how: &'static str) -> Self {
        Self { name, size, how }
    }

    fn text(&self) -> String {
        format!("{} {}{}", self.name, self.size, self.how)
    }

    /// Tells where the size is another.
    fn follow(&mut self, size: Size, orders: &Orders) {
        if std::mem::replace(&mut self.size, size) != size {
            orders.describe(self.text());
        }
    }
}

impl Source {
    /// Opens what `layer` names; `sink` gets its frames while it is active, from the source's own thread.
    ///
    /// `watch` hears of it where that thread ends before the source is dropped.
    ///
    /// # Errors
    /// [`SourceError`] where a named source can't be opened; `auto` takes the next best and says so in the log.
    pub fn open(layer: &Layer, options: &SourceOptions, sink: FrameSink, watch: &Watch) -> Result<Self, SourceError> {
        let display = std::env::var("DISPLAY").ok();
        Self::open_on(display.as_deref(), layer, options, sink, watch)
    }

    /// Opens what `layer` names as [`Source::open`] does, with `display` in the place of `$DISPLAY`.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn open_on(
        display: Option<&str>,
        layer: &Layer,
        options: &SourceOptions,
        sink: FrameSink,
        watch: &Watch,
    ) -> Result<Self, SourceError> {
        let fps = layer.fps.map_or(options.fps, |fps| fps.min(options.fps));
        let options = &SourceOptions { fps, ..options.clone() };
        open::open(display, &layer.kind, layer.size, options, sink, watch)
    }

    /// The source's own size when it was opened.
    pub fn size(&self) -> Size {
        self.thread.opened().size
    }

    /// What it is at the moment, for people: `screen :0 1920x1080`.
    pub fn describe(&self) -> String {
        self.thread.description().unwrap_or_else(|| self.thread.opened().description.clone())
    }

    /// The sound that comes with its pictures, where some does.
    pub fn sound(&self) -> Option<Arc<Feed>> {
        self.thread.opened().sound.clone()
    }

    /// Whether its frames can be had, now and from now on.
    fn health(&self) -> watch::Receiver<Health> {
        self.thread.health()
    }

    /// Has somebody hear whether its frames can be had, from now on, on the source's thread; to be called once.
    fn follow(&self, hear: Box<dyn Fn(&Health) + Send + Sync>) {
        self.thread.follow(hear);
    }

    /// Lets frames flow, the first one whole and at once, or stops all work.
    pub fn set_active(&self, active: bool) {
        self.thread.set_active(active);
    }

    /// Asks for one frame with everything damaged, at once; nothing happens while the source is not active.
    pub fn refresh(&self) {
        self.thread.ask_refresh();
    }

    /// Opens a backend in a thread called `name`, where it then runs until it is stopped; waits until it is open.
    fn spawn<B>(
        spec: &str,
        name: &str,
        watch: &Watch,
        open: impl FnOnce() -> Result<(Opened, B), SourceError> + Send + 'static,
        run: impl FnOnce(B, &Orders) + Send + 'static,
    ) -> Result<Self, SourceError> {
        Self::spawn_within(OPENING, spec, name, watch, |_| open(), run)
    }

    /// As [`Self::spawn`], where opening may take longer, and may look at the orders meanwhile.
    fn spawn_within<B>(
        opening: Duration,
        spec: &str,
        name: &str,
        watch: &Watch,
        open: impl FnOnce(&Orders) -> Result<(Opened, B), SourceError> + Send + 'static,
        run: impl FnOnce(B, &Orders) + Send + 'static,
    ) -> Result<Self, SourceError> {
        let thread = OrderedThread::spawn_within(opening, name, watch, watch.beat(name), open, run).map_err(
            |error| match error {
                SpawnError::Open(error) => error,
                SpawnError::System(what, error) => SourceError::System { spec: spec.to_owned(), what, error },
            },
        )?;
        Ok(Self { thread })
    }
}

#[cfg(test)]
mod tests;
