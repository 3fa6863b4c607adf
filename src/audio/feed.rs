//! Sound that a source brings with its pictures: from the source's thread to the thread `audio`.
//!
//! Owns a bounded queue of samples, each at its place in the source's own time, and the moment at which that time began; so that a source that pauses
//! or is late moves its sound and its pictures by the same. Whoever is slow loses the oldest samples, counted. It never decodes or encodes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::{BLOCK_SAMPLES, Block, CHANNELS, SAMPLE_RATE};

/// Samples of each channel that wait at most: three seconds.
const MOST: usize = 3 * SAMPLE_RATE as usize;
/// So late a block may be and still be heard.
const LATE: Duration = Duration::from_millis(150);
/// So long is waited for samples that should be there before silence takes their place.
const PATIENCE: Duration = Duration::from_millis(100);

/// A bounded queue of sound, 48 kHz, stereo, 16 bits.
#[derive(Debug)]
pub struct Feed {
    queue: Mutex<Queue>,
    /// Rung when there is something new.
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct Queue {
    /// Runs of samples, ascending, with a gap before each but the first.
    runs: VecDeque<Run>,
    /// When the sample with number 0 was due, or would have been; `None` while the source pauses.
    zero: Option<Instant>,
    /// Samples of each channel that gave way to newer ones.
    lost: u64,
}

#[derive(Debug)]
struct Run {
    /// The number of the first sample of each channel.
    at: u64,
    /// Interleaved.
    samples: VecDeque<i16>,
}

impl Run {
    fn len(&self) -> usize {
        self.samples.len() / CHANNELS
    }

    fn end(&self) -> u64 {
        self.at + self.len() as u64
    }

    fn drop_before(&mut self, at: u64) {
        let count = (at.saturating_sub(self.at) as usize).min(self.len());
        self.samples.drain(..count * CHANNELS);
        self.at += count as u64;
    }
}

impl Feed {
    /// Makes an empty feed of a source that pauses.
    ///
    /// # Errors
    /// Where the system has no eventfd left.
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), bell })
    }

    /// Says when sample 0 was due, from now on, or that the source pauses.
    pub fn play(&self, zero: Option<Instant>) {
        self.lock().zero = zero;
        self.ring();
    }

    /// Appends interleaved samples, the first of which has this number; what is older than what was given before is left out.
    pub fn push(&self, at: u64, samples: &[i16]) {
        let mut queue = self.lock();
        let end = queue.runs.back().map_or(0, Run::end);
        let known = (end.saturating_sub(at) as usize * CHANNELS).min(samples.len());
        let (at, samples) = (at.max(end), &samples[known..]);
        if samples.is_empty() {
            return;
        }
        match queue.runs.back_mut() {
            Some(run) if run.end() == at => run.samples.extend(samples),
            _ => queue.runs.push_back(Run { at, samples: samples.iter().copied().collect() }),
        }
        queue.bound();
        drop(queue);
        self.ring();
    }

    /// Samples of each channel that nobody took in time.
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // It can fail only when the bell rings already.
        let _rings_already = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

impl Queue {
    fn bound(&mut self) {
        let mut over = self.runs.iter().map(Run::len).sum::<usize>().saturating_sub(MOST);
        while let Some(run) = self.runs.front_mut().filter(|_| over > 0) {
            let count = over.min(run.len());
            run.drop_before(run.at + count as u64);
            over -= count;
            self.lost += count as u64;
            if run.samples.is_empty() {
                self.runs.pop_front();
            }
        }
    }

    fn drop_before(&mut self, at: u64) {
        while let Some(run) = self.runs.front_mut() {
            run.drop_before(at);
            if !run.samples.is_empty() {
                break;
            }
            self.runs.pop_front();
        }
    }
}

/// What a listener is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The block is whole.
    Block,
    /// Nothing is due until then, or until the bell rings.
    Wait(Option<Instant>),
}

/// One listener; it begins where the source is.
#[derive(Debug)]
pub(super) struct Reader {
    feed: Arc<Feed>,
    /// The number of the sample after the last block's, and the zero that this block was due by.
    last: Option<(u64, Instant)>,
}

