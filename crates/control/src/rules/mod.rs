//! Rules about messages, while the node runs: those of the configuration and those of the tables,
//! and what follows from messages.
//!
//! The rules of each tenant have an integration of their own, `rules/main` or `rules/TEAM/main`,
//! which takes what they look at: with a durable queue and a thread, as all integrations have. So
//! the rules of one team neither wait for those of another, nor hold back its publishers. An action
//! is done at least once: after a crash, or if the tables do not answer, the rules look at a
//! message again.
//!
//! * `counts`: what was counted, and the last error
//! * `devices`: types and tags of devices
//! * `guarded`: panics of expressions
//! * `metrics`: metrics of rules
//! * `on_topics`: what a rule has made of the last message of each topic
//! * `publish`: the parts by which rules and alarms publish
//! * `queues`: the integrations of the tenants
//! * `why`: what `why` reports of a rule
//! * `sink`: the integration
//! * `action_counts`: counts of actions
//! * `actions`: what follows from a message is done
//! * `stored`: rules of the tables, changed and followed
//! * `webhooks`: webhooks that rules have of their own
//! * `trial`: rules that are tried on messages, and nothing is done

mod action_counts;
mod actions;
mod counts;
mod devices;
mod guarded;
mod metrics;
mod on_topics;
mod other_keys;
pub(crate) mod publish;
mod queues;
mod sink;
mod stored;
mod trial;
mod webhooks;
mod why;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use martlet_broker::TenantId;
use martlet_integrate::name_of_team;
pub use martlet_rules::{ActionDefinition, Definition, DefinitionError, RuleSource};
use martlet_rules::{Evaluator, MessageRule, MessageRules, PREVIOUS_MAX, Previous};
use serde_json::{Map, Value};
use tracing::warn;

pub use counts::{MissingMember, RuleCounts};
pub use on_topics::{LastOnTopic, TopicResult};
pub(crate) use publish::{PostError, Posted, Publisher};
pub use stored::{RuleChange, RuleError, VisibleRule};
pub use trial::{TrialOutcome, TriedMessage};

use crate::alarms::Alarms;
use crate::commands::Commands;
use crate::control::Control;
use crate::feed::{PublishedKinds, publish_events};
use crate::integrations::Integrations;
use crate::shared_registry::SharedRegistry;
use crate::shared_slots::SharedSlots;
use crate::telemetry::Telemetry;
use action_counts::ActionCounts;
use counts::Counts;
use devices::RuleDevices;
use guarded::GuardedRule;
use other_keys::OtherKeys;

/// Kind of the integrations, and their name in their tenants.
pub(crate) const KIND: &str = "rules";
const NAME: &str = "main";
/// Trials that run at one time.
const TRIALS_MAX: usize = 3;

/// A rule of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfiguredRule {
    /// Name.
    pub name: String,
    /// Name or id of the team whose messages it looks at; empty: the common tenant.
    pub team: String,
    /// Definition of the rule.
    pub definition: Definition,
}

impl ConfiguredRule {
    /// Checks its definition.
    ///
    /// # Errors
    /// A key is missing or not what it may be.
    pub fn check(&self) -> Result<(), DefinitionError> {
        check(&self.name, &self.definition).map(drop)
    }
}

/// Checks a definition, and returns the rule.
///
/// # Errors
/// A key is missing or not what it may be.
pub fn check(name: &str, definition: &Definition) -> Result<MessageRule, DefinitionError> {
    let rule = guarded::read(&Arc::default(), name, definition)?;
    if let RuleSource::Events(kinds) = rule.source() {
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind_of_event(kind)).collect();
        let parsed = PublishedKinds::parse(&kinds.join(","));
        parsed.map_err(|error| DefinitionError {
            key: "events".to_owned(),
            why: error.to_string(),
        })?;
    }
    Ok(rule)
}

/// Kind of events, also by a short name.
fn kind_of_event(name: &str) -> &str {
    match name {
        "inactive" => "device_inactive",
        "active" => "device_active",
        name => name,
    }
}

/// A definition with the whole names of events.
fn with_kinds(mut definition: Definition) -> Definition {
    for kind in &mut definition.events {
        *kind = kind_of_event(kind).to_owned();
    }
    definition
}

/// Where a rule is from.
#[derive(Clone, Debug)]
struct RuleOrigin {
    /// Id of the team, or its name in the configuration; empty: the common tenant.
    team: String,
    /// Name in its team.
    name: String,
    /// Name among all rules, see [`Rules::key_of`].
    key: String,
    is_configured: bool,
}

