//! All rules of a node, and their results for a message. A payload is parsed once for all rules,
//! and only rules whose Topic Filters may match are examined.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cel::{Context, Value};
use martlet_codec::QoS;

use crate::alarm::{AlarmKey, Check, Limit, LimitSide, Observation};
use crate::alarm_input::AlarmInput;
use crate::arithmetic::{number, short};
use crate::expression::{Evaluator, Variables, evaluate, is_true};
use crate::facts::{DeviceFacts, Facts, PAYLOAD_BYTES_MAX, RuleInput};
use crate::filter::Levels;
use crate::fuel;
use crate::guard::{self, Guard, Unguarded};
use crate::hops::HOPS_MAX;
use crate::memory::{Memory, PreviousKey};
use crate::problem::Problem;
use crate::rule::{AlarmTest, CheckedAction, MessageRule, RuleSource};
use crate::template::Template;
use crate::value::{kept, of_json, of_members, of_payload, of_text, of_texts, to_json};

/// A rule with its tenant.
#[derive(Clone, Debug)]
pub struct TaggedRule {
    /// Tenant of the messages that it examines.
    pub tenant: u32,
    /// The rule.
    pub rule: Arc<MessageRule>,
}

impl TaggedRule {
    fn needs_device(&self) -> bool {
        let definition = &self.rule.definition;
        definition.device_type.is_some()
            || definition.device_tag.is_some()
            || self.rule.variables.has("device")
    }
}

/// A consequence of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Publish a message.
    Publish {
        /// Topic Name; not yet validated, because it is computed from the message.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
        /// QoS.
        qos: QoS,
        /// RETAIN.
        retain: bool,
    },
    /// Send a request through a webhook.
    Webhook {
        /// Name of the webhook.
        name: String,
        /// Whether the webhook belongs to the rule.
        is_own: bool,
        /// Payload of the webhook's message.
        payload: Vec<u8>,
    },
    /// Send a command to a device.
    Command {
        /// Id of the device.
        device: String,
        /// The last level of its topic.
        kind: String,
        /// Name of the command.
        command: String,
        /// JSON.
        parameters: String,
        /// Time limit of the device, seconds.
        expires_secs: u32,
    },
    /// Store a value of a device.
    Telemetry {
        /// Id of the device.
        device: String,
        /// Key.
        key: String,
        /// The value.
        value: serde_json::Value,
    },
    /// Pass an observation to the alarms.
    Alarm(Box<AlarmInput>),
}

/// Result of a rule for a message.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleResult {
    /// The rule's condition is true, with these actions.
    Matched(Vec<Action>),
    /// The rule's condition is true, with these actions. Publishing is left out: according to the
    /// message, rules have passed it on too often.
    Withheld(Vec<Action>),
    /// The rule's condition is false.
    Unmatched,
    /// The message belongs to no device, or the device does not match the rule.
    OtherDevice,
    /// A member or variable is missing, so its condition is false.
    Missing(String),
    /// The rule has failed.
    Failed(String),
    /// Rules have passed the message on too often: it is not examined.
    Loop,
    /// An earlier rule, with this number, has stopped the message: it is not examined.
    Stopped(usize),
}

/// Result of a rule for a message, unless it fails.
enum Judged {
    /// The rule's actions, and whether it stops the message for later rules.
    Matched(Vec<Action>, bool),
    Unmatched,
    OtherDevice,
}

/// A rule and its result for a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Index of the rule in the set.
    pub rule: usize,
    /// Result of the rule.
    pub verdict: RuleResult,
}

/// The rules of a node, in their order.
pub struct MessageRules {
    evaluator: Arc<Evaluator>,
    guard: Box<dyn Guard>,
    rules: Vec<TaggedRule>,
    /// Rules of topics by the first level of their filters.
    by_level: HashMap<String, Vec<(usize, Levels)>>,
    /// Rules whose filters begin with a wildcard.
    wild: Vec<(usize, Levels)>,
    by_key: HashMap<String, Vec<usize>>,
    by_event: HashMap<String, Vec<usize>>,
}

impl Default for MessageRules {
    fn default() -> Self {
        Self::new(Evaluator::default(), Vec::new())
    }
}

