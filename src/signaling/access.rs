//! Who may watch: the access code, the answer to wrong ones, and the names by which this daemon may be asked.
//!
//! Owns the decision about one request's code (RFC 6750) in [`Access`]. It never slows the holder of a right code: a right code is granted at once,
//! from a throttled address too. What is throttled is therefore the answer to wrong ones; what protects the code is its 50 bits.
//! It never does I/O, except for [`Code::load_or_create`] and [`state_dir`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

mod book;
mod code;
mod host;
mod origin;
mod pace;
#[cfg(test)]
mod tests;

pub use book::{Book, BookError, Entry, Origin, is_name};
pub use code::{AccessError, Code, Token, state_dir};
pub use host::OwnNames;
pub use origin::Origins;
pub use pace::{OFFERS_PER_MINUTE, Pace};

/// Wrong codes that an address may send before it is made to wait.
const FREE_TRIES: u32 = 5;
/// The first wait; each further wrong code doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait of an address.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Wrong codes that are forgotten after so long without another.
const MEMORY: Duration = Duration::from_secs(600);
/// Wrong codes a minute, of all addresses together, that get an ordinary answer.
pub const WRONG_PER_MINUTE: u32 = 100;
/// The window of [`WRONG_PER_MINUTE`].
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses that are remembered at most; past it the one that was quiet longest is forgotten.
const ADDRESSES: usize = 1024;

/// Tells one code of viewers from another; a code that replaces another of the same name has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PassId(pub u64);

/// Who is let in: viewers by codes, operators by tokens.
#[derive(Debug)]
pub struct Access {
    /// `None` where everybody who reaches the daemon may watch.
    codes: Option<Vec<(PassId, Code)>>,
    tokens: Vec<Token>,
    gate: Gate,
}

/// What is decided about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on, by this code where one is needed.
    Granted(Option<PassId>),
    /// It carries no code, and one is needed.
    Missing,
    /// Its code is wrong.
    Wrong,
    /// Its code is wrong, and so were too many before it.
    TooMany {
        /// How long until the next wrong code gets an ordinary answer.
        retry_after: Duration,
    },
}

/// Remembers who sent wrong codes.
#[derive(Debug)]
struct Gate {
    wrong_per_minute: u32,
    addresses: HashMap<Network, Wrongs>,
    window_start: Option<Instant>,
    window_wrongs: u32,
    tried: Tried,
}

/// Wrong codes of the last minute or two, whatever they were answered.
#[derive(Debug, Default)]
struct Tried {
    since: Option<Instant>,
    count: u32,
    before: u32,
}

impl Tried {
    fn note(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now >= since + MINUTE) {
            let before = self.count(now);
            *self = Self { since: Some(now), count: 0, before };
        }
        self.count = self.count.saturating_add(1);
    }

    /// The most of a minute, this or the one before.
    fn count(&self, now: Instant) -> u32 {
        match self.since {
            Some(since) if now < since + MINUTE => self.count.max(self.before),
            Some(since) if now < since + MINUTE * 2 => self.count,
            _ => 0,
        }
    }
}

/// What is counted as one place: an IPv4 address, or an IPv6 /64 (one subscriber has them all).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// An IPv4 address; IPv4-mapped IPv6 addresses count as it.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address.
    V6Prefix([u8; 8]),
}

#[derive(Debug, Clone, Copy)]
struct Wrongs {
    count: u32,
    last: Instant,
    blocked_until: Option<Instant>,
}

impl Access {
    /// Lets everybody watch.
    pub fn open() -> Self {
        let gate = Gate {
            wrong_per_minute: WRONG_PER_MINUTE,
            addresses: HashMap::new(),
            window_start: None,
            window_wrongs: 0,
            tried: Tried::default(),
        };
        Self { codes: None, tokens: Vec::new(), gate }
    }

    /// Lets in whoever has `code`.
    pub fn with_code(code: Code) -> Self {
        Self { codes: Some(vec![(PassId(0), code)]), ..Self::open() }
    }

    /// Lets in whoever has one of these codes, from now on.
    pub fn set_codes(&mut self, codes: Vec<(PassId, Code)>) {
        self.codes = Some(codes);
    }

