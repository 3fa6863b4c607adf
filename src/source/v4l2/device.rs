//! A camera's device: what it is, what it offers, and its pictures in memory that the kernel shares (V4L2, single-planar, `V4L2_MEMORY_MMAP`).
//!
//! Owns the calls to the kernel, whose numbers and structures are the crate `v4l`'s; that crate's own devices panic at what drivers say, so
//! none is used. It decides nothing.

#![expect(unsafe_code, reason = "ioctl(2) and mmap(2)")]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use v4l::v4l_sys as sys;
use v4l::v4l2::vidioc;

use super::convert::{Colours, Layout};
use super::mode::{Interval, Intervals, Mode, Pixels, Sizes};
use crate::frame::Size;

/// The buffers asked for: one with us, one ready, the others being filled.
const BUFFERS: u32 = 4;
/// A driver's list that is longer than this never ends.
const MOST_ENTRIES: u32 = 256;

/// Structures of the kernel: plain integers, and unions of such.
///
/// # Safety
/// All zeroes must be a value of it.
unsafe trait Plain: Sized {
    fn zeroed() -> Self {
        // SAFETY: whoever implements this says that zeroes are a value.
        unsafe { std::mem::zeroed() }
    }
}
// SAFETY: each has integers only, and unions of such (videodev2.h).
unsafe impl Plain for sys::v4l2_capability {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_fmtdesc {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_frmsizeenum {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_frmivalenum {}
// SAFETY: as above; its pointers may be null.
unsafe impl Plain for sys::v4l2_format {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_streamparm {}
// SAFETY: as above.
unsafe impl Plain for sys::v4l2_requestbuffers {}
// SAFETY: as above; its pointers may be null.
unsafe impl Plain for sys::v4l2_buffer {}

/// An open device.
#[derive(Debug)]
pub(super) struct Device(File);

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capability {
    /// Its name.
    pub(super) card: String,
    /// What it can do: `V4L2_CAP_…`.
    pub(super) flags: u32,
}

impl Capability {
    /// Whether pictures can be captured from it in the way that is known here.
    pub(super) fn captures(&self) -> bool {
        let needed = sys::V4L2_CAP_VIDEO_CAPTURE | sys::V4L2_CAP_STREAMING;
        self.flags & needed == needed
    }

    /// What it is, where it is no camera.
    pub(super) fn kind(&self) -> &'static str {
        let kinds = [
            (sys::V4L2_CAP_VIDEO_CAPTURE_MPLANE, "a camera of many planes, which are not known here"),
            (sys::V4L2_CAP_VIDEO_CAPTURE, "a camera without streaming"),
            (sys::V4L2_CAP_META_CAPTURE, "a camera's metadata"),
            (sys::V4L2_CAP_VIDEO_OUTPUT | sys::V4L2_CAP_VIDEO_OUTPUT_MPLANE, "an output"),
        ];
        kinds.into_iter().find(|(flags, _)| self.flags & flags != 0).map_or("no camera", |(_, kind)| kind)
    }
}

impl Device {
    /// Opens the file of a device.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?))
    }

