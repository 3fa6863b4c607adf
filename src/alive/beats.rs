//! Beats: which threads work, which wait, and which hang in their work.
//!
//! A thread counts its turns and its waits; odd counts are work, even ones waiting, so a thread that sleeps for ever because nothing is asked
//! of it needs no wake to say so. Whoever looks keeps what it saw: a count that is odd and stays the same is a thread that hangs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A thread's side: held by the thread, which is gone from the registry when this is dropped. The default is one that nobody looks at.
#[derive(Debug, Default)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    /// Says that a turn of work begins.
    pub fn turn(&self) {
        // One thread writes, and whoever looks needs the count alone.
        let count = self.0.load(Ordering::Relaxed);
        self.0.store((count + 1) | 1, Ordering::Relaxed);
    }

    /// Says that the thread waits for as long as `wait` takes, and that a turn of work begins then.
    pub fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        let count = self.0.load(Ordering::Relaxed);
        self.0.store((count | 1) + 1, Ordering::Relaxed);
        let waited = wait();
        self.turn();
        waited
    }
}

/// All threads that beat; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Mutex<Registered>>);

#[derive(Debug, Default)]
struct Registered {
    next: u64,
    threads: Vec<(u64, Arc<str>, Weak<AtomicU64>)>,
}

/// A look at one thread's count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Differs for each beat, whatever the threads are called.
    pub id: u64,
    /// The thread.
    pub name: Arc<str>,
    /// Odd while it works.
    pub count: u64,
}

impl Registry {
    /// Makes the beat of a thread, which waits to begin with.
    pub fn beat(&self, name: &str) -> Beat {
        let beat = Beat::default();
        let mut registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = registered.next;
        registered.next += 1;
        registered.threads.push((id, name.into(), Arc::downgrade(&beat.0)));
        beat
    }

    /// Looks at all threads that still are; wakes none.
    pub fn readings(&self) -> Vec<Reading> {
        let mut registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registered.threads.retain(|(_, _, count)| count.strong_count() > 0);
        let read = |(id, name, count): &(u64, Arc<str>, Weak<AtomicU64>)| {
            let count = count.upgrade()?.load(Ordering::Relaxed);
            Some(Reading { id: *id, name: name.clone(), count })
        };
        registered.threads.iter().filter_map(read).collect()
    }
}

/// Something that has changed since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A thread hangs: it has been in one turn of work for `busy` at least.
    Hangs {
        /// The thread.
        name: Arc<str>,
        /// For how long it has been seen so.
        busy: Duration,
    },
    /// A thread that hung goes on, or has ended.
    GoesOn {
        /// The thread.
        name: Arc<str>,
    },
}

/// Judges looks at all threads.
#[derive(Debug)]
pub struct Beats {
    limit: Duration,
    every: Duration,
    looked: Option<Instant>,
    seen: Vec<Seen>,
    news: Vec<News>,
}

#[derive(Debug)]
struct Seen {
    reading: Reading,
    busy: Duration,
    hangs: bool,
}

impl Beats {
    /// Makes a judge for which a turn of `limit` is a thread that hangs, and which is meant to look at each `every`.
    pub fn new(limit: Duration, every: Duration) -> Self {
        Self { limit, every, looked: None, seen: Vec::new(), news: Vec::new() }
    }

    /// Takes a look at all threads.
    pub fn handle_readings(&mut self, now: Instant, readings: Vec<Reading>) {
        // Whoever looks too late was held up, and so may the threads have been: that time is nobody's fault.
        let passed = self.looked.map_or(Duration::ZERO, |last| now.saturating_duration_since(last).min(self.every));
        self.looked = Some(now);
        let mut before = std::mem::take(&mut self.seen);
        for reading in readings {
            let known = before.iter().position(|seen| seen.reading.id == reading.id).map(|at| before.swap_remove(at));
            let works = reading.count % 2 == 1;
            let (stays, hung) =
                known.map_or((None, false), |seen| ((seen.reading == reading).then_some(seen.busy), seen.hangs));
            let busy = stays.filter(|_| works).map_or(Duration::ZERO, |busy| busy + passed);
            let hangs = busy >= self.limit;
            match (hung, hangs) {
                (false, true) => self.news.push(News::Hangs { name: reading.name.clone(), busy }),
                (true, false) => self.news.push(News::GoesOn { name: reading.name.clone() }),
                _ => {}
            }
            self.seen.push(Seen { reading, busy, hangs });
        }
        let ended = before.into_iter().filter(|seen| seen.hangs);
        self.news.extend(ended.map(|seen| News::GoesOn { name: seen.reading.name }));
    }

