//! What workers tell this desktop beside commands: which accounts it answers for, and turns that end without a reply.
//!
//! Ownerships live in memory only: another process of the same journal, after a crash or as a copy, has to be told anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;

use super::outcome::Ending;
use super::rows::{CommandRow, CommandState, ConversationRow, TurnRow, certain_time, corrupt};
use super::{Accepted, Attention, Journal, JournalError};
use crate::clock::{from_millis, to_millis};
use crate::contract::{
    Account, Conversation, ConversationId, ConversationKind, DesktopGreeted, Effect, Mode, Notice, ReplyOutcome,
    TurnEnded,
};
use crate::policy::mode::reaches;
use crate::policy::ownership::{self, Ownership, Standing};

/// The most turns that are listed for a person.
const ATTENTION: i64 = 100;

/// What this process was told since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeskStanding {
    /// Another process works with a copy of this journal.
    pub cloned: bool,
    /// A newer one does, so this one types nothing.
    pub replaced: bool,
    /// It stops, so it types nothing.
    pub leaving: bool,
    /// When the hello was said that was answered last.
    pub hello_at: Option<Timestamp>,
    /// What was said of each account.
    pub accounts: BTreeMap<Account, Standing>,
}

/// [`DeskStanding`], shared.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<DeskStanding>);

impl Told {
    fn lock(&self) -> MutexGuard<'_, DeskStanding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// Whether a reply that was issued under `token` may be typed in this conversation.
    pub(super) fn ownership(&self, conversation: &Conversation, token: Option<u64>, now: Timestamp) -> Ownership {
        let told = self.told().lock();
        if told.leaving {
            return Ownership::Wait("this process stops");
        }
        if told.replaced {
            return Ownership::Wait("a newer process works with a copy of this journal");
        }
        ownership::decide(told.accounts.get(&Account::of(conversation)), token, now)
    }

    /// What workers said of this desktop and its accounts.
    pub fn standing_as_told(&self) -> DeskStanding {
        self.told().lock().clone()
    }

    /// From now on the fence lets nothing pass: this process stops, and others may be told so.
    pub fn leave(&self) {
        self.told().lock().leaving = true;
    }

    /// What a worker tells beside commands. An answer to a hello is heeded if it answers the last one of this process;
    /// a turn's end if the turn is at that revision, open, and no command of it is here.
    ///
    /// # Errors
    /// The file cannot be written: the notice is then to be taken again.
    pub async fn hear(&self, notice: &Notice, now: Timestamp) -> Result<Accepted, JournalError> {
        match notice {
            Notice::Greeted(greeted) => {
                self.take_greeted(greeted, now);
                Ok(Accepted::Noted)
            }
            Notice::TurnEnded(ended) => self.take_ended(ended, now).await,
        }
    }

    /// The answer to an earlier hello, to another process or to another journal says nothing.
    fn take_greeted(&self, greeted: &DesktopGreeted, now: Timestamp) {
        let mut told = self.told().lock();
        let mine = greeted.desktop == *self.desktop()
            && greeted.journal == self.id()
            && greeted.instance == self.instance()
            && told.hello_at.is_none_or(|last| greeted.hello_at >= last);
        if !mine {
            return;
        }
        if greeted.cloned && !told.cloned {
            let types = greeted.current;
            tracing::error!(types, "another process works with a copy of this journal; stop one of them");
        }
        (told.cloned, told.replaced) = (greeted.cloned, !greeted.current);
        told.hello_at = Some(greeted.hello_at);
        for owner in &greeted.accounts {
            let wait = i64::try_from(owner.inherit_ms).unwrap_or(i64::MAX);
            let standing = Standing {
                owned: owner.owned,
                owner: owner.owner.to_string(),
                token: owner.token,
                since: owner.since,
                from: greeted.hello_at,
                hold: Duration::from_millis(greeted.hold_ms),
                inherits_at: from_millis(to_millis(now).saturating_add(wait)),
            };
            let before = told.accounts.insert(owner.account.clone(), standing);
            if before.is_none_or(|before| before.owned != owner.owned || before.token != owner.token) {
                let (owned, token, desk) = (owner.owned, owner.token, &owner.owner);
                tracing::info!(owned, token, owner = %desk, application = owner.account.application, "who answers");
            }
        }
        drop(told);
        self.bump();
    }

