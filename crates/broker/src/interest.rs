//! The index of idea 3, "interest adds up": which shards want which Topic Filters, and how strongly.
//!
//! Epochs tell cached routes whether they still hold, without a change in one part of the tree
//! throwing away the routes of all others: one counter for filters that begin with a wildcard, one
//! per first level, one per first two levels (the latter two hashed into buckets).

use core::ops::ControlFlow;

use martlet_permission::TenantId;

use crate::id::ShardId;
use crate::topic_tree::Tree;

/// Strength of the interest in a filter (idea 3). Ordered by what a publish must do for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterestClass(u8);

impl InterestClass {
    /// No shard.
    pub const NONE: Self = Self(0);
    /// A subscriber whose session ends with its connection.
    pub const LIVE: Self = Self(1);
    /// A subscriber to whom a QoS 1 or 2 message is owed even across a crash.
    pub const DURABLE: Self = Self(2);
    /// A subscriber for whom QoS 0 messages are kept as well.
    pub const KEEPS_QOS0: Self = Self(4);

    /// Lanes of the shard that receives the message; never in the index of the node.
    pub(crate) const LANES: Self = Self(8);
    /// A durable part that has the messages of all shards in one queue, in the order in which they
    /// are acknowledged: an acknowledgement waits until the message is in that queue.
    pub(crate) const IN_ORDER: Self = Self(32);
    /// Some filter wants it that does not stand for all topics, as `#` and `+/#` do.
    pub(crate) const NARROW: Self = Self(16);

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All of `other` is in this.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The classes of it that few subscribers have.
    fn rare(self) -> Self {
        Self(self.0 & (Self::KEEPS_QOS0.0 | Self::IN_ORDER.0))
    }

    /// No shard wants it.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Which shards want a topic, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterestedShards {
    /// One bit per shard.
    pub shards: u64,
    /// The sum of all classes.
    pub class: InterestClass,
}

/// The shards that want one filter, and how; nearly always one, which costs no allocation.
#[derive(Debug, Default)]
pub(crate) enum Wants {
    #[default]
    Nobody,
    One(Want),
    More(Box<Wanting>),
}

type Want = (ShardId, InterestClass);

/// More than one shard.
#[derive(Debug)]
pub(crate) struct Wanting(Vec<Want>);

impl Wants {
    fn list(&self) -> &[Want] {
        match self {
            Self::Nobody => &[],
            Self::One(want) => core::slice::from_ref(want),
            Self::More(wanting) => &wanting.0,
        }
    }

    /// `shard` wants it so from now on.
    fn set(&mut self, shard: ShardId, class: InterestClass) {
        match self {
            Self::Nobody => *self = Self::One((shard, class)),
            Self::One(want) if want.0 == shard => want.1 = class,
            Self::One(want) => *self = Self::More(Box::new(Wanting(vec![*want, (shard, class)]))),
            Self::More(wanting) => match wanting.0.iter_mut().find(|want| want.0 == shard) {
                Some(want) => want.1 = class,
                None => wanting.0.push((shard, class)),
            },
        }
    }

    /// `shard` wants it no longer.
    fn forget(&mut self, shard: ShardId) {
        match self {
            Self::One(want) if want.0 == shard => *self = Self::Nobody,
            Self::Nobody | Self::One(_) => {}
            Self::More(wanting) => {
                wanting.0.retain(|want| want.0 != shard);
                if let [last] = wanting.0.as_slice() {
                    *self = Self::One(*last);
                }
            }
        }
    }
}

/// Shards of a node are counted in a word of 64 bits.
pub const SHARDS_MAX: u16 = 64;

/// The node's index: which shards want which filters.
#[derive(Debug)]
pub struct Interest {
    tree: Tree<Wants>,
    epochs: Epochs,
    /// Shards that have ever wanted something, one bit each.
    shards: u64,
    /// Interest that subscribers have had beyond [`InterestClass::DURABLE`].
    rare: InterestClass,
}

/// Nodes of the index that are visited for one topic: an adversary's filters, such as all
/// combinations of `a` and `+` over 16 levels, may match it 65,536 times.
const FILTERS_LOOKED_AT: usize = 1024;

impl Interest {
    /// No shard wants anything.
    pub fn new(seed: u64) -> Self {
        Self {
            tree: Tree::new(seed),
            epochs: Epochs::default(),
            shards: 0,
            rare: InterestClass::NONE,
        }
    }

