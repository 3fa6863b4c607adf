//! Versions told apart at the handshake, heartbeats, ends.

use super::*;

#[test]
fn a_server_of_version_3_is_not_asked_to_join_a_second_time() {
    let mut stage = Stage::new("none");
    stage.core.handle_open(stage.now);
    stage.hears(OPEN_3);
    assert_eq!(stage.outputs(), []);
    stage.hears("40");
    assert_eq!(stage.outputs(), [frame(r#"42["online","desk"]"#), Output::SignedIn("desk".to_owned())]);
    stage.online("/#desk-id", "desk");
    assert_eq!(stage.names(), [""; 0], "the daemon knows itself by either form of its id");
    for _ in 0..3 {
        stage.passes(Duration::from_secs(25));
        assert_eq!(stage.outputs(), [frame("2")]);
        stage.hears("3");
    }
}

#[test]
fn an_early_server_of_version_4_is_asked_when_nothing_comes() {
    let mut stage = Stage::new("none");
    stage.core.handle_open(stage.now);
    stage.hears(OPEN_3);
    let asked = stage.core.poll_timeout().unwrap() - stage.now;
    assert!(asked <= Duration::from_secs(1), "{asked:?}");
    stage.passes(asked);
    assert_eq!(stage.outputs(), [frame("40")]);
    stage.passes(asked);
    assert_eq!(stage.outputs(), [], "once");
    stage.hears("2");
    stage.hears(JOINED_4);
    assert_eq!(stage.outputs()[..2], [frame("3"), frame(r#"42["online","desk"]"#)]);
    stage.passes(Duration::from_secs(26));
    assert_eq!(stage.outputs(), [], "the heartbeats are the server's");
}

#[test]
fn a_server_that_refuses_a_version_is_asked_for_the_other() {
    let url = |core: &SocketIo, text: &str| core.address(&Url::parse(text).unwrap()).to_string();
    let mut stage = Stage::new("none");
    let asked = |stage: &Stage| url(&stage.core, "http://h:3000");
    assert_eq!(asked(&stage), "ws://h:3000/socket.io/?EIO=4&transport=websocket");
    assert_eq!(
        url(&stage.core, "https://h/x/socket.io/?room=a%20b&EIO=2"),
        "wss://h/x/socket.io/?room=a+b&EIO=4&transport=websocket"
    );
    stage.core.handle_refused(502);
    assert!(asked(&stage).contains("EIO=4"), "a server that is away says nothing of versions");
    stage.core.handle_refused(400);
    assert!(asked(&stage).contains("EIO=3"));
    stage.core.handle_open(stage.now);
    stage.core.handle_closed(stage.now);
    assert!(asked(&stage).contains("EIO=4"), "it closed before its handshake");
    stage.core.handle_open(stage.now);
    stage.hears(OPEN_4);
    assert_eq!(stage.breach(r#"44{"message":"no"}"#), "the server refuses the connection: no");
    stage.core.handle_closed(stage.now);
    assert!(asked(&stage).contains("EIO=3"), "it refused the socket");

    stage.core.handle_open(stage.now);
    stage.hears(OPEN_3);
    stage.passes(Duration::from_secs(2));
    assert_eq!(stage.outputs(), [], "who asks for version 3 is joined unasked");
    stage.hears("40");
    stage.core.handle_closed(stage.now);
    assert!(asked(&stage).contains("EIO=3"), "what has served once is kept to");
}

#[test]
fn silence_and_ends_are_breaches() {
    let mut stage = Stage::new("none");
    stage.core.handle_open(stage.now);
    stage.now += Duration::from_secs(10);
    assert!(stage.core.handle_timeout(stage.now).is_err(), "no handshake");
    stage.core.handle_closed(stage.now);
    assert_eq!(stage.core.poll_timeout(), None);
    stage.core.handle_open(stage.now);
    stage.hears(OPEN_4);
    stage.now += Duration::from_secs(10);
    assert!(stage.core.handle_timeout(stage.now).is_err(), "not joined");

    for (frame, why) in [("1", "Engine.IO"), ("41", "Socket.IO"), (OPEN_4, "second"), (r#"44"x""#, "x")] {
        let breach = Stage::signed_in("none").breach(frame);
        assert!(breach.contains(why), "{breach}");
    }
    for first in ["", "hello", "40", "0{}"] {
        let mut stage = Stage::new("none");
        stage.core.handle_open(stage.now);
        stage.breach(first);
    }
    for open in [OPEN_3, OPEN_4] {
        let mut stage = Stage::new("none");
        stage.core.handle_open(stage.now);
        stage.hears(open);
        stage.hears(if open == OPEN_3 { "40" } else { JOINED_4 });
        stage.passes(Duration::from_secs(44));
        stage.online("a", "alice");
        stage.passes(Duration::from_secs(44));
        stage.now += Duration::from_secs(1);
        assert!(stage.core.handle_timeout(stage.now).is_err(), "{open}");
    }
}

#[test]
fn an_event_that_the_server_would_not_take_is_not_sent() {
    let mut stage = Stage::new("none");
    stage.core.handle_open(stage.now);
    stage.hears(&OPEN_4.replace("1000000", "100"));
    stage.hears(JOINED_4);
    stage.offers("a", 7);
    stage.outputs();
    stage.asks("b");
    stage.event("stream ok", &[json!("b")]);
    stage.settle(Outcome::Described("v=0\r\n".repeat(30)));
    assert_eq!(stage.outputs(), []);
}
