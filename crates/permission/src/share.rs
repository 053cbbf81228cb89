//! How much of what all teams share one team may have, and how much each uses.

use std::collections::BTreeMap;

/// The part that one team may have of what the others leave. So a team that is alone has that part
/// of all, those with most may not grow while others come, and teams never take all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    percent: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self { percent: 50 }
    }
}

impl Share {
    /// All that others leave.
    pub const ALL: Self = Self { percent: 100 };

    /// This many percent, 1 to 100.
    pub fn percent(percent: u32) -> Self {
        Self {
            percent: percent.clamp(1, 100),
        }
    }

    /// The share of one team, where there is `all` and others, teams or not, use `others` of it.
    pub fn beside(self, others: u64, all: u64) -> u64 {
        let left = all.saturating_sub(others);
        let percent = u64::from(self.percent);
        // Hundreds and the rest apart: their product could be too large.
        left / 100 * percent + left % 100 * percent / 100
    }

    /// As [`Share::beside`], for sizes.
    pub fn size_beside(self, others: usize, all: usize) -> usize {
        usize::try_from(self.beside(others as u64, all as u64)).unwrap_or(usize::MAX)
    }
}

/// Use of a pool by owner. An owner that uses nothing is not remembered.
#[derive(Clone, Debug)]
pub struct Uses<O> {
    all: usize,
    of: BTreeMap<O, usize>,
}

impl<O> Default for Uses<O> {
    fn default() -> Self {
        Self {
            all: 0,
            of: BTreeMap::new(),
        }
    }
}

impl<O: Ord + Clone> Uses<O> {
    /// Use by all owners together.
    pub fn all(&self) -> usize {
        self.all
    }

    /// Use by one owner.
    pub fn of(&self, owner: &O) -> usize {
        self.of.get(owner).copied().unwrap_or_default()
    }

    /// Use by all other owners.
    pub fn beside(&self, owner: &O) -> usize {
        self.all - self.of(owner)
    }

    /// Owners that use something, in their order, and how much.
    pub fn each(&self) -> impl Iterator<Item = (O, usize)> {
        self.of.iter().map(|(owner, used)| (owner.clone(), *used))
    }

    /// Counts more for an owner.
    pub fn add(&mut self, owner: &O, more: usize) {
        if more > 0 {
            self.all += more;
            *self.of.entry(owner.clone()).or_default() += more;
        }
    }

    /// Counts less for an owner.
    pub fn give_back(&mut self, owner: &O, less: usize) {
        let Some(own) = self.of.get_mut(owner) else {
            return;
        };
        let less = less.min(*own);
        *own -= less;
        self.all -= less;
        if *own == 0 {
            self.of.remove(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_that_use_nothing_are_not_remembered() {
        let mut uses = Uses::default();
        uses.add(&"north", 2);
        uses.add(&"south", 3);
        uses.add(&"east", 0);
        assert_eq!(
            (uses.all(), uses.of(&"north"), uses.beside(&"north")),
            (5, 2, 3)
        );
        uses.give_back(&"north", 1);
        uses.give_back(&"south", 9);
        assert_eq!(uses.each().collect::<Vec<_>>(), [("north", 1)]);
        uses.give_back(&"north", 1);
        assert!(uses.all() == 0 && uses.each().next().is_none());
    }

    #[test]
    fn a_share_is_a_part_of_what_others_leave() {
        assert_eq!(Share::default().beside(0, 1_000), 500);
        assert_eq!(Share::default().beside(500, 1_000), 250);
        assert_eq!(Share::percent(100).beside(0, u64::MAX), u64::MAX);
        assert_eq!(Share::percent(0).beside(0, 1_000), 10);
        assert_eq!(Share::percent(50).size_beside(1_001, 1_000), 0);
    }

    /// Teams that take as much as they may, one after the other or in turns, leave something.
    #[test]
    fn teams_leave_something_and_those_that_take_turns_have_the_same() {
        let (share, all) = (Share::default(), 1_000);
        let takes = |used: &mut [u64], team: usize| {
            let others = used.iter().sum::<u64>() - used[team];
            let has_room = used[team] < share.beside(others, all);
            used[team] += u64::from(has_room);
            has_room
        };
        let mut used = [0; 3];
        for team in 0..3 {
            while takes(&mut used, team) {}
        }
        assert_eq!(used, [500, 250, 125]);
        let mut used = [0; 3];
        while (0..3).filter(|team| takes(&mut used, *team)).count() > 0 {}
        assert!(used.iter().all(|own| (249..=251).contains(own)), "{used:?}");
    }
}
