//! The schedule with the real codec in virtual time: what a rung sends for pages, typing, scrolling, slides and films.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // the tables of units explain a failure

use super::*;
use crate::clock::MediaTime;
use crate::encoder::novelty::Novelty;
use crate::encoder::refine::SHARP_PSNR;
use crate::encoder::scenes;
use crate::encoder::video::VideoEncoder;
use crate::encoder::viewer::{CODECS, Viewer, luma_psnr};
use crate::frame::colour::I420;
use crate::frame::{Damage, Rect, Size};

const HD: Size = Size::new(1920, 1080);
const SMALL: Size = Size::new(960, 540);
const RATE: Bitrate = Bitrate(2_500_000);
/// What an encoding is taken to last.
const ENCODING: Duration = Duration::from_millis(6);

/// What happens to the rung.
enum Event {
    Frame(I420, Damage),
    Keyframe,
}

/// A unit as a viewer gets it.
struct Unit {
    at: Duration,
    /// From the frame's arrival to its encoding; zero for repeats.
    waited: Duration,
    bytes: usize,
    keyframe: bool,
    fault: bool,
    change: bool,
    qp: Qp,
    /// Of what the viewer sees then, against the source.
    psnr: f64,
}

struct Simulation {
    codec: Codec,
    size: Size,
    start: Instant,
    schedule: Schedule,
    novelty: Novelty,
    encoder: Option<VideoEncoder>,
    viewer: Viewer,
    shown: Option<I420>,
    units: Vec<Unit>,
    /// When a still picture was encoded only to keep viewers quiet.
    pulses: Vec<Duration>,
}

impl Simulation {
    fn new(codec: Codec, size: Size) -> Self {
        let start = Instant::now();
        Self {
            codec,
            size,
            start,
            schedule: Schedule::new(codec, RATE, 30, start),
            novelty: Novelty::new(size),
            encoder: None,
            viewer: Viewer::new(codec),
            shown: None,
            units: Vec::new(),
            pulses: Vec::new(),
        }
    }

    /// Runs `events` (milliseconds from the start, in order) and whatever follows from them until `until`.
    fn run(mut self, events: Vec<(u64, Event)>, until: u64) -> Vec<Unit> {
        self.play(events, until);
        self.units
    }

    fn play(&mut self, events: Vec<(u64, Event)>, until: u64) {
        let mut events = events.into_iter().map(|(at, event)| (Duration::from_millis(at), event)).peekable();
        let (mut now, until) = (Duration::ZERO, Duration::from_millis(until));
        let mut waiting: Option<(Duration, I420, Damage)> = None;
        while now < until {
            while let Some((at, event)) = events.next_if(|(at, _)| *at <= now) {
                match event {
                    Event::Keyframe => self.schedule.request_keyframe(self.start + at),
                    Event::Frame(picture, mut damage) => {
                        if let Some((_, _, before)) = waiting.take() {
                            damage.union(&before);
                        }
                        waiting = Some((at, picture, damage));
                        self.schedule.handle_frame();
                    }
                }
            }
            if let Some(work) = self.schedule.poll(self.start + now) {
                let frame = if work == Work::Change { waiting.take() } else { None };
                self.encode(now, work, frame);
                now += ENCODING;
                continue;
            }
            let timeout = self.schedule.poll_timeout().map(|at| at.saturating_duration_since(self.start));
            let event = events.peek().map(|(at, _)| *at);
            let next = [timeout, event].into_iter().flatten().min().unwrap_or(until);
            assert!(next > now, "the schedule spins at {now:?}");
            now = next;
        }
    }

