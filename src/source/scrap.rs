//! The portable way to capture a screen: the crate scrap, whose faults are fenced here.
//!
//! Owns the thread `capture-scrap`, which captures at the frame rate while it is active, compares each picture with
//! the one before, and hands on what has changed; nothing where nothing has. It has no pointer. While it is idle nothing
//! is captured, and the memory that the server writes to is given back. Tried on X11 alone; what scrap does on other
//! systems is behind `desk`.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::pool::{Pick, Pool};
use super::{Caption, FrameSink, Kind, Opened, Source, SourceError, SourceOptions};
use crate::alive::Watch;
use crate::frame::{Damage, Frame, Picture, Rect, Size};
use crate::orders::{Health, Mode, Orders};

#[cfg_attr(target_os = "linux", path = "scrap/x11.rs")]
#[cfg_attr(not(target_os = "linux"), path = "scrap/elsewhere.rs")]
mod desk;
mod differ;
#[cfg(test)]
mod tests;

use desk::Desk;

/// How long to wait before trying again to reach a screen that is gone.
const RETRY: Duration = Duration::from_secs(1);

/// Why a screen can't be captured, or not any more: what was found, and what to do.
#[derive(Debug)]
struct Trouble {
    found: String,
    advice: String,
}

impl Trouble {
    fn new(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { found: found.into(), advice: advice.into() }
    }
}

/// Opens the screen, or the monitor of this name or number.
///
/// # Errors
/// [`SourceError::Unavailable`] with what was found and what to do.
pub(super) fn open(
    display: Option<&str>,
    name: Option<&str>,
    options: &SourceOptions,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    let place = Place {
        spec: Kind::Screen(name.map(str::to_owned)).to_string(),
        display: display.map(str::to_owned),
        name: name.map(str::to_owned),
    };
    let (spec, fps, pointer) = (place.spec.clone(), options.fps, options.pointer);
    let open = move || {
        let refused = |Trouble { found, advice }| SourceError::unavailable(&place.spec, found, advice);
        let mut desk = place.reach().map_err(refused)?;
        // Whether it captures at all is told now, not when somebody watches.
        desk.start().map_err(refused)?;
        desk.stop();
        if pointer {
            info!("scrap captures no pointer; --capture x11 does");
        }
        let size = desk.size();
        let caption = Caption::new(desk.describe(), size, ", by scrap");
        Ok((Opened::silent(size, caption.text()), (place, desk, caption)))
    };
    Source::spawn(&spec, "capture-scrap", watch, open, move |(place, desk, caption), orders| {
        run(&place, desk, caption, fps, orders, &sink);
    })
}

/// Which screen.
struct Place {
    spec: String,
    display: Option<String>,
    name: Option<String>,
}

impl Place {
    fn reach(&self) -> Result<Desk, Trouble> {
        Desk::open(self.display.as_deref(), self.name.as_deref())
    }
}

/// Captures until the source is stopped, over as many servers as it takes.
fn run(place: &Place, desk: Desk, mut caption: Caption, fps: u32, orders: &Orders, sink: &FrameSink) {
    let mut capture = Capture::new(desk, fps);
    loop {
        let Err(trouble) = serve(&mut capture, &mut caption, orders, sink) else { return };
        drop(capture);
        warn!("source {} is lost: {}; trying to reach it every second", place.spec, trouble.found);
        orders.tell(Health::Lost { why: trouble.found });
        let ControlFlow::Continue(desk) = reach_again(place, orders) else { return };
        info!("source {} is back: {} {}", place.spec, desk.describe(), desk.size());
        orders.tell(Health::Well);
        capture = Capture::new(desk, fps);
    }
}

/// Captures until the source is stopped (`Ok`) or the screen is lost (`Err`).
fn serve(capture: &mut Capture, caption: &mut Caption, orders: &Orders, sink: &FrameSink) -> Result<(), Trouble> {
    loop {
        let wanted = orders.take();
        if wanted.mode == Mode::Stopped {
            return Ok(());
        }
        // A server that says nothing may keep us for ever.
        orders.waiting(|| capture.set_active(wanted.mode == Mode::Active))?;
        if wanted.refresh {
            capture.owe_whole();
        }
        if let Some(frame) = orders.waiting(|| capture.advance(Instant::now()))? {
            sink(frame);
        }
        caption.follow(capture.size, orders);
        orders.wait(capture.desk.input(), capture.due).map_err(|error| waiting(&error))?;
    }
}

