//! Topic Filter → value: a tree of topic levels.
//!
//! Its edges lie in one hash table, so that a step down costs one probe and a node of the tree
//! holds no table of its own. Literal levels at which nothing branches off are one node, so that a
//! filter of many levels, as one device has it, costs no more than a short one. Matching and
//! removal walk with an explicit stack: depth never costs call stack. `+` and `#` hang on their
//! parent directly.

use core::hash::BuildHasher;

use hashbrown::HashTable;

use crate::arena::Arena;
use crate::hash::{Seed, seeded};

/// A place in a [`Tree`]; stays valid while a value is there.
pub(crate) type NodeKey = u32;

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

/// Topic Filter → `V`.
#[derive(Debug)]
pub(crate) struct Tree<V> {
    nodes: Arena<Branch<V>>,
    /// Edges from a parent to its children by their first literal level, as node keys.
    edges: HashTable<u32>,
    seed: Seed,
    /// Reused by each match.
    stack: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct Branch<V> {
    /// The levels this node stands for, one or more; empty for `+`, `#`, the root, and the empty
    /// level.
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
        let (mut node, mut rest) = (ROOT, Some(filter));
        while let Some(levels) = rest {
            (node, rest) = self.step_or_insert(node, levels);
        }
        let value = self.nodes[node].value.get_or_insert_with(default);
        (node, value)
    }

    /// The place of `filter`, if it has a value.
    pub(crate) fn find(&self, filter: &str) -> Option<NodeKey> {
        let (mut node, mut rest) = (ROOT, Some(filter));
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
                && starts_with_levels(rest, &self.nodes[child].text)
            {
                let length = self.nodes[child].text.len() as u32;
                stack.push((child, offset + length + 1));
            }
        }
    }

    fn visit(&self, key: u32, found: &mut impl FnMut(NodeKey, &V)) {
        if let Some(value) = &self.nodes[key].value {
            found(key, value);
        }
    }

    /// One node down, and what is left of `levels` there.
    fn step<'f>(&self, parent: u32, levels: &'f str) -> Option<(u32, Option<&'f str>)> {
        let branch = &self.nodes[parent];
        let level = first_level(levels);
        let (child, length) = match level {
            "+" => (Some(branch.plus), 1),
            "#" => (Some(branch.hash), 1),
            literal => {
                let child = self.literal_child(parent, literal)?;
                let text = &self.nodes[child].text;
                let child = starts_with_levels(levels, text).then_some(child);
                (child, text.len())
            }
        };
        let child = child.filter(|child| *child != NONE)?;
        Some((child, after(levels, length)))
    }

    fn literal_child(&self, parent: u32, level: &str) -> Option<u32> {
        let hash = self.seed.hash_one((parent, level));
        self.edges
            .find(hash, |&key| {
                let branch = &self.nodes[key];
                branch.parent == parent && starts_with_levels(&branch.text, level)
            })
            .copied()
    }

    /// As [`Tree::step`]; the node is made if it is not there.
    fn step_or_insert<'f>(&mut self, parent: u32, levels: &'f str) -> (u32, Option<&'f str>) {
        let branch = &self.nodes[parent];
        let level = first_level(levels);
        match level {
            "+" | "#" => {
                let (child, kind) = match level {
                    "+" => (branch.plus, Kind::Plus),
                    _ => (branch.hash, Kind::Hash),
                };
                let child = match child {
                    NONE => self.insert_wildcard(parent, kind),
                    child => child,
                };
                (child, after(levels, 1))
            }
            literal => match self.literal_child(parent, literal) {
                Some(child) => {
                    let length = common_levels(&self.nodes[child].text, levels);
                    let node = match length < self.nodes[child].text.len() {
                        true => self.split(child, length),
                        false => child,
                    };
                    (node, after(levels, length))
                }
                None => {
                    let text = literal_levels(levels);
                    self.nodes[parent].children += 1;
                    let child = self.insert_literal(parent, text, 0);
                    (child, after(levels, text.len()))
                }
            },
        }
    }

    fn insert_wildcard(&mut self, parent: u32, kind: Kind) -> u32 {
        let child = self.insert_branch(parent, "", kind, 0);
        let above = &mut self.nodes[parent];
        above.children += 1;
        match kind {
            Kind::Plus => above.plus = child,
            Kind::Hash | Kind::Literal => above.hash = child,
        }
        child
    }

    fn insert_literal(&mut self, parent: u32, text: &str, children: u32) -> u32 {
        let child = self.insert_branch(parent, text, Kind::Literal, children);
        self.add_edge(child);
        child
    }

    fn insert_branch(&mut self, parent: u32, text: &str, kind: Kind, children: u32) -> u32 {
        self.nodes.insert(Branch {
            text: text.into(),
            parent,
            plus: NONE,
            hash: NONE,
            children,
            kind,
            value: None,
        })
    }

    /// Puts a new node, which it returns, in the place of `key`, for the first `length` bytes of
    /// its levels; `key` hangs below with the others and stays valid.
    fn split(&mut self, key: u32, length: usize) -> u32 {
        self.remove_edge(key);
        let branch = &mut self.nodes[key];
        let parent = branch.parent;
        let text = core::mem::take(&mut branch.text);
        branch.text = text[length + 1..].into();
        let above = self.insert_literal(parent, &text[..length], 1);
        self.nodes[key].parent = above;
        self.add_edge(key);
        above
    }

    fn add_edge(&mut self, key: u32) {
        let (nodes, seed) = (&self.nodes, &self.seed);
        let hash = |key: u32| {
            let branch = &nodes[key];
            seed.hash_one((branch.parent, first_level(&branch.text)))
        };
        self.edges.insert_unique(hash(key), key, |&key| hash(key));
    }

    fn remove_edge(&mut self, key: u32) {
        let branch = &self.nodes[key];
        let level = first_level(&branch.text);
        let hash = self.seed.hash_one((branch.parent, level));
        if let Ok(edge) = self.edges.find_entry(hash, |&other| other == key) {
            edge.remove();
        }
    }

    /// Takes a leaf out of its parent, which it returns.
    fn unlink(&mut self, key: u32) -> u32 {
        if self.nodes[key].kind == Kind::Literal {
            self.remove_edge(key);
        }
        let leaf = self.nodes.remove(key);
        let leaf = leaf.expect("only branches that are there are unlinked");
        let above = &mut self.nodes[leaf.parent];
        above.children -= 1;
        match leaf.kind {
            Kind::Plus => above.plus = NONE,
            Kind::Hash => above.hash = NONE,
            Kind::Literal => {}
        }
        if self.edges.capacity() > 1024 && self.edges.len() * 4 < self.edges.capacity() {
            let (nodes, seed) = (&self.nodes, &self.seed);
            self.edges.shrink_to(self.edges.len() * 2, |&key| {
                let branch = &nodes[key];
                seed.hash_one((branch.parent, first_level(&branch.text)))
            });
        }
        leaf.parent
    }
}

