//! The configuration that a device is to have and has not reported.

#[cfg(test)]
mod tests;

use martlet_broker::TenantId;
use martlet_registry::{GroupTwin, Twin, Values, Visibility};
use serde_json::{Value, json};

use super::Twins;
use super::message::{filters, topics_of};
use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError, OwnTopics};
use crate::misread::Misread;
use crate::remedy::{Command, form};
use crate::rfc3339;
use crate::wall_clock::unsigned;
use crate::why::{Asked, Examine, Finding, Findings, matches, nearest_in_words};

/// Values that are named.
const NAMED: usize = 5;

/// Time that a device has to report before that is reported.
const REPORTS_WITHIN_MS: u64 = 30_000;

/// The configuration that a device is to have, and what it has reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceTwin {
    /// Version of the desired values.
    version: i64,
    /// When they were last changed.
    desired_ms: u64,
    /// When the device last reported; 0: never.
    reported_ms: u64,
    /// Names of the values that the device has not reported.
    missing: Vec<String>,
    /// The first of them that it has reported as a value of another type, with the same characters.
    mistyped: Option<Mistyped>,
    /// A value of a group that is not in force.
    hidden: Option<HiddenValue>,
    /// The last report that was not applied.
    misread: Option<Misread>,
    /// The topic for the device.
    topic: String,
    /// The topic on which it reports.
    reports: String,
    show: Option<Command>,
}

/// A desired value that is reported as a value of another type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mistyped {
    /// Name of the value; of one in an object, with the names of the objects before it.
    name: String,
    /// Type of the value: `number`.
    expected: &'static str,
    /// The type that was reported.
    reported: &'static str,
}

/// A desired value of a group of a device that another one hides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HiddenValue {
    /// Name of the value; of one in an object, with the names of the objects before it.
    name: String,
    group: String,
    /// When the values of the group were last changed.
    group_ms: u64,
    /// Name of the other group whose value hides it; none: the device's own value does.
    by_group: Option<String>,
    /// The command that removes the device's own value, or shows those of the other group.
    command: Option<Command>,
}

impl Examine for Twins {
    type Facts = Option<DeviceTwin>;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<Self::Facts, ControlError> {
        let (device, tenant) = (asked.question.name.clone(), asked.question.tenant);
        let of_tenant = control.team_of_tenant(tenant);
        // A device is named within a team, or in the common tenant.
        let visibility = Visibility::of(asked.team.as_deref().or(of_tenant.as_deref()));
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let twin = registry.twin(&visibility, (&*device).into()).await?;
                let groups = registry.group_twins_of(&twin).await?;
                Ok((twin, groups))
            })
        });
        let found = read.await.ok();
        let found = found.filter(|(twin, _)| twin.tenant == tenant.0);
        Ok(found.map(|(twin, groups)| self.recalled(control, &twin, &groups)))
    }

    fn judge(facts: &Self::Facts, asked: &Asked, findings: &mut Findings) {
        if let Some(twin) = facts {
            findings.keeps(&twin.topic, None);
            findings.keeps(format!("{}/error", twin.topic), None);
        }
        let twin = facts.as_ref();
        let twin = twin.filter(|twin| asked.concerns_one_of([&twin.topic, &twin.reports]));
        let Some(twin) = twin else { return };
        // A later report that was applied ends it.
        if let Some(misread) = &twin.misread {
            let sentence = format!(
                "a report of its configuration was not applied: {}",
                misread.why
            );
            let remedy = format!(
                "have the device report a JSON object on {}; to see its desired and reported \
                 values, run",
                twin.reports
            );
            return findings.add(finding(twin, sentence, remedy).at(misread.at_ms));
        }
        if let Some(hidden) = &twin.hidden {
            let (bearing, finding) = of_hidden(asked, hidden);
            findings.add_as(bearing, finding);
        }
        if !twin.missing.is_empty() {
            let (bearing, finding) = not_reported(asked, twin);
            findings.add_as(bearing, finding);
        }
    }

    fn own_topics(&self, own: &mut OwnTopics) {
        own.received.extend(filters(&self.catalogue));
    }
}