fn waiting(error: &io::Error) -> Trouble {
    error!("waiting for the screen: {error}");
    Trouble::new(format!("waiting for it failed ({error})"), "report this")
}

/// Tries until the screen is there again; breaks off when the source is stopped.
fn reach_again(place: &Place, orders: &Orders) -> ControlFlow<(), Desk> {
    let mut due = Instant::now() + RETRY;
    loop {
        if orders.take().mode == Mode::Stopped {
            return ControlFlow::Break(());
        }
        if Instant::now() >= due {
            match orders.waiting(|| place.reach()) {
                Ok(desk) => return ControlFlow::Continue(desk),
                Err(trouble) => debug!("{}: {}", place.spec, trouble.found),
            }
            due = Instant::now() + RETRY;
        }
        if let Err(error) = orders.wait(None, Some(due)) {
            error!("waiting for the screen: {error}");
            return ControlFlow::Break(());
        }
    }
}

/// Captures one screen.
struct Capture {
    desk: Desk,
    interval: Duration,
    /// When to capture next; `None` while idle.
    due: Option<Instant>,
    /// Whether the next frame is whole, whatever has changed.
    whole: bool,
    /// The extent of what the stores are for.
    size: Size,
    pool: Pool<Vec<u8>>,
    last: Option<Picture>,
}

impl Capture {
    fn new(desk: Desk, fps: u32) -> Self {
        let (size, interval) = (desk.size(), Duration::from_secs(1) / fps.max(1));
        Self { desk, interval, due: None, whole: true, size, pool: Pool::new(size.height), last: None }
    }

    fn set_active(&mut self, active: bool) -> Result<(), Trouble> {
        match (active, self.due) {
            (true, None) => {
                self.desk.start()?;
                self.due = Some(Instant::now());
                self.whole = true;
            }
            (false, Some(_)) => {
                self.desk.stop();
                self.due = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes a whole frame due at once.
    fn owe_whole(&mut self) {
        if self.due.is_some() {
            self.whole = true;
            self.due = Some(Instant::now());
        }
    }

    /// Does what is due at `now`; the frame, where one is due and something has changed.
    fn advance(&mut self, now: Instant) -> Result<Option<Frame>, Trouble> {
        self.desk.check(self.due.is_some())?;
        let size = self.desk.size();
        if size != self.size {
            info!("what is shown is now {size}");
            self.pool.reset(size.height).for_each(drop);
            (self.size, self.last, self.whole) = (size, None, true);
        }
        let Some(due) = self.due.filter(|due| *due <= now) else { return Ok(None) };
        // Pictures that were missed are not made up for.
        self.due = Some((due + self.interval).max(now));
        let Self { desk, pool, last, whole, .. } = self;
        let Some((pixels, captured)) = desk.capture(now)? else { return Ok(None) };
        let changed = match last {
            Some(last) => differ::changed(last.bytes(), pixels, size),
            None => vec![Rect::whole(size)],
        };
        if changed.is_empty() && !*whole {
            return Ok(None);
        }
        for rect in &changed {
            pool.mark(rect.y..rect.y + rect.height);
        }
        let Some(picture) = update(pool, pixels, size) else {
            // The next picture is compared with the same one again, so nothing is lost.
            debug!("every picture store is being read; this picture is skipped");
            return Ok(None);
        };
        *last = Some(picture.clone());
        let mut damage = Damage::none();
        if std::mem::take(whole) {
            damage = Damage::whole(size);
        }
        changed.into_iter().for_each(|rect| damage.add(rect));
        Ok(Some(Frame::new(picture, damage, captured)))
    }
}

/// Brings one store up to date and makes a picture of it; `None` while all have readers.
fn update(pool: &mut Pool<Vec<u8>>, pixels: &[u8], size: Size) -> Option<Picture> {
    let stride = size.width as usize * 4;
    let at = match pool.pick() {
        Pick::Fresh(at) | Pick::Stale(at) => at,
        Pick::Create => pool.insert(vec![0; stride * size.height as usize]),
        Pick::Busy => return None,
    };
    if let Some((store, stale)) = pool.writable(at) {
        for band in stale.iter() {
            let part = band.start as usize * stride..band.end as usize * stride;
            if let (Some(to), Some(from)) = (store.get_mut(part.clone()), pixels.get(part)) {
                to.copy_from_slice(from);
            }
        }
        pool.handle_written(at);
    }
    Picture::new(pool.share(at)?, size, stride)
}