impl Reader {
    pub(super) fn new(feed: Arc<Feed>) -> Self {
        Self { feed, last: None }
    }

    /// Readable when there is something new.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.feed.bell.as_fd()
    }

    /// Takes the next block if it is due.
    pub(super) fn poll(&mut self, now: Instant, block: &mut Block) -> Next {
        // The bell is silenced before the look, so that what comes after it rings again.
        let mut count = [0; 8];
        let _silent_already = rustix::io::read(&self.feed.bell, &mut count);
        let mut queue = self.feed.lock();
        let Some(zero) = queue.zero else { return Next::Wait(None) };
        let next = self.last.filter(|(_, known)| *known == zero).map(|(next, _)| next);
        let oldest = now.checked_sub(LATE).map_or(0, |at| sample_at(zero, at));
        // Samples that were just begun with are not cut: they are late by less than a block.
        let kept = next.filter(|next| next + BLOCK_SAMPLES as u64 > oldest);
        queue.drop_before(kept.unwrap_or(oldest));
        let Some(first) = queue.runs.front() else { return Next::Wait(None) };
        // A short gap is silence within a block; a longer one is no block.
        let begin = kept.filter(|next| first.at < next + BLOCK_SAMPLES as u64).unwrap_or(first.at);
        let (due, end) = (due(zero, begin), begin + BLOCK_SAMPLES as u64);
        if now < due {
            return Next::Wait(Some(due));
        }
        let whole = queue.runs.back().is_some_and(|run| run.end() >= end);
        if !whole && now < due + PATIENCE {
            return Next::Wait(Some(due + PATIENCE));
        }
        block.samples.fill(0);
        for run in queue.runs.iter().take_while(|run| run.at < end) {
            let offset = (run.at - begin) as usize * CHANNELS;
            for (to, sample) in block.samples[offset..].iter_mut().zip(&run.samples) {
                *to = *sample;
            }
        }
        queue.drop_before(end);
        block.captured = due;
        block.anew = next != Some(begin);
        self.last = Some((end, zero));
        Next::Block
    }
}

/// When the sample with this number is due.
fn due(zero: Instant, sample: u64) -> Instant {
    zero + time_of(sample)
}

/// The time that so many samples take.
pub fn time_of(samples: u64) -> Duration {
    Duration::from_nanos((u128::from(samples) * 1_000_000_000 / u128::from(SAMPLE_RATE)) as u64)
}

/// The samples that are in a time, to the nearest.
pub fn samples_in(time: Duration) -> u64 {
    ((time.as_nanos() * u128::from(SAMPLE_RATE) + 500_000_000) / 1_000_000_000) as u64
}

