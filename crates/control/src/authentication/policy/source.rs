//! The interface of a source of credentials.

use std::fmt;
use std::sync::Arc;

use martlet_broker::{Authentication, Refusal, RevokedClients, Rules};
use martlet_registry::Snapshot;

use super::finding::{Looking, Pretending, Refreshing, ScramUser};
use crate::authentication::slots::SlotRequest;
use crate::authentication::sources::Hashing;

/// A place where credentials are kept.
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// Description of the source for logs: `the password file /etc/martlet/passwd`.
    fn name(&self) -> String;

    /// Kind of the source.
    fn kind(&self) -> SourceKind {
        SourceKind::Other
    }

    /// The path of the password file that it is; none: it is something else.
    fn password_file(&self) -> Option<String> {
        None
    }

    /// Looks up these credentials. What is worked out waits by its `slot_request`.
    fn look<'a>(
        &'a self,
        request: &'a Authentication,
        slot_request: &'a SlotRequest,
    ) -> Looking<'a>;

    /// Takes as long as [`CredentialSource::look`] does for a name that it knows and a wrong
    /// password. Called if no source has the name, so that the time does not show that. None: it
    /// takes no time, or the source has no names.
    fn pretend<'a>(
        &'a self,
        request: &'a Authentication,
        slot_request: &'a SlotRequest,
    ) -> Option<Pretending<'a>> {
        let _ = (request, slot_request);
        None
    }

    /// Where it computes hashes of passwords; none: it computes none, or has no names.
    fn hashing(&self) -> Option<&Hashing> {
        None
    }

    /// Record that it keeps of a user's password for SCRAM-SHA-256, whose client has this
    /// identifier. Asked where it blocks no other task, and may take some milliseconds.
    fn scram(&self, user_name: &str, client_id: &str) -> ScramUser {
        let _ = (user_name, client_id);
        ScramUser::Unknown
    }

    /// The rules of a user of this source; none: it has no such user.
    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>>;

    /// Whether it accepts this user name.
    fn knows(&self, user_name: &str) -> Knowledge {
        match self.rules_of(user_name) {
            Some(_) => Knowledge::Yes,
            None => Knowledge::No,
        }
    }

    /// Clients that this source may have accepted for what it held, and that the source of its
    /// kind among `next`, if there is one, would refuse.
    fn no_longer_valid(&self, next: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients>;

    /// The path of its file, if the source has users and the same file is empty in the source of
    /// its kind among `next`, as an interrupted copy leaves it.
    fn emptied_file(&self, next: &[Arc<dyn CredentialSource>]) -> Option<&str> {
        let _ = next;
        None
    }

    /// Source with these tables, otherwise the same; none: it does not look at any.
    fn with_tables(&self, tables: &Arc<Snapshot>) -> Option<Arc<dyn CredentialSource>> {
        let _ = tables;
        None
    }

    /// Source for the users and devices of a tenant; none: the source has no tenants.
    fn in_tenant(&self, tenant: u32) -> Option<Arc<dyn CredentialSource>> {
        let _ = tenant;
        None
    }

    /// The name that a client proves beside the User Name.
    fn name_shown(&self, request: &Authentication) -> Option<String> {
        let _ = request;
        None
    }

    /// The tables that it looks at.
    fn tables(&self) -> Option<&Arc<Snapshot>> {
        None
    }

    /// Which of these users it may have accepted by the tables, and would refuse by newer ones.
    fn removed_from_tables(&self, newer: &Snapshot, names: &[Arc<str>]) -> Vec<RevokedClients> {
        let _ = (newer, names);
        Vec::new()
    }

    /// Takes over from the one of its kind among these what it had found out and holds still.
    fn inherit(&self, older: &[Arc<dyn CredentialSource>]) {
        let _ = older;
    }

    /// Checks from time to time what has changed elsewhere. Returns clients that are no longer
    /// accepted. None: nothing changes elsewhere.
    fn refresh(&self) -> Option<Refreshing<'_>> {
        None
    }

    /// All users of a source that has a list of them.
    fn users(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(std::iter::empty())
    }

    /// One of them has this name.
    fn has_user(&self, user_name: &str) -> bool {
        let _ = user_name;
        false
    }

    /// Whether a client that has proved a name elsewhere is accepted, with this Client Identifier.
    ///
    /// # Errors
    /// Why not.
    fn admits(&self, user_name: &str, client_id: &str) -> Result<(), Refusal> {
        let _ = (user_name, client_id);
        Ok(())
    }

    /// Whether only a device has this name, which it proves here or by a certificate.
    fn has_device(&self, user_name: &str) -> bool {
        let _ = user_name;
        false
    }

    /// Whether it asks another program, which may ask this node in turn.
    fn is_hook(&self) -> bool {
        false
    }

    /// Names of devices are proved here.
    fn proves_devices(&self) -> bool {
        false
    }

    /// When what it holds changes by itself, as when a credential ends: wall clock in milliseconds.
    fn changes_at_ms(&self) -> Option<i64> {
        None
    }

    /// Lets [`CredentialSource::no_longer_valid`] of an older source find its kind.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Kinds of sources, as far as a remedy depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// The registry.
    Registry,
    /// Tokens or the hook: they know more names than can be listed, and may bring rules.
    Proofs,
    /// Another one.
    Other,
}

/// Whether a source knows a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// The source has credentials of that name.
    Yes,
    /// The source has none.
    No,
    /// A client that comes brings the proof, and with it the name.
    ByProof,
}
