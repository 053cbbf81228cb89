//! State of the node: its store, its tables, its configuration, its memory and its backup.

use martlet_broker::Limit;

use super::asked::Asked;
use super::examine::{Examine, Findings};
use super::found::uncapitalized;
use super::{Bearing, Diagnosis, Finding, order};
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::event_kind::EventKind;
use crate::health::{RELOAD_FAILED, RESTART_PENDING};
use crate::journal::remedy_of_limit;
use crate::restore_note::RestoreNote;
use crate::rfc3339;
use crate::shared_registry::SharedRegistry;
use crate::store::StoreState;
use crate::wall_clock::now_ms;

/// Time after a restore in which what it lacks is still missed.
const RESTORED_RECENTLY_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// The durability of a node that keeps messages in memory only.
const MEMORY: &str = "memory";

/// The node itself.
pub(crate) struct Node<'a>(pub(crate) Option<&'a SharedRegistry>);

/// Facts about the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    /// How the message store is.
    pub(crate) store: Option<StoreState>,
    /// The tables of users and devices cannot be used now.
    pub(crate) tables_fail: bool,
    /// How often the device has logged in, as far as the tables have it.
    pub(crate) logins: u64,
    /// Since when the node keeps messages, if it keeps them in memory only.
    pub(crate) in_memory_since: Option<u64>,
    /// The backup of users and devices that the node goes on from was restored recently.
    pub(crate) restored: Option<RestoreNote>,
    /// Why the last reload of the configuration failed, in words.
    pub(crate) reload_failed: Option<String>,
    /// Settings that wait for a restart, in words.
    pub(crate) restart_pending: Option<String>,
}

impl Examine for Node<'_> {
    type Facts = NodeFacts;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<NodeFacts, ControlError> {
        let question = &asked.question;
        let logins = match self.0 {
            Some(tables) => tables.logins(question.tenant, &question.name).await.ok(),
            None => Some(0),
        };
        let warning = |name| {
            let seen = question
                .sees_node
                .then(|| control.health.report_under(name));
            seen.flatten()
        };
        Ok(NodeFacts {
            store: control.store_state(),
            tables_fail: logins.is_none() && question.sees_node,
            // Of a user with several clients it is not known which of them has logged in.
            logins: logins.filter(|_| asked.clients.is_empty()).unwrap_or(0),
            in_memory_since: (control.info.durability == MEMORY)
                .then(|| now_ms().saturating_sub(control.uptime().as_millis() as u64)),
            restored: control.restored_recently(),
            reload_failed: warning(RELOAD_FAILED),
            restart_pending: warning(RESTART_PENDING),
        })
    }

    fn judge(facts: &NodeFacts, asked: &Asked, findings: &mut Findings) {
        let found = &mut findings.found;
        found.extend(facts.store.as_ref().and_then(|state| store(asked, state)));
        if facts.tables_fail {
            let sentence = "the tables of users and devices cannot be used: commands, changes and \
                            telemetry in them fail or wait, and logins use the copy in memory";
            let finding = Finding::new(Cause::TablesFailing, sentence)
                .remedy("correct what the database reports; the log of the node has its error");
            found.push((Bearing::Aside, finding));
        }
        found.extend(forgotten(asked, facts));
    }
}

/// Faults of the message store: all publishers with QoS 1 or 2 wait for it, or those of a team
/// that has its share of it. A caller that does not
/// see the whole node is not told why.
fn store(asked: &Asked, state: &StoreState) -> Option<(Bearing, Finding)> {
    let sees_node = asked.question.sees_node;
    let session = asked.session.as_ref();
    let waits = session.is_some_and(|session| session.waits_for_store);
    if let Some((_, error)) = &state.failing {
        let error = match sees_node {
            true => error,
            false => "ask the operator of the node for details",
        };
        let sentence =
            format!("the message store cannot write, so nothing is acknowledged: {error}");
        let finding = Finding::new(Cause::StoreFailing, sentence)
            .remedy("make room on the disk, or check it; for details, run martlet status");
        return Some((Bearing::Topic, finding));
    }
    if let Some(why) = &state.low {
        let limit = match state.is_at_limit {
            true => Limit::StoreBytes,
            false => Limit::DiskFull,
        };
        let remedy = Some(remedy_of_limit(limit)).filter(|_| sees_node);
        let (bearing, whose) = match (waits, asked.is_connected) {
            (true, _) => (Bearing::Topic, "its publishes wait"),
            (false, true) => (Bearing::Happened, FROM_ALL),
            // What keeps a client away is reported first.
            (false, false) => (Bearing::Remark, FROM_ALL),
        };
        let why = match sees_node {
            true => why,
            false => "the message store is full",
        };
        let finding = Finding::new(Cause::StoreFull, format!("{whose}: {why}"));
        return Some((bearing, Finding { remedy, ..finding }));
    }
    if waits && state.at_share.binary_search(&asked.question.tenant).is_ok() {
        let sentence = format!("its publishes wait: {}", Limit::TeamStore.words());
        let finding = Finding::new(Cause::StoreFull, sentence);
        let finding = finding.remedy(remedy_of_limit(Limit::TeamStore));
        return Some((Bearing::Topic, finding));
    }
    let sentence = "its publishes wait: the disk is too slow for what is published";
    let remedy = "publish less, or give the data directory a faster disk";
    let finding = Finding::new(Cause::StoreSlow, sentence).remedy(remedy);
    (state.behind && waits).then_some((Bearing::Topic, finding))
}

