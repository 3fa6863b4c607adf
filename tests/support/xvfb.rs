//! A virtual X server of one screen.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Output, Process};

/// A running Xvfb; ends when dropped.
pub struct Xvfb {
    process: Process,
    number: u32,
    width: u16,
    height: u16,
}

impl Xvfb {
    /// Starts a server with one screen of this size and 24 bits of colour, on a display number of its choice.
    pub fn start(width: u16, height: u16) -> Self {
        let (process, number) = spawn(None, width, height);
        Self { process, number, width, height }
    }

    /// The value for `$DISPLAY`.
    pub fn display(&self) -> String {
        format!(":{}", self.number)
    }

    /// The size of the screen.
    pub fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
        // A killed server leaves its lock and socket behind; the next one removes a stale lock by itself.
    }

    /// Starts a new server on the same display, perhaps with another size.
    pub fn restart(&mut self, width: u16, height: u16) {
        self.process.kill();
        let (process, number) = spawn(Some(self.number), width, height);
        assert_eq!(number, self.number, "Xvfb took another display than the one asked for");
        (self.process, self.width, self.height) = (process, width, height);
    }

    /// CPU time that the server has used.
    pub fn cpu(&self) -> Duration {
        self.process.cpu()
    }
}

fn spawn(number: Option<u32>, width: u16, height: u16) -> (Process, u32) {
    let mut command = Command::new("Xvfb");
    command.args(number.map(|number| format!(":{number}")));
    command.args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-screen", "0"]);
    command.arg(format!("{width}x{height}x24")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let errors = Output::follow(process.child().stderr.take().unwrap());
    let output = Output::follow(process.child().stdout.take().unwrap());
    let ready = output.wait(Duration::from_secs(20), |line| line.trim().parse::<u32>().is_ok());
    let line = ready.unwrap_or_else(|| panic!("Xvfb did not start:\n{}", errors.tail(20)));
    (process, line.text.trim().parse().unwrap())
}
