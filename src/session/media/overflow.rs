//! Sending, and what becomes of those of whom packets were lost on the way to the kernel (rule 6).

use std::time::Instant;

use tracing::debug;

use super::Media;

impl Media {
    /// Sends what waits; the picture of whoever lost some of it goes on at a keyframe.
    pub(super) fn flush(&mut self) {
        self.sink.flush();
        self.pass_over_slow();
        for number in self.sink.take_overflowed() {
            let route = self
                .routes
                .values_mut()
                .filter_map(|route| route.viewer.as_mut())
                .find(|v| v.number == number && v.video_codec().is_some());
            if let Some(viewer) = route {
                debug!(viewer = number, "the socket is full: the picture goes on at the next keyframe");
                viewer.handle_overflow(Instant::now());
                let Some(codec) = viewer.video_codec() else { continue };
                (self.keyframe)(codec);
                if let Some(rung) = self.rungs.of(codec) {
                    rung.turns.handle_overflow();
                }
            }
        }
    }

    /// Has the picture of viewers whose own connection, or relay's stream, is too slow for it go on at a later keyframe; what that costs the others is the viewer's allowance.
    fn pass_over_slow(&mut self) {
        let late = self.sink.relays().relays().map(|relays| relays.take_late()).unwrap_or_default();
        for number in self.sink.take_slow().into_iter().chain(late) {
            let mut viewers = self.routes.values_mut().filter_map(|route| route.viewer.as_mut());
            let viewer = viewers.find(|viewer| viewer.number == number && viewer.video_codec().is_some());
            if viewer.is_some_and(|viewer| viewer.handle_overflow(Instant::now())) {
                debug!(viewer = number, "a viewer's connection is too slow: its picture goes on at a later keyframe");
            }
        }
    }
}
