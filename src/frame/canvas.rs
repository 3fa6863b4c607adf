//! The canvas: the fixed picture that encoders read (rule 7), into which sources of any size are fitted.
//!
//! Owns the planes and the scaling; converts only what has changed. It never writes to a source's picture.

use std::sync::Arc;

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x4;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::colour::I420;
use super::fit::{Fit, Scale};
use super::overlay::{Layer, Placement};
use super::pointer::Overlay;
use super::{Damage, Frame, Picture, Pointer, PointerImage, Rect, Size};

pub use super::fit::{FitMode, canvas_size};

/// Composes frames into planes of one fixed size.
#[derive(Debug)]
pub struct Canvas {
    planes: I420,
    mode: FitMode,
    fit: Option<Fit>,
    pointer: Option<Shown>,
    overlays: Vec<Standing>,
    sampler: Sampler,
}

/// An overlay as it stands on the canvas.
#[derive(Debug)]
struct Standing {
    serial: u64,
    place: Placement,
    area: Rect,
    /// BGRX, as large as the area.
    pixels: Vec<u8>,
}

/// The pointer as it is drawn at present.
#[derive(Debug)]
struct Shown {
    pointer: Pointer,
    /// The pixels it may touch: even borders, clipped to the content.
    area: Rect,
    /// Its image at the canvas's scale; `None` where that is its own.
    scaled: Option<(Size, Vec<u32>)>,
}

impl Canvas {
    /// Makes a black canvas of `size` (rounded up to even extents), into which pictures are fitted by `mode`.
    pub fn new(size: Size, mode: FitMode) -> Self {
        let planes = I420::black(size);
        Self { planes, mode, fit: None, pointer: None, overlays: Vec::new(), sampler: Sampler::default() }
    }

    /// The planes as last composed.
    pub fn i420(&self) -> &I420 {
        &self.planes
    }

    /// Draws what has changed with `frame`; returns that in canvas coordinates, with even borders.
    ///
    /// A picture of another size than the one before redraws all. A picture without pixels changes nothing.
    pub fn compose(&mut self, frame: &Frame) -> Damage {
        let size = frame.picture.size();
        let Some(fit) = Fit::new(size, self.planes.size, self.mode) else { return Damage::none() };
        let mut damage = Damage::none();
        let (moved, renewed) = self.place_overlays(&frame.overlays);
        if moved || self.fit != Some(fit) {
            self.fit = Some(fit);
            self.pointer = None;
            self.planes.blacken();
            damage.add(fit.content);
            self.move_pointer(frame.pointer.as_ref(), fit);
            self.draw(&frame.picture, fit, &damage);
            self.draw_overlays(Damage::whole(self.planes.size));
            return Damage::whole(self.planes.size);
        }
        for rect in frame.damage.rects() {
            damage.add(fit.reached(*rect));
        }
        if let Some((old, new)) = self.move_pointer(frame.pointer.as_ref(), fit) {
            damage.add(old);
            damage.add(new);
        }
        self.draw(&frame.picture, fit, &damage);
        damage.union(&renewed);
        self.draw_overlays(damage.clone());
        damage
    }

    /// Takes over the frame's overlays; whether they stand elsewhere than before, and what has changed where they don't.
    fn place_overlays(&mut self, layers: &[Layer]) -> (bool, Damage) {
        let canvas = self.planes.size;
        let area = |layer: &Layer| layer.place.area(layer.picture.size(), canvas);
        let mut renewed = Damage::none();
        let stands = |(standing, layer): (&Standing, &Layer)| area(layer) == Some(standing.area);
        let moved = self.overlays.len() != layers.len() || !self.overlays.iter().zip(layers).all(stands);
        if moved {
            self.overlays.clear();
        }
        for (at, layer) in layers.iter().enumerate() {
            let Some(area) = area(layer) else { continue };
            match self.overlays.get_mut(at) {
                Some(standing) if standing.serial == layer.serial && standing.place == layer.place => {}
                Some(standing) => {
                    standing.serial = layer.serial;
                    standing.place = layer.place;
                    self.sampler.scale_into(&layer.picture, area.size(), &mut standing.pixels);
                    renewed.add(area);
                }
                None => {
                    let mut pixels = Vec::new();
                    self.sampler.scale_into(&layer.picture, area.size(), &mut pixels);
                    self.overlays.push(Standing { serial: layer.serial, place: layer.place, area, pixels });
                }
            }
        }
        (moved, renewed)
    }

    /// Draws the overlays where they touch what was drawn or has changed.
    fn draw_overlays(&mut self, damage: Damage) {
        for standing in &self.overlays {
            let stride = standing.area.width as usize * 4;
            for rect in damage.rects() {
                let part = rect.intersection(standing.area);
                if !part.is_empty() {
                    let (column, row) = ((part.x - standing.area.x) as usize, (part.y - standing.area.y) as usize);
                    convert(&mut self.planes, part, &standing.pixels[row * stride + column * 4..], stride);
                }
            }
        }
    }

