//! What is known of the configuration of a device that is asked about why it does not work.

use martlet_broker::TenantId;
use martlet_registry::{GroupTwin, Twin, Values, Visibility};
use serde_json::{Value, json};

use super::Twins;
use super::message::{filters, topics_of};
use crate::control::Control;
use crate::text::typed;
use crate::wall_clock::unsigned;
use crate::why::facts::{DeviceTwin, Facts, HiddenValue, Mistyped};

/// Values that are named.
const NAMED: usize = 5;

impl Twins {
    /// Adds it. `team`: the caller sees devices of this team alone. Where the tables cannot be
    /// read, health reports it, and the rest is shown.
    pub async fn complete(&self, control: &Control, team: Option<&str>, facts: &mut Facts) {
        let (device, tenant) = (facts.question.name.clone(), facts.question.tenant);
        facts.own_topics.received.extend(filters(&self.catalogue));
        let of_tenant = control.team_of_tenant(tenant);
        // A device is named within a team, or in the common tenant.
        let visibility = Visibility::of(team.or(of_tenant.as_deref()));
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let twin = registry.twin(&visibility, (&*device).into()).await?;
                let groups = registry.group_twins_of(&twin).await?;
                Ok((twin, groups))
            })
        });
        let found = read.await.ok();
        let found = found.filter(|(twin, _)| twin.tenant == tenant.0);
        facts.twin = found.map(|(twin, groups)| self.recalled(control, &twin, &groups));
    }

    fn recalled(&self, control: &Control, twin: &Twin, groups: &[GroupTwin]) -> DeviceTwin {
        let (topic, reports) = topics_of(&self.catalogue, &twin.device_type, &twin.device);
        let device = typed(&twin.device);
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
            show: control.command_of_tenant("device twin", TenantId(twin.tenant), &device),
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
        Some(other) => control.command_of_tenant("group desired", tenant, &typed(other)),
        None => {
            let removed = names.iter().take(depth).rev();
            let patch = removed.fold(Value::Null, |inner, name| json!({ name: inner }));
            let patch = typed(&patch.to_string());
            let arguments = format!("--set {patch} {}", typed(&twin.device));
            control.command_of_tenant("device twin", tenant, &arguments)
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

/// What these values have in place of the value of these names, and how many of the names lead to
/// it.
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
