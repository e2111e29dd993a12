//! The ledger's settings; each is explained in `config.default.toml`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::error::Problem;
use crate::saga::Retention;

/// How the connections to PostgreSQL are kept private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Not at all.
    Disable,
    /// If the server offers it, whoever it is.
    Prefer,
    /// Always, whoever the server is.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Always, with a certificate of a known authority for this host.
    VerifyFull,
}

/// The section `[ledger]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The PostgreSQL database, without its password; empty for a SQLite file.
    pub url: String,
    /// The environment variable that holds the password; empty for none.
    pub password_env: String,
    /// The file that holds the password; empty for none.
    pub password_file: PathBuf,
    /// How the connections are kept private.
    pub tls: Tls,
    /// Certificates of the authorities to trust (PEM); empty for those that come with the program.
    pub tls_ca_file: PathBuf,
    /// The most connections of this process.
    pub pool_max: u32,
    /// How long a connection may take to be there.
    pub connect_timeout_ms: u64,
    /// The server ends a statement after this.
    pub statement_timeout_ms: u64,
    /// The server ends a statement that waits for a lock after this.
    pub lock_timeout_ms: u64,
    /// The SQLite file; empty means the place that the role chooses.
    pub path: PathBuf,
    /// Replies a day (UTC), reserved and used together.
    pub daily_quota: u64,
    /// Days for which ended sagas and their stories are kept.
    pub retention_days: u32,
    /// Days for which the chat text of ended sagas is kept.
    pub text_days: u32,
}

impl Settings {
    /// Whether the ledger is a PostgreSQL database.
    pub fn is_postgres(&self) -> bool {
        !self.url.is_empty()
    }

    /// Holds the values against each other.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn check(&self) -> Result<(), Problem> {
        if self.retention_days == 0 || self.text_days == 0 || self.text_days > self.retention_days {
            return Err(Problem::new(
                format!("text is kept for {} days and rows for {} days", self.text_days, self.retention_days),
                "ledger.text_days",
                "Set both to at least 1, and text_days to no more than retention_days",
            ));
        }
        if i64::try_from(self.daily_quota).is_err() {
            return Err(Problem::new(
                "the quota is beyond counting",
                "ledger.daily_quota",
                "Set it to a smaller number",
            ));
        }
        if self.is_postgres() { self.check_postgres() } else { Ok(()) }
    }

    fn check_postgres(&self) -> Result<(), Problem> {
        let problem = |key: &str, what: &str, remedy: &str| Err(Problem::new(what, format!("ledger.{key}"), remedy));
        let rest = self.url.strip_prefix("postgres://").or_else(|| self.url.strip_prefix("postgresql://"));
        let Some(rest) = rest else {
            return problem("url", "it is not an address of PostgreSQL", "Write postgres://user@host:5432/database");
        };
        let user = rest.split_once('@').map_or("", |(user, _)| user);
        if user.contains(':') || rest.contains("password=") {
            let remedy = "Name the file or the variable that holds it in password_file or password_env";
            return problem("url", "it holds a password", remedy);
        }
        if rest.contains("sslmode=") || rest.contains("sslrootcert=") {
            return problem("url", "it says how to use TLS", "Set tls and tls_ca_file instead");
        }
        if !self.password_env.is_empty() && !self.password_file.as_os_str().is_empty() {
            return problem("password_file", "the password has two places", "Set password_env or password_file");
        }
        if self.pool_max < 2 {
            return problem("pool_max", "recovery and the work need a connection each", "Set it to at least 2");
        }
        if self.connect_timeout_ms == 0 || self.statement_timeout_ms == 0 || self.lock_timeout_ms == 0 {
            return problem("statement_timeout_ms", "a time limit is 0", "Set all three to at least 1");
        }
        if self.lock_timeout_ms >= self.statement_timeout_ms {
            return problem("lock_timeout_ms", "it is not below statement_timeout_ms", "Lower it");
        }
        Ok(())
    }

    /// The two ages in one.
    pub fn retention(&self) -> Retention {
        let days = |count: u32| Duration::from_secs(u64::from(count) * 86_400);
        Retention { rows: days(self.retention_days), text: days(self.text_days) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        let file: toml::Table = include_str!("../../config.default.toml").parse().unwrap();
        let mut settings: Settings = file["ledger"].clone().try_into().unwrap();
        settings.url = url.to_owned();
        settings
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_key() {
        settings("").check().unwrap();
        settings("postgres://autoreply@db.example:5432/autoreply").check().unwrap();
        for (url, words) in [
            ("mysql://u@h/d", "not an address"),
            ("postgres://u:secret@h/d", "password"),
            ("postgres://u@h/d?password=secret", "password"),
            ("postgres://u@h/d?sslmode=disable", "tls"),
        ] {
            let refused = settings(url).check().unwrap_err().to_string();
            assert!(refused.contains("ledger.url") && refused.contains(words), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
        let breaks: [fn(&mut Settings); 5] = [
            |settings| settings.pool_max = 1,
            |settings| settings.lock_timeout_ms = settings.statement_timeout_ms,
            |settings| settings.connect_timeout_ms = 0,
            |settings| (settings.password_env, settings.password_file) = ("A".to_owned(), "/b".into()),
            |settings| settings.text_days = settings.retention_days + 1,
        ];
        for make_bad in breaks {
            let mut bad = settings("postgres://u@h/d");
            make_bad(&mut bad);
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
