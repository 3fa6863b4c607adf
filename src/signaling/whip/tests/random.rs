//! Random operations: whatever comes in whatever order, all that was begun is ended.

use std::collections::BTreeSet;

use super::*;

/// Draws numbers that look random (xorshift64*).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// The world around a core: what it has asked and not been told, and what is left at the server.
#[derive(Default)]
struct World {
    preparing: bool,
    question: Option<(SessionId, bool)>,
    request: Option<Request>,
    living: BTreeSet<SessionId>,
    live: Option<SessionId>,
    resources: BTreeSet<String>,
    made: u32,
    /// Whether a relay may come up.
    relay: bool,
}

impl World {
    fn take(&mut self, whip: &mut Whip) {
        for output in outputs(whip) {
            match output {
                Output::Prepare => self.preparing = true,
                Output::Publish(session) => {
                    assert!(self.living.insert(session), "sessions are fresh");
                    assert_eq!(self.living.len(), 1, "one publication at a time");
                    self.question = Some((session, true));
                }
                Output::Accept { session, .. } => self.question = Some((session, false)),
                Output::Leave(session) => assert!(self.living.remove(&session), "it was not there"),
                Output::Ask(request) => assert!(self.request.replace(request).is_none(), "one request at a time"),
                Output::IceServers(_) => self.relay = true,
            }
        }
    }

    /// A response to what the server was asked; it remembers what it takes.
    fn respond(&mut self, draw: &mut Draw) -> Option<Result<Response, String>> {
        let said = match self.request.take()? {
            Request::End { at } => {
                assert!(self.resources.remove(at.as_str()), "{at} is ended once");
                response(200, &[], "")
            }
            Request::Offer { .. } => match draw.below(8) {
                0 => Err("the server can't be reached".to_owned()),
                1 => response(307, &[("location", "/elsewhere")], ""),
                2 => response(503, &[("retry-after", "7")], "busy"),
                3 => response(201, &[], "no SDP"),
                4 => response(
                    u16::try_from(200 + draw.below(399)).unwrap(),
                    &[("location", "\u{7f}")].map(|_| ("location", "::")),
                    "x",
                ),
                _ => {
                    self.made += 1;
                    let location = format!("http://sfu/s/{}", self.made);
                    self.resources.insert(location.clone());
                    let link = "<turn:relay>; rel=ice-server; username=u; credential=c";
                    response(201, &[("location", &location), ("link", link)], ANSWER)
                }
            },
        };
        Some(said)
    }
}

#[test]
fn whatever_comes_in_whatever_order_all_that_was_begun_is_ended() {
    for seed in 1..=300 {
        let mut draw = Draw(seed);
        let mut now = Instant::now();
        let (mut random, mut drawn) = (Draw(seed + 7), 0u64);
        let sessions = move || {
            drawn += 1;
            SessionId::from_bytes(u128::from(drawn).to_be_bytes())
        };
        let random = move || u32::try_from(random.below(1 << 32)).unwrap();
        let mut whip = Whip::new(now, Url::parse("http://sfu/whip").unwrap(), sessions, random);
        let mut world = World::default();
        for _ in 0..200 {
            now += Duration::from_millis(draw.below(3000));
            match draw.below(7) {
                6 if std::mem::take(&mut world.relay) => whip.handle_relay(now),
                6 => {}
                0 => {
                    if std::mem::take(&mut world.preparing) {
                        whip.handle_prepared(now, if draw.below(4) == 0 { Err("no token".into()) } else { Ok(()) });
                    } else if draw.below(8) == 0 {
                        let _ = whip.call(now);
                    }
                    whip.handle_timeout(now);
                }
                1 => {
                    if let Some(response) = world.respond(&mut draw) {
                        whip.handle_response(now, response);
                    }
                }
                2 | 3 => {
                    if let Some((session, is_offer)) = world.question.take() {
                        let outcome = match (draw.below(4), is_offer) {
                            // What connects was accepted, whichever word comes first.
                            _ if world.live == Some(session) => Outcome::Accepted,
                            (0, _) => {
                                world.living.remove(&session);
                                Outcome::Refused(Refusal::Closing)
                            }
                            (1, _) => Outcome::Unanswered,
                            (_, true) => Outcome::Described(OFFER.to_owned()),
                            (_, false) => Outcome::Accepted,
                        };
                        whip.handle_outcome(now, session, outcome);
                    }
                }
                4 => {
                    let is_offered = matches!(world.question, Some((_, true))) || world.request.is_some();
                    if let Some(session) = world.living.first().filter(|_| !is_offered) {
                        world.live = Some(*session);
                        whip.handle_life(now, *session, Life::Live);
                    }
                }
                _ => {
                    if let Some(session) = world.living.pop_first() {
                        let is_kicked = draw.below(3) == 0;
                        whip.handle_life(
                            now,
                            session,
                            if is_kicked { Life::Dismissed } else { Life::Ended("over".into()) },
                        );
                    }
                }
            }
            world.take(&mut whip);
            assert!(world.resources.len() <= 1, "the last publication is ended before the next: {:?}", world.resources);
            let waits = whip.poll_timeout().is_some() || *whip.standing() == Standing::Dismissed;
            let is_idle =
                !world.preparing && world.question.is_none() && world.request.is_none() && world.living.is_empty();
            assert!(waits || !is_idle, "it waits for nothing that will ever come (seed {seed})");
        }
        whip.stop(now);
        world.take(&mut whip);
        while let Some(response) = world.respond(&mut draw) {
            whip.handle_response(now, response);
            world.take(&mut whip);
        }
        assert!(whip.is_over() && world.resources.is_empty() && world.living.is_empty(), "seed {seed}");
        whip.handle_timeout(now + 1000 * SECOND);
        assert!(outputs(&mut whip).is_empty(), "nothing follows the end");
    }
}
