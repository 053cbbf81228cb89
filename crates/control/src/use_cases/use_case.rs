//! Definition of a use case, and how a node runs it.

use std::future::Future;
use std::sync::Arc;

use martlet_registry::Registry;

use crate::callers::Caller;
use crate::shared_registry::{SharedRegistry, WorkOf};
use crate::use_cases::error::UseCaseError;

/// Effect of a use case on the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseCaseEffect {
    /// The use case reads.
    Reads,
    /// The use case changes the registry, but no rights.
    Notes,
    /// The use case changes the registry, and the node applies the change before it answers.
    Changes,
}

/// Request of a caller for work with the registry, as a value.
pub trait UseCase: Send + 'static {
    /// The answer.
    type Output: Send + 'static;

    /// Effect of the use case on the registry.
    const EFFECT: UseCaseEffect;

    /// Checks the rights of the caller, then reads or changes the registry.
    ///
    /// # Errors
    /// The caller may not, or it cannot be done.
    fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> impl Future<Output = Result<Self::Output, UseCaseError>> + Send;
}

impl SharedRegistry {
    /// Runs a use case in this node. When it returns, what it has changed is in force.
    ///
    /// # Errors
    /// The caller may not, or it cannot be done.
    pub async fn run<U: UseCase>(
        self: &Arc<Self>,
        caller: Caller,
        case: U,
    ) -> Result<U::Output, UseCaseError> {
        match U::EFFECT {
            UseCaseEffect::Reads => {
                self.read_as(move |registry| work(registry, caller, case))
                    .await
            }
            effect @ (UseCaseEffect::Notes | UseCaseEffect::Changes) => {
                let is_applied = effect == UseCaseEffect::Changes;
                self.write_as(is_applied, move |registry| work(registry, caller, case))
                    .await
            }
        }
    }
}

fn work<U: UseCase>(
    registry: &mut Registry,
    caller: Caller,
    case: U,
) -> WorkOf<'_, U::Output, UseCaseError> {
    Box::pin(async move { case.run(registry, &caller).await })
}
