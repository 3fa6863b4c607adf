//! Damage: which parts of a picture may have changed.

use super::Size;

/// A rectangle of pixels inside a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Leftmost column.
    pub x: u32,
    /// Topmost row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Rect {
    /// The rectangle that covers a picture of `size`.
    pub const fn whole(size: Size) -> Self {
        Self { x: 0, y: 0, width: size.width, height: size.height }
    }

    /// Whether it holds no pixel.
    pub const fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// The part inside a picture of `size`.
    pub fn clipped(self, size: Size) -> Self {
        let (x, y) = (self.x.min(size.width), self.y.min(size.height));
        Self { x, y, width: self.width.min(size.width - x), height: self.height.min(size.height - y) }
    }

    /// The smallest rectangle that covers both.
    pub fn bounding(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// The part that both cover; empty, at this one's corner, where there is none.
    pub fn intersection(self, other: Self) -> Self {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let right = self.x.saturating_add(self.width).min(other.x.saturating_add(other.width));
        let bottom = self.y.saturating_add(self.height).min(other.y.saturating_add(other.height));
        if right <= x || bottom <= y {
            return Self { width: 0, height: 0, ..self };
        }
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// Its extent.
    pub const fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Pixels covered.
    pub const fn area(&self) -> u64 {
        self.width as u64 * self.height as u64
    }
}

/// How many rectangles are kept before the closest ones are joined.
const MOST: usize = 8;

/// A bounded set of rectangles that together cover every changed pixel (and perhaps more).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage(Vec<Rect>);

impl Damage {
    /// No pixel has changed.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Every pixel of a picture of `size` may have changed.
    pub fn whole(size: Size) -> Self {
        Self(vec![Rect::whole(size)])
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rectangles, none of them empty.
    pub fn rects(&self) -> &[Rect] {
        &self.0
    }

    /// The smallest rectangle that covers all; empty where there is no damage.
    pub fn bounds(&self) -> Rect {
        self.0.iter().copied().reduce(Rect::bounding).unwrap_or(Rect { x: 0, y: 0, width: 0, height: 0 })
    }

    /// Adds a rectangle, unless it is covered by another; past eight, the pair whose union wastes least is joined.
    pub fn add(&mut self, rect: Rect) {
        if rect.is_empty() || self.0.iter().any(|known| known.bounding(rect) == *known) {
            return;
        }
        self.0.retain(|known| rect.bounding(*known) != rect);
        self.0.push(rect);
        while self.0.len() > MOST {
            self.join_closest();
        }
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &Self) {
        for rect in &other.0 {
            self.add(*rect);
        }
    }

    fn join_closest(&mut self) {
        let mut best = (0, 1, i64::MAX);
        for i in 0..self.0.len() {
            for j in i + 1..self.0.len() {
                let waste =
                    self.0[i].bounding(self.0[j]).area() as i64 - self.0[i].area() as i64 - self.0[j].area() as i64;
                if waste < best.2 {
                    best = (i, j, waste);
                }
            }
        }
        let second = self.0.swap_remove(best.1);
        self.0[best.0] = self.0[best.0].bounding(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(damage: &Damage, x: u32, y: u32) -> bool {
        damage.rects().iter().any(|r| x >= r.x && x < r.x + r.width && y >= r.y && y < r.y + r.height)
    }

    #[test]
    fn joining_keeps_every_pixel_and_the_bound() {
        let mut damage = Damage::none();
        let spots: Vec<_> = (0..40u32).map(|i| (i * 37 % 200, i * 91 % 150)).collect();
        for (x, y) in &spots {
            damage.add(Rect { x: *x, y: *y, width: 3, height: 2 });
        }
        assert!(damage.rects().len() <= MOST);
        for (x, y) in spots {
            assert!(covers(&damage, x, y) && covers(&damage, x + 2, y + 1), "({x}, {y}) was lost");
        }
    }

    #[test]
    fn covered_rectangles_are_dropped() {
        let size = Size::new(100, 50);
        let mut damage = Damage::none();
        damage.add(Rect { x: 1, y: 2, width: 3, height: 4 });
        damage.add(Rect::whole(size));
        damage.add(Rect { x: 90, y: 40, width: 10, height: 10 });
        assert_eq!(damage, Damage::whole(size));
    }

    #[test]
    fn clipping_stays_inside() {
        let size = Size::new(100, 50);
        let rect = Rect { x: 90, y: 60, width: 20, height: 20 }.clipped(size);
        assert!(rect.is_empty());
        assert_eq!(
            Rect { x: 90, y: 40, width: 20, height: 20 }.clipped(size),
            Rect { x: 90, y: 40, width: 10, height: 10 }
        );
    }
}
