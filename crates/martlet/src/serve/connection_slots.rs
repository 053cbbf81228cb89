//! Slots for HTTP connections, limited per address and in total, and a reserve for connections
//! without a slot.
//!
//! A connection of the reserve can be used for a health probe or `/metrics`, and is then closed.
//! Any other request waits briefly for a slot and is then refused. If the reserve is full, its
//! oldest connection is closed: a probe is answered long before that, and closing a connection that
//! sends nothing does no harm. So clients that hold connections open cannot block health checks.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use martlet_broker::counted_as;
use martlet_reactor::Descriptors;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::config::HttpConnections;

/// Most connections in the reserve.
const RESERVE: usize = 64;
/// Descriptors that MQTT clients do not get and that HTTP leaves to other parts: 8 for the tables
/// (three connections with two files each, and a shared one), and 8 for `admin.sock`, the store and
/// reloaded files.
const DESCRIPTORS_OF_OTHERS: u64 = 16;
/// Percentage of the remaining descriptors that are used for slots.
const SLOTS_PERCENT: u64 = 60;
/// The reserve takes one of this number of them.
const RESERVE_PART: u64 = 10;
/// Unless the user has set a limit, an address gets no more slots than this part of the free ones.
/// So the next address always finds some, however many addresses use all that they can.
const FREE_PART: usize = 2;
/// Slots that an address may have even if few are free.
const SHARE_MIN: usize = 2;
/// How long a request on a connection of the reserve waits for a slot.
const PATIENCE: Duration = Duration::from_secs(3);

/// The slots of all listeners. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSlots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: HttpConnections,
    reserve: usize,
    state: Mutex<State>,
    freed: Notify,
    /// One permit for each connection that may be open, including one that must be closed for a new
    /// one.
    open: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    of_address: HashMap<IpAddr, usize>,
    /// The reserve, oldest connection first.
    reserve: VecDeque<(u64, oneshot::Sender<()>)>,
    next: u64,
}

/// A slot, released on drop.
#[derive(Debug)]
struct ConnectionSlot(Arc<Inner>, IpAddr);

/// State of one connection: with a slot or in the reserve.
#[derive(Debug)]
pub(crate) struct Seat {
    slots: ConnectionSlots,
    address: IpAddr,
    slot: Mutex<Option<ConnectionSlot>>,
    /// Number of the connection in the reserve.
    reserved: u64,
}

impl Seat {
    /// The limits of the slots.
    pub(crate) fn limits(&self) -> &HttpConnections {
        &self.slots.0.limits
    }
}

/// How a request is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// The connection has a slot.
    Slot,
    /// This request is served on a connection of the reserve.
    Reserve,
    /// There is no slot.
    Full,
}

impl ConnectionSlots {
    /// Creates the slots, limited by the configuration and the descriptors of the process.
    pub(crate) fn new(mut limits: HttpConnections, descriptors: &Descriptors) -> Self {
        let mut reserve = RESERVE;
        if descriptors.limit.is_some() {
            let left = descriptors.reserved.saturating_sub(DESCRIPTORS_OF_OTHERS);
            let part = |part| usize::try_from(left / part).unwrap_or(usize::MAX);
            let slots = usize::try_from(left * SLOTS_PERCENT / 100).unwrap_or(usize::MAX);
            limits.all = limits.all.min(slots).max(1);
            reserve = reserve.min(part(RESERVE_PART)).max(1);
        }
        let open = limits.all.saturating_add(reserve + 1);
        let open = open.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            limits,
            reserve,
            state: Mutex::default(),
            freed: Notify::new(),
            open: Arc::new(Semaphore::new(open)),
        }))
    }

    /// Waits until another connection may be open. The permit must be held until it is closed.
    /// Connections that must be closed are closed at once, so the wait is short.
    pub(crate) async fn opening(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.open).acquire_owned().await.ok()
    }

    /// Registers a new connection. If it is in the reserve, also returns a receiver that signals
    /// when to close it.
    pub(crate) fn seat(&self, address: IpAddr) -> (Seat, Option<oneshot::Receiver<()>>) {
        let slot = self.take(address);
        let mut state = self.0.lock();
        state.next += 1;
        let reserved = state.next;
        let closed = slot.is_none().then(|| {
            // Dropping the sender of the oldest one signals that it must be closed.
            if state.reserve.len() >= self.0.reserve {
                state.reserve.pop_front();
            }
            let (keep, closed) = oneshot::channel();
            state.reserve.push_back((reserved, keep));
            closed
        });
        drop(state);
        let seat = Seat {
            slots: self.clone(),
            address,
            slot: Mutex::new(slot),
            reserved,
        };
        (seat, closed)
    }

    fn take(&self, address: IpAddr) -> Option<ConnectionSlot> {
        let limits = &self.0.limits;
        let canonical = address.to_canonical();
        let counted = counted_as(canonical);
        let is_proxy = limits.proxies.iter().any(|net| net.contains(&canonical));
        let mut state = self.0.lock();
        let own = state.of_address.get(&counted).copied().unwrap_or(0);
        let free = limits.all.saturating_sub(state.used);
        let share = match limits.leaves_half {
            true => limits.of_address.min((free / FREE_PART).max(SHARE_MIN)),
            false => limits.of_address,
        };
        if free == 0 || (own >= share && !is_proxy) {
            return None;
        }
        state.used += 1;
        state.of_address.insert(counted, own + 1);
        Some(ConnectionSlot(Arc::clone(&self.0), counted))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.used -= 1;
        if let Some(count) = state.of_address.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                state.of_address.remove(&self.1);
            }
        }
        drop(state);
        self.0.freed.notify_waiters();
    }
}

