//! What is wrong with a running daemon, since when, and what to do about it. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::control::wire::{Event, IceStanding, Problem, Quality, Stage, Standing, Status, Way};
use crate::session::inbox::Overflow;

/// Loss, in percent, and round trips from which on a viewer is served less well.
const FAIR_LOSS: u32 = 3;
const BAD_LOSS: u32 = 10;
const FAIR_ROUND_TRIP_MS: u64 = 250;
const BAD_ROUND_TRIP_MS: u64 = 600;
/// So many viewers are told one by one, at most.
const MOST_VIEWERS: usize = 5;
/// So many wrong codes in a minute are no slips.
const MANY_WRONG_CODES: u32 = 20;
/// What to do where threads have more to do than they can.
const BEHIND: &str = "see what else this machine does, or lower --size, --fps or --bitrate";
const BUSY: &str = "whoever was not heard asks again: see what else this machine does, and who asks so often";

/// What is away, and since when: by what was told of it.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    source: Option<Outage>,
    overlay: Option<Outage>,
    sound: Option<Outage>,
    signaling: HashMap<String, Instant>,
    ice_servers: HashMap<String, Instant>,
    /// Since when a configuration is not taken over, and why the last one was not.
    refused: Option<(Instant, String)>,
}

#[derive(Debug)]
struct Outage {
    what: String,
    why: String,
    since: Instant,
}

impl Chronicle {
    /// Takes what has happened.
    pub(super) fn handle_event(&mut self, now: Instant, event: &Event) {
        let outage = |what: &String, why: &String| Some(Outage { what: what.clone(), why: why.clone(), since: now });
        let note = |table: &mut HashMap<String, Instant>, name: &String, is_away: bool| {
            if is_away {
                table.entry(name.clone()).or_insert(now);
            } else {
                table.remove(name);
            }
        };
        match event {
            Event::SourceLost { source, why } => self.source = outage(source, why),
            Event::SourceBack { .. } => self.source = None,
            Event::OverlayLost { why } => self.overlay = outage(&String::new(), why),
            Event::OverlayBack {} => self.overlay = None,
            Event::SoundLost { sound, why } => self.sound = outage(sound, why),
            Event::SoundBack { .. } => self.sound = None,
            Event::Signaling { server, standing, .. } => {
                note(&mut self.signaling, server, *standing == Standing::Away);
            }
            Event::IceServer { url, standing, .. } => note(&mut self.ice_servers, url, *standing == IceStanding::Away),
            Event::Switched { .. } => (self.source, self.overlay) = (None, None),
            Event::ReloadRefused { why } => {
                let since = self.refused.take().map_or(now, |(since, _)| since);
                self.refused = Some((since, why.lines().next().unwrap_or_default().to_owned()));
            }
            Event::Reloaded { changed, .. } => {
                self.refused = None;
                // Another one is there now, of which nothing was said yet.
                if changed.iter().any(|setting| setting == "source") {
                    (self.source, self.overlay) = (None, None);
                }
                if changed.iter().any(|setting| setting == "audio") {
                    self.sound = None;
                }
            }
            _ => {}
        }
    }
}

/// What is known beside the status.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) now: Instant,
    /// Pictures a second, at most.
    pub(super) fps: u32,
    /// Whether viewers can come by TCP.
    pub(super) has_tcp: bool,
    /// Descriptors that are open, and how many there may be.
    pub(super) descriptors: Option<(u64, u64)>,
    /// Wrong codes that came within a minute, of late.
    pub(super) wrong_codes: u32,
    /// What the queues before the media thread and the join thread have lost in the last minute.
    pub(super) lost: Lost,
}

/// What full queues have lost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lost {
    pub(super) pictures: Option<Overflow>,
    pub(super) sound: Option<Overflow>,
    pub(super) requests: Option<Overflow>,
}

