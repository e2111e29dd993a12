//! The admin API of a running role, over whichever parts it has.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::wiring::Outbound;
#[cfg(feature = "worker")]
use super::worker;
use crate::clock::{Clock, to_millis};
use crate::contract::{ControlRecord, TurnId};
#[cfg(feature = "worker")]
use crate::control::OwnedAccountView;
use crate::control::{
    Admin, AdminError, ControlInForce, ControlRequest, Decision, DeskView, Health, Part, Rejection, SagaStory,
    SagaSummary,
};
#[cfg(feature = "desktop")]
use crate::journal::{Journal, JournalError};
#[cfg(feature = "desktop")]
use crate::policy::turn::Stage;
#[cfg(feature = "worker")]
use crate::saga::{Decided, Desk, Filter, LedgerError, Summary};
use crate::telemetry::Metrics;
#[cfg(feature = "worker")]
use crate::telemetry::metrics::{DeskState, Label as _};

/// The parts of a role that the admin API speaks for.
#[derive(Clone)]
pub struct Parts {
    role: &'static str,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    /// The worker, where the role has one.
    #[cfg(feature = "worker")]
    pub worker: Option<worker::Running>,
    /// The journal, where the role has one.
    #[cfg(feature = "desktop")]
    pub journal: Option<Journal>,
    /// The stream, for controls that others have to hear of.
    pub outbound: Option<Outbound>,
}

impl Parts {
    /// A role's API with nothing behind it yet; it is not ready once `stop` is cancelled.
    pub fn new(role: &'static str, metrics: Arc<Metrics>, clock: Arc<dyn Clock>, stop: CancellationToken) -> Self {
        Self {
            role,
            metrics,
            clock,
            stop,
            #[cfg(feature = "worker")]
            worker: None,
            #[cfg(feature = "desktop")]
            journal: None,
            outbound: None,
        }
    }

    #[cfg(feature = "worker")]
    fn worker(&self) -> Result<&worker::Running, AdminError> {
        self.worker.as_ref().ok_or_else(|| AdminError::NotHere(no_worker()))
    }

    /// The version after every one that is known, and after every one that a lost journal may have held.
    async fn next_version(&self, request: &ControlRequest, now: Timestamp) -> u64 {
        let by_time = u64::try_from(to_millis(now)).unwrap_or(0);
        let known = self.controls().await.unwrap_or_default();
        let last =
            known.into_iter().filter(|control| control.scope == request.scope).map(|control| control.version).max();
        last.map_or(by_time, |last| by_time.max(last.saturating_add(1)))
    }
}

fn no_worker() -> String {
    "replies are kept by the worker, and this process has none; ask the machine that runs `autoreply worker`".to_owned()
}

#[cfg(feature = "worker")]
fn ledger_error(error: &LedgerError) -> AdminError {
    AdminError::Unavailable(error.to_string())
}

#[cfg(feature = "worker")]
fn summary(summary: Summary) -> SagaSummary {
    SagaSummary {
        turn: summary.turn,
        revision: summary.revision.0,
        conversation: format!("{} > {}", summary.desktop, summary.peer),
        state: summary.state.to_string(),
        draft_version: summary.draft.as_ref().map(|draft| draft.version.0),
        draft: summary.draft.map(|stored| stored.draft.text),
        updated_at: summary.updated_at,
    }
}

#[cfg(feature = "worker")]
fn desk_view(desk: Desk) -> DeskView {
    let state = super::desks::state_of(&desk).map_or("no hello", DeskState::value);
    let accounts = desk.accounts.into_iter().map(|owned| OwnedAccountView {
        account: owned.account.to_string(),
        token: owned.token,
        lapsed: owned.lapsed,
    });
    DeskView {
        accounts: accounts.collect(),
        desktop: desk.desktop.to_string(),
        journal: desk.journal.to_string(),
        host: desk.host,
        version: desk.version,
        last_seen: desk.last_seen,
        state: state.to_owned(),
    }
}

