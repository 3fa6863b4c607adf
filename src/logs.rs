//! Where log lines go: stderr, as far as it takes them. Where that is the journal's (`$JOURNAL_STREAM`, systemd.exec(5)), each line begins with its
//! priority (sd-daemon(3)), and has no time of its own.
//!
//! A disk that is full must neither end nor hold up the daemon: lines that can't be written are counted, and the first one that can be is preceded by their number.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// Lines that were lost since the last one that was written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Where lines go, and how.
#[derive(Debug, Clone, Copy)]
pub struct Destination {
    /// Whether the journal reads them.
    pub is_journal: bool,
}

impl Destination {
    /// Stderr, as the environment says what it is.
    pub fn of_this_process() -> Self {
        let said = std::env::var("JOURNAL_STREAM").ok();
        let found = rustix::fs::fstat(io::stderr()).ok().map(|stderr| format!("{}:{}", stderr.st_dev, stderr.st_ino));
        Self { is_journal: said.is_some() && said == found }
    }
}

impl<'a> MakeWriter<'a> for Destination {
    type Writer = Stderr;

    fn make_writer(&'a self) -> Stderr {
        Stderr { priority: "" }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Stderr {
        let priority = match *meta.level() {
            _ if !self.is_journal => "",
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        };
        Stderr { priority }
    }
}

/// Writes lines to stderr.
#[derive(Debug)]
pub struct Stderr {
    /// What each begins with.
    priority: &'static str,
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.priority.is_empty() {
            write_line(&mut io::stderr().lock(), line, &LOST);
        } else {
            // In one piece, so that nothing comes between.
            write_line(&mut io::stderr().lock(), &[self.priority.as_bytes(), line].concat(), &LOST);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a whole line and before it, where some were lost, how many; or notes that it is lost.
fn write_line(out: &mut impl Write, line: &[u8], lost: &AtomicU64) {
    let before = lost.load(Ordering::Relaxed);
    let mut written = Ok(());
    if before > 0 {
        let mut at = String::new();
        // A time that can't be told is left out.
        let _ = SystemTime.format_time(&mut Writer::new(&mut at));
        // What was written of the last one has no end.
        written = write!(out, "\n{at}  WARN laterna::logs: log lines could not be written lost={before}\n");
    }
    if written.and_then(|()| out.write_all(line)).is_ok() {
        lost.fetch_sub(before, Ordering::Relaxed);
    } else {
        lost.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A disk with so many bytes left.
    struct Disk {
        left: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.left);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.left -= taken;
            self.text.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted_and_told_once_there_is_room() {
        let (lost, mut disk) = (AtomicU64::new(0), Disk { left: 10, text: Vec::new() });
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            write_line(&mut disk, line.as_bytes(), &lost);
        }
        disk.left = 1000;
        write_line(&mut disk, b"five\n", &lost);
        write_line(&mut disk, b"six\n", &lost);
        let text = String::from_utf8(disk.text).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!([&lines[..3], &lines[4..]], [&["one", "two", "th"][..], &["five", "six"]], "{text}");
        assert!(lines[3].ends_with("WARN laterna::logs: log lines could not be written lost=2"), "{text}");
    }
}
