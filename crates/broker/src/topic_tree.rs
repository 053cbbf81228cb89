//! Topic Filter → value: a tree of topic levels for each tenant.
//!
//! Its edges lie in one hash table, so that a step down costs one probe and a node of the tree
//! holds no table of its own. Levels at which nothing branches off, wildcards among them, are one
//! node, so that a filter of many levels, as one device has it, costs no more than a short one.
//! Matching and removal walk with an explicit stack: depth never costs call stack. Children that
//! begin with `+` and `#` hang on their parent directly.

mod resume;

use core::hash::BuildHasher;
use core::ops::ControlFlow;
use std::collections::BTreeMap;

use martlet_permission::TenantId;
use smallvec::SmallVec;

use crate::arena::Arena;
use crate::hash::{Seed, seeded};
use crate::place_table::PlaceTable;

/// A place in a [`Tree`]; stays valid while a value is there.
pub(crate) type NodeKey = u32;

const NONE: u32 = u32::MAX;
/// The root of the common tenant.
const ROOT: u32 = 0;

/// Topic Filter → `V`.
#[derive(Debug)]
pub(crate) struct Tree<V> {
    nodes: Arena<Branch<V>>,
    /// The roots of other tenants: their filters match no others' topics. Few nodes have any.
    roots: BTreeMap<TenantId, u32>,
    /// Edges from a parent to its children by their first literal level, as node keys.
    edges: PlaceTable,
    seed: Seed,
    /// Reused by each match.
    stack: Vec<(u32, u32)>,
}

/// There may be millions, most of them leaves: one is a line of the processor's cache.
#[derive(Debug)]
struct Branch<V> {
    /// The levels this node stands for, one or more; a root has the number of its tenant in their
    /// place. Those of a leaf are nearly always few bytes.
    text: SmallVec<[u8; TEXT_INLINE_BYTES]>,
    /// None of a root.
    parent: u32,
    /// The child whose first level is `+`.
    plus: u32,
    /// The child `#`.
    hash: u32,
    /// Children of all kinds.
    children: u32,
    /// One of its levels is a wildcard.
    is_wild: bool,
    value: Option<V>,
}

const TEXT_INLINE_BYTES: usize = 16;

