//! One question to a STUN or TURN server, for whoever only wants to know whether it is there (RFC 8489, section 7.1).

use super::Transaction;
use super::wire::{BINDING, Class, Message, Writer};

/// A binding request.
#[derive(Debug, Clone)]
pub struct Question {
    transaction: Transaction,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Question {
    /// Asks under this name.
    pub fn new(transaction: Transaction) -> Self {
        Self { transaction, bytes: Writer::new(Class::Request, BINDING, &transaction).into_bytes() }
    }
}

/// Whether `data` begins with an answer to it; a refusal shows too that somebody is there.
pub fn is_answer(data: &[u8], question: &Question) -> bool {
    let message = Message::parse(data);
    message.is_some_and(|message| {
        message.is_of(&question.transaction) && matches!(message.class, Class::Success | Class::Error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_name_of_its_question() {
        let question = Question::new([7; 12]);
        let reply = |class, name: u8| Writer::new(class, BINDING, &[name; 12]).into_bytes();
        assert!(is_answer(&reply(Class::Success, 7), &question) && is_answer(&reply(Class::Error, 7), &question));
        assert!(!is_answer(&reply(Class::Success, 8), &question), "another's");
        assert!(
            !is_answer(&question.bytes, &question)
                && !is_answer(b"", &question)
                && !is_answer(b"HTTP/1.1 400", &question)
        );
    }
}
