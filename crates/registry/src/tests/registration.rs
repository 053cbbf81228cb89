//! Devices that register by a name, and when they were last heard of.

use super::*;
use crate::{
    Activity, Actor, AlarmRow, DataType, DeviceCounts, DeviceFilter, DeviceOrder, DeviceRef,
    Expected, IOTFLOW, InactivityCheck, KindCount, MessageTimes, Owner, PartCounts, SilentDevice,
    TypeSettings, now_ms,
};

/// The type that devices have if none is named.
const DEVICE: (Owner, &str) = (Owner::DeviceType, "device");

fn inactive_after(secs: u32) -> TypeSettings {
    TypeSettings {
        client_ids: None,
        inactive_after_secs: Some(secs),
    }
}

fn named(name: &str) -> NewDevice {
    NewDevice {
        name: Some(name.to_owned()),
        device_type: IOTFLOW.to_owned(),
        kind: "sensor".to_owned(),
        ..NewDevice::unnamed()
    }
}

both!(a_device_registers_with_its_number_as_id, registry, {
    let added = registry.register_device(&all(), named("Sensor 1")).await?;
    assert_eq!((added.number, &*added.id), (1, "1"));
    let secret = added.secret.map(|secret| secret.text().to_owned());
    let secret = secret.unwrap_or_default();
    assert!(
        secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{}",
        secret.len()
    );
    let found = registry.device_of_secret(&secret).await?;
    assert_eq!(found.map(|(device, _)| device.number), Some(1));
    // The name is that device's until it is removed.
    let taken = registry.register_device(&all(), named("Sensor 1")).await;
    assert!(
        matches!(taken, Err(RegistryError::NameTaken(_))),
        "{taken:?}"
    );
    registry.purge_device(&all(), 1.into(), false).await?;
    let again = registry.register_device(&all(), named("Sensor 1")).await?;
    assert_eq!((again.number, &*again.id), (2, "2"));
});

both!(an_older_device_may_have_the_number_as_its_id, registry, {
    registry.register_device(&all(), named("one")).await?;
    let sql = "UPDATE devices SET id = '2' WHERE number = 1";
    let older = sqlx::query(sql).execute(&mut registry.connection);
    older.await.expect("it has another id");
    let added = registry.register_device(&all(), named("two")).await?;
    assert!(added.number == 2 && added.id.len() == 16, "{added:?}");
    // Numbers are not used up by what was tried.
    let third = registry.register_device(&all(), named("three")).await?;
    assert_eq!((third.number, &*third.id), (3, "3"));
});

both!(it_is_noted_when_a_device_was_last_heard_of, registry, {
    registry.add_device("a").await?;
    for (activity, at_ms, expected) in [
        (Activity::Request, 1_000, (1_000, 0, 0)),
        (Activity::Heartbeat, 2_000, (2_000, 2_000, 0)),
        (Activity::Telemetry, 3_000, (3_000, 3_000, 3_000)),
        // What comes late changes nothing.
        (Activity::Telemetry, 2_500, (3_000, 3_000, 3_000)),
        (Activity::Heartbeat, 4_000, (4_000, 4_000, 3_000)),
    ] {
        registry.note_activity(1, activity, at_ms).await?;
        let found = registry
            .device(&Visibility::All, DeviceRef::Number(1))
            .await?;
        let read_back = (
            found.last_seen_ms,
            found.last_message_ms,
            found.last_telemetry_ms,
        );
        assert_eq!(read_back, expected, "{activity:?}");
    }
    let active = |since_ms| DeviceFilter {
        active_since_ms: Some(since_ms),
        ..DeviceFilter::default()
    };
    assert_eq!(
        registry
            .count_devices(&Visibility::All, &active(4_000))
            .await?,
        1
    );
    assert_eq!(
        registry
            .count_devices(&Visibility::All, &active(4_001))
            .await?,
        0
    );
    // The device is not changed by it.
    let found = registry
        .device(&Visibility::All, DeviceRef::Number(1))
        .await?;
    assert_eq!(found.revision, 1);
});

