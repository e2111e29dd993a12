//! How many files this process may open: each call of a model is a connection, and a shell's limit is often 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{generation, ledger};

/// Connections to brokers and Redis, sockets, logs, and what the libraries keep open.
const REST: u64 = 128;

/// How many files a worker of these settings may have open at once.
pub(super) fn needed(generation: &generation::Settings, ledger: &ledger::Settings) -> u64 {
    generation.calls_at_once().saturating_add(u64::from(ledger.pool_max)).saturating_add(REST)
}

/// Raises the limit as far as this process may, and says so if that is less than `needed`.
pub(super) fn raise(needed: u64) {
    let before = getrlimit(Resource::Nofile);
    // Refused only by who keeps processes from this call; then the limit stays what it was.
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
    let after = getrlimit(Resource::Nofile).current;
    if let Some(limit) = shortage(after, needed) {
        tracing::warn!(
            limit,
            needed,
            "this process may open fewer files than the calls of its models need: some will fail under load; raise the \
             hard limit (LimitNOFILE= of the unit, ulimit -Hn), or lower max_in_flight of the models"
        );
    } else {
        tracing::debug!(before = ?before.current, after = ?after, needed, "the limit of open files");
    }
}

/// The limit, if it is too low. None is no limit.
fn shortage(limit: Option<u64>, needed: u64) -> Option<u64> {
    limit.filter(|limit| *limit < needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Layers;

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        raise(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn a_limit_below_what_is_needed_is_a_shortage() {
        assert_eq!(shortage(Some(1_024), 1_025), Some(1_024));
        assert_eq!((shortage(Some(1_024), 1_024), shortage(None, u64::MAX)), (None, None));
    }

    #[test]
    fn models_in_the_chain_need_a_connection_a_call() {
        let of = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let layers = Layers::load(Some(file.path()), []).unwrap();
            needed(&layers.section("generation").unwrap(), &layers.section("ledger").unwrap())
        };
        let alone = of("ledger.pool_max = 7");
        assert_eq!(alone, 7 + REST, "what answers from this process needs none");
        let models = r#"
            ledger.pool_max = 7
            generation.chain = ["a", "b"]
            [generation.providers]
            a = { kind = "chat_completions", base_url = "http://localhost:1/v1", model = "m", max_in_flight = 5000 }
            b = { kind = "cohere_chat_v2", base_url = "http://localhost:2", model = "m" }
            spare = { kind = "chat_completions", base_url = "http://localhost:3/v1", model = "m" }
        "#;
        assert_eq!(of(models), alone + 5_000 + 256, "only those of the chain");
    }
}
