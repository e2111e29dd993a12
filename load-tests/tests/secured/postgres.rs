//! A PostgreSQL that lets its user in only by TLS and with a password.

use autoreply::testing;
use autoreply_load_tests::services::{Kind, Services};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use toml::Table;

use super::certificates::Certificates;
use super::{WRONG, autoreply, directory, password_file};

pub const PASSWORD: &str = "postgres-sesame-4711";

/// Writes lines into a file of the server's data, as the server's own user and for it alone.
async fn write(server: &mut PgConnection, data: &str, file: &str, text: &str) {
    let statement = format!(
        "copy (select unnest(string_to_array('{}', E'\\n'))) to program 'umask 077; cat > {data}/{file}'",
        text.trim_end().replace('\'', "''")
    );
    server.execute(AssertSqlSafe(statement)).await.unwrap();
}

/// Gives the server its certificate, and the user `secured` one way in. Returns the ledger's URL without host.
async fn secure(url: &str, certificates: &Certificates) {
    let mut server = PgConnection::connect(url).await.unwrap();
    let data: String = sqlx::query_scalar("show data_directory").fetch_one(&mut server).await.unwrap();
    write(&mut server, &data, "secured.key", &certificates.text("server.key")).await;
    write(&mut server, &data, "secured.pem", &certificates.text("server.pem")).await;
    let before: String = sqlx::query_scalar("select pg_read_file('pg_hba.conf')").fetch_one(&mut server).await.unwrap();
    let rules = "hostssl secured secured all scram-sha-256\nhost all secured all reject\n";
    write(&mut server, &data, "pg_hba.conf", &format!("{rules}{before}")).await;
    for statement in [
        format!("create role secured login password '{PASSWORD}'"),
        "create database secured owner secured".to_owned(),
        "alter system set ssl_cert_file = 'secured.pem'".to_owned(),
        "alter system set ssl_key_file = 'secured.key'".to_owned(),
        "alter system set ssl = on".to_owned(),
        "select pg_reload_conf()".to_owned(),
    ] {
        server.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    // The server reads its files again when it comes to it: a connection that is private shows that it has.
    let asked = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    loop {
        let mut fresh = PgConnection::connect(&format!("{url}?sslmode=prefer")).await.unwrap();
        if sqlx::query_scalar::<_, bool>(asked).fetch_one(&mut fresh).await.unwrap() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn postgres_is_spoken_to_by_tls_and_a_password_and_refusals_are_told() {
    const TEST: &str = "postgres_is_spoken_to_by_tls_and_a_password_and_refusals_are_told";
    let directory = directory();
    let services = match Services::up_only(directory.path().join("services"), 1, &[Kind::Postgres]).await {
        Ok(services) => services,
        Err(problem) => return testing::skip(TEST, &problem.to_string()),
    };
    let directory = directory.path();
    let certificates = Certificates::make(directory);
    let url = services.addresses().postgres.clone().unwrap();
    let place = url.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/')).unwrap().0;
    let port = place.rsplit_once(':').unwrap().1;
    secure(&format!("postgres://postgres@{place}/postgres"), &certificates).await;

    let (ca, stranger) = (certificates.path("ca.pem"), certificates.path("stranger.pem"));
    let (right, wrong) = (password_file(directory, PASSWORD), password_file(directory, WRONG));
    let ledger = |tls: &str, ca: &str, password: &str| {
        let url = format!("postgres://secured@localhost:{port}/secured");
        let pairs = [("url", url.as_str()), ("tls", tls), ("tls_ca_file", ca), ("password_file", password)];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.into()));
        Table::from_iter([("ledger".to_owned(), Table::from_iter(pairs).into())])
    };
    let migrate = |tls: &str, ca: &str, password: &str| autoreply(directory, &ledger(tls, ca, password), &["migrate"]);
    migrate("verify-full", &ca, &right).done("Made: 1 ledger");
    for (tls, ca) in [("verify-ca", ca.as_str()), ("require", ""), ("prefer", "")] {
        migrate(tls, ca, &right).done("Nothing was missing");
    }
    let doctor = autoreply(directory, &ledger("verify-full", &ca, &right), &["doctor", "worker"]);
    doctor.done("answers, and its tables fit");

    let place = "the ledger's database";
    migrate("verify-full", &ca, &wrong).refused(&["password authentication failed", "ledger.password_file"]);
    migrate("verify-full", &ca, "").refused(&["password", "ledger.password_file"]);
    migrate("verify-full", &stranger, &right).refused(&["ledger.tls_ca_file", place]);
    migrate("disable", "", &right).refused(&["ledger.tls", place]);
    migrate("verify-full", "/nowhere/ca.pem", &right).refused(&["/nowhere/ca.pem", "ledger.tls_ca_file"]);
    services.remove().await.unwrap();
}
