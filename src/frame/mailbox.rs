//! The mailbox between a source and an encoder: one frame, the newest wins (rules 2 and 13).
//!
//! Owns the frame that waits, and the damage of those it replaced. It never locks: its shell does.

use super::{Damage, Frame};

/// Holds the newest frame until it is taken.
#[derive(Debug, Default)]
pub struct Mailbox {
    waiting: Option<Frame>,
    replaced: u64,
}

impl Mailbox {
    /// Makes an empty mailbox.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `frame` in place of the one that waits, whose damage is kept; all is damaged where the size has changed.
    pub fn put(&mut self, mut frame: Frame) {
        if let Some(old) = self.waiting.take() {
            self.replaced += 1;
            if old.picture.size() == frame.picture.size() {
                frame.damage.union(&old.damage);
            } else {
                frame.damage = Damage::whole(frame.picture.size());
            }
        }
        self.waiting = Some(frame);
    }

    /// Takes the newest frame.
    pub fn take(&mut self) -> Option<Frame> {
        self.waiting.take()
    }

    /// Whether no frame waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// How many frames were replaced before anybody took them.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::frame::{Picture, Rect, Size};

    fn frame(size: Size, damage: Damage, captured: Instant) -> Frame {
        let store = Arc::new(vec![0; size.width as usize * size.height as usize * 4]);
        let picture = Picture::new(store, size, size.width as usize * 4).unwrap();
        Frame::new(picture, damage, captured)
    }

    fn spot(x: u32, y: u32) -> Damage {
        let mut damage = Damage::none();
        damage.add(Rect { x, y, width: 2, height: 2 });
        damage
    }

    #[test]
    fn newest_frame_wins_and_keeps_the_damage_of_the_replaced() {
        let (size, start) = (Size::new(16, 16), Instant::now());
        let mut mailbox = Mailbox::new();
        assert!(mailbox.is_empty() && mailbox.take().is_none());
        for i in 0..3 {
            mailbox.put(frame(size, spot(i * 4, i), start + Duration::from_millis(u64::from(i))));
        }
        assert_eq!(mailbox.replaced(), 2);
        let taken = mailbox.take().unwrap();
        assert_eq!(taken.captured, start + Duration::from_millis(2));
        for i in 0..3 {
            assert!(taken.damage.rects().contains(&Rect { x: i * 4, y: i, width: 2, height: 2 }));
        }
        assert!(mailbox.is_empty());
        mailbox.put(frame(size, spot(0, 0), start));
        assert_eq!(mailbox.take().unwrap().damage, spot(0, 0), "damage already taken does not come back");
        assert_eq!(mailbox.replaced(), 2);
    }

    #[test]
    fn another_size_damages_all() {
        let start = Instant::now();
        let mut mailbox = Mailbox::new();
        mailbox.put(frame(Size::new(16, 16), spot(0, 0), start));
        mailbox.put(frame(Size::new(32, 8), Damage::none(), start));
        assert_eq!(mailbox.take().unwrap().damage, Damage::whole(Size::new(32, 8)));
    }
}
