//! What goes to Kafka: turns that are due, outcomes, both until the ledger has acknowledged them.
//!
//! A turn that ended before the ledger knew it goes out all the same, with the mode `off` (record it, draft nothing),
//! and its outcome only after the ledger has acknowledged the turn: so every turn has its one recorded reason. The
//! exception is the mode off: what was never published then stays on this desktop, and so does its outcome.

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use super::outcome::Ending;
use super::rows::{ConversationRow, TurnRow, certain_time, corrupt, parsed, signed, time, unsigned};
use super::{Journal, JournalError};
use crate::clock::{elapsed, to_millis};
use crate::contract::{
    ContextLine, Direction, Effect, Extraction, ExtractionMethod, MessagesDetected, Mode, ReplyOutcome, Revision,
    TurnId, TurnMessage,
};
use crate::failpoint;
use crate::policy::caps::{self, Caps};
use crate::policy::mode::Halt;
use crate::policy::turn::{self, Due, Event, Stage};

/// A turn carries at most so many messages, the newest.
const MESSAGES: i64 = 500;
/// And at most so many bytes of them, names and texts.
///
/// JSON makes at most six bytes of one, so with [`CONTEXT_BYTES`] and what else a record says of each message it stays
/// below the million bytes that the topics allow.
const MESSAGE_BYTES: usize = 96 * 1024;
/// At most so many bytes of the lines above the turn.
const CONTEXT_BYTES: usize = 32 * 1024;

impl Journal {
    /// See [`Journal::turns_to_publish`].
    pub(super) async fn due_turns(&self, now: Timestamp) -> Result<(Vec<MessagesDetected>, bool), JournalError> {
        let mut tx = self.begin().await?;
        let mut due = Vec::new();
        let mut ended = false;
        for mut row in ConversationRow::live(&mut tx).await? {
            let before = row.turns.clone();
            if let Some(turn) = self.due_turn(&mut tx, &mut row, now).await? {
                due.push(turn);
            }
            if row.turns != before {
                row.save(&mut tx).await?;
                ended = true;
            }
        }
        for turn in self.ended_unrecorded(&mut tx, now).await? {
            let Some(row) = ConversationRow::load(&mut tx, turn.conversation).await? else { continue };
            if self.base_mode(&mut tx, &row).await?.0 != Mode::Off {
                due.extend(self.detected(&mut tx, &row, &turn, (turn.after_seq, turn.last_seq), Mode::Off).await?);
            }
        }
        tx.commit().await?;
        Ok((due, ended))
    }

    /// The live turn of this conversation that is due, after ending those that are not to be answered.
    async fn due_turn(
        &self,
        tx: &mut SqliteConnection,
        row: &mut ConversationRow,
        now: Timestamp,
    ) -> Result<Option<MessagesDetected>, JournalError> {
        let (mode, halt) = self.base_mode(tx, row).await?;
        if mode == Mode::Off {
            self.silence(tx, row, now).await?;
            return Ok(None);
        }
        if row.aligned_session != self.session() {
            self.give_up_unseen(tx, row, now).await?;
            return Ok(None);
        }
        let number = match turn::due(&row.turns, &self.rules(), now) {
            Due::End(end) => {
                let ending = Ending::new(end.effect, "it was not answered in time, and newer messages wait behind it");
                self.end_turn(tx, row, end.number, &ending, now).await?;
                return Ok(None);
            }
            Due::Publish { number, .. } => number,
            Due::Nothing => match self.unacknowledged(tx, row, now).await? {
                Some(number) => number,
                None => return Ok(None),
            },
        };
        let id = TurnId::derive(self.id(), row.conversation.id, number);
        let Some(held) = TurnRow::load(tx, id).await? else { return Ok(None) };
        let range = turn::covers(&row.turns, number).unwrap_or((held.after_seq, held.last_seq));
        let limited = self.turn_mode(tx, row, &held, range, mode).await?;
        // One that is only asked after was let through when it was published first.
        let judged = if held.recorded_revision < held.revision { limited } else { Mode::Draft };
        if let Some(ending) = self.unanswerable(tx, row, judged, halt, now).await? {
            self.end_turn(tx, row, number, &ending, now).await?;
            return Ok(None);
        }
        self.detected(tx, row, &held, range, limited).await
    }

    /// Ends turns of a window that was not seen again since this process began: nobody can tell whether a person has
    /// answered meanwhile, and when nothing may be typed any more there must be a reason.
    async fn give_up_unseen(
        &self,
        tx: &mut SqliteConnection,
        row: &mut ConversationRow,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let unseen: Vec<u64> = [&row.turns.out, &row.turns.open]
            .into_iter()
            .flatten()
            .filter(|turn| turn.stage == Stage::Waiting && turn.published != Some(turn.revision))
            .filter(|turn| elapsed(turn.last_at, now) >= self.settings().detection_ttl)
            .map(|turn| turn.number)
            .collect();
        for number in unseen {
            let ending = Ending::new(Effect::Expired, "its window was not seen again while it could be answered");
            self.end_turn(tx, row, number, &ending, now).await?;
        }
        Ok(())
    }

