//! State that the shards of this process share: the interest index, the retained store and the
//! memory counter. Locks around plain structures of the broker.
//!
//! Each lock is held for one closure, and never together with another. Epochs are read without a
//! lock, for each message routed by a cached route.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use martlet_broker::{
    EPOCH_BUCKETS, EpochKey, EpochScope, Interest, InterestClass, MemoryPressure, MemoryUse, Node,
    Retained, ShardId, ShardMemory, Share, TenantCounts, TenantId, TenantPool, UserSessions,
    counted_as,
};

/// The state shared by the reactors of one process.
#[derive(Debug)]
pub struct SharedNode {
    interest: RwLock<Interest>,
    epochs: PublishedEpochs,
    retained: Mutex<Retained>,
    memory_used: AtomicUsize,
    memory_bytes: usize,
    /// Bytes in use outside of the shards, as last reported.
    memory_outside: AtomicUsize,
    /// Bytes used by retained messages.
    retained_bytes: AtomicUsize,
    /// Memory use of each shard by purpose, as last reported.
    by_shard: Mutex<Vec<ShardMemory>>,
    sessions: AtomicUsize,
    /// Sessions of users with a limit on the number of sessions.
    user_sessions: Mutex<UserSessions>,
    tenants: Mutex<TenantCounts>,
    connections: AtomicUsize,
    /// Connections by listener.
    by_listener: Box<[AtomicU32]>,
    connects: Mutex<ConnectsOfMinute>,
}

/// Number of CONNECTs in this minute, by client address.
#[derive(Debug, Default)]
struct ConnectsOfMinute {
    minute: u64,
    by_address: HashMap<IpAddr, u32>,
    /// Bytes of the node's memory that are counted for this map.
    counted: usize,
}

/// Memory per address in bytes.
const ADDRESS_BYTES: usize = 32;

/// Limit of addresses that are counted separately in one minute. Connects from further addresses
/// are not counted.
const ADDRESSES_MAX: usize = 100_000;

impl SharedNode {
    /// Creates an empty node that lends at most `memory_bytes` bytes. `seed` should be random: it
    /// prevents clients from choosing topics that collide in the index.
    pub fn new(seed: u64, memory_bytes: usize, listeners: usize) -> Self {
        let interest = Interest::new(seed);
        // The epochs of an empty index.
        let epochs = PublishedEpochs::default();
        epochs.publish(EpochScope::Any, interest.epochs().any);
        Self {
            interest: RwLock::new(interest),
            epochs,
            retained: Mutex::new(Retained::new()),
            memory_used: AtomicUsize::new(0),
            memory_bytes,
            memory_outside: AtomicUsize::new(0),
            retained_bytes: AtomicUsize::new(0),
            by_shard: Mutex::default(),
            sessions: AtomicUsize::new(0),
            user_sessions: Mutex::default(),
            tenants: Mutex::default(),
            connections: AtomicUsize::new(0),
            by_listener: (0..listeners).map(|_| AtomicU32::new(0)).collect(),
            connects: Mutex::default(),
        }
    }

