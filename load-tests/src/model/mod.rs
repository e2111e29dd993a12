//! A model server that behaves as a script says: latency, refusals, hangs, bad answers. It counts what it was asked.
//!
//! | path | what |
//! |---|---|
//! | `POST /v1/chat/completions` | the OpenAI form; the provider `chat_completions` of the script |
//! | `POST /v2/chat` | the form of Cohere's chat v2; the provider `cohere_chat_v2` |
//! | `POST /NAME/v1/chat/completions`, `POST /NAME/v2/chat` | the same for a provider of any name |
//! | `GET /counts` | [`Counts`] by provider |
//! | `GET /turns` | attempts by turn, by provider, of requests that named their turn |
//! | `DELETE /counts` | all counts at zero again |
//! | `POST /script` | another [`Script`], as TOML or JSON, from the next request on |
//! | `GET /healthz` | 200 |
//!
//! An answer names the tokens of the messages that it was asked about ([`crate::facts`]), and no others: what stands
//! above them in the prompt, as context or memory, is not answered.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use autoreply_load_tests::model::{Script, Stub};
//! let stub = Stub::start(Script::answering_after(2_000)).await?;
//! println!("{} was asked {} times", stub.address, stub.counts()["chat_completions"].attempts);
//! # Ok(())
//! # }
//! ```

mod answer;
mod counts;
mod process;
pub mod raw;
mod script;
mod server;
#[cfg(test)]
mod tests;

pub use counts::Counts;
pub use process::{StubProcess, raise_file_limit};
pub use script::{Behaviour, Latency, Outcome, Script, Shares};
pub use server::Stub;

/// The provider of `/v1/chat/completions`.
pub const CHAT_COMPLETIONS: &str = "chat_completions";
/// The provider of `/v2/chat`.
pub const COHERE_CHAT: &str = "cohere_chat_v2";
