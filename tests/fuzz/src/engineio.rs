//! Engine.IO and Socket.IO: packets, and one connection in whatever order they come.
//!
//! Each line is a step: `<frame` is heard, `+N` passes N ms, `>name` is sent, `eN` is an HTTP status in place of a WebSocket, `o` opens, `x` closes, `l` leaves.

use laterna::signaling::socketio::engineio::{EngineIo, Heard};
use laterna::signaling::socketio::packet::{ID_BYTES, Packet, acknowledgement, event};
use serde_json::json;
use url::Url;

use super::input::{Step, assert_one_line, script, start};

const MOST_STEPS: usize = 256;
/// Bytes of the longest frame that is sent: socket.io's own bound, or a heartbeat's answer.
const MOST_BYTES: usize = 1_000_000;

pub fn run(data: &[u8]) {
    let (mut engine, mut now, mut is_open, mut is_joined) = (EngineIo::new(), start(), true, false);
    engine.handle_open(now);
    for (verb, rest) in script(data, MOST_STEPS) {
        let step = Step { verb, rest: &rest };
        let mut lost = false;
        match verb {
            '<' if is_open => {
                packet(step.rest);
                match engine.handle_frame(now, step.rest) {
                    Ok(Heard::Joined(id)) => {
                        assert!(!is_joined && (1..=ID_BYTES).contains(&id.len()));
                        is_joined = true;
                    }
                    Ok(Heard::Event { .. } | Heard::Nothing) => {}
                    Ok(Heard::Malformed(_)) => assert!(is_joined, "what can't be read at first is no server"),
                    Err(why) => {
                        assert_one_line(&why.to_string());
                        lost = true;
                    }
                }
            }
            '+' => {
                now += step.pause();
                match engine.handle_timeout(now) {
                    Ok(()) => assert!(engine.poll_timeout().is_none_or(|due| due > now), "what is due is done"),
                    Err(_) => lost = true,
                }
            }
            '>' => engine.send(step.rest, &[json!({ "sdp": step.rest })]),
            'e' => engine.handle_refused(step.number() as u16),
            'l' => engine.leave(),
            'o' if !is_open => {
                engine.handle_open(now);
                is_open = true;
            }
            'x' => lost = true,
            _ => {}
        }
        let mut sent = 0;
        while let Some(frame) = engine.poll_frame() {
            assert!(frame.len() <= MOST_BYTES && Packet::parse(&frame).is_ok(), "{frame:?}");
            assert!(is_joined || !frame.starts_with("42"), "an event before the socket is joined");
            sent += 1;
        }
        assert!(sent <= 2, "{sent} frames for a step");
        if lost {
            engine.handle_closed();
            (is_open, is_joined) = (false, false);
            assert!(engine.poll_frame().is_none() && engine.poll_timeout().is_none());
        }
    }
    address(&engine);
}

/// What is read of an event is written so that it is read again.
fn packet(frame: &str) {
    match Packet::parse(frame) {
        Ok(Packet::Event { name, arguments, ack }) => {
            let again = Packet::parse(&event(&name, &arguments));
            assert_eq!(again, Ok(Packet::Event { name, arguments, ack: None }));
            ack.into_iter().for_each(|ack| assert_eq!(Packet::parse(&acknowledgement(ack)), Ok(Packet::Other)));
        }
        Ok(Packet::Refused(why)) => assert!(why.chars().count() <= 100 && !why.contains(char::is_control)),
        Ok(Packet::Open(handshake)) => {
            assert!(
                (1..=600_000).contains(&handshake.interval.as_millis()) && handshake.timeout.as_millis() <= 600_000
            );
        }
        Ok(_) | Err(_) => {}
    }
}

fn address(engine: &EngineIo) {
    let url = engine.address(&Url::parse("https://h/?EIO=7&x=1").unwrap());
    assert!(matches!(
        url.as_str(),
        "wss://h/socket.io/?x=1&EIO=4&transport=websocket" | "wss://h/socket.io/?x=1&EIO=3&transport=websocket"
    ));
}
