//! The desktop's authority: one SQLite file that decides what was said, which messages make a turn, and whether a key
//! may be pressed. Every public method is one transaction, begun with `begin immediate` on the one connection there is.

mod closeness;
mod command;
mod desk;
mod look;
mod open;
mod outcome;
mod publish;
mod rows;
mod send;
mod settings;
mod types;
mod upkeep;

#[cfg(test)]
mod desk_tests;
#[cfg(test)]
mod tests;

pub use desk::DeskStanding;
pub use outcome::Ending;
pub use settings::Settings;
pub use types::{
    Accepted, Attention, ControlState, ConversationState, FenceVerdict, Grown, IntentState, JournalError, LastLook,
    NewMessage, OpenTurn, OwnLine, Refusal, SendOrder, Sizes, TurnSettings, Unfinished,
};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::watch;

use crate::contract::{
    Command, ControlRecord, Conversation, ConversationId, DesktopId, Effect, InstanceId, JournalId, MessagesDetected,
    Mode, ReplyOutcome, Revision, TurnId,
};
use crate::policy::mode::Halt;
use crate::policy::turn::TurnRules;

/// An open journal. Cheap to clone. One process at a time: the file is locked until the last clone is gone.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: SqlitePool,
    id: JournalId,
    session: i64,
    instance: InstanceId,
    seat: String,
    told: desk::Told,
    desktop: DesktopId,
    settings: TurnSettings,
    changed: watch::Sender<u64>,
    /// Held for the journal's life.
    _lock: std::fs::File,
}

impl Journal {
    /// Opens the journal at `path`, makes it if it is not there, and locks it against a second process.
    ///
    /// # Errors
    /// `Locked` if another process has it, `Storage` if it cannot be read or is not a journal.
    pub async fn open(path: &Path, desktop: DesktopId, settings: TurnSettings) -> Result<Self, JournalError> {
        let opened = open::open(path).await?;
        Ok(Self(Arc::new(Inner {
            pool: opened.pool,
            id: opened.id,
            session: opened.session,
            instance: InstanceId::draw(),
            seat: open::seat(path),
            told: desk::Told::default(),
            desktop,
            settings,
            changed: watch::Sender::new(0),
            _lock: opened.lock,
        })))
    }

    /// This file's own id.
    pub fn id(&self) -> JournalId {
        self.0.id
    }

    /// This opening of the file: no other process, and no copy of the file, has it.
    pub fn instance(&self) -> InstanceId {
        self.0.instance
    }

    /// Names this very file on this running machine, as `boot/device/inode`; empty where the machine does not tell. Who
    /// has it open knows that whoever had it before has ended, because the file is locked; a copy has another one.
    pub fn seat(&self) -> &str {
        &self.0.seat
    }

    /// Tells of every change that may give the publisher or the executor something to do. What becomes due by time
    /// alone (quiet, repetition, expiry) is not told.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// How long a conversation must be quiet until its turn is offered.
    pub fn quiet(&self) -> Duration {
        self.settings().quiet
    }

    /// Closes the file; what is under way is finished first.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    // ---- capture writes, in one transaction a look --------------------------------------------------------------

