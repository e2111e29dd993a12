//! Who writes when: the open-loop plan of a run. Pure: the same shape and seed give the same plan on every machine.
//!
//! Arrivals are a Poisson process whose rate follows the pieces of the shape, made by inverting its cumulative rate
//! (time rescaling). Nothing in a plan depends on what the system under test does: what comes late is counted from the
//! planned time, so that a system which stalls cannot hide the messages that it kept waiting.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::facts::{Planned, token};

/// A stretch of time in which the rate goes from one value to another in a straight line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// How long it lasts.
    pub seconds: f64,
    /// Messages a second at its beginning.
    pub from: f64,
    /// Messages a second at its end.
    pub to: f64,
}

/// How messages are spread over the conversations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Spread {
    /// Each conversation as often as any other.
    Uniform,
    /// The k-th conversation with weight `1 / k^exponent`: few are busy, many are quiet.
    Zipf {
        /// Greater means more uneven; 1 is the classical law.
        exponent: f64,
    },
}

/// People write several messages in a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bursts {
    /// The share of arrivals that are bursts, 0 to 1.
    pub share: f64,
    /// How many messages a burst has, itself included; 2 or more.
    pub messages: u32,
    /// Milliseconds between two messages of a burst.
    pub gap_ms: i64,
}

/// What a plan looks like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// What chance is drawn from.
    pub seed: u64,
    /// The rate over time, messages of bursts included.
    pub pieces: Vec<Piece>,
    /// How many conversations there are.
    pub conversations: u32,
    /// On how many desks they lie; each conversation on one.
    pub desks: u32,
    /// How messages are spread over the conversations.
    pub spread: Spread,
    /// Messages in a row; none without it.
    #[serde(default)]
    pub bursts: Option<Bursts>,
}

/// A desk and the other sides that write to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeskPlan {
    /// The desktop's name.
    pub name: String,
    /// The other sides, one window each.
    pub peers: Vec<String>,
}

