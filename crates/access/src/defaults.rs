//! Default rules, if no file has any.

use std::sync::Arc;

use martlet_permission::{Actions, Rule, Rules};

/// Default rules for people, programs, and anonymous clients where these are allowed. They permit
/// all topics except those that begin with `$`, and reading `$SYS/#`, as in Mosquitto. Below
/// IoTFlow's topics, the node's own messages are for administrators, and only administrators may
/// send commands.
pub fn default_rules(base: &IotflowBase) -> Arc<Rules> {
    let source = "the role user";
    let of_node = IOTFLOW_OF_NODE.map(|filter| (Actions::ALL, filter));
    let commands = IOTFLOW_COMMANDS.map(|filter| (Actions::PUBLISH, filter));
    let closed = of_node.into_iter().chain(commands);
    let closed = closed.map(|(actions, filter)| rule(false, actions, filter, source));
    let open = [(Actions::ALL, "#"), (Actions::READ, "$SYS/#")];
    let open = open.map(|(actions, filter)| rule(true, actions, filter, source));
    compile(closed.chain(open), base)
}

/// Topics of commands to devices and fleets.
const IOTFLOW_COMMANDS: [&str; 3] = [
    "iotflow/devices/+/commands/#",
    "iotflow/commands/#",
    "iotflow/fleet/#",
];

/// Topics that only the node publishes to.
const IOTFLOW_OF_NODE: [&str; 2] = ["iotflow/system/#", "iotflow/monitoring/#"];

/// Rules of administrators: everything that any client may do.
pub fn administrator_rules() -> Arc<Rules> {
    Arc::new(Rules::open())
}

const TELLS: Actions = Actions::PUBLISH;
const TOLD: Actions = Actions::READ;

/// The node sends a request to a device and waits for the answer on this topic, whose name cannot
/// be guessed.
const ANSWERS: (Actions, &str) = (TELLS, "response/api/+");

/// Rules of the built-in device types.
const DEVICE_TYPES: &[(&str, &[(Actions, &str)])] = &[
    ("device", &[(Actions::ALL, "d/%c/#"), ANSWERS]),
    (
        IOTFLOW,
        &[
            (TOLD, "iotflow/devices/%c/#"),
            (TELLS, "iotflow/devices/%c/telemetry"),
            (TELLS, "iotflow/devices/%c/telemetry/#"),
            (TELLS, "iotflow/devices/%c/status"),
            (TELLS, "iotflow/devices/%c/status/#"),
            (TELLS, "iotflow/devices/%c/heartbeat"),
            (TELLS, "iotflow/devices/%c/events/#"),
            (TELLS, "iotflow/devices/%c/commands/+/response"),
            (TOLD, "iotflow/commands/device-type/+/%c"),
            (TELLS, "iotflow/discovery/register/%c"),
            (TOLD, "iotflow/discovery/response/%c"),
            (TELLS, "iotflow/status/devices/%c/+"),
            (TELLS, "iotflow/lwt/devices/%c"),
            // mqtt_manage.sh tests logins on this topic.
            (TELLS, "iotflow/test"),
            ANSWERS,
        ],
    ),
    (SERVICE_MQTT, &[(TELLS, "raw.%u"), (TELLS, "raw.%u/#")]),
    (
        "tls-guide",
        &[
            (TELLS, "device/data/%c"),
            (TELLS, "vehicle/speed/%c"),
            ANSWERS,
        ],
    ),
];

/// Name of the device type, and of the role of users, with the topics of IoTFlow.
pub const IOTFLOW: &str = "iotflow";

/// Name of the device type of Service-MQTT's devices, which use any Client Identifier.
pub const SERVICE_MQTT: &str = "service-mqtt";

/// First level or levels of the topics of IoTFlow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IotflowBase(Arc<str>);

impl Default for IotflowBase {
    fn default() -> Self {
        Self("iotflow".into())
    }
}

impl IotflowBase {
    /// Parses levels without wildcards and placeholders; `None` if topics cannot begin with this
    /// text.
    pub fn parse(text: &str) -> Option<Self> {
        let is_level =
            |level: &str| !level.is_empty() && !level.contains(['+', '#', '%', '{', '\0']);
        let is_base = !text.starts_with('$') && text.split('/').all(is_level) && text.len() <= 200;
        is_base.then(|| Self(text.into()))
    }

    /// Returns the levels as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topics that a device of type [`IOTFLOW`] in this group may read: the group's commands.
    /// `None` if the name cannot be one level of a Topic Name.
    pub fn commands_of(&self, group: &str) -> Option<String> {
        let is_level = !group.is_empty() && !group.contains(['/', '+', '#', '%', '\0']);
        is_level.then(|| format!("{}/fleet/commands/{group}", self.0))
    }
}

