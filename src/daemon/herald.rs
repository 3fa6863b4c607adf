//! Tells of what changes by itself and tells nobody: the source, the sound, STUN and TURN servers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::debug;

use super::problems::Chronicle;
use crate::audio::AudioCapture;
use crate::control::wire::{Event, IceStanding};
use crate::events::{Events, Listener};
use crate::orders::Health;
use crate::session::relay::server::Standing;
use crate::source::stage::Stage;

/// Tells when a source is lost and back, for as long as it is there; one that is lost from the beginning is told at once.
///
/// To be called in a tokio runtime, as [`follow_sound`].
pub(super) fn follow_source(stage: &Stage, events: &Events) {
    let (health, what, told) = (stage.health(), stage.what(), events.clone());
    let say = move |health| {
        // Where the stage is closed already, there is nothing to tell of it.
        let Some(source) = what() else { return };
        told.tell(match health {
            Health::Lost { why } => Event::SourceLost { source, why },
            Health::Well => Event::SourceBack { source },
        });
    };
    if *health.borrow() != Health::Well {
        say(health.borrow().clone());
    }
    tokio::spawn(follow(health, say));
    let (overlays, told) = (stage.overlays(), events.clone());
    let say = move |health| {
        told.tell(match health {
            Health::Lost { why } => Event::OverlayLost { why },
            Health::Well => Event::OverlayBack {},
        });
    };
    if *overlays.borrow() != Health::Well {
        say(overlays.borrow().clone());
    }
    tokio::spawn(follow(overlays, say));
}

/// Notes when the sound that goes with what a source shows may be another, for as long as the source is there.
pub(super) fn follow_sounds(stage: &Stage, noted: &Arc<Notify>) {
    let (sounds, noted) = (stage.sounds(), noted.clone());
    // What was told before somebody listened.
    noted.notify_one();
    tokio::spawn(follow(sounds, move |()| noted.notify_one()));
}

/// Tells when sound is lost and back, for as long as it is there.
pub(super) fn follow_sound(sound: &AudioCapture, events: &Events) {
    let Some(health) = sound.health() else { return };
    let (what, told) = (sound.describe(), events.clone());
    let say = move |health| {
        let sound = what.clone();
        told.tell(match health {
            Health::Lost { why } => Event::SoundLost { sound, why },
            Health::Well => Event::SoundBack { sound },
        });
    };
    tokio::spawn(follow(health, say));
}

/// Tells how the daemon stands with STUN and TURN servers until the set is dropped.
pub(super) fn watch_all(ice_servers: &[(String, watch::Receiver<Standing>)], events: &Events) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (url, standing) in ice_servers {
        let (url, told) = (url.clone(), events.clone());
        let mut before = IceStanding::Connecting;
        tasks.spawn(follow(standing.clone(), move |now| {
            let (standing, why) = ice_standing(&now);
            // Away for another reason is no news.
            if std::mem::replace(&mut before, standing) != standing {
                told.tell(Event::IceServer { url: url.clone(), standing, why });
            }
        }));
    }
    tasks
}

/// Keeps account of what is away until the daemon ends.
pub(super) async fn keep_account(mut listener: Listener, chronicle: Arc<Mutex<Chronicle>>) {
    loop {
        match listener.recv().await {
            Ok(happened) => {
                let mut chronicle = chronicle.lock().unwrap_or_else(PoisonError::into_inner);
                chronicle.handle_event(Instant::now(), &happened.event);
            }
            Err(RecvError::Lagged(events)) => debug!(events, "events came too fast for who keeps account of them"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Says each value that follows the first, for as long as there are any.
async fn follow<T: Clone + Send + Sync>(mut values: watch::Receiver<T>, mut say: impl FnMut(T)) {
    while values.changed().await.is_ok() {
        let value = values.borrow_and_update().clone();
        say(value);
    }
}

/// What operators are told of a STUN or TURN server.
pub(super) fn ice_standing(standing: &Standing) -> (IceStanding, Option<String>) {
    match standing {
        Standing::Connecting => (IceStanding::Connecting, None),
        Standing::Ready => (IceStanding::Ready, None),
        Standing::Away(why) => (IceStanding::Away, Some(why.clone())),
        Standing::ForViewers => (IceStanding::ForViewers, None),
    }
}
