//! The fields of users, and what they may do with the API.

use std::fmt;

use sqlx::any::AnyRow;

use crate::names::check_new_name;
use crate::object::{object, unchecked, word_type};
use crate::{RegistryError, check_text};

/// Role of a user in the API and the panel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiRole {
    /// Everything.
    Administrator,
    /// To change devices, and what belongs to them.
    Operator,
    /// To look.
    Viewer,
    /// Nothing.
    #[default]
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

word_type!(
    ApiRole as "ApiRole",
    "Role in the API and the panel, for all teams. Default: `none`.",
    unknown |_: &AnyRow, _: &str| Ok(ApiRole::None)
);

object! {
    /// A user.
    User in "users";
    /// A user to be added.
    new NewUser {
        /// The password, of 10 characters or more.
        #[schema(value_type = String, format = Password, min_length = 10, max_length = 1024)]
        password: GivenPassword;
        /// Role for the objects of their team in the API and the panel. Default: none.
        team_role: Option<ApiRole>;
    }
    kept {
        /// The tenant of their team.
        @[serde(skip)]
        tenant ("tenant"): u32, [Changed];
        /// Raised with every change; the `ETag` is made of it.
        revision ("revision"): i64, [Changed];
    }
    times {
        /// When they were added.
        created_ms as "created_at", [];
        /// When they were last changed.
        updated_ms as "updated_at", [Changed];
        /// When they were deleted; null: they are not deleted.
        deleted_ms as "deleted_at", [];
        /// When their password was last set.
        password_set_ms as "password_set_at", [];
    }
    given {
        /// User name.
        @[schema(example = "ada")]
        name ("name"): String, new String,
            check check_name, [];
    }
    /// Changes of a user; fields that are not named stay.
    change UserChange set {
        /// Role as a client of MQTT, which says what they may do. Default: `user`; `none` for
        /// viewers, and for users that a team without a tenant adds.
        role ("role"): String, new Option<String>,
            check unchecked, [Audited];
        /// Role in the API and the panel, for all teams, which says what they may do.
        api_role ("api_role"): ApiRole, new #[serde(default)] ApiRole,
            check unchecked, [Audited];
        /// Whether the user is enabled. When a user is disabled, their connections and sessions
        /// end.
        enabled ("enabled"): bool, new #[serde(default = "yes")] bool,
            check unchecked, [];
        /// E-mail address; may be empty.
        email ("email"): String, new #[serde(default)] String,
            check check_email, [];
        /// Full name; may be empty.
        full_name ("full_name"): String, new #[serde(default)] String,
            check check_full_name, [];
        /// Id of the team in whose tenant they connect; empty: the common tenant. A request may
        /// name the team by its id or name.
        team ("team"): String, new #[serde(default)] String,
            check unchecked, [];
    }
}

fn yes() -> bool {
    true
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    check_new_name("user", name)
}

fn check_email(text: &str) -> Result<(), RegistryError> {
    check_text("e-mail address", text)
}

fn check_full_name(text: &str) -> Result<(), RegistryError> {
    check_text("full name", text)
}

/// A password in a request. It is taken out before the user is added.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct GivenPassword(String);

impl GivenPassword {
    /// Takes the password out.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for GivenPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl NewUser {
    /// A user of this name without other data.
    pub fn new(name: &str) -> Self {
        Self {
            password: GivenPassword::default(),
            team_role: None,
            name: name.to_owned(),
            role: None,
            api_role: ApiRole::None,
            enabled: true,
            email: String::new(),
            full_name: String::new(),
            team: String::new(),
        }
    }
}
