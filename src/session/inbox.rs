//! Bounded queues between threads, each with the eventfd that wakes its reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wake::Waker;

/// How long nothing may be lost before what was lost is another matter.
const APART: Duration = Duration::from_secs(60);

/// The writing end; clones write to the same queue.
pub struct Inbox<T> {
    queue: Arc<Mutex<Queue<T>>>,
    waker: Waker,
    bound: usize,
}

struct Queue<T> {
    items: VecDeque<T>,
    lost: u64,
    overflow: Option<Overflow>,
}

/// Items that a full queue has lost, no minute apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// When the first was.
    pub since: Instant,
    /// When the last was.
    pub last: Instant,
    /// How many.
    pub items: u64,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), waker: self.waker.clone(), bound: self.bound }
    }
}

impl<T> Queue<T> {
    fn lose(&mut self, now: Instant) {
        self.lost += 1;
        let before = self.overflow.filter(|overflow| now.saturating_duration_since(overflow.last) < APART);
        let before = before.unwrap_or(Overflow { since: now, last: now, items: 0 });
        self.overflow = Some(Overflow { last: now, items: before.items + 1, ..before });
    }
}

impl<T> Inbox<T> {
    /// Makes a queue of at most `bound` items that wakes `waker`.
    pub fn new(bound: usize, waker: Waker) -> Self {
        let queue = Queue { items: VecDeque::new(), lost: 0, overflow: None };
        Self { queue: Arc::new(Mutex::new(queue)), waker, bound }
    }

    /// Adds an item that may be lost and wakes the reader; a full queue gives it back.
    ///
    /// # Errors
    /// The item, where the queue is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut queue = self.lock();
        if queue.items.len() >= self.bound {
            queue.lose(Instant::now());
            return Err(item);
        }
        queue.items.push_back(item);
        drop(queue);
        self.waker.wake();
        Ok(())
    }

    /// Adds an item whatever the bound: for what must not be lost and is bounded by the number of sessions.
    pub fn push_always(&self, item: T) {
        self.lock().items.push_back(item);
        self.waker.wake();
    }

    /// Adds an item, losing the oldest where the queue is full.
    pub fn push_newest(&self, item: T) {
        let mut queue = self.lock();
        if queue.items.len() >= self.bound {
            queue.items.pop_front();
            queue.lose(Instant::now());
        }
        queue.items.push_back(item);
        drop(queue);
        self.waker.wake();
    }

    /// Takes all that is there, in order.
    pub fn drain(&self) -> VecDeque<T> {
        std::mem::take(&mut self.lock().items)
    }

    /// What waits for the reader's descriptor.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Items lost to a full queue so far.
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// The last items that were lost, if any was within the last minute.
    pub fn overflow(&self, now: Instant) -> Option<Overflow> {
        self.lock().overflow.filter(|overflow| now.saturating_duration_since(overflow.last) < APART)
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // A panic elsewhere leaves a queue that is still whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_flood_loses_only_what_may_be_lost() {
        let inbox = Inbox::new(10, Waker::new().unwrap());
        for item in 0..1_000 {
            let _ = inbox.push(item);
        }
        inbox.push_always(-1);
        let items = inbox.drain();
        assert_eq!((items.len(), items.back(), inbox.lost()), (11, Some(&-1), 990));
        for item in 0..1_000 {
            inbox.push_newest(item);
        }
        assert_eq!(inbox.drain().front(), Some(&990));
    }

    #[test]
    fn what_was_lost_within_a_minute_is_one_matter() {
        let inbox = Inbox::new(1, Waker::new().unwrap());
        let start = Instant::now();
        assert_eq!(inbox.overflow(start), None);
        [0, 1, 2].into_iter().for_each(|item| inbox.push_newest(item));
        let overflow = inbox.overflow(Instant::now()).unwrap();
        assert_eq!(overflow.items, 2);
        assert_eq!(inbox.overflow(overflow.last + APART), None);
        inbox.lock().lose(overflow.last + APART / 2);
        assert_eq!(inbox.lock().overflow.unwrap().items, 3);
        inbox.lock().lose(overflow.last + APART * 2);
        assert_eq!(inbox.lock().overflow.unwrap().items, 1);
        assert_eq!(inbox.lost(), 4);
    }
}
