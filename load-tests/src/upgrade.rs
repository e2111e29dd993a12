//! An upgrade while people write: a worker of the previous version with its own tables, the tables brought to this
//! version under it, a worker of this version beside it, and in the end that one alone. Nobody may notice.
//!
//! ```text
//! previous worker  ├──────── migrate ───────────── killed ─ started again ──── stopped
//! this worker                          ├──────────────────────────────────────────────────┤
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use autoreply::error::Problem;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::time::sleep;

use crate::chaos::run::{Faults, judged, rest, wait_for_first_look, write_plan};
use crate::chaos::{Cluster, Programs, Scale};
use crate::checker::{Allowed, Verdict};
use crate::services::Services;

/// The worker of the previous version, and the one of this version.
const OLD: usize = 0;
const NEW: usize = 1;
/// What happens when, as parts of the time in which messages are written.
const MIGRATE: f64 = 0.2;
const JOIN: f64 = 0.3;
const KILL: f64 = 0.5;
const AGAIN: f64 = 0.55;
const LEAVE: f64 = 0.8;
/// Each of two workers does at least this part of what both do.
const SHARE: f64 = 0.1;

/// A steady load that models answer at once.
pub fn scale(seconds: u64) -> Scale {
    Scale {
        messages: u32::try_from(seconds.saturating_mul(7)).unwrap_or(u32::MAX),
        conversations: 40,
        desks: 4,
        desk_processes: 2,
        seconds,
        failing_calls: 0.0,
        // A busy machine must not let replies grow too old: this run is about versions.
        command_ttl_seconds: 60,
        rest_seconds: 180,
        ..Scale::short()
    }
}

/// Replies by the version of the worker that issued them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replies {
    /// Of the previous version.
    pub previous: i64,
    /// Of this version.
    pub this: i64,
}

/// What an upgrade came to.
#[derive(Debug, Clone)]
pub struct Upgraded {
    /// What the new version said when it migrated.
    pub migrated: String,
    /// Replies until the new worker was started, while both ran, and after the old one was asked to stop.
    pub replies: [Replies; 3],
    /// Processes that ended by themselves.
    pub fallen: Vec<String>,
    /// Everything came to rest in time.
    pub rested: bool,
    /// The checker's word.
    pub verdict: Verdict,
}

impl Upgraded {
    /// What is wrong, as sentences; nothing if nobody noticed.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut unless = |good: bool, what: String| {
            if !good {
                faults.push(what);
            }
        };
        unless(self.verdict.clean, "the checker finds fault".to_owned());
        unless(self.rested, "it did not come to rest".to_owned());
        unless(self.fallen.is_empty(), format!("ended by themselves: {}", self.fallen.join(", ")));
        let counts = &self.verdict.counts;
        unless(
            counts.answered == counts.planned && counts.planned > 0,
            format!("{} of {} messages were answered", counts.answered, counts.planned),
        );
        let [before, both, after] = &self.replies;
        unless(before.previous > 0 && before.this == 0, format!("before: {before}"));
        let least = (both.previous + both.this) as f64 * SHARE;
        let shared = both.previous.min(both.this) as f64;
        unless(shared > 0.0 && shared >= least, format!("one of two workers did next to nothing: {both}"));
        unless(after.this > 0, format!("after: {after}"));
        faults
    }
}

impl fmt::Display for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} by the previous version, {:>5} by this one", self.previous, self.this)
    }
}

impl fmt::Display for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        writeln!(f, "migrate said: {}", self.migrated)?;
        for (when, replies) in ["before", "side by side", "after"].into_iter().zip(&self.replies) {
            writeln!(f, "replies {when:<13} {replies}")?;
        }
        let faults = self.faults();
        f.write_str(&if faults.is_empty() { "nobody noticed".to_owned() } else { faults.join("\n") })
    }
}

/// Upgrades from the program `previous` in `directory`, which must be empty, over `services` of its own.
///
/// # Errors
/// Something of the run itself does not work; what the versions do wrong with each other is in what is returned.
pub async fn run(
    directory: &Path,
    scale: &Scale,
    services: &Services,
    previous: PathBuf,
    tell: &dyn Fn(&str),
) -> Result<Upgraded, Problem> {
    let programs = Programs::beside_this()?.with_previous(previous);
    let mut cluster = Cluster::prepare_with(programs, directory, scale, services.addresses()).await?;
    cluster.start_worker(OLD, None)?;
    for number in 0..scale.desk_processes {
        cluster.start_desks(number, None)?;
    }
    wait_for_first_look(&mut cluster).await?;
    write_plan(directory, scale)?;
    let lasts = Duration::from_secs(scale.seconds);
    let faults = Faults::create(directory)?;
    let mut upgrade =
        Upgrade { cluster, faults, begun: Instant::now(), lasts, tell, fallen: Vec::new(), pids: Pids::default() };
    upgrade.pids.note(&upgrade.cluster);
    let (migrated, joined, left) = upgrade.replace().await?;
    let Upgrade { mut cluster, faults, fallen, pids, .. } = upgrade;

    let rested = rest(directory, &mut cluster, &faults, Duration::from_secs(scale.rest_seconds)).await?;
    cluster.dump_metrics().await;
    cluster.end_all();
    let replies = pids.replies(cluster.ledger(), joined, left).await?;
    let verdict = judged(directory, &cluster, &Allowed { grace_ms: 5_000, ..Allowed::default() }).await?;
    Ok(Upgraded { migrated, replies, fallen, rested, verdict })
}

