//! The client that published a message, for sinks.

/// The client that published a message. A field is `None` if the node does not know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publisher {
    /// Client Identifier.
    pub client_id: Option<String>,
    /// User name that was checked.
    pub user: Option<String>,
    /// Device of the registry.
    pub device: Option<String>,
}
