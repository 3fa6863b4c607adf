//! The daemon under test: the real binary in a state directory of its own.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::{Line, Output, Process};
use super::turn::command_in;

/// How long the daemon may take to be ready, and to end.
const READY: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(20);

/// How a daemon is started; the same one twice makes a restart.
#[derive(Clone)]
pub struct Setup {
    args: Vec<String>,
    display: Option<String>,
    sound_server: Option<String>,
    runtime: Option<PathBuf>,
    network: Option<String>,
    variables: Vec<(String, String)>,
    prefix: Vec<String>,
    state: Rc<TempDir>,
}

impl Setup {
    /// A daemon on loopback and free ports, with a fresh state directory and no display.
    pub fn new(args: &[&str]) -> Self {
        let state = Rc::new(tempfile::tempdir().unwrap());
        // As the daemon would make it: secrets are kept in it.
        std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            display: None,
            sound_server: None,
            runtime: None,
            network: None,
            variables: Vec::new(),
            prefix: Vec::new(),
            state,
        }
    }

    /// With this `$DISPLAY`.
    pub fn display(mut self, display: &str) -> Self {
        self.display = Some(display.to_owned());
        self
    }

    /// With this `$PULSE_SERVER`.
    pub fn sound_server(mut self, address: &str) -> Self {
        self.sound_server = Some(address.to_owned());
        self
    }

    /// With this `$XDG_RUNTIME_DIR`, where its control socket is then.
    pub fn runtime(mut self, directory: &Path) -> Self {
        self.runtime = Some(directory.to_owned());
        self
    }

    /// In this network namespace.
    pub fn in_network(mut self, name: &str) -> Self {
        self.network = Some(name.to_owned());
        self
    }

    /// With this variable in its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// By a program that becomes the daemon: these words stand before its own.
    pub fn by(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// With more arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// On the ports of `daemon`, for the one that follows it.
    pub fn on_ports_of(self, daemon: &Daemon) -> Self {
        let (http, media) = (daemon.http().to_string(), daemon.udp().to_string());
        self.args(&["--listen", &http, "--udp-port", &media])
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Where its control socket is, unless its arguments say otherwise.
    pub fn control(&self) -> PathBuf {
        let own = || self.state().join("control.sock");
        self.runtime.as_ref().map_or_else(own, |directory| directory.join("laterna/control.sock"))
    }

    /// Starts the daemon and awaits its ready line.
    pub fn start(&self) -> Daemon {
        let listens = self.args.iter().any(|arg| arg == "--listen");
        let media = self.args.iter().any(|arg| arg == "--udp-port");
        let mut command = self.command();
        command.args(if listens { &[][..] } else { &["--listen", "127.0.0.1:0"] });
        command.args(if media { &[][..] } else { &["--udp-port", "0"] });
        Daemon::start(self.clone(), &mut command)
    }

    /// Runs a daemon that is expected to end by itself, exactly with the arguments given.
    pub fn fail(&self) -> Failure {
        let mut process = Process::spawn(&mut self.command());
        let output = Output::follow(process.child().stdout.take().unwrap());
        let log = Output::follow(process.child().stderr.take().unwrap());
        let Some(status) = process.wait(END) else {
            panic!("laterna {:?} did not end by itself:\n{}", self.args, log.tail(30));
        };
        // Both streams end with the process: awaiting a line that never comes awaits their end.
        output.wait(END, |_| false);
        log.wait(END, |_| false);
        let text = |output: &Output| output.lines().into_iter().map(|line| line.text).collect();
        Failure { status, stdout: text(&output), stderr: text(&log) }
    }

    /// What starts it, exactly with the arguments given.
    pub fn command(&self) -> Command {
        self.command_of("run")
    }

    /// Another command that takes the flags of `run`.
    pub fn command_of(&self, name: &str) -> Command {
        let mut command = match self.prefix.split_first() {
            None => command_in(self.network.as_deref(), &binary()),
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).arg(binary());
                command
            }
        };
        command.arg(name).args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("LATERNA_") || name_text.starts_with("XDG_") {
                command.env_remove(&name);
            }
        }
        // The machine's own config file, if it has one, is none of the tests'.
        command.env("LATERNA_CONFIG", "/dev/null");
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env("RUST_BACKTRACE", "1");
        command.env("STATE_DIRECTORY", self.state()).env("HOME", self.state());
        match &self.runtime {
            Some(directory) => command.env("XDG_RUNTIME_DIR", directory),
            None => command.env("LATERNA_CONTROL", self.control()),
        };
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.envs(self.display.as_ref().map(|display| ("DISPLAY", display)));
        command.envs(self.sound_server.as_ref().map(|address| ("PULSE_SERVER", address)));
        command
    }
}

