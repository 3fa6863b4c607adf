//! The room in virtual time: the contract's rules one by one, then random operations with invariants.
#![allow(clippy::unwrap_used)]

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn from_port(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 40_000)
}

struct Stage {
    room: Room,
    now: Instant,
    tokens: u64,
}

impl Stage {
    fn new(policy: RoomPolicy) -> Self {
        Self { room: Room::new(policy, RoomLimits::default(), "desk"), now: Instant::now(), tokens: 0 }
    }

    fn sign_in(&mut self, name: &str) -> PeerId {
        self.room.handle_sign_in(name.as_bytes(), HERE, self.now).unwrap().0
    }

    fn wait(&mut self, id: PeerId) -> WaitToken {
        self.tokens += 1;
        self.room.handle_wait(id, HERE, WaitToken(self.tokens), self.now).unwrap();
        WaitToken(self.tokens)
    }

    fn post(&mut self, from: PeerId, to: PeerId, body: &'static str) -> Result<(), RoomRefusal> {
        let content_type = Bytes::from_static(b"text/plain");
        self.room.handle_message(
            (from, from_port(HERE)),
            to,
            content_type,
            Bytes::from_static(body.as_bytes()),
            self.now,
        )
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.room.poll_output()).collect()
    }

    /// What was delivered since, as `sender:body`; 0 is the room.
    fn delivered(&mut self) -> Vec<(PeerId, String)> {
        let text = |message: &Message| {
            let sender = if let Sender::Member(id) = message.sender { id.0 } else { 0 };
            format!("{sender}:{}", String::from_utf8_lossy(&message.body))
        };
        let delivered = self.outputs().into_iter().filter_map(|output| match output {
            Output::Deliver { to, message, .. } => Some((to, text(&message))),
            _ => None,
        });
        delivered.collect()
    }
}

#[test]
fn names_are_made_fit_for_lists() {
    let mut stage = Stage::new(RoomPolicy::Closed);
    let mut listed = |name: &[u8]| {
        let (_, list) = stage.room.handle_sign_in(name, HERE, stage.now).unwrap();
        String::from_utf8_lossy(&list).into_owned()
    };
    assert_eq!(listed(b"alice,smith"), "alice_smith,2,1\ndesk,1,1\n");
    assert_eq!(listed(b""), "peer_3,3,1\ndesk,1,1\n");
    assert_eq!(listed(b"a\r\nb"), "a__b,4,1\ndesk,1,1\n");
    assert_eq!(listed(&[b'n'; 600]), format!("{},5,1\ndesk,1,1\n", "n".repeat(512)));
}

#[test]
fn in_a_closed_room_a_peer_sees_the_daemon_only() {
    let mut stage = Stage::new(RoomPolicy::Closed);
    let (alice, bob) = (stage.sign_in("alice"), stage.sign_in("bob"));
    let waiting = stage.wait(alice);
    let joined = |peer, name: &'static str| Output::Joined { peer, name: Bytes::from_static(name.as_bytes()) };
    assert_eq!(stage.outputs(), [joined(alice, "alice"), joined(bob, "bob")], "nobody but the daemon is told");
    for target in [alice, PeerId(77)] {
        assert_eq!(stage.post(bob, target, "x"), Err(RoomRefusal::Gone));
    }
    assert_eq!(stage.post(bob, DAEMON, "x"), Ok(()));
    assert_eq!(stage.outputs(), [Output::Received { peer: bob, body: Bytes::from_static(b"x") }]);
    stage.room.send(alice, Bytes::from_static(b"for you"), stage.now);
    assert_eq!(stage.delivered(), [(alice, "1:for you".to_owned())]);
    stage.room.handle_wait_gone(alice, waiting, stage.now);
    stage.room.handle_sign_out(bob, HERE, stage.now).unwrap();
    assert_eq!(stage.outputs(), [Output::Left { peer: bob, why: Leaving::SignedOut }]);
}

