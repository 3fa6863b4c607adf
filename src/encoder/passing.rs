//! Passing on: when the pictures of a recorded lesson go to the viewers as they are, without being encoded again. Pure.
//!
//! A row of coded pictures is measured from keyframe to keyframe while it is still being encoded; the next keyframe after a group that fits is passed on,
//! and all that follows it without a gap. Whatever does not fit ends it at once: then pictures are encoded, from a keyframe on. Times are those of the
//! pictures, not of the machine.

use std::time::{Duration, Instant};

use super::Bitrate;
use super::rate::Bits;
use crate::frame::coded::{Coded, Coding, Serial};

/// The most from one keyframe to the next: so long a viewer may have to wait who has lost something.
const MOST_DISTANCE: Duration = Duration::from_secs(2);
/// Times are rounded by the file, and pictures are held to the rate of the broadcast.
const ROUNDING: Duration = Duration::from_millis(50);
/// How much more than the rate a group may have: what is beyond that adds up over the row.
const MOST_OVER: f64 = 1.05;
/// The most of a second's rate that one picture may take, since all viewers wait for it, and the most that a row may be ahead of the rate.
const MOST_AT_ONCE: f64 = 0.8;
const MOST_AHEAD: f64 = 1.2;
/// So many groups in a row must fit where one did not fit while it was passed on: each change costs a keyframe.
const AFTER_MISFIT: u32 = 5;

/// What is to be done with a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is encoded.
    Encode,
    /// It is sent as it is recorded.
    Pass,
    /// It was sent so already.
    Hold,
}

/// Decides which pictures are passed on to the viewers of one codec.
#[derive(Debug)]
pub struct Passing {
    coding: Coding,
    is_on: bool,
    /// What came since the last keyframe, without a gap.
    group: Option<Group>,
    /// How many groups in a row have fitted, and how many have to.
    fitting: u32,
    wanted: u32,
}

/// A keyframe and what is made of it.
#[derive(Debug)]
struct Group {
    began: Instant,
    last: Serial,
    bits: f64,
    /// By how much the row is ahead of the rate, in bits, and when that was so.
    ahead: (f64, Instant),
    /// Whether a picture of it was too large, or came too far ahead.
    is_heavy: bool,
}

impl Group {
    /// Begins with a keyframe; `ahead` is by how much the row before it is.
    fn new(coded: &Coded, began: Instant, rate: Bitrate, ahead: (f64, Instant)) -> Self {
        let mut group = Self { began, last: coded.serial, bits: 0.0, ahead, is_heavy: false };
        group.add(coded, began, rate);
        group
    }

    fn add(&mut self, coded: &Coded, at: Instant, rate: Bitrate) {
        let (bits, rate) = (Bits::from_bytes(coded.data.len()).0, f64::from(rate.0));
        let (ahead, since) = self.ahead;
        let ahead = (ahead - rate * at.saturating_duration_since(since).as_secs_f64()).max(0.0) + bits;
        self.last = coded.serial;
        self.bits += bits;
        self.ahead = (ahead, at);
        self.is_heavy |= bits > rate * MOST_AT_ONCE || ahead > rate * MOST_AHEAD;
    }

    /// Whether it has fitted so far.
    fn fits(&self, now: Instant) -> bool {
        !self.is_heavy && now.saturating_duration_since(self.began) <= MOST_DISTANCE + ROUNDING
    }

    /// Whether it fits into `rate` where it ends now.
    fn fits_whole(&self, end: Instant, rate: Bitrate) -> bool {
        let lasts = end.saturating_duration_since(self.began).as_secs_f64();
        self.fits(end) && self.bits <= f64::from(rate.0) * lasts * MOST_OVER
    }
}

impl Passing {
    /// Nothing is passed on yet to viewers who decode `coding`.
    pub fn new(coding: Coding) -> Self {
        Self { coding, is_on: false, group: None, fitting: 0, wanted: 1 }
    }

    /// Whether pictures are being passed on.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Has pictures encoded until the next keyframe.
    pub fn leave(&mut self) {
        self.is_on = false;
    }

    /// Takes the next picture, due at `captured`; `coded` is how it was recorded, where it can be sent so.
    pub fn handle_picture(&mut self, coded: Option<&Coded>, captured: Instant, rate: Bitrate) -> Step {
        let Some(coded) = coded.filter(|coded| coded.coding == self.coding) else {
            (self.is_on, self.group, self.fitting, self.wanted) = (false, None, 0, 1);
            return Step::Encode;
        };
        match &mut self.group {
            Some(group) if group.last == coded.serial => {
                return if self.is_on { Step::Hold } else { Step::Encode };
            }
            Some(group) if group.last.next() == coded.serial => {
                if coded.keyframe {
                    let was_fit = group.fits_whole(captured, rate);
                    *group = Group::new(coded, captured, rate, group.ahead);
                    let fits = was_fit && group.fits(captured);
                    self.judge(fits);
                    self.is_on = self.fitting >= self.wanted;
                } else {
                    group.add(coded, captured, rate);
                    if self.is_on && !group.fits(captured) {
                        self.judge(false);
                    }
                }
            }
            // It can't be made of what was sent.
            group => {
                // A recording has its end; where pictures of it are left out, more may be.
                if group.as_ref().is_some_and(|group| group.last.is_beside(coded.serial)) {
                    self.judge(false);
                }
                self.group = coded.keyframe.then(|| Group::new(coded, captured, rate, (0.0, captured)));
                (self.is_on, self.fitting) = (false, 0);
            }
        }
        if self.is_on { Step::Pass } else { Step::Encode }
    }

