//! What holds where no file says anything.

use std::sync::Arc;

use martlet_broker::{Actions, Rule, Rules};

/// People, programs, and anonymous clients where they are let in: all topics but those that begin
/// with `$`, and reading `$SYS/#`, as with Mosquitto.
pub fn default_rules() -> Arc<Rules> {
    compiled(
        &[(Actions::ALL, "#"), (Actions::READ, "$SYS/#")],
        "the default for people",
    )
}

/// Administrators: everything that any client may do.
pub fn administrator_rules() -> Arc<Rules> {
    Arc::new(Rules::open())
}

/// A device that has no type of its own: the topics that carry its name, in the layouts that are in
/// use. What it measures it publishes, what it is told it reads.
pub fn device_rules() -> Arc<Rules> {
    const TOLD: Actions = Actions::READ;
    const TELLS: Actions = Actions::PUBLISH;
    let both = Actions::ALL;
    let rules = [
        (both, "d/%c/#"),
        (TELLS, "device/data/%c"),
        (TELLS, "raw.%u"),
        (TELLS, "iotflow/devices/%c/telemetry"),
        (TELLS, "iotflow/devices/%c/telemetry/#"),
        (TELLS, "iotflow/devices/%c/status"),
        (TELLS, "iotflow/devices/%c/status/#"),
        (TELLS, "iotflow/devices/%c/heartbeat"),
        (TELLS, "iotflow/devices/%c/events/#"),
        (TELLS, "iotflow/devices/%c/commands/+/response"),
        (TOLD, "iotflow/devices/%c/commands/#"),
        (TOLD, "iotflow/devices/%c/config/#"),
        (TOLD, "iotflow/fleet/commands/#"),
        (TOLD, "iotflow/commands/device-type/+/%c"),
        (TELLS, "iotflow/discovery/register/%c"),
        (TOLD, "iotflow/discovery/response/%c"),
        (TELLS, "iotflow/status/devices/%c/+"),
        (TELLS, "iotflow/lwt/devices/%c"),
        // Where the node waits for what it has asked, under a name that cannot be guessed.
        (TELLS, "response/api/+"),
    ];
    compiled(&rules, "the default for devices")
}

fn compiled(rules: &[(Actions, &str)], source: &str) -> Arc<Rules> {
    let rules = rules.iter().map(|(actions, filter)| Rule {
        actions: *actions,
        allows: true,
        filter: (*filter).into(),
        source: source.into(),
    });
    let rules = Rules::compile(rules.collect(), Actions::NONE);
    // Their filters are valid, as the tests see.
    Arc::new(rules.unwrap_or_else(|_| Rules::closed()))
}

#[cfg(test)]
mod tests {
    use martlet_broker::Names;

    use super::*;

    const NAMES: Names<'_> = Names {
        client_id: "c1",
        user_name: "u1",
    };

    #[test]
    fn people_may_do_all_but_what_is_the_nodes() {
        let rules = default_rules();
        let may = |action, topic| rules.topic(action, topic, NAMES).allowed;
        assert!(may(Actions::PUBLISH, "a/b") && may(Actions::RECEIVE, "$SYS/broker/uptime"));
        assert!(!may(Actions::PUBLISH, "$SYS/x") && !may(Actions::RECEIVE, "$other/x"));
        assert!(rules.filter("#", NAMES).allowed && rules.filter("$SYS/#", NAMES).allowed);
        assert!(!rules.filter("$other/#", NAMES).allowed);
    }

    #[test]
    fn devices_have_what_carries_their_name() {
        let rules = device_rules();
        let may = |action, topic| rules.topic(action, topic, NAMES).allowed;
        assert!(may(Actions::PUBLISH, "iotflow/devices/c1/telemetry"));
        assert!(may(Actions::PUBLISH, "raw.u1") && may(Actions::PUBLISH, "device/data/c1"));
        assert!(may(Actions::RECEIVE, "iotflow/devices/c1/commands/reboot"));
        assert!(!may(Actions::PUBLISH, "iotflow/devices/c1/commands/reboot"));
        assert!(
            may(Actions::PUBLISH, "response/api/0") && !may(Actions::RECEIVE, "response/api/0")
        );
        assert!(!rules.filter("response/api/+", NAMES).allowed);
        assert!(!may(Actions::PUBLISH, "iotflow/devices/c2/telemetry"));
        assert!(!may(Actions::RECEIVE, "iotflow/devices/c2/commands/reboot"));
        assert!(!rules.filter("#", NAMES).allowed && !rules.filter("$SYS/#", NAMES).allowed);
        assert!(rules.filter("d/c1/#", NAMES).allowed);
    }
}
