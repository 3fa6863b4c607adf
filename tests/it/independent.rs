//! The daemon as another implementation of WebRTC sees it: the `webrtc` crate, packet by packet.

use std::time::{Duration, Instant};

use laterna::frame::Size;
use laterna::source::pattern::strip;
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

use crate::stage::{CAME, GONE, SOON};
use crate::support::daemon::{Daemon, Setup};
use crate::support::rtc_viewer::{Heard, RtcViewer};
use crate::support::xclient::unix_millis;

const PATTERN: Size = Size { width: 1280, height: 720 };
/// Ticks of video timestamps in a millisecond.
const TICKS: f64 = 90.0;
/// From the epoch of NTP to that of Unix, in seconds.
const NTP_EPOCH: f64 = 2_208_988_800.0;
/// How many frames are looked at: two seconds at full rate.
const FRAMES: usize = 60;

/// One frame: its time, and what its packets carry.
struct Frame {
    timestamp: u32,
    packets: Vec<Heard>,
}

fn daemon(codec: &str) -> Daemon {
    Setup::new(&["--source", "pattern", "--audio", "off", "--codec", codec]).start()
}

/// The whole frames among packets, which must have no gap and no two frames of one time.
fn frames(packets: &[Heard]) -> Vec<Frame> {
    for pair in packets.windows(2) {
        assert_eq!(pair[1].number, pair[0].number.wrapping_add(1), "a gap, or a packet out of order");
        let later = pair[1].timestamp.wrapping_sub(pair[0].timestamp).cast_signed();
        assert_eq!(later > 0, pair[0].marker, "a frame's time changes right after its last packet, and forwards only");
    }
    let whole = packets.split_inclusive(|packet| packet.marker).filter(|frame| frame.last().is_some_and(|p| p.marker));
    whole.map(|frame| Frame { timestamp: frame[0].timestamp, packets: frame.to_vec() }).collect()
}

/// Awaits frames from a keyframe on, and reports; checks what both codecs have in common, and gives the frames.
fn watched(daemon: &Daemon, begins_keyframe: fn(&[u8]) -> bool) -> Vec<Frame> {
    let viewer = RtcViewer::join(daemon);
    let [media, _] = viewer.streams();
    daemon.logged(CAME, SOON);
    let first = viewer.awaits("picture", SOON, |taped| taped.stream(media).into_iter().next());
    if !begins_keyframe(&first.payload) {
        // What comes right after the handshake this implementation may drop.
        viewer.ask_for_keyframe(media);
    }
    let (packets, reports) = viewer.awaits("frames and sender reports", SOON, |taped| {
        let reports: Vec<_> = taped.reports.iter().filter(|(_, report)| report.ssrc == media).cloned().collect();
        let packets = taped.stream(media);
        let packets = packets[packets.iter().position(|packet| begins_keyframe(&packet.payload))?..].to_vec();
        let count = packets.iter().filter(|packet| packet.marker).count();
        let reports: Vec<_> = reports.into_iter().filter(|(at, _)| *at >= packets[0].at).collect();
        (count >= FRAMES && reports.len() >= 3).then_some((packets, reports))
    });
    let frames = frames(&packets);
    let ntp = |time: u64| (time as f64 / 2f64.powi(32) - NTP_EPOCH) * 1000.0;
    let (first_at, first) = &reports[0];
    for (at, report) in &reports {
        // What is said of the wall clock is so, and both clocks of a report run alike.
        let now = unix_millis() - at.elapsed().as_secs_f64() * 1000.0;
        let late = now - ntp(report.ntp_time);
        assert!((-50.0..1000.0).contains(&late), "a report of {late:.1} ms ago");
        let by_ntp = ntp(report.ntp_time) - ntp(first.ntp_time);
        let by_rtp = f64::from(report.rtp_time.wrapping_sub(first.rtp_time)) / TICKS;
        assert!((by_ntp - by_rtp).abs() < 1.0, "{by_ntp:.2} ms by NTP are {by_rtp:.2} ms by RTP");
    }
    let (last_at, last) = &reports[reports.len() - 1];
    let came = packets.iter().filter(|packet| packet.at > *first_at && packet.at <= *last_at).count();
    let said = last.packet_count.wrapping_sub(first.packet_count) as usize;
    assert!(said.abs_diff(came) <= 5, "{said} packets are said to be sent between reports, {came} have come");
    // By the reports, each frame was taken before it came, and not long before.
    let age = |packet: &Heard| {
        let since_report = signed_since(packet.at, *first_at) * 1000.0;
        since_report - f64::from(packet.timestamp.wrapping_sub(first.rtp_time).cast_signed()) / TICKS
    };
    let mut ages: Vec<f64> = packets.iter().map(age).collect();
    ages.sort_by(f64::total_cmp);
    let (least, middle) = (ages[0], ages[ages.len() / 2]);
    println!("age of packets on arrival by the sender reports: {least:.1} ms at least, {middle:.1} ms in the middle");
    assert!(least > -50.0 && middle < 1000.0, "packets are {least:.1} to {middle:.1} ms old");
    drop(viewer);
    daemon.logged(GONE, SOON);
    frames
}

