//! What a group is to write, worked out without the database: its sagas are locked and read, everything is decided
//! here by the table of states, and the result goes out as sets of rows.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::rows::{DAY_MS, Saga};
use crate::contract::{Command, ConversationId, DesktopId, JournalId, Revision, TurnId};
use crate::saga::state::{Event, Settlement, State, settle, step};
use crate::saga::{Draft, Rejected};

/// The longest body of a turn, in characters; the schema says the same.
const BODY_MAX: usize = 1 << 20;
/// The longest detail of a line of the story, in characters; the schema says the same.
const DETAIL_MAX: usize = 4_096;

/// A line of the story.
pub(super) struct EventRow {
    pub(super) id: Uuid,
    pub(super) turn: TurnId,
    pub(super) revision: Revision,
    pub(super) who: String,
    pub(super) event: &'static str,
    pub(super) from: Option<State>,
    pub(super) to: State,
    pub(super) detail: String,
    pub(super) times: Option<String>,
}

/// A row of `turns`.
pub(super) struct TurnRow {
    pub(super) turn: TurnId,
    pub(super) journal: JournalId,
    pub(super) desktop: DesktopId,
    pub(super) conversation: ConversationId,
    pub(super) peer: String,
    pub(super) body: String,
    pub(super) owner_token: Option<u64>,
    pub(super) traceparent: Option<String>,
}

/// A row of `drafts`.
pub(super) struct DraftRow {
    pub(super) turn: TurnId,
    pub(super) version: i32,
    pub(super) revision: Revision,
    pub(super) draft: Draft,
    pub(super) discarded: bool,
}

/// A row of `outbox`.
pub(super) struct CommandRow {
    pub(super) event: Uuid,
    pub(super) turn: TurnId,
    pub(super) revision: Revision,
    pub(super) kind: &'static str,
    pub(super) body: String,
    pub(super) held_until: i64,
}

/// A row of `quota` that is new.
pub(super) struct QuotaRow {
    pub(super) turn: TurnId,
    pub(super) revision: Revision,
    pub(super) day: i64,
    pub(super) state: &'static str,
}

/// Sets of rows to be written together.
#[derive(Default)]
pub(super) struct Writes {
    /// Sagas that were not there.
    pub(super) new: Vec<Saga>,
    /// Sagas as they are now.
    pub(super) changed: Vec<Saga>,
    pub(super) turns: Vec<TurnRow>,
    pub(super) events: Vec<EventRow>,
    pub(super) drafts: Vec<DraftRow>,
    /// Revisions whose draft is no longer good.
    pub(super) discarded: Vec<(TurnId, Revision)>,
    pub(super) commands: Vec<CommandRow>,
    /// Turns whose commands are not to be published any more, those of this set excepted.
    pub(super) cancelled: Vec<TurnId>,
    pub(super) reserved: Vec<QuotaRow>,
    pub(super) settled: Vec<(TurnId, Revision, &'static str)>,
    /// How many replies each day gains or loses.
    pub(super) days: BTreeMap<i64, i64>,
}

impl Writes {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        let sagas = self.new.is_empty() && self.changed.is_empty() && self.turns.is_empty();
        let beside = self.events.is_empty() && self.drafts.is_empty() && self.commands.is_empty();
        sagas && beside && self.cancelled.is_empty()
    }

    fn append(&mut self, mut other: Self) {
        self.new.append(&mut other.new);
        self.changed.append(&mut other.changed);
        self.turns.append(&mut other.turns);
        self.events.append(&mut other.events);
        self.drafts.append(&mut other.drafts);
        self.discarded.append(&mut other.discarded);
        self.commands.append(&mut other.commands);
        self.cancelled.append(&mut other.cancelled);
        self.reserved.append(&mut other.reserved);
        self.settled.append(&mut other.settled);
        for (day, delta) in other.days {
            *self.days.entry(day).or_default() += delta;
        }
    }

