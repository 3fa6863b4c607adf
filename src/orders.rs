//! Orders: what a capturing thread is to do, the bell that wakes it, and its life from opening to its end.
//!
//! The thread sleeps in poll(2) on the bell (an eventfd) and whatever else it watches; nothing here decides anything.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use tokio::sync::watch;
use tracing::warn;

use crate::alive::Watch;
use crate::alive::beats::Beat;

/// How long a thread may take to open what it captures.
pub(crate) const OPENING: Duration = Duration::from_secs(5);
/// How long a thread may take to end before it is left behind.
pub(crate) const CLOSING: Duration = Duration::from_secs(2);

/// What a thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// No work.
    Idle,
    /// What it captures flows.
    Active,
    /// The thread ends.
    Stopped,
}

/// What is asked of a thread at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// What it is to do from now on.
    pub(crate) mode: Mode,
    /// Whether one whole frame was asked for since the last look.
    pub(crate) refresh: bool,
}

/// Whether a thread captures what it is to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// It does, as far as it is asked to.
    Well,
    /// What it captures is gone, and is tried again.
    Lost {
        /// Why.
        why: String,
    },
}

/// The orders of one thread, shared between it and its handle.
#[derive(Debug)]
pub(crate) struct Orders {
    wanted: Mutex<Wanted>,
    bell: OwnedFd,
    /// The thread's: a look at the orders is a turn.
    beat: Beat,
    health: watch::Sender<Health>,
    /// What is captured now, where that has changed since it was opened.
    description: Mutex<Option<String>>,
    /// Hears of each change of health, on the thread itself.
    listener: OnceLock<Listener>,
}

