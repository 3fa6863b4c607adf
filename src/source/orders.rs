//! Orders: what a source's thread is to do, and the bell that wakes it.
//!
//! The thread sleeps in poll(2) on the bell (an eventfd) and whatever else it watches; nothing here decides anything.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// What a source is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// No work.
    Idle,
    /// Frames flow.
    Active,
    /// The thread ends.
    Stopped,
}

/// What is asked of a source at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// What it is to do from now on.
    pub(super) mode: Mode,
    /// Whether one whole frame was asked for since the last look.
    pub(super) refresh: bool,
}

/// The orders of one source, shared between its handle and its thread.
#[derive(Debug)]
pub(super) struct Orders {
    wanted: Mutex<Wanted>,
    bell: OwnedFd,
}

impl Orders {
    /// Makes orders to be idle.
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { wanted: Mutex::new(Wanted { mode: Mode::Idle, refresh: false }), bell })
    }

    /// Orders a mode and wakes the thread; nothing follows [`Mode::Stopped`].
    ///
    /// Each start is a refresh too: the thread may not see the idle time before it.
    pub(super) fn set_mode(&self, mode: Mode) {
        let mut wanted = self.lock();
        if wanted.mode == mode || wanted.mode == Mode::Stopped {
            return;
        }
        wanted.mode = mode;
        wanted.refresh |= mode == Mode::Active;
        drop(wanted);
        self.ring();
    }

    /// Orders one whole frame and wakes the thread.
    pub(super) fn ask_refresh(&self) {
        self.lock().refresh = true;
        self.ring();
    }

    /// Takes what is wanted now; a refresh is taken once.
    pub(super) fn take(&self) -> Wanted {
        // The bell is silenced before the look, so that an order after it rings again.
        let mut count = [0; 8];
        let _silent_already = rustix::io::read(&self.bell, &mut count);
        let mut wanted = self.lock();
        let taken = *wanted;
        wanted.refresh = false;
        taken
    }

    /// Sleeps until an order, input on `input`, or the deadline.
    pub(super) fn wait(&self, input: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> io::Result<()> {
        let bell = PollFd::new(&self.bell, PollFlags::IN);
        let timeout = deadline.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
        });
        let result = match &input {
            Some(input) => poll(&mut [bell, PollFd::new(input, PollFlags::IN)], timeout.as_ref()),
            None => poll(&mut [bell], timeout.as_ref()),
        };
        match result {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // It can fail only when the bell rings already.
        let _rings_already = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_order_wakes_once_and_a_refresh_is_taken_once() {
        let orders = Orders::new().unwrap();
        orders.set_mode(Mode::Active);
        orders.ask_refresh();
        orders.wait(None, None).unwrap();
        let wanted = orders.take();
        assert!(wanted.mode == Mode::Active && wanted.refresh);
        let before = Instant::now();
        let deadline = before + std::time::Duration::from_millis(20);
        orders.wait(None, Some(deadline)).unwrap();
        assert!(Instant::now() >= deadline, "the bell was not silenced");
        assert!(!orders.take().refresh);
    }

    #[test]
    fn a_stop_and_a_start_that_are_seen_as_one_are_a_refresh() {
        let orders = Orders::new().unwrap();
        orders.set_mode(Mode::Active);
        orders.take();
        orders.set_mode(Mode::Idle);
        orders.set_mode(Mode::Active);
        let wanted = orders.take();
        assert!(wanted.mode == Mode::Active && wanted.refresh);
    }

    #[test]
    fn stopped_is_final() {
        let orders = Orders::new().unwrap();
        orders.set_mode(Mode::Stopped);
        orders.set_mode(Mode::Active);
        assert_eq!(orders.take().mode, Mode::Stopped);
    }
}
