//! Settings of different rooms that must fit each other, checked at the start.

use super::Context;
use crate::error::Problem;

/// Checks the settings that two rooms share a promise over.
///
/// # Errors
/// The first pair that does not fit: both keys, and what to change.
pub fn check(context: &Context) -> Result<(), Problem> {
    #[cfg(all(feature = "desktop", feature = "worker"))]
    {
        let saga: crate::saga::Settings = context.layers.section("saga")?;
        let journal: crate::journal::Settings = context.layers.section("journal")?;
        let execution: crate::execution::Settings = context.layers.section("execution")?;
        if saga.command_ttl_ms != journal.command_ttl_ms {
            return Err(Problem::new(
                "the worker and the desktop give a command different times to live",
                "saga.command_ttl_ms and journal.command_ttl_ms",
                "Set both to the same number of milliseconds",
            ));
        }
        if saga.reply_deadline_ms.saturating_add(journal.command_ttl_ms) > journal.detection_ttl_ms {
            return Err(Problem::new(
                "a reply that takes its whole deadline would be too old to be typed",
                "saga.reply_deadline_ms, journal.command_ttl_ms and journal.detection_ttl_ms",
                "Raise journal.detection_ttl_ms above the sum of the other two",
            ));
        }
        let desktop: super::desktop::Settings = context.layers.section("desktop")?;
        if desktop.hello_ms.saturating_mul(3) > saga.account_hold_ms {
            return Err(Problem::new(
                "a desktop could lose its accounts between two hellos",
                "desktop.hello_ms and saga.account_hold_ms",
                "Set saga.account_hold_ms to three times desktop.hello_ms or more",
            ));
        }
        if execution.idle_wait_ms.saturating_add(execution.verify_timeout_ms) > journal.command_ttl_ms {
            return Err(Problem::new(
                "one attempt to type a reply may outlive the command",
                "execution.idle_wait_ms, execution.verify_timeout_ms and journal.command_ttl_ms",
                "Raise journal.command_ttl_ms (and saga.command_ttl_ms) above the sum of the other two",
            ));
        }
    }
    let _ = context;
    Ok(())
}

#[cfg(test)]
#[cfg(all(feature = "desktop", feature = "worker"))]
mod tests {
    use super::*;
    use crate::roles::Environment;

    fn context(variables: &[(&str, &str)]) -> Context {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Context::gather(None, None, false, Environment(variables)).unwrap()
    }

    #[test]
    fn the_defaults_fit_and_every_section_fits_its_room() {
        let context = context(&[]);
        check(&context).unwrap();
        context.layers.section::<crate::roles::desktop::Settings>("desktop").unwrap();
        context.layers.section::<crate::capture::Settings>("capture").unwrap().check().unwrap();
        context.layers.section::<crate::journal::Settings>("journal").unwrap().check().unwrap();
        context.layers.section::<crate::execution::Settings>("execution").unwrap().check().unwrap();
        context.layers.section::<crate::stream::Settings>("stream").unwrap().check().unwrap();
        context.layers.section::<crate::saga::Settings>("saga").unwrap().check().unwrap();
        context.layers.section::<crate::ledger::Settings>("ledger").unwrap().check().unwrap();
        context.layers.section::<crate::generation::Settings>("generation").unwrap().check().unwrap();
        context.layers.section::<crate::limits::Settings>("limits").unwrap().check().unwrap();
        context.layers.section::<crate::control::Settings>("control").unwrap();
        context.layers.section::<crate::telemetry::Settings>("telemetry").unwrap().check().unwrap();
    }

    #[test]
    fn the_settings_of_the_example_for_kubernetes_fit_every_room_of_a_worker() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/kubernetes/overlays/example/config/worker.toml");
        let context = Context::gather(Some(file.into()), None, false, Environment::default()).unwrap();
        check(&context).unwrap();
        context.layers.section::<crate::stream::Settings>("stream").unwrap().check().unwrap();
        context.layers.section::<crate::saga::Settings>("saga").unwrap().check().unwrap();
        context.layers.section::<crate::ledger::Settings>("ledger").unwrap().check().unwrap();
        context.layers.section::<crate::generation::Settings>("generation").unwrap().check().unwrap();
        context.layers.section::<crate::limits::Settings>("limits").unwrap().check().unwrap();
        context.layers.section::<crate::telemetry::Settings>("telemetry").unwrap().check().unwrap();
    }

    #[test]
    fn times_that_do_not_fit_are_named() {
        for (variable, value, named) in [
            ("AUTOREPLY__SAGA__COMMAND_TTL_MS", "1000", "journal.command_ttl_ms"),
            ("AUTOREPLY__DESKTOP__HELLO_MS", "20000", "saga.account_hold_ms"),
            ("AUTOREPLY__SAGA__REPLY_DEADLINE_MS", "600000", "saga.reply_deadline_ms"),
            ("AUTOREPLY__EXECUTION__VERIFY_TIMEOUT_MS", "119999", "execution.verify_timeout_ms"),
        ] {
            let problem = check(&context(&[(variable, value)])).unwrap_err().to_string();
            assert!(problem.contains(named), "{problem}");
        }
    }
}
