//! What a WHIP server's response to an offer means (RFC 9725, sections 4.2 and 4.5).

use std::time::Duration;

use hyper::header::{self, HeaderName};
use hyper::{HeaderMap, StatusCode};
use url::Url;

use super::link::{self, OfferedServer};
use crate::signaling::client::why;

/// The longest that a server may have the daemon wait.
const MOST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A server's response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, of a length that somebody has bounded.
    pub body: Vec<u8>,
}

/// What is said by a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// The server takes the stream.
    Answer {
        /// The answer.
        sdp: String,
        /// The session's URL, where it names one.
        resource: Option<Url>,
        /// STUN and TURN servers.
        servers: Vec<OfferedServer>,
    },
    /// It says that it takes the stream, and not how: what it has made is to be ended.
    Unusable {
        /// What is wrong.
        why: String,
        /// The session's URL, where it names one.
        resource: Option<Url>,
    },
    /// The offer is to be posted there.
    Elsewhere(Url),
    /// It does not take it.
    Refused {
        /// Why.
        why: String,
        /// How long it wants to be left alone.
        retry_after: Duration,
    },
}

impl Response {
    /// Reads the response to an offer that was posted to `at`.
    pub(super) fn read(&self, at: &Url) -> Said {
        let refused = |why: String| Said::Refused { why, retry_after: Duration::ZERO };
        match self.status {
            StatusCode::CREATED => match self.answer(at) {
                Ok(said) => said,
                Err(why) => refused(why),
            },
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                let location = self.text(&header::LOCATION);
                match location.ok_or("it names no address").and_then(|location| resolved(at, location)) {
                    Ok(to) => Said::Elsewhere(to),
                    Err(why) => refused(format!("the server redirects, but {why}")),
                }
            }
            status if status.is_redirection() => refused(format!(
                "the server redirects by {}, which WHIP forbids as offers get lost; give the URL that it redirects to",
                status.as_u16()
            )),
            _ => Said::Refused { why: self.refusal(), retry_after: self.retry_after() },
        }
    }

    fn answer(&self, at: &Url) -> Result<Said, String> {
        let resource = match self.text(&header::LOCATION) {
            Some(location) => Some(session(at, location).map_err(|why| format!("the server answers 201, but {why}"))?),
            None => None,
        };
        let sdp = std::str::from_utf8(&self.body).ok().filter(|sdp| sdp.starts_with("v=0"));
        let Some(sdp) = sdp else {
            let why = "the server answers 201, but with no SDP; is this URL a WHIP endpoint?".to_owned();
            return Ok(Said::Unusable { why, resource });
        };
        let links = self.headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
        Ok(Said::Answer { sdp: sdp.to_owned(), resource, servers: link::ice_servers(links) })
    }

    fn refusal(&self) -> String {
        let hint = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; is ?token-file=PATH given, and the token right?",
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                "; is this URL a WHIP endpoint?"
            }
            StatusCode::OK => "; a WHIP endpoint answers 201",
            _ => "",
        };
        why::refusal(self.status, &self.body) + hint
    }

    fn retry_after(&self) -> Duration {
        let seconds = self.text(&header::RETRY_AFTER).and_then(|value| value.trim().parse().ok());
        Duration::from_secs(seconds.unwrap_or_default()).min(MOST_RETRY_AFTER)
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Where the server sends the daemon; the token goes there, so never from TLS to none.
fn resolved(at: &Url, location: &str) -> Result<Url, &'static str> {
    let mut url = at.join(location).map_err(|_| "its address is none")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("not to an address of http or https");
    }
    if at.scheme() == "https" && url.scheme() == "http" {
        return Err("from https to http, where everybody can read the token");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its address has a password in it");
    }
    url.set_fragment(None);
    Ok(url)
}

/// The URL of a session; a server behind one that does TLS for it may not know that it is reached by https.
fn session(at: &Url, location: &str) -> Result<Url, &'static str> {
    match at.join(location) {
        Ok(plain) if at.scheme() == "https" && plain.scheme() == "http" && plain.host() == at.host() => {
            let mut url = at.clone();
            url.set_path(plain.path());
            url.set_query(plain.query());
            Ok(url)
        }
        _ => resolved(at, location).map_err(|_| "its Location is no address that the daemon would trust"),
    }
}
