//! What is logged, which may be changed while the node runs: the level of everything, of an area
//! for a while, and all that a client does for a while.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Parts of the node whose lines are told apart, each with the modules that write them.
pub const AREAS: &[(&str, &str)] = &[
    ("clients", "martlet_control::event_log"),
    ("authentication", "martlet_control::authentication"),
    ("registry", "martlet_registry"),
    ("api", "martlet_api"),
    ("integrations", "martlet_control::feed"),
    ("node", "martlet"),
];

/// Levels, from the fewest lines to the most.
pub const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// Clients that are traced at once at most.
const CLIENTS_MAX: usize = 100;

/// Takes a filter in the form of `log.level` over.
pub type Apply = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What is logged.
pub struct Logging {
    apply: Apply,
    state: Mutex<State>,
    /// There are clients that are traced; looked at for each event.
    traces: AtomicBool,
    /// Told when something else is logged than before.
    changed: OnceLock<Changed>,
}

/// What is told when something else is logged.
pub type Changed = Box<dyn Fn(&Logging) + Send + Sync>;

#[derive(Debug)]
struct State {
    level: String,
    /// Areas with a level of their own, and until when.
    areas: BTreeMap<&'static str, (String, Option<u64>)>,
    /// Clients of whom everything is logged, and until when.
    clients: BTreeMap<Box<str>, Option<u64>>,
}

/// What is to be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LevelChange)]
pub struct Change {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; without an area a whole filter, as
    /// `log.level` has it. None, with an area: what holds for all again.
    #[serde(default)]
    pub level: Option<String>,
    /// Of this area alone.
    #[serde(default)]
    pub area: Option<String>,
    /// Of this client everything, whatever the level.
    #[serde(default)]
    pub client: Option<String>,
    /// For so many minutes, then as before; 0 ends it now. None: until it is changed again or the
    /// node ends.
    #[serde(default)]
    pub minutes: Option<u32>,
}

/// What is logged now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Levels {
    /// Of everything.
    pub level: String,
    /// Areas with a level of their own.
    pub areas: Vec<AreaLevel>,
    /// Clients of whom everything is logged.
    pub clients: Vec<TracedClient>,
}

/// An area with a level of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AreaLevel {
    /// Its name.
    pub area: String,
    /// Its level.
    pub level: String,
    /// Milliseconds since the Unix epoch; none: until it is changed again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until_ms: Option<u64>,
}

/// A client of whom everything is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TracedClient {
    /// Client Identifier.
    pub client_id: String,
    /// Milliseconds since the Unix epoch; none: until it is changed again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until_ms: Option<u64>,
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging").finish_non_exhaustive()
    }
}

impl Logging {
    /// `level` is in force already; `apply` puts another in its place.
    pub fn new(level: &str, apply: Apply) -> Arc<Self> {
        Arc::new(Self {
            apply,
            state: Mutex::new(State {
                level: level.to_owned(),
                areas: BTreeMap::new(),
                clients: BTreeMap::new(),
            }),
            traces: AtomicBool::new(false),
            changed: OnceLock::new(),
        })
    }

    /// From now on this is told when something else is logged than before, and of what is now.
    pub fn on_change(&self, changed: Changed) {
        changed(self);
        // There is one from the start on.
        let _ = self.changed.set(changed);
    }

    /// Clients of whom everything is logged.
    pub fn traced(&self) -> Vec<Box<str>> {
        self.lock().clients.keys().cloned().collect()
    }

    fn tell_change(&self) {
        if let Some(changed) = self.changed.get() {
            changed(self);
        }
    }

    /// Changes what is logged; what holds now is the answer.
    ///
    /// # Errors
    /// What is wrong with the wish.
    pub fn change(self: &Arc<Self>, change: &Change) -> Result<Levels, String> {
        let until_ms = change
            .minutes
            .map(|minutes| now_ms() + u64::from(minutes) * 60_000);
        match change {
            Change {
                client: Some(client_id),
                area: None,
                level: None,
                ..
            } => self.trace(client_id, until_ms)?,
            Change {
                client: Some(_), ..
            } => {
                return Err("a client is traced whole: leave area and level out".to_owned());
            }
            Change {
                area: Some(area), ..
            } => self.set_area(area, change.level.as_deref(), until_ms)?,
            Change {
                level: Some(level),
                minutes: None,
                ..
            } => self.set_level(level)?,
            Change { level: Some(_), .. } => {
                return Err(
                    "the level of everything has no end: name an area, or leave minutes out"
                        .to_owned(),
                );
            }
            Change { .. } => {
                return Err("nothing to change: name a level, an area or a client".to_owned());
            }
        }
        self.tell_change();
        if let Some(minutes) = change.minutes {
            self.look_again_in(Duration::from_secs(u64::from(minutes) * 60));
        }
        Ok(self.levels())
    }

    /// What holds now.
    pub fn levels(&self) -> Levels {
        let state = self.lock();
        Levels {
            level: state.level.clone(),
            areas: state
                .areas
                .iter()
                .map(|(area, (level, until_ms))| AreaLevel {
                    area: (*area).to_owned(),
                    level: level.clone(),
                    until_ms: *until_ms,
                })
                .collect(),
            clients: state
                .clients
                .iter()
                .map(|(client_id, until_ms)| TracedClient {
                    client_id: client_id.to_string(),
                    until_ms: *until_ms,
                })
                .collect(),
        }
    }