/// Publishes that wait for a store that is full.
const FROM_ALL: &str = "messages with QoS 1 and 2 wait, from all publishers";

/// Findings about a start of the node that came after something was kept for the client.
fn forgotten(asked: &Asked, facts: &NodeFacts) -> Option<(Bearing, Finding)> {
    let started_ms = facts.in_memory_since?;
    let is_recent = asked.is_recent(started_ms);
    let is_before = |ms: u64| ms > 0 && ms < started_ms;
    let last = asked.presence.as_ref().map(|presence| presence.since_ms);
    let was_there = last.is_some_and(is_before);
    let runs = asked.runs.iter();
    let connects = runs.filter(|run| run.last.what == EventKind::Connected);
    // It has logged in more often than since the start.
    let was_known = facts.logins > connects.map(|run| run.count).sum() || was_there;
    // Without it, nothing was kept while it was away.
    let session = asked.session.as_ref();
    let has_lasting_session = session.is_some_and(|session| session.session_expiry_secs > 0);
    let bearing = match asked.is_connected {
        _ if asked.is_integration => Bearing::Aside,
        true if was_known && is_recent && has_lasting_session => Bearing::Happened,
        true if was_known => Bearing::Aside,
        false if was_there && is_recent => Bearing::Happened,
        false if was_there => Bearing::Remark,
        _ => return None,
    };
    let sentence = format!(
        "the node was started on {} and keeps messages in memory only (store.durability is \
         \"memory\"): sessions, subscriptions, retained messages and queued messages from before \
         that are lost",
        rfc3339::in_words(started_ms)
    );
    let finding = Finding::new(Cause::KeptInMemory, sentence).remedy(
        "have the clients subscribe and publish again; to keep messages across a restart, set \
         store.durability to \"sync\" or \"interval\" and restart the node",
    );
    Some((bearing, finding.since(started_ms)))
}

/// Adds a reload that failed, and settings that wait for a restart. A name or a rule that is
/// missing is perhaps in the files that the node could not read: then the reload is the headline.
pub(super) fn with_configuration(facts: &NodeFacts, mut diagnosis: Diagnosis) -> Diagnosis {
    if let Some(pending) = &facts.restart_pending
        && diagnosis.finding.cause == Cause::NobodyKnown
    {
        let mut finding = diagnosis.finding;
        finding
            .sentence
            .push_str(&format!("; {}", uncapitalized(pending)));
        let name = &diagnosis.name;
        diagnosis.finding = finding.try_first(&format!(
            "if the configuration has {name}, restart the node"
        ));
    }
    if let Some(failure) = &facts.reload_failed {
        let finding = Finding::new(Cause::ReloadFailed, uncapitalized(failure))
            .remedy("correct what the error names; the node reads the file again by itself");
        order::before_what_follows(&mut diagnosis, finding);
    }
    diagnosis
}

/// Adds to a name that is unknown, or a password that is wrong, that the backup which was restored
/// may be older.
pub(super) fn with_restore(asked: &Asked, facts: &NodeFacts, mut finding: Finding) -> Finding {
    let Some(restored) = facts.restored.as_ref().filter(|_| !asked.is_address) else {
        return finding;
    };
    let missing = match finding.cause {
        Cause::UnknownName | Cause::NobodyKnown if !asked.is_registered => {
            "a user or device that was added after that backup is not in the tables"
        }
        Cause::WrongPassword if finding.last_ms >= Some(restored.restored_ms) => {
            "a credential that was set after that backup is not in the tables"
        }
        _ => return finding,
    };
    let at = rfc3339::in_words(restored.restored_ms);
    let backup = match restored.backup_ms {
        Some(ms) => format!("a backup of {}", rfc3339::in_words(ms)),
        None => "a backup".to_owned(),
    };
    finding.sentence.push_str(&format!(
        "; the node was restored on {at} from {backup}: {missing}"
    ));
    finding
}

impl Control {
    /// The restore of users and devices from a backup, if it was a while ago at most.
    pub(crate) fn restored_recently(&self) -> Option<RestoreNote> {
        let restored = self.info.restored.clone()?;
        let ago_ms = now_ms().saturating_sub(restored.restored_ms);
        (restored.has_tables && ago_ms <= RESTORED_RECENTLY_MS).then_some(restored)
    }
}
