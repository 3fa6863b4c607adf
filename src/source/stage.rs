//! The stage: what is broadcast. One source, what stands over it, and what is shown where it is lost.
//!
//! Owns the layers' sources and the thread `stage`, which opens and closes fallbacks, tries again to open what could not be opened, and
//! gives the frames that no layer gives. What is shown is for `core` to decide. With one layer a frame takes no step more than without.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{FrameSink, Kind, Layer, Source, SourceError, SourceOptions, SourceSpec};
use crate::alive::{Alive, Watch};
use crate::audio::feed::Feed;
use crate::frame::{Frame, Size};
use crate::orders::Health;

mod core;
#[cfg(test)]
mod tests;

use core::{Core, Instead, Origin};

/// How long to wait before a source that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is broadcast.
#[derive(Debug, Clone)]
pub struct StageConfig {
    /// The source.
    pub spec: SourceSpec,
    /// What is shown while it is lost; `None` is a card that says so.
    pub fallback: Option<SourceSpec>,
    /// How sources are opened.
    pub options: SourceOptions,
}

/// A stage that is set: idle until it is made active; closed when dropped.
pub struct Stage {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// What is known of it before it has taken over what it takes over.
    first: Lent,
}

/// What a stage tells of a source that another may take over.
#[derive(Debug, Clone)]
struct Lent {
    size: Size,
    sound: Option<Arc<Feed>>,
}

struct Shared {
    config: StageConfig,
    watch: Watch,
    sink: FrameSink,
    core: Mutex<Core>,
    sources: Mutex<Sources>,
    /// What the thread is to see to.
    errands: Mutex<Errands>,
    changed: Condvar,
    health: watch::Sender<Health>,
}

#[derive(Default)]
struct Sources {
    base: Option<Held>,
    fallback: Option<Held>,
    overlays: Vec<Held>,
    active: bool,
    /// What is to be taken from the stage before.
    claims: Vec<(Origin, Layer)>,
}

impl Sources {
    /// Whether the first layer is not there, and nobody brings it.
    fn lacks_base(&self) -> bool {
        self.base.is_none() && !self.claims.iter().any(|(origin, _)| *origin == Origin::Base)
    }

    /// Gives the source of this layer away.
    fn take(&mut self, layer: &Layer) -> Option<Held> {
        if let Some(held) = self.base.take_if(|held| held.layer == *layer) {
            return Some(held);
        }
        let at = self.overlays.iter().position(|held| held.layer == *layer)?;
        Some(self.overlays.remove(at))
    }

    fn all(&self) -> impl Iterator<Item = &Held> {
        self.base.iter().chain(&self.overlays).chain(&self.fallback)
    }
}

/// A layer's source, and to whom its frames and its health go.
struct Held {
    layer: Layer,
    source: Source,
    outlet: Arc<Outlet>,
}

type Outlet = Mutex<(Weak<Shared>, Origin)>;

#[derive(Default)]
struct Errands {
    stop: bool,
    /// Something has happened since the last look.
    look: bool,
}

