//! The last picture of a lesson, and the stores in which the next ones are made.
//!
//! Says exactly which rows of a picture differ from the one before, so that a slide that stands still costs nothing further on.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ac_ffmpeg::codec::video::VideoFrame;

use super::movie;
use super::picture::{Painter, PictureError, differing_rows};
use crate::frame::coded::Coded;
use crate::frame::{Damage, Frame, Picture, Rect, Size};
use crate::source::pool::{Pick, Pool};

/// Rows that are compared at once.
const BAND: u32 = 16;

/// What is shown.
pub(super) struct Screen {
    pool: Pool<Vec<u8>>,
    current: Option<Picture>,
    /// What the current picture was made of.
    made_of: Option<(Arc<Mutex<Painter>>, VideoFrame)>,
    /// How it was recorded, where it can be sent so.
    coded: Option<Arc<Coded>>,
    /// When the last frame was, so that none seems to be older.
    captured: Option<Instant>,
}

/// What became of a picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Painted {
    /// It is the current one, and differs from the one before there.
    Differs(Damage),
    /// It looks like the one before.
    Same,
    /// All stores have readers: try again.
    Busy,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { pool: Pool::new(0), current: None, made_of: None, coded: None, captured: None }
    }

    /// The size of the last picture.
    pub(super) fn size(&self) -> Option<Size> {
        self.current.as_ref().map(Picture::size)
    }

    /// Makes a decoded picture the current one.
    ///
    /// # Errors
    /// [`PictureError`] where it can't be converted; the one before stays then.
    pub(super) fn paint(&mut self, picture: &movie::Picture) -> Result<Painted, PictureError> {
        let mut painter = picture.painter.lock().unwrap_or_else(PoisonError::into_inner);
        let size = painter.size(&picture.frame)?;
        let recorded = (picture.frame.width(), picture.frame.height());
        let is_as_recorded = recorded == (size.width as usize, size.height as usize);
        let stride = size.width as usize * 4;
        if self.size() != Some(size) {
            (self.pool, self.made_of) = (Pool::new(size.height), None);
        }
        // Rows that are the same as before need not be converted again.
        let before = self.made_of.as_ref().filter(|(by, _)| Arc::ptr_eq(by, &picture.painter));
        let before = before.filter(|_| painter.is_direct(&picture.frame));
        let rows = before.map(|(_, before)| differing_rows(before, &picture.frame, BAND));
        match &rows {
            Some(rows) if rows.is_empty() => {
                self.coded = picture.coded.clone().filter(|_| is_as_recorded);
                return Ok(Painted::Same);
            }
            Some(rows) => rows.iter().for_each(|rows| self.pool.mark(rows.clone())),
            None => self.pool.mark_all(),
        }
        let at = match self.pool.pick() {
            Pick::Fresh(at) | Pick::Stale(at) => at,
            Pick::Create => self.pool.insert(vec![0; stride * size.height as usize]),
            Pick::Busy => return Ok(Painted::Busy),
        };
        let Some((bgrx, stale)) = self.pool.writable(at) else { return Ok(Painted::Busy) };
        let damage = match rows {
            Some(rows) => {
                stale.iter().try_for_each(|rows| painter.paint_rows(&picture.frame, rows, bgrx))?;
                damage_of(rows, size)
            }
            None => {
                painter.paint(&picture.frame, bgrx)?;
                match self.current.as_ref().filter(|current| current.size() == size) {
                    Some(current) => differing(current.bytes(), bgrx, size),
                    None => Damage::whole(size),
                }
            }
        };
        self.pool.handle_written(at);
        self.coded = picture.coded.clone().filter(|_| is_as_recorded);
        self.made_of = Some((picture.painter.clone(), picture.frame.clone()));
        if damage.is_empty() {
            return Ok(Painted::Same);
        }
        let store: Option<Arc<Vec<u8>>> = self.pool.share(at);
        self.current = store.and_then(|store| Picture::new(store, size, stride));
        Ok(Painted::Differs(damage))
    }

    /// Whether the last picture could be sent as it was recorded.
    pub(super) fn is_coded(&self) -> bool {
        self.coded.is_some()
    }

    /// The current picture as a frame of this moment; all of it may have changed where no damage is given.
    pub(super) fn frame(&mut self, damage: Option<Damage>, at: Instant) -> Option<Frame> {
        let picture = self.current.clone()?;
        let captured = self.captured.map_or(at, |last| last.max(at));
        self.captured = Some(captured);
        let damage = damage.unwrap_or_else(|| Damage::whole(picture.size()));
        Some(Frame { coded: self.coded.clone(), ..Frame::new(picture, damage, captured) })
    }
}

/// The bands of rows that are not the same.
fn differing(before: &[u8], now: &[u8], size: Size) -> Damage {
    let bands = before.chunks(size.width as usize * 4 * BAND as usize);
    let bands =
        bands.zip(now.chunks(size.width as usize * 4 * BAND as usize)).zip((0..size.height).step_by(BAND as usize));
    let differing = bands.filter(|((before, now), _)| before != now);
    damage_of(differing.map(|(_, first)| first..first + BAND), size)
}

/// Rows as damage; what touches is one.
fn damage_of(rows: impl IntoIterator<Item = Range<u32>>, size: Size) -> Damage {
    let mut damage = Damage::none();
    let mut run: Option<Range<u32>> = None;
    let rect =
        |rows: Range<u32>| Rect { x: 0, y: rows.start, width: size.width, height: rows.end - rows.start }.clipped(size);
    for rows in rows {
        run = match run {
            Some(run) if run.end == rows.start => Some(run.start..rows.end),
            Some(run) => {
                damage.add(rect(run));
                Some(rows)
            }
            None => Some(rows),
        };
    }
    run.map(rect).into_iter().for_each(|rect| damage.add(rect));
    damage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_differ_are_damaged_and_no_others() {
        let size = Size::new(10, 100);
        let before = vec![7; 4000];
        let mut now = before.clone();
        assert!(differing(&before, &now, size).is_empty());
        now[40 * 20] = 8;
        now[40 * 35] = 8;
        now[3999] = 8;
        let rect = |y, height| Rect { x: 0, y, width: 10, height };
        assert_eq!(differing(&before, &now, size).rects(), [rect(16, 32), rect(96, 4)]);
        assert_eq!(differing(&before, &vec![0; 4000], size), Damage::whole(size));
    }
}