    fn encode(&mut self, now: Duration, mut work: Work, frame: Option<(Duration, I420, Damage)>) {
        let (change_work, mut change, mut waited) = (work == Work::Change, Change::default(), Duration::ZERO);
        if let Some((at, picture, damage)) = frame {
            waited = now - at;
            change.activity = Activity::within(&picture, &damage);
            change.difference = self.novelty.observe(&picture, &damage);
            self.shown = Some(picture);
        }
        let picture = self.shown.as_ref().unwrap();
        loop {
            let at = self.start + now;
            let plan = self.schedule.plan(at, work, change, || Activity::whole(picture));
            if self.encoder.as_ref().is_none_or(|encoder| !encoder.has(plan.tool)) {
                assert!(plan.order.keyframe, "a new encoder starts with a keyframe");
                self.encoder = Some(VideoEncoder::new(self.codec, self.size, plan.tool, RATE, 30).unwrap());
            }
            let encoder = self.encoder.as_mut().unwrap();
            let media_time = MediaTime(u64::try_from(now.as_nanos()).unwrap());
            let unit = encoder.encode(picture, media_time, plan.tool, plan.order).unwrap();
            assert!(unit.keyframe || !plan.order.keyframe);
            match self.schedule.handle_unit(at, &plan, unit.data.len(), unit.keyframe, unit.luma_psnr) {
                Verdict::Redo => work = Work::Repeat,
                Verdict::Send { fault } => {
                    let psnr = luma_psnr(picture, &self.viewer.see(&unit.data));
                    let (bytes, keyframe) = (unit.data.len(), unit.keyframe);
                    if plan.reason == Reason::Pulse {
                        assert!(bytes < 300 && !keyframe, "a pulse of {bytes} bytes");
                        self.pulses.push(now);
                        return;
                    }
                    self.units.push(Unit {
                        at: now,
                        waited,
                        bytes,
                        keyframe,
                        fault,
                        change: change_work,
                        qp: plan.order.qp,
                        psnr,
                    });
                    return;
                }
            }
        }
    }
}

fn whole(picture: I420) -> Event {
    let damage = Damage::whole(picture.size);
    Event::Frame(picture, damage)
}

fn report(name: &str, units: &[Unit]) {
    println!("{name}: {} units, {} bytes", units.len(), units.iter().map(|unit| unit.bytes).sum::<usize>());
    for unit in units {
        let kind = if unit.keyframe {
            "key"
        } else if unit.change {
            "change"
        } else {
            "finer"
        };
        let Unit { at, bytes, psnr, waited, fault, qp, .. } = unit;
        println!(
            "  {:5} ms {kind:6} {bytes:7} B at {:2} {psnr:5.1} dB waited {:3} ms{}",
            at.as_millis(),
            qp.0,
            waited.as_millis(),
            if *fault { " FAULT" } else { "" }
        );
    }
}

/// Checks that a picture put at `from` was sharp within a second, and that nothing was sent from then to `until`.
fn assert_sharp_then_silent(units: &[Unit], from: u64, until: u64) {
    let (from, until) = (Duration::from_millis(from), Duration::from_millis(until));
    let these: Vec<_> = units.iter().filter(|unit| unit.at >= from && unit.at < until).collect();
    let last = these.last().unwrap();
    let took = last.at - from;
    assert!(last.psnr >= f64::from(SHARP_PSNR) - 0.2, "{:.1} dB at the end", last.psnr);
    assert!(took <= Duration::from_millis(1_000), "sharp after {took:?}");
}

#[test]
fn pages_are_sharp_within_a_second_and_then_nothing_flows() {
    for &codec in CODECS {
        let slides: Vec<_> = (0..3).map(|i| (i * 4_000, whole(scenes::text(HD, i, 2)))).collect();
        let units = Simulation::new(codec, HD).run(slides, 12_000);
        report("slides", &units);
        for slide in 0..3 {
            assert_sharp_then_silent(&units, slide * 4_000, slide * 4_000 + 4_000);
        }
        assert_eq!(units.iter().filter(|unit| unit.keyframe).count(), 3, "a new page is a keyframe, once");
        let second = RATE.0 as usize / 8;
        assert!(units.iter().all(|unit| unit.bytes < second * 6 / 10), "no unit stalls a viewer for long");
        assert!(units.iter().filter(|unit| unit.keyframe).all(|unit| unit.psnr > 30.0), "text can be read at once");
    }
}

#[test]
fn a_still_minute_has_a_pulse_in_time_and_nothing_else() {
    for &codec in CODECS {
        let mut simulation = Simulation::new(codec, Size::new(640, 360));
        simulation.play(vec![(0, whole(scenes::text(Size::new(640, 360), 3, 2)))], 60_000);
        let sharp = simulation.units.last().unwrap().at;
        assert!(sharp < Duration::from_secs(2) && simulation.units.iter().filter(|unit| unit.keyframe).count() == 1);
        let times: Vec<_> = std::iter::once(sharp).chain(simulation.pulses.iter().copied()).collect();
        assert!(times.windows(2).all(|w| w[1] - w[0] < Duration::from_secs(3)), "Chromium asks after 3 s: {times:?}");
        assert!((20..30).contains(&simulation.pulses.len()));
    }
}

