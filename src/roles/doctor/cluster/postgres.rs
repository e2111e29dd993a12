//! The ledger's server: reached, of the right schema, in step with this machine's clock, with room for every worker.

use jiff::Timestamp;

use super::super::Finding;
use super::judge_skew;
use crate::clock::{Clock as _, SystemClock, from_millis, to_millis};
use crate::ledger::{PostgresLedger, PostgresServer, Settings};
use crate::roles::status::ledger::Page;
use crate::roles::{Context, worker};

const CHECK: &str = "ledger";

pub(super) async fn examine(context: &Context, page: Option<&Page>) -> Vec<Finding> {
    let Ok(settings) = context.layers.section::<Settings>("ledger") else { return Vec::new() };
    // What does not fit was told with the settings.
    if settings.check().is_err() {
        return Vec::new();
    }
    if !settings.is_postgres() {
        let what = "it is a SQLite file, which only one machine can use";
        return vec![Finding::note(CHECK, what, "For a cluster set ledger.url to a PostgreSQL database")];
    }
    let workers = page.map_or(0, |page| page.workers.iter().filter(|worker| worker.is_fresh()).count() as u64);
    match ask(context, &settings).await {
        Ok((server, asked, answered)) => judge(&server, &settings, workers, middle(asked, answered)),
        Err(problem) => vec![Finding::of(CHECK, problem)],
    }
}

/// What the server says, and when it was asked and had answered by this machine's clock.
async fn ask(
    context: &Context,
    settings: &Settings,
) -> Result<(PostgresServer, Timestamp, Timestamp), crate::error::Problem> {
    let password = worker::ledger_password(context, settings)?;
    let failed = |error| worker::ledger_problem(error, &settings.url);
    let few = Settings { pool_max: 2, ..settings.clone() };
    let ledger = PostgresLedger::open(&few, password.as_ref()).await.map_err(failed)?;
    let asked = SystemClock.now();
    let answer = ledger.examine().await;
    let answered = SystemClock.now();
    crate::saga::Ledger::close(&ledger).await;
    Ok((answer.map_err(failed)?, asked, answered))
}

fn middle(one: Timestamp, two: Timestamp) -> Timestamp {
    from_millis((to_millis(one) + to_millis(two)) / 2)
}

fn judge(server: &PostgresServer, settings: &Settings, workers: u64, here: Timestamp) -> Vec<Finding> {
    let (url, mib) = (&settings.url, server.bytes >> 20);
    let what = format!("{url} answers: PostgreSQL {}, schema {}, {mib} MiB", server.version, server.schema);
    let mut findings = vec![Finding::ok(CHECK, what)];
    if server.standby {
        let what = "the server is a standby: nothing can be written to it";
        findings.push(Finding::problem(CHECK, what, "Name the primary in ledger.url, or promote this one"));
    }
    let ahead = (to_millis(server.now) - to_millis(here)) as f64 / 1000.0;
    findings.push(judge_skew("ledger clock", "the ledger's", ahead));
    findings.push(judge_room(server, u64::from(settings.pool_max), workers));
    findings
}

/// Whether the server has connections for every worker's pool when it is full.
fn judge_room(server: &PostgresServer, pool: u64, workers: u64) -> Finding {
    const CHECK: &str = "ledger pool";
    let (most, used, wanted) = (server.connections_max, server.connections, pool * workers.max(1));
    let what =
        format!("{used} of {most} connections are in use; full pools of {} workers want {wanted}", workers.max(1));
    let remedy = "Raise max_connections, lower ledger.pool_max, or put a pooler in session mode before it";
    if used >= most {
        Finding::problem(CHECK, what, remedy)
    } else if wanted > most {
        Finding::note(CHECK, what, remedy)
    } else {
        Finding::ok(CHECK, what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::State;
    use super::*;

    #[test]
    fn a_server_that_is_late_full_or_a_standby_is_told() {
        let file: toml::Table = include_str!("../../../../config.default.toml").parse().unwrap();
        let settings: Settings = file["ledger"].clone().try_into().unwrap();
        let server = PostgresServer {
            version: "15.4".to_owned(),
            schema: 3,
            now: from_millis(1_000_000),
            connections_max: 97,
            connections: 12,
            standby: false,
            bytes: 9 << 20,
        };
        let judged = |server: &PostgresServer, workers, here| {
            let found = judge(server, &settings, workers, from_millis(here));
            found.into_iter().map(|finding| finding.state).collect::<Vec<_>>()
        };
        assert_eq!(judged(&server, 2, 1_000_100), [State::Ok, State::Ok, State::Ok]);
        assert_eq!(judged(&server, 2, 1_004_000)[1], State::Note);
        assert_eq!(judged(&server, 2, 988_000)[1], State::Problem);
        assert_eq!(judged(&server, 500, 1_000_000)[2], State::Note);
        let full = PostgresServer { connections: 97, standby: true, ..server };
        assert_eq!(judged(&full, 2, 1_000_000), [State::Ok, State::Problem, State::Ok, State::Problem]);
    }
}
