//! What becomes of transports over a viewer's offers.

#![allow(clippy::unwrap_used)]

use super::*;

fn speaker() -> Speaker {
    Speaker { name: "desk".into(), cname: "c".into(), sync: Sync::Lip, fingerprint: [7; 32] }
}

fn can() -> Capabilities {
    Capabilities { video: vec![Codec::H264, Codec::Vp8], audio: true }
}

fn section(kind: &str, mid: &str, direction: &str, ufrag: &str, fingerprint: u8) -> String {
    let codecs = if kind == "audio" {
        "111\r\na=rtpmap:111 opus/48000/2"
    } else {
        "96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 H264/90000\r\n\
         a=fmtp:97 packetization-mode=1;profile-level-id=42e01f;level-asymmetry-allowed=1"
    };
    let hash = vec![format!("{fingerprint:02X}"); 32].join(":");
    format!(
        "m={kind} 9 UDP/TLS/RTP/SAVPF {codecs}\r\na=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\na=ice-ufrag:{ufrag}\r\n\
         a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {hash}\r\na=setup:actpass\r\n"
    )
}

fn offer(bundle: &str, sections: &[String]) -> Description {
    let text = format!("v=0\r\no=- 5 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{bundle}{}", sections.concat());
    Description::parse(&text).unwrap()
}

