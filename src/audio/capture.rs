//! The thread `audio`: one device, one encoder, one timeline.
//!
//! A shell: what is said and when a lost device is tried again is for `outage`, where blocks are in time for `timeline`.

use std::time::Instant;

use tracing::{error, info, warn};

use super::opus::OpusEncoder;
use super::outage::Outage;
use super::pace::Pace;
use super::timeline::Timeline;
use super::tone::{FREQUENCY, LEVEL, Tone};
use super::{AudioSpec, Block, Event, InputError};
use crate::encoder::worker::UnitSink;
use crate::encoder::{AccessUnit, Codec};
use crate::orders::{Health, Mode, Orders};

/// What is captured.
#[derive(Debug, Clone)]
pub(super) enum Device {
    /// The test tone.
    Tone,
    /// A device of the sound server: the one named, or that which libpulse finds.
    #[cfg(feature = "pulse")]
    Pulse(Option<String>, super::pulse::Wanted),
    /// A microphone of the kernel's, perhaps by name.
    #[cfg(feature = "alsa")]
    Alsa(Option<String>),
}

/// A device that is open.
enum Input {
    Tone(Tone),
    #[cfg(feature = "pulse")]
    Pulse(Box<super::pulse::Recording>),
    #[cfg(feature = "alsa")]
    Alsa(super::alsa::Recording),
}

impl Device {
    /// Chooses the device for a spec and says what it is, for people; leaves it closed.
    ///
    /// # Errors
    /// [`InputError`] where it can't be had.
    pub(super) fn choose(
        spec: &AudioSpec,
        server: Option<&str>,
        orders: &Orders,
    ) -> Result<(Self, String), InputError> {
        match spec {
            AudioSpec::Off => Err(InputError::Missing {
                found: "no sound was asked for".to_owned(),
                advice: "write auto, system, mic or tone",
            }),
            AudioSpec::Tone => Ok((Self::Tone, format!("tone ({FREQUENCY} Hz, {LEVEL} dB)"))),
            AudioSpec::Auto | AudioSpec::System => system(server, orders),
            AudioSpec::Mic(name) => match served_microphone(server, name.as_deref(), orders) {
                Err(InputError::NoServer(found)) => bare_microphone(name.as_deref(), &found),
                result => result,
            },
        }
    }

    fn open(&self, _orders: &Orders) -> Result<Input, InputError> {
        match self {
            Self::Tone => Ok(Input::Tone(Tone::new(Instant::now()))),
            #[cfg(feature = "pulse")]
            Self::Pulse(server, wanted) => {
                super::pulse::Recording::open(server.as_deref(), wanted, _orders).map(Box::new).map(Input::Pulse)
            }
            #[cfg(feature = "alsa")]
            Self::Alsa(wanted) => super::alsa::Recording::open(wanted.as_deref()).map(Input::Alsa),
        }
    }
}

#[cfg(feature = "pulse")]
fn system(server: Option<&str>, orders: &Orders) -> Result<(Device, String), InputError> {
    let wanted = super::pulse::Wanted::System;
    let description = super::pulse::probe(server, &wanted, orders)?;
    Ok((Device::Pulse(server.map(str::to_owned), wanted), description))
}

#[cfg(not(feature = "pulse"))]
fn system(_server: Option<&str>, _orders: &Orders) -> Result<(Device, String), InputError> {
    Err(InputError::NoServer("this build has no PulseAudio".to_owned()))
}

#[cfg(feature = "pulse")]
fn served_microphone(
    server: Option<&str>,
    name: Option<&str>,
    orders: &Orders,
) -> Result<(Device, String), InputError> {
    let wanted = super::pulse::Wanted::Mic(name.map(str::to_owned));
    let description = super::pulse::probe(server, &wanted, orders)?;
    Ok((Device::Pulse(server.map(str::to_owned), wanted), description))
}

#[cfg(not(feature = "pulse"))]
fn served_microphone(_: Option<&str>, _: Option<&str>, _: &Orders) -> Result<(Device, String), InputError> {
    Err(InputError::NoServer("this build has no PulseAudio".to_owned()))
}

