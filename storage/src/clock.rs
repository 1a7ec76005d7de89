//! The one place that reads the wall clock. Everything else is handed `now`.

#[cfg(debug_assertions)]
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of the time, in unix seconds: the system's, or one that a test moves by hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's wall clock.
    #[default]
    System,
    /// Stands still until [`Clock::advance`] moves it.
    Manual(Arc<AtomicI64>),
    /// The system's and as many seconds more as stand in a file: tests of the whole program let days pass with it. A release
    /// build has no such clock and cannot be told a false time.
    #[cfg(debug_assertions)]
    Shifted(Arc<Path>),
}

impl Clock {
    /// A clock that stands at `now` (unix seconds).
    #[must_use]
    pub fn manual(now: i64) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(now)))
    }

    /// The time in unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        match self {
            Self::System => system_millis() / 1000,
            Self::Manual(at) => at.load(Ordering::SeqCst),
            #[cfg(debug_assertions)]
            Self::Shifted(_) => self.now_ms() / 1000,
        }
    }

    /// The time in unix milliseconds; a manual clock stands at whole seconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::System => system_millis(),
            Self::Manual(at) => at.load(Ordering::SeqCst).saturating_mul(1000),
            #[cfg(debug_assertions)]
            Self::Shifted(file) => system_millis().saturating_add(shift(file).saturating_mul(1000)),
        }
    }

    /// Moves a manual clock by `seconds`; does nothing to the others.
    pub fn advance(&self, seconds: i64) {
        if let Self::Manual(at) = self {
            at.fetch_add(seconds, Ordering::SeqCst);
        }
    }
}

/// The seconds in a file; 0 while there are none.
#[cfg(debug_assertions)]
fn shift(file: &Path) -> i64 {
    std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// The system's time in unix milliseconds; 0 where the clock stands before 1970.
#[allow(clippy::disallowed_methods)] // This is the clock.
pub fn system_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Unix seconds as RFC 3339 in UTC, to the second: `2026-11-24T10:00:00Z`.
#[must_use]
pub fn rfc3339(unix: i64) -> String {
    let (days, seconds) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`): years begin in March, so that the leap day is a year's last.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Reads a time of RFC 3339 (`2026-11-24T10:00:00.123+01:00`), or the beginning of a day in UTC (`2026-11-24`), as unix
/// milliseconds. A space stands for the plus sign that it is in a query.
#[must_use]
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let is = |at: usize, allowed: &[u8]| text.as_bytes().get(at).is_some_and(|b| allowed.contains(b));
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !is(4, b"-") || !is(7, b"-") || !(1..=12).contains(&month) {
        return None;
    }
    let days = days_of(year, month, day);
    if date(days) != (year, month, day) {
        return None;
    }
    if text.len() == 10 {
        return Some(days * 86_400_000);
    }
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !is(10, b"Tt ") || !is(13, b":") || !is(16, b":") || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let (millis, zone) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let end = fraction.find(|c: char| !c.is_ascii_digit())?;
            let (digits, zone) = fraction.split_at(end);
            (format!("{digits:0<3}").get(..3).filter(|_| !digits.is_empty())?.parse::<i64>().ok()?, zone)
        }
        None => (0, rest),
    };
    let offset = match (zone.len(), zone.split_at_checked(1)?) {
        (1, ("Z" | "z", _)) => 0,
        (6, (sign @ ("+" | "-" | " "), hours)) => {
            let (h, m) = hours.split_once(':')?;
            let minutes = h.parse::<i64>().ok()? * 60 + m.parse::<i64>().ok()?;
            if sign == "-" { -minutes } else { minutes }
        }
        _ => return None,
    };
    Some((days * 86_400 + hour * 3600 + minute * 60 + second - offset * 60) * 1000 + millis)
}

/// The inverse of [`date`] (`days_from_civil`).
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The beginning, in UTC, of the month that a time lies in (both unix milliseconds).
#[must_use]
pub fn month_of(unix_ms: i64) -> i64 {
    let days = unix_ms.div_euclid(86_400_000);
    let (_, _, day) = date(days);
    (days - (day - 1)) * 86_400_000
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Clock, rfc3339};

    #[test]
    #[cfg(debug_assertions)]
    fn a_shifted_clock_goes_on_by_what_the_file_says() {
        let file = std::env::temp_dir().join(format!("clock-{}", crate::names::new_id()));
        let clock = Clock::Shifted(file.clone().into());
        let before = Clock::System.now();
        assert!((before..before + 10).contains(&clock.now()));
        std::fs::write(&file, "86400\n").unwrap();
        assert!((before + 86_400..before + 86_410).contains(&clock.now()));
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_514_400, "2026-11-24T10:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(at), text);
        }
    }

    #[test]
    fn months_begin_with_their_first_day() {
        for (at, begin) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-01T00:00:00Z"),
            (1_735_689_599, "2024-12-01T00:00:00Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (-1, "1969-12-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(super::month_of(at * 1000 + 999) / 1000), begin);
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2026-11-24T10:00:00.5Z", Some(1_795_514_400_500)),
            ("2026-11-24t11:00:00.1239+01:00", Some(1_795_514_400_123)),
            ("2026-11-24T11:00:00 01:00", Some(1_795_514_400_000)),
            ("2026-11-24T09:30:00-00:30", Some(1_795_514_400_000)),
            ("2026-11-24", Some(1_795_478_400_000)),
            ("2026-02-30", None),
            ("2026-13-01", None),
            ("2026-11-24T10:00:00", None),
            ("2026-11-24T24:00:00Z", None),
            ("2026-11-24T10:00:00.Z", None),
            ("2026-11-24T10:00:00+0100", None),
            ("yesterday", None),
            ("", None),
            ("2026-11-2é", None),
        ] {
            assert_eq!(super::parse_rfc3339_ms(text), expected, "{text}");
        }
        for at in (-100_000..100_000).step_by(37) {
            assert_eq!(super::parse_rfc3339_ms(&rfc3339(at * 86_400)), Some(at * 86_400_000));
        }
    }
}
