//! Negotiation against offers as real browsers write them.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::session::engine::rtc::LocalTransport;
use crate::session::reach::{CandidateKind, LocalCandidate};

/// Chromium's recvonly offer of video and audio, shortened.
pub(crate) const CHROMIUM: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 106 107\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=ice-options:trickle\r\n\
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\na=setup:actpass\r\na=mid:0\r\n\
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\na=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\na=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
a=rtpmap:102 H264/90000\r\na=rtcp-fb:102 goog-remb\r\na=rtcp-fb:102 transport-cc\r\na=rtcp-fb:102 ccm fir\r\na=rtcp-fb:102 nack\r\na=rtcp-fb:102 nack pli\r\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
a=rtpmap:106 H264/90000\r\na=rtcp-fb:106 transport-cc\r\na=rtcp-fb:106 nack\r\na=rtcp-fb:106 nack pli\r\na=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\na=rtpmap:107 rtx/90000\r\na=fmtp:107 apt=106\r\n\
a=candidate:1 1 udp 2113937151 8a5c6d3e-0000-4000-8000-000000000000.local 50000 typ host\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111 9\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\na=setup:actpass\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:9 G722/8000\r\n";

fn all() -> Capabilities {
    Capabilities { video: vec![Codec::H264, Codec::Vp8], audio: true }
}

pub(super) fn streams() -> LocalStreams {
    LocalStreams {
        video_ssrc: 11,
        rtx_ssrc: 12,
        audio_ssrc: 13,
        name: "the \r\nroom".into(),
        cname: "c".into(),
        sync: Sync::Lip,
        video_section: None,
        audio_section: None,
    }
}

pub(super) fn local(name: &str) -> LocalTransport {
    LocalTransport { ufrag: name.into(), password: name.repeat(22) }
}

pub(super) fn addresses() -> [LocalCandidate; 2] {
    ["192.0.2.1:8889", "[::1]:8889"].map(|address| {
        let address = address.parse().unwrap();
        LocalCandidate { kind: CandidateKind::Host, address, base: address }
    })
}

fn answered_by(text: &str, can: &Capabilities) -> (Vec<Agreement>, String) {
    let offer = Description::parse(text).unwrap();
    let agreements = negotiate(&offer, can).unwrap();
    let transports = [local("first"), local("second")];
    let origin = Origin { id: 5, version: 6 };
    let text = answer(&offer, &agreements, &transports, &streams(), origin, &[7; 32], &addresses());
    (agreements, text)
}

fn answered(text: &str) -> (Agreement, String) {
    let (mut agreements, text) = answered_by(text, &all());
    assert_eq!(agreements.len(), 1);
    (agreements.remove(0), text)
}

