//! A reply of the embedded server as plain data: what cores make and the shell sends.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};

/// A whole reply: status, headers and a body of known length.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What stands beside the status, where it is not the usual phrase.
    pub reason: Option<ReasonPhrase>,
    /// The headers, without those that the server adds to every reply.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// Makes a reply without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, reason: None, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// Makes a reply whose body is one plain sentence.
    pub fn sentence(status: StatusCode, sentence: impl Into<String>) -> Self {
        let mut text = sentence.into();
        text.push('\n');
        Self::empty(status)
            .with(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))
            .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .with_body(text)
    }

    /// Makes a 405 that names the methods which the address has.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::sentence(StatusCode::METHOD_NOT_ALLOWED, format!("this address takes {allow} only"))
            .with(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// Makes a 404.
    pub fn not_found() -> Self {
        Self::sentence(StatusCode::NOT_FOUND, "there is nothing at this address; the viewer page is at /")
    }

    /// Replaces a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Replaces the phrase beside the status; it must be visible ASCII.
    #[must_use]
    pub fn with_reason(mut self, phrase: &'static [u8]) -> Self {
        self.reason = Some(ReasonPhrase::from_static(phrase));
        self
    }

    /// Says when to try again: whole seconds, rounded up.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Ends the connection after this reply.
    #[must_use]
    pub fn closing(self) -> Self {
        self.with(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}
