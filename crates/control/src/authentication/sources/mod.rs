//! Where credentials are kept.

mod certificate;
mod credentials;
mod hook;
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
        // The semaphore is never closed.
        let Ok(_one) = self.0.acquire().await else {
            return Finding::Failed("the node is stopping".to_owned());
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| Finding::Failed("the hash could not be worked out".to_owned()))
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
