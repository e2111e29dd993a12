//! What librdkafka is told of TLS and SASL.

use super::*;

#[test]
fn the_client_takes_every_protocol_and_shows_no_password() {
    let mut secured = settings();
    sasl(&mut secured);
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        secured.sasl_mechanism = mechanism.to_owned();
        let mut config = rdkafka::ClientConfig::new();
        secured.secure(&mut config, Some(&"hunter2".into()));
        assert_eq!(config.get("sasl.password"), Some("hunter2"));
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert!(!format!("{secured:?}").contains("hunter2"));
    }
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        secured.compression = compression.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        Connection::open_with(&secured, Some("hunter2".into())).unwrap();
    }
}