#[cfg(feature = "alsa")]
fn bare_microphone(name: Option<&str>, no_server: &str) -> Result<(Device, String), InputError> {
    let description = super::alsa::probe(name).map_err(|error| match error {
        InputError::Missing { found, advice } => {
            InputError::Missing { found: format!("no sound server ({no_server}), and by ALSA {found}"), advice }
        }
        other => other,
    })?;
    Ok((Device::Alsa(name.map(str::to_owned)), description))
}

#[cfg(not(feature = "alsa"))]
fn bare_microphone(_: Option<&str>, no_server: &str) -> Result<(Device, String), InputError> {
    Err(InputError::NoServer(format!("{no_server}; this build has no ALSA")))
}

impl Input {
    /// Waits for the next block, or an order.
    fn read(&mut self, block: &mut Block, orders: &Orders) -> Result<Event, InputError> {
        match self {
            Self::Tone(tone) => {
                if tone.poll(Instant::now(), block) {
                    return Ok(Event::Block);
                }
                let waited = orders.wait(None, Some(tone.poll_timeout()));
                waited.map_err(|error| InputError::Lost(format!("waiting: {error}")))?;
                Ok(Event::Order)
            }
            #[cfg(feature = "pulse")]
            Self::Pulse(recording) => recording.read(block),
            #[cfg(feature = "alsa")]
            Self::Alsa(recording) => recording.read(block, orders),
        }
    }
}

fn too_fast() -> InputError {
    InputError::Lost(
        "it gives samples faster than 48,000 a second, so it records nothing; name another device".to_owned(),
    )
}

/// Captures and encodes while it is active, until it is stopped.
pub(super) fn run(device: &Device, mut encoder: OpusEncoder, orders: &Orders, sink: &UnitSink) {
    let mut input: Option<Input> = None;
    let mut pace = Pace::new(Instant::now());
    let (mut timeline, mut outage, mut block) = (Timeline::new(), Outage::default(), Block::new(Instant::now()));
    loop {
        let deadline = match orders.take().mode {
            Mode::Stopped => return,
            Mode::Idle => {
                input = None;
                Some(None)
            }
            Mode::Active if input.is_some() => None,
            Mode::Active => outage.poll_timeout().filter(|retry| *retry > Instant::now()).map(Some),
        };
        if let Some(deadline) = deadline {
            if let Err(error) = orders.wait(None, deadline) {
                error!("the sound can't wait: {error}");
                return;
            }
            continue;
        }
        let result = match &mut input {
            Some(input) => input.read(&mut block, orders).and_then(|event| match event {
                Event::Block if !pace.handle_block(Instant::now()) => Err(too_fast()),
                event => Ok(event),
            }),
            none => device.open(orders).map(|opened| {
                *none = Some(opened);
                pace = Pace::new(Instant::now());
                outage.handle_opened(Instant::now());
                Event::Order
            }),
        };
        match result {
            Ok(Event::Order) | Err(InputError::Interrupted) => {}
            Ok(Event::Block) => {
                if outage.handle_block(Instant::now()) {
                    info!("the sound is back");
                    orders.tell(Health::Well);
                }
                let stamp = timeline.handle_block(block.captured, block.anew);
                match encoder.encode(&block.samples[..]) {
                    Ok(None) => {}
                    Ok(Some(data)) => sink(AccessUnit {
                        codec: Codec::Opus,
                        data,
                        keyframe: true,
                        captured: stamp.captured,
                        sample: stamp.sample,
                    }),
                    Err(error) => {
                        error!("{error}");
                        return;
                    }
                }
            }
            Err(InputError::Moved) => {
                info!("the sound server has another default device: it is recorded from now on");
                input = None;
            }
            Err(error) => {
                input = None;
                if outage.handle_loss(Instant::now()) {
                    warn!("the sound is lost ({error}); it is tried again every few seconds");
                    orders.tell(Health::Lost { why: error.to_string() });
                }
            }
        }
    }
}