#[test]
fn chromium_gets_constrained_baseline_with_what_it_offered() {
    let (agreement, answer) = answered(CHROMIUM);
    let video = agreement.video.as_ref().unwrap();
    assert_eq!(
        (video.payload_type, video.rtx, video.transport_cc, video.playout_delay),
        (106, Some(107), Some(3), Some(5))
    );
    assert_eq!(video.feedback, ["transport-cc", "nack", "nack pli"], "FIR was not offered for this payload type");
    assert_eq!(video.format, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e028");
    assert_eq!(agreement.remote.fingerprints[0][31], 0x1f);
    assert!(!agreement.remote.dtls_client);
    for line in [
        "s=the room",
        "a=group:BUNDLE 0 1",
        "m=video 9 UDP/TLS/RTP/SAVPF 106 107",
        "a=sendonly",
        "a=setup:passive",
        "a=rtcp-rsize",
        "a=ssrc-group:FID 11 12",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=fmtp:111 minptime=10;sprop-stereo=1;stereo=1",
        "a=msid:laterna audio",
        "a=candidate:1 1 udp 2130706431 192.0.2.1 8889 typ host",
        "a=end-of-candidates",
    ] {
        assert!(answer.lines().any(|l| l == line), "no {line:?} in\n{answer}");
    }
    assert_eq!(answer.matches("a=candidate").count(), 2, "component 1 of two addresses, once");
}

#[test]
fn answers_keep_the_order_of_sections_and_reject_data_channels() {
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";
    let (_, answer) = answered(
        &(CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 2 0 1").replace("m=video", &format!("{data}m=video"))
            + "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\n"),
    );
    let media: Vec<_> = answer.lines().filter(|l| l.starts_with("m=")).map(|l| &l[2..]).collect();
    assert_eq!(
        media,
        [
            "application 0 UDP/DTLS/SCTP webrtc-datachannel",
            "video 9 UDP/TLS/RTP/SAVPF 106 107",
            "audio 9 UDP/TLS/RTP/SAVPF 111",
            "video 0 UDP/TLS/RTP/SAVPF 96"
        ]
    );
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"));
}

#[test]
fn a_codec_is_what_its_whole_map_says() {
    for map in ["H264/90000/", "H264/90000/2", "H264/+90000", "H264/90000x"] {
        let (agreement, _) = answered(&CHROMIUM.replace("rtpmap:106 H264/90000", &format!("rtpmap:106 {map}")));
        assert_eq!(agreement.video.unwrap().payload_type, 102, "{map}");
    }
    let (agreement, _) = answered(&CHROMIUM.replace("opus/48000/2", "OPUS/48000/2"));
    assert_eq!(agreement.audio.unwrap().payload_type, 111);
    let (agreement, _) = answered(&CHROMIUM.replace("opus/48000/2", "opus/48000/2/2"));
    assert_eq!(agreement.audio, None);
}

#[test]
fn levels_follow_the_offer_where_asymmetry_is_not_allowed() {
    let (agreement, _) = answered(&CHROMIUM.replace("level-asymmetry-allowed=1;", ""));
    assert_eq!(agreement.video.unwrap().format, "packetization-mode=1;profile-level-id=42e01f");
}

#[test]
fn a_passive_offer_is_answered_actively_and_session_level_values_count() {
    let fingerprint = CHROMIUM.lines().find(|l| l.starts_with("a=fingerprint")).unwrap();
    let firefox = CHROMIUM
        .replace(&format!("{fingerprint}\r\n"), "")
        .replace("s=-\r\n", &format!("s=-\r\n{fingerprint}\r\n"))
        .replace("actpass", "passive");
    let (agreement, answer) = answered(&firefox);
    assert!(agreement.remote.dtls_client && answer.contains("a=setup:active\r\n"));
}

#[test]
fn refusals_say_why() {
    let refused_by =
        |text: &str, can: &Capabilities| negotiate(&Description::parse(text).unwrap(), can).unwrap_err().to_string();
    let refused = |text: &str| refused_by(text, &all());
    let no_h264: String = CHROMIUM.lines().filter(|l| !l.contains("H264")).map(|l| format!("{l}\r\n")).collect();
    assert_eq!(
        refused_by(&no_h264, &Capabilities { video: vec![Codec::H264], audio: false }),
        "no common codec: the offer asks for video as VP8 and sound as G722, opus, this broadcaster sends H264 (constrained baseline, packetization-mode=1)"
    );
    let sound_only = CHROMIUM.replacen("a=recvonly", "a=inactive", 1);
    let silent = refused_by(&sound_only, &Capabilities { audio: false, ..all() });
    assert!(silent.contains("asks for sound only, and this broadcast has none"), "{silent}");
    assert!(refused(&CHROMIUM.replace("a=recvonly", "a=sendonly")).contains("asks for nothing that is sent here"));
    assert!(refused(&CHROMIUM.replace("a=rtcp-mux\r\n", "")).contains("no a=rtcp-mux"));
    assert!(refused(&CHROMIUM.replace("s=-\r\n", "s=-\r\na=ice-lite\r\n")).contains("a=ice-lite"));
    assert!(refused(&CHROMIUM.replace("a=ice-ufrag:abcd\r\n", "")).contains("a=ice-ufrag"));
    assert!(refused(&CHROMIUM.replace("sha-256", "sha-1")).contains("fingerprint"));
    assert_eq!(Description::parse("hello").unwrap_err(), DescriptionError::NotSdp);
    assert_eq!(Description::parse("v=0\r\ns=-\r\n").unwrap_err(), DescriptionError::NoMedia);
    assert!(matches!(
        Description::parse(&format!("v=0\r\n{}", "a=x\r\n".repeat(5_000))).unwrap_err(),
        DescriptionError::TooLarge { .. }
    ));
}

/// An offer cut anywhere, or with any byte changed, is answered or refused; an answer never has a line of the offer's making.
#[test]
fn damaged_offers_are_answered_or_refused() {
    for cut in 0..CHROMIUM.len() {
        if let Ok(offer) = Description::parse(&CHROMIUM[..cut]) {
            let _ = negotiate(&offer, &all());
        }
        let mut bytes = CHROMIUM.as_bytes().to_vec();
        bytes[cut] = b'#';
        if let Ok(offer) = Description::parse(std::str::from_utf8(&bytes).unwrap())
            && negotiate(&offer, &all()).is_ok()
        {
            let (_, answer) = answered_by(std::str::from_utf8(&bytes).unwrap(), &all());
            assert!(answer.split("\r\n").all(|l| l.is_empty() || l.as_bytes()[1] == b'='), "{answer}");
        }
    }
}

fn recorded(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)).unwrap()
}