    /// Counts a group that fits, or one that does not.
    fn judge(&mut self, fits: bool) {
        if fits {
            self.fitting += 1;
            return;
        }
        if self.is_on {
            self.wanted = AFTER_MISFIT;
        }
        (self.is_on, self.fitting) = (false, 0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const RATE: Bitrate = Bitrate(1_000_000);

    /// A recorded row of ten pictures a second.
    struct Row {
        passing: Passing,
        serial: Serial,
        now: Instant,
    }

    impl Row {
        fn new() -> Self {
            Self { passing: Passing::new(Coding::Vp8), serial: Serial::first(), now: Instant::now() }
        }

        fn picture(&mut self, keyframe: bool, bytes: usize) -> Step {
            self.serial = self.serial.next();
            self.now += Duration::from_millis(100);
            self.again(keyframe, bytes)
        }

        fn again(&mut self, keyframe: bool, bytes: usize) -> Step {
            let data = Bytes::from(vec![0; bytes]);
            let coded = Coded { coding: Coding::Vp8, data, keyframe, serial: self.serial };
            self.passing.handle_picture(Some(&coded), self.now, RATE)
        }

        /// A keyframe and what follows: whether it was passed on from its keyframe on, and to its end.
        fn group(&mut self, pictures: u32, bytes: usize) -> (bool, bool) {
            let first = self.picture(true, bytes) == Step::Pass;
            let mut last = first;
            for _ in 1..pictures {
                last = self.picture(false, bytes) == Step::Pass;
            }
            (first, last)
        }
    }

    #[test]
    fn a_row_is_passed_on_from_the_keyframe_after_a_group_that_fits() {
        let mut row = Row::new();
        assert_eq!([row.group(20, 10_000), row.group(20, 10_000)], [(false, false), (true, true)]);
        assert_eq!(row.again(false, 10_000), Step::Hold, "who comes needs nothing new");
        assert_eq!(row.group(15, 10_000), (true, true));
    }

    #[test]
    fn keyframes_too_far_apart_and_too_high_a_rate_are_never_passed_on() {
        for (pictures, bytes) in [(22, 1_000), (10, 14_000)] {
            let mut row = Row::new();
            assert_eq!([0; 4].map(|_| row.group(pictures, bytes)), [(false, false); 4], "{pictures} of {bytes}");
        }
        let mut row = Row::new();
        for _ in 0..3 {
            assert_eq!(row.picture(true, 110_000), Step::Encode, "a picture that takes 0.88 s");
            (1..20).for_each(|_| assert_eq!(row.picture(false, 100), Step::Encode));
        }
    }

    #[test]
    fn what_stops_fitting_is_encoded_at_once_and_has_to_fit_for_longer() {
        let mut row = Row::new();
        row.group(20, 10_000);
        assert_eq!(row.group(25, 10_000), (true, false), "no keyframe after two seconds");
        assert_eq!([0; 6].map(|_| row.group(20, 10_000).0), [false, false, false, false, false, true]);
        assert_eq!(row.picture(true, 10_000), Step::Pass);
        assert_eq!(row.picture(false, 110_000), Step::Encode);
    }

    #[test]
    fn a_keyframe_that_is_too_large_is_not_passed_on_whatever_was_before_it() {
        let mut row = Row::new();
        assert_eq!([row.group(20, 1_000).0, row.group(20, 1_000).0], [false, true]);
        assert_eq!(row.picture(true, 110_000), Step::Encode);
        let mut row = Row::new();
        row.group(20, 1_000);
        assert_eq!(row.picture(true, 110_000), Step::Encode, "nor where it would be the first");
    }

    #[test]
    fn many_short_groups_may_have_no_more_in_all_than_the_rate() {
        let mut row = Row::new();
        // 4 % over it: ahead of the rate by 1.2 s after half a minute.
        let passed = (0..1_000).filter(|_| row.group(1, 13_000).0).count();
        assert!((200..=400).contains(&passed), "{passed} of 1000");
        let mut row = Row::new();
        assert!(!(0..100).any(|_| row.group(1, 20_000).0), "60 % over it");
    }

    #[test]
    fn another_row_or_anything_else_ends_it_until_a_whole_group_was_seen() {
        let mut row = Row::new();
        row.group(20, 10_000);
        assert_eq!(row.group(10, 10_000), (true, true));
        row.serial = Serial::first();
        assert_eq!([0; 3].map(|_| row.group(20, 10_000).0), [false, true, true]);
        assert_eq!(row.passing.handle_picture(None, row.now, RATE), Step::Encode);
        assert_eq!([0; 3].map(|_| row.group(20, 10_000).0), [false, true, true]);
        let other = Coded { coding: Coding::H264, data: Bytes::new(), keyframe: true, serial: row.serial.next() };
        assert_eq!(row.passing.handle_picture(Some(&other), row.now, RATE), Step::Encode);
    }

    #[test]
    fn where_pictures_are_left_out_it_has_to_fit_for_longer() {
        let mut row = Row::new();
        row.group(20, 10_000);
        assert_eq!(row.group(10, 10_000), (true, true));
        row.serial = row.serial.next();
        assert_eq!(row.picture(false, 10_000), Step::Encode);
        assert_eq!([0; 7].map(|_| row.group(20, 10_000).0), [false, false, false, false, false, true, true]);
    }

    #[test]
    fn who_needs_a_keyframe_gets_one_and_the_next_recorded_one_goes_on() {
        let mut row = Row::new();
        row.group(20, 10_000);
        row.group(10, 10_000);
        row.passing.leave();
        assert_eq!(row.picture(false, 10_000), Step::Encode);
        assert_eq!(row.group(20, 10_000), (true, true));
    }
}
