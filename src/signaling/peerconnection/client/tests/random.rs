//! A small server of either kind, and whatever may happen there, at random.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A small generator of its own, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The server: the original's kind tells single changes, first first; the other whole lists, last first.
struct Server {
    is_original: bool,
    next: u64,
    members: BTreeMap<u64, String>,
    daemon: Option<u64>,
    /// What the daemon has not fetched.
    queue: Vec<(u64, String)>,
    wait: Option<(RequestId, u64)>,
    posts: Vec<(RequestId, [PeerId; 2], String)>,
}

impl Server {
    fn new(is_original: bool) -> Self {
        let (members, queue, posts) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { is_original, next: 1, members, daemon: None, queue, wait: None, posts }
    }

    fn list(&self) -> String {
        self.members.iter().rev().map(|(id, name)| format!("{name},{id},{}\n", id % 2)).collect()
    }

    fn add(&mut self, name: &str) -> u64 {
        let id = self.next;
        self.next += 1;
        self.members.insert(id, name.to_owned());
        self.tell(&format!("{name},{id},1\n"));
        id
    }

    fn remove(&mut self, id: u64) {
        if let Some(name) = self.members.remove(&id) {
            self.tell(&format!("{name},{id},0\n"));
        }
    }

    fn tell(&mut self, change: &str) {
        if let Some(daemon) = self.daemon {
            let body = if self.is_original { change.to_owned() } else { self.list() };
            self.queue.push((daemon, body));
        }
    }

    /// What the daemon's wait is answered with, if with anything.
    fn next_for_daemon(&mut self) -> Option<Reply> {
        let (_, id) = self.wait?;
        if self.daemon != Some(id) {
            return Some(replied(500, 0, "<html><body>Sorry, not yet implemented</body></html>"));
        }
        let item =
            if self.is_original && !self.queue.is_empty() { Some(self.queue.remove(0)) } else { self.queue.pop() };
        item.map(|(sender, body)| replied(200, sender, &body))
    }
}

struct Play {
    client: Client,
    server: Server,
    random: Random,
    now: Instant,
    asks: Vec<(AskId, PeerId, Question)>,
    is_in: bool,
    numbers: u64,
    /// The number of the last message that reached somebody, by its sender and receiver.
    reached: BTreeMap<[PeerId; 2], u64>,
    namesakes: BTreeSet<u64>,
    delivered: u64,
}

impl Play {
    fn new(seed: u64) -> Self {
        let (mut sessions, mut jitter) = (Random(seed), Random(seed + 7));
        let draw = move || SessionId::from_bytes((u128::from(sessions.below(u64::MAX))).to_be_bytes());
        let call = CallPolicy::parse(if seed.is_multiple_of(3) { "none" } else { "joined" }).unwrap();
        let now = Instant::now();
        let client = Client::new("desk", call, draw, move || jitter.below(1 << 32) as u32, now);
        let random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (asks, reached, namesakes) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        let server = Server::new(seed.is_multiple_of(2));
        Self { client, server, random, now, asks, is_in: false, numbers: 0, reached, namesakes, delivered: 0 }
    }

