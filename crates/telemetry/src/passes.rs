//! Passes over all values: when one is due, and what it leaves for writes until the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use martlet_permission::Share;
use tokio::sync::watch;

use crate::retention::{Limits, Retention};
use crate::tenant_bytes::{Space, TenantBytes};

/// Time between two passes, if little is written.
const PASS_EVERY: Duration = Duration::from_secs(3_600);
/// A pass begins earlier if more than this part of what was left has been written.
const PART_OF_LEFT: u64 = 16;
/// Passes that begin earlier take up to this part of the time of the writer.
const PART_OF_TIME: u32 = 20;
/// Time between two checks whether a pass is due, if little is written.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Passes of a writer: they delete what exceeds the limits of retention, and count the bytes of
/// tenants.
#[derive(Debug)]
pub(crate) struct Passes {
    /// The last limits; before the first ones come, none.
    pub(crate) retention: Retention,
    /// Number of values that passes have deleted since the last answer about it.
    pub(crate) forgotten: u64,
    share: Share,
    /// Tenants that have their share of the bytes: their values are refused.
    full: BTreeSet<u32>,
    /// Approximate bytes that tenants have written since the last pass began to count.
    written: BTreeMap<u32, u64>,
    told: ToldShares,
    last: LastPass,
    /// Time of the last check whether a pass is due.
    checked_at: Instant,
}

/// Shares of tenants, as readers see them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToldShares {
    /// Bytes of tenants as they were counted last, with what was written since.
    pub(crate) bytes: watch::Sender<Option<TenantBytes>>,
    /// Tenants that have their share.
    pub(crate) full: watch::Sender<BTreeSet<u32>>,
}

/// The last pass.
#[derive(Debug, Default)]
struct LastPass {
    /// When it ended, and how long it took; `None`: there was none.
    ended: Option<(Instant, Duration)>,
    /// Bytes in use in the file after it.
    used: u64,
    /// Bytes that were left to tenants; `None`: no limit.
    left: Option<u64>,
    /// Values were deleted after it, so that a tenant may have room again; or a tenant is full by
    /// an estimate.
    is_outdated: bool,
}

impl Passes {
    pub(crate) fn new(share: Share, told: ToldShares) -> Self {
        Self {
            retention: Retention::of_all(Limits::default()),
            forgotten: 0,
            share,
            full: BTreeSet::new(),
            written: BTreeMap::new(),
            told,
            last: LastPass::default(),
            checked_at: Instant::now(),
        }
    }

    /// Whether a tenant has its share.
    pub(crate) fn is_full(&self, tenant: u32) -> bool {
        self.full.contains(&tenant)
    }

    /// Whether some pass has counted the bytes of tenants.
    pub(crate) fn have_counted(&self) -> bool {
        self.last.ended.is_some()
    }

    /// Whether some tenant has its share. Then values are packed before they are counted: packed
    /// ones are not estimated.
    pub(crate) fn is_any_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Whether it is time to check whether a pass is due.
    pub(crate) fn is_check_due(&self) -> bool {
        let is_time = self.checked_at.elapsed() >= CHECK_EVERY || self.last.is_much(self.written());
        self.last.has_rested() && is_time
    }

    /// Whether a pass is due.
    pub(crate) fn is_due(&mut self, space: Option<Space>) -> bool {
        self.checked_at = Instant::now();
        self.last.is_outdated(space, self.written())
    }

    /// Values were deleted.
    pub(crate) fn have_deleted(&mut self) {
        self.last.is_outdated |= self.is_any_full();
    }

    /// Adds approximate bytes that tenants have written.
    pub(crate) fn add_written(&mut self, more: &BTreeMap<u32, u64>) {
        for (tenant, bytes) in more {
            *self.written.entry(*tenant).or_default() += bytes;
        }
        self.told.bytes.send_if_modified(|bytes| {
            if let Some(bytes) = bytes {
                bytes.add(more);
            }
            false
        });
        self.find_full();
    }

    /// From now on, values that are written are not among those that the pass counts.
    pub(crate) fn begin_to_count(&mut self) {
        self.written.clear();
    }

    /// Takes what a pass that began then has counted.
    pub(crate) fn end(
        &mut self,
        begin: Instant,
        space: Option<Space>,
        mut counted: Option<TenantBytes>,
    ) {
        if let Some(counted) = &mut counted {
            counted.add(&self.written);
        }
        self.last = LastPass {
            ended: Some((Instant::now(), begin.elapsed())),
            used: space.map_or(0, |space| space.used),
            left: counted.as_ref().map(TenantBytes::left),
            is_outdated: false,
        };
        self.told.bytes.send_replace(counted);
        self.find_full();
    }

