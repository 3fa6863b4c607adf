//! The broadcast's part in talks with peers: what a protocol's core asks of it, and what it says.

use std::collections::{BTreeSet, VecDeque};

use laterna::id::SessionId;
use laterna::signaling::Refusal;
use laterna::signaling::peers::{AskId, Outcome, Output, Question};

/// Questions that are kept open.
const MOST_OPEN: usize = 256;

#[derive(Default)]
pub struct Broadcast {
    open: VecDeque<(AskId, Question)>,
    asked: BTreeSet<AskId>,
    sessions: BTreeSet<SessionId>,
}

impl Broadcast {
    /// Takes what a core wants: each question once, and nothing about sessions that were never made.
    pub fn hears(&mut self, output: Output) {
        match output {
            Output::Ask(ask, _, question) => {
                assert!(self.asked.insert(ask), "a question is asked twice");
                match &question {
                    Question::Offer { session, replaces, .. } | Question::Call { session, replaces } => {
                        assert!(self.sessions.insert(*session), "a session is made twice");
                        replaces.iter().for_each(|session| assert!(self.sessions.contains(session)));
                    }
                    Question::Renegotiate { session, .. } | Question::Accept { session, .. } => {
                        assert!(self.sessions.contains(session));
                    }
                }
                self.open.push_back((ask, question));
                self.open.truncate(MOST_OPEN);
            }
            Output::Trickle(session, _) | Output::Leave(session) => assert!(self.sessions.contains(&session)),
            Output::Say { .. } | Output::Withdraw { .. } => panic!("a protocol left a word for a peer unsaid"),
        }
    }

    /// What it says to the oldest question, as a step's verb wants it: `d`escribed, `a`ccepted, `r`efused, else nothing.
    pub fn says(&mut self, verb: char) -> Option<(AskId, Outcome)> {
        let (ask, question) = self.open.pop_front()?;
        let outcome = match (verb, question) {
            ('d', Question::Accept { .. }) | ('a', Question::Accept { .. }) => Outcome::Accepted,
            ('d' | 'a', _) => Outcome::Described(format!(
                "v=0\r\no=- {} 2 IN IP4 127.0.0.1\r\na=ice-ufrag:own{}\r\n",
                self.asked.len(),
                self.asked.len()
            )),
            ('r', _) => Outcome::Refused(Refusal::UnknownSession),
            ('f', _) => Outcome::Refused(Refusal::Full { limit: 1 }),
            _ => Outcome::Unanswered,
        };
        Some((ask, outcome))
    }
}