    /// Connected clients by listener.
    pub fn clients_by_listener(&self) -> Vec<u32> {
        let all = self.by_listener.iter();
        all.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    fn lock_tenants(&self) -> MutexGuard<'_, TenantCounts> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user_sessions(&self) -> MutexGuard<'_, UserSessions> {
        let sessions = self.user_sessions.lock();
        sessions.unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that shards and others have borrowed and not returned.
    fn memory_used(&self) -> usize {
        self.memory_used.load(Ordering::Relaxed)
    }

    /// Memory used for the addresses of clients, in bytes.
    pub fn addresses_bytes(&self) -> usize {
        let connects = self.connects.lock();
        connects.unwrap_or_else(PoisonError::into_inner).counted
    }

    /// Sets the number of bytes that are in use outside of the shards. These are not lent. Returns
    /// whether memory is short.
    pub fn set_memory_outside(&self, bytes: usize) -> bool {
        let before = self.memory_outside.swap(bytes, Ordering::Relaxed);
        match bytes.checked_sub(before) {
            Some(more) => {
                self.memory_used.fetch_add(more, Ordering::Relaxed);
            }
            None => self.return_memory(before - bytes),
        }
        self.memory_pressure().is_short
    }
}

impl Node for SharedNode {
    fn interest<T>(&self, read: impl FnOnce(&Interest) -> T) -> T {
        read(&self.interest.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_interest(&self, shard: ShardId, tenant: TenantId, filter: &str, class: InterestClass) {
        let mut interest = self
            .interest
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let (scope, epoch) = interest.set(shard, tenant, filter, class);
        self.epochs.publish(scope, epoch);
    }

    fn interest_epoch(&self, key: EpochKey) -> u64 {
        self.epochs.at(key)
    }

    fn retained<T>(&self, access: impl FnOnce(&mut Retained) -> T) -> T {
        let mut retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = access(&mut retained);
        self.retained_bytes
            .store(retained.memory_bytes(), Ordering::Relaxed);
        answer
    }

    fn borrow_memory(&self, bytes: usize) -> bool {
        let lend = |used: usize| {
            used.checked_add(bytes)
                .filter(|sum| *sum <= self.memory_bytes)
        };
        self.memory_used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lend)
            .is_ok()
    }

    fn return_memory(&self, bytes: usize) {
        let used = self.memory_used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(used >= bytes, "only what was borrowed is given back");
    }

    fn memory_pressure(&self) -> MemoryPressure {
        MemoryPressure::of(self.memory_used(), self.memory_bytes)
    }

    fn note_memory(&self, shard: ShardId, memory: ShardMemory) {
        let mut by_shard = self.by_shard.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::from(shard.0);
        if by_shard.len() <= place {
            by_shard.resize(place + 1, ShardMemory::default());
        }
        by_shard[place] = memory;
    }

    fn memory_use(&self) -> MemoryUse {
        let by_shard = self.by_shard.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = by_shard.iter().copied();
        MemoryUse {
            used: self.memory_used(),
            limit: Some(self.memory_bytes),
            outside: self.memory_outside.load(Ordering::Relaxed),
            retained: self.retained_bytes.load(Ordering::Relaxed),
            shards: sum.fold(ShardMemory::default(), ShardMemory::and),
        }
    }

    fn borrow_session(&self, count_max: usize) -> bool {
        let take = |count: usize| (count < count_max).then_some(count + 1);
        self.sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    fn return_session(&self) {
        let count = self.sessions.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(count > 0, "only what was borrowed is given back");
    }

    fn borrow_of_tenant(
        &self,
        tenant: TenantId,
        pool: TenantPool,
        count_max: usize,
        share: Share,
    ) -> bool {
        let used = match pool {
            TenantPool::Sessions => &self.sessions,
            TenantPool::Connections => &self.connections,
        };
        let used = used.load(Ordering::Relaxed);
        let share_of = |own| share.size_beside(used.saturating_sub(own), count_max);
        // Without teams the lock is never taken.
        tenant == TenantId::default() || self.lock_tenants().borrow(tenant, pool, share_of)
    }

    fn return_of_tenant(&self, tenant: TenantId, pool: TenantPool) {
        if tenant != TenantId::default() {
            self.lock_tenants().give_back(tenant, pool);
        }
    }

    fn tenants<T>(&self, read: impl FnOnce(&TenantCounts) -> T) -> T {
        read(&self.lock_tenants())
    }

    fn borrow_user_session(&self, tenant: TenantId, user_name: &Arc<str>, count_max: u32) -> bool {
        self.user_sessions().borrow(tenant, user_name, count_max)
    }

    fn return_user_session(&self, tenant: TenantId, user_name: &Arc<str>) {
        self.user_sessions().give_back(tenant, user_name);
    }

    fn borrow_connection_slot(&self, count_max: usize) -> bool {
        let take = |count: usize| (count < count_max).then_some(count + 1);
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    fn return_connection_slot(&self) {
        let count = self.connections.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(count > 0, "only what was borrowed is given back");
    }

    fn borrow_listener_slot(&self, listener: u16, count_max: u32) -> bool {
        let Some(places) = self.by_listener.get(usize::from(listener)) else {
            return true;
        };
        let take = |count: u32| (count < count_max).then_some(count + 1);
        places
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    fn return_listener_slot(&self, listener: u16) {
        if let Some(places) = self.by_listener.get(usize::from(listener)) {
            let count = places.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(count > 0, "only what was borrowed is given back");
        }
    }

    fn counts_connect(&self, address: IpAddr, now_ms: u64, count_max: u32) -> bool {
        let mut connects = self.connects.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now_ms / 60_000;
        if connects.minute != minute {
            *connects = ConnectsOfMinute {
                minute,
                counted: connects.counted,
                ..ConnectsOfMinute::default()
            };
        }
        let address = counted_as(address);
        let all = &mut connects.by_address;
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&address) {
            return true;
        }
        let count = all.entry(address).or_default();
        *count = count.saturating_add(1);
        let is_within = *count <= count_max;
        let bytes = all.capacity() * ADDRESS_BYTES;
        if bytes != connects.counted {
            // These bytes are already in use, so they are counted regardless of the limit.
            self.memory_used.fetch_add(bytes, Ordering::Relaxed);
            self.return_memory(connects.counted);
            connects.counted = bytes;
        }
        is_within
    }
}

/// Copies of the index's epochs, readable without its lock.
#[derive(Debug)]
struct PublishedEpochs {
    any: AtomicU64,
    first: Box<[AtomicU64; EPOCH_BUCKETS]>,
    second: Box<[AtomicU64; EPOCH_BUCKETS]>,
}

impl Default for PublishedEpochs {
    fn default() -> Self {
        let zeros = || Box::new([const { AtomicU64::new(0) }; EPOCH_BUCKETS]);
        Self {
            any: AtomicU64::new(0),
            first: zeros(),
            second: zeros(),
        }
    }
}

impl PublishedEpochs {
    /// Call this only under the index's write lock. Release ordering: a thread that reads a new
    /// epoch and then the index finds the change there. Unchanged counters are not written, so that
    /// the cache lines of readers stay valid.
    fn publish(&self, scope: EpochScope, epoch: u64) {
        let counter = match scope {
            EpochScope::Any => &self.any,
            EpochScope::First(bucket) => &self.first[bucket],
            EpochScope::Second(bucket) => &self.second[bucket],
        };
        counter.store(epoch, Ordering::Release);
    }

    fn at(&self, key: EpochKey) -> u64 {
        self.any.load(Ordering::Acquire)
            + self.first[usize::from(key.first)].load(Ordering::Acquire)
            + self.second[usize::from(key.second)].load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_outside_of_the_shards_is_lent_to_nobody() {
        let node = SharedNode::new(1, 1000, 0);
        assert!(node.borrow_memory(600));
        assert!(node.set_memory_outside(500));
        // These bytes are already in use, regardless of the limit.
        assert_eq!(node.memory_used(), 1100);
        assert!(!node.borrow_memory(1) && node.memory_pressure().is_short);
        assert!(!node.set_memory_outside(100));
        assert!(node.borrow_memory(300) && !node.borrow_memory(1));
        node.return_memory(900);
        node.set_memory_outside(0);
        assert_eq!(node.memory_used(), 0);
    }

    #[test]
    fn addresses_that_are_told_apart_count_until_their_minute_is_over() {
        let node = SharedNode::new(1, usize::MAX, 0);
        for number in 0..10_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            assert!(node.counts_connect(address, 0, 1));
            assert!(!node.counts_connect(address, 0, 1));
        }
        assert!(node.memory_used() >= 10_000 * size_of::<(IpAddr, u32)>());
        assert!(node.counts_connect(IpAddr::from([0; 4]), 60_000, 1));
        assert!(node.memory_used() < 1_000);
    }

    #[test]
    fn a_change_of_interest_raises_the_epoch_of_the_topics_it_covers() {
        let node = SharedNode::new(1, 0, 0);
        let of = |topic| EpochKey::of(TenantId(0), topic);
        let (near, far) = (of("a/b/c"), of("x/y"));
        let before = (node.interest_epoch(near), node.interest_epoch(far));
        node.set_interest(ShardId(0), TenantId(0), "a/b/#", InterestClass::LIVE);
        assert_ne!(node.interest_epoch(near), before.0);
        assert_eq!(node.interest_epoch(far), before.1);
        let wanted =
            |tenant| node.interest(|interest| interest.interested_shards(tenant, "a/b/c").shards);
        assert_eq!([wanted(TenantId(0)), wanted(TenantId(1))], [1, 0]);
        node.set_interest(ShardId(0), TenantId(0), "#", InterestClass::LIVE);
        assert_ne!(node.interest_epoch(far), before.1);
    }

    #[test]
    fn no_more_memory_is_lent_than_there_is() {
        let node = SharedNode::new(1, 100, 0);
        assert!(node.borrow_memory(60));
        assert!(!node.borrow_memory(41));
        assert!(node.borrow_memory(40));
        node.return_memory(100);
        assert_eq!(node.memory_used(), 0);
        assert!(
            !node.borrow_memory(usize::MAX),
            "a sum past the end is refused too"
        );
        assert_eq!(node.memory_used(), 0);
    }
}
