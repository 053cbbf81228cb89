//! Reads one series in pages from either database.

use crate::value::{Instant, Sample, SeriesId};

/// A span of a series.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) series: SeriesId,
    /// The first instant.
    pub(crate) from: Instant,
    /// End of the span, exclusive.
    pub(crate) until: Instant,
    pub(crate) newest_first: bool,
    pub(crate) limit: usize,
}

/// A page of samples.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) samples: Vec<Sample>,
    /// Whether there are more than the limit.
    pub(crate) has_more: bool,
}

impl Scan {
    /// The rest of the span after a page.
    pub(crate) fn after(mut self, last: &Sample) -> Self {
        match self.newest_first {
            true => self.until = last.at,
            false => self.from = last.at.next(),
        }
        self
    }
}
