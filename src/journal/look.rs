//! Recording a look: which line is whose, which messages make the turn. One transaction a look.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sqlx::{Row, SqliteConnection};

use super::closeness::{is_close, similarity};
use super::outcome::Ending;
use super::rows::{CommandRow, CommandState, ConversationRow, signed, unsigned};
use super::{Grown, Journal, JournalError, LastLook, NewMessage};
use crate::clock::{elapsed, to_millis};
use crate::contract::{Conversation, ConversationKind, Direction, Effect, Evidence, ExtractionMethod, Mode, TurnId};
use crate::failpoint;
use crate::policy::age::{self, Age};
use crate::policy::mention::mentions;
use crate::policy::turn::{Admission, Event, Stage, Verdict, admit};
use crate::screen::pane::Cue;

/// How long after Enter the first own line belongs to an intent that ended as unverifiable, whatever it reads like;
/// later only if it reads like the reply.
const LATE: Duration = Duration::from_secs(120);
/// So many of the last own replies are compared with a line.
const RECENT_REPLIES: i64 = 20;

/// What became of a line.
struct Judged {
    direction: Direction,
    standing: &'static str,
    doubtful: bool,
}

/// The messages of a look that have not been told to the turns yet.
#[derive(Default)]
struct Run {
    last_seq: Option<u64>,
    doubtful: bool,
    too_old: bool,
}

/// A look being recorded.
struct Look<'a> {
    journal: &'a Journal,
    row: ConversationRow,
    mode: Mode,
    unwatched: Duration,
    now: Timestamp,
    run: Run,
}

impl Journal {
    /// See [`Journal::record_look`].
    pub(super) async fn record(
        &self,
        conversation: &Conversation,
        new: Vec<NewMessage>,
        look: LastLook,
        now: Timestamp,
    ) -> Result<Option<Grown>, JournalError> {
        let mut tx = self.begin().await?;
        let mut row = ConversationRow::make(&mut tx, conversation).await?;
        let mode = self.base_mode(&mut tx, &row).await?.0;
        if mode == Mode::Off {
            self.silence(&mut tx, &mut row, now).await?;
            if row.turns.out.is_none() {
                row.look = None;
                row.aligned_session = 0;
                row.save(&mut tx).await?;
                tx.commit().await?;
                return Ok(None);
            }
        }
        let first = row.aligned_session != self.session();
        let unwatched =
            row.look.as_ref().filter(|_| first).map_or(Duration::ZERO, |before| elapsed(before.at, look.at));
        let told = !new.is_empty();
        let open = |row: &ConversationRow| row.turns.open.as_ref().map(|turn| (turn.number, turn.revision));
        let before = open(&row);
        let mut reading = Look { journal: self, row, mode, unwatched, now, run: Run::default() };
        for message in &new {
            reading.take(&mut tx, message).await?;
        }
        reading.flush(&mut tx).await?;
        let mut row = reading.row;
        let grown = open(&row)
            .filter(|now| Some(*now) != before)
            .map(|(number, revision)| Grown { turn: TurnId::derive(self.id(), conversation.id, number), revision });
        if look.aligned {
            row.aligned_session = self.session();
        }
        row.look = Some(look);
        row.save(&mut tx).await?;
        tx.commit().await?;
        if told {
            failpoint::reach("journal.turn");
        }
        Ok(grown)
    }

    /// Ends what lives in a conversation whose mode is off. What the ledger has not seen, it will not see.
    pub(super) async fn silence(
        &self,
        tx: &mut SqliteConnection,
        row: &mut ConversationRow,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let live = [&row.turns.out, &row.turns.open].into_iter().flatten();
        let ending: Vec<u64> = live.filter(|turn| turn.stage == Stage::Waiting).map(|turn| turn.number).collect();
        for number in ending {
            self.end_turn(tx, row, number, &Ending::new(Effect::Off, "the mode is off"), now).await?;
            let id = TurnId::derive(self.id(), row.conversation.id, number);
            sqlx::query("update turns set silent = 1 where id = ?").bind(id.0).execute(&mut *tx).await?;
            sqlx::query(
                "update outcomes set unheld = 1, acknowledged = (select published_revision = 0 from turns where id = ?1) \
                 where turn = ?1 and effect = 'off'",
            )
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        }
        Ok(())
    }
}

