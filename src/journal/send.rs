//! The executor's side: the next command, the fence at both places, and what a dead executor left.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use super::outcome::Ending;
use super::rows::{CommandRow, CommandState, ConversationRow, TurnRow, certain_time, signed, unsigned};
use super::{FenceVerdict, IntentState, Journal, JournalError, OwnLine, Refusal, SendOrder, Unfinished};
use crate::clock::{elapsed, from_millis, millis, to_millis};
use crate::contract::{Authority, ConversationId, Effect, Mode, Revision, Timings, TurnId};
use crate::failpoint;
use crate::policy::fence::{self, Decision, Facts, Lifetime};
use crate::policy::turn::{self, Event, Verdict};

/// A clock that differs by this much was not turned back, only set right.
const CLOCK_STEP: Duration = Duration::from_secs(5);

/// A command with all that the fence looks at.
struct Case {
    row: ConversationRow,
    turn: TurnRow,
    command: CommandRow,
}

impl Journal {
    /// See [`Journal::next_send`].
    pub(super) async fn choose(
        &self,
        blocked: &[ConversationId],
        now: Timestamp,
    ) -> Result<(Option<SendOrder>, bool), JournalError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query(
            "select * from commands c where state = 'queued' and not exists (select 1 from commands o \
             where o.conversation = c.conversation and o.state in ('intent', 'submitting')) order by received_at, rowid",
        )
        .fetch_all(&mut *tx)
        .await?;
        let (mut chosen, mut ended) = (None, false);
        for row in &rows {
            let command = CommandRow::from_row(row)?;
            let Some(mut case) = self.case(&mut tx, command).await? else { continue };
            match fence::decide(&self.facts(&mut tx, &case, now).await?) {
                Decision::Refuse(effect, reason) => {
                    self.turn_away(&mut tx, &mut case, effect, reason, now).await?;
                    ended = true;
                }
                Decision::Pass
                    if chosen.is_none()
                        && !blocked.contains(&case.row.conversation.id)
                        && is_due(&case.command, now) =>
                {
                    chosen = Some(self.order(&mut tx, &case).await?);
                }
                Decision::Pass | Decision::Wait(_) => {}
            }
        }
        tx.commit().await?;
        Ok((chosen, ended))
    }

    /// See [`Journal::begin_intent`].
    pub(super) async fn intend(
        &self,
        id: TurnId,
        revision: Revision,
        now: Timestamp,
    ) -> Result<FenceVerdict, JournalError> {
        let mut tx = self.begin().await?;
        let Some(mut case) = self.find(&mut tx, id, revision).await? else { return Ok(unknown()) };
        let verdict = match case.command.state {
            CommandState::Ended => self.has_ended(&mut tx, &case).await?,
            CommandState::Submitting => {
                FenceVerdict::Wait("Enter was allowed for this reply; it is read, not typed".into())
            }
            CommandState::Intent => FenceVerdict::Wait("an intent was left behind; it is reconciled first".into()),
            CommandState::Queued => self.pass_intent(&mut tx, &mut case, now).await?,
        };
        tx.commit().await?;
        if matches!(verdict, FenceVerdict::Pass { .. }) {
            failpoint::reach("journal.intent");
        }
        Ok(verdict)
    }

    async fn pass_intent(
        &self,
        tx: &mut SqliteConnection,
        case: &mut Case,
        now: Timestamp,
    ) -> Result<FenceVerdict, JournalError> {
        if let Some(verdict) = self.fenced(tx, case, now).await? {
            return Ok(verdict);
        }
        let watermark = case.row.next_seq - 1;
        let event = Event::Intent { number: case.turn.number, revision: case.turn.revision };
        if self.tell(tx, &mut case.row, event, now).await? != Verdict::Done {
            case.row.save(tx).await?;
            return Ok(FenceVerdict::Wait("another turn of the conversation is under way".into()));
        }
        case.row.save(tx).await?;
        sqlx::query(
            "update commands set state = 'intent', attempts = attempts + 1, tried_at = ?1, typed_at = ?1, \
             watermark = ?2, own_seq = null where turn = ?3 and revision = ?4",
        )
        .bind(to_millis(now))
        .bind(signed(watermark))
        .bind(case.turn.id.0)
        .bind(case.turn.revision.0)
        .execute(tx)
        .await?;
        Ok(FenceVerdict::Pass { watermark })
    }

    /// See [`Journal::begin_submit`].
    pub(super) async fn submit(
        &self,
        id: TurnId,
        revision: Revision,
        pane_digest: u64,
        now: Timestamp,
    ) -> Result<FenceVerdict, JournalError> {
        let mut tx = self.begin().await?;
        let Some(mut case) = self.find(&mut tx, id, revision).await? else { return Ok(unknown()) };
        let verdict = match case.command.state {
            CommandState::Ended => self.has_ended(&mut tx, &case).await?,
            CommandState::Submitting => {
                FenceVerdict::Wait("Enter was allowed for this reply once; it is never allowed twice".into())
            }
            CommandState::Queued => FenceVerdict::Wait("there is no intent; begin with begin_intent".into()),
            CommandState::Intent => self.pass_submit(&mut tx, &mut case, pane_digest, now).await?,
        };
        tx.commit().await?;
        if matches!(verdict, FenceVerdict::Pass { .. }) {
            failpoint::reach("journal.submitting");
        }
        Ok(verdict)
    }

    async fn pass_submit(
        &self,
        tx: &mut SqliteConnection,
        case: &mut Case,
        pane_digest: u64,
        now: Timestamp,
    ) -> Result<FenceVerdict, JournalError> {
        if let Some(verdict) = self.fenced(tx, case, now).await? {
            return Ok(verdict);
        }
        let fresh = case
            .row
            .look
            .as_ref()
            .is_some_and(|look| look.pane_digest == pane_digest && look.aligned && look.at_bottom);
        if !fresh {
            return Ok(FenceVerdict::Wait("the pane has changed since the last recorded look".into()));
        }
        let watermark = case.row.next_seq - 1;
        let event = Event::Submitting { number: case.turn.number, revision: case.turn.revision };
        if self.tell(tx, &mut case.row, event, now).await? != Verdict::Done {
            case.row.save(tx).await?;
            return Ok(FenceVerdict::Wait("another turn of the conversation is under way".into()));
        }
        self.count(tx, case, now).await?;
        case.row.save(tx).await?;
        sqlx::query(
            "update commands set state = 'submitting', submitted_at = ?, watermark = ?, own_seq = null \
             where turn = ? and revision = ?",
        )
        .bind(to_millis(now))
        .bind(signed(watermark))
        .bind(case.turn.id.0)
        .bind(case.turn.revision.0)
        .execute(tx)
        .await?;
        Ok(FenceVerdict::Pass { watermark })
    }

    /// Counts the reply for the caps, before Enter: a crash after it must not give one away. One that a person
    /// approved ends the row of automatic ones.
    async fn count(&self, tx: &mut SqliteConnection, case: &mut Case, now: Timestamp) -> Result<(), JournalError> {
        if case.command.send.authority != Authority::Auto {
            case.row.in_a_row = 0;
            return Ok(());
        }
        case.row.in_a_row = case.row.in_a_row.saturating_add(1);
        sqlx::query("insert or replace into sends (turn, conversation, at) values (?, ?, ?)")
            .bind(case.turn.id.0)
            .bind(case.row.conversation.id.0)
            .bind(to_millis(now))
            .execute(tx)
            .await?;
        Ok(())
    }

    /// The fence; `None` lets pass.
    async fn fenced(
        &self,
        tx: &mut SqliteConnection,
        case: &mut Case,
        now: Timestamp,
    ) -> Result<Option<FenceVerdict>, JournalError> {
        match fence::decide(&self.facts(tx, case, now).await?) {
            Decision::Pass => Ok(None),
            Decision::Wait(why) => Ok(Some(FenceVerdict::Wait(why.into()))),
            Decision::Refuse(effect, reason) => {
                self.turn_away(tx, case, effect, reason, now).await?;
                Ok(Some(FenceVerdict::Ended(Refusal { effect, reason: reason.into() })))
            }
        }
    }

    /// Ends a command that the fence refused.
    async fn turn_away(
        &self,
        tx: &mut SqliteConnection,
        case: &mut Case,
        effect: Effect,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let revision = case.command.send.revision;
        self.end_command(tx, case.turn.id, revision, Ending::new(effect, reason), now).await?;
        case.row = ConversationRow::load(tx, case.row.conversation.id).await?.unwrap_or_else(|| case.row.clone());
        Ok(())
    }

    async fn facts(&self, tx: &mut SqliteConnection, case: &Case, now: Timestamp) -> Result<Facts, JournalError> {
        let Case { row, turn, command } = case;
        let revision = command.send.revision;
        let (base, halt) = self.base_mode(tx, row).await?;
        let range = turn::covers(&row.turns, turn.number).unwrap_or((turn.after_seq, turn.last_seq));
        let mode = self.turn_mode(tx, row, turn, range, base).await?;
        let below = below(tx, row, turn.last_seq).await?;
        let out = row.turns.out.as_ref();
        let frozen = out.is_some_and(|out| out.number == turn.number && out.frozen_at.is_some());
        let other = out.is_some_and(|out| out.number != turn.number);
        let typable = turn::may_type(&row.turns, turn.number, revision);
        Ok(Facts {
            held: command.send.journal == self.id(),
            revision,
            current: turn.revision,
            ended: turn.effect,
            withdrawn: command.withdrawn,
            ownership: self.ownership(&row.conversation, command.send.owner_token, now),
            halt,
            mode,
            authority: command.send.authority.clone(),
            since_received: lifetime(command.received_at, self.settings().command_ttl, now),
            since_detected: lifetime(turn.last_at, self.settings().detection_ttl, now),
            human_replied: below.human,
            newer_inbound: !frozen && (below.inbound || (!typable && !other)),
            cap: if mode == Mode::Auto { self.cap(tx, row, now).await? } else { None },
            aligned: row.aligned_session == self.session(),
            wait: other.then_some("another turn of the conversation is under way"),
        })
    }

    async fn has_ended(&self, tx: &mut SqliteConnection, case: &Case) -> Result<FenceVerdict, JournalError> {
        let outcome = self.outcome(tx, case.turn.id, case.command.send.revision).await?;
        let (effect, reason) = outcome.map_or_else(
            || (case.turn.effect.unwrap_or(Effect::Superseded), "the command has ended".to_owned()),
            |outcome| (outcome.effect, outcome.reason),
        );
        Ok(FenceVerdict::Ended(Refusal { effect, reason }))
    }

    /// See [`Journal::abandon_intent`].
    pub(super) async fn abandon(
        &self,
        id: TurnId,
        revision: Revision,
        after: Duration,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let mut tx = self.begin().await?;
        let Some(mut case) = self.find(&mut tx, id, revision).await? else { return Ok(()) };
        match case.command.state {
            CommandState::Queued | CommandState::Ended => return Ok(()),
            CommandState::Submitting => {
                let ending = Ending::new(Effect::Failed, "it was let go after Enter had been allowed");
                self.let_go(&mut tx, &mut case, ending, now).await?;
            }
            CommandState::Intent => {
                sqlx::query(
                    "update commands set state = ?, tried_at = ?, not_before = ? where turn = ? and revision = ?",
                )
                .bind(if case.turn.effect.is_none() { "queued" } else { "ended" })
                .bind(to_millis(now))
                .bind(to_millis(now).saturating_add(millis(after)))
                .bind(id.0)
                .bind(revision.0)
                .execute(&mut *tx)
                .await?;
                let event = Event::Abandoned { number: case.turn.number, revision };
                self.tell(&mut tx, &mut case.row, event, now).await?;
                case.row.save(&mut tx).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// Enter had been allowed and the executor says that it did not press it: the reply is not tried again, because
    /// nothing may ever pass twice. If its line is there all the same, it says so.
    async fn let_go(
        &self,
        tx: &mut SqliteConnection,
        case: &mut Case,
        mut ending: Ending,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        if case.command.own_seq.is_some() {
            ending.effect = Effect::Unverifiable;
        } else {
            sqlx::query("update commands set state = 'intent' where turn = ? and revision = ?")
                .bind(case.turn.id.0)
                .bind(case.turn.revision.0)
                .execute(&mut *tx)
                .await?;
        }
        self.end_command(tx, case.turn.id, case.turn.revision, ending, now).await
    }

    /// See [`Journal::own_line`].
    pub(super) async fn find_own_line(&self, id: TurnId, revision: Revision) -> Result<Option<OwnLine>, JournalError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query(
            "select m.seq, m.text, m.detected_at from commands c join messages m \
             on m.conversation = c.conversation and m.seq = c.own_seq where c.turn = ? and c.revision = ?",
        )
        .bind(id.0)
        .bind(revision.0)
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        row.map(|row| {
            Ok(OwnLine {
                seq: unsigned(&row, "seq")?,
                text: row.try_get("text")?,
                at: certain_time(&row, "detected_at")?,
            })
        })
        .transpose()
    }

    /// See [`Journal::unfinished`].
    pub(super) async fn left_behind(&self) -> Result<Vec<Unfinished>, JournalError> {
        let mut tx = self.begin().await?;
        let rows =
            sqlx::query("select * from commands where state in ('intent', 'submitting') order by tried_at, rowid")
                .fetch_all(&mut *tx)
                .await?;
        let mut all = Vec::new();
        for row in &rows {
            let Some(case) = self.case(&mut tx, CommandRow::from_row(row)?).await? else { continue };
            all.push(Unfinished {
                order: self.order(&mut tx, &case).await?,
                state: match case.command.state {
                    CommandState::Submitting => IntentState::Submitting,
                    _ => IntentState::Intent,
                },
                watermark: case.command.watermark,
                revision: case.command.send.revision,
                turn: case.turn.id,
            });
        }
        tx.commit().await?;
        Ok(all)
    }

    async fn find(
        &self,
        tx: &mut SqliteConnection,
        id: TurnId,
        revision: Revision,
    ) -> Result<Option<Case>, JournalError> {
        match CommandRow::load(tx, id, revision).await? {
            Some(command) => self.case(tx, command).await,
            None => Ok(None),
        }
    }

    async fn case(&self, tx: &mut SqliteConnection, command: CommandRow) -> Result<Option<Case>, JournalError> {
        let Some(turn) = TurnRow::load(tx, command.send.turn).await? else { return Ok(None) };
        let row = ConversationRow::load(tx, turn.conversation).await?;
        Ok(row.map(|row| Case { row, turn, command }))
    }

    async fn order(&self, tx: &mut SqliteConnection, case: &Case) -> Result<SendOrder, JournalError> {
        let send = case.command.send.clone();
        let timings = self.merge_timings(tx, send.turn, send.revision, Timings::default()).await?;
        Ok(SendOrder { send, conversation: case.row.conversation.clone(), timings, attempts: case.command.attempts })
    }
}

/// What lies below a turn's last message.
struct Below {
    human: bool,
    inbound: bool,
}

async fn below(tx: &mut SqliteConnection, row: &ConversationRow, last_seq: u64) -> Result<Below, JournalError> {
    let found = sqlx::query(
        "select coalesce(max(direction = 'own_human' and standing = ''), 0) as human, \
         coalesce(max(direction = 'inbound' and standing = 'joins'), 0) as inbound \
         from messages where conversation = ? and seq > ?",
    )
    .bind(row.conversation.id.0)
    .bind(signed(last_seq))
    .fetch_one(tx)
    .await?;
    Ok(Below { human: found.try_get::<i64, _>("human")? != 0, inbound: found.try_get::<i64, _>("inbound")? != 0 })
}

fn lifetime(began: Timestamp, limit: Duration, now: Timestamp) -> Lifetime {
    let turned_back = elapsed(now, began) > CLOCK_STEP;
    Lifetime { passed: (!turned_back).then(|| elapsed(began, now)), limit }
}

fn is_due(command: &CommandRow, now: Timestamp) -> bool {
    let turned_back = command.tried_at.is_some_and(|at| now < at);
    turned_back || command.not_before.unwrap_or(from_millis(0)) <= now
}

fn unknown() -> FenceVerdict {
    FenceVerdict::Ended(Refusal { effect: Effect::Refused, reason: "this journal does not hold the command".into() })
}
