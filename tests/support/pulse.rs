//! A PulseAudio server of one test: a null sink and perhaps microphones, in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::process::{Output, Process};
use super::tone;

const DEADLINE: Duration = Duration::from_secs(20);

/// A running server; ends when dropped.
pub struct Pulse {
    process: Process,
    modules: Vec<String>,
    home: tempfile::TempDir,
}

impl Pulse {
    /// Starts a server whose only sink is called `speakers`; `modules` are loaded after that.
    pub fn start(modules: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let modules: Vec<String> = modules.iter().map(|module| (*module).to_owned()).collect();
        let process = spawn(&home, &modules);
        Self { process, modules, home }
    }

    /// The value for `$PULSE_SERVER`.
    pub fn address(&self) -> String {
        format!("unix:{}", socket(&self.home).display())
    }

    /// A home directory in which ALSA's default microphone is what this server's default sink plays.
    pub fn home_with_alsa(&self) -> &Path {
        let server = self.address();
        let device = format!("{{ type pulse server \"{server}\" device speakers.monitor }}");
        std::fs::write(self.home.path().join(".asoundrc"), format!("pcm.!default {device}\n")).unwrap();
        self.home.path()
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same address.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(&self.home, &self.modules);
    }

    /// Stops the server without ending it, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        self.process.signal(if frozen { Signal::STOP } else { Signal::CONT });
    }

    /// Plays a sine into the default sink until the player is dropped, for `seconds` at most.
    pub fn play(&self, frequency: f64, level: f64, seconds: u32) -> Process {
        let file = self.home.path().join("tone.raw");
        let samples = tone::sine(frequency, level, seconds);
        std::fs::write(&file, samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        let mut command = self.client("pacat");
        command.args(["--playback", "--raw", "--rate=48000", "--channels=2", "--format=s16le"]).arg(file);
        Process::spawn(&mut command)
    }

    /// Runs pactl to its end.
    pub fn control(&self, arguments: &[&str]) {
        let mut process = Process::spawn(self.client("pactl").args(arguments));
        let status = process.wait(DEADLINE).unwrap_or_else(|| panic!("pactl {arguments:?} does not end"));
        assert!(status.success(), "pactl {arguments:?}: {status}");
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PULSE_SERVER", self.address()).env("HOME", self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

fn socket(home: &tempfile::TempDir) -> PathBuf {
    home.path().join("native")
}

fn spawn(home: &tempfile::TempDir, modules: &[String]) -> Process {
    let socket = socket(home);
    // A killed server leaves its socket behind.
    let _ = std::fs::remove_file(&socket);
    let mut command = Command::new("pulseaudio");
    command.args(["-n", "--daemonize=no", "--system=false", "--use-pid-file=no", "--exit-idle-time=-1"]);
    command.args(["--log-level=info", "--log-target=stderr", "--realtime=no", "--high-priority=no"]);
    command.args(["-L", &format!("module-native-protocol-unix auth-anonymous=1 socket={}", socket.display())]);
    command.args(["-L", "module-null-sink sink_name=speakers rate=48000"]);
    command.args(modules.iter().flat_map(|module| ["-L", module]));
    command.env("HOME", home.path()).env("XDG_RUNTIME_DIR", home.path()).env("PULSE_RUNTIME_PATH", home.path());
    command.env_remove("PULSE_SERVER").env_remove("DISPLAY").env_remove("XDG_CONFIG_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let log = Output::follow(process.child().stderr.take().unwrap());
    let ready = log.wait(DEADLINE, |line| line.contains("Daemon startup complete"));
    assert!(ready.is_some(), "PulseAudio did not start:\n{}", log.tail(20));
    process
}
