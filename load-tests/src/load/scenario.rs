//! What a load run looks like: one TOML file a scenario, in `load-tests/scenarios/`.

use std::path::Path;

use autoreply::error::Problem;
use serde::{Deserialize, Serialize};

use crate::plan::{Piece, Shape};
use crate::sim::DeskKind;

/// The scenarios that come with the program, by name.
pub const BUILT_IN: [(&str, &str); 6] = [
    ("platform", include_str!("../../scenarios/platform.toml")),
    ("mail", include_str!("../../scenarios/mail.toml")),
    ("peak", include_str!("../../scenarios/peak.toml")),
    ("concurrent", include_str!("../../scenarios/concurrent.toml")),
    ("saturate", include_str!("../../scenarios/saturate.toml")),
    ("rolling", include_str!("../../scenarios/rolling.toml")),
];

/// What is to be reached; what is not given is only measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Goals {
    /// Half of the replies have no more pipeline overhead than this.
    pub overhead_p50_ms: Option<f64>,
    /// 99 of 100 replies have no more than this.
    pub overhead_p99_ms: Option<f64>,
    /// No worker takes more memory than this.
    pub worker_mb: Option<f64>,
    /// So many replies are in flight at the same time.
    pub in_flight: Option<f64>,
}

/// The workers are restarted one after the other while the plan runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restarts {
    /// Seconds after the plan's beginning at which the first worker is asked to stop.
    pub after_s: f64,
    /// Seconds between a new worker's being ready and the next one's being asked.
    pub pause_s: f64,
    /// A worker must have ended by itself so many seconds after being asked; then it is killed, which is a fault.
    pub end_within_s: f64,
    /// A new worker must be ready so many seconds after its start.
    pub ready_within_s: f64,
    /// Each worker has a name of its own in the group, which its successor takes over (static membership).
    #[serde(default)]
    pub static_members: bool,
}

impl Restarts {
    fn is_sound(&self) -> bool {
        let times = [self.after_s, self.pause_s, self.end_within_s, self.ready_within_s];
        times.iter().all(|time| (0.0..=3600.0).contains(time)) && self.end_within_s > 0.0 && self.ready_within_s > 0.0
    }
}

/// The short form of a scenario, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Short {
    /// Every piece lasts so much of its time.
    pub time: f64,
    /// Every rate is so much of itself.
    pub rate: f64,
}

/// A scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it stands for, as a sentence.
    pub about: String,
    /// What the desks are.
    pub desk: DeskKind,
    /// In how many processes the desks live.
    pub desk_processes: u32,
    /// How many workers answer.
    pub workers: u32,
    /// How long the model takes for an answer; it is taken off the overhead.
    pub model_ms: u64,
    /// How long a conversation must be quiet before its turn is published; taken off as well. Wire desks do not wait.
    pub quiet_ms: u64,
    /// The rate is a series of steps: find the last one that was held.
    #[serde(default)]
    pub find_knee: bool,
    /// How long after the plan's end replies are waited for while none comes.
    pub patience_s: u64,
    /// What is to be reached.
    #[serde(default)]
    pub goals: Goals,
    /// The workers are restarted one after the other.
    #[serde(default)]
    pub restarts: Option<Restarts>,
    /// Who writes when.
    pub plan: Shape,
    /// The short form.
    pub short: Short,
    /// Settings of the workers that differ from those of any load run.
    #[serde(default)]
    pub worker: toml::Table,
    /// Settings of the desks that differ from those of any simulated desk.
    #[serde(default)]
    pub desks: toml::Table,
}

impl Scenario {
    /// The built-in scenario of this name, or the file at this path.
    ///
    /// # Errors
    /// There is none, or it does not fit.
    pub fn load(name: &str) -> Result<Self, Problem> {
        let known = BUILT_IN.iter().find(|(known, _)| *known == name);
        let text = match known {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(Path::new(name)).map_err(|error| {
                let names = BUILT_IN.map(|(name, _)| name).join(", ");
                let remedy = format!("Name one of {names}, or a file");
                Problem::new(format!("there is no such scenario ({error})"), name, remedy)
            })?,
        };
        Self::parse(&text, name)
    }

