//! What a remote sends can end its session, never the daemon: a panic in one session's code is caught and ends that session (rule 12).

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::engine::rtc::RtcEngine;
use super::sink::SocketSink;
use super::viewer::Viewer;
use crate::hooks::{self, Fault};

/// Has a session do something that may send; tells whether it came back, as [`survives`] does.
pub fn attended(
    viewer: &mut Viewer<RtcEngine>,
    sink: &mut SocketSink,
    act: impl FnOnce(&mut Viewer<RtcEngine>, &mut SocketSink),
) -> bool {
    let number = viewer.number;
    sink.begin(number);
    survives(number, || {
        assert!(!hooks::is_asked_of(Fault::SessionPanic, number), "a test asks for this panic");
        act(viewer, sink);
    })
}

/// Runs `act` for a session; tells whether it came back. The panic's own message has gone to stderr.
///
/// After a panic the session's state must not be used again but to be dropped.
pub fn survives(viewer: u32, act: impl FnOnce()) -> bool {
    let survived = catch_unwind(AssertUnwindSafe(act)).is_ok();
    if !survived {
        tracing::error!(viewer, "a session failed by a fault of the broadcaster and is ended; the others go on");
    }
    survived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_its_act_only() {
        assert!(survives(1, || {}));
        assert!(!survives(1, || panic!("as a test")));
    }
}