fn id(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

#[test]
fn the_same_credentials_change_and_other_ones_restart() {
    let mut dialogue = Dialogue::new(&speaker());
    let bundle = "a=group:BUNDLE 0 1\r\n";
    let both = |direction: &str, ufrag: &str, certificate| {
        let sections = ["video", "audio"]
            .map(|kind| section(kind, if kind == "video" { "0" } else { "1" }, direction, ufrag, certificate));
        offer(bundle, &sections)
    };
    let first = both("recvonly", "abcd", 1);
    let steps = dialogue.handle_offer(id(1), &first, &can()).unwrap();
    assert!(matches!(&steps[..], [Step::Make(session, ..)] if *session == id(1)));
    assert_eq!(dialogue.codecs(), [Codec::H264, Codec::Opus]);
    let answers: Vec<_> = (0..2).map(|_| dialogue.answer(&first, &speaker(), &[])).collect();
    let line = |answer: &String, start| answer.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    let versions = answers.iter().map(|answer| line(answer, "o=")).collect::<Vec<_>>();
    assert!(versions[0] != versions[1] && line(&answers[0], "a=ice-ufrag") == line(&answers[1], "a=ice-ufrag"));

    // Another codec is preferred by now, but the one in use stays.
    let vp8_first = Capabilities { video: vec![Codec::Vp8, Codec::H264], audio: true };
    let steps = dialogue.handle_offer(id(1), &first, &vp8_first).unwrap();
    assert!(
        matches!(&steps[..], [Step::Change(_, agreement)] if agreement.video.as_ref().unwrap().codec == Codec::H264)
    );
    let steps = dialogue.handle_offer(id(1), &both("recvonly", "efgh", 1), &can()).unwrap();
    assert!(matches!(&steps[..], [Step::Restart(..)]));
    assert_eq!(dialogue.ufrags(), ["efgh"]);
    let refused = dialogue.handle_offer(id(1), &both("recvonly", "efgh", 2), &can());
    assert!(matches!(refused, Err(Refusal::Conflict(_))), "another certificate is another connection");

    let paused = both("inactive", "efgh", 1);
    let steps = dialogue.handle_offer(id(1), &paused, &can()).unwrap();
    assert!(matches!(&steps[..], [Step::Change(..)]) && dialogue.codecs().is_empty());
    let answer = dialogue.answer(&paused, &speaker(), &[]);
    assert_eq!((answer.matches("a=inactive").count(), answer.matches("m=video 9").count()), (2, 1));
    for ssrc in [dialogue.streams().video_ssrc, dialogue.streams().audio_ssrc] {
        assert!(answer.contains(&format!("a=ssrc:{ssrc} ")), "a stream that may come back stays named: {answer}");
    }
    assert!(Dialogue::new(&speaker()).handle_offer(id(2), &paused, &can()).is_err(), "nobody begins with nothing");
}

#[test]
fn a_viewer_that_pauses_the_picture_where_there_is_no_sound_stays() {
    let mut dialogue = Dialogue::new(&speaker());
    let silent = Capabilities { audio: false, ..can() };
    let both = |video| {
        let sections = [section("video", "0", video, "abcd", 1), section("audio", "1", "recvonly", "abcd", 1)];
        offer("a=group:BUNDLE 0 1\r\n", &sections)
    };
    dialogue.handle_offer(id(1), &both("recvonly"), &silent).unwrap();
    let paused = both("inactive");
    let steps = dialogue.handle_offer(id(1), &paused, &silent).unwrap();
    assert!(matches!(&steps[..], [Step::Change(..)]) && dialogue.codecs().is_empty());
    let answer = dialogue.answer(&paused, &speaker(), &[]);
    assert_eq!(answer.matches("a=inactive").count(), 2);
    let source = format!("a=ssrc:{} ", dialogue.streams().video_ssrc);
    assert!(answer.contains(&source), "a stream that may come back stays named: {answer}");
    let steps = dialogue.handle_offer(id(1), &both("recvonly"), &silent).unwrap();
    assert!(matches!(&steps[..], [Step::Change(..)]));
    assert_eq!(dialogue.codecs(), [Codec::H264]);
}

#[test]
fn without_bundle_there_are_two_transports_and_one_may_end() {
    let mut dialogue = Dialogue::new(&speaker());
    let sections = |audio| [section("video", "0", "recvonly", "abcd", 1), section("audio", "1", audio, "efgh", 1)];
    let steps = dialogue.handle_offer(id(1), &offer("", &sections("recvonly")), &can()).unwrap();
    let [Step::Make(first, ..), Step::Make(second, ..)] = &steps[..] else { panic!("{steps:?}") };
    assert!(*first == id(1) && *second != id(1));
    assert_eq!(dialogue.ufrags(), ["abcd", "efgh"]);
    let steps = dialogue.handle_offer(id(1), &offer("", &sections("inactive")), &can()).unwrap();
    assert!(steps.iter().any(|step| matches!(step, Step::End(ended) if ended == second)), "{steps:?}");
    assert_eq!(dialogue.codecs(), [Codec::H264]);
    let restart =
        Trickle { ufrag: Some("ijkl".into()), password: Some("0123456789012345678901".into()), ..Trickle::default() };
    let (local, agreement) = dialogue.handle_restart(restart).unwrap();
    assert_eq!(agreement.remote.ufrag, "ijkl");
    assert_eq!(dialogue.is_current(&local.ufrag), Ok(()));
    assert_eq!(dialogue.is_current("other"), Err(Refusal::OtherGeneration { current: local.ufrag }));
}

#[test]
fn an_answer_is_taken_once_and_only_to_an_offer() {
    let mut dialogue = Dialogue::new(&speaker());
    let answer = offer("", &[section("video", "video", "recvonly", "abcd", 1)]);
    assert!(matches!(dialogue.handle_answer(&answer, &can()), Err(Refusal::Conflict(_))));
    let video_only = Capabilities { audio: false, ..can() };
    let (_, own) = dialogue.offer(id(1), Party::Viewer, &video_only, &speaker(), &[]);
    assert!(own.contains("a=sendonly") && dialogue.codecs().is_empty());
    let answer = offer("", &[section("video", "video", "recvonly", "abcd", 1).replace("actpass", "active")]);
    let taken = dialogue.handle_answer(&answer, &video_only);
    assert!(taken.is_ok(), "{taken:?}");
    assert!(matches!(dialogue.handle_answer(&answer, &can()), Err(Refusal::Conflict(_))));
}

#[test]
fn video_without_a_common_codec_is_refused_beside_sound_that_goes() {
    let sections = [section("video", "0", "recvonly", "abcd", 1), section("audio", "1", "recvonly", "abcd", 1)];
    let both = offer("a=group:BUNDLE 0 1\r\n", &sections);
    let nothing_common = Capabilities { video: vec![], audio: true };
    let mut dialogue = Dialogue::new(&speaker());
    dialogue.handle_offer(id(1), &both, &nothing_common).unwrap();
    assert_eq!(dialogue.codecs(), [Codec::Opus]);
    assert_eq!(dialogue.video_refused(&both).as_deref(), Some("H264, VP8"));
    dialogue.handle_offer(id(1), &both, &can()).unwrap();
    assert_eq!(dialogue.video_refused(&both), None);
    let sound = offer("", &sections[1..]);
    let mut dialogue = Dialogue::new(&speaker());
    dialogue.handle_offer(id(1), &sound, &can()).unwrap();
    assert_eq!(dialogue.video_refused(&sound), None, "it asks for no video");
}
