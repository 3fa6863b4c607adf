//! Bounded queues between threads, each with the eventfd that wakes its reader.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::wake::Waker;

/// The writing end; clones write to the same queue.
pub struct Inbox<T> {
    queue: Arc<Mutex<VecDeque<T>>>,
    waker: Waker,
    bound: usize,
    lost: Arc<AtomicU64>,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), waker: self.waker.clone(), bound: self.bound, lost: self.lost.clone() }
    }
}

impl<T> Inbox<T> {
    /// Makes a queue of at most `bound` items that wakes `waker`.
    pub fn new(bound: usize, waker: Waker) -> Self {
        Self { queue: Arc::default(), waker, bound, lost: Arc::default() }
    }

    /// Adds an item that may be lost and wakes the reader; a full queue gives it back.
    ///
    /// # Errors
    /// The item, where the queue is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut queue = self.lock();
        if queue.len() >= self.bound {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Err(item);
        }
        queue.push_back(item);
        drop(queue);
        self.waker.wake();
        Ok(())
    }

    /// Adds an item whatever the bound: for what must not be lost and is bounded by the number of sessions.
    pub fn push_always(&self, item: T) {
        self.lock().push_back(item);
        self.waker.wake();
    }

    /// Adds an item, losing the oldest where the queue is full.
    pub fn push_newest(&self, item: T) {
        let mut queue = self.lock();
        if queue.len() >= self.bound {
            queue.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        queue.push_back(item);
        drop(queue);
        self.waker.wake();
    }

    /// Takes all that is there, in order.
    pub fn drain(&self) -> VecDeque<T> {
        std::mem::take(&mut *self.lock())
    }

    /// What waits for the reader's descriptor.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Items lost to a full queue so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
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
}
