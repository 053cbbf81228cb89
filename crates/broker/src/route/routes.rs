//! Routes that a shard remembers.

use core::hash::BuildHasher;

use martlet_permission::TenantId;
use smallvec::SmallVec;

use crate::fault::{self, Fault};
use crate::hash::{Seed, seeded};
use crate::interest::{EpochKey, InterestClass, InterestedShards};
use crate::node::MemoryPressure;
use crate::place_table::PlaceTable;
use crate::routing::Match;
use crate::session::permit::PermitToken;

/// A topic's route. All of it lies together, since a message on a topic of many finds none of it in
/// the processor's cache: two lines of that, unless the topic is long or matches are many.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Route {
    topic: SmallVec<[u8; TOPIC_INLINE_BYTES]>,
    tenant: TenantId,
    pub(super) key: EpochKey,
    /// Sum of the node's epoch and of the shard's own: both only grow, so it stays the same as long
    /// as both do.
    pub(super) epoch: u64,
    /// The shards that want it, as in [`InterestedShards`], which would leave no room for the
    /// tenant.
    pub(super) interested: u64,
    pub(super) interest_class: InterestClass,
    /// The permit by which it was last published to; 0 is none.
    publisher: PermitToken,
    /// More match than are routed at once, and `matches` has none of them.
    pub(super) fans_out: bool,
    /// A message to it was received here: its Topic Name is within the limits.
    pub(super) is_within_limits: bool,
    /// Facts that are noted of its messages.
    pub(super) attention: Attention,
    /// Sorted by target, so that overlapping subscriptions of one session lie side by side.
    pub(super) matches: SmallVec<[Match; 1]>,
}

/// Facts that are noted of the messages of a topic, for the question why a message did not arrive.
/// A route has no room for more than a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attention(u8);

impl Attention {
    /// Nothing.
    pub(super) const NONE: Self = Self(0);
    /// Sessions are subscribed to the topic that may not receive it; they are not among the
    /// matches.
    pub(super) const FORBIDDEN: Self = Self(1);
    /// Only subscribers to all topics get it.
    const ONLY_ALL: u8 = 2;

    #[inline]
    pub(super) fn is_forbidden(self) -> bool {
        self == Self::FORBIDDEN
    }

    /// Only subscribers to all topics get it.
    #[inline]
    pub(super) fn is_only_all(self) -> bool {
        self.0 >= Self::ONLY_ALL
    }

    /// Marks that only subscribers to all topics get it.
    pub(super) fn only_all(self) -> Self {
        Self(self.0.max(Self::ONLY_ALL))
    }

    /// Whether the messages of such a topic have not been noted yet in this round, which has an odd
    /// number: they are noted once in each.
    pub(super) fn begins(&mut self, round: u8) -> bool {
        let round = round.max(Self::ONLY_ALL + 1);
        core::mem::replace(&mut self.0, round) != round
    }
}

/// The routes that a shard remembers.
#[derive(Debug)]
pub(crate) struct Routes {
    /// Tenant and topic → place among the routes.
    places: PlaceTable,
    seed: Seed,
    /// The first is for topics that are not remembered.
    pub(crate) routes: Vec<Route>,
    /// Routes that were forgotten, and their bytes.
    forgotten: Vec<(Vec<Route>, usize)>,
    forgotten_bytes: usize,
    entries_max: usize,
    /// Bytes that the routes take.
    pub(crate) bytes: usize,
    /// Bytes that they may take.
    bytes_max: usize,
    /// Topics looked up since the cache was full.
    missed: usize,
    /// The place that was found last: permission is checked right before the route is looked up,
    /// and clients send many messages to one topic.
    last: usize,
}

/// Longest topic that needs no allocation; its route is no longer than two cache lines of the
/// processor.
const TOPIC_INLINE_BYTES: usize = 64;

/// Bytes of the routes that a shard remembers, at most. With some subscribers of `#` every route
/// has all of them, and a topic may have 64 KiB.
const ROUTE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Number of routes at which room is made for all that there may be.
const MANY_ROUTES: usize = 4096;

/// Routes whose memory is given back at once.
const FREED_AT_ONCE: usize = 2048;

/// The routes' part of the node's memory, as a divisor, where that is less.
const PART: usize = 16;

/// Divisor of that part, while memory is short.
const PART_WHEN_SHORT: usize = 4;

/// Longest topic whose route is remembered.
const TOPIC_BYTES_MAX: usize = 1024;

impl Routes {
    pub(crate) fn new(seed: u64, entries_max: usize) -> Self {
        Self {
            places: PlaceTable::default(),
            seed: seeded(seed),
            routes: vec![Route::unknown(TenantId(0), "")],
            entries_max,
            forgotten: Vec::new(),
            forgotten_bytes: 0,
            bytes: 0,
            bytes_max: ROUTE_BYTES_MAX,
            missed: 0,
            last: 0,
        }
    }