/// Parts that a webhook of a rule is made of: its team and its settings.
type MadeWebhook = (String, Map<String, Value>);

/// The rules in force.
#[derive(Debug, Default)]
struct InForce {
    set: MessageRules,
    /// The place of each rule of the set.
    places: Vec<RuleOrigin>,
    /// The rules of the set.
    rules: Vec<GuardedRule>,
}

/// Parts of the node that rules use.
pub struct RuleParts {
    /// The control plane.
    pub control: Arc<Control>,
    /// The tables, which have rules.
    pub tables: Arc<SharedRegistry>,
    /// Integrations, among which that of the rules is.
    pub integrations: Arc<Integrations>,
    /// The telemetry; none: it is off.
    pub telemetry: Option<Arc<Telemetry>>,
    /// Commands to devices.
    pub commands: Arc<Commands>,
    /// Alarms that rules raise.
    pub alarms: Arc<Alarms>,
}

/// The integrations of all tenants with rules, by name.
type Queues = BTreeMap<String, RuleQueue>;

/// Messages that the integration of a tenant takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RuleQueue {
    /// Name of the team that owns the tenant; empty: the common one.
    team: String,
    /// Topic Filters.
    filters: Vec<String>,
}

/// The rules of a node that runs.
pub struct Rules {
    control: Arc<Control>,
    tables: Arc<SharedRegistry>,
    integrations: Arc<Integrations>,
    telemetry: Option<Arc<Telemetry>>,
    commands: Arc<Commands>,
    alarms: Arc<Alarms>,
    configured: Vec<ConfiguredRule>,
    /// Reads the rules in force.
    evaluator: Arc<Evaluator>,
    in_force: RwLock<Arc<InForce>>,
    counts: Mutex<BTreeMap<String, Counts>>,
    actions: ActionCounts,
    devices: RuleDevices,
    /// Places of trials, by tenant.
    trials: SharedSlots<u32>,
    /// Kinds of events that are published as messages.
    published: Mutex<BTreeSet<String>>,
    /// Held while rules are read again.
    changing: tokio::sync::Mutex<()>,
    /// The stamp of the rules of the tables that are in force.
    stamp: Mutex<Option<martlet_registry::RulesStamp>>,
    /// Teams of rules that are not in force, since these have no tenant of their own.
    waiting_teams: Mutex<BTreeSet<String>>,
    /// The integrations that run, by name.
    queues: Mutex<Queues>,
    /// Values that the rules of all tenants remember for `previous`.
    previous: Arc<Mutex<Previous>>,
    /// Keys of values at which no rule has looked.
    other_keys: Mutex<OtherKeys>,
    /// Webhooks of rules that run, by name.
    webhooks: Mutex<BTreeMap<String, MadeWebhook>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rules {
    /// How many values may be remembered for `previous`, and how many each tenant has.
    pub(crate) fn previous_values(&self) -> (usize, Vec<(u32, usize)>) {
        let previous = lock(&self.previous);
        (previous.count_max(), previous.counts().collect())
    }

    /// The rules of a node that has these valid ones in its configuration. `published` are kinds of
    /// events that the node publishes as messages in any case.
    pub fn new(
        parts: RuleParts,
        configured: Vec<ConfiguredRule>,
        published: BTreeSet<String>,
    ) -> Self {
        let team_share = parts.control.info.limits.team_share();
        Self {
            devices: RuleDevices::new(Arc::clone(&parts.tables)),
            tables: parts.tables,
            integrations: parts.integrations,
            telemetry: parts.telemetry,
            commands: parts.commands,
            alarms: parts.alarms,
            configured,
            evaluator: Arc::default(),
            in_force: RwLock::default(),
            counts: Mutex::default(),
            actions: ActionCounts::default(),
            trials: SharedSlots::new(TRIALS_MAX, team_share),
            published: Mutex::new(published),
            changing: tokio::sync::Mutex::default(),
            stamp: Mutex::default(),
            waiting_teams: Mutex::default(),
            queues: Mutex::default(),
            previous: Arc::new(Mutex::new(Previous::new(PREVIOUS_MAX))),
            other_keys: Mutex::default(),
            webhooks: Mutex::default(),
            control: parts.control,
        }
    }

    fn in_force(&self) -> Arc<InForce> {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&in_force)
    }

    /// The number of the tenant of a team; none: it has none of its own.
    fn tenant_of(&self, team: &str) -> Option<TenantId> {
        match team {
            "" => Some(TenantId::default()),
            team => self.control.tenant_of_team(team),
        }
    }

