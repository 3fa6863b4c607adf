//! The core against servers of all kinds: what it asks, what it makes of responses, and that it always ends what it began.

#![allow(clippy::unwrap_used)]

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::signaling::Refusal;

mod random;

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n";
const ANSWER: &str = "v=0\r\no=- 2 1 IN IP4 0.0.0.0\r\n";
const SECOND: Duration = Duration::from_secs(1);

fn id(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn whip_at(now: Instant, endpoint: &str) -> Whip {
    let mut number = 0;
    let sessions = move || {
        number += 1;
        id(number)
    };
    Whip::new(now, Url::parse(endpoint).unwrap(), sessions, || u32::MAX)
}

fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> Result<Response, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap());
    }
    Ok(Response { status: StatusCode::from_u16(status).unwrap(), headers: map, body: body.as_bytes().to_vec() })
}

fn outputs(whip: &mut Whip) -> Vec<Output> {
    std::iter::from_fn(|| whip.poll_output()).collect()
}

fn post(to: &str) -> Output {
    Output::Ask(Request::Offer { to: Url::parse(to).unwrap(), sdp: OFFER.to_owned() })
}

fn delete(at: &str) -> Output {
    Output::Ask(Request::End { at: Url::parse(at).unwrap() })
}

fn accept(n: u8) -> Output {
    Output::Accept { session: id(n), sdp: ANSWER.to_owned() }
}

fn away(whip: &Whip) -> &str {
    match whip.standing() {
        Standing::Away(why) => why,
        other => panic!("{other:?}"),
    }
}

/// A core that asks the broadcast for its `n`th offer.
fn asking(whip: &mut Whip, now: Instant, n: u8) {
    whip.handle_timeout(now);
    assert_eq!(outputs(whip), [Output::Prepare]);
    whip.handle_prepared(now, Ok(()));
    assert_eq!(outputs(whip), [Output::Publish(id(n))]);
}

/// A core whose `n`th offer is at the server.
fn offering(whip: &mut Whip, now: Instant, n: u8, endpoint: &str) {
    asking(whip, now, n);
    whip.handle_outcome(now, id(n), Outcome::Described(OFFER.to_owned()));
    assert_eq!(outputs(whip), [post(endpoint)]);
}

/// What becomes of a first offer that the server responds to so.
fn responded(endpoint: &str, response: Result<Response, String>) -> (Whip, Vec<Output>) {
    let now = Instant::now();
    let mut whip = whip_at(now, endpoint);
    offering(&mut whip, now, 1, endpoint);
    whip.handle_response(now, response);
    let outputs = outputs(&mut whip);
    (whip, outputs)
}

#[test]
fn a_publication_from_the_offer_to_its_end_and_to_the_next() {
    let (endpoint, now) = ("http://sfu/whip/room", Instant::now());
    let mut whip = whip_at(now, endpoint);
    offering(&mut whip, now, 1, endpoint);
    let link = "<stun:stun.example.net>; rel=\"ice-server\"";
    whip.handle_response(now, response(201, &[("location", "../session/7?a=b"), ("link", link)], ANSWER));
    assert_eq!(outputs(&mut whip), [accept(1)]);
    whip.handle_outcome(now, id(1), Outcome::Accepted);
    assert_eq!(whip.standing(), &Standing::Connecting, "nothing has arrived there yet");
    whip.handle_life(now, id(1), Life::Live);
    assert_eq!(whip.standing(), &Standing::Publishing);
    assert_eq!((outputs(&mut whip), whip.poll_timeout()), (vec![], None));

    // The session ends: what the server still has of it is ended, then it is published anew.
    let later = now + 60 * SECOND;
    whip.handle_life(later, id(9), Life::Ended("of another".into()));
    assert_eq!(outputs(&mut whip), []);
    whip.handle_life(later, id(1), Life::Ended("nothing heard for 12 s".into()));
    assert_eq!(outputs(&mut whip), [delete("http://sfu/session/7?a=b")]);
    assert_eq!((away(&whip), whip.poll_timeout()), ("nothing heard for 12 s", None));
    whip.handle_response(later, Err("refused".into()));
    assert_eq!(whip.poll_timeout(), Some(later + SECOND / 2), "it was steady: the shortest pause");
    whip.handle_timeout(later + SECOND / 4);
    assert_eq!(outputs(&mut whip), []);
    offering(&mut whip, later + SECOND / 2, 2, endpoint);

    // The daemon ends while the server thinks: what it then answers is ended too.
    whip.stop(later);
    assert_eq!(outputs(&mut whip), [Output::Leave(id(2))]);
    assert!(!whip.is_over());
    whip.handle_response(later, response(201, &[("location", "/s")], ANSWER));
    assert_eq!(outputs(&mut whip), [delete("http://sfu/s")]);
    whip.handle_response(later, response(200, &[], ""));
    assert!(whip.is_over() && outputs(&mut whip).is_empty());
}

