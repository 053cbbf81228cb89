use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::json;

use super::{all, both, is_not_found, new_device, new_group, of_team};
use crate::{
    Actor, Expected, InactivityCheck, MessageTimes, MessagesOfChanges, OutboxRow, Owner, Registry,
    RegistryError, TableChange, TwinChange, TwinReport, TypeSettings, Values, Visibility, wait,
};

fn values(json: serde_json::Value) -> Values {
    match json {
        serde_json::Value::Object(values) => values,
        other => panic!("{other} is not an object"),
    }
}

fn patch(json: serde_json::Value) -> TwinChange {
    TwinChange::Merge(values(json))
}

fn report(device: &str, json: serde_json::Value) -> TwinReport {
    TwinReport {
        tenant: 0,
        device: device.to_owned(),
        patch: values(json),
        at_ms: 7,
        hops: 0,
    }
}

both!(both_sides_of_a_twin_have_versions_of_their_own, registry, {
    registry.add_device("pump").await?;
    let actor = all();
    let set = patch(json!({"a": 1, "b": {"c": 2}}));
    let twin = registry.change_desired(&actor, "pump".into(), &set, Expected::from(0));
    assert_eq!(twin.await?.desired.version, 1);
    let stale = registry.change_desired(&actor, "pump".into(), &set, Expected::from(0));
    assert!(matches!(
        stale.await,
        Err(RegistryError::Stale { found: 1, .. })
    ));
    let reports = [
        report("pump", json!({"a": 1})),
        report("none", json!({"a": 1})),
        report("pump", json!({"a": null, "b": {"c": 2}})),
        report("pump", json!({"long": "x".repeat(70_000)})),
    ];
    let outcomes = registry.note_reported(&reports).await?;
    let applied: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(applied, [true, false, true, false]);
    let twin = registry.twin(&Visibility::All, "pump".into()).await?;
    assert_eq!(twin.desired.values, values(json!({"a": 1, "b": {"c": 2}})));
    assert_eq!(twin.reported.values, values(json!({"b": {"c": 2}})));
    assert_eq!((twin.reported.version, twin.reported.updated_ms), (2, 7));
    assert_eq!(twin.difference(), values(json!({"a": 1})));
    let replace = TwinChange::Replace(values(json!({"d": null, "e": 1})));
    let twin = registry.change_desired(&actor, "pump".into(), &replace, Expected::from(1));
    assert_eq!(twin.await?.desired.values, values(json!({"e": 1})));
});

/// A message about each change, numbered.
#[derive(Debug, Default)]
struct Messages(AtomicI64);

impl MessagesOfChanges for Messages {
    fn message(&self, change: TableChange<'_>) -> Option<OutboxRow> {
        let payload = match change {
            TableChange::Twin {
                device,
                side,
                version,
                hops,
                ..
            } => format!("{device} {side} {version} {hops}"),
            TableChange::Inactive(device) => format!("{} inactive", device.id),
            TableChange::Active(device) => format!("{} active", device.id),
        };
        Some(OutboxRow {
            node: "n".to_owned(),
            number: self.0.fetch_add(1, Ordering::Relaxed) + 1,
            payload,
            ..OutboxRow::default()
        })
    }
}

both!(messages_are_written_with_their_changes, registry, {
    registry.settings.messages_of_changes = Some(Arc::new(Messages::default()));
    registry.add_device("pump").await?;
    let (actor, set) = (all(), patch(json!({"a": 1})));
    for expected in [0, 0] {
        // The second one is refused, and leaves nothing.
        let set = registry.change_desired(&actor, "pump".into(), &set, Expected::from(expected));
        let _ = set.await;
    }
    let of_rule = TwinReport {
        hops: 2,
        ..report("pump", json!({"a": 1}))
    };
    registry
        .note_reported(&[of_rule, report("none", json!({"a": 1}))])
        .await?;
    let secs = TypeSettings {
        client_ids: None,
        inactive_after_secs: Some(60),
    };
    let set = registry.change_rule_set(
        &actor,
        Owner::DeviceType,
        "device",
        None,
        secs,
        Expected::any(),
    );
    set.await?;
    let active = |message_ms| MessageTimes {
        tenant: 0,
        id: "pump".to_owned(),
        message_ms,
        heartbeat_ms: 0,
        telemetry_ms: 0,
        offline_ms: 0,
    };
    registry.note_message_times(&[active(1)]).await?;
    let check = InactivityCheck {
        now_ms: 100_000,
        behind_ms: 0,
        known_since_ms: 0,
        limit: 10,
    };
    registry.mark_inactive(check).await?;
    registry.note_message_times(&[active(2)]).await?;
    let found = registry.outbox("n", 10).await?;
    let found: Vec<&str> = found.iter().map(|row| &*row.payload).collect();
    let expected = [
        "pump desired 1 0",
        "pump reported 1 2",
        "pump inactive",
        "pump active",
    ];
    assert_eq!(found, expected);
});

