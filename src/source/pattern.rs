//! The pattern: a deterministic test card with moving parts, a clock and a machine-readable strip.
//!
//! Owns the thread `capture-pattern`, which renders at the frame rate while it is active and else sleeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error};

use super::pool::{Pick, Pool};
use super::{FrameSink, Opened, Source, SourceError, SourceOptions};
use crate::alive::Watch;
use crate::frame::{Damage, Frame, Picture, Rect, Size};
use crate::orders::{Mode, Orders};

mod card;
pub mod strip;

pub use card::{Patch, patches};

/// The size where none is asked for.
const DEFAULT_SIZE: Size = Size::new(1280, 720);

/// Renders the card whole: rows of BGRX, `size.width * 4` bytes each; the same arguments give the same bytes.
pub fn render(size: Size, number: u32, millis: u32) -> Vec<u8> {
    let stride = size.width as usize * 4;
    let mut bgrx = vec![0; stride * size.height as usize];
    card::draw_still(&mut bgrx, stride, size);
    card::draw_moving(&mut bgrx, stride, size, number, millis);
    bgrx
}

/// Opens the pattern.
///
/// # Errors
/// [`SourceError::System`] where no thread can be had.
pub(super) fn open(
    size: Option<Size>,
    options: &SourceOptions,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    let (size, fps) = (size.unwrap_or(DEFAULT_SIZE), options.fps);
    let open = move || Ok((Opened::silent(size, format!("pattern {size}")), Pattern::new(size, Instant::now())));
    Source::spawn("pattern", "capture-pattern", watch, open, move |mut pattern, orders| {
        run(&mut pattern, fps, orders, &sink);
    })
}

/// Renders until the source is stopped.
fn run(pattern: &mut Pattern, fps: u32, orders: &Orders, sink: &FrameSink) {
    let interval = Duration::from_secs(1) / fps.max(1);
    let mut due: Option<Instant> = None;
    loop {
        let wanted = orders.take();
        let now = Instant::now();
        due = match (wanted.mode, due) {
            (Mode::Stopped, _) => return,
            (Mode::Idle, _) => None,
            (Mode::Active, None) => {
                pattern.owe_whole();
                Some(now)
            }
            (Mode::Active, Some(_)) if wanted.refresh => {
                pattern.owe_whole();
                Some(now)
            }
            (Mode::Active, Some(due)) => Some(due),
        };
        if let Some(at) = due.filter(|at| *at <= now) {
            match pattern.next_frame(now) {
                Some(frame) => sink(frame),
                None => debug!("every picture store is being read; this picture is skipped"),
            }
            // Pictures that were missed are not made up for.
            due = Some((at + interval).max(now));
            continue;
        }
        if let Err(error) = orders.wait(None, due) {
            error!("the pattern can't wait: {error}");
            return;
        }
    }
}

/// The state of an open pattern.
struct Pattern {
    size: Size,
    opened: Instant,
    number: u32,
    owed: Damage,
    pool: Pool<Vec<u8>>,
}

impl Pattern {
    fn new(size: Size, opened: Instant) -> Self {
        Self { size, opened, number: 0, owed: Damage::whole(size), pool: Pool::new(size.height) }
    }

    /// Lets the next frame say that everything may differ.
    fn owe_whole(&mut self) {
        self.owed = Damage::whole(self.size);
    }

    /// Renders the next picture; `None` while every store has a reader.
    fn next_frame(&mut self, now: Instant) -> Option<Frame> {
        let millis = now.saturating_duration_since(self.opened).as_millis() as u32;
        let (number, stride) = (self.number, self.size.width as usize * 4);
        self.number = number.wrapping_add(1);
        self.owed.union(&card::moving(self.size, number.wrapping_sub(1), number));
        self.pool.mark_all();
        let at = match self.pool.pick() {
            Pick::Fresh(at) | Pick::Stale(at) => at,
            Pick::Create => {
                let mut bgrx = vec![0; stride * self.size.height as usize];
                card::draw_still(&mut bgrx, stride, self.size);
                self.pool.insert(bgrx)
            }
            Pick::Busy => return None,
        };
        let (bgrx, _) = self.pool.writable(at)?;
        card::draw_moving(bgrx, stride, self.size, number, millis);
        let store: Arc<Vec<u8>> = self.pool.share(at)?;
        let picture = Picture::new(store, self.size, stride)?;
        Some(Frame::new(picture, std::mem::take(&mut self.owed), now))
    }
}

