//! Sound: captured, cut to 20 ms, and encoded once for all viewers.
//!
//! Owns the handle by which sound is steered, and the thread `audio`, where device and encoder live. No device is open and
//! nothing is encoded while nobody listens. It never decides who does.
//!
//! Why libpulse where a sound server runs and cpal's ALSA host only where none does: a tone of 1 kHz in a PulseAudio null
//! sink at 48 kHz, recorded for 10 s each (two shared cores of an EPYC, CPU of the whole process).
//!
//! | way | fragment | discontinuities | CPU, % of a core | callback gap, median and worst |
//! |---|---|---|---|---|
//! | libpulse, asynchronous (here) | 960 | 0 | 0.3 | 20 ms |
//! | libpulse-simple-binding 2.29 | 960 | 0 | 0.4 | 20 and 26 ms |
//! | the same | 480, 240 | 0 | 1.1 | 10, 5 ms |
//! | cpal 0.18 `pulseaudio` | 960, 480, 240 | 8, 648, 234 | 1.1 to 2.4 | 15, 10, 5 ms; worst 297 ms |
//! | cpal 0.18 ALSA through the pulse plugin | 960 | 0 | 44 | 13 and 32 ms |
//! | the same | 480, 240 | 0, but 10 % of the samples lost once | 19 to 29 | 7, 3 ms; worst 1968 ms |
//!
//! libpulse-simple blocks for as long as a stopped server does, and needs a second thread; its asynchronous interface
//! needs neither. Encoding costs 0.3 to 0.6 % more, digital silence nothing.
//!
//! PulseAudio's null sink renders ahead by the latency of its players, and its monitor gives a recorder that comes nothing
//! until then, whatever that one asks for: parec too waited 0.4 to 1.7 s beside a player that wants no latency in particular
//! (2 s), 0.03 to 0.09 s beside one of 200 ms, 0.01 s beside one of 20 ms.

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::info;

use crate::alive::Watch;
use crate::alive::beats::Beat;
use crate::encoder::worker::UnitSink;
use crate::orders::{Health, OrderedThread, Orders, SpawnError};

#[cfg(feature = "alsa")]
mod alsa;
mod capture;
pub mod feed;
#[cfg(any(feature = "alsa", feature = "pulse"))]
mod microphones;
mod opus;
mod outage;
mod pace;
#[cfg(feature = "pulse")]
mod pulse;
mod spec;
mod timeline;
pub mod tone;

use capture::Device;
use feed::Feed;
use opus::{OpusEncoder, OpusError};
pub use spec::{AudioSpec, AudioSpecError};

/// Hz, of all sound here.
pub const SAMPLE_RATE: u32 = 48_000;
/// All sound here is stereo.
pub const CHANNELS: usize = 2;
/// The extent of a block, and of a packet.
pub const BLOCK: Duration = Duration::from_millis(20);
/// Samples of each channel in a block.
pub const BLOCK_SAMPLES: usize = 960;