    /// Asks the kernel; `argument` must be the structure that `request` is made for.
    fn ask<T: Plain>(&self, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
        let pointer: *mut T = argument;
        loop {
            // SAFETY: the numbers of all requests here have the size of their structure in them, which is T's; it is ours while the call lasts.
            match unsafe { v4l::v4l2::ioctl(self.0.as_raw_fd(), request, pointer.cast::<c_void>()) } {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Asks for the entries of a list by their numbers, until there are no more.
    fn entries<T: Plain, R>(
        &self,
        request: vidioc::_IOC_TYPE,
        ask: impl Fn(&mut T, u32),
        read: impl Fn(&T) -> Option<R>,
    ) -> Vec<R> {
        let entry = |index| {
            let mut entry = T::zeroed();
            ask(&mut entry, index);
            self.ask(request, &mut entry).ok()?;
            Some(read(&entry))
        };
        (0..MOST_ENTRIES).map_while(entry).flatten().collect()
    }

    /// What it is.
    pub(super) fn capability(&self) -> io::Result<Capability> {
        let mut said = sys::v4l2_capability::zeroed();
        self.ask(vidioc::VIDIOC_QUERYCAP, &mut said)?;
        let end = said.card.iter().position(|byte| *byte == 0).unwrap_or(said.card.len());
        let card = String::from_utf8_lossy(&said.card[..end]).into_owned();
        let is_node = said.capabilities & sys::V4L2_CAP_DEVICE_CAPS != 0;
        Ok(Capability { card, flags: if is_node { said.device_caps } else { said.capabilities } })
    }

    /// The codes of its formats.
    pub(super) fn formats(&self) -> Vec<[u8; 4]> {
        let ask = |entry: &mut sys::v4l2_fmtdesc, index| (entry.index, entry.type_) = (index, CAPTURE);
        let mut codes = self.entries(vidioc::VIDIOC_ENUM_FMT, ask, |entry| Some(entry.pixelformat.to_le_bytes()));
        codes.dedup();
        codes
    }

    /// The sizes of a format; what it would make of `wish` where it has no list.
    pub(super) fn sizes(&self, code: [u8; 4], wish: Size) -> Vec<Sizes> {
        let ask = |entry: &mut sys::v4l2_frmsizeenum, index| {
            (entry.index, entry.pixel_format) = (index, u32::from_le_bytes(code));
        };
        let read = |entry: &sys::v4l2_frmsizeenum| match entry.type_ {
            sys::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE => {
                // SAFETY: the type says which member was written; any bits are integers.
                let one = unsafe { entry.__bindgen_anon_1.discrete };
                Some(Sizes::One(Size::new(one.width, one.height)))
            }
            sys::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_STEPWISE | sys::v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_CONTINUOUS => {
                // SAFETY: the type says which member was written; any bits are integers.
                let range = unsafe { entry.__bindgen_anon_1.stepwise };
                let least = Size::new(range.min_width, range.min_height);
                let (most, step) =
                    (Size::new(range.max_width, range.max_height), Size::new(range.step_width, range.step_height));
                Some(if least == most { Sizes::One(least) } else { Sizes::Between { least, most, step } })
            }
            _ => None,
        };
        let sizes = self.entries(vidioc::VIDIOC_ENUM_FRAMESIZES, ask, read);
        if !sizes.is_empty() {
            return sizes;
        }
        let mut format = wanted(code, wish);
        let tried = self.ask(vidioc::VIDIOC_TRY_FMT, &mut format).map(|()| pix(&format));
        tried.ok().map(|pix| Sizes::One(Size::new(pix.width, pix.height))).into_iter().collect()
    }

    /// The intervals of a format at a size.
    pub(super) fn intervals(&self, code: [u8; 4], size: Size) -> Intervals {
        let ask = |entry: &mut sys::v4l2_frmivalenum, index| {
            (entry.index, entry.pixel_format) = (index, u32::from_le_bytes(code));
            (entry.width, entry.height) = (size.width, size.height);
        };
        let fraction = |f: sys::v4l2_fract| Interval { numerator: f.numerator, denominator: f.denominator };
        let read = |entry: &sys::v4l2_frmivalenum| match entry.type_ {
            sys::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE => {
                // SAFETY: the type says which member was written; any bits are integers.
                Some(Err(fraction(unsafe { entry.__bindgen_anon_1.discrete })))
            }
            sys::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_STEPWISE | sys::v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_CONTINUOUS => {
                // SAFETY: the type says which member was written; any bits are integers.
                let range = unsafe { entry.__bindgen_anon_1.stepwise };
                Some(Ok(Intervals::Between { shortest: fraction(range.min), longest: fraction(range.max) }))
            }
            _ => None,
        };
        let mut list = Vec::new();
        for entry in self.entries(vidioc::VIDIOC_ENUM_FRAMEINTERVALS, ask, read) {
            match entry {
                Ok(range) => return range,
                Err(one) => list.push(one),
            }
        }
        if list.is_empty() { Intervals::Unknown } else { Intervals::These(list) }
    }

    /// Takes a mode; yields what it has become: the driver may change all but the format, and the interval where it tells.
    pub(super) fn set(&self, mode: &Mode) -> io::Result<(Layout, Option<Interval>)> {
        let mut format = wanted(mode.pixels.code(), mode.size);
        self.ask(vidioc::VIDIOC_S_FMT, &mut format)?;
        let pix = pix(&format);
        let pixels = Pixels::from_code(pix.pixelformat.to_le_bytes()).filter(|pixels| *pixels == mode.pixels);
        let pixels = pixels.ok_or_else(|| io::Error::other(format!("it does not give {}", mode.pixels)))?;
        let layout = Layout {
            pixels,
            size: Size::new(pix.width, pix.height),
            stride: pix.bytesperline as usize,
            colours: colours(&pix),
        };
        Ok((layout, self.set_interval(mode.interval)))
    }

    /// Takes an interval where the driver knows of such; yields the one that holds.
    fn set_interval(&self, interval: Option<Interval>) -> Option<Interval> {
        let wanted = interval?;
        let mut parameters = sys::v4l2_streamparm::zeroed();
        parameters.type_ = CAPTURE;
        parameters.parm.capture.timeperframe =
            sys::v4l2_fract { numerator: wanted.numerator, denominator: wanted.denominator };
        self.ask(vidioc::VIDIOC_S_PARM, &mut parameters).ok()?;
        // SAFETY: the type says that this member is in use; any bits are integers.
        let held = unsafe { parameters.parm.capture.timeperframe };
        let is_known = held.numerator != 0 && held.denominator != 0;
        is_known.then_some(Interval { numerator: held.numerator, denominator: held.denominator })
    }

    /// Takes the device for pictures, and lets it go again: another program may have it.
    pub(super) fn check_free(&self) -> io::Result<()> {
        self.request_buffers(1)?;
        self.request_buffers(0)?;
        Ok(())
    }

    fn request_buffers(&self, count: u32) -> io::Result<u32> {
        let mut request = sys::v4l2_requestbuffers::zeroed();
        (request.count, request.type_, request.memory) = (count, CAPTURE, sys::v4l2_memory_V4L2_MEMORY_MMAP);
        self.ask(vidioc::VIDIOC_REQBUFS, &mut request)?;
        Ok(request.count)
    }
}

const CAPTURE: u32 = sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE;

fn wanted(code: [u8; 4], size: Size) -> sys::v4l2_format {
    let mut format = sys::v4l2_format::zeroed();
    format.type_ = CAPTURE;
    let mut pix = pix(&format);
    (pix.width, pix.height, pix.pixelformat) = (size.width, size.height, u32::from_le_bytes(code));
    pix.field = sys::v4l2_field_V4L2_FIELD_NONE;
    format.fmt.pix = pix;
    format
}

fn pix(format: &sys::v4l2_format) -> sys::v4l2_pix_format {
    // SAFETY: the type of all formats here is that of captured pictures, which has this member; any bits are integers.
    unsafe { format.fmt.pix }
}

/// Which colours the numbers mean: what the driver says, else what the kernel's documentation has for its colour space.
fn colours(pix: &sys::v4l2_pix_format) -> Colours {
    // SAFETY: the member is in use for all formats that are known here; any bits are an integer.
    let encoding = unsafe { pix.__bindgen_anon_1.ycbcr_enc };
    let is_hd = pix.colorspace == sys::v4l2_colorspace_V4L2_COLORSPACE_REC709;
    let is_709 = match encoding {
        sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_DEFAULT => is_hd,
        sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_709 | sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_XV709 => true,
        _ => false,
    };
    let is_full = match pix.quantization {
        sys::v4l2_quantization_V4L2_QUANTIZATION_DEFAULT => pix.colorspace == sys::v4l2_colorspace_V4L2_COLORSPACE_JPEG,
        held => held == sys::v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE,
    };
    Colours { is_709, is_full }
}

/// Memory that the kernel fills with pictures.
#[derive(Debug)]
struct Mapped {
    start: *mut c_void,
    length: usize,
}

// SAFETY: it is memory, and nobody else's.
unsafe impl Send for Mapped {}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and every slice of it has ended: they borrow the stream that owns this.
        let _cannot_fail = unsafe { munmap(self.start, self.length) };
    }
}

/// A camera that gives pictures; it stops when this is dropped.
#[derive(Debug)]
pub(super) struct Streaming {
    // Dropped first, in this order: the memory, then the device.
    buffers: Vec<Mapped>,
    device: Device,
}

/// One picture of the driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) index: u32,
    /// Bytes.
    pub(super) used: usize,
    /// Whether the driver says that it is damaged.
    pub(super) is_damaged: bool,
    /// When it was taken, by the monotonic clock, where the driver tells.
    pub(super) stamp: Option<Duration>,
}

impl Streaming {
    /// Lets a device that has a mode stream.
    pub(super) fn start(device: Device) -> io::Result<Self> {
        let count = device.request_buffers(BUFFERS)?;
        let mut streaming = Self { buffers: Vec::new(), device };
        for index in 0..count {
            let mut buffer = described(index);
            streaming.device.ask(vidioc::VIDIOC_QUERYBUF, &mut buffer)?;
            let length = buffer.length as usize;
            // SAFETY: the kernel chooses the place, and the file is the device's; what is there is only read.
            let start = unsafe {
                let offset = u64::from(buffer.m.offset);
                mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &streaming.device.0, offset)
            }?;
            streaming.buffers.push(Mapped { start, length });
            streaming.device.ask(vidioc::VIDIOC_QBUF, &mut described(index))?;
        }
        if streaming.buffers.is_empty() {
            return Err(io::Error::other("it gives no memory for pictures"));
        }
        streaming.switch(vidioc::VIDIOC_STREAMON)?;
        Ok(streaming)
    }

