//! Desks and the accounts they answer for. What is decided stands in [`crate::saga::ownership`]; here it is read and put
//! down.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::SqliteLedger;
use super::rows::{Fault, damaged, in_savepoint, number, parsed, unavailable};
use crate::clock::{from_millis, to_millis};
use crate::contract::{Account, DesktopGreeted, DesktopHello, DesktopId, InstanceId, JournalId, MessagesDetected};
use crate::saga::ownership::{self, Claimant, Owner, Tenant};
use crate::saga::{Desk, Each, LedgerError, OwnedAccount};

pub(super) async fn greet(ledger: &SqliteLedger, hellos: &[DesktopHello], hold: Duration) -> Each<DesktopGreeted> {
    let now = ledger.now();
    let mut tx = ledger.begin().await.map_err(|error| unavailable(&error))?;
    let mut answers = Vec::with_capacity(hellos.len());
    for hello in hellos {
        answers.push(in_savepoint!(tx, greet_one(&mut tx, hello, now, hold)));
    }
    tx.commit().await.map_err(|error| unavailable(&error))?;
    Ok(answers)
}

async fn greet_one(
    tx: &mut SqliteConnection,
    hello: &DesktopHello,
    now: i64,
    hold: Duration,
) -> Result<DesktopGreeted, Fault> {
    let at = from_millis(now);
    let row = sqlx::query("select * from desks where journal = ?")
        .bind(hello.journal.to_string())
        .fetch_optional(&mut *tx)
        .await?;
    let known = row.as_ref().map(tenant_of).transpose()?;
    let tenant = Tenant::after(known.as_ref(), hello, at, hold);
    save_tenant(tx, &tenant, hello, now).await?;
    let mut told = Vec::new();
    for account in ownership::accounts(hello) {
        let before = owner(tx, &account).await?;
        let after = ownership::greet(before.as_ref(), hello, &tenant, at, hold);
        if let Some(after) = after.as_ref().filter(|after| before.as_ref() != Some(*after)) {
            save_owner(tx, &account, after).await?;
        }
        told.push(ownership::tell(&account, after.as_ref(), hello, at));
    }
    Ok(ownership::answer(hello, &tenant, told, at, hold))
}

async fn save_tenant(tx: &mut SqliteConnection, tenant: &Tenant, hello: &DesktopHello, now: i64) -> Result<(), Fault> {
    sqlx::query(
        "insert into desks (journal, desktop, instance, started_at, said_at, version, host, interval_ms, first_seen,
                            last_seen, stopped, other, other_said_at, cloned_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         on conflict (journal) do update set desktop = ?2, instance = ?3, started_at = ?4, said_at = ?5, version = ?6,
             host = ?7, interval_ms = ?8, last_seen = ?10, stopped = ?11, other = ?12, other_said_at = ?13,
             cloned_at = ?14",
    )
    .bind(hello.journal.to_string())
    .bind(tenant.desktop.as_str())
    .bind(tenant.instance.to_string())
    .bind(to_millis(tenant.started_at))
    .bind(to_millis(tenant.said_at))
    .bind(&hello.version)
    .bind(&hello.host)
    .bind(i64::try_from(hello.interval_ms).unwrap_or(i64::MAX))
    .bind(now)
    .bind(to_millis(tenant.last_seen))
    .bind(tenant.left)
    .bind(tenant.other.map(|(other, _)| other.to_string()))
    .bind(tenant.other.map(|(_, said_at)| to_millis(said_at)))
    .bind(tenant.cloned_at.map(to_millis))
    .execute(tx)
    .await?;
    Ok(())
}

/// Who answers for this account.
async fn owner(tx: &mut SqliteConnection, account: &Account) -> Result<Option<Owner>, Fault> {
    let row = sqlx::query("select * from owners where application = ? and network = ? and account = ?")
        .bind(&account.application)
        .bind(&account.network)
        .bind(&account.account)
        .fetch_optional(tx)
        .await?;
    Ok(row.as_ref().map(owner_of).transpose()?)
}

async fn save_owner(tx: &mut SqliteConnection, account: &Account, owner: &Owner) -> Result<(), Fault> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query(
        "insert into owners (application, network, account, desktop, journal, instance, token, since, until,
                             former_until, seat)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         on conflict (application, network, account) do update set desktop = ?4, journal = ?5, instance = ?6,
             token = ?7, since = ?8, until = ?9, former_until = ?10, seat = ?11",
    )
    .bind(&account.application)
    .bind(&account.network)
    .bind(&account.account)
    .bind(owner.desktop.as_str())
    .bind(owner.journal.to_string())
    .bind(owner.instance.map(|instance| instance.to_string()))
    .bind(signed(owner.token))
    .bind(signed(owner.since))
    .bind(to_millis(owner.until))
    .bind(to_millis(owner.former_until))
    .bind(&owner.seat)
    .execute(tx)
    .await?;
    Ok(())
}

