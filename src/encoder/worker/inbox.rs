//! What a worker has been told and not yet heard. Pure: its shell locks it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::WorkerConfig;
use crate::encoder::passing::{Passing, Step};
use crate::encoder::{Bitrate, Codec};
use crate::frame::coded::{Coded, Coding};
use crate::frame::mailbox::Mailbox;
use crate::frame::{Frame, Size};

/// So many recorded pictures wait at most: past that the worker is stuck, and what is sent once it goes on had better be new.
const MOST_RECORDED: usize = 60;

/// A recorded picture that is passed on.
pub(super) struct Recorded {
    pub(super) coded: Arc<Coded>,
    pub(super) captured: Instant,
}

/// What the worker has been told and not yet heard.
pub(super) struct Inbox {
    pub(super) mailbox: Mailbox,
    pub(super) keyframe: Option<Instant>,
    pub(super) bitrate: Bitrate,
    pub(super) fps: u32,
    pub(super) active: bool,
    /// How often it became active: a stop and a start that the thread sees as one are a restart all the same.
    pub(super) starts: u64,
    pub(super) stop: bool,
    canvas: Size,
    passing: Passing,
    recorded: VecDeque<Recorded>,
    /// What would have been encoded, had it not been passed on.
    behind: Mailbox,
}

impl Inbox {
    /// An inactive worker's, with `canvas` as it is encoded.
    pub(super) fn new(config: &WorkerConfig, canvas: Size) -> Self {
        let coding = if config.codec == Codec::Vp8 { Coding::Vp8 } else { Coding::H264 };
        Self {
            mailbox: Mailbox::new(),
            keyframe: None,
            bitrate: config.bitrate,
            fps: config.fps,
            active: false,
            starts: 0,
            stop: false,
            canvas,
            passing: Passing::new(coding),
            recorded: VecDeque::new(),
            behind: Mailbox::new(),
        }
    }

    /// Starts or ends the work; nothing that was put before is for who watches after that.
    pub(super) fn set_active(&mut self, active: bool) {
        self.starts += u64::from(active && !self.active);
        self.active = active;
        if !active {
            drop((self.mailbox.take(), self.behind.take()));
            self.recorded.clear();
            self.passing.handle_picture(None, Instant::now(), self.bitrate);
        }
    }

    /// Puts the newest frame; whether there is anything to be done because of it.
    pub(super) fn put(&mut self, frame: Frame) -> bool {
        let step = self.passing.handle_picture(frame.coded_for(self.canvas), frame.captured, self.bitrate);
        let passed = frame.coded.clone().filter(|_| step == Step::Pass);
        if let Some(coded) = passed {
            if self.recorded.len() < MOST_RECORDED {
                self.recorded.push_back(Recorded { coded, captured: frame.captured });
            } else {
                self.recorded.clear();
                self.passing.leave();
            }
        }
        let was_passing = !self.behind.is_empty();
        // Whichever is to show the frame owes all damage since the encoder's last picture.
        if self.passing.is_on() {
            if let Some(waiting) = self.mailbox.take() {
                self.behind.put(waiting);
            }
            self.behind.put(frame);
            step == Step::Pass
        } else if !was_passing && frame.is_news_as_coded_alone() {
            false
        } else {
            self.behind.put(frame);
            self.behind.take().into_iter().for_each(|frame| self.mailbox.put(frame));
            true
        }
    }

    /// Whether pictures are passed on as they are recorded, or some are still to be.
    pub(super) fn passes(&self) -> bool {
        self.passing.is_on() || !self.recorded.is_empty()
    }

    /// The next picture to be passed on.
    pub(super) fn take_recorded(&mut self) -> Option<Recorded> {
        self.recorded.pop_front()
    }

    /// Ends the passing on; the picture that the viewers see, to be encoded.
    pub(super) fn leave(&mut self) -> Option<Frame> {
        self.passing.leave();
        self.behind.take()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::frame::canvas::FitMode;
    use crate::frame::coded::Serial;
    use crate::frame::{Damage, Picture};

    const SIZE: Size = Size::new(16, 16);

    /// A lesson of ten pictures a second, a keyframe every five, that all look the same.
    fn stands_still(coding: Coding) -> Vec<Frame> {
        let picture = Picture::new(Arc::new(vec![0; 16 * 16 * 4]), SIZE, 16 * 4).unwrap();
        let (mut serial, begun) = (Serial::first(), Instant::now());
        let frame = |number: u32| {
            serial = serial.next();
            let damage = if number == 0 { Damage::whole(SIZE) } else { Damage::none() };
            let coded =
                Coded { coding, data: Bytes::from_static(&[0; 100]), keyframe: number.is_multiple_of(5), serial };
            let captured = begun + Duration::from_millis(100) * number;
            Frame { coded: Some(Arc::new(coded)), ..Frame::new(picture.clone(), damage, captured) }
        };
        (0..12).map(frame).collect()
    }

    fn inbox(canvas: Size) -> Inbox {
        let config =
            WorkerConfig { codec: Codec::Vp8, canvas, bitrate: Bitrate(1_000_000), fps: 30, fit: FitMode::Letterbox };
        Inbox::new(&config, canvas)
    }

    #[test]
    fn what_looks_as_before_wakes_only_who_passes_it_on() {
        let cases = [(Coding::Vp8, SIZE, 7), (Coding::H264, SIZE, 0), (Coding::Vp8, Size::new(32, 16), 0)];
        for (coding, canvas, passed) in cases {
            let mut inbox = inbox(canvas);
            let news: Vec<_> = stands_still(coding).into_iter().map(|frame| inbox.put(frame)).collect();
            let wanted: Vec<_> = (0..12).map(|number| number == 0 || number >= 12 - passed).collect();
            assert_eq!(news, wanted, "{coding:?} on {canvas}");
            assert_eq!(inbox.recorded.len(), passed);
            assert_eq!(inbox.mailbox.is_empty(), passed > 0, "the one that differs waits where it is to be shown from");
        }
    }

    #[test]
    fn what_waits_behind_is_encoded_when_nothing_is_passed_on_any_more() {
        let mut inbox = inbox(SIZE);
        let frames = stands_still(Coding::Vp8);
        let news = frames.iter().filter(|frame| inbox.put((*frame).clone())).count();
        assert_eq!(news, 8);
        let gap = Serial::first();
        let coded = Coded { serial: gap, ..(**frames[11].coded.as_ref().unwrap()).clone() };
        assert!(inbox.put(Frame { coded: Some(Arc::new(coded)), ..frames[11].clone() }));
        assert_eq!(inbox.mailbox.take().unwrap().damage, Damage::whole(SIZE), "nobody has seen the first one encoded");
    }
}