fn first_level(levels: &str) -> &str {
    let end = levels.as_bytes().iter().position(|&byte| byte == b'/');
    &levels[..end.unwrap_or(levels.len())]
}

/// `levels` begins with all of `first`, level by level.
fn starts_with_levels(levels: &str, first: &str) -> bool {
    let (levels, first) = (levels.as_bytes(), first.as_bytes());
    levels.starts_with(first) && levels.get(first.len()).is_none_or(|&byte| byte == b'/')
}

/// What follows the first `length` bytes, which are whole levels; none if nothing does.
fn after(levels: &str, length: usize) -> Option<&str> {
    levels.get(length + 1..)
}

/// The levels before the first wildcard.
fn literal_levels(levels: &str) -> &str {
    let mut end = 0;
    for level in levels.split('/') {
        if matches!(level, "+" | "#") {
            break;
        }
        end += level.len() + 1;
    }
    &levels[..end.saturating_sub(1)]
}

/// Bytes of the levels that both begin with; the first one they share.
fn common_levels(one: &str, other: &str) -> usize {
    let pairs = one.split('/').zip(other.split('/'));
    let same = pairs.take_while(|(one, other)| one == other);
    let bytes: usize = same.map(|(level, _)| level.len() + 1).sum();
    bytes.saturating_sub(1)
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
    fn levels_at_which_nothing_branches_off_are_one_node() {
        let mut tree = Tree::new(1);
        let (long, _) = tree.entry("site/4/line/2/motor/speed", || 1);
        assert_eq!(tree.nodes.len(), 2);
        let (other, _) = tree.entry("site/4/line/3/motor/speed", || 2);
        tree.entry("site/4", || 3);
        assert_eq!(tree.nodes.len(), 5);
        assert_eq!(tree.filter(long), "site/4/line/2/motor/speed");
        assert_eq!(tree.filter(other), "site/4/line/3/motor/speed");
        assert_eq!(matched(&mut tree, "site/4/line/2/motor/speed"), [1]);
        assert_eq!(matched(&mut tree, "site/4"), [3]);
        assert_eq!(matched(&mut tree, "site/4/line"), [0; 0]);
        assert_eq!(matched(&mut tree, "site/4/line/2/motor/speeds"), [0; 0]);
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
            }
        }
    }
}
