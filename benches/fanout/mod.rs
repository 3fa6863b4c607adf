//! Many viewers: what each further one costs in CPU and memory, and what a storm of joins does to whoever is there.
//!
//! The viewers are a light receiver of ours in a process of its own ([`receiver`]): it completes ICE and DTLS, sends receiver reports
//! and transport-wide feedback each 100 ms, and counts RTP without decoding it. All is on loopback, where the kernel charges the
//! receiver's side of each packet (delivery, and the splitting of a GSO run) to the sender's CPU, in the floor as in the daemon.

use std::borrow::Cow;
use std::time::Duration;

use crate::SCREEN;
use crate::support::daemon::{Daemon, Setup};
use crate::support::xclient::{Drawing, XClient};
use crate::support::xvfb::Xvfb;

mod child;
pub mod cost;
mod floor;
mod light;
mod receiver;
mod rtcp;
mod rtp;
mod signal;
mod socket;
pub mod storm;
mod threads;

pub use receiver::run as receive;

/// The hidden argument by which the benchmark starts itself as the receiver.
pub const RECEIVER: &str = "light-receiver";
/// The rate that the bars are for, in bits a second.
const RATE: f64 = 2_500_000.0;

/// Changes a second, and lines of text of each: what the encoder makes of them is about [`RATE`].
const CHANGES: u32 = 25;
const LINES: u16 = 10;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Effort {
    /// Numbers of viewers, rising.
    pub viewers: Cow<'static, [usize]>,
    /// Each number of viewers.
    window: Duration,
    /// After a join, before anything counts.
    settle: Duration,
    /// Viewers that join one by one.
    alone: usize,
    /// Viewers that join at once.
    storms: &'static [usize],
    /// The time in which those who were there before are watched without a storm.
    calm: Duration,
}

impl Effort {
    /// What the issue asks for.
    pub const FULL: Self = Self {
        viewers: Cow::Borrowed(&[1, 10, 50, 100, 200]),
        window: Duration::from_secs(8),
        settle: Duration::from_secs(3),
        alone: 20,
        storms: &[50, 200],
        calm: Duration::from_secs(20),
    };
    /// For smoke tests: its figures mean little.
    pub const QUICK: Self = Self {
        viewers: Cow::Borrowed(&[1, 5, 10]),
        window: Duration::from_secs(2),
        settle: Duration::from_secs(1),
        alone: 2,
        storms: &[10],
        calm: Duration::from_secs(2),
    };
}

/// A screen that changes steadily.
struct Scene {
    screen: Xvfb,
    drawing: Option<Drawing>,
}

impl Scene {
    fn start() -> Self {
        let screen = Xvfb::start(SCREEN.0, SCREEN.1);
        let mut client = XClient::open(&screen.display());
        client.fill_with_text();
        let drawing = client.draw_steadily(CHANGES, |client| client.rewrite(LINES));
        Self { screen, drawing: Some(drawing) }
    }

    /// Starts a daemon for many viewers of it, with this `--audio`.
    fn broadcast(&self, audio: &str) -> Daemon {
        let args = ["--audio", audio, "--source", "screen", "--max-viewers", "256", "--log", "debug"];
        Setup::new(&args).display(&self.screen.display()).start()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // The client leaves before its server does.
        drop(self.drawing.take().map(Drawing::stop));
    }
}

/// Stops a daemon; gives the datagrams that its media thread gave up, by its own last words.
fn dropped_by(daemon: Daemon) -> u64 {
    let log = daemon.log().clone();
    daemon.stop();
    let count = |line: &str| line.split("dropped=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    let line = log.wait(Duration::from_secs(5), |line| line.contains("datagrams of the media socket"));
    line.and_then(|line| count(&line.text)).expect("the media thread says what it dropped")
}