    /// Why the turn ends instead of being answered, if it does.
    async fn unanswerable(
        &self,
        tx: &mut SqliteConnection,
        row: &ConversationRow,
        mode: Mode,
        halt: Halt,
        now: Timestamp,
    ) -> Result<Option<Ending>, JournalError> {
        if halt == Halt::Stop {
            return Ok(Some(Ending::new(Effect::Off, "a stop is on")));
        }
        if mode != Mode::Auto {
            return Ok(None);
        }
        Ok(self.cap(tx, row, now).await?.map(|reached| Ending::new(Effect::Capped, reached.reason())))
    }

    /// The cap that another automatic reply in this conversation would exceed.
    pub(super) async fn cap(
        &self,
        tx: &mut SqliteConnection,
        row: &ConversationRow,
        now: Timestamp,
    ) -> Result<Option<caps::Reached>, JournalError> {
        let limits = Caps { consecutive: self.settings().consecutive_cap, hourly: self.settings().hourly_cap };
        let since = to_millis(now).saturating_sub(crate::clock::millis(caps::WINDOW));
        let rows = sqlx::query("select at from sends where conversation = ? and at > ?")
            .bind(row.conversation.id.0)
            .bind(since)
            .fetch_all(tx)
            .await?;
        let sent = rows.iter().map(|row| certain_time(row, "at")).collect::<Result<Vec<_>, _>>()?;
        Ok(caps::reached(limits, row.in_a_row, &sent, now))
    }

    /// How far the turn may go: doubt about anything it covers, or about the peer, keeps it at draft.
    pub(super) async fn turn_mode(
        &self,
        tx: &mut SqliteConnection,
        row: &ConversationRow,
        turn: &TurnRow,
        (after, last): (u64, u64),
        mode: Mode,
    ) -> Result<Mode, JournalError> {
        let doubtful: i64 = sqlx::query(
            "select exists (select 1 from messages where conversation = ? and seq > ? and seq <= ? \
             and standing = 'joins' and doubtful = 1)",
        )
        .bind(row.conversation.id.0)
        .bind(signed(after))
        .bind(signed(last))
        .fetch_one(tx)
        .await?
        .try_get(0)?;
        Ok(self.doubt(row, turn.doubtful || doubtful != 0).limit(mode))
    }

    /// The live turn that was published and not acknowledged in time; or that was, and is to be asked after.
    async fn unacknowledged(
        &self,
        tx: &mut SqliteConnection,
        row: &ConversationRow,
        now: Timestamp,
    ) -> Result<Option<u64>, JournalError> {
        for live in [&row.turns.out, &row.turns.open].into_iter().flatten() {
            let id = TurnId::derive(self.id(), row.conversation.id, live.number);
            let Some(held) = TurnRow::load(tx, id).await? else { continue };
            if live.published != Some(held.revision) {
                continue;
            }
            let again = if held.recorded_revision < held.revision {
                self.is_due(held.published_at, now)
            } else {
                let waits = live.stage == Stage::Waiting && live.replied != Some(held.revision);
                waits && held.published_at.is_some_and(|at| turn::asks_again(held.last_at, at, now))
            };
            if again {
                return Ok(Some(live.number));
            }
        }
        Ok(None)
    }

    async fn ended_unrecorded(&self, tx: &mut SqliteConnection, now: Timestamp) -> Result<Vec<TurnRow>, JournalError> {
        let rows =
            sqlx::query("select * from turns where recorded_revision < revision and effect is not null and silent = 0")
                .fetch_all(tx)
                .await?;
        let mut turns = rows.iter().map(TurnRow::from_row).collect::<Result<Vec<_>, _>>()?;
        turns.retain(|turn| turn.published_revision != turn.revision || self.is_due(turn.published_at, now));
        Ok(turns)
    }

    /// Never published, or not acknowledged in time; a clock that was turned back holds nothing back.
    fn is_due(&self, published_at: Option<Timestamp>, now: Timestamp) -> bool {
        published_at.is_none_or(|at| now < at || elapsed(at, now) >= self.settings().acknowledge_within)
    }

