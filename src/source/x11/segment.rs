//! Memory that the X server writes pictures to: shared segments, or plain memory where the server shares none.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use crate::frame::PixelStore;

/// Memory for one picture.
#[derive(Debug)]
pub(super) enum Store {
    /// The X server writes to it by itself.
    Shared(Segment),
    /// Filled from replies.
    Plain(Vec<u8>),
}

/// A MIT-SHM segment that is mapped here; unmapped when dropped.
#[derive(Debug)]
pub(super) struct Segment {
    id: u32,
    start: *mut u8,
    length: usize,
}

impl Segment {
    /// Maps the segment called `id` at the server, whose memory is behind `fd`.
    ///
    /// # Errors
    /// `InvalidData` if the memory is shorter than `length`, and what mmap(2) says.
    #[expect(unsafe_code, reason = "mapping memory that another process shares")]
    pub(super) fn map(id: u32, fd: OwnedFd, length: usize) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let file = File::from(fd);
        if file.metadata()?.len() < length as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the server's segment is too short"));
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory that is in use, and the file
        // is at least `length` bytes long.
        let start = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &file, 0) }?;
        Ok(Self { id, start: start.cast(), length })
    }

    /// Its name at the server.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    #[expect(unsafe_code, reason = "reading memory that another process shares")]
    fn bytes(&self) -> &[u8] {
        // SAFETY: `start` points to `length` readable bytes that stay mapped as long as `self` lives. The server
        // writes to them only on our request, which the pool allows only while no picture refers to this segment.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Segment {
    #[expect(unsafe_code, reason = "unmapping memory that another process shares")]
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`, unmapped once, and no reference to it outlives `self`.
        if let Err(error) = unsafe { rustix::mm::munmap(self.start.cast(), self.length) } {
            tracing::error!("munmap: {error}");
        }
    }
}

// SAFETY: the mapping belongs to no thread; it is only read here (`bytes`), and unmapped by whoever drops it last.
#[expect(unsafe_code, reason = "a raw pointer to the mapping")]
unsafe impl Send for Segment {}
// SAFETY: as above: shared references only read.
#[expect(unsafe_code, reason = "a raw pointer to the mapping")]
unsafe impl Sync for Segment {}

impl PixelStore for Store {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(segment) => segment.bytes(),
            Self::Plain(bytes) => bytes,
        }
    }
}
