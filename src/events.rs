//! What happens in the daemon, told to all who want to know: operators at the control socket, and whoever keeps account of what is away.
//!
//! Telling never waits. Each listener has a bounded queue, and who does not take in time loses the oldest. Nothing is told from where packets are sent.

use tokio::sync::broadcast;

use crate::clock::wall_now;
use crate::control::wire::{Event, Happened};

/// So many that a listener has not taken yet are kept for it.
const MOST_WAITING: usize = 256;

/// The way to all listeners.
#[derive(Debug, Clone)]
pub struct Events {
    listeners: broadcast::Sender<Happened>,
}

/// What one listener has not taken yet.
pub type Listener = broadcast::Receiver<Happened>;

impl Default for Events {
    fn default() -> Self {
        Self { listeners: broadcast::Sender::new(MOST_WAITING) }
    }
}

impl Events {
    /// Tells all listeners.
    pub fn tell(&self, event: Event) {
        // Nobody may listen.
        let _ = self.listeners.send(happened(event));
    }

    /// A listener, which gets what happens from now on.
    pub fn listen(&self) -> Listener {
        self.listeners.subscribe()
    }
}

/// Stamps what happens now.
pub fn happened(event: Event) -> Happened {
    Happened { at_ms: u64::try_from(wall_now().as_millis()).unwrap_or(u64::MAX), event }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn who_is_slow_loses_the_oldest_and_nobody_else_does() {
        let events = Events::default();
        let (mut slow, mut quick) = (events.listen(), events.listen());
        for count in 0..MOST_WAITING as u64 + 5 {
            events.tell(Event::Lost { events: count });
            assert_eq!(quick.try_recv().unwrap().event, Event::Lost { events: count });
        }
        assert_eq!(slow.try_recv(), Err(TryRecvError::Lagged(5)));
        assert_eq!(slow.try_recv().unwrap().event, Event::Lost { events: 5 });
        assert_eq!(quick.try_recv(), Err(TryRecvError::Empty));
    }
}