impl Seat {
    /// Decides how a request of this connection is handled. A probe is always served. Any other
    /// request needs a slot, for which it waits briefly.
    pub(crate) async fn enter(&self, is_probe: bool) -> Entered {
        if self.has_slot() {
            return Entered::Slot;
        }
        let waiting = async {
            loop {
                // Before checking, so that no release is missed meanwhile.
                let mut freed = std::pin::pin!(self.slots.0.freed.notified());
                freed.as_mut().enable();
                if self.move_to_slot() || is_probe {
                    return;
                }
                freed.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, waiting).await;
        match (self.has_slot(), is_probe) {
            (true, _) => Entered::Slot,
            (false, true) => Entered::Reserve,
            (false, false) => Entered::Full,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<ConnectionSlot>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection has a slot.
    pub(crate) fn has_slot(&self) -> bool {
        self.slot().is_some()
    }

    fn move_to_slot(&self) -> bool {
        let Some(slot) = self.slots.take(self.address) else {
            return false;
        };
        *self.slot() = Some(slot);
        self.leave_reserve();
        true
    }

    fn leave_reserve(&self) {
        let mut state = self.slots.0.lock();
        state.reserve.retain(|(number, _)| *number != self.reserved);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave_reserve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMIT: Descriptors = Descriptors {
        limit: None,
        reserved: 0,
        connections: u64::MAX,
    };

    fn limits(all: usize, of_address: usize) -> HttpConnections {
        HttpConnections {
            all,
            of_address,
            leaves_half: true,
            proxies: vec!["10.0.0.9/32".parse().unwrap()],
        }
    }

    fn slots(all: usize, of_address: usize) -> ConnectionSlots {
        ConnectionSlots::new(limits(all, of_address), &NO_LIMIT)
    }

    #[test]
    fn few_descriptors_allow_few_connections() {
        let few = Descriptors {
            limit: Some(64),
            reserved: 26,
            connections: 14,
        };
        let slots = ConnectionSlots::new(limits(512, 64), &few);
        assert_eq!((slots.0.limits.all, slots.0.reserve), (6, 1));
        let many = Descriptors {
            limit: Some(1_000_000),
            reserved: 1024,
            connections: 900_000,
        };
        let slots = ConnectionSlots::new(limits(512, 64), &many);
        assert_eq!((slots.0.limits.all, slots.0.reserve), (512, 64));
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[tokio::test]
    async fn an_address_has_its_share_and_a_probe_needs_no_place() {
        let slots = slots(4, 2);
        let seats: Vec<_> = (0..3).map(|_| slots.seat(address(1)).0).collect();
        assert_eq!(seats.iter().filter(|seat| seat.has_slot()).count(), 2);
        assert_eq!(seats[2].enter(true).await, Entered::Reserve);
        // Another address, and a proxy without its own limit.
        let others: Vec<_> = (0..2).map(|_| slots.seat(address(9)).0).collect();
        assert!(others.iter().all(Seat::has_slot));
        let (late, _closed) = slots.seat(address(2));
        assert!(!late.has_slot());
        drop(others);
        assert_eq!(late.enter(false).await, Entered::Slot);
        assert_eq!(slots.0.lock().used, 3);
    }

    #[test]
    fn ten_addresses_that_take_all_they_can_leave_slots_for_others() {
        let slots = slots(512, 128);
        let mut held = Vec::new();
        for _ in 0..512 {
            held.extend((10..20).map(|last| slots.seat(address(last)).0));
            held.retain(Seat::has_slot);
        }
        let of_other: Vec<_> = (0..20).map(|_| slots.seat(address(20)).0).collect();
        assert!(of_other.iter().all(Seat::has_slot), "{}", held.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_place_and_not_for_ever() {
        let slots = slots(1, 1);
        let (first, _) = slots.seat(address(1));
        let (second, closed) = slots.seat(address(2));
        assert_eq!(second.enter(false).await, Entered::Full);
        let entering = second.enter(false);
        let (entered, ()) = tokio::join!(entering, async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert_eq!(entered, Entered::Slot);
        // The connection can no longer be closed for others; the dropped sender must not be
        // mistaken for that.
        assert!(second.has_slot() && closed.is_some());
    }

    #[tokio::test]
    async fn the_oldest_of_a_full_reserve_is_closed() {
        let slots = slots(0, 0);
        let mut all: Vec<_> = (0..RESERVE).map(|_| slots.seat(address(1))).collect();
        let (_newest, _) = slots.seat(address(2));
        let mut is_closed = |at: usize| {
            all[at]
                .1
                .as_mut()
                .unwrap()
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
        };
        assert!(is_closed(0) && !is_closed(1));
        drop(all);
        drop(_newest);
        assert!(slots.0.lock().reserve.is_empty());
    }
}
