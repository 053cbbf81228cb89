//! A validated rule: its expressions are parsed, and its keys are valid.

use martlet_codec::{QoS, TopicFilter, TopicName};

use crate::alarm::{Check, Limit, LimitSide};
use crate::definition::{
    ActionDefinition, AlarmDefinition, AlarmKind, Definition, DefinitionError, PublishAction,
    Severity, WebhookAction,
};
use crate::expression::{Evaluator, Expression, Variables};
use crate::template::Template;

/// Maximum number of Topic Filters of a rule.
const TOPICS_MAX: usize = 32;
/// Maximum number of actions of a rule.
const ACTIONS_MAX: usize = 16;
/// Maximum bytes of a name.
const NAME_BYTES_MAX: usize = 64;
/// Longest time of alarms, seconds: 30 days.
const SECS_MAX: u32 = 30 * 24 * 60 * 60;
/// Default time limit of a device for a command, seconds.
const COMMAND_SECS: u32 = 3_600;

/// The input of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSource {
    /// Messages of these Topic Filters.
    Topics(Vec<String>),
    /// Values of this key.
    Telemetry(String),
    /// Events of these kinds.
    Events(Vec<String>),
}

/// A validated rule.
#[derive(Clone, Debug)]
pub struct MessageRule {
    pub(crate) name: String,
    pub(crate) definition: Definition,
    pub(crate) source: RuleSource,
    pub(crate) device: Option<Template>,
    pub(crate) when: Option<Expression>,
    pub(crate) actions: Vec<CheckedAction>,
    pub(crate) alarm: Option<CheckedAlarm>,
    pub(crate) variables: Variables,
}

#[derive(Clone, Debug)]
pub(crate) enum CheckedAction {
    Publish {
        topic: Template,
        payload: Option<Template>,
        qos: QoS,
        retain: bool,
    },
    Webhook {
        name: String,
        is_own: bool,
        payload: Option<Template>,
    },
    Command {
        device: Option<Template>,
        kind: String,
        command: Template,
        parameters: Option<Template>,
        expires_secs: u32,
    },
    Telemetry {
        device: Option<Template>,
        key: Template,
        value: Expression,
    },
    Raise {
        name: String,
        severity: Severity,
        message: Option<Template>,
    },
    Clear {
        name: String,
    },
    Stop,
}

#[derive(Clone, Debug)]
pub(crate) struct CheckedAlarm {
    pub(crate) severity: Severity,
    pub(crate) message: Option<Template>,
    pub(crate) for_ms: i64,
    pub(crate) inhibited_by: Vec<String>,
    pub(crate) test: AlarmTest,
}

#[derive(Clone, Debug)]
pub(crate) enum AlarmTest {
    /// A value, and how the alarm machine checks it.
    Value(Expression, Check),
    NoData {
        after_ms: i64,
    },
    Condition {
        raise: Expression,
        clear: Option<Expression>,
    },
}

impl MessageRule {
    /// Validates a definition.
    ///
    /// # Errors
    /// A key is missing or invalid.
    pub fn new(
        evaluator: &Evaluator,
        name: &str,
        definition: Definition,
    ) -> Result<Self, DefinitionError> {
        check_name("name", name)?;
        let source = source_of(&definition)?;
        let reader = DefinitionReader(evaluator);
        let device = reader.template_of("device", definition.device.as_deref())?;
        let when = reader.expression_of("when", definition.when.as_deref())?;
        if definition.actions.is_empty() && definition.alarm.is_none() {
            let why = "expected at least one action, or an alarm";
            return Err(DefinitionError::new("actions", why));
        }
        if definition.actions.len() > ACTIONS_MAX {
            let why = format!("expected {ACTIONS_MAX} at most");
            return Err(DefinitionError::new("actions", why));
        }
        let actions = definition.actions.iter().enumerate();
        let actions: Vec<CheckedAction> = actions
            .map(|(at, action)| {
                let own = own_webhook(name, at);
                reader.action(&format!("actions[{at}]"), own, action)
            })
            .collect::<Result<_, _>>()?;
        let alarm = definition.alarm.as_ref();
        let alarm = alarm.map(|alarm| reader.alarm(alarm, &source));
        let alarm = alarm.transpose()?;
        let mut rule = Self {
            name: name.to_owned(),
            source,
            device,
            when,
            actions,
            alarm,
            variables: Variables::default(),
            definition,
        };
        rule.variables = rule.all_variables();
        Ok(rule)
    }

