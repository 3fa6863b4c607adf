//! The embedded room: members and mailboxes of libwebrtc's `peerconnection_server`, with bounds.
//!
//! Owns who is in the room, who sees whom, what waits for whom, and when a silent member is dropped. The daemon is a member that needs no wait.
//! An id is answered to the address that signed in with it only. It never reads a message: [`super::peers`] does; and it has no socket:
//! a wait is a [`WaitToken`] which the shell redeems by [`Output`]s. What requests and replies look like is in [`wire`].

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::access::Network;
use crate::id::PeerId;

pub mod mailbox;
#[cfg(test)]
mod tests;
pub mod wire;

use mailbox::Mailbox;
pub use mailbox::{Message, Sender};

/// A member without a pending wait is dropped after this time.
pub const SILENCE: Duration = Duration::from_secs(30);
/// The most bytes of a name.
pub const NAME_BYTES: usize = 512;
/// The most bytes that wait in all mailboxes together.
pub const HELD_BYTES: usize = 64 * mailbox::BYTES;
/// The type of what the room itself says.
const PLAIN: &[u8] = b"text/plain";

/// Who sees whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomPolicy {
    /// A peer sees itself and the daemon, and sends to the daemon only.
    Closed,
    /// Everybody sees everybody and sends to everybody.
    Open,
}

/// How many members there may be, besides the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomLimits {
    /// In all.
    pub members: usize,
    /// Of one IPv4 address or IPv6 /64: a class behind one NAT has one.
    pub per_address: usize,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self { members: 4096, per_address: 1024 }
    }
}

/// Names a wait that hangs; chosen by the shell, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaitToken(pub u64);

/// Why the room doesn't do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomRefusal {
    /// No member has this id, or one at another address has it, or the target is not seen by the sender.
    #[error("no such member: it has left, never was, or signed in from another address")]
    Gone,
    /// All places are taken.
    #[error("all {limit} places of the room are taken; try again when somebody has left")]
    Full {
        /// How many there are.
        limit: usize,
    },
    /// All places of one address are taken.
    #[error("all {limit} places of one address are taken; try again when somebody has left")]
    FullForAddress {
        /// How many there are.
        limit: usize,
    },
}

/// Why a hanging wait ends without a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitEnd {
    /// A later wait of the same member took its place.
    Replaced,
    /// The member signed out.
    SignedOut,
}

/// What the room wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A wait is answered.
    Deliver {
        /// The wait.
        wait: WaitToken,
        /// The member that waited.
        to: PeerId,
        /// What it gets.
        message: Message,
    },
    /// A wait ends unanswered.
    End {
        /// The wait.
        wait: WaitToken,
        /// Why.
        why: WaitEnd,
    },
    /// The daemon is told of a newcomer.
    Joined {
        /// Who came.
        peer: PeerId,
        /// Under which name; bytes as the peer wrote them.
        name: Bytes,
    },
    /// The daemon gets a message.
    Received {
        /// Who sent it.
        peer: PeerId,
        /// Its body.
        body: Bytes,
    },
    /// The daemon is told that a member is gone.
    Left {
        /// Who is gone.
        peer: PeerId,
        /// Why.
        why: Leaving,
    },
}

/// How a member left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// By its own word.
    SignedOut,
    /// It had no wait pending for [`SILENCE`].
    Silent,
}

impl Leaving {
    /// It in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::SignedOut => "signed out",
            Self::Silent => "silent for 30 s",
        }
    }
}

/// The room.
#[derive(Debug)]
pub struct Room {
    policy: RoomPolicy,
    limits: RoomLimits,
    /// The daemon's line in lists, without its flag.
    daemon_name: Bytes,
    members: BTreeMap<PeerId, Member>,
    next: u64,
    outputs: VecDeque<Output>,
    lost: u64,
}

#[derive(Debug)]
struct Member {
    name: Bytes,
    address: IpAddr,
    presence: Presence,
    mailbox: Mailbox,
}

/// Whether a member waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Waiting(WaitToken),
    Absent { since: Instant },
}

/// The daemon's own id: the first.
pub const DAEMON: PeerId = PeerId(1);

impl Room {
    /// Opens a room with the daemon in it, under `daemon_name`.
    pub fn new(policy: RoomPolicy, limits: RoomLimits, daemon_name: &str) -> Self {
        Self {
            policy,
            limits,
            daemon_name: plain_name(daemon_name.as_bytes(), DAEMON),
            members: BTreeMap::new(),
            next: DAEMON.0 + 1,
            outputs: VecDeque::new(),
            lost: 0,
        }
    }

