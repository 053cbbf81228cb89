//! The end of a runner's task.

use std::sync::Arc;

use super::handle::{Activity, Shared};

/// Sets the state to ended when the task ends for any reason.
pub(super) struct EndsWith(pub(super) Arc<Shared>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        {
            let mut state = self.0.lock();
            (state.activity, state.is_attached) = (Activity::Ended, false);
        }
        self.0.tell_changed();
    }
}