    /// What to wait at for the next picture.
    pub(super) fn input(&self) -> BorrowedFd<'_> {
        self.device.0.as_fd()
    }

    /// Takes the newest picture that is ready; what is older is given back unseen.
    pub(super) fn take(&mut self) -> io::Result<Option<Taken>> {
        let mut newest = None;
        while self.is_ready()? {
            let Some(next) = self.dequeue()? else { break };
            if let Some(older) = newest.replace(next) {
                self.give_back(older)?;
            }
        }
        Ok(newest)
    }

    /// The bytes of a picture, until it is given back.
    pub(super) fn bytes(&self, taken: &Taken) -> &[u8] {
        self.buffers.get(taken.index as usize).map_or(&[], |mapped| {
            // SAFETY: the memory lives as long as the stream that is borrowed here, and the driver leaves it alone until it is given back.
            unsafe { std::slice::from_raw_parts(mapped.start.cast::<u8>(), taken.used.min(mapped.length)) }
        })
    }

    /// Lets the driver write there again.
    pub(super) fn give_back(&mut self, taken: Taken) -> io::Result<()> {
        self.device.ask(vidioc::VIDIOC_QBUF, &mut described(taken.index))
    }

    /// Whether a picture waits, or an error.
    fn is_ready(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.device.0, PollFlags::IN)];
        match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let events = polled[0].revents();
        if events.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            // The call that would give a picture has the reason.
            self.dequeue()?;
            return Err(io::Error::other("the camera has stopped"));
        }
        Ok(events.contains(PollFlags::IN))
    }

    fn dequeue(&self) -> io::Result<Option<Taken>> {
        let mut buffer = described(0);
        match self.device.ask(vidioc::VIDIOC_DQBUF, &mut buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let is_monotonic = buffer.flags & sys::V4L2_BUF_FLAG_TIMESTAMP_MASK == sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        let (seconds, micros) =
            (u64::try_from(buffer.timestamp.tv_sec).ok(), u32::try_from(buffer.timestamp.tv_usec).ok());
        let stamp = seconds.zip(micros).filter(|(_, micros)| is_monotonic && *micros < 1_000_000);
        Ok(Some(Taken {
            index: buffer.index,
            used: buffer.bytesused as usize,
            is_damaged: buffer.flags & sys::V4L2_BUF_FLAG_ERROR != 0,
            stamp: stamp.map(|(seconds, micros)| Duration::new(seconds, micros * 1_000)),
        }))
    }

    fn switch(&self, request: vidioc::_IOC_TYPE) -> io::Result<()> {
        let mut kind = Kind(CAPTURE);
        self.device.ask(request, &mut kind)
    }
}

/// The argument of the requests that start and stop.
#[repr(transparent)]
struct Kind(u32);
// SAFETY: it is an integer.
unsafe impl Plain for Kind {}

impl Drop for Streaming {
    fn drop(&mut self) {
        // What is unplugged can't be stopped, and need not be.
        let _gone = self.switch(vidioc::VIDIOC_STREAMOFF);
    }
}

fn described(index: u32) -> sys::v4l2_buffer {
    let mut buffer = sys::v4l2_buffer::zeroed();
    (buffer.index, buffer.type_, buffer.memory) = (index, CAPTURE, sys::v4l2_memory_V4L2_MEMORY_MMAP);
    buffer
}