    /// Bytes of memory that the cache takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes + self.forgotten_bytes + self.places.memory_bytes()
    }

    /// Sets the number of bytes that the cache may take, from the memory of a node with
    /// `shard_count` shards. While memory is short it may take a quarter of that, and it is emptied
    /// if it takes more.
    pub(crate) fn set_part(&mut self, pressure: &MemoryPressure, shard_count: u16) {
        let Some(part) = pressure.part(PART, PART_WHEN_SHORT, shard_count) else {
            return;
        };
        self.bytes_max = part.min(ROUTE_BYTES_MAX);
        if pressure.is_short && self.bytes > self.bytes_max {
            self.begin_anew();
        }
    }

    /// The place for a topic's route; it may be out of date.
    #[inline]
    pub(crate) fn place(&mut self, tenant: TenantId, topic: &str) -> usize {
        if !self.routes[self.last].is_of(tenant, topic) {
            self.last = self.find_place(tenant, topic);
        }
        self.last
    }

    /// The topic that was looked up last is this one, and within the limits.
    #[inline]
    pub(crate) fn last_is_within_limits(&self, topic: &str) -> bool {
        let last = &self.routes[self.last];
        last.is_within_limits && *last.topic == *topic.as_bytes()
    }

    fn find_place(&mut self, tenant: TenantId, topic: &str) -> usize {
        if self.bytes > self.bytes_max * 2 {
            // Routes that were there have become longer.
            self.begin_anew();
        }
        let tenant = match fault::is(Fault::RouteOfOtherTenant) {
            true => TenantId(0),
            false => tenant,
        };
        let hash = self.seed.hash_one((tenant, topic.as_bytes()));
        let is_it = |place: u32| self.routes[place as usize].is_of(tenant, topic);
        if let Some(place) = self.places.find(hash, is_it) {
            return place as usize;
        }
        let full = self.places.len() >= self.entries_max || self.bytes >= self.bytes_max;
        self.missed += usize::from(full);
        if full && self.missed > self.entries_max * 4 {
            self.begin_anew();
        } else if full || topic.len() > TOPIC_BYTES_MAX {
            self.routes[0] = Route::unknown(tenant, topic);
            return 0;
        }
        let place = self.routes.len();
        let route = Route::unknown(tenant, topic);
        self.bytes += route.bytes();
        if place == MANY_ROUTES {
            // They are not moved again. What is not used of it takes no memory.
            let most = self.entries_max.min(self.bytes_max / size_of::<Route>());
            self.routes.reserve_exact(most.saturating_sub(place) + 1);
        }
        self.routes.push(route);
        let (routes, seed) = (&self.routes, &self.seed);
        let hash_of = |place: u32| {
            let route: &Route = &routes[place as usize];
            seed.hash_one((route.tenant, &*route.topic))
        };
        self.places.insert(hash, place as u32, hash_of);
        place
    }

    /// Routes are below this place.
    pub(crate) fn places(&self) -> u32 {
        self.routes.len() as u32
    }

    /// The topic that is remembered at a place: by which permit it was last published to, and the
    /// sessions of this shard to which its messages go.
    pub(crate) fn in_use(
        &self,
        place: u32,
    ) -> Option<(&str, PermitToken, impl Iterator<Item = u32>)> {
        // The first is not remembered.
        let route = self.routes.get(place as usize).filter(|_| place > 0)?;
        let topic = martlet_codec::text_of(&route.topic)?;
        let receivers = route.matches.iter();
        let receivers = receivers.filter_map(|found| found.target.as_session());
        Some((topic, route.publisher, receivers))
    }

    /// All routes are forgotten. Their memory is given back over turns.
    pub(crate) fn begin_anew(&mut self) {
        self.places.clear();
        let old = core::mem::replace(&mut self.routes, vec![Route::unknown(TenantId(0), "")]);
        if old.len() > FREED_AT_ONCE {
            self.forgotten_bytes += self.bytes;
            self.forgotten.push((old, self.bytes));
        }
        self.bytes = 0;
        self.missed = 0;
        self.last = 0;
    }

    /// Some routes that were forgotten still take memory.
    pub(crate) fn has_forgotten(&self) -> bool {
        !self.forgotten.is_empty()
    }

    /// Gives the memory of some of them back; answers how many.
    pub(crate) fn free_forgotten(&mut self) -> usize {
        let Some((routes, bytes)) = self.forgotten.last_mut() else {
            return 0;
        };
        let left = routes.len().saturating_sub(FREED_AT_ONCE);
        let freed = routes.len() - left;
        routes.truncate(left);
        if left == 0 {
            self.forgotten_bytes -= *bytes;
            self.forgotten.pop();
        }
        freed
    }

    /// Sessions are subscribed to the topic of this place that may not receive it.
    #[inline]
    pub(crate) fn is_forbidden(&self, place: usize) -> bool {
        self.routes[place].attention.is_forbidden()
    }

    /// Whether messages of the topic of this place that only get the subscribers to all topics have
    /// not been noted yet in this round.
    pub(crate) fn begins(&mut self, place: usize, round: u8) -> bool {
        self.routes[place].attention.begins(round)
    }

    /// Whether it is known that this permit lets its client publish to the topic.
    #[inline]
    pub(crate) fn permits(&mut self, tenant: TenantId, topic: &str, permit: PermitToken) -> bool {
        let place = self.place(tenant, topic);
        self.routes[place].publisher == permit
    }

    /// Notes that this permit lets its client publish to the topic.
    pub(crate) fn set_permitted(&mut self, tenant: TenantId, topic: &str, permit: PermitToken) {
        let place = self.place(tenant, topic);
        self.routes[place].publisher = permit;
    }
}

