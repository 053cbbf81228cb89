//! Whose a name is.

/// Kind of the owner of a name: a user or a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    /// A user's.
    User,
    /// A device's.
    Device,
}

impl AccountKind {
    /// As commands call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Device => "device",
        }
    }
}
