//! Desks and the accounts they answer for. What is decided stands in [`crate::saga::ownership`]; here its rows are
//! locked in the order of their keys, read, and put down.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::PostgresLedger;
use super::group::SOON;
use super::rows::{Fault, damaged, get, number};
use crate::clock::{from_millis, to_millis};
use crate::contract::{Account, DesktopGreeted, DesktopHello, DesktopId, InstanceId, JournalId, MessagesDetected};
use crate::retry::retry;
use crate::saga::ownership::{self, Claimant, Owner, Tenant};
use crate::saga::{Desk, Each, LedgerError, OwnedAccount, Rejected};

/// Accounts with their owners.
pub(super) type Owners = BTreeMap<Account, Owner>;

pub(super) const OWNERS: &str = "
    select o.* from owners o join unnest($1::text[], $2::text[], $3::text[]) as w (application, network, account)
        using (application, network, account)";

const OWNERS_LOCKED: &str = "
    select o.* from owners o join unnest($1::text[], $2::text[], $3::text[]) as w (application, network, account)
        using (application, network, account)
    order by o.application, o.network, o.account for update of o";

pub(super) async fn greet(ledger: &PostgresLedger, hellos: &[DesktopHello], hold: Duration) -> Each<DesktopGreeted> {
    if hellos.is_empty() {
        return Ok(Vec::new());
    }
    // A name with a NUL character is the only thing that the database would refuse; the others are heard.
    let fits = |hello: &DesktopHello| {
        let names =
            hello.accounts.iter().flat_map(|account| [&account.application, &account.network, &account.account]);
        !names.chain([&hello.version, &hello.host, &hello.seat]).any(|name| name.contains('\0'))
    };
    let good: Vec<&DesktopHello> = hellos.iter().filter(|hello| fits(hello)).collect();
    let mut answers = retry(SOON, || ledger.in_time(greet_once(ledger, &good, hold))).await?.into_iter();
    let refused = || Rejected("a name holds a NUL character, which the database cannot keep".to_owned());
    Ok(hellos
        .iter()
        .map(|hello| if fits(hello) { answers.next().ok_or_else(refused) } else { Err(refused()) })
        .collect())
}

async fn greet_once(
    ledger: &PostgresLedger,
    hellos: &[&DesktopHello],
    hold: Duration,
) -> Result<Vec<DesktopGreeted>, Fault> {
    let mut loan = ledger.lend().await?;
    let mut tx = loan.begin().await?;
    let mut tenants = tenants(&mut tx, hellos).await?;
    let accounts: Vec<Account> = hellos.iter().flat_map(|hello| ownership::accounts(hello)).collect();
    let before = owners(&mut tx, OWNERS_LOCKED, &accounts).await?;
    // Read after the locks, so that whoever waited for them decides by the time at which they were given.
    let now: i64 = sqlx::query_scalar("select ledger_now()").fetch_one(&mut *tx).await?;
    let (at, mut after) = (from_millis(now), before.clone());
    let mut answers = Vec::with_capacity(hellos.len());
    let mut heard = BTreeMap::new();
    for hello in hellos {
        let tenant = Tenant::after(tenants.get(&hello.journal), hello, at, hold);
        let mut told = Vec::new();
        for account in ownership::accounts(hello) {
            if let Some(owner) = ownership::greet(after.get(&account), hello, &tenant, at, hold) {
                after.insert(account.clone(), owner);
            }
            told.push(ownership::tell(&account, after.get(&account), hello, at));
        }
        answers.push(ownership::answer(hello, &tenant, told, at, hold));
        heard.insert(hello.journal, *hello);
        tenants.insert(hello.journal, tenant);
    }
    save_tenants(&mut tx, &tenants, &heard, now).await?;
    save_owners(&mut tx, &before, &after).await?;
    tx.commit().await?;
    loan.whole();
    Ok(answers)
}

/// Locks and reads what is known of these desks.
async fn tenants(tx: &mut PgConnection, hellos: &[&DesktopHello]) -> Result<BTreeMap<JournalId, Tenant>, Fault> {
    let journals: Vec<Uuid> = hellos.iter().map(|hello| hello.journal.0).collect();
    let rows = sqlx::query("select * from desks where journal = any($1) order by journal for update")
        .bind(journals)
        .fetch_all(tx)
        .await?;
    let mut tenants = BTreeMap::new();
    for row in &rows {
        tenants.insert(JournalId(get(row, "journal")?), tenant_of(row)?);
    }
    Ok(tenants)
}

