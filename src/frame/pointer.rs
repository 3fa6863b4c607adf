//! Drawing a pointer over pixels: premultiplied ARGB, blended in the pixels' own encoding as X servers do.

use super::{Rect, Size};

/// A pointer's image as it lies in a canvas.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// Column of its left edge in the canvas; may be negative.
    pub x: i64,
    /// Row of its top edge in the canvas; may be negative.
    pub y: i64,
    /// Its extent.
    pub size: Size,
    /// Its pixels, premultiplied 0xAARRGGBB, row by row.
    pub argb: &'a [u32],
}

impl Overlay<'_> {
    /// Draws over tightly packed BGRX `pixels` that show the part `area` of the canvas.
    pub fn draw(&self, pixels: &mut [u8], area: Rect) {
        let (width, stride) = (self.size.width as usize, area.width as usize * 4);
        if width == 0 || stride == 0 {
            return;
        }
        for (row, argb) in (self.y..).zip(self.argb.chunks_exact(width).take(self.size.height as usize)) {
            let Ok(row) = usize::try_from(row - i64::from(area.y)) else { continue };
            let Some(line) = pixels.chunks_exact_mut(stride).nth(row) else { return };
            for (column, source) in (self.x..).zip(argb) {
                let Ok(column) = usize::try_from(column - i64::from(area.x)) else { continue };
                let Some(pixel) = line.chunks_exact_mut(4).nth(column) else { break };
                blend(pixel, *source);
            }
        }
    }
}

/// Lays one premultiplied pixel over a BGRX one.
fn blend(pixel: &mut [u8], source: u32) {
    let [blue, green, red, alpha] = source.to_le_bytes();
    if alpha == 0 {
        return;
    }
    let rest = u32::from(255 - alpha);
    for (under, over) in pixel.iter_mut().zip([blue, green, red]) {
        let behind = (u32::from(*under) * rest + 127) / 255;
        *under = (u32::from(over) + behind).min(255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_clips_and_blends() {
        let area = Rect { x: 10, y: 10, width: 2, height: 2 };
        let mut pixels = vec![100; 16];
        let argb = [0xffff_0000, 0x8000_0080, 0x0000_0000, 0xff01_0203, 1, 2];
        Overlay { x: 9, y: 10, size: Size::new(3, 2), argb: &argb }.draw(&mut pixels, area);
        assert_eq!(&pixels[..8], [178, 50, 50, 100, 100, 100, 100, 100], "half blue, then clear");
        assert_eq!(&pixels[8..], [100; 8], "no alpha, no change");
        Overlay { x: 11, y: 11, size: Size::new(3, 2), argb: &argb }.draw(&mut pixels, area);
        assert_eq!(&pixels[12..], [0, 0, 255, 100]);
        Overlay { x: -5, y: i64::from(i32::MIN), size: Size::new(3, 2), argb: &argb }.draw(&mut pixels, area);
        Overlay { x: 500, y: 500, size: Size::new(3, 2), argb: &argb }.draw(&mut pixels, area);
        assert_eq!(&pixels[12..], [0, 0, 255, 100]);
    }
}