#[test]
fn typing_is_sharp_at_once_and_costs_one_small_unit_each() {
    for &codec in CODECS {
        let mut page = scenes::text(HD, 7, 2);
        let mut dice = scenes::Dice::new(1);
        let mut events = vec![(0, whole(page.clone()))];
        for key in 0..20u64 {
            let x = 1_400 + key as usize * 8;
            scenes::glyph(&mut page, &mut dice, x, 507);
            let mut damage = Damage::none();
            damage.add(Rect { x: x as u32, y: 506, width: 8, height: 14 });
            events.push((2_000 + key * 100, Event::Frame(page.clone(), damage)));
        }
        let units = Simulation::new(codec, HD).run(events, 8_000);
        report("typing", &units);
        let typed: Vec<_> = units.iter().filter(|unit| unit.at >= Duration::from_secs(2)).collect();
        assert_eq!(typed.len(), 20, "a unit for each key, and none besides");
        assert!(typed.iter().all(|unit| unit.waited.is_zero() && !unit.keyframe && unit.psnr > 45.0));
        assert!(typed.iter().skip(2).all(|unit| unit.bytes < 2_000));
    }
}

#[test]
fn a_scroll_keeps_its_frames_and_its_rate() {
    for &codec in CODECS {
        let tall = scenes::text(Size::new(1920, 4320), 9, 2);
        let mut steps = vec![(0, whole(scenes::window(&tall, HD, 0)))];
        steps.extend((1..40).map(|step| (2_000 + step * 50, whole(scenes::window(&tall, HD, step as usize * 60)))));
        let units = Simulation::new(codec, HD).run(steps, 8_000);
        report("scroll", &units);
        let moving: Vec<_> =
            units.iter().filter(|unit| unit.change && unit.at > Duration::from_millis(2_100)).collect();
        assert!(moving.len() >= 30, "{} of 38 steps were sent", moving.len());
        assert!(moving.iter().all(|unit| unit.waited <= Duration::from_millis(50)), "none waits for the next");
        assert!(moving.iter().all(|unit| !unit.keyframe && unit.psnr > 36.0), "the text stays legible");
        let bytes: usize = moving.iter().map(|unit| unit.bytes).sum();
        assert!(bytes < 2 * RATE.0 as usize / 8 * 5 / 4, "{bytes} bytes in two seconds");
        assert_sharp_then_silent(&units, 3_950, 8_000);
    }
}

#[test]
fn a_scroll_right_after_a_page_waits_for_its_bits_until_the_gate_lets_its_tool_through() {
    let tall = scenes::text(Size::new(1920, 4320), 9, 2);
    let steps = (0..40).map(|step| (step * 50, whole(scenes::window(&tall, HD, step as usize * 60)))).collect();
    let units = Simulation::new(Codec::H264, HD).run(steps, 6_000);
    report("early scroll", &units);
    let keyframes: Vec<_> = units.iter().filter(|unit| unit.keyframe).map(|unit| unit.at).collect();
    assert!(keyframes.len() == 2 && keyframes[1] - keyframes[0] >= Duration::from_secs(1), "{keyframes:?}");
    assert!(keyframes[1] < Duration::from_millis(1_300), "{keyframes:?}");
    let closed: usize = units.iter().filter(|unit| unit.at < keyframes[1]).map(|unit| unit.bytes).sum();
    assert!(closed < RATE.0 as usize / 8 * 2, "{closed} bytes before the tool");
    let gap = units.windows(2).filter(|two| two[1].at < Duration::from_secs(2)).map(|two| two[1].at - two[0].at).max();
    assert!(gap < Some(Duration::from_millis(400)), "{gap:?} without a picture");
    assert!(units.iter().filter(|unit| unit.change && unit.at > keyframes[1]).count() >= 12);
}

