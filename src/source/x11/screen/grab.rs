//! Pixels: the memory that pictures are in, and how the server fills it.

use std::ops::Range;

use tracing::warn;
use x11rb::connection::Connection as _;
use x11rb::errors::{ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::shm::ConnectionExt as _;
use x11rb::protocol::xproto::{ConnectionExt as _, ImageFormat};

use super::{Screen, Transport};
use crate::source::pool::Bands;
use crate::source::x11::segment::{Segment, Store};

impl Screen {
    /// Makes memory for one picture: plain where the server can't share any.
    pub(in crate::source::x11) fn allocate(&mut self) -> Result<Store, ReplyOrIdError> {
        let length = self.stride() * self.view.size.height as usize;
        if self.transport == Transport::Shared {
            let id = self.connection.generate_id()?;
            let bytes = u32::try_from(length).unwrap_or(u32::MAX);
            let why = match self.connection.shm_create_segment(id, bytes, false)?.reply() {
                Ok(made) => match Segment::map(id, made.shm_fd, length) {
                    Ok(segment) => return Ok(Store::Shared(segment)),
                    Err(error) => error.to_string(),
                },
                Err(ReplyError::X11Error(error)) => format!("{:?}", error.error_kind),
                Err(error) => return Err(error.into()),
            };
            warn!("the X server shares no memory ({why}); capture goes through its socket and costs more");
            self.transport = Transport::Plain;
        }
        Ok(Store::Plain(vec![0; length]))
    }

    /// Has the server forget a segment; readers here keep it.
    pub(in crate::source::x11) fn forget(&self, store: &Store) -> Result<(), ConnectionError> {
        if let Store::Shared(segment) = store {
            self.connection.shm_detach(segment.id())?;
        }
        Ok(())
    }

    /// Bytes from one row of a store to the next.
    pub(in crate::source::x11) fn stride(&self) -> usize {
        self.view.size.width as usize * 4
    }

    /// Brings rows of a store up to date: full rows are contiguous, so that the server writes them where they belong.
    pub(in crate::source::x11) fn grab(&self, store: &mut Store, bands: &Bands) -> Result<(), ReplyError> {
        let (view, stride) = (self.view, self.stride());
        let (x, width, all) = (view.x, view.size.width as u16, !0);
        let format = ImageFormat::Z_PIXMAP;
        let part = |band: &Range<u32>| {
            let y = i32::from(view.y) + band.start.cast_signed();
            (y as i16, (band.end - band.start) as u16, band.start as usize * stride)
        };
        match store {
            Store::Shared(segment) => {
                let (id, format, mut asked) = (segment.id(), format.into(), Vec::new());
                for band in bands.iter() {
                    let (y, rows, offset) = part(&band);
                    let (from, offset) = (view.drawable, offset as u32);
                    asked.push(self.connection.shm_get_image(from, x, y, width, rows, all, format, id, offset)?);
                }
                asked.into_iter().try_for_each(|cookie| cookie.reply().map(drop))
            }
            Store::Plain(bytes) => {
                for band in bands.iter() {
                    let (y, rows, start) = part(&band);
                    let image = self.connection.get_image(format, view.drawable, x, y, width, rows, all)?.reply()?;
                    let length = image.data.len().min(stride * usize::from(rows));
                    if let Some(target) = bytes.get_mut(start..start + length) {
                        target.copy_from_slice(&image.data[..length]);
                    }
                }
                Ok(())
            }
        }
    }
}
