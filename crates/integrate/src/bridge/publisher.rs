//! Client Identifiers under which bridges publish.

/// Prefix of the Client Identifiers of the parts through which bridges publish.
pub(crate) const PUBLISHER: &str = "$bridge/";
