//! The receiver's process as the benchmark steers it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::process::{Output, Process};

/// How long any command may take.
const MOST_PATIENCE: Duration = Duration::from_secs(90);

/// A receiver that runs.
pub struct Child {
    process: Process,
    input: ChildStdin,
    output: Output,
    read: usize,
}

/// How a join went, in milliseconds from each offer on.
#[derive(Debug, Deserialize)]
pub struct Joined {
    /// To the connection.
    pub connected: Vec<f64>,
    /// To the first whole picture.
    pub pictured: Vec<f64>,
    /// Why others failed.
    pub failed: Vec<String>,
}

/// A picture: when it was captured (s since the Unix epoch), when it had arrived (ms later), the bytes of its datagrams.
#[derive(Debug, Clone, Deserialize)]
pub struct Picture(pub f64, pub f64, pub Vec<u16>);

/// What was counted in a window.
#[derive(Debug, Deserialize)]
pub struct Taken {
    /// Media packets of all viewers.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sequence numbers that never came.
    pub missing: u64,
    /// Packets of sound that came.
    pub sound: u64,
    /// Retransmissions that came.
    pub repeats: u64,
    /// Datagrams that the viewers' sockets lost.
    pub socket_lost: u64,
    /// Why viewers are over.
    pub failed: Vec<String>,
    /// Datagrams that came to plain sockets since the start, and that these lost.
    pub sunk: u64,
    /// See [`Taken::sunk`].
    pub sink_lost: u64,
    /// The pictures of the viewers that were asked about.
    pub pictures: Vec<Vec<Picture>>,
}

impl Child {
    /// Starts a receiver for viewers of a daemon.
    pub fn of(daemon: &Daemon, sound: bool) -> Self {
        Self::start(daemon.http(), sound, daemon.code())
    }

    /// Starts a receiver for viewers of this server.
    pub fn start(server: SocketAddr, sound: bool, code: Option<String>) -> Self {
        let sound = if sound { "sound" } else { "silent" };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg(super::RECEIVER)
            .arg(server.to_string())
            .arg(sound)
            .args(code)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let input = process.child().stdin.take().unwrap();
        let output = Output::follow(process.child().stdout.take().unwrap());
        Self { process, input, output, read: 0 }
    }

    /// Lets so many viewers more join at once and awaits their pictures.
    pub fn join(&mut self, count: usize) -> Joined {
        let joined: Joined = self.ask(&format!("join {count}"));
        assert!(
            joined.pictured.len() == count,
            "{} of {count} viewers see nothing: {:?}",
            count - joined.pictured.len(),
            joined.failed
        );
        joined
    }

    /// Lets all but the first so many leave.
    pub fn leave(&mut self, kept: usize) {
        self.ask::<Value>(&format!("leave {kept}"));
    }

    /// Begins to count.
    pub fn mark(&mut self) {
        self.ask::<Value>("mark");
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        self.ask::<Value>(&format!("run {}", time.as_millis()));
    }

    /// What was counted since the mark, with the pictures of the first so many viewers.
    pub fn take(&mut self, watched: usize) -> Taken {
        let taken: Taken = self.ask(&format!("take {watched}"));
        assert!(taken.failed.is_empty(), "viewers are over: {:?}", taken.failed);
        taken
    }

    /// Opens sockets that only count; gives their ports.
    pub fn sink(&mut self, count: usize) -> Vec<u16> {
        self.ask(&format!("sink {count}"))
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    fn ask<T: DeserializeOwned>(&mut self, command: &str) -> T {
        writeln!(self.input, "{command}").unwrap();
        let line = self.output.wait_from(self.read, MOST_PATIENCE, |_| true);
        let line = line.unwrap_or_else(|| panic!("the receiver did not answer {command:?}"));
        self.read += 1;
        serde_json::from_str(&line.text).unwrap_or_else(|error| panic!("{command}: {error}: {}", line.text))
    }
}
