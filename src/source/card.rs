//! Cards: pictures with words, shown where there is nothing else to show. Pure.

use std::sync::Arc;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::pattern::fill;
use crate::frame::{Picture, Rect, Size};

/// The size of a card where nobody asks for another.
pub const SIZE: Size = Size::new(1280, 720);

const BACKGROUND: [u8; 3] = [24, 26, 32];
const ACCENT: [u8; 3] = [255, 176, 0];
const TITLE: [u8; 3] = [236, 236, 240];
const TEXT: [u8; 3] = [160, 164, 176];
/// What stands for a character that there is no letter for.
const UNKNOWN: char = '?';
/// So many lines of text, at most.
const MOST_LINES: usize = 5;

/// The card of a broadcast that shows nothing at present.
pub fn pause(size: Size) -> Picture {
    draw(size, "Paused", "The broadcast goes on in a moment.")
}

/// The card of a source that is gone.
pub fn notice(size: Size, source: &str, why: &str) -> Picture {
    draw(size, &format!("{source} is not there"), why)
}

/// A letter's height and its blocks of pixels: small pictures have small letters, large ones have them enlarged.
#[derive(Debug, Clone, Copy)]
struct Face {
    height: RasterHeight,
    weight: FontWeight,
    /// Pixels of the picture for one of the letter's, in each direction.
    block: u32,
}

impl Face {
    /// A face of about `pixels` rows.
    fn of(pixels: u32, weight: FontWeight) -> Self {
        let heights = [RasterHeight::Size32, RasterHeight::Size24, RasterHeight::Size20, RasterHeight::Size16];
        let block = (pixels / 32).max(1);
        let fits = |height: &RasterHeight| height.val() as u32 * block <= pixels;
        let height = heights.into_iter().find(fits).unwrap_or(RasterHeight::Size16);
        Self { height, weight, block }
    }

    fn rows(self) -> u32 {
        self.height.val() as u32 * self.block
    }

    fn columns(self) -> u32 {
        get_raster_width(self.weight, self.height) as u32 * self.block
    }

    /// Cuts text into lines of at most `width` pixels, at spaces where there are any.
    fn wrap(self, text: &str, width: u32) -> Vec<String> {
        let most = (width / self.columns()).max(1) as usize;
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            let mut letters: Vec<char> = word.chars().collect();
            loop {
                let line = lines.last_mut().map(|line| (line.chars().count(), line));
                let Some((length, line)) = line else { break };
                let gap = usize::from(length > 0);
                if length + gap + letters.len() <= most {
                    line.extend(std::iter::repeat_n(' ', gap).chain(letters.drain(..)));
                    break;
                }
                if length == 0 {
                    line.extend(letters.drain(..most.min(letters.len())));
                }
                lines.push(String::new());
                if letters.is_empty() {
                    break;
                }
            }
        }
        lines.retain(|line| !line.is_empty());
        if lines.len() > MOST_LINES {
            lines.truncate(MOST_LINES);
            if let Some(last) = lines.last_mut() {
                let kept: String = last.chars().take(most.saturating_sub(3)).collect();
                *last = format!("{kept}...");
            }
        }
        lines
    }
}

/// A picture with a title and a text below it.
fn draw(size: Size, title: &str, text: &str) -> Picture {
    let size = Size::new(size.width.clamp(64, 3840), size.height.clamp(36, 3840));
    let stride = size.width as usize * 4;
    let mut bgrx = vec![0; stride * size.height as usize];
    fill(&mut bgrx, stride, Rect::whole(size), BACKGROUND);
    let margin = size.width / 12;
    let room = size.width - 2 * margin;
    let title_face = Face::of(size.height / 12, FontWeight::Bold);
    let text_face = Face::of(size.height / 22, FontWeight::Regular);
    let mut y = size.height / 3;
    let bar =
        Rect { x: margin, y: y.saturating_sub(size.height / 20), width: room / 8, height: (size.height / 120).max(2) };
    fill(&mut bgrx, stride, bar, ACCENT);
    for (face, text, ink) in [(title_face, title, TITLE), (text_face, text, TEXT)] {
        for line in face.wrap(text, room) {
            write(&mut bgrx, stride, (margin, y), face, &line, ink);
            y += face.rows() * 5 / 4;
        }
        y += face.rows() / 3;
    }
    // The buffer is exactly as long as its size says.
    Picture::new(Arc::new(bgrx), size, stride).unwrap_or_else(|| unreachable!("a card of {size}"))
}

/// Writes one line; what is outside the picture is left out.
fn write(bgrx: &mut [u8], stride: usize, (x, y): (u32, u32), face: Face, line: &str, ink: [u8; 3]) {
    for (at, letter) in (0..).zip(line.chars()) {
        let raster =
            get_raster(letter, face.weight, face.height).or_else(|| get_raster(UNKNOWN, face.weight, face.height));
        let Some(raster) = raster else { continue };
        for (row, pixels) in (0..).zip(raster.rows()) {
            for (column, strength) in (0..).zip(pixels.iter()).filter(|(_, strength)| **strength > 0) {
                let mixed = [0, 1, 2].map(|channel| {
                    let (under, over) = (u32::from(BACKGROUND[channel]), u32::from(ink[channel]));
                    ((under * (255 - u32::from(*strength)) + over * u32::from(*strength)) / 255) as u8
                });
                let left = x + at * face.columns() + column * face.block;
                let block = Rect { x: left, y: y + row * face.block, width: face.block, height: face.block };
                fill(bgrx, stride, block, mixed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_have_words_in_every_size() {
        for size in
            [Size::new(1920, 1080), Size::new(1280, 720), Size::new(320, 180), Size::new(16, 16), Size::new(600, 2000)]
        {
            let card = notice(size, "screen :0", "the X server has closed the connection, über alles — 中文");
            let inked = card.bytes().chunks_exact(4).filter(|pixel| pixel[..3] != [32, 26, 24]).count();
            assert!(inked > 20, "{size}: {inked} pixels of letters");
        }
        assert_ne!(pause(Size::new(640, 360)).bytes(), notice(Size::new(640, 360), "a", "b").bytes());
    }

    #[test]
    fn text_is_cut_at_spaces_and_bounded() {
        let face = Face::of(16, FontWeight::Regular);
        let width = face.columns() * 10;
        assert_eq!(face.wrap("one two three four", width), ["one two", "three four"]);
        assert_eq!(face.wrap("abcdefghijklmnop x", width), ["abcdefghij", "klmnop x"]);
        assert_eq!(face.wrap("", width), Vec::<String>::new());
        let long = face.wrap(&"word ".repeat(100), width);
        assert!(long.len() == MOST_LINES && long[MOST_LINES - 1].ends_with("..."), "{long:?}");
    }
}
