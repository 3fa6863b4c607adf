#![allow(clippy::unwrap_used)]
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::signaling::server::tests::{config, connect, rest, start_with};
use crate::signaling::server::{ConnectionLimits, Deadlines, ServerConfig as HttpConfig};

const WALL: Duration = Duration::from_secs(1_790_000_000);
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: teacher\r\nConnection: close\r\n\r\n";

fn names() -> Vec<String> {
    ["localhost", "127.0.0.1"].map(str::to_owned).into()
}

/// A certificate and its key in files of their own.
fn files(directory: &TempDir, names: Vec<String>) -> TlsFiles {
    let pem = sign(names, WALL).unwrap();
    let at = pem.find("-----BEGIN PRIVATE KEY").unwrap();
    let files = TlsFiles { certificate: directory.path().join("cert.pem"), key: directory.path().join("key.pem") };
    fs::write(&files.certificate, &pem[..at]).unwrap();
    fs::write(&files.key, &pem[at..]).unwrap();
    files
}

/// A client that trusts the certificates of a file alone.
fn connector(trusted: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    CertificateDer::pem_file_iter(trusted).unwrap().for_each(|der| roots.add(der.unwrap()).unwrap());
    let provider = Arc::new(provider::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Asks whether the server is well, by TLS; gives its whole reply.
async fn ask(connector: &TlsConnector, address: SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
    stream.write_all(REQUEST).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

#[test]
fn files_that_are_none_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let good = files(&directory, names());
    let other = directory.path().join("other");
    let with_certificate = |content: &str| {
        fs::write(&other, content).unwrap();
        Tls::open(TlsFiles { certificate: other.clone(), key: good.key.clone() }).unwrap_err().to_string()
    };
    let with_key = |content: &str| {
        fs::write(&other, content).unwrap();
        Tls::open(TlsFiles { certificate: good.certificate.clone(), key: other.clone() }).unwrap_err().to_string()
    };
    for (error, expected) in [
        (with_certificate(""), "it has no certificate; PEM is expected"),
        (with_certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "other"),
        (with_key(""), "it has no key; PEM without a password is expected"),
        (with_key(&sign(names(), WALL).unwrap()), "it is not that of the certificate"),
    ] {
        assert!(error.contains(expected) && error.contains("other"), "{error}");
    }
    let missing = TlsFiles { key: directory.path().join("none"), ..good };
    assert!(Tls::open(missing).unwrap_err().to_string().contains("No such file"));
}

#[test]
fn a_certificate_of_our_own_is_made_once_and_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/tls.pem");
    let made = Tls::self_signed(&path, names(), WALL).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = Tls::self_signed(&path, vec!["elsewhere".to_owned()], WALL).unwrap();
    assert_eq!((made.fingerprint(), made.fingerprint().len()), (again.fingerprint(), 32 * 3 - 1));
    assert_ne!(Tls::passing(names(), WALL).unwrap().fingerprint(), made.fingerprint());
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    assert!(Tls::self_signed(&path, names(), WALL).unwrap_err().to_string().contains("a symbolic link"));
}

#[test]
fn names_of_the_certificate_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let tls =
        Tls::open(files(&directory, vec!["show.example.org".to_owned(), "*.class.example.org".to_owned()])).unwrap();
    for (host, expected) in [
        ("show.example.org", true),
        ("SHOW.example.org:8888", true),
        ("a.class.example.org", true),
        ("a.b.class.example.org", false),
        ("example.org", false),
        ("", false),
        ("[::1]:80", false),
    ] {
        assert_eq!(tls.is_for(host), expected, "{host}");
    }
}

#[tokio::test]
async fn pages_come_by_tls_and_a_renewed_certificate_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let files_now = files(&directory, names());
    let tls = Tls::open(files_now.clone()).unwrap();
    let deadlines = Deadlines { head: Duration::from_millis(300), ..Deadlines::default() };
    let running =
        start_with(HttpConfig { tls: Some(tls.clone()), ..config(ConnectionLimits::default(), deadlines) }, 8);
    // Each is a client of its own: one that comes again resumes its session, and is shown no certificate.
    let old = directory.path().join("old.pem");
    fs::copy(&files_now.certificate, &old).unwrap();
    // Somebody who never says hello holds nobody up, and is closed.
    let mut silent = connect(running.address).await;
    assert!(ask(&connector(&old), running.address).await.unwrap().starts_with("HTTP/1.1 200 OK"));
    assert_eq!(rest(&mut silent).await, "");
    let mut plain = connect(running.address).await;
    plain.write_all(REQUEST).await.unwrap();
    let told = rest(&mut plain).await;
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400") && body.contains("https"), "{told}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{told}");

    let (mut seen, before) = (state(&files_now), tls.fingerprint());
    tls.look(&files_now, &mut seen);
    assert_eq!(tls.fingerprint(), before, "nothing has changed");
    // A half of a pair is not used; once both are there, they are.
    let renewed = sign(names(), WALL).unwrap();
    let at = renewed.find("-----BEGIN PRIVATE KEY").unwrap();
    fs::write(&files_now.certificate, &renewed[..at]).unwrap();
    tls.look(&files_now, &mut seen);
    assert_eq!(tls.fingerprint(), before);
    fs::write(&files_now.key, &renewed[at..]).unwrap();
    tls.look(&files_now, &mut seen);
    assert_ne!(tls.fingerprint(), before);
    assert!(ask(&connector(&old), running.address).await.is_err(), "the former one is still shown");
    assert!(ask(&connector(&files_now.certificate), running.address).await.unwrap().starts_with("HTTP/1.1 200 OK"));
    running.stop.send(()).unwrap();
    running.task.await.unwrap();
}
