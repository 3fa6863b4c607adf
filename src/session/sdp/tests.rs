//! Negotiation against offers as real browsers write them.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use super::*;
use crate::session::engine::rtc::LocalTransport;

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

fn streams() -> LocalStreams {
    LocalStreams {
        video_ssrc: 11,
        rtx_ssrc: 12,
        audio_ssrc: 13,
        name: "the \r\nroom".into(),
        cname: "c".into(),
        sync: Sync::Lip,
    }
}

fn local(name: &str) -> LocalTransport {
    LocalTransport { ufrag: name.into(), password: name.repeat(22) }
}

fn addresses() -> [SocketAddr; 2] {
    ["192.0.2.1:8889".parse().unwrap(), "[::1]:8889".parse().unwrap()]
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
