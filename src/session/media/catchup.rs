//! Joiners: they are sent what leads up to now, in slices, after all that is live (rule 5).

use std::time::{Duration, Instant};

use tracing::debug;

use super::Media;
use crate::id::SessionId;
use crate::session::fault::attended;
use crate::session::viewer::EndReason;

/// Packets that joiners are sent before live units are looked for again: a fraction of a millisecond.
const CATCHUP_SLICE: usize = 48;
/// When joiners are looked at again whose connections all have enough to send.
const CATCHUP_PAUSE: Duration = Duration::from_millis(10);

impl Media {
    /// Has a viewer that has just come sent what the fanout holds, or asks for a keyframe where that is dearer.
    pub(super) fn begin_catchup(&mut self, now: Instant, session: SessionId) {
        let waiting = self.joiners.len() + 1;
        let Some(codec) = self.viewer(session).and_then(|viewer| viewer.video_codec()) else { return };
        if self.rungs.of(codec).is_some_and(|rung| rung.fanout.is_dear_for(waiting)) {
            debug!(waiting, "so many joiners wait for the next keyframe");
            (self.keyframe)(codec);
        } else if self.viewer(session).is_some_and(|viewer| viewer.begin_catchup(now))
            && !self.joiners.contains(&session)
        {
            self.joiners.push_back(session);
        }
    }

    /// Sends joiners a slice of what leads up to now; tells when to go on.
    pub(super) fn catch_up(&mut self, now: Instant) -> Instant {
        let Some(session) = self.next_joiner() else { return now + CATCHUP_PAUSE };
        let (mut more, mut survived) = (false, true);
        if let Some(viewer) = self.routes.get_mut(&session).and_then(|route| route.viewer.as_mut())
            && let Some(rung) = viewer.video_codec().and_then(|codec| self.rungs.of(codec))
        {
            survived = attended(viewer, &mut self.sink, |viewer, sink| {
                more = viewer.handle_catchup(now, &rung.fanout, CATCHUP_SLICE, sink);
            });
        }
        if more {
            self.joiners.push_front(session);
        }
        if survived {
            self.collect(now, session);
        } else {
            self.end(now, session, EndReason::Fault);
        }
        self.flush();
        now
    }

    /// Takes out the first joiner that takes what it is sent: others wait, and those that don't catch up any more are forgotten.
    fn next_joiner(&mut self) -> Option<SessionId> {
        for _ in 0..self.joiners.len() {
            let session = self.joiners.pop_front()?;
            let Some(viewer) = self.viewer(session).filter(|viewer| viewer.catches_up()) else { continue };
            let path = viewer.path();
            if path.is_none_or(|path| !self.sink.is_behind(path)) {
                return Some(session);
            }
            self.joiners.push_back(session);
        }
        None
    }
}
