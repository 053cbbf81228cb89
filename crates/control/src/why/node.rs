//! What is so with the node: its store, its tables, its configuration, its memory and its backup.

use martlet_broker::{EventKind, Limit};

use super::facts::{Facts, StoreTrouble};
use super::found::{Bearing, Found, RECENT_MS, is_connected, uncapitalized};
use super::{Diagnosis, Finding, Question};
use crate::cause::Cause;
use crate::control::Control;
use crate::journal::remedy_of_limit;
use crate::restore_note::RestoreNote;
use crate::rfc3339;
use crate::store::StoreState;
use crate::wall_clock::now_ms;

/// Time after a restore in which what it lacks is still missed.
const RESTORED_RECENTLY_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Faults of the message store: all publishers with QoS 1 or 2 wait for it.
pub(super) fn store(facts: &Facts) -> Option<(Bearing, Finding)> {
    let session = facts.session.as_ref();
    let waits = session.is_some_and(|session| session.waits_for_store);
    match facts.store.as_ref()? {
        StoreTrouble::Failing(error) => {
            let sentence =
                format!("the message store cannot write, so nothing is acknowledged: {error}");
            let finding = Finding::new(Cause::StoreFailing, sentence)
                .remedy("make room on the disk, or check it; for details, run martlet status");
            Some((Bearing::Topic, finding))
        }
        StoreTrouble::Full { why, remedy } => {
            let (bearing, sentence) = match waits {
                true => (Bearing::Topic, format!("its publishes wait: {why}")),
                false => (
                    // What keeps a client away is reported first.
                    match is_connected(facts) {
                        true => Bearing::Happened,
                        false => Bearing::Remark,
                    },
                    format!("messages with QoS 1 and 2 wait, from all publishers: {why}"),
                ),
            };
            let mut finding = Finding::new(Cause::StoreFull, sentence);
            finding.remedy.clone_from(remedy);
            Some((bearing, finding))
        }
        StoreTrouble::Slow if waits => {
            let sentence = "its publishes wait: the disk is too slow for what is published";
            let remedy = "publish less, or give the data directory a faster disk";
            Some((
                Bearing::Topic,
                Finding::new(Cause::StoreSlow, sentence).remedy(remedy),
            ))
        }
        StoreTrouble::Slow => None,
    }
}

/// The tables cannot be used: clients of before come in, and nothing that is to be written goes on.
pub(super) fn tables(facts: &Facts) -> Option<(Bearing, Finding)> {
    let sentence = "the tables of users and devices cannot be used: commands, changes and telemetry \
                    in them fail or wait, and logins use the copy in memory";
    let finding = Finding::new(Cause::TablesFailing, sentence)
        .remedy("correct what the database reports; the log of the node has its error");
    facts.tables_fail.then_some((Bearing::Aside, finding))
}

/// Faults of the message store, in the words for callers that see the whole node or not.
pub(super) fn store_trouble(state: StoreState, sees_node: bool) -> Option<StoreTrouble> {
    let shown = |why: String| match sees_node {
        true => why,
        false => "ask the operator of the node for details".to_owned(),
    };
    if let Some((_, error)) = state.failing {
        return Some(StoreTrouble::Failing(shown(error)));
    }
    if let Some(why) = state.low {
        let limit = match state.is_at_limit {
            true => Limit::StoreBytes,
            false => Limit::DiskFull,
        };
        let remedy = remedy_of_limit(limit).filter(|_| sees_node);
        return Some(StoreTrouble::Full {
            why: match sees_node {
                true => why,
                false => "the message store is full".to_owned(),
            },
            remedy: remedy.map(|worded| worded.text),
        });
    }
    state.behind.then_some(StoreTrouble::Slow)
}

/// What there is to find of a start of the node that came after something was kept for the client.
pub(super) fn forgotten(facts: &Facts) -> Found {
    let Some(started_ms) = facts.in_memory_since else {
        return Found::new();
    };
    let is_recent = facts.now_ms.saturating_sub(started_ms) <= RECENT_MS;
    let is_before = |ms: u64| ms > 0 && ms < started_ms;
    let last = facts.presence.as_ref().map(|presence| presence.since_ms);
    let connects = facts
        .runs
        .iter()
        .filter(|run| run.last.what == EventKind::Connected);
    let connects: u64 = connects.map(|run| run.count).sum();
    // It has logged in more often than since the start.
    let was_known = facts.logins > connects || last.is_some_and(is_before);
    // Without it, nothing was kept while it was away.
    let has_lasting_session = facts
        .session
        .as_ref()
        .is_some_and(|session| session.session_expiry_secs > 0);
    let bearing = if facts.is_integration {
        Bearing::Aside
    } else if !was_known {
        return Found::new();
    } else if is_connected(facts) {
        match is_recent && has_lasting_session {
            true => Bearing::Happened,
            false => Bearing::Aside,
        }
    } else if last.is_some_and(is_before) {
        match is_recent {
            true => Bearing::Happened,
            false => Bearing::Remark,
        }
    } else {
        return Found::new();
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
    vec![(bearing, finding.since(started_ms))]
}

/// Adds a reload that failed, and settings that wait for a restart. A name or a rule that is
/// missing is perhaps in the files that the node could not read: then the reload is the headline.
pub(super) fn with_configuration(facts: &Facts, mut diagnosis: Diagnosis) -> Diagnosis {
    if let Some(pending) = &facts.restart_pending
        && diagnosis.finding.cause == Cause::NobodyKnown
    {
        let finding = &mut diagnosis.finding;
        finding
            .sentence
            .push_str(&format!("; {}", uncapitalized(pending)));
        let otherwise = finding.remedy.take();
        let otherwise = otherwise.map_or_else(String::new, |remedy| format!(". Else {remedy}"));
        let name = &diagnosis.name;
        finding.remedy = Some(format!(
            "if the configuration has {name}, restart the node{otherwise}"
        ));
    }
    if let Some(failure) = &facts.reload_failed {
        let finding = Finding::new(Cause::ReloadFailed, uncapitalized(failure))
            .remedy("correct what the error names; the node reads the file again by itself");
        let is_likely = Cause::ReloadFailed.suppresses(diagnosis.finding.cause);
        match diagnosis.wrong && is_likely {
            true => {
                let other = std::mem::replace(&mut diagnosis.finding, finding);
                diagnosis.also.insert(0, other);
            }
            false => diagnosis.also.push(finding),
        }
    }
    diagnosis
}

/// Adds to a name that is unknown, or a password that is wrong, that the backup which was restored
/// may be older.
pub(super) fn with_restore(facts: &Facts, mut finding: Finding) -> Finding {
    let is_of_name = facts.from_address.is_none();
    let Some(restored) = facts.restored.as_ref().filter(|_| is_of_name) else {
        return finding;
    };
    let missing = match finding.cause {
        Cause::UnknownName | Cause::NobodyKnown if facts.registered_as.is_none() => {
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

    /// Files with certificates of listeners, and when they end.
    pub(super) fn server_certificates(&self) -> Vec<(String, u64)> {
        let facts = self.node_facts();
        let own = facts.certificates.iter();
        let own = own.filter(|one| one.used_as == "server");
        let ends_ms = |secs: i64| u64::try_from(secs.saturating_mul(1_000)).unwrap_or(0);
        own.map(|one| (one.file.clone(), ends_ms(one.not_after_secs)))
            .collect()
    }

    /// What health reports under this name, for a caller that may see the node.
    pub(super) fn warning(&self, question: &Question, name: &str) -> Option<String> {
        let seen = question.sees_node.then(|| self.health.report_under(name));
        seen.flatten()
    }
}
