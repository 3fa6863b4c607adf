//! The form in which hyper sends replies.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderValue};

use super::Reply;

/// What a page from here may do: nothing but show what comes from here.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob: mediastream:; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// The body of a reply, in one piece.
#[derive(Debug)]
pub(super) struct Whole {
    content: Full<Bytes>,
    /// Whether it is announced even where it is empty: hyper keeps the place of `Content-Length` for a body only.
    is_announced: bool,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.content).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        !self.is_announced && self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

/// Sends a reply as it is, its headers in their order.
pub(super) fn bare(reply: Reply) -> Response<Whole> {
    let mut response = Response::new(Whole { content: Full::new(reply.body), is_announced: true });
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    if let Some(reason) = reply.reason {
        response.extensions_mut().insert(reason);
    }
    response
}

/// Adds what every reply carries but the room's.
pub(super) fn response(reply: Reply) -> Response<Whole> {
    let mut response = bare(reply);
    response.body_mut().is_announced = false;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
