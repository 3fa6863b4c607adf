//! The encode worker: one thread that turns the newest frame into access units for all viewers of a rung.
//!
//! The shell of `schedule`: owns the thread, the mailbox's lock, the canvas and the codec's life; decides nothing about
//! pictures. Never wakes up while the screen stands still and nobody asks for anything.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::picture::EncoderError;
use super::schedule::Work;
use super::video::VideoEncoder;
use super::{AccessUnit, Bitrate, Codec};
use crate::alive::beats::Beat;
use crate::alive::{Alive, Watch};
use crate::frame::canvas::FitMode;
use crate::frame::{Frame, Size};

mod inbox;
mod rung;
#[cfg(test)]
mod tests;

use inbox::{Inbox, Recorded};
use rung::Rung;

/// How much more urgent encoding is than all else, where the system allows it (nice(2)).
const MORE_URGENT: i32 = -10;

/// What a worker encodes.
#[derive(Debug, Clone, Copy)]
pub struct WorkerConfig {
    /// What pictures are encoded to.
    pub codec: Codec,
    /// The extent of the canvas, which is also the coded size.
    pub canvas: Size,
    /// The rung's rate.
    pub bitrate: Bitrate,
    /// The most frames a second that will be put.
    pub fps: u32,
    /// How pictures of other sides are fitted into the canvas.
    pub fit: FitMode,
}

/// What a worker has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncoderCounters {
    /// Units made, keyframes included.
    pub units: u64,
    /// Keyframes made.
    pub keyframes: u64,
    /// Units that were passed on as they are recorded; they are among the others too.
    pub passed: u64,
    /// Bytes of all units.
    pub bytes: u64,
    /// Units that were no keyframe and yet cost over four frame budgets.
    pub faults: u64,
    /// Frames that a newer one replaced before they were encoded.
    pub replaced: u64,
    /// Times that the codec failed and was made anew.
    pub restarts: u64,
    /// Time spent composing, converting and encoding.
    pub encode_time: Duration,
    /// The same for a picture, lately.
    pub recent_time: Duration,
}

/// Where access units go: called on the worker's thread, so it must return at once.
pub type UnitSink = Arc<dyn Fn(AccessUnit) + Send + Sync>;

/// A running worker; dropping it stops and joins its thread.
pub struct EncodeWorker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
    counters: Mutex<EncoderCounters>,
}

