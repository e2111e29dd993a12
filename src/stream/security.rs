//! TLS and SASL: what fits together, and how librdkafka is told.

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Settings, StreamError};
use crate::error::{Class, Problem};

/// The protocols, as they stand in the settings.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
/// The mechanisms that this program has.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
/// What properties of the client begin with that have a setting of their own, or that would put a secret into a file
/// which is shown.
const OWN: [&str; 3] = ["security.", "sasl.", "ssl."];

/// Where the password for SASL is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordReference {
    /// In a file, alone.
    File(String),
    /// In a variable of the environment.
    Environment(String),
}

impl Settings {
    /// Where the password is; none without SASL.
    pub fn password(&self) -> Option<PasswordReference> {
        if !self.uses_sasl() {
            None
        } else if self.sasl_password_file.is_empty() {
            Some(PasswordReference::Environment(self.sasl_password_env.clone()))
        } else {
            Some(PasswordReference::File(self.sasl_password_file.clone()))
        }
    }

    fn uses_sasl(&self) -> bool {
        self.security_protocol.starts_with("sasl_")
    }

    fn uses_tls(&self) -> bool {
        self.security_protocol.ends_with("ssl")
    }

    pub(super) fn check_security(&self) -> Result<(), Problem> {
        let bad = |key: &str, what: &str, remedy: &str| Err(Problem::new(what, format!("stream.{key}"), remedy));
        if !PROTOCOLS.contains(&self.security_protocol.as_str()) {
            let remedy = "Write plaintext, ssl, sasl_plaintext or sasl_ssl";
            return bad("security_protocol", "it is not a protocol this program speaks", remedy);
        }
        if self.is_embedded() && self.security_protocol != "plaintext" {
            let what = "the embedded broker speaks neither TLS nor SASL";
            return bad("security_protocol", what, "Write plaintext, or name real brokers in stream.brokers");
        }
        self.check_tls()?;
        self.check_sasl()?;
        match self.client.keys().find(|key| OWN.iter().any(|own| key.starts_with(own))) {
            Some(key) if key.ends_with("password") || key.ends_with(".pem") => {
                let remedy = "Name a file or a variable in stream.sasl_password_file, sasl_password_env or key_file";
                bad(&format!("client.{key}"), "a secret does not stand in the settings", remedy)
            }
            Some(key)
                if ["security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username"]
                    .contains(&key.as_str()) =>
            {
                bad(&format!("client.{key}"), "it has a setting of its own", "Use stream.security_protocol and sasl_*")
            }
            _ => Ok(()),
        }
    }

    fn tls_files(&self) -> [(&'static str, &String); 3] {
        [("ca_file", &self.ca_file), ("certificate_file", &self.certificate_file), ("key_file", &self.key_file)]
    }

    /// Opens the files for TLS: of one that it cannot read librdkafka does not say which it is.
    pub(super) fn find_files(&self) -> Result<(), StreamError> {
        for (key, path) in self.tls_files().into_iter().filter(|(_, path)| !path.is_empty()) {
            std::fs::File::open(path).map_err(|error| StreamError {
                remedy: "Write the file there, readable by autoreply, or name another",
                ..StreamError::new(format!("stream.{key} {path} cannot be read"), error, Class::Permanent)
            })?;
        }
        Ok(())
    }

    fn check_tls(&self) -> Result<(), Problem> {
        let files = self.tls_files();
        if !self.uses_tls()
            && let Some((key, _)) = files.iter().find(|(_, value)| !value.is_empty())
        {
            return Err(Problem::new(
                "it has no effect, because stream.security_protocol does not use TLS",
                format!("stream.{key}"),
                "Set stream.security_protocol to ssl or sasl_ssl, or empty this",
            ));
        }
        if self.certificate_file.is_empty() != self.key_file.is_empty() {
            return Err(Problem::new(
                "a certificate needs its key, and a key its certificate",
                "stream.certificate_file and stream.key_file",
                "Set both, or neither",
            ));
        }
        Ok(())
    }

    fn check_sasl(&self) -> Result<(), Problem> {
        let bad = |key: &str, what: &str, remedy: &str| Err(Problem::new(what, format!("stream.{key}"), remedy));
        let set = [
            ("sasl_username", &self.sasl_username),
            ("sasl_password_file", &self.sasl_password_file),
            ("sasl_password_env", &self.sasl_password_env),
        ];
        if !self.uses_sasl() {
            return match set.iter().find(|(_, value)| !value.is_empty()) {
                Some((key, _)) => bad(
                    key,
                    "it has no effect, because stream.security_protocol does not use SASL",
                    "Set stream.security_protocol to sasl_ssl, or empty this",
                ),
                None => Ok(()),
            };
        }
        if !MECHANISMS.contains(&self.sasl_mechanism.as_str()) {
            let remedy = "Write PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";
            return bad("sasl_mechanism", "it is not a mechanism this program has", remedy);
        }
        if self.sasl_username.is_empty() {
            return bad("sasl_username", "it is empty, and SASL needs one", "Write the user's name");
        }
        if self.sasl_password_file.is_empty() == self.sasl_password_env.is_empty() {
            let what = "SASL needs a password from exactly one place";
            let remedy = "Name a file in the one, or a variable in the other";
            return bad("sasl_password_file and stream.sasl_password_env", what, remedy);
        }
        Ok(())
    }

    /// Adds what the settings say to `config`. The password goes to librdkafka, which does not show it.
    pub(super) fn secure(&self, config: &mut ClientConfig, password: Option<&SecretString>) {
        config.set("security.protocol", &self.security_protocol);
        for (name, value) in [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.certificate_file),
            ("ssl.key.location", &self.key_file),
        ] {
            if !value.is_empty() {
                config.set(name, value);
            }
        }
        if self.uses_sasl() {
            config.set("sasl.mechanism", &self.sasl_mechanism).set("sasl.username", &self.sasl_username);
            if let Some(password) = password {
                config.set("sasl.password", password.expose_secret());
            }
        }
    }
}
