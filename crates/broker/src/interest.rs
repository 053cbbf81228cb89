//! The index of idea 3, "interest adds up": Topic Filter → set of children, one type for a shard's
//! subscribers and for a node's shards.
//!
//! A tree of topic levels whose edges lie in one hash table, so that a level costs one probe and a
//! node of the tree holds no table of its own. Matching and removal walk with an explicit stack:
//! depth never costs call stack. `+` and `#` hang on their parent directly.
//!
//! Epochs tell cached routes whether they still hold, without a change in one part of the tree
//! throwing away the routes of all others: one counter for filters that begin with a wildcard, one
//! per first level, one per first two levels (the latter two hashed into buckets).

use core::hash::BuildHasher;

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::arena::Arena;
use crate::hash::{Seed, seeded};
use crate::id::ShardId;

/// A place in a [`Tree`]; stays valid while a value is there.
pub(crate) type NodeKey = u32;

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

/// Topic Filter → `V`.
#[derive(Debug)]
pub(crate) struct Tree<V> {
    nodes: Arena<Branch<V>>,
    /// Edges from a parent to its children by literal level, as node keys.
    edges: HashTable<u32>,
    seed: Seed,
    /// Reused by each match.
    stack: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct Branch<V> {
    /// The level this node stands for; empty for `+`, `#`, the root, and the empty level.
    text: Box<str>,
    parent: u32,
    /// The child `+`.
    plus: u32,
    /// The child `#`.
    hash: u32,
    /// Children of all kinds.
    children: u32,
    kind: Kind,
    value: Option<V>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Literal,
    Plus,
    Hash,
}

impl<V> Tree<V> {
    /// An empty tree whose edges are hashed under `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut nodes = Arena::default();
        nodes.insert(Branch {
            text: Box::default(),
            parent: NONE,
            plus: NONE,
            hash: NONE,
            children: 0,
            kind: Kind::Literal,
            value: None,
        });
        Self {
            nodes,
            edges: HashTable::new(),
            seed: seeded(seed),
            stack: Vec::new(),
        }
    }

    /// The place of `filter`, made if it is not there. `filter` must be a valid Topic Filter.
    pub(crate) fn entry(&mut self, filter: &str, default: impl FnOnce() -> V) -> (NodeKey, &mut V) {
        let mut node = ROOT;
        for level in filter.split('/') {
            node = self.descend_or_insert(node, level);
        }
        let value = self.nodes[node].value.get_or_insert_with(default);
        (node, value)
    }

    /// The place of `filter`, if it has a value.
    pub(crate) fn find(&self, filter: &str) -> Option<NodeKey> {
        let mut node = ROOT;
        for level in filter.split('/') {
            node = self.child(node, level)?;
        }
        self.nodes[node].value.is_some().then_some(node)
    }

    /// The value at a place.
    pub(crate) fn get(&self, key: NodeKey) -> Option<&V> {
        self.nodes.get(key)?.value.as_ref()
    }

    /// The value at a place, to be changed.
    pub(crate) fn get_mut(&mut self, key: NodeKey) -> Option<&mut V> {
        self.nodes.get_mut(key)?.value.as_mut()
    }

    /// Takes the value away and with it every branch that carries nothing any more.
    pub(crate) fn remove(&mut self, key: NodeKey) -> Option<V> {
        let value = self.nodes.get_mut(key)?.value.take()?;
        let mut node = key;
        while node != ROOT {
            let branch = &self.nodes[node];
            if branch.value.is_some() || branch.children > 0 {
                break;
            }
            node = self.unlink(node);
        }
        Some(value)
    }

    /// The Topic Filter that a place stands for.
    pub(crate) fn filter(&self, key: NodeKey) -> String {
        let mut levels = Vec::new();
        let mut node = key;
        while node != ROOT {
            let branch = &self.nodes[node];
            levels.push(match branch.kind {
                Kind::Literal => &*branch.text,
                Kind::Plus => "+",
                Kind::Hash => "#",
            });
            node = branch.parent;
        }
        levels.reverse();
        levels.join("/")
    }

    /// Calls `found` with each value whose filter matches the Topic Name `topic`.
    ///
    /// A filter that begins with a wildcard does not match a topic that begins with `$`
    /// [MQTT-4.7.2-1].
    pub(crate) fn matches(&mut self, topic: &str, mut found: impl FnMut(NodeKey, &V)) {
        let mut stack = core::mem::take(&mut self.stack);
        self.walk(topic, &mut stack, &mut found);
        self.stack = stack;
    }

