//! How much of what all teams share one team may have.

/// A part of what all teams share, so that one team does not take it all.
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
    /// This many percent, 1 to 100.
    pub fn percent(percent: u32) -> Self {
        Self {
            percent: percent.clamp(1, 100),
        }
    }

    /// The share of a number that all teams have together, at least 1.
    pub fn of(self, all: u64) -> u64 {
        let percent = u64::from(self.percent);
        // Hundreds and the rest apart: their product could be too large.
        (all / 100 * percent + all % 100 * percent / 100).max(1)
    }

    /// Returns that share of a size.
    pub fn of_size(self, all: usize) -> usize {
        usize::try_from(self.of(all as u64)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_part_and_never_nothing() {
        assert_eq!(Share::default().of(1_000), 500);
        assert_eq!(Share::percent(100).of(u64::MAX), u64::MAX);
        assert_eq!(Share::percent(0).of(1_000), 10);
        assert_eq!(Share::percent(10).of_size(3), 1);
    }
}