async fn save_tenants(
    tx: &mut PgConnection,
    tenants: &BTreeMap<JournalId, Tenant>,
    heard: &BTreeMap<JournalId, &DesktopHello>,
    now: i64,
) -> Result<(), Fault> {
    let mut query = QueryBuilder::<Postgres>::new(
        "insert into desks (journal, desktop, instance, started_at, said_at, version, host, interval_ms, first_seen,
                            last_seen, stopped, other, other_said_at, cloned_at) ",
    );
    query.push_values(
        heard.iter().filter_map(|(journal, hello)| Some((tenants.get(journal)?, *hello))),
        |mut row, of| {
            let (tenant, hello) = of;
            row.push_bind(hello.journal.0)
                .push_bind(tenant.desktop.as_str())
                .push_bind(tenant.instance.0)
                .push_bind(to_millis(tenant.started_at))
                .push_bind(to_millis(tenant.said_at))
                .push_bind(&hello.version)
                .push_bind(&hello.host)
                .push_bind(i64::try_from(hello.interval_ms).unwrap_or(i64::MAX))
                .push_bind(now)
                .push_bind(to_millis(tenant.last_seen))
                .push_bind(tenant.left)
                .push_bind(tenant.other.map(|(other, _)| other.0))
                .push_bind(tenant.other.map(|(_, said_at)| to_millis(said_at)))
                .push_bind(tenant.cloned_at.map(to_millis));
        },
    );
    query.push(
        " on conflict (journal) do update set desktop = excluded.desktop, instance = excluded.instance,
              started_at = excluded.started_at, said_at = excluded.said_at, version = excluded.version,
              host = excluded.host, interval_ms = excluded.interval_ms, last_seen = excluded.last_seen,
              stopped = excluded.stopped, other = excluded.other, other_said_at = excluded.other_said_at,
              cloned_at = excluded.cloned_at",
    );
    query.build().execute(tx).await?;
    Ok(())
}

/// The owners of these accounts, by one of the statements above.
async fn owners(tx: &mut PgConnection, statement: &'static str, accounts: &[Account]) -> Result<Owners, Fault> {
    if accounts.is_empty() {
        return Ok(Owners::new());
    }
    let mut accounts = accounts.to_vec();
    accounts.sort();
    accounts.dedup();
    let column = |of: fn(&Account) -> &String| accounts.iter().map(|account| of(account).clone()).collect::<Vec<_>>();
    let rows = sqlx::query(statement)
        .bind(column(|account| &account.application))
        .bind(column(|account| &account.network))
        .bind(column(|account| &account.account))
        .fetch_all(tx)
        .await?;
    let mut owners = Owners::new();
    for row in &rows {
        owners.insert(account_of(row)?, owner_of(row)?);
    }
    Ok(owners)
}

/// Writes the owners that are others than before. An account that was nobody's may have been taken meanwhile: then the
/// key is there, and the whole group is tried again.
async fn save_owners(tx: &mut PgConnection, before: &Owners, after: &Owners) -> Result<(), Fault> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    for (account, owner) in after {
        let statement = match before.get(account) {
            Some(known) if known == owner => continue,
            Some(_) => {
                "update owners set desktop = $4, journal = $5, instance = $6, token = $7, since = $8, until = $9,
                     former_until = $10, seat = $11 where application = $1 and network = $2 and account = $3"
            }
            None => {
                "insert into owners (application, network, account, desktop, journal, instance, token, since, until,
                     former_until, seat) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
            }
        };
        sqlx::query(statement)
            .bind(&account.application)
            .bind(&account.network)
            .bind(&account.account)
            .bind(owner.desktop.as_str())
            .bind(owner.journal.0)
            .bind(owner.instance.map(|instance| instance.0))
            .bind(signed(owner.token))
            .bind(signed(owner.since))
            .bind(to_millis(owner.until))
            .bind(to_millis(owner.former_until))
            .bind(&owner.seat)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Who answers for the accounts of turns, after these were heard in their order. Where nothing changes, which is so for
