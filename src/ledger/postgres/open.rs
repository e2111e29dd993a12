//! The connections: what each of them is told, and what they need.

use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};

use crate::error::Problem;
use crate::ledger::settings::{Settings, Tls};
use crate::saga::LedgerError;

/// A connection lives this long; then another is made, so that a pool finds its way back after a fail-over.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
const IDLE: Duration = Duration::from_secs(10 * 60);

/// How to reach the database of these settings.
pub(in crate::ledger) fn options(
    settings: &Settings,
    password: Option<&SecretString>,
) -> Result<PgConnectOptions, LedgerError> {
    let wrong = |error: sqlx::Error| {
        let what = format!("it cannot be read as an address ({error})");
        LedgerError::Storage(Problem::new(what, "ledger.url", "Write postgres://user@host:5432/database"))
    };
    let mut options = PgConnectOptions::from_str(&settings.url).map_err(wrong)?.application_name("autoreply");
    if let Some(password) = password {
        options = options.password(password.expose_secret());
    }
    options = options.ssl_mode(match settings.tls {
        Tls::Disable => PgSslMode::Disable,
        Tls::Prefer => PgSslMode::Prefer,
        Tls::Require => PgSslMode::Require,
        Tls::VerifyCa => PgSslMode::VerifyCa,
        Tls::VerifyFull => PgSslMode::VerifyFull,
    });
    if !settings.tls_ca_file.as_os_str().is_empty() {
        // Later it would look like a connection that broke, which is tried again.
        std::fs::File::open(&settings.tls_ca_file).map_err(|error| {
            let place = format!("ledger.tls_ca_file {}", settings.tls_ca_file.display());
            let what = format!("it cannot be read ({error})");
            LedgerError::Storage(Problem::new(what, place, "Name a file of certificates (PEM), or leave it empty"))
        })?;
        options = options.ssl_root_cert(&settings.tls_ca_file);
    }
    Ok(options)
}

/// The worker's connections. Every hot statement finds its rows by keys: a planner that sees an empty table would read
/// it whole, and keep to that plan while the table grows.
pub(super) fn pool(settings: &Settings, options: PgConnectOptions) -> PgPool {
    let ms = |value: u64| value.to_string();
    let options = options.options([
        ("statement_timeout", ms(settings.statement_timeout_ms)),
        ("lock_timeout", ms(settings.lock_timeout_ms)),
        ("idle_in_transaction_session_timeout", ms(settings.statement_timeout_ms.saturating_mul(2))),
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("enable_seqscan", "off".to_owned()),
        ("enable_bitmapscan", "off".to_owned()),
        ("enable_material", "off".to_owned()),
        ("enable_memoize", "off".to_owned()),
        ("enable_hashjoin", "off".to_owned()),
        ("enable_mergejoin", "off".to_owned()),
        ("jit", "off".to_owned()),
    ]);
    PgPoolOptions::new()
        .max_connections(settings.pool_max)
        .acquire_timeout(Duration::from_millis(settings.connect_timeout_ms))
        .max_lifetime(LIFETIME)
        .idle_timeout(IDLE)
        // A ping before each use is a round trip; a connection that has died is noticed by its use, which is repeated.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}
