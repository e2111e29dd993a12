//! What librdkafka says beside the calls: one that times out does not tell that a password was refused.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::StreamError;
use crate::error::Class;

/// Why a client does not get through to the brokers; the later, the more telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// They are not there, or not yet.
    Away,
    /// They speak TLS in another way, or one side does not trust the other.
    Tls,
    /// They do not know the user, or the password is another one.
    Login,
}

impl Kind {
    fn of(error: &KafkaError, reason: &str) -> Option<Self> {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code()? {
            // What the other side has against us comes as an alert, after the handshake.
            Code::BrokerTransportFailure if reason.contains("SSL routines") => Some(Self::Tls),
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => Some(Self::Login),
            Code::SSL => Some(Self::Tls),
            Code::BrokerTransportFailure | Code::Resolve => Some(Self::Away),
            _ => None,
        }
    }

    /// What it means, and how to mend it.
    fn sentences(self) -> (&'static str, &'static str) {
        match self {
            Self::Away => ("the brokers cannot be reached", StreamError::REMEDY),
            Self::Tls => (
                "there is no private connection to the brokers",
                "See that stream.ca_file names the authority that signed the brokers' certificates, that \
                 stream.certificate_file and key_file are set if they ask for one, and that this port speaks TLS",
            ),
            Self::Login => (
                "the brokers refuse the user or the password",
                "See that stream.sasl_username, sasl_mechanism, and the password in the file or variable that \
                 sasl_password_file or sasl_password_env names are the ones that the brokers know",
            ),
        }
    }
}

/// Keeps the most telling of it until something gets through. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<(Kind, String)>>>);

impl Heard {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Kind, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, kind: Kind, reason: &str) {
        let mut heard = self.lock();
        // A broker that refuses us also closes the connection, which says less.
        if heard.as_ref().is_none_or(|(before, _)| *before <= kind) {
            *heard = Some((kind, plain(reason).to_owned()));
        }
    }

    /// Something got through.
    pub(super) fn forget(&self) {
        self.lock().take();
    }

    /// Whether the brokers turn this process away, which waiting does not mend.
    pub(super) fn is_refused(&self) -> bool {
        self.lock().as_ref().is_some_and(|(kind, _)| *kind > Kind::Away)
    }

    /// `why`, and what was heard of it.
    pub(super) fn explain(&self, why: impl ToString) -> String {
        match &*self.lock() {
            None => why.to_string(),
            Some((kind, reason)) => format!("{} ({reason})", kind.sentences().0),
        }
    }

    /// The error of a call that did not get through, with what was heard.
    pub(super) fn failed(&self, what: &str, why: impl ToString) -> StreamError {
        let mut error = StreamError::new(what, self.explain(why), Class::Transient);
        if let Some((kind, _)) = &*self.lock() {
            error.remedy = kind.sentences().1;
        }
        error
    }
}

/// A reason without librdkafka's own advice, which names its properties and not our settings.
fn plain(reason: &str) -> &str {
    [": broker certificate could not be verified", ": verify that security.protocol", " (after "]
        .iter()
        .fold(reason, |reason, advice| reason.split_once(advice).map_or(reason, |(head, _)| head))
        .trim()
}

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "the broker client reports an error");
        if let Some(kind) = Kind::of(&error, reason) {
            self.note(kind, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_word_is_kept_until_something_gets_through() {
        let (heard, error) = (Heard::default(), |code| KafkaError::Global(code));
        assert_eq!(heard.explain("it timed out"), "it timed out");
        heard.error(error(RDKafkaErrorCode::BrokerTransportFailure), "k:1/bootstrap: refused (after 0ms in state X)");
        assert!(!heard.is_refused());
        assert_eq!(heard.explain("it timed out"), "the brokers cannot be reached (k:1/bootstrap: refused)");
        heard.error(error(RDKafkaErrorCode::Authentication), "k:1: SASL authentication error: no (after 5ms)");
        for said in [RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::BrokerTransportFailure] {
            heard.error(error(said), "1/1 brokers are down");
        }
        assert!(heard.is_refused());
        let told = heard.failed("the topics could not be looked at", "it timed out");
        assert!(told.to_string().ends_with("refuse the user or the password (k:1: SASL authentication error: no)"));
        assert!(told.remedy.contains("stream.sasl_username"));
        heard.forget();
        heard.error(
            error(RDKafkaErrorCode::BrokerTransportFailure),
            "k:1: error:0A0::SSL routines::alert bad certificate",
        );
        assert!(heard.failed("look", "late").remedy.contains("stream.certificate_file"));
        heard.error(error(RDKafkaErrorCode::SSL), "k:1: handshake failed: broker certificate could not be verified, x");
        let told = heard.failed("look", "late");
        assert!(told.why.ends_with("(k:1: handshake failed)") && told.remedy.contains("stream.ca_file"), "{told:?}");
        heard.forget();
        assert_eq!(heard.failed("look", "late"), StreamError::new("look", "late", Class::Transient));
    }
}
