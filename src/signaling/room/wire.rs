//! The room's requests and replies as they are in HTTP, byte for byte those of libwebrtc's `peerconnection_server`.
//!
//! Owns what a request's head asks for ([`read`]) and each reply's status line and headers, in order. It never decides who may do what. Beyond the
//! original, `Pragma` is exposed to pages of other origins, and what it leaves hanging is refused with 4xx.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};

use super::{Message, RoomRefusal, Sender, WaitEnd};
use crate::id::PeerId;
use crate::signaling::access::{PassId, Verdict};
use crate::signaling::server::Reply;

/// Before the access code in a path.
const CODE_PREFIX: &str = "/k/";
/// The most bytes of a message's type that are passed on.
const CONTENT_TYPE_BYTES: usize = 256;

/// One of the protocol's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/sign_in`.
    SignIn,
    /// `/wait`.
    Wait,
    /// `/message`.
    Message,
    /// `/sign_out`.
    SignOut,
    /// The address that members are given, which ends with the access code.
    Base,
    /// None of them, but after an access code.
    Other,
}

/// A path that is the room's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The access code, where the path has one.
    pub code: Option<&'a str>,
    /// What is addressed.
    pub endpoint: Endpoint,
}

/// What a request asks for, by its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// What a page of another origin may do.
    Preflight,
    /// To come in under this name.
    SignIn(String),
    /// To wait for the next message.
    Wait(PeerId),
    /// To leave.
    SignOut(PeerId),
    /// To pass the body on.
    Post {
        /// From whom.
        from: PeerId,
        /// To whom.
        to: PeerId,
        /// The body's type, as written.
        content_type: Bytes,
    },
}

/// Reads a path; `None` where it is not the room's.
pub fn target(path: &str) -> Option<Target<'_>> {
    let (code, rest) = match path.strip_prefix(CODE_PREFIX) {
        Some(after) => {
            let end = after.find('/').unwrap_or(after.len());
            (Some(&after[..end]), &after[end..])
        }
        None => (None, path),
    };
    let endpoint = match rest {
        "/sign_in" => Endpoint::SignIn,
        "/wait" => Endpoint::Wait,
        "/message" => Endpoint::Message,
        "/sign_out" => Endpoint::SignOut,
        "" | "/" if code.is_some() => Endpoint::Base,
        _ if code.is_some() => Endpoint::Other,
        _ => return None,
    };
    Some(Target { code, endpoint })
}

/// The path as it may be logged: without the code.
pub fn redacted(path: &str) -> &str {
    if path.starts_with(CODE_PREFIX) { "/k/…" } else { path }
}

/// Decides by a request's head what it asks for, or replies to it at once; `query` is raw.
///
/// # Errors
/// The reply, where no body can change it.
pub fn read(method: &Method, endpoint: Endpoint, query: &str, headers: &HeaderMap) -> Result<Wanted, Box<Reply>> {
    if method == Method::OPTIONS {
        return Ok(Wanted::Preflight);
    }
    let expected = if endpoint == Endpoint::Message { Method::POST } else { Method::GET };
    if *method != expected {
        let is_lost = matches!(endpoint, Endpoint::Base | Endpoint::Other) && *method == Method::POST;
        return Err(Box::new(if is_lost { gone() } else { method_not_allowed(endpoint) }));
    }
    match endpoint {
        Endpoint::SignIn => Ok(Wanted::SignIn(query.to_owned())),
        Endpoint::Wait => parameter(query, "peer_id").map(Wanted::Wait).ok_or_else(|| Box::new(sorry())),
        Endpoint::SignOut => parameter(query, "peer_id").map(Wanted::SignOut).ok_or_else(|| Box::new(sorry())),
        Endpoint::Base => Err(Box::new(about())),
        Endpoint::Other => Err(Box::new(sorry())),
        Endpoint::Message => {
            let has_length = headers.contains_key(header::CONTENT_LENGTH);
            if !has_length && !headers.contains_key(header::TRANSFER_ENCODING) {
                let sentence = "the message has no length; send Content-Length";
                return Err(Box::new(refused(StatusCode::LENGTH_REQUIRED, sentence)));
            }
            let Some(content_type) = headers.get(header::CONTENT_TYPE).filter(|v| v.len() <= CONTENT_TYPE_BYTES) else {
                let sentence = "the message has no type; send Content-Type: text/plain";
                return Err(Box::new(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence)));
            };
            match (parameter(query, "peer_id"), parameter(query, "to")) {
                (Some(from), Some(to)) => {
                    Ok(Wanted::Post { from, to, content_type: Bytes::copy_from_slice(content_type.as_bytes()) })
                }
                _ => Err(Box::new(gone())),
            }
        }
    }
}

/// The number that `query` gives to `name`.
fn parameter(query: &str, name: &str) -> Option<PeerId> {
    let value = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))?.1;
    let is_plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| value.parse().ok().map(PeerId)).flatten()
}

/// The reply to who came in: its id and whom it sees.
pub fn added(id: PeerId, list: Bytes) -> Reply {
    make(StatusCode::OK, Some(plain()), Some(id), list).with_reason(b"Added")
}

