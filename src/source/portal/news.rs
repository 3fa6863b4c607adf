//! What buffers say beside their pixels: damage, crop, time and the pointer (SPA metadata: `spa/buffer/meta.h`). Pure.

use std::sync::Arc;

use pipewire::spa::sys;

use super::pixels::area;
use crate::frame::{Damage, Pointer, PointerImage, Rect, Size};

/// The length of `struct spa_meta_region`.
pub(super) const REGION_BYTES: usize = 16;
/// The length of `struct spa_meta_cursor`.
pub(super) const CURSOR_BYTES: usize = 28;
/// The length of `struct spa_meta_bitmap`.
pub(super) const BITMAP_BYTES: usize = 20;
/// The length of `struct spa_meta_header`.
const HEADER_BYTES: usize = 32;

/// One metadata block of a buffer: its type, and its bytes.
pub(super) type Meta<'a> = (u32, &'a [u8]);

/// What is new since the last look, over all buffers that came.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The newest picture that came.
    pub(super) picture: Option<Fresh>,
    /// The pointer, where its place or its image has changed: `None` inside where it is not to be seen.
    pub(super) pointer: Option<Option<Pointer>>,
}

/// A picture that has come, and all that changed up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fresh {
    /// The part of the buffer that is the picture.
    pub(super) area: Rect,
    /// What may differ from the picture before, in pixels of the area.
    pub(super) damage: Damage,
    /// When it was captured, in nanoseconds of the monotonic clock.
    pub(super) nanos: Option<i64>,
}

/// The pointer as far as it is known.
#[derive(Debug, Default)]
pub(super) struct PointerShape(Option<(Arc<PointerImage>, (i32, i32))>);

