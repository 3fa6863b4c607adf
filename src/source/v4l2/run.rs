//! The life of a camera: closed while nobody watches, streaming while somebody does, lost and looked for.
//!
//! Owns the loop of the thread `capture-camera`, and the pictures that it puts. It never blocks but in `orders`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, error, info, warn};

use super::convert::{Converter, Damaged};
use super::device::Taken;
use super::machine::{Camera, Machine, Missing, Stream, first};
use super::mode::Wish;
use super::pace::{Pace, captured};
use super::refusal::Refusal;
use crate::frame::{Damage, Frame, Picture, Size};
use crate::orders::{Health, Mode, Orders};
use crate::source::FrameSink;
use crate::source::pool::{Pick, Pool};
use crate::trouble::{Passed, Trouble};

/// How long to wait before a camera that is lost is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a camera may give no whole picture before it is started anew.
const SILENCE: Duration = Duration::from_secs(5);

/// A camera that is to be shown.
pub(super) struct Watched<M> {
    pub(super) machine: M,
    /// The device that was asked for.
    pub(super) device: Option<PathBuf>,
    pub(super) wish: Wish,
    /// The camera as it was found last.
    pub(super) camera: Camera,
}

enum State<S> {
    /// Nobody watches.
    Closed,
    /// Pictures come.
    Streaming(Box<Showing<S>>),
    /// It is gone, and tried again at this time.
    Lost { due: Instant },
}

/// Shows the camera until the source is stopped, plugged in as often as it is.
pub(super) fn run<M: Machine>(mut watched: Watched<M>, orders: &Orders, sink: &FrameSink) {
    let mut state = State::Closed;
    // Why, as it was told last.
    let mut lost: Option<String> = None;
    loop {
        let (wanted, now) = (orders.take(), Instant::now());
        let is_active = wanted.mode == Mode::Active;
        if wanted.mode == Mode::Stopped {
            orders.waiting(|| drop(state));
            return;
        }
        state = match state {
            State::Streaming(showing) if !is_active => {
                orders.waiting(|| drop(showing));
                // Where it never came back, it is looked for.
                if lost.is_none() { State::Closed } else { State::Lost { due: now } }
            }
            State::Closed if is_active => watched.start(orders, &mut lost),
            State::Lost { due } if now >= due || (is_active && wanted.refresh) => {
                if is_active {
                    watched.start(orders, &mut lost)
                } else {
                    watched.look(orders, &mut lost)
                }
            }
            other => other,
        };
        if let State::Streaming(showing) = &mut state {
            if wanted.refresh {
                showing.repeat(now, sink);
            }
            match showing.advance(now, sink) {
                Ok(false) => {}
                Ok(true) => watched.found(orders, &mut lost),
                Err(why) => {
                    let why = why.to_string();
                    orders.waiting(|| drop(std::mem::replace(&mut state, State::Closed)));
                    state = watched.lose(why, orders, &mut lost);
                }
            }
        }
        let waited = match &state {
            State::Closed => orders.wait(None, None),
            State::Lost { due } => orders.wait(None, Some(*due)),
            State::Streaming(showing) => orders.wait(Some(showing.stream.input()), showing.poll_timeout()),
        };
        if let Err(error) = waited {
            error!("waiting for the camera: {error}");
            return;
        }
    }
}

impl<M: Machine> Watched<M> {
    /// Whichever of its device and its name was asked for: another camera is not shown in its place.
    fn only(&self) -> Option<&str> {
        self.device.is_none().then_some(self.camera.name.as_str())
    }

    fn start(&mut self, orders: &Orders, lost: &mut Option<String>) -> State<M::Stream> {
        let one = |path: &Path| self.machine.start(path, self.wish, self.only());
        match orders.waiting(|| first(&self.machine, self.device.as_deref(), one)) {
            Ok((camera, stream)) => {
                debug!("{camera} streams");
                self.camera = camera;
                orders.describe(self.camera.to_string());
                State::Streaming(Box::new(Showing::new(&self.camera, self.wish.fps, stream, Instant::now())))
            }
            Err(missing) => {
                let why = self.missed(&missing, lost.as_deref());
                self.lose(why, orders, lost)
            }
        }
    }

    /// Looks whether a lost camera can be had again, while nobody watches.
    fn look(&mut self, orders: &Orders, lost: &mut Option<String>) -> State<M::Stream> {
        let one = |path: &Path| self.machine.look(path, self.wish, self.only());
        match orders.waiting(|| first(&self.machine, self.device.as_deref(), one)) {
            Ok(camera) => {
                self.camera = camera;
                orders.describe(self.camera.to_string());
                self.found(orders, lost);
                State::Closed
            }
            Err(missing) => {
                let why = self.missed(&missing, lost.as_deref());
                self.lose(why, orders, lost)
            }
        }
    }

    /// Says that the camera is there again, where it was lost.
    fn found(&self, orders: &Orders, lost: &mut Option<String>) {
        if lost.take().is_some() {
            info!("the camera is back: {}", self.camera);
            orders.tell(Health::Well);
        }
    }

    fn lose(&self, why: String, orders: &Orders, lost: &mut Option<String>) -> State<M::Stream> {
        if lost.is_none() {
            warn!("{} is lost ({why}); trying it every second", self.camera);
        }
        if lost.as_ref() != Some(&why) {
            orders.tell(Health::Lost { why: why.clone() });
            *lost = Some(why);
        }
        State::Lost { due: Instant::now() + RETRY }
    }