/// How well a viewer is served, and why not better; `None` where nothing is known.
pub(super) fn quality(rtt_ms: Option<u64>, loss: Option<u32>, way: Option<Way>) -> (Option<Quality>, Vec<String>) {
    let mut because = Vec::new();
    let loss = loss.unwrap_or_default();
    if loss >= FAIR_LOSS {
        because.push(format!("loss {loss} %"));
    }
    if let Some(rtt) = rtt_ms.filter(|rtt| *rtt >= FAIR_ROUND_TRIP_MS) {
        because.push(format!("round trip {rtt} ms"));
    }
    match way {
        Some(Way::Tcp) => because.push("over TCP".to_owned()),
        Some(Way::Relayed) => because.push("relayed".to_owned()),
        _ => {}
    }
    let Some(rtt) = rtt_ms else { return (None, because) };
    let quality = if loss >= BAD_LOSS || rtt >= BAD_ROUND_TRIP_MS {
        Quality::Bad
    } else if loss >= FAIR_LOSS || rtt >= FAIR_ROUND_TRIP_MS || way == Some(Way::Tcp) {
        Quality::Fair
    } else {
        Quality::Good
    };
    (Some(quality), because)
}

/// All that is wrong, what matters to most viewers first.
pub(super) fn problems(status: &Status, known: &Known, chronicle: &Chronicle) -> Vec<Problem> {
    let age = |since: &Instant| known.now.saturating_duration_since(*since).as_secs();
    let problem = |what: String, since_s, advice: &str| Problem { what, since_s, advice: advice.to_owned() };
    let mut problems = Vec::new();
    if let Some(Outage { what, why, since }) = &chronicle.source {
        let advice = "it is tried again, and viewers see a card that says so, or the fallback: see that it is there (laterna sources), or show something else (laterna switch)";
        problems.push(problem(format!("{what} is lost: {why}"), Some(age(since)), advice));
    }
    if let Some(Outage { why, since, .. }) = &chronicle.overlay {
        let advice = "the source is shown without it; it is tried again: see that it is there (laterna sources), or show something else (laterna switch)";
        problems.push(problem(format!("what stands over the source is gone: {why}"), Some(age(since)), advice));
    }
    if let Some(Outage { what, why, since }) = &chronicle.sound {
        let advice = "it is tried again every few seconds: start the sound server again (systemctl --user restart pipewire-pulse or pulseaudio)";
        problems.push(problem(format!("the sound, {what}, is lost: {why}"), Some(age(since)), advice));
    }
    if let Some((since, why)) = &chronicle.refused {
        let advice = "all goes on as it was: mend the file (laterna config check), then reload again";
        problems.push(problem(format!("the configuration was not taken over: {why}"), Some(age(since)), advice));
    }
    let budget = Duration::from_secs(1) / known.fps.max(1);
    for encoder in &status.encoders {
        let recent = Duration::from_micros(encoder.recent_us);
        if encoder.running && recent > budget {
            let what = format!(
                "{} can't keep up: a picture takes {} ms, of {} ms that {} a second leave",
                encoder.codec,
                recent.as_millis(),
                budget.as_millis(),
                known.fps
            );
            problems.push(problem(
                what,
                None,
                "choose a smaller --size or a lower --fps, or see what else this machine does",
            ));
        }
        if encoder.restarts > 0 {
            let what = format!(
                "the {} encoder has failed and was made anew, {} times by now",
                encoder.codec, encoder.restarts
            );
            problems.push(problem(what, None, "that is a bug: report it with what the log says of it"));
        }
    }
    for server in status.signaling.iter().filter(|server| server.standing == Standing::Away) {
        let why = server.why.as_deref().unwrap_or("it does not say why");
        let what = format!("{} is away: {why}", server.server);
        let advice = "it is tried again until it is back, and viewers keep the picture: see that it runs, and that its URL is right";
        problems.push(problem(what, chronicle.signaling.get(&server.server).map(age), advice));
    }
    for server in status.ice_servers.iter().filter(|server| server.standing == IceStanding::Away) {
        let why = server.why.as_deref().unwrap_or("it does not say why");
        let what = format!("{} is away: {why}", server.url);
        let advice = "it is tried again; viewers that need it can't come meanwhile: see that it runs, and that its address and credentials are right";
        problems.push(problem(what, chronicle.ice_servers.get(&server.url).map(age), advice));
    }
    if !known.has_tcp {
        let what =
            format!("TCP port {} can't be had: viewers whose network lets no UDP through can't watch", status.udp);
        problems.push(problem(
            what,
            Some(status.uptime_s),
            "see what has it (laterna doctor), or choose another with --udp-port",
        ));
    }
    if let Some((open, most)) =
        known.descriptors.filter(|(open, most)| open.saturating_mul(10) >= most.saturating_mul(9))
    {
        let what = format!("{open} of {most} descriptors are in use: newcomers may be refused");
        problems.push(problem(what, None, "raise the limit (LimitNOFILE= of the unit)"));
    }
    let lost = [
        (known.lost.pictures, "pictures were lost for all viewers", BEHIND),
        (known.lost.sound, "pieces of sound were lost for all viewers", BEHIND),
        (known.lost.requests, "requests and packets of those who join were lost", BUSY),
    ];
    for (overflow, what, advice) in lost {
        let Some(Overflow { since, items, .. }) = overflow else { continue };
        problems.push(problem(format!("the daemon fell behind: {items} {what}"), Some(age(&since)), advice));
    }
    if known.wrong_codes >= MANY_WRONG_CODES {
        let what =
            format!("{} wrong codes came within a minute: somebody guesses, or has an old address", known.wrong_codes);
        let advice = "who guesses has to wait, and who has the right code does not: give the address out again (laterna codes list --show)";
        problems.push(problem(what, None, advice));
    }
    if status.viewers.len() >= status.max_viewers {
        let what = format!("all {} places are taken", status.max_viewers);
        problems.push(problem(what, None, "raise --max-viewers, or end somebody (laterna kick)"));
    }
    let bad = || {
        let viewers = status.viewers.iter().filter(|viewer| viewer.state == Stage::Connected);
        viewers.filter(|viewer| viewer.quality == Some(Quality::Bad))
    };
    for viewer in bad().take(MOST_VIEWERS) {
        let what = format!("viewer {} is served badly: {}", viewer.viewer, viewer.because.join(", "));
        problems.push(problem(
            what,
            None,
            "its network is too slow or loses too much: lower --bitrate helps, a cable more",
        ));
    }
    if let Some(more) = bad().count().checked_sub(MOST_VIEWERS + 1) {
        let what = format!("{} more viewers are served badly", more + 1);
        problems.push(problem(
            what,
            None,
            "many at once have one cause: this machine's own network, or a --bitrate that is too high for it",
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn status(viewers: &str) -> Status {
        let json = format!(
            r#"{{"version":"1","name":"desk","uptime_s":60,"http":[],"udp":8889,"max_viewers":20,
            "source":{{"what":"screen :0","running":true}},"sound":null,"size":"16x16",
            "encoders":[{{"codec":"h264","running":true,"units":1,"keyframes":1,"bytes":1}}],"viewers":[{viewers}],
            "signaling":[{{"server":"room","standing":"signed-in","peers":[]}}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn known(now: Instant) -> Known {
        Known { now, fps: 30, has_tcp: true, descriptors: Some((20, 1024)), wrong_codes: 0, lost: Lost::default() }
    }

    fn whats(status: &Status, known: &Known, chronicle: &Chronicle) -> Vec<String> {
        problems(status, known, chronicle).into_iter().map(|problem| problem.what).collect()
    }

    #[test]
    fn what_is_away_is_a_problem_since_it_went_and_none_once_it_is_back() {
        let start = Instant::now();
        let later = start + Duration::from_secs(12);
        let mut chronicle = Chronicle::default();
        let lost = Event::SourceLost { source: "screen :0".into(), why: "broken pipe".into() };
        let away = |standing| Event::Signaling { server: "mdn+ws://h/".into(), standing, name: None, why: None };
        chronicle.handle_event(start, &lost);
        chronicle.handle_event(start, &Event::OverlayLost { why: "window:Notes: closed".into() });
        chronicle.handle_event(start, &Event::SoundLost { sound: "system".into(), why: "gone".into() });
        chronicle.handle_event(start, &away(Standing::Away));
        chronicle.handle_event(later, &away(Standing::Away));
        let mut status = status("");
        let mut server = status.signaling[0].clone();
        (server.server, server.standing, server.why) = ("mdn+ws://h/".into(), Standing::Away, Some("refused".into()));
        status.signaling.push(server);
        let found = problems(&status, &known(later), &chronicle);
        let told: Vec<_> = found.iter().map(|problem| (problem.what.as_str(), problem.since_s)).collect();
        let expected = [
            ("screen :0 is lost: broken pipe", Some(12)),
            ("what stands over the source is gone: window:Notes: closed", Some(12)),
            ("the sound, system, is lost: gone", Some(12)),
            ("mdn+ws://h/ is away: refused", Some(12)),
        ];
        assert_eq!(told, expected);
        chronicle.handle_event(later, &Event::SourceBack { source: "screen :0".into() });
        chronicle.handle_event(later, &Event::OverlayBack {});
        chronicle.handle_event(later, &Event::Reloaded { changed: vec!["audio".into()], waiting: vec![] });
        chronicle.handle_event(later, &away(Standing::SignedIn));
        status.signaling.pop();
        assert!(whats(&status, &known(later), &chronicle).is_empty() && chronicle.signaling.is_empty());
    }

    #[test]
    fn limits_and_slow_encoders_are_problems() {
        let (now, chronicle) = (Instant::now(), Chronicle::default());
        let mut slow = status("");
        assert!(whats(&slow, &known(now), &chronicle).is_empty());
        slow.encoders[0].recent_us = 34_000;
        assert!(whats(&slow, &known(now), &chronicle)[0].contains("34 ms, of 33 ms"));
        assert!(whats(&slow, &Known { fps: 10, ..known(now) }, &chronicle).is_empty());
        slow.encoders[0].running = false;
        assert!(whats(&slow, &known(now), &chronicle).is_empty(), "what it took is long ago");
        slow.encoders[0].restarts = 2;
        slow.max_viewers = 0;
        let worse = Known { has_tcp: false, descriptors: Some((950, 1024)), ..known(now) };
        assert_eq!(whats(&slow, &worse, &chronicle).len(), 4);
    }

    #[test]
    fn what_full_queues_lose_and_many_wrong_codes_are_problems() {
        let (now, chronicle, status) = (Instant::now(), Chronicle::default(), status(""));
        let slips = Known { wrong_codes: MANY_WRONG_CODES - 1, ..known(now) };
        assert!(whats(&status, &slips, &chronicle).is_empty());
        let overflow = |items| Some(Overflow { since: now, last: now + Duration::from_secs(2), items });
        let lost = Lost { pictures: overflow(7), sound: None, requests: overflow(2) };
        let known = Known { wrong_codes: MANY_WRONG_CODES, lost, now: now + Duration::from_secs(5), ..known(now) };
        let found = problems(&status, &known, &chronicle);
        let told: Vec<_> = found.iter().map(|problem| (problem.what.as_str(), problem.since_s)).collect();
        let expected = [
            ("the daemon fell behind: 7 pictures were lost for all viewers", Some(5)),
            ("the daemon fell behind: 2 requests and packets of those who join were lost", Some(5)),
            ("20 wrong codes came within a minute: somebody guesses, or has an old address", None),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn viewers_are_good_fair_or_bad_and_why() {
        let table = [
            (Some(20), Some(0), Some(Way::Udp), Some(Quality::Good), ""),
            (Some(20), Some(0), Some(Way::Relayed), Some(Quality::Good), "relayed"),
            (Some(20), Some(2), Some(Way::Tcp), Some(Quality::Fair), "over TCP"),
            (Some(260), Some(4), Some(Way::Udp), Some(Quality::Fair), "loss 4 %, round trip 260 ms"),
            (Some(20), Some(12), Some(Way::Udp), Some(Quality::Bad), "loss 12 %"),
            (Some(700), Some(0), Some(Way::Tcp), Some(Quality::Bad), "round trip 700 ms, over TCP"),
            (None, None, None, None, ""),
        ];
        for (rtt, loss, way, expected, because) in table {
            let (quality, why) = quality(rtt, loss, way);
            assert_eq!((quality, why.join(", ").as_str()), (expected, because));
        }
    }

    #[test]
    fn of_many_that_are_served_badly_some_are_named() {
        let viewer = |number: u32| {
            format!(
                r#"{{"viewer":{number},"at":"whep","name":"n","state":"connected","since_s":2,"codecs":[],"quality":"bad","because":["loss 12 %"]}}"#
            )
        };
        let count = |viewers: u32| {
            let all: Vec<_> = (1..=viewers).map(viewer).collect();
            whats(&status(&all.join(",")), &known(Instant::now()), &Chronicle::default())
        };
        assert_eq!(count(1), ["viewer 1 is served badly: loss 12 %"]);
        assert_eq!(count(5).len(), 5);
        assert_eq!(count(7).last().unwrap(), "2 more viewers are served badly");
    }
}
