//! The node and its tables, as a runner of an integration sees them.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use martlet_broker::{PartLine, PartOutlet, PartSpec, TenantId};
use martlet_integrate::{Asked, DeadLetterStore, Host, SavedState, Settings};
use martlet_registry::{DeadLetterCount, DeadLettersKept, IntegrationState};

use super::letters::Letters;
use crate::control::Control;
use crate::tables::Tables;
use crate::wall_clock::now_ms;

/// Time that the number of dead letters is waited for.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);
/// States as they stand in the tables.
const RUNNING: &str = "running";
const PAUSED: &str = "paused";
const STOPPED: &str = "stopped";

/// The node for its integrations.
pub(super) struct NodeHost {
    control: Arc<Control>,
    tables: Arc<Tables>,
    node: String,
    letters: Letters,
}

impl NodeHost {
    pub(super) fn new(
        control: Arc<Control>,
        tables: Arc<Tables>,
        node: &str,
        kept: DeadLettersKept,
    ) -> Self {
        Self {
            letters: Letters::new(Arc::clone(&tables), node, kept),
            control,
            tables,
            node: node.to_owned(),
        }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Number of stored dead letters of each integration that has some; none while the tables do
    /// not answer.
    pub(super) async fn letters_stored(&self) -> Option<Vec<DeadLetterCount>> {
        let node = self.node.clone();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.dead_letter_counts(&node).await })
        });
        let read = tokio::time::timeout(COUNTED_WITHIN, read).await;
        read.ok()?.ok()
    }

    /// Forgets the states of all integrations but these, so that one of the same name begins anew.
    pub(super) async fn forget_states(&self, kept: &[Settings]) -> Result<(), String> {
        if !self.tables.are_there() {
            return Ok(());
        }
        let node = self.node.clone();
        let kept = kept.iter();
        let kept = kept.map(|one| (one.kind.to_owned(), one.name.to_string()));
        let kept: Vec<(String, String)> = kept.collect();
        let done = self.tables.note(move |registry| {
            Box::pin(async move { registry.forget_integration_states(&node, &kept).await })
        });
        done.await.map_err(|error| error.told())
    }
}

impl Host for NodeHost {
    fn attach(&self, spec: PartSpec, outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine> {
        self.control.shards.attach(spec, outlet)
    }

    fn tenant(&self, name: &str) -> Option<TenantId> {
        match name {
            "" => Some(TenantId::default()),
            team => self.control.tenant_of_team(team),
        }
    }

    fn waiting<'a>(&'a self, tenant: TenantId, client_id: &'a str) -> Asked<'a, Option<u64>> {
        Box::pin(async move {
            let found = self.control.client(tenant, client_id, 0).await.ok()?;
            let messages = found.map(|found| found.info.queued + found.info.in_flight);
            Some(messages.unwrap_or(0) as u64)
        })
    }

    fn saved_state<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
    ) -> Asked<'a, Result<SavedState, String>> {
        Box::pin(async move {
            let (node, kind, name) = (self.node.clone(), kind.to_owned(), name.to_owned());
            let read = self.tables.read(move |registry| {
                Box::pin(async move { registry.integration_state(&node, &kind, &name).await })
            });
            let found = read.await.map_err(|error| error.told())?;
            Ok(match found {
                Some(found) if found.state == PAUSED => SavedState::Paused,
                Some(found) if found.state == STOPPED => SavedState::Stopped(found.reason),
                _ => SavedState::Running,
            })
        })
    }

    fn save_state<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
        state: SavedState,
    ) -> Asked<'a, Result<(), String>> {
        Box::pin(async move {
            let (node, kind, name) = (self.node.clone(), kind.to_owned(), name.to_owned());
            let (state, reason) = match state {
                SavedState::Running => (RUNNING, String::new()),
                SavedState::Paused => (PAUSED, String::new()),
                SavedState::Stopped(reason) => (STOPPED, reason),
            };
            let state = IntegrationState {
                state: state.to_owned(),
                reason,
            };
            let written = self.tables.note(move |registry| {
                Box::pin(async move {
                    let of = (kind.as_str(), name.as_str());
                    registry.write_integration_state(&node, of, &state).await
                })
            });
            written.await.map_err(|error| error.told())
        })
    }

    fn dead_letters(&self) -> &dyn DeadLetterStore {
        &self.letters
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // Without a source of randomness there is no jitter.
        let _ = rand::fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }
}