#[cfg(feature = "worker")]
fn decided(turn: TurnId, decided: Decided) -> Result<(), AdminError> {
    match decided {
        Decided::Issued(_) | Decided::Rejected => Ok(()),
        Decided::Unknown => Err(AdminError::NotFound(format!("there is no reply {turn}"))),
        Decided::NotAwaiting(state) => {
            Err(AdminError::Conflict(format!("it does not wait for approval; it is {state}")))
        }
        Decided::OtherVersion(version) => {
            Err(AdminError::Conflict(format!("the draft has changed since; it is now version {version}")))
        }
    }
}

#[cfg(feature = "desktop")]
impl Parts {
    /// What a desk without a worker knows of its replies: the open turns, and those that a person has to answer.
    async fn turns_of_the_desk(&self) -> Result<Vec<SagaSummary>, AdminError> {
        let Some(journal) = &self.journal else { return Err(AdminError::NotHere(no_worker())) };
        let failed = |error: JournalError| AdminError::Unavailable(error.to_string());
        let open = journal.conversations().await.map_err(failed)?.into_iter().flat_map(|held| {
            let conversation = format!("{} > {}", held.conversation.account, held.conversation.peer);
            held.open_turns.into_iter().map(move |turn| SagaSummary {
                turn: turn.turn,
                revision: turn.revision.0,
                conversation: conversation.clone(),
                state: stage(turn.stage).to_owned(),
                draft_version: None,
                draft: None,
                updated_at: turn.last_at,
            })
        });
        let left = journal.attention().await.map_err(failed)?.into_iter().map(|turn| SagaSummary {
            turn: turn.turn,
            revision: turn.revision.0,
            conversation: turn.peer,
            state: format!("ended(needs_attention): {}", turn.reason),
            draft_version: None,
            draft: None,
            updated_at: turn.at,
        });
        Ok(open.chain(left).collect())
    }
}

#[cfg(feature = "desktop")]
fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Waiting => "waiting",
        Stage::Intent => "typing",
        Stage::Submitting => "entered",
    }
}

#[cfg(feature = "worker")]
impl Parts {
    async fn draft_version(
        &self,
        turn: TurnId,
        named: Option<crate::contract::DraftVersion>,
    ) -> Result<crate::contract::DraftVersion, AdminError> {
        if let Some(version) = named {
            return Ok(version);
        }
        let detail = self.worker()?.ledger.show(turn).await.map_err(|error| ledger_error(&error))?;
        let detail = detail.ok_or_else(|| AdminError::NotFound(format!("there is no reply {turn}")))?;
        let state = detail.summary.state;
        let draft = detail.summary.draft.map(|draft| draft.version);
        draft.ok_or_else(|| AdminError::Conflict(format!("it has no draft; it is {state}")))
    }
}

#[async_trait]
impl Admin for Parts {
    #[cfg(feature = "worker")]
    async fn sagas(&self, all: bool) -> Result<Vec<SagaSummary>, AdminError> {
        #[cfg(feature = "desktop")]
        if self.worker.is_none() {
            return self.turns_of_the_desk().await;
        }
        let filter = Filter { open_only: !all, ..Filter::default() };
        let listed = self.worker()?.ledger.list(&filter).await.map_err(|error| ledger_error(&error))?;
        Ok(listed.into_iter().map(summary).collect())
    }

    #[cfg(all(feature = "desktop", not(feature = "worker")))]
    async fn sagas(&self, _all: bool) -> Result<Vec<SagaSummary>, AdminError> {
        self.turns_of_the_desk().await
    }

    #[cfg(not(any(feature = "desktop", feature = "worker")))]
    async fn sagas(&self, _all: bool) -> Result<Vec<SagaSummary>, AdminError> {
        Err(AdminError::NotHere(no_worker()))
    }

