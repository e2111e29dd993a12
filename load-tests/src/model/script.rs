//! How the stub behaves. Pure: what becomes of a provider's n-th request follows from the seed, the provider and n.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How every provider behaves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// What the draws start from.
    pub seed: u64,
    /// How a provider behaves that has no table of its own.
    pub default: Behaviour,
    /// Providers by name.
    pub providers: BTreeMap<String, Behaviour>,
}

/// How one provider behaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// How long an answer takes. Refusals come at once.
    pub latency: Latency,
    /// What goes wrong how often.
    pub shares: Shares,
    /// The `Retry-After` of `limited_short`, in seconds.
    pub retry_after_short_s: u64,
    /// The `Retry-After` of `limited_long`, in seconds.
    pub retry_after_long_s: u64,
    /// The time between two bytes of `drip`.
    pub drip_interval_ms: u64,
    /// The length of the answer of `too_long`.
    pub too_long_chars: usize,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency: Latency::Fixed { fixed_ms: 0 },
            shares: Shares::default(),
            retry_after_short_s: 1,
            retry_after_long_s: 3_600,
            drip_interval_ms: 1_000,
            too_long_chars: 5_000,
        }
    }
}

/// How long an answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Latency {
    /// Always the same.
    Fixed {
        /// So long.
        fixed_ms: u64,
    },
    /// A log-normal distribution, as times of real models roughly have.
    LogNormal {
        /// Half of the answers take longer.
        median_ms: u64,
        /// The standard deviation of the logarithm; 0.5 gives a p99 of 3.2 times the median.
        sigma: f64,
    },
}

/// The share of each misbehaviour, from 0 to 1; the rest is answered as it should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shares {
    /// 429 with the short `Retry-After`.
    pub limited_short: f64,
    /// 429 with the long `Retry-After`.
    pub limited_long: f64,
    /// 500.
    pub error_500: f64,
    /// 503.
    pub error_503: f64,
    /// No answer, ever.
    pub hang: f64,
    /// A good answer, a byte at a time.
    pub drip: f64,
    /// The connection ends in the middle of the body.
    pub disconnect: f64,
    /// JSON that ends too early.
    pub malformed: f64,
    /// A reply without text.
    pub empty: f64,
    /// A reply that no chat takes.
    pub too_long: f64,
    /// A page of HTML, as a proxy sends.
    pub wrong_content_type: f64,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A good answer.
    Ok,
    /// See [`Shares::limited_short`].
    LimitedShort,
    /// See [`Shares::limited_long`].
    LimitedLong,
    /// See [`Shares::error_500`].
    #[serde(rename = "error_500")]
    Error500,
    /// See [`Shares::error_503`].
    #[serde(rename = "error_503")]
    Error503,
    /// See [`Shares::hang`].
    Hang,
    /// See [`Shares::drip`].
    Drip,
    /// See [`Shares::disconnect`].
    Disconnect,
    /// See [`Shares::malformed`].
    Malformed,
    /// See [`Shares::empty`].
    Empty,
    /// See [`Shares::too_long`].
    TooLong,
    /// See [`Shares::wrong_content_type`].
    WrongContentType,
}

impl Outcome {
    /// Every outcome; its place here is `outcome as usize`.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::LimitedShort,
        Self::LimitedLong,
        Self::Error500,
        Self::Error503,
        Self::Hang,
        Self::Drip,
        Self::Disconnect,
        Self::Malformed,
        Self::Empty,
        Self::TooLong,
        Self::WrongContentType,
    ];
}

impl Shares {
    /// One misbehaviour at every request.
    pub fn always(outcome: Outcome) -> Self {
        Self::default().with(outcome, 1.0)
    }

    /// The same shares with that of `outcome` set; of [`Outcome::Ok`] there is always the rest.
    #[must_use]
    pub fn with(mut self, outcome: Outcome, share: f64) -> Self {
        let place = match outcome {
            Outcome::Ok => return self,
            Outcome::LimitedShort => &mut self.limited_short,
            Outcome::LimitedLong => &mut self.limited_long,
            Outcome::Error500 => &mut self.error_500,
            Outcome::Error503 => &mut self.error_503,
            Outcome::Hang => &mut self.hang,
            Outcome::Drip => &mut self.drip,
            Outcome::Disconnect => &mut self.disconnect,
            Outcome::Malformed => &mut self.malformed,
            Outcome::Empty => &mut self.empty,
            Outcome::TooLong => &mut self.too_long,
            Outcome::WrongContentType => &mut self.wrong_content_type,
        };
        *place = share;
        self
    }

    fn list(&self) -> [(Outcome, f64); 11] {
        [
            (Outcome::LimitedShort, self.limited_short),
            (Outcome::LimitedLong, self.limited_long),
            (Outcome::Error500, self.error_500),
            (Outcome::Error503, self.error_503),
            (Outcome::Hang, self.hang),
            (Outcome::Drip, self.drip),
            (Outcome::Disconnect, self.disconnect),
            (Outcome::Malformed, self.malformed),
            (Outcome::Empty, self.empty),
            (Outcome::TooLong, self.too_long),
            (Outcome::WrongContentType, self.wrong_content_type),
        ]
    }

    fn outcome(&self, draw: f64) -> Outcome {
        let mut below = 0.0;
        for (outcome, share) in self.list() {
            below += share;
            if draw < below {
                return outcome;
            }
        }
        Outcome::Ok
    }
}

impl Behaviour {
    /// One misbehaviour at every request.
    pub fn always(outcome: Outcome) -> Self {
        Self { shares: Shares::always(outcome), ..Self::default() }
    }

