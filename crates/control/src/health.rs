//! Alive, ready, and why not: for Kubernetes' probes and for people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use martlet_broker::TenantId;
use serde::Serialize;

use crate::remedy::Remedy;

/// Clients may be sent to the node.
pub(crate) const READY: &str = "ready";
/// The message store has not been able to write for too long.
pub(crate) const STORE_FAILING: &str = "store_failing";

/// Names the report that the last reload failed.
pub const RELOAD_FAILED: &str = "reload";

/// Names the report that settings wait for a restart.
pub const RESTART_PENDING: &str = "restart";

/// Facts that keep a node from being ready, and facts that its operators should know.
#[derive(Debug, Default)]
pub struct Health {
    environment_file: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    stopping: bool,
    warnings: Vec<String>,
    /// Warnings that may be withdrawn, by name.
    named: BTreeMap<&'static str, NamedWarning>,
    /// Tenants that have their share of the bytes of telemetry.
    at_telemetry_share: Vec<TenantId>,
}

#[derive(Debug)]
struct NamedWarning {
    sentence: String,
    /// Whether it is in the log, perhaps in other words.
    is_logged: bool,
}

/// The readers of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthAudience {
    /// A caller without credentials: names and addresses are left out.
    Anybody,
    /// A caller that may see the state of the node.
    Operator,
}

/// The health of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HealthReport {
    /// `ready`, `starting`, `stopping`, or `store_failing`: the message store has not been able to
    /// write for longer than `limits.store_stalled_secs`.
    pub status: &'static str,
    /// Warnings: what operators should know, in whole sentences.
    pub warnings: Vec<String>,
    /// Notes about what operators have done and should remember, such as a paused integration, in
    /// whole sentences; only operators see it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Remedies for the warnings, for programs; only operators see it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Remedy>,
    /// The `.env` that the configuration was read from; only operators see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_file: Option<String>,
    /// Connections that the node takes at once, by its limits and by the descriptors of the
    /// process; only operators see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u64>,
}

impl Health {
    /// The health of a node whose configuration was read from this `.env` too.
    pub(crate) fn new(environment_file: Option<String>) -> Self {
        Self {
            environment_file,
            state: Mutex::default(),
        }
    }

    /// All listeners are open.
    pub fn set_ready(&self) {
        self.state().ready = true;
    }

    /// The node is on its way out: send it no more clients.
    pub fn set_stopping(&self) {
        self.state().stopping = true;
    }

    /// Something that operators should know.
    pub fn warn(&self, sentence: String) {
        self.state().warnings.push(sentence);
    }

    /// Warns likewise, until it is withdrawn or replaced under that name.
    pub fn warn_as(&self, name: &'static str, sentence: String) {
        self.warn_under(name, sentence, false);
    }

    /// Warns likewise. The caller has logged it too.
    pub fn warn_logged_as(&self, name: &'static str, sentence: String) {
        self.warn_under(name, sentence, true);
    }

    fn warn_under(&self, name: &'static str, sentence: String, is_logged: bool) {
        let warning = NamedWarning {
            sentence,
            is_logged,
        };
        self.state().named.insert(name, warning);
    }

    /// These tenants have their share of the bytes of telemetry.
    pub(crate) fn set_at_telemetry_share(&self, tenants: &BTreeSet<u32>) {
        let tenants = tenants.iter().copied().map(TenantId);
        self.state().at_telemetry_share = tenants.collect();
    }

    /// Tenants that have their share of the bytes of telemetry.
    pub(crate) fn at_telemetry_share(&self) -> Vec<TenantId> {
        self.state().at_telemetry_share.clone()
    }

    /// Warnings that are not in the log.
    pub fn unlogged(&self) -> Vec<String> {
        let state = self.state();
        let named = state.named.values().filter(|one| !one.is_logged);
        let named = named.map(|one| &one.sentence);
        state.warnings.iter().chain(named).cloned().collect()
    }

    /// The report under that name.
    pub fn report_under(&self, name: &str) -> Option<String> {
        let state = self.state();
        state.named.get(name).map(|one| one.sentence.clone())
    }

    /// Whether there is a report under that name.
    pub fn says(&self, name: &str) -> bool {
        self.state().named.contains_key(name)
    }

    /// Withdraws the report under that name.
    pub fn withdraw(&self, name: &str) {
        self.state().named.remove(name);
    }

    /// As of now.
    pub fn report(&self) -> HealthReport {
        let state = self.state();
        let status = match (state.ready, state.stopping) {
            (_, true) => "stopping",
            (true, false) => READY,
            (false, false) => "starting",
        };
        HealthReport {
            status,
            environment_file: self.environment_file.clone(),
            connections_max: None,
            remedies: Vec::new(),
            notes: Vec::new(),
            warnings: state
                .warnings
                .iter()
                .chain(state.named.values().map(|one| &one.sentence))
                .cloned()
                .collect(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
