//! How often an address may ask for a session: an offer costs the daemon a millisecond, and its sender next to nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{ADDRESSES, Network};

/// Offers of an address in a minute, so many of them at once: a class behind one NAT comes together.
pub const OFFERS_PER_MINUTE: u32 = 1200;

/// Counts what each address asks, as a bucket that fills within a minute.
#[derive(Debug)]
pub struct Pace {
    per_minute: f64,
    /// What each may still ask, and when that was known.
    left: HashMap<Network, (f64, Instant)>,
}

impl Pace {
    /// Lets each address ask so often in a minute.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute: f64::from(per_minute.max(1)), left: HashMap::new() }
    }

    /// Lets each ask so often from now on.
    pub fn set_per_minute(&mut self, per_minute: u32) {
        self.per_minute = f64::from(per_minute.max(1));
    }

    /// Whether `from` may ask now; else after how long.
    pub fn admit(&mut self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let from = Network::from(from);
        if self.left.len() >= ADDRESSES && !self.left.contains_key(&from) {
            self.forget(now);
        }
        let per_second = self.per_minute / 60.0;
        let (left, at) = self.left.entry(from).or_insert((self.per_minute, now));
        *left = (*left + now.saturating_duration_since(*at).as_secs_f64() * per_second).min(self.per_minute);
        *at = now;
        if *left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - *left) / per_second));
        }
        *left -= 1.0;
        Ok(())
    }

    /// Makes room: for those who have asked nothing for a minute their bucket is full again, so nothing is lost; else the one that asked longest ago goes.
    fn forget(&mut self, now: Instant) {
        self.left.retain(|_, (_, at)| now.saturating_duration_since(*at) < Duration::from_secs(60));
        if self.left.len() >= ADDRESSES
            && let Some(oldest) = self.left.iter().min_by_key(|(_, (_, at))| *at).map(|(from, _)| *from)
        {
            self.left.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_asks_too_often_waits_and_nobody_else() {
        let (mut pace, mut now) = (Pace::new(60), Instant::now());
        let [one, two] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        for _ in 0..60 {
            pace.admit(one, now).unwrap();
        }
        assert_eq!(pace.admit(one, now), Err(Duration::from_secs(1)));
        assert_eq!(pace.admit(two, now), Ok(()));
        now += Duration::from_secs(2);
        assert_eq!([(); 3].map(|()| pace.admit(one, now).is_ok()), [true, true, false]);
        now += Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| pace.admit(one, now).is_ok()).count(), 60, "no more than a minute's is kept");
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut pace, mut now) = (Pace::new(2), Instant::now());
        for n in 0..u16::try_from(ADDRESSES * 2).unwrap() {
            let [high, low] = n.to_be_bytes();
            pace.admit(IpAddr::from([10, 0, high, low]), now).unwrap();
            now += Duration::from_millis(1);
        }
        assert!(pace.left.len() <= ADDRESSES);
    }
}
