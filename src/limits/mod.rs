//! Rates and session memory: in this process, or in a Redis that all workers share.
//!
//! Every adapter of the two ports must pass `conformance`. The rate in this process is also what a worker falls back to
//! while Redis is away (`docs/adr/0011-limits-while-redis-is-away.md`).

#[cfg(test)]
pub(crate) mod conformance;
mod in_process;
mod memory;
mod shared;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

pub use in_process::InProcessLimits;
pub use memory::InProcessMemory;
pub use shared::{Server, Upkeep};

use crate::clock::Clock;
use crate::error::Problem;
use crate::saga::{Limits, Memory};
use crate::settings::SecretReference;

/// The settings of this room; `config.default.toml` says what each key does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Generated replies a conversation may have in a minute, on average.
    pub replies_per_minute: NonZeroU32,
    /// How many of them may come at once.
    pub burst: NonZeroU32,
    /// How long an exchange is remembered.
    pub memory_hours: u32,
    /// The most conversations that are remembered.
    pub memory_conversations: usize,
    /// The most exchanges that are remembered of a conversation.
    pub memory_exchanges: usize,
    /// The most characters that are remembered of a question or a reply.
    pub memory_chars: usize,
    /// `redis://` or `rediss://` with host and port; empty keeps limits and memory in this process.
    pub redis_url: String,
    /// What stands before every key in Redis.
    pub redis_prefix: String,
    /// The environment variable that holds the password.
    pub redis_password_env: String,
    /// The file that holds the password.
    pub redis_password_file: String,
    /// The certificate in PEM that has signed the server's; empty trusts what this machine trusts.
    pub redis_ca_file: String,
    /// How long a connection may take.
    pub redis_connect_timeout_ms: u64,
    /// How long one command may take before Redis counts as away.
    pub redis_timeout_ms: u64,
    /// How often the connection is looked at, and the longest wait between two tries while it is away.
    pub redis_probe_ms: u64,
}

/// Is told how the shared store does.
pub trait Observer: Send + Sync + 'static {
    /// It is there, or it is away: each change once.
    fn shared(&self, is_there: bool);
    /// One call was answered by this process instead, or not at all.
    fn fell_back(&self);
}

/// What a worker uses, and what keeps it alive.
pub struct Opened {
    /// The rates.
    pub limits: Arc<dyn Limits>,
    /// The session memory.
    pub memory: Arc<dyn Memory>,
    /// To be run as long as they are used; `None` for those that need nothing.
    pub upkeep: Option<Upkeep>,
}

/// The limits and the memory of `settings`: in this process, or in Redis. A Redis that is away is no error; it comes
/// back by itself.
///
/// # Errors
/// The address or the certificate cannot be used.
pub async fn open(
    settings: &Settings,
    password: Option<&SecretString>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
) -> Result<Opened, Problem> {
    if settings.redis_url.is_empty() {
        let limits = Arc::new(InProcessLimits::new(settings));
        return Ok(Opened { limits, memory: Arc::new(InProcessMemory::new(settings, clock)), upkeep: None });
    }
    let link = Arc::new(shared::Link::new(settings, password, observer)?);
    let upkeep = Upkeep::begin(link.clone(), settings).await;
    let limits = Arc::new(shared::SharedLimits::new(link.clone(), settings));
    Ok(Opened { limits, memory: Arc::new(shared::SharedMemory::new(link, settings, clock)), upkeep: Some(upkeep) })
}

/// Tries the Redis of `settings`, which must name one.
///
/// # Errors
/// Why it cannot be used, and how to mend it.
pub async fn examine(settings: &Settings, password: Option<&SecretString>) -> Result<Server, Problem> {
    struct Nobody;
    impl Observer for Nobody {
        fn shared(&self, _is_there: bool) {}
        fn fell_back(&self) {}
    }
    shared::Link::new(settings, password, Arc::new(Nobody))?.examine().await.map_err(|why| {
        let remedy = "Start it, or mend address, password and certificate; until then each worker keeps its own limits";
        Problem::new(format!("Redis cannot be used: {why}"), "limits.redis_url", remedy)
    })
}