impl<V> Tree<V> {
    /// An empty tree whose edges are hashed under `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut nodes = Arena::default();
        nodes.insert(Branch::root(TenantId(0)));
        Self {
            nodes,
            roots: BTreeMap::new(),
            edges: PlaceTable::default(),
            seed: seeded(seed),
            stack: Vec::new(),
        }
    }

    /// The place of a tenant's `filter`, made if it is not there. `filter` must be a valid Topic
    /// Filter.
    pub(crate) fn entry(
        &mut self,
        tenant: TenantId,
        filter: &str,
        default: impl FnOnce() -> V,
    ) -> (NodeKey, &mut V) {
        let root = self.root(tenant).unwrap_or_else(|| self.new_root(tenant));
        let (mut node, mut rest) = (root, Some(filter.as_bytes()));
        while let Some(levels) = rest {
            (node, rest) = self.step_or_insert(node, levels);
        }
        let value = self.nodes[node].value.get_or_insert_with(default);
        (node, value)
    }

    /// The place of a tenant's `filter`, if it has a value.
    pub(crate) fn find(&self, tenant: TenantId, filter: &str) -> Option<NodeKey> {
        let (mut node, mut rest) = (self.root(tenant)?, Some(filter.as_bytes()));
        while let Some(levels) = rest {
            (node, rest) = self.step(node, levels)?;
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
        loop {
            let branch = &self.nodes[node];
            if branch.value.is_some() || branch.children > 0 {
                break;
            }
            if branch.parent == NONE {
                self.remove_root(node);
                break;
            }
            node = self.unlink(node);
        }
        Some(value)
    }

    /// Tenant and Topic Filter that a place stands for.
    pub(crate) fn filter(&self, key: NodeKey) -> (TenantId, String) {
        let mut levels = Vec::new();
        let mut branch = &self.nodes[key];
        while branch.parent != NONE {
            levels.push(&*branch.text);
            branch = &self.nodes[branch.parent];
        }
        levels.reverse();
        // Whole levels of what was UTF-8.
        let filter = String::from_utf8_lossy(&levels.join(&b'/')).into_owned();
        (branch.tenant(), filter)
    }

    fn root(&self, tenant: TenantId) -> Option<u32> {
        match tenant {
            TenantId(0) => Some(ROOT),
            _ => self.roots.get(&tenant).copied(),
        }
    }

    #[cold]
    fn new_root(&mut self, tenant: TenantId) -> u32 {
        let root = self.nodes.insert(Branch::root(tenant));
        self.roots.insert(tenant, root);
        root
    }

    /// Nothing hangs below this root any more. That of the common tenant stays.
    fn remove_root(&mut self, root: u32) {
        if root != ROOT {
            self.roots.remove(&self.nodes[root].tenant());
            self.nodes.remove(root);
        }
    }

    /// Calls `found` with each value of a tenant whose filter matches the Topic Name `topic`, until
    /// it breaks or `steps_max` nodes have been visited. Breaks if it did not come to the end.
    ///
    /// A filter that begins with a wildcard does not match a topic that begins with `$`
    /// [MQTT-4.7.2-1].
    pub(crate) fn matches(
        &mut self,
        tenant: TenantId,
        topic: &str,
        steps_max: usize,
        mut found: impl FnMut(NodeKey, &V) -> ControlFlow<()>,
    ) -> (usize, ControlFlow<()>) {
        let Some(root) = self.root(tenant) else {
            return (0, ControlFlow::Continue(()));
        };
        let mut stack = core::mem::take(&mut self.stack);
        let outcome = self.walk(root, topic, steps_max, &mut stack, &mut found);
        self.stack = stack;
        outcome
    }

    /// As [`Tree::matches`], for readers without exclusive access.
    pub(crate) fn matches_shared(
        &self,
        tenant: TenantId,
        topic: &str,
        steps_max: usize,
        mut found: impl FnMut(NodeKey, &V) -> ControlFlow<()>,
    ) -> (usize, ControlFlow<()>) {
        match self.root(tenant) {
            Some(root) => {
                let mut stack = Vec::new();
                self.walk(root, topic, steps_max, &mut stack, &mut found)
            }
            None => (0, ControlFlow::Continue(())),
        }
    }

    /// Filters that have a value.
    pub(crate) fn len(&self) -> usize {
        self.nodes
            .iter()
            .filter(|(_, branch)| branch.value.is_some())
            .count()
    }

    /// Answers how many nodes were visited, and whether that was all.
    fn walk(
        &self,
        root: u32,
        topic: &str,
        steps_max: usize,
        stack: &mut Vec<(u32, u32)>,
        found: &mut impl FnMut(NodeKey, &V) -> ControlFlow<()>,
    ) -> (usize, ControlFlow<()>) {
        // An entry is a node and the offset in `topic` of the level that comes next there; an
        // offset past the end means that all levels are used up.
        let topic = topic.as_bytes();
        let end = topic.len() as u32 + 1;
        let system = topic.starts_with(b"$");
        let mut steps = 0;
        stack.clear();
        stack.push((root, 0));
        while let Some((key, offset)) = stack.pop() {
            steps += 1;
            if steps > steps_max {
                return (steps, ControlFlow::Break(()));
            }
            let branch = &self.nodes[key];
            let wildcards = !(system && key == root);
            // `a/#` matches `a` too: a `#` below a used-up topic counts (MQTT 5 section 4.7.1.2).
            if branch.hash != NONE && wildcards && self.visit(branch.hash, found).is_break() {
                return (steps, ControlFlow::Break(()));
            }
            if offset == end {
                if self.visit(key, found).is_break() {
                    return (steps, ControlFlow::Break(()));
                }
                continue;
            }
            let rest = &topic[offset as usize..];
            if branch.plus != NONE && wildcards {
                self.descend(branch.plus, rest, offset, stack);
            }
            if branch.has_literals()
                && let Some(child) = self.literal_child(key, first_level(rest))
            {
                self.descend(child, rest, offset, stack);
            }
        }
        (steps, ControlFlow::Continue(()))
    }

    /// Goes on at a child if all its levels match the topic, of which `rest` is left at `offset`.
    fn descend(&self, child: u32, rest: &[u8], offset: u32, stack: &mut Vec<(u32, u32)>) {
        if let Some(length) = self.nodes[child].matched_bytes(rest) {
            stack.push((child, offset + length as u32 + 1));
        }
    }

    #[inline]
    fn visit(
        &self,
        key: u32,
        found: &mut impl FnMut(NodeKey, &V) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match &self.nodes[key].value {
            Some(value) => found(key, value),
            None => ControlFlow::Continue(()),
        }
    }

    /// One node down, and what is left of `levels` there.
    fn step<'f>(&self, parent: u32, levels: &'f [u8]) -> Option<(u32, Option<&'f [u8]>)> {
        let child = self.child(parent, first_level(levels))?;
        let text = &self.nodes[child].text;
        starts_with_levels(levels, text).then(|| (child, after(levels, text.len())))
    }

    /// The child that begins with this level of a filter.
    fn child(&self, parent: u32, level: &[u8]) -> Option<u32> {
        let branch = &self.nodes[parent];
        match level {
            b"+" => Some(branch.plus).filter(|child| *child != NONE),
            b"#" => Some(branch.hash).filter(|child| *child != NONE),
            literal => self.literal_child(parent, literal),
        }
    }

    fn literal_child(&self, parent: u32, level: &[u8]) -> Option<u32> {
        let hash = self.seed.hash_one((parent, level));
        self.edges.find(hash, |key| {
            let branch = &self.nodes[key];
            branch.parent == parent && starts_with_levels(&branch.text, level)
        })
    }

    /// As [`Tree::step`]; the node is made if it is not there.
    fn step_or_insert<'f>(&mut self, parent: u32, levels: &'f [u8]) -> (u32, Option<&'f [u8]>) {
        let Some(child) = self.child(parent, first_level(levels)) else {
            let child = self.nodes.insert(Branch::new(levels, parent));
            self.nodes[parent].children += 1;
            self.attach(child);
            return (child, None);
        };
        let length = common_levels(&self.nodes[child].text, levels);
        let node = match length < self.nodes[child].text.len() {
            true => self.split(child, length),
            false => child,
        };
        (node, after(levels, length))
    }

    /// Puts a new node, which it returns, in the place of `key`, for the first `length` bytes of
    /// its levels; `key` hangs below with the others and stays valid.
    fn split(&mut self, key: u32, length: usize) -> u32 {
        self.detach(key);
        let branch = &mut self.nodes[key];
        let parent = branch.parent;
        let text = core::mem::take(&mut branch.text);
        branch.set_text(&text[length + 1..]);
        let mut above = Branch::new(&text[..length], parent);
        above.children = 1;
        let above = self.nodes.insert(above);
        self.nodes[key].parent = above;
        self.attach(above);
        self.attach(key);
        above
    }

    /// Makes a node found from its parent, which counts it already.
    fn attach(&mut self, key: u32) {
        if let Some(place) = self.wildcard_place(key) {
            *place = key;
            return;
        }
        let (nodes, seed) = (&self.nodes, &self.seed);
        let hash = edge_hash(nodes, seed, key);
        self.edges
            .insert(hash, key, |key| edge_hash(nodes, seed, key));
    }

    /// The opposite of [`Tree::attach`].
    fn detach(&mut self, key: u32) {
        if let Some(place) = self.wildcard_place(key) {
            *place = NONE;
            return;
        }
        let hash = edge_hash(&self.nodes, &self.seed, key);
        self.edges.remove(hash, key);
    }

    /// Where a node that begins with a wildcard hangs on its parent; none for others.
    fn wildcard_place(&mut self, key: u32) -> Option<&mut u32> {
        let branch = &self.nodes[key];
        let (parent, is_plus) = match first_level(&branch.text) {
            b"+" => (branch.parent, true),
            b"#" => (branch.parent, false),
            _ => return None,
        };
        let above = &mut self.nodes[parent];
        Some(match is_plus {
            true => &mut above.plus,
            false => &mut above.hash,
        })
    }

    /// Takes a leaf out of its parent, which it returns.
    fn unlink(&mut self, key: u32) -> u32 {
        self.detach(key);
        let leaf = self.nodes.remove(key);
        let leaf = leaf.expect("only branches that are there are unlinked");
        self.nodes[leaf.parent].children -= 1;
        let (nodes, seed) = (&self.nodes, &self.seed);
        self.edges.shrink(|key| edge_hash(nodes, seed, key));
        leaf.parent
    }
}

