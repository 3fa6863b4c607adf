//! Tells of what changes by itself and tells nobody: the source, the sound, STUN and TURN servers.

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::makers::Makers;
use crate::control::wire::{Event, IceStanding};
use crate::events::Events;
use crate::orders::Health;
use crate::session::relay::server::Standing;

/// Watches all of them until the set is dropped.
pub(super) fn watch_all(
    makers: &Makers,
    ice_servers: &[(String, watch::Receiver<Standing>)],
    events: &Events,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (source, told) = (makers.source().what, events.clone());
    tasks.spawn(follow(makers.source_health(), move |health| {
        let source = source.clone();
        told.tell(match health {
            Health::Lost { why } => Event::SourceLost { source, why },
            Health::Well => Event::SourceBack { source },
        });
    }));
    if let Some(health) = makers.sound.health() {
        let (sound, told) = (makers.sound.describe(), events.clone());
        tasks.spawn(follow(health, move |health| {
            let sound = sound.clone();
            told.tell(match health {
                Health::Lost { why } => Event::SoundLost { sound, why },
                Health::Well => Event::SoundBack { sound },
            });
        }));
    }
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