fn signed_since(one: Instant, other: Instant) -> f64 {
    one.saturating_duration_since(other).as_secs_f64() - other.saturating_duration_since(one).as_secs_f64()
}

/// The NAL units of a frame's payloads (RFC 6184): single ones, aggregates and fragments.
fn units(frame: &Frame) -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    for packet in &frame.packets {
        let payload = &packet.payload;
        match payload[0] & 31 {
            1..=23 => units.push(payload.to_vec()),
            24 => {
                let mut rest = &payload[1..];
                while let [high, low, after @ ..] = rest {
                    let (unit, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
                    units.push(unit.to_vec());
                    rest = after;
                }
            }
            28 => {
                if payload[1] & 128 != 0 {
                    units.push(vec![payload[0] & 0xe0 | payload[1] & 31]);
                }
                units.last_mut().unwrap().extend_from_slice(&payload[2..]);
            }
            other => panic!("a payload of type {other}"),
        }
    }
    units
}

#[test]
fn h264_decodes_and_its_timestamps_are_those_of_capture() {
    let daemon = daemon("h264");
    let begins = |payload: &[u8]| match payload[0] & 31 {
        24 => payload[3] & 31 == 7,
        kind => kind == 7,
    };
    let mut decoder = Decoder::new().unwrap();
    let mut shown: Vec<(u32, u32, u32)> = Vec::new();
    for (index, frame) in watched(&daemon, begins).iter().enumerate() {
        let units = units(frame);
        let kinds: Vec<u8> = units.iter().map(|unit| unit[0] & 31).collect();
        let idr = kinds.iter().position(|kind| *kind == 5);
        assert!(index > 0 || idr.is_some(), "the first frame has no IDR: {kinds:?}");
        if let Some(idr) = idr {
            let before: Vec<u8> = kinds[..idr].iter().copied().filter(|kind| [7, 8].contains(kind)).collect();
            assert_eq!(before, [7, 8], "parameter sets before each IDR: {kinds:?}");
        }
        let stream: Vec<u8> = units.iter().flat_map(|unit| [&[0, 0, 0, 1], unit.as_slice()].concat()).collect();
        let picture = decoder.decode(&stream).unwrap().unwrap_or_else(|| panic!("no picture from {kinds:?}"));
        assert_eq!(picture.dimensions(), (PATTERN.width as usize, PATTERN.height as usize));
        let stride = picture.strides().0;
        let luma = |x: u32, y: u32| picture.y()[y as usize * stride + x as usize];
        let (number, millis) = strip::read(luma, PATTERN).unwrap_or_else(|| panic!("no strip in frame {index}"));
        shown.push((number, millis, frame.timestamp));
    }
    assert!(shown.is_sorted_by_key(|(number, ..)| *number), "numbers go back: {shown:?}");
    assert!(shown[shown.len() - 1].0 > shown[0].0 + 20, "the picture hardly moves: {shown:?}");
    // Those that a joiner gets at once are a millisecond apart: what counts is a second later.
    let live = &shown[shown.len() / 2..];
    for (_, millis, timestamp) in live {
        let by_strip = f64::from(millis.wrapping_sub(live[0].1));
        let by_rtp = f64::from(timestamp.wrapping_sub(live[0].2)) / TICKS;
        assert!((by_strip - by_rtp).abs() < 5.0, "{by_strip} ms by the strip are {by_rtp:.1} ms by RTP: {live:?}");
    }
    daemon.stop();
}

