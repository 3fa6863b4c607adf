//! Capture: what of the target is fetched, when, and what the frame says about it (rule 2).
//!
//! Drawing is first taken off the server's account and then grabbed, so that nothing drawn in between is lost.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info};
use x11rb::errors::{ConnectionError, ReplyOrIdError};

use super::pointer::PointerWatch;
use super::screen::{Change, Screen};
use super::segment::Store;
use super::trouble::Trouble;
use crate::frame::pacing::CapturePacer;
use crate::frame::{Damage, Frame, Picture, Pointer, Size};
use crate::source::pool::{Pick, Pool};
use crate::source::{FrameSink, SourceOptions};

/// So many times in a row the server may refuse what is asked, as it does while the target changes under it.
const REFUSALS: u32 = 3;

/// Captures one target over one connection.
pub(super) struct Capture {
    screen: Screen,
    options: SourceOptions,
    pool: Pool<Store>,
    pacer: CapturePacer,
    state: State,
    /// Whether the target may be elsewhere than it was.
    unsure: bool,
    /// How often in a row the server has refused.
    refused: u32,
}

/// Whether frames flow.
enum State {
    Idle,
    Active(Active),
}

/// What is known while frames flow.
struct Active {
    /// Whether the server has something on its account of drawing.
    drawn: bool,
    /// What has changed since the last frame.
    owed: Damage,
    pointer: Option<PointerWatch>,
    last: Option<(Picture, Option<Pointer>)>,
}

/// How long there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep {
    /// There is something to do.
    No,
    /// Until this time, whatever the server tells: a change is noted already.
    Until(Instant),
    /// Until the server tells something, or this time.
    UntilInput(Option<Instant>),
}

impl Capture {
    /// Makes an idle capture of `screen`.
    pub(super) fn new(screen: Screen, options: SourceOptions) -> Self {
        let pool = Pool::new(screen.size().height);
        let pacer = CapturePacer::new(options.fps);
        Self { screen, options, pool, pacer, state: State::Idle, unsure: false, refused: 0 }
    }

