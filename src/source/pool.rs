//! The pool of picture stores of one source (rule 2): a store is never rewritten while a picture refers to it.
//!
//! A pure core: it knows for each store which rows are out of date, and says which store to bring up to date with the
//! least work. It never reads or writes a pixel.

use std::ops::Range;
use std::sync::Arc;

/// How many stores a pool has at most: one shown, one in the mailbox, one being encoded, one to write to.
const MOST_STORES: usize = 4;
/// Bands closer than this are joined: reading so many rows costs less than one more round trip.
const JOINED_GAP: u32 = 16;
/// How many bands are kept before the closest ones are joined.
const MOST_BANDS: usize = 8;

/// Rows of a picture, as bands in ascending order that neither touch nor come close to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bands(Vec<Range<u32>>);

/// The stores of one source, all of one size.
#[derive(Debug)]
pub(super) struct Pool<S> {
    slots: Vec<Slot<S>>,
    rows: u32,
}

#[derive(Debug)]
struct Slot<S> {
    store: Arc<S>,
    stale: Bands,
}

/// What to do to get an up-to-date store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// This one is up to date, perhaps with readers.
    Fresh(usize),
    /// Nobody reads this one: bring its stale rows up to date.
    Stale(usize),
    /// Another store is needed: insert one.
    Create,
    /// All stores have readers: try again later.
    Busy,
}

impl Bands {
    /// Adds rows; empty ranges add nothing.
    pub(super) fn add(&mut self, rows: Range<u32>) {
        if rows.is_empty() {
            return;
        }
        let mut joined = rows;
        self.0.retain(|band| {
            let close = band.start <= joined.end.saturating_add(JOINED_GAP)
                && joined.start <= band.end.saturating_add(JOINED_GAP);
            if close {
                joined = joined.start.min(band.start)..joined.end.max(band.end);
            }
            !close
        });
        let at = self.0.partition_point(|band| band.start < joined.start);
        self.0.insert(at, joined);
        if self.0.len() > MOST_BANDS {
            self.join_closest();
        }
    }

    /// The bands, from the top down.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u32>> {
        self.0.iter().cloned()
    }

    fn count_rows(&self) -> u32 {
        self.0.iter().map(|band| band.end - band.start).sum()
    }

    fn join_closest(&mut self) {
        let gap = |at: &usize| self.0[*at + 1].start - self.0[*at].end;
        if let Some(at) = (0..self.0.len() - 1).min_by_key(gap) {
            let below = self.0.remove(at + 1);
            self.0[at].end = below.end;
        }
    }
}

impl<S> Pool<S> {
    /// Makes an empty pool for pictures of so many rows.
    pub(super) fn new(rows: u32) -> Self {
        Self { slots: Vec::new(), rows }
    }

    /// Notes that rows have changed, so that every store is out of date there.
    pub(super) fn mark(&mut self, rows: Range<u32>) {
        let rows = rows.start..rows.end.min(self.rows);
        for slot in &mut self.slots {
            slot.stale.add(rows.clone());
        }
    }

    /// Notes that every row of every store is out of date.
    pub(super) fn mark_all(&mut self) {
        self.mark(0..self.rows);
    }

    /// Chooses the store that needs least work.
    pub(super) fn pick(&mut self) -> Pick {
        if let Some(at) = self.slots.iter().position(|slot| slot.stale.0.is_empty()) {
            return Pick::Fresh(at);
        }
        let free = self.slots.iter_mut().enumerate().filter_map(|(at, slot)| {
            let rows = slot.stale.count_rows();
            Arc::get_mut(&mut slot.store).map(|_| (rows, at))
        });
        match free.min() {
            Some((_, at)) => Pick::Stale(at),
            None if self.slots.len() < MOST_STORES => Pick::Create,
            None => Pick::Busy,
        }
    }

    /// Adds a store with nothing in it yet; returns its place.
    pub(super) fn insert(&mut self, store: S) -> usize {
        let mut stale = Bands::default();
        stale.add(0..self.rows);
        self.slots.push(Slot { store: Arc::new(store), stale });
        self.slots.len() - 1
    }

    /// The store at `at` for writing, with its stale bands; `None` while a picture refers to it.
    pub(super) fn writable(&mut self, at: usize) -> Option<(&mut S, &Bands)> {
        let slot = self.slots.get_mut(at)?;
        Some((Arc::get_mut(&mut slot.store)?, &slot.stale))
    }

