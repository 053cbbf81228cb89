//! Settings of what is logged, which may be changed while the node runs: the level of everything,
//! of an area for a while, and for a while all that a client does, that comes from an address or
//! that happens to the messages of a topic.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::event_log::TRACED;
use crate::log_lines::LogLines;
use crate::wall_clock::now_ms;
use martlet_broker::TenantId;
use martlet_codec::TopicFilter;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Areas of the log, each with the modules that write its lines.
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

/// Traces at once, at most.
pub const TRACES_MAX: usize = 100;
/// Longest duration of a trace, in minutes, where it is requested by itself.
pub const TRACE_MINUTES_MAX: u32 = 24 * 60;

/// Subject of a trace: everything about it is logged at any log level.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// All that a client of a tenant does, its packets too.
    Client(TenantId, Box<str>),
    /// All that clients from this address do, likewise.
    Address(IpAddr),
    /// Messages whose topic this Topic Filter matches: published, delivered, refused and dropped.
    Topic(Box<str>),
}

/// A subject, and until when: milliseconds since the Unix epoch; none: until it is ended.
pub type Trace = (Subject, Option<u64>);

/// Takes a filter in the form of `log.level` over.
pub type Apply = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Control of what is logged.
pub struct Logging {
    apply: Apply,
    /// The last lines.
    pub lines: LogLines,
    state: Mutex<State>,
    /// There are traces; looked at for each event.
    traces: AtomicBool,
    /// Notified when the logged clients or levels change.
    changed: OnceLock<Changed>,
}

/// Called when something else is logged.
pub type Changed = Box<dyn Fn(&Logging) + Send + Sync>;

#[derive(Debug)]
struct State {
    level: String,
    /// Areas with a level of their own, and until when.
    areas: BTreeMap<&'static str, (String, Option<u64>)>,
    /// Subjects that are traced: everything about them is logged, until the given time.
    traces: BTreeMap<Subject, Option<u64>>,
}

/// A change of the log's levels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LevelChange)]
pub struct Change {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; without an area a whole filter, as
    /// `log.level` has it. None, with an area: the level of all areas again.
    #[serde(default)]
    pub level: Option<String>,
    /// Only for this area.
    #[serde(default)]
    pub area: Option<String>,
    /// Log everything of this client, whatever the level.
    #[serde(default)]
    pub client: Option<String>,
    /// For this number of minutes, then as before; 0 ends it now. None: until it is changed again
    /// or the node ends.
    #[serde(default)]
    pub minutes: Option<u32>,
}

/// Settings of the log that are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Levels {
    /// The level of everything that has no level of its own.
    pub level: String,
    /// Areas with a level of their own.
    pub areas: Vec<AreaLevel>,
    /// Traced clients.
    pub clients: Vec<TracedClient>,
}

/// An area with a level of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AreaLevel {
    /// Name of the area.
    pub area: String,
    /// Level of the area.
    pub level: String,
    /// Until when; none: until it is changed again.
    #[serde(rename = "until", with = "crate::rfc3339::optional")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until_ms: Option<u64>,
}

/// A traced client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TracedClient {
    /// Client Identifier.
    pub client_id: String,
    /// Until when; none: until it is changed again.
    #[serde(rename = "until", with = "crate::rfc3339::optional")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until_ms: Option<u64>,
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging").finish_non_exhaustive()
    }
}

impl Logging {
    /// `level` is in force already; `apply` puts another in its place.
    pub fn new(level: &str, apply: Apply, lines: LogLines) -> Arc<Self> {
        Arc::new(Self {
            apply,
            lines,
            state: Mutex::new(State {
                level: level.to_owned(),
                areas: BTreeMap::new(),
                traces: BTreeMap::new(),
            }),
            traces: AtomicBool::new(false),
            changed: OnceLock::new(),
        })
    }

    /// Sets the function that is called when something else is logged, with what is logged now.
    pub fn on_change(&self, changed: Changed) {
        changed(self);
        // There is one from the start on.
        let _ = self.changed.set(changed);
    }

    /// The traces in force.
    pub fn traces(&self) -> Vec<Trace> {
        let mut state = self.lock();
        state.end_what_is_over();
        let traces = state.traces.iter();
        traces
            .map(|(subject, until_ms)| (subject.clone(), *until_ms))
            .collect()
    }

    /// Logs everything of a subject for this number of minutes; 0 ends it.
    ///
    /// # Errors
    /// There are too many traces already, or the subject is not a valid Topic Filter; as text.
    pub fn trace(self: &Arc<Self>, subject: Subject, minutes: u32) -> Result<(), String> {
        self.set_trace(subject, Some(now_ms() + u64::from(minutes) * 60_000))?;
        self.notify_change();
        self.look_again_in(Duration::from_secs(u64::from(minutes) * 60));
        Ok(())
    }

    /// Ends a trace. Returns whether there was one.
    pub fn end_trace(&self, subject: &Subject) -> bool {
        let was_there = {
            let mut state = self.lock();
            let was_there = state.traces.remove(subject).is_some();
            self.put_traces(&state);
            was_there
        };
        self.notify_change();
        was_there
    }

    fn notify_change(&self) {
        if let Some(changed) = self.changed.get() {
            changed(self);
        }
    }

