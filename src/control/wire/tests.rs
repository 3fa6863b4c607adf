#![allow(clippy::unwrap_used)]
use super::*;

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        name: "laterna@host".into(),
        uptime_s: 7,
        http: vec!["[::]:8888".parse().unwrap(), "127.0.0.1:80".parse().unwrap()],
        udp: 8889,
        tls_fingerprint: None,
        max_viewers: 500,
        source: Maker { what: "pattern 1280x720".into(), running: true },
        sound: None,
        size: "1280x720".into(),
        encoders: vec![Encoder {
            codec: "h264".into(),
            running: true,
            units: 3,
            keyframes: 1,
            bytes: 999,
            passed: 6,
            skipped: 4,
            restarts: 0,
            recent_us: 5000,
        }],
        viewers: vec![Viewer {
            viewer: 1,
            at: "whep".into(),
            name: "127.0.0.1".into(),
            state: Stage::Connected,
            since_s: 2,
            codecs: vec!["h264".into()],
            rtt_ms: Some(12),
            loss_percent: None,
            way: Some(Way::Tcp),
            quality: Some(Quality::Fair),
            because: vec!["over TCP".into()],
        }],
        signaling: vec![Server {
            server: "room".into(),
            standing: Standing::SignedIn,
            name: Some("laterna@host".into()),
            why: None,
            peers: vec![Peer { id: 2, name: "a \"b\"\n\u{1f4fa}".into(), viewer: None }],
        }],
        ice_servers: vec![
            IceServer { url: "stun:h:3478".into(), standing: IceStanding::ForViewers, why: None },
            IceServer { url: "turn:h:1".into(), standing: IceStanding::Away, why: Some("x".into()) },
        ],
        config: Some("/etc/laterna/laterna.toml".into()),
        problems: vec![Problem { what: "x is away".into(), since_s: Some(3), advice: "start it".into() }],
    }
}

#[test]
fn requests_and_replies_survive_the_wire_on_one_line_each() {
    let server = Some("mdn+ws://h/".to_owned());
    for request in [
        Request::Status,
        Request::Peers,
        Request::Events,
        Request::Call { peer: "a\nb".into(), server: None },
        Request::Call { peer: "7".into(), server },
        Request::Kick { viewer: u32::MAX },
    ] {
        let line = request.line();
        assert!(line.starts_with(r#"{"laterna":1,"ask":""#) && line.find('\n') == Some(line.len() - 1), "{line}");
        assert_eq!(Request::parse(line.trim_end().as_bytes()), Ok(request));
    }
    for reply in [
        Reply::Status(Box::new(status())),
        Reply::Peers(status().signaling),
        Reply::Called(Called { server: "room".into(), id: 3, name: "x".into() }),
        Reply::Kicked(Kicked { viewer: 3, at: "whep".into(), name: String::new() }),
        Reply::Event(Happened { at_ms: 7, event: Event::Stopping { why: "a\nb".into() } }),
        Reply::Error(Complaint::new(Kind::Ambiguous, "which?")),
    ] {
        let line = reply.line();
        assert!(line.starts_with(r#"{"laterna":1,""#) && line.find('\n') == Some(line.len() - 1), "{line}");
        assert_eq!(Reply::parse(line.trim_end().as_bytes()), Ok(reply));
    }
}

/// Scripts rely on these names: a change of one is another version.
#[test]
fn the_names_in_version_1_stay() {
    let line = Reply::Status(Box::new(status())).line();
    let expected = r#"{"laterna":1,"status":{"version":"0.1.0","name":"laterna@host","uptime_s":7,"http":["[::]:8888","127.0.0.1:80"],"udp":8889,"max_viewers":500,"source":{"what":"pattern 1280x720","running":true},"sound":null,"size":"1280x720","encoders":[{"codec":"h264","running":true,"units":3,"keyframes":1,"bytes":999,"passed":6,"skipped":4,"restarts":0,"recent_us":5000}],"viewers":[{"viewer":1,"at":"whep","name":"127.0.0.1","state":"connected","since_s":2,"codecs":["h264"],"rtt_ms":12,"way":"tcp","quality":"fair","because":["over TCP"]}],"signaling":[{"server":"room","standing":"signed-in","name":"laterna@host","peers":[{"id":2,"name":"a \"b\"\n📺"}]}],"ice_servers":[{"url":"stun:h:3478","standing":"for-viewers"},{"url":"turn:h:1","standing":"away","why":"x"}],"config":"/etc/laterna/laterna.toml","problems":[{"what":"x is away","since_s":3,"advice":"start it"}]}}"#.replace('\n', "\\n");
    assert_eq!(line.trim_end(), expected);
    let kick = Request::parse(br#"{"laterna":1,"ask":"kick","viewer":3,"more":"of a newer one"}"#);
    assert_eq!(kick, Ok(Request::Kick { viewer: 3 }));
}

#[test]
fn what_is_no_request_is_explained() {
    let deep = "[".repeat(100_000);
    for (line, kind, words) in [
        ("", Kind::BadRequest, "no JSON"),
        ("status", Kind::BadRequest, "no JSON"),
        ("[1]", Kind::BadRequest, "there is no version"),
        (r#"{"ask":"status"}"#, Kind::BadRequest, "there is no version"),
        (r#"{"laterna":"1","ask":"status"}"#, Kind::BadRequest, "no number"),
        (r#"{"laterna":2,"ask":"moon"}"#, Kind::Version, "speaks version 1"),
        (r#"{"laterna":1}"#, Kind::BadRequest, "ask"),
        (r#"{"laterna":1,"ask":"moon"}"#, Kind::BadRequest, "moon"),
        (r#"{"laterna":1,"ask":"a\nb\u001b"}"#, Kind::BadRequest, r"a\nb\u{1b}"),
        (r#"{"laterna":1,"ask":"kick"}"#, Kind::BadRequest, "viewer"),
        (r#"{"laterna":1,"ask":"kick","viewer":-1}"#, Kind::BadRequest, "-1"),
        (r#"{"laterna":1,"ask":"kick","viewer":4294967296}"#, Kind::BadRequest, "4294967296"),
        (&deep, Kind::BadRequest, "no JSON"),
    ] {
        let complaint = Request::parse(line.as_bytes()).unwrap_err();
        assert_eq!(complaint.kind, kind, "{line}");
        assert!(complaint.message.contains(words) && !complaint.message.contains('\n'), "{line}: {complaint}");
    }
    assert!(Request::parse(b"{\"laterna\":1,\"ask\":\"\xff\"}").is_err());
}

#[test]
fn replies_of_others_are_told_apart() {
    assert_eq!(Reply::parse(br#"{"laterna":2,"moon":{}}"#), Err(ReplyError::Version(2)));
    for strange in ["", "HTTP/1.1 400 Bad Request", "{}", r#"{"laterna":1}"#, r#"{"laterna":1,"moon":{}}"#] {
        assert!(matches!(Reply::parse(strange.as_bytes()), Err(ReplyError::Strange(_))), "{strange}");
    }
    let newer = br#"{"laterna":1,"error":{"kind":"moon","message":"m","more":1}}"#;
    assert_eq!(Reply::parse(newer), Ok(Reply::Error(Complaint::new(Kind::Other, "m"))));
}
