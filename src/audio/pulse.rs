//! PulseAudio, or PipeWire in its place: the monitor of the default sink, and microphones.
//!
//! Owns one connection in the thread of its caller, by libpulse's asynchronous interface on libpulse's own poll loop:
//! nothing here blocks past its deadline or an order, whatever the server does (one that is stopped, too). Never starts a
//! server, and never chooses a device (that is `microphones`).

use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use libpulse_binding::callbacks::ListResult;
use libpulse_binding::context::{Context, FlagSet, State, subscribe};
use libpulse_binding::def::BufferAttr;
use libpulse_binding::error::{Code, PAErr};
use libpulse_binding::mainloop::api::Mainloop as _;
use libpulse_binding::mainloop::events::io::{FlagSet as Readiness, IoEvent};
use libpulse_binding::mainloop::standard::Mainloop;
use libpulse_binding::sample::{Format, Spec};
use libpulse_binding::stream::{self, PeekResult, Stream};
use libpulse_binding::time::MicroSeconds;

use super::microphones::{Microphone, choose};
use super::{BLOCK, Block, CHANNELS, Event, InputError, SAMPLE_RATE};
use crate::orders::Orders;

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a server may send nothing before it counts as lost: longer than the 2 s by which a null sink renders ahead.
const SILENCE: Duration = Duration::from_secs(3);
/// The name that servers know for the monitor of the default sink.
const DEFAULT_MONITOR: &str = "@DEFAULT_MONITOR@";
const BYTES_PER_FRAME: usize = CHANNELS * size_of::<i16>();

/// What is recorded.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// What the machine plays.
    System,
    /// The default microphone, or the one with this part in its name.
    Mic(Option<String>),
}

/// Says what would be recorded, for people; opens no device.
///
/// # Errors
/// [`InputError`] where no server answers, or it has no such device.
pub(super) fn probe(server: Option<&str>, wanted: &Wanted, orders: &Orders) -> Result<String, InputError> {
    let mut connection = Connection::open(server, orders)?;
    Ok(connection.find(wanted)?.description)
}

/// A connection to a server, up to when it is dropped.
struct Connection {
    context: Context,
    _bell: IoEvent<<Mainloop as libpulse_binding::mainloop::api::Mainloop>::MI>,
    /// Dropped last: the others are served by it.
    mainloop: Mainloop,
    rang: Rc<Cell<bool>>,
}

impl Connection {
    /// Connects to `server`, or where that is not given to the one that libpulse finds.
    fn open(server: Option<&str>, orders: &Orders) -> Result<Self, InputError> {
        let mut mainloop = Mainloop::new().ok_or_else(|| lost("libpulse makes no poll loop"))?;
        let rang = Rc::new(Cell::new(false));
        let rings = rang.clone();
        let bell = mainloop
            .new_io_event(orders.bell().as_raw_fd(), Readiness::INPUT, Box::new(move |_, _, _| rings.set(true)))
            .ok_or_else(|| lost("libpulse takes no descriptor"))?;
        let mut context = Context::new(&mainloop, "laterna").ok_or_else(|| lost("libpulse makes no context"))?;
        if context.connect(server, FlagSet::NOAUTOSPAWN, None).is_err() {
            // It returns -1 whatever the matter is, which is also the code of a refused login.
            return Err(InputError::NoServer(unreached(context.errno())));
        }
        let mut connection = Self { context, _bell: bell, mainloop, rang };
        let deadline = Instant::now() + ANSWER;
        while connection.context.get_state() != State::Ready {
            connection.turn(deadline).map_err(|error| match error {
                InputError::Lost(_) if connection.context.get_state() == State::Failed => {
                    InputError::NoServer(unreached(connection.context.errno()))
                }
                InputError::Lost(found) => InputError::NoServer(found),
                other => other,
            })?;
        }
        Ok(connection)
    }

    /// Waits for one turn of events; an order, a deadline that has passed and the end of the connection are errors.
    fn turn(&mut self, deadline: Instant) -> Result<(), InputError> {
        if self.rang.take() {
            return Err(InputError::Interrupted);
        }
        if !self.context.get_state().is_good() {
            return Err(InputError::Lost(text(self.context.errno())));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(lost("it does not answer"));
        }
        let timeout = MicroSeconds(u64::try_from(left.as_micros()).unwrap_or(u64::MAX));
        let turned = self.mainloop.prepare(Some(timeout)).and_then(|_| self.mainloop.poll());
        turned.and_then(|_| self.mainloop.dispatch()).map_err(|_| lost("libpulse's poll loop fails"))?;
        Ok(())
    }

