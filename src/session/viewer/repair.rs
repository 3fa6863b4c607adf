//! What a session does for what it has sent: repeats, and reports of it (RFC 3550, RFC 4585; rules 4 and 10).

use std::time::{Duration, Instant};

use super::{Picture, Tail, Viewer, ViewerEvent};
use crate::session::engine::feedback::{SenderInfo, sender_report};
use crate::session::engine::{Engine, Feedback, Protocol};
use crate::session::stream::PacketSink;

/// Time between sender reports, sent while still too (rule 10).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The round trip time while nothing has been measured.
const PRESUMED_ROUND_TRIP: Duration = Duration::from_millis(50);
/// When the last packets before a silence are repeated (rule 4).
const TAIL_FIRST: Duration = Duration::from_millis(30);
const TAIL_SECOND: Duration = Duration::from_millis(200);
/// Units closer than this belong to one motion: a silence is what lasts longer than half as much again.
const MOTION_GAP: Duration = Duration::from_millis(100);
/// Packets repeated at the two moments.
const TAIL_MOST: [usize; 2] = [16, 32];

impl<E: Engine> Viewer<E> {
    /// Acts on what the viewer reports.
    pub(super) fn handle_feedback(&mut self, now: Instant, feedback: &Feedback, sink: &mut dyn PacketSink) {
        let Some(stream) = self.video.as_mut().filter(|_| self.picture != Picture::Off) else { return };
        let own = stream.ssrc();
        match feedback {
            // A keyframe costs everyone: who asks all the time is heard now and then only.
            Feedback::KeyframeRequest { ssrc } if *ssrc == own && self.keyframes.take(now) => {
                self.events.push_back(ViewerEvent::KeyframeWanted);
            }
            Feedback::Missing { ssrc, sequences } if *ssrc == own => {
                let round_trip = self.round_trip.unwrap_or(PRESUMED_ROUND_TRIP);
                for sequence in sequences {
                    if let Some(packet) = stream.history.handle_missing(now, *sequence, round_trip) {
                        stream.repeat(&packet, &mut self.engine, sink);
                    }
                }
            }
            Feedback::Arrived(numbers) => {
                self.transport_feedback = true;
                for number in numbers {
                    stream.history.handle_arrival(*number);
                }
            }
            Feedback::Report { ssrc, highest, fraction_lost, last_sender_report, delay } if *ssrc == own => {
                if let Some(sample) = stream.round_trip(now, *last_sender_report, *delay) {
                    // RFC 6298's smoothing, enough for a guard time.
                    self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
                }
                self.fraction_lost = *fraction_lost;
                if *fraction_lost == 0 && !self.transport_feedback {
                    stream.history.handle_all_arrived_to(*highest);
                }
            }
            // A receiver's BYE is about its own stream, of which there is none; leaving has clearer words.
            _ => {}
        }
    }

    /// Takes word that pictures were sent: what comes last before a silence is repeated.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        let round_trip = self.round_trip.unwrap_or(PRESUMED_ROUND_TRIP);
        let gap = self.last_unit.map_or(MOTION_GAP, |last| now.saturating_duration_since(last));
        let silence = if gap < MOTION_GAP { gap * 3 / 2 } else { Duration::ZERO };
        self.last_unit = Some(now);
        // A connection loses nothing that it took.
        if self.path().is_some_and(|path| path.protocol == Protocol::Tcp) {
            return;
        }
        self.tail = Tail::Due { at: now + TAIL_FIRST.max(round_trip).max(silence), second: false };
    }

    /// Repeats what nobody has acknowledged, for the first or the second time.
    pub(super) fn repeat_tail(&mut self, now: Instant, second: bool, sink: &mut dyn PacketSink) {
        let (Some(last), Some(stream)) = (self.last_unit, &mut self.video) else { return };
        // What was sent long before the last unit has been asked for by now, if it was missed.
        let since = last.checked_sub(TAIL_SECOND).unwrap_or(last);
        for packet in stream.history.unacknowledged_tail(now, since, TAIL_MOST[usize::from(second)]) {
            stream.repeat(&packet, &mut self.engine, sink);
        }
        self.tail = if second { Tail::Quiet } else { Tail::Due { at: now.max(last + TAIL_SECOND), second: true } };
    }

    /// Sends the sender reports that are due.
    pub(super) fn report(&mut self, now: Instant, sink: &mut dyn PacketSink) {
        self.next_report = now + REPORT_INTERVAL;
        let video = self.video.as_ref().filter(|_| self.picture != Picture::Off).map(|stream| stream.sender_info(now));
        let sound = self.sound.as_ref().filter(|_| self.hears).and_then(|stream| stream.sender_info(now));
        let infos: Vec<SenderInfo> = video.into_iter().chain(sound).collect();
        let report = sender_report(&infos, &self.kit.streams.cname);
        let protected = report.and_then(|report| self.engine.protect_rtcp(&report));
        if let (Some(path), Some(protected)) = (self.engine.path(), protected) {
            sink.push(path, protected.len(), &mut |out| {
                out.copy_from_slice(&protected);
                true
            });
        }
    }
}
