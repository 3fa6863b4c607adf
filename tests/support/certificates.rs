//! Certificates for servers on loopback, signed by an authority of the test's own, which nobody trusts unasked.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// An authority, and one server's certificate of it; the files go when it is dropped.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes them by `openssl`.
    pub fn make() -> Self {
        let made = Self { directory: tempfile::tempdir().unwrap() };
        made.openssl(&["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=an authority of a test"]);
        let signed = ["-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=a server of a test"];
        let of = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
        made.openssl(&[&signed[..], &of, &["-addext", "basicConstraints=critical,CA:FALSE"]].concat());
        made
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.pem")
    }

    /// The server's key.
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("server.key")
    }

    fn openssl(&self, args: &[&str]) {
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]);
        command.args(args).current_dir(self.directory.path()).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|error| panic!("openssl: {error}"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
