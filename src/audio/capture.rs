//! The thread `audio`: one device, one encoder, one timeline.
//!
//! A shell: what is said and when a lost device is tried again is for `outage`, where blocks are in time for `timeline`.

use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info, warn};

use super::feed::{Feed, Next, Reader};
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
    /// What a source brings with its pictures.
    Feed(Arc<Feed>),
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
    Feed(Reader),
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
            AudioSpec::File => Err(InputError::Missing {
                found: "the source has no sound of its own".to_owned(),
                advice: "show a file that has some, or write auto, system, mic or tone",
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
            Self::Feed(feed) => Ok(Input::Feed(Reader::new(feed.clone()))),
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
            Self::Feed(reader) => {
                let Next::Wait(until) = reader.poll(Instant::now(), block) else { return Ok(Event::Block) };
                let waited = orders.wait(Some(reader.bell()), until);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::alive::Watch;
    use crate::audio::{AudioCapture, BLOCK};

    #[test]
    fn packets_carry_the_moments_at_which_their_sound_is_due() {
        let feed = Arc::new(Feed::new().unwrap());
        let (sender, units) = std::sync::mpsc::sync_channel(1000);
        let sink = Arc::new(move |unit| sender.send(unit).unwrap());
        let capture = AudioCapture::open_feed(feed.clone(), sink, &Watch::new().0).unwrap();
        assert_eq!((capture.describe().as_str(), capture.is_there()), ("file", true));
        let tone =
            |at: u64| -> Vec<i16> { (at..at + 48_000).flat_map(|n| [((n % 48) as i16 - 24) * 300; 2]).collect() };
        feed.push(0, &tone(0));
        capture.set_active(true);
        let deadline = Duration::from_secs(10);
        assert!(units.recv_timeout(Duration::from_millis(100)).is_err(), "the source pauses");
        let zero = Instant::now();
        feed.play(Some(zero));
        let first: Vec<_> = (0..50).map(|_| units.recv_timeout(deadline).unwrap()).collect();
        for (number, unit) in first.iter().enumerate() {
            assert_eq!((unit.sample, unit.captured), (number as u64 * 960, zero + BLOCK * number as u32));
        }
        // The source paused for two seconds, by its own clock.
        let later = zero + Duration::from_secs(2);
        feed.play(Some(later));
        feed.push(48_000, &tone(48_000));
        let second: Vec<_> = (0..50).map(|_| units.recv_timeout(deadline).unwrap()).collect();
        for (number, unit) in second.iter().enumerate() {
            let due = later + BLOCK * (50 + number as u32);
            assert_eq!((unit.sample, unit.captured), (144_000 + number as u64 * 960, due));
        }
    }
}