#[cfg(feature = "vp8")]
#[test]
fn with_vp8_a_scroll_right_after_a_page_flows_at_once() {
    let tall = scenes::text(Size::new(1920, 4320), 9, 2);
    let steps = (0..40).map(|step| (step * 50, whole(scenes::window(&tall, HD, step as usize * 60)))).collect();
    let units = Simulation::new(Codec::Vp8, HD).run(steps, 6_000);
    report("early scroll with VP8", &units);
    assert_eq!(units.iter().filter(|unit| unit.keyframe).count(), 1, "its tool takes none");
    let moving: Vec<_> = units.iter().filter(|unit| unit.change).collect();
    assert!(
        moving.len() >= 35 && moving.iter().all(|unit| unit.waited < Duration::from_millis(100) && unit.psnr > 36.0)
    );
    let bytes: usize = moving.iter().map(|unit| unit.bytes).sum();
    assert!(bytes < 2 * RATE.0 as usize / 8 * 3 / 2, "{bytes} bytes in two seconds, a page among them");
    assert_sharp_then_silent(&units, 1_950, 6_000);
}

#[test]
fn a_requested_keyframe_comes_at_once_and_the_picture_is_sharp_again() {
    for &codec in CODECS {
        let events = vec![
            (0, whole(scenes::text(SMALL, 3, 4))),
            (3_000, Event::Keyframe),
            (3_010, Event::Keyframe),
            (3_500, Event::Keyframe),
        ];
        let units = Simulation::new(codec, SMALL).run(events, 9_000);
        let keyframes: Vec<_> = units.iter().filter(|unit| unit.keyframe).map(|unit| unit.at.as_millis()).collect();
        assert_eq!(keyframes, [0, 3_000, 4_000]);
        assert_sharp_then_silent(&units, 4_000, 9_000);
    }
}

#[test]
fn a_pause_makes_no_large_unit() {
    for &codec in CODECS {
        let mut page = scenes::text(SMALL, 3, 4);
        let mut events = vec![(0, whole(page.clone()))];
        let mut dice = scenes::Dice::new(4);
        (0..200).for_each(|i| scenes::glyph(&mut page, &mut dice, i % 60 * 7, 100 + i / 60 * 13));
        let mut damage = Damage::none();
        damage.add(Rect { x: 0, y: 100, width: 430, height: 60 });
        events.push((60_000, Event::Frame(page, damage)));
        let units = Simulation::new(codec, SMALL).run(events, 70_000);
        let after = units.iter().find(|unit| unit.at >= Duration::from_secs(60)).unwrap();
        assert!(!after.keyframe && after.bytes < 2 * RATE.0 as usize / 8 / 30, "{} bytes", after.bytes);
    }
}

#[test]
fn a_film_keeps_the_rate_without_a_keyframe_a_second() {
    for &codec in CODECS {
        let frames = (0..120).map(|frame| (frame * 33, whole(scenes::film(SMALL, frame)))).collect();
        let units = Simulation::new(codec, SMALL).run(frames, 3_960);
        report("film", &units);
        let bytes: usize = units.iter().map(|unit| unit.bytes).sum();
        assert!(bytes < 4 * RATE.0 as usize / 8 * 5 / 4, "{bytes} bytes in four seconds");
        assert!(units.iter().filter(|unit| unit.keyframe).count() <= 2);
        assert!(units.iter().filter(|unit| unit.change).count() > 90);
    }
}

#[test]
fn unchanged_frames_are_dropped() {
    let now = Instant::now();
    let mut schedule = Schedule::new(Codec::H264, RATE, 30, now);
    schedule.handle_frame();
    assert!(!schedule.drop_change(), "the first picture is needed");
    let plan = schedule.plan(now, Work::Change, Change::default(), || Activity(1e6));
    assert_eq!(schedule.handle_unit(now, &plan, 10_000, true, None), Verdict::Send { fault: false });
    schedule.handle_frame();
    assert!(schedule.drop_change() && schedule.poll(now).is_none());
}