    /// The server's socket, for poll(2).
    pub(super) fn input(&self) -> Result<BorrowedFd<'_>, ConnectionError> {
        self.screen.input()
    }

    /// Starts or ends the flow of frames; the first one is whole and due at once.
    pub(super) fn set_active(&mut self, active: bool, now: Instant) -> Result<(), ReplyOrIdError> {
        match (active, &self.state) {
            (true, State::Idle) => {
                self.screen.watch(self.options.pointer)?;
                self.pool.mark_all();
                let pointer = self.options.pointer.then(|| PointerWatch::new(self.screen.motion(), now));
                let owed = Damage::whole(self.screen.size());
                // A fresh account of drawing begins with the whole screen on it.
                self.state = State::Active(Active { drawn: true, owed, pointer, last: None });
                self.pacer.force(now);
            }
            (false, State::Active(_)) => {
                self.screen.unwatch(self.options.pointer)?;
                self.pacer = CapturePacer::new(self.options.fps);
                self.state = State::Idle;
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes a frame with everything damaged due at once.
    pub(super) fn refresh(&mut self, now: Instant) {
        if let State::Active(active) = &mut self.state {
            active.owed = Damage::whole(self.screen.size());
            self.pacer.force(now);
        }
    }

    /// Notes all that the server has told.
    pub(super) fn drain(&mut self, now: Instant) -> Result<(), ConnectionError> {
        while let Some(change) = self.screen.poll_change()? {
            self.unsure |= change == Change::Place;
            let State::Active(active) = &mut self.state else { continue };
            match change {
                Change::Drawn => active.drawn = true,
                Change::PointerShape => active.pointer.iter_mut().for_each(PointerWatch::handle_shape),
                Change::PointerMoved | Change::Place => {}
            }
            self.pacer.handle_change(now);
        }
        Ok(())
    }

    /// Does what is due at `now`; says how long there is nothing more to do.
    pub(super) fn advance(&mut self, now: Instant, sink: &FrameSink) -> Result<Sleep, Trouble> {
        let State::Active(active) = &mut self.state else {
            let settled = !std::mem::take(&mut self.unsure);
            if !settled {
                self.find_again(now)?;
            }
            return Ok(if settled { Sleep::UntilInput(None) } else { Sleep::No });
        };
        if let Some(due) = self.pacer.poll_timeout() {
            if due > now {
                return Ok(Sleep::Until(due));
            }
            if std::mem::take(&mut self.unsure) {
                self.find_again(now)?;
            }
            match self.capture(now) {
                Ok(frame) => {
                    self.refused = 0;
                    frame.into_iter().for_each(|frame| sink(frame));
                }
                Err(ReplyOrIdError::X11Error(error)) => {
                    // A screen that has just been resized is asked for rows that it no longer has.
                    debug!("capture is refused: {:?}", error.error_kind);
                    self.refused += 1;
                    if !self.find_again(now)? || self.refused > REFUSALS {
                        return Err(ReplyOrIdError::X11Error(error).into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(Sleep::No);
        }
        let Some(pointer) = &mut active.pointer else { return Ok(Sleep::UntilInput(None)) };
        if pointer.next_look() > now {
            return Ok(Sleep::UntilInput(Some(pointer.next_look())));
        }
        let (_, spot) = self.screen.look(false, true)?;
        if pointer.handle_spot(spot, now) {
            self.pacer.handle_change(now);
        }
        Ok(Sleep::No)
    }

    /// Says what is behind a refusal: perhaps it is the target that is gone, and not the display.
    pub(super) fn explain(&mut self, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Display(ReplyOrIdError::X11Error(_)) => match self.screen.renew() {
                Err(cause @ Trouble::Target(_)) => cause,
                _ => trouble,
            },
            trouble => trouble,
        }
    }

    /// Captures now; `None` if nothing has changed after all, or every store has a reader.
    fn capture(&mut self, now: Instant) -> Result<Option<Frame>, ReplyOrIdError> {
        self.pacer.handle_capture(now);
        let State::Active(active) = &mut self.state else { return Ok(None) };
        let (rects, spot) = self.screen.look(active.drawn, active.pointer.is_some())?;
        active.drawn = false;
        for rect in rects {
            active.owed.add(rect);
            self.pool.mark(rect.y..rect.y + rect.height);
        }
        let pointer = match &mut active.pointer {
            Some(watch) => {
                watch.handle_spot(spot, now);
                watch.pointer(&self.screen)?
            }
            None => None,
        };
        let picture = match active.last.take() {
            Some((picture, shown)) if active.owed.is_empty() => {
                if shown == pointer {
                    active.last = Some((picture, shown));
                    return Ok(None);
                }
                picture
            }
            last => {
                // Our own hold on the last picture ends here: if nobody else reads it, its store needs least work.
                drop(last);
                let Some(picture) = update(&mut self.screen, &mut self.pool)? else {
                    debug!("every picture store is being read; this capture is skipped");
                    self.pacer.handle_change(now);
                    return Ok(None);
                };
                picture
            }
        };
        active.last = Some((picture.clone(), pointer.clone()));
        let damage = std::mem::take(&mut active.owed);
        Ok(Some(Frame { pointer, ..Frame::new(picture, damage, now) }))
    }

    /// The extent of what is shown.
    pub(super) fn size(&self) -> Size {
        self.screen.size()
    }

    /// Asks where the target is, and goes on there; returns whether its pixels are others than they were.
    fn find_again(&mut self, now: Instant) -> Result<bool, Trouble> {
        let before = self.screen.size();
        if !self.screen.renew()? {
            return Ok(false);
        }
        let size = self.screen.size();
        if size == before {
            self.pool.mark_all();
        } else {
            info!("what is shown is now {size}");
            for store in self.pool.reset(size.height) {
                self.screen.forget(&store)?;
            }
        }
        if let State::Active(active) = &mut self.state {
            active.owed = Damage::whole(size);
            active.last = None;
            self.pacer.handle_change(now);
        }
        Ok(true)
    }

    /// Gives access to the connection before the first capture.
    #[cfg(test)]
    pub(super) fn screen_mut(&mut self) -> &mut Screen {
        &mut self.screen
    }
}

/// Brings one store up to date and makes a picture of it; `None` while all have readers.
fn update(screen: &mut Screen, pool: &mut Pool<Store>) -> Result<Option<Picture>, ReplyOrIdError> {
    let at = match pool.pick() {
        Pick::Fresh(at) => at,
        Pick::Stale(at) => at,
        Pick::Create => pool.insert(screen.allocate()?),
        Pick::Busy => return Ok(None),
    };
    if let Some((store, stale)) = pool.writable(at) {
        screen.grab(store, stale)?;
        pool.handle_written(at);
    }
    let (size, stride) = (screen.size(), screen.stride());
    Ok(pool.share(at).and_then(|store: Arc<Store>| Picture::new(store, size, stride)))
}
