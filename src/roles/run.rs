//! `autoreply run`: every role in one process, with nothing else installed.

use super::{Context, desktop, process, worker};
use crate::contract::codec::Source;
use crate::error::Problem;

/// Runs until it is asked to stop.
///
/// # Errors
/// It does not start, or a part of it died.
pub async fn run(context: &Context) -> Result<(), Problem> {
    let mut process = process::Process::start(context, "run")?;
    let connection = process.connect(context)?;
    let (metrics, clock, traces) = (process.metrics.clone(), process.clock.clone(), process.traces.clone());
    let supervisor = &mut process.supervisor;
    let running = worker::start(context, &connection, supervisor, &metrics, &clock, &traces).await?;
    let journal = desktop::start(context, &connection, supervisor, &metrics, &clock, &traces, false).await?;
    let mut parts = process.admin_parts("run");
    parts.worker = Some(running.clone());
    parts.journal = Some(journal.clone());
    parts.outbound = Some(process.outbound(&connection, Source::Control(context.user())));
    process.serve(context, parts).await?;
    let last = async move {
        running.finish(worker::DRAIN_AT_THE_DESK).await;
        journal.close().await;
    };
    process.run(last).await
}
