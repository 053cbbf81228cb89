//! The Client Identifiers by which bridges publish.

/// Client Identifiers of the parts by which bridges publish begin with this.
pub(crate) const PUBLISHER: &str = "$bridge/";
