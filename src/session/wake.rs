//! Waking a thread that waits for sockets: an eventfd beside them in poll(2).
//!
//! Owns the waiting; what the news is travels by a bounded queue of the caller's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Wakes the thread that polls it; clones wake the same thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes a waker that nobody has woken yet.
    ///
    /// # Errors
    /// Where the process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Makes the descriptor readable until it is drained; never blocks.
    pub fn wake(&self) {
        // The only refusal is a counter that is full: then it is readable already.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Takes all wakes so far; to be called before the news is read, so that none is missed.
    pub fn drain(&self) {
        // The only refusal is that nobody has woken it.
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What of a descriptor ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// That it can be read.
    Readable,
    /// That it can be written.
    Writable,
    /// Either.
    Both,
}

impl Interest {
    fn flags(self) -> PollFlags {
        match self {
            Self::Readable => PollFlags::IN,
            Self::Writable => PollFlags::OUT,
            Self::Both => PollFlags::IN | PollFlags::OUT,
        }
    }
}

/// Waits until one of `fds` is as its [`Interest`] says (or broken) or `deadline` has come; tells which are.
///
/// Without a deadline it waits for ever. A signal does not end the wait.
///
/// # Errors
/// Where the kernel has no memory to wait with.
pub fn poll_until<const N: usize>(
    fds: [(BorrowedFd<'_>, Interest); N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|(fd, interest)| PollFd::from_borrowed_fd(fd, interest.flags()));
    loop {
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs().min(i32::MAX as u64) as i64, tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => return Ok(polled.map(|fd| !fd.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wake_from_another_thread_ends_the_wait_once() {
        let (waker, other) = (Waker::new().unwrap(), Waker::new().unwrap());
        let fds = [(waker.as_fd(), Interest::Readable), (other.as_fd(), Interest::Readable)];
        assert_eq!(poll_until(fds, Some(Instant::now())).unwrap(), [false, false]);
        let remote = other.clone();
        let thread = std::thread::spawn(move || (0..3).for_each(|_| remote.wake()));
        let deadline = Some(Instant::now() + Duration::from_secs(10));
        assert_eq!(poll_until(fds, deadline).unwrap(), [false, true]);
        thread.join().unwrap();
        other.drain();
        other.drain();
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(poll_until(fds, Some(soon)).unwrap(), [false, false]);
        assert!(Instant::now() >= soon);
    }
    #[test]
    fn a_full_socket_ends_the_wait_once_it_takes_more() {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let wait = |interest, deadline| poll_until([(ours.as_fd(), interest)], Some(deadline)).unwrap();
        assert_eq!(wait(Interest::Writable, Instant::now()), [true]);
        assert_eq!(wait(Interest::Readable, Instant::now()), [false]);
        while ours.send(&[0; 1000]).is_ok() {}
        assert_eq!(wait(Interest::Both, Instant::now()), [false]);
        let reader = std::thread::spawn(move || {
            while theirs.set_nonblocking(true).and_then(|()| theirs.recv(&mut [0; 1000])).is_ok() {}
            theirs
        });
        assert_eq!(wait(Interest::Both, Instant::now() + Duration::from_secs(10)), [true]);
        reader.join().unwrap();
    }
}