impl Settings {
    /// Where the password is, if there is one.
    pub fn password(&self) -> Option<SecretReference> {
        SecretReference::of(&self.redis_password_env, &self.redis_password_file)
    }

    /// How long an exchange is remembered.
    pub(crate) fn memory_keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.memory_hours) * 3600)
    }

    fn is_encrypted(&self) -> bool {
        self.redis_url.starts_with("rediss://")
    }

    /// What concerns Redis alone.
    fn check_redis(&self) -> Result<(), Problem> {
        let wrong = |key: &str, what: &str, remedy: &str| Err(Problem::new(what, format!("limits.{key}"), remedy));
        let Some((scheme, rest)) = self.redis_url.split_once("://") else {
            return wrong(
                "redis_url",
                "it is no address",
                "Write redis://host:port, rediss://host:port for TLS, or nothing",
            );
        };
        if !["redis", "rediss"].contains(&scheme) {
            return wrong("redis_url", "it is no address of a Redis", "Begin it with redis:// or rediss://");
        }
        let user = rest.split('/').next().and_then(|place| place.rsplit_once('@')).map_or("", |(user, _)| user);
        if user.contains(':') {
            let remedy = "Take it out, and name its place in redis_password_env or redis_password_file";
            return wrong("redis_url", "it holds a password", remedy);
        }
        if !self.redis_ca_file.is_empty() && !self.is_encrypted() {
            return wrong("redis_ca_file", "the connection is not encrypted", "Begin redis_url with rediss://");
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        if self.redis_prefix.is_empty() || !self.redis_prefix.chars().all(allowed) {
            return wrong("redis_prefix", "it is no prefix for keys", "Write letters, digits, and . _ - :");
        }
        for (key, value) in [
            ("redis_connect_timeout_ms", self.redis_connect_timeout_ms),
            ("redis_timeout_ms", self.redis_timeout_ms),
            ("redis_probe_ms", self.redis_probe_ms),
        ] {
            if value == 0 {
                return wrong(key, "this must not be 0", "Write 1 or more");
            }
        }
        Ok(())
    }

    /// Whether the values fit each other.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Problem> {
        if self.memory_conversations == 0 {
            let remedy = "Write 1 or more; memory_exchanges = 0 switches the memory off";
            return Err(Problem::new("this must not be 0", "limits.memory_conversations", remedy));
        }
        if self.memory_hours > 24 * 31 {
            return Err(Problem::new("the memory is kept too long", "limits.memory_hours", "Write 744 or less"));
        }
        if self.redis_url.is_empty() { Ok(()) } else { self.check_redis() }
    }
}

#[cfg(test)]
impl Settings {
    /// The defaults, as a test's starting point.
    pub(crate) fn sample() -> Self {
        let all: toml::Table =
            toml::from_str(include_str!("../../config.default.toml")).expect("the defaults are TOML");
        all["limits"].clone().try_into().expect("the defaults fit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit() {
        let settings = Settings::sample();
        assert_eq!(settings.check(), Ok(()));
        assert!(Settings { memory_conversations: 0, ..settings.clone() }.check().is_err());
        assert!(Settings { memory_hours: 1000, ..settings }.check().is_err());
    }

    #[test]
    fn an_address_of_redis_is_checked_and_holds_no_password() {
        let of = |url: &str| Settings { redis_url: url.into(), ..Settings::sample() };
        for good in ["redis://h:6379", "redis://user@h:6379/3", "rediss://h"] {
            assert_eq!(of(good).check(), Ok(()), "{good}");
        }
        for bad in ["h:6379", "http://h", "redis://user:secret@h:6379", "redis://:secret@h"] {
            let problem = of(bad).check().unwrap_err();
            assert!(problem.place == "limits.redis_url" && !problem.to_string().contains("secret"), "{problem}");
        }
        let with_ca = Settings { redis_ca_file: "ca.pem".into(), ..of("redis://h") };
        assert_eq!(with_ca.check().unwrap_err().place, "limits.redis_ca_file");
        assert!(Settings { redis_prefix: "a b".into(), ..of("redis://h") }.check().is_err());
        assert!(Settings { redis_timeout_ms: 0, ..of("redis://h") }.check().is_err());
    }
}
