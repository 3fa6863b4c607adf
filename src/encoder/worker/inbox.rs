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

    /// Puts the newest frame.
    pub(super) fn put(&mut self, frame: Frame) {
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
        // Whichever is to show the frame owes all damage since the encoder's last picture.
        if self.passing.is_on() {
            if let Some(waiting) = self.mailbox.take() {
                self.behind.put(waiting);
            }
            self.behind.put(frame);
        } else {
            self.behind.put(frame);
            self.behind.take().into_iter().for_each(|frame| self.mailbox.put(frame));
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