/// The first sample that is due at `at` or later.
fn sample_at(zero: Instant, at: Instant) -> u64 {
    let nanos = at.saturating_duration_since(zero).as_nanos() * u128::from(SAMPLE_RATE);
    nanos.div_ceil(1_000_000_000) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::audio::BLOCK;

    const MS: Duration = Duration::from_millis(1);

    /// Samples that are their own numbers.
    fn samples(range: std::ops::Range<u64>) -> Vec<i16> {
        range.flat_map(|number| [number as i16; 2]).collect()
    }

    fn feed() -> (Arc<Feed>, Reader, Block, Instant) {
        let feed = Arc::new(Feed::new().unwrap());
        let reader = Reader::new(feed.clone());
        let now = Instant::now();
        (feed, reader, Block::new(now), now)
    }

    #[test]
    fn blocks_are_due_by_their_place_and_carry_it() {
        let (feed, mut reader, mut block, start) = feed();
        feed.push(0, &samples(0..1000));
        feed.push(1000, &samples(1000..9600));
        assert_eq!(reader.poll(start, &mut block), Next::Wait(None), "it pauses");
        feed.play(Some(start));
        for number in 0..10_u64 {
            let due = start + BLOCK * number as u32;
            if number > 0 {
                assert_eq!(reader.poll(due - MS, &mut block), Next::Wait(Some(due)));
            }
            assert_eq!(reader.poll(due + MS, &mut block), Next::Block);
            assert_eq!((block.captured, block.anew), (due, number == 0));
            assert!(block.samples[..] == samples(number * 960..(number + 1) * 960));
        }
        assert_eq!(reader.poll(start + BLOCK * 10, &mut block), Next::Wait(None), "there is no more");
    }

    #[test]
    fn a_pause_moves_what_follows_and_loses_nothing() {
        let (feed, mut reader, mut block, start) = feed();
        feed.push(0, &samples(0..1920));
        feed.play(Some(start));
        assert_eq!(reader.poll(start, &mut block), Next::Block);
        feed.play(None);
        assert_eq!(reader.poll(start + BLOCK * 50, &mut block), Next::Wait(None));
        let zero = start + Duration::from_secs(60);
        feed.play(Some(zero));
        assert_eq!(reader.poll(zero + BLOCK, &mut block), Next::Block);
        assert_eq!((block.captured, block.anew), (zero + BLOCK, true));
        assert!(block.samples[..] == samples(960..1920));
    }

    #[test]
    fn a_gap_is_no_block_and_a_short_one_silence() {
        let (feed, mut reader, mut block, start) = feed();
        feed.play(Some(start));
        feed.push(0, &samples(0..500));
        assert_eq!(reader.poll(start + MS, &mut block), Next::Wait(Some(start + PATIENCE)), "more may come");
        feed.push(600, &samples(600..1000));
        feed.push(48_000, &samples(48_000..48_960));
        let now = start + 25 * MS;
        assert_eq!(reader.poll(now, &mut block), Next::Block);
        let mut expected = samples(0..960);
        expected[1000..1200].fill(0);
        assert!(block.samples[..] == expected);
        assert_eq!(reader.poll(now, &mut block), Next::Block);
        assert_eq!((block.samples[..80].to_vec(), block.samples[81]), (samples(960..1000), 0));
        assert_eq!(reader.poll(now, &mut block), Next::Wait(Some(start + Duration::from_secs(1))));
        assert_eq!(reader.poll(start + Duration::from_secs(1), &mut block), Next::Block);
        assert!(block.anew && block.captured == start + Duration::from_secs(1));
    }

    #[test]
    fn the_end_of_all_sound_is_filled_up_with_silence() {
        let (feed, mut reader, mut block, start) = feed();
        feed.play(Some(start));
        feed.push(0, &samples(1..501));
        assert_eq!(reader.poll(start + PATIENCE, &mut block), Next::Block);
        assert_eq!((block.samples[999], block.samples[1000]), (500, 0));
        assert_eq!(reader.poll(start + PATIENCE, &mut block), Next::Wait(None));
    }

    #[test]
    fn who_comes_later_hears_what_is_due_then_and_who_is_slow_loses_the_oldest() {
        let (feed, mut reader, mut block, start) = feed();
        feed.play(Some(start));
        feed.push(0, &samples(0..5 * 48_000));
        assert_eq!(feed.lost(), 2 * 48_000);
        let now = start + Duration::from_millis(3000);
        assert_eq!(reader.poll(now, &mut block), Next::Block);
        assert!(block.anew && block.captured == now - LATE);
        assert_eq!(reader.poll(now, &mut block), Next::Block);
        // It was kept from reading for 300 ms: what is later than the bound is left out.
        let now = now + Duration::from_millis(300);
        assert_eq!(reader.poll(now, &mut block), Next::Block);
        assert!(block.anew && block.captured + LATE >= now, "late by {:?}", now - block.captured);
        assert_eq!(reader.poll(now, &mut block), Next::Block);
        assert!(!block.anew);
    }

    #[test]
    fn what_was_given_before_is_left_out() {
        let (feed, mut reader, mut block, start) = feed();
        feed.play(Some(start));
        feed.push(0, &samples(0..600));
        feed.push(500, &samples(500..960));
        feed.push(100, &samples(100..700));
        assert_eq!(reader.poll(start, &mut block), Next::Block);
        assert!(block.samples[..] == samples(0..960));
    }

    #[test]
    fn numbers_and_times_agree() {
        for sample in [0, 1, 2, 3, 959, 48_001, 48_000 * 3600 * 24 + 7] {
            let zero = Instant::now();
            assert_eq!(samples_in(time_of(sample)), sample);
            assert!(sample_at(zero, due(zero, sample)).abs_diff(sample) <= 1);
        }
    }
}
