//! The send: typed, read back, submitted, proven.
//!
//! ```text
//! journal ─order─▶ executor ─▶ machine (pure: what to do next) ─action─▶ desk (window, input, keys, clipboard)
//!                     ▲                       ▲                              │
//!                     └── fence, intent, end ─┴────────── what was seen ─────┘        watchdog (a process): keys up
//! ```
//! Everything before Enter can be undone and is; after Enter nothing is typed again. [`machine`] holds that promise and
//! is tested alone; [`executor`] only carries its actions out.

mod authority;
pub mod clipboard;
pub mod executor;
pub mod keyboard;
pub mod live;
pub mod machine;
mod machine_undo;
pub mod ports;
pub mod settings;
mod vocabulary;
pub mod watchdog;

pub use authority::JournalAuthority;
pub use executor::Executor;
pub use live::LiveDesk;
pub use settings::Settings;
