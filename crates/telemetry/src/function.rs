//! Aggregate functions of a bucket.

use std::str::FromStr;

use crate::StorageError;

/// An aggregate function of a bucket. Numbers are integers, numbers and bools (1 or 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Mean of the numbers.
    Avg,
    /// Smallest number.
    Min,
    /// Largest number.
    Max,
    /// Sum of the numbers.
    Sum,
    /// Number of values, including texts.
    Count,
    /// The first value of any type.
    First,
    /// The last value of any type.
    Last,
    /// The median. Between two numbers it is interpolated, as PostgreSQL's `percentile_cont` does.
    P50,
    /// The 95th percentile of the numbers, interpolated too.
    P95,
    /// Difference of the last number from the last one before the bucket. If there is none before
    /// it: from the first number of the bucket. So the sum over all buckets is the change over the
    /// whole time. A counter that restarts at 0 gives a negative number.
    Delta,
    /// `Delta` per second between these two numbers.
    Rate,
}

impl Function {
    /// All functions with their names.
    pub const ALL: [(Self, &str); 11] = [
        (Self::Avg, "avg"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Sum, "sum"),
        (Self::Count, "count"),
        (Self::First, "first"),
        (Self::Last, "last"),
        (Self::P50, "p50"),
        (Self::P95, "p95"),
        (Self::Delta, "delta"),
        (Self::Rate, "rate"),
    ];

    /// The name of the function.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(function, _)| *function == self);
        found.map_or("", |(_, name)| name)
    }

    /// Whether it needs all numbers at once.
    pub(crate) fn needs_all(self) -> bool {
        matches!(self, Self::P50 | Self::P95)
    }

    /// Whether it needs the last number before the bucket.
    pub(crate) fn needs_previous(self) -> bool {
        matches!(self, Self::Delta | Self::Rate)
    }
}

impl FromStr for Function {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self, StorageError> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(function, _)| *function).ok_or_else(|| {
            let names = Self::ALL.map(|(_, name)| name).join(", ");
            StorageError::Query(format!("{text}: not a function; use one of {names}"))
        })
    }
}