both!(twins_are_read_for_devices_that_have_some, registry, {
    for device in ["a", "b", "c"] {
        registry.add_device(device).await?;
    }
    let set = patch(json!({"x": 1}));
    for device in ["a", "c"] {
        registry
            .change_desired(&all(), device.into(), &set, Expected::any())
            .await?;
    }
    registry
        .note_reported(&[report("b", json!({"x": 2}))])
        .await?;
    let names = ["a", "b", "none"].map(|id| (0, id.to_owned()));
    let found = registry.twins_of(&names).await?;
    let mut versions: Vec<(&str, i64)> = found
        .iter()
        .map(|twin| (&*twin.device, twin.desired.version))
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, [("a", 1), ("b", 0)]);
    let page = registry.devices_with_desired(0, 1).await?;
    assert_eq!(page[0].2, "a");
    let page = registry.devices_with_desired(page[0].0, 10).await?;
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].2, "c");
    let team = of_team("t");
    let other = registry.change_desired(&team, "a".into(), &set, Expected::any());
    assert!(is_not_found(other.await));
    registry.remove_device("a").await?;
    assert!(registry.twins_of(&names[..1]).await?.is_empty());
});

both!(
    a_reported_version_of_firmware_is_that_of_the_device,
    registry,
    {
        registry.add_device("pump").await?;
        let long = "9".repeat(10_000);
        for (version, found) in [
            (json!({"firmware_version": "2.0"}), "2.0"),
            (json!({"a": 1}), "2.0"),
            (json!({"firmware_version": 3}), "2.0"),
            (json!({"firmware_version": long}), "2.0"),
            (json!({"firmware_version": "2.1"}), "2.1"),
        ] {
            registry.note_reported(&[report("pump", version)]).await?;
            let device = registry.device(&Visibility::All, "pump".into()).await?;
            assert_eq!(device.firmware_version, found);
        }
        let report = |device: &str, version: &str| crate::ReportedVersion {
            tenant: 0,
            device: device.to_owned(),
            version: version.to_owned(),
        };
        let reported = [
            report("pump", "2.1"),
            report("none", "1"),
            report("pump", "3.0"),
        ];
        assert_eq!(registry.note_firmware_versions(&reported).await?, 1);
        let device = registry.device(&Visibility::All, "pump".into()).await?;
        assert_eq!(device.firmware_version, "3.0");
    }
);

// A device is sent values with a version, and takes the same version for the same values.
both!(a_version_of_a_twin_has_the_same_values_always, registry, {
    let actor = Actor::local();
    let group = registry.add_group(&actor, new_group("pumps")).await?;
    let mut device = new_device("pump");
    device.groups = vec![group.id.clone()];
    registry.create_device(&actor, device).await?;
    let set = patch(json!({"x": 0}));
    let path = group.id.clone();
    registry
        .change_group_twin(&actor, &path, &set, Expected::any())
        .await?;
    let mut other = Registry::open(registry.location().clone()).await?;
    let changes = std::thread::spawn(move || {
        wait(async {
            for x in 1..=100 {
                let set = patch(json!({ "x": x }));
                let actor = Actor::local();
                let changed = other.change_group_twin(&actor, &path, &set, Expected::any());
                changed.await?;
            }
            other.close().await
        })
    });
    let names = [(0, "pump".to_owned())];
    let mut read_count = 0;
    while !changes.is_finished() {
        for twin in registry.twins_of(&names).await? {
            let x = twin.desired.version - 1;
            assert_eq!(twin.of_groups, values(json!({ "x": x })));
            read_count += 1;
        }
    }
    changes.join().expect("no panic")?;
    assert!(read_count > 0);
});