/// Whether a buffer's header says that its pixels are not to be used.
pub(super) fn is_corrupted(metas: &[Meta<'_>]) -> bool {
    let flags = find(metas, sys::SPA_META_Header).and_then(|bytes| u32_at(bytes, 0));
    flags.is_some_and(|flags| flags & sys::SPA_META_HEADER_FLAG_CORRUPTED != 0)
}

impl News {
    /// Notes a buffer of `size` with new pixels.
    pub(super) fn handle_picture(&mut self, metas: &[Meta<'_>], size: Size) {
        let crop = find(metas, sys::SPA_META_VideoCrop).and_then(|bytes| region(bytes, 0));
        let area = area(size, crop);
        let picture = Size::new(area.width, area.height);
        let mut damage = damaged(metas, area).unwrap_or_else(|| Damage::whole(picture));
        match &self.picture {
            Some(skipped) if skipped.area == area => damage.union(&skipped.damage),
            Some(_) => damage = Damage::whole(picture),
            None => {}
        }
        let header = find(metas, sys::SPA_META_Header).filter(|bytes| bytes.len() >= HEADER_BYTES);
        let nanos = header.and_then(|bytes| i64_at(bytes, 8)).filter(|nanos| *nanos > 0);
        self.picture = Some(Fresh { area, damage, nanos });
    }

    /// Notes what a buffer says of the pointer.
    pub(super) fn handle_pointer(&mut self, metas: &[Meta<'_>], shape: &mut PointerShape) {
        let Some(bytes) = find(metas, sys::SPA_META_Cursor) else { return };
        let field = |at| i32_at(bytes, at);
        let (Some(id), Some(x), Some(y)) = (u32_at(bytes, 0), field(8), field(12)) else { return };
        if id == 0 {
            self.pointer = Some(None);
            return;
        }
        let (Some(hot_x), Some(hot_y), Some(offset)) = (field(16), field(20), u32_at(bytes, 24)) else { return };
        if offset as usize >= CURSOR_BYTES
            && let Some(bitmap) = bytes.get(offset as usize..)
            && u32_at(bitmap, 0).is_some_and(|format| format != 0)
        {
            shape.0 = image(bitmap).map(|image| (Arc::new(image), (hot_x, hot_y)));
        }
        let pointer = shape.0.as_ref().map(|(image, (hot_x, hot_y))| Pointer {
            image: image.clone(),
            x: x.saturating_sub(*hot_x),
            y: y.saturating_sub(*hot_y),
        });
        self.pointer = Some(pointer);
    }
}

/// What a buffer says has changed, in pixels of `area`; `None` where it does not say.
fn damaged(metas: &[Meta<'_>], area: Rect) -> Option<Damage> {
    let bytes = find(metas, sys::SPA_META_VideoDamage)?;
    // An empty rectangle ends the list.
    let rects: Vec<_> = bytes.chunks_exact(REGION_BYTES).map_while(|bytes| region(bytes, 0)).collect();
    if rects.is_empty() {
        return None;
    }
    let mut damage = Damage::none();
    for rect in rects {
        let (right, bottom) = (rect.x.saturating_add(rect.width), rect.y.saturating_add(rect.height));
        let (x, y) = (rect.x.saturating_sub(area.x), rect.y.saturating_sub(area.y));
        let (width, height) =
            (right.saturating_sub(area.x).saturating_sub(x), bottom.saturating_sub(area.y).saturating_sub(y));
        damage.add(Rect { x, y, width, height }.clipped(Size::new(area.width, area.height)));
    }
    Some(damage)
}

/// The image of a pointer; `None` where it is invisible, or not understood.
fn image(bitmap: &[u8]) -> Option<PointerImage> {
    let format = u32_at(bitmap, 0)?;
    let size = Size::new(u32_at(bitmap, 4)?, u32_at(bitmap, 8)?);
    let (stride, offset) = (i32_at(bitmap, 12)?, u32_at(bitmap, 16)? as usize);
    if offset < BITMAP_BYTES || size.width == 0 || size.height == 0 || size.width > 4096 || size.height > 4096 {
        return None;
    }
    // Where alpha, red, green and blue are in a pixel's bytes.
    let [alpha, red, green, blue] = match format {
        sys::SPA_VIDEO_FORMAT_RGBA => [3, 0, 1, 2],
        sys::SPA_VIDEO_FORMAT_BGRA => [3, 2, 1, 0],
        sys::SPA_VIDEO_FORMAT_ARGB => [0, 1, 2, 3],
        sys::SPA_VIDEO_FORMAT_ABGR => [0, 3, 2, 1],
        _ => return None,
    };
    let row = size.width as usize * 4;
    let stride = usize::try_from(stride).ok().filter(|stride| *stride >= row)?;
    let pixels = bitmap.get(offset..)?;
    let mut argb = Vec::with_capacity(size.width as usize * size.height as usize);
    for y in 0..size.height as usize {
        let bytes = pixels.get(y * stride..y * stride + row)?;
        let pixel = |p: &[u8]| u32::from_be_bytes([p[alpha], p[red], p[green], p[blue]]);
        argb.extend(bytes.chunks_exact(4).map(pixel));
    }
    Some(PointerImage { size, argb })
}

fn find<'a>(metas: &[Meta<'a>], kind: u32) -> Option<&'a [u8]> {
    metas.iter().find(|(of, _)| *of == kind).map(|(_, bytes)| *bytes)
}

/// A region that is not empty and begins inside the picture.
fn region(bytes: &[u8], at: usize) -> Option<Rect> {
    let (x, y) = (i32_at(bytes, at)?, i32_at(bytes, at + 4)?);
    let (width, height) = (u32_at(bytes, at + 8)?, u32_at(bytes, at + 12)?);
    if width == 0 || height == 0 {
        return None;
    }
    // What is left of the picture, or above it, is none of it.
    let inside = |place: i32, extent: u32| match u32::try_from(place) {
        Ok(place) => (place, extent),
        Err(_) => (0, extent.saturating_sub(place.unsigned_abs())),
    };
    let ((x, width), (y, height)) = (inside(x, width), inside(y, height));
    Some(Rect { x, y, width, height })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
