//! WHEP, by which browsers ask for the stream (draft-ietf-wish-whep; the same exchange as RFC 9725, from the other end).
//!
//! Owns what a request means ([`read_head`], then [`read_body`]) and what the broadcast's words become ([`answered`], [`refused`]). It knows no
//! session: their addresses are the secrets (128 random bits) by which they are steered, so only an offer needs the access code.
//! It never parses an offer.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};

use super::access::{Access, PassId, Verdict};
use super::server::Reply;
use super::{Answer, Refusal, Trickle};
use crate::config::one_line;
use crate::id::SessionId;

pub mod sdpfrag;
#[cfg(test)]
mod tests;

/// Where offers are posted.
const ENDPOINT: &str = "/whep";
/// The type of offers and answers.
const SDP: &str = "application/sdp";
/// The type of trickled fragments.
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Methods of the endpoint.
const ENDPOINT_METHODS: &str = "POST, OPTIONS";
/// Methods of a session.
const SESSION_METHODS: &str = "PATCH, DELETE, OPTIONS";
/// Names the kind of a refusal in one word, for pages: `full`, `closing`, `busy`, `codec`.
const REASON: HeaderName = HeaderName::from_static("laterna-reason");

/// What a request asks for, by its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A session, by this code where one is needed; the body is an offer.
    Offer(Option<PassId>),
    /// To pass on trickled candidates, of this ICE generation where one is named; the body is a fragment.
    Trickle(SessionId, Option<String>),
    /// To restart ICE; the body is a fragment with credentials.
    Restart(SessionId),
    /// To end a session; the body doesn't matter.
    Leave(SessionId),
}

/// What a request asks for, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A session for this offer, by this code where one is needed.
    Offer(String, Option<PassId>),
    /// To pass on candidates.
    Trickle(SessionId, Trickle),
    /// To restart ICE.
    Restart(SessionId, Trickle),
    /// To end the session.
    Leave(SessionId),
}

/// Whether WHEP answers at `path`.
pub fn owns(path: &str) -> bool {
    path == ENDPOINT || path.starts_with("/whep/")
}

/// Decides by a request's head what it asks for, or replies to it at once.
///
/// OPTIONS with the code has the `links` to ICE servers, so that a viewer can have them before it makes its offer.
///
/// # Errors
/// The reply, where no body can change it.
pub fn read_head(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    access: &mut Access,
    from: IpAddr,
    now: Instant,
    links: impl FnOnce() -> Vec<String>,
) -> Result<Wanted, Box<Reply>> {
    let session = path.strip_prefix("/whep/").filter(|rest| !rest.is_empty());
    let methods = if session.is_some() { SESSION_METHODS } else { ENDPOINT_METHODS };
    if method == Method::OPTIONS {
        let reply = preflight(methods, headers);
        if session.is_some() {
            return Err(Box::new(reply));
        }
        return Err(match access.check(from, bearer(headers), now) {
            Verdict::Granted(_) => Box::new(linked(reply, links())),
            // A browser asks so before it sends a page's own request.
            Verdict::Missing => Box::new(reply),
            verdict => admit(verdict).err().unwrap_or_else(|| Box::new(reply)),
        });
    }
    match (method, session) {
        (&Method::POST, None) => {
            let pass = admit(access.check(from, bearer(headers), now))?;
            has_type(headers, SDP)?;
            Ok(Wanted::Offer(pass))
        }
        (&Method::PATCH, Some(session)) => {
            let session = known_form(session)?;
            has_type(headers, FRAGMENT)?;
            Ok(match generation(headers) {
                Generation::Any => Wanted::Trickle(session, None),
                Generation::Named(tag) => Wanted::Trickle(session, Some(tag)),
                Generation::Next => Wanted::Restart(session),
            })
        }
        (&Method::DELETE, Some(session)) => Ok(Wanted::Leave(known_form(session)?)),
        _ => Err(boxed(Reply::method_not_allowed(methods))),
    }
}

/// Completes what a request asks for with its body.
///
/// # Errors
/// The reply, where the body is no such thing.
pub fn read_body(wanted: Wanted, body: &[u8]) -> Result<Ask, Box<Reply>> {
    let bad = |sentence: String| boxed(Reply::sentence(StatusCode::BAD_REQUEST, sentence));
    match wanted {
        Wanted::Leave(session) => Ok(Ask::Leave(session)),
        Wanted::Offer(pass) => match std::str::from_utf8(body) {
            Ok(sdp) if sdp.starts_with("v=0") => Ok(Ask::Offer(sdp.to_owned(), pass)),
            _ => Err(bad(format!("expected an SDP offer, found {}; it must start with v=0", nature(body)))),
        },
        Wanted::Trickle(session, generation) => {
            let trickle = fragment(body)?;
            if trickle.candidates.is_empty() && !trickle.end {
                return Err(bad("the fragment has no candidate and no end-of-candidates".to_owned()));
            }
            Ok(Ask::Trickle(session, Trickle { generation, ..trickle }))
        }
        Wanted::Restart(session) => {
            let trickle = fragment(body)?;
            if trickle.ufrag.is_none() || trickle.password.is_none() {
                return Err(bad("an ICE restart (If-Match: *) has a=ice-ufrag and a=ice-pwd".to_owned()));
            }
            Ok(Ask::Restart(session, trickle))
        }
    }
}

