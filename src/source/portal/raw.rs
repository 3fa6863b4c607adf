//! What of PipeWire is raw: the memory of buffers, and the loop that belongs to a thread. The only unsafe code of the portal.
//!
//! While a buffer is out of its stream, the other side does not write into it: that is the contract of `pw_stream_dequeue_buffer`.

#![expect(unsafe_code, reason = "buffers are raw memory of PipeWire's, and its loop is entered by hand")]

use std::ptr::NonNull;

use pipewire::main_loop::MainLoopRc;
use pipewire::spa::sys::{self, SPA_CHUNK_FLAG_CORRUPTED};
use pipewire::stream::Stream;
use pipewire::sys::pw_buffer;

use super::news::Meta;
use super::params::Format;
use super::pixels::Pixels;

/// A loop that belongs to this thread until it is dropped.
///
/// PipeWire has its own thread call back into a loop that nobody has entered, instead of waking it (`loop_invoke` of `spa/support/loop.c`).
pub(super) struct Entered(MainLoopRc);

impl Entered {
    /// Makes a loop and enters it.
    pub(super) fn new() -> Result<Self, pipewire::Error> {
        let main_loop = MainLoopRc::new(None)?;
        // SAFETY: it is left by `drop`, in this thread: an `Rc` stays where it is.
        unsafe { main_loop.loop_().enter() };
        Ok(Self(main_loop))
    }

    /// The loop.
    pub(super) fn main_loop(&self) -> &MainLoopRc {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // SAFETY: it was entered once, by this thread.
        unsafe { self.0.loop_().leave() };
    }
}

/// A buffer that is out of its stream; whoever has it gives it back, or is told that it is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken(NonNull<pw_buffer>);

impl Taken {
    /// Takes the next buffer.
    pub(super) fn next(stream: &Stream) -> Option<Self> {
        // SAFETY: the stream is alive; what it returns is null or a buffer of its own.
        NonNull::new(unsafe { stream.dequeue_raw_buffer() }).map(Self)
    }

    /// Whether it is this one, of which the stream tells.
    pub(super) fn is(&self, buffer: *mut pw_buffer) -> bool {
        self.0.as_ptr() == buffer
    }

    /// Gives it back to the stream that it is of.
    pub(super) fn give_back(self, stream: &Stream) {
        // SAFETY: it was taken out of this stream, which has not removed it since (`Stream` forgets it where it has).
        unsafe { stream.queue_raw_buffer(self.0.as_ptr()) }
    }

    /// What it says beside its pixels.
    pub(super) fn metas(&self) -> Vec<Meta<'_>> {
        // SAFETY: the buffer is out of its stream and not removed, so that all it refers to stays, and nobody writes to it.
        unsafe {
            let Some(buffer) = self.0.as_ref().buffer.as_ref() else { return Vec::new() };
            if buffer.metas.is_null() {
                return Vec::new();
            }
            let metas = std::slice::from_raw_parts(buffer.metas, buffer.n_metas as usize);
            let filled = metas.iter().filter(|meta| !meta.data.is_null());
            filled
                .map(|meta| (meta.type_, std::slice::from_raw_parts(meta.data.cast::<u8>(), meta.size as usize)))
                .collect()
        }
    }

    /// Its pixels; `None` where it has none (the pointer alone has moved), or none that can be read.
    pub(super) fn pixels(&self, format: Format) -> Option<Pixels<'_>> {
        // SAFETY: as in `metas`; a buffer in memory is mapped by the stream (MAP_BUFFERS) for `maxsize` bytes from `data` on.
        unsafe {
            let buffer = self.0.as_ref().buffer.as_ref()?;
            if buffer.n_datas == 0 {
                return None;
            }
            let data = buffer.datas.as_ref()?;
            let chunk = data.chunk.as_ref()?;
            let is_memory = [sys::SPA_DATA_MemPtr, sys::SPA_DATA_MemFd].contains(&data.type_) && !data.data.is_null();
            let is_corrupted = chunk.flags & SPA_CHUNK_FLAG_CORRUPTED.cast_signed() != 0;
            if !is_memory || is_corrupted || chunk.size == 0 || data.maxsize == 0 {
                return None;
            }
            let offset = (chunk.offset % data.maxsize) as usize;
            let start = data.data.cast::<u8>().add(offset);
            let bytes = std::slice::from_raw_parts(start, data.maxsize as usize - offset);
            let stride = usize::try_from(chunk.stride).ok().filter(|stride| *stride > 0);
            Some(Pixels { bytes, stride: stride.unwrap_or(format.size.width as usize * 4), order: format.order })
        }
    }
}
