//! Where credentials are kept.

mod certificate;
mod credentials;
mod hook;
mod key_source;
mod password_file;
mod people;
mod registry;
mod token;

use std::sync::Arc;

use martlet_broker::{Authentication, Identity, Rules};
use tokio::sync::Semaphore;

pub use certificate::CertificateNames;
pub use credentials::Credentials;
pub use hook::{Hook, HookForm, HookSettings};
pub use jsonwebtoken::Algorithm;
pub use key_source::KeySource;
pub use password_file::PasswordFileSource;
pub use people::People;
pub use registry::RegistrySource;
pub use token::{TokenKeys, TokenSettings, Tokens};

use super::Finding;

/// Hashes of passwords are worked out on this many threads at once: each takes a core.
#[derive(Clone, Debug)]
pub struct Hashing(Arc<Semaphore>);

impl Hashing {
    /// `at_once` hashes at the same time at most.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once.max(1))))
    }

    /// Does `work`, when it is its turn, where it blocks nobody.
    async fn run(&self, work: impl FnOnce() -> Finding + Send + 'static) -> Finding {
        let done = self.work(work).await;
        done.unwrap_or_else(|| Finding::Failed("the hash could not be worked out".to_owned()))
    }

    /// The same for any work; none if it came to no end.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // The semaphore is never closed.
        let _one = self.0.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// A user of a source, by name. Nobody else takes over a session of theirs.
fn known(asked: &Authentication, user_name: Arc<str>, rules: Arc<Rules>) -> Finding {
    Finding::Known(Identity {
        realm: asked.listener.realm,
        user_name: Some(user_name),
        rules,
        bound: true,
        ..Identity::anyone()
    })
}