#[test]
#[cfg_attr(not(feature = "vp8"), ignore = "this build has no VP8")]
fn vp8_has_whole_frames_of_the_right_size() {
    let daemon = daemon("vp8");
    for (index, frame) in watched(&daemon, |payload| vp8(payload).0 && vp8(payload).1[0] & 1 == 0).iter().enumerate() {
        for (place, packet) in frame.packets.iter().enumerate() {
            let (starts, _) = vp8(&packet.payload);
            assert_eq!(starts, place == 0, "frame {index}: a frame's first packet alone begins its only partition");
        }
        let (_, data) = vp8(&frame.packets[0].payload);
        let is_key = data[0] & 1 == 0;
        assert!(index > 0 || is_key, "the first frame is no keyframe");
        if is_key {
            assert_eq!(data[3..6], [0x9d, 0x01, 0x2a], "RFC 6386, section 9.1");
            let extent = |at: usize| u32::from(u16::from_le_bytes([data[at], data[at + 1]]) & 0x3fff);
            assert_eq!((extent(6), extent(8)), (PATTERN.width, PATTERN.height));
        }
    }
    daemon.stop();
}

/// Whether a payload begins the first partition, and what follows its descriptor (RFC 7741, section 4.2).
fn vp8(payload: &[u8]) -> (bool, &[u8]) {
    let first = payload[0];
    let mut length = 1;
    if first & 0x80 != 0 {
        let extensions = payload[1];
        length += 1;
        if extensions & 0x80 != 0 {
            length += if payload[length] & 0x80 != 0 { 2 } else { 1 };
        }
        length += usize::from(extensions & 0x40 != 0) + usize::from(extensions & 0x30 != 0);
    }
    (first & 0x17 == 0x10, &payload[length..])
}

#[test]
fn what_a_viewer_lost_and_asks_for_comes_by_the_other_stream() {
    let daemon = daemon("h264");
    let viewer = RtcViewer::join(&daemon);
    let [media, again] = viewer.streams();
    viewer.awaits("pictures", SOON, |taped| (taped.stream(media).len() > 100).then_some(()));
    viewer.lose_one(media);
    let lost = viewer.awaits("packet to lose", SOON, |taped| taped.lost.clone());
    viewer.awaits("NACK of what was lost", SOON, |taped| taped.nacked.contains(&lost.number).then_some(()));
    let repeated = viewer.awaits("retransmission", SOON, |taped| {
        let carries = |packet: &Heard| packet.payload.get(..2) == Some(&lost.number.to_be_bytes()[..]);
        taped.stream(again).into_iter().find(carries)
    });
    println!("repeated {:.1?} after it was lost", repeated.at.saturating_duration_since(lost.at));
    assert_eq!(repeated.payload[2..], lost.payload[..], "what is repeated is what was lost (RFC 4588, section 4)");
    assert_eq!((repeated.timestamp, repeated.marker), (lost.timestamp, lost.marker));
    // One is asked for, one is repeated: within a round trip each number is sent once.
    let count = |taped: &crate::support::rtc_viewer::Taped| taped.stream(media).len();
    let now = viewer.awaits("count", Duration::from_secs(1), |taped| Some(count(taped)));
    viewer.awaits("pictures after it", SOON, |taped| (count(taped) > now + 50).then_some(()));
    drop(viewer);
    daemon.logged(GONE, SOON);
    daemon.stop();
}