fn fragment(body: &[u8]) -> Result<Trickle, Box<Reply>> {
    let bad = |sentence: String| boxed(Reply::sentence(StatusCode::BAD_REQUEST, sentence));
    let text =
        std::str::from_utf8(body).map_err(|_| bad(format!("expected an SDP fragment, found {}", nature(body))))?;
    sdpfrag::parse(text).map_err(|error| bad(error.to_string()))
}

/// Turns the broadcast's answer to an offer into the reply (201), with the `links` to ICE servers.
pub fn answered(session: SessionId, answer: Answer, links: Vec<String>) -> Reply {
    let location = HeaderValue::try_from(format!("{ENDPOINT}/{session}"));
    let ufrag = answer.sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap_or_default();
    let tag = tag(ufrag);
    let reply = Reply::empty(StatusCode::CREATED)
        .with(header::CONTENT_TYPE, HeaderValue::from_static(SDP))
        .with(header::ETAG, tag)
        .with(HeaderName::from_static("accept-patch"), HeaderValue::from_static(FRAGMENT))
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .with_body(answer.sdp);
    match location {
        Ok(location) => linked(cors(reply.with(header::LOCATION, location)), links),
        // Digits and slashes are always a header's value.
        Err(_) => failed(),
    }
}

/// The reply to candidates that were taken.
pub fn trickled() -> Reply {
    cors(Reply::empty(StatusCode::NO_CONTENT))
}

/// The reply to a restart: the daemon's fresh credentials and candidates (RFC 9725, section 4.3.3).
pub fn restarted(own: &Trickle) -> Reply {
    let reply = Reply::empty(StatusCode::OK)
        .with(header::CONTENT_TYPE, HeaderValue::from_static(FRAGMENT))
        .with(header::ETAG, tag(own.ufrag.as_deref().unwrap_or_default()))
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    cors(reply.with_body(sdpfrag::write(own)))
}

