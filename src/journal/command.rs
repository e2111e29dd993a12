//! What comes from Kafka: commands, acknowledgements, controls.

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use super::outcome::Ending;
use super::rows::{CommandRow, CommandState, ConversationRow, TurnRow, corrupt, parsed, signed};
use super::{Accepted, Journal, JournalError};
use crate::clock::to_millis;
use crate::contract::{
    Authority, Command, ControlRecord, Effect, OutcomeRecorded, ReplySend, ReplyWithdraw, Revision, Scope, TurnId,
    TurnRecorded,
};
use crate::failpoint;
use crate::policy::mode::{Halt, Standing, reaches};
use crate::policy::turn::{Event, Stage};

impl Journal {
    /// See [`Journal::accept`].
    pub(super) async fn take_command(&self, command: Command, now: Timestamp) -> Result<Accepted, JournalError> {
        let mut tx = self.begin().await?;
        let accepted = match command {
            Command::Send(send) if send.desktop == *self.desktop() => {
                if CommandRow::load(&mut tx, send.turn, send.revision).await?.is_some() {
                    Accepted::Repeated
                } else {
                    let is_news = self.take_send(&mut tx, &send, now).await?;
                    if is_news { Accepted::TurnAcknowledged } else { Accepted::Noted }
                }
            }
            Command::Withdraw(withdraw) if withdraw.desktop == *self.desktop() => {
                self.take_withdraw(&mut tx, &withdraw, now).await?;
                Accepted::Noted
            }
            Command::TurnRecorded(record) => {
                let is_news = take_turn_recorded(&mut tx, &record).await?;
                if is_news { Accepted::TurnAcknowledged } else { Accepted::Noted }
            }
            Command::OutcomeRecorded(record) => {
                let is_news = take_outcome_recorded(&mut tx, &record).await?;
                if is_news { Accepted::OutcomeAcknowledged } else { Accepted::Noted }
            }
            // Another desktop's.
            Command::Send(_) | Command::Withdraw(_) => Accepted::Noted,
        };
        tx.commit().await?;
        failpoint::reach("journal.accepted");
        Ok(accepted)
    }

    /// Takes a reply that is not known. Whether its turn's recording is news by it.
    async fn take_send(
        &self,
        tx: &mut SqliteConnection,
        send: &ReplySend,
        now: Timestamp,
    ) -> Result<bool, JournalError> {
        let held = TurnRow::load(tx, send.turn).await?;
        let Some(turn) = held.filter(|turn| send.journal == self.id() && turn.conversation == send.conversation) else {
            self.refuse(tx, send, Effect::Refused, "this journal does not hold the turn", now).await?;
            return Ok(false);
        };
        if send.revision > turn.revision {
            self.refuse(tx, send, Effect::Refused, "this journal does not hold the revision", now).await?;
            return Ok(false);
        }
        // Whoever sends a reply to a revision has recorded it.
        let recorded = TurnRecorded { turn: send.turn, revision: send.revision, desktop: send.desktop.clone() };
        let is_news = take_turn_recorded(tx, &recorded).await?;
        if send.revision < turn.revision {
            self.refuse(tx, send, Effect::Superseded, "the turn has a newer revision", now).await?;
            return Ok(is_news);
        }
        let queued = turn.effect.is_none();
        sqlx::query(
            "insert into commands (turn, revision, conversation, state, body, received_at) values (?, ?, ?, ?, ?, ?)",
        )
        .bind(send.turn.0)
        .bind(send.revision.0)
        .bind(send.conversation.0)
        .bind(if queued { "queued" } else { "ended" })
        .bind(serde_json::to_string(send).map_err(corrupt)?)
        .bind(to_millis(now))
        .execute(&mut *tx)
        .await?;
        let Some(mut row) = ConversationRow::load(tx, send.conversation).await? else {
            return Ok(is_news);
        };
        if queued {
            let event = Event::ReplyArrived { number: turn.number, revision: send.revision };
            self.tell(tx, &mut row, event, now).await?;
        } else {
            self.offer_again(tx, send.turn, send.revision).await?;
        }
        if matches!(send.authority, Authority::ApprovedBy { .. }) {
            row.trusted = true;
        }
        row.save(tx).await?;
        Ok(is_news)
    }