    /// Sets how strongly `shard` wants a tenant's `filter`: by this `class`; with
    /// [`InterestClass::NONE`] no longer. Answers the epoch it raised and its new value.
    pub fn set(
        &mut self,
        shard: ShardId,
        tenant: TenantId,
        filter: &str,
        class: InterestClass,
    ) -> (EpochScope, u64) {
        if class.is_none() {
            self.forget(shard, tenant, filter);
        } else {
            let class = match filter {
                "#" | "+/#" => class,
                _ => class.and(InterestClass::NARROW),
            };
            let (_, wants) = self.tree.entry(tenant, filter, Wants::default);
            wants.set(shard, class);
            self.shards |= 1 << shard.0;
            self.rare = self.rare.and(class.rare());
        }
        self.epochs.raise(tenant, filter)
    }

    fn forget(&mut self, shard: ShardId, tenant: TenantId, filter: &str) {
        let Some(key) = self.tree.find(tenant, filter) else {
            return;
        };
        let Some(wants) = self.tree.get_mut(key) else {
            return;
        };
        wants.forget(shard);
        if wants.list().is_empty() {
            self.tree.remove(key);
        }
    }

    /// The shards that want a tenant's Topic Name `topic`. Where more filters match than are looked
    /// at, all count as wanting it, durably: a shard that does not finds that out itself.
    pub fn interested_shards(&self, tenant: TenantId, topic: &str) -> InterestedShards {
        self.interested_shards_in_steps(tenant, topic).0
    }

    /// Returns the shards that want a topic, and how many nodes of the index were looked at.
    pub(crate) fn interested_shards_in_steps(
        &self,
        tenant: TenantId,
        topic: &str,
    ) -> (InterestedShards, usize) {
        let mut interested_shards = InterestedShards::default();
        let (steps, end) =
            self.tree
                .matches_shared(tenant, topic, FILTERS_LOOKED_AT, |_, wants| {
                    for &(shard, class) in wants.list() {
                        interested_shards.shards |= 1 << shard.0;
                        interested_shards.class = interested_shards.class.and(class);
                    }
                    ControlFlow::Continue(())
                });
        if end.is_break() {
            interested_shards.shards |= self.shards;
            interested_shards.class = interested_shards.class.and(InterestClass::LIVE);
            interested_shards.class = interested_shards.class.and(InterestClass::DURABLE);
            interested_shards.class = interested_shards.class.and(InterestClass::NARROW);
            interested_shards.class = interested_shards.class.and(self.rare);
        }
        (interested_shards, steps)
    }

    /// The epochs, for an implementation of [`Node`](crate::Node) that publishes them.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Filters that some shard wants.
    pub fn filter_count(&self) -> usize {
        self.tree.len()
    }
}

/// Buckets of epochs per level; a power of two.
pub const EPOCH_BUCKETS: usize = 512;

/// Counters of changes, one for each part of an index.
#[derive(Debug)]
pub struct Epochs {
    /// Epoch of the common tenant's filters that begin with a wildcard.
    pub any: u64,
    /// Epochs of its filters whose second level is a wildcard, by first level; and of another
    /// tenant's with a wildcard in one of these levels, by tenant.
    pub first: Box<[u64; EPOCH_BUCKETS]>,
    /// Epochs of all others, by their first two levels.
    pub second: Box<[u64; EPOCH_BUCKETS]>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            any: 1,
            first: Box::new([0; EPOCH_BUCKETS]),
            second: Box::new([0; EPOCH_BUCKETS]),
        }
    }
}

impl Epochs {
    /// The filter was added, changed or removed: which counter that raised, and to what.
    pub fn raise(&mut self, tenant: TenantId, filter: &str) -> (EpochScope, u64) {
        let scope = EpochScope::of(tenant, filter);
        let counter = match scope {
            EpochScope::Any => &mut self.any,
            EpochScope::First(bucket) => &mut self.first[bucket],
            EpochScope::Second(bucket) => &mut self.second[bucket],
        };
        *counter += 1;
        (scope, *counter)
    }

    /// A sum that changes whenever a filter that may match topics under `key` has changed: the
    /// counters only grow.
    pub fn at(&self, key: EpochKey) -> u64 {
        self.any + self.first[usize::from(key.first)] + self.second[usize::from(key.second)]
    }
}

/// The counter that one filter raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochScope {
    /// The filter begins with a wildcard.
    Any,
    /// The second level is a wildcard; the bucket of the first level, or of the tenant.
    First(usize),
    /// The bucket of its first two levels.
    Second(usize),
}

