//! coturn, with a network in which only it can be reached by all.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{Output, Process};

/// How long coturn may take to listen.
const READY: Duration = Duration::from_secs(20);
/// How long one of its setup's commands may take.
const WITHIN: Duration = Duration::from_secs(20);

/// The user that coturn knows, where it has no shared secret.
pub const USER: &str = "class";
/// That user's password, and the shared secret.
pub const SECRET: &str = "north-wing-7";

/// A TURN server, with the files that its clients need. Dropping it kills it.
pub struct TurnServer {
    process: Process,
    /// What it prints.
    pub log: Output,
    files: Files,
    start: Start,
}

/// How it was started.
#[derive(Debug, Clone)]
struct Start {
    namespace: Option<String>,
    addresses: Vec<IpAddr>,
    port: u16,
    tls_port: u16,
    shared: bool,
}

struct Files {
    directory: TempDir,
}

impl Files {
    /// Makes a certificate for these addresses, signed by an authority of its own, and the file with the secret.
    fn make(addresses: &[IpAddr]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = Self { directory };
        let names: Vec<_> = addresses.iter().map(|address| format!("IP:{address}")).collect();
        std::fs::write(files.path("secret"), format!("{SECRET}\n")).unwrap();
        std::fs::write(files.path("names"), format!("subjectAltName={}\n", names.join(","))).unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let run = |args: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(args).current_dir(files.directory.path()).stdin(Stdio::null());
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let ca = ["req", "-x509", "-subj", "/CN=a test", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"];
        run(&[&ca[..], &key].concat());
        run(&[&["req", "-subj", "/CN=coturn", "-keyout", "tls.key", "-out", "tls.csr"][..], &key].concat());
        run(&[
            "x509",
            "-req",
            "-in",
            "tls.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "names",
            "-days",
            "2",
            "-out",
            "tls.pem",
        ]);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl TurnServer {
    /// Starts a server on all of `addresses` in a namespace; it relays from the last one. It knows a user, or where it is `shared`, a secret.
    pub fn start(namespace: Option<&str>, addresses: &[IpAddr], ports: (u16, u16), shared: bool) -> Self {
        let start = Start {
            namespace: namespace.map(str::to_owned),
            addresses: addresses.to_vec(),
            port: ports.0,
            tls_port: ports.1,
            shared,
        };
        Self::start_as(start, Files::make(addresses))
    }

    fn start_as(start: Start, files: Files) -> Self {
        let path = |name| files.path(name).display().to_string();
        let mut command = command_in(start.namespace.as_deref(), Path::new("turnserver"));
        let relay = start.addresses.last().unwrap().to_string();
        command.args(["-n", "--no-cli", "--realm", "a.test", "--log-file", "stdout", "--verbose", "-E", &relay]);
        for address in &start.addresses {
            command.args(["-L", &address.to_string()]);
        }
        command.args([
            "--listening-port",
            &start.port.to_string(),
            "--tls-listening-port",
            &start.tls_port.to_string(),
        ]);
        command.args(["--cert", &path("tls.pem"), "--pkey", &path("tls.key")]);
        command.args(["--pidfile", &path("pid"), "--userdb", &path("users.db")]);
        command.args(["--allow-loopback-peers", "--relay-threads", "1"]);
        if start.shared {
            command.args(["--use-auth-secret", "--static-auth-secret", SECRET]);
        } else {
            command.args(["--lt-cred-mech", "--user", &format!("{USER}:{SECRET}")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::spawn(&mut command);
        let log = Output::follow(process.child().stdout.take().unwrap());
        let to = SocketAddr::new(*start.addresses.last().unwrap(), start.port);
        let deadline = Instant::now() + READY;
        // Its log has no one line that says that it listens.
        while TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_err() {
            let ended = process.child().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "coturn does not listen at {to}:\n{}", log.tail(40));
            std::thread::yield_now();
        }
        Self { process, log, files, start }
    }

    /// The URL for the daemon, with the options that say how to sign in.
    pub fn url(&self, scheme: &str, transport: &str) -> String {
        let (port, files) = (if scheme == "turns" { self.start.tls_port } else { self.start.port }, &self.files);
        let secret = files.path("secret").display().to_string();
        let sign_in = if self.start.shared {
            format!("secret-file={secret}")
        } else {
            format!("user={USER}&password-file={secret}")
        };
        let ca = if scheme == "turns" { format!("&ca-file={}", files.path("ca.pem").display()) } else { String::new() };
        format!("{scheme}:{}:{port}?transport={transport}&{sign_in}{ca}", self.start.addresses[0])
    }

    /// Kills it as a power cut would, and starts another in its place once `between` is done.
    pub fn replace(mut self, between: impl FnOnce()) -> Self {
        self.process.kill();
        between();
        Self::start_as(self.start, self.files)
    }
}

/// Three networks of their own: the daemon's, the server's in the middle, the viewers'. TCP goes through the middle, UDP does not.
pub struct Networks {
    prefix: String,
}

impl Networks {
    /// Where the daemon is.
    pub const DAEMON: &str = "10.77.1.2";
    /// Where the server is, for the daemon.
    pub const MIDDLE: &str = "10.77.1.1";
    /// Where the server is, for viewers.
    pub const MIDDLE_FOR_VIEWERS: &str = "10.77.2.1";
    /// Where viewers are.
    pub const VIEWERS: &str = "10.77.2.2";

    /// Makes them; says why where that is not permitted.
    pub fn make() -> Result<Self, String> {
        let networks = Self { prefix: format!("laterna{}", std::process::id()) };
        let (daemon, middle, viewers) = (networks.daemon(), networks.middle(), networks.viewers());
        for namespace in [&daemon, &middle, &viewers] {
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        for (end, near, far, address, gateway) in [
            (&daemon, "to-daemon", "to-middle", Self::DAEMON, Self::MIDDLE),
            (&viewers, "to-viewers", "to-middle", Self::VIEWERS, Self::MIDDLE_FOR_VIEWERS),
        ] {
            ip(&["-n", &middle, "link", "add", near, "type", "veth", "peer", "name", far, "netns", end])?;
            ip(&["-n", &middle, "addr", "add", &format!("{gateway}/24"), "dev", near])?;
            ip(&["-n", end, "addr", "add", &format!("{address}/24"), "dev", far])?;
            ip(&["-n", &middle, "link", "set", near, "up"])?;
            ip(&["-n", end, "link", "set", far, "up"])?;
            ip(&["-n", end, "route", "add", "default", "via", gateway])?;
        }
        ip(&["netns", "exec", &middle, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        // What is for the middle itself is found before these.
        for (from, to) in [("to-daemon", "10.77.2.0/24"), ("to-viewers", "10.77.1.0/24")] {
            ip(&["-n", &middle, "rule", "add", "pref", "10", "iif", from, "ipproto", "udp", "to", to, "prohibit"])?;
        }
        Ok(networks)
    }

    /// Blocks TCP from viewers to a port of the daemon too.
    pub fn block_tcp(middle: &str, port: u16) {
        let port = port.to_string();
        let rule = ["-n", middle, "rule", "add", "pref", "11", "iif", "to-viewers", "ipproto", "tcp", "dport", &port];
        ip(&[&rule[..], &["to", "10.77.1.0/24", "prohibit"]].concat()).unwrap();
    }

    /// Adds an address beside [`Self::VIEWERS`]; to be called there. It is there already the second time.
    pub fn add_viewer() -> &'static str {
        const ADDRESS: &str = "10.77.2.3";
        ip(&["addr", "replace", &format!("{ADDRESS}/32"), "dev", "to-middle"]).unwrap();
        ADDRESS
    }

    /// The daemon's.
    pub fn daemon(&self) -> String {
        format!("{}a", self.prefix)
    }

    /// The server's.
    pub fn middle(&self) -> String {
        format!("{}m", self.prefix)
    }

    /// The viewers'.
    pub fn viewers(&self) -> String {
        format!("{}b", self.prefix)
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for namespace in [self.daemon(), self.middle(), self.viewers()] {
            // What was not made can't be taken away.
            let _ = ip(&["netns", "del", &namespace]);
        }
    }
}

/// A command that runs in a network namespace, where one is named.
pub fn command_in(namespace: Option<&str>, program: &Path) -> Command {
    let Some(namespace) = namespace else { return Command::new(program) };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

/// Runs `ip` with these arguments; says what it said where it fails.
pub fn ip(args: &[&str]) -> Result<(), String> {
    let mut process = Process::spawn(Command::new("ip").args(args).stdin(Stdio::null()).stderr(Stdio::piped()));
    let errors = Output::follow(process.child().stderr.take().unwrap());
    let status = process.wait(WITHIN);
    errors.wait(WITHIN, |_| false);
    if status.is_some_and(|status| status.success()) {
        Ok(())
    } else {
        Err(format!("ip {}: {}", args.join(" "), errors.tail(3)))
    }
}