/// Whether a device type of this name is built in.
pub fn is_built_in_device_type(name: &str) -> bool {
    DEVICE_TYPES.iter().any(|(known, _)| *known == name)
}

/// The rules of a built-in device type.
pub fn built_in_device_rules(device_type: &str, base: &IotflowBase) -> Option<Arc<Rules>> {
    let (name, rules) = DEVICE_TYPES.iter().find(|(name, _)| *name == device_type)?;
    let source = format!("the built-in device type {name}");
    Some(compiled(rules, &source, base))
}

/// Rules of users with the role [`IOTFLOW`]: those of a device of that type, but by the user name,
/// because users choose their Client Identifier.
pub fn iotflow_user_rules(base: &IotflowBase) -> Arc<Rules> {
    let rules = DEVICE_TYPES.iter().find(|(name, _)| *name == IOTFLOW);
    let rules = rules.map_or(&[][..], |(_, rules)| rules);
    let by_user: Vec<_> = rules
        .iter()
        .map(|(actions, filter)| (*actions, filter.replace("%c", "%u")))
        .collect();
    compiled(&by_user, "the built-in role iotflow", base)
}

fn compiled(rules: &[(Actions, impl AsRef<str>)], source: &str, base: &IotflowBase) -> Arc<Rules> {
    let rules = rules.iter();
    let rules = rules.map(|(actions, filter)| rule(true, *actions, filter.as_ref(), source));
    compile(rules, base)
}

fn rule(allows: bool, actions: Actions, filter: &str, source: &str) -> Rule {
    Rule {
        actions,
        allows,
        filter: filter.into(),
        source: source.into(),
    }
}

/// Moves a rule for topics of IoTFlow below this base.
fn at_base(mut rule: Rule, base: &IotflowBase) -> Rule {
    if let Some(below) = rule.filter.strip_prefix("iotflow/") {
        rule.filter = format!("{}/{below}", base.0).into();
    }
    rule
}

fn compile(rules: impl Iterator<Item = Rule>, base: &IotflowBase) -> Arc<Rules> {
    let rules = rules.map(|rule| at_base(rule, base));
    let rules = Rules::compile(rules.collect(), Actions::NONE);
    // The filters are valid, as the tests check.
    Arc::new(rules.unwrap_or_else(|_| Rules::closed()))
}

#[cfg(test)]
mod tests {
    use martlet_permission::Names;

    use super::*;