    /// Takes in so many from now on; who is there stays.
    pub fn set_limits(&mut self, limits: RoomLimits) {
        self.limits = limits;
    }

    /// Lists the daemon under another name for those who come. Who is there is not told: clients take such a line for a newcomer, and begin anew with it.
    pub fn rename_daemon(&mut self, name: &str) {
        self.daemon_name = plain_name(name.as_bytes(), DAEMON);
    }

    /// Who sees whom.
    pub fn policy(&self) -> RoomPolicy {
        self.policy
    }

    /// How many members there are besides the daemon.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// How many messages were lost to full mailboxes.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes in a member; returns its id and the list of those it sees, itself first.
    ///
    /// # Errors
    /// Where all places are taken.
    pub fn handle_sign_in(&mut self, name: &[u8], from: IpAddr, now: Instant) -> Result<(PeerId, Bytes), RoomRefusal> {
        let from = from.to_canonical();
        if self.members.len() >= self.limits.members {
            return Err(RoomRefusal::Full { limit: self.limits.members });
        }
        let is_near = |member: &&Member| Network::from(member.address) == Network::from(from);
        if self.members.values().filter(is_near).count() >= self.limits.per_address {
            return Err(RoomRefusal::FullForAddress { limit: self.limits.per_address });
        }
        let id = PeerId(self.next);
        self.next += 1;
        let name = plain_name(name, id);
        let mut list = line(&name, id, true);
        list.extend(line(&self.daemon_name, DAEMON, true));
        if self.policy == RoomPolicy::Open {
            list.extend(self.members.iter().flat_map(|(id, member)| line(&member.name, *id, true)));
        }
        self.tell(&name, id, true, now);
        let presence = Presence::Absent { since: now };
        let member = Member { name: name.clone(), address: from, presence, mailbox: Mailbox::default() };
        self.members.insert(id, member);
        self.outputs.push_back(Output::Joined { peer: id, name });
        Ok((id, list.into()))
    }

    /// Lets a member wait under `token` for its next message, which is delivered at once where one is there.
    ///
    /// # Errors
    /// Where there is no such member at this address.
    pub fn handle_wait(&mut self, id: PeerId, from: IpAddr, token: WaitToken, now: Instant) -> Result<(), RoomRefusal> {
        let member = self.member(id, from)?;
        let before = std::mem::replace(&mut member.presence, Presence::Waiting(token));
        if let Presence::Waiting(wait) = before {
            self.outputs.push_back(Output::End { wait, why: WaitEnd::Replaced });
        }
        self.deliver(id, now);
        Ok(())
    }

    /// Notes that a wait's connection is gone.
    pub fn handle_wait_gone(&mut self, id: PeerId, wait: WaitToken, now: Instant) {
        if let Some(member) = self.members.get_mut(&id)
            && member.presence == Presence::Waiting(wait)
        {
            member.presence = Presence::Absent { since: now };
        }
    }

    /// Takes back a message whose wait was gone before it could be handed over.
    pub fn handle_undelivered(&mut self, to: PeerId, message: Message, now: Instant) {
        if let Some(member) = self.members.get_mut(&to) {
            self.lost += member.mailbox.put_back(message);
            self.deliver(to, now);
            self.trim();
        }
    }

    /// Passes a message on.
    ///
    /// # Errors
    /// Where there is no such sender at this address, or it doesn't see the target.
    pub fn handle_message(
        &mut self,
        (sender, from): (PeerId, SocketAddr),
        to: PeerId,
        content_type: Bytes,
        body: Bytes,
        now: Instant,
    ) -> Result<(), RoomRefusal> {
        self.member(sender, from.ip())?;
        if to == DAEMON {
            self.outputs.push_back(Output::Received { peer: sender, body });
            return Ok(());
        }
        if self.policy == RoomPolicy::Closed || !self.members.contains_key(&to) {
            return Err(RoomRefusal::Gone);
        }
        self.put(to, Message { sender: Sender::Member(sender), content_type, body }, now);
        Ok(())
    }

    /// Sends a message of the daemon's; to somebody who is gone it is lost.
    pub fn send(&mut self, to: PeerId, body: Bytes, now: Instant) {
        if self.members.contains_key(&to) {
            let content_type = Bytes::from_static(PLAIN);
            self.put(to, Message { sender: Sender::Member(DAEMON), content_type, body }, now);
        }
    }