    /// What the last look at this conversation left behind; `None` before the first one ever, and after the mode was
    /// off or retention took it: then what stands there is history.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn last_look(&self, conversation: ConversationId) -> Result<Option<LastLook>, JournalError> {
        let mut tx = self.begin().await?;
        Ok(rows::ConversationRow::load(&mut tx, conversation).await?.and_then(|row| row.look))
    }

    /// Records a look: the messages that are new (possibly none), the pane's digest, whether the view was aligned and
    /// at the bottom. Decides directions against submitting intents, joins or opens the turn, raises its revision.
    /// Where the mode is off nothing is kept but the end of what was open. The turn that it opened or made longer, if any.
    ///
    /// # Errors
    /// The file cannot be written: the same look is then recorded again.
    pub async fn record_look(
        &self,
        conversation: &Conversation,
        new: Vec<NewMessage>,
        look: LastLook,
        now: Timestamp,
    ) -> Result<Option<Grown>, JournalError> {
        let grown = self.record(conversation, new, look, now).await?;
        self.bump();
        Ok(grown)
    }

    // ---- the publisher moves rows to Kafka and records to the journal --------------------------------------------

    /// Turns that are quiet (or over the longest wait) and not yet acknowledged at their revision; on the way those
    /// that are not to be answered are ended. Only conversations that were aligned since the journal was opened. A
    /// turn that has ended already comes with the mode `off`: record it, draft nothing, its outcome follows.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub async fn turns_to_publish(&self, now: Timestamp) -> Result<Vec<MessagesDetected>, JournalError> {
        let (turns, ended) = self.due_turns(now).await?;
        if ended {
            self.bump();
        }
        Ok(turns)
    }

    /// The turn at this revision went to Kafka; it is offered again when no acknowledgement comes in time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn turn_published(&self, turn: TurnId, revision: Revision, now: Timestamp) -> Result<(), JournalError> {
        self.mark_turn(turn, revision, now).await
    }

    /// Outcomes that the ledger has not acknowledged and that are due (again), oldest first; those of a turn that the
    /// ledger has not acknowledged yet wait for it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn outcomes_to_publish(&self, now: Timestamp) -> Result<Vec<ReplyOutcome>, JournalError> {
        self.due_outcomes(now).await
    }

    /// This outcome went to Kafka. If a better one has taken its place meanwhile, that one is still to be published, and
    /// an acknowledgement of this one settles nothing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn outcome_published(&self, outcome: &ReplyOutcome, now: Timestamp) -> Result<(), JournalError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "update outcomes set published_at = case when effect = ?4 then ?1 else published_at end, \
             publications = publications + (effect = ?4), stale_acks = stale_acks + (effect <> ?4) \
             where turn = ?2 and revision = ?3",
        )
        .bind(crate::clock::to_millis(now))
        .bind(outcome.turn.0)
        .bind(outcome.revision.0)
        .bind(outcome.effect.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        crate::failpoint::reach("journal.outcome_published");
        Ok(())
    }

    /// A command from Kafka; repeats are ignored, other desktops' too. A send for a turn this journal does not hold,
    /// or whose journal id is another, is noted and ends as `refused`; one for an older revision as `superseded`. A
    /// withdrawal counts only while no key was pressed, and ends the turn as `superseded`. Whether it is a send that was
    /// not known.
    ///
    /// # Errors
    /// The file cannot be written: the command is then to be accepted again.
    pub async fn accept(&self, command: Command, now: Timestamp) -> Result<Accepted, JournalError> {
        let accepted = self.take_command(command, now).await?;
        self.bump();
        Ok(accepted)
    }

    /// A control; the greater version of a scope wins. A stop ends what is queued and open in its scope as `off`, but
    /// not what has its intent journalled: there the fence stops the executor. A mode and a pause or stop of the same
    /// scope stand beside each other.
    ///
    /// # Errors
    /// The file cannot be written: the control is then to be applied again.
    pub async fn apply_control(&self, record: &ControlRecord, now: Timestamp) -> Result<(), JournalError> {
        if self.take_control(record, now).await? {
            self.bump();
        }
        Ok(())
    }

    /// Everything unacknowledged is due at once: at start, and when the cluster is another one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn publish_again(&self) -> Result<(), JournalError> {
        let mut tx = self.begin().await?;
        sqlx::query("update turns set published_at = null where recorded_revision < revision")
            .execute(&mut *tx)
            .await?;
        // What went to a lost cluster is never acknowledged by it.
        sqlx::query("update outcomes set published_at = null, publications = 0, stale_acks = 0 where acknowledged = 0")
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.bump();
        Ok(())
    }

    // ---- the executor --------------------------------------------------------------------------------------------

    /// The oldest command that may be tried now. Commands that cannot be executed any more (expired, stale, off)
    /// are ended with their outcome on the way. Conversations in `blocked`, and those with an intent that has not
    /// ended, are passed over.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub async fn next_send(
        &self,
        blocked: &[ConversationId],
        now: Timestamp,
    ) -> Result<Option<SendOrder>, JournalError> {
        let (order, ended) = self.choose(blocked, now).await?;
        if ended {
            self.bump();
        }
        Ok(order)
    }

    /// Fence and intent in one transaction, before the first key.
    ///
    /// # Errors
    /// The file cannot be written: then nothing may be typed.
    pub async fn begin_intent(
        &self,
        turn: TurnId,
        revision: Revision,
        now: Timestamp,
    ) -> Result<FenceVerdict, JournalError> {
        let verdict = self.intend(turn, revision, now).await?;
        self.bump();
        Ok(verdict)
    }

    /// The same fence again and `submitting`, with the watermark, just before Enter. `pane_digest` must be that of the
    /// last recorded look, aligned and at the bottom, or the verdict is `Wait`. It passes at most once in the life of a
    /// turn. The caps count the reply from here on.
    ///
    /// # Errors
    /// The file cannot be written: then Enter must not be pressed.
    pub async fn begin_submit(
        &self,
        turn: TurnId,
        revision: Revision,
        pane_digest: u64,
        now: Timestamp,
    ) -> Result<FenceVerdict, JournalError> {
        let verdict = self.submit(turn, revision, pane_digest, now).await?;
        self.bump();
        Ok(verdict)
    }

    /// Nothing was sent and our text is out of the input: the command goes back to be tried again, not before `after`.
    /// After [`Journal::begin_submit`] it is not tried again: it ends as `failed`, or as `unverifiable` if an own line
    /// was seen.
    ///
    /// # Errors
    /// The file cannot be written: the intent stays, to be reconciled.
    pub async fn abandon_intent(
        &self,
        turn: TurnId,
        revision: Revision,
        after: Duration,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.abandon(turn, revision, after, now).await?;
        self.bump();
        Ok(())
    }

    /// The first own line below the watermark of this submitting intent, if it has been seen. For an intent whose
    /// Enter was never allowed it is a line that the person sent.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn own_line(&self, turn: TurnId, revision: Revision) -> Result<Option<OwnLine>, JournalError> {
        self.find_own_line(turn, revision).await
    }

    /// Ends the command with its effect and makes the outcome, once; `confirmed` never regresses. Once Enter was
    /// allowed, an effect that says that nothing was sent is kept as `unverifiable`.
    ///
    /// # Errors
    /// The file cannot be written: it is then to be ended again.
    pub async fn end(
        &self,
        turn: TurnId,
        revision: Revision,
        ending: Ending,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let mut tx = self.begin().await?;
        self.end_command(&mut tx, turn, revision, ending, now).await?;
        tx.commit().await?;
        crate::failpoint::reach("journal.outcome");
        self.bump();
        Ok(())
    }

    /// Intents that a dead executor left, to be reconciled by reading before anything is typed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, JournalError> {
        self.left_behind().await
    }

    // ---- people and operators ------------------------------------------------------------------------------------

    /// Every conversation that is known, with its mode and its open turns.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn conversations(&self) -> Result<Vec<ConversationState>, JournalError> {
        self.overview().await
    }

    /// How far this conversation may go, before any doubt about a turn, and whether it is paused or stopped. Capture
    /// asks it before it reads: off is not read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn effective_mode(&self, conversation: &Conversation) -> Result<(Mode, Halt), JournalError> {
        self.mode_of(conversation).await
    }

    /// What the controls ask for at the moment.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn controls(&self) -> Result<Vec<ControlState>, JournalError> {
        self.control_states().await
    }

    /// Sets or removes the conversation's own ceiling; `false` if it is not known.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn set_conversation_mode(
        &self,
        conversation: ConversationId,
        mode: Option<Mode>,
        now: Timestamp,
    ) -> Result<bool, JournalError> {
        let known = self.put_mode(conversation, mode, now).await?;
        self.bump();
        Ok(known)
    }

    /// The peer is no new peer any more. An approved or a confirmed reply does this by itself.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn trust(&self, conversation: ConversationId) -> Result<(), JournalError> {
        self.put_trust(conversation).await
    }

    /// What a turn has come to: its revision, and its one effect if it has ended; `None` if it is not held.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn turn_effect(&self, turn: TurnId) -> Result<Option<(Revision, Option<Effect>)>, JournalError> {
        self.effect_of(turn).await
    }

    /// Deletes texts older than `keep_text` and rows older than `keep_rows`, never what is still open.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn prune(&self, now: Timestamp, keep_text: Duration, keep_rows: Duration) -> Result<(), JournalError> {
        self.delete_old(now, keep_text, keep_rows).await
    }

    /// Removes every text and name of `peer`, on every account; the number of conversations. What was open and had no
    /// key pressed ends as `off`, unpublished.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn forget(&self, peer: &str, now: Timestamp) -> Result<u64, JournalError> {
        let found = self.delete_peer(peer, now).await?;
        self.bump();
        Ok(found)
    }

    /// How much the journal holds, for metrics.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn sizes(&self) -> Result<Sizes, JournalError> {
        self.count_rows().await
    }

    // ---- within ---------------------------------------------------------------------------------------------------

    /// Begins a transaction that may read and then write. A full disk makes SQLite end a transaction by itself, which
    /// the driver does not notice: it believes to be in one for ever. Such a connection is replaced.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, JournalError> {
        match self.0.pool.begin_with("begin immediate").await {
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.0.pool.acquire().await?.close().await?;
                Ok(self.0.pool.begin_with("begin immediate").await?)
            }
            other => Ok(other?),
        }
    }

    fn pool(&self) -> &SqlitePool {
        &self.0.pool
    }

    fn session(&self) -> i64 {
        self.0.session
    }

    fn told(&self) -> &desk::Told {
        &self.0.told
    }

    fn desktop(&self) -> &DesktopId {
        &self.0.desktop
    }

    fn settings(&self) -> &TurnSettings {
        &self.0.settings
    }

    fn rules(&self) -> TurnRules {
        TurnRules {
            quiet: self.0.settings.quiet,
            quiet_max: self.0.settings.quiet_max,
            frozen_max: self.0.settings.detection_ttl,
            ..TurnRules::default()
        }
    }

    fn bump(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}
