//! The topic memory, while the node runs.

use std::sync::Arc;

use martlet_control::Control;
use martlet_control::topic_memory::{TopicMemory, remember_topics};

/// Starts to record topics.
pub(super) fn start(topics: &Arc<TopicMemory>, control: &Arc<Control>) {
    let counted = Arc::clone(topics);
    control.count_also("topics", Box::new(move || counted.memory_bytes()));
    tokio::spawn(remember_topics(Arc::clone(control), Arc::clone(topics)));
}
