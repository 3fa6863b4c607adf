//! What keeps a target from being captured: its display, or that it is not there.

use x11rb::errors::{ConnectionError, ReplyError, ReplyOrIdError};

/// Why a target can't be captured, or not any more.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server is gone, or does not do as asked.
    Display(ReplyOrIdError),
    /// The server is there, the target is not.
    Target(Miss),
}

/// A target that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Miss {
    /// What was found instead, for people: `the monitor HDMI-1 is not connected`.
    pub(in crate::source) found: String,
    /// What to do.
    pub(in crate::source) advice: String,
    /// Whether nothing like it is there; else something is, but it won't do.
    pub(in crate::source) absent: bool,
}

impl Miss {
    /// Nothing like it is there.
    pub(in crate::source) fn absent(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { found: found.into(), advice: advice.into(), absent: true }
    }

    /// It is there, and won't do.
    pub(super) fn unfit(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { found: found.into(), advice: advice.into(), absent: false }
    }
}

impl From<Miss> for Trouble {
    fn from(miss: Miss) -> Self {
        Self::Target(miss)
    }
}

impl From<ReplyOrIdError> for Trouble {
    fn from(error: ReplyOrIdError) -> Self {
        Self::Display(error)
    }
}

impl From<ReplyError> for Trouble {
    fn from(error: ReplyError) -> Self {
        Self::Display(error.into())
    }
}

impl From<ConnectionError> for Trouble {
    fn from(error: ConnectionError) -> Self {
        Self::Display(error.into())
    }
}

/// What a reply says; `None` where the server refuses, as it does where the window in question is gone.
pub(super) fn granted<T>(reply: Result<T, ReplyError>) -> Result<Option<T>, ConnectionError> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(ReplyError::X11Error(error)) => {
            tracing::debug!("the X server refuses: {:?}", error.error_kind);
            Ok(None)
        }
        Err(ReplyError::ConnectionError(error)) => Err(error),
    }
}
