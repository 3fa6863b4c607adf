//! Every offer of the corpus, and what damage makes of it, is answered lawfully.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::checker::{obligation, violations};
use super::tests::{addresses, local, streams};
use super::*;

/// The offers by their names: `chromium`, `firefox`, `aiortc` and `webrtc` are recorded, `made` are written by hand.
fn corpus() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/offers");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    };
    let mut corpus: Vec<_> = files.map(read).collect();
    corpus.sort();
    corpus
}

fn capabilities() -> Vec<Capabilities> {
    use Codec::{H264, Vp8};
    let videos: [&[Codec]; 5] = [&[H264, Vp8], &[Vp8, H264], &[H264], &[Vp8], &[]];
    let both = |video: &[Codec]| [true, false].map(|audio| Capabilities { video: video.to_vec(), audio });
    videos.into_iter().flat_map(both).filter(|can| can.audio || !can.video.is_empty()).collect()
}

/// Answers an offer, and says what is wrong with the answer.
fn answered(text: &str, can: &Capabilities) -> Result<(Vec<Agreement>, String), NegotiationError> {
    let offer = Description::parse(text)?;
    let agreements = negotiate(&offer, can)?;
    let transports = [local("first"), local("second")];
    let origin = Origin { id: 1, version: 2 };
    let answer = answer(&offer, &agreements, &transports, &streams(), origin, &[7; 32], &addresses());
    for agreement in &agreements {
        assert!(text.contains(&format!("a=ice-ufrag:{}", agreement.remote.ufrag)), "whose transport is it?\n{text}");
    }
    let broken = violations(text, &answer, can);
    assert!(broken.is_empty(), "{broken:#?}\nThe offer:\n{text}\nThe answer:\n{answer}");
    Ok((agreements, answer))
}

#[test]
fn recorded_offers_get_what_they_ask_for() {
    let corpus = corpus();
    for maker in ["chromium-", "firefox-", "aiortc-", "webrtc-", "made-"] {
        assert!(corpus.iter().any(|(name, _)| name.starts_with(maker)), "no offer of {maker}");
    }
    for (name, text) in &corpus {
        for can in capabilities() {
            let owed = obligation(text, &can);
            let got = match answered(text, &can) {
                Ok((agreements, _)) => {
                    let video = agreements.iter().find_map(|agreement| agreement.video.as_ref());
                    (video.map(|video| video.codec), agreements.iter().any(|agreement| agreement.audio.is_some()))
                }
                Err(error) => {
                    assert!(error.to_string().len() > 30, "{name}: {error}");
                    (None, false)
                }
            };
            assert_eq!(got, owed, "{name}, {can:?}");
        }
    }
}

/// A small generator of numbers that look random (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

#[test]
fn damaged_offers_of_the_corpus_are_answered_lawfully_or_refused() {
    let (mut numbers, capabilities) = (Numbers(0x9e37_79b9_7f4a_7c15), capabilities());
    let (mut answers, mut refusals) = (0, 0);
    for (_, text) in corpus() {
        for _ in 0..200 {
            let mut lines: Vec<&str> = text.lines().collect();
            for _ in 0..=numbers.below(6) {
                let (at, other) = (numbers.below(lines.len()), numbers.below(lines.len()));
                match numbers.below(4) {
                    0 => drop(lines.remove(at)),
                    1 => lines.insert(other, lines[at]),
                    2 => lines.swap(at, other),
                    _ => {
                        let line = lines.remove(at);
                        lines.insert(other.min(lines.len()), line);
                    }
                }
            }
            let damaged = lines.join("\r\n") + "\r\n";
            match answered(&damaged, &capabilities[numbers.below(capabilities.len())]) {
                Ok(_) => answers += 1,
                Err(_) => refusals += 1,
            }
        }
    }
    assert!(
        answers > 1000 && refusals > 100,
        "{answers} answers, {refusals} refusals: the damage is too little or too much"
    );
}

/// The checker can tell: each of these answers breaks one rule.
#[test]
fn unlawful_answers_are_seen() {
    let can = Capabilities { video: vec![Codec::H264, Codec::Vp8], audio: true };
    let (_, offer) = corpus().into_iter().find(|(name, _)| name == "chromium-audio-first-data").unwrap();
    let (_, answer) = answered(&offer, &can).unwrap();
    let video = &answer[answer.find("m=video").unwrap()..answer.find("m=application").unwrap()];
    let pt = video.split(' ').nth(3).unwrap();
    let format = format!("a=fmtp:{pt} level-asymmetry-allowed=1;packetization-mode=1");
    let cases: [(&str, String, &str); 25] = [
        ("m=application 0", "m=application 9".into(), "only sound and video"),
        ("a=sendonly", "a=sendrecv".into(), "direction"),
        ("a=mid:1", "a=mid:7".into(), "the mid is"),
        ("BUNDLE 0 1", "BUNDLE 0 1 2".into(), "not taken"),
        ("BUNDLE 0 1", "BUNDLE 1 0".into(), "candidates in section"),
        ("a=group:BUNDLE 0 1\r\n", String::new(), "left its group"),
        ("a=rtcp-mux\r\n", String::new(), "rtcp-mux"),
        ("a=setup:passive", "a=setup:actpass".into(), "setup:actpass"),
        ("a=setup:passive\r\n", String::new(), "has all of"),
        ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 opus/48000/1".into(), "offered was"),
        (" 111\r\n", " 111 34\r\n".into(), "format 34 was not offered"),
        ("sprop-stereo=1", "sprop-stereo=1;bitrate=9".into(), "is sent as opus"),
        ("a=fmtp:111 ", "a=rtcp-fb:111 nack\r\na=fmtp:111 ".into(), "feedback nack"),
        ("a=rtcp-fb:", "a=rtcp-fb:9".into(), "of no format taken"),
        ("a=extmap:", "a=extmap:1".into(), "extension 1"),
        (
            "a=fmtp:111 ",
            "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\na=fmtp:111 "
                .into(),
            "numbered transport-wide",
        ),
        ("apt=", "apt=9".into(), "is sent as rtx"),
        (&format, format!("a=fmtp:{pt} packetization-mode=1"), "is sent as h264"),
        ("packetization-mode=1", "packetization-mode=0".into(), "is sent as h264"),
        (
            "a=ssrc-group:FID 11 12\r\na=ssrc:11 cname:c\r\n",
            "a=ssrc-group:FID 12 11\r\na=ssrc:11 cname:c\r\n".into(),
            "source comes first",
        ),
        ("a=ssrc-group:FID 11 12\r\n", String::new(), "FID comes with rtx"),
        ("a=msid:laterna audio\r\n", String::new(), "0 msids"),
        ("a=ice-ufrag:first", "a=ice-ufrag:other".into(), "one transport"),
        ("m=audio 9", "m=audio 0".into(), "rejected section"),
        ("a=rtcp-mux", "a=rtcp-mux\r\na=extmap-allow-mixed\r\na=bundle-only".into(), "bundle-only is for offers"),
    ];
    for (from, to, rule) in cases {
        assert!(answer.contains(from), "{from:?} is not in the answer:\n{answer}");
        let broken = violations(&offer, &answer.replacen(from, &to, 1), &can);
        assert!(broken.iter().any(|broken| broken.contains(rule)), "{from:?} to {to:?} gives {broken:#?}");
    }
}