    /// A pass that began then has failed: the counts are as before.
    pub(crate) fn fail(&mut self, begin: Instant, space: Option<Space>) {
        let counted = self.told.bytes.borrow().clone();
        let written = std::mem::take(&mut self.written);
        self.end(begin, space, counted);
        self.written = written;
    }

    /// Finds the tenants that have their share. The next pass counts again for one that had not
    /// before: part of its bytes is estimated.
    fn find_full(&mut self) {
        let bytes = self.told.bytes.borrow();
        let full = bytes.as_ref().map(|bytes| bytes.full(self.share));
        drop(bytes);
        let full = full.unwrap_or_default();
        if full != self.full {
            self.last.is_outdated |= !full.is_subset(&self.full);
            self.told.full.send_replace(full.clone());
            self.full = full;
        }
    }

    fn written(&self) -> u64 {
        self.written.values().sum()
    }
}

impl LastPass {
    /// Whether it was long enough ago that another one may follow it.
    fn has_rested(&self) -> bool {
        self.ended
            .is_none_or(|(at, took)| at.elapsed() >= took * PART_OF_TIME)
    }

    /// Whether a change of this many bytes is large beside what was left.
    fn is_much(&self, bytes: u64) -> bool {
        self.left.is_some_and(|left| bytes > left / PART_OF_LEFT)
    }

    /// Whether what it has counted is outdated, where this many bytes have been written since.
    fn is_outdated(&self, space: Option<Space>, written: u64) -> bool {
        // Packing makes the file smaller.
        let change = space.map_or(0, |space| space.used.abs_diff(self.used));
        let is_old = self.ended.is_none_or(|(at, _)| at.elapsed() >= PASS_EVERY);
        self.is_outdated || self.is_much(change.max(written)) || is_old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(used: u64) -> Option<Space> {
        Some(Space { used, all: 1_000 })
    }

    fn passes() -> Passes {
        Passes::new(Share::percent(50), ToldShares::default())
    }

    fn counted(used: &[(u32, u64)]) -> Option<TenantBytes> {
        Some(TenantBytes {
            limit: 1_000,
            used: used.iter().copied().collect(),
        })
    }

    #[test]
    fn a_pass_is_due_after_much_growth_and_deletions() {
        let mut passes = passes();
        assert!(passes.is_due(None));
        passes.end(Instant::now(), space(100), counted(&[(1, 400)]));
        assert!(!passes.is_due(space(137)) && passes.is_due(space(138)));
        assert!(passes.is_due(space(62)), "much was packed");
        passes.add_written(&BTreeMap::from([(2, 37)]));
        assert!(!passes.is_due(space(100)));
        passes.add_written(&BTreeMap::from([(2, 1)]));
        assert!(passes.is_due(space(100)));
        // Deletions matter if a tenant is full.
        passes.end(Instant::now(), space(100), counted(&[(1, 400)]));
        passes.have_deleted();
        assert!(!passes.last.is_outdated);
        passes.end(Instant::now(), space(100), counted(&[(1, 500)]));
        passes.end(Instant::now(), space(100), counted(&[(1, 500)]));
        assert!(!passes.last.is_outdated);
        passes.have_deleted();
        assert!(passes.is_due(space(100)));
    }

    #[test]
    fn a_long_pass_is_followed_by_a_long_rest() {
        let mut passes = passes();
        let begin = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        passes.end(begin, None, None);
        assert!(!passes.is_due(None) && !passes.last.has_rested());
    }

    #[test]
    fn what_is_written_counts_before_the_next_pass_and_that_counts_again() {
        let mut passes = passes();
        passes.end(Instant::now(), space(400), counted(&[(1, 400)]));
        assert!(!passes.is_full(1));
        passes.add_written(&BTreeMap::from([(1, 60), (0, 900)]));
        assert!(passes.is_full(1) && !passes.is_full(0));
        assert!(passes.last.is_outdated);
        // A pass that fails changes nothing.
        passes.fail(Instant::now(), space(400));
        assert!(passes.is_full(1) && passes.written() == 960);
        // What is written while it counts is not lost.
        passes.begin_to_count();
        passes.add_written(&BTreeMap::from([(1, 30)]));
        passes.end(Instant::now(), space(400), counted(&[(1, 400)]));
        let told = passes.told.bytes.borrow().clone();
        assert_eq!(told.unwrap().used, BTreeMap::from([(1, 430)]));
        assert!(!passes.is_full(1));
    }
}