/// Plans large changes of one kind, `period` apart, and has all but keyframes cost little; the tools, and whether they were
/// keyframes.
fn large_changes(
    schedule: &mut Schedule,
    from: Instant,
    count: u32,
    period: Duration,
    kind: Difference,
) -> Vec<(Tool, bool)> {
    let change = Change { activity: Activity(2e7), difference: kind };
    (0..count)
        .map(|i| {
            let now = from + period * i;
            schedule.handle_frame();
            let plan = schedule.plan(now, Work::Change, change, || Activity(2e7));
            let bytes = if plan.order.keyframe { 150_000 } else { 4_000 };
            schedule.handle_unit(now, &plan, bytes, plan.order.keyframe, None);
            (plan.tool, plan.order.keyframe)
        })
        .collect()
}

#[test]
fn scrolling_takes_the_searching_tool_and_a_film_the_quick_one() {
    let start = Instant::now();
    let mut schedule = Schedule::new(Codec::H264, RATE, 30, start);
    let (scroll, film) = (Difference { moved: 0.9, novel: 0.1 }, Difference { moved: 0.0, novel: 1.0 });
    let frame = Duration::from_millis(40);
    let scrolled = large_changes(&mut schedule, start, 50, frame, scroll);
    assert!(scrolled.iter().all(|(tool, _)| *tool == Tool::Screen));
    assert_eq!(scrolled.iter().filter(|(_, keyframe)| *keyframe).count(), 1);
    let filmed = large_changes(&mut schedule, start + frame * 50, 200, frame, film);
    assert_eq!(filmed.last(), Some(&(Tool::Camera, false)));
    assert_eq!(filmed.iter().filter(|(_, keyframe)| *keyframe).count(), 1, "changing the tool takes a keyframe");
    let both = large_changes(&mut schedule, start + frame * 250, 50, frame, scroll);
    assert!(both.iter().filter(|(_, keyframe)| *keyframe).count() <= 1, "tools don't alternate");
}

#[test]
fn a_change_of_tools_waits_for_the_gate() {
    let start = Instant::now();
    let mut schedule = Schedule::new(Codec::H264, RATE, 30, start);
    let (page, scroll) = (Difference { moved: 0.0, novel: 1.0 }, Difference { moved: 0.9, novel: 0.1 });
    let shown = large_changes(&mut schedule, start, 1, Duration::ZERO, page);
    assert_eq!(shown, [(Tool::Camera, true)]);
    let (frame, begun) = (Duration::from_millis(50), start + Duration::from_millis(200));
    let scrolled = large_changes(&mut schedule, begun, 40, frame, scroll);
    let keyframes: Vec<_> =
        (0..).zip(&scrolled).filter(|(_, (_, key))| *key).map(|(step, _)| begun + frame * step).collect();
    assert_eq!(keyframes, [start + Duration::from_secs(1)], "one, a second after that of the page");
    assert_eq!(scrolled.last(), Some(&(Tool::Screen, false)));
}

#[test]
fn after_a_start_nothing_is_repeated_and_the_first_frame_is_a_keyframe() {
    let now = Instant::now();
    let mut schedule = Schedule::new(Codec::H264, RATE, 30, now);
    schedule.handle_frame();
    let plan = schedule.plan(now, Work::Change, Change::default(), || Activity(1e6));
    schedule.handle_unit(now, &plan, 10_000, true, None);
    schedule.handle_frame();
    schedule.handle_start();
    let later = now + Duration::from_mins(1);
    schedule.request_keyframe(later);
    assert!(schedule.poll(later).is_none() && schedule.poll_timeout().is_none());
    schedule.handle_frame();
    assert_eq!(schedule.poll(later), Some(Work::Change));
    assert!(schedule.plan(later, Work::Change, Change::default(), || Activity(1e6)).order.keyframe);
}

#[test]
fn new_pages_are_keyframes_unless_they_come_fast() {
    let start = Instant::now();
    let mut schedule = Schedule::new(Codec::H264, RATE, 30, start);
    let page = Difference { moved: 0.0, novel: 1.0 };
    let slow = large_changes(&mut schedule, start, 5, Duration::from_secs(2), page);
    assert!(slow.iter().all(|planned| *planned == (Tool::Camera, true)));
    let fast = large_changes(&mut schedule, start + Duration::from_millis(8_100), 50, Duration::from_millis(100), page);
    assert!(fast.iter().all(|(_, keyframe)| !keyframe));
}
