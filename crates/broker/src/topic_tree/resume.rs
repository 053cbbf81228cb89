//! Matching in several turns: a walk that stops and goes on later, though the tree may have changed
//! meanwhile.
//!
//! Filters that match one topic have an order: a filter comes before those that it is the
//! beginning of, and at the first level in which two differ a literal level comes before `+`, and
//! `+` before `#`. A walk visits them in this order, so a filter says where it goes on. One that
//! is there all the time is visited once.

use core::ops::ControlFlow;

use martlet_permission::TenantId;

use super::{NONE, NodeKey, Tree, first_level, levels_of};

/// Result of a walk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Nodes that were visited.
    pub(crate) steps: usize,
    /// The filter, or the beginning of one, at which the next walk begins; none: that was all.
    pub(crate) next: Option<String>,
}

/// Where a node stands to the filter at which the walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The filter begins with the levels of the node, and continues at this offset.
    Before(usize),
    /// The node is that filter, or comes after it.
    After,
}

impl<V> Tree<V> {
    /// Calls `found` with each value of a tenant whose filter matches the Topic Name `topic`,
    /// beginning with the filter `from`, until it breaks or about `steps_max` nodes have been
    /// visited. The filter at which it breaks is the first of the next walk.
    pub(crate) fn matches_from(
        &self,
        tenant: TenantId,
        topic: &str,
        from: Option<&str>,
        steps_max: usize,
        mut found: impl FnMut(NodeKey, &V) -> ControlFlow<()>,
    ) -> Walked {
        let mut steps = 0;
        let Some(root) = self.root(tenant) else {
            return Walked { steps, next: None };
        };
        let topic = topic.as_bytes();
        let end = topic.len() + 1;
        let system = topic.starts_with(b"$");
        // The empty filter is one empty level, as of `/a`; only none is the root.
        let begin = match from {
            None => Standing::After,
            Some(_) => Standing::Before(0),
        };
        let from = from.unwrap_or_default().as_bytes();
        let mut stack = vec![(root, 0, begin)];
        while let Some((key, offset, standing)) = stack.pop() {
            let stop = |tree: &Self| Some(tree.filter(key).1);
            // The way to where the walk goes on is no progress.
            if standing == Standing::After {
                if steps == steps_max {
                    return Walked {
                        steps,
                        next: stop(self),
                    };
                }
                steps += 1;
                if offset == end
                    && let Some(value) = &self.nodes[key].value
                    && found(key, value).is_break()
                {
                    return Walked {
                        steps,
                        next: stop(self),
                    };
                }
            }
            let branch = &self.nodes[key];
            let wildcards = !(system && key == root);
            let mut push = |child: u32, offset: usize| {
                if let Some(standing) = self.standing(child, from, standing) {
                    stack.push((child, offset, standing));
                }
            };
            // Last in, first out.
            if branch.hash != NONE && wildcards {
                push(branch.hash, end);
            }
            if offset == end {
                continue;
            }
            let rest = &topic[offset..];
            let behind = |child: u32| {
                let length = self.nodes[child].matched_bytes(rest)?;
                Some(offset + length + 1)
            };
            if branch.plus != NONE
                && wildcards
                && let Some(offset) = behind(branch.plus)
            {
                push(branch.plus, offset);
            }
            if branch.has_literals()
                && let Some(child) = self.literal_child(key, first_level(rest))
                && let Some(offset) = behind(child)
            {
                push(child, offset);
            }
        }
        Walked { steps, next: None }
    }

    /// Where a child stands to the filter `from`, given where its parent does; none if it and all
    /// below it come before that filter. Both match the same topic as far as they go.
    fn standing(&self, child: u32, from: &[u8], parent: Standing) -> Option<Standing> {
        let Standing::Before(mut at) = parent else {
            return Some(Standing::After);
        };
        let mut of_child = levels_of(&self.nodes[child].text);
        for level in levels_of(&from[at..]) {
            let Some(own) = of_child.next() else {
                return Some(Standing::Before(at));
            };
            match rank(own).cmp(&rank(level)) {
                core::cmp::Ordering::Less => return None,
                core::cmp::Ordering::Greater => return Some(Standing::After),
                core::cmp::Ordering::Equal => at += level.len() + 1,
            }
        }
        Some(Standing::After)
    }
}