    /// Returns the rule's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it publishes messages.
    pub(crate) fn publishes(&self) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|action| matches!(action, CheckedAction::Publish { .. }))
    }

    /// Whether it only publishes messages.
    pub(crate) fn does_nothing_but_publish(&self) -> bool {
        let mut actions = self.actions.iter();
        self.alarm.is_none()
            && actions.all(|action| matches!(action, CheckedAction::Publish { .. }))
    }

    /// Returns the original definition.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Returns the rule's input.
    pub fn source(&self) -> &RuleSource {
        &self.source
    }

    /// The webhooks that belong to it, for actions with a URL: the index of the action, the name
    /// of the webhook, and the action.
    pub fn own_webhooks(&self) -> impl Iterator<Item = (usize, String, &WebhookAction)> {
        let actions = self.definition.actions.iter().enumerate();
        actions.filter_map(|(at, action)| match action {
            ActionDefinition::Webhook(webhook) if webhook.url.is_some() => {
                Some((at, own_webhook(&self.name, at), webhook))
            }
            _ => None,
        })
    }

    fn all_variables(&self) -> Variables {
        let mut all = Variables::default();
        let mut add = |more: Variables| all = all.or(more);
        let of = |template: &Option<Template>| {
            template
                .as_ref()
                .map_or(Variables::default(), Template::variables)
        };
        add(of(&self.device));
        add(self
            .when
            .as_ref()
            .map_or(Variables::default(), Expression::variables));
        for action in &self.actions {
            add(match action {
                CheckedAction::Publish { topic, payload, .. } => topic.variables().or(of(payload)),
                CheckedAction::Webhook { payload, .. } => of(payload),
                CheckedAction::Command {
                    device,
                    command,
                    parameters,
                    ..
                } => of(device).or(command.variables()).or(of(parameters)),
                CheckedAction::Telemetry { device, key, value } => {
                    of(device).or(key.variables()).or(value.variables())
                }
                CheckedAction::Raise { message, .. } => of(message),
                CheckedAction::Clear { .. } | CheckedAction::Stop => Variables::default(),
            });
        }
        if let Some(alarm) = &self.alarm {
            add(of(&alarm.message));
            match &alarm.test {
                AlarmTest::Value(value, _) => add(value.variables()),
                AlarmTest::NoData { .. } => {}
                AlarmTest::Condition { raise, clear } => {
                    add(raise.variables());
                    add(clear
                        .as_ref()
                        .map_or(Variables::default(), Expression::variables));
                }
            }
        }
        all
    }
}

/// Name of the rule's own webhook for the action at this index.
pub fn own_webhook(rule: &str, at: usize) -> String {
    format!("{rule}.{at}")
}

/// Names of rules are used in paths of URLs and in Client Identifiers.
fn check_name(key: &str, name: &str) -> Result<(), DefinitionError> {
    let is_good = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_good) {
        let why =
            format!("{name:?}: expected letters, digits, -, _ and ., {NAME_BYTES_MAX} at most");
        return Err(DefinitionError::new(key, why));
    }
    if matches!(name, "." | "..") {
        let why = format!("{name:?}: in the path of a URL that is another place");
        return Err(DefinitionError::new(key, why));
    }
    Ok(())
}