/// The tag of an ICE generation: the daemon's `ice-ufrag`.
fn tag(ufrag: &str) -> HeaderValue {
    // Credentials are letters and digits; what is none has no tag that anybody could name.
    HeaderValue::try_from(format!("\"{ufrag}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The reply to a viewer that left.
pub fn left() -> Reply {
    cors(Reply::empty(StatusCode::OK))
}

/// Turns the broadcast's refusal into the reply.
pub fn refused(refusal: &Refusal) -> Reply {
    let reply = |status| Reply::sentence(status, refusal.to_string());
    cors(match refusal {
        Refusal::BadOffer(_) => reply(StatusCode::BAD_REQUEST),
        Refusal::NoCommonCodec(_) => because("codec", reply(StatusCode::NOT_ACCEPTABLE)),
        Refusal::UnknownSession => reply(StatusCode::NOT_FOUND),
        Refusal::Kicked => because("kicked", reply(StatusCode::GONE)),
        Refusal::Conflict(_) => reply(StatusCode::CONFLICT),
        Refusal::OtherGeneration { .. } => reply(StatusCode::PRECONDITION_FAILED),
        Refusal::Full { .. } => {
            because("full", reply(StatusCode::SERVICE_UNAVAILABLE).retry_after(Duration::from_secs(5)))
        }
        Refusal::Closing => {
            because("closing", reply(StatusCode::SERVICE_UNAVAILABLE).retry_after(Duration::from_secs(2)))
        }
    })
}

/// The reply to an address that offers too often.
pub fn too_often(wait: Duration) -> Reply {
    let sentence = "this address asks for the stream too often; wait before the next try";
    because("busy", cors(Reply::sentence(StatusCode::TOO_MANY_REQUESTS, sentence).retry_after(wait)))
}

/// The reply where the broadcast has more to do than fits its queue.
pub fn busy() -> Reply {
    let reply =
        Reply::sentence(StatusCode::SERVICE_UNAVAILABLE, "the broadcaster has too many requests waiting; try again");
    cors(because("busy", reply.retry_after(Duration::from_secs(1))))
}

/// The reply where the broadcast didn't answer in `waited`.
pub fn late(waited: Duration) -> Reply {
    let sentence = format!("the broadcaster did not answer within {} s; try again", waited.as_secs());
    cors(Reply::sentence(StatusCode::GATEWAY_TIMEOUT, sentence))
}

/// The reply where the broadcast dropped the question.
pub fn failed() -> Reply {
    cors(Reply::sentence(StatusCode::INTERNAL_SERVER_ERROR, "the broadcaster failed to answer; its log says why"))
}

/// Lets pages of any origin read a reply (the code is no cookie, so no page can borrow it).
pub fn cors(reply: Reply) -> Reply {
    reply.with(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")).with(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Location, ETag, Link, Accept-Patch, Retry-After, Laterna-Reason"),
    )
}

/// Adds `Link` headers (RFC 9725, section 4.6); what they say is for its reader only.
fn linked(mut reply: Reply, links: Vec<String>) -> Reply {
    for link in links {
        // What a name or a password can't have in a header was refused when they were read.
        if let Ok(link) = HeaderValue::try_from(link) {
            reply.headers.append(header::LINK, link);
            reply.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    reply
}

fn preflight(methods: &'static str, headers: &HeaderMap) -> Reply {
    let methods = HeaderValue::from_static(methods);
    let reply = cors(Reply::empty(StatusCode::NO_CONTENT))
        .with(header::ALLOW, methods.clone())
        .with(header::ACCESS_CONTROL_ALLOW_METHODS, methods)
        .with(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, Authorization, If-Match"))
        .with(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"))
        .with(HeaderName::from_static("accept-post"), HeaderValue::from_static(SDP));
    match headers.get("access-control-request-private-network") {
        Some(_) => reply
            .with(HeaderName::from_static("access-control-allow-private-network"), HeaderValue::from_static("true")),
        None => reply,
    }
}

pub(super) fn admit(verdict: Verdict) -> Result<Option<PassId>, Box<Reply>> {
    let bearer = |value| (header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
    let ((name, value), reply) = match verdict {
        Verdict::Granted(pass) => return Ok(pass),
        Verdict::Missing => (
            bearer("Bearer realm=\"laterna\""),
            Reply::sentence(
                StatusCode::UNAUTHORIZED,
                "an access code is needed (Authorization: Bearer CODE); ask the broadcaster for it",
            ),
        ),
        Verdict::Wrong => (
            bearer("Bearer realm=\"laterna\", error=\"invalid_token\""),
            Reply::sentence(
                StatusCode::UNAUTHORIZED,
                "the access code is wrong, revoked or expired; ask the broadcaster for one",
            )
            .closing(),
        ),
        Verdict::TooMany { retry_after } => (
            bearer("Bearer realm=\"laterna\", error=\"invalid_token\""),
            Reply::sentence(
                StatusCode::TOO_MANY_REQUESTS,
                "the access code is wrong, and so were too many before it; wait before the next try",
            )
            .retry_after(retry_after)
            .closing(),
        ),
    };
    Err(boxed(reply.with(name, value)))
}

/// The code or token that a request carries (RFC 6750).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, code) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| code.trim())
}

fn known_form(session: &str) -> Result<SessionId, Box<Reply>> {
    SessionId::parse(session).ok_or_else(|| Box::new(refused(&Refusal::UnknownSession)))
}

fn has_type(headers: &HeaderMap, wanted: &str) -> Result<(), Box<Reply>> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.map(|value| value.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    let found = essence.filter(|essence| !essence.is_empty()).unwrap_or("none");
    Err(boxed(Reply::sentence(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("expected the content type {wanted}, found {:.100}", one_line(found)),
    )))
}

/// Which ICE generation a fragment is for.
enum Generation {
    /// It doesn't say.
    Any,
    /// The one of this tag.
    Named(String),
    /// The one that it begins (RFC 9725, section 4.3.3).
    Next,
}

/// Reads `If-Match`.
fn generation(headers: &HeaderMap) -> Generation {
    let values = headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim).filter(|tag| !tag.is_empty());
    match tags.next() {
        None if headers.contains_key(header::IF_MATCH) => Generation::Named(String::new()),
        None => Generation::Any,
        Some("*") => Generation::Next,
        // A session has one tag: whoever names several names none too many.
        Some(tag) => Generation::Named(tag.trim_start_matches("W/").trim_matches('"').to_owned()),
    }
}

fn nature(body: &[u8]) -> String {
    match (body.len(), std::str::from_utf8(body)) {
        (0, _) => "nothing".to_owned(),
        (length, Ok(_)) => format!("{length} bytes of other text"),
        (length, Err(_)) => format!("{length} bytes that are no text"),
    }
}

fn because(reason: &'static str, reply: Reply) -> Reply {
    reply.with(REASON, HeaderValue::from_static(reason))
}

fn boxed(reply: Reply) -> Box<Reply> {
    Box::new(cors(reply))
}