    /// Finds what is wanted: the name to record, and what people call it.
    fn find(&mut self, wanted: &Wanted) -> Result<Microphone, InputError> {
        let (sink, source) = self.defaults()?;
        match wanted {
            Wanted::System if sink.is_empty() => Err(InputError::Missing {
                found: "the sound server has no output whose sound could be recorded".to_owned(),
                advice: "give it one (pactl load-module module-null-sink), or write off",
            }),
            Wanted::System => {
                Ok(Microphone { name: DEFAULT_MONITOR.to_owned(), description: format!("system ({sink})") })
            }
            Wanted::Mic(name) => {
                let all = self.microphones()?;
                let mic = choose(&all, Some(&source), name.as_deref())?;
                Ok(Microphone { name: mic.name.clone(), description: format!("mic ({})", mic.description) })
            }
        }
    }

    /// The names of the default sink and source, empty where there is none.
    fn defaults(&mut self) -> Result<(String, String), InputError> {
        let found: Rc<RefCell<Option<(String, String)>>> = Rc::default();
        let put = found.clone();
        let _asked = self.context.introspect().get_server_info(move |info| {
            let name = |name: &Option<std::borrow::Cow<'_, str>>| name.as_deref().unwrap_or_default().to_owned();
            put.replace(Some((name(&info.default_sink_name), name(&info.default_source_name))));
        });
        let deadline = Instant::now() + ANSWER;
        loop {
            if let Some(defaults) = found.take() {
                return Ok(defaults);
            }
            self.turn(deadline)?;
        }
    }

    /// All sources that are no monitor of a sink.
    fn microphones(&mut self) -> Result<Vec<Microphone>, InputError> {
        let found: Rc<RefCell<Vec<Microphone>>> = Rc::default();
        let complete = Rc::new(Cell::new(false));
        let (put, end) = (found.clone(), complete.clone());
        let _asked = self.context.introspect().get_source_info_list(move |item| match item {
            ListResult::Item(source) if source.monitor_of_sink.is_none() => {
                let name = source.name.as_deref().unwrap_or_default().to_owned();
                let description = source.description.as_deref().unwrap_or(&name).to_owned();
                put.borrow_mut().push(Microphone { name, description });
            }
            ListResult::Item(_) => {}
            ListResult::End | ListResult::Error => end.set(true),
        });
        let deadline = Instant::now() + ANSWER;
        while !complete.get() {
            self.turn(deadline)?;
        }
        Ok(found.take())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.context.disconnect();
    }
}

/// A device that is being recorded.
pub(super) struct Recording {
    stream: Stream,
    connection: Connection,
    wanted: Wanted,
    /// Set by the server's news that its defaults may have changed.
    changed: Rc<Cell<bool>>,
    /// The sink whose monitor is recorded, or the default source.
    defaults: (String, String),
    /// Bytes of libpulse's current fragment that are in a block already.
    taken: usize,
    /// Samples that are in the block already.
    filled: usize,
    /// When the server sent something last.
    heard: Instant,
    anew: bool,
}

impl Recording {
    /// Opens what is wanted.
    ///
    /// # Errors
    /// [`InputError`] where no server answers, it has no such device, or an order came meanwhile.
    pub(super) fn open(server: Option<&str>, wanted: &Wanted, orders: &Orders) -> Result<Self, InputError> {
        let mut connection = Connection::open(server, orders)?;
        let device = connection.find(wanted)?;
        let changed = Rc::new(Cell::new(false));
        let change = changed.clone();
        connection.context.set_subscribe_callback(Some(Box::new(move |_, _, _| change.set(true))));
        let _asked = connection.context.subscribe(subscribe::InterestMaskSet::SERVER, |_| ());
        let defaults = connection.defaults()?;
        let spec = Spec { format: Format::S16le, channels: CHANNELS as u8, rate: SAMPLE_RATE };
        let mut stream = Stream::new(&mut connection.context, "broadcast", &spec, None)
            .ok_or_else(|| InputError::Lost(text(connection.context.errno())))?;
        let whatever = u32::MAX;
        let attributes = BufferAttr {
            maxlength: whatever,
            tlength: whatever,
            prebuf: whatever,
            minreq: whatever,
            fragsize: (SAMPLE_RATE / 50) * BYTES_PER_FRAME as u32,
        };
        stream
            .connect_record(Some(&device.name), Some(&attributes), stream::FlagSet::ADJUST_LATENCY)
            .map_err(|error| InputError::Lost(text(error)))?;
        let deadline = Instant::now() + ANSWER;
        while stream.get_state() != stream::State::Ready {
            if !stream.get_state().is_good() {
                return Err(InputError::Lost(text(connection.context.errno())));
            }
            connection.turn(deadline)?;
        }
        let wanted = wanted.clone();
        let heard = Instant::now();
        Ok(Self { stream, connection, wanted, changed, defaults, taken: 0, filled: 0, heard, anew: true })
    }