impl Look<'_> {
    async fn take(&mut self, tx: &mut SqliteConnection, message: &NewMessage) -> Result<(), JournalError> {
        let seq = self.row.next_seq;
        self.row.next_seq += 1;
        let judged = self.judge(tx, message, seq).await?;
        if judged.direction == Direction::OwnHuman {
            self.flush(tx).await?;
        }
        self.keep(tx, message, seq, &judged).await?;
        match (judged.direction, judged.standing) {
            (Direction::Inbound, "joins" | "too_old") => {
                let too_old = judged.standing == "too_old";
                if self.run.too_old != too_old {
                    self.flush(tx).await?;
                }
                self.run.too_old = too_old;
                self.run.last_seq = Some(seq);
                self.run.doubtful |= judged.doubtful;
            }
            (Direction::OwnHuman, "") => {
                self.row.in_a_row = 0;
                self.journal.tell(tx, &mut self.row, Event::HumanReplied { seq }, self.now).await?;
            }
            _ => {}
        }
        if message.history {
            self.doubt_open(tx).await?;
        }
        Ok(())
    }

    async fn judge(
        &mut self,
        tx: &mut SqliteConnection,
        message: &NewMessage,
        seq: u64,
    ) -> Result<Judged, JournalError> {
        let plain = |direction, standing| Judged { direction, standing, doubtful: message.extraction.doubtful };
        match message.cue {
            Cue::System => Ok(plain(Direction::System, "")),
            Cue::Own => {
                if self.belongs_to_intent(tx, message, seq).await? || self.reads_like_ours(tx, &message.text).await? {
                    return Ok(plain(Direction::OwnAutomatic, ""));
                }
                self.note_under_intent(tx, seq).await?;
                let seen_before = message.history && self.is_known_own(tx, &message.text).await?;
                Ok(plain(Direction::OwnHuman, if seen_before { "history" } else { "" }))
            }
            Cue::Other | Cue::Unknown => {
                if self.reads_like_ours(tx, &message.text).await? {
                    if message.cue == Cue::Unknown {
                        self.belongs_to_intent(tx, message, seq).await?;
                    }
                    return Ok(plain(Direction::OwnAutomatic, "echo"));
                }
                Ok(self.admit(message))
            }
        }
    }

    fn admit(&self, message: &NewMessage) -> Judged {
        let settings = self.journal.settings();
        let conversation = &self.row.conversation;
        let names = settings.own_names.iter().chain([&conversation.account]).map(String::as_str);
        let mentioned = conversation.kind == ConversationKind::Group && mentions(&message.text, names);
        let age =
            age::judge(message.stamp.as_deref(), self.unwatched, settings.age_limit, self.now, &TimeZone::system());
        // What may be too old is answered only through a person; what certainly is, not at all.
        let over = if age == Age::TooOld { Duration::MAX } else { Duration::ZERO };
        let standing = match admit(conversation.kind, mentioned, message.history, over, settings.age_limit) {
            Admission::Joins => "joins",
            Admission::History => "history",
            Admission::TooOld => "too_old",
            Admission::NotMentioned => "not_mentioned",
        };
        let doubtful = message.extraction.doubtful || message.cue == Cue::Unknown || age == Age::Unknown;
        Judged { direction: Direction::Inbound, standing, doubtful }
    }

    /// The first own line below a submitting (or just ended, unverifiable) watermark is that intent's.
    async fn belongs_to_intent(
        &mut self,
        tx: &mut SqliteConnection,
        message: &NewMessage,
        seq: u64,
    ) -> Result<bool, JournalError> {
        let rows = sqlx::query(
            "select c.* from commands c left join outcomes o on o.turn = c.turn and o.revision = c.revision \
             where c.conversation = ? and c.submitted_at is not null and c.own_seq is null and c.watermark < ? \
             and (c.state = 'submitting' or o.effect = 'unverifiable') order by c.submitted_at, c.rowid",
        )
        .bind(self.row.conversation.id.0)
        .bind(signed(seq))
        .fetch_all(&mut *tx)
        .await?;
        // The one that reads most like the line, of equal ones the last; if none does, the first whose place it is. Where one
        // reply was never shown and the next one is, its line must not be taken for the first one's.
        let (mut by_text, mut by_place) = (None, None);
        for row in &rows {
            let command = CommandRow::from_row(row)?;
            let late = command.submitted_at.is_none_or(|at| self.now < at || elapsed(at, self.now) > LATE);
            if is_close(&message.text, &command.send.text) {
                let likeness = similarity(&message.text, &command.send.text);
                if by_text.as_ref().is_none_or(|(best, _)| likeness >= *best) {
                    by_text = Some((likeness, command));
                }
            } else if by_place.is_none()
                && !message.history
                && message.cue == Cue::Own
                && (command.state == CommandState::Submitting || !late)
            {
                by_place = Some(command);
            }
        }
        let Some(command) = by_text.map(|(_, command)| command).or(by_place) else { return Ok(false) };
        self.claim(tx, &command, message, seq).await?;
        Ok(true)
    }

    /// The line is the reply of this command; an unverifiable one is confirmed by it.
    async fn claim(
        &mut self,
        tx: &mut SqliteConnection,
        command: &CommandRow,
        message: &NewMessage,
        seq: u64,
    ) -> Result<(), JournalError> {
        let (turn, revision) = (command.send.turn, command.send.revision);
        sqlx::query("update commands set own_seq = ? where turn = ? and revision = ?")
            .bind(signed(seq))
            .bind(turn.0)
            .bind(revision.0)
            .execute(&mut *tx)
            .await?;
        if command.state != CommandState::Ended {
            return Ok(());
        }
        let earlier = self.journal.outcome(tx, turn, revision).await?;
        let before = earlier.as_ref().and_then(|outcome| outcome.evidence.as_ref());
        let mut ending = Ending::new(Effect::Confirmed, "its line was seen late, below the watermark");
        ending.evidence = Some(Evidence {
            watermark: command.watermark,
            shown_as: Some(seq),
            similarity: Some(similarity(&message.text, &command.send.text)),
            input_empty: before.and_then(|evidence| evidence.input_empty),
            read_back_exact: before.is_some_and(|evidence| evidence.read_back_exact),
        });
        ending.timings = earlier.map(|outcome| outcome.timings).unwrap_or_default();
        ending.timings.shown_at = Some(self.now);
        // The row of this look is written at its end: it must not be lost under the one that is written now.
        self.row.save(tx).await?;
        self.journal.end_command(tx, turn, revision, ending, self.now).await?;
        if let Some(row) = ConversationRow::load(tx, self.row.conversation.id).await? {
            self.row = row;
        }
        Ok(())
    }

    async fn reads_like_ours(&self, tx: &mut SqliteConnection, text: &str) -> Result<bool, JournalError> {
        let rows = sqlx::query(
            "select * from commands where conversation = ? and submitted_at is not null \
             order by submitted_at desc limit ?",
        )
        .bind(self.row.conversation.id.0)
        .bind(RECENT_REPLIES)
        .fetch_all(tx)
        .await?;
        for row in &rows {
            if is_close(text, &CommandRow::from_row(row)?.send.text) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Remembers the line under an intent before Enter: whoever reconciles it must see that the person sent something.
    async fn note_under_intent(&self, tx: &mut SqliteConnection, seq: u64) -> Result<(), JournalError> {
        sqlx::query(
            "update commands set own_seq = ?1 where conversation = ?2 and state = 'intent' and own_seq is null \
             and watermark < ?1",
        )
        .bind(signed(seq))
        .bind(self.row.conversation.id.0)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// After a gap old lines are told again: an own line that stands in the journal is no new answer.
    async fn is_known_own(&self, tx: &mut SqliteConnection, text: &str) -> Result<bool, JournalError> {
        let row = sqlx::query(
            "select 1 from messages where conversation = ? and direction in ('own_human', 'own_automatic') and text = ? limit 1",
        )
        .bind(self.row.conversation.id.0)
        .bind(text)
        .fetch_optional(tx)
        .await?;
        Ok(row.is_some())
    }

    async fn keep(
        &self,
        tx: &mut SqliteConnection,
        message: &NewMessage,
        seq: u64,
        judged: &Judged,
    ) -> Result<(), JournalError> {
        sqlx::query(
            "insert into messages (conversation, seq, direction, standing, sender, text, stamp, method, confidence, \
             doubtful, detected_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.row.conversation.id.0)
        .bind(signed(seq))
        .bind(judged.direction.as_str())
        .bind(judged.standing)
        .bind(&message.sender)
        .bind(&message.text)
        .bind(message.stamp.as_deref())
        .bind(match message.extraction.method {
            ExtractionMethod::Accessibility => "accessibility",
            ExtractionMethod::Ocr => "ocr",
            ExtractionMethod::Clipboard => "clipboard",
        })
        .bind(message.extraction.confidence)
        .bind(judged.doubtful)
        .bind(to_millis(self.now))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Tells the messages since the last flush to the turns.
    async fn flush(&mut self, tx: &mut SqliteConnection) -> Result<(), JournalError> {
        let run = std::mem::take(&mut self.run);
        let Some(last_seq) = run.last_seq else { return Ok(()) };
        let turns = &self.row.turns;
        if run.too_old && (turns.open.is_some() || turns.out.is_some()) {
            return Ok(());
        }
        let after = turns.answered_through;
        let mode = self.journal.doubt(&self.row, run.doubtful).limit(self.mode);
        let event = Event::Inbound { last_seq, at: self.now, mode };
        let number = match self.journal.tell(tx, &mut self.row, event, self.now).await? {
            Verdict::Opened(number) => {
                self.open_row(tx, number, after, last_seq).await?;
                number
            }
            Verdict::Joined(number, revision) => {
                let id = TurnId::derive(self.journal.id(), self.row.conversation.id, number);
                self.journal.overtake(tx, self.row.conversation.id, id, revision, self.now).await?;
                sqlx::query(
                    "update turns set revision = ?, last_seq = ?, last_at = ?, published_at = null where id = ?",
                )
                .bind(revision.0)
                .bind(signed(last_seq))
                .bind(to_millis(self.now))
                .bind(id.0)
                .execute(&mut *tx)
                .await?;
                number
            }
            Verdict::Done | Verdict::Stale => return Ok(()),
        };
        if run.too_old {
            let ending = Ending::new(Effect::TooOld, "the message was over the age limit when it was first seen");
            self.journal.end_turn(tx, &mut self.row, number, &ending, self.now).await?;
        }
        Ok(())
    }

    async fn open_row(
        &self,
        tx: &mut SqliteConnection,
        number: u64,
        after: u64,
        last_seq: u64,
    ) -> Result<(), JournalError> {
        let id = TurnId::derive(self.journal.id(), self.row.conversation.id, number);
        sqlx::query(
            "insert into turns (id, conversation, number, revision, after_seq, last_seq, last_at) \
             values (?, ?, ?, 1, ?, ?, ?)",
        )
        .bind(id.0)
        .bind(self.row.conversation.id.0)
        .bind(signed(number))
        .bind(signed(after))
        .bind(signed(last_seq))
        .bind(to_millis(self.now))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Lines may be missing between the open turn and what comes now: a person has to look.
    async fn doubt_open(&self, tx: &mut SqliteConnection) -> Result<(), JournalError> {
        sqlx::query("update turns set doubtful = 1 where conversation = ? and effect is null")
            .bind(self.row.conversation.id.0)
            .execute(tx)
            .await?;
        Ok(())
    }
}

impl Journal {
    /// Ends the queued replies to older revisions of a turn that has grown.
    async fn overtake(
        &self,
        tx: &mut SqliteConnection,
        conversation: crate::contract::ConversationId,
        turn: TurnId,
        revision: crate::contract::Revision,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let rows = sqlx::query(
            "update commands set state = 'ended' where turn = ? and revision < ? and state = 'queued' returning revision",
        )
        .bind(turn.0)
        .bind(revision.0)
        .fetch_all(&mut *tx)
        .await?;
        for row in &rows {
            let old = u32::try_from(unsigned(row, "revision")?).unwrap_or(u32::MAX);
            let ending = Ending::new(Effect::Superseded, "newer inbound text came before it was typed");
            self.put_outcome(tx, conversation, turn, crate::contract::Revision(old), &ending, now).await?;
        }
        Ok(())
    }

    /// The outcome of this turn and revision, if there is one.
    pub(super) async fn outcome(
        &self,
        tx: &mut SqliteConnection,
        turn: TurnId,
        revision: crate::contract::Revision,
    ) -> Result<Option<crate::contract::ReplyOutcome>, JournalError> {
        let row = sqlx::query("select body from outcomes where turn = ? and revision = ?")
            .bind(turn.0)
            .bind(revision.0)
            .fetch_optional(tx)
            .await?;
        row.map(|row| serde_json::from_str(row.try_get(0)?).map_err(super::rows::corrupt)).transpose()
    }
}