#[test]
fn in_an_open_room_everybody_is_told_of_everybody() {
    let mut stage = Stage::new(RoomPolicy::Open);
    let alice = stage.sign_in("alice");
    stage.wait(alice);
    let bob = stage.sign_in("bob");
    assert_eq!(stage.delivered(), [(alice, "0:bob,3,1\n".to_owned())]);
    assert_eq!(stage.post(bob, alice, "1"), Ok(()));
    assert_eq!(stage.post(alice, alice, "2"), Ok(()));
    stage.room.handle_sign_out(bob, HERE, stage.now).unwrap();
    for expected in ["3:1", "2:2", "0:bob,3,0\n"] {
        stage.wait(alice);
        assert_eq!(stage.delivered(), [(alice, expected.to_owned())]);
    }
}

#[test]
fn an_id_is_of_use_only_where_it_signed_in() {
    let mut stage = Stage::new(RoomPolicy::Open);
    let (alice, bob) = (stage.sign_in("alice"), stage.sign_in("bob"));
    let (now, body) = (stage.now, Bytes::from_static(b"x"));
    let room = &mut stage.room;
    assert_eq!(room.handle_wait(alice, THERE, WaitToken(9), now), Err(RoomRefusal::Gone));
    assert_eq!(room.handle_sign_out(alice, THERE, now), Err(RoomRefusal::Gone));
    assert_eq!(
        room.handle_message((alice, from_port(THERE)), bob, Bytes::new(), body.clone(), now),
        Err(RoomRefusal::Gone)
    );
    for address in [HERE, THERE] {
        assert_eq!(room.handle_wait(DAEMON, address, WaitToken(9), now), Err(RoomRefusal::Gone));
        assert_eq!(
            room.handle_message((DAEMON, from_port(address)), bob, Bytes::new(), body.clone(), now),
            Err(RoomRefusal::Gone)
        );
    }
    let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
    assert_eq!(room.handle_wait(alice, mapped, WaitToken(9), now), Ok(()));
}

#[test]
fn a_second_wait_takes_the_place_of_the_first() {
    let mut stage = Stage::new(RoomPolicy::Closed);
    let alice = stage.sign_in("alice");
    let first = stage.wait(alice);
    let second = stage.wait(alice);
    stage.outputs();
    stage.room.handle_wait_gone(alice, first, stage.now);
    stage.room.send(alice, Bytes::from_static(b"x"), stage.now);
    assert!(matches!(stage.outputs()[..], [Output::Deliver { wait, .. }] if wait == second));
    let third = stage.wait(alice);
    stage.room.handle_sign_out(alice, HERE, stage.now).unwrap();
    assert!(stage.outputs().contains(&Output::End { wait: third, why: WaitEnd::SignedOut }));
}

#[test]
fn a_message_for_a_dead_wait_comes_first_again() {
    let mut stage = Stage::new(RoomPolicy::Closed);
    let alice = stage.sign_in("alice");
    stage.wait(alice);
    stage.outputs();
    stage.room.send(alice, Bytes::from_static(b"1"), stage.now);
    let [Output::Deliver { message, .. }] = &stage.outputs()[..] else { panic!("one message is delivered") };
    stage.room.send(alice, Bytes::from_static(b"2"), stage.now);
    stage.room.handle_undelivered(alice, message.clone(), stage.now);
    for expected in ["1:1", "1:2"] {
        stage.wait(alice);
        assert_eq!(stage.delivered(), [(alice, expected.to_owned())]);
    }
}

#[test]
fn who_does_not_wait_for_thirty_seconds_is_dropped() {
    let mut stage = Stage::new(RoomPolicy::Open);
    let (alice, bob) = (stage.sign_in("alice"), stage.sign_in("bob"));
    stage.wait(bob);
    stage.wait(bob);
    let start = stage.now;
    stage.now += Duration::from_secs(29);
    stage.post(alice, DAEMON, "posts refresh nothing").unwrap();
    stage.room.handle_timeout(stage.now);
    assert_eq!((stage.room.count(), stage.room.poll_timeout()), (2, Some(start + SILENCE)));
    stage.outputs();
    stage.now = start + SILENCE;
    stage.room.handle_timeout(stage.now);
    assert!(stage.outputs().contains(&Output::Left { peer: alice, why: Leaving::Silent }));
    assert_eq!(stage.post(alice, DAEMON, "x"), Err(RoomRefusal::Gone));
    assert_eq!(stage.sign_in("alice"), PeerId(4), "ids are never used again");
}

