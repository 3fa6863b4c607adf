//! How targets read their input: as bytes with lengths where a protocol is binary, as a script of lines where it is text.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use laterna::id::SessionId;

/// Bytes that are taken one after the other; zeros where there are none left.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn number(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }

    /// Bytes with their number, of two bytes, before them.
    pub fn chunk(&mut self) -> &'a [u8] {
        let length = usize::from(self.word());
        self.take(length)
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// A line of a script: what it does, and with what.
pub struct Step<'a> {
    pub verb: char,
    pub rest: &'a str,
}

impl Step<'_> {
    /// The first number in it; 0 where there is none.
    pub fn number(&self) -> u64 {
        let digits = self.rest.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().unwrap_or_default()
    }

    /// So many milliseconds, an hour at most.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(self.number().min(3_600_000))
    }
}

/// The lines of a script, at most so many; what is no text is made one.
pub fn script(data: &[u8], most: usize) -> Vec<(char, String)> {
    let text = String::from_utf8_lossy(data);
    let lines = text.split('\n').take(most).filter_map(|line| {
        let mut characters = line.chars();
        Some((characters.next()?, characters.as_str().to_owned()))
    });
    lines.collect()
}

/// The same moment in each run of a process: how long something lasts is told from it.
pub fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Draws sessions one after the other, each another.
pub fn sessions() -> impl FnMut() -> SessionId + Send + 'static {
    let mut drawn = 0_u128;
    move || {
        drawn += 1;
        SessionId::from_bytes(drawn.to_be_bytes())
    }
}

/// That a text is fit to be a line of a log or of a terminal.
pub fn assert_one_line(text: &str) {
    assert!(text.chars().all(laterna::config::is_shown), "not one plain line: {text:?}");
}