/// Fills the part of a rectangle that is inside the picture with a colour (red, green, blue).
pub(super) fn fill(bgrx: &mut [u8], stride: usize, rect: Rect, [red, green, blue]: [u8; 3]) {
    let size = Size::new((stride / 4) as u32, bgrx.len().checked_div(stride).unwrap_or(0) as u32);
    let rect = rect.clipped(size);
    if rect.is_empty() {
        return;
    }
    let (left, width) = (rect.x as usize * 4, rect.width as usize * 4);
    let rows = bgrx.chunks_exact_mut(stride).skip(rect.y as usize).take(rect.height as usize);
    for row in rows {
        for pixel in row[left..left + width].chunks_exact_mut(4) {
            pixel.copy_from_slice(&[blue, green, red, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc;

    const SIZES: [Size; 6] = [
        Size::new(1280, 720),
        Size::new(1365, 767),
        Size::new(3840, 2160),
        Size::new(320, 180),
        Size::new(64, 48),
        Size::new(1, 1),
    ];

    fn rgb(bgrx: &[u8], size: Size, x: u32, y: u32) -> [u8; 3] {
        let at = (y * size.width + x) as usize * 4;
        [bgrx[at + 2], bgrx[at + 1], bgrx[at]]
    }

    #[test]
    fn patches_have_their_colours_to_the_edge() {
        for size in &SIZES[..4] {
            let bgrx = render(*size, 77, 123_456);
            let patches = patches(*size);
            assert_eq!(patches.len(), 24);
            for Patch { name, rect, rgb: colour } in patches {
                assert!(rect.width >= 8 && rect.height >= 8, "{name} of {size}: {rect:?}");
                for (x, y) in [(0, 0), (rect.width - 1, rect.height - 1), (rect.width / 2, rect.height / 2)] {
                    assert_eq!(rgb(&bgrx, *size, rect.x + x, rect.y + y), colour, "{name} of {size}");
                }
            }
        }
    }

    #[test]
    fn the_strip_of_a_whole_card_reads() {
        for size in &SIZES[..4] {
            let bgrx = render(*size, 4711, 1_234_567);
            assert_eq!(strip::read(|x, y| rgb(&bgrx, *size, x, y)[1], *size), Some((4711, 1_234_567)), "{size}");
        }
    }

    #[test]
    fn frames_differ_only_where_they_are_damaged() {
        for size in SIZES {
            let mut before = render(size, 0, 0);
            for (number, millis) in [(1, 33), (2, 66), (119, 60_000), (120, 3_600_000)] {
                let now = render(size, number, millis);
                let previous = std::mem::replace(&mut before, now.clone());
                let damage = card::moving(
                    size,
                    [0, 1, 2, 119, 120][[1, 2, 119, 120].iter().position(|n| *n == number).unwrap()],
                    number,
                );
                for (at, (old, new)) in previous.chunks_exact(4).zip(now.chunks_exact(4)).enumerate() {
                    let (x, y) = (at as u32 % size.width, at as u32 / size.width);
                    let inside = |r: &Rect| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y);
                    assert!(old == new || damage.rects().iter().any(inside), "({x}, {y}) of {size}");
                }
                if size.width > 100 {
                    assert!(damage.rects().iter().map(Rect::area).sum::<u64>() < Rect::whole(size).area() / 2);
                }
            }
        }
    }

    #[test]
    fn frames_from_the_pool_equal_the_card() {
        let (size, start) = (Size::new(320, 180), Instant::now());
        let mut pattern = Pattern::new(size, start);
        let mut held = Vec::new();
        for number in 0..20 {
            let millis = number * 33;
            let frame = pattern.next_frame(start + Duration::from_millis(millis.into())).unwrap();
            assert_eq!(frame.picture.bytes(), render(size, number, millis), "frame {number}");
            assert_eq!(frame.damage == Damage::whole(size), number == 0);
            held.push(frame);
            if held.len() == 3 {
                held.remove(0);
            }
        }
    }

    #[test]
    fn frames_flow_only_while_active_and_begin_whole() {
        let (sender, frames) = mpsc::sync_channel(1_000);
        let sink: FrameSink = Arc::new(move |frame| sender.send(frame).unwrap());
        let options = SourceOptions { fps: 50, ..SourceOptions::default() };
        let source = open(Some(Size::new(200, 101)), &options, sink, &Watch::new().0).unwrap();
        let deadline = Duration::from_secs(10);
        assert!(frames.recv_timeout(Duration::from_millis(100)).is_err(), "an idle pattern renders");
        for _ in 0..2 {
            source.set_active(true);
            let first = frames.recv_timeout(deadline).unwrap();
            assert_eq!(first.damage, Damage::whole(Size::new(200, 101)));
            assert_ne!(frames.recv_timeout(deadline).unwrap().damage, first.damage);
            source.set_active(false);
            while frames.recv_timeout(Duration::from_millis(200)).is_ok() {}
        }
        drop(source);
        assert!(frames.recv_timeout(deadline).is_err());
    }
}
