//! The rules of offer and answer, checked on the texts (RFC 3264, RFC 8829, RFC 9143, RFC 8285, RFC 4585, RFC 6184, RFC 7587).
//!
//! It shares no code with what it checks. Where an offer contradicts itself, an answer that suits one reading of it is lawful.

#![allow(clippy::unwrap_used)]

use super::{Capabilities, Codec};

const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];
const TRANSPORT_CC: &str = "transport-wide-cc-extensions-01";
/// The parameters of RFC 7587, section 6.1.
const OPUS_PARAMETERS: [&str; 10] = [
    "maxplaybackrate",
    "sprop-maxcapturerate",
    "maxptime",
    "ptime",
    "minptime",
    "maxaveragebitrate",
    "stereo",
    "sprop-stereo",
    "useinbandfec",
    "usedtx",
];

/// The lines of a description: those of the session, and those of each section with its `m=` line first.
struct Text<'a> {
    session: Vec<&'a str>,
    sections: Vec<Vec<&'a str>>,
}

impl<'a> Text<'a> {
    fn read(text: &'a str) -> Self {
        let mut read = Self { session: Vec::new(), sections: Vec::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if line.starts_with("m=") {
                read.sections.push(Vec::new());
            }
            read.sections.last_mut().unwrap_or(&mut read.session).push(line);
        }
        read
    }

    /// The mids of each BUNDLE group.
    fn groups(&self) -> Vec<Vec<&'a str>> {
        values(&self.session, "group:BUNDLE ")
            .map(|mids| mids.split(' ').filter(|mid| !mid.is_empty()).collect())
            .collect()
    }
}

/// The values of the attributes that begin so.
fn values<'a>(lines: &[&'a str], prefix: &str) -> impl Iterator<Item = &'a str> {
    lines.iter().filter_map(move |line| line.strip_prefix("a=")?.strip_prefix(prefix)).map(str::trim_end)
}

fn has(lines: &[&str], attribute: &str) -> bool {
    lines.iter().any(|line| line.trim_end().strip_prefix("a=") == Some(attribute))
}

fn word<'a>(lines: &[&'a str], index: usize) -> &'a str {
    lines[0][2..].split_whitespace().nth(index).unwrap_or_default()
}

fn formats<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    lines[0].split_whitespace().skip(3).collect()
}

/// What a payload type has for an attribute such as `rtpmap`.
fn of_type<'a>(lines: &[&'a str], attribute: &str, payload_type: &str) -> Vec<&'a str> {
    values(lines, &format!("{attribute}:{payload_type} ")).map(str::trim_start).collect()
}

fn parameters(format: &str) -> Vec<(String, &str)> {
    let pairs = format.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.map(|(key, value)| (key.to_ascii_lowercase(), value)).collect()
}

fn parameter<'a>(format: &'a str, name: &str) -> Option<&'a str> {
    parameters(format).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// The directions that a section can be read to have.