impl EncodeWorker {
    /// Starts an inactive worker; it fails where the codec is not built in, the canvas can't be encoded, or there is no thread.
    ///
    /// `watch` hears of it where its thread ends before the worker is dropped, and sees where it hangs.
    pub fn start(config: WorkerConfig, sink: UnitSink, watch: &Watch) -> Result<Self, EncoderError> {
        VideoEncoder::check(config.codec, rung::even(config.canvas))?;
        let inbox = Inbox::new(&config, rung::even(config.canvas));
        let shared = Arc::new(Shared {
            inbox: Mutex::new(inbox),
            changed: Condvar::new(),
            counters: Mutex::new(EncoderCounters::default()),
        });
        let for_thread = Arc::clone(&shared);
        let name = format!("encode-{}", config.codec);
        let (alive, beat) = (watch.guard(), watch.beat(&name));
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || run(&for_thread, config, &sink, alive, &beat))
            .map_err(|error| EncoderError::Thread(error.kind()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Gives the newest frame; one that still waits is replaced, its damage kept. An inactive worker drops it.
    pub fn put(&self, frame: Frame) {
        let mut inbox = lock(&self.shared.inbox);
        if !inbox.active {
            return;
        }
        let is_news = inbox.put(frame);
        drop(inbox);
        if is_news {
            self.shared.changed.notify_one();
        }
    }

    /// Asks for a keyframe on behalf of a viewer; at most one a second is made.
    pub fn request_keyframe(&self) {
        self.tell(|inbox| {
            // The newest one: an older one may be served already by a keyframe that this one came too late for.
            inbox.keyframe = Some(Instant::now());
        });
    }

    /// Changes the rung's rate; makes no keyframe.
    pub fn set_bitrate(&self, bitrate: Bitrate) {
        self.tell(|inbox| inbox.bitrate = bitrate);
    }

    /// Changes the most frames a second that will be put; the next picture is a keyframe, since H.264 tells its level there.
    pub fn set_fps(&self, fps: u32) {
        self.tell(|inbox| inbox.fps = fps);
    }

    /// Says whether anybody watches: an inactive worker has no codec and does no work; once active, its first unit is a
    /// keyframe of a frame put after that.
    pub fn set_active(&self, active: bool) {
        self.tell(|inbox| inbox.set_active(active));
    }

    /// What it has done so far.
    pub fn counters(&self) -> EncoderCounters {
        let replaced = lock(&self.shared.inbox).mailbox.replaced();
        EncoderCounters { replaced, ..*lock(&self.shared.counters) }
    }

    fn tell(&self, what: impl FnOnce(&mut Inbox)) {
        what(&mut lock(&self.shared.inbox));
        self.shared.changed.notify_one();
    }
}

impl Drop for EncodeWorker {
    fn drop(&mut self) {
        self.tell(|inbox| inbox.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the encoder's thread panicked");
        }
    }
}

fn run(shared: &Shared, config: WorkerConfig, sink: &UnitSink, alive: Alive, beat: &Beat) {
    // On Linux this is the thread's own, and only a service with LimitNICE= (or root) may: a picture that waits for a core is late for everybody.
    let _ = rustix::process::nice(MORE_URGENT);
    let mut rung = Rung::new(config, Instant::now());
    let mut starts = 0;
    let mut inbox = lock(&shared.inbox);
    while !inbox.stop {
        beat.turn();
        let now = Instant::now();
        if starts != inbox.starts {
            starts = inbox.starts;
            rung.set_active(false, now);
        }
        rung.set_active(inbox.active, now);
        rung.set_bitrate(inbox.bitrate, now);
        rung.set_fps(inbox.fps, now);
        if let Some(asked) = inbox.keyframe.take() {
            rung.request_keyframe(asked);
        }
        if let Some(Recorded { coded, captured }) = inbox.take_recorded() {
            drop(inbox);
            let unit = rung.pass(&coded, captured, now);
            inbox = give(shared, &rung, sink, Some(unit), starts);
            continue;
        }
        if inbox.passes() {
            if !rung.wants_encoding(now) {
                inbox = beat.waiting(|| wait(&shared.changed, inbox, rung.encoding_at(), now));
                continue;
            }
            let seen = inbox.leave();
            // Composing takes its time, and those who put frames or ask for keyframes do not wait for it.
            drop(inbox);
            rung.handle_left(seen.as_ref());
            drop(seen);
            inbox = lock(&shared.inbox);
            continue;
        } else if rung.is_passing() {
            rung.handle_left(None);
        }
        if !inbox.mailbox.is_empty() {
            rung.handle_frame();
        }
        let Some(work) = rung.poll(now) else {
            inbox = beat.waiting(|| wait(&shared.changed, inbox, rung.poll_timeout(), now));
            continue;
        };
        let frame = if work == Work::Change { inbox.mailbox.take() } else { None };
        drop(inbox);
        let unit = rung.encode(work, frame.as_ref());
        drop(frame);
        inbox = give(shared, &rung, sink, unit, starts);
    }
    drop(inbox);
    rung.set_active(false, Instant::now());
    alive.release();
}

/// Gives a unit to who watches since the inbox's start number `starts`: what was made for those who have left meanwhile is not for who has come.
fn give<'a>(
    shared: &'a Shared,
    rung: &Rung,
    sink: &UnitSink,
    unit: Option<AccessUnit>,
    starts: u64,
) -> MutexGuard<'a, Inbox> {
    *lock(&shared.counters) = rung.counters();
    let inbox = lock(&shared.inbox);
    let Some(unit) = unit.filter(|_| inbox.active && inbox.starts == starts) else { return inbox };
    drop(inbox);
    sink(unit);
    lock(&shared.inbox)
}

fn wait<'a>(
    changed: &Condvar,
    inbox: MutexGuard<'a, Inbox>,
    until: Option<Instant>,
    now: Instant,
) -> MutexGuard<'a, Inbox> {
    match until {
        None => changed.wait(inbox).unwrap_or_else(PoisonError::into_inner),
        Some(until) => {
            let timeout = until.saturating_duration_since(now);
            changed.wait_timeout(inbox, timeout).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
