//! Damage of the file that does not stop the storage: what it concerns is named, and all else goes
//! on.

use tokio::sync::watch;

/// Findings that are told apart. Of a file with more, all are named by the first ones.
pub(crate) const FINDINGS_MAX: usize = 1_000;
/// Findings that are shown.
const SHOWN_MAX: usize = 10;

/// Damage that was found since the storage was opened.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    findings: Vec<String>,
    hides_values: bool,
}

impl Damage {
    /// Number of findings, at most 1,000.
    pub fn count(&self) -> usize {
        self.findings.len()
    }

    /// The first findings, in words.
    pub fn first(&self) -> &[String] {
        &self.findings[..self.findings.len().min(SHOWN_MAX)]
    }

    /// Whether values may be missing from answers without an error: a page does not lead to its
    /// rows any more.
    pub fn hides_values(&self) -> bool {
        self.hides_values
    }
}

/// The damage of a storage, to which each part of it adds. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(watch::Sender<Damage>);

impl Findings {
    /// Adds damaged rows: reading one is an error.
    pub(crate) fn note(&self, found: Vec<String>) {
        self.add(found, false);
    }

    /// Adds damaged pages, from which values may be missing without an error.
    pub(crate) fn note_hiding(&self, found: Vec<String>) {
        self.add(found, true);
    }

    fn add(&self, found: Vec<String>, hides_values: bool) {
        self.0.send_if_modified(|damage| {
            let before = (damage.count(), damage.hides_values);
            damage.hides_values |= hides_values && !found.is_empty();
            for what in found {
                if damage.count() < FINDINGS_MAX && !damage.findings.contains(&what) {
                    damage.findings.push(what);
                }
            }
            (damage.count(), damage.hides_values) != before
        });
    }

    /// The damage so far, and what is found later.
    pub(crate) fn watch(&self) -> watch::Receiver<Damage> {
        self.0.subscribe()
    }

    pub(crate) fn now(&self) -> Damage {
        self.0.borrow().clone()
    }
}