    /// The name of a rule among all of the node: `NAME`, or `TEAM/NAME` of one of the tables that
    /// is a team's.
    fn key_of(&self, team: &str, name: &str, is_configured: bool) -> String {
        match (team, is_configured) {
            ("", _) | (_, true) => name.to_owned(),
            // Of a team without a tenant no rule is in force.
            (team, false) => match self.tenant_of(team) {
                Some(tenant) => name_of_team(&self.team_name(tenant), name),
                None => name_of_team(team, name),
            },
        }
    }

    fn origin(&self, team: &str, name: &str, is_configured: bool) -> RuleOrigin {
        RuleOrigin {
            team: team.to_owned(),
            name: name.to_owned(),
            key: self.key_of(team, name, is_configured),
            is_configured,
        }
    }

    /// Puts the rules of the configuration and these into force.
    fn put_in_force(&self, stored: &[(RuleOrigin, Definition)]) {
        let configured = self.configured.iter().map(|rule| {
            let place = self.origin(&rule.team, &rule.name, true);
            (place, &rule.definition)
        });
        let stored = stored.iter().map(|(place, one)| (place.clone(), one));
        let before = self.in_force();
        let known = before.places.iter().zip(&before.rules);
        let known: HashMap<&str, &GuardedRule> = known
            .map(|(place, rule)| (place.key.as_str(), rule))
            .collect();
        let (mut rules, mut places) = (Vec::<GuardedRule>::new(), Vec::<RuleOrigin>::new());
        let (mut keys, mut waiting) = (BTreeSet::new(), BTreeSet::new());
        for (place, definition) in configured.chain(stored) {
            let name = &*place.name;
            let tenant = self.tenant_of(&place.team);
            // A name of the configuration is also one of its team.
            let is_taken = keys.contains(&place.key)
                || places.iter().zip(&rules).any(|(other, rule)| {
                    other.is_configured
                        && other.name == place.name
                        && tenant == Some(TenantId(rule.tagged.tenant))
                });
            if is_taken {
                warn!(
                    name,
                    "a rule of the tables is not in force: the configuration has its name"
                );
                continue;
            }
            let Some(tenant) = tenant else {
                let team = &*place.team;
                warn!(
                    name,
                    team, "a rule is not in force: its team has no tenant of its own"
                );
                waiting.insert(place.team);
                continue;
            };
            let definition = with_kinds(definition.clone());
            // One that was not changed stays as it is, with what has gone wrong with it.
            let known = known.get(place.key.as_str()).copied();
            let rule = match known.filter(|rule| rule.is_same(tenant.0, &definition)) {
                Some(known) => Ok(known.clone()),
                None => guarded::read(&self.evaluator, name, &definition)
                    .map(|rule| GuardedRule::new(tenant.0, rule)),
            };
            match rule {
                Ok(rule) => {
                    keys.insert(place.key.clone());
                    rules.push(rule);
                    places.push(place);
                }
                Err(error) => warn!(name, %error, "a rule is not in force"),
            }
        }
        *lock(&self.waiting_teams) = waiting;
        let mut counts = lock(&self.counts);
        counts.retain(|key, _| keys.contains(key));
        for key in keys {
            counts.entry(key).or_default();
        }
        drop(counts);
        let tagged = rules.iter().map(|rule| &rule.tagged);
        let names = tagged.map(|one| (one.tenant, one.rule.name())).collect();
        lock(&self.previous).keep_rules(&names);
        let set = guarded::set_of(&self.evaluator, &rules);
        self.publish_kinds(&set.events());
        let mut in_force = self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *in_force = Arc::new(InForce { set, places, rules });
        drop(in_force);
        self.follow_values();
    }

    /// Has values of the keys that rules look at handed over when they arrive by HTTP.
    fn follow_values(&self) {
        if let Some(telemetry) = self.telemetry.as_ref() {
            let in_force = self.in_force();
            telemetry.hand_to_rules(in_force.set.keys().map(str::to_owned).collect());
        }
    }

    /// Has events of these kinds published as messages.
    fn publish_kinds(&self, kinds: &[&str]) {
        let mut published = lock(&self.published);
        let missing: Vec<&str> = kinds
            .iter()
            .copied()
            .filter(|kind| published.insert((*kind).to_owned()))
            .collect();
        if let Ok(Some(kinds)) = PublishedKinds::parse(&missing.join(",")) {
            tokio::spawn(publish_events(Arc::clone(&self.control), kinds));
        }
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}