/// An upgrade that goes on.
struct Upgrade<'a> {
    cluster: Cluster,
    faults: Faults,
    begun: Instant,
    lasts: Duration,
    tell: &'a dyn Fn(&str),
    fallen: Vec<String>,
    pids: Pids,
}

impl Upgrade<'_> {
    /// Puts this version in the place of the previous one. Returns what migrating said, and when on the ledger's clock
    /// the new worker came and the old one was asked to stop.
    async fn replace(&mut self) -> Result<(String, i64, i64), Problem> {
        self.until(MIGRATE).await?;
        let migrated = self.cluster.migrate(NEW).await?;
        self.step("migrate")?;
        self.until(JOIN).await?;
        let joined = now(self.cluster.ledger()).await?;
        self.cluster.start_worker(NEW, None)?;
        self.step("start this version")?;
        self.until(KILL).await?;
        self.cluster.kill_worker(OLD);
        self.step("kill the previous version")?;
        self.until(AGAIN).await?;
        self.cluster.start_worker(OLD, None)?;
        self.step("start the previous version again")?;
        self.until(LEAVE).await?;
        let left = now(self.cluster.ledger()).await?;
        self.cluster.end_worker(OLD);
        self.step("stop the previous version")?;
        self.until(1.0).await?;
        Ok((migrated, joined, left))
    }

    /// Waits until this part of the time has passed; starts again what ended by itself, and remembers it.
    async fn until(&mut self, part: f64) -> Result<(), Problem> {
        while self.begun.elapsed() < self.lasts.mul_f64(part) {
            sleep(Duration::from_millis(200)).await;
            self.fallen.extend(self.cluster.restart_fallen()?);
            self.pids.note(&self.cluster);
        }
        Ok(())
    }

    /// Tells what was just done.
    fn step(&self, what: &str) -> Result<(), Problem> {
        (self.tell)(what);
        self.faults.tell(what)
    }
}

/// The processes of each version's workers. A worker's name in the ledger ends with its process, in every version; what
/// stands before it does not stay the same.
#[derive(Default)]
struct Pids {
    old: Vec<String>,
    new: Vec<String>,
}

impl Pids {
    fn note(&mut self, cluster: &Cluster) {
        for (pids, worker) in [(&mut self.old, OLD), (&mut self.new, NEW)] {
            if let Some(pid) = cluster.worker_pid(worker).filter(|pid| !pids.contains(pid)) {
                pids.push(pid);
            }
        }
    }

    /// Replies issued before `joined`, then before `left`, then after it; times on the ledger's clock.
    async fn replies(&self, ledger: &str, joined: i64, left: i64) -> Result<[Replies; 3], Problem> {
        let issued = "select who, width_bucket(at, array[$1, $2]::bigint[]), count(*) from events \
                      where state_to = 'issued' group by 1, 2";
        let read = async {
            let mut connection = PgConnection::connect(ledger).await?;
            sqlx::query_as(issued).bind(joined).bind(left).fetch_all(&mut connection).await
        };
        let rows: Vec<(String, i32, i64)> = read.await.map_err(unread)?;
        let mut counted: BTreeMap<i32, Replies> = BTreeMap::new();
        for (who, when, count) in rows {
            let replies = counted.entry(when).or_default();
            let is_of = |pids: &[String]| pids.iter().any(|pid| who.rsplit('-').next() == Some(pid));
            if is_of(&self.old) {
                replies.previous += count;
            } else if is_of(&self.new) {
                replies.this += count;
            }
        }
        Ok([0, 1, 2].map(|when| counted.get(&when).copied().unwrap_or_default()))
    }
}

async fn now(ledger: &str) -> Result<i64, Problem> {
    let read = async {
        let mut connection = PgConnection::connect(ledger).await?;
        sqlx::query_scalar("select ledger_now()").fetch_one(&mut connection).await
    };
    read.await.map_err(unread)
}

fn unread(error: sqlx::Error) -> Problem {
    Problem::new(format!("the ledger cannot be read ({error})"), "Postgres", "See its log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::verdict::Counts;

    fn good() -> Upgraded {
        let counts = Counts { planned: 12, answered: 12, ..Counts::default() };
        Upgraded {
            migrated: "Made: 2 owners.".to_owned(),
            replies: [
                Replies { previous: 3, this: 0 },
                Replies { previous: 2, this: 2 },
                Replies { previous: 0, this: 3 },
            ],
            fallen: Vec::new(),
            rested: true,
            verdict: Verdict { clean: true, counts, findings: Vec::new() },
        }
    }

    #[test]
    fn each_thing_that_somebody_would_notice_is_a_fault() {
        assert_eq!(good().faults(), Vec::<String>::new());
        let spoil: [fn(&mut Upgraded); 7] = [
            |run| run.verdict.clean = false,
            |run| run.rested = false,
            |run| run.fallen.push("worker-0".to_owned()),
            |run| run.verdict.counts.answered = 11,
            |run| run.replies[0].previous = 0,
            |run| run.replies[1] = Replies { previous: 100, this: 9 },
            |run| run.replies[2].this = 0,
        ];
        for (number, change) in spoil.into_iter().enumerate() {
            let mut bad = good();
            change(&mut bad);
            assert_eq!(bad.faults().len(), 1, "{number}: {bad}");
        }
    }
}
