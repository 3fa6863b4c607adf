//! The protocols that are text frames over a WebSocket, each against a server and peers that say anything.
//!
//! The first line is `mdn`, `socketio` or `channel`, and whom the daemon calls. Then each line is a step: `<frame` is heard, `+N` passes N ms, `cN` calls peer N,
//! `o` and `x` open and close the connection, `eN` is an HTTP status in its place, `d`, `a`, `r`, `f` and `u` are the broadcast's word, `q` signs out.

use std::time::{Duration, Instant};

use laterna::clock::Clock;
use laterna::id::PeerId;
use laterna::signaling::channel::Channel;
use laterna::signaling::client::frames::{FrameProtocol, Output};
use laterna::signaling::mdn::Mdn;
use laterna::signaling::peers::CallPolicy;
use laterna::signaling::socketio::SocketIo;
use laterna::signaling::socketio::packet::Packet;
use serde_json::Value;

use super::input::{Step, assert_one_line, script, sessions, start};
use super::talk::Broadcast;

const NAME: &str = "desk";
const MOST_STEPS: usize = 128;
/// What one step may have it put out; more is without end.
const MOST_OUTPUTS: usize = 4096;

pub fn run(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let first = String::from_utf8_lossy(&data[..end]);
    let (protocol, call) = first.split_once(' ').unwrap_or((&first, "joined"));
    let Some(call) = CallPolicy::parse(call) else { return };
    let steps = script(data.get(end + 1..).unwrap_or_default(), MOST_STEPS);
    match protocol {
        "mdn" => {
            let clock = Clock::from_parts(start(), Duration::from_secs(1_700_000_000));
            play(Mdn::new(NAME, call, sessions(), clock), true, is_json, &steps);
        }
        "socketio" => play(SocketIo::new(NAME, call, sessions()), true, |text| Packet::parse(text).is_ok(), &steps),
        "channel" => play(Channel::new(NAME, call, sessions()), false, is_json, &steps),
        _ => {}
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

struct Play<P> {
    core: P,
    broadcast: Broadcast,
    now: Instant,
    is_open: bool,
    is_frame: fn(&str) -> bool,
}

/// Plays all steps; `forgets` says whether nobody is known where there is no connection.
fn play(core: impl FrameProtocol, forgets: bool, is_frame: fn(&str) -> bool, steps: &[(char, String)]) {
    let mut play = Play { core, broadcast: Broadcast::default(), now: start(), is_open: false, is_frame };
    play.open();
    for (verb, rest) in steps {
        play.step(&Step { verb: *verb, rest });
        play.drain();
        assert!(play.is_open || !forgets || play.core.peers().states().next().is_none(), "somebody is left");
        assert!(play.core.peers().states().count() <= 4096);
    }
}

impl<P: FrameProtocol> Play<P> {
    fn open(&mut self) {
        self.is_open = true;
        self.core.handle_open(self.now);
        self.drain();
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.is_open, false) {
            self.core.handle_closed(self.now);
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        match step.verb {
            '<' if self.is_open => {
                if let Err(why) = self.core.handle_frame(self.now, step.rest) {
                    assert_one_line(&why.to_string());
                    self.close();
                }
            }
            '+' => {
                self.now += step.pause();
                match self.core.handle_timeout(self.now) {
                    Ok(()) => {
                        let due = self.core.poll_timeout();
                        assert!(due.is_none_or(|due| due > self.now), "what is due is done");
                    }
                    Err(_) => self.close(),
                }
            }
            'c' => drop(self.core.peers_mut().call(PeerId(step.number()), self.now)),
            'o' if !self.is_open => self.open(),
            'x' => self.close(),
            'e' if !self.is_open => self.core.handle_refused(step.number() as u16),
            'q' => self.core.sign_out(),
            verb @ ('d' | 'a' | 'r' | 'f' | 'u') => {
                if let Some((ask, outcome)) = self.broadcast.says(verb) {
                    self.core.peers_mut().handle_outcome(ask, outcome);
                }
            }
            _ => {}
        }
    }

    fn drain(&mut self) {
        for _ in 0..MOST_OUTPUTS {
            match self.core.poll_output() {
                None => return,
                Some(Output::Frame(frame)) => {
                    assert!((self.is_frame)(&frame), "{frame:?} is no frame of this protocol");
                    assert!(frame.len() <= 4096, "{} bytes are sent", frame.len());
                }
                Some(Output::SignedIn(name)) => assert!(!name.is_empty()),
                Some(Output::Broadcast(output)) => self.broadcast.hears(output),
            }
        }
        panic!("outputs without end");
    }
}