    /// Changes what is logged. Returns what is in force now.
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
            } => {
                let client = Subject::Client(TenantId::default(), client_id.as_str().into());
                self.set_trace(client, until_ms)?;
            }
            Change {
                client: Some(_), ..
            } => {
                return Err("a trace of a client has no area or level: leave them out".to_owned());
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
                    "minutes are not supported for the level of everything: name an area, or leave \
                     minutes out"
                        .to_owned(),
                );
            }
            Change { .. } => {
                return Err("nothing to change: name a level, an area or a client".to_owned());
            }
        }
        self.notify_change();
        if let Some(minutes) = change.minutes {
            self.look_again_in(Duration::from_secs(u64::from(minutes) * 60));
        }
        Ok(self.levels())
    }

    /// Levels that are in force now.
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
                .traces
                .iter()
                .filter_map(|(subject, until_ms)| match subject {
                    Subject::Client(_, client_id) => Some(TracedClient {
                        client_id: client_id.to_string(),
                        until_ms: *until_ms,
                    }),
                    Subject::Address(_) | Subject::Topic(_) => None,
                })
                .collect(),
        }
    }

    /// Whether there is a trace.
    pub fn has_traces(&self) -> bool {
        self.traces.load(Ordering::Relaxed)
    }

    /// Whether everything of one of these is logged: `is_it` is asked for each trace.
    pub fn is_traced(&self, mut is_it: impl FnMut(&Subject) -> bool) -> bool {
        self.has_traces() && self.lock().traces.keys().any(&mut is_it)
    }

    fn set_level(&self, level: &str) -> Result<(), String> {
        // Else it would be the name of an area, and all others were silent.
        if !level.contains(['=', ',']) && !LEVELS.contains(&level) {
            return Err(format!(
                "{level:?} is not a valid level: {}",
                LEVELS.join(", ")
            ));
        }
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
            return Err(format!(
                "{area:?} is not a valid area: {}",
                known.join(", ")
            ));
        };
        if let Some(level) = level.filter(|level| !LEVELS.contains(level)) {
            return Err(format!(
                "{level:?} is not a valid level: {}",
                LEVELS.join(", ")
            ));
        }
        let mut state = self.lock();
        match level {
            Some(level) => state.areas.insert(area, (level.to_owned(), until_ms)),
            None => state.areas.remove(area),
        };
        state.end_what_is_over();
        (self.apply)(&state.filter())
    }

    fn set_trace(&self, subject: Subject, until_ms: Option<u64>) -> Result<(), String> {
        if let Subject::Topic(filter) = &subject
            && TopicFilter::new(filter).is_err()
        {
            return Err(format!("{filter:?} is not a valid Topic Filter"));
        }
        let mut state = self.lock();
        state.end_what_is_over();
        if state.traces.len() >= TRACES_MAX && !state.traces.contains_key(&subject) {
            return Err(format!("there are {TRACES_MAX} traces: end one first"));
        }
        state.traces.insert(subject, until_ms);
        state.end_what_is_over();
        self.put_traces(&state);
        Ok(())
    }

    /// Has the log let through what is traced now.
    fn put_traces(&self, state: &State) {
        let traces = !state.traces.is_empty();
        self.traces.store(traces, Ordering::Relaxed);
        if let Err(why) = (self.apply)(&state.filter()) {
            tracing::error!(why, "the filter of the log cannot be changed");
        }
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
        self.put_traces(&state);
        drop(state);
        self.notify_change();
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
        self.traces.retain(|_, until_ms| holds(until_ms));
    }

    /// As `tracing_subscriber` takes it.
    fn filter(&self) -> String {
        let mut filter = self.level.clone();
        for (area, target) in AREAS {
            if let Some((level, _)) = self.areas.get(area) {
                filter.push_str(&format!(",{target}={level}"));
            }
        }
        // What is traced by name is written, whatever the level.
        if !self.traces.is_empty() {
            filter.push_str(&format!(",{TRACED}=info"));
        }
        filter
    }
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
        (
            Logging::new("info", Box::new(apply), LogLines::default()),
            applied,
        )
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
        let (logging, applied) = logging();
        let applied = || applied.lock().expect("nobody panics").clone();
        let is_traced = |client: &str| {
            logging.is_traced(|subject| {
                *subject == Subject::Client(TenantId::default(), client.into())
            })
        };
        assert!(!is_traced("c"));
        assert!(logging.change(&change("", "", "c", Some(5))).is_ok());
        assert!(is_traced("c") && !is_traced("d"));
        assert!(logging.change(&change("", "", "c", Some(0))).is_ok());
        assert!(!is_traced("c") && logging.levels().clients.is_empty());
        // The same by itself.
        let client = Subject::Client(TenantId::default(), "c".into());
        assert!(logging.trace(client.clone(), 5).is_ok() && is_traced("c"));
        assert_eq!(logging.levels().clients.len(), 1);
        assert!(logging.change(&change("off", "", "", None)).is_ok());
        assert_eq!(applied(), format!("off,{TRACED}=info"));
        assert!(logging.end_trace(&client) && !is_traced("c"));
        assert_eq!(applied(), "off");
        assert!(!logging.end_trace(&client));
    }

    #[tokio::test]
    async fn there_are_so_many_traces_and_no_more() {
        let (logging, _) = logging();
        let topic = |number: usize| Subject::Topic(format!("t/{number}").into());
        for number in 0..TRACES_MAX {
            assert!(logging.trace(topic(number), 5).is_ok());
        }
        assert!(logging.trace(topic(TRACES_MAX), 5).is_err());
        assert!(logging.trace(topic(7), 10).is_ok(), "that lasts longer");
        assert!(logging.end_trace(&topic(3)));
        assert!(logging.trace(topic(TRACES_MAX), 5).is_ok());
        assert!(logging.trace(Subject::Topic("a/#/b".into()), 5).is_err());
    }
}
