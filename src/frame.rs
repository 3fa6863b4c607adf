//! One raw picture with its damage, pointer and capture time: what sources make and encoders read.
//!
//! Frames are shared, never copied (rule 1): a picture keeps its pixel store alive until the last reader drops it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub mod canvas;
pub mod coded;
pub mod colour;
pub mod damage;
pub mod fit;
pub mod mailbox;
pub mod overlay;
pub mod pacing;
pub mod pointer;

pub use damage::{Damage, Rect};

/// A picture's extent in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// The smallest picture that is sent.
    pub const SMALLEST_SENT: Self = Self::new(16, 16);
    /// The largest picture that is sent, upright or not.
    pub const LARGEST_SENT: Self = Self::new(3840, 2160);

    /// Whether encoders take a picture of this size, once its extents are even.
    pub const fn can_be_sent(self) -> bool {
        let (long, short) =
            if self.width > self.height { (self.width, self.height) } else { (self.height, self.width) };
        short >= Self::SMALLEST_SENT.height && short <= Self::LARGEST_SENT.height && long <= Self::LARGEST_SENT.width
    }

    /// Makes a size of `width` by `height` pixels.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Memory that holds pixels; dropping the last reference returns it to its pool.
pub trait PixelStore: Send + Sync {
    /// The bytes, row by row; constant while a [`Picture`] refers to them.
    fn bytes(&self) -> &[u8];
}

impl PixelStore for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A picture of 32-bit pixels in the byte order blue, green, red, unused (BGRX); sRGB, full range.
#[derive(Clone)]
pub struct Picture {
    store: Arc<dyn PixelStore>,
    size: Size,
    stride: usize,
}

impl Picture {
    /// Wraps `store`, whose rows start `stride` bytes apart; `None` if it is too short for `size`.
    pub fn new(store: Arc<dyn PixelStore>, size: Size, stride: usize) -> Option<Self> {
        let row = size.width as usize * 4;
        let needed = match size.height as usize {
            0 => 0,
            rows => stride.checked_mul(rows - 1)?.checked_add(row)?,
        };
        (row <= stride && store.bytes().len() >= needed).then_some(Self { store, size, stride })
    }

    /// The extent in pixels.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Bytes from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The pixels: BGRX, rows `stride` apart.
    pub fn bytes(&self) -> &[u8] {
        self.store.bytes()
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({})", self.size)
    }
}

/// A pointer's image: premultiplied ARGB, one `u32` a pixel (as XFixes delivers it).
#[derive(Debug, PartialEq, Eq)]
pub struct PointerImage {
    /// The extent in pixels.
    pub size: Size,
    /// `size.width * size.height` pixels, premultiplied 0xAARRGGBB.
    pub argb: Vec<u32>,
}

/// A pointer to be drawn over a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// What it looks like.
    pub image: Arc<PointerImage>,
    /// Column of the image's left edge in the picture (the hot spot is already subtracted); may be negative.
    pub x: i32,
    /// Row of the image's top edge in the picture; may be negative.
    pub y: i32,
}

/// One captured picture.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The pixels, without the pointer.
    pub picture: Picture,
    /// What may differ from the frame put before this one (pointer not included).
    pub damage: Damage,
    /// The pointer, where one is to be shown.
    pub pointer: Option<Pointer>,
    /// What stands over the picture and its pointer, the topmost last.
    pub overlays: Vec<overlay::Layer>,
    /// The picture as it was recorded, where it can be sent so.
    pub coded: Option<Arc<coded::Coded>>,
    /// When the capture was asked for: the frame's true timestamp (rule 3).
    pub captured: Instant,
}

impl Frame {
    /// A picture that was captured then, with nothing over it.
    pub fn new(picture: Picture, damage: Damage, captured: Instant) -> Self {
        Self { picture, damage, pointer: None, overlays: Vec::new(), coded: None, captured }
    }

    /// Whether it looks like the frame before, and is news only to who passes recorded pictures on.
    pub fn is_news_as_coded_alone(&self) -> bool {
        self.coded.is_some() && self.damage.is_empty() && self.pointer.is_none() && self.overlays.is_empty()
    }

    /// The picture as it was recorded, where that is what the viewers of a canvas of `canvas` are to see.
    pub fn coded_for(&self, canvas: Size) -> Option<&coded::Coded> {
        let is_bare = self.pointer.is_none() && self.overlays.is_empty() && self.picture.size() == canvas;
        self.coded.as_deref().filter(|_| is_bare)
    }
}