    /// Any member, or somebody who is none.
    fn anybody(&mut self) -> u64 {
        let count = self.server.members.len() as u64;
        let place = self.random.below(count + 1);
        self.server.members.keys().nth(place as usize).copied().unwrap_or(99)
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0 => {
                let name = ["alice", "b,c", "desk", ""][self.random.below(4) as usize];
                let id = self.server.add(name);
                if name == "desk" {
                    self.namesakes.insert(id);
                }
            }
            1 => {
                let who = self.anybody();
                if Some(who) != self.server.daemon || self.random.below(20) == 0 {
                    self.server.remove(who);
                    if Some(who) == self.server.daemon {
                        self.server.daemon = None;
                    }
                }
            }
            2..=5 => self.speak(),
            6 | 7 => self.finish_wait(),
            8 | 9 => self.finish_post(),
            10 | 11 => self.finish_ask(),
            12 if self.random.below(30) == 0 => self.restart(),
            13 => {
                let who = PeerId(self.anybody());
                let _ = self.client.call(who, self.now);
            }
            _ => self.later(Duration::from_millis(self.random.0 % 700)),
        }
        self.settle();
    }

    fn speak(&mut self) {
        let who = self.anybody();
        let is_heard = self.server.daemon.is_some_and(|daemon| daemon != who);
        if !is_heard || !self.server.members.contains_key(&who) || self.namesakes.contains(&who) {
            return;
        }
        let body = match self.random.below(6) {
            0 | 1 => offer(self.random.below(3) as u32),
            2 => offer(1).replace("offer", "answer"),
            3 => CANDIDATE.to_owned(),
            4 => "BYE".to_owned(),
            _ => "garbage".to_owned(),
        };
        self.server.queue.push((who, body));
    }

    fn finish_wait(&mut self) {
        // A change that is lost on its way stays unknown where the daemon does not come in anew: between it and the server nothing of use is lost.
        let reply = match self.random.below(40) {
            0 => Some(failed(true)),
            1 => Some(replied(504, 0, "")),
            _ => self.server.next_for_daemon(),
        };
        let Some(reply) = reply else { return };
        if let Some((request, _)) = self.server.wait.take() {
            self.client.handle_reply(request, reply, self.now);
        }
    }

    fn finish_post(&mut self) {
        if self.server.posts.is_empty() {
            return;
        }
        let place = self.random.below(self.server.posts.len() as u64) as usize;
        let (request, ids, body) = self.server.posts.remove(place);
        let reply = match self.random.below(12) {
            0 => failed(false),
            1 => failed(true),
            2 => replied(500, 0, "Error: Can't set headers after they are sent."),
            _ if !self.server.members.contains_key(&ids[1].0) => replied(500, 0, "Peer most likely gone."),
            _ => {
                let number = body.split("number ").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
                let last = self.reached.insert(ids, number);
                assert!(last < Some(number), "to {ids:?}: {number} after {last:?}");
                self.delivered += 1;
                replied(200, 0, "")
            }
        };
        self.client.handle_reply(request, reply, self.now);
    }

    fn finish_ask(&mut self) {
        let Some((ask, _, question)) = self.asks.pop() else { return };
        self.numbers += 1;
        let outcome = match (self.random.below(5), question) {
            (0, _) => Outcome::Unanswered,
            (_, Question::Accept { .. }) => Outcome::Accepted,
            _ => Outcome::Described(format!("number {}", self.numbers)),
        };
        self.client.handle_outcome(ask, outcome);
    }

    /// The server begins anew: all connections break, ids begin at 1 again.
    fn restart(&mut self) {
        let was = std::mem::replace(&mut self.server, Server::new(self.random.below(2) == 0));
        let open = was.wait.into_iter().map(|(request, _)| request).chain(was.posts.into_iter().map(|post| post.0));
        open.for_each(|request| self.client.handle_reply(request, failed(true), self.now));
        self.namesakes.clear();
        self.reached.clear();
    }

    fn later(&mut self, pause: Duration) {
        self.now += pause;
        self.client.handle_timeout(self.now);
        assert!(self.client.poll_timeout().is_none_or(|due| due > self.now), "what is due is done");
    }

    fn settle(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Send(request, Request::SignIn) => {
                    let is_refused = self.random.below(5) == 0;
                    let reply = if is_refused { failed(false) } else { self.sign_in() };
                    self.client.handle_reply(request, reply, self.now);
                }
                Output::Send(request, Request::Wait(id)) => {
                    assert!(self.server.wait.is_none() && self.is_in, "one wait hangs at a time");
                    self.server.wait = Some((request, id.0));
                }
                Output::Send(request, Request::Message { from, to, body }) => {
                    let membership = if let State::SignedIn(membership) = &self.client.state {
                        membership
                    } else {
                        panic!("no member")
                    };
                    assert_eq!(from, membership.id);
                    // Those to who is gone are still on their way.
                    let open = self.server.posts.iter().filter(|post| membership.outbox.target(post.0).is_some());
                    let open: Vec<_> = open.map(|post| post.1[1]).collect();
                    assert!(open.len() < outbox::MOST_POSTING && !open.contains(&to), "to {to} beside {open:?}");
                    self.server.posts.push((request, [from, to], body));
                }
                Output::Send(_, Request::SignOut(_)) => panic!("nobody told it to leave"),
                Output::SignedIn { id, .. } => {
                    assert!(!std::mem::replace(&mut self.is_in, true), "it is in already");
                    assert_eq!(Some(id.0), self.server.daemon);
                }
                Output::Abandon(_) => {}
                Output::Away(_) => self.is_in = false,
                Output::Broadcast(peers::Output::Ask(ask, peer, question)) => {
                    assert!(!self.namesakes.contains(&peer.0), "a namesake is called");
                    self.asks.push((ask, peer, question));
                }
                Output::Broadcast(_) => {}
            }
        }
        let known: BTreeSet<_> = self.client.peers.states().map(|peer| peer.id).collect();
        assert_eq!(known, self.client.members);
        let is_member = matches!(self.client.state, State::SignedIn(_));
        assert_eq!(is_member, matches!(self.client.standing, Standing::SignedIn(_)));
        assert!(is_member || known.is_empty(), "nobody is known where the daemon is no member");
        if let State::SignedIn(membership) = &self.client.state {
            assert!(!known.contains(&membership.id), "the daemon is no peer of itself");
            assert_eq!(self.server.wait.is_some(), matches!(membership.wait, Wait::Hanging { .. }));
        }
    }

    fn sign_in(&mut self) -> Reply {
        // What hung for an id of before is given up with it.
        self.server.wait = None;
        self.server.queue.clear();
        self.namesakes.extend(self.server.daemon);
        let daemon = self.server.next;
        self.server.next += 1;
        self.server.members.insert(daemon, "desk".to_owned());
        self.server.daemon = Some(daemon);
        replied(200, daemon, &self.server.list())
    }
}

#[test]
fn whatever_happens_the_daemon_comes_back_and_knows_who_is_there() {
    let mut delivered = 0;
    for seed in 1..=60 {
        let mut play = Play::new(seed);
        for _ in 0..1500 {
            play.step();
        }
        delivered += play.delivered;
        // Nothing else happens any more; then somebody comes.
        for round in 0..2000 {
            if round == 1000 {
                play.server.add("the last");
            }
            if let Some((request, _)) = play.server.wait
                && let Some(reply) = play.server.next_for_daemon()
            {
                play.server.wait = None;
                play.later(AT_ONCE);
                play.client.handle_reply(request, reply, play.now);
            }
            play.finish_post();
            play.finish_ask();
            play.later(Duration::from_millis(20));
            play.settle();
        }
        assert!(play.is_in, "seed {seed}");
        let there: BTreeSet<_> = play.client.members.iter().map(|id| id.0).collect();
        let daemon = play.server.daemon.unwrap();
        let expected: BTreeSet<_> =
            play.server.members.keys().copied().filter(|id| *id != daemon && !play.namesakes.contains(id)).collect();
        assert_eq!(there, expected, "seed {seed}");
        assert!(play.server.posts.is_empty() && play.asks.is_empty(), "seed {seed}");
    }
    assert!(delivered > 1000, "{delivered} messages were delivered");
}