    #[cfg(feature = "worker")]
    async fn saga(&self, turn: TurnId) -> Result<SagaStory, AdminError> {
        let detail = self.worker()?.ledger.show(turn).await.map_err(|error| ledger_error(&error))?;
        let detail = detail.ok_or_else(|| AdminError::NotFound(format!("there is no reply {turn}")))?;
        let events = super::story::tell(&detail);
        let inbound = detail.detected.into_iter().flat_map(|detected| detected.messages);
        Ok(SagaStory {
            inbound: inbound.map(|message| format!("{}: {}", message.sender, message.text)).collect(),
            events,
            summary: summary(detail.summary),
        })
    }

    #[cfg(not(feature = "worker"))]
    async fn saga(&self, _turn: TurnId) -> Result<SagaStory, AdminError> {
        Err(AdminError::NotHere(no_worker()))
    }

    #[cfg(feature = "worker")]
    async fn approve(&self, turn: TurnId, decision: Decision) -> Result<(), AdminError> {
        let version = self.draft_version(turn, decision.draft_version).await?;
        let answer = self.worker()?.worker.approve(turn, version, &decision.by).await;
        decided(turn, answer.map_err(|error| ledger_error(&error))?)
    }

    #[cfg(not(feature = "worker"))]
    async fn approve(&self, _turn: TurnId, _decision: Decision) -> Result<(), AdminError> {
        Err(AdminError::NotHere(no_worker()))
    }

    #[cfg(feature = "worker")]
    async fn reject(&self, turn: TurnId, rejection: Rejection) -> Result<(), AdminError> {
        let version = self.draft_version(turn, None).await?;
        let answer = self.worker()?.worker.reject(turn, version, &rejection.by).await;
        decided(turn, answer.map_err(|error| ledger_error(&error))?)
    }

    #[cfg(not(feature = "worker"))]
    async fn reject(&self, _turn: TurnId, _rejection: Rejection) -> Result<(), AdminError> {
        Err(AdminError::NotHere(no_worker()))
    }

    #[cfg(feature = "worker")]
    async fn desks(&self) -> Result<Vec<DeskView>, AdminError> {
        let running = self.worker()?;
        let desks = running.ledger.desks(running.account_hold).await.map_err(|error| ledger_error(&error))?;
        Ok(desks.into_iter().map(desk_view).collect())
    }

    #[cfg(not(feature = "worker"))]
    async fn desks(&self) -> Result<Vec<DeskView>, AdminError> {
        Err(AdminError::NotHere(no_worker()))
    }

    async fn controls(&self) -> Result<Vec<ControlInForce>, AdminError> {
        #[cfg(feature = "desktop")]
        if let Some(journal) = &self.journal {
            let held = journal.controls().await.map_err(|error| AdminError::Unavailable(error.to_string()))?;
            return Ok(held.into_iter().map(in_force).collect());
        }
        Err(AdminError::NotHere(
            "controls are kept by the desktops; ask one that runs `autoreply desktop` or `run`".to_owned(),
        ))
    }

    async fn set_control(&self, request: ControlRequest) -> Result<ControlRecord, AdminError> {
        let now = self.clock.now();
        let version = self.next_version(&request, now).await;
        let ControlRequest { scope, control, by, why } = request;
        let record = ControlRecord { scope, control, version, by, why, at: now };
        #[cfg(feature = "desktop")]
        if let Some(journal) = &self.journal {
            journal.apply_control(&record, now).await.map_err(|error| AdminError::Unavailable(error.to_string()))?;
        }
        tracing::info!(scope = %record.scope, control = ?record.control, by = record.by, "a control was set");
        // In force here already; the others hear of it when the broker takes it.
        if let Some(outbound) = &self.outbound {
            let told = tokio::time::timeout(Duration::from_secs(2), outbound.control(&record)).await;
            if !matches!(told, Ok(Ok(()))) {
                tracing::warn!(scope = %record.scope, "the broker did not take the control; it is in force on this machine only");
            }
        }
        Ok(record)
    }

