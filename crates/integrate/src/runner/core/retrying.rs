//! Operations that failed and are retried after a pause.

use tracing::{info, warn};

use super::super::handle::Failure;
use super::Core;
use super::retry::{Retry, RetryTarget};

impl Core {
    fn retry(&mut self, what: RetryTarget) -> &mut Retry {
        match what {
            RetryTarget::Sink => &mut self.to_sink,
            RetryTarget::Messages => &mut self.to_messages,
            RetryTarget::Letters => &mut self.to_letters,
            RetryTarget::Store => &mut self.to_store,
            RetryTarget::Node => &mut self.to_node,
        }
    }

    pub(super) fn fail(&mut self, what: RetryTarget, error: String) {
        let (now, now_ms, random) = (self.clock.now(), self.host.now_ms(), self.host.random());
        let backoff = self.settings.backoff;
        self.last_error = Some((error.clone(), now_ms));
        let retry = self.retry(what);
        let is_other = Failure::count(&mut retry.failure, &error, now_ms);
        let attempts = retry.failure.as_ref().map_or(1, |failure| failure.attempts);
        retry.at = Some(now + backoff.pause(attempts, random));
        if is_other && !self.is_stopping {
            warn!(integration = %self.client_id, error, "an integration failed and is tried again");
        }
    }

    pub(super) fn succeed(&mut self, what: RetryTarget) {
        let retry = self.retry(what);
        retry.at = None;
        if let Some(failure) = retry.failure.take() {
            let attempts = failure.attempts;
            info!(integration = %self.client_id, attempts, "an integration works again");
        }
    }
}
