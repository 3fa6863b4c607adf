//! Messages on their way to peers: one request at a time for each, so that their order is kept, and a bounded number in all.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::RequestId;
use crate::id::PeerId;

/// The most requests under way at a time.
pub const MOST_POSTING: usize = 16;
/// The most messages that wait for one peer; the oldest gives way.
const MOST_WAITING: usize = 16;
/// How often a message that the server failed to take is sent, and how much later each time.
const MOST_TRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// All messages of one membership.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Only those with something to send.
    queues: BTreeMap<PeerId, Queue>,
    posting: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// The first is the one under way, where one is.
    messages: VecDeque<Message>,
    posting: Option<RequestId>,
    retry_at: Option<Instant>,
}

/// A message.
#[derive(Debug)]
struct Message {
    body: String,
    is_offer: bool,
    tries: u32,
}

impl Outbox {
    /// Takes a message; returns how many are lost by that.
    pub fn push(&mut self, to: PeerId, body: String, is_offer: bool) -> u64 {
        let queue = self.queues.entry(to).or_default();
        queue.messages.push_back(Message { body, is_offer, tries: 0 });
        if queue.messages.len() <= MOST_WAITING {
            return 0;
        }
        let oldest = usize::from(queue.posting.is_some());
        u64::from(queue.messages.remove(oldest).is_some())
    }

    /// Takes back what has not been sent to a peer.
    pub fn withdraw(&mut self, to: PeerId) {
        let Some(queue) = self.queues.get_mut(&to) else { return };
        queue.messages.truncate(usize::from(queue.posting.is_some()));
        if queue.messages.is_empty() {
            self.queues.remove(&to);
        }
    }

    /// Forgets a peer; what is under way is not waited for.
    pub fn remove(&mut self, peer: PeerId) {
        if let Some(queue) = self.queues.remove(&peer) {
            self.posting -= usize::from(queue.posting.is_some());
        }
    }

    /// The next message to send, under the id that `request` draws for it.
    pub fn poll(&mut self, request: impl FnOnce() -> RequestId) -> Option<(RequestId, PeerId, String)> {
        if self.posting >= MOST_POSTING {
            return None;
        }
        let is_ready = |queue: &Queue| queue.posting.is_none() && queue.retry_at.is_none();
        let (&to, queue) = self.queues.iter_mut().find(|(_, queue)| is_ready(queue))?;
        let message = queue.messages.front_mut()?;
        message.tries += 1;
        let request = request();
        queue.posting = Some(request);
        self.posting += 1;
        Some((request, to, message.body.clone()))
    }

    /// To whom this request was.
    pub fn target(&self, request: RequestId) -> Option<PeerId> {
        self.queues.iter().find_map(|(to, queue)| (queue.posting == Some(request)).then_some(*to))
    }

    /// Notes that the message under way to a peer is done with; returns whether it was an offer.
    pub fn handle_done(&mut self, to: PeerId) -> bool {
        let Some(queue) = self.queues.get_mut(&to) else { return false };
        self.posting -= usize::from(queue.posting.take().is_some());
        let done = queue.messages.pop_front();
        if queue.messages.is_empty() {
            self.queues.remove(&to);
        }
        done.is_some_and(|message| message.is_offer)
    }

    /// Notes that the server did not take the message under way to a peer; returns whether it is sent again.
    pub fn handle_failed(&mut self, to: PeerId, now: Instant) -> bool {
        let Some(queue) = self.queues.get_mut(&to) else { return false };
        let tries = queue.messages.front().map_or(MOST_TRIES, |message| message.tries);
        if tries >= MOST_TRIES {
            self.handle_done(to);
            return false;
        }
        self.posting -= usize::from(queue.posting.take().is_some());
        queue.retry_at = Some(now + RETRY_AFTER * tries);
        true
    }

    /// Lets those be sent again whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        for queue in self.queues.values_mut() {
            queue.retry_at = queue.retry_at.filter(|at| *at > now);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queues.values().filter_map(|queue| queue.retry_at).min()
    }

    /// How many messages there are to a peer, the one under way among them.
    #[cfg(test)]
    pub fn count(&self, to: PeerId) -> usize {
        self.queues.get(&to).map_or(0, |queue| queue.messages.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Stage {
        outbox: Outbox,
        drawn: u64,
    }

    impl Stage {
        fn new(messages: &[(u64, &str)]) -> Self {
            let mut stage = Self { outbox: Outbox::default(), drawn: 0 };
            for (to, body) in messages {
                assert_eq!(stage.outbox.push(PeerId(*to), (*body).to_owned(), false), 0);
            }
            stage
        }

        fn next(&mut self) -> Option<(u64, String)> {
            self.drawn += 1;
            let (request, to, body) = self.outbox.poll(|| RequestId(self.drawn))?;
            assert_eq!(self.outbox.target(request), Some(to));
            Some((to.0, body))
        }
    }

    fn at(to: u64, body: &str) -> Option<(u64, String)> {
        Some((to, body.to_owned()))
    }

    #[test]
    fn each_peer_has_one_request_at_a_time_and_its_messages_in_order() {
        let mut stage = Stage::new(&[(2, "a"), (2, "b"), (3, "c")]);
        assert_eq!([stage.next(), stage.next(), stage.next()], [at(2, "a"), at(3, "c"), None]);
        stage.outbox.handle_done(PeerId(2));
        assert_eq!([stage.next(), stage.next()], [at(2, "b"), None]);
        let mut many = Stage::new(&[]);
        for to in 0..40 {
            many.outbox.push(PeerId(to), "x".to_owned(), false);
        }
        assert_eq!(std::iter::from_fn(|| many.next()).count(), MOST_POSTING);
        many.outbox.handle_done(PeerId(0));
        many.outbox.remove(PeerId(1));
        assert_eq!(std::iter::from_fn(|| many.next()).count(), 2);
    }

    #[test]
    fn what_the_server_did_not_take_is_sent_again_before_the_next() {
        let (mut stage, start) = (Stage::new(&[(2, "a"), (2, "b")]), Instant::now());
        for tries in 1..MOST_TRIES {
            assert_eq!(stage.next(), at(2, "a"));
            assert!(stage.outbox.handle_failed(PeerId(2), start) && stage.next().is_none());
            let due = stage.outbox.poll_timeout().unwrap();
            assert_eq!(due, start + RETRY_AFTER * tries);
            stage.outbox.handle_timeout(due);
            assert_eq!(stage.outbox.poll_timeout(), None);
        }
        assert_eq!(stage.next(), at(2, "a"));
        assert!(!stage.outbox.handle_failed(PeerId(2), start));
        assert_eq!(stage.next(), at(2, "b"));
    }

    #[test]
    fn what_waits_is_bounded_and_can_be_taken_back() {
        let mut stage = Stage::new(&[(2, "first")]);
        assert_eq!(stage.next(), at(2, "first"));
        let lost: u64 = (0..20).map(|number| stage.outbox.push(PeerId(2), number.to_string(), false)).sum();
        assert_eq!((lost, stage.outbox.count(PeerId(2))), (5, MOST_WAITING));
        stage.outbox.handle_done(PeerId(2));
        assert_eq!(stage.next(), at(2, "5"));
        stage.outbox.withdraw(PeerId(2));
        assert_eq!(stage.outbox.count(PeerId(2)), 1, "what is under way can't be taken back");
        stage.outbox.handle_done(PeerId(2));
        assert_eq!((stage.next(), stage.outbox.queues.len()), (None, 0));
    }
}