    /// As [`Tree::matches`], for readers who have no exclusive access.
    pub(crate) fn matches_shared(&self, topic: &str, mut found: impl FnMut(NodeKey, &V)) {
        self.walk(topic, &mut Vec::new(), &mut found);
    }

    /// Filters that have a value.
    pub(crate) fn len(&self) -> usize {
        self.nodes
            .iter()
            .filter(|(_, branch)| branch.value.is_some())
            .count()
    }

    fn walk(&self, topic: &str, stack: &mut Vec<(u32, u32)>, found: &mut impl FnMut(NodeKey, &V)) {
        // An entry is a node and the offset in `topic` of the level that comes next there; an
        // offset past the end means that all levels are used up.
        let end = topic.len() as u32 + 1;
        let system = topic.starts_with('$');
        stack.clear();
        stack.push((ROOT, 0));
        while let Some((key, offset)) = stack.pop() {
            let branch = &self.nodes[key];
            let wildcards = !(system && key == ROOT);
            // `a/#` matches `a` too: a `#` below a used-up topic counts (MQTT 5 section 4.7.1.2).
            if branch.hash != NONE && wildcards {
                self.visit(branch.hash, found);
            }
            if offset == end {
                self.visit(key, found);
                continue;
            }
            let rest = &topic[offset as usize..];
            let (level, next) = match rest.as_bytes().iter().position(|&byte| byte == b'/') {
                Some(length) => (&rest[..length], offset + length as u32 + 1),
                None => (rest, end),
            };
            if branch.plus != NONE && wildcards {
                stack.push((branch.plus, next));
            }
            let plain =
                branch.children - u32::from(branch.plus != NONE) - u32::from(branch.hash != NONE);
            if plain > 0
                && let Some(child) = self.literal_child(key, level)
            {
                stack.push((child, next));
            }
        }
    }

    fn visit(&self, key: u32, found: &mut impl FnMut(NodeKey, &V)) {
        if let Some(value) = &self.nodes[key].value {
            found(key, value);
        }
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        let branch = &self.nodes[parent];
        match level {
            "+" => (branch.plus != NONE).then_some(branch.plus),
            "#" => (branch.hash != NONE).then_some(branch.hash),
            literal => self.literal_child(parent, literal),
        }
    }

    fn literal_child(&self, parent: u32, level: &str) -> Option<u32> {
        let hash = self.seed.hash_one((parent, level));
        self.edges
            .find(hash, |&key| {
                let branch = &self.nodes[key];
                branch.parent == parent && *branch.text == *level
            })
            .copied()
    }

    fn descend_or_insert(&mut self, parent: u32, level: &str) -> u32 {
        if let Some(child) = self.child(parent, level) {
            return child;
        }
        let (kind, text) = match level {
            "+" => (Kind::Plus, ""),
            "#" => (Kind::Hash, ""),
            literal => (Kind::Literal, literal),
        };
        let child = self.nodes.insert(Branch {
            text: text.into(),
            parent,
            plus: NONE,
            hash: NONE,
            children: 0,
            kind,
            value: None,
        });
        let above = &mut self.nodes[parent];
        above.children += 1;
        match kind {
            Kind::Plus => above.plus = child,
            Kind::Hash => above.hash = child,
            Kind::Literal => {
                let hash = self.seed.hash_one((parent, level));
                let (nodes, seed) = (&self.nodes, &self.seed);
                self.edges.insert_unique(hash, child, |&key| {
                    let branch = &nodes[key];
                    seed.hash_one((branch.parent, &*branch.text))
                });
            }
        }
        child
    }

    /// Takes a leaf out of its parent, which it returns.
    fn unlink(&mut self, key: u32) -> u32 {
        let leaf = self.nodes.remove(key);
        let leaf = leaf.expect("only branches that are there are unlinked");
        let above = &mut self.nodes[leaf.parent];
        above.children -= 1;
        match leaf.kind {
            Kind::Plus => above.plus = NONE,
            Kind::Hash => above.hash = NONE,
            Kind::Literal => {
                let hash = self.seed.hash_one((leaf.parent, &*leaf.text));
                if let Ok(edge) = self.edges.find_entry(hash, |&other| other == key) {
                    edge.remove();
                }
            }
        }
        if self.edges.capacity() > 1024 && self.edges.len() * 4 < self.edges.capacity() {
            let (nodes, seed) = (&self.nodes, &self.seed);
            self.edges.shrink_to(self.edges.len() * 2, |&key| {
                let branch = &nodes[key];
                seed.hash_one((branch.parent, &*branch.text))
            });
        }
        leaf.parent
    }
}