    /// Takes over the frame's pointer; the areas it leaves and enters if it differs.
    fn move_pointer(&mut self, pointer: Option<&Pointer>, fit: Fit) -> Option<(Rect, Rect)> {
        if self.pointer.as_ref().map(|shown| &shown.pointer) == pointer {
            return None;
        }
        let mut old = self.pointer.take();
        let area = |shown: &Option<Shown>| shown.as_ref().map_or(Rect { width: 0, ..fit.content }, |shown| shown.area);
        let left = area(&old);
        self.pointer = pointer.map(|pointer| {
            let same = old.as_mut().filter(|shown| Arc::ptr_eq(&shown.pointer.image, &pointer.image));
            let scaled = match same {
                Some(shown) => shown.scaled.take(),
                None => self.sampler.scale_pointer(&pointer.image, fit),
            };
            let mut shown = Shown { pointer: pointer.clone(), area: fit.content, scaled };
            shown.area = shown.extent(fit);
            shown
        });
        Some((left, area(&self.pointer)))
    }

    /// Draws the picture in the rectangles of `damage`, and the pointer where they touch it.
    fn draw(&mut self, picture: &Picture, fit: Fit, damage: &Damage) {
        for rect in damage.rects() {
            self.draw_rect(picture, fit, *rect);
        }
        let Some(shown) = &self.pointer else { return };
        if damage.rects().iter().any(|rect| overlap(*rect, shown.area)) {
            let pixels = self.sampler.sample(picture, fit, shown.area);
            shown.overlay(fit).draw(pixels, shown.area);
            convert(&mut self.planes, shown.area, pixels, shown.area.width as usize * 4);
        }
    }

    /// Draws the picture in one rectangle; straight from its own pixels where they are the canvas's.
    fn draw_rect(&mut self, picture: &Picture, fit: Fit, rect: Rect) {
        let straight = match fit.scale {
            Scale::Exact => {
                let inner = Rect { width: fit.view.width & !1, height: fit.view.height & !1, ..fit.content };
                rect.intersection(inner)
            }
            Scale::Resampled => Rect { width: 0, height: 0, ..rect },
        };
        if !straight.is_empty() {
            let column = (straight.x - fit.content.x + fit.view.x) as usize;
            let row = (straight.y - fit.content.y + fit.view.y) as usize;
            let pixels = &picture.bytes()[row * picture.stride() + column * 4..];
            convert(&mut self.planes, straight, pixels, picture.stride());
        }
        for rest in remainder(rect, straight) {
            let pixels = self.sampler.sample(picture, fit, rest);
            convert(&mut self.planes, rest, pixels, rest.width as usize * 4);
        }
    }
}

impl Shown {
    fn overlay(&self, fit: Fit) -> Overlay<'_> {
        let (across, down) = fit.ratio();
        let (size, argb) = match &self.scaled {
            Some((size, argb)) => (*size, argb.as_slice()),
            None => (self.pointer.image.size, self.pointer.image.argb.as_slice()),
        };
        let (left, top) = (f64::from(fit.view.x), f64::from(fit.view.y));
        let x = i64::from(fit.content.x) + ((f64::from(self.pointer.x) - left) / across).round() as i64;
        let y = i64::from(fit.content.y) + ((f64::from(self.pointer.y) - top) / down).round() as i64;
        Overlay { x, y, size, argb }
    }

    fn extent(&self, fit: Fit) -> Rect {
        let Overlay { x, y, size, .. } = self.overlay(fit);
        let (left, top) = (x - i64::from(fit.content.x), y - i64::from(fit.content.y));
        fit.covering(left, top, left + i64::from(size.width), top + i64::from(size.height))
    }
}

/// Makes the canvas's pixels from a picture's, in buffers that are used again.
#[derive(Debug, Default)]
struct Sampler {
    resizer: Resizer,
    pixels: Vec<u8>,
    packed: Vec<u8>,
}

impl Sampler {
    /// The BGRX pixels of `area` (inside the content), tightly packed.
    fn sample(&mut self, picture: &Picture, fit: Fit, area: Rect) -> &mut [u8] {
        let needed = area.width as usize * area.height as usize * 4;
        if self.pixels.len() < needed {
            self.pixels.resize(needed, 0);
        }
        let inside = Rect { x: area.x - fit.content.x, y: area.y - fit.content.y, ..area };
        match fit.scale {
            Scale::Exact => {
                let inside = Rect { x: inside.x + fit.view.x, y: inside.y + fit.view.y, ..inside };
                copy(picture, inside, &mut self.pixels[..needed]);
            }
            Scale::Resampled => self.resample(picture, fit, inside, needed),
        }
        &mut self.pixels[..needed]
    }

    /// Makes `target` the whole picture at this size, tightly packed.
    fn scale_into(&mut self, picture: &Picture, size: Size, target: &mut Vec<u8>) {
        let Some(fit) = Fit::new(picture.size(), size, FitMode::Stretch) else { return };
        let pixels = self.sample(picture, fit, Rect::whole(size));
        target.clear();
        target.extend_from_slice(pixels);
    }

