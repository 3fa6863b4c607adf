//! A meter for a tone in sound that was received: its frequency, its level, and where it breaks.

use std::f64::consts::TAU;

/// The extent of a window of the meter: a hundredth of a second.
const WINDOWS_PER_SECOND: f64 = 100.0;
/// A phase that is off by so many degrees from one window to the next is a break; a lost sample of 1 kHz at 48 kHz is 7.5.
const BREAK_DEGREES: f64 = 3.0;
/// A level that is off by so many decibels is a break.
const BREAK_DECIBELS: f64 = 1.0;

/// What the meter found.
#[derive(Debug, Clone)]
pub struct Tone {
    /// Hz.
    pub frequency: f64,
    /// Decibels of its peaks against full scale.
    pub level: f64,
    /// Decibels of all that is not the tone, against full scale.
    pub rest: f64,
    /// Seconds from the beginning, of each window in which the tone is not what it was.
    pub breaks: Vec<f64>,
}

impl Tone {
    /// Measures `signal` (one channel, full scale is 1) for a tone of about `frequency` Hz.
    pub fn measure(signal: &[f32], rate: f64, frequency: f64) -> Self {
        let length = (rate / WINDOWS_PER_SECOND) as usize;
        let windows: Vec<Window> = signal
            .chunks_exact(length)
            .enumerate()
            .map(|(number, samples)| Window::of(samples, number * length, rate, frequency))
            .collect();
        assert!(windows.len() >= 10, "a tenth of a second is the least that can be measured");
        let levels = windows.iter().map(|window| window.amplitude);
        let amplitude = median(levels);
        let steps: Vec<f64> = windows.windows(2).map(|pair| turned(pair[1].phase - pair[0].phase)).collect();
        let step = median(steps.iter().copied());
        let is_break = |at: usize| {
            let off = decibels(windows[at].amplitude / amplitude).abs();
            let jump = at.checked_sub(1).map_or(0.0, |before| turned(steps[before] - step).abs().to_degrees());
            off > BREAK_DECIBELS || jump > BREAK_DEGREES
        };
        let breaks = (0..windows.len()).filter(|at| is_break(*at)).map(|at| at as f64 / WINDOWS_PER_SECOND).collect();
        Self {
            frequency: frequency + step / TAU * WINDOWS_PER_SECOND,
            level: decibels(amplitude),
            rest: decibels(median(windows.iter().map(|window| window.rest))),
            breaks,
        }
    }
}

/// The tone within one window.
struct Window {
    amplitude: f64,
    /// Against a tone of the expected frequency that began with the signal.
    phase: f64,
    /// Root mean square of the rest, times the square root of two.
    rest: f64,
}

impl Window {
    fn of(samples: &[f32], first: usize, rate: f64, frequency: f64) -> Self {
        let (mut sine, mut cosine, mut power) = (0.0, 0.0, 0.0);
        for (number, sample) in samples.iter().enumerate() {
            let (sample, turn) = (f64::from(*sample), TAU * frequency * (first + number) as f64 / rate);
            sine += sample * turn.sin();
            cosine += sample * turn.cos();
            power += sample * sample;
        }
        let scale = 2.0 / samples.len() as f64;
        let amplitude = (sine * scale).hypot(cosine * scale);
        let rest = (power * scale - amplitude * amplitude).max(0.0).sqrt();
        Self { amplitude, phase: cosine.atan2(sine), rest }
    }
}

/// A sine of `frequency` Hz whose peaks are at `level` decibels: interleaved stereo, 16 bits, 48 kHz.
pub fn sine(frequency: f64, level: f64, seconds: u32) -> Vec<i16> {
    let peak = f64::from(i16::MAX) * 10_f64.powf(level / 20.0);
    let sample = |number: u32| (peak * (TAU * frequency * f64::from(number) / 48_000.0).sin()).round() as i16;
    (0..48_000 * seconds).flat_map(|number| [sample(number); 2]).collect()
}

fn decibels(ratio: f64) -> f64 {
    20.0 * ratio.max(1e-9).log10()
}

/// An angle within half a turn of zero.
fn turned(angle: f64) -> f64 {
    angle - TAU * (angle / TAU).round()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
