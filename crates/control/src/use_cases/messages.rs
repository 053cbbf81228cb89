//! Messages that other programs read and confirm.

use martlet_registry::{LoggedMessage, Registry};

use crate::callers::Caller;
use crate::principal::Scope;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

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
