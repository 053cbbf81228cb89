//! A stored value of a device and key at a time.

use std::sync::Arc;

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Time = i64;

/// Microseconds of a second.
pub const SECOND: Time = 1_000_000;
/// Microseconds of a minute.
pub const MINUTE: Time = 60 * SECOND;
/// Microseconds of an hour.
pub const HOUR: Time = 60 * MINUTE;
/// Microseconds of a day of 24 hours.
pub const DAY: Time = 24 * HOUR;

/// The earliest time that is stored: 0001-01-01T00:00:00Z.
pub const TIME_MIN: Time = -62_135_596_800 * SECOND;
/// End of the range of stored times, exclusive: 9998-01-01T00:00:00Z.
pub const TIME_END: Time = 253_339_228_800 * SECOND;

/// Bytes of a page of the file of SQLite; see `codec::block`.
pub(crate) const PAGE_BYTES: u32 = 4096;
/// A block with more bytes has a page of its own, beside its row.
pub(crate) const ROW_BYTES_MAX: u32 = 900;
/// Approximate bytes of a value in the journal, beside its text.
const JOURNAL_BYTES: usize = 16;

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// A value of a device.
///
/// Its identity consists of device, key, time and origin: the same point written twice is one
/// value, and the later write wins.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Number of the device; never reused.
    pub device: i64,
    /// Number of the tenant whose share of the series it counts for; 0: none.
    pub tenant: u32,
    /// Name of the value, 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Arc<str>,
    /// When the value was measured, from [`TIME_MIN`] to before [`TIME_END`].
    pub time: Time,
    /// 0 if `time` is from the device. Otherwise the id of the message, because the device sent no
    /// time: two messages that arrive in the same microsecond are two values.
    pub origin: i64,
    /// The value.
    pub value: Value,
}

/// A typed value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// True or false; 1 or 0 in calculations.
    Bool(bool),
    /// A text. Zero bytes in it are stored as U+FFFD, because PostgreSQL has no zero bytes.
    Text(Box<str>),
    /// JSON of other types, as text.
    Json(Box<str>),
}

impl Value {
    /// The number for calculations; `None` for texts and JSON.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Number(value) => Some(*value),
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Text(_) | Self::Json(_) => None,
        }
    }

    /// Approximate bytes in the journal.
    pub(crate) fn journal_bytes(&self) -> usize {
        JOURNAL_BYTES + self.text_bytes()
    }

    /// Approximate bytes that it takes in blocks at most. A number usually takes less.
    pub(crate) fn block_bytes(&self) -> usize {
        let page_bytes = match self.text_bytes() > ROW_BYTES_MAX as usize {
            true => PAGE_BYTES as usize,
            false => 0,
        };
        self.journal_bytes() + page_bytes
    }

    /// Bytes of its text.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Integer(_) | Self::Number(_) | Self::Bool(_) => 0,
        }
    }
}

/// Identity of a value within its series, ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    /// See [`Point::time`].
    pub time: Time,
    /// See [`Point::origin`].
    pub origin: i64,
}

impl Instant {
    /// The first instant of a time.
    pub(crate) fn first_of(time: Time) -> Self {
        Self {
            time,
            origin: i64::MIN,
        }
    }

    /// The next instant.
    pub(crate) fn next(self) -> Self {
        match self.origin.checked_add(1) {
            Some(origin) => Self { origin, ..self },
            None => Self::first_of(self.time.saturating_add(1)),
        }
    }
}

/// A value of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) value: Value,
}

/// Number of the series of a device and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SeriesId(pub(crate) i64);

/// Days since 1970, in UTC.
pub(crate) fn day_of(time: Time) -> i64 {
    time.div_euclid(DAY)
}

/// Why a point is refused permanently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointRefusal {
    /// The number is infinite or not a number.
    #[error("the number is not finite")]
    NotFinite,
    /// The key is empty or longer than [`KEY_BYTES_MAX`].
    #[error("the key must have 1 to {KEY_BYTES_MAX} bytes")]
    KeyLength,
    /// The text is longer than [`crate::Settings::text_bytes_max`].
    #[error("the text is longer than the limit for texts")]
    TextLength,
    /// The time is before [`TIME_MIN`] or not before [`TIME_END`].
    #[error("the time is not in the years 1 to 9997")]
    Time,
    /// The device has [`crate::Settings::keys_per_device_max`] keys.
    #[error("the device has as many keys as it may have")]
    TooManyKeys,
    /// There are [`crate::Settings::series_max`] series.
    #[error("the maximum number of pairs of device and key is reached")]
    TooManySeries,
    /// The tenant has its share of them, see [`crate::Settings::tenant_share`].
    #[error("the team has its share of the pairs of device and key")]
    TenantSeries,
    /// The tenant has its share of the bytes of telemetry, see [`crate::TenantBytes`].
    #[error("the team has its share of the bytes of telemetry")]
    TenantBytes,
}

impl Point {
    /// Checks the point, except for rules that depend on stored data.
    pub(crate) fn check(&self, text_bytes_max: usize) -> Result<(), PointRefusal> {
        if self.key.is_empty() || self.key.len() > KEY_BYTES_MAX {
            return Err(PointRefusal::KeyLength);
        }
        if !(TIME_MIN..TIME_END).contains(&self.time) {
            return Err(PointRefusal::Time);
        }
        if self.value.text_bytes() > text_bytes_max {
            return Err(PointRefusal::TextLength);
        }
        match self.value {
            Value::Number(number) if !number.is_finite() => Err(PointRefusal::NotFinite),
            _ => Ok(()),
        }
    }

    /// Replaces characters that PostgreSQL cannot store.
    pub(crate) fn clean(&mut self) {
        if self.key.contains('\0') {
            self.key = self.key.replace('\0', "\u{fffd}").into();
        }
        if let Value::Text(text) | Value::Json(text) = &mut self.value
            && text.contains('\0')
        {
            *text = text.replace('\0', "\u{fffd}").into();
        }
    }

    /// Bytes of its memory until it is written.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.value.text_bytes()
    }
}

impl Point {
    /// The point without its device and key.
    pub(crate) fn into_sample(self) -> Sample {
        Sample {
            at: Instant {
                time: self.time,
                origin: self.origin,
            },
            value: self.value,
        }
    }
}
