//! What is asked of a server of this protocol, and what its replies mean.

use hyper::StatusCode;

use crate::id::PeerId;
use crate::signaling::client::why;

/// The most bytes of a reply that are read: a list of all peers has its place in them.
pub const MOST_REPLY: usize = 1 << 20;

/// Names a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

/// What is asked of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To come in under the daemon's name.
    SignIn,
    /// To wait, for as long as it takes, for the next message to this id.
    Wait(PeerId),
    /// To pass a message on.
    Message {
        /// The daemon's id.
        from: PeerId,
        /// To whom.
        to: PeerId,
        /// The message.
        body: String,
    },
    /// To let this id go.
    SignOut(PeerId),
}

/// What came of a request.
pub type Reply = Result<Response, Failure>;

/// A server's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The number in `Pragma`: whose message it is, or the daemon's own id.
    pub pragma: Option<PeerId>,
    /// The body; `None` if it was longer than [`MOST_REPLY`].
    pub body: Option<Vec<u8>>,
}

/// A request without a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub why: String,
    /// Whether the server may have got it.
    pub was_sent: bool,
}

impl Response {
    /// Whether what was asked is done.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it says that the target of a message is not there.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.status, 404 | 410) || self.status == 500 && self.says(b"Peer most likely gone")
    }

    /// Whether it says that the sender is not known.
    pub(super) fn is_sorry(&self) -> bool {
        self.status == 500 && self.says(b"Sorry, not yet implemented")
    }

    fn says(&self, words: &[u8]) -> bool {
        self.body.as_ref().is_some_and(|body| body.windows(words.len()).any(|part| part == words))
    }
}

/// Why a server does not let the daemon in, and what may help.
pub(super) fn refused(response: &Response) -> String {
    let advice = match response.status {
        300..400 => "; it is at another address: give that one",
        400 => "; it may expect another query: give it by sign-in=, as ?sign-in=peer_name%3D{name}",
        401 | 403 => "; it wants a token, or another: give its file by token-file=",
        404 | 405 | 500 | 501 => "; is the address that of a server of this protocol?",
        _ => "",
    };
    let body = response.body.as_deref().unwrap_or_default();
    match StatusCode::from_u16(response.status) {
        Ok(status) => why::refusal(status, body) + advice,
        Err(_) => format!("it refuses: {}{advice}", response.status),
    }
}
