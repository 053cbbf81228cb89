//! An answer of the node that is waited for.

use std::future::Future;
use std::pin::Pin;

/// An answer that is waited for.
pub type HostFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
