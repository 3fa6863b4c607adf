//! Microphones where no sound server runs: ALSA, by cpal.
//!
//! cpal records in a thread of its own, which hands samples over through a bounded queue and rings; everything else is done
//! in the thread of the caller.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait as _, HostTrait as _, StreamTrait as _};
use cpal::{BufferSize, Device, ErrorKind, HostId, SampleFormat, Stream, StreamConfig};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd as _, OwnedFd};

use super::microphones::{Microphone, choose};
use super::{BLOCK, BLOCK_SAMPLES, Block, CHANNELS, Event, InputError, SAMPLE_RATE};
use crate::orders::Orders;

/// How long a device may give nothing before it counts as lost.
const SILENCE: Duration = Duration::from_secs(2);
/// Samples that may wait: a second.
const MOST_WAITING: usize = SAMPLE_RATE as usize * CHANNELS;

/// What records nothing (`null`), is another name of the default device (all that convert), or leads to a sound server or out of ALSA.
const PSEUDO: [&str; 11] =
    ["null", "lavrate", "samplerate", "speexrate", "speex", "upmix", "vdownmix", "a52", "jack", "pulse", "oss"];

/// Says what would be recorded, for people; records nothing.
///
/// # Errors
/// [`InputError::Missing`] where there is no such device.
pub(super) fn probe(wanted: Option<&str>) -> Result<String, InputError> {
    let (_, description) = find(wanted)?;
    Ok(format!("mic ({description})"))
}

/// Finds the microphone that is wanted, and what people call it.
fn find(wanted: Option<&str>) -> Result<(Device, String), InputError> {
    let host = cpal::host_from_id(HostId::Alsa).map_err(lost)?;
    let devices: Vec<Device> = host.input_devices().map_err(lost)?.filter(records).collect();
    let microphones: Vec<Microphone> = devices
        .iter()
        .map(|device| {
            let name = device.id().map(|id| id.to_string()).unwrap_or_default();
            let description = device.description().map(|text| text.name().to_owned());
            Microphone { description: description.unwrap_or_else(|_| name.clone()), name }
        })
        .collect();
    let default = host.default_input_device().and_then(|device| device.id().ok()).map(|id| id.to_string());
    let chosen = choose(&microphones, default.as_deref(), wanted)?.clone();
    let at = microphones.iter().position(|mic| *mic == chosen);
    let device =
        at.and_then(|at| devices.into_iter().nth(at)).ok_or_else(|| InputError::Lost("it is gone".to_owned()))?;
    Ok((device, chosen.description))
}

/// Whether a device can be opened to record, or could be if nobody else had it.
fn records(device: &Device) -> bool {
    device.id().is_ok_and(|id| !is_pseudo(id.id()))
        && device.supported_input_configs().map_or_else(
            |error| matches!(error.kind(), ErrorKind::DeviceBusy | ErrorKind::PermissionDenied),
            |mut configs| configs.next().is_some(),
        )
}

/// Whether this is none of a card's devices, but one of those that alsa-lib and its plugins bring along on each machine.
fn is_pseudo(name: &str) -> bool {
    PSEUDO.contains(&name)
}

/// A microphone that is being recorded.
pub(super) struct Recording {
    /// Recording ends where this is dropped.
    _stream: Stream,
    shared: Arc<Shared>,
    heard: Instant,
}

/// What cpal's thread and the caller's share.
struct Shared {
    queue: Mutex<Queue>,
    /// Rung when there is something in the queue.
    bell: OwnedFd,
}

struct Queue {
    /// Stereo samples.
    samples: VecDeque<i16>,
    /// Whether samples were lost before those that wait.
    anew: bool,
    failed: Option<String>,
}