#[test]
fn the_relays_that_a_server_names_are_used_where_it_can_not_be_reached_without() {
    let (endpoint, now) = ("http://sfu/whip", Instant::now());
    let link = "<turn:relay.example.net>; rel=\"ice-server\"; username=\"u\"; credential=\"c\"";
    let answer = || response(201, &[("location", "/s"), ("link", link)], ANSWER);
    let accepted = |whip: &mut Whip, n| {
        offering(whip, now, n, endpoint);
        whip.handle_response(now, answer());
        assert_eq!(outputs(whip), [accept(n)]);
        whip.handle_outcome(now, id(n), Outcome::Accepted);
    };
    let mut whip = whip_at(now, endpoint);
    accepted(&mut whip, 1);
    whip.handle_timeout(now + DIRECT_PATIENCE - Duration::from_millis(1));
    assert_eq!((outputs(&mut whip), whip.poll_timeout()), (vec![], Some(now + DIRECT_PATIENCE)));
    whip.handle_timeout(now + DIRECT_PATIENCE);
    let said = outputs(&mut whip);
    assert!(
        matches!(&said[..], [Output::IceServers(servers)] if servers[0].url == "turn:relay.example.net"),
        "{said:?}"
    );
    assert_eq!(whip.poll_timeout(), None, "they are named once");
    whip.handle_relay(now);
    assert_eq!(outputs(&mut whip), [Output::Leave(id(1)), delete("http://sfu/s")]);
    assert_eq!(whip.standing(), &Standing::Connecting, "that is no failure");
    whip.handle_response(now, response(200, &[], ""));
    assert_eq!(whip.poll_timeout(), Some(now), "it is published anew at once");
    accepted(&mut whip, 2);
    whip.handle_life(now, id(2), Life::Live);
    // What is published needs no relay any more.
    whip.handle_relay(now);
    whip.handle_timeout(now + DIRECT_PATIENCE);
    assert_eq!((outputs(&mut whip), whip.poll_timeout()), (vec![], None));
}

#[test]
fn an_answer_that_the_broadcast_refuses_is_ended_at_the_server() {
    let (mut whip, said) = responded("http://sfu/", response(201, &[("location", "/s/1")], ANSWER));
    assert_eq!(said, [accept(1)]);
    let now = Instant::now();
    whip.handle_outcome(now, id(1), Outcome::Refused(Refusal::BadOffer("no fingerprint".into())));
    assert_eq!(outputs(&mut whip), [delete("http://sfu/s/1")]);
    whip.handle_life(now, id(1), Life::Ended("the answer could not be used".into()));
    assert!(outputs(&mut whip).is_empty(), "it is lost once only");
    assert_eq!(away(&whip), "no fingerprint");
    whip.stop(now);
    assert!(!whip.is_over(), "the server has not heard yet");
    whip.handle_response(now, response(404, &[], ""));
    assert!(whip.is_over());
}