/// How strongly somebody wants a filter (idea 3). Ordered by what a publish must do for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterestClass(u8);

impl InterestClass {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Somebody who is gone when their connection is.
    pub const LIVE: Self = Self(1);
    /// Somebody to whom a QoS 1 or 2 message is owed even across a crash.
    pub const DURABLE: Self = Self(2);
    /// Somebody for whom QoS 0 messages are kept as well.
    pub const KEEPS_QOS0: Self = Self(4);

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All of `other` is in this.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Nobody wants it.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Which shards want a topic, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// One bit per shard.
    pub shards: u64,
    /// The sum of all classes.
    pub class: InterestClass,
}

/// Shards of a node are counted in a word of 64 bits.
pub const SHARDS_MAX: u16 = 64;

/// The node's index: which shards want which filters.
#[derive(Debug)]
pub struct Interest {
    tree: Tree<SmallVec<[(ShardId, InterestClass); 2]>>,
    epochs: Epochs,
}

impl Interest {
    /// Nobody wants anything.
    pub fn new(seed: u64) -> Self {
        Self {
            tree: Tree::new(seed),
            epochs: Epochs::default(),
        }
    }

    /// `shard` wants `filter` as strongly as `class` says, from now on; with
    /// [`InterestClass::NONE`] no longer. Answers the epoch it raised and its new value.
    pub fn set(&mut self, shard: ShardId, filter: &str, class: InterestClass) -> (EpochScope, u64) {
        if class.is_none() {
            self.forget(shard, filter);
        } else {
            let (_, children) = self.tree.entry(filter, SmallVec::new);
            match children.iter_mut().find(|child| child.0 == shard) {
                Some(child) => child.1 = class,
                None => children.push((shard, class)),
            }
        }
        self.epochs.raise(filter)
    }

    fn forget(&mut self, shard: ShardId, filter: &str) {
        let Some(key) = self.tree.find(filter) else {
            return;
        };
        let Some(children) = self.tree.get_mut(key) else {
            return;
        };
        children.retain(|child| child.0 != shard);
        if children.is_empty() {
            self.tree.remove(key);
        }
    }

    /// Who wants the Topic Name `topic`.
    pub fn wanted(&self, topic: &str) -> Wanted {
        let mut wanted = Wanted::default();
        self.tree.matches_shared(topic, |_, children| {
            for &(shard, class) in children {
                wanted.shards |= 1 << shard.0;
                wanted.class = wanted.class.and(class);
            }
        });
        wanted
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

/// Counters that say which part of an index has changed.
#[derive(Debug)]
pub struct Epochs {
    /// Of filters that begin with a wildcard.
    pub any: u64,
    /// Of filters whose second level is a wildcard, by first level.
    pub first: Box<[u64; EPOCH_BUCKETS]>,
    /// Of all others, by their first two levels.
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
    pub fn raise(&mut self, filter: &str) -> (EpochScope, u64) {
        let scope = EpochScope::of(filter);
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
    /// It begins with a wildcard.
    Any,
    /// Its second level is a wildcard; the bucket of its first level.
    First(usize),
    /// The bucket of its first two levels.
    Second(usize),
}

impl EpochScope {
    /// The counter of `filter`.
    pub fn of(filter: &str) -> Self {
        let mut levels = filter.split('/');
        let first = levels.next().unwrap_or_default();
        let second = levels.next();
        if matches!(first, "+" | "#") {
            Self::Any
        } else if matches!(second, Some("+" | "#")) {
            Self::First(usize::from(bucket_of_first(first)))
        } else {
            Self::Second(usize::from(bucket_of_second(first, second)))
        }
    }
}

/// Where the epochs of a Topic Name are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochKey {
    /// Bucket of its first level.
    pub first: u16,
    /// Bucket of its first two levels.
    pub second: u16,
}

impl EpochKey {
    /// Of the Topic Name `topic`.
    pub fn of(topic: &str) -> Self {
        let mut levels = topic.split('/');
        let first = levels.next().unwrap_or_default();
        Self {
            first: bucket_of_first(first),
            second: bucket_of_second(first, levels.next()),
        }
    }
}

fn bucket_of_first(first: &str) -> u16 {
    bucket(first.bytes())
}

fn bucket_of_second(first: &str, second: Option<&str>) -> u16 {
    // The slash between them also tells `a` from `a/`.
    match second {
        Some(second) => bucket(first.bytes().chain([b'/']).chain(second.bytes())),
        None => bucket(first.bytes()),
    }
}

/// FNV-1a, folded: spreads well enough over the buckets and is the same on every shard.
fn bucket(bytes: impl Iterator<Item = u8>) -> u16 {
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) as usize % EPOCH_BUCKETS) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_codec::{TopicFilter, TopicName};
    use proptest::prelude::*;