/// Rejects a loop: an alarm raised by an event of an alarm would be another such event.
fn check_alarm_events(definition: &Definition) -> Result<(), DefinitionError> {
    let raises = definition
        .actions
        .iter()
        .any(|action| matches!(action, ActionDefinition::Alarm(alarm) if alarm.raise.is_some()));
    let is_of_alarms = definition
        .events
        .iter()
        .any(|kind| kind.starts_with("alarm"));
    match is_of_alarms && (raises || definition.alarm.is_some()) {
        true => {
            let why = "events of alarms may raise no alarm: each would raise the next one";
            Err(DefinitionError::new("events", why))
        }
        false => Ok(()),
    }
}

fn source_of(definition: &Definition) -> Result<RuleSource, DefinitionError> {
    let sources = [
        !definition.topics.is_empty(),
        definition.telemetry.is_some(),
        !definition.events.is_empty(),
    ];
    if sources.into_iter().filter(|is_there| *is_there).count() != 1 {
        let why = "expected one of `topics`, `telemetry` and `events`";
        return Err(DefinitionError::new("topics", why));
    }
    if let Some(key) = &definition.telemetry {
        if key.is_empty() {
            return Err(DefinitionError::new("telemetry", "expected a key"));
        }
        return Ok(RuleSource::Telemetry(key.clone()));
    }
    if !definition.events.is_empty() {
        check_alarm_events(definition)?;
        return Ok(RuleSource::Events(definition.events.clone()));
    }
    if definition.topics.len() > TOPICS_MAX {
        let why = format!("expected {TOPICS_MAX} at most");
        return Err(DefinitionError::new("topics", why));
    }
    for filter in &definition.topics {
        if let Err(error) = TopicFilter::new(filter) {
            let why = format!("{filter:?} is not a valid Topic Filter: {error}");
            return Err(DefinitionError::new("topics", why));
        }
        if filter.starts_with("$share/") || filter.starts_with("$events/") {
            let why = format!("{filter:?}: expected a filter without $share and $events");
            return Err(DefinitionError::new("topics", why));
        }
    }
    Ok(RuleSource::Topics(definition.topics.clone()))
}

/// Parses expressions and templates.
struct DefinitionReader<'a>(&'a Evaluator);