    /// Why the database would refuse one of these rows; then their item is refused before it can harm its group.
    fn flaw(&self) -> Option<String> {
        let nul = |text: &str| text.contains('\0');
        let long = |text: &str, max: usize| text.len() > max && text.chars().count() > max;
        if self.new.iter().chain(&self.changed).any(|saga| saga.revision < Revision::FIRST) {
            return Some("its revision is 0".to_owned());
        }
        if self.turns.iter().any(|turn| long(&turn.body, BODY_MAX)) {
            return Some(format!("its record is longer than {BODY_MAX} characters"));
        }
        if self.events.iter().any(|event| long(&event.detail, DETAIL_MAX)) {
            return Some(format!("its reason is longer than {DETAIL_MAX} characters"));
        }
        let texts = self.turns.iter().flat_map(|turn| [&turn.peer, &turn.body]);
        let texts = texts.chain(self.events.iter().flat_map(|event| [&event.who, &event.detail]));
        let texts = texts.chain(self.drafts.iter().flat_map(|row| [&row.draft.text, &row.draft.provider]));
        let mut texts = texts.chain(self.commands.iter().map(|command| &command.body));
        texts.any(|text| nul(text)).then(|| "it holds a NUL character, which the database cannot keep".to_owned())
    }
}

/// Who does something, and when.
#[derive(Clone, Copy)]
pub(super) struct Stamp<'a> {
    pub(super) id: Uuid,
    pub(super) who: &'a str,
    /// When each step happened on the desk, as JSON, where an outcome tells it.
    pub(super) times: Option<&'a str>,
}

impl<'a> Stamp<'a> {
    /// A stamp with an id of its own.
    pub(super) fn new(who: &'a str) -> Self {
        Self::of(Uuid::now_v7(), who)
    }

    /// A stamp with this id.
    pub(super) fn of(id: Uuid, who: &'a str) -> Self {
        Self { id, who, times: None }
    }
}

/// The day of the quota that is locked, if the group may take from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Today {
    /// Replies reserved or used.
    pub(super) taken: i64,
    /// How many there may be.
    pub(super) limit: i64,
}

/// The writes of a group; each item writes a page, and a bad page is torn out.
pub(super) struct Book {
    now: i64,
    today: Option<Today>,
    writes: Writes,
}

impl Book {
    /// An empty book at this time; without `today`, nothing can be taken out of the quota.
    pub(super) fn new(now: i64, today: Option<Today>) -> Self {
        Self { now, today, writes: Writes::default() }
    }

    /// Lets `item` write its page.
    pub(super) fn item<T>(&mut self, item: impl FnOnce(&mut Page) -> Result<T, Rejected>) -> Result<T, Rejected> {
        let mut page = Page { now: self.now, today: self.today, writes: Writes::default() };
        let done = item(&mut page)?;
        if let Some(why) = page.writes.flaw() {
            return Err(Rejected(why));
        }
        self.today = page.today;
        self.writes.append(page.writes);
        Ok(done)
    }

    /// Everything that is to be written, and the time at which.
    pub(super) fn close(self) -> (i64, Writes) {
        (self.now, self.writes)
    }
}

/// What one item writes.
pub(super) struct Page {
    pub(super) now: i64,
    today: Option<Today>,
    pub(super) writes: Writes,
}

impl Page {
    /// One line of the story.
    pub(super) fn tell(
        &mut self,
        stamp: Stamp<'_>,
        (turn, revision): (TurnId, Revision),
        event: &'static str,
        (from, to): (Option<State>, State),
        detail: &str,
    ) {
        let (who, detail) = (stamp.who.to_owned(), detail.to_owned());
        let times = stamp.times.map(str::to_owned);
        self.writes.events.push(EventRow { id: stamp.id, turn, revision, who, event, from, to, detail, times });
    }

