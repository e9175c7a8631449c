//! Freezes: when nothing new may be deployed to an environment.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

const DAY_MINUTES: u64 = 24 * 60;
const WEEK_MINUTES: u64 = 7 * DAY_MINUTES;
const MINUTE_MS: u64 = 60_000;

/// 1970 began on a Thursday, and a week on a Monday.
const FIRST_DAY: u64 = 3;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When an environment is frozen.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum FreezeWindow {
    /// From one moment to another. Without an end it lasts until somebody lifts it.
    Once { from: Timestamp, until: Option<Timestamp> },
    /// Every week.
    Weekly(WeekWindow),
}

/// A part of every week, in UTC. It may go over the end of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct WeekWindow {
    from: WeekTime,
    until: WeekTime,
}

/// A minute of the week, in UTC, from Monday 0:00.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub struct WeekTime(u16);

/// Why a text is no part of a week.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is no part of a week; write two days with times in UTC, such as \
     \"fri 16:00..mon 08:00\""
)]
pub struct InvalidWeekWindow(String);

impl FreezeWindow {
    /// Returns how long it still lasts at `now`; none if it is not on. The inner none: until somebody
    /// lifts it.
    pub fn left(&self, now: Timestamp) -> Option<Option<Duration>> {
        match self {
            Self::Once { from, until } => {
                let is_on = now >= *from && until.is_none_or(|until| now < until);
                is_on.then(|| until.map(|until| until.since(now)))
            }
            Self::Weekly(week) => week.left(now).map(Some),
        }
    }

    /// Returns whether it is over at `now` for ever.
    pub fn is_over(&self, now: Timestamp) -> bool {
        matches!(self, Self::Once { until: Some(until), .. } if now >= *until)
    }
}

impl WeekWindow {
    fn left(self, now: Timestamp) -> Option<Duration> {
        let minutes = now.unix_ms() / MINUTE_MS + FIRST_DAY * DAY_MINUTES;
        let minute = minutes % WEEK_MINUTES;
        let since =
            |earlier: WeekTime| (minute + WEEK_MINUTES - u64::from(earlier.0)) % WEEK_MINUTES;
        let length =
            (u64::from(self.until.0) + WEEK_MINUTES - u64::from(self.from.0)) % WEEK_MINUTES;
        let passed = since(self.from);
        (passed < length).then(|| {
            let left_ms = (length - passed) * MINUTE_MS - now.unix_ms() % MINUTE_MS;
            Duration::from_millis(left_ms)
        })
    }
}

impl FromStr for WeekWindow {
    type Err = InvalidWeekWindow;

    /// Parses "fri 16:00..mon 08:00".
    fn from_str(text: &str) -> Result<Self, InvalidWeekWindow> {
        let invalid = || InvalidWeekWindow(text.chars().take(40).collect());
        let (from, until) = text.split_once("..").ok_or_else(invalid)?;
        let time = |text: &str| WeekTime::parse(text).ok_or_else(invalid);
        let week = Self { from: time(from)?, until: time(until)? };
        if week.from == week.until { Err(invalid()) } else { Ok(week) }
    }
}

impl WeekTime {
    fn parse(text: &str) -> Option<Self> {
        let (day, time) = text.trim().split_once(' ')?;
        let (hour, minute) = time.trim().split_once(':')?;
        let day = DAYS.iter().position(|known| day.eq_ignore_ascii_case(known))?;
        let number = |text: &str, below: u16| {
            let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number: &u16| is_plain && *number < below)
        };
        let minutes = number(hour, 24)? * 60 + number(minute, 60)?;
        Some(Self(u16::try_from(day).ok()? * 24 * 60 + minutes))
    }
}

impl fmt::Display for WeekWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.until)
    }
}

impl fmt::Display for WeekTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, minute) = (usize::from(self.0 / (24 * 60)), self.0 % (24 * 60));
        let day = DAYS.get(day).copied().unwrap_or_default();
        write!(f, "{day} {:02}:{:02}", minute / 60, minute % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thursday, 2026-01-01 0:00 UTC.
    const NEW_YEAR_MS: u64 = 1_767_225_600_000;
    const HOUR_MS: u64 = 3_600_000;

    fn at(hours: u64) -> Timestamp {
        Timestamp::from_unix_ms(NEW_YEAR_MS + hours * HOUR_MS)
    }

    fn hours(hours: u64) -> Duration {
        Duration::from_millis(hours * HOUR_MS)
    }

    #[test]
    fn a_weekend_goes_over_the_end_of_the_week() {
        let weekend: WeekWindow = "fri 16:00..mon 08:00".parse().unwrap();
        assert_eq!(weekend.to_string(), "fri 16:00..mon 08:00");
        let weekly = FreezeWindow::Weekly(weekend);

        // Friday begins 24 hours after, Monday 96.
        for (hour, left) in [(0, None), (39, None), (40, Some(64)), (72, Some(32)), (103, Some(1))]
        {
            assert_eq!(weekly.left(at(hour)), left.map(|left| Some(hours(left))), "hour {hour}");
        }
        assert_eq!(weekly.left(at(104)), None);
        assert_eq!(weekly.left(at(40 + 168)), Some(Some(hours(64))), "a week later");
        assert!(!weekly.is_over(at(1_000)));
        let half = Timestamp::from_unix_ms(NEW_YEAR_MS + 103 * HOUR_MS + 90_500);
        let left = Duration::from_millis(HOUR_MS - 90_500);
        assert_eq!(weekly.left(half), Some(Some(left)));
    }

    #[test]
    fn once_is_from_its_beginning_to_before_its_end() {
        let once = FreezeWindow::Once { from: at(2), until: Some(at(4)) };
        assert_eq!(once.left(at(1)), None);
        assert_eq!(once.left(at(2)), Some(Some(hours(2))));
        assert_eq!(once.left(at(4)), None);
        assert!(once.is_over(at(4)) && !once.is_over(at(3)));

        let open = FreezeWindow::Once { from: at(2), until: None };
        assert_eq!(open.left(at(9_000)), Some(None));
        assert!(!open.is_over(at(9_000)));
    }

    #[test]
    fn what_is_no_part_of_a_week_is_refused_in_words_that_help() {
        for text in [
            "",
            "fri 16:00",
            "fri 16:00..fri 16:00",
            "fri 24:00..mon 08:00",
            "fri 1:00..mon 08:00",
            "fri +1:00..mon 08:00",
            "friday 16:00..mon 08:00",
            "fri 16:60..mon 08:00",
        ] {
            let refused = text.parse::<WeekWindow>().unwrap_err().to_string();
            assert!(refused.contains("such as \"fri 16:00..mon 08:00\""), "{refused}");
        }
        assert!("FRI 16:00 .. Mon 08:00".parse::<WeekWindow>().is_ok());
    }
}