impl Twins {
    fn recalled(&self, control: &Control, twin: &Twin, groups: &[GroupTwin]) -> DeviceTwin {
        let (topic, reports) = topics_of(&self.catalogue, &twin.device_type, &twin.device);
        let missing = twin.difference();
        // Those of its groups are among what it is to have.
        let of_groups = groups.iter().map(|group| group.desired.updated_ms);
        let desired_ms = of_groups.fold(twin.desired.updated_ms, i64::max);
        DeviceTwin {
            version: twin.desired.version,
            desired_ms: unsigned(desired_ms),
            reported_ms: unsigned(twin.reported.updated_ms),
            missing: missing.keys().take(NAMED).cloned().collect(),
            mistyped: mistyped(
                &twin.merged_desired(),
                &twin.reported.values,
                &mut Vec::new(),
            ),
            hidden: hidden(control, twin, groups),
            misread: self.misread.of((twin.tenant, &twin.device)),
            topic,
            reports,
            show: control.command_of_tenant(
                form::DEVICE_TWIN,
                TenantId(twin.tenant),
                &[&twin.device],
            ),
        }
    }
}

/// Names of objects, each in the one before it, and of a value in the last one.
type Names = Vec<String>;

/// The first value that is reported with the same characters, and as a value of another type.
fn mistyped(expected: &Values, reported: &Values, names: &mut Names) -> Option<Mistyped> {
    expected.iter().find_map(|(name, value)| {
        names.push(name.clone());
        let found = match (value, reported.get(name)) {
            (Value::Object(value), Some(Value::Object(has))) => mistyped(value, has, names),
            (value, Some(has)) if are_of_other_types(value, has) => Some(Mistyped {
                name: names.join("."),
                expected: type_of(value),
                reported: type_of(has),
            }),
            _ => None,
        };
        names.pop();
        found
    })
}

/// One is text, with the value of the other one.
fn are_of_other_types(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(text), value) | (value, Value::String(text)) => match value {
            Value::Number(number) => {
                let parsed = text.trim().parse::<f64>();
                parsed.is_ok_and(|parsed| number.as_f64() == Some(parsed))
            }
            Value::Bool(value) => text.trim() == value.to_string(),
            _ => false,
        },
        _ => false,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "Boolean value",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value of a group that the device does not get, because its own value, or that of a later
/// group, overrides it.
fn hidden(control: &Control, twin: &Twin, groups: &[GroupTwin]) -> Option<HiddenValue> {
    let own = [(None, &twin.desired.values)];
    let by_own = groups
        .iter()
        .find_map(|group| hidden_by(control, twin, group, &own));
    by_own.or_else(|| {
        let mut all = groups.iter().enumerate();
        all.find_map(|(at, group)| {
            let later = groups.get(at + 1..)?.iter();
            let later: Vec<Over<'_>> = later
                .map(|other| (Some(&*other.name), &other.desired.values))
                .collect();
            hidden_by(control, twin, group, &later)
        })
    })
}

/// Values that are laid over those of a group, and the name of the group that has them; none: the
/// device has them itself.
type Over<'a> = (Option<&'a str>, &'a Values);

/// The first value of a group over which another one is laid by these, and the command that ends
/// that.
fn hidden_by(
    control: &Control,
    twin: &Twin,
    group: &GroupTwin,
    all_over: &[Over<'_>],
) -> Option<HiddenValue> {
    let tenant = TenantId(twin.tenant);
    let all = leaves(&group.desired.values, Vec::new());
    let (names, by, depth) = all.into_iter().find_map(|(names, value)| {
        let mut all_over = all_over.iter();
        let (by, depth) = all_over.find_map(|(by, values)| {
            let (depth, over) = laid_over(values, &names)?;
            (over != value).then_some((*by, depth))
        })?;
        Some((names, by, depth))
    })?;
    let command = match by {
        Some(other) => control.command_of_tenant(form::GROUP_DESIRED, tenant, &[other]),
        None => {
            let removed = names.iter().take(depth).rev();
            let patch = removed.fold(Value::Null, |inner, name| json!({ name: inner }));
            let values = [&*twin.device, &patch.to_string()];
            control.command_of_tenant(form::DEVICE_TWIN_SET, tenant, &values)
        }
    };
    Some(HiddenValue {
        name: names.join("."),
        group: group.name.clone(),
        group_ms: unsigned(group.desired.updated_ms),
        by_group: by.map(str::to_owned),
        command,
    })
}

/// The values that are no objects, with the names that lead to them.
fn leaves(values: &Values, before: Names) -> Vec<(Names, &Value)> {
    let all = values.iter().flat_map(|(name, value)| {
        let mut names = before.clone();
        names.push(name.clone());
        match value {
            Value::Object(inner) => leaves(inner, names),
            value => vec![(names, value)],
        }
    });
    all.collect()
}

/// Returns what these values have in place of the value of these names, and how many of the names
/// lead to it.
fn laid_over<'v>(values: &'v Values, names: &[String]) -> Option<(usize, &'v Value)> {
    let mut values = values;
    for (at, name) in names.iter().enumerate() {
        match values.get(name)? {
            Value::Object(inner) if at + 1 < names.len() => values = inner,
            found => return Some((at + 1, found)),
        }
    }
    None
}

