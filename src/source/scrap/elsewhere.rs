//! scrap where there is no X11 (Windows and macOS): as its documentation has it, untried.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use scrap::{Capturer, Display};

use super::Trouble;
use crate::frame::Size;

/// A monitor.
pub(super) struct Desk {
    /// Which one, from 1 on; the primary one where none is asked for.
    number: Option<usize>,
    size: Size,
    capturer: Option<Capturer>,
    pixels: Vec<u8>,
}

impl Desk {
    /// Finds the monitor of this number, or the primary one.
    pub(super) fn open(_display: Option<&str>, monitor: Option<&str>) -> Result<Self, Trouble> {
        let number = match monitor {
            Some(asked) => Some(asked.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
                Trouble::new(
                    format!("scrap knows no monitor by the name {}", crate::config::one_line(asked)),
                    "write screen:1",
                )
            })?),
            None => None,
        };
        let display = find(number)?;
        let size = Size::new(display.width() as u32, display.height() as u32);
        Ok(Self { number, size, capturer: None, pixels: Vec::new() })
    }

    /// The extent of what is captured.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// What it is, for people.
    pub(super) fn describe(&self) -> String {
        self.number.map_or_else(|| "screen".to_owned(), |number| format!("monitor {number}"))
    }

    /// What becomes readable when there is something to check: nothing.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Makes ready to capture.
    pub(super) fn start(&mut self) -> Result<(), Trouble> {
        let capturer = Capturer::new(find(self.number)?).map_err(|error| refused(&error))?;
        self.size = Size::new(capturer.width() as u32, capturer.height() as u32);
        self.capturer = Some(capturer);
        Ok(())
    }

    /// Gives back all that capturing holds.
    pub(super) fn stop(&mut self) {
        self.capturer = None;
    }

    /// Looks whether what is captured is where it was: capturing itself tells.
    pub(super) fn check(&mut self, _active: bool) -> Result<(), Trouble> {
        Ok(())
    }

    /// The picture of now: BGRX, rows without gaps, and when it was asked for; `None` while there is no new one.
    pub(super) fn capture(&mut self, now: Instant) -> Result<Option<(&[u8], Instant)>, Trouble> {
        let Some(capturer) = &mut self.capturer else { return Ok(None) };
        let (row, rows) = (self.size.width as usize * 4, self.size.height as usize);
        match capturer.frame() {
            Ok(frame) => {
                let stride = frame.len() / rows.max(1);
                if stride < row {
                    return Err(Trouble::new("scrap gave a picture of another size", "restart the source"));
                }
                self.pixels.clear();
                frame.chunks_exact(stride).for_each(|padded| self.pixels.extend_from_slice(&padded[..row]));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(refused(&error)),
        }
        Ok(Some((&self.pixels, now)))
    }
}

fn find(number: Option<usize>) -> Result<Display, Trouble> {
    let Some(number) = number else { return Display::primary().map_err(|error| refused(&error)) };
    let mut all = Display::all().map_err(|error| refused(&error))?;
    if number > all.len() {
        return Err(Trouble::new(format!("there is no monitor {number}"), format!("there are {}", all.len())));
    }
    Ok(all.swap_remove(number - 1))
}

fn refused(error: &io::Error) -> Trouble {
    Trouble::new(format!("scrap can't capture it ({error})"), "see that this program may capture the screen")
}