/// The owner of a turn's account after the turn was heard: a desk that says no hello gets, or keeps, what nobody holds.
pub(super) async fn claim(
    tx: &mut SqliteConnection,
    turn: &MessagesDetected,
    now: i64,
    hold: Duration,
) -> Result<Owner, Fault> {
    let account = Account::of(&turn.conversation);
    let before = owner(tx, &account).await?;
    let after = ownership::claim(before.as_ref(), &Claimant::of(turn), from_millis(now), hold);
    if before.as_ref() != Some(&after) {
        save_owner(tx, &account, &after).await?;
    }
    Ok(after)
}

pub(super) async fn desks(ledger: &SqliteLedger, hold: Duration) -> Result<Vec<Desk>, LedgerError> {
    let now = ledger.now();
    let failed = |error: sqlx::Error| unavailable(&error);
    let rows = sqlx::query("select * from desks").fetch_all(&ledger.readers).await.map_err(failed)?;
    let mut desks = BTreeMap::new();
    for row in &rows {
        let desk = desk_of(row, now, hold)?;
        desks.insert(desk.journal, desk);
    }
    let rows = sqlx::query("select * from owners order by application, network, account")
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed)?;
    for row in &rows {
        let owner = owner_of(row)?;
        let desk = desks.entry(owner.journal).or_insert_with(|| Desk::silent(owner.desktop.clone(), owner.journal));
        let text = |column: &str| row.try_get::<String, _>(column).map_err(failed);
        let account =
            Account { application: text("application")?, network: text("network")?, account: text("account")? };
        desk.accounts.push(OwnedAccount { account, token: owner.token, lapsed: to_millis(owner.until) <= now });
    }
    let mut desks: Vec<Desk> = desks.into_values().collect();
    desks.sort_by(|one, two| one.desktop.cmp(&two.desktop));
    Ok(desks)
}

fn desk_of(row: &SqliteRow, now: i64, hold: Duration) -> Result<Desk, LedgerError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(|error| unavailable(&error));
    let tenant = tenant_of(row)?;
    let first: i64 = row.try_get("first_seen").map_err(|error| unavailable(&error))?;
    Ok(Desk {
        cloned: tenant.is_cloned(from_millis(now), hold),
        desktop: tenant.desktop,
        journal: parsed(row, "journal")?,
        version: text("version")?,
        host: text("host")?,
        first_seen: Some(from_millis(first)),
        last_seen: Some(tenant.last_seen),
        silent_for: crate::clock::elapsed(tenant.last_seen, from_millis(now)),
        interval: Duration::from_millis(number(row, "interval_ms")?),
        stopped: tenant.left,
        accounts: Vec::new(),
    })
}

fn tenant_of(row: &SqliteRow) -> Result<Tenant, LedgerError> {
    let failed = |error: sqlx::Error| unavailable(&error);
    let time = |column: &str| row.try_get::<i64, _>(column).map(from_millis).map_err(failed);
    let other: Option<String> = row.try_get("other").map_err(failed)?;
    let other = other.map(|text| text.parse::<InstanceId>()).transpose().map_err(|_| damaged("an instance"))?;
    let said: Option<i64> = row.try_get("other_said_at").map_err(failed)?;
    let cloned: Option<i64> = row.try_get("cloned_at").map_err(failed)?;
    Ok(Tenant {
        desktop: desktop_of(row)?,
        instance: parsed(row, "instance")?,
        started_at: time("started_at")?,
        said_at: time("said_at")?,
        last_seen: time("last_seen")?,
        left: row.try_get("stopped").map_err(failed)?,
        other: other.zip(said.map(from_millis)),
        cloned_at: cloned.map(from_millis),
    })
}

fn owner_of(row: &SqliteRow) -> Result<Owner, LedgerError> {
    let failed = |error: sqlx::Error| unavailable(&error);
    let time = |column: &str| row.try_get::<i64, _>(column).map(from_millis).map_err(failed);
    let instance: Option<String> = row.try_get("instance").map_err(failed)?;
    Ok(Owner {
        desktop: desktop_of(row)?,
        journal: parsed::<JournalId>(row, "journal")?,
        instance: instance.map(|text| text.parse()).transpose().map_err(|_| damaged("an instance"))?,
        seat: row.try_get("seat").map_err(failed)?,
        token: number(row, "token")?,
        since: number(row, "since")?,
        until: time("until")?,
        former_until: time("former_until")?,
    })
}

fn desktop_of(row: &SqliteRow) -> Result<DesktopId, LedgerError> {
    let text: String = row.try_get("desktop").map_err(|error| unavailable(&error))?;
    DesktopId::try_from(text).map_err(|_| damaged("desktop"))
}
