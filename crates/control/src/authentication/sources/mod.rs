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
mod vouchers;

use std::sync::Arc;

use martlet_broker::{Authentication, Identity, Rules, Whose};

pub use certificate::CertificateNames;
pub use credentials::Credentials;
pub use hashing::Hashing;
pub use hook::{Hook, HookForm, HookSettings};
pub use jsonwebtoken::Algorithm;
pub use key_source::KeySource;
pub use password_file::PasswordFileSource;
pub use people::People;
pub use registry::RegistrySource;
pub use token::{TokenKeys, TokenSettings, Tokens};

use super::Finding;

/// A user of a source, by name. Nobody else takes over a session of theirs.
fn known(asked: &Authentication, user_name: Arc<str>, rules: Arc<Rules>) -> Finding {
    Finding::Known(Identity {
        realm: asked.listener.realm,
        user_name: Some(user_name),
        rules,
        bound: true,
        ..Identity::anyone()
    })
}

/// A user whose credentials are taken back.
fn user(name: &str) -> Whose {
    Whose::User(name.into())
}