/// Why there is no sound.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The device that was asked for can't be had.
    #[error("audio {spec}: {found}")]
    Unavailable {
        /// What was asked for.
        spec: AudioSpec,
        /// What was found, and what to do.
        found: String,
    },
    /// The operating system refuses something.
    #[error("audio {spec}: {what}: {error}")]
    System {
        /// What was asked for.
        spec: AudioSpec,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// The sound of a broadcast: idle until it is made active; closed when dropped.
#[derive(Debug)]
pub struct AudioCapture {
    /// `None` where there is no sound.
    thread: Option<OrderedThread<String>>,
}

impl AudioCapture {
    /// Opens what `spec` names; `sink` gets its packets while it is active, from the thread `audio`.
    ///
    /// `watch` hears of it where that thread ends before this is dropped. A device that is lost later is tried again for as long as
    /// it is wanted, and the log says so once.
    ///
    /// # Errors
    /// [`AudioError`] where what is named can't be had; `auto` goes without sound and says so in the log.
    pub fn open(spec: &AudioSpec, sink: UnitSink, watch: &Watch) -> Result<Self, AudioError> {
        Self::open_on(None, spec, sink, watch)
    }

    /// Opens what `spec` names as [`AudioCapture::open`] does, on the sound server at this address in the place of
    /// `$PULSE_SERVER`.
    ///
    /// # Errors
    /// As [`AudioCapture::open`].
    pub fn open_on(server: Option<&str>, spec: &AudioSpec, sink: UnitSink, watch: &Watch) -> Result<Self, AudioError> {
        if *spec == AudioSpec::Off {
            return Ok(Self { thread: None });
        }
        let (wanted, server) = (spec.clone(), server.map(str::to_owned));
        let choose = move |orders: &Orders| Device::choose(&wanted, server.as_deref(), orders);
        let error = match Self::spawn(spec, sink, watch, choose) {
            Ok(capture) => return Ok(capture),
            Err(error) => error,
        };
        if *spec == AudioSpec::Auto {
            // Each switch looks again, and is of the same opinion.
            static ONCE: Once = Once::new();
            ONCE.call_once(|| {
                info!("without sound: {error}, then start laterna again, which looks for sound at its start only");
            });
            return Ok(Self { thread: None });
        }
        Err(error)
    }

    /// Takes the sound that a source brings with its pictures; `sink` and `watch` as for [`AudioCapture::open`].
    ///
    /// # Errors
    /// [`AudioError`] where no thread or no encoder can be had.
    pub fn open_feed(feed: Arc<Feed>, sink: UnitSink, watch: &Watch) -> Result<Self, AudioError> {
        Self::spawn(&AudioSpec::File, sink, watch, move |_: &Orders| Ok((Device::Feed(feed), "file".to_owned())))
    }

    fn spawn(
        spec: &AudioSpec,
        sink: UnitSink,
        watch: &Watch,
        choose: impl FnOnce(&Orders) -> Result<(Device, String), InputError> + Send + 'static,
    ) -> Result<Self, AudioError> {
        let open = move |orders: &Orders| -> Result<_, InputError> {
            let (device, description) = choose(orders)?;
            Ok((description, (device, OpusEncoder::new()?)))
        };
        let run = move |(device, encoder), orders: &Orders| capture::run(&device, encoder, orders, &sink);
        // Nobody looks at its beat: sound that hangs is no reason to take the pictures from everybody.
        match OrderedThread::spawn("audio", watch, Beat::default(), open, run) {
            Ok(thread) => Ok(Self { thread: Some(thread) }),
            Err(SpawnError::Open(error)) => {
                Err(AudioError::Unavailable { spec: spec.clone(), found: error.to_string() })
            }
            Err(SpawnError::System(what, error)) => Err(AudioError::System { spec: spec.clone(), what, error }),
        }
    }

    /// Whether there is any sound to listen to.
    pub fn is_there(&self) -> bool {
        self.thread.is_some()
    }

    /// What it is, for people: `system (speakers)`, or `off`.
    pub fn describe(&self) -> String {
        self.thread.as_ref().map_or_else(|| "off".to_owned(), |thread| thread.opened().clone())
    }

    /// Whether its packets can be had, now and from now on; `None` where there is no sound.
    pub(crate) fn health(&self) -> Option<watch::Receiver<Health>> {
        self.thread.as_ref().map(OrderedThread::health)
    }

    /// Lets packets flow, or closes the device.
    pub fn set_active(&self, active: bool) {
        if let Some(thread) = &self.thread {
            thread.set_active(active);
        }
    }
}

/// 20 ms of sound as it was captured.
#[derive(Debug)]
struct Block {
    /// Interleaved, 16 bits.
    samples: Box<[i16; BLOCK_SAMPLES * CHANNELS]>,
    /// When the first sample was captured, as far as its arrival tells.
    captured: Instant,
    /// Whether samples were lost right before it, or it is the first one.
    anew: bool,
}

impl Block {
    fn new(now: Instant) -> Self {
        Self { samples: Box::new([0; BLOCK_SAMPLES * CHANNELS]), captured: now, anew: true }
    }
}

/// Why waiting for sound was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A block is whole.
    Block,
    /// There may be an order, or nothing.
    Order,
}

/// Why a device gives no sound.
#[cfg_attr(not(feature = "pulse"), expect(dead_code, reason = "what only a sound server does"))]
#[derive(Debug, thiserror::Error)]
enum InputError {
    /// No sound server can be reached.
    #[error("no sound server: {0}; start PulseAudio or PipeWire as this user, or set PULSE_SERVER")]
    NoServer(String),
    /// What was asked for is not among what there is.
    #[error("{found}; {advice}")]
    Missing {
        /// What was found.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// It was there and is not any more, or does not work.
    #[error("{0}")]
    Lost(String),
    /// The encoder can't be made.
    #[error(transparent)]
    Encoder(#[from] OpusError),
    /// The sound server's default device is another one.
    #[error("another default device")]
    Moved,
    /// An order came meanwhile.
    #[error("interrupted")]
    Interrupted,
}