    async fn forget(&self, peer: &str) -> Result<u64, AdminError> {
        let mut forgotten = 0;
        #[cfg(feature = "desktop")]
        if let Some(journal) = &self.journal {
            let here = journal.forget(peer, self.clock.now()).await;
            forgotten = here.map_err(|error| AdminError::Unavailable(error.to_string()))?;
        }
        #[cfg(feature = "worker")]
        if let Some(running) = &self.worker {
            let there = running.worker.forget(peer).await.map_err(|error| ledger_error(&error))?;
            forgotten = forgotten.max(there.len() as u64);
        }
        Ok(forgotten)
    }

    async fn health(&self) -> Health {
        let mut parts = Vec::new();
        if self.stop.is_cancelled() {
            let detail = "it was asked to stop and finishes what it has in hand".to_owned();
            parts.push(Part { name: "stop".to_owned(), ready: false, detail });
        }
        #[cfg(feature = "worker")]
        if let Some(running) = &self.worker {
            let counts = running.ledger.counts().await;
            let detail = counts
                .as_ref()
                .map_or_else(ToString::to_string, |counts| format!("{} commands wait", counts.unpublished));
            parts.push(Part { name: "ledger".to_owned(), ready: counts.is_ok(), detail });
            let joined = *running.joined.borrow();
            let detail = if joined { "a member of its group" } else { "waits for its group to let it in" };
            parts.push(Part { name: "stream".to_owned(), ready: joined, detail: detail.to_owned() });
        }
        #[cfg(feature = "desktop")]
        if let Some(journal) = &self.journal {
            let sizes = journal.sizes().await;
            let detail =
                sizes.as_ref().map_or_else(ToString::to_string, |sizes| format!("{} turns are open", sizes.open_turns));
            parts.push(Part { name: "journal".to_owned(), ready: sizes.is_ok(), detail });
            parts.extend(desk_parts(journal).await);
        }
        Health { role: self.role.to_owned(), parts }
    }

    fn metrics(&self) -> String {
        self.metrics.render().unwrap_or_else(|error| format!("# the metrics cannot be rendered: {error}\n"))
    }
}

/// What workers said of this desk, and what it leaves to a person.
#[cfg(feature = "desktop")]
async fn desk_parts(journal: &Journal) -> [Part; 2] {
    let standing = journal.standing_as_told();
    let owned = standing.accounts.values().filter(|account| account.owned).count();
    let detail = match (standing.cloned, standing.replaced) {
        (_, true) => "a newer process works with a copy of this journal; this one types nothing".to_owned(),
        (true, false) => "another process works with a copy of this journal; it types nothing".to_owned(),
        (false, false) => format!("it answers for {owned} of {} accounts", standing.accounts.len()),
    };
    let cloned = standing.cloned || standing.replaced;
    let attention = journal.attention().await;
    let waiting =
        attention.as_ref().map_or_else(ToString::to_string, |turns| format!("{} turns wait for a person", turns.len()));
    [
        Part { name: "desk".to_owned(), ready: !cloned, detail },
        Part { name: "attention".to_owned(), ready: attention.is_ok(), detail: waiting },
    ]
}

#[cfg(feature = "desktop")]
fn in_force(control: crate::journal::ControlState) -> ControlInForce {
    use crate::policy::mode::Halt;
    let mode = control.standing.mode.map(|mode| format!("mode {mode}"));
    let halt = match control.standing.halt {
        Halt::None => None,
        Halt::Pause => Some("paused".to_owned()),
        Halt::Stop => Some("stopped".to_owned()),
    };
    let said: Vec<_> = mode.into_iter().chain(halt).collect();
    let standing = if said.is_empty() { "nothing".to_owned() } else { said.join(", ") };
    ControlInForce { scope: control.scope, standing, version: control.version, by: control.by, why: control.why }
}
