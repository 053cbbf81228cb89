//! Buckets: time spans whose values are aggregated.

use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};

use crate::StorageError;
use crate::value::{DAY, HOUR, MINUTE, SECOND, TIME_END, TIME_MIN, Time};

/// Division of time into buckets. The timestamp of a bucket is its start.
#[derive(Clone, Debug)]
pub enum Bucket {
    /// One bucket for the whole requested span.
    Whole,
    /// Buckets of equal length in microseconds, at least 1. They begin at multiples of the length
    /// since 1970-01-01T00:00:00Z.
    Fixed(Time),
    /// Calendar buckets in a time zone.
    Calendar(Unit, TimeZone),
}

/// A calendar unit.
///
/// Days and longer units begin at midnight in the time zone, or at the clock change that skips
/// midnight. The day on which daylight saving time begins has 23 hours, the day on which it ends
/// has 25 hours.
///
/// Minutes and hours begin at a full minute or hour of the local clock, and at each clock change.
/// A repeated hour forms two buckets. With a clock change of half an hour, a bucket has half an
/// hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week according to ISO 8601: it begins on Monday.
    Week,
    /// A month.
    Month,
    /// Three months, beginning in January, April, July and October.
    Quarter,
    /// A year.
    Year,
}

impl FromStr for Unit {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, StorageError> {
        Ok(match text {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "quarter" => Self::Quarter,
            "year" => Self::Year,
            _ => {
                return Err(StorageError::Query(format!(
                    "{text}: not a unit of the calendar; use minute, hour, day, week, month, \
                     quarter or year"
                )));
            }
        })
    }
}

impl Bucket {
    /// Calendar buckets in a time zone with this name in the IANA database, such as
    /// `Europe/Berlin`.
    ///
    /// # Errors
    /// The time zone is unknown.
    pub fn calendar(unit: Unit, zone: &str) -> Result<Self, StorageError> {
        let found = TimeZone::get(zone).map_err(|_| {
            StorageError::Query(format!(
                "{zone}: unknown time zone; use a name like Europe/Berlin or UTC, and install the \
                 package tzdata if all names are unknown"
            ))
        })?;
        Ok(Self::Calendar(unit, found))
    }

    /// The bucket that contains a time: its start, and the start of the next one.
    pub(crate) fn at(&self, time: Time) -> Result<(Time, Time), StorageError> {
        match self {
            Self::Whole => Ok((Time::MIN, Time::MAX)),
            Self::Fixed(length) if *length < 1 => Err(StorageError::Query(
                "the length of a bucket must be at least 1 µs".to_owned(),
            )),
            Self::Fixed(length) => {
                let start = time.div_euclid(*length).saturating_mul(*length);
                Ok(stored(start, start.saturating_add(*length)))
            }
            Self::Calendar(unit, zone) => match calendar(*unit, zone, time) {
                Ok((start, end)) => Ok(stored(start, end)),
                Err(error) => Err(StorageError::Query(format!(
                    "the calendar has no bucket for {time} µs: {error}"
                ))),
            },
        }
    }
}

/// The first bucket begins at the earliest time that is stored.
fn stored(start: Time, end: Time) -> (Time, Time) {
    match start < TIME_MIN && TIME_MIN < end {
        true => (TIME_MIN, end),
        false => (start, end),
    }
}

fn calendar(unit: Unit, zone: &TimeZone, time: Time) -> Result<(Time, Time), jiff::Error> {
    // No values are stored outside, and the calendar ends there.
    let at = Timestamp::from_microsecond(time.clamp(TIME_MIN, TIME_END))?;
    match unit {
        Unit::Minute => Ok(clock(zone, at, MINUTE)),
        Unit::Hour => Ok(clock(zone, at, HOUR)),
        Unit::Day | Unit::Week | Unit::Month | Unit::Quarter | Unit::Year => {
            let (first, length) = period(unit, zone.to_datetime(at).date())?;
            let next = first.checked_add(length)?;
            Ok((midnight(zone, first)?, midnight(zone, next)?))
        }
    }
}

/// The span with the same minute or hour of the local clock, without a clock change.
fn clock(zone: &TimeZone, at: Timestamp, length: Time) -> (Time, Time) {
    let time = at.as_microsecond();
    let offset = Time::from(zone.to_offset(at).seconds()) * SECOND;
    let start = (time + offset).div_euclid(length) * length - offset;
    let end = start + length;
    // `preceding` returns changes before a time; one at exactly this time must be included.
    let just_after = Timestamp::from_microsecond(time.saturating_add(1)).unwrap_or(at);
    let jump = zone.preceding(just_after).next();
    let jump = jump.map_or(Time::MIN, |jump| jump.timestamp().as_microsecond());
    let next = zone.following(at).next();
    let next = next.map_or(Time::MAX, |next| next.timestamp().as_microsecond());
    (start.max(jump), end.min(next))
}

