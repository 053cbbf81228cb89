//! An asynchronous result of the node.

use std::future::Future;
use std::pin::Pin;

/// An asynchronous result.
pub type HostFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
