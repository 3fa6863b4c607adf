//! The service manager's side: that the daemon is ready, how it is, that it stops, and that its threads beat (sd_notify(3), sd_watchdog_enabled(3)).
//!
//! Without a service manager (no `$NOTIFY_SOCKET`) nothing is said and nobody looks at threads. Owns the socket; which thread hangs is for
//! [`beats`](crate::alive::beats) to judge. The variables stay in the environment: the daemon starts no programs.

use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use crate::alive::beats::{Beats, News, Registry};
use crate::config::one_line;

/// How long a service manager may be too busy to hear.
const HEARING: Duration = Duration::from_secs(5);
/// The least time between two that are told of who is watching.
const BETWEEN: Duration = Duration::from_secs(1);
/// Looks at the threads, and signs of life, in the watchdog's interval.
const LOOKS: u32 = 4;
/// A turn of work that takes this part of the watchdog's interval is one that hangs.
const HANGING: u32 = 2;

/// Why nothing can be told to the service manager.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address is of no known kind.
    #[error("NOTIFY_SOCKET {0:?}: neither a path nor an abstract name; write /PATH or @NAME")]
    Address(OsString),
    /// The system refuses.
    #[error("NOTIFY_SOCKET {address:?}: {what}: {error}")]
    System {
        /// The address.
        address: OsString,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// The watchdog's interval is none.
    #[error("WATCHDOG_USEC {0:?}: not a number of microseconds, 1000 or more")]
    Interval(OsString),
}

/// The sockets that the service manager listens at for the daemon (sd_listen_fds(3)); those that are none for HTTP are told and left out.
///
/// To be called once, before there are threads: it takes them out of the environment.
pub fn inherited_sockets() -> Vec<TcpListener> {
    let mut sockets = ListenFd::from_env();
    let mut taken = Vec::new();
    for index in 0..sockets.len() {
        match sockets.take_tcp_listener(index) {
            Ok(listener) => taken.extend(listener),
            Err(error) => warn!(index, %error, "the service manager gave a socket that can't serve HTTP"),
        }
    }
    taken
}

/// The service manager, or the lack of one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// The watchdog's interval, where it is to be fed.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names; what it says wrongly is in the log, and the daemon runs all the same.
    ///
    /// To be called in a tokio runtime.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(address) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let socket = connect(&address).map_err(|error| warn!(%error, "the service manager is told nothing")).ok();
        let watchdog = interval(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        let watchdog = watchdog.unwrap_or_else(|error| {
            warn!(%error, "the watchdog is not fed");
            None
        });
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    /// Tells that the daemon serves, and how it is.
    pub async fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status))).await;
    }

    /// Tells that the configuration is being read anew; [`ServiceManager::ready`] ends it.
    pub async fn reloading(&self) {
        // Of the clock that the service manager has too (CLOCK_MONOTONIC).
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}")).await;
    }

    /// Tells people how the daemon is, in a line.
    pub async fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", one_line(status))).await;
    }

    /// Tells that the daemon ends.
    pub async fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping").await;
    }

    /// Says how the daemon is, `well` for so many that are `watching`, and feeds the watchdog for as long as no thread hangs; never returns.
    pub async fn attend(
        &self,
        threads: &Registry,
        mut watching: watch::Receiver<usize>,
        well: impl Fn(usize) -> String,
    ) {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let every = self.watchdog.map(|interval| interval / LOOKS);
        if let Some(interval) = self.watchdog {
            let interval_ms = interval.as_millis() as u64;
            info!(interval_ms, "the service manager's watchdog is fed while all threads beat");
        }
        let mut beats = Beats::new(self.watchdog.unwrap_or_default() / HANGING, every.unwrap_or_default());
        let mut looks = tokio::time::interval(every.unwrap_or(HEARING));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // When the number of those who watch may be told, once it has changed.
        let (mut due, mut told) = (None, Instant::now());
        loop {
            tokio::select! {
                _ = looks.tick(), if every.is_some() => {
                    beats.handle_readings(Instant::now(), threads.readings());
                    while let Some(news) = beats.poll_news() {
                        self.tell_news(news).await;
                        due = Some(Instant::now());
                    }
                    if beats.all_well() {
                        self.tell("WATCHDOG=1").await;
                    }
                }
                Ok(()) = watching.changed() => due = due.or(Some(told + BETWEEN)),
                () = sleep_until(due.unwrap_or(told).into()), if due.is_some() && beats.all_well() => {
                    (due, told) = (None, Instant::now());
                    let count = *watching.borrow_and_update();
                    self.status(&well(count)).await;
                }
                // Without a watchdog, once the broadcast has ended.
                else => return std::future::pending().await,
            }
        }
    }

    async fn tell_news(&self, news: News) {
        match news {
            News::Hangs { name, busy } => {
                let busy_s = busy.as_secs_f64();
                error!(thread = %name, busy_s, "a thread hangs: the watchdog is not fed until it goes on");
                self.status(&format!("the thread {name} hangs; a restart is due")).await;
            }
            News::GoesOn { name } => warn!(thread = %name, "the thread that hung goes on"),
        }
    }

    async fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        match timeout(HEARING, socket.send(state.as_bytes())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(%error, state, "the service manager does not hear"),
            Err(_) => debug!(state, "the service manager is too busy to hear"),
        }
    }
}

/// A socket whose other end is the service manager.
fn connect(text: &OsStr) -> Result<UnixDatagram, ServiceError> {
    let address = address(text)?;
    let refused = |what| move |error| ServiceError::System { address: text.to_owned(), what, error };
    let socket = StdDatagram::unbound().map_err(refused("making a socket"))?;
    socket.connect_addr(&address).map_err(refused("connecting"))?;
    socket.set_nonblocking(true).map_err(refused("not blocking"))?;
    UnixDatagram::from_std(socket).map_err(refused("waiting for it"))
}

/// The address that a text means: a path, or after `@` an abstract name.
fn address(text: &OsStr) -> Result<SocketAddr, ServiceError> {
    let made = match text.as_bytes() {
        [b'/', _, ..] => SocketAddr::from_pathname(text),
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
        _ => return Err(ServiceError::Address(text.to_owned())),
    };
    made.map_err(|error| ServiceError::System { address: text.to_owned(), what: "reading it", error })
}

/// The watchdog's interval, where there is one for the process `own`.
fn interval(usec: Option<OsString>, pid: Option<OsString>, own: u32) -> Result<Option<Duration>, ServiceError> {
    let Some(usec) = usec else { return Ok(None) };
    if pid.is_some_and(|pid| pid.to_str().and_then(|pid| pid.parse().ok()) != Some(own)) {
        return Ok(None);
    }
    // Below a millisecond the daemon would do nothing else.
    let parsed = usec.to_str().and_then(|text| text.parse().ok()).filter(|usec| (1000..=u64::MAX / 2).contains(usec));
    parsed.map(|usec| Some(Duration::from_micros(usec))).ok_or(ServiceError::Interval(usec))
}

#[cfg(test)]
mod tests;
