//! The audit log: changes and their callers.

use martlet_registry::{AuditEntry, AuditFilter, Page, PageRequest, Registry};

use crate::callers::Caller;
use crate::principal::Scope;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};
use martlet_registry::LoggedMessage;

/// Reads a page of the audit log, newest first.
#[derive(Debug)]
pub struct ReadAuditLog {
    /// Which entries.
    pub filter: AuditFilter,
    /// Which page.
    pub page: PageRequest,
}

impl UseCase for ReadAuditLog {
    type Output = Page<AuditEntry>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Page<AuditEntry>, UseCaseError> {
        let visibility = caller.visibility();
        Ok(registry
            .audit_log(&visibility, &self.filter, &self.page)
            .await?)
    }
}

/// Stores messages of another system in the message log. The answer is how many were not in it.
#[derive(Debug)]
pub struct ImportMessages {
    /// The messages.
    pub messages: Vec<LoggedMessage>,
}

impl UseCase for ImportMessages {
    type Output = u64;
    const EFFECT: UseCaseEffect = UseCaseEffect::Notes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<u64, UseCaseError> {
        caller.check_scopes([Scope::MessagesWrite].into())?;
        Ok(registry.log_messages(&self.messages).await?)
    }
}
