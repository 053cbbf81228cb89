//! Where credentials are kept.

mod certificate;
mod credentials;
mod hashing;
mod hook;
mod key_source;
mod password_file;
mod registry;
mod token;
mod token_keys;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use martlet_access::{AclFile, IotflowBase, default_rules};
use martlet_broker::{Authentication, Identity, Proof, RevokedClients, Rules, Voucher};

use super::LookupResult;

pub use certificate::CertificateNames;
pub use credentials::Credentials;
pub use hashing::Hashing;
pub use hook::{Hook, HookForm, HookSettings};
pub use jsonwebtoken::Algorithm;
pub use key_source::KeySource;
pub use password_file::PasswordFileSource;
pub use registry::RegistrySource;
pub use token::{TokenSettings, Tokens};
pub use token_keys::TokenKeys;

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

/// The rules of an ACL file, or the defaults where there is none.
#[derive(Clone, Debug)]
pub struct People {
    acl: Option<Arc<AclFile>>,
    default: Arc<Rules>,
}

impl People {
    /// With an ACL file only what it names is permitted; without one all but the node's own topics.
    pub fn new(acl: Option<Arc<AclFile>>, iotflow_base: &IotflowBase) -> Self {
        Self {
            acl,
            default: default_rules(iotflow_base),
        }
    }

    /// Rules of a user; none is anonymous.
    pub fn rules_of(&self, user_name: Option<&str>) -> Arc<Rules> {
        match &self.acl {
            Some(acl) => acl.rules_for(user_name),
            None => Arc::clone(&self.default),
        }
    }
}

type VoucherNumbers = HashMap<[u8; SHA256_OUTPUT_LEN], u32>;

/// One for the process, as connections outlive policies. Not for secrets: it has digests alone.
static KNOWN: OnceLock<Mutex<VoucherNumbers>> = OnceLock::new();

/// Voucher that is of this kind and has these parts.
fn voucher_of(kind: &str, parts: &[&[u8]]) -> Voucher {
    let mut all = Vec::new();
    for part in [kind.as_bytes()].iter().chain(parts) {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    let mut key = [0; SHA256_OUTPUT_LEN];
    key.copy_from_slice(digest(&SHA256, &all).as_ref());
    let mut known = KNOWN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let next = u32::try_from(known.len() + 1).unwrap_or(u32::MAX);
    Voucher(*known.entry(key).or_insert(next))
}

/// Vouchers of the old that are not among the new.
fn removed_vouchers(old: &[Voucher], new: &[Voucher]) -> Vec<RevokedClients> {
    let removed = old.iter().filter(|voucher| !new.contains(voucher));
    removed.copied().map(RevokedClients::Voucher).collect()
}