    fn parse(text: &str, place: &str) -> Result<Self, Problem> {
        let unfit = |why: String| Problem::new(why, place, "See load-tests/src/load/scenario.rs");
        let scenario: Self = toml::from_str(text).map_err(|error| unfit(error.message().to_owned()))?;
        scenario.plan.check().map_err(unfit)?;
        if scenario.workers == 0 || scenario.desk_processes == 0 || scenario.desk_processes > scenario.plan.desks {
            return Err(unfit(
                "workers and desk_processes are 1 or more, and not more processes than desks".to_owned(),
            ));
        }
        if scenario.restarts.is_some_and(|restarts| !restarts.is_sound()) {
            return Err(unfit(
                "restarts: the times are seconds up to 3600, and what is waited for is not 0".to_owned(),
            ));
        }
        Ok(scenario)
    }

    /// The same in short, with the same shape over less time and at a lower rate.
    pub fn shortened(mut self) -> Self {
        let Short { time, rate } = self.short;
        let short = |p: &Piece| Piece { seconds: p.seconds * time, from: p.from * rate, to: p.to * rate };
        self.plan.pieces = self.plan.pieces.iter().map(short).collect();
        self.patience_s = self.patience_s.min(20);
        // Restarts take as long as they take, in a short plan too: what is shortened is the time between them.
        if let Some(restarts) = &mut self.restarts {
            (restarts.after_s, restarts.pause_s) = (restarts.after_s.min(2.0), restarts.pause_s.min(0.5));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(scenario: &Scenario) -> usize {
        scenario.plan.plan(0).len()
    }

    #[test]
    fn the_scenarios_fit_and_have_the_scales_that_they_stand_for() {
        let all: Vec<_> = BUILT_IN.iter().map(|(name, _)| Scenario::load(name).unwrap()).collect();
        assert!(all.iter().zip(BUILT_IN).all(|(scenario, (name, _))| scenario.name == name));
        let most = |scenario: &Scenario| {
            scenario.plan.pieces.iter().flat_map(|piece| [piece.from, piece.to]).fold(0.0, f64::max)
        };
        let [platform, mail, peak, concurrent, saturate, rolling] = all.try_into().unwrap();
        assert_eq!((most(&platform), most(&mail), most(&peak)), (25.0, 100.0, 1000.0));
        let held = |piece: &&Piece| piece.from == 1000.0 && piece.to == 1000.0;
        assert_eq!(peak.plan.pieces.iter().filter(held).map(|piece| piece.seconds).sum::<f64>(), 120.0);
        // Little's law: in flight = arrivals a second times seconds in the model.
        let flight = most(&concurrent) * concurrent.model_ms as f64 / 1e3;
        assert!((5000.0..5500.0).contains(&flight), "{flight}");
        assert!(saturate.find_knee && saturate.plan.pieces.windows(2).all(|two| two[0].from < two[1].from));
        assert_eq!((rolling.workers, most(&rolling), rolling.restarts.is_some()), (4, 200.0, true));
    }

    #[test]
    fn short_forms_are_short() {
        for (name, _) in BUILT_IN {
            let whole = Scenario::load(name).unwrap();
            let short = whole.clone().shortened();
            assert!(short.plan.seconds() <= 60.0 && short.plan.seconds() >= 2.0, "{name}");
            assert!(messages(&short) >= 20 && messages(&short) < messages(&whole) / 4, "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert!(Scenario::load("no-such-scenario").unwrap_err().to_string().contains("platform, mail"));
        let bad = BUILT_IN[0].1.replace("workers = ", "workers_ = ");
        assert!(Scenario::parse(&bad, "bad").unwrap_err().to_string().contains("workers"));
        let bad = BUILT_IN[5].1.replace("end_within_s = ", "end_within_s = -");
        assert!(Scenario::parse(&bad, "bad").unwrap_err().to_string().contains("restarts"));
    }
}
