//! The OpenAI-compatible chat-completions protocol: Ollama, llama.cpp, hosted services.

use serde::Deserialize;
use serde_json::{Value, json};

use super::model::{Model, Protocol, Settings, Usage};
use super::{ProviderError, Reply};

/// The protocol.
pub struct ChatCompletionsProtocol;

/// One provider for everything that speaks it.
pub type ChatCompletions = Model<ChatCompletionsProtocol>;

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Value>,
    refusal: Option<Value>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl Protocol for ChatCompletionsProtocol {
    const PATH: &'static str = "/chat/completions";
    const EXAMPLE: &'static str = "http://localhost:11434/v1";
    const MAX_TEMPERATURE: f64 = 2.0;

    fn limits(settings: &Settings) -> (&str, Value) {
        (&settings.max_tokens_field, json!(settings.max_tokens))
    }

    fn reply(bytes: &[u8]) -> Result<Reply, ProviderError> {
        let malformed = |what: &str| ProviderError::Malformed(what.to_owned());
        let completion: Completion =
            serde_json::from_slice(bytes).map_err(|_| malformed("the answer is not a chat completion"))?;
        let choice = completion.choices.into_iter().next().ok_or_else(|| malformed("the answer has no choice"))?;
        match choice.finish_reason.as_deref() {
            Some("length" | "max_tokens") => {
                return Err(ProviderError::Declined("the reply was cut off at max_tokens".into()));
            }
            Some("content_filter") => {
                return Err(ProviderError::Declined("the server's filter withheld the reply".into()));
            }
            Some("tool_calls" | "function_call") => return Err(malformed("the model called a tool nobody offered")),
            _ => {}
        }
        if choice.message.refusal.as_ref().is_some_and(|refusal| refusal.as_str().is_some_and(|text| !text.is_empty()))
        {
            return Err(ProviderError::Declined("the model refused".into()));
        }
        let text = match choice.message.content {
            Some(Value::String(text)) => text,
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        };
        if text.trim().is_empty() {
            return Err(malformed("the reply is empty"));
        }
        let usage = completion
            .usage
            .map(|tokens| Usage { input_tokens: tokens.prompt_tokens, output_tokens: tokens.completion_tokens });
        Ok(Reply { text, usage })
    }
}

#[cfg(test)]
mod tests;