fn directions<'a>(session: &[&'a str], lines: &[&'a str]) -> Vec<&'a str> {
    let of = |lines: &[&'a str]| -> Vec<&'a str> {
        lines.iter().filter_map(|l| l.trim_end().strip_prefix("a=")).filter(|a| DIRECTIONS.contains(a)).collect()
    };
    [of(lines), of(session), vec!["sendrecv"]].into_iter().find(|found| !found.is_empty()).unwrap()
}

fn may_receive(session: &[&str], lines: &[&str]) -> bool {
    directions(session, lines).iter().any(|d| matches!(*d, "sendrecv" | "recvonly"))
}

fn is_wanted(offer: &Text<'_>, lines: &[&str]) -> bool {
    let grouped = values(lines, "mid:").any(|mid| offer.groups().iter().any(|mids| mids.contains(&mid)));
    word(lines, 1) != "0" || (has(lines, "bundle-only") && grouped)
}

/// Collects what an answer breaks.
#[derive(Default)]
struct Verdict(Vec<String>);

impl Verdict {
    fn demand(&mut self, holds: bool, rule: impl FnOnce() -> String) {
        if !holds {
            self.0.push(rule());
        }
    }
}

/// What of the rules an answer breaks; empty for a lawful one.
pub fn violations(offer: &str, answer: &str, can: &Capabilities) -> Vec<String> {
    let (offer, answer) = (Text::read(offer), Text::read(answer));
    let mut verdict = Verdict::default();
    let kinds: String = answer.session.iter().filter_map(|line| line.chars().next()).take(4).collect();
    verdict.demand(kinds == "vost" && answer.session[0] == "v=0", || format!("the session begins by {kinds}"));
    verdict.demand(answer.session[1].split(' ').count() == 6, || "o= has six words".into());
    verdict.demand(offer.sections.len() == answer.sections.len(), || "as many sections as the offer has".into());
    let allows = |attribute| [&offer.session].into_iter().chain(&offer.sections).any(|lines| has(lines, attribute));
    let mixes = [&answer.session].into_iter().chain(&answer.sections).any(|lines| has(lines, "extmap-allow-mixed"));
    verdict.demand(!mixes || allows("extmap-allow-mixed"), || "extmap-allow-mixed was not offered".into());
    for (index, (its, ours)) in offer.sections.iter().zip(&answer.sections).enumerate() {
        let mut section = Verdict::default();
        check_section(&mut section, &offer, its, ours, can);
        verdict.0.extend(section.0.into_iter().map(|rule| format!("section {index}: {rule}")));
    }
    check_transports(&mut verdict, &offer, &answer);
    let served = |kind| answer.sections.iter().filter(|s| word(s, 0) == kind && has(s, "sendonly")).count();
    verdict.demand(served("video") <= 1 && served("audio") <= 1, || "one section of a kind is served".into());
    verdict.demand(served("video") + served("audio") > 0, || "something is served".into());
    verdict.0
}

fn check_section(verdict: &mut Verdict, offer: &Text<'_>, its: &[&str], ours: &[&str], can: &Capabilities) {
    let same = |index| word(its, index) == word(ours, index);
    verdict.demand(same(0) && same(2), || "media and protocol are the offer's".into());
    let (mids, mid): (Vec<_>, Vec<_>) = (values(its, "mid:").collect(), values(ours, "mid:").collect());
    // What has a space in it is none (RFC 5888, section 4), and what is too long is as if it was not said.
    let can_be_one = |mid: &&str| (1..=64).contains(&mid.len()) && mid.bytes().all(|byte| byte.is_ascii_graphic());
    let right = match mids.iter().any(can_be_one) {
        false => mid.is_empty(),
        true => mid.len() == 1 && mids.contains(&mid[0]),
    };
    verdict.demand(right, || format!("the mid is {mid:?}, offered was {mids:?}"));
    verdict.demand(!has(ours, "bundle-only"), || "bundle-only is for offers".into());
    let direction: Vec<_> = DIRECTIONS.into_iter().filter(|direction| has(ours, direction)).collect();
    if word(ours, 1) == "0" {
        verdict.demand(direction != ["sendonly"], || "a rejected section sends nothing".into());
        for attribute in ["ice-ufrag", "candidate", "ssrc", "fingerprint"] {
            verdict
                .demand(values(ours, attribute).next().is_none(), || format!("a rejected section has no {attribute}"));
        }
        return;
    }
    verdict.demand(matches!(word(ours, 0), "audio" | "video"), || "only sound and video are taken".into());
    verdict.demand(is_wanted(offer, its), || "it was not offered (port 0)".into());
    verdict
        .demand(direction == ["sendonly"] || direction == ["inactive"], || format!("its direction is {direction:?}"));
    let sends = direction == ["sendonly"];
    verdict.demand(!sends || may_receive(&offer.session, its), || "the viewer does not receive".into());
    let mux = |lines| has(lines, "rtcp-mux") || has(lines, "rtcp-mux-only");
    verdict.demand(has(ours, "rtcp-mux") && mux(its), || "rtcp-mux is offered and answered".into());
    verdict.demand(!has(ours, "rtcp-rsize") || has(its, "rtcp-rsize"), || "rtcp-rsize was not offered".into());
    check_codecs(verdict, its, ours, sends, can);
    check_extensions(verdict, &offer.session, its, ours);
    check_sources(verdict, ours, sends);
}

fn check_codecs(verdict: &mut Verdict, its: &[&str], ours: &[&str], sends: bool, can: &Capabilities) {
    let taken = formats(ours);
    verdict.demand(!taken.is_empty(), || "it has formats".into());
    for attribute in ["rtpmap:", "fmtp:", "rtcp-fb:"] {
        let of_others = values(ours, attribute).find(|value| !taken.contains(&value.split(' ').next().unwrap()));
        verdict.demand(of_others.is_none(), || format!("{attribute}{of_others:?} is of no format taken"));
    }
    for pt in &taken {
        verdict.demand(formats(its).contains(pt), || format!("format {pt} was not offered"));
        let (maps, offered_maps) = (of_type(ours, "rtpmap", pt), of_type(its, "rtpmap", pt));
        let known = maps.len() == 1 && offered_maps.iter().any(|map| map.eq_ignore_ascii_case(maps[0]));
        let is_static = maps.is_empty() && pt.parse().is_ok_and(|pt: u8| pt < 35);
        verdict.demand(known || is_static, || format!("{pt} is {maps:?}, offered was {offered_maps:?}"));
        for kind in of_type(ours, "rtcp-fb", pt) {
            let offered = ["*", pt].into_iter().any(|pt| of_type(its, "rtcp-fb", pt).contains(&kind));
            verdict.demand(offered, || format!("feedback {kind} was not offered for {pt}"));
        }
        let (ours_has, its_has) = (of_type(ours, "fmtp", pt), of_type(its, "fmtp", pt));
        verdict.demand(ours_has.len() <= 1, || format!("{pt} has several formats"));
        let map = maps.first().map(|map| map.to_ascii_lowercase()).unwrap_or_default();
        let ours_has = ours_has.first().copied().unwrap_or_default();
        if !sends {
            verdict.demand(ours_has.is_empty() || its_has.contains(&ours_has), || {
                format!("{pt}: {ours_has:?} is not its")
            });
            continue;
        }
        let lawful = match map.as_str() {
            "rtx/90000" => {
                let apt = parameter(ours_has, "apt").unwrap_or_default();
                taken.contains(&apt) && apt != *pt && its_has.iter().any(|its| parameter(its, "apt") == Some(apt))
            }
            "h264/90000" => can.video.contains(&Codec::H264) && its_has.iter().any(|its| h264_agrees(its, ours_has)),
            "vp8/90000" => can.video.contains(&Codec::Vp8) && (ours_has.is_empty() || its_has.contains(&ours_has)),
            "opus/48000/2" => can.audio && opus_agrees(its_has.first().copied().unwrap_or_default(), ours_has),
            _ => false,
        };
        verdict.demand(lawful, || format!("{pt} is sent as {map} {ours_has:?}, offered was {its_has:?}"));
    }
    if sends && word(ours, 0) == "audio" {
        let most = values(its, "maxptime:").filter_map(|most| most.parse::<u32>().ok()).max();
        verdict.demand(most.is_none_or(|most| most >= 20), || "the viewer takes no packets of 20 ms".into());
    }
}

fn h264_agrees(its: &str, ours: &str) -> bool {
    let of = |format, name| parameter(format, name).map(str::to_ascii_lowercase);
    let asymmetric = |format| parameter(format, "level-asymmetry-allowed") == Some("1");
    let (Some(its_profile), Some(our_profile)) = (of(its, "profile-level-id"), of(ours, "profile-level-id")) else {
        return false;
    };
    let modes = [its, ours].map(|format| parameter(format, "packetization-mode"));
    modes == [Some("1"); 2]
        && its_profile.get(..4) == our_profile.get(..4)
        && (!asymmetric(ours) || asymmetric(its))
        && (its_profile == our_profile || asymmetric(ours))
}

fn opus_agrees(its: &str, ours: &str) -> bool {
    let known = parameters(ours).iter().all(|(key, _)| OPUS_PARAMETERS.contains(&key.as_str()));
    let mono = parameter(its, "stereo") == Some("0") && parameter(ours, "stereo") == Some("1");
    let correcting = parameter(ours, "useinbandfec") == Some("1") && parameter(its, "useinbandfec") != Some("1");
    known && !mono && !correcting && parameter(ours, "sprop-stereo") == Some("1")
}

fn check_extensions(verdict: &mut Verdict, session: &[&str], its: &[&str], ours: &[&str]) {
    let read = |value: &str| -> (String, String, String) {
        let (id, uri) = value.split_once(' ').unwrap();
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        (id.to_owned(), direction.to_owned(), uri.split_whitespace().next().unwrap_or_default().to_owned())
    };
    let readable = |value: &&str| value.contains(' ');
    let offered: Vec<_> = values(session, "extmap:").chain(values(its, "extmap:")).filter(readable).map(read).collect();
    let mut ids = Vec::new();
    for (id, direction, uri) in values(ours, "extmap:").map(read) {
        let allowed =
            offered.iter().filter(|(its_id, _, its_uri)| (its_id, its_uri) == (&id, &uri)).any(|(_, its, _)| match its
                .as_str()
            {
                "sendrecv" => true,
                "recvonly" => matches!(direction.as_str(), "sendonly" | "inactive"),
                _ => false,
            });
        verdict.demand(allowed, || format!("extension {id}/{direction} {uri} was not offered"));
        let is_counted_sound = word(ours, 0) == "audio" && uri.contains(TRANSPORT_CC);
        verdict.demand(!is_counted_sound, || "sound is not numbered transport-wide".into());
        verdict.demand(!ids.contains(&id), || format!("extension id {id} twice"));
        ids.push(id);
    }
}

fn check_sources(verdict: &mut Verdict, ours: &[&str], sends: bool) {
    let sources: Vec<_> = values(ours, "ssrc:").map(|value| value.split(' ').next().unwrap()).collect();
    let msids = values(ours, "msid:").count();
    verdict.demand(msids == usize::from(sends), || format!("{msids} msids"));
    verdict.demand(sends != sources.is_empty(), || "sources are named where something is sent".into());
    let resends = formats(ours).iter().any(|pt| of_type(ours, "rtpmap", pt) == ["rtx/90000"]);
    let position = |prefix: &str| ours.iter().position(|line| line.starts_with(prefix));
    let group = values(ours, "ssrc-group:FID ").next();
    verdict.demand(!sends || group.is_some() == resends, || "FID comes with rtx".into());
    if let Some(group) = group {
        let first = group.split(' ').next();
        verdict.demand(sources.first().copied() == first, || "the media's source comes first".into());
        verdict.demand(position("a=ssrc-group:FID ") < position("a=ssrc:"), || "FID comes before its sources".into());
        let named = group.split(' ').all(|ssrc| sources.contains(&ssrc));
        verdict.demand(named, || "each source of the group is named".into());
    }
}

fn check_transports(verdict: &mut Verdict, offer: &Text<'_>, answer: &Text<'_>) {
    let section_of = |mid: &str| answer.sections.iter().position(|lines| values(lines, "mid:").any(|m| m == mid));
    let is_taken = |index: usize| word(&answer.sections[index], 1) != "0";
    let mut transports: Vec<Vec<usize>> = Vec::new();
    for group in answer.groups() {
        let subset = offer.groups().iter().any(|offered| group.iter().all(|mid| offered.contains(mid)));
        verdict.demand(subset && !group.is_empty(), || format!("group {group:?} is of no group offered"));
        let members: Vec<_> = group.iter().filter_map(|mid| section_of(mid)).collect();
        verdict.demand(members.len() == group.len() && members.iter().all(|m| is_taken(*m)), || {
            format!("group {group:?} has sections that are not taken")
        });
        let tagged = |index: &usize| word(&offer.sections[*index], 1) != "0";
        let may_be_tagged = members.first().is_some_and(tagged) || !members.iter().any(tagged);
        verdict.demand(may_be_tagged, || "the tagged section had a zero port".into());
        transports.push(members);
    }
    let alone = |index: &usize| is_taken(*index) && !transports.iter().any(|members| members.contains(index));
    let alone: Vec<_> = (0..answer.sections.len()).filter(alone).collect();
    for index in alone {
        let mids: Vec<_> = values(&answer.sections[index], "mid:").collect();
        let bundled = offer.groups().iter().any(|group| mids.iter().any(|mid| group.contains(mid)));
        verdict.demand(!bundled, || format!("section {index} left its group"));
        transports.push(vec![index]);
    }
    let mut names = Vec::new();
    for members in transports.iter().filter(|members| !members.is_empty()) {
        let identity = |index: usize| {
            let of = |name| values(&answer.sections[index], name).collect::<Vec<_>>();
            [of("ice-ufrag:"), of("ice-pwd:"), of("fingerprint:sha-256 "), of("setup:")]
        };
        let first = identity(members[0]);
        verdict
            .demand(first.iter().all(|values| values.len() == 1), || format!("a transport has all of {first:?} once"));
        verdict.demand(members.iter().all(|m| identity(*m) == first), || "a group has one transport".into());
        verdict.demand(!names.contains(&first[0]), || "two transports have one ufrag".into());
        names.push(first[0].clone());
        for index in members {
            let lines = &answer.sections[*index];
            let lists = values(lines, "candidate:").next().is_some();
            verdict.demand(lists == (*index == members[0]), || format!("candidates in section {index}"));
            let ends = has(lines, "end-of-candidates");
            verdict.demand(ends == lists, || format!("end of candidates in section {index}"));
        }
        check_setup(verdict, offer, members, first[3].first().copied().unwrap_or_default());
    }
}

fn check_setup(verdict: &mut Verdict, offer: &Text<'_>, members: &[usize], ours: &str) {
    let grouped = |lines: &&Vec<&str>| {
        let together = |group: &Vec<&str>| {
            let in_it = |lines: &[&str]| values(lines, "mid:").any(|mid| group.contains(&mid));
            in_it(lines) && members.iter().any(|m| in_it(&offer.sections[*m]))
        };
        offer.groups().iter().any(together)
    };
    let own = members.iter().map(|index| &offer.sections[*index]);
    let sources = own.chain(offer.sections.iter().filter(grouped)).chain([&offer.session]);
    let is_role = |value: &&str| matches!(*value, "active" | "passive" | "actpass");
    let offered: Vec<_> = sources.flat_map(|lines| values(lines, "setup:")).filter(is_role).collect();
    let lawful = match ours {
        "active" => offered.iter().any(|role| matches!(*role, "actpass" | "passive")),
        "passive" => offered.is_empty() || offered.iter().any(|role| matches!(*role, "actpass" | "active")),
        _ => false,
    };
    // What is not said in one section may be read as the default.
    let unsaid = members.iter().any(|m| !values(&offer.sections[*m], "setup:").any(|value| is_role(&value)));
    verdict.demand(lawful || (ours == "passive" && unsaid), || format!("setup:{ours} to {offered:?}"));
}

/// What a lawful offer obliges to send: the video codec, and whether sound.
pub fn obligation(offer: &str, can: &Capabilities) -> (Option<Codec>, bool) {
    let offer = Text::read(offer);
    let serves = |kind: &str, codec: &dyn Fn(&[&str], &str) -> bool| {
        offer.sections.iter().any(|lines| {
            word(lines, 0) == kind
                && is_wanted(&offer, lines)
                && may_receive(&offer.session, lines)
                && has(lines, "rtcp-mux")
                && formats(lines).iter().any(|pt| codec(lines, pt))
        })
    };
    let mapped =
        |lines: &[&str], pt: &str, map: &str| of_type(lines, "rtpmap", pt).iter().any(|m| m.eq_ignore_ascii_case(map));
    let h264 = |lines: &[&str], pt: &str| {
        let decodes = |format: &&str| {
            let profile = parameter(format, "profile-level-id").unwrap_or_default().to_ascii_lowercase();
            let baseline = ["42e0", "42c0", "4200", "4d80", "4dc0", "4de0"].iter().any(|p| profile.starts_with(p));
            baseline && parameter(format, "packetization-mode") == Some("1")
        };
        mapped(lines, pt, "H264/90000") && of_type(lines, "fmtp", pt).iter().any(decodes)
    };
    let opus = |lines: &[&str], pt: &str| {
        let short = values(lines, "maxptime:").any(|most| most.parse().is_ok_and(|most: u32| most < 20));
        mapped(lines, pt, "opus/48000/2") && !short
    };
    let video = can.video.iter().copied().find(|codec| match codec {
        Codec::H264 => serves("video", &h264),
        _ => serves("video", &|lines, pt| mapped(lines, pt, "VP8/90000")),
    });
    (video, can.audio && serves("audio", &opus))
}
