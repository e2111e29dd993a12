//! How old a message is, by what is shown beside it.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use crate::clock::elapsed;

/// What is known of a message's age when it is first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It is not over the limit.
    Fresh,
    /// It is over the limit.
    TooOld,
    /// Nothing tells: it may have been written while nobody was looking.
    Unknown,
}

/// How far a shown time may lie in the future before it is taken for yesterday's: clocks differ.
const AHEAD: Duration = Duration::from_secs(120);
/// After a pause in looking that is nearly a day long, a time without a date tells nothing.
const AMBIGUOUS: Duration = Duration::from_secs(20 * 3600);

/// The age of a message that was not there at the last look, `unwatched` before now. Without a shown time a message
/// is as fresh as the pause in looking was short.
pub fn judge(stamp: Option<&str>, unwatched: Duration, limit: Duration, now: Timestamp, zone: &TimeZone) -> Age {
    if unwatched <= limit {
        return Age::Fresh;
    }
    match stamp.and_then(|stamp| shown_at(stamp, now, zone)) {
        Some((_, dated)) if !dated && unwatched >= AMBIGUOUS => Age::Unknown,
        Some((at, _)) if elapsed(at, now) > limit => Age::TooOld,
        Some(_) => Age::Fresh,
        None => Age::Unknown,
    }
}

/// The time that `stamp` shows, and whether it names its day: `14:05`, `[14:05:09]`, `2:05 pm`,
/// `2026-05-01 14:05`. A time without a day is the last such time before now.
pub fn shown_at(stamp: &str, now: Timestamp, zone: &TimeZone) -> Option<(Timestamp, bool)> {
    let time = clock_time(stamp)?;
    let on = |date: Date| date.to_datetime(time).to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
    if let Some(date) = calendar_date(stamp) {
        return on(date).map(|at| (at, true));
    }
    let today = now.to_zoned(zone.clone()).date();
    let at = on(today)?;
    if elapsed(now, at) <= AHEAD {
        return Some((at, false));
    }
    on(today.yesterday().ok()?).map(|at| (at, false))
}

fn clock_time(stamp: &str) -> Option<Time> {
    let colon = stamp.find(':')?;
    let (before, after) = (stamp.get(..colon)?, stamp.get(colon + 1..)?);
    let hour: i8 = trailing_digits(before).parse().ok()?;
    let minute: i8 = leading_digits(after).parse().ok()?;
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    let second: i8 = rest.strip_prefix(':').map(leading_digits).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let lower = rest.to_ascii_lowercase();
    let hour = match hour {
        12 if lower.contains("am") => 0,
        1..=11 if lower.contains("pm") => hour + 12,
        other => other,
    };
    Time::new(hour, minute, second, 0).ok()
}

fn calendar_date(stamp: &str) -> Option<Date> {
    stamp.split(|c: char| !c.is_ascii_digit() && c != '-').find_map(|word| {
        let mut parts = word.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        if year.len() != 4 || parts.next().is_some() {
            return None;
        }
        Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
    })
}

fn trailing_digits(text: &str) -> &str {
    let kept = text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    text.get(kept..).unwrap_or_default()
}

fn leading_digits(text: &str) -> &str {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    text.get(..text.len() - rest).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn shown_times_are_read() {
        let (now, zone) = (at("2026-05-02T14:30:00Z"), TimeZone::UTC);
        for (stamp, expected) in [
            ("14:05", "2026-05-02T14:05:00Z"),
            ("[14:05:09]", "2026-05-02T14:05:09Z"),
            ("2:05 PM", "2026-05-02T14:05:00Z"),
            ("12:10 am", "2026-05-02T00:10:00Z"),
            ("14:31", "2026-05-02T14:31:00Z"),
            ("23:50", "2026-05-01T23:50:00Z"),
            ("2026-04-30 09:00", "2026-04-30T09:00:00Z"),
        ] {
            assert_eq!(shown_at(stamp, now, &zone).map(|(at, _)| at), Some(at(expected)), "{stamp}");
        }
        for stamp in ["", "yesterday", "25:00", "14.05", ":", "a:b"] {
            assert_eq!(shown_at(stamp, now, &zone), None, "{stamp}");
        }
    }

    #[test]
    fn age_is_judged_only_after_a_pause_in_looking() {
        let (now, zone, limit) = (at("2026-05-02T14:30:00Z"), TimeZone::UTC, Duration::from_secs(600));
        let judge = |stamp, minutes: u64| judge(stamp, Duration::from_secs(minutes * 60), limit, now, &zone);
        assert_eq!(judge(None, 5), Age::Fresh);
        assert_eq!(judge(Some("02:00"), 5), Age::Fresh);
        assert_eq!(judge(None, 60), Age::Unknown);
        assert_eq!(judge(Some("14:25"), 60), Age::Fresh);
        assert_eq!(judge(Some("14:00"), 60), Age::TooOld);
        assert_eq!(judge(Some("14:25"), 60 * 24), Age::Unknown);
        assert_eq!(judge(Some("2026-05-02 14:25"), 60 * 24), Age::Fresh);
    }

    proptest! {
        #[test]
        fn any_stamp_is_read_or_not_and_lies_in_the_last_day(stamp in ".{0,24}", seconds in 0_i64..4_000_000_000) {
            let now = Timestamp::from_second(seconds).unwrap();
            if let Some((at, false)) = shown_at(&stamp, now, &TimeZone::UTC) {
                prop_assert!(elapsed(now, at) <= AHEAD);
                prop_assert!(elapsed(at, now) <= Duration::from_secs(86_400));
            }
        }
    }
}