#[test]
fn places_are_bounded_in_all_and_for_an_address() {
    let mut room = Room::new(RoomPolicy::Closed, RoomLimits { members: 3, per_address: 2 }, "desk");
    let now = Instant::now();
    let (first, _) = room.handle_sign_in(b"", HERE, now).unwrap();
    room.handle_sign_in(b"", HERE, now).unwrap();
    assert_eq!(room.handle_sign_in(b"", HERE, now), Err(RoomRefusal::FullForAddress { limit: 2 }));
    room.handle_sign_in(b"", THERE, now).unwrap();
    assert_eq!(room.handle_sign_in(b"", THERE, now), Err(RoomRefusal::Full { limit: 3 }));
    room.handle_sign_out(first, HERE, now).unwrap();
    room.handle_sign_in(b"", HERE, now).unwrap();
}

#[test]
fn the_addresses_of_one_ipv6_network_share_its_places() {
    let mut room = Room::new(RoomPolicy::Closed, RoomLimits { members: 9, per_address: 2 }, "desk");
    let now = Instant::now();
    let mut sign_in = |from: &str| room.handle_sign_in(b"", from.parse().unwrap(), now).map(|(id, _)| id);
    let first = sign_in("2001:db8::1").unwrap();
    sign_in("2001:db8::2").unwrap();
    assert_eq!(sign_in("2001:db8::3"), Err(RoomRefusal::FullForAddress { limit: 2 }));
    sign_in("2001:db8:0:1::3").unwrap();
    let neighbour = "2001:db8::2".parse().unwrap();
    assert_eq!(room.handle_sign_out(first, neighbour, now), Err(RoomRefusal::Gone), "an id is its own address's");
}

#[test]
fn all_mailboxes_together_are_bounded_and_the_fullest_gives_way() {
    let mut room = Room::new(RoomPolicy::Open, RoomLimits::default(), "desk");
    let now = Instant::now();
    let (quiet, _) = room.handle_sign_in(b"quiet", THERE, now).unwrap();
    room.handle_message((quiet, from_port(THERE)), quiet, Bytes::new(), Bytes::from_static(b"kept"), now).unwrap();
    let busy: Vec<_> = (0..100).map(|_| room.handle_sign_in(b"busy", HERE, now).unwrap().0).collect();
    let body = Bytes::from(vec![b'x'; 60_000]);
    for to in busy.iter().cycle().take(100 * 16) {
        room.handle_message((busy[0], from_port(HERE)), *to, Bytes::new(), body.clone(), now).unwrap();
        let held: usize = room.members.values().map(|member| member.mailbox.bytes()).sum();
        assert!(held <= HELD_BYTES, "{held} bytes wait");
    }
    assert!(room.lost() > 400, "{} are lost", room.lost());
    room.handle_wait(quiet, THERE, WaitToken(1), now).unwrap();
    let first = std::iter::from_fn(|| room.poll_output()).find(|output| matches!(output, Output::Deliver { .. }));
    assert!(matches!(first, Some(Output::Deliver { message, .. }) if message.body == b"kept"[..]));
}

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

