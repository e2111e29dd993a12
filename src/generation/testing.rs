//! Requests for this room's tests.

use crate::contract::{
    ContextLine, Conversation, ConversationKind, Direction, Extraction, ExtractionMethod, JournalId, TurnId,
    TurnMessage,
};
use crate::saga::{DraftRequest, Exchange};

pub fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

/// A request from `bob` to `ann` with these messages; every call is another turn of the same conversation.
pub fn request(texts: &[&str]) -> DraftRequest {
    let conversation = Conversation::new("hexchat", "irc", "ann", "bob", ConversationKind::Direct);
    DraftRequest {
        turn: TurnId::derive(JournalId::draw(), conversation.id, 1),
        conversation,
        messages: texts
            .iter()
            .enumerate()
            .map(|(seq, text)| TurnMessage {
                seq: seq as u64,
                sender: "bob".into(),
                direction: Direction::Inbound,
                text: (*text).to_owned(),
                detected_at: at("2026-03-02T10:00:00Z"),
                extraction: Extraction { method: ExtractionMethod::Ocr, confidence: 1.0, doubtful: false },
            })
            .collect(),
        context: Vec::new(),
        memory: Vec::new(),
        traceparent: None,
    }
}

pub fn line(text: &str) -> ContextLine {
    ContextLine { sender: "bob".into(), direction: Direction::Inbound, text: text.to_owned() }
}

pub fn exchange(inbound: &str, reply: &str) -> Exchange {
    Exchange { inbound: inbound.to_owned(), reply: reply.to_owned(), at: at("2026-03-02T09:00:00Z") }
}
