//! Which tenants have their share of the store. What makes it grow waits for these tenants alone,
//! so that the others have room.

use std::time::{Duration, Instant};

use martlet_broker::{Share, TenantId};
use martlet_store::{Disk, Engine};

/// Shortest time between two looks while few bytes come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Part of what tenants share after which the next look comes at once, as a divisor: a tenant may
/// exceed its share by as much.
const PART_AT_ONCE: u64 = 64;

/// When to look which tenants have their share, and what the last look found.
#[derive(Debug)]
pub(super) struct TenantShares {
    share: Share,
    /// Bytes of records since the last look.
    bytes_since: u64,
    /// Bytes after which the next look comes at once.
    bytes_max: u64,
    looked_at: Instant,
    /// Some tenant has its share: room may come without records.
    is_any_at_share: bool,
}

impl TenantShares {
    pub(super) fn new(share: Share, now: Instant) -> Self {
        Self {
            share,
            // The first look comes at the start: tenants may have their share since before.
            bytes_since: 1,
            bytes_max: 0,
            looked_at: now,
            is_any_at_share: false,
        }
    }

    /// Notes records for the store.
    pub(super) fn note(&mut self, bytes: usize) {
        self.bytes_since += bytes as u64;
    }

    /// When the next look comes; `None`: when records come.
    pub(super) fn look_at(&self) -> Option<Instant> {
        (self.is_any_at_share || self.bytes_since > 0).then(|| self.looked_at + LOOK_EVERY)
    }

    /// The tenants that have their share, in order; `None`: it is not time to look.
    pub(super) fn look<D: Disk>(
        &mut self,
        engine: &Engine<D>,
        now: Instant,
    ) -> Option<Vec<TenantId>> {
        if engine.tenants().next().is_none() {
            self.bytes_since = 0;
            return std::mem::take(&mut self.is_any_at_share).then(Vec::new);
        }
        let is_due = self.look_at().is_some_and(|at| at <= now);
        if !is_due && self.bytes_since <= self.bytes_max {
            return None;
        }
        (self.looked_at, self.bytes_since) = (now, 0);
        let all = engine.shared_bytes()?;
        self.bytes_max = all / PART_AT_ONCE;
        let live = engine.live_bytes();
        let has_share = |(_, own): &(u32, u64)| {
            let others = live.saturating_sub(*own);
            *own >= self.share.beside(others, all)
        };
        let at_share = engine.tenants().filter(has_share);
        let at_share: Vec<_> = at_share.map(|(tenant, _)| TenantId(tenant)).collect();
        self.is_any_at_share = !at_share.is_empty();
        Some(at_share)
    }
}

#[cfg(test)]
mod tests {
    use martlet_store::{BodyId, Holds, Options, QueueId, RecordBuffer, SimDisk};

    use super::*;

    fn store(engine: &mut Engine<SimDisk>, ids: std::ops::Range<u64>, tenant: u8) -> usize {
        let mut records = RecordBuffer::new();
        for id in ids {
            let mut record = records.record();
            record.body(BodyId(id), Holds::NONE, &[&[tenant], &[0; 4000]]);
            record.enqueue(QueueId(1), BodyId(id), 0, [0; 2], b"");
        }
        engine.append(&records);
        engine.write().unwrap();
        engine.sync().unwrap();
        records.bytes()
    }

    #[test]
    fn a_tenant_has_its_share_until_its_messages_end_and_looks_are_rare() {
        let disk = SimDisk::new(1);
        disk.set_capacity(Some(4 << 20));
        let options = Options {
            segment_bytes: 64 << 10,
            tenant_of: Some(|body| body[0].into()),
            ..Options::default()
        };
        let (mut engine, _) = Engine::open(disk, options).unwrap();
        let start = Instant::now();
        let mut shares = TenantShares::new(Share::percent(50), start);
        assert_eq!(shares.look_at(), Some(start + LOOK_EVERY));
        // Messages of the common tenant are no reason to look.
        shares.note(store(&mut engine, 0..2, 0));
        assert_eq!(
            (shares.look(&engine, start), shares.look_at()),
            (None, None)
        );
        shares.note(store(&mut engine, 2..4, 1));
        assert_eq!(shares.look(&engine, start), Some(Vec::new()));
        shares.note(store(&mut engine, 4..6, 1));
        assert_eq!(shares.look(&engine, start), None);
        let later = start + LOOK_EVERY;
        assert_eq!(shares.look_at(), Some(later));
        assert_eq!(shares.look(&engine, later), Some(Vec::new()));
        assert_eq!(shares.look_at(), None);
        // Of 2 MiB, which is half of the disk, one may have half.
        shares.note(store(&mut engine, 6..300, 1));
        assert_eq!(shares.look(&engine, later), Some(vec![TenantId(1)]));
        assert_eq!(shares.look(&engine, later), None);
        let mut records = RecordBuffer::new();
        records.record().forget(1);
        engine.append(&records);
        engine.write().unwrap();
        assert_eq!(shares.look(&engine, later), Some(Vec::new()));
        assert_eq!(shares.look_at(), None);
    }
}