impl<V> Branch<V> {
    fn new(text: &[u8], parent: u32) -> Self {
        let mut branch = Self {
            text: SmallVec::new(),
            parent,
            plus: NONE,
            hash: NONE,
            children: 0,
            is_wild: false,
            value: None,
        };
        branch.set_text(text);
        branch
    }

    fn root(tenant: TenantId) -> Self {
        Self {
            text: SmallVec::from_slice(&tenant.0.to_be_bytes()),
            ..Self::new(b"", NONE)
        }
    }

    /// Bytes of a topic that its levels match, if they all do.
    fn matched_bytes(&self, topic: &[u8]) -> Option<usize> {
        match self.is_wild {
            true => match_levels(&self.text, topic),
            false => starts_with_levels(topic, &self.text).then_some(self.text.len()),
        }
    }

    /// Whether it has children that begin with a literal level.
    fn has_literals(&self) -> bool {
        self.children > u32::from(self.plus != NONE) + u32::from(self.hash != NONE)
    }

    /// The tenant whose root it is.
    fn tenant(&self) -> TenantId {
        let number = <[u8; 4]>::try_from(&*self.text);
        TenantId(number.map_or(0, u32::from_be_bytes))
    }

    fn set_text(&mut self, text: &[u8]) {
        self.is_wild = levels_of(text).any(|level| matches!(level, b"+" | b"#"));
        self.text = SmallVec::from_slice(text);
    }
}

