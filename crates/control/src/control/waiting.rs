//! Requests that wait for answers of shards.

use std::collections::HashMap;
use std::sync::Mutex;

use martlet_broker::Answer;
use tokio::sync::oneshot;

/// The waiting requests, by number.
pub(super) type PendingAnswers = Mutex<HashMap<u64, oneshot::Sender<Answer>>>;