    /// Waits for the next block, or an order.
    ///
    /// # Errors
    /// [`InputError::Lost`] where the server is gone, stays silent, or has another default device.
    pub(super) fn read(&mut self, block: &mut Block) -> Result<Event, InputError> {
        loop {
            if self.take(block)? {
                return Ok(Event::Block);
            }
            if !self.stream.get_state().is_good() {
                return Err(InputError::Lost(text(self.connection.context.errno())));
            }
            // What an order interrupts is asked again after it.
            if self.changed.take() && self.has_moved().inspect_err(|_| self.changed.set(true))? {
                return Err(InputError::Moved);
            }
            match self.connection.turn(self.heard + SILENCE) {
                Err(InputError::Interrupted) => return Ok(Event::Order),
                result => result?,
            }
        }
    }

    /// Whether what is wanted is another device by now.
    fn has_moved(&mut self) -> Result<bool, InputError> {
        let (sink, source) = self.connection.defaults()?;
        Ok(match self.wanted {
            Wanted::System => sink != self.defaults.0,
            Wanted::Mic(None) => source != self.defaults.1,
            Wanted::Mic(Some(_)) => false,
        })
    }

    /// Moves what has come into `block`; whether it is whole.
    fn take(&mut self, block: &mut Block) -> Result<bool, InputError> {
        while self.filled < block.samples.len() {
            let fragment = match self.stream.peek().map_err(|error| InputError::Lost(text(error)))? {
                PeekResult::Empty => return Ok(false),
                PeekResult::Data(fragment) => fragment,
                PeekResult::Hole(_) => {
                    self.discard()?;
                    (self.filled, self.anew) = (0, true);
                    continue;
                }
            };
            self.heard = Instant::now();
            let samples = fragment[self.taken..].chunks_exact(size_of::<i16>());
            let room = &mut block.samples[self.filled..];
            let count = samples.len().min(room.len());
            for (out, sample) in room.iter_mut().zip(samples) {
                *out = i16::from_le_bytes([sample[0], sample[1]]);
            }
            self.filled += count;
            self.taken += count * size_of::<i16>();
            if self.taken == fragment.len() {
                self.discard()?;
            }
        }
        let unread = self.stream.readable_size().unwrap_or(0).saturating_sub(self.taken) / BYTES_PER_FRAME;
        let behind = BLOCK + Duration::from_secs(1) * unread as u32 / SAMPLE_RATE;
        let now = Instant::now();
        block.captured = now.checked_sub(behind).unwrap_or(now);
        block.anew = std::mem::take(&mut self.anew);
        self.filled = 0;
        Ok(true)
    }

    fn discard(&mut self) -> Result<(), InputError> {
        self.taken = 0;
        self.stream.discard().map_err(|error| InputError::Lost(text(error)))
    }
}

fn lost(found: &str) -> InputError {
    InputError::Lost(found.to_owned())
}

/// Why no server was reached; libpulse calls a socket that isn't there a refused connection.
fn unreached(error: PAErr) -> String {
    // Of a context libpulse gives the code without its sign.
    if error.0.abs() == Code::ConnectionRefused as i32 {
        return "none runs where libpulse looks for one".to_owned();
    }
    text(error)
}

/// What libpulse says of an error.
fn text(error: PAErr) -> String {
    error.to_string().unwrap_or_else(|| format!("PulseAudio's error {}", error.0)).to_lowercase()
}
