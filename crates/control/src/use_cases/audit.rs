//! The audit log: changes and their callers.

use martlet_registry::{AuditEntry, AuditFilter, Page, PageRequest, Registry};

use crate::callers::Caller;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

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