    /// Everything that this client does is logged.
    pub fn is_traced(&self, client_id: &str) -> bool {
        self.traces.load(Ordering::Relaxed) && self.lock().clients.contains_key(client_id)
    }

    fn set_level(&self, level: &str) -> Result<(), String> {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.level, level.to_owned());
        let applied = (self.apply)(&state.filter());
        if applied.is_err() {
            state.level = before;
        }
        applied
    }

    fn set_area(
        &self,
        area: &str,
        level: Option<&str>,
        until_ms: Option<u64>,
    ) -> Result<(), String> {
        let Some((area, _)) = AREAS.iter().find(|(known, _)| *known == area) else {
            let known: Vec<&str> = AREAS.iter().map(|(known, _)| *known).collect();
            return Err(format!("{area:?} is no area: {}", known.join(", ")));
        };
        if let Some(level) = level.filter(|level| !LEVELS.contains(level)) {
            return Err(format!("{level:?} is no level: {}", LEVELS.join(", ")));
        }
        let mut state = self.lock();
        match level {
            Some(level) => state.areas.insert(area, (level.to_owned(), until_ms)),
            None => state.areas.remove(area),
        };
        state.end_what_is_over();
        (self.apply)(&state.filter())
    }

    fn trace(&self, client_id: &str, until_ms: Option<u64>) -> Result<(), String> {
        let mut state = self.lock();
        if state.clients.len() >= CLIENTS_MAX && !state.clients.contains_key(client_id) {
            return Err(format!(
                "{CLIENTS_MAX} clients are traced already: end one first"
            ));
        }
        state.clients.insert(client_id.into(), until_ms);
        state.end_what_is_over();
        let traces = !state.clients.is_empty();
        self.traces.store(traces, Ordering::Relaxed);
        Ok(())
    }

    fn look_again_in(self: &Arc<Self>, after: Duration) {
        let logging: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(after + Duration::from_millis(1)).await;
            if let Some(logging) = logging.upgrade() {
                logging.look_again();
            }
        });
    }

    fn look_again(&self) {
        let mut state = self.lock();
        state.end_what_is_over();
        self.traces
            .store(!state.clients.is_empty(), Ordering::Relaxed);
        if let Err(why) = (self.apply)(&state.filter()) {
            tracing::error!(why, "the level of the log cannot be put back");
        }
        drop(state);
        self.tell_change();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_what_is_over(&mut self) {
        let now = now_ms();
        let holds = |until_ms: &Option<u64>| until_ms.is_none_or(|until_ms| until_ms > now);
        self.areas.retain(|_, (_, until_ms)| holds(until_ms));
        self.clients.retain(|_, until_ms| holds(until_ms));
    }

    /// As `tracing_subscriber` takes it.
    fn filter(&self) -> String {
        let mut filter = self.level.clone();
        for (area, target) in AREAS {
            if let Some((level, _)) = self.areas.get(area) {
                filter.push_str(&format!(",{target}={level}"));
            }
        }
        filter
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logging() -> (Arc<Logging>, Arc<Mutex<String>>) {
        let applied = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&applied);
        let apply = move |filter: &str| {
            if filter.contains("nonsense") {
                return Err("no filter".to_owned());
            }
            *into.lock().expect("nobody panics") = filter.to_owned();
            Ok(())
        };
        (Logging::new("info", Box::new(apply)), applied)
    }

    fn change(level: &str, area: &str, client: &str, minutes: Option<u32>) -> Change {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Change {
            level: some(level),
            area: some(area),
            client: some(client),
            minutes,
        }
    }

    #[tokio::test]
    async fn a_level_holds_until_it_is_changed_or_over() {
        let (logging, applied) = logging();
        let applied = || applied.lock().expect("nobody panics").clone();
        assert!(logging.change(&change("warn", "", "", None)).is_ok());
        assert_eq!(applied(), "warn");
        assert!(
            logging
                .change(&change("debug", "clients", "", Some(5)))
                .is_ok()
        );
        assert_eq!(applied(), "warn,martlet_control::event_log=debug");
        assert!(
            logging
                .change(&change("debug", "clients", "", Some(0)))
                .is_ok()
        );
        assert_eq!(applied(), "warn");
        assert!(logging.change(&change("nonsense", "", "", None)).is_err());
        assert_eq!(logging.levels().level, "warn");
        for wrong in [
            change("", "", "", None),
            change("debug", "", "", Some(5)),
            change("loud", "clients", "", None),
            change("debug", "kitchen", "", None),
            change("debug", "", "c", None),
        ] {
            assert!(logging.change(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn clients_are_traced_until_it_is_over() {
        let (logging, _) = logging();
        assert!(!logging.is_traced("c"));
        assert!(logging.change(&change("", "", "c", Some(5))).is_ok());
        assert!(logging.is_traced("c") && !logging.is_traced("d"));
        assert!(logging.change(&change("", "", "c", Some(0))).is_ok());
        assert!(!logging.is_traced("c") && logging.levels().clients.is_empty());
    }
}
