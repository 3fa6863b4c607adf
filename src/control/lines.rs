//! Lines of bounded length out of bytes as they come: a pure core.

use std::collections::VecDeque;

/// A line was longer than allowed; what is left of it is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {0} bytes")]
pub struct TooLong(pub usize);

/// The lines of one stream.
#[derive(Debug)]
pub struct Lines {
    limit: usize,
    begun: Vec<u8>,
    /// Whether the line that has begun is too long.
    passing_over: bool,
    whole: VecDeque<Result<Vec<u8>, TooLong>>,
}

impl Lines {
    /// Takes lines of at most `limit` bytes, without their ends.
    pub fn new(limit: usize) -> Self {
        Self { limit, begun: Vec::new(), passing_over: false, whole: VecDeque::new() }
    }

    /// Takes what came; keeps no more than one line's bytes beyond it.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let ends = parts.peek().is_some();
            if !self.passing_over && self.begun.len() + part.len() > self.limit {
                self.whole.push_back(Err(TooLong(self.limit)));
                self.begun = Vec::new();
                self.passing_over = true;
            }
            if !self.passing_over {
                self.begun.extend_from_slice(part);
            }
            if ends && !std::mem::replace(&mut self.passing_over, false) {
                self.whole.push_back(Ok(std::mem::take(&mut self.begun)));
            }
        }
    }

    /// The next line, without its end.
    pub fn poll_line(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        self.whole.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<Result<Vec<u8>, TooLong>> {
        std::iter::from_fn(|| lines.poll_line()).collect()
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let text: &[u8] = b"one\n\nthis one is too long\nfour\nfourfour\nhalf";
        let whole =
            [Ok(b"one".to_vec()), Ok(Vec::new()), Err(TooLong(8)), Ok(b"four".to_vec()), Ok(b"fourfour".to_vec())];
        for step in 1..=text.len() {
            let mut lines = Lines::new(8);
            let mut got = Vec::new();
            for chunk in text.chunks(step) {
                lines.handle_bytes(chunk);
                got.extend(all(&mut lines));
            }
            assert_eq!(got, whole, "by {step}");
            assert_eq!(lines.begun, b"half");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut lines = Lines::new(1000);
        for _ in 0..1024 {
            lines.handle_bytes(&[b'x'; 1024]);
            assert!(lines.begun.capacity() <= 2048);
        }
        lines.handle_bytes(b"\nnext\n");
        assert_eq!(all(&mut lines), [Err(TooLong(1000)), Ok(b"next".to_vec())]);
    }
}