impl Stage {
    /// Opens all layers; `sink` gets the frames of the whole while it is active, from the threads of its layers. It may take seconds.
    ///
    /// What the stage `before` has open already is not opened again, since a camera can be open once only: [`Self::succeed`] takes it over.
    ///
    /// # Errors
    /// [`SourceError`] where a layer can't be opened, but for the first one where there is a fallback.
    pub fn open(
        config: StageConfig,
        before: Option<&Self>,
        sink: FrameSink,
        watch: &Watch,
    ) -> Result<Self, SourceError> {
        let places = config.spec.overlays.iter().map(|overlay| overlay.place);
        let instead = if config.fallback.is_some() { Instead::Fallback } else { Instead::Card };
        let card = config.options.size.unwrap_or(Size::new(1280, 720));
        let core = Core::new(config.spec.base.to_string(), card, instead, places, config.options.fps);
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            config,
            watch: watch.clone(),
            sink,
            sources: Mutex::default(),
            errands: Mutex::default(),
            changed: Condvar::new(),
            health: watch::Sender::new(Health::Well),
        });
        let first = shared.open_layers(before)?;
        let (for_thread, alive) = (shared.clone(), watch.guard());
        let thread = std::thread::Builder::new()
            .name("stage".to_owned())
            .spawn(move || run(&for_thread, alive))
            .map_err(|error| SourceError::System {
                spec: shared.config.spec.to_string(),
                what: "starting its thread",
                error,
            })?;
        Ok(Self { shared, thread: Some(thread), first })
    }

    /// The source's own size when it was opened.
    pub fn size(&self) -> Size {
        self.first.size
    }

    /// What it is, for people: `screen :0 1920x1080`.
    pub fn describe(&self) -> String {
        let sources = lock(&self.shared.sources);
        let lost = lock(&self.shared.core).lost().map(str::to_owned);
        let what = match (&sources.base, &sources.fallback, lost) {
            (Some(base), _, None) => base.source.describe(),
            (_, Some(fallback), _) => {
                format!("{} in the place of {}", fallback.source.describe(), self.shared.config.spec.base)
            }
            (Some(base), None, Some(_)) => format!("a card in the place of {}", base.source.describe()),
            (None, None, _) => format!("a card in the place of {}", self.shared.config.spec.base),
        };
        sources.overlays.iter().fold(what, |what, overlay| format!("{what} + {}", overlay.source.describe()))
    }

    /// The source as it is broadcast while all is well, for people.
    pub fn what(&self) -> String {
        let sources = lock(&self.shared.sources);
        let spec = || self.shared.config.spec.base.to_string();
        sources.base.as_ref().map_or_else(spec, |base| base.source.describe())
    }

    /// The sound that comes with the pictures of the first layer, where some does.
    pub fn sound(&self) -> Option<Arc<Feed>> {
        let base = lock(&self.shared.sources).base.as_ref().and_then(|base| base.source.sound());
        base.or_else(|| self.first.sound.clone())
    }

    /// Whether the source's frames can be had, now and from now on.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Lets frames flow, the first one whole and at once, or stops all work.
    pub fn set_active(&self, active: bool) {
        let mut sources = lock(&self.shared.sources);
        if sources.active == active {
            return;
        }
        sources.active = active;
        lock(&self.shared.core).set_active(active);
        sources.all().for_each(|held| held.source.set_active(active));
        drop(sources);
        self.shared.look();
    }

    /// Asks for one frame with everything damaged, at once; nothing happens while the stage is not active.
    pub fn refresh(&self) {
        let sources = lock(&self.shared.sources);
        lock(&self.shared.core).handle_refresh();
        sources.base.iter().chain(&sources.fallback).for_each(|held| held.source.refresh());
        drop(sources);
        self.shared.look();
    }

    /// Takes over what `before` has open and this one was opened without; to be called once, when that one is not wanted any more.
    pub fn succeed(&self, before: &Self) {
        let claims = std::mem::take(&mut lock(&self.shared.sources).claims);
        for (origin, layer) in claims {
            let taken = lock(&before.shared.sources).take(&layer);
            // It was there when this stage was opened; where it has gone since, it is opened anew by the thread.
            let Some(held) = taken else {
                self.shared.look();
                continue;
            };
            *lock(&held.outlet) = (Arc::downgrade(&self.shared), origin);
            let mut sources = lock(&self.shared.sources);
            held.source.set_active(sources.active);
            held.source.refresh();
            let health = held.source.health().borrow().clone();
            match origin {
                Origin::Base => sources.base = Some(held),
                Origin::Fallback => sources.fallback = Some(held),
                Origin::Overlay(at) => {
                    let at = at.min(sources.overlays.len());
                    sources.overlays.insert(at, held);
                }
            }
            drop(sources);
            self.shared.handle_health(origin, &health);
        }
    }
}

impl Stage {
    /// The source that a stage of this configuration can take over for a layer, if there is one.
    fn lends(&self, layer: &Layer, to: &StageConfig) -> Option<Lent> {
        let own = &self.shared.config;
        // The same lesson once more is to begin once more.
        let again = own.spec == to.spec && matches!(layer.kind, Kind::File { .. });
        // The size is a wish of those that can choose one, which the layer would say.
        let options = |config: &StageConfig| SourceOptions { size: None, ..config.options.clone() };
        if options(own) != options(to) || again {
            return None;
        }
        let sources = lock(&self.shared.sources);
        let held = sources.base.iter().chain(&sources.overlays).find(|held| held.layer == *layer)?;
        Some(Lent { size: held.source.size(), sound: held.source.sound() })
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stage({})", self.describe())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        lock(&self.shared.errands).stop = true;
        self.shared.changed.notify_all();
        // Their threads may be waiting for the core: it is free while they are joined.
        let sources = std::mem::take(&mut *lock(&self.shared.sources));
        drop(sources);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the stage's thread panicked");
        }
    }
}