impl DefinitionReader<'_> {
    fn expression(&self, key: &str, text: &str) -> Result<Expression, DefinitionError> {
        let parsed = self.0.parse(text);
        parsed.map_err(|error| DefinitionError::new(key, error))
    }

    fn expression_of(
        &self,
        key: &str,
        text: Option<&str>,
    ) -> Result<Option<Expression>, DefinitionError> {
        text.map(|text| self.expression(key, text)).transpose()
    }

    fn template(&self, key: &str, text: &str) -> Result<Template, DefinitionError> {
        let parsed = Template::parse(self.0, text);
        parsed.map_err(|error| DefinitionError::new(key, error))
    }

    fn template_of(
        &self,
        key: &str,
        text: Option<&str>,
    ) -> Result<Option<Template>, DefinitionError> {
        text.map(|text| self.template(key, text)).transpose()
    }

    fn action(
        &self,
        key: &str,
        own_webhook: String,
        action: &ActionDefinition,
    ) -> Result<CheckedAction, DefinitionError> {
        let missing = |name: &str| DefinitionError::new(format!("{key}.{name}"), "it is missing");
        Ok(match action {
            ActionDefinition::Stop => CheckedAction::Stop,
            ActionDefinition::Publish(publish) => {
                self.publish_action(&format!("{key}.publish"), publish)?
            }
            ActionDefinition::Webhook(webhook) => {
                self.webhook_action(&format!("{key}.webhook"), own_webhook, webhook)?
            }
            ActionDefinition::Command(command) => {
                let at = |name: &str| format!("{key}.command.{name}");
                if command.command.is_empty() {
                    return Err(missing("command.command"));
                }
                let expires_secs = command.expires_secs.unwrap_or(COMMAND_SECS);
                check_secs(&at("expires_secs"), expires_secs)?;
                CheckedAction::Command {
                    device: self.template_of(&at("device"), command.device.as_deref())?,
                    kind: command.kind.clone().unwrap_or_else(|| "control".to_owned()),
                    command: self.template(&at("command"), &command.command)?,
                    parameters: self
                        .template_of(&at("parameters"), command.parameters.as_deref())?,
                    expires_secs,
                }
            }
            ActionDefinition::Telemetry(telemetry) => {
                let at = |name: &str| format!("{key}.telemetry.{name}");
                if telemetry.key.is_empty() {
                    return Err(missing("telemetry.key"));
                }
                CheckedAction::Telemetry {
                    device: self.template_of(&at("device"), telemetry.device.as_deref())?,
                    key: self.template(&at("key"), &telemetry.key)?,
                    value: self.expression(&at("value"), &telemetry.value)?,
                }
            }
            ActionDefinition::Alarm(alarm) => {
                let key = format!("{key}.alarm");
                match (&alarm.raise, &alarm.clear) {
                    (Some(name), None) => {
                        check_name(&key, name)?;
                        CheckedAction::Raise {
                            name: name.clone(),
                            severity: alarm.severity.unwrap_or_default(),
                            message: self.template_of(&key, alarm.message.as_deref())?,
                        }
                    }
                    (None, Some(name)) => {
                        check_name(&key, name)?;
                        CheckedAction::Clear { name: name.clone() }
                    }
                    _ => {
                        let why = "expected one of `raise` and `clear`";
                        return Err(DefinitionError::new(key, why));
                    }
                }
            }
        })
    }

    fn publish_action(
        &self,
        key: &str,
        publish: &PublishAction,
    ) -> Result<CheckedAction, DefinitionError> {
        let at = |name: &str| format!("{key}.{name}");
        if publish.topic.is_empty() {
            return Err(DefinitionError::new(at("topic"), "it is missing"));
        }
        if !publish.topic.contains("{{") {
            check_topic(&at("topic"), &publish.topic)?;
        }
        let qos = publish.qos.unwrap_or(1);
        let qos = QoS::from_bits(qos)
            .ok_or_else(|| DefinitionError::new(at("qos"), format!("{qos}: expected 0, 1 or 2")))?;
        Ok(CheckedAction::Publish {
            topic: self.template(&at("topic"), &publish.topic)?,
            payload: self.template_of(&at("payload"), publish.payload.as_deref())?,
            qos,
            retain: publish.retain,
        })
    }

    fn webhook_action(
        &self,
        key: &str,
        own_name: String,
        webhook: &WebhookAction,
    ) -> Result<CheckedAction, DefinitionError> {
        let at = |name: &str| format!("{key}.{name}");
        let is_own = webhook.url.is_some();
        match is_own {
            false => check_name(&at("name"), &webhook.name)?,
            true if !webhook.name.is_empty() => {
                let why = "expected one of `name` and `url`";
                return Err(DefinitionError::new(at("url"), why));
            }
            true if own_name.len() > NAME_BYTES_MAX => {
                let why = format!(
                    "the webhook would be {own_name:?}, expected {NAME_BYTES_MAX} bytes at most: \
                     give the rule a shorter name"
                );
                return Err(DefinitionError::new(at("url"), why));
            }
            true => {}
        }
        if !is_own && webhook.format.is_some() {
            let why = "expected only with `url`: an existing webhook has its own";
            return Err(DefinitionError::new(at("format"), why));
        }
        Ok(CheckedAction::Webhook {
            name: match is_own {
                true => own_name,
                false => webhook.name.clone(),
            },
            is_own,
            payload: self.template_of(&at("payload"), webhook.payload.as_deref())?,
        })
    }

    fn alarm(
        &self,
        alarm: &AlarmDefinition,
        source: &RuleSource,
    ) -> Result<CheckedAlarm, DefinitionError> {
        let kinds = [
            ("threshold", &alarm.threshold),
            ("rate", &alarm.rate),
            ("no_data", &alarm.no_data),
            ("condition", &alarm.condition),
        ];
        let mut kinds = kinds
            .into_iter()
            .filter_map(|(name, kind)| Some((name, kind.as_ref()?)));
        let (Some((name, kind)), None) = (kinds.next(), kinds.next()) else {
            let why = "expected one of `threshold`, `rate`, `no_data` and `condition`";
            return Err(DefinitionError::new("alarm", why));
        };
        if alarm.for_secs > SECS_MAX {
            let why = format!("expected {SECS_MAX} at most");
            return Err(DefinitionError::new("alarm.for_secs", why));
        }
        for other in &alarm.inhibited_by {
            check_name("alarm.inhibited_by", other)?;
        }
        let key = |part: &str| format!("alarm.{name}.{part}");
        let test = match name {
            "no_data" => {
                let after_secs = kind.after_secs.unwrap_or(0);
                check_secs(&key("after_secs"), after_secs)?;
                AlarmTest::NoData {
                    after_ms: i64::from(after_secs) * 1_000,
                }
            }
            "condition" => {
                let raise = kind.raise_when.as_deref();
                let raise = raise.ok_or_else(|| {
                    DefinitionError::new(key("raise_when"), "expected an expression")
                })?;
                AlarmTest::Condition {
                    raise: self.expression(&key("raise_when"), raise)?,
                    clear: self.expression_of(&key("clear_when"), kind.clear_when.as_deref())?,
                }
            }
            _ => {
                let default = match source {
                    RuleSource::Telemetry(_) => "value",
                    _ => "payload",
                };
                let value = kind.value.as_deref().unwrap_or(default);
                let value = self.expression(&key("value"), value)?;
                let limit = limit_of(&key, kind)?;
                let check = match name {
                    "rate" => {
                        let per_secs = kind.per_secs.unwrap_or(60);
                        check_secs(&key("per_secs"), per_secs)?;
                        Check::Rate {
                            limit,
                            per_ms: i64::from(per_secs) * 1_000,
                        }
                    }
                    _ => Check::Threshold(limit),
                };
                AlarmTest::Value(value, check)
            }
        };
        Ok(CheckedAlarm {
            severity: alarm.severity,
            message: self.template_of("alarm.message", alarm.message.as_deref())?,
            for_ms: i64::from(alarm.for_secs) * 1_000,
            inhibited_by: alarm.inhibited_by.clone(),
            test,
        })
    }
}