both!(devices_that_sent_messages_are_noted_at_once, registry, {
    registry.add_device("a").await?;
    registry.add_device("b").await?;
    let active = |id: &str, message_ms, telemetry_ms| MessageTimes {
        tenant: 0,
        id: id.to_owned(),
        message_ms,
        heartbeat_ms: message_ms,
        telemetry_ms,
        offline_ms: 0,
    };
    let all = [active("a", 2_000, 0), active("b", 3_000, 3_000)];
    registry.note_message_times(&all).await?;
    // Nobody has that id, and what comes late changes nothing.
    let late = [active("c", 9_000, 0), active("b", 2_500, 2_500)];
    registry.note_message_times(&late).await?;
    for (number, expected) in [(1, (2_000, 2_000, 0)), (2, (3_000, 3_000, 3_000))] {
        let found = registry
            .device(&Visibility::All, DeviceRef::Number(number))
            .await?;
        let read_back = (
            found.last_seen_ms,
            found.last_message_ms,
            found.last_telemetry_ms,
        );
        assert_eq!(read_back, expected, "{number}");
    }
    let other_tenant = MessageTimes {
        tenant: 7,
        ..active("a", 9_000, 0)
    };
    registry.note_message_times(&[other_tenant]).await?;
    let found = registry
        .device(&Visibility::All, DeviceRef::Number(1))
        .await?;
    assert_eq!(found.last_message_ms, 2_000);
});

both!(
    silent_devices_are_inactive_until_they_send_something,
    registry,
    {
        for id in ["a", "b", "never"] {
            registry.add_device(id).await?;
        }
        let silent = |id: &str, last_message_ms, after_secs| SilentDevice {
            tenant: 0,
            id: id.to_owned(),
            last_message_ms,
            after_secs,
        };
        let active = |id: &str, message_ms| MessageTimes {
            tenant: 0,
            id: id.to_owned(),
            message_ms,
            heartbeat_ms: 0,
            telemetry_ms: 0,
            offline_ms: 0,
        };
        let check = |now_ms| InactivityCheck {
            now_ms,
            behind_ms: 1_000,
            known_since_ms: 0,
            limit: 10,
        };
        registry
            .note_message_times(&[active("a", 1_000), active("b", 40_000)])
            .await?;
        assert_eq!(registry.mark_inactive(check(500_000)).await?, []);
        assert!(!registry.has_inactivity().await?);
        let actor = all();
        let set = registry.change_rule_set(
            &actor,
            DEVICE.0,
            DEVICE.1,
            None,
            inactive_after(60),
            Expected::any(),
        );
        set.await?;
        assert!(registry.has_inactivity().await?);
        // One second later than it would be without what may be missing.
        assert_eq!(registry.mark_inactive(check(62_000)).await?, []);
        let found = registry.mark_inactive(check(62_001)).await?;
        assert_eq!(found, [silent("a", 1_000, 60)]);
        let of = |inactive| DeviceFilter {
            inactive: Some(inactive),
            ..DeviceFilter::default()
        };
        assert_eq!(
            registry.count_devices(&Visibility::All, &of(true)).await?,
            1
        );
        assert_eq!(
            registry.count_devices(&Visibility::All, &of(false)).await?,
            2
        );
        let found = registry
            .device(&Visibility::All, DeviceRef::Number(1))
            .await?;
        assert_eq!((found.inactive_since_ms, found.revision), (62_001, 1));
        // A crash before its alarm is raised leaves it so.
        let found = registry.silent_without_alarm("device_inactive", 9).await?;
        assert_eq!(found, [silent("a", 1_000, 60)]);
        let alarm = AlarmRow {
            name: "device_inactive".to_owned(),
            subject: "a".to_owned(),
            raised_ms: 62_001,
            ..AlarmRow::default()
        };
        registry.save_alarms(&[alarm], &[]).await?;
        let found = registry.silent_without_alarm("device_inactive", 9).await?;
        assert_eq!(found, []);
        // It is reported once.
        assert_eq!(registry.mark_inactive(check(90_000)).await?, []);
        let active = registry.note_message_times(&[active("a", 95_000)]).await?;
        assert_eq!(active, [silent("a", 1_000, 0)]);
        let found = registry.mark_inactive(check(120_000)).await?;
        assert_eq!(found, [silent("b", 40_000, 60)]);
        let active = registry.note_activity(2, Activity::Request, 121_000);
        assert_eq!(active.await?, None);
        let active = registry.note_activity(2, Activity::Heartbeat, 122_000);
        assert_eq!(active.await?, Some(silent("b", 40_000, 0)));
        // What may have been missed makes nobody inactive.
        let late = InactivityCheck {
            known_since_ms: 500_000,
            ..check(559_000)
        };
        assert_eq!(registry.mark_inactive(late).await?, []);
        let set = registry.change_rule_set(
            &actor,
            DEVICE.0,
            DEVICE.1,
            None,
            inactive_after(0),
            Expected::any(),
        );
        set.await?;
        assert_eq!(registry.mark_inactive(check(900_000)).await?, []);
    }
);