/// The daemon's binary.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_laterna"))
}

/// How a daemon ended that could not start.
#[derive(Debug)]
pub struct Failure {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: Vec<String>,
    /// What it wrote to stderr.
    pub stderr: Vec<String>,
}

/// A running daemon. Dropping it kills it, and fails the test if it has logged an ERROR.
pub struct Daemon {
    process: Process,
    setup: Setup,
    log: Output,
    output: Output,
    http: SocketAddr,
    udp: u16,
    /// What of its ERRORs a test has caused itself.
    forgiven: Vec<&'static str>,
}

impl Daemon {
    fn start(setup: Setup, command: &mut Command) -> Self {
        let mut process = Process::spawn(command);
        let output = Output::follow(process.child().stdout.take().unwrap());
        let log = Output::follow(process.child().stderr.take().unwrap());
        let Some(line) = output.wait(READY, |line| line.starts_with("listening ")) else {
            panic!("laterna {:?} was not ready within {READY:?}:\n{}", setup.args, log.tail(50));
        };
        let field =
            |name: &str| line.text.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_default().to_owned();
        let http = field("http=").split(',').next().unwrap_or_default().parse().unwrap();
        let udp = field("udp=").parse().unwrap();
        Self { process, setup, log, output, http, udp, forgiven: Vec::new() }
    }

    /// Where it listens for HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The port of its media socket.
    pub fn udp(&self) -> u16 {
        self.udp
    }

    /// The viewer page's address, code included, as the daemon printed it.
    pub fn page(&self) -> String {
        let line = self.output.wait(READY, |line| line.starts_with("open "));
        line.unwrap_or_else(|| panic!("no `open URL` line was printed")).text.trim_start_matches("open ").to_owned()
    }

    /// The code that viewers need, where they need one.
    pub fn code(&self) -> Option<String> {
        self.page().split_once('#').map(|(_, code)| code.to_owned())
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What it logs.
    pub fn log(&self) -> &Output {
        &self.log
    }

    /// Awaits a log line that contains all of `words`.
    pub fn logged(&self, words: &[&str], within: Duration) -> Line {
        self.logged_from(0, words, within)
    }

    /// Awaits a log line from `mark` on that contains all of `words`.
    pub fn logged_from(&self, mark: usize, words: &[&str], within: Duration) -> Line {
        let line = self.log.wait_from(mark, within, |line| words.iter().all(|word| line.contains(word)));
        line.unwrap_or_else(|| panic!("no log line with {words:?} within {within:?}:\n{}", self.log.tail(60)))
    }

    /// Awaits that so many log lines contain all of `words`.
    pub fn logged_times(&self, count: usize, words: &[&str], within: Duration) {
        let wanted = |line: &str| words.iter().all(|word| line.contains(word));
        if self.log.wait_nth(count, 0, within, wanted).is_none() {
            let found = self.count_logged(words);
            panic!("{found} of {count} log lines with {words:?} within {within:?}:\n{}", self.log.tail(60));
        }
    }

    /// How many log lines contain all of `words`.
    pub fn count_logged(&self, words: &[&str]) -> usize {
        self.log.lines().iter().filter(|line| words.iter().all(|word| line.text.contains(word))).count()
    }

    /// Takes an ERROR with these words as what the test itself has caused.
    pub fn forgive(&mut self, words: &'static str) {
        self.forgiven.push(words);
    }

    /// CPU time used so far.
    pub fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Awaits its end.
    pub fn ended(&mut self) -> ExitStatus {
        let status = self.process.wait(END);
        status.unwrap_or_else(|| panic!("the daemon did not end within {END:?}:\n{}", self.log.tail(30)))
    }

    /// Asks it to end in order, and awaits that it does.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert_eq!(status.code(), Some(0), "the end was not in order:\n{}", self.log.tail(30));
    }

    /// Kills it as a crash would.
    pub fn crash(mut self) -> Setup {
        self.process.kill();
        self.setup.clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill();
        self.log.wait(END, |_| false);
        if std::thread::panicking() {
            eprintln!("the daemon's log ends with:\n{}", self.log.tail(80));
            return;
        }
        let is_forgiven = |line: &Line| self.forgiven.iter().any(|words| line.text.contains(words));
        let is_bug =
            |line: &Line| (line.text.contains("ERROR") || line.text.contains("panicked at")) && !is_forgiven(line);
        let bugs: Vec<_> = self.log.lines().into_iter().filter(is_bug).map(|line| line.text).collect();
        assert!(bugs.is_empty(), "the daemon logged bugs of its own: {bugs:#?}");
    }
}
