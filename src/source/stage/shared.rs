//! What a stage's handle, its thread and the threads of its layers share.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::watch;
use tracing::warn;

use super::core::{Core, Origin};
use super::thread::RETRY;
use super::{Stage, StageConfig};
use crate::alive::Watch;
use crate::audio::feed::Feed;
use crate::frame::{Frame, Size};
use crate::orders::Health;
use crate::source::{FrameSink, Layer, Source, SourceError, SourceSpec};

/// What a stage tells of a source that another may take over.
#[derive(Debug, Clone)]
pub(super) struct Lent {
    pub(super) size: Size,
    pub(super) sound: Option<Arc<Feed>>,
}

pub(super) struct Shared {
    pub(super) config: StageConfig,
    pub(super) watch: Watch,
    pub(super) sink: FrameSink,
    pub(super) core: Mutex<Core>,
    pub(super) sources: Mutex<Sources>,
    /// What the thread is to see to.
    pub(super) errands: Mutex<Errands>,
    pub(super) changed: Condvar,
    /// Why those that stand over the first layer give no pictures, by their numbers.
    pub(super) lost_overlays: Mutex<BTreeMap<usize, String>>,
    /// Of the first layer.
    pub(super) health: watch::Sender<Health>,
    /// Of what stands over it.
    pub(super) overlays: watch::Sender<Health>,
    /// Told where the sound that goes with what is shown may be another.
    pub(super) sounds: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct Sources {
    pub(super) base: Option<Held>,
    pub(super) fallback: Option<Held>,
    pub(super) overlays: Vec<Held>,
    pub(super) active: bool,
    /// What is to be taken from the stage before.
    pub(super) claims: Vec<(Origin, Layer)>,
}

impl Sources {
    /// Whether the first layer is not there, and nobody brings it.
    pub(super) fn lacks_base(&self) -> bool {
        self.base.is_none() && !self.claims.iter().any(|(origin, _)| *origin == Origin::Base)
    }

    /// Gives the source of this layer away.
    pub(super) fn take(&mut self, layer: &Layer) -> Option<Held> {
        if let Some(held) = self.base.take_if(|held| held.layer == *layer) {
            return Some(held);
        }
        let at = self.overlays.iter().position(|held| held.layer == *layer)?;
        Some(self.overlays.remove(at))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Held> {
        self.base.iter().chain(&self.overlays).chain(&self.fallback)
    }
}

/// A layer's source, and to whom its frames and its health go.
pub(super) struct Held {
    pub(super) layer: Layer,
    pub(super) source: Source,
    pub(super) outlet: Arc<Outlet>,
}

pub(super) type Outlet = Mutex<(Weak<Shared>, Origin)>;

#[derive(Default)]
pub(super) struct Errands {
    pub(super) stop: bool,
    /// Something has happened since the last look.
    pub(super) look: bool,
}

impl Shared {
    /// Opens what the stage begins with; gives its size.
    pub(super) fn open_layers(self: &Arc<Self>, before: Option<&Stage>) -> Result<Lent, SourceError> {
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
            // What an operator chooses in mid-lesson is there, or all goes on as it was.
            Err(error) => match (&self.config.fallback, before) {
                (None, _) | (_, Some(_)) => return Err(error),
                (Some(_), None) => {
                    let fallback = match self.open_fallback() {
                        Ok(fallback) => fallback,
                        Err(fallback) => {
                            let (asked, fallback) = (Box::new(error), Box::new(fallback));
                            return Err(SourceError::Both { asked, fallback });
                        }
                    };
                    warn!("{error}; the fallback is shown, and it is tried again every {} s", RETRY.as_secs());
                    self.lose(&error.to_string());
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
        Ok(lent.unwrap_or(Lent { size: opened.unwrap_or(crate::source::card::SIZE), sound: None }))
    }

    pub(super) fn open_base(self: &Arc<Self>) -> Result<Held, SourceError> {
        self.open_layer(Origin::Base, &self.config.spec.base)
    }

    pub(super) fn open_fallback(self: &Arc<Self>) -> Result<Held, SourceError> {
        let off = SourceSpec::OFF;
        let fallback = self.config.fallback.as_ref().unwrap_or(&off);
        self.open_layer(Origin::Fallback, &fallback.base)
    }

    pub(super) fn open_layer(self: &Arc<Self>, origin: Origin, layer: &Layer) -> Result<Held, SourceError> {
        let outlet = Arc::new(Mutex::new((Arc::downgrade(self), origin)));
        let put = outlet.clone();
        let sink = Arc::new(move |frame: Frame| with(&put, |shared, origin| shared.put(origin, frame)));
        let source = Source::open(layer, &self.config.options, sink, &self.watch)?;
        let told = outlet.clone();
        source.follow(Box::new(move |health| with(&told, |shared, origin| shared.handle_health(origin, health))));
        Ok(Held { layer: layer.clone(), source, outlet })
    }

    /// Takes a layer's frame; the whole goes on while no other layer's can overtake it.
    pub(super) fn put(&self, origin: Origin, frame: Frame) {
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

    pub(super) fn handle_health(&self, origin: Origin, health: &Health) {
        match (origin, health) {
            (Origin::Base, Health::Lost { why }) => self.lose(why),
            (Origin::Base, Health::Well) => lock(&self.core).handle_back(),
            (Origin::Fallback, Health::Lost { .. }) => lock(&self.core).handle_no_fallback(),
            (Origin::Fallback, Health::Well) => {}
            (Origin::Overlay(at), Health::Lost { why }) => {
                lock(&self.core).handle_overlay_lost(at, Instant::now());
                let layer = self.config.spec.overlays.get(at).map(|overlay| overlay.layer.to_string());
                lock(&self.lost_overlays).insert(at, format!("{}: {why}", layer.unwrap_or_default()));
            }
            (Origin::Overlay(at), Health::Well) => drop(lock(&self.lost_overlays).remove(&at)),
        }
        self.tell();
        self.look();
    }

    pub(super) fn lose(&self, why: &str) {
        lock(&self.core).handle_lost(why);
        self.tell();
    }

    /// Tells whether all layers give pictures, where that is news.
    pub(super) fn tell(&self) {
        let tell = |told: &watch::Sender<Health>, lost: Option<String>| {
            let now = lost.map_or(Health::Well, |why| Health::Lost { why });
            told.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
        };
        let base = lock(&self.core).lost().map(str::to_owned);
        tell(&self.health, base);
        let overlays: Vec<_> = lock(&self.lost_overlays).values().cloned().collect();
        tell(&self.overlays, Some(overlays.join("; ")).filter(|why| !why.is_empty()));
    }

    /// What the source is while all is well, for people.
    pub(super) fn what(&self) -> String {
        let sources = lock(&self.sources);
        let spec = || self.config.spec.base.to_string();
        sources.base.as_ref().map_or_else(spec, |base| base.source.describe())
    }

    pub(super) fn look(&self) {
        lock(&self.errands).look = true;
        self.changed.notify_one();
    }
}

/// Does something with the stage that a source is on, which may be gone.
pub(super) fn with(outlet: &Outlet, act: impl FnOnce(&Shared, Origin)) {
    let (shared, origin) = lock(outlet).clone();
    if let Some(shared) = shared.upgrade() {
        act(&shared, origin);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