/// The order of levels that match the same level of a topic.
fn rank(level: &[u8]) -> u8 {
    match level {
        b"+" => 1,
        b"#" => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_codec::{TopicFilter, TopicName};
    use proptest::prelude::*;

    const COMMON: TenantId = TenantId(0);

    /// Walks to the end in turns of `steps` nodes and at most `values` values; between two turns
    /// the tree is changed.
    fn walk_in_turns(
        tree: &mut Tree<u32>,
        topic: &str,
        steps: usize,
        values: usize,
        mut change: impl FnMut(&mut Tree<u32>, &str),
    ) -> Vec<u32> {
        let mut all = Vec::new();
        let mut from: Option<String> = None;
        loop {
            let mut taken = 0;
            let walked = tree.matches_from(COMMON, topic, from.as_deref(), steps, |_, &value| {
                if taken == values {
                    return ControlFlow::Break(());
                }
                taken += 1;
                all.push(value);
                ControlFlow::Continue(())
            });
            let Some(next) = walked.next else {
                return all;
            };
            assert_ne!(Some(&next), from.as_ref(), "no progress");
            change(tree, &next);
            from = Some(next);
        }
    }

    #[test]
    fn all_combinations_of_a_level_and_plus_are_found_in_small_steps() {
        let mut tree = Tree::new(1);
        let levels = 8;
        for mask in 0_u32..1 << levels {
            let names = (0..levels).map(|level| ["a", "+"][(mask >> level & 1) as usize]);
            let filter = names.collect::<Vec<_>>().join("/");
            tree.entry(COMMON, &filter, || mask);
        }
        let topic = vec!["a"; levels].join("/");
        let mut found = walk_in_turns(&mut tree, &topic, 7, 3, |_, _| {});
        found.sort_unstable();
        assert_eq!(found, (0..1 << levels).collect::<Vec<_>>());
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["a", "b", "", "+", "+"]);
        (prop::collection::vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn filters_that_stay_are_found_once_whatever_comes_and_goes(
            stay in prop::collection::btree_set(filter(), 1..30),
            change in prop::collection::vec(filter(), 1..30),
            topic in prop::collection::vec(prop::sample::select(vec!["a", "b", ""]), 1..5),
            steps in 1_usize..5,
            values in 1_usize..3,
            at_place in any::<bool>(),
        ) {
            let topic = topic.join("/");
            prop_assume!(!topic.is_empty());
            let stay: Vec<_> = stay.into_iter().filter(|filter| !filter.is_empty()).collect();
            let mut tree = Tree::new(7);
            for (value, filter) in stay.iter().enumerate() {
                tree.entry(COMMON, filter, || value as u32);
            }
            let mut changes = change.iter().cycle();
            let found = walk_in_turns(&mut tree, &topic, steps, values, |tree, next| {
                // What comes and goes is of no interest, but it splits and removes nodes.
                let filter = match at_place {
                    true => format!("{next}/b"),
                    false => changes.next().unwrap().clone(),
                };
                let is_valid = TopicFilter::new(&filter).is_ok();
                if filter.is_empty() || stay.contains(&filter) || !is_valid {
                    return;
                }
                match tree.find(COMMON, &filter) {
                    Some(key) => drop(tree.remove(key)),
                    None => drop(tree.entry(COMMON, &filter, || u32::MAX)),
                }
            });
            let name = TopicName::new(&topic).unwrap();
            let mut expected: Vec<u32> = (0..).zip(&stay)
                .filter(|(_, filter)| TopicFilter::new(filter).unwrap().matches(name))
                .map(|(value, _)| value)
                .collect();
            let mut found: Vec<_> = found.into_iter().filter(|value| *value != u32::MAX).collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
