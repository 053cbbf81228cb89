//! How long messages were under way.

/// How long the messages that a shard sent were under way inside the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    /// Upper bounds in seconds, rising, each with the messages that are above the one before; the
    /// last is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all of them, in seconds.
    pub sum_secs: f64,
}