    fn matched(tree: &mut Tree<u32>, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        tree.matches(topic, |_, &value| found.push(value));
        found.sort_unstable();
        found
    }

    #[test]
    fn hash_matches_its_parent_level_and_everything_below() {
        let mut tree = Tree::new(1);
        tree.entry("sport/#", || 1);
        assert_eq!(matched(&mut tree, "sport"), [1]);
        assert_eq!(matched(&mut tree, "sport/tennis/player1"), [1]);
        assert_eq!(matched(&mut tree, "sports"), [0; 0]);
    }

    #[test]
    fn leading_wildcards_do_not_reach_dollar_topics() {
        let mut tree = Tree::new(1);
        tree.entry("#", || 1);
        tree.entry("+/uptime", || 2);
        tree.entry("$SYS/#", || 3);
        assert_eq!(matched(&mut tree, "$SYS/uptime"), [3]);
        assert_eq!(matched(&mut tree, "x/uptime"), [1, 2]);
    }

    #[test]
    fn removing_everything_leaves_an_empty_tree() {
        let mut tree = Tree::new(1);
        let keys: Vec<_> = ["a/b/c", "a/+/c", "a/#", "a", "", "/"]
            .iter()
            .map(|f| tree.entry(f, || 0).0)
            .collect();
        for key in keys {
            assert_eq!(tree.remove(key), Some(0));
        }
        assert_eq!(tree.nodes.len(), 1);
        assert_eq!(tree.edges.len(), 0);
    }

    #[test]
    fn a_change_raises_only_the_epochs_of_topics_it_can_match() {
        let mut epochs = Epochs::default();
        let (here, there) = (EpochKey::of("devices/1/up"), EpochKey::of("devices/2/up"));
        assert_ne!(here, there);
        let before = (epochs.at(here), epochs.at(there));
        epochs.raise("devices/1/+");
        assert_ne!(epochs.at(here), before.0);
        assert_eq!(epochs.at(there), before.1);
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "", "$x", "é"])
    }

    fn filter() -> impl Strategy<Value = String> {
        let wild = prop_oneof![4 => level(), 2 => Just("+")];
        (prop::collection::vec(wild, 1..5), any::<bool>()).prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    proptest! {
        // [MQTT-3.3.2-3], [MQTT-4.7.3-4]
        #[test]
        fn the_tree_agrees_with_the_naive_matcher(
            filters in prop::collection::vec(filter(), 1..40),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            topics in prop::collection::vec(prop::collection::vec(level(), 1..6), 1..20),
        ) {
            let mut tree = Tree::new(7);
            let mut model: Vec<(String, u32)> = Vec::new();
            for filter in filters.iter().filter(|f| !f.is_empty()) {
                if model.iter().all(|(known, _)| known != filter) {
                    let value = model.len() as u32;
                    tree.entry(filter, || value);
                    model.push((filter.clone(), value));
                }
            }
            for index in removed {
                if model.is_empty() { break; }
                let (filter, value) = model.swap_remove(index.index(model.len()));
                let key = tree.find(&filter).unwrap();
                prop_assert_eq!(tree.filter(key), filter);
                prop_assert_eq!(tree.remove(key), Some(value));
            }
            for topic in topics.iter().map(|levels| levels.join("/")).filter(|t| !t.is_empty()) {
                let name = TopicName::new(&topic).unwrap();
                let mut expected: Vec<u32> = model.iter()
                    .filter(|(filter, _)| TopicFilter::new(filter).unwrap().matches(name))
                    .map(|(_, value)| *value)
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(matched(&mut tree, &topic), expected);
                for (filter, _) in &model {
                    if TopicFilter::new(filter).unwrap().matches(name) {
                        let mut epochs = Epochs::default();
                        let before = epochs.at(EpochKey::of(&topic));
                        epochs.raise(filter);
                        prop_assert_ne!(epochs.at(EpochKey::of(&topic)), before);
                    }
                }
            }
        }
    }
}