    /// Notes that the store at `at` was brought up to date.
    pub(super) fn handle_written(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.stale = Bands::default();
        }
    }

    /// The store at `at`, for a reader: it stays as it is until the reader drops it.
    pub(super) fn share(&self, at: usize) -> Option<Arc<S>> {
        self.slots.get(at).map(|slot| slot.store.clone())
    }

    /// Forgets all stores, for pictures of so many rows from now on; yields the stores for a farewell.
    pub(super) fn reset(&mut self, rows: u32) -> impl Iterator<Item = Arc<S>> {
        self.rows = rows;
        std::mem::take(&mut self.slots).into_iter().map(|slot| slot.store)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
    use super::*;

    fn bands(ranges: &[Range<u32>]) -> Vec<Range<u32>> {
        let mut bands = Bands::default();
        for range in ranges {
            bands.add(range.clone());
        }
        bands.iter().collect()
    }

    fn fresh(pool: &mut Pool<&'static str>, name: &'static str) -> usize {
        let at = pool.insert(name);
        pool.handle_written(at);
        at
    }

    #[test]
    fn bands_join_where_they_are_close() {
        assert_eq!(bands(&[0..10, 100..110, 5..20]), [0..20, 100..110]);
        assert_eq!(bands(&[0..10, 26..30]), [0..30]);
        assert_eq!(bands(&[0..10, 27..30]), [0..10, 27..30]);
        assert_eq!(bands(&[27..30, 0..10, 11..26, 7..7]), [0..30]);
    }

    #[test]
    fn bands_are_bounded_and_lose_no_row() {
        let rows: Vec<_> = (0..60u32).map(|i| i * 7919 % 4000).collect();
        let bands = bands(&rows.iter().map(|row| *row..row + 2).collect::<Vec<_>>());
        assert!(bands.len() <= MOST_BANDS);
        assert!(bands.windows(2).all(|pair| pair[0].end + JOINED_GAP < pair[1].start));
        for row in rows {
            assert!(bands.iter().any(|band| band.contains(&row) && band.contains(&(row + 1))), "{row} was lost");
        }
    }

    #[test]
    fn a_store_with_readers_is_never_written() {
        let mut pool = Pool::new(100);
        let first = fresh(&mut pool, "first");
        let reader = pool.share(first).unwrap();
        assert_eq!(pool.pick(), Pick::Fresh(first));
        pool.mark(10..20);
        assert_eq!(pool.pick(), Pick::Create);
        assert!(pool.writable(first).is_none());
        drop(reader);
        assert_eq!(pool.pick(), Pick::Stale(first));
        assert_eq!(pool.writable(first).unwrap().1.iter().collect::<Vec<_>>(), [10..20]);
    }

    #[test]
    fn each_store_remembers_what_it_missed_and_the_cheapest_is_taken() {
        let mut pool = Pool::new(100);
        let (first, second) = (fresh(&mut pool, "first"), fresh(&mut pool, "second"));
        pool.mark(0..10);
        pool.handle_written(first);
        pool.mark(50..60);
        assert_eq!(pool.pick(), Pick::Stale(first));
        assert_eq!(pool.writable(first).unwrap().1.iter().collect::<Vec<_>>(), [50..60]);
        assert_eq!(pool.writable(second).unwrap().1.iter().collect::<Vec<_>>(), [0..10, 50..60]);
        let _reader = pool.share(first);
        assert_eq!(pool.pick(), Pick::Stale(second));
    }

    #[test]
    fn the_pool_is_bounded_and_keeps_the_damage_while_all_are_read() {
        let mut pool = Pool::new(100);
        let readers: Vec<_> = (0..MOST_STORES)
            .map(|_| {
                let at = fresh(&mut pool, "store");
                pool.share(at).unwrap()
            })
            .collect();
        pool.mark(90..300);
        assert_eq!(pool.pick(), Pick::Busy);
        drop(readers);
        let Pick::Stale(at) = pool.pick() else { panic!("a store is free") };
        assert_eq!(pool.writable(at).unwrap().1.iter().collect::<Vec<_>>(), [90..100], "clipped to the picture");
        assert_eq!(pool.reset(50).count(), MOST_STORES);
        assert_eq!(pool.pick(), Pick::Create);
    }
}
