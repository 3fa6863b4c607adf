//! Descriptions: offers → lawful answers, answers to the daemon's own offers, fragments of trickled candidates.
//!
//! The first byte chooses which (`o`, `p` for a viewer that wants nothing for now, `a`, `s` for an SFU's answer, `f`), the second what the daemon can send.

use laterna::encoder::Codec;
use laterna::session::engine::{LocalTransport, RemoteTransport};
use laterna::session::reach::{CandidateKind, LocalCandidate};
use laterna::session::sdp::{
    Agreement, Capabilities, Description, LocalStreams, Origin, Party, Sync, accept, answer, negotiate, offer, pause,
};
use laterna::signaling::whep::sdpfrag;

use super::input::assert_one_line;

/// The rules of offer and answer, as the daemon's own tests have them.
#[path = "../../../src/session/sdp/checker.rs"]
#[allow(dead_code, missing_docs, reason = "its tests use the rest")]
mod checker;

pub fn run(data: &[u8]) {
    let [mode, can, rest @ ..] = data else { return };
    let text = String::from_utf8_lossy(rest);
    let can = capabilities(*can);
    match mode {
        b'a' => answered(&text, &can, Party::Viewer),
        b's' => answered(&text, &can, Party::Sfu),
        b'f' => fragment(&text),
        b'p' => offered(&text, &can, true),
        _ => offered(&text, &can, false),
    }
}

fn capabilities(byte: u8) -> Capabilities {
    use Codec::{H264, Vp8};
    let videos: [&[Codec]; 5] = [&[H264, Vp8], &[Vp8, H264], &[H264], &[Vp8], &[]];
    let video = videos[usize::from(byte >> 1) % videos.len()].to_vec();
    Capabilities { audio: byte & 1 == 0 || video.is_empty(), video }
}

fn transport(name: &str) -> LocalTransport {
    LocalTransport { ufrag: name.to_owned(), password: name.repeat(22) }
}

fn streams() -> LocalStreams {
    LocalStreams {
        video_ssrc: 11,
        rtx_ssrc: 12,
        audio_ssrc: 13,
        name: "the room".to_owned(),
        cname: "c".to_owned(),
        sync: Sync::Lip,
        video_section: None,
        audio_section: None,
    }
}

fn candidates() -> [LocalCandidate; 2] {
    ["192.0.2.1:8889", "[::1]:8889"].map(|address| {
        let address = address.parse().unwrap();
        LocalCandidate { kind: CandidateKind::Host, address, base: address }
    })
}

const ORIGIN: Origin = Origin { id: 1, version: 2 };

fn offered(text: &str, can: &Capabilities, pausing: bool) {
    let parsed = match Description::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    let agreed = if pausing { pause(&parsed) } else { negotiate(&parsed, can) };
    let agreements = match agreed {
        Ok(agreements) => agreements,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    assert!((1..=2).contains(&agreements.len()), "{} transports", agreements.len());
    for Agreement { section, remote, .. } in &agreements {
        assert!(*section < parsed.sections.len());
        assert!(text.contains(&format!("a=ice-ufrag:{}", remote.ufrag)), "whose transport is it?");
        assert_transport(remote);
    }
    let transports = [transport("first"), transport("second")];
    let text_of_answer = answer(&parsed, &agreements, &transports, &streams(), ORIGIN, &[7; 32], &candidates());
    assert!(text_of_answer.len() <= 2 * text.len() + 8192, "{} bytes answer {}", text_of_answer.len(), text.len());
    let mut broken = checker::violations(text, &text_of_answer, can);
    broken.retain(|rule| !(pausing && rule == "something is served"));
    assert!(broken.is_empty(), "{broken:#?}\nThe offer:\n{text}\nThe answer:\n{text_of_answer}");
    let read = Description::parse(&text_of_answer);
    assert!(read.is_ok_and(|read| read.sections.len() == parsed.sections.len()), "{text_of_answer}");
}

fn assert_transport(remote: &RemoteTransport) {
    assert!((1..=256).contains(&remote.ufrag.len()) && !remote.password.is_empty() && !remote.fingerprints.is_empty());
    assert!(remote.addresses().count() <= remote.candidates.len());
}

fn own_offer(can: &Capabilities, party: Party) -> String {
    offer(party, can, &transport("first"), &streams(), ORIGIN, &[7; 32], &candidates())
}

fn answered(text: &str, can: &Capabilities, party: Party) {
    let asked = own_offer(can, party);
    let parsed = match Description::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    let agreement = match accept(&asked, &parsed, can) {
        Ok(agreement) => agreement,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    let own = own_description(&asked);
    assert_transport(&agreement.remote);
    assert!(agreement.video.is_some() || agreement.audio.is_some());
    if let Some(video) = &agreement.video {
        assert!(can.video.contains(&video.codec));
        let section = &own.sections[video.section];
        let offered = |pt: &u8| section.payload_types.contains(pt);
        assert!(offered(&video.payload_type) && video.rtx.iter().all(offered), "{video:?} was not offered");
        assert!(video.transport_cc.is_none_or(|id| id == 3) && video.playout_delay.is_none_or(|id| id == 5));
    }
    if let Some(audio) = &agreement.audio {
        assert!(can.audio && own.sections[audio.section].payload_types.contains(&audio.payload_type));
    }
}

fn own_description(text: &str) -> Description {
    Description::parse(text).unwrap_or_else(|error| panic!("{error} in the daemon's own offer:\n{text}"))
}

/// What is read of a fragment is written so that it is read again.
fn fragment(text: &str) {
    let trickle = match sdpfrag::parse(text) {
        Ok(trickle) => trickle,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    let written = sdpfrag::write(&trickle);
    let mut again = sdpfrag::parse(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    if trickle.mid.is_none() {
        again.mid = None;
    }
    assert_eq!(again, trickle, "{written}");
    trickle.candidates.iter().for_each(|candidate| assert_one_line(candidate));
}