impl Recording {
    /// Opens the microphone that is wanted.
    ///
    /// # Errors
    /// [`InputError`] where there is none, or it can't be recorded at 48 kHz.
    pub(super) fn open(wanted: Option<&str>) -> Result<Self, InputError> {
        let (device, description) = find(wanted)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| InputError::Lost(format!("no descriptor: {error}")))?;
        let shared = Arc::new(Shared::new(bell));
        let (format, channels) = format(&device, &description)?;
        let config =
            StreamConfig { channels, sample_rate: SAMPLE_RATE, buffer_size: BufferSize::Fixed(BLOCK_SAMPLES as u32) };
        let channels = usize::from(channels);
        let (putter, teller) = (shared.clone(), shared.clone());
        let failed = move |error: cpal::Error| teller.tell(&error);
        let stream = match format {
            SampleFormat::F32 => {
                let sample = |sample: f32| (sample * f32::from(i16::MAX)) as i16;
                let put = move |data: &[f32], _: &_| putter.put(data, channels, sample);
                device.build_input_stream(config, put, failed, Some(SILENCE))
            }
            _ => {
                let put = move |data: &[i16], _: &_| putter.put(data, channels, |sample| sample);
                device.build_input_stream(config, put, failed, Some(SILENCE))
            }
        };
        let stream = stream.map_err(lost)?;
        stream.play().map_err(lost)?;
        Ok(Self { _stream: stream, shared, heard: Instant::now() })
    }

    /// Waits for the next block, or an order.
    ///
    /// # Errors
    /// [`InputError::Lost`] where the device fails or stays silent.
    pub(super) fn read(&mut self, block: &mut Block, orders: &Orders) -> Result<Event, InputError> {
        if self.take(block)? {
            return Ok(Event::Block);
        }
        if self.heard.elapsed() >= SILENCE {
            return Err(InputError::Lost("it gives no sound".to_owned()));
        }
        let deadline = self.heard + SILENCE;
        orders
            .wait(Some(self.shared.bell.as_fd()), Some(deadline))
            .map_err(|error| InputError::Lost(format!("waiting for it: {error}")))?;
        Ok(Event::Order)
    }

    fn take(&mut self, block: &mut Block) -> Result<bool, InputError> {
        let mut count = [0; 8];
        let _silent_already = rustix::io::read(&self.shared.bell, &mut count);
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = queue.failed.take() {
            return Err(InputError::Lost(failed));
        }
        if queue.samples.len() < block.samples.len() {
            return Ok(false);
        }
        for (out, sample) in block.samples.iter_mut().zip(queue.samples.drain(..BLOCK_SAMPLES * CHANNELS)) {
            *out = sample;
        }
        let unread = queue.samples.len() / CHANNELS;
        block.anew = std::mem::take(&mut queue.anew);
        drop(queue);
        self.heard = Instant::now();
        let behind = BLOCK + Duration::from_secs(1) * unread as u32 / SAMPLE_RATE;
        block.captured = self.heard.checked_sub(behind).unwrap_or(self.heard);
        Ok(true)
    }
}

impl Shared {
    fn new(bell: OwnedFd) -> Self {
        let queue = Queue { samples: VecDeque::with_capacity(MOST_WAITING), anew: true, failed: None };
        Self { queue: Mutex::new(queue), bell }
    }

    /// Adds what cpal has recorded: one channel becomes both, of more the first two are kept.
    fn put<T: Copy>(&self, data: &[T], channels: usize, sample: impl Fn(T) -> i16) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        for frame in data.chunks_exact(channels) {
            queue.samples.extend([frame[0], frame[usize::from(channels > 1)]].map(&sample));
        }
        if queue.samples.len() > MOST_WAITING {
            queue.samples.clear();
            queue.anew = true;
        }
        drop(queue);
        self.ring();
    }

    fn tell(&self, error: &cpal::Error) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match error.kind() {
            ErrorKind::Xrun => queue.anew = true,
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            _ => queue.failed = Some(one_line(error)),
        }
        drop(queue);
        self.ring();
    }

    fn ring(&self) {
        // It can fail only when the bell rings already.
        let _rings_already = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// The format to record in at 48 kHz: 16 bits before floats, two channels before one before more.
fn format(device: &Device, description: &str) -> Result<(SampleFormat, u16), InputError> {
    let rank = |format: SampleFormat, channels: u16| {
        let format = [SampleFormat::I16, SampleFormat::F32].iter().position(|known| *known == format)?;
        let channels = [2, 1].iter().position(|few| *few == channels).unwrap_or(usize::from(channels));
        Some((channels, format))
    };
    let ranges = device.supported_input_configs().map_err(lost)?;
    ranges
        .filter(|range| (range.min_sample_rate()..=range.max_sample_rate()).contains(&SAMPLE_RATE))
        .filter_map(|range| Some((rank(range.sample_format(), range.channels())?, range)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, range)| (range.sample_format(), range.channels()))
        .ok_or_else(|| InputError::Missing {
            found: format!("{description} can't be recorded at 48 kHz in 16 bits or floats"),
            advice: "name another microphone",
        })
}

fn lost(error: cpal::Error) -> InputError {
    InputError::Lost(one_line(&error))
}

fn one_line(error: &cpal::Error) -> String {
    crate::config::one_line(&error.to_string()).trim_end_matches('.').to_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_channel_becomes_two_and_of_more_the_first_two_are_kept() {
        let shared = Shared::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        shared.put(&[1, 2], 1, |sample| sample);
        shared.put(&[3, 4, 5, 6, 7, 8], 3, |sample| sample);
        assert_eq!(shared.queue.lock().unwrap().samples, [1, 1, 2, 2, 3, 4, 6, 7]);
    }

    #[test]
    fn what_alsa_has_on_each_machine_is_no_microphone() {
        assert!(["null", "samplerate", "jack", "pulse"].iter().all(|name| is_pseudo(name)));
        let real = ["default", "hw:CARD=0,DEV=0", "sysdefault:CARD=PCH", "desk"];
        assert!(!real.iter().any(|name| is_pseudo(name)));
    }

    #[test]
    fn what_nobody_reads_is_lost_and_told_as_a_gap() {
        let shared = Shared::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        shared.queue.lock().unwrap().anew = false;
        let block = [0; BLOCK_SAMPLES * CHANNELS];
        for _ in 0..=50 {
            shared.put(&block, CHANNELS, |sample| sample);
            assert!(shared.queue.lock().unwrap().samples.len() <= MOST_WAITING);
        }
        assert!(shared.queue.lock().unwrap().anew);
    }
}
