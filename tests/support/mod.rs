//! What the integration tests and the benchmarks stand on: a real X server, real X clients, the real daemon, a real browser.
//!
//! Owns processes and takes them along when it is dropped; every wait has a deadline. Holds no expectations: those are the tests'.
#![allow(dead_code, reason = "shared by two binaries, neither of which uses all of it")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a failure is a panic, a report is printed")]

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod browser;
pub mod certificates;
pub mod daemon;
pub mod files;
pub mod firefox;
pub mod http;
pub mod page;
pub mod process;
pub mod pulse;
pub mod rtc_viewer;
pub mod servers;
pub mod strip;
pub mod tone;
pub mod turn;
pub mod xclient;
pub mod xvfb;

/// Held by tests that need most of the machine, so that two of them never run at once.
static HEAVY: Mutex<()> = Mutex::new(());

/// Waits for the machine; it is given back when the guard is dropped, also after a failed test.
pub fn heavy() -> MutexGuard<'static, ()> {
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the long forms of tests were asked for (`./dev test --long`).
pub fn long() -> bool {
    std::env::var_os("LATERNA_LONG").is_some()
}

/// Prints a time that the issue names beside its bar; it fails only at ten times the bar, as test machines are shared.
pub fn report_wall_time(what: &str, took: std::time::Duration, bar: std::time::Duration) {
    let verdict = if took <= bar { "" } else { " (over the bar)" };
    println!("{what}: {took:.1?}, bar {bar:?}{verdict}");
    assert!(took <= bar * 10, "{what} took {took:?}, more than ten times the bar of {bar:?}");
}