#[test]
fn sections_that_are_not_bundled_get_a_transport_each() {
    let (agreements, answer) = answered_by(&recorded("offers/made-no-bundle.sdp"), &all());
    let [video, audio] = agreements.try_into().unwrap();
    assert_eq!((video.audio, video.video.unwrap().section), (None, 1));
    assert_eq!((audio.video, audio.audio.unwrap().section), (None, 0));
    assert_eq!((video.remote.ufrag.as_str(), audio.remote.ufrag.as_str()), ("9aZ+", "4f2K"));
    assert!(video.remote.candidates[0].contains("40002") && audio.remote.candidates[0].contains("40001"));
    let (sound, picture) = answer.split_once("m=video").unwrap();
    assert!(sound.contains("a=ice-ufrag:second\r\n") && picture.contains("a=ice-ufrag:first\r\n"));
    assert_eq!(answer.matches("a=end-of-candidates").count(), 2);
}

#[test]
fn a_group_may_name_a_section_twice_or_one_that_is_not_there() {
    let (_, answer) = answered(&CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 1 9 0 1"));
    assert!(answer.contains("a=group:BUNDLE 1 0\r\n"));
    let (_, sound) = answer.split_once("m=audio").unwrap();
    assert!(sound.contains("a=candidate:"), "the section tagged first carries the transport");
}

#[test]
fn one_media_stream_or_two() {
    let offer = Description::parse(CHROMIUM).unwrap();
    let agreements = negotiate(&offer, &all()).unwrap();
    let origin = Origin { id: 5, version: 6 };
    let streams = LocalStreams { sync: Sync::LowLatency, ..streams() };
    let text = answer(&offer, &agreements, &[local("first")], &streams, origin, &[7; 32], &addresses());
    for line in ["a=msid:laterna video", "a=msid:laterna-audio audio", "a=ssrc:13 msid:laterna-audio audio"] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    assert!(text.contains("o=- 5 6 IN IP4 127.0.0.1\r\n"));
}

#[test]
fn a_section_of_a_group_may_leave_its_transport_to_another() {
    let offer = recorded("offers/firefox-recvonly-both-max-bundle.sdp");
    let (agreement, answer) = answered(&offer);
    assert_eq!(agreement.video.unwrap().codec, Codec::Vp8);
    assert!(agreement.audio.is_some() && answer.contains("a=group:BUNDLE 0 1\r\n"));
    assert!(answer.contains("\r\nm=audio 9 "), "bundle-only is accepted with a port");
}

fn called(can: &Capabilities) -> String {
    offer(Party::Viewer, can, &local("ours"), &streams(), Origin { id: 5, version: 1 }, &[7; 32], &addresses())
}

#[test]
fn browsers_answers_to_the_daemons_offer_are_understood() {
    let own = called(&all());
    let accepted = |name, can: &Capabilities| accept(&own, &Description::parse(&recorded(name)).unwrap(), can).unwrap();
    let chromium = accepted("answers/chromium.sdp", &all());
    let video = chromium.video.unwrap();
    assert_eq!((video.codec, video.payload_type, video.rtx), (Codec::H264, 102, Some(103)));
    assert_eq!((video.transport_cc, video.playout_delay), (Some(3), Some(5)));
    assert_eq!(chromium.audio.unwrap().payload_type, 111);
    assert!(!chromium.remote.dtls_client && chromium.remote.candidates.len() == 2);
    let first_vp8 = Capabilities { video: vec![Codec::Vp8, Codec::H264], audio: true };
    assert_eq!(accepted("answers/chromium.sdp", &first_vp8).video.unwrap().codec, Codec::Vp8);
    let firefox = accepted("answers/firefox.sdp", &all());
    assert_eq!(firefox.video.unwrap().codec, Codec::Vp8, "it has no H.264");
    assert!(firefox.audio.is_some());
}

#[test]
fn an_answer_never_adds_to_the_daemons_offer() {
    let own = called(&all());
    let answer = recorded("answers/chromium.sdp");
    let accepted = |answer: &str| accept(&own, &Description::parse(answer).unwrap(), &all());
    // Another number for what was offered, or another meaning of the number, is not what was offered.
    let renumbered = answer.replace("102 103 96 97", "102 103 98 97").replace("rtpmap:96 VP8", "rtpmap:98 VP8");
    let renumbered = renumbered.replace("rtpmap:102 H264", "rtpmap:102 AV1");
    assert_eq!(accepted(&renumbered).unwrap().video, None);
    let moved = answer.replace("extmap:3 ", "extmap:4 ").replace("rtcp-fb:102 transport-cc", "rtcp-fb:102 goog-remb");
    let video = accepted(&moved).unwrap().video.unwrap();
    assert_eq!((video.transport_cc, video.feedback.contains(&"transport-cc")), (None, false));
    let swapped = answer.replace("apt=102", "apt=96");
    assert_eq!(accepted(&swapped).unwrap().video.unwrap().rtx, None);
    let unbundled = accepted(&answer.replace("a=group:BUNDLE video audio\r\n", "")).unwrap();
    assert!(unbundled.video.is_some() && unbundled.audio.is_none(), "there is one transport");
    let sound_only = accepted(&answer.replacen("a=recvonly", "a=inactive", 1)).unwrap();
    assert!(sound_only.video.is_none() && sound_only.audio.is_some());
    assert!(accepted(&answer.replace("setup:active", "setup:passive")).unwrap().remote.dtls_client);
    let refused = |answer: &str| accepted(answer).unwrap_err();
    assert!(matches!(refused(&answer.replace("a=recvonly", "a=inactive")), NegotiationError::NothingTaken(_)));
    let (video, _) = answer.split_once("m=audio").unwrap();
    assert_eq!(refused(video), NegotiationError::OtherSections { asked: 2, found: 1 });
    assert_eq!(refused(&answer.replace("a=ice-pwd", "a=x")), NegotiationError::Incomplete("a=ice-pwd"));
}

#[test]
fn the_daemons_offer_has_what_it_can_send_and_no_more() {
    for (video, audio) in [(vec![Codec::Vp8, Codec::H264], true), (vec![Codec::Vp8], false), (vec![], true)] {
        let can = Capabilities { video, audio };
        let text = called(&can);
        let own = Description::parse(&text).unwrap();
        let codecs: Vec<_> = own.sections.iter().flat_map(Section::codec_names).collect();
        let has = |name| codecs.contains(&name);
        assert_eq!(has("H264"), can.video.contains(&Codec::H264));
        assert_eq!(has("VP8"), can.video.contains(&Codec::Vp8));
        assert_eq!(has("opus"), can.audio);
        assert!(own.sections.iter().all(|s| s.rtcp_mux && s.direction == Direction::SendOnly));
        assert_eq!(own.sections.len(), usize::from(!can.video.is_empty()) + usize::from(can.audio));
        assert_eq!(text.matches("a=setup:actpass").count(), own.sections.len());
        assert_eq!(text.matches("a=end-of-candidates").count(), 1);
        assert_eq!(own.bundles.len(), 1);
    }
}

#[test]
fn an_offer_to_an_sfu_has_one_transport_and_one_stream() {
    let streams = LocalStreams { sync: Sync::Lip, ..streams() };
    let own = offer(Party::Sfu, &all(), &local("ours"), &streams, Origin { id: 5, version: 1 }, &[7; 32], &addresses());
    let (session, sections) = own.split_once("m=").unwrap();
    let (video, audio) = sections.split_once("m=").unwrap();
    let count = |text: &str, line: &str| text.lines().filter(|l| *l == line).count();
    // RFC 9725, section 4.4.1: a single group, max-bundle (RFC 9429), RTCP multiplexed and nothing else (RFC 8858).
    assert_eq!(count(session, "a=group:BUNDLE video audio"), 1);
    assert!(video.starts_with("video 9 ") && audio.starts_with("audio 0 "), "{own}");
    assert_eq!((count(video, "a=bundle-only"), count(audio, "a=bundle-only")), (0, 1));
    for section in [video, audio] {
        for line in ["a=rtcp-mux", "a=rtcp-mux-only", "a=sendonly", "a=setup:actpass", "a=ice-ufrag:ours"] {
            assert_eq!(count(section, line), 1, "{line} in\n{section}");
        }
        let directions = ["a=sendrecv", "a=recvonly", "a=inactive"].map(|line| count(section, line));
        assert_eq!(directions, [0; 3]);
        // Section 4.4.2: one MediaStream with one track of each kind.
        let streams: Vec<_> = section.lines().filter_map(|l| l.strip_prefix("a=msid:")).collect();
        assert!(streams.len() == 1 && streams[0].starts_with("laterna "), "{streams:?}");
    }
    assert_eq!((count(video, "a=end-of-candidates"), own.matches("a=candidate:").count()), (1, 2));
    for codec in ["H264/90000", "VP8/90000", "opus/48000/2"] {
        assert!(own.contains(codec), "no {codec} in\n{own}");
    }
    // What is bundled only is agreed as all else, also with a server whose ICE is lite.
    let answer = recorded("answers/chromium.sdp").replace("s=-\r\n", "s=-\r\na=ice-lite\r\n");
    assert!(answer.contains("a=ice-lite"));
    let agreement = accept(&own, &Description::parse(&answer).unwrap(), &all()).unwrap();
    assert!(agreement.video.is_some_and(|video| video.codec == Codec::H264) && agreement.audio.is_some());
    let called = called(&all());
    assert!(!called.contains("bundle-only") && !called.contains("m=audio 0"), "pages may know no bundling");
}

#[test]
fn an_offer_that_repeats_itself_is_decided_on_quickly() {
    let section = |mid: usize, formats: &str, more: &str| {
        format!(
            "m=video 9 UDP/TLS/RTP/SAVPF {formats}\r\na=mid:{mid}\r\na=ice-ufrag:abcd\r\n\
             a=ice-pwd:0123456789012345678901\r\na=rtcp-mux\r\n{more}"
        )
    };
    let vp8 = "a=rtpmap:96 VP8/90000\r\n";
    let group = format!("a=group:BUNDLE{}{}\r\n", " x".repeat(14_000), " 7".repeat(14_000));
    let many: String = (0..30).map(|mid| section(mid, "96", vp8)).collect();
    let maps = "a=rtpmap:5 x/1\r\n".repeat(1900);
    for offer in [format!("v=0\r\n{group}{many}"), format!("v=0\r\n{}", section(0, &"0 ".repeat(16_000), &maps))] {
        assert!((59_000..65_536).contains(&offer.len()), "{}", offer.len());
        let start = std::time::Instant::now();
        let refused = Description::parse(&offer).map_err(Into::into).and_then(|offer| negotiate(&offer, &all()));
        assert!(refused.is_err(), "there is no fingerprint");
        let took = start.elapsed();
        assert!(took < std::time::Duration::from_millis(100), "{took:?} for an offer of {} bytes", offer.len());
    }
}

#[test]
fn each_kind_of_candidate_has_its_type_and_preference() {
    use CandidateKind as K;
    let address = "192.0.2.1:8889".parse().unwrap();
    let kinds = [K::Host, K::TcpPassive, K::ServerReflexive, K::Relayed];
    let all = candidates(&kinds.map(|kind| LocalCandidate { kind, address, base: address }));
    let ends =
        ["typ host", "typ host tcptype passive", "typ srflx raddr 0.0.0.0 rport 0", "typ relay raddr 0.0.0.0 rport 0"];
    for (line, end) in all.iter().zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
    let priority = |line: &String| line.split(' ').nth(3).unwrap().parse::<u32>().unwrap();
    let [host, tcp, reflexive, relayed] = [0, 1, 2, 3].map(|index: usize| priority(&all[index]));
    assert!(host > reflexive && reflexive > tcp && tcp > relayed, "{all:?}");
    assert!(all[1].starts_with("candidate:2 1 tcp "), "{}", all[1]);
}