    /// The turn has ended: its outcome may have been told before the ledger was restored, so it is told again.
    async fn offer_again(
        &self,
        tx: &mut SqliteConnection,
        turn: TurnId,
        revision: Revision,
    ) -> Result<(), JournalError> {
        sqlx::query("update outcomes set acknowledged = 0, published_at = null where turn = ? and revision = ?")
            .bind(turn.0)
            .bind(revision.0)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn refuse(
        &self,
        tx: &mut SqliteConnection,
        send: &ReplySend,
        effect: Effect,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, JournalError> {
        let fresh = sqlx::query(
            "insert or ignore into refused_commands (turn, revision, journal, reason, at) values (?, ?, ?, ?, ?)",
        )
        .bind(send.turn.0)
        .bind(send.revision.0)
        .bind(send.journal.0)
        .bind(reason)
        .bind(to_millis(now))
        .execute(&mut *tx)
        .await?;
        if fresh.rows_affected() == 0 {
            return Ok(false);
        }
        tracing::warn!(turn = %send.turn, revision = %send.revision, reason, "a command was refused");
        self.put_outcome(tx, send.conversation, send.turn, send.revision, &Ending::new(effect, reason), now).await?;
        Ok(true)
    }

    /// A request. Before the first key it ends the turn; while keys are pressed the fence before Enter stops it; after
    /// Enter was allowed it is too late, and the executor's outcome is the answer. One that has ended already tells its
    /// outcome again, since whoever asks has not heard it.
    async fn take_withdraw(
        &self,
        tx: &mut SqliteConnection,
        withdraw: &ReplyWithdraw,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let state = CommandRow::load(tx, withdraw.turn, withdraw.revision).await?.map(|command| command.state);
        match state {
            // It may still be on its way: the turn's end keeps it from being typed.
            None | Some(CommandState::Queued) => {
                let ending = Ending::new(Effect::Superseded, format!("withdrawn: {}", withdraw.reason));
                self.end_command(tx, withdraw.turn, withdraw.revision, ending, now).await
            }
            Some(CommandState::Intent) => {
                sqlx::query("update commands set withdrawn = ? where turn = ? and revision = ?")
                    .bind(&withdraw.reason)
                    .bind(withdraw.turn.0)
                    .bind(withdraw.revision.0)
                    .execute(tx)
                    .await?;
                Ok(())
            }
            Some(CommandState::Submitting) => Ok(()),
            Some(CommandState::Ended) => self.offer_again(tx, withdraw.turn, withdraw.revision).await,
        }
    }

    /// See [`Journal::apply_control`].
    pub(super) async fn take_control(&self, record: &ControlRecord, now: Timestamp) -> Result<bool, JournalError> {
        let mut tx = self.begin().await?;
        let scope = record.scope.to_string();
        let row = sqlx::query("select version, mode, halt from controls where scope = ?")
            .bind(&scope)
            .fetch_optional(&mut *tx)
            .await?;
        let (version, before) = match &row {
            Some(row) => (row.try_get::<i64, _>("version")?, standing(row)?),
            None => (-1, Standing::default()),
        };
        if signed(record.version) <= version {
            return Ok(false);
        }
        let after = before.after(record.control);
        sqlx::query(
            "insert into controls (scope, version, mode, halt, sent_by, why, at) values (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             on conflict (scope) do update set version = ?2, mode = ?3, halt = ?4, sent_by = ?5, why = ?6, at = ?7",
        )
        .bind(&scope)
        .bind(signed(record.version))
        .bind(after.mode.map(crate::contract::Mode::as_str))
        .bind(halt_name(after.halt))
        .bind(&record.by)
        .bind(&record.why)
        .bind(to_millis(record.at))
        .execute(&mut *tx)
        .await?;
        self.settle(&mut tx, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Ends what a stop or the mode off has reached and no key was pressed for.
    pub(super) async fn settle(&self, tx: &mut SqliteConnection, now: Timestamp) -> Result<(), JournalError> {
        for mut row in ConversationRow::live(tx).await? {
            let (mode, halt) = self.base_mode(tx, &row).await?;
            if mode == crate::contract::Mode::Off {
                self.silence(tx, &mut row, now).await?;
            } else if halt == Halt::Stop {
                let live = [&row.turns.out, &row.turns.open].into_iter().flatten();
                let ending: Vec<u64> =
                    live.filter(|turn| turn.stage == Stage::Waiting).map(|turn| turn.number).collect();
                for number in ending {
                    self.end_turn(tx, &mut row, number, &Ending::new(Effect::Off, "a stop is on"), now).await?;
                }
            }
            row.save(tx).await?;
        }
        Ok(())
    }

    /// What all controls in whose scope the conversation lies ask for together.
    pub(super) async fn standing(
        &self,
        tx: &mut SqliteConnection,
        conversation: &crate::contract::Conversation,
    ) -> Result<Standing, JournalError> {
        let all = self.scopes(tx).await?;
        let reaching = all.into_iter().filter(|(scope, _)| reaches(scope, self.desktop(), conversation));
        Ok(reaching.fold(Standing::default(), |together, (_, standing)| together.and(standing)))
    }

    /// Every scope and what is asked in it.
    pub(super) async fn scopes(&self, tx: &mut SqliteConnection) -> Result<Vec<(Scope, Standing)>, JournalError> {
        let rows = sqlx::query("select scope, mode, halt from controls").fetch_all(tx).await?;
        rows.iter().map(|row| Ok((parsed::<Scope>(row, "scope")?, standing(row)?))).collect()
    }
}

/// Whether this is news: a revision that was not acknowledged before.
async fn take_turn_recorded(tx: &mut SqliteConnection, record: &TurnRecorded) -> Result<bool, JournalError> {
    let changed = sqlx::query(
        "update turns set recorded_revision = min(revision, ?1) where id = ?2 and recorded_revision < min(revision, ?1)",
    )
    .bind(record.revision.0)
    .bind(record.turn.0)
    .execute(tx)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Whether this settles the outcome, which was not settled before. An acknowledgement that may belong to an earlier text
/// of the outcome only counts that one down.
async fn take_outcome_recorded(tx: &mut SqliteConnection, record: &OutcomeRecorded) -> Result<bool, JournalError> {
    let settles = "select acknowledged = 0 and stale_acks = 0 from outcomes where turn = ? and revision = ?";
    let settles: Option<bool> =
        sqlx::query_scalar(settles).bind(record.turn.0).bind(record.revision.0).fetch_optional(&mut *tx).await?;
    sqlx::query(
        "update outcomes set acknowledged = (stale_acks = 0), stale_acks = max(stale_acks - 1, 0), \
         publications = case when stale_acks = 0 then 0 else publications end where turn = ? and revision = ?",
    )
    .bind(record.turn.0)
    .bind(record.revision.0)
    .execute(tx)
    .await?;
    Ok(settles.unwrap_or(false))
}

pub(super) fn standing(row: &sqlx::sqlite::SqliteRow) -> Result<Standing, JournalError> {
    let mode = row.try_get::<Option<&str>, _>("mode")?.map(str::parse).transpose().map_err(corrupt)?;
    let halt = match row.try_get::<&str, _>("halt")? {
        "pause" => Halt::Pause,
        "stop" => Halt::Stop,
        _ => Halt::None,
    };
    Ok(Standing { mode, halt })
}

fn halt_name(halt: Halt) -> &'static str {
    match halt {
        Halt::None => "none",
        Halt::Pause => "pause",
        Halt::Stop => "stop",
    }
}
