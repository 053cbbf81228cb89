//! The chain of the control plane behind the reactors' seam.

use std::sync::Arc;

use anyhow::Context as _;
use martlet_broker::Authentication;
use martlet_control::authentication::{AuthenticationChain, Policy};
use martlet_reactor::{Answer, Authenticator};
use tokio::runtime::Handle;

/// A chain that reactors can ask.
#[derive(Clone, Debug)]
pub(super) struct Doorkeeper(pub(super) AuthenticationChain);

impl Doorkeeper {
    /// Lets in whom the policy knows, where clients are asked who they are.
    pub(super) fn new(policy: Arc<Policy>) -> anyhow::Result<Self> {
        let mut key = [0; 32];
        let mut source = std::fs::File::open("/dev/urandom").context("no source of randomness")?;
        std::io::Read::read_exact(&mut source, &mut key).context("no source of randomness")?;
        Ok(Self(AuthenticationChain::new(
            policy,
            Handle::current(),
            &key,
        )))
    }
}

impl Authenticator for Doorkeeper {
    fn ask(&self, authentication: Authentication, answer: Answer) {
        self.0.ask(authentication, move |found| answer.give(found));
    }
}