impl Shared {
    /// Opens what the stage begins with; gives its size.
    fn open_layers(self: &Arc<Self>, before: Option<&Stage>) -> Result<Lent, SourceError> {
        let mut claims = Vec::new();
        let mut claimed = |origin, layer: &Layer| {
            let is_free = !claims.iter().any(|(_, claimed)| claimed == layer);
            let lent = before.filter(|_| is_free).and_then(|before| before.lends(layer, &self.config))?;
            claims.push((origin, layer.clone()));
            Some(lent)
        };
        let spec = &self.config.spec;
        let lent = claimed(Origin::Base, &spec.base);
        let (base, fallback) = match lent.as_ref().map_or_else(|| self.open_base().map(Some), |_| Ok(None)) {
            Ok(base) => (base, None),
            Err(error) => match &self.config.fallback {
                None => return Err(error),
                Some(_) => {
                    let fallback = self.open_fallback()?;
                    warn!("{error}; the fallback is shown, and it is tried again every {} s", RETRY.as_secs());
                    self.lose(error.to_string());
                    (None, Some(fallback))
                }
            },
        };
        let mut overlays = Vec::new();
        for (at, overlay) in spec.overlays.iter().enumerate() {
            if claimed(Origin::Overlay(at), &overlay.layer).is_none() {
                overlays.push(self.open_layer(Origin::Overlay(at), &overlay.layer)?);
            }
        }
        let opened = base.as_ref().or(fallback.as_ref()).map(|held| held.source.size());
        *lock(&self.sources) = Sources { base, fallback, overlays, active: false, claims };
        Ok(lent.unwrap_or(Lent { size: opened.unwrap_or(Size::new(1280, 720)), sound: None }))
    }

    fn open_base(self: &Arc<Self>) -> Result<Held, SourceError> {
        self.open_layer(Origin::Base, &self.config.spec.base)
    }

    fn open_fallback(self: &Arc<Self>) -> Result<Held, SourceError> {
        let off = SourceSpec::OFF;
        let fallback = self.config.fallback.as_ref().unwrap_or(&off);
        self.open_layer(Origin::Fallback, &fallback.base)
    }

    fn open_layer(self: &Arc<Self>, origin: Origin, layer: &Layer) -> Result<Held, SourceError> {
        let outlet = Arc::new(Mutex::new((Arc::downgrade(self), origin)));
        let put = outlet.clone();
        let sink = Arc::new(move |frame: Frame| with(&put, |shared, origin| shared.put(origin, frame)));
        let source = Source::open(layer, &self.config.options, sink, &self.watch)?;
        let told = outlet.clone();
        source.follow(Box::new(move |health| with(&told, |shared, origin| shared.handle_health(origin, health))));
        Ok(Held { layer: layer.clone(), source, outlet })
    }

    /// Takes a layer's frame; the whole goes on while no other layer's can overtake it.
    fn put(&self, origin: Origin, frame: Frame) {
        let mut core = lock(&self.core);
        let had_fallback = core.wants_fallback();
        if let Some(frame) = core.handle_frame(origin, frame, Instant::now()) {
            (self.sink)(frame);
        }
        let look = core.poll_timeout(Instant::now()).is_some() || had_fallback != core.wants_fallback();
        drop(core);
        if look {
            self.look();
        }
    }

    fn handle_health(&self, origin: Origin, health: &Health) {
        match (origin, health) {
            (Origin::Base, Health::Lost { why }) => self.lose(why.clone()),
            (Origin::Base, Health::Well) => {
                lock(&self.core).handle_back();
                self.health.send_replace(Health::Well);
            }
            (Origin::Fallback, Health::Lost { .. }) => lock(&self.core).handle_no_fallback(),
            (Origin::Overlay(at), Health::Lost { .. }) => lock(&self.core).handle_overlay_lost(at, Instant::now()),
            (Origin::Fallback | Origin::Overlay(_), Health::Well) => {}
        }
        self.look();
    }

    fn lose(&self, why: String) {
        lock(&self.core).handle_lost(&why);
        self.health.send_replace(Health::Lost { why });
    }

    fn look(&self) {
        lock(&self.errands).look = true;
        self.changed.notify_one();
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
                        self.health.send_replace(Health::Well);
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
                Err(later) => again = Some(again.map_or(later, |other: Instant| other.min(later))),
                Ok(()) => match self.open_fallback() {
                    Ok(fallback) => {
                        let mut sources = lock(&self.sources);
                        fallback.source.set_active(sources.active);
                        sources.fallback = Some(fallback);
                    }
                    Err(error) => {
                        if tried.fallback.is_news() {
                            warn!("the fallback can't be shown either: {error}");
                        }
                        lock(&self.core).handle_no_fallback();
                        let later = tried.fallback.failed(Instant::now());
                        again = Some(again.map_or(later, |other: Instant| other.min(later)));
                    }
                },
            },
            (false, true) => {
                let fallback = lock(&self.sources).fallback.take();
                drop(fallback);
            }
            (false, false) => tried.fallback = Attempt::default(),
            (true, true) => {}
        }
        again
    }
}

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
fn run(shared: &Arc<Shared>, alive: Alive) {
    let mut tried = Tried::default();
    if lock(&shared.sources).lacks_base() {
        tried.base.failed(Instant::now());
    }
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

/// Does something with the stage that a source is on, which may be gone.
fn with(outlet: &Outlet, act: impl FnOnce(&Shared, Origin)) {
    let (shared, origin) = lock(outlet).clone();
    if let Some(shared) = shared.upgrade() {
        act(&shared, origin);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
