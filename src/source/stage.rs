//! The stage: what is broadcast. One source, what stands over it, and what is shown where it is lost.
//!
//! Owns the layers' sources and the thread `stage`. What is shown is for `core` to decide. With one layer a frame takes no step more than without.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use tokio::sync::watch;
use tracing::error;

use super::{FrameSink, Kind, Layer, SourceError, SourceOptions, SourceSpec};
use crate::alive::Watch;
use crate::audio::feed::Feed;
use crate::frame::Size;
use crate::orders::Health;

mod core;
mod shared;
#[cfg(test)]
mod tests;
mod thread;

use core::{Core, Instead, Origin};
use shared::{Lent, Shared, Sources, lock};

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

/// The sound that comes with what is shown.
#[derive(Debug, Clone)]
pub enum StageSound {
    /// A lesson's own.
    Own(Arc<Feed>),
    /// It has none.
    None,
    /// It has none, and stands for a lesson that is lost: what else this machine plays is not meant.
    Lost,
}

impl PartialEq for StageSound {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own(a), Self::Own(b)) => Arc::ptr_eq(a, b),
            (Self::None, Self::None) | (Self::Lost, Self::Lost) => true,
            _ => false,
        }
    }
}

/// A stage that is set: idle until it is made active; closed when dropped.
pub struct Stage {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// What is known of it before it has taken over what it takes over.
    first: Lent,
}

impl Stage {
    /// Opens all layers; `sink` gets the frames of the whole while it is active, from the threads of its layers. It may take seconds.
    ///
    /// What the stage `before` has open already is not opened again, since a camera can be open once only: [`Self::succeed`] takes it over.
    ///
    /// # Errors
    /// [`SourceError`] where a layer can't be opened, but for the first one where there is a fallback and no stage before.
    pub fn open(
        config: StageConfig,
        before: Option<&Self>,
        sink: FrameSink,
        watch: &Watch,
    ) -> Result<Self, SourceError> {
        let places = config.spec.overlays.iter().map(|overlay| overlay.place);
        let instead = if config.fallback.is_some() { Instead::Fallback } else { Instead::Card };
        let card = config.options.size.unwrap_or(super::card::SIZE);
        let core = Core::new(config.spec.base.kind.in_words(), card, instead, places, config.options.fps);
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            config,
            watch: watch.clone(),
            sink,
            sources: Mutex::default(),
            errands: Mutex::default(),
            changed: Condvar::new(),
            lost_overlays: Mutex::default(),
            health: watch::Sender::new(Health::Well),
            overlays: watch::Sender::new(Health::Well),
            sounds: watch::Sender::new(()),
        });
        let first = shared.open_layers(before)?;
        let (for_thread, alive) = (shared.clone(), watch.guard());
        let handle = std::thread::Builder::new()
            .name("stage".to_owned())
            .spawn(move || thread::run(&for_thread, alive))
            .map_err(|error| SourceError::System {
                spec: shared.config.spec.to_string(),
                what: "starting its thread",
                error,
            })?;
        Ok(Self { shared, thread: Some(handle), first })
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

    /// Tells what the source is while all is well, for people; nothing once the stage is closed, which it keeps nobody from.
    pub fn what(&self) -> impl Fn() -> Option<String> + Send + Sync + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || {
            let shared = shared.upgrade()?;
            Some(shared.what())
        }
    }

    /// The sound that comes with the pictures of the first layer, or of what is shown in its place.
    pub fn sound(&self) -> StageSound {
        let sources = lock(&self.shared.sources);
        let shown = sources.fallback.as_ref().filter(|_| lock(&self.shared.core).wants_fallback());
        let (sound, is_lost) = match (shown, &sources.base) {
            (Some(fallback), _) => (fallback.source.sound(), true),
            (None, Some(base)) => (base.source.sound(), false),
            (None, None) => (self.first.sound.clone().filter(|_| !sources.lacks_base()), sources.lacks_base()),
        };
        match sound {
            Some(feed) => StageSound::Own(feed),
            None if is_lost && matches!(self.shared.config.spec.base.kind, Kind::File { .. }) => StageSound::Lost,
            None => StageSound::None,
        }
    }

    /// Told where [`Self::sound`] may be another.
    pub(crate) fn sounds(&self) -> watch::Receiver<()> {
        self.shared.sounds.subscribe()
    }

    /// Whether the source's frames can be had, now and from now on.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Whether the frames of all that stands over it can be had.
    pub(crate) fn overlays(&self) -> watch::Receiver<Health> {
        self.shared.overlays.subscribe()
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
        let claims = lock(&self.shared.sources).claims.clone();
        for (origin, layer) in claims {
            let taken = lock(&before.shared.sources).take(&layer);
            // A claim holds until its source is here: else the thread would open another one meanwhile.
            let settle = |sources: &mut Sources| sources.claims.retain(|(of, _)| *of != origin);
            // It was there when this stage was opened; where it has gone since, it is opened anew by the thread.
            let Some(held) = taken else {
                settle(&mut lock(&self.shared.sources));
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
            settle(&mut sources);
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
        // What is lost is to be opened or refused as if it were not there.
        let held = sources.base.iter().chain(&sources.overlays).find(|held| held.layer == *layer);
        let held = held.filter(|held| *held.source.health().borrow() == Health::Well)?;
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
