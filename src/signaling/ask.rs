//! Asking the broadcast what the [`super::peers`] core wants to know, and waiting for its word.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::peers::{Outcome, Question};
use super::{Answer, Caller, Life, Refusal, SignalIn, Trickle};
use crate::id::SessionId;

/// The way to the broadcast.
#[derive(Debug, Clone)]
pub struct Asker {
    signals: mpsc::Sender<SignalIn>,
    patience: Duration,
}

impl Asker {
    /// Asks through `signals`, and waits so long for each word.
    pub fn new(signals: mpsc::Sender<SignalIn>, patience: Duration) -> Self {
        Self { signals, patience }
    }

    /// Puts a question on behalf of `caller`; its outcome is to be awaited. `None` where the broadcast's queue is full.
    pub fn ask(&self, question: Question, caller: Caller) -> Option<impl Future<Output = Outcome> + Send + use<>> {
        let (signal, pending) = asking(question, caller);
        self.put(signal, pending)
    }

    /// Asks for an offer to a server that takes the stream for many; `life` is told how the session goes.
    pub fn publish(
        &self,
        session: SessionId,
        caller: Caller,
        life: watch::Sender<Life>,
    ) -> Option<impl Future<Output = Outcome> + Send + use<>> {
        let (reply, offer) = oneshot::channel();
        self.put(SignalIn::Publish { session, caller, life, reply }, Pending::Description(offer))
    }

    fn put(&self, signal: SignalIn, pending: Pending) -> Option<impl Future<Output = Outcome> + Send + use<>> {
        if self.signals.try_send(signal).is_err() {
            tracing::debug!("a peer's request is dropped: the broadcast's queue is full");
            return None;
        }
        let patience = self.patience;
        Some(async move { tokio::time::timeout(patience, pending.outcome()).await.unwrap_or(Outcome::Unanswered) })
    }

    /// Gives the broadcast a candidate; its word on it doesn't matter.
    pub fn trickle(&self, session: SessionId, trickle: Trickle) {
        let (reply, _) = oneshot::channel();
        self.tell(SignalIn::Trickle { session, trickle, reply });
    }

    /// Tells the broadcast that a viewer left; its word on it doesn't matter.
    pub fn leave(&self, session: SessionId) {
        let (reply, _) = oneshot::channel();
        self.tell(SignalIn::Leave { session, reply });
    }

    fn tell(&self, signal: SignalIn) {
        if self.signals.try_send(signal).is_err() {
            tracing::debug!("a peer's word is dropped: the broadcast's queue is full");
        }
    }
}

/// What the broadcast will say.
enum Pending {
    Description(oneshot::Receiver<Result<Answer, Refusal>>),
    Acceptance(oneshot::Receiver<Result<(), Refusal>>),
}

impl Pending {
    async fn outcome(self) -> Outcome {
        let word = match self {
            Self::Description(answer) => answer.await.map(|word| word.map(|answer| Outcome::Described(answer.sdp))),
            Self::Acceptance(answer) => answer.await.map(|word| word.map(|()| Outcome::Accepted)),
        };
        match word {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(refusal)) => Outcome::Refused(refusal),
            Err(_) => Outcome::Unanswered,
        }
    }
}

fn asking(question: Question, caller: Caller) -> (SignalIn, Pending) {
    let (reply, described) = oneshot::channel();
    let signal = match question {
        Question::Offer { session, sdp, replaces } => SignalIn::Offer { session, sdp, caller, replaces, reply },
        Question::Renegotiate { session, sdp } => SignalIn::Renegotiate { session, sdp, reply },
        Question::Call { session, replaces } => SignalIn::Call { session, caller, replaces, reply },
        Question::Accept { session, sdp } => {
            let (reply, accepted) = oneshot::channel();
            return (SignalIn::Accept { session, sdp, reply }, Pending::Acceptance(accepted));
        }
    };
    (signal, Pending::Description(described))
}