both!(when_devices_are_inactive_is_checked, registry, {
    for (name, secs) in [("device", 9), ("device", 40_000_000), ("odd", 60)] {
        let (actor, of) = (all(), (Owner::DeviceType, name));
        let set = registry.change_rule_set(
            &actor,
            of.0,
            of.1,
            None,
            inactive_after(secs),
            Expected::any(),
        );
        assert!(set.await.is_err(), "{name} {secs}");
    }
    let team = Actor {
        visibility: Visibility::Team("plant".to_owned()),
        ..all()
    };
    let set = registry.change_rule_set(
        &team,
        DEVICE.0,
        DEVICE.1,
        None,
        inactive_after(60),
        Expected::any(),
    );
    assert!(set.await.is_err());
});

both!(devices_are_counted_and_listed_by_place, registry, {
    for name in ["a", "b", "c"] {
        registry.register_device(&all(), named(name)).await?;
    }
    let other = NewDevice {
        status: Status::Inactive,
        ..NewDevice::unnamed()
    };
    registry.create_device(&all(), other).await?;
    registry
        .delete_device(&all(), 3.into(), Expected::any())
        .await?;
    let counts = registry.device_counts(&Visibility::All).await?;
    let expected = DeviceCounts {
        total: 3,
        active: 2,
        inactive: 1,
        deleted: 1,
        ..DeviceCounts::default()
    };
    assert_eq!(counts, expected);
    let kinds = registry.device_kinds(&Visibility::All).await?;
    let kind = |kind: &str, count| KindCount {
        kind: kind.to_owned(),
        count,
    };
    assert_eq!(kinds, [kind("sensor", 2), kind("", 1)]);
    let (all_of_them, order) = (DeviceFilter::default(), DeviceOrder::Number);
    let from = registry.devices_from(&Visibility::All, &all_of_them, order, 1, 5);
    let (found, total) = from.await?;
    let numbers: Vec<i64> = found.iter().map(|device| device.number).collect();
    assert_eq!((numbers, total), (vec![2, 4], 3));
    let order = DeviceOrder::Created;
    let from = registry.devices_from(&Visibility::All, &all_of_them, order, 0, 1);
    assert_eq!(from.await?.0[0].number, 4);

    for (key, is_active) in [("a", true), ("b", false)] {
        let device = DeviceRef::Number(1);
        registry
            .set_configuration(
                &all(),
                device,
                key,
                "1",
                DataType::Integer,
                is_active,
                Expected::any(),
            )
            .await?;
    }
    let active = registry.active_settings(&[1, 2]).await?;
    assert_eq!(active.into_iter().collect::<Vec<_>>(), [(1, 1)]);
    let over = crate::NewCredential::MadeUp;
    registry
        .add_credential(&all(), DeviceRef::Number(1), "", over, now_ms() - 1)
        .await?;
    let parts = registry.device_parts(&Visibility::All).await?;
    let expected = PartCounts {
        credentials: 4,
        valid_credentials: 3,
        settings: 2,
        active_settings: 1,
    };
    assert_eq!(parts, expected);
});
