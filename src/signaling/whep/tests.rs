#![allow(clippy::unwrap_used)]

use super::*;
use crate::signaling::access::Code;

const CODE: &str = "abcdefgh23";
const ID: &str = "000102030405060708090a0b0c0d0e0f";

fn session() -> SessionId {
    SessionId::parse(ID).unwrap()
}

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())).collect()
}

fn links() -> Vec<String> {
    vec!["<stun:a:1>; rel=\"ice-server\"".to_owned(), "<turn:b:2>; rel=\"ice-server\"".to_owned()]
}

fn head(method: &str, path: &str, list: &[(&'static str, &str)]) -> Result<Wanted, Box<Reply>> {
    let mut access = Access::with_code(Code::parse(CODE).unwrap());
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    read_head(&method, path, &headers(list), &mut access, [192, 0, 2, 1].into(), Instant::now(), links)
}

fn text(reply: &Reply, name: &str) -> String {
    reply.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

const AUTH: (&str, &str) = ("authorization", "Bearer abcdefgh23");
const SDP_TYPE: (&str, &str) = ("content-type", "application/sdp");
const FRAG_TYPE: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");

#[test]
fn heads_are_told_apart() {
    let at = format!("/whep/{ID}");
    let trickle = Wanted::Trickle(session(), None);
    for (method, path, list, wanted) in [
        ("POST", "/whep", vec![AUTH, SDP_TYPE], Wanted::Offer(Some(PassId(0)))),
        ("POST", "/whep/", vec![AUTH, SDP_TYPE], Wanted::Offer(Some(PassId(0)))),
        ("POST", "/whep", vec![("authorization", "bearer  abcdefgh23"), SDP_TYPE], Wanted::Offer(Some(PassId(0)))),
        (
            "POST",
            "/whep",
            vec![AUTH, ("content-type", "Application/SDP; charset=utf-8")],
            Wanted::Offer(Some(PassId(0))),
        ),
        ("PATCH", &at, vec![FRAG_TYPE], trickle),
        ("DELETE", &at, vec![], Wanted::Leave(session())),
        ("DELETE", &at, vec![("authorization", "Bearer wrong")], Wanted::Leave(session())),
    ] {
        assert_eq!(head(method, path, &list).ok(), Some(wanted), "{method} {path} {list:?}");
    }
}

#[test]
fn heads_are_refused_with_the_reason() {
    let at = format!("/whep/{ID}");
    let wrong = ("authorization", "Bearer wrong");
    for (method, path, list, status, says) in [
        ("POST", "/whep", vec![SDP_TYPE], 401, "access code is needed"),
        ("POST", "/whep", vec![("authorization", "Basic abcdefgh23"), SDP_TYPE], 401, "is needed"),
        ("POST", "/whep", vec![wrong, SDP_TYPE], 401, "code is wrong"),
        ("POST", "/whep", vec![AUTH], 415, "found none"),
        ("POST", "/whep", vec![AUTH, ("content-type", "application/json")], 415, "found application/json"),
        ("POST", "/whep", vec![AUTH, ("content-type", "a\tb")], 415, r"found a\tb"),
        ("GET", "/whep", vec![AUTH], 405, "POST, OPTIONS"),
        ("DELETE", "/whep", vec![AUTH], 405, "POST, OPTIONS"),
        ("POST", &at, vec![AUTH, SDP_TYPE], 405, "PATCH, DELETE, OPTIONS"),
        ("PATCH", "/whep/nonsense", vec![FRAG_TYPE], 404, "no such session"),
        ("DELETE", "/whep/nonsense", vec![], 404, "no such session"),
        ("PATCH", &at, vec![SDP_TYPE], 415, "application/trickle-ice-sdpfrag"),
    ] {
        let reply = head(method, path, &list).unwrap_err();
        assert_eq!(reply.status.as_u16(), status, "{method} {path} {list:?}");
        let body = String::from_utf8(reply.body.to_vec()).unwrap();
        assert!(body.contains(says), "{method} {path} {list:?}: {body}");
        assert_eq!(text(&reply, "access-control-allow-origin"), "*", "a page can read every refusal");
        assert_eq!(status == 401, !text(&reply, "www-authenticate").is_empty());
        assert_eq!(status == 405, !text(&reply, "allow").is_empty());
    }
}

#[test]
fn too_many_wrong_codes_are_told_when_to_come_back() {
    let mut access = Access::with_code(Code::parse(CODE).unwrap());
    let wrong = headers(&[("authorization", "Bearer wrong"), SDP_TYPE]);
    let now = Instant::now();
    let mut post =
        |list: &HeaderMap| read_head(&Method::POST, "/whep", list, &mut access, [192, 0, 2, 1].into(), now, links);
    let last = (0..6).map(|_| post(&wrong).unwrap_err()).last().unwrap();
    assert_eq!((last.status.as_u16(), text(&last, "retry-after")), (429, "1".to_owned()));
    assert_eq!(post(&headers(&[AUTH, SDP_TYPE])).unwrap(), Wanted::Offer(Some(PassId(0))));
}

#[test]
fn preflights_are_answered_without_a_code() {
    let reply = head("OPTIONS", "/whep", &[("access-control-request-private-network", "true")]).unwrap_err();
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    assert_eq!(text(&reply, "access-control-allow-methods"), "POST, OPTIONS");
    assert_eq!(text(&reply, "access-control-allow-headers"), "Content-Type, Authorization, If-Match");
    assert_eq!(text(&reply, "access-control-allow-private-network"), "true");
    let reply = head("OPTIONS", "/whep/anything", &[]).unwrap_err();
    assert_eq!(text(&reply, "access-control-allow-methods"), "PATCH, DELETE, OPTIONS");
    assert_eq!(text(&reply, "access-control-allow-private-network"), "");
}

#[test]
fn ice_servers_are_for_those_with_the_code() {
    let told = |list: &[(&'static str, &str)]| {
        let reply = head("OPTIONS", "/whep", list).unwrap_err();
        let links: Vec<_> =
            reply.headers.get_all("link").iter().map(|link| link.to_str().unwrap().to_owned()).collect();
        (reply.status.as_u16(), links, text(&reply, "cache-control"))
    };
    assert_eq!(told(&[AUTH]), (204, links(), "no-store".to_owned()));
    assert_eq!(told(&[]), (204, Vec::new(), String::new()));
    let (status, links, _) = told(&[("authorization", "Bearer wrong")]);
    assert_eq!((status, links), (401, Vec::new()));
    let at = format!("/whep/{ID}");
    assert_eq!(head("OPTIONS", &at, &[AUTH]).unwrap_err().headers.get("link"), None);
}

#[test]
fn bodies_complete_the_question() {
    let offer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n";
    assert_eq!(
        read_body(Wanted::Offer(Some(PassId(0))), offer.as_bytes()).unwrap(),
        Ask::Offer(offer.to_owned(), Some(PassId(0)))
    );
    assert_eq!(read_body(Wanted::Leave(session()), b"anything").unwrap(), Ask::Leave(session()));
    let trickle = Trickle { end: true, ..Trickle::default() };
    assert_eq!(
        read_body(Wanted::Trickle(session(), None), b"a=end-of-candidates").unwrap(),
        Ask::Trickle(session(), trickle)
    );
    for (wanted, body, says) in [
        (Wanted::Offer(Some(PassId(0))), &b""[..], "found nothing"),
        (Wanted::Offer(Some(PassId(0))), b"hello", "5 bytes of other text"),
        (Wanted::Offer(Some(PassId(0))), b"v=0\r\n\xff", "6 bytes that are no text"),
        (Wanted::Trickle(session(), None), b"\xff", "no text"),
        (Wanted::Trickle(session(), None), b"hello", "line 1"),
        (Wanted::Trickle(session(), None), b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901", "no candidate"),
        (Wanted::Restart(session()), b"a=end-of-candidates", "a=ice-pwd"),
        (Wanted::Restart(session()), b"a=ice-ufrag:abcd\r\na=ice-pwd:short", "line 2"),
    ] {
        let reply = read_body(wanted, body).unwrap_err();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert!(String::from_utf8_lossy(&reply.body).contains(says), "{body:?}: {:?}", reply.body);
    }
}

#[test]
fn an_answer_is_created_with_its_address() {
    let reply = answered(session(), Answer { sdp: "v=0\r\na=ice-ufrag:q7k2\r\n".to_owned() }, links());
    assert_eq!(reply.headers.get_all("link").iter().count(), 2);
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(text(&reply, "location"), format!("/whep/{ID}"));
    assert_eq!(text(&reply, "content-type"), "application/sdp");
    assert_eq!(text(&reply, "etag"), "\"q7k2\"");
    assert_eq!(text(&reply, "accept-patch"), "application/trickle-ice-sdpfrag");
    assert!(text(&reply, "access-control-expose-headers").contains("Location, ETag"));
    assert!(reply.body.starts_with(b"v=0\r\n"));
}

#[test]
fn refusals_have_their_status_and_reason() {
    let sentence = || "offered VP9, this version sends H.264".to_owned();
    for (refusal, status, reason) in [
        (Refusal::BadOffer(sentence()), 400, ""),
        (Refusal::NoCommonCodec(sentence()), 406, "codec"),
        (Refusal::UnknownSession, 404, ""),
        (Refusal::Kicked, 410, "kicked"),
        (Refusal::Conflict(sentence()), 409, ""),
        (Refusal::OtherGeneration { current: "abcd".to_owned() }, 412, ""),
        (Refusal::Full { limit: 2 }, 503, "full"),
        (Refusal::Closing, 503, "closing"),
    ] {
        let reply = refused(&refusal);
        assert_eq!((reply.status.as_u16(), text(&reply, "laterna-reason")), (status, reason.to_owned()), "{refusal:?}");
        assert_eq!(status == 503, !text(&reply, "retry-after").is_empty());
        assert_eq!(reply.body, format!("{refusal}\n"));
    }
    assert_eq!(text(&busy(), "laterna-reason"), "busy");
}

#[test]
fn a_restart_gets_fresh_credentials_and_another_tag() {
    let at = format!("/whep/{ID}");
    let wanted = |value| head("PATCH", &at, &[FRAG_TYPE, ("if-match", value)]).unwrap();
    assert_eq!(wanted("\"q7k2\""), Wanted::Trickle(session(), Some("q7k2".to_owned())));
    assert_eq!(wanted("*"), Wanted::Restart(session()));
    let fragment = b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=video 9 RTP/AVP 0\r\na=mid:v1\r\n";
    let Ok(Ask::Restart(_, asked)) = read_body(Wanted::Restart(session()), fragment) else { panic!("no restart") };
    assert_eq!((asked.ufrag.as_deref(), asked.mid.as_deref()), (Some("EsAw"), Some("v1")));
    let own = Trickle {
        ufrag: Some("fresh".to_owned()),
        password: Some("P2uYro0UCOQ4zxjKXaWCBui1".to_owned()),
        candidates: vec!["candidate:1 1 udp 1 192.0.2.1 9 typ host".to_owned()],
        end: true,
        ..asked
    };
    let reply = restarted(&own);
    assert_eq!((reply.status.as_u16(), text(&reply, "etag")), (200, "\"fresh\"".to_owned()));
    let back = sdpfrag::parse(std::str::from_utf8(&reply.body).unwrap()).unwrap();
    assert_eq!(back, Trickle { generation: None, ..own });
}