    /// Why the camera can't be had; `before` is what was said of it.
    fn missed(&self, missing: &Missing, before: Option<&str>) -> String {
        match (missing, before) {
            // That it is not back is no news.
            (Missing::All | Missing::One(_, Refusal::Absent), Some(before)) => before.to_owned(),
            (Missing::All | Missing::One(_, Refusal::Absent), None) => "the camera is not plugged in".to_owned(),
            (Missing::One(path, refusal), _) => refusal.found(path),
        }
    }
}

/// Why no pictures come.
#[derive(Debug, thiserror::Error)]
enum Silence {
    /// It is gone.
    #[error("the camera was unplugged")]
    Gone,
    /// The driver says it.
    #[error("the camera has failed: {0}")]
    Failed(io::Error),
    /// It gives none.
    #[error("the camera gives no picture")]
    Nothing,
    /// It gives no whole ones.
    #[error("the camera gives broken pictures: {0}")]
    Damaged(String),
}

impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => Self::Gone,
            _ => Self::Failed(error),
        }
    }
}

/// A camera whose pictures are shown.
struct Showing<S> {
    stream: S,
    size: Size,
    converter: Converter,
    pool: Pool<Vec<u8>>,
    pace: Pace,
    /// The picture shown last, and its time: times never go back.
    last: Option<Picture>,
    latest: Instant,
    /// When the last whole picture came.
    heard: Instant,
    trouble: Trouble,
    /// What was wrong with the pictures since then.
    damaged: Option<String>,
}

impl<S: Stream> Showing<S> {
    fn new(camera: &Camera, fps: u32, stream: S, now: Instant) -> Self {
        let size = camera.layout.size;
        Self {
            stream,
            size,
            converter: Converter::new(camera.layout),
            pool: Pool::new(size.height),
            pace: Pace::new(fps),
            last: None,
            latest: now,
            heard: now,
            trouble: Trouble::default(),
            damaged: None,
        }
    }

    /// When something is to be done though no picture comes.
    fn poll_timeout(&self) -> Option<Instant> {
        let silent = self.heard + SILENCE;
        Some(self.trouble.poll_timeout().map_or(silent, |passed| passed.min(silent)))
    }

    /// Shows the last picture again.
    fn repeat(&mut self, now: Instant, sink: &FrameSink) {
        if let Some(picture) = self.last.clone() {
            self.put(picture, now, sink);
        }
    }

    fn put(&mut self, picture: Picture, captured: Instant, sink: &FrameSink) {
        self.latest = self.latest.max(captured);
        let damage = Damage::whole(self.size);
        sink(Frame::new(picture, damage, self.latest));
    }

    /// Shows the picture that is ready, where one is; whether a whole one came.
    fn advance(&mut self, now: Instant, sink: &FrameSink) -> Result<bool, Silence> {
        if let Some(Passed { lasted, times }) = self.trouble.poll_passed(now) {
            info!(times, lasted_s = lasted.as_secs_f64(), "the camera's pictures are whole again");
        }
        let Some(taken) = self.stream.take()? else {
            return match self.damaged.take_if(|_| now >= self.heard + SILENCE) {
                Some(damaged) => Err(Silence::Damaged(damaged)),
                None if now >= self.heard + SILENCE => Err(Silence::Nothing),
                None => Ok(false),
            };
        };
        let at = captured(taken.stamp, monotonic(), Instant::now());
        let picture = if self.pace.is_due(at) { self.picture(&taken) } else { Ok(None) };
        self.stream.give_back(taken)?;
        match picture {
            Ok(Some(picture)) => {
                self.pace.handle_shown(at);
                self.last = Some(picture.clone());
                self.put(picture, at, sink);
                (self.heard, self.damaged) = (now, None);
                Ok(true)
            }
            Ok(None) => {
                self.heard = now;
                Ok(false)
            }
            Err(damaged) => {
                let damaged = damaged.to_string();
                if self.trouble.handle_failure(now) {
                    warn!("a picture of the camera is left out: {damaged}");
                }
                if now >= self.heard + SILENCE {
                    return Err(Silence::Damaged(damaged));
                }
                self.damaged = Some(damaged);
                Ok(false)
            }
        }
    }

    /// Makes a picture of what the driver gave; `None` while every store has a reader.
    fn picture(&mut self, taken: &Taken) -> Result<Option<Picture>, Damaged> {
        if taken.is_damaged {
            return Err(Damaged::Told);
        }
        self.pool.mark_all();
        let at = match self.pool.pick() {
            Pick::Fresh(at) | Pick::Stale(at) => at,
            Pick::Create => self.pool.insert(vec![0; self.converter.store()]),
            Pick::Busy => {
                debug!("every picture store is being read; this picture is skipped");
                return Ok(None);
            }
        };
        let Some((bgrx, _)) = self.pool.writable(at) else { return Ok(None) };
        self.converter.convert(self.stream.bytes(taken), bgrx)?;
        let stride = self.size.width as usize * 4;
        Ok(self.pool.share(at).and_then(|store| Picture::new(store, self.size, stride)))
    }
}

/// The time by the clock that drivers have.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}