/// Where the edge to a node lies.
fn edge_hash<V>(nodes: &Arena<Branch<V>>, seed: &Seed, key: u32) -> u64 {
    let branch = &nodes[key];
    seed.hash_one((branch.parent, first_level(&branch.text)))
}

fn levels_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'/')
}

fn first_level(levels: &[u8]) -> &[u8] {
    let end = levels.iter().position(|&byte| byte == b'/');
    &levels[..end.unwrap_or(levels.len())]
}

/// `levels` begins with all of `first`, level by level.
fn starts_with_levels(levels: &[u8], first: &[u8]) -> bool {
    levels.starts_with(first) && levels.get(first.len()).is_none_or(|&byte| byte == b'/')
}

/// Returns what follows the first `length` bytes, which are whole levels; none if nothing does.
fn after(levels: &[u8], length: usize) -> Option<&[u8]> {
    levels.get(length + 1..)
}

/// How many bytes of a topic the levels of a node match, if they do: `+` any level, `#` all that is
/// left and no level too (MQTT 5 section 4.7.1.2). The topic has one level at least, and the node's
/// first level is not `#`.
fn match_levels(levels: &[u8], topic: &[u8]) -> Option<usize> {
    let (mut level, mut at) = (0, 0);
    loop {
        // At the beginning of a level of both.
        match levels.get(level) {
            Some(b'#') => return Some(topic.len()),
            Some(b'+') => {
                level += 1;
                while topic.get(at).is_some_and(|&byte| byte != b'/') {
                    at += 1;
                }
            }
            _ => {
                while let Some(&byte) = levels.get(level).filter(|&&byte| byte != b'/') {
                    if topic.get(at) != Some(&byte) {
                        return None;
                    }
                    (level, at) = (level + 1, at + 1);
                }
                if topic.get(at).is_some_and(|&byte| byte != b'/') {
                    return None;
                }
            }
        }
        if level == levels.len() {
            return Some(at);
        }
        level += 1;
        if at == topic.len() {
            return (&levels[level..] == b"#").then_some(at);
        }
        at += 1;
    }
}