    /// What becomes of the request `number`, and how long it takes.
    pub fn draw(&self, seed: u64, provider: &str, number: u64) -> (Outcome, Duration) {
        let mut state = seed ^ number.wrapping_mul(0xA24B_AED4_963E_E407) ^ fnv1a(provider);
        let outcome = self.shares.outcome(unit(&mut state));
        let latency = match self.latency {
            Latency::Fixed { fixed_ms } => fixed_ms as f64,
            Latency::LogNormal { median_ms, sigma } => {
                // Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.
                let (first, second) = (unit(&mut state).max(f64::MIN_POSITIVE), unit(&mut state));
                let normal = (-2.0 * first.ln()).sqrt() * (TAU * second).cos();
                median_ms as f64 * (sigma * normal).exp()
            }
        };
        // An hour is as good as for ever.
        (outcome, Duration::from_secs_f64((latency / 1_000.0).clamp(0.0, 3_600.0)))
    }
}

impl Script {
    /// Every provider answers well after so long.
    pub fn answering_after(fixed_ms: u64) -> Self {
        let default = Behaviour { latency: Latency::Fixed { fixed_ms }, ..Behaviour::default() };
        Self { default, ..Self::default() }
    }

    /// The same script with one provider's behaviour replaced.
    #[must_use]
    pub fn with(mut self, provider: &str, behaviour: Behaviour) -> Self {
        self.providers.insert(provider.to_owned(), behaviour);
        self
    }

    /// How this provider behaves.
    pub fn of(&self, provider: &str) -> &Behaviour {
        self.providers.get(provider).unwrap_or(&self.default)
    }

    /// A script as JSON (if it begins with a brace) or TOML.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let script: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| format!("this is no script in JSON: {error}"))?
        } else {
            toml::from_str(text).map_err(|error| format!("this is no script in TOML: {error}"))?
        };
        let all = script.providers.iter().map(|(name, behaviour)| (name.as_str(), behaviour));
        for (name, behaviour) in all.chain([("default", &script.default)]) {
            let shares = behaviour.shares.list().map(|(_, share)| share);
            let sum: f64 = shares.iter().sum();
            if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || sum > 1.0 + 1e-9 {
                return Err(format!("the shares of {name} must be between 0 and 1, and together at most 1"));
            }
            if let Latency::LogNormal { sigma, .. } = behaviour.latency
                && !(0.0..=10.0).contains(&sigma)
            {
                return Err(format!("the sigma of {name} must be between 0 and 10"));
            }
        }
        Ok(script)
    }
}

/// A number from 0 up to 1, and another state: SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014), of which the upper 53 bits are used.
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// The hash of Fowler, Noll and Vo, in its 64-bit form 1a: equal in every build, as a seed must be.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_script_reads_the_same_as_toml_and_as_json() {
        let text = "seed = 7\n[providers.chat_completions]\nlatency = { median_ms = 800, sigma = 0.5 }\n\
                    shares = { hang = 0.25, error_500 = 0.5 }\n[providers.cohere_chat_v2]\nlatency = { fixed_ms = 5 }";
        let script = Script::parse(text).unwrap();
        assert_eq!(script.of("chat_completions").shares.hang, 0.25);
        assert_eq!(script.of("cohere_chat_v2").latency, Latency::Fixed { fixed_ms: 5 });
        assert_eq!(script.of("another"), &Behaviour::default());
        assert_eq!(Script::parse(&serde_json::to_string(&script).unwrap()).unwrap(), script);
        assert_eq!(Script::parse(&toml::to_string(&script).unwrap()).unwrap(), script);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "typo = 1",
            "[default.shares]\nhang = 1.5",
            "[default.shares]\nhang = 0.6\ndrip = 0.6",
            "[default.shares]\nhang = -0.1",
            "[default]\nlatency = { median_ms = 1, sigma = -1.0 }",
            "[default.shares]\nhangs = 0.1",
            "{",
        ] {
            assert!(Script::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_places_of_the_outcomes_are_their_numbers() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
            let shares = Shares::always(outcome);
            assert_eq!(shares.outcome(0.0), outcome);
        }
    }

    #[test]
    fn a_lognormal_latency_has_its_median_and_its_tail() {
        let latency = Latency::LogNormal { median_ms: 1_000, sigma: 0.5 };
        let behaviour = Behaviour { latency, ..Behaviour::default() };
        let mut drawn: Vec<f64> = (0..10_000).map(|n| behaviour.draw(1, "x", n).1.as_secs_f64()).collect();
        drawn.sort_by(f64::total_cmp);
        assert!((drawn[5_000] - 1.0).abs() < 0.05, "median {}", drawn[5_000]);
        assert!((drawn[9_900] - 3.2).abs() < 0.5, "p99 {}", drawn[9_900]);
    }

    proptest! {
        #[test]
        fn the_shares_are_kept_and_the_seed_decides(seed: u64, hang in 0.0_f64..0.5, drip in 0.0_f64..0.5) {
            let shares = Shares { hang, drip, ..Shares::default() };
            let behaviour = Behaviour { shares, ..Behaviour::default() };
            let drawn: Vec<Outcome> = (0..4_000).map(|n| behaviour.draw(seed, "x", n).0).collect();
            let share = |outcome| drawn.iter().filter(|o| **o == outcome).count() as f64 / 4_000.0;
            prop_assert!((share(Outcome::Hang) - hang).abs() < 0.05 && (share(Outcome::Drip) - drip).abs() < 0.05);
            let again: Vec<Outcome> = (0..4_000).map(|n| behaviour.draw(seed, "x", n).0).collect();
            prop_assert_eq!(drawn, again);
        }
    }
}
