//! A raw HTTP/1.1 client: sends exactly the bytes it is told, also wrong ones.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(20);

/// An answer, read to its end.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, values as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Sends one request with `Connection: close` and reads the answer.
pub fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    if !body.is_empty() || method == "POST" || method == "PATCH" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let mut stream = TcpStream::connect_timeout(&to, WITHIN).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    stream.set_write_timeout(Some(WITHIN)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // The server may answer and close before it has read a body that is too long: what counts is the answer.
    let _ = stream.write_all(body);
    read(&mut stream)
}

/// Posts an offer to `/whep`.
pub fn offer(to: SocketAddr, code: Option<&str>, sdp: &[u8]) -> Response {
    let bearer = code.map(|code| format!("Bearer {code}"));
    let mut headers = vec![("Content-Type", "application/sdp")];
    headers.extend(bearer.as_deref().map(|value| ("Authorization", value)));
    request(to, "POST", "/whep", &headers, sdp)
}

/// Reads a whole answer; a connection reset after the answer counts as its end.
pub fn read(stream: &mut TcpStream) -> Response {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Response {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Response::default() };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    Response {
        status: status.unwrap_or_default(),
        headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect(),
        body: body.to_owned(),
    }
}