/// Bytes of the levels that both begin with; the first one they share.
fn common_levels(one: &[u8], other: &[u8]) -> usize {
    let pairs = levels_of(one).zip(levels_of(other));
    let same = pairs.take_while(|(one, other)| one == other);
    let bytes: usize = same.map(|(level, _)| level.len() + 1).sum();
    bytes.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_codec::{TopicFilter, TopicName};
    use proptest::prelude::*;

    const COMMON: TenantId = TenantId(0);

    fn matched(tree: &mut Tree<u32>, topic: &str) -> Vec<u32> {
        matched_in(COMMON, tree, topic)
    }

    fn matched_in(tenant: TenantId, tree: &mut Tree<u32>, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        let (_, end) = tree.matches(tenant, topic, usize::MAX, |_, &value| {
            found.push(value);
            ControlFlow::Continue(())
        });
        assert!(end.is_continue());
        found.sort_unstable();
        found
    }

    #[test]
    fn a_node_is_a_line_of_the_cache() {
        assert_eq!(
            size_of::<Branch<crate::subscribe::subscribers::Subscribers>>(),
            64
        );
        assert!(size_of::<Branch<crate::interest::Wants>>() <= 64);
    }

    #[test]
    fn hash_matches_its_parent_level_and_everything_below() {
        let mut tree = Tree::new(1);
        tree.entry(COMMON, "sport/#", || 1);
        assert_eq!(matched(&mut tree, "sport"), [1]);
        assert_eq!(matched(&mut tree, "sport/tennis/player1"), [1]);
        assert_eq!(matched(&mut tree, "sports"), [0; 0]);
    }

    #[test]
    fn leading_wildcards_do_not_reach_dollar_topics() {
        let mut tree = Tree::new(1);
        tree.entry(COMMON, "#", || 1);
        tree.entry(COMMON, "+/uptime", || 2);
        tree.entry(COMMON, "$SYS/#", || 3);
        assert_eq!(matched(&mut tree, "$SYS/uptime"), [3]);
        assert_eq!(matched(&mut tree, "x/uptime"), [1, 2]);
    }

    #[test]
    fn removing_everything_leaves_an_empty_tree() {
        let mut tree = Tree::new(1);
        let keys: Vec<_> = ["a/b/c", "a/+/c", "a/#", "a", "", "/"]
            .iter()
            .map(|f| tree.entry(COMMON, f, || 0).0)
            .collect();
        for key in keys {
            assert_eq!(tree.remove(key), Some(0));
        }
        assert_eq!(tree.nodes.len(), 1);
        assert_eq!(tree.edges.len(), 0);
    }

    #[test]
    fn levels_at_which_nothing_branches_off_are_one_node() {
        let mut tree = Tree::new(1);
        let (long, _) = tree.entry(COMMON, "site/4/line/2/motor/speed", || 1);
        assert_eq!(tree.nodes.len(), 2);
        let (other, _) = tree.entry(COMMON, "site/4/line/3/motor/speed", || 2);
        tree.entry(COMMON, "site/4", || 3);
        assert_eq!(tree.nodes.len(), 5);
        assert_eq!(tree.filter(long).1, "site/4/line/2/motor/speed");
        assert_eq!(tree.filter(other).1, "site/4/line/3/motor/speed");
        assert_eq!(matched(&mut tree, "site/4/line/2/motor/speed"), [1]);
        assert_eq!(matched(&mut tree, "site/4"), [3]);
        assert_eq!(matched(&mut tree, "site/4/line"), [0; 0]);
        assert_eq!(matched(&mut tree, "site/4/line/2/motor/speeds"), [0; 0]);
    }

    #[test]
    fn wildcards_at_which_nothing_branches_off_are_no_nodes_of_their_own() {
        let mut tree = Tree::new(1);
        tree.entry(COMMON, "site/+/line/+/motor/#", || 1);
        assert_eq!(tree.nodes.len(), 2);
        assert_eq!(matched(&mut tree, "site/4/line/2/motor/speed/now"), [1]);
        assert_eq!(matched(&mut tree, "site/4/line/2/motor"), [1]);
        assert_eq!(matched(&mut tree, "site/4/line/2"), [0; 0]);
        assert_eq!(matched(&mut tree, "site/4/lines/2/motor"), [0; 0]);
        let (other, _) = tree.entry(COMMON, "site/+/line/4", || 2);
        tree.entry(COMMON, "site/+", || 3);
        assert_eq!(tree.nodes.len(), 5);
        assert_eq!(tree.filter(other).1, "site/+/line/4");
        assert_eq!(matched(&mut tree, "site/4/line/4"), [2]);
        assert_eq!(matched(&mut tree, "site/4"), [3]);
        assert_eq!(matched(&mut tree, "site/4/line/4/motor"), [1]);
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
            filters in prop::collection::vec((0_u32..3, filter()), 1..40),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            topics in prop::collection::vec(prop::collection::vec(level(), 1..6), 1..20),
            tenant in 0_u32..3,
        ) {
            let mut tree = Tree::new(7);
            let mut model: Vec<(TenantId, String, u32)> = Vec::new();
            for (tenant, filter) in filters.iter().filter(|(_, filter)| !filter.is_empty()) {
                let tenant = TenantId(*tenant);
                if model.iter().all(|(of, known, _)| (*of, known) != (tenant, filter)) {
                    let value = model.len() as u32;
                    tree.entry(tenant, filter, || value);
                    model.push((tenant, filter.clone(), value));
                }
            }
            for index in removed {
                if model.is_empty() { break; }
                let (tenant, filter, value) = model.swap_remove(index.index(model.len()));
                let key = tree.find(tenant, &filter).unwrap();
                prop_assert_eq!(tree.filter(key), (tenant, filter));
                prop_assert_eq!(tree.remove(key), Some(value));
            }
            let tenant = TenantId(tenant);
            let model: Vec<_> = model.into_iter().filter(|(of, ..)| *of == tenant).collect();
            for topic in topics.iter().map(|levels| levels.join("/")).filter(|t| !t.is_empty()) {
                let name = TopicName::new(&topic).unwrap();
                let mut expected: Vec<u32> = model.iter()
                    .filter(|(_, filter, _)| TopicFilter::new(filter).unwrap().matches(name))
                    .map(|(.., value)| *value)
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(matched_in(tenant, &mut tree, &topic), expected);
            }
        }
    }
}
