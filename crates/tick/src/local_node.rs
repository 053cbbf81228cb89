//! State that the shards of a single-threaded node share, without locks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_broker::{
    EpochKey, Interest, InterestClass, MemoryPressure, MemoryUse, Node, Retained, ShardId,
    ShardMemory, Share, TenantCounts, TenantId, TenantPool, UserSessions,
};

/// State shared by the shards, without locks.
#[derive(Debug)]
pub struct LocalNode {
    interest: RefCell<Interest>,
    retained: RefCell<Retained>,
    memory_left: Cell<usize>,
    memory_bytes: usize,
    lends: Cell<bool>,
    by_shard: RefCell<BTreeMap<u16, ShardMemory>>,
    sessions: Cell<usize>,
    user_sessions: RefCell<UserSessions>,
    tenants: RefCell<TenantCounts>,
    connections: Cell<usize>,
}

impl LocalNode {
    /// Creates a node that lends this number of bytes of memory; 0 means no limit.
    pub fn new(seed: u64, memory_bytes: u64) -> Self {
        let bytes = match usize::try_from(memory_bytes) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(bytes) => bytes,
        };
        Self {
            interest: RefCell::new(Interest::new(seed)),
            retained: RefCell::new(Retained::new()),
            memory_left: Cell::new(bytes),
            memory_bytes: bytes,
            lends: Cell::new(true),
            by_shard: RefCell::default(),
            sessions: Cell::new(0),
            user_sessions: RefCell::default(),
            tenants: RefCell::default(),
            connections: Cell::new(0),
        }
    }

    /// Enables or disables lending of memory.
    pub fn set_lends(&self, on: bool) {
        self.lends.set(on);
    }

    /// Bytes of memory that are lent out.
    pub fn lent_bytes(&self) -> usize {
        self.memory_bytes - self.memory_left.get()
    }

    /// Number of connections that are counted.
    pub fn connection_count(&self) -> usize {
        self.connections.get()
    }
}

impl Node for LocalNode {
    fn interest<T>(&self, read: impl FnOnce(&Interest) -> T) -> T {
        read(&self.interest.borrow())
    }

    fn set_interest(&self, shard: ShardId, tenant: TenantId, filter: &str, class: InterestClass) {
        self.interest.borrow_mut().set(shard, tenant, filter, class);
    }

    fn interest_epoch(&self, key: EpochKey) -> u64 {
        self.interest.borrow().epochs().at(key)
    }

    fn retained<T>(&self, access: impl FnOnce(&mut Retained) -> T) -> T {
        access(&mut self.retained.borrow_mut())
    }

    fn borrow_memory(&self, bytes: usize) -> bool {
        let left = self.memory_left.get().checked_sub(bytes);
        let left = left.filter(|_| self.lends.get());
        if let Some(left) = left {
            self.memory_left.set(left);
        }
        left.is_some()
    }

    fn return_memory(&self, bytes: usize) {
        assert!(
            bytes <= self.lent_bytes(),
            "only what was lent is given back"
        );
        self.memory_left.set(self.memory_left.get() + bytes);
    }

    fn memory_pressure(&self) -> MemoryPressure {
        match self.memory_bytes {
            usize::MAX => MemoryPressure::default(),
            limit => MemoryPressure::of(self.lent_bytes(), limit),
        }
    }

    fn note_memory(&self, shard: ShardId, memory: ShardMemory) {
        self.by_shard.borrow_mut().insert(shard.0, memory);
    }

    fn memory_use(&self) -> MemoryUse {
        let by_shard = self.by_shard.borrow();
        let sum = by_shard.values().copied();
        MemoryUse {
            used: self.lent_bytes(),
            limit: Some(self.memory_bytes).filter(|bytes| *bytes < usize::MAX),
            outside: 0,
            retained: self.retained.borrow().memory_bytes(),
            shards: sum.fold(ShardMemory::default(), ShardMemory::and),
        }
    }

    fn borrow_session(&self, count_max: usize) -> bool {
        let room = self.sessions.get() < count_max;
        self.sessions.set(self.sessions.get() + usize::from(room));
        room
    }

    fn return_session(&self) {
        self.sessions.set(self.sessions.get() - 1);
    }

    fn borrow_of_tenant(
        &self,
        tenant: TenantId,
        pool: TenantPool,
        count_max: usize,
        share: Share,
    ) -> bool {
        let used = match pool {
            TenantPool::Sessions => self.sessions.get(),
            TenantPool::Connections => self.connections.get(),
        };
        let share_of = |own| share.size_beside(used.saturating_sub(own), count_max);
        let mut tenants = self.tenants.borrow_mut();
        tenant == TenantId::default() || tenants.borrow(tenant, pool, share_of)
    }

    fn return_of_tenant(&self, tenant: TenantId, pool: TenantPool) {
        self.tenants.borrow_mut().give_back(tenant, pool);
    }

    fn tenants<T>(&self, read: impl FnOnce(&TenantCounts) -> T) -> T {
        read(&self.tenants.borrow())
    }

    fn borrow_user_session(&self, tenant: TenantId, user_name: &Arc<str>, count_max: u32) -> bool {
        let mut sessions = self.user_sessions.borrow_mut();
        sessions.borrow(tenant, user_name, count_max)
    }

    fn return_user_session(&self, tenant: TenantId, user_name: &Arc<str>) {
        self.user_sessions.borrow_mut().give_back(tenant, user_name);
    }

    fn borrow_connection_slot(&self, count_max: usize) -> bool {
        let room = self.connections.get() < count_max;
        self.connections
            .set(self.connections.get() + usize::from(room));
        room
    }

    fn return_connection_slot(&self) {
        self.connections.set(self.connections.get() - 1);
    }
}
