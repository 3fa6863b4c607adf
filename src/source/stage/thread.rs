//! The thread `stage`: it opens and closes fallbacks, tries again to open what could not be opened, and gives the frames that no layer gives.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::shared::{Shared, lock};
use crate::alive::Alive;
use crate::source::{Kind, Source};

/// How long to wait before a source that could not be opened is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// When what could not be opened was tried last.
#[derive(Default)]
struct Tried {
    base: Attempt,
    fallback: Attempt,
}

#[derive(Default)]
struct Attempt(Option<Instant>);

impl Attempt {
    /// Whether it is time, or when it is.
    fn due(&self, now: Instant) -> Result<(), Instant> {
        match self.0.map(|failed| failed + RETRY) {
            Some(due) if due > now => Err(due),
            _ => Ok(()),
        }
    }

    fn is_news(&self) -> bool {
        self.0.is_none()
    }

    fn failed(&mut self, now: Instant) -> Instant {
        self.0 = Some(now);
        now + RETRY
    }
}

/// Sees to the sources, and gives the frames that no layer gives, until the stage is dropped.
pub(super) fn run(shared: &Arc<Shared>, alive: Alive) {
    let mut tried = Tried::default();
    if lock(&shared.sources).lacks_base() {
        tried.base.failed(Instant::now());
    }
    shared.try_fallback();
    loop {
        let again = shared.see_to_sources(&mut tried, Instant::now());
        let due = {
            let mut core = lock(&shared.core);
            let now = Instant::now();
            if let Some(frame) = core.poll_frame(now) {
                (shared.sink)(frame);
            }
            core.poll_timeout(now)
        };
        let next = [again, due].into_iter().flatten().min();
        let mut errands = lock(&shared.errands);
        while !errands.stop && !errands.look {
            let Some(left) = next.map(|next| next.saturating_duration_since(Instant::now())) else {
                errands = shared.changed.wait(errands).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if left.is_zero() {
                break;
            }
            errands = shared.changed.wait_timeout(errands, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if errands.stop {
            break;
        }
        errands.look = false;
    }
    // What was opened while the stage was being dropped.
    let sources = std::mem::take(&mut *lock(&shared.sources));
    drop(sources);
    alive.release();
}

/// The earlier of two moments, one of which there may not be.
fn earlier(one: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(one.map_or(other, |one| one.min(other)))
}

impl Shared {
    /// Says at once where a fallback that can be looked at without disturbing anybody could not be shown: when it is needed it is too late.
    fn try_fallback(&self) {
        let Some(fallback) = &self.config.fallback else { return };
        if !matches!(fallback.base.kind, Kind::File { .. } | Kind::Image(_)) || lock(&self.sources).fallback.is_some() {
            return;
        }
        let (layer, options, watch) = (fallback.base.clone(), self.config.options.clone(), self.watch.clone());
        // A disk may take its time, and nobody waits for this.
        let look = move || {
            if let Err(error) = Source::open(&layer, &options, Arc::new(|_| ()), &watch) {
                warn!("the fallback could not be shown now: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("fallback".to_owned()).spawn(look) {
            tracing::debug!("the fallback is not looked at: {error}");
        }
    }

    /// Opens and closes what is to be; says when it has to be looked at again, whatever happens.
    fn see_to_sources(self: &Arc<Self>, tried: &mut Tried, now: Instant) -> Option<Instant> {
        let mut again = None;
        if lock(&self.sources).lacks_base() {
            match tried.base.due(now) {
                Err(later) => again = Some(later),
                Ok(()) => match self.open_base() {
                    Ok(base) => {
                        info!(source = base.source.describe(), "the source is there now");
                        let mut sources = lock(&self.sources);
                        base.source.set_active(sources.active);
                        sources.base = Some(base);
                        drop(sources);
                        lock(&self.core).handle_back();
                        self.tell();
                        self.sounds.send_replace(());
                    }
                    Err(error) => {
                        tracing::debug!("{error}");
                        again = Some(tried.base.failed(Instant::now()));
                    }
                },
            }
        }
        let wanted = lock(&self.core).wants_fallback();
        let has = lock(&self.sources).fallback.is_some();
        match (wanted, has) {
            (true, false) => match tried.fallback.due(now) {
                Err(later) => again = earlier(again, later),
                Ok(()) => match self.open_fallback() {
                    Ok(fallback) => {
                        let mut sources = lock(&self.sources);
                        fallback.source.set_active(sources.active);
                        sources.fallback = Some(fallback);
                        drop(sources);
                        self.sounds.send_replace(());
                    }
                    Err(error) => {
                        if tried.fallback.is_news() {
                            warn!("the fallback can't be shown either: {error}");
                        }
                        lock(&self.core).handle_no_fallback();
                        let later = tried.fallback.failed(Instant::now());
                        again = earlier(again, later);
                    }
                },
            },
            (false, true) => {
                let fallback = lock(&self.sources).fallback.take();
                self.sounds.send_replace(());
                drop(fallback);
            }
            (false, false) => tried.fallback = Attempt::default(),
            (true, true) => {}
        }
        again
    }
}