impl EpochScope {
    /// The counter of a tenant's `filter`.
    pub fn of(tenant: TenantId, filter: &str) -> Self {
        let mut levels = filter.split('/');
        let first = levels.next().unwrap_or_default();
        let second = levels.next();
        let is_any = matches!(first, "+" | "#");
        if is_any && tenant == TenantId(0) {
            Self::Any
        } else if is_any || matches!(second, Some("+" | "#")) {
            Self::First(usize::from(bucket_of_first(tenant, first)))
        } else {
            Self::Second(usize::from(bucket_of_second(tenant, first, second)))
        }
    }
}

/// Where the epochs of a Topic Name are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochKey {
    /// Bucket of its first level, or of its tenant.
    pub first: u16,
    /// Bucket of its first two levels.
    pub second: u16,
}

impl EpochKey {
    /// The epochs of a tenant's Topic Name `topic`.
    pub fn of(tenant: TenantId, topic: &str) -> Self {
        let mut levels = topic.split('/');
        let first = levels.next().unwrap_or_default();
        Self {
            first: bucket_of_first(tenant, first),
            second: bucket_of_second(tenant, first, levels.next()),
        }
    }
}

/// Returns the bucket of a first level. What another tenant's wildcards change is that tenant's
/// alone, and its topics have one bucket.
fn bucket_of_first(tenant: TenantId, first: &str) -> u16 {
    match tenant {
        TenantId(0) => bucket(tenant, first.bytes()),
        _ => bucket(tenant, core::iter::empty()),
    }
}

fn bucket_of_second(tenant: TenantId, first: &str, second: Option<&str>) -> u16 {
    // The slash between them also tells `a` from `a/`.
    match second {
        Some(second) => bucket(tenant, first.bytes().chain([b'/']).chain(second.bytes())),
        None => bucket(tenant, first.bytes()),
    }
}

/// FNV-1a, folded: spreads well enough over the buckets and is the same on every shard.
fn bucket(tenant: TenantId, bytes: impl Iterator<Item = u8>) -> u16 {
    let begin = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(tenant.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = bytes.fold(begin, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) as usize % EPOCH_BUCKETS) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_codec::{TopicFilter, TopicName};
    use proptest::prelude::*;

    #[test]
    fn a_change_raises_only_the_epochs_of_topics_it_can_match() {
        let mut epochs = Epochs::default();
        let of = |tenant, topic| EpochKey::of(TenantId(tenant), topic);
        let (at_first, at_second) = (of(0, "devices/1/up"), of(0, "devices/2/up"));
        let elsewhere = of(4, "devices/1/up");
        assert_ne!(at_first, at_second);
        let before = [at_first, at_second, elsewhere].map(|key| epochs.at(key));
        epochs.raise(TenantId(0), "devices/1/+");
        assert_ne!(epochs.at(at_first), before[0]);
        assert_eq!(
            [at_second, elsewhere].map(|key| epochs.at(key)),
            before[1..]
        );
        let before = [at_first, at_second, elsewhere].map(|key| epochs.at(key));
        epochs.raise(TenantId(4), "#");
        assert_eq!([at_first, at_second].map(|key| epochs.at(key)), before[..2]);
        assert_ne!(epochs.at(elsewhere), before[2]);
    }

    #[test]
    fn who_wants_all_topics_is_told_from_who_wants_some() {
        let mut interest = Interest::new(7);
        let is_narrow = |interest: &Interest| {
            let interested_shards = interest.interested_shards(TenantId(0), "a/b");
            (
                interested_shards.shards,
                interested_shards.class.has(InterestClass::NARROW),
            )
        };
        let mut set = |shard, filter, class| {
            interest.set(ShardId(shard), TenantId(0), filter, class);
            is_narrow(&interest)
        };
        let live = InterestClass::LIVE;
        assert_eq!(set(0, "#", live), (1, false));
        assert_eq!(set(1, "+/#", live), (3, false));
        assert_eq!(set(1, "a/+", live), (3, true));
        assert_eq!(set(1, "a/+", InterestClass::NONE), (3, false));
    }

    proptest! {
        #[test]
        fn a_change_raises_the_epochs_of_every_topic_it_can_match(
            filter in "[+#ab$]?(/[+ab]){0,3}(/#)?",
            topic in "[ab$](/[ab]?){0,4}",
            tenant in 0_u32..3,
        ) {
            let tenant = TenantId(tenant);
            let (Ok(parsed), Ok(name)) = (TopicFilter::new(&filter), TopicName::new(&topic)) else {
                return Ok(());
            };
            if parsed.matches(name) {
                let mut epochs = Epochs::default();
                let before = epochs.at(EpochKey::of(tenant, &topic));
                epochs.raise(tenant, &filter);
                prop_assert_ne!(epochs.at(EpochKey::of(tenant, &topic)), before);
            }
        }
    }
}
