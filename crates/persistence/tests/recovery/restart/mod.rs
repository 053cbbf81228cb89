//! State that is kept over a restart, with one shard and several, after a stop, a kill and a power
//! loss, and with a different number of shards.

mod expiry;
mod retained;
mod sessions;
mod shares;
mod users;
mod wills;

use crate::node::{End, StoredNode};

/// Plays `before`, restarts in each way, plays `after`.
fn restarts(before: &str, after: &str) {
    restarts_with(&[], before, after);
}

fn restarts_with(settings: &[(&str, &str)], before: &str, after: &str) {
    let settings: Vec<(String, String)> = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let ends = [End::Stop, End::Kill, End::PowerCut(1), End::PowerCut(2)];
    for (shards_before, shards_after) in [(1, 1), (3, 3), (1, 3), (3, 1), (2, 5)] {
        for end in ends {
            println!("{shards_before} shards, then {shards_after}, {end:?}");
            let mut node = StoredNode::with_settings(shards_before, &settings);
            node.play(before);
            let mut node = node.restart(end, shards_after, 10);
            assert_eq!(node.report.damaged, 0, "{:?}", node.report);
            node.play(after);
            // And restored data is restored again.
            let node = node.restart(end, shards_before, 10);
            assert_eq!(node.report.damaged, 0, "{:?}", node.report);
        }
    }
}
