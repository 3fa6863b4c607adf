//! The one clock (rule 10): wall time is read once at start and carried by the monotonic clock.
//!
//! Owns the conversions between [`Instant`], media time, RTP timestamps (RFC 3550, section 5.1) and NTP time (section 4).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub mod jumps;

/// Seconds between the NTP epoch (1900) and the Unix epoch (1970).
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

/// Converts instants of the monotonic clock to media time and wall time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    wall_at_start: Duration,
}

/// Time on the daemon's media line: nanoseconds since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MediaTime(pub u64);

/// The wall time of this moment since the Unix epoch, for what other machines compare with their own: it goes on while this machine sleeps.
#[expect(
    clippy::disallowed_methods,
    reason = "a password expires by the server's wall time, which the monotonic clock does not follow"
)]
pub fn wall_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Clock {
    /// Starts the clock: the media line reads wall time here only.
    #[expect(clippy::disallowed_methods, reason = "this is the once that wall time is read")]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_parts(Instant::now(), wall)
    }

    /// Makes a clock whose `start` corresponds to `wall_at_start` since the Unix epoch.
    pub fn from_parts(start: Instant, wall_at_start: Duration) -> Self {
        Self { start, wall_at_start }
    }

    /// The media time of `at`; instants before the start count as the start.
    pub fn media_time(&self, at: Instant) -> MediaTime {
        MediaTime(u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX))
    }

    /// The wall time of `at`, since the Unix epoch.
    pub fn wall(&self, at: Instant) -> Duration {
        self.wall_at_start + at.saturating_duration_since(self.start)
    }

    /// The 64-bit NTP timestamp of `at` (32 bits of seconds since 1900, 32 bits of fraction).
    pub fn ntp(&self, at: Instant) -> u64 {
        let wall = self.wall(at);
        let seconds = wall.as_secs().wrapping_add(NTP_UNIX_OFFSET) & 0xffff_ffff;
        let fraction = (u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000;
        (seconds << 32) | fraction
    }
}

impl MediaTime {
    /// This time in ticks of `clock_rate` Hz.
    pub fn ticks(self, clock_rate: u32) -> u64 {
        (u128::from(self.0) * u128::from(clock_rate) / 1_000_000_000) as u64
    }

    /// The RTP timestamp of this time in units of `clock_rate` Hz, before a stream's random offset is added.
    pub fn rtp(self, clock_rate: u32) -> u32 {
        self.ticks(clock_rate) as u32
    }

    /// The time since the start of the media line.
    pub fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtp_and_ntp_follow_the_monotonic_clock() {
        let start = Instant::now();
        let clock = Clock::from_parts(start, Duration::from_secs(1_000));
        let later = start + Duration::from_millis(1500);
        assert_eq!(clock.media_time(later).rtp(90_000), 135_000);
        assert_eq!(clock.ntp(later) >> 32, 1_001 + NTP_UNIX_OFFSET);
        assert_eq!(clock.ntp(later) & 0xffff_ffff, 1 << 31);
    }
}
