//! Where credentials are kept.

mod certificate;
mod credentials;
mod hashing;
mod hook;
mod key_source;
mod password_file;
mod people;
mod registry;
mod token;
mod token_keys;
mod vouchers;

use std::sync::Arc;

use martlet_broker::{Authentication, Identity, Proof, RevokedClients, Rules};

pub use certificate::CertificateNames;
pub use credentials::Credentials;
pub use hashing::Hashing;
pub use hook::{Hook, HookForm, HookSettings};
pub use jsonwebtoken::Algorithm;
pub use key_source::KeySource;
pub use password_file::PasswordFileSource;
pub use people::People;
pub use registry::RegistrySource;
pub use token::{TokenSettings, Tokens};
pub use token_keys::TokenKeys;

use super::LookupResult;

/// A user of a source, by name. No other user takes over its sessions.
fn known(request: &Authentication, user_name: Arc<str>, rules: Arc<Rules>) -> LookupResult {
    LookupResult::Known(Identity {
        tenant: request.realm.tenant(),
        realm: request.realm,
        user_name: Some(user_name),
        proof: Proof::Password,
        rules,
        bound: true,
        ..Identity::anyone()
    })
}

/// A user whose credentials are taken back.
fn user(name: &str) -> RevokedClients {
    RevokedClients::User(name.into())
}

/// Error in a text, and where; a value that is wrong may be a secret in the wrong place.
fn without_values(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let what = match error.classify() {
        serde_json::error::Category::Data => "another kind of value was expected",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
    };
    format!("{what} at line {line}, column {column}")
}