/// The reply to who opens the members' address itself, such as a browser.
fn about() -> Reply {
    let sentence = "This address is for programs that meet here by libwebrtc's peerconnection protocol: give it to them as their server's.\n\
                    To watch in a browser, open the page at / of this server: http://HOST:PORT/#CODE\n";
    make(StatusCode::OK, Some(plain()), None, Bytes::from_static(sentence.as_bytes()))
}

/// The reply to a wait of `own`.
pub fn delivered(own: PeerId, message: Message) -> Reply {
    let from = if let Sender::Member(sender) = message.sender { sender } else { own };
    // What came in a header is fit to leave in one; but nobody's message becomes a page of this server.
    let content_type = HeaderValue::from_maybe_shared(message.content_type).ok().filter(|value| !is_a_page(value));
    let content_type = content_type.unwrap_or_else(plain);
    make(StatusCode::OK, Some(content_type), Some(from), message.body)
}

/// Whether a browser would run what is in a reply of this type.
fn is_a_page(content_type: &HeaderValue) -> bool {
    let text = String::from_utf8_lossy(content_type.as_bytes()).to_ascii_lowercase();
    ["html", "xml", "svg", "script", "pdf"].iter().any(|kind| text.contains(kind))
}

/// The reply to what was done.
pub fn done() -> Reply {
    make(StatusCode::OK, Some(plain()), None, Bytes::new())
}

/// The reply to a page of another origin that asks what it may do.
pub fn preflight(headers: &HeaderMap) -> Reply {
    let reply = make(StatusCode::OK, None, None, Bytes::new());
    match headers.get("access-control-request-private-network") {
        Some(_) => reply
            .with(HeaderName::from_static("access-control-allow-private-network"), HeaderValue::from_static("true")),
        None => reply,
    }
}

/// The reply to a message whose sender or target is not there.
pub fn gone() -> Reply {
    let body = Bytes::from_static(b"Peer most likely gone.");
    make(StatusCode::INTERNAL_SERVER_ERROR, Some(plain()), None, body).with_reason(b"Error")
}

/// The reply to everything that the original doesn't know, such as an id.
pub fn sorry() -> Reply {
    let body = Bytes::from_static(b"<html><body>Sorry, not yet implemented</body></html>");
    let html = HeaderValue::from_static("text/html");
    make(StatusCode::INTERNAL_SERVER_ERROR, Some(html), None, body).with_reason(b"Sorry")
}

/// The reply where no place is left.
pub fn full(refusal: RoomRefusal) -> Reply {
    refused(StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string()).with(header::RETRY_AFTER, HeaderValue::from(5))
}

/// The reply to a wait that ends without a message.
pub fn ended(why: WaitEnd) -> Reply {
    let sentence = match why {
        WaitEnd::Replaced => "a later wait of this member took the place of this one",
        WaitEnd::SignedOut => "this member has signed out",
    };
    refused(StatusCode::CONFLICT, sentence)
}

/// The reply where the daemon stops.
pub fn closing() -> Reply {
    refused(StatusCode::SERVICE_UNAVAILABLE, "the broadcaster is shutting down")
        .with(header::RETRY_AFTER, HeaderValue::from(2))
}

/// The reply to a message without a body.
pub fn empty_body() -> Reply {
    refused(StatusCode::BAD_REQUEST, "the message is empty")
}

/// Lets whoever has the code go on.
///
/// # Errors
/// The reply to who hasn't.
pub fn admit(verdict: Verdict) -> Result<Option<PassId>, Box<Reply>> {
    let reply = match verdict {
        Verdict::Granted(pass) => return Ok(pass),
        Verdict::Missing => refused(
            StatusCode::UNAUTHORIZED,
            "an access code is needed: the server's address is http://HOST:PORT/k/CODE; ask the broadcaster for it",
        ),
        Verdict::Wrong => refused(
            StatusCode::UNAUTHORIZED,
            "the access code is wrong, revoked or expired; ask the broadcaster for the right one",
        ),
        Verdict::TooMany { retry_after } => refused(
            StatusCode::TOO_MANY_REQUESTS,
            "the access code is wrong, and so were too many before it; wait before the next try",
        )
        .retry_after(retry_after),
    };
    Err(Box::new(reply))
}

/// Gives a reply of the server itself the form of this protocol's.
pub fn foreign(reply: Reply) -> Reply {
    let content_type = reply.headers.get(header::CONTENT_TYPE).cloned();
    make(reply.status, content_type, None, reply.body)
}

fn method_not_allowed(endpoint: Endpoint) -> Reply {
    let allow = if endpoint == Endpoint::Message { "POST, OPTIONS" } else { "GET, OPTIONS" };
    refused(StatusCode::METHOD_NOT_ALLOWED, &format!("this address takes {allow} only"))
        .with(header::ALLOW, HeaderValue::from_static(allow))
}