    /// Fills the first `needed` bytes with the part `inside` of the scaled picture.
    fn resample(&mut self, picture: &Picture, fit: Fit, inside: Rect, needed: usize) {
        let Size { width, height } = picture.size();
        // The resizer wants whole pixels in a row and the last row's padding: whatever has them not is packed first.
        let (mut bytes, mut stride) = (picture.bytes(), picture.stride());
        if !stride.is_multiple_of(4) || bytes.len() < stride * height as usize {
            stride = width as usize * 4;
            self.packed.resize(stride * height as usize, 0);
            copy(picture, Rect::whole(picture.size()), &mut self.packed);
            bytes = &self.packed;
        }
        let (across, down) = fit.ratio();
        let left = f64::from(fit.view.x) + f64::from(inside.x) * across;
        let top = f64::from(fit.view.y) + f64::from(inside.y) * down;
        let crop_width = (f64::from(inside.width) * across).min(f64::from(width) - left);
        let crop_height = (f64::from(inside.height) * down).min(f64::from(height) - top);
        let options = options(fit).crop(left, top, crop_width, crop_height);
        let target = &mut self.pixels[..needed];
        let result = (|| -> Result<(), ResampleError> {
            let rows = TypedImageRef::<U8x4>::from_buffer((stride / 4) as u32, height, bytes)?;
            let source = TypedCroppedImage::new(rows, 0, 0, width, height)?;
            let mut target = TypedImage::from_buffer(inside.width, inside.height, target)?;
            Ok(self.resizer.resize_typed(&source, &mut target, &options)?)
        })();
        if let Err(error) = result {
            tracing::error!(%error, ?fit, ?inside, "a part of the picture was not scaled");
        }
    }

    /// A pointer's image at the canvas's scale; `None` where nothing is scaled.
    fn scale_pointer(&mut self, image: &PointerImage, fit: Fit) -> Option<(Size, Vec<u32>)> {
        if fit.scale == Scale::Exact {
            return None;
        }
        let (across, down) = fit.ratio();
        let scaled = |extent: u32, ratio: f64| ((f64::from(extent) / ratio).round() as u32).max(1);
        let size = Size::new(scaled(image.size.width, across), scaled(image.size.height, down));
        let bytes: Vec<u8> = image.argb.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        let mut scaled = vec![0; size.width as usize * size.height as usize * 4];
        let result = (|| -> Result<(), ResampleError> {
            let source = TypedImageRef::<U8x4>::from_buffer(image.size.width, image.size.height, &bytes)?;
            let mut target = TypedImage::from_buffer(size.width, size.height, &mut scaled)?;
            Ok(self.resizer.resize_typed(&source, &mut target, &options(fit))?)
        })();
        if let Err(error) = result {
            tracing::error!(%error, size = %image.size, "the pointer was not scaled");
        }
        let argb = scaled.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Some((size, argb))
    }
}

/// Why the resizer refused: each is a fault of ours.
#[derive(Debug, thiserror::Error)]
enum ResampleError {
    #[error(transparent)]
    Buffer(#[from] fast_image_resize::ImageBufferError),
    #[error(transparent)]
    Crop(#[from] fast_image_resize::CropBoxError),
    #[error(transparent)]
    Resize(#[from] fast_image_resize::ResizeError),
}

/// Filters of one pixel's support (see [`Fit::reached`]): Hamming keeps text sharper when it shrinks, but not when it grows.
fn options(fit: Fit) -> ResizeOptions {
    let (across, down) = fit.ratio();
    let filter = if across.max(down) > 1.0 { FilterType::Hamming } else { FilterType::Bilinear };
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false)
}

/// Copies the part `inside` of a picture, tightly packed; beyond its borders the last column and row are repeated.
fn copy(picture: &Picture, inside: Rect, target: &mut [u8]) {
    let Size { width, height } = picture.size();
    for (row, line) in (inside.y..).zip(target.chunks_exact_mut(inside.width as usize * 4)) {
        let start = row.min(height - 1) as usize * picture.stride();
        let source = &picture.bytes()[start..start + width as usize * 4];
        let from = &source[inside.x.min(width - 1) as usize * 4..];
        let there = from.len().min(line.len());
        line[..there].copy_from_slice(&from[..there]);
        let last = &source[source.len() - 4..];
        for pixel in line[there..].chunks_exact_mut(4) {
            pixel.copy_from_slice(last);
        }
    }
}

/// Converts pixels into the planes; a refusal is our own fault, told in the log.
fn convert(planes: &mut I420, at: Rect, pixels: &[u8], stride: usize) {
    if let Err(error) = planes.convert(at, pixels, stride) {
        tracing::error!(%error, "a part of the picture was not converted");
    }
}

fn overlap(a: Rect, b: Rect) -> bool {
    !a.intersection(b).is_empty()
}

/// What `part`, which starts at the same corner as `whole`, leaves of it: to its right and below.
fn remainder(whole: Rect, part: Rect) -> impl Iterator<Item = Rect> {
    let right = Rect { x: whole.x + part.width, width: whole.width - part.width, height: part.height, ..whole };
    let below = Rect { y: whole.y + part.height, height: whole.height - part.height, ..whole };
    [right, below].into_iter().filter(|rect| !rect.is_empty())
}

#[cfg(test)]
mod tests;