impl Shape {
    /// Whether a plan can be made of it.
    ///
    /// # Errors
    /// What does not fit, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.conversations == 0 || self.desks == 0 || self.desks > self.conversations {
            return Err("conversations and desks must be 1 or more, and desks not more than conversations".to_owned());
        }
        let sound = |piece: &Piece| {
            let fits = |value: f64| value.is_finite() && value >= 0.0;
            fits(piece.seconds) && fits(piece.from) && fits(piece.to)
        };
        if self.pieces.is_empty() || !self.pieces.iter().all(sound) {
            return Err("there must be pieces, and no figure of theirs may be negative".to_owned());
        }
        if let Spread::Zipf { exponent } = self.spread
            && !(0.0..=10.0).contains(&exponent)
        {
            return Err("the exponent must lie between 0 and 10".to_owned());
        }
        match self.bursts {
            Some(bursts) if !(0.0..=1.0).contains(&bursts.share) || bursts.messages < 2 || bursts.gap_ms < 0 => {
                Err("a burst has 2 messages or more, a gap of 0 ms or more, and a share from 0 to 1".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// How long the plan lasts, in seconds.
    pub fn seconds(&self) -> f64 {
        self.pieces.iter().map(|piece| piece.seconds).sum()
    }

    /// The planned rate at `seconds` after the start, in messages a second; 0 after the end.
    pub fn rate_at(&self, seconds: f64) -> f64 {
        let mut begin = 0.0;
        for piece in &self.pieces {
            if seconds < begin + piece.seconds {
                return piece.from + (piece.to - piece.from) * ((seconds - begin) / piece.seconds);
            }
            begin += piece.seconds;
        }
        0.0
    }

    /// The desks, each with the other sides that write to it.
    pub fn desks(&self) -> Vec<DeskPlan> {
        (0..self.desks)
            .map(|desk| DeskPlan {
                name: desk_name(desk),
                peers: (desk..self.conversations).step_by(self.desks as usize).map(peer_name).collect(),
            })
            .collect()
    }

    /// Every message, in the order of their times, the first one not before `start_ms`.
    pub fn plan(&self, start_ms: i64) -> Vec<Planned> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mean_size = self.bursts.map_or(1.0, |bursts| 1.0 + bursts.share * f64::from(bursts.messages - 1));
        let places = Places::new(self);
        let mut times = Vec::new();
        for at in self.arrivals(mean_size, &mut rng) {
            let conversation = places.draw(&mut rng);
            let at_ms = start_ms + (at * 1000.0) as i64;
            let burst = self.bursts.filter(|bursts| rng.random::<f64>() < bursts.share);
            let (messages, gap_ms) = burst.map_or((1, 0), |bursts| (bursts.messages, bursts.gap_ms));
            times.extend((0..i64::from(messages)).map(|place| (at_ms + place * gap_ms, conversation)));
        }
        times.sort_by_key(|(at_ms, _)| *at_ms);
        (0..)
            .zip(times)
            .map(|(number, (at_ms, conversation))| Planned {
                number,
                token: token(number),
                desktop: desk_name(conversation % self.desks),
                peer: peer_name(conversation),
                at_ms,
            })
            .collect()
    }

    /// The times of arrivals, in seconds from the start: exponential gaps in the cumulative rate, mapped back to time.
    fn arrivals(&self, mean_size: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let mut times = Vec::new();
        let (mut begin, mut left) = (0.0, exponential(rng));
        for piece in &self.pieces {
            let (from, to) = (piece.from / mean_size, piece.to / mean_size);
            let whole = (from + to) / 2.0 * piece.seconds;
            let mut used = 0.0;
            while used + left <= whole {
                used += left;
                left = exponential(rng);
                times.push(begin + inverse(used, from, to, piece.seconds));
            }
            left -= whole - used;
            begin += piece.seconds;
        }
        times
    }
}

/// What a planned message says: a question, and its token. Sentences of peers never look like replies, which the
/// journal would take for echoes of its own.
pub fn text(planned: &Planned) -> String {
    const QUESTIONS: [&str; 8] = [
        "Hello, could somebody please tell me what the state of my order is? The number is",
        "Good morning! When does the repair of our machine begin, and who comes? Our reference:",
        "We have not received the invoice for last month yet, please look under",
        "Is the meeting room still free tomorrow afternoon? I would need it for",
        "My parcel was to arrive yesterday and nobody rang. Where is it now? Tracking:",
        "Could you send me the price list once more, and name this in the subject:",
        "The printer on the second floor says that it is out of paper, ticket",
        "I would like to change my address before the next delivery, customer",
    ];
    format!("{} {}", QUESTIONS[(planned.number % QUESTIONS.len() as u64) as usize], planned.token)
}

/// The name of a desk.
pub fn desk_name(number: u32) -> String {
    format!("desk-{number:03}")
}

/// The name of the other side of a conversation.
pub fn peer_name(conversation: u32) -> String {
    format!("peer-{conversation:05}")
}

/// A gap of a Poisson process of rate 1.
fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    // `random` gives [0, 1): its complement is never 0.
    -(1.0 - rng.random::<f64>()).ln()
}

/// When a rate that goes straight from `from` to `to` within `seconds` has added up to `area`.
fn inverse(area: f64, from: f64, to: f64, seconds: f64) -> f64 {
    let slope = (to - from) / seconds;
    let at = if slope.abs() < 1e-9 {
        area / from
    } else {
        // The root of slope/2 t² + from t = area that lies within the piece.
        let root = (from * from + 2.0 * slope * area).max(0.0).sqrt();
        2.0 * area / (from + root)
    };
    at.clamp(0.0, seconds)
}

/// Draws conversations.
enum Places {
    Uniform(u32),
    /// The cumulative weights.
    Weighted(Vec<f64>),
}

impl Places {
    fn new(shape: &Shape) -> Self {
        match shape.spread {
            Spread::Uniform => Self::Uniform(shape.conversations),
            Spread::Zipf { exponent } => Self::Weighted(
                (1..=shape.conversations)
                    .scan(0.0, |sum, k| {
                        *sum += f64::from(k).powf(-exponent);
                        Some(*sum)
                    })
                    .collect(),
            ),
        }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> u32 {
        match self {
            Self::Uniform(count) => rng.random_range(0..*count),
            Self::Weighted(sums) => {
                let whole = sums.last().copied().unwrap_or(0.0);
                let drawn = rng.random::<f64>() * whole;
                sums.partition_point(|sum| *sum <= drawn).min(sums.len() - 1) as u32
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
