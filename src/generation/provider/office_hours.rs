//! Office hours: weekdays, from-to, a time zone. Pure.

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

/// One row of hours; what ends at or before its beginning ends on the next day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// The weekdays on which it begins.
    pub days: Vec<Weekday>,
    /// The first minute.
    pub from: Time,
    /// The first minute after it.
    pub to: Time,
}

impl Hours {
    fn hold(&self, day: Weekday, time: Time) -> bool {
        let begins_today = self.days.contains(&day);
        if self.from < self.to {
            return begins_today && self.from <= time && time < self.to;
        }
        let began_yesterday = self.days.contains(&day.previous());
        (begins_today && self.from <= time) || (began_yesterday && time < self.to)
    }
}

/// When somebody is there.
#[derive(Debug, Clone)]
pub struct OfficeHours {
    /// Where the clock on the wall hangs.
    pub zone: TimeZone,
    /// The rows; one that holds is enough.
    pub rows: Vec<Hours>,
}

impl OfficeHours {
    /// Whether `at` is inside them.
    pub fn are_open(&self, at: Timestamp) -> bool {
        let local = at.to_zoned(self.zone.clone());
        self.rows.iter().any(|row| row.hold(local.weekday(), local.time()))
    }
}

/// The weekday of its English name or its first three letters.
pub fn parse_day(name: &str) -> Option<Weekday> {
    const DAYS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let name = name.to_lowercase();
    DAYS.into_iter().find(|(full, _)| *full == name || full[..3] == name).map(|(_, day)| day)
}

/// The time of `HH:MM`.
pub fn parse_time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::testing::at;

    fn hours(days: &[&str], from: &str, to: &str, zone: &str) -> OfficeHours {
        OfficeHours {
            zone: TimeZone::get(zone).unwrap(),
            rows: vec![Hours {
                days: days.iter().map(|day| parse_day(day).unwrap()).collect(),
                from: parse_time(from).unwrap(),
                to: parse_time(to).unwrap(),
            }],
        }
    }

    #[test]
    fn the_day_and_the_hour_are_those_of_the_time_zone() {
        // 2026-03-02 is a Monday.
        let berlin = hours(&["mon"], "09:00", "17:00", "Europe/Berlin");
        for (when, open) in [
            ("2026-03-02T07:59:59Z", false),
            ("2026-03-02T08:00:00Z", true),
            ("2026-03-02T15:59:59Z", true),
            ("2026-03-02T16:00:00Z", false),
            ("2026-03-03T10:00:00Z", false),
            // Summer time: the same wall clock is an hour earlier in UTC.
            ("2026-07-06T07:00:00Z", true),
        ] {
            assert_eq!(berlin.are_open(at(when)), open, "{when}");
        }
    }

    #[test]
    fn hours_may_run_over_midnight() {
        let night = hours(&["friday"], "22:00", "06:00", "UTC");
        for (when, open) in [
            ("2026-03-06T21:59:00Z", false),
            ("2026-03-06T22:00:00Z", true),
            ("2026-03-07T05:59:00Z", true),
            ("2026-03-07T06:00:00Z", false),
            ("2026-03-06T05:00:00Z", false),
        ] {
            assert_eq!(night.are_open(at(when)), open, "{when}");
        }
    }

    #[test]
    fn times_and_days_are_read_strictly() {
        assert!(parse_time("24:00").is_none() && parse_time("9:00").is_none() && parse_time("+9:00").is_none());
        assert!(parse_day("someday").is_none() && parse_day("tu").is_none() && parse_day("é").is_none());
    }
}
