//! Users, and what they may do with the API.

/// Role of a user in the API and the panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiRole {
    /// Everything.
    Administrator,
    /// To change devices, and what belongs to them.
    Operator,
    /// To look.
    Viewer,
    /// Nothing.
    None,
}

impl ApiRole {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Administrator,
        Self::Operator,
        Self::Viewer,
        Self::None,
    ];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::None => "none",
        }
    }

    /// From how it is written.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// A user, as lists show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Role as a client.
    pub role: String,
    /// Role in the API and the panel, of all teams.
    pub api_role: ApiRole,
    /// Whether it is accepted.
    pub enabled: bool,
    /// May be empty.
    pub email: String,
    /// May be empty.
    pub full_name: String,
    /// The id of the team in whose tenant it is when it connects; empty: the common one.
    pub team: String,
    /// That tenant.
    pub tenant: u32,
    /// Raised with every change.
    pub revision: i64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it was last changed.
    pub updated_ms: i64,
    /// When it was deleted; 0: it is there.
    pub deleted_ms: i64,
}
