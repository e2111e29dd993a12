//! Records for tests of the saga and of its ledgers.

use crate::clock::from_millis;
use crate::contract::{
    Conversation, ConversationKind, DesktopId, Direction, Effect, Extraction, ExtractionMethod, JournalId,
    MessagesDetected, Mode, ReplyOutcome, Revision, Timings, TurnId, TurnMessage,
};

/// Turn `number` of the conversation with `peer`, at `revision`.
pub(crate) fn turn(peer: &str, number: u64, revision: u32) -> MessagesDetected {
    let conversation = Conversation::new("hexchat", "irc", "me", peer, ConversationKind::Direct);
    let journal = JournalId(uuid::Uuid::from_u128(7));
    let detected_at = from_millis(1_000_000);
    let extraction = Extraction { method: ExtractionMethod::Ocr, confidence: 0.9, doubtful: false };
    let message = TurnMessage {
        seq: number,
        sender: peer.to_owned(),
        direction: Direction::Inbound,
        text: "a-secret-question".to_owned(),
        detected_at,
        extraction,
    };
    MessagesDetected {
        turn: TurnId::derive(journal, conversation.id, number),
        revision: Revision(revision),
        number,
        journal,
        desktop: DesktopId::try_from("desk".to_owned()).unwrap(),
        conversation,
        messages: vec![message],
        context: Vec::new(),
        mode: Mode::Auto,
        detected_at,
        traceparent: None,
    }
}

/// What the desktop says about this turn.
pub(crate) fn outcome(of: &MessagesDetected, effect: Effect) -> ReplyOutcome {
    ReplyOutcome {
        turn: of.turn,
        revision: of.revision,
        desktop: of.desktop.clone(),
        conversation: of.conversation.id,
        effect,
        reason: "as told".to_owned(),
        evidence: None,
        timings: Timings::default(),
    }
}