    const NAMES: Names<'_> = Names {
        client_id: "c1",
        user_name: "u1",
    };

    #[test]
    fn people_may_do_all_but_what_is_the_nodes() {
        let rules = default_rules(&IotflowBase::default());
        let may = |action, topic| rules.topic(action, topic, NAMES).allowed;
        assert!(may(Actions::PUBLISH, "a/b") && may(Actions::RECEIVE, "$SYS/broker/uptime"));
        assert!(!may(Actions::PUBLISH, "$SYS/x") && !may(Actions::RECEIVE, "$other/x"));
        assert!(rules.filter("#", NAMES).allowed && rules.filter("$SYS/#", NAMES).allowed);
        assert!(!rules.filter("$other/#", NAMES).allowed);
        for of_node in ["iotflow/system/health", "iotflow/monitoring/broker"] {
            assert!(!may(Actions::PUBLISH, of_node) && !may(Actions::RECEIVE, of_node));
        }
        assert!(!rules.filter("iotflow/system/+", NAMES).allowed);
        for command in [
            "iotflow/devices/c1/commands/control",
            "iotflow/devices/c1/commands/control/response",
            "iotflow/commands/device-type/pump/c1",
            "iotflow/fleet/commands/pumps",
            "iotflow/fleet/status/pumps",
        ] {
            assert!(!may(Actions::PUBLISH, command), "{command}");
            assert!(may(Actions::RECEIVE, command), "{command}");
        }
        assert!(rules.filter("iotflow/fleet/commands/#", NAMES).allowed);
        assert!(may(Actions::ALL, "iotflow/devices/c1/telemetry"));
    }

    #[test]
    fn topics_of_iotflow_begin_with_the_base() {
        let base = IotflowBase::parse("plant/a").expect("it is one");
        let moved = |filter| at_base(rule(true, Actions::ALL, filter, "test"), &base);
        assert_eq!(
            &*moved("iotflow/devices/%c/#").filter,
            "plant/a/devices/%c/#"
        );
        assert_eq!(&*moved("response/api/+").filter, "response/api/+");
        assert_eq!(IotflowBase::parse("iotflow"), Some(IotflowBase::default()));
        // Two bases at once, as for two nodes in one process.
        let rules = iotflow_user_rules(&base);
        let may = |topic| rules.topic(Actions::PUBLISH, topic, NAMES).allowed;
        assert!(may("plant/a/devices/u1/telemetry") && !may("iotflow/devices/u1/telemetry"));
        let commands = base.commands_of("pumps");
        assert_eq!(commands.as_deref(), Some("plant/a/fleet/commands/pumps"));
        for none in ["", "/a", "a/", "a//b", "a/+", "#", "$SYS", "a/%c", "{x}"] {
            assert_eq!(IotflowBase::parse(none), None, "{none}");
        }
    }

    fn of_type(name: &str) -> Arc<Rules> {
        built_in_device_rules(name, &IotflowBase::default()).expect("it comes with the program")
    }

    #[test]
    fn a_device_has_the_topics_of_its_own_and_answers_requests() {
        let rules = of_type("device");
        let may = |action, topic| rules.topic(action, topic, NAMES).allowed;
        assert!(may(Actions::PUBLISH, "d/c1/x") && may(Actions::RECEIVE, "d/c1/x"));
        assert!(rules.filter("d/c1/#", NAMES).allowed);
        assert!(!may(Actions::PUBLISH, "d/c2/x") && !may(Actions::RECEIVE, "d/c2/x"));
        assert!(
            may(Actions::PUBLISH, "response/api/0") && !may(Actions::RECEIVE, "response/api/0")
        );
        assert!(!rules.filter("response/api/+", NAMES).allowed);
        assert!(!rules.filter("#", NAMES).allowed && !rules.filter("$SYS/#", NAMES).allowed);
        for other in ["raw.u1", "device/data/c1", "iotflow/devices/c1/telemetry"] {
            assert!(!may(Actions::PUBLISH, other), "{other}");
        }
    }

    #[test]
    fn types_for_other_products_have_their_topics_alone() {
        let rules = of_type("iotflow");
        let may = |action, topic| rules.topic(action, topic, NAMES).allowed;
        assert!(may(
            Actions::PUBLISH,
            "iotflow/devices/c1/telemetry/sensors"
        ));
        assert!(may(Actions::RECEIVE, "iotflow/devices/c1/commands/control"));
        assert!(rules.filter("iotflow/devices/c1/#", NAMES).allowed);
        for forbidden in [
            "iotflow/devices/c1/commands/control",
            "iotflow/devices/c2/telemetry/sensors",
            "iotflow/fleet/commands/pumps",
            "iotflow/system/health",
            "iotflow/monitoring/broker",
        ] {
            assert!(!may(Actions::PUBLISH, forbidden), "{forbidden}");
        }
        assert!(!may(Actions::RECEIVE, "iotflow/fleet/commands/pumps"));
        assert!(!rules.filter("iotflow/fleet/commands/#", NAMES).allowed);
        let rules = of_type("service-mqtt");
        let may = |action, topic| rules.topic(action, topic, NAMES).allowed;
        assert!(may(Actions::PUBLISH, "raw.u1") && may(Actions::PUBLISH, "raw.u1/a/b"));
        assert!(!may(Actions::PUBLISH, "raw.u2") && !may(Actions::PUBLISH, "d/c1/x"));
        let rules = of_type("tls-guide");
        let may = |action, topic| rules.topic(action, topic, NAMES).allowed;
        assert!(
            may(Actions::PUBLISH, "device/data/c1") && !may(Actions::PUBLISH, "device/data/c2")
        );
    }

    #[test]
    fn users_of_iotflow_go_by_their_user_name() {
        let rules = iotflow_user_rules(&IotflowBase::default());
        let may = |action, topic| rules.topic(action, topic, NAMES).allowed;
        assert!(may(Actions::PUBLISH, "iotflow/devices/u1/telemetry"));
        assert!(!may(Actions::PUBLISH, "iotflow/devices/c1/telemetry"));
        assert!(!may(Actions::PUBLISH, "iotflow/fleet/commands/all"));
    }

    #[test]
    fn commands_of_a_group_are_one_topic() {
        let base = IotflowBase::default();
        let of = |group| base.commands_of(group);
        assert_eq!(of("pumps").as_deref(), Some("iotflow/fleet/commands/pumps"));
        for none in ["", "+", "a/b", "#", "%c"] {
            assert_eq!(of(none), None);
        }
    }
}