    /// Closes a turn that no reply will come for. Where a command of it is here, the executor's outcome decides.
    async fn take_ended(&self, ended: &TurnEnded, now: Timestamp) -> Result<Accepted, JournalError> {
        if ended.journal != self.id() {
            return Ok(Accepted::Noted);
        }
        let mut tx = self.begin().await?;
        let Some(held) = TurnRow::load(&mut tx, ended.turn).await? else { return Ok(Accepted::Noted) };
        let command = CommandRow::load(&mut tx, ended.turn, ended.revision).await?;
        let typing = command.is_some_and(|command| command.state != CommandState::Ended);
        if typing || held.revision != ended.revision || held.effect.is_some() {
            return Ok(Accepted::Noted);
        }
        let Some(mut row) = ConversationRow::load(&mut tx, held.conversation).await? else {
            return Ok(Accepted::Noted);
        };
        // A reply that came when this turn was not there yet was refused; that is not the end of this one.
        sqlx::query("delete from outcomes where turn = ? and revision = ? and effect = 'refused'")
            .bind(ended.turn.0)
            .bind(ended.revision.0)
            .execute(&mut *tx)
            .await?;
        let ending = as_ended(ended);
        self.end_turn(&mut tx, &mut row, held.number, &ending, now).await?;
        row.save(&mut tx).await?;
        let is_news = held.recorded_revision < ended.revision;
        // The ledger has both already.
        for statement in [
            "update outcomes set acknowledged = 1 where turn = ?1 and revision = ?2",
            "update turns set recorded_revision = max(recorded_revision, ?2) where id = ?1",
        ] {
            sqlx::query(statement).bind(ended.turn.0).bind(ended.revision.0).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        let (turn, conversation, reason) = (ended.turn, ended.conversation, &ending.reason);
        if ending.effect == Effect::NeedsAttention {
            tracing::warn!(%turn, %conversation, reason, "a person has to answer this");
        } else {
            tracing::info!(%turn, %conversation, effect = %ending.effect, reason, "no reply will come");
        }
        self.bump();
        Ok(if is_news { Accepted::TurnAcknowledged } else { Accepted::Noted })
    }

    /// Turns that were handed over to a person and that nobody has answered since, the newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn attention(&self) -> Result<Vec<Attention>, JournalError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query(
            "select o.body, o.made_at, coalesce(c.peer, '') as peer from outcomes o \
             left join conversations c on c.id = o.conversation where o.effect = 'needs_attention' \
             and not exists (select 1 from messages m where m.conversation = o.conversation \
             and m.direction in ('own_human', 'own_automatic') and m.detected_at > o.made_at) \
             order by o.made_at desc limit ?",
        )
        .bind(ATTENTION)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        rows.iter()
            .map(|row| {
                let outcome: ReplyOutcome = serde_json::from_str(row.try_get("body")?).map_err(corrupt)?;
                let peer = row.try_get("peer")?;
                let (at, reason) = (certain_time(row, "made_at")?, outcome.reason);
                let (turn, revision, conversation) = (outcome.turn, outcome.revision, outcome.conversation);
                Ok(Attention { turn, revision, conversation, peer, reason, at })
            })
            .collect()
    }

    /// The accounts of the conversations that were aligned since the journal was opened and are not off: those that
    /// this desktop would answer for.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn accounts(&self) -> Result<Vec<Account>, JournalError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query(
            "select id, application, network, account, peer, mode from conversations \
             where aligned_session = ? and application <> ''",
        )
        .bind(self.session())
        .fetch_all(&mut *tx)
        .await?;
        let controls = self.scopes(&mut tx).await?;
        tx.commit().await?;
        let mut accounts = Vec::new();
        for row in &rows {
            let conversation = Conversation {
                id: ConversationId(row.try_get("id")?),
                application: row.try_get("application")?,
                network: row.try_get("network")?,
                account: row.try_get("account")?,
                peer: row.try_get("peer")?,
                kind: ConversationKind::Direct,
            };
            let own = row.try_get::<Option<&str>, _>("mode")?.map(str::parse).transpose().map_err(corrupt)?;
            let asked = controls
                .iter()
                .filter(|(scope, _)| reaches(scope, self.desktop(), &conversation))
                .filter_map(|(_, standing)| standing.mode)
                .min();
            if self.ceilings(&conversation, own, asked).effective() > Mode::Off {
                accounts.push(Account::of(&conversation));
            }
        }
        accounts.sort();
        accounts.dedup();
        Ok(accounts)
    }
}

/// How a turn ends here that the ledger has ended. Where the ledger has seen a reply to it and this journal has not sent
/// one, the journal counts again what it has counted before: it was put back from a backup, or copied.
fn as_ended(ended: &TurnEnded) -> Ending {
    if !ended.effect.may_have_sent() {
        return Ending::new(ended.effect, ended.reason.clone());
    }
    let why = "a reply under the number of this turn is known, and not to this journal, which was put back or copied";
    Ending::new(Effect::NeedsAttention, format!("{why}: {}", ended.reason))
}
