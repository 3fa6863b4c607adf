//! The pointer: where it is and what it looks like. Its image is fetched only when the server says that it has changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use x11rb::errors::ReplyError;

use super::screen::{Motion, Screen, Spot};
use crate::frame::{Pointer, PointerImage, Size};

/// How often to look for warps, which make no motion event.
const LOOK_FOR_WARPS: Duration = Duration::from_millis(200);
/// How often to look where there are no motion events at all.
const LOOK_FOR_MOVES: Duration = Duration::from_micros(66_667);

/// Follows the pointer of one screen.
#[derive(Debug)]
pub(super) struct PointerWatch {
    shape: Shape,
    spot: Spot,
    interval: Duration,
    next_look: Instant,
}

/// What is known of the pointer's image.
#[derive(Debug)]
enum Shape {
    /// It has to be fetched.
    Unknown,
    /// The image, and the hot spot in it; no image where the pointer is invisible.
    Known(Option<(Arc<PointerImage>, (i32, i32))>),
}

impl PointerWatch {
    /// Follows a pointer of which nothing is known yet.
    pub(super) fn new(motion: Motion, now: Instant) -> Self {
        let interval = match motion {
            Motion::Raw => LOOK_FOR_WARPS,
            Motion::Asked => LOOK_FOR_MOVES,
        };
        Self { shape: Shape::Unknown, spot: None, interval, next_look: now + interval }
    }

    /// When the pointer's place is to be looked up, if nothing else does it before.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Notes that the image has changed.
    pub(super) fn handle_shape(&mut self) {
        self.shape = Shape::Unknown;
    }

    /// Notes where the hot spot is; returns whether it was elsewhere.
    pub(super) fn handle_spot(&mut self, spot: Spot, now: Instant) -> bool {
        self.next_look = now + self.interval;
        std::mem::replace(&mut self.spot, spot) != spot
    }

    /// The pointer as it is to be drawn; asks for its image where that is not known.
    pub(super) fn pointer(&mut self, screen: &Screen) -> Result<Option<Pointer>, ReplyError> {
        if matches!(self.shape, Shape::Unknown) {
            let reply = screen.pointer_image()?;
            let size = Size::new(reply.width.into(), reply.height.into());
            let visible = !reply.cursor_image.is_empty()
                && reply.cursor_image.len() == size.width as usize * size.height as usize;
            let hot = (reply.xhot.into(), reply.yhot.into());
            self.shape =
                Shape::Known(visible.then(|| (Arc::new(PointerImage { size, argb: reply.cursor_image }), hot)));
        }
        let Shape::Known(Some((image, (hot_x, hot_y)))) = &self.shape else { return Ok(None) };
        Ok(self.spot.map(|(x, y)| Pointer { image: image.clone(), x: x - hot_x, y: y - hot_y }))
    }
}
