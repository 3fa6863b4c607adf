//! A web server of a few fixed files, for pages that are not the daemon's own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(20);
/// The most that a request's head may have.
const MOST_BYTES: usize = 16 << 10;

/// One file: its path, its type and what is in it.
pub type File = (&'static str, &'static str, &'static str);

/// A running server on loopback; its port makes it an origin of its own. Ends when dropped.
pub struct Files {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Files {
    /// Serves these files, and nothing else.
    pub fn serve(files: &'static [File]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&ended);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if has_ended.load(Ordering::Acquire) {
                    break;
                }
                // Browsers open connections that they never use: each has its own thread.
                std::thread::spawn(move || answer(stream, files));
            }
        });
        Self { address, ended }
    }

    /// The address of a file.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread that accepts; it may be gone already.
        let _ = TcpStream::connect_timeout(&self.address, IDLE);
    }
}

/// Answers one request and closes; whoever is not understood is left alone.
fn answer(mut stream: TcpStream, files: &[File]) {
    stream.set_read_timeout(Some(IDLE)).unwrap();
    let mut head = Vec::new();
    let mut chunk = [0; 2048];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 && head.len() < MOST_BYTES => head.extend_from_slice(&chunk[..count]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let (status, kind, body) = match files.iter().find(|(name, ..)| *name == path) {
        Some((_, kind, body)) => ("200 OK", *kind, *body),
        None => ("404 Not Found", "text/plain", ""),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n");
    // A browser that has gone away needs no answer.
    let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
}