fn refused(status: StatusCode, sentence: &str) -> Reply {
    make(status, Some(plain()), None, Bytes::from(format!("{sentence}\n")))
}

fn plain() -> HeaderValue {
    HeaderValue::from_static("text/plain")
}

/// Makes a reply with the original's headers, in the original's order.
fn make(status: StatusCode, content_type: Option<HeaderValue>, pragma: Option<PeerId>, body: Bytes) -> Reply {
    let fixed = HeaderValue::from_static;
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::SERVER, fixed("PeerConnectionTestServer/0.1"));
    headers.insert(header::CACHE_CONTROL, fixed("no-cache"));
    headers.insert(header::CONNECTION, fixed("close"));
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Some(id) = pragma {
        headers.insert(header::PRAGMA, HeaderValue::from(id.0));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, fixed("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, fixed("true"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, fixed("POST, GET, OPTIONS"));
    headers
        .insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fixed("Content-Type, Content-Length, Connection, Cache-Control"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, fixed("Content-Length, Pragma"));
    Reply { headers, ..Reply::empty(status).with_body(body) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn paths_are_read_with_and_without_a_code() {
        let at = |path| target(path).map(|target| (target.code, target.endpoint));
        assert_eq!(at("/sign_in"), Some((None, Endpoint::SignIn)));
        assert_eq!(at("/k/abc/wait"), Some((Some("abc"), Endpoint::Wait)));
        assert_eq!(at("/k//message"), Some((Some(""), Endpoint::Message)));
        assert_eq!(at("/k/abc"), Some((Some("abc"), Endpoint::Base)));
        assert_eq!(at("/k/abc/"), Some((Some("abc"), Endpoint::Base)));
        assert_eq!(at("/k/abc//"), Some((Some("abc"), Endpoint::Other)));
        assert_eq!(at("/k/abc/whep"), Some((Some("abc"), Endpoint::Other)));
        for others in ["/", "/k", "/wait/", "/Wait", "/whep"] {
            assert_eq!(at(others), None, "{others}");
        }
        assert_eq!((redacted("/k/abc/wait"), redacted("/wait")), ("/k/…", "/wait"));
    }

    #[test]
    fn requests_are_read_in_any_order_of_their_parameters() {
        let typed = headers(&[("content-type", "text/plain"), ("content-length", "1")]);
        let post = |query| read(&Method::POST, Endpoint::Message, query, &typed);
        let (from, to, content_type) = (PeerId(1), PeerId(2), Bytes::from_static(b"text/plain"));
        let wanted = Wanted::Post { from, to, content_type };
        assert_eq!(post("peer_id=1&to=2").unwrap(), wanted);
        assert_eq!(post("to=2&x=3&peer_id=1").unwrap(), wanted);
        for bad in [
            "",
            "peer_id=1",
            "peer_id=1&to=",
            "peer_id=1&to=-2",
            "peer_id=1&to=+2",
            "peer_id=1&to=99999999999999999999",
        ] {
            assert_eq!(post(bad).unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR, "{bad}");
        }
        let wait = read(&Method::GET, Endpoint::Wait, "peer_id=7", &HeaderMap::new());
        assert_eq!(wait.unwrap(), Wanted::Wait(PeerId(7)));
        let sign_in = read(&Method::GET, Endpoint::SignIn, "a=b&c,d", &HeaderMap::new());
        assert_eq!(sign_in.unwrap(), Wanted::SignIn("a=b&c,d".to_owned()));
    }

    #[test]
    fn a_message_is_delivered_as_it_was_sent_but_never_as_a_page() {
        let delivered_as = |kind: &'static str| {
            let content_type = Bytes::from_static(kind.as_bytes());
            let message = Message { sender: Sender::Member(PeerId(2)), content_type, body: Bytes::new() };
            delivered(PeerId(1), message).headers[header::CONTENT_TYPE].to_str().unwrap().to_owned()
        };
        for kind in ["text/plain", "application/json; charset=utf-8"] {
            assert_eq!(delivered_as(kind), kind);
        }
        for kind in ["text/html", "Text/HTML; x=y", "application/xhtml+xml", "image/svg+xml"] {
            assert_eq!(delivered_as(kind), "text/plain");
        }
    }

    #[test]
    fn what_the_original_leaves_hanging_is_refused() {
        let status = |method, endpoint, lines| {
            read(&method, endpoint, "peer_id=1&to=2", &headers(lines)).unwrap_err().status.as_u16()
        };
        assert_eq!(status(Method::HEAD, Endpoint::SignIn, &[]), 405);
        assert_eq!(status(Method::PUT, Endpoint::Message, &[]), 405);
        assert_eq!(status(Method::POST, Endpoint::Wait, &[]), 405);
        assert_eq!(status(Method::POST, Endpoint::Message, &[("content-type", "text/plain")]), 411);
        assert_eq!(status(Method::POST, Endpoint::Message, &[("content-length", "3")]), 415);
        assert_eq!(status(Method::GET, Endpoint::Other, &[]), 500);
        assert_eq!(status(Method::POST, Endpoint::Base, &[]), 500);
    }
}
