//! What waits for one member: a queue bounded in messages and in bytes.
//!
//! A full mailbox loses the oldest message of the sender that has most in it, the newcomer included, so that a sender who posts without end
//! displaces its own messages only. What is lost is counted.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::id::PeerId;

/// The most messages that wait.
pub const MESSAGES: usize = 64;
/// The most bytes that wait, types of content included.
pub const BYTES: usize = 1024 * 1024;

/// Who a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The room itself: somebody came or left.
    Room,
    /// A member.
    Member(PeerId),
}

/// One message, as it goes through the room: never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub sender: Sender,
    /// The value of `Content-Type`, as the sender wrote it.
    pub content_type: Bytes,
    /// The body, as the sender wrote it.
    pub body: Bytes,
}

impl Message {
    fn size(&self) -> usize {
        self.content_type.len() + self.body.len()
    }
}

/// The messages that wait for one member, the oldest first.
#[derive(Debug, Default)]
pub struct Mailbox {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Mailbox {
    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a message last; returns how many were lost for it.
    pub fn push(&mut self, message: Message) -> u64 {
        self.bytes += message.size();
        self.messages.push_back(message);
        self.trim()
    }

    /// Puts a message first again, whose delivery failed; returns how many were lost for it.
    pub fn put_back(&mut self, message: Message) -> u64 {
        self.bytes += message.size();
        self.messages.push_front(message);
        self.trim()
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.size();
        Some(message)
    }

    /// Drops what waits from `sender`.
    pub fn withdraw(&mut self, sender: Sender) {
        self.messages.retain(|message| message.sender != sender);
        self.bytes = self.messages.iter().map(Message::size).sum();
    }

    fn trim(&mut self) -> u64 {
        let mut lost = 0;
        while self.messages.len() > MESSAGES || self.bytes > BYTES {
            let oldest = self.heaviest().and_then(|sender| self.messages.iter().position(|m| m.sender == sender));
            let Some(gone) = oldest.and_then(|oldest| self.messages.remove(oldest)) else { break };
            self.bytes -= gone.size();
            lost += 1;
        }
        lost
    }

    /// The sender with the largest share of what may wait; of equals the one whose message is last.
    fn heaviest(&self) -> Option<Sender> {
        self.messages.iter().map(|message| message.sender).max_by_key(|sender| self.share(*sender))
    }

    /// The larger of a sender's shares of messages and of bytes, in bytes.
    fn share(&self, sender: Sender) -> usize {
        let own = self.messages.iter().filter(|message| message.sender == sender);
        let (count, bytes) = own.fold((0, 0), |(count, bytes), message| (count + 1, bytes + message.size()));
        bytes.max(count * (BYTES / MESSAGES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(from: u64, size: usize) -> Message {
        Message {
            sender: Sender::Member(PeerId(from)),
            content_type: Bytes::new(),
            body: Bytes::from(vec![b'x'; size]),
        }
    }

    #[test]
    fn a_full_mailbox_loses_the_oldest_of_whoever_has_most_in_it() {
        let mut mailbox = Mailbox::default();
        assert_eq!(mailbox.push(message(1, 3)), 0);
        for size in 0..63 {
            assert_eq!(mailbox.push(message(2, size)), 0);
        }
        assert_eq!((mailbox.push(message(3, 1)), mailbox.len()), (1, MESSAGES));
        assert_eq!(mailbox.pop().map(|first| first.body.len()), Some(3), "the quiet sender's message is still there");
        assert_eq!(mailbox.pop().map(|next| next.body.len()), Some(1), "the busy sender's oldest is gone");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut mailbox = Mailbox::default();
        mailbox.push(message(1, 10));
        let lost: u64 = (0..40).map(|_| mailbox.push(message(2, 64 * 1024))).sum();
        assert_eq!((mailbox.len(), lost), (16, 25));
        assert!(mailbox.bytes() <= BYTES);
        assert_eq!(mailbox.pop(), Some(message(1, 10)));
        mailbox.withdraw(Sender::Member(PeerId(2)));
        assert_eq!((mailbox.len(), mailbox.bytes()), (0, 0));
    }
}
