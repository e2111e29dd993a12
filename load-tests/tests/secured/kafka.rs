//! A Kafka of its own with two doors: one that asks for a certificate, one that asks for a user and a password.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use autoreply::contract::wire::{WireRecord, topic};
use autoreply::settings::Layers;
use autoreply::stream::{Connection, Settings};
use autoreply::testing;
use autoreply_rig::child::{Kin, tied};
use tokio_util::sync::CancellationToken;
use toml::Table;

use super::certificates::Certificates;
use super::{Said, WRONG, autoreply, directory, password_file};

pub const PASSWORD: &str = "kafka-sesame-4711";
const USER: &str = "desk-ann";
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the jars lie, if all of them are there.
fn jars() -> Option<PathBuf> {
    let lib = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lib/services/jars.sh");
    let asked = Command::new("sh").args(["-c", ". \"$0\" && kafka_jars_whole && echo \"$KAFKA_HOME\"", lib]).output();
    let asked = asked.ok().filter(|asked| asked.status.success())?;
    Some(PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim()))
}

struct Broker {
    _process: Kin,
    /// Asks for a certificate.
    ssl: String,
    /// Asks for a user.
    sasl_ssl: String,
}

impl Broker {
    fn start(directory: &Path, jars: &Path, certificates: &Certificates) -> Self {
        let [ssl, sasl_ssl, controller] = [(); 3].map(|()| format!("localhost:{}", free_port()));
        let keys = directory.join("keys.pem");
        std::fs::write(&keys, certificates.text("server.key") + &certificates.text("server.pem")).unwrap();
        let settings = directory.join("server.properties");
        let (keys, ca, data) = (keys.display(), certificates.path("ca.pem"), directory.join("kafka"));
        let data = data.display();
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
             listeners=SSL://{ssl},SASL_SSL://{sasl_ssl},CONTROLLER://{controller}\n\
             advertised.listeners=SSL://{ssl},SASL_SSL://{sasl_ssl}\n\
             listener.security.protocol.map=SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=SSL\ncontroller.listener.names=CONTROLLER\nlog.dirs={data}\n\
             ssl.keystore.type=PEM\nssl.keystore.location={keys}\nssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
             listener.name.ssl.ssl.client.auth=required\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config={JAAS}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
             listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={JAAS}.scram.ScramLoginModule required;\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={JAAS}.scram.ScramLoginModule required;\n\
             auto.create.topics.enable=false\noffsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             log.cleaner.dedupe.buffer.size=16777216\n"
        );
        std::fs::write(&settings, text).unwrap();
        format(&settings, jars);
        let logging = directory.join("log4j2.properties");
        std::fs::write(&logging, LOGGING).unwrap();
        let mut command = tied("java");
        command.args(["-Xmx384m", &format!("-Dlog4j2.configurationFile={}", logging.display())]);
        command.args(["-cp", &format!("{}/libs/*", jars.display()), "kafka.Kafka"]).arg(&settings);
        let log = directory.join("kafka.log");
        let mut process = Kin::start("kafka", command, &log, false).unwrap();
        let started = || {
            let mut said = String::new();
            std::fs::File::open(&log).unwrap().read_to_string(&mut said).unwrap();
            Ok(said.contains("Kafka Server started"))
        };
        process.wait_until("Kafka", PATIENCE, started).unwrap();
        Self { _process: process, ssl, sasl_ssl }
    }
}

const JAAS: &str = "org.apache.kafka.common.security";
const LOGGING: &str = "appender.console.type=Console\nappender.console.name=console\n\
    appender.console.layout.type=PatternLayout\nappender.console.layout.pattern=%d{ISO8601} %p %m (%c)%n\n\
    rootLogger.level=INFO\nrootLogger.appenderRef.console.ref=console\n";

/// Gives the disk its id, and Kafka its first users.
fn format(settings: &Path, jars: &Path) {
    let scram = |mechanism: &str| format!("{mechanism}=[name={USER},password={PASSWORD}]");
    let ended = Command::new("java")
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &format!("{}/libs/*", jars.display())])
        .args(["kafka.tools.StorageTool", "format", "-t", "c2VjdXJlZC1jbHVzdGVyMQ", "-c"])
        .arg(settings)
        .args(["--add-scram", &scram("SCRAM-SHA-256"), "--add-scram", &scram("SCRAM-SHA-512")])
        .output()
        .unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&said));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The section `[stream]` with these pairs.
fn stream(pairs: &[(&str, &str)]) -> Table {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).into()));
    Table::from_iter([("stream".to_owned(), Table::from_iter(pairs).into())])
}

