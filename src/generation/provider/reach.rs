//! Whether a model's server can be reached: a connection and, where its address says so, a TLS handshake. No request is
//! sent, so that it costs nothing.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use rustls_platform_verifier::ConfigVerifierExt as _;

use super::http::{endpoint, is_loopback};

/// A server that a provider of the chain calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    encrypted: bool,
    loopback: bool,
}

impl Server {
    /// The server of this address; none if it is no address of HTTP.
    pub fn of(base_url: &str) -> Option<Self> {
        let url = endpoint(base_url, "")?;
        Some(Self {
            host: url.host_str()?.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default()?,
            encrypted: url.scheme() == "https",
            loopback: is_loopback(&url),
        })
    }

    /// Its name and port, without the rest of the address.
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is on this machine, so that no proxy stands before it.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Connects, each step within `wait`, and says how far that went.
    ///
    /// # Errors
    /// Why it cannot be reached, as a sentence.
    pub async fn reach(self, wait: Duration) -> Result<String, String> {
        let place = self.place();
        let reached = tokio::task::spawn_blocking(move || self.knock(wait)).await;
        reached.unwrap_or_else(|error| Err(error.to_string())).map_err(|why| format!("{place} {why}"))
    }

    fn knock(&self, wait: Duration) -> Result<String, String> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let addresses = addresses.map_err(|error| format!("has no address ({error})"))?;
        let mut last = "has no address".to_owned();
        for address in addresses {
            match TcpStream::connect_timeout(&address, wait) {
                Ok(stream) if self.encrypted => return self.shake_hands(stream, wait),
                Ok(_) => return Ok(format!("{} answers", self.place())),
                Err(error) => last = format!("does not answer ({error})"),
            }
        }
        Err(last)
    }

    fn shake_hands(&self, mut stream: TcpStream, wait: Duration) -> Result<String, String> {
        let failed = |error: &dyn std::fmt::Display| format!("answers, but not with TLS that is trusted ({error})");
        stream.set_read_timeout(Some(wait)).map_err(|error| failed(&error))?;
        stream.set_write_timeout(Some(wait)).map_err(|error| failed(&error))?;
        // A second installation fails and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig::with_platform_verifier().map_err(|error| failed(&error))?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| failed(&error))?;
        let mut session = ClientConnection::new(Arc::new(config), name).map_err(|error| failed(&error))?;
        while session.is_handshaking() {
            session.complete_io(&mut stream).map_err(|error| failed(&error))?;
        }
        Ok(format!("{} answers with TLS that is trusted", self.place()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_server_is_named_without_what_else_stands_in_its_address() {
        let place = |url: &str| Server::of(url).map(|server| server.place());
        assert_eq!(place("https://api.example.com/v1").as_deref(), Some("api.example.com:443"));
        assert_eq!(place("http://[::1]:8080/v1").as_deref(), Some("::1:8080"));
        assert_eq!(place("ftp://x"), None);
    }

    #[tokio::test]
    async fn a_server_is_reached_and_not_a_byte_is_sent_to_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let told = Server::of(&url).unwrap().reach(WAIT).await.unwrap();
        assert!(told.ends_with(" answers"), "{told}");
        let mut sent = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut sent).unwrap();
        assert!(sent.is_empty());
        drop(listener);
        let gone = Server::of(&url).unwrap().reach(WAIT).await.unwrap_err();
        assert!(gone.contains("does not answer"), "{gone}");
    }

    #[tokio::test]
    async fn a_server_without_tls_is_told_where_tls_is_meant() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/v1", listener.local_addr().unwrap());
        let answering = tokio::task::spawn_blocking(move || {
            use std::io::Write as _;
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let refused = Server::of(&url).unwrap().reach(WAIT).await.unwrap_err();
        assert!(refused.contains("not with TLS"), "{refused}");
        answering.await.unwrap();
    }
}