impl std::fmt::Debug for MessageRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MessageRules").field(&self.rules).finish()
    }
}

impl MessageRules {
    /// These rules, parsed by `evaluator`. Panics of expressions are not caught.
    pub fn new(evaluator: impl Into<Arc<Evaluator>>, rules: Vec<TaggedRule>) -> Self {
        Self::guarded(evaluator, rules, Box::new(Unguarded))
    }

    /// These rules, parsed by `evaluator` and run by `guard`.
    pub fn guarded(
        evaluator: impl Into<Arc<Evaluator>>,
        rules: Vec<TaggedRule>,
        guard: Box<dyn Guard>,
    ) -> Self {
        let mut set = Self {
            evaluator: evaluator.into(),
            guard,
            rules: Vec::new(),
            by_level: HashMap::new(),
            wild: Vec::new(),
            by_key: HashMap::new(),
            by_event: HashMap::new(),
        };
        for (at, tagged) in rules.iter().enumerate() {
            if !tagged.rule.definition.is_enabled() {
                continue;
            }
            match &tagged.rule.source {
                RuleSource::Topics(filters) => {
                    for filter in filters {
                        let levels = Levels::of(filter);
                        let alike = match levels.first_literal() {
                            Some(first) => set.by_level.entry(first.to_owned()).or_default(),
                            None => &mut set.wild,
                        };
                        alike.push((at, levels));
                    }
                }
                RuleSource::Telemetry(key) => set.by_key.entry(key.clone()).or_default().push(at),
                RuleSource::Events(kinds) => {
                    for kind in kinds {
                        set.by_event.entry(kind.clone()).or_default().push(at);
                    }
                }
            }
        }
        set.rules = rules;
        set
    }

    /// The rules.
    pub fn rules(&self) -> &[TaggedRule] {
        &self.rules
    }

    /// Enabled rules.
    fn acting(&self) -> impl Iterator<Item = &TaggedRule> {
        let rules = self.rules.iter();
        rules.filter(|one| one.rule.definition.is_enabled())
    }

    /// Returns the inputs of each tenant's enabled rules; tenants without such rules are left out.
    pub fn sources(&self) -> BTreeMap<u32, Vec<&RuleSource>> {
        let mut sources = BTreeMap::<u32, Vec<&RuleSource>>::new();
        for one in self.acting() {
            sources
                .entry(one.tenant)
                .or_default()
                .push(&one.rule.source);
        }
        sources
    }

    /// Names of alarms that enabled rules may raise, with their tenants.
    pub fn alarm_names(&self) -> HashSet<(u32, String)> {
        let mut names = HashSet::new();
        for one in self.acting() {
            if one.rule.alarm.is_some() {
                names.insert((one.tenant, one.rule.name.clone()));
            }
            for action in &one.rule.actions {
                if let CheckedAction::Raise { name, .. } = action {
                    names.insert((one.tenant, name.clone()));
                }
            }
        }
        names
    }

    /// Kinds of events that rules use.
    pub fn events(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self.by_event.keys().map(String::as_str).collect();
        kinds.sort_unstable();
        kinds
    }

    /// Whether rules use telemetry.
    pub fn has_telemetry(&self) -> bool {
        !self.by_key.is_empty()
    }