impl Route {
    fn unknown(tenant: TenantId, topic: &str) -> Self {
        Self {
            topic: SmallVec::from_slice(topic.as_bytes()),
            tenant,
            key: EpochKey::of(tenant, topic),
            epoch: 0,
            interested: 0,
            interest_class: InterestClass::NONE,
            publisher: PermitToken::NONE,
            fans_out: false,
            is_within_limits: false,
            attention: Attention::NONE,
            matches: SmallVec::new(),
        }
    }

    pub(super) fn interested_shards(&self) -> InterestedShards {
        InterestedShards {
            shards: self.interested,
            class: self.interest_class,
        }
    }

    #[inline]
    fn is_of(&self, tenant: TenantId, topic: &str) -> bool {
        let is_of_tenant = self.tenant == tenant || fault::is(Fault::RouteOfOtherTenant);
        is_of_tenant && *self.topic == *topic.as_bytes()
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let topic = usize::from(self.topic.spilled()) * self.topic.capacity();
        let matches = usize::from(self.matches.spilled()) * self.matches.capacity();
        size_of::<Self>() + topic + matches * size_of::<Match>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: TenantId = TenantId(0);

    #[test]
    fn a_route_is_no_longer_than_two_lines_of_the_cache() {
        assert_eq!(size_of::<Route>(), 128);
    }

    #[test]
    fn a_topic_that_all_but_nobody_gets_is_noted_once_in_a_round() {
        let mut attention = Attention::NONE.only_all();
        assert!(attention.is_only_all() && !attention.is_forbidden());
        let begun = [1, 1, 5, 5, 7].map(|round| attention.begins(round));
        assert_eq!(begun, [true, false, true, false, true]);
        // The route is computed anew, and that is still so.
        attention = attention.only_all();
        assert!(!attention.begins(7));
    }

    #[test]
    fn a_topic_keeps_its_place_until_the_cache_begins_anew() {
        let mut routes = Routes::new(7, 100);
        let long = "x".repeat(TOPIC_INLINE_BYTES + 1);
        let known = [routes.place(COMMON, "a/b"), routes.place(COMMON, &long)];
        assert_ne!(routes.place(TenantId(1), "a/b"), known[0]);
        assert!(!known.contains(&0) && known[0] != known[1]);
        (0..400).for_each(|number| assert!(routes.place(COMMON, &number.to_string()) <= 100));
        assert_eq!(
            [routes.place(COMMON, "a/b"), routes.place(COMMON, &long)],
            known
        );
        // When far more topics come than are remembered, some of them are, in place of the first.
        assert!((400..600).any(|number| routes.place(COMMON, &number.to_string()) != 0));
    }

    #[test]
    fn what_routes_take_is_bounded_whatever_the_topics() {
        let mut routes = Routes::new(7, usize::MAX / 8);
        for number in 0..100_000 {
            routes.place(
                COMMON,
                &format!("{number:0width$}", width = TOPIC_BYTES_MAX),
            );
            assert!(routes.bytes <= ROUTE_BYTES_MAX + 2 * TOPIC_BYTES_MAX);
        }
        // With little memory they give back what is beyond their part of it.
        let limit = ROUTE_BYTES_MAX;
        routes.set_part(&MemoryPressure::of(limit, limit), 1);
        let mut freed = 0;
        while routes.has_forgotten() {
            let count = routes.free_forgotten();
            assert!((1..=FREED_AT_ONCE).contains(&count), "bit by bit");
            freed += count;
        }
        assert!(freed > 1000);
        assert!(
            routes.memory_bytes() < limit / PART,
            "{}",
            routes.memory_bytes()
        );
        for number in 0..100_000 {
            routes.place(COMMON, &number.to_string());
            assert!(routes.memory_bytes() < limit / PART);
        }
    }
}
