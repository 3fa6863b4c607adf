//! Threads that must not end: each holds an [`Alive`], which tells the daemon where it ends all the same; and those that must not hang, which
//! hold a [`Beat`] too.
//!
//! Owns the news only, never a thread: whoever starts one joins it.

use tokio::sync::mpsc;

pub mod beats;

use beats::{Beat, Registry};

/// News of one thread's end is enough for the daemon to end.
const MOST_NEWS: usize = 4;

/// Makes guards for threads; clones tell the same daemon.
#[derive(Debug, Clone)]
pub struct Watch {
    ended: mpsc::Sender<String>,
    beating: Registry,
}

/// Held by a thread for as long as it runs; dropped without [`Alive::release`], by a panic too, it tells the thread's name.
#[derive(Debug)]
pub struct Alive {
    ended: Option<mpsc::Sender<String>>,
}

impl Watch {
    /// Makes a watch, and what gets the names of the threads that have ended and must not.
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (ended, news) = mpsc::channel(MOST_NEWS);
        (Self { ended, beating: Registry::default() }, news)
    }

    /// Makes a guard, to be held by the thread that it guards.
    pub fn guard(&self) -> Alive {
        Alive { ended: Some(self.ended.clone()) }
    }

    /// Makes the beat of a thread that must not hang.
    pub fn beat(&self, name: &str) -> Beat {
        self.beating.beat(name)
    }

    /// All threads that beat.
    pub fn beating(&self) -> &Registry {
        &self.beating
    }
}

impl Alive {
    /// Says that the thread ends in order.
    pub fn release(mut self) {
        self.ended = None;
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(ended) = &self.ended {
            let name = std::thread::current().name().unwrap_or("without a name").to_owned();
            // Full means that word of other threads' ends is under way; closed, that the daemon ends already.
            let _ = ended.try_send(name);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    /// The name of the next thread that ends and must not; `None` once all guards and watches are gone.
    pub(crate) fn next_end(news: &mut mpsc::Receiver<String>) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), news.recv()).await.unwrap() })
    }

    #[test]
    fn a_thread_that_ends_or_panics_is_told_by_name_and_an_orderly_one_is_not() {
        let (watch, mut news) = Watch::new();
        let run = |name: &str, body: fn(Alive)| {
            let alive = watch.guard();
            std::thread::Builder::new().name(name.to_owned()).spawn(move || body(alive)).unwrap().join()
        };
        run("orderly", Alive::release).unwrap();
        run("early", |_alive| ()).unwrap();
        assert!(run("panics", |_alive| panic!("as the test wants")).is_err());
        drop(watch);
        assert_eq!(next_end(&mut news).as_deref(), Some("early"));
        assert_eq!(next_end(&mut news).as_deref(), Some("panics"));
        assert_eq!(next_end(&mut news), None);
    }
}