/// A value of a group is not what the device gets.
fn of_hidden(asked: &Asked, hidden: &HiddenValue) -> (Bearing, Finding) {
    let HiddenValue { name, group, .. } = hidden;
    let (by, remedy) = match &hidden.by_group {
        Some(other) => (
            format!(
                "the group {other} has another value, and has priority because its name sorts \
                 later"
            ),
            format!(
                "set the value in {other}, remove it there, or remove the device from one of the \
                 groups; to see the values of {other}, run"
            ),
        ),
        None => (
            "the device has a desired value of its own, which hides that of the group".to_owned(),
            format!("to apply the value of the group {group}, remove the device's own value"),
        ),
    };
    let sentence = format!("the value {name} of the group {group} is not sent to the device: {by}");
    let finding = Finding::new(Cause::ConfigurationHidden, sentence)
        .since(hidden.group_ms)
        .remedy(remedy)
        .command(&hidden.command);
    // It may be intended, unless it is in question or the value has just changed.
    let is_recent = asked.is_recent(hidden.group_ms);
    let bearing = match asked.question.topic.is_some() || is_recent {
        true => Bearing::Present,
        false => Bearing::Aside,
    };
    (bearing, finding)
}

fn finding(twin: &DeviceTwin, sentence: String, remedy: String) -> Finding {
    Finding::new(Cause::ConfigurationNotReported, sentence)
        .since(twin.desired_ms)
        .remedy(remedy)
        .command(&twin.show)
}

/// Returns the finding that the device has not reported what it is to have.
fn not_reported(asked: &Asked, twin: &DeviceTwin) -> (Bearing, Finding) {
    let (topic, reports) = (&twin.topic, &twin.reports);
    let is_subscribed = asked.filters.iter().any(|filter| matches(filter, topic));
    let is_late = asked.now_ms.saturating_sub(twin.desired_ms) >= REPORTS_WITHIN_MS;
    let mut bearing = Bearing::Present;
    // What was refused is the cause, and is reported first.
    let mut about = None;
    let (why, remedy) = if !asked.is_connected {
        bearing = Bearing::Aside;
        (
            "it is not connected".to_owned(),
            format!("have the device connect, and subscribe to {topic}"),
        )
    } else if !is_subscribed {
        about = Some(topic);
        let near = nearest_in_words(&asked.filters, topic);
        (
            format!("it is not subscribed to {topic}{near}"),
            format!("have the device subscribe to {topic} with QoS 1"),
        )
    } else if let Some(mistyped) = &twin.mistyped {
        let Mistyped {
            name,
            expected,
            reported,
        } = mistyped;
        (
            format!(
                "{name} should be a {expected}, and the device reports a {reported} with the same \
                 characters"
            ),
            format!("have the device report {name} as a {expected}"),
        )
    } else if twin.reported_ms > twin.desired_ms {
        let at = rfc3339::in_words(twin.reported_ms);
        (
            format!("what it reported last, on {at}, has other values"),
            "find out why the device does not accept these values, or set values that it accepts"
                .to_owned(),
        )
    } else {
        about = Some(reports);
        if !is_late {
            bearing = Bearing::Aside;
        }
        (
            format!(
                "the desired values were published on {topic}, and it has reported nothing since"
            ),
            format!(
                "find out why the program of the device does not report its values on {reports}"
            ),
        )
    };
    let sentence = format!(
        "it has not reported the desired configuration (version {}: {}): {why}",
        twin.version,
        twin.missing.join(", ")
    );
    let remedy = format!("{remedy}; to see its desired and reported values, run");
    let finding = finding(twin, sentence, remedy);
    (
        bearing,
        about
            .into_iter()
            .fold(finding, |finding, topic| finding.about(topic)),
    )
}
