//! Results of sources, and the work of finding them.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use martlet_access::scram::Verifier;
use martlet_broker::{Identity, Refusal, RevokedClients};

/// Search for a client; it may take long, and must not block the thread that it runs on.
pub type Looking<'a> = Pin<Box<dyn Future<Output = LookupResult> + Send + 'a>>;

/// Work that takes as long as a search.
pub type Pretending<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Work that looks again; its result is the clients that are refused from now on.
pub type Refreshing<'a> = Pin<Box<dyn Future<Output = Vec<RevokedClients>> + Send + 'a>>;

/// Result of a source.
#[derive(Clone, Debug)]
pub enum LookupResult {
    /// They are.
    Known(Identity),
    /// The source knows the name, and these are not its credentials: no other source is asked.
    Wrong(Refusal),
    /// The identity is proved, or needs no proof, but the client is refused: no other source is
    /// asked, and this is not counted as a failed login.
    NotNow(Refusal),
    /// The source does not know the name; the next source may.
    Stranger,
    /// The source cannot decide: no other source is asked, and the client may try again.
    Failed(Refusal),
    /// One of these, which is remembered no longer than this.
    Within(Box<LookupResult>, Duration),
}

impl LookupResult {
    /// The result, and how long it may be cached, if the source limits that.
    pub(super) fn with_limit(self) -> (Self, Option<Duration>) {
        match self {
            Self::Within(found, most) => (found.with_limit().0, Some(most)),
            found => (found, None),
        }
    }
}

/// Record that a source keeps of a user's password for SCRAM-SHA-256.
#[derive(Clone, Debug)]
pub enum ScramUser {
    /// The source does not know the name, or has no verifiers; the next source may.
    Unknown,
    /// The source knows the name, and has no verifier.
    WithoutVerifier,
    /// The source knows the name, and refuses it; why.
    Barred(Refusal),
    /// The verifier, and the identity of the client with the password.
    Known(Verifier, Identity),
}
