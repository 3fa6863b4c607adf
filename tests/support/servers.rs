//! Servers that others wrote, run by node or Python: small scripts in `tests/servers` start them, and say their port in the first line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Output, Process};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs; dropping it kills it.
pub struct NodeServer {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    /// What it prints.
    pub output: Output,
    process: Process,
}

impl NodeServer {
    /// Starts `tests/servers/{script}` with these arguments; `0` as a port takes any.
    pub fn start(script: &str, arguments: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = root.join("tests/servers").join(script);
        // The system's own: aiortc is a package of Debian's.
        let is_python = script.extension().is_some_and(|extension| extension == "py");
        let mut command = Command::new(if is_python { "/usr/bin/python3" } else { "node" });
        command.arg(&script).args(arguments).env("NODE_PATH", modules(root)).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let output = Output::follow(process.child().stdout.take().unwrap());
        let line = output.wait_from(0, PATIENCE, |_| true);
        let line = line.unwrap_or_else(|| panic!("{} says nothing", script.display()));
        let port = line.text.trim().parse().unwrap_or_else(|_| panic!("{:?} where a port is expected", line.text));
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), output, process }
    }

    /// Kills it as a power cut would; another may be started at its port.
    pub fn kill(mut self) {
        let _ = self.process.child().kill();
        let _ = self.process.child().wait();
    }
}

/// Where `./dev test` has installed the servers.
fn modules(root: &Path) -> PathBuf {
    let servers = std::env::var_os("LATERNA_TEST_SERVERS").map_or_else(|| root.join("target/servers"), PathBuf::from);
    servers.join("node_modules")
}