#[test]
fn redirections_are_followed_with_the_offer_and_never_to_where_the_token_can_be_read() {
    let start = "https://sfu.example/whip?x=1";
    for (location, found) in [
        ("https://edge-3.sfu.example/whip/1", Ok("https://edge-3.sfu.example/whip/1")),
        ("/other", Ok("https://sfu.example/other")),
        ("http://sfu.example/whip", Err("from https to http")),
        ("ftp://sfu.example/", Err("not to an address of http")),
        ("https://me:secret@sfu.example/", Err("password")),
        ("https://[", Err("address is none")),
    ] {
        for status in [307, 308] {
            let (whip, said) = responded(start, response(status, &[("location", location)], ""));
            match found {
                Ok(to) => assert_eq!(said, [post(to)]),
                Err(why) => {
                    assert_eq!(said, [Output::Leave(id(1))]);
                    assert!(away(&whip).contains(why) && !away(&whip).contains("secret"), "{}", away(&whip));
                }
            }
        }
    }
    let (whip, _) = responded(start, response(307, &[], ""));
    assert!(away(&whip).contains("names no address"));
    let (whip, said) = responded(start, response(302, &[("location", "/other")], ""));
    assert!(said == [Output::Leave(id(1))] && away(&whip).contains("redirects by 302"), "{}", away(&whip));

    let now = Instant::now();
    let (mut whip, mut said) = responded(start, response(307, &[("location", "/1")], ""));
    let mut followed = 0;
    while said.iter().any(|said| matches!(said, Output::Ask(_))) {
        followed += 1;
        whip.handle_response(now, response(307, &[("location", "/1")], ""));
        said = outputs(&mut whip);
    }
    assert_eq!((followed, said), (5, vec![Output::Leave(id(1))]));
    assert!(away(&whip).contains("more than 5 times"));
    offering(&mut whip, now + 10 * SECOND, 2, start);
}

#[test]
fn a_sessions_url_is_trusted_as_far_as_the_endpoint_is() {
    let ends_at = |endpoint: &str, location: &str| {
        let (mut whip, said) = responded(endpoint, response(201, &[("location", location)], ANSWER));
        if said != [accept(1)] {
            return Err(away(&whip).to_owned());
        }
        whip.stop(Instant::now());
        match outputs(&mut whip).pop() {
            Some(Output::Ask(Request::End { at })) => Ok(at.to_string()),
            other => panic!("{other:?}"),
        }
    };
    let sfu = "https://sfu.example:8443/whip/a";
    for (location, found) in [
        ("b", "https://sfu.example:8443/whip/b"),
        ("https://media.example/s?k=1#x", "https://media.example/s?k=1"),
        ("http://sfu.example:8080/s?k=1", "https://sfu.example:8443/s?k=1"),
    ] {
        assert_eq!(ends_at(sfu, location).unwrap(), found);
    }
    assert!(ends_at(sfu, "http://media.example/s").unwrap_err().contains("Location"));
    assert_eq!(ends_at("http://sfu/whip", "http://other/s").unwrap(), "http://other/s");
    // One that names none can't be told; the stream is there all the same.
    let (mut whip, said) = responded(sfu, response(201, &[], ANSWER));
    assert_eq!(said, [accept(1)]);
    whip.stop(Instant::now());
    assert!(outputs(&mut whip) == [Output::Leave(id(1))] && whip.is_over());
}

#[test]
fn refusals_say_the_servers_reason_once_and_are_tried_again() {
    let long = "word ".repeat(1000);
    for (response, words) in [
        (
            response(401, &[], "{\"error\":\"no\r\n\ttoken\"}"),
            "401 Unauthorized: {\"error\":\"no token\"}; is ?token-file",
        ),
        (response(404, &[], "<html>nothing</html>"), "404 Not Found; is this URL a WHIP endpoint?"),
        (response(200, &[], ANSWER), "a WHIP endpoint answers 201"),
        (response(201, &[], "yes"), "201, but with no SDP"),
        (response(500, &[], &long), "500 Internal Server Error: word word"),
        (Err("the server can't be reached".into()), "can't be reached"),
    ] {
        let (whip, said) = responded("http://sfu/", response);
        assert_eq!(said, [Output::Leave(id(1))]);
        assert!(away(&whip).contains(words) && away(&whip).len() < 300, "{}", away(&whip));
        assert!(whip.poll_timeout().is_some());
    }
    // What it has made nevertheless is ended.
    let (whip, said) = responded("http://sfu/", response(201, &[("location", "/s")], "yes"));
    assert_eq!(said, [Output::Leave(id(1)), delete("http://sfu/s")]);
    assert!(away(&whip).contains("201, but with no SDP"), "{}", away(&whip));
    let now = Instant::now();
    let mut whip = whip_at(now, "http://sfu/");
    let (mut at, mut pauses) = (now, Vec::new());
    for n in 1..=5 {
        offering(&mut whip, at, n, "http://sfu/");
        whip.handle_response(at, response(403, &[], "not you"));
        outputs(&mut whip);
        let due = whip.poll_timeout().unwrap();
        pauses.push((due - at).as_millis());
        at = due;
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 5000]);
    for (value, expected) in [("60", 60), ("1", 5), ("9999999", 300), ("tomorrow", 5), ("-1", 5)] {
        let n = u8::try_from(pauses.len() + 1).unwrap();
        offering(&mut whip, at, n, "http://sfu/");
        whip.handle_response(at, response(503, &[("retry-after", value)], ""));
        outputs(&mut whip);
        let due = whip.poll_timeout().unwrap();
        pauses.push((due - at).as_millis());
        assert_eq!(due - at, expected * SECOND, "{value}");
        at = due;
    }
}

