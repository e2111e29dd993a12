//! How a group is written: as one transaction, in waves; tried again where that can help; and cut in halves until a bad
//! row stands alone.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};

use super::PostgresLedger;
use super::book::Today;
use super::rows::{DAY_MS, Fault};
use crate::contract::TurnId;
use crate::retry::{Schedule, retry};
use crate::saga::{Each, LedgerError, Rejected};

/// Deadlocks, races and dead connections pass quickly; what does not is for the caller to wait for.
pub(super) const SOON: Schedule = Schedule {
    initial: Duration::from_millis(5),
    max: Duration::from_millis(200),
    give_up_after: Some(Duration::from_secs(2)),
};

/// One kind of group.
#[async_trait]
pub(super) trait Work: Send + Sync {
    /// What is asked for.
    type Item: Send + Sync;
    /// What it comes to.
    type Answer: Send;

    /// The statement that begins the transaction, with the locks that come before those of rows.
    fn begin(&self) -> &'static str {
        "begin"
    }

    /// The saga that the item is about.
    fn turn(&self, item: &Self::Item) -> TurnId;

    /// Writes items of which no two are about the same saga. `again` says that an earlier try may have been committed.
    async fn wave(&self, tx: &mut PgConnection, items: &[&Self::Item], again: bool) -> Wave<Self::Answer>;
}

/// The answers of a wave.
pub(super) type Wave<T> = Result<Vec<Result<T, Rejected>>, Fault>;

/// Places of items in waves: the first about each saga, then the second, and so on. A wave's sagas are among those of
/// the wave before, so that no later wave takes a lock that an earlier one did not.
fn waves<K: Hash + Eq>(keys: impl Iterator<Item = K>) -> Vec<Vec<usize>> {
    let (mut seen, mut waves) = (HashMap::<K, usize>::new(), Vec::<Vec<usize>>::new());
    for (place, key) in keys.enumerate() {
        let wave = seen.entry(key).or_default();
        if *wave == waves.len() {
            waves.push(Vec::new());
        }
        waves[*wave].push(place);
        *wave += 1;
    }
    waves
}

/// Writes a group and answers for each of its items.
pub(super) async fn write<W: Work>(ledger: &PostgresLedger, work: &W, items: &[W::Item]) -> Each<W::Answer> {
    let mut answers = Vec::with_capacity(items.len());
    // The parts that are still to be written, the next one last.
    let mut parts = vec![items];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        match write_part(ledger, work, part).await {
            Ok(each) => answers.extend(each),
            Err(Fault::Bad(why)) if part.len() == 1 => answers.push(Err(why)),
            Err(Fault::Bad(_)) => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(answers)
}

async fn write_part<W: Work>(ledger: &PostgresLedger, work: &W, part: &[W::Item]) -> Wave<W::Answer> {
    let tries = AtomicU32::new(0);
    let once = || ledger.in_time(transaction(ledger, work, part, tries.fetch_add(1, Ordering::Relaxed) > 0));
    retry(SOON, once).await
}

/// One try, in one transaction.
pub(super) async fn transaction<W: Work>(
    ledger: &PostgresLedger,
    work: &W,
    part: &[W::Item],
    again: bool,
) -> Wave<W::Answer> {
    let mut loan = ledger.lend().await?;
    let mut tx = loan.begin_with(work.begin()).await?;
    let mut answers: Vec<Option<Result<W::Answer, Rejected>>> = part.iter().map(|_| None).collect();
    for wave in waves(part.iter().map(|item| work.turn(item))) {
        let items: Vec<&W::Item> = wave.iter().map(|place| &part[*place]).collect();
        for (place, answer) in wave.into_iter().zip(work.wave(&mut tx, &items, again).await?) {
            answers[place] = Some(answer);
        }
    }
    tx.commit().await?;
    loan.whole();
    let missing = || Fault::Ledger(LedgerError::Unavailable("a wave was not answered whole".to_owned()));
    answers.into_iter().map(|answer| answer.ok_or_else(missing)).collect()
}

/// Locks the day's quota until the end of the transaction: the last lock that a group takes, and one a group.
pub(super) async fn hold_today(tx: &mut PgConnection, now: i64, limit: i64) -> Result<Today, Fault> {
    let day = now.div_euclid(DAY_MS);
    let ask = || sqlx::query_scalar("select taken from quota_days where day = $1 for update").bind(day);
    if let Some(taken) = ask().fetch_optional(&mut *tx).await? {
        return Ok(Today { taken, limit });
    }
    sqlx::query("insert into quota_days (day, taken) values ($1, 0) on conflict do nothing")
        .bind(day)
        .execute(&mut *tx)
        .await?;
    let taken = ask().fetch_optional(tx).await?;
    // Gone again only if retention removed it, which it does to days long past.
    taken.map(|taken| Today { taken, limit }).ok_or_else(|| Fault::Again("the day's quota was removed".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::waves;

    proptest! {
        #[test]
        fn waves_hold_every_item_once_and_in_its_sagas_order(keys in proptest::collection::vec(0u8..6, 0..40)) {
            let waves = waves(keys.iter());
            let mut all: Vec<usize> = waves.iter().flatten().copied().collect();
            for key in 0..6u8 {
                let of_key: Vec<usize> = all.iter().copied().filter(|place| keys[*place] == key).collect();
                prop_assert!(of_key.is_sorted());
            }
            for (earlier, later) in waves.iter().zip(waves.iter().skip(1)) {
                let held: Vec<u8> = earlier.iter().map(|place| keys[*place]).collect();
                prop_assert!(later.iter().all(|place| held.contains(&keys[*place])));
            }
            for wave in &waves {
                let mut distinct: Vec<u8> = wave.iter().map(|place| keys[*place]).collect();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), wave.len());
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..keys.len()).collect::<Vec<_>>());
        }
    }
}