/// Who hears of a thread's health.
struct Listener(Box<dyn Fn(&Health) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Orders {
    /// Makes orders to be idle, for the thread that `beat` is of.
    pub(crate) fn new(beat: Beat) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            wanted: Mutex::new(Wanted { mode: Mode::Idle, refresh: false }),
            bell,
            beat,
            health: watch::Sender::new(Health::Well),
            description: Mutex::default(),
            listener: OnceLock::new(),
        })
    }

    /// Tells whether the thread captures what it is to.
    pub(crate) fn tell(&self, health: Health) {
        self.health.send_replace(health.clone());
        if let Some(Listener(hear)) = self.listener.get() {
            hear(&health);
        }
    }

    /// Tells what is captured from now on, for people.
    pub(crate) fn describe(&self, what: String) {
        *self.description.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    /// Orders a mode and wakes the thread; nothing follows [`Mode::Stopped`].
    ///
    /// Each start is a refresh too: the thread may not see the idle time before it.
    pub(crate) fn set_mode(&self, mode: Mode) {
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
    pub(crate) fn ask_refresh(&self) {
        self.lock().refresh = true;
        self.ring();
    }

    /// Takes what is wanted now; a refresh is taken once.
    pub(crate) fn take(&self) -> Wanted {
        self.beat.turn();
        // The bell is silenced before the look, so that an order after it rings again.
        let mut count = [0; 8];
        let _silent_already = rustix::io::read(&self.bell, &mut count);
        let mut wanted = self.lock();
        let taken = *wanted;
        wanted.refresh = false;
        taken
    }

    /// Sleeps until an order, input on `input`, or the deadline.
    pub(crate) fn wait(&self, input: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> io::Result<()> {
        let bell = PollFd::new(&self.bell, PollFlags::IN);
        let timeout = deadline.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
        });
        let result = self.waiting(|| match &input {
            Some(input) => poll(&mut [bell, PollFd::new(input, PollFlags::IN)], timeout.as_ref()),
            None => poll(&mut [bell], timeout.as_ref()),
        });
        match result {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what may take for ever without the thread's being at fault.
    pub(crate) fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.beat.waiting(wait)
    }

    /// The bell for a poll loop that is not ours: readable from an order until it is taken.
    #[cfg(feature = "pulse")]
    pub(crate) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // It can fail only when the bell rings already.
        let _rings_already = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// A thread that follows orders and what it told of itself; dropping this stops and joins it.
#[derive(Debug)]
pub(crate) struct OrderedThread<T> {
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
    /// Read only when dropping; the lock lets threads share the handle meanwhile.
    ended: Mutex<mpsc::Receiver<()>>,
    opened: T,
}

/// Why a thread is not there.
#[derive(Debug)]
pub(crate) enum SpawnError<E> {
    /// It could not open what it captures.
    Open(E),
    /// The operating system refuses something, or the thread took too long.
    System(&'static str, io::Error),
}

impl<T: Send + 'static> OrderedThread<T> {
    /// Opens a backend in a thread called `name`, where it then runs until it is stopped; waits until it is open.
    ///
    /// `watch` hears of it where the thread ends before this is dropped; `beat` tells whether it hangs.
    pub(crate) fn spawn<B, E: Send + 'static>(
        name: &str,
        watch: &Watch,
        beat: Beat,
        open: impl FnOnce(&Orders) -> Result<(T, B), E> + Send + 'static,
        run: impl FnOnce(B, &Orders) + Send + 'static,
    ) -> Result<Self, SpawnError<E>> {
        Self::spawn_within(OPENING, name, watch, beat, open, run)
    }

    /// As [`Self::spawn`], for what may take longer to open.
    pub(crate) fn spawn_within<B, E: Send + 'static>(
        opening_time: Duration,
        name: &str,
        watch: &Watch,
        beat: Beat,
        open: impl FnOnce(&Orders) -> Result<(T, B), E> + Send + 'static,
        run: impl FnOnce(B, &Orders) + Send + 'static,
    ) -> Result<Self, SpawnError<E>> {
        let orders = Arc::new(Orders::new(beat).map_err(|error| SpawnError::System("making an eventfd", error))?);
        let (opening, opened) = mpsc::sync_channel(1);
        let (ending, ended) = mpsc::sync_channel(1);
        let (thread_orders, alive) = (orders.clone(), watch.guard());
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Dropped with the thread: that is how its end is seen.
                let _ending: mpsc::SyncSender<()> = ending;
                // Where nobody listens, opening has timed out.
                match open(&thread_orders) {
                    Ok((opened, backend)) => {
                        let _given_up = opening.send(Ok(opened));
                        run(backend, &thread_orders);
                        if thread_orders.take().mode == Mode::Stopped {
                            alive.release();
                        }
                    }
                    Err(error) => {
                        alive.release();
                        let _given_up = opening.send(Err(error));
                    }
                }
            })
            .map_err(|error| SpawnError::System("starting its thread", error))?;
        let opened = match opened.recv_timeout(opening_time) {
            Ok(opened) => opened.map_err(SpawnError::Open)?,
            Err(_) => {
                orders.set_mode(Mode::Stopped);
                return Err(SpawnError::System("waiting for it to answer", io::ErrorKind::TimedOut.into()));
            }
        };
        Ok(Self { orders, thread: Some(thread), ended: Mutex::new(ended), opened })
    }

    /// What the thread told of itself once it was open.
    pub(crate) fn opened(&self) -> &T {
        &self.opened
    }

    /// What it captures now, where it has told so since.
    pub(crate) fn description(&self) -> Option<String> {
        self.orders.description.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it captures what it is to, now and from now on.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.orders.health.subscribe()
    }

    /// Has somebody hear of each change of health from now on, and of what is lost already; to be called once.
    pub(crate) fn follow(&self, hear: Box<dyn Fn(&Health) + Send + Sync>) {
        if let Ok(()) = self.orders.listener.set(Listener(hear)) {
            let health = self.orders.health.borrow().clone();
            if let (Some(Listener(hear)), Health::Lost { .. }) = (self.orders.listener.get(), &health) {
                hear(&health);
            }
        }
    }

    /// Lets it work or be idle.
    pub(crate) fn set_active(&self, active: bool) {
        self.orders.set_mode(if active { Mode::Active } else { Mode::Idle });
    }

    /// Orders one whole frame.
    pub(crate) fn ask_refresh(&self) {
        self.orders.ask_refresh();
    }
}

impl<T> Drop for OrderedThread<T> {
    fn drop(&mut self) {
        self.orders.set_mode(Mode::Stopped);
        let Some(thread) = self.thread.take() else { return };
        let name = thread.thread().name().unwrap_or("without a name").to_owned();
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if matches!(ended.recv_timeout(CLOSING), Err(mpsc::RecvTimeoutError::Timeout)) {
            warn!("the thread {name} does not answer and is left behind");
        } else if thread.join().is_err() {
            tracing::error!("the thread {name} panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_order_wakes_once_and_a_refresh_is_taken_once() {
        let orders = Orders::new(Beat::default()).unwrap();
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
        let orders = Orders::new(Beat::default()).unwrap();
        orders.set_mode(Mode::Active);
        orders.take();
        orders.set_mode(Mode::Idle);
        orders.set_mode(Mode::Active);
        let wanted = orders.take();
        assert!(wanted.mode == Mode::Active && wanted.refresh);
    }

    #[test]
    fn stopped_is_final() {
        let orders = Orders::new(Beat::default()).unwrap();
        orders.set_mode(Mode::Stopped);
        orders.set_mode(Mode::Active);
        assert_eq!(orders.take().mode, Mode::Stopped);
    }
}