    /// Whether no thread hangs, as far as was seen.
    pub fn all_well(&self) -> bool {
        !self.seen.iter().any(|seen| seen.hangs)
    }

    /// What has changed, the oldest first.
    pub fn poll_news(&mut self) -> Option<News> {
        (!self.news.is_empty()).then(|| self.news.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(5);
    const LIMIT: Duration = Duration::from_secs(10);

    /// Threads in virtual time.
    struct Scene {
        registry: Registry,
        beats: Beats,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { registry: Registry::default(), beats: Beats::new(LIMIT, EVERY), now: Instant::now() }
        }

        /// Looks after `passed`; gives what is new.
        fn look(&mut self, passed: Duration) -> Vec<News> {
            self.now += passed;
            self.beats.handle_readings(self.now, self.registry.readings());
            std::iter::from_fn(|| self.beats.poll_news()).collect()
        }
    }

    fn hangs(name: &str, busy: Duration) -> News {
        News::Hangs { name: name.into(), busy }
    }

    fn goes_on(name: &str) -> News {
        News::GoesOn { name: name.into() }
    }

    #[test]
    fn a_thread_that_waits_for_ever_is_well() {
        let mut scene = Scene::new();
        let (never_begun, idle) = (scene.registry.beat("media"), scene.registry.beat("encode"));
        idle.turn();
        idle.waiting(|| {
            for _ in 0..1000 {
                assert!(scene.look(EVERY).is_empty() && scene.beats.all_well());
            }
        });
        drop(never_begun);
    }

    #[test]
    fn a_thread_that_works_without_a_pause_is_well_as_long_as_it_turns() {
        let mut scene = Scene::new();
        let busy = scene.registry.beat("encode");
        for _ in 0..1000 {
            busy.turn();
            assert!(scene.look(EVERY).is_empty() && scene.beats.all_well());
        }
    }

    #[test]
    fn a_thread_that_hangs_is_told_once_and_so_is_that_it_goes_on() {
        let mut scene = Scene::new();
        let (stuck, other) = (scene.registry.beat("encode"), scene.registry.beat("media"));
        stuck.turn();
        assert_eq!(scene.look(EVERY), []);
        assert_eq!(scene.look(EVERY), []);
        assert!(scene.beats.all_well(), "it was seen for five seconds");
        other.turn();
        assert_eq!(scene.look(EVERY), [hangs("encode", LIMIT)]);
        assert!(!scene.beats.all_well());
        other.waiting(|| ());
        assert_eq!(scene.look(EVERY), []);
        assert!(!scene.beats.all_well());
        stuck.waiting(|| assert_eq!(scene.look(EVERY), [goes_on("encode")]));
        assert!(scene.beats.all_well());
        assert_eq!(scene.look(EVERY), [hangs("media", LIMIT)], "the other is in one turn since its wait");
    }

    #[test]
    fn a_thread_that_ends_hangs_no_more_and_its_namesake_is_another() {
        let mut scene = Scene::new();
        let first = scene.registry.beat("capture");
        first.turn();
        let looks: Vec<_> = (0..4).flat_map(|_| scene.look(EVERY)).collect();
        assert_eq!(looks, [hangs("capture", LIMIT)]);
        drop(first);
        let second = scene.registry.beat("capture");
        second.turn();
        assert_eq!(scene.look(EVERY), [goes_on("capture")]);
        assert!(scene.beats.all_well());
        assert_eq!(scene.registry.readings().len(), 1);
    }

    #[test]
    fn time_in_which_nobody_could_look_is_not_held_against_threads() {
        let mut scene = Scene::new();
        let thread = scene.registry.beat("media");
        thread.turn();
        assert_eq!(scene.look(EVERY), []);
        // The machine slept, or the whole process was stopped.
        assert_eq!(scene.look(Duration::from_secs(3600)), []);
        assert!(scene.beats.all_well());
        thread.turn();
        assert_eq!(scene.look(EVERY), []);
        assert_eq!(scene.look(EVERY), []);
        assert_eq!(scene.look(EVERY), [hangs("media", LIMIT)]);
    }

    #[test]
    fn turns_and_waits_are_told_apart_in_any_order() {
        let registry = Registry::default();
        let beat = registry.beat("any");
        let count = || registry.readings()[0].count;
        let mut last = count();
        assert_eq!(last % 2, 0, "it waits to begin with");
        for round in 0..1000_u32 {
            if round.wrapping_mul(2_654_435_761) >> 31 == 0 {
                beat.turn();
            } else {
                beat.waiting(|| assert!(count() % 2 == 0 && count() > last));
            }
            assert!(count() % 2 == 1 && count() > last);
            last = count();
        }
    }
}