#[test]
fn whatever_happens_the_room_keeps_its_bounds_and_loses_nothing_uncounted() {
    for seed in 1..=40 {
        let mut random = Random(seed * 0x9E37_79B9);
        let policy = if seed % 2 == 0 { RoomPolicy::Open } else { RoomPolicy::Closed };
        let limits = RoomLimits { members: 12, per_address: 8 };
        let mut room = Room::new(policy, limits, "desk");
        let mut now = Instant::now();
        let mut hanging: BTreeMap<WaitToken, PeerId> = BTreeMap::new();
        let (mut ids, mut tokens) = (vec![DAEMON, PeerId(u64::MAX)], 0);
        let (mut sent, mut delivered, mut gone_with_members) = (0_u64, 0_u64, 0_u64);
        for _ in 0..2000 {
            let address = if random.below(2) == 0 { HERE } else { THERE };
            // Mostly the latest, who are still there.
            let mut any = || {
                let latest = if random.below(8) > 0 { 8 } else { 99 };
                ids[ids.len() - 1 - random.below(ids.len().min(latest) as u64) as usize]
            };
            let (id, other) = (any(), any());
            let before: BTreeMap<_, _> = room.members.iter().map(|(id, m)| (*id, m.mailbox.len() as u64)).collect();
            let told = if policy == RoomPolicy::Open { before.len() as u64 } else { 0 };
            match random.below(10) {
                0 => match room.handle_sign_in(b"a,b", address, now) {
                    Ok((id, _)) => {
                        assert!(!ids.contains(&id), "an id is used twice");
                        ids.push(id);
                        sent += told;
                    }
                    Err(refusal) => assert_ne!(refusal, RoomRefusal::Gone),
                },
                1..=3 => {
                    tokens += 1;
                    if room.handle_wait(id, address, WaitToken(tokens), now).is_ok() {
                        hanging.insert(WaitToken(tokens), id);
                    }
                }
                4 | 5 => {
                    let body = Bytes::from(vec![b'x'; random.below(64 * 1024) as usize]);
                    if room.handle_message((id, from_port(address)), other, Bytes::new(), body, now).is_ok() {
                        sent += u64::from(other != DAEMON);
                    }
                }
                6 => {
                    sent += u64::from(room.members.contains_key(&id));
                    room.send(id, Bytes::from_static(b"x"), now);
                }
                7 if random.below(4) == 0 => {
                    if room.handle_sign_out(id, address, now).is_ok() {
                        gone_with_members += before[&id];
                        sent += told - u64::from(told > 0);
                    }
                }
                8 => {
                    if let Some((token, id)) = hanging.pop_first() {
                        room.handle_wait_gone(id, token, now);
                    }
                }
                _ => now += Duration::from_millis(random.below(2000)),
            }
            if random.below(8) == 0 && room.poll_timeout().is_some_and(|due| due <= now) {
                let held = |room: &Room| {
                    let kept: usize = room.members.values().map(|member| member.mailbox.len()).sum();
                    let given = room.outputs.iter().filter(|output| matches!(output, Output::Deliver { .. })).count();
                    (kept + given) as u64 + room.lost
                };
                let (before, members) = (held(&room), room.count());
                room.handle_timeout(now);
                assert!(room.count() < members, "a timeout that is due does something");
                // Less what those who left had, more what they were told of each other.
                gone_with_members = gone_with_members.wrapping_add(before).wrapping_sub(held(&room));
            }
            while let Some(output) = room.poll_output() {
                match output {
                    Output::Deliver { wait, to, message } => {
                        assert_eq!(hanging.remove(&wait), Some(to), "a wait is answered once, and to its own");
                        match room.members.contains_key(&to) {
                            _ if random.below(8) > 0 => delivered += 1,
                            true => room.handle_undelivered(to, message, now),
                            false => gone_with_members += 1,
                        }
                    }
                    Output::End { wait, .. } => assert!(hanging.remove(&wait).is_some(), "a wait ends once"),
                    _ => {}
                }
            }
            let waiting: BTreeMap<_, _> = room
                .members
                .iter()
                .filter_map(|(id, m)| if let Presence::Waiting(token) = m.presence { Some((token, *id)) } else { None })
                .collect();
            assert_eq!(waiting, hanging, "seed {seed}: each wait that hangs is its member's only one");
            assert!(room.members.len() <= limits.members);
            for member in room.members.values() {
                assert!(member.mailbox.len() <= mailbox::MESSAGES && member.mailbox.bytes() <= mailbox::BYTES);
                let waits = matches!(member.presence, Presence::Waiting(_));
                assert!(!waits || member.mailbox.is_empty(), "nobody waits beside a message");
            }
            let kept: u64 = room.members.values().map(|m| m.mailbox.len() as u64).sum();
            assert_eq!(sent, delivered + kept + gone_with_members + room.lost, "seed {seed}");
        }
        assert!(delivered > 50 && ids.len() > 20, "seed {seed}: {delivered} delivered to {} members", ids.len());
    }
}