    /// Makes one step of the table with all that belongs to it: the state, the story, the quota, the draft, and commands
    /// that were not published yet. `false`, and nothing, if the table does not allow it.
    pub(super) fn advance(&mut self, stamp: Stamp<'_>, saga: &mut Saga, event: Event, detail: &str) -> bool {
        let Ok(next) = step(saga.state, event) else { return false };
        self.tell(stamp, (saga.turn, saga.revision), event.as_str(), (Some(saga.state), next), detail);
        let settlement = settle(saga.state, next);
        (saga.state, saga.updated_at) = (next, self.now);
        if let Some(settlement) = settlement {
            self.settle_quota(saga, settlement);
        }
        if settlement == Some(Settlement::Released) {
            self.discard_draft(saga);
        }
        if next.effect().is_some() || event == Event::RevisionRaised {
            self.writes.cancelled.push(saga.turn);
        }
        true
    }

    fn settle_quota(&mut self, saga: &mut Saga, settlement: Settlement) {
        let Some(day) = saga.quota_day.take() else { return };
        let to = match settlement {
            Settlement::Used => "used",
            Settlement::Released => "released",
        };
        match self.writes.reserved.iter_mut().find(|row| (row.turn, row.revision) == (saga.turn, saga.revision)) {
            Some(just_reserved) => just_reserved.state = to,
            None => self.writes.settled.push((saga.turn, saga.revision, to)),
        }
        if settlement == Settlement::Released {
            *self.writes.days.entry(day).or_default() -= 1;
            if let Some(today) = self.today.as_mut().filter(|_| day == self.now.div_euclid(DAY_MS)) {
                today.taken -= 1;
            }
        }
    }

    fn discard_draft(&mut self, saga: &Saga) {
        match self.writes.drafts.iter_mut().find(|row| (row.turn, row.revision) == (saga.turn, saga.revision)) {
            Some(just_stored) => just_stored.discarded = true,
            None => self.writes.discarded.push((saga.turn, saga.revision)),
        }
    }

    /// Takes one reply of today's quota; `false` if there is none left.
    pub(super) fn take_quota(&mut self, saga: &mut Saga) -> bool {
        let Some(today) = self.today.as_mut().filter(|today| today.taken < today.limit) else { return false };
        today.taken += 1;
        let day = self.now.div_euclid(DAY_MS);
        *self.writes.days.entry(day).or_default() += 1;
        saga.quota_day = Some(day);
        self.writes.reserved.push(QuotaRow { turn: saga.turn, revision: saga.revision, day, state: "reserved" });
        true
    }

    /// Stores a draft and gives its version.
    pub(super) fn store_draft(&mut self, saga: &mut Saga, draft: &Draft) -> i32 {
        saga.drafts += 1;
        let (version, draft) = (saga.drafts, draft.clone());
        self.writes.drafts.push(DraftRow {
            turn: saga.turn,
            version,
            revision: saga.revision,
            draft,
            discarded: false,
        });
        version
    }

    /// Nobody works on it now; it is looked at again when the deadline has passed.
    pub(super) fn rest(&self, saga: &mut Saga, deadline_ms: i64) {
        saga.lease_until = self.now;
        saga.deadline_at = self.now.saturating_add(deadline_ms);
    }

    /// Puts a command into the outbox; nobody but its writer publishes it before `held_until`.
    pub(super) fn write_command(&mut self, event: Uuid, command: &Command, held_until: i64) -> Result<(), Rejected> {
        let (kind, turn, revision, body) = match command {
            Command::Send(send) => ("send", send.turn, send.revision, serde_json::to_string(send)),
            Command::Withdraw(ask) => ("withdraw", ask.turn, ask.revision, serde_json::to_string(ask)),
            Command::TurnRecorded(_) | Command::OutcomeRecorded(_) => {
                return Err(Rejected("an acknowledgement has no place in the outbox".to_owned()));
            }
        };
        let body = body.map_err(|error| Rejected(error.to_string()))?;
        self.writes.commands.push(CommandRow { event, turn, revision, kind, body, held_until });
        Ok(())
    }
}