fn limit_of(key: &impl Fn(&str) -> String, kind: &AlarmKind) -> Result<Limit, DefinitionError> {
    let (side, raise) = match (kind.above, kind.below) {
        (Some(above), None) => (LimitSide::Above, above),
        (None, Some(below)) => (LimitSide::Below, below),
        _ => {
            let why = "expected one of `above` and `below`";
            return Err(DefinitionError::new(key("above"), why));
        }
    };
    let clear = kind.clear.unwrap_or(raise);
    let is_sound = match side {
        LimitSide::Above => clear <= raise,
        LimitSide::Below => clear >= raise,
    };
    if !raise.is_finite() || !clear.is_finite() || !is_sound {
        let why = format!("{clear}: expected the limit {raise}, or a number on its normal side");
        return Err(DefinitionError::new(key("clear"), why));
    }
    Ok(Limit { side, raise, clear })
}

fn check_secs(key: &str, secs: u32) -> Result<(), DefinitionError> {
    if (1..=SECS_MAX).contains(&secs) {
        return Ok(());
    }
    let why = format!("{secs}: expected seconds, from 1 to {SECS_MAX}");
    Err(DefinitionError::new(key, why))
}

fn check_topic(key: &str, topic: &str) -> Result<(), DefinitionError> {
    let is_good = !topic.contains(['+', '#']) && TopicName::new(topic).is_ok();
    match is_good {
        true => Ok(()),
        false => Err(DefinitionError::new(
            key,
            format!("{topic:?}: expected a Topic Name, without + and #"),
        )),
    }
}