    /// The record of a turn; `None` when retention has taken its messages.
    async fn detected(
        &self,
        tx: &mut SqliteConnection,
        row: &ConversationRow,
        turn: &TurnRow,
        (after, last): (u64, u64),
        mode: Mode,
    ) -> Result<Option<MessagesDetected>, JournalError> {
        let standing = if turn.effect == Some(Effect::TooOld) { "too_old" } else { "joins" };
        let rows = sqlx::query(
            "select * from messages where conversation = ? and seq > ? and seq <= ? and standing = ? \
             order by seq desc limit ?",
        )
        .bind(row.conversation.id.0)
        .bind(signed(after))
        .bind(signed(last))
        .bind(standing)
        .bind(MESSAGES)
        .fetch_all(&mut *tx)
        .await?;
        let mut messages = rows.iter().map(message).collect::<Result<Vec<_>, _>>()?;
        messages.truncate(
            fitting(messages.iter().map(|message| message.sender.len() + message.text.len()), MESSAGE_BYTES).max(1),
        );
        messages.reverse();
        let Some(first) = messages.first().map(|message| message.seq) else { return Ok(None) };
        Ok(Some(MessagesDetected {
            turn: turn.id,
            revision: turn.revision,
            number: turn.number,
            journal: self.id(),
            desktop: self.desktop().clone(),
            conversation: row.conversation.clone(),
            messages,
            context: self.context(tx, row, first).await?,
            mode,
            detected_at: turn.last_at,
            traceparent: None,
        }))
    }

    /// The lines above a turn, oldest first; the nearest of them when they are too long for a record.
    async fn context(
        &self,
        tx: &mut SqliteConnection,
        row: &ConversationRow,
        first: u64,
    ) -> Result<Vec<ContextLine>, JournalError> {
        let rows = sqlx::query(
            "select sender, direction, text from messages where conversation = ? and seq < ? and text <> '' \
             order by seq desc limit ?",
        )
        .bind(row.conversation.id.0)
        .bind(signed(first))
        .bind(i64::try_from(self.settings().context_lines).unwrap_or(i64::MAX))
        .fetch_all(tx)
        .await?;
        let mut lines = rows
            .iter()
            .map(|row| {
                Ok(ContextLine {
                    sender: row.try_get("sender")?,
                    direction: parsed(row, "direction")?,
                    text: row.try_get("text")?,
                })
            })
            .collect::<Result<Vec<_>, JournalError>>()?;
        lines.truncate(fitting(lines.iter().map(|line| line.sender.len() + line.text.len()), CONTEXT_BYTES));
        lines.reverse();
        Ok(lines)
    }

    /// See [`Journal::turn_published`].
    pub(super) async fn mark_turn(&self, id: TurnId, revision: Revision, now: Timestamp) -> Result<(), JournalError> {
        let mut tx = self.begin().await?;
        let Some(held) = TurnRow::load(&mut tx, id).await? else { return Ok(()) };
        sqlx::query(
            "update turns set published_revision = max(published_revision, ?1), \
             published_at = case when revision = ?1 then ?2 else published_at end where id = ?3",
        )
        .bind(revision.0)
        .bind(to_millis(now))
        .bind(id.0)
        .execute(&mut *tx)
        .await?;
        if held.effect.is_none()
            && let Some(mut row) = ConversationRow::load(&mut tx, held.conversation).await?
        {
            self.tell(&mut tx, &mut row, Event::Published { number: held.number, revision, at: now }, now).await?;
            row.save(&mut tx).await?;
        }
        tx.commit().await?;
        failpoint::reach("journal.published");
        Ok(())
    }

    /// See [`Journal::outcomes_to_publish`].
    pub(super) async fn due_outcomes(&self, now: Timestamp) -> Result<Vec<ReplyOutcome>, JournalError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query(
            "select o.body, o.published_at from outcomes o left join turns t on t.id = o.turn \
             where o.acknowledged = 0 and (o.unheld = 1 or t.id is null or t.recorded_revision >= o.revision) \
             order by o.made_at, o.rowid",
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut due = Vec::new();
        for row in &rows {
            if self.is_due(time(row, "published_at")?, now) {
                due.push(serde_json::from_str(row.try_get("body")?).map_err(corrupt)?);
            }
        }
        Ok(due)
    }
}

/// How many of `sizes`, from the first, have at most `room` bytes together.
fn fitting(sizes: impl Iterator<Item = usize>, room: usize) -> usize {
    let mut left = room;
    sizes.map_while(|size| left.checked_sub(size).map(|rest| left = rest)).count()
}

fn message(row: &sqlx::sqlite::SqliteRow) -> Result<TurnMessage, JournalError> {
    let method = match row.try_get::<&str, _>("method")? {
        "accessibility" => ExtractionMethod::Accessibility,
        "clipboard" => ExtractionMethod::Clipboard,
        _ => ExtractionMethod::Ocr,
    };
    Ok(TurnMessage {
        seq: unsigned(row, "seq")?,
        sender: row.try_get("sender")?,
        direction: parsed::<Direction>(row, "direction")?,
        text: row.try_get("text")?,
        detected_at: certain_time(row, "detected_at")?,
        extraction: Extraction { method, confidence: row.try_get("confidence")?, doubtful: row.try_get("doubtful")? },
    })
}
