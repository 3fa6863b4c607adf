//! The card: what the pattern shows. Pure: the same number and time give the same pixels.

use super::{fill, strip};
use crate::frame::{Damage, Rect, Size};

/// Frames that the moving bar takes to cross the picture.
const BAR_PERIOD: u32 = 120;
const BACKGROUND: [u8; 3] = [48, 48, 56];
const LANE: [u8; 3] = [24, 24, 28];
const INK: [u8; 3] = [224, 224, 224];
const BAR: [u8; 3] = [255, 176, 0];
/// Steps of the grey ramp.
const GREYS: u32 = 16;
/// Characters of the clock.
const CLOCK_CHARACTERS: u32 = 12;
/// Digits of the frame's number.
const NUMBER_DIGITS: u32 = 10;

/// The patches of the card, by name and colour.
const COLOURS: [(&str, [u8; 3]); 8] = [
    ("red", [255, 0, 0]),
    ("green", [0, 255, 0]),
    ("blue", [0, 0, 255]),
    ("yellow", [255, 255, 0]),
    ("cyan", [0, 255, 255]),
    ("magenta", [255, 0, 255]),
    ("white", [255, 255, 255]),
    ("black", [0, 0, 0]),
];

/// An area of one colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// What it is called: `red`, `grey 3`.
    pub name: String,
    /// Where it is.
    pub rect: Rect,
    /// Its colour: red, green, blue (sRGB).
    pub rgb: [u8; 3],
}

/// The areas of one colour in a card of `size`: the grey ramp from black to white, then the saturated colours.
pub fn patches(size: Size) -> Vec<Patch> {
    let ramp = (0..GREYS).map(|step| {
        let shade = (step * 255 / (GREYS - 1)) as u8;
        Patch { name: format!("grey {step}"), rect: column(size, (4, 18), step, GREYS, 0), rgb: [shade; 3] }
    });
    let gap = size.width / 128;
    let colours = (0..8).zip(COLOURS).map(|(at, (name, rgb))| Patch {
        name: name.to_owned(),
        rect: column(size, (22, 48), at, 8, gap),
        rgb,
    });
    ramp.chain(colours).collect()
}

/// Draws the parts that stand still over the whole of a BGRX picture.
pub(super) fn draw_still(bgrx: &mut [u8], stride: usize, size: Size) {
    fill(bgrx, stride, Rect::whole(size), BACKGROUND);
    for patch in patches(size) {
        fill(bgrx, stride, patch.rect, patch.rgb);
    }
    draw_fine_lines(bgrx, stride, size);
    fill(bgrx, stride, bar_lane(size), LANE);
}

/// Draws the parts that move, where [`moving`] says.
pub(super) fn draw_moving(bgrx: &mut [u8], stride: usize, size: Size, number: u32, millis: u32) {
    strip::draw(bgrx, stride, size, number, millis);
    fill(bgrx, stride, bar_lane(size), LANE);
    fill(bgrx, stride, bar(size, number), BAR);
    let place = clock(size);
    fill(bgrx, stride, place, LANE);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let text = format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600 % 100, seconds / 60 % 60, seconds % 60);
    // 6 by 8 blocks a character, with one block of margin; the number in smaller blocks beside it.
    let block = (place.height / 9).min(place.width / 3 * 2 / (CLOCK_CHARACTERS * 6 + 2));
    draw_text(bgrx, stride, place.x + block, place.y + block, block, &text);
    let beside = place.x + block * (CLOCK_CHARACTERS * 6 + 2);
    let small = block.div_ceil(2).min((place.x + place.width).saturating_sub(beside) / (NUMBER_DIGITS * 6));
    draw_text(bgrx, stride, beside, place.y + block, small, &format!("{number:010}"));
}

/// What differs between the card's frames `before` and `number`.
pub(super) fn moving(size: Size, before: u32, number: u32) -> Damage {
    let mut damage = Damage::none();
    damage.add(strip::place(size).unwrap_or(Rect { x: 0, y: 0, width: 0, height: 0 }));
    damage.add(bar(size, before));
    damage.add(bar(size, number));
    damage.add(clock(size));
    damage
}

/// The rows between two hundredths of the height below the strip.
fn rows(size: Size, (from, to): (u32, u32)) -> (u32, u32) {
    let top = strip::place(size).map_or(0, |strip| strip.height);
    let height = size.height - top;
    let (from, to) = (top + height * from / 100, top + height * to / 100);
    (from, to - from)
}

/// Column `at` of `count` in a band of rows, `gap` pixels narrower on each side.
fn column(size: Size, band: (u32, u32), at: u32, count: u32, gap: u32) -> Rect {
    let (y, height) = rows(size, band);
    let (left, right) = (size.width * at / count, size.width * (at + 1) / count);
    Rect { x: left + gap, y, width: (right - left).saturating_sub(2 * gap), height }
}

fn bar_lane(size: Size) -> Rect {
    column(size, (70, 82), 0, 1, 0)
}

fn bar(size: Size, number: u32) -> Rect {
    let lane = bar_lane(size);
    let width = (size.width / 32).max(1);
    let x = (u64::from(size.width - width) * u64::from(number % BAR_PERIOD) / u64::from(BAR_PERIOD)) as u32;
    Rect { x, width, ..lane }
}

fn clock(size: Size) -> Rect {
    let margin = size.width / 32;
    column(size, (85, 98), 0, 1, margin)
}

/// Rows of small figures like text on the left, single-pixel lines on the right.
fn draw_fine_lines(bgrx: &mut [u8], stride: usize, size: Size) {
    let (top, height) = rows(size, (52, 67));
    let half = size.width / 2;
    for line in 0..height / 10 {
        for at in 0..half / 6 {
            let digit = char::from(b'0' + ((at * 7 + line * 3 + at * line) % 10) as u8);
            let blank = (at + line * 5) % 7 == 6;
            if !blank {
                draw_text(bgrx, stride, at * 6, top + line * 10, 1, digit.encode_utf8(&mut [0; 4]));
            }
        }
    }
    for x in (half..size.width).step_by(2) {
        fill(bgrx, stride, Rect { x, y: top, width: 1, height: height / 2 }, INK);
    }
    for y in (top + height / 2..top + height).step_by(2) {
        fill(bgrx, stride, Rect { x: half, y, width: size.width - half, height: 1 }, INK);
    }
}

/// Draws text of digits, colons and full stops in blocks of `block` pixels, from its top-left corner.
fn draw_text(bgrx: &mut [u8], stride: usize, x: u32, y: u32, block: u32, text: &str) {
    for (at, character) in (0..).zip(text.chars()) {
        let glyph = glyph(character);
        for (row, bits) in (0..).zip(glyph) {
            for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
                let (x, y) = (x + (at * 6 + column) * block, y + row * block);
                fill(bgrx, stride, Rect { x, y, width: block, height: block }, INK);
            }
        }
    }
}

/// A character in 5 by 7 blocks, row by row, the leftmost block in bit 4.
#[rustfmt::skip]
fn glyph(character: char) -> [u8; 7] {
    match character {
        '0' => [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
        '1' => [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        '2' => [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
        '3' => [0b11111, 0b00010, 0b00100, 0b00110, 0b00001, 0b10001, 0b01110],
        '4' => [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
        '5' => [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
        '6' => [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
        '7' => [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
        '8' => [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
        '9' => [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
        ':' => [0b00000, 0b00100, 0b00100, 0b00000, 0b00100, 0b00100, 0b00000],
        '.' => [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100],
        _ => [0; 7],
    }
}