    /// Drops what the daemon sent and `to` has not fetched.
    pub fn withdraw(&mut self, to: PeerId) {
        if let Some(member) = self.members.get_mut(&to) {
            member.mailbox.withdraw(Sender::Member(DAEMON));
        }
    }

    /// Lets a member go by its own word.
    ///
    /// # Errors
    /// Where there is no such member at this address.
    pub fn handle_sign_out(&mut self, id: PeerId, from: IpAddr, now: Instant) -> Result<(), RoomRefusal> {
        self.member(id, from)?;
        self.remove(id, Leaving::SignedOut, now);
        Ok(())
    }

    /// Drops the members that were silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let silent = |member: &Member| matches!(member.presence, Presence::Absent { since } if since + SILENCE <= now);
        let gone: Vec<_> = self.members.iter().filter(|(_, member)| silent(member)).map(|(id, _)| *id).collect();
        for id in gone {
            self.remove(id, Leaving::Silent, now);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let absent = self.members.values().filter_map(|member| match member.presence {
            Presence::Absent { since } => Some(since + SILENCE),
            Presence::Waiting(_) => None,
        });
        absent.min()
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn member(&mut self, id: PeerId, from: IpAddr) -> Result<&mut Member, RoomRefusal> {
        let from = from.to_canonical();
        self.members.get_mut(&id).filter(|member| member.address == from).ok_or(RoomRefusal::Gone)
    }

    fn put(&mut self, to: PeerId, message: Message, now: Instant) {
        if let Some(member) = self.members.get_mut(&to) {
            self.lost += member.mailbox.push(message);
            self.deliver(to, now);
            self.trim();
        }
    }

    /// Keeps to [`HELD_BYTES`]: the fullest mailbox loses its oldest message.
    fn trim(&mut self) {
        let held = |members: &BTreeMap<_, Member>| members.values().map(|member| member.mailbox.bytes()).sum::<usize>();
        while held(&self.members) > HELD_BYTES {
            let fullest = self.members.values_mut().max_by_key(|member| member.mailbox.bytes());
            if fullest.and_then(|member| member.mailbox.pop()).is_none() {
                return;
            }
            self.lost += 1;
        }
    }

    /// Answers the member's wait where it has one, and something to get.
    fn deliver(&mut self, to: PeerId, now: Instant) {
        let Some(member) = self.members.get_mut(&to) else { return };
        let Presence::Waiting(wait) = member.presence else { return };
        let Some(message) = member.mailbox.pop() else { return };
        member.presence = Presence::Absent { since: now };
        self.outputs.push_back(Output::Deliver { wait, to, message });
    }

    fn remove(&mut self, id: PeerId, why: Leaving, now: Instant) {
        let Some(member) = self.members.remove(&id) else { return };
        if let Presence::Waiting(wait) = member.presence {
            self.outputs.push_back(Output::End { wait, why: WaitEnd::SignedOut });
        }
        self.tell(&member.name, id, false, now);
        self.outputs.push_back(Output::Left { peer: id, why });
    }

    /// Tells all members of one that came or left, where they see each other.
    fn tell(&mut self, name: &[u8], about: PeerId, present: bool, now: Instant) {
        if self.policy == RoomPolicy::Closed {
            return;
        }
        let content_type = Bytes::from_static(PLAIN);
        let message = Message { sender: Sender::Room, content_type, body: line(name, about, present).into() };
        let others: Vec<_> = self.members.keys().copied().collect();
        for other in others {
            self.put(other, message.clone(), now);
        }
    }
}

/// One line of a list.
fn line(name: &[u8], id: PeerId, present: bool) -> Vec<u8> {
    let mut line = name.to_vec();
    line.extend(format!(",{id},{}\n", u8::from(present)).into_bytes());
    line
}

/// A name as it stands in lists: without what separates their fields and lines, never empty, of at most [`NAME_BYTES`].
fn plain_name(name: &[u8], id: PeerId) -> Bytes {
    if name.is_empty() {
        return Bytes::from(format!("peer_{id}"));
    }
    let separates = |byte: u8| byte == b',' || byte.is_ascii_control();
    name.iter().take(NAME_BYTES).map(|&byte| if separates(byte) { b'_' } else { byte }).collect()
}
