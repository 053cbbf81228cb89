//! What became of each name of late, for longer than single entries are kept: the same thing again
//! and again is one run, with its first and last time and how often.

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::aging::Aging;
use crate::cause::Cause;

/// Names that are remembered; when there are more, those of whom nothing was heard for longest go.
const NAMES: usize = 50_000;

/// Runs of a name that are remembered.
const RUNS: usize = 12;

/// The same thing, perhaps again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What went wrong; none: nothing did.
    pub cause: Option<Cause>,
    /// When it was first so without anything else between, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How often.
    pub count: u64,
    /// The last of them.
    pub last: Entry,
}

/// Runs by tenant and name: a Client Identifier, or a user name.
#[derive(Debug, Default)]
pub(super) struct Runs(Aging<(u32, Box<str>), Vec<Run>>);

impl Runs {
    pub(super) fn note(&mut self, entry: &Entry) {
        let user = entry.user_name.as_deref().unwrap_or_default();
        self.note_of(&entry.client_id, entry);
        if user != entry.client_id {
            self.note_of(user, entry);
        }
    }

    fn note_of(&mut self, name: &str, entry: &Entry) {
        if name.is_empty() {
            return;
        }
        let key = (entry.tenant, Box::from(name));
        let mut runs = self.0.take(&key).unwrap_or_default();
        put(&mut runs, entry);
        self.0.put(key, runs);
        if self.0.len() > NAMES {
            self.0.take_oldest();
        }
    }

    /// Of a name of a tenant, the latest last.
    pub(super) fn of(&self, tenant: u32, name: &str) -> Vec<Run> {
        let key = (tenant, Box::from(name));
        self.0.get(&key).cloned().unwrap_or_default()
    }
}

fn put(runs: &mut Vec<Run>, entry: &Entry) {
    let cause = Cause::of(entry);
    let is_same = |run: &Run| {
        let last = &run.last;
        let is_one_of_many = matches!(cause, Some(Cause::ProtocolError | Cause::Other));
        run.cause == cause
            && (!is_one_of_many || last.why == entry.why)
            && (&last.what, &last.topic) == (&entry.what, &entry.topic)
            && last.client_id == entry.client_id
    };
    let mut run = Run {
        cause,
        since_ms: entry.at_ms,
        count: 1,
        last: entry.clone(),
    };
    if let Some(at) = runs.iter().position(is_same) {
        let before = runs.remove(at);
        // Who was let in meanwhile is refused anew.
        let is_interrupted = cause.is_some_and(Cause::is_at_door)
            && runs[at..]
                .iter()
                .any(|later| later.last.what == "connected");
        if !is_interrupted {
            (run.since_ms, run.count) = (before.since_ms, before.count + 1);
        }
    } else if runs.len() >= RUNS {
        runs.remove(0);
    }
    runs.push(run);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_ms: u64, what: &str, client_id: &str, why: &str) -> Entry {
        Entry {
            at_ms,
            what: what.to_owned(),
            client_id: client_id.to_owned(),
            user_name: Some("user".to_owned()),
            why: Some(why.to_owned()),
            ..Entry::default()
        }
    }

    #[test]
    fn the_same_again_is_one_run_until_the_client_was_let_in() {
        let mut runs = Runs::default();
        let wrong = "the password is not that of x";
        for at_ms in [10, 20, 30] {
            runs.note(&entry(at_ms, "connect refused", "c", wrong));
        }
        let found = runs.of(0, "c");
        assert_eq!((found[0].since_ms, found[0].count, found.len()), (10, 3, 1));
        assert_eq!(runs.of(0, "user"), found);
        runs.note(&entry(40, "connected", "c", ""));
        runs.note(&entry(50, "connect refused", "c", wrong));
        let found = runs.of(0, "c");
        assert_eq!((found[1].since_ms, found[1].count, found.len()), (50, 1, 2));
    }

    #[test]
    fn two_rules_of_mqtt_that_are_broken_are_two() {
        let mut runs = Runs::default();
        for why in ["a second CONNECT", "no Topic Name", "a second CONNECT"] {
            let reason = martlet_codec::ReasonCode::ProtocolError.name();
            runs.note(&Entry {
                reason: Some(reason.to_owned()),
                ..entry(1, "disconnected", "c", why)
            });
        }
        let found = runs.of(0, "c");
        let counts: Vec<u64> = found.iter().map(|run| run.count).collect();
        assert_eq!(counts, [1, 2]);
    }

    #[test]
    fn names_and_runs_are_bounded() {
        let mut runs = Runs::default();
        for number in 0..RUNS as u64 + 5 {
            let topic = Some(number.to_string());
            let entry = Entry {
                topic,
                ..entry(number, "publish refused", "c", "x")
            };
            runs.note(&entry);
        }
        assert_eq!(runs.of(0, "c").len(), RUNS);
        (0..NAMES).for_each(|number| runs.note(&entry(1, "connected", &number.to_string(), "")));
        assert!(runs.of(0, "c").is_empty() && runs.0.len() <= NAMES);
    }
}