/// The first day of a period, and the length of the period.
fn period(unit: Unit, date: Date) -> Result<(Date, Span), jiff::Error> {
    Ok(match unit {
        Unit::Week => {
            let days = date.weekday().to_monday_zero_offset();
            (date.checked_sub(i64::from(days).days())?, 1.week())
        }
        Unit::Month => (date.first_of_month(), 1.month()),
        Unit::Quarter => {
            let month = (date.month() - 1) / 3 * 3 + 1;
            (Date::new(date.year(), month, 1)?, 3.months())
        }
        Unit::Year => (Date::new(date.year(), 1, 1)?, 1.year()),
        Unit::Day | Unit::Hour | Unit::Minute => (date, 1.day()),
    })
}

/// Start of a day. If the clock change skips midnight, the time of the change.
fn midnight(zone: &TimeZone, date: Date) -> Result<Time, jiff::Error> {
    Ok(zone.to_timestamp(date.at(0, 0, 0, 0))?.as_microsecond())
}

/// Length of the entries of a roll-up level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Minute = 0,
    Hour = 1,
    Day = 2,
}

impl Level {
    pub(crate) const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    pub(crate) fn length(self) -> Time {
        match self {
            Self::Minute => MINUTE,
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    pub(crate) fn number(self) -> i64 {
        self as i64
    }
}

/// The longest level of which no entry of a day is cut by an edge of a bucket or by the ends of
/// the requested span; `None`: an edge cuts a minute.
pub(crate) fn level_of(
    bucket: &Bucket,
    day: i64,
    from: Time,
    until: Time,
) -> Result<Option<Level>, StorageError> {
    let (begin, end) = (day.saturating_mul(DAY), (day + 1).saturating_mul(DAY));
    let mut edges = vec![from, until];
    match bucket {
        Bucket::Whole => {}
        // All edges are multiples of a day.
        Bucket::Fixed(length) if *length > 0 && DAY % length == 0 => edges.push(begin + length),
        Bucket::Fixed(_) | Bucket::Calendar(..) => {
            let mut time = begin;
            // Buckets shorter than a minute always cut minutes.
            while time < end && edges.len() <= 1_443 {
                time = bucket.at(time)?.1;
                edges.push(time);
            }
        }
    }
    let fits = |level: &Level| {
        let inside = edges.iter().filter(|edge| (begin + 1..end).contains(edge));
        inside
            .map(|edge| edge - begin)
            .all(|edge| edge % level.length() == 0)
    };
    Ok(Level::ALL.into_iter().rev().find(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        text.parse::<Timestamp>().expect("a time").as_microsecond()
    }

    fn starts(bucket: &Bucket, from: &str, until: &str) -> Vec<String> {
        let (mut at, until) = (time(from), time(until));
        let mut starts = Vec::new();
        while at < until {
            let (start, end) = bucket.at(at).unwrap();
            assert!(start <= at && at < end, "{at} is in {start} to {end}");
            // All times in a bucket return the same bucket.
            for inside in [start, start + 1, (start + end) / 2, end - 1] {
                assert_eq!(bucket.at(inside).unwrap(), (start, end), "{inside}");
            }
            starts.push(Timestamp::from_microsecond(start).unwrap().to_string());
            at = end;
        }
        starts
    }

    fn hours(bucket: &Bucket, day: &str) -> i64 {
        let (start, end) = bucket.at(time(day)).unwrap();
        assert_eq!((end - start) % (HOUR / 2), 0);
        (end - start) / (HOUR / 2)
    }

    #[test]
    fn days_of_three_zones_have_their_hours_when_the_clocks_change() {
        // In half hours: 23 h, 24 h, 25 h; in Australia/Lord_Howe 23.5 h and 24.5 h.
        for (zone, day, expected) in [
            ("Europe/Berlin", "2026-03-29T12:00:00Z", 46),
            ("Europe/Berlin", "2026-03-30T12:00:00Z", 48),
            ("Europe/Berlin", "2026-10-25T12:00:00Z", 50),
            ("America/New_York", "2026-03-08T18:00:00Z", 46),
            ("America/New_York", "2026-11-01T18:00:00Z", 50),
            ("Australia/Lord_Howe", "2026-04-05T06:00:00Z", 49),
            ("Australia/Lord_Howe", "2026-10-04T06:00:00Z", 47),
        ] {
            let days = Bucket::calendar(Unit::Day, zone).unwrap();
            assert_eq!(hours(&days, day), expected, "{zone} {day}");
        }
    }

    #[test]
    fn hours_begin_at_full_hours_and_where_the_clock_jumps() {
        let berlin = Bucket::calendar(Unit::Hour, "Europe/Berlin").unwrap();
        // 01:00, 03:00, and in autumn 02:00 twice.
        assert_eq!(
            starts(&berlin, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
            ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"]
        );
        assert_eq!(
            starts(&berlin, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"),
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"]
        );
        // At 02:00 (+11:00) the clock is set back to 01:30 (+10:30).
        let lord_howe = Bucket::calendar(Unit::Hour, "Australia/Lord_Howe").unwrap();
        assert_eq!(
            starts(&lord_howe, "2026-04-04T14:00:00Z", "2026-04-04T16:30:00Z"),
            [
                "2026-04-04T14:00:00Z",
                "2026-04-04T15:00:00Z",
                "2026-04-04T15:30:00Z"
            ]
        );
        // At 02:00 (+10:30) the clock is set to 02:30 (+11:00).
        assert_eq!(
            starts(&lord_howe, "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z"),
            [
                "2026-10-03T14:30:00Z",
                "2026-10-03T15:30:00Z",
                "2026-10-03T16:00:00Z"
            ]
        );
    }

    #[test]
    fn weeks_months_quarters_and_years_begin_at_midnight_of_the_zone() {
        for (unit, expected) in [
            (Unit::Week, "2026-10-18T22:00:00Z"),
            (Unit::Month, "2026-09-30T22:00:00Z"),
            (Unit::Quarter, "2026-09-30T22:00:00Z"),
            (Unit::Year, "2025-12-31T23:00:00Z"),
        ] {
            let bucket = Bucket::calendar(unit, "Europe/Berlin").unwrap();
            let (start, _) = bucket.at(time("2026-10-25T12:00:00Z")).unwrap();
            assert_eq!(start, time(expected), "{unit:?}");
            starts(&bucket, "2025-11-01T00:00:00Z", "2027-02-01T00:00:00Z");
        }
        // Midnight does not exist there on this day.
        let havana = Bucket::calendar(Unit::Day, "America/Havana").unwrap();
        assert_eq!(hours(&havana, "2026-03-08T12:00:00Z"), 46);
        // 30 December 2011 does not exist.
        let apia = Bucket::calendar(Unit::Day, "Pacific/Apia").unwrap();
        starts(&apia, "2011-12-28T00:00:00Z", "2012-01-03T00:00:00Z");
    }

    #[test]
    fn the_ends_of_time_have_buckets() {
        for unit in [Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Year] {
            for zone in ["Pacific/Kiritimati", "Pacific/Niue", "UTC"] {
                let bucket = Bucket::calendar(unit, zone).unwrap();
                for time in [Time::MIN, TIME_MIN, TIME_END - 1, TIME_END, Time::MAX] {
                    bucket.at(time).unwrap();
                }
            }
        }
    }

    #[test]
    fn roll_ups_are_used_where_no_edge_cuts_them() {
        let day = time("2026-10-25T00:00:00Z") / DAY;
        let level = |bucket: &Bucket, from, until| level_of(bucket, day, from, until).unwrap();
        let wide = |bucket| level(&bucket, Time::MIN, Time::MAX);
        let calendar = |unit, zone| Bucket::calendar(unit, zone).unwrap();
        assert_eq!(wide(Bucket::Whole), Some(Level::Day));
        assert_eq!(wide(Bucket::Fixed(7 * DAY)), Some(Level::Day));
        assert_eq!(wide(Bucket::Fixed(5 * HOUR)), Some(Level::Hour));
        assert_eq!(wide(Bucket::Fixed(90 * MINUTE)), Some(Level::Minute));
        assert_eq!(wide(Bucket::Fixed(90 * SECOND)), None);
        assert_eq!(wide(Bucket::Fixed(1)), None);
        assert_eq!(wide(calendar(Unit::Day, "UTC")), Some(Level::Day));
        assert_eq!(
            wide(calendar(Unit::Day, "Europe/Berlin")),
            Some(Level::Hour)
        );
        assert_eq!(
            wide(calendar(Unit::Month, "Asia/Kolkata")),
            Some(Level::Day)
        );
        assert_eq!(
            wide(calendar(Unit::Day, "Asia/Kolkata")),
            Some(Level::Minute)
        );
        assert_eq!(
            wide(calendar(Unit::Minute, "Europe/Berlin")),
            Some(Level::Minute)
        );
        let from = day * DAY + 3 * HOUR;
        assert_eq!(level(&Bucket::Whole, from, Time::MAX), Some(Level::Hour));
        assert_eq!(level(&Bucket::Whole, from + 1, Time::MAX), None);
    }
}
