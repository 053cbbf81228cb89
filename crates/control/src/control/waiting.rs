//! Who waits for answers of shards.

use std::collections::HashMap;
use std::sync::Mutex;

use martlet_broker::Answer;
use tokio::sync::oneshot;

/// Those who wait for an answer, by the number of the request.
pub(super) type PendingAnswers = Mutex<HashMap<u64, oneshot::Sender<Answer>>>;
