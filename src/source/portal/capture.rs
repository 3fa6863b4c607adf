//! Capture: which pictures become frames, when, and what the frame says about them (rule 2). Pure: it is handed the pixels.

use std::time::Instant;

use tracing::{debug, info};

use super::news::{Fresh, News};
use super::pixels::Pixels;
use crate::frame::pacing::CapturePacer;
use crate::frame::{Damage, Frame, Picture, Pointer, Rect, Size};
use crate::source::pool::{Pick, Pool};

/// Makes frames of what a stream brings.
#[derive(Debug)]
pub(super) struct Capture {
    fps: u32,
    /// The part of the buffers that is the picture.
    area: Rect,
    pool: Pool<Vec<u8>>,
    pacer: CapturePacer,
    is_active: bool,
    /// Whether the next picture's damage is not to be trusted: others may have been lost before it.
    is_gap: bool,
    /// Whether a picture waits that no store has yet.
    is_waiting: bool,
    /// Whether there was a picture since the size was last another.
    has_picture: bool,
    /// When the picture that waits was captured.
    captured: Option<Instant>,
    /// What has changed since the last frame.
    owed: Damage,
    pointer: Option<Pointer>,
}

impl Capture {
    /// Makes an idle capture of pictures of `size`.
    pub(super) fn new(size: Size, fps: u32) -> Self {
        Self {
            fps,
            area: Rect::whole(size),
            pool: Pool::new(size.height),
            pacer: CapturePacer::new(fps),
            is_active: false,
            is_gap: true,
            is_waiting: false,
            has_picture: false,
            captured: None,
            owed: Damage::whole(size),
            pointer: None,
        }
    }

    /// The extent of the pictures.
    pub(super) fn size(&self) -> Size {
        Size::new(self.area.width, self.area.height)
    }

    /// Whether there is a picture to begin with.
    pub(super) fn has_picture(&self) -> bool {
        self.has_picture
    }

    /// Starts or ends the flow of frames; the first one is whole and due at once.
    pub(super) fn set_active(&mut self, active: bool, now: Instant) {
        if active == self.is_active {
            return;
        }
        self.is_active = active;
        self.pacer = CapturePacer::new(self.fps);
        if active {
            self.is_gap = true;
            self.refresh(now);
        }
    }

    /// Makes a frame with everything damaged due at once.
    pub(super) fn refresh(&mut self, now: Instant) {
        if self.is_active {
            self.owed = Damage::whole(self.size());
            self.pacer.force(now);
        }
    }

    /// Notes what the stream has brought; `at` turns a time of the stream into one of ours.
    pub(super) fn handle(&mut self, news: News, now: Instant, at: impl Fn(i64) -> Instant) {
        if let Some(Fresh { area, damage, nanos }) = news.picture {
            if area != self.area {
                self.resize(area);
            }
            let damage = if std::mem::take(&mut self.is_gap) { Damage::whole(self.size()) } else { damage };
            for rect in damage.rects() {
                self.pool.mark(rect.y..rect.y + rect.height);
            }
            self.owed.union(&damage);
            self.has_picture = true;
            self.is_waiting = true;
            self.captured = nanos.map(at);
            if !damage.is_empty() {
                self.pacer.handle_change(now);
            }
        }
        if let Some(pointer) = news.pointer
            && pointer != self.pointer
        {
            self.pointer = pointer;
            self.pacer.handle_change(now);
        }
    }

    /// Notes that the picture that waits is gone: the next one is whole.
    pub(super) fn handle_gone(&mut self) {
        self.is_waiting = false;
        self.is_gap = true;
    }

    /// When there is something to do (perhaps already past).
    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        let can_show = self.is_waiting || matches!(self.pool.pick(), Pick::Fresh(_));
        self.pacer.poll_timeout().filter(|_| self.is_active && can_show)
    }

    /// Makes the frame that is due, of the picture that waits or the last one; `None` where every store has a reader.
    pub(super) fn capture(&mut self, now: Instant, pixels: Option<Pixels<'_>>) -> Option<Frame> {
        self.pacer.handle_capture(now);
        let at = match (self.pool.pick(), pixels) {
            (Pick::Fresh(at), _) => at,
            (Pick::Busy, _) => {
                debug!("every picture store is being read; this picture has to wait");
                self.pacer.handle_change(now);
                return None;
            }
            (pick, Some(pixels)) if pixels.has(self.area) => {
                let at = match pick {
                    Pick::Stale(at) => at,
                    _ => self.pool.insert(vec![0; self.area.width as usize * self.area.height as usize * 4]),
                };
                let (store, stale) = self.pool.writable(at)?;
                if !pixels.copy(self.area, stale.iter(), store) {
                    return None;
                }
                self.pool.handle_written(at);
                at
            }
            _ => {
                debug!("a picture is gone before it was taken");
                self.handle_gone();
                return None;
            }
        };
        let captured = std::mem::take(&mut self.is_waiting).then(|| self.captured.take()).flatten();
        let picture = Picture::new(self.pool.share(at)?, self.size(), self.area.width as usize * 4)?;
        let damage = std::mem::take(&mut self.owed);
        Some(Frame { pointer: self.pointer.clone(), ..Frame::new(picture, damage, captured.unwrap_or(now)) })
    }

    /// Whether a picture waits, whose pixels are needed.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    fn resize(&mut self, area: Rect) {
        self.area = area;
        info!("the screen is now {}", self.size());
        self.pool.reset(area.height).for_each(drop);
        self.owed = Damage::whole(self.size());
        self.is_gap = true;
    }
}

#[cfg(test)]
mod tests;
