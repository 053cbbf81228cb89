//! The node on which a bridge runs.

use std::fmt;
use std::sync::Arc;

use crate::host::Host;

/// The node on which a bridge runs.
#[derive(Clone)]
pub(super) struct BridgeOrigin {
    /// Name of the node.
    pub(super) node: Arc<str>,
    pub(super) host: Arc<dyn Host>,
}

impl fmt::Debug for BridgeOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Route").field(&self.node).finish()
    }
}