    /// Takes these tokens of operators, from now on.
    pub fn set_tokens(&mut self, tokens: Vec<Token>) {
        self.tokens = tokens;
    }

    /// Gives so many wrong codes a minute, of all addresses together, an ordinary answer.
    pub fn set_wrong_per_minute(&mut self, count: u32) {
        self.gate.wrong_per_minute = count;
    }

    /// How many wrong codes came within a minute, of late.
    pub fn wrong_codes(&self, now: Instant) -> u32 {
        self.gate.tried.count(now)
    }

    /// Decides about a viewer's request from `from` that carries the code `bearer`.
    pub fn check(&mut self, from: IpAddr, bearer: Option<&str>, now: Instant) -> Verdict {
        let Some(codes) = &self.codes else { return Verdict::Granted(None) };
        let Some(bearer) = bearer else { return Verdict::Missing };
        // All are compared, so that the time tells nothing of which one fits.
        let fitting = codes.iter().filter(|(_, code)| code.matches(bearer)).fold(None, |_, (pass, _)| Some(*pass));
        match fitting {
            Some(pass) => Verdict::Granted(Some(pass)),
            None => self.gate.handle_wrong(Network::from(from), now),
        }
    }

    /// Decides about an operator's request from `from` that carries the token `bearer`.
    pub fn check_operator(&mut self, from: IpAddr, bearer: Option<&str>, now: Instant) -> Verdict {
        let Some(bearer) = bearer else { return Verdict::Missing };
        match self.tokens.iter().filter(|token| token.matches(bearer)).count() {
            0 => self.gate.handle_wrong(Network::from(from), now),
            _ => Verdict::Granted(None),
        }
    }
}

impl Gate {
    fn handle_wrong(&mut self, from: Network, now: Instant) -> Verdict {
        self.tried.note(now);
        if let Some(retry_after) = self.blocked(from, now) {
            return Verdict::TooMany { retry_after };
        }
        self.note_wrong(from, now);
        Verdict::Wrong
    }

    /// How long wrong codes from `from` are still refused an ordinary answer. A wrong code meanwhile doesn't lengthen it.
    fn blocked(&mut self, from: Network, now: Instant) -> Option<Duration> {
        let by_address = self.addresses.get(&from).and_then(|wrongs| wrongs.blocked_until);
        let window_end = self.window_start.map(|start| start + MINUTE);
        if window_end.is_some_and(|end| end <= now) {
            self.window_start = None;
            self.window_wrongs = 0;
        }
        let in_all = window_end.filter(|_| self.window_wrongs >= self.wrong_per_minute);
        by_address.max(in_all).filter(|until| *until > now).map(|until| until - now)
    }

    fn note_wrong(&mut self, from: Network, now: Instant) {
        self.window_start.get_or_insert(now);
        self.window_wrongs += 1;
        if !self.addresses.contains_key(&from) && self.addresses.len() >= ADDRESSES {
            self.forget(now);
        }
        let wrongs = self.addresses.entry(from).or_insert(Wrongs { count: 0, last: now, blocked_until: None });
        if now.saturating_duration_since(wrongs.last) > MEMORY {
            wrongs.count = 0;
        }
        wrongs.count = wrongs.count.saturating_add(1);
        wrongs.last = now;
        wrongs.blocked_until = wrongs.count.checked_sub(FREE_TRIES).map(|doublings| {
            let wait = FIRST_WAIT.checked_mul(1 << doublings.min(16)).unwrap_or(LONGEST_WAIT);
            now + wait.min(LONGEST_WAIT)
        });
    }

    /// Makes room for one address.
    fn forget(&mut self, now: Instant) {
        self.addresses.retain(|_, wrongs| now.saturating_duration_since(wrongs.last) <= MEMORY);
        if self.addresses.len() >= ADDRESSES
            && let Some(quietest) = self.addresses.iter().min_by_key(|(_, wrongs)| wrongs.last).map(|(net, _)| *net)
        {
            self.addresses.remove(&quietest);
        }
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6Prefix([a, b, c, d, e, f, g, h])
            }
        }
    }
}
