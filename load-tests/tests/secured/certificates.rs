//! Certificates by openssl: an authority, a stranger's authority, and what they sign.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of a directory, in PEM.
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes an authority `ca`, another one `stranger`, and certificates of the first for `server` (on localhost) and
    /// `client`.
    pub fn make(directory: &Path) -> Self {
        let this = Self { directory: directory.to_owned() };
        for authority in ["ca", "stranger"] {
            this.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=autoreply-{authority} \
                 -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
                 -keyout {authority}.key -out {authority}.pem"
            ));
        }
        for (name, subject) in [("server", "localhost"), ("client", "desk")] {
            this.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={subject} \
                 -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
                 -CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem"
            ));
        }
        this
    }

    /// The path of a file, as `ca.pem`.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// What stands in a file.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap()
    }

    fn openssl(&self, words: &str) {
        let ended =
            Command::new("openssl").current_dir(&self.directory).args(words.split_whitespace()).output().unwrap();
        assert!(ended.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}