/// A record goes out, and comes back.
async fn there_and_back(settings: &Table, password: Option<&str>, number: usize) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), settings.to_string()).unwrap();
    let settings: Settings = Layers::load(Some(file.path()), []).unwrap().section("stream").unwrap();
    settings.check().unwrap();
    assert_eq!(settings.password().is_some(), password.is_some());
    let connection = Connection::open_with(&settings, password.map(Into::into)).unwrap();
    let record = WireRecord {
        topic: topic::CONTROLS.to_owned(),
        key: number.to_string().into_bytes(),
        payload: format!("record {number}").into_bytes(),
        ..WireRecord::default()
    };
    connection.producer().publish(record.clone()).await.unwrap();
    let (stop, sent) = (CancellationToken::new(), record.payload.clone());
    let reading = connection.reader_all(topic::CONTROLS).run(stop.clone(), move |batch| {
        if batch.iter().any(|received| received.record.payload == sent) {
            stop.cancel();
        }
        std::future::ready(Ok(()))
    });
    tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_spoken_to_by_tls_and_passwords_and_refusals_are_told() {
    const TEST: &str = "kafka_is_spoken_to_by_tls_and_passwords_and_refusals_are_told";
    let Some(jars) = jars() else { return testing::skip(TEST, "Kafka is not installed (scripts/install-services)") };
    let directory = directory();
    let directory = directory.path();
    let certificates = Certificates::make(directory);
    let broker = Broker::start(directory, &jars, &certificates);
    let (ca, stranger) = (certificates.path("ca.pem"), certificates.path("stranger.pem"));
    let (client, key) = (certificates.path("client.pem"), certificates.path("client.key"));
    let (right, wrong) = (password_file(directory, PASSWORD), password_file(directory, WRONG));

    let login = |mechanism: &str, ca: &str, password: (&str, &str)| {
        let own = [("security_protocol", "sasl_ssl"), ("sasl_username", USER), ("sasl_mechanism", mechanism)];
        stream(&[&own[..], &[("brokers", &broker.sasl_ssl), ("ca_file", ca), password]].concat())
    };
    let scram = login("SCRAM-SHA-512", &ca, ("sasl_password_file", &right));
    autoreply(directory, &scram, &["topics", "apply", "--yes"]).done("7 changes done");
    autoreply(directory, &scram, &["doctor", "desktop"]).kafka_is_well();

    let certified = [("brokers", broker.ssl.as_str()), ("security_protocol", "ssl"), ("ca_file", &ca)];
    let own = [("certificate_file", client.as_str()), ("key_file", &key)];
    there_and_back(&stream(&[&certified[..], &own].concat()), None, 0).await;
    there_and_back(&scram, Some(PASSWORD), 1).await;
    for (number, mechanism) in [(2, "SCRAM-SHA-256"), (3, "PLAIN")] {
        let settings = login(mechanism, &ca, ("sasl_password_env", "SECURED_PASSWORD"));
        autoreply(directory, &settings, &["topics", "check"]).done("as they should be");
        there_and_back(&settings, Some(PASSWORD), number).await;
    }

    let plan = |settings: &Table| autoreply(directory, settings, &["topics", "plan"]);
    const LOGIN: [&str; 3] = ["refuse the user or the password", "SASL authentication error", "stream.sasl_username"];
    const TLS: [&str; 3] = ["no private connection to the brokers", "certificate", "stream.ca_file"];
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        plan(&login(mechanism, &ca, ("sasl_password_file", &wrong))).refused(&LOGIN);
    }
    let doctor = autoreply(directory, &login("PLAIN", &ca, ("sasl_password_file", &wrong)), &["doctor", "desktop"]);
    doctor.refused(&["PROBLEM  kafka", LOGIN[0]]);
    plan(&login("PLAIN", &stranger, ("sasl_password_file", &right))).refused(&TLS);
    plan(&stream(
        &[&[("brokers", broker.ssl.as_str()), ("security_protocol", "ssl"), ("ca_file", &stranger)][..], &own].concat(),
    ))
    .refused(&TLS);
    plan(&stream(&certified)).refused(&TLS);
    plan(&login("PLAIN", &ca, ("sasl_password_env", "NO_SUCH_VARIABLE")))
        .refused(&["NO_SUCH_VARIABLE", "password for Kafka"]);
    plan(&login("PLAIN", "/nowhere/ca.pem", ("sasl_password_file", &right))).refused(&["/nowhere/ca.pem", "stream"]);
}

impl Said {
    /// Other things may be missing on the machine that runs the test.
    #[track_caller]
    fn kafka_is_well(&self) {
        let line = self.text.lines().find(|line| line.contains("  kafka "));
        assert!(line.is_some_and(|line| line.starts_with("ok") && line.contains("topics fit")), "{}", self.text);
    }
}