/// every desk that says hello, nothing is locked.
pub(super) async fn claim(
    tx: &mut PgConnection,
    turns: &[&MessagesDetected],
    now: i64,
    hold: Duration,
) -> Result<Owners, Fault> {
    let accounts: Vec<Account> = turns.iter().map(|turn| Account::of(&turn.conversation)).collect();
    let before = owners(tx, OWNERS, &accounts).await?;
    let after = heard(before.clone(), turns, now, hold);
    if before == after {
        return Ok(after);
    }
    let changed: Vec<Account> =
        after.iter().filter(|(account, owner)| before.get(account) != Some(owner)).map(|(a, _)| a.clone()).collect();
    let locked = owners(tx, OWNERS_LOCKED, &changed).await?;
    let theirs: Vec<&MessagesDetected> =
        turns.iter().copied().filter(|turn| changed.contains(&Account::of(&turn.conversation))).collect();
    let granted = heard(locked.clone(), &theirs, now, hold);
    save_owners(tx, &locked, &granted).await?;
    Ok(Owners::from_iter(after.into_iter().chain(granted)))
}

fn heard(mut owners: Owners, turns: &[&MessagesDetected], now: i64, hold: Duration) -> Owners {
    for turn in turns {
        let account = Account::of(&turn.conversation);
        let owner = ownership::claim(owners.get(&account), &Claimant::of(turn), from_millis(now), hold);
        owners.insert(account, owner);
    }
    owners
}

pub(super) async fn desks(ledger: &PostgresLedger, hold: Duration) -> Result<Vec<Desk>, LedgerError> {
    let rows = ledger.ask(|| sqlx::query("select *, ledger_now() as now from desks")).await?;
    let mut desks = BTreeMap::new();
    for row in &rows {
        let desk = desk_of(row, hold)?;
        desks.insert(desk.journal, desk);
    }
    let statement = "select *, ledger_now() as now from owners order by application, network, account";
    for row in &ledger.ask(|| sqlx::query(statement)).await? {
        let owner = owner_of(row)?;
        let (account, token) = (account_of(row)?, owner.token);
        let lapsed = to_millis(owner.until) <= get::<i64>(row, "now")?;
        let desk = desks.entry(owner.journal).or_insert_with(|| Desk::silent(owner.desktop, owner.journal));
        desk.accounts.push(OwnedAccount { account, token, lapsed });
    }
    let mut desks: Vec<Desk> = desks.into_values().collect();
    desks.sort_by(|one, two| one.desktop.cmp(&two.desktop));
    Ok(desks)
}

fn desk_of(row: &PgRow, hold: Duration) -> Result<Desk, LedgerError> {
    let (tenant, now) = (tenant_of(row)?, from_millis(get(row, "now")?));
    Ok(Desk {
        cloned: tenant.is_cloned(now, hold),
        desktop: tenant.desktop,
        journal: JournalId(get(row, "journal")?),
        version: get(row, "version")?,
        host: get(row, "host")?,
        first_seen: Some(from_millis(get(row, "first_seen")?)),
        last_seen: Some(tenant.last_seen),
        silent_for: crate::clock::elapsed(tenant.last_seen, now),
        interval: Duration::from_millis(number(row, "interval_ms")?),
        stopped: tenant.left,
        accounts: Vec::new(),
    })
}

fn tenant_of(row: &PgRow) -> Result<Tenant, LedgerError> {
    let time = |column: &str| get::<i64>(row, column).map(from_millis);
    let other: Option<Uuid> = get(row, "other")?;
    let said: Option<i64> = get(row, "other_said_at")?;
    Ok(Tenant {
        desktop: desktop_of(row)?,
        instance: InstanceId(get(row, "instance")?),
        started_at: time("started_at")?,
        said_at: time("said_at")?,
        last_seen: time("last_seen")?,
        left: get(row, "stopped")?,
        other: other.map(InstanceId).zip(said.map(from_millis)),
        cloned_at: get::<Option<i64>>(row, "cloned_at")?.map(from_millis),
    })
}

fn owner_of(row: &PgRow) -> Result<Owner, LedgerError> {
    let time = |column: &str| get::<i64>(row, column).map(from_millis);
    Ok(Owner {
        desktop: desktop_of(row)?,
        journal: JournalId(get(row, "journal")?),
        instance: get::<Option<Uuid>>(row, "instance")?.map(InstanceId),
        seat: get(row, "seat")?,
        token: number(row, "token")?,
        since: number(row, "since")?,
        until: time("until")?,
        former_until: time("former_until")?,
    })
}

fn account_of(row: &PgRow) -> Result<Account, LedgerError> {
    Ok(Account { application: get(row, "application")?, network: get(row, "network")?, account: get(row, "account")? })
}

fn desktop_of(row: &PgRow) -> Result<DesktopId, LedgerError> {
    DesktopId::try_from(get::<String>(row, "desktop")?).map_err(|_| damaged("desktop"))
}