#[test]
fn a_broadcast_that_refuses_or_is_silent_is_asked_again() {
    let now = Instant::now();
    let mut whip = whip_at(now, "http://sfu/");
    asking(&mut whip, now, 1);
    whip.handle_outcome(now, id(1), Outcome::Refused(Refusal::Full { limit: 3 }));
    assert!(outputs(&mut whip).is_empty() && away(&whip).contains("all 3 places"));
    asking(&mut whip, now + SECOND, 2);
    whip.handle_outcome(now, id(2), Outcome::Unanswered);
    assert_eq!(outputs(&mut whip), [Output::Leave(id(2))]);
    whip.stop(now);
    assert!(whip.is_over(), "nothing is anywhere");
}

#[test]
fn without_its_token_nothing_is_published_and_it_is_read_again() {
    let now = Instant::now();
    let mut whip = whip_at(now, "http://sfu/");
    for _ in 0..2 {
        let due = whip.poll_timeout().unwrap();
        whip.handle_timeout(due);
        assert_eq!(outputs(&mut whip), [Output::Prepare]);
        whip.handle_prepared(due, Err("no such file".into()));
        assert_eq!((outputs(&mut whip), away(&whip)), (vec![], "no such file"));
    }
    let due = whip.poll_timeout().unwrap();
    offering(&mut whip, due, 1, "http://sfu/");
    assert_eq!(away(&whip), "no such file", "as long as nothing better is known");
    whip.stop(due);
    whip.handle_prepared(due, Ok(()));
    assert_eq!(outputs(&mut whip), [Output::Leave(id(1))]);
}

#[test]
fn what_the_operator_ended_is_published_again_when_it_is_called_only() {
    let (endpoint, now) = ("http://sfu/", Instant::now());
    let (mut whip, _) = responded(endpoint, response(201, &[("location", "/s/1")], ANSWER));
    assert_eq!(whip.call(now), Err(CallError::Published));
    whip.handle_outcome(now, id(1), Outcome::Accepted);
    whip.handle_life(now, id(1), Life::Live);
    assert_eq!((whip.call(now), whip.session()), (Err(CallError::Published), Some(id(1))));
    whip.handle_life(now, id(1), Life::Dismissed);
    assert_eq!(outputs(&mut whip), [delete("http://sfu/s/1")]);
    whip.handle_response(now, response(200, &[], ""));
    assert_eq!((whip.standing(), whip.poll_timeout()), (&Standing::Dismissed, None));
    whip.handle_timeout(now + 1000 * SECOND);
    assert_eq!(outputs(&mut whip), []);
    assert_eq!(whip.call(now), Ok(()));
    assert_eq!((whip.standing(), whip.poll_timeout()), (&Standing::Connecting, Some(now)));
    offering(&mut whip, now, 2, endpoint);

    // While the server thinks; the word comes before, or after, its answer was made use of.
    whip.handle_life(now, id(2), Life::Dismissed);
    assert_eq!((outputs(&mut whip), whip.standing()), (vec![], &Standing::Dismissed));
    whip.handle_response(now, response(201, &[("location", "/s/2")], ANSWER));
    assert_eq!(outputs(&mut whip), [delete("http://sfu/s/2")]);
    assert_eq!(whip.call(now), Ok(()), "once the last is ended");
    whip.handle_response(now, response(200, &[], ""));
    offering(&mut whip, now, 3, endpoint);
    whip.handle_response(now, response(201, &[], ANSWER));
    assert_eq!(outputs(&mut whip), [accept(3)]);
    whip.handle_outcome(now, id(3), Outcome::Refused(Refusal::UnknownSession));
    assert!(whip.poll_timeout().is_some());
    whip.handle_life(now, id(3), Life::Dismissed);
    assert_eq!((whip.standing(), whip.poll_timeout()), (&Standing::Dismissed, None));
    whip.stop(now);
    assert!(whip.is_over());
    assert_eq!(whip.call(now), Err(CallError::Unknown));
}