    /// Keys of telemetry that rules use.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.by_key.keys().map(String::as_str)
    }

    /// Whether rules use values of this key.
    pub fn looks_at_key(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// Indexes of the rules that may match a message, in order.
    fn candidates(&self, facts: &Facts<'_>) -> Vec<usize> {
        let mut found: Vec<usize> = match &facts.source {
            RuleInput::Message => {
                let first = facts.topic.split('/').next().unwrap_or_default();
                let literal = self.by_level.get(first);
                let all = literal.into_iter().flatten().chain(&self.wild);
                all.filter(|(_, levels)| levels.match_topic(facts.topic))
                    .map(|(at, _)| *at)
                    .collect()
            }
            RuleInput::Telemetry { key, .. } => self.by_key.get(key).cloned().unwrap_or_default(),
            RuleInput::Event(kind) => self.by_event.get(*kind).cloned().unwrap_or_default(),
        };
        found.retain(|at| {
            self.rules.get(*at).is_some_and(|one| {
                let is_own = facts.by_rule == Some(one.rule.name.as_str());
                one.tenant == facts.tenant && (!is_own || one.rule.definition.own)
            })
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether any rule may match a message.
    pub fn looks_at(&self, facts: &Facts<'_>) -> bool {
        !self.candidates(facts).is_empty()
    }

    /// Whether a rule needs types and tags of devices.
    pub fn needs_devices(&self) -> bool {
        self.rules.iter().any(|one| one.needs_device())
    }

    /// Ids of devices whose type and tags the rules need for a message.
    pub fn devices_of(&self, facts: &Facts<'_>) -> Vec<String> {
        let candidates = self.candidates(facts);
        let rules = candidates
            .iter()
            .filter_map(|at| Some((*at, self.rules.get(*at)?)));
        let needing: Vec<(usize, &TaggedRule)> =
            rules.filter(|(_, one)| one.needs_device()).collect();
        if needing.is_empty() {
            return Vec::new();
        }
        let mut ids: Vec<String> = facts.device.iter().map(|one| one.id.clone()).collect();
        for (at, one) in needing {
            if let Some(device) = &one.rule.device {
                let text = guard::run(&*self.guard, at, || {
                    fuel::give(fuel::UNITS_OF_DEVICE);
                    let scope = self.scope_of(facts, device.variables()).0;
                    device.text(&scope).ok()
                });
                // The rule fails again at its evaluation, which is reported then.
                ids.extend(text.ok().flatten());
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The variables of a message, and the value that becomes `previous`.
    fn scope_of<'a>(
        &'a self,
        facts: &'a Facts<'_>,
        used: Variables,
    ) -> (Context<'a, 'a>, Option<Value>) {
        let mut scope = self.evaluator.scope();
        let mut current = None;
        if used.has("time") {
            scope.add_variable_from_value("time", Value::Int(facts.time_ms));
        }
        let takes = |name: &str| used.has(name) || used.has("previous");
        match &facts.source {
            RuleInput::Message => {
                if used.has("topic") {
                    scope.add_variable_as_val("topic", of_text(facts.topic));
                }
                if used.has("levels") {
                    let levels = of_texts(facts.topic.split('/'));
                    scope.add_variable_as_val("levels", levels);
                }
                if takes("payload") && facts.payload.len() <= PAYLOAD_BYTES_MAX {
                    let payload = of_payload(facts.payload);
                    if used.has("previous") {
                        current = kept(&payload);
                    }
                    scope.add_variable_as_val("payload", payload);
                }
            }
            RuleInput::Telemetry { key, value } => {
                if used.has("topic") {
                    scope.add_variable_as_val("topic", of_text(facts.topic));
                }
                if used.has("levels") {
                    let levels = of_texts(facts.topic.split('/'));
                    scope.add_variable_as_val("levels", levels);
                }
                if used.has("key") {
                    scope.add_variable_as_val("key", of_text(key));
                }
                if takes("value") {
                    let value = of_json(value);
                    if used.has("previous") {
                        current = kept(&value);
                    }
                    scope.add_variable_as_val("value", value);
                }
            }
            RuleInput::Event(_) => {
                if used.has("event") && facts.payload.len() <= PAYLOAD_BYTES_MAX {
                    scope.add_variable_as_val("event", of_payload(facts.payload));
                }
            }
        }
        (scope, current)
    }

    /// Results of the rules for a message, or for one of its values. `lookup` returns the device
    /// of an id.
    pub fn evaluate(
        &self,
        facts: &Facts<'_>,
        lookup: &dyn Fn(&str) -> Option<DeviceFacts>,
        memory: &mut Memory,
    ) -> Vec<Outcome> {
        let candidates = self.candidates(facts);
        if candidates.is_empty() {
            return Vec::new();
        }
        let rules = candidates
            .iter()
            .filter_map(|at| Some((*at, self.rules.get(*at)?)));
        let used = rules.clone().fold(Variables::default(), |all, (_, one)| {
            all.or(one.rule.variables)
        });
        let (scope, current) = self.scope_of(facts, used);
        let mut outcomes = Vec::with_capacity(candidates.len());
        let mut stopped_by = None;
        for (at, one) in rules {
            if let Some(earlier) = stopped_by {
                let verdict = RuleResult::Stopped(earlier);
                outcomes.push(Outcome { rule: at, verdict });
                continue;
            }
            let judge = Judge {
                facts,
                rule: &one.rule,
                scope: &scope,
                current: current.as_ref(),
            };
            let units = memory.units_of(at);
            let judged = guard::run(&*self.guard, at, || {
                fuel::give(units);
                judge.verdict(lookup, memory)
            });
            memory.note_used(at, units.saturating_sub(fuel::left()));
            let (verdict, stops) = judged.unwrap_or_else(|why| (RuleResult::Failed(why), false));
            outcomes.push(Outcome { rule: at, verdict });
            stopped_by = stops.then_some(at);
        }
        outcomes
    }
}

/// Evaluates one rule for one message.
struct Judge<'a> {
    facts: &'a Facts<'a>,
    rule: &'a MessageRule,
    scope: &'a Context<'a, 'a>,
    /// The value that becomes `previous` for the next message.
    current: Option<&'a Value>,
}

impl Judge<'_> {
    fn verdict(
        &self,
        lookup: &dyn Fn(&str) -> Option<DeviceFacts>,
        memory: &mut Memory,
    ) -> (RuleResult, bool) {
        let withholds = self.facts.told_hops >= HOPS_MAX;
        if self.facts.hops >= HOPS_MAX || withholds && self.rule.does_nothing_but_publish() {
            return (RuleResult::Loop, false);
        }
        match self.judge(withholds, lookup, memory) {
            Ok(Judged::Matched(actions, stops)) => {
                let has_published = self.rule.publishes();
                let verdict = match withholds && has_published {
                    true => RuleResult::Withheld(actions),
                    false => RuleResult::Matched(actions),
                };
                (verdict, stops)
            }
            Ok(Judged::Unmatched) => (RuleResult::Unmatched, false),
            Ok(Judged::OtherDevice) => (RuleResult::OtherDevice, false),
            Err(Problem::Missing(name)) => {
                let is_large = self.facts.payload.len() > PAYLOAD_BYTES_MAX;
                let verdict = match is_large && matches!(name.as_str(), "payload" | "event") {
                    true => RuleResult::Failed(format!(
                        "the payload has {} bytes, rules look into {PAYLOAD_BYTES_MAX} at most",
                        self.facts.payload.len()
                    )),
                    false => RuleResult::Missing(name),
                };
                (verdict, false)
            }
            Err(Problem::Failed(why)) => (RuleResult::Failed(why), false),
        }
    }

    /// If `withholds`, nothing is published.
    fn judge(
        &self,
        withholds: bool,
        lookup: &dyn Fn(&str) -> Option<DeviceFacts>,
        memory: &mut Memory,
    ) -> Result<Judged, Problem> {
        let device = self.device(lookup)?;
        let definition = &self.rule.definition;
        let is_of = |wanted: &Option<String>, is_it: &dyn Fn(&DeviceFacts, &str) -> bool| {
            let Some(wanted) = wanted else { return true };
            device.as_ref().is_some_and(|device| is_it(device, wanted))
        };
        if !is_of(&definition.device_type, &|one, wanted| {
            one.device_type == wanted
        }) || !is_of(&definition.device_tag, &|one, wanted| {
            one.tags.iter().any(|tag| tag == wanted)
        }) {
            return Ok(Judged::OtherDevice);
        }
        let mut scope = self.scope.new_inner_scope();
        if self.rule.variables.has("device")
            && let Some(device) = &device
        {
            let value = of_members([
                ("id", of_text(&device.id)),
                ("type", of_text(&device.device_type)),
                ("tags", of_texts(device.tags.iter().map(String::as_str))),
            ]);
            scope.add_variable_as_val("device", value);
        }
        self.add_previous(&mut scope, device.as_ref(), memory);
        if let Some(when) = &self.rule.when
            && !is_true(when, &scope)?
        {
            return Ok(Judged::Unmatched);
        }
        let mut actions = Vec::new();
        if let Some(input) = self.alarm(&scope, device.as_ref())? {
            actions.push(Action::Alarm(Box::new(input)));
        }
        let mut stops = false;
        let is_done = |action: &&CheckedAction| {
            !(withholds && matches!(action, CheckedAction::Publish { .. }))
        };
        for action in self.rule.actions.iter().filter(is_done) {
            match self.action(action, &scope, device.as_ref())? {
                Some(action) => actions.push(action),
                None => {
                    stops = true;
                    break;
                }
            }
        }
        Ok(Judged::Matched(actions, stops))
    }

    fn device(
        &self,
        lookup: &dyn Fn(&str) -> Option<DeviceFacts>,
    ) -> Result<Option<DeviceFacts>, Problem> {
        let id = match &self.rule.device {
            Some(template) => {
                let text = fuel::at_most(fuel::UNITS_OF_DEVICE, || template.text(self.scope));
                Some(text?)
            }
            None => self.facts.device.as_ref().map(|device| device.id.clone()),
        };
        Ok(id.map(|id| {
            lookup(&id).unwrap_or_else(|| match &self.facts.device {
                Some(device) if device.id == id => device.clone(),
                _ => DeviceFacts {
                    id,
                    ..DeviceFacts::default()
                },
            })
        }))
    }

    /// Adds the previous value to the scope, and remembers the current one.
    fn add_previous(
        &self,
        scope: &mut Context<'_, '_>,
        device: Option<&DeviceFacts>,
        memory: &mut Memory,
    ) {
        let Some(current) = self.current else { return };
        if !self.rule.variables.has("previous") {
            return;
        }
        let of = match &self.facts.source {
            RuleInput::Telemetry { key, .. } => {
                format!("{}\0{key}", device.map_or("", |device| &device.id))
            }
            _ => self.facts.topic.to_owned(),
        };
        let key = PreviousKey {
            tenant: self.facts.tenant,
            rule: self.rule.name.clone(),
            of,
        };
        if let Some(previous) = memory.previous(&key) {
            scope.add_variable_from_value("previous", previous);
        }
        memory.remember(key, current);
    }

    /// `None`: the rule stops here, and so do later ones.
    fn action(
        &self,
        action: &CheckedAction,
        scope: &Context<'_, '_>,
        device: Option<&DeviceFacts>,
    ) -> Result<Option<Action>, Problem> {
        let payload_of = |payload: &Option<Template>| match payload {
            Some(payload) => payload.text(scope).map(String::into_bytes),
            None => Ok(self.facts.payload.to_vec()),
        };
        let device_of = |wanted: &Option<Template>| match (wanted, device) {
            (Some(wanted), _) => wanted.text(scope),
            (None, Some(device)) => Ok(device.id.clone()),
            (None, None) => Err(Problem::Failed(
                "it is not known which device the message is about: set `device`".to_owned(),
            )),
        };
        Ok(Some(match action {
            CheckedAction::Stop => return Ok(None),
            CheckedAction::Publish {
                topic,
                payload,
                qos,
                retain,
            } => Action::Publish {
                topic: topic.text(scope)?,
                payload: payload_of(payload)?,
                qos: *qos,
                retain: *retain,
            },
            CheckedAction::Webhook {
                name,
                is_own,
                payload,
            } => Action::Webhook {
                name: name.clone(),
                is_own: *is_own,
                payload: payload_of(payload)?,
            },
            CheckedAction::Command {
                device,
                kind,
                command,
                parameters,
                expires_secs,
            } => Action::Command {
                device: device_of(device)?,
                kind: kind.clone(),
                command: command.text(scope)?,
                parameters: match parameters {
                    Some(parameters) => parameters.text(scope)?,
                    None => "{}".to_owned(),
                },
                expires_secs: *expires_secs,
            },
            CheckedAction::Telemetry { device, key, value } => Action::Telemetry {
                device: device_of(device)?,
                key: key.text(scope)?,
                value: match evaluate(value, scope)? {
                    Value::Float(number) if !number.is_finite() => {
                        return Err(not_finite("the value that is stored", number));
                    }
                    value => to_json(&value),
                },
            },
            CheckedAction::Raise {
                name,
                severity,
                message,
            } => {
                let message = match message {
                    Some(message) => message.text(scope)?,
                    None => format!("{name} was raised by the rule {}", self.rule.name),
                };
                let about = crate::alarm::About {
                    severity: *severity,
                    message,
                    ..self.about(name, device)
                };
                self.observed(about, true)
            }
            CheckedAction::Clear { name } => self.observed(self.about(name, device), false),
        }))
    }

    fn observed(&self, about: crate::alarm::About, raise: bool) -> Action {
        Action::Alarm(Box::new(AlarmInput {
            about,
            observation: Observation::Condition {
                raise,
                clear: !raise,
            },
            at_ms: self.facts.received_ms,
        }))
    }

    fn about(&self, name: &str, device: Option<&DeviceFacts>) -> crate::alarm::About {
        let id = device.map(|device| device.id.clone());
        let subject = match (&id, &self.facts.source) {
            (Some(id), _) => id.clone(),
            (None, RuleInput::Event(kind)) => (*kind).to_owned(),
            (None, _) => self.facts.topic.to_owned(),
        };
        crate::alarm::About {
            key: AlarmKey {
                tenant: self.facts.tenant,
                name: name.to_owned(),
                subject,
            },
            device: id,
            severity: crate::Severity::default(),
            message: String::new(),
            for_ms: 0,
            hops: self.facts.hops,
            inhibited_by: Vec::new(),
        }
    }

    /// The observation for the alarm of the rule.
    fn alarm(
        &self,
        scope: &Context<'_, '_>,
        device: Option<&DeviceFacts>,
    ) -> Result<Option<AlarmInput>, Problem> {
        let Some(alarm) = &self.rule.alarm else {
            return Ok(None);
        };
        let name = &self.rule.name;
        let (observation, default) = match &alarm.test {
            AlarmTest::Value(value, check) => {
                let value = evaluate(value, scope)?;
                let value = number(&value).ok_or_else(|| {
                    Problem::Failed(format!(
                        "the value of the alarm is {}, expected a number",
                        value.type_of()
                    ))
                })?;
                if !value.is_finite() {
                    return Err(not_finite("the value of the alarm", value));
                }
                let shown = short(value);
                let text = match check {
                    Check::Threshold(limit) => format!("{name}: {shown} is {}", beyond(limit)),
                    Check::Rate { limit, per_ms } => format!(
                        "{name}: it changes faster than permitted: {} in {} s; its value is now {shown}",
                        beyond(limit),
                        per_ms / 1_000
                    ),
                };
                (Observation::Value(value, *check), text)
            }
            AlarmTest::NoData { after_ms } => (
                Observation::Seen {
                    after_ms: *after_ms,
                },
                format!("{name}: no message for {} s", after_ms / 1_000),
            ),
            AlarmTest::Condition { raise, clear } => {
                let raise = is_true(raise, scope)?;
                let clear = match (raise, clear) {
                    (false, Some(clear)) => is_true(clear, scope)?,
                    (raise, _) => !raise,
                };
                let text = format!("{name}: its condition is true");
                (Observation::Condition { raise, clear }, text)
            }
        };
        let message = match &alarm.message {
            Some(message) => message.text(scope)?,
            None => default,
        };
        Ok(Some(AlarmInput {
            about: crate::alarm::About {
                severity: alarm.severity,
                message,
                for_ms: alarm.for_ms,
                inhibited_by: alarm.inhibited_by.clone(),
                ..self.about(name, device)
            },
            observation,
            at_ms: self.facts.received_ms,
        }))
    }
}

fn beyond(limit: &Limit) -> String {
    match limit.side {
        LimitSide::Above => format!("above {}", short(limit.raise)),
        LimitSide::Below => format!("below {}", short(limit.raise)),
    }
}

/// JSON has no infinities and no NaN, and infinity would exceed every limit.
fn not_finite(what: &str, number: f64) -> Problem {
    let number = match number.is_nan() {
        true => "no number (NaN)",
        false => "infinite",
    };
    Problem::Failed(format!("{what} is {number}, expected a finite number"))
}
