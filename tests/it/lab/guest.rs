//! The machine: commands in it, and what it says where a test failed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long a command in the guest may take, which is emulated.
const PATIENCE: Duration = Duration::from_secs(300);

/// The machine that `./dev lab` has booted.
pub struct Guest {
    run: PathBuf,
    began: Instant,
}

impl Guest {
    pub fn new() -> Self {
        Self { run: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/run"), began: Instant::now() }
    }

    /// Says what is done now.
    pub fn step(&self, what: &str) {
        println!("lab: {:4} s  {what}", self.began.elapsed().as_secs());
    }

    /// How a line for the guest's shell ends.
    fn ends(&self, user: &str, line: &str) -> Output {
        let limit = PATIENCE.as_secs().to_string();
        Command::new("timeout").arg(limit).arg(&self.run).args(["exec", "-u", user, line]).output().unwrap()
    }

    /// What a user's line prints; it must succeed.
    pub fn user(&self, user: &str, line: &str) -> String {
        let Output { status, stdout, stderr } = self.ends(user, line);
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "in the guest, as {user}: {line}\n{status}\n{out}{err}");
        out.trim_end().to_owned()
    }

    /// What root's line prints; it must succeed.
    pub fn root(&self, line: &str) -> String {
        self.user("root", line)
    }

    /// Awaits that a line of root's succeeds.
    pub fn awaits(&self, line: &str, within: Duration) {
        self.user_awaits("root", line, within);
    }

    /// Awaits that a user's line succeeds.
    pub fn user_awaits(&self, user: &str, line: &str, within: Duration) {
        assert!(!line.contains('\''), "{line}");
        self.user(user, &format!("timeout {} sh -c 'until {line}; do sleep 0.2; done'", within.as_secs()));
    }

    /// Reboots it.
    pub fn reboot(&self) {
        let limit = (PATIENCE * 2).as_secs().to_string();
        let output = Command::new("timeout").arg(limit).arg(&self.run).arg("reboot").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = "journalctl --no-pager -n 80 -o short-monotonic; systemctl --no-pager status laterna";
            println!("{}", String::from_utf8_lossy(&self.ends("root", lines).stdout));
        }
    }
}
