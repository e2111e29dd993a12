//! What the worker tells desks beside commands: the answers to their hellos, and turns that end without a reply.
//!
//! A notice may be lost, with the worker that was about to publish it: the next hello is answered anew, and a desk asks
//! again after a turn of which it has heard nothing for long. A turn that the ledger has ended is never typed, whether the
//! desk knows it or not.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;

use super::handler::{Inner, Worker};
use super::{LedgerError, Refused, Summary};
use crate::contract::{DesktopHello, DesktopId, Effect, MessagesDetected, Mode, Notice, TurnEnded, TurnId};

impl Worker {
    /// Hears hellos; once this returns, the caller commits their offsets. The answers go by themselves. Of several from
    /// one process only the last is heard.
    ///
    /// # Errors
    /// When the ledger did not hear them: nothing is committed, and the same batch comes again.
    pub async fn on_hellos(&self, batch: Vec<DesktopHello>) -> Result<Vec<Refused>, LedgerError> {
        let inner = &self.inner;
        let places = last_of_each(&batch);
        let hellos: Vec<DesktopHello> = places.iter().map(|place| batch[*place].clone()).collect();
        let answers = inner.ports.ledger.greet(&hellos, inner.settings.account_hold()).await?;
        let (mut refused, mut notices) = (Vec::new(), Vec::new());
        for (index, answer) in places.into_iter().zip(answers) {
            match answer {
                Ok(greeted) => {
                    if greeted.cloned {
                        let (desktop, journal) = (&greeted.desktop, greeted.journal);
                        tracing::error!(%desktop, %journal, current = greeted.current, "two processes have one journal");
                    }
                    notices.push(Notice::Greeted(greeted));
                }
                Err(why) => {
                    tracing::error!(desktop = %batch[index].desktop, %why, "a hello was refused by the ledger");
                    refused.push(Refused { index, why });
                }
            }
        }
        self.notify(notices);
        Ok(refused)
    }

    /// Publishes notices by itself.
    pub(super) fn notify(&self, notices: Vec<Notice>) {
        Inner::notify(&self.inner, notices);
    }

    /// Desks ask after turns that have ended: they hear how. One list at a time, so that topics which are read anew from
    /// their beginning do not keep the ledger busy; who gets no answer asks again.
    pub(super) fn tell_closed(&self, mut turns: Vec<MessagesDetected>) {
        turns.retain(|detected| detected.mode != Mode::Off);
        if turns.is_empty() {
            return;
        }
        let inner = Arc::clone(&self.inner);
        self.inner.spawn(async move {
            let Ok(_one_at_a_time) = inner.asked.try_acquire() else { return };
            for detected in turns {
                match inner.ports.ledger.show(detected.turn).await {
                    Ok(detail) => {
                        if let Some((effect, reason)) = detail.and_then(|detail| of_closed(&detected, &detail.summary))
                        {
                            inner.tell_ended(&detected, effect, &reason);
                        }
                    }
                    Err(error) => {
                        tracing::debug!(turn = %detected.turn, %error, "a desk that asks was not told; it asks again");
                        return;
                    }
                }
            }
        });
    }

    /// The desk whose turn a person rejected hears of it.
    pub(super) async fn tell_rejected(&self, turn: TurnId, by: &str) {
        match self.inner.ports.ledger.show(turn).await {
            Ok(Some(detail)) => {
                let detected = detail.detected.iter();
                let why = || format!("{by} rejected the draft");
                self.notify(detected.map(|detected| ended(detected, Effect::Rejected, why())).collect());
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%turn, %error, "the desk was not told that its draft was rejected"),
        }
    }
}

impl Inner {
    /// The desk hears that its turn has ended without a reply. One that it sent only to be recorded it has ended itself.
    pub(super) fn tell_ended(self: &Arc<Self>, detected: &MessagesDetected, effect: Effect, reason: &str) {
        if detected.mode != Mode::Off {
            Self::notify(self, vec![ended(detected, effect, reason.to_owned())]);
        }
    }

    fn notify(inner: &Arc<Self>, notices: Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        let telling = Arc::clone(inner);
        inner.spawn(async move {
            let told = join_all(notices.iter().map(|notice| telling.ports.commands.notify(notice))).await;
            for (notice, told) in notices.iter().zip(told) {
                if let Err(error) = told {
                    let desktop = notice.desktop();
                    tracing::warn!(%desktop, %error, "a desk was not told; it hears the rest with its next hello");
                }
            }
        });
    }
}

/// What a desk hears that asks after a turn which the ledger has ended. Some ends are news only to a journal that has gone
/// back in time and counts numbers again: that something was sent, what only a desk says, and that of a later revision
/// than the one it asks after. Then the messages that it asks for are others than those that the end was of.
fn of_closed(asked: &MessagesDetected, known: &Summary) -> Option<(Effect, String)> {
    let effect = known.state.effect()?;
    let of_desks = matches!(effect, Effect::HumanReplied | Effect::Superseded | Effect::TooOld | Effect::Refused);
    let other = || format!("the ledger has ended revision {} of it, as {effect}", known.revision);
    Some(if effect.may_have_sent() {
        (effect, other())
    } else if of_desks || asked.revision != known.revision {
        (Effect::NeedsAttention, other())
    } else {
        (effect, "the ledger has ended it; the first word of that was lost".to_owned())
    })
}

/// The notice that this turn has ended because `owner` answers for its account.
pub(super) fn not_owner(detected: &MessagesDetected, owner: &DesktopId) -> Notice {
    ended(detected, Effect::NotOwner, super::ownership::not_owner(owner))
}

fn ended(detected: &MessagesDetected, effect: Effect, reason: String) -> Notice {
    Notice::TurnEnded(TurnEnded {
        turn: detected.turn,
        revision: detected.revision,
        journal: detected.journal,
        desktop: detected.desktop.clone(),
        conversation: detected.conversation.id,
        effect,
        reason,
    })
}

/// The places of the last hello of each process, in order.
fn last_of_each(batch: &[DesktopHello]) -> Vec<usize> {
    let mut last = HashMap::new();
    for (place, hello) in batch.iter().enumerate() {
        last.insert((hello.journal, hello.instance), place);
    }
    let mut places: Vec<usize> = last.into_values().collect();
    places.sort_unstable();
    places
}
