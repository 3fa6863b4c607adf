//! Requests of the embedded server as its cores read them: WHEP's and the room's heads and bodies, the names that are answered; and what a WHIP server
//! says in `Link`.
//!
//! The input is a request: `METHOD path?query`, headers a line each, an empty line, the body.

use std::net::IpAddr;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use laterna::id::SessionId;
use laterna::signaling::access::{Access, Code, OwnNames};
use laterna::signaling::room::wire;
use laterna::signaling::server::Reply;
use laterna::signaling::whep::{self, Ask};
use laterna::signaling::whip::link;

use super::input::start;

/// The access code of the daemon here.
pub const CODE: &str = "abcdefghij";

/// A request as HTTP has brought it.
pub struct Heard<'a> {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: &'a [u8],
}

/// Reads the text of a request; `None` where no server would hear of it.
pub fn heard(data: &[u8]) -> Option<Heard<'_>> {
    let mut rest = data;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    };
    let first = std::str::from_utf8(line()?).ok()?;
    let (method, target) = first.split_once(' ')?;
    let uri: hyper::Uri = target.parse().ok()?;
    let mut headers = HeaderMap::new();
    while let Some(line) = line().filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (HeaderName::from_bytes(&line[..colon]).ok()?, line[colon + 1..].trim_ascii());
        headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default().to_owned());
    Some(Heard { method: method.parse().ok()?, path, query, headers, body: rest })
}

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    names(text.lines().next().unwrap_or_default());
    links(&text);
    let Some(request) = heard(data) else { return };
    whep_reads(&request, &mut Access::open(), true);
    whep_reads(&request, &mut Access::with_code(Code::parse(CODE).unwrap()), false);
    room_reads(&request);
}

fn whep_reads(request: &Heard<'_>, access: &mut Access, is_open: bool) {
    if !whep::owns(&request.path) {
        return;
    }
    let from = IpAddr::from([192, 0, 2, 7]);
    let links = || vec!["<stun:h:3478>; rel=\"ice-server\"".to_owned()];
    let wanted = whep::read_head(&request.method, &request.path, &request.headers, access, from, start(), links);
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(reply) => return assert_reply(&reply, request),
    };
    let bearer = request.headers.get(header::AUTHORIZATION);
    let has_code = bearer.is_some_and(|value| {
        value
            .to_str()
            .is_ok_and(|value| Code::parse(CODE).unwrap().matches(value.split(' ').next_back().unwrap_or_default()))
    });
    let names_a_session = !matches!(wanted, whep::Wanted::Offer(_));
    assert!(is_open || names_a_session || has_code, "let in without the code");
    let session = |id: &SessionId| assert_eq!(request.path, format!("/whep/{id}"));
    match whep::read_body(wanted, request.body) {
        Ok(Ask::Offer(sdp, _)) => assert_eq!(sdp.as_bytes(), request.body),
        Ok(Ask::Trickle(id, trickle)) => {
            session(&id);
            assert!(trickle.end || !trickle.candidates.is_empty());
            assert!(trickle.candidates.len() <= 64);
        }
        Ok(Ask::Restart(id, trickle)) => {
            session(&id);
            assert!(trickle.ufrag.is_some() && trickle.password.is_some());
            let reply = whep::restarted(&trickle);
            assert_reply(&reply, request);
        }
        Ok(Ask::Leave(id)) => session(&id),
        Err(reply) => assert_reply(&reply, request),
    }
}

fn room_reads(request: &Heard<'_>) {
    let Some(target) = wire::target(&request.path) else { return };
    assert!(target.code.is_none_or(|code| !wire::redacted(&request.path).contains(code) || code.len() < 2));
    match wire::read(&request.method, target.endpoint, &request.query, &request.headers) {
        Ok(wire::Wanted::Post { content_type, .. }) => assert!(content_type.len() <= 256),
        Ok(wire::Wanted::SignIn(name)) => assert_eq!(name, request.query),
        Ok(_) => {}
        Err(reply) => {
            assert_reply(&reply, request);
            let length = reply.headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
            assert_eq!(length, Some(reply.body.len().to_string().as_bytes()));
        }
    }
}

/// A reply that is made by a head or body alone grants nothing, and is small whatever was asked.
fn assert_reply(reply: &Reply, request: &Heard<'_>) {
    let is_harmless = reply.status.is_client_error()
        || reply.status == StatusCode::INTERNAL_SERVER_ERROR
        || request.method == Method::OPTIONS
        || matches!(reply.status, StatusCode::OK | StatusCode::NO_CONTENT);
    assert!(is_harmless, "{} to {} {}", reply.status, request.method, request.path);
    assert!(reply.body.len() <= 4096 && reply.headers.len() <= 32);
    if reply.status.is_client_error() {
        let text = std::str::from_utf8(&reply.body).unwrap();
        let sentence = text.strip_suffix('\n').unwrap_or(text);
        super::input::assert_one_line(sentence);
    }
}

/// A name that somebody else may own is never answered.
fn names(host: &str) {
    let names = OwnNames::new("desk.school.example", ["tv.example"]);
    if !names.allows(host) {
        return;
    }
    let name = host.trim().to_ascii_lowercase();
    let is_known = ["localhost", "desk", "desk.local", "desk.school.example", "tv.example"];
    let is_known = is_known.iter().any(|known| name.starts_with(known));
    assert!(
        is_known || name.starts_with(['[']) || name.starts_with(|c: char| c.is_ascii_digit()),
        "{host:?} is answered"
    );
}

fn links(text: &str) {
    let servers = link::ice_servers(text.lines());
    assert!(servers.len() <= 16);
    for server in servers {
        assert!(text.contains(&server.url) && server.url.contains(':'));
    }
}
