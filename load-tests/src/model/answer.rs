//! What is answered to which request, in both forms. Pure.

use std::borrow::Cow;

use autoreply::generation::context::{FENCE_CLOSE, FENCE_OPEN};
use serde::Deserialize;
use serde_json::json;

use crate::facts;

/// The form of a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenAI's chat completions.
    ChatCompletions,
    /// Cohere's chat v2.
    CohereChat,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Content<'a>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Parts(#[serde(borrow)] Vec<Part<'a>>),
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
}

impl Content<'_> {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Parts(parts) => Cow::Owned(parts.iter().map(|part| part.text.as_ref()).collect()),
        }
    }
}

/// What was asked: the reply to it, and about how many tokens it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The reply.
    pub reply: String,
    /// The tokens of the prompt, about.
    pub input_tokens: usize,
}

/// Reads a request's body.
///
/// # Errors
/// It is none: a sentence.
pub(super) fn read(body: &[u8]) -> Result<Asked, String> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|error| format!("this is no chat request: {error}"))?;
    let input_tokens = request.messages.iter().map(|message| message.content.text().len().div_ceil(3)).sum();
    let last = request.messages.iter().rev().find(|message| message.role == "user");
    let question = last.ok_or("no message is the user's")?.content.text();
    let mut reply = String::from("Noted");
    for (index, token) in asked_tokens(&question).into_iter().enumerate() {
        reply.push_str(if index == 0 { ": " } else { " " });
        reply.push_str(&token);
    }
    Ok(Asked { reply, input_tokens })
}

/// One line of the prompt that `autoreply` writes.
#[derive(Deserialize)]
struct ChatLine<'a> {
    #[serde(borrow)]
    part: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// The tokens of the messages that are to be answered; of the whole text if it is not a prompt of `autoreply`'s form.
fn asked_tokens(question: &str) -> Vec<String> {
    let owned = |text: &str| facts::tokens(text).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut lines = question.lines().skip_while(|line| *line != FENCE_OPEN);
    if lines.next().is_none() {
        return owned(question);
    }
    lines
        .take_while(|line| *line != FENCE_CLOSE)
        .filter_map(|line| serde_json::from_str::<ChatLine<'_>>(line).ok())
        .filter(|line| line.part == "answer_this")
        .flat_map(|line| owned(&line.text))
        .collect()
}

/// The body of an answer with this text.
pub(super) fn body(form: Form, number: u64, text: &str, input_tokens: usize) -> String {
    let output_tokens = text.len().div_ceil(3);
    match form {
        Form::ChatCompletions => json!({
            "id": format!("chatcmpl-{number}"),
            "object": "chat.completion",
            "model": "stub",
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text },
                "finish_reason": "stop",
            }],
            "usage": {
                "prompt_tokens": input_tokens,
                "completion_tokens": output_tokens,
                "total_tokens": input_tokens + output_tokens,
            },
        }),
        Form::CohereChat => json!({
            "id": format!("chat-{number}"),
            "finish_reason": "COMPLETE",
            "message": { "role": "assistant", "content": [{ "type": "text", "text": text }] },
            "usage": {
                "billed_units": { "input_tokens": input_tokens, "output_tokens": output_tokens },
                "tokens": { "input_tokens": input_tokens, "output_tokens": output_tokens },
            },
        }),
    }
    .to_string()
}

/// The body of a refusal.
pub(super) fn refusal(form: Form, message: &str) -> String {
    match form {
        Form::ChatCompletions => json!({ "error": { "message": message, "type": "stub" } }),
        Form::CohereChat => json!({ "message": message }),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use autoreply::contract::{
        ContextLine, Conversation, ConversationKind, Direction, Extraction, ExtractionMethod, JournalId, TurnId,
        TurnMessage,
    };
    use autoreply::generation::context;
    use autoreply::saga::{DraftRequest, Exchange};

    use super::*;
    use crate::facts::token;

    fn message(text: String) -> TurnMessage {
        TurnMessage {
            seq: 1,
            sender: "bob".into(),
            direction: Direction::Inbound,
            text,
            detected_at: jiff::Timestamp::UNIX_EPOCH,
            extraction: Extraction { method: ExtractionMethod::Ocr, confidence: 1.0, doubtful: false },
        }
    }

    #[test]
    fn only_what_is_asked_about_is_answered_in_the_prompt_that_is_really_sent() {
        let conversation = Conversation::new("hexchat", "irc", "ann", "bob", ConversationKind::Direct);
        let request = DraftRequest {
            turn: TurnId::derive(JournalId::draw(), conversation.id, 1),
            conversation,
            messages: vec![message(format!("first {}", token(3))), message(format!("then \"{}\"", token(4)))],
            context: vec![ContextLine { sender: "bob".into(), direction: Direction::Inbound, text: token(2) }],
            memory: vec![Exchange { inbound: token(0), reply: token(1), at: jiff::Timestamp::UNIX_EPOCH }],
            traceparent: None,
        };
        let prompt = context::build(&request, "Be kind.", 1_000);
        let messages: Vec<_> =
            prompt.iter().map(|part| json!({ "role": part.role.as_str(), "content": part.content })).collect();
        assert!(messages[1].to_string().contains(&token(2)), "the context is in the prompt");
        let asked = read(json!({ "messages": messages }).to_string().as_bytes()).unwrap();
        assert_eq!(asked.reply, format!("Noted: {} {}", token(3), token(4)));
        assert!(asked.input_tokens > 100);
    }

    #[test]
    fn another_prompt_is_answered_by_its_last_user_message() {
        let body = json!({ "messages": [
            { "role": "user", "content": token(1) },
            { "role": "assistant", "content": token(2) },
            { "role": "user", "content": [{ "type": "text", "text": token(3) }] },
        ] });
        assert_eq!(read(body.to_string().as_bytes()).unwrap().reply, format!("Noted: {}", token(3)));
        let none = json!({ "messages": [{ "role": "user", "content": "hello" }] });
        assert_eq!(read(none.to_string().as_bytes()).unwrap().reply, "Noted");
        assert!(read(b"{}").is_err() && read(b"{\"messages\":[]}").is_err());
    }
}
