use super::both;
use crate::{
    Actor, AlarmFilter, AlarmRow, AlarmWatchRow, AlarmsKept, Expected, NewCredential, NewDevice,
    OutboxRow, PageRequest, RegistryError, Visibility,
};

both!(a_rule_is_changed_by_who_knows_it, registry, {
    let actor = Actor::local();
    assert!(
        registry
            .set_rule(&actor, "hot", "", "{}", Expected::from(0))
            .await?
    );
    let again = registry
        .set_rule(&actor, "hot", "", "{}", Expected::from(0))
        .await;
    assert!(matches!(again, Err(RegistryError::Exists(_))), "{again:?}");
    assert!(
        !registry
            .set_rule(&actor, "hot", "", "{\"own\":true}", Expected::from(1))
            .await?
    );
    let stale = registry
        .set_rule(&actor, "hot", "", "{}", Expected::from(1))
        .await;
    assert!(
        matches!(stale, Err(RegistryError::Stale { .. })),
        "{stale:?}"
    );
    let all = registry.stored_rules(&Visibility::All).await?;
    assert_eq!((all.len(), all[0].revision), (1, 2));
    assert_eq!(all[0].definition, "{\"own\":true}");
    let team = Visibility::Team("t".to_owned());
    assert!(registry.stored_rules(&team).await?.is_empty());
    assert_eq!(registry.rules_stamp().await?.rules, 1);
    registry.remove_rule(&actor, "hot").await?;
    let removed = registry.remove_rule(&actor, "hot").await;
    assert!(
        matches!(removed, Err(RegistryError::NotFound(_))),
        "{removed:?}"
    );
});

both!(rules_know_types_and_tags_of_devices, registry, {
    let new = NewDevice {
        id: Some("pump".to_owned()),
        tags: vec!["north".to_owned(), "old".to_owned()],
        ..NewDevice::unnamed()
    };
    registry.create_device(&Actor::local(), new).await?;
    let names = [(0, "pump".to_owned()), (0, "none".to_owned())];
    let found = registry.rule_devices(&names).await?;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].tags, ["north", "old"]);
});

both!(cleared_alarms_are_kept_for_a_time, registry, {
    let alarm = |id: i64, cleared_ms: i64| AlarmRow {
        node: "n".to_owned(),
        id,
        name: "hot".to_owned(),
        device: "pump".to_owned(),
        state: if cleared_ms > 0 { "cleared" } else { "active" }.to_owned(),
        value: Some(1.5),
        cleared_ms,
        ..AlarmRow::default()
    };
    let all = [alarm(1, 10), alarm(2, 0), alarm(3, 2_000), alarm(4, 3_000)];
    registry.save_alarms(&all, &[]).await?;
    registry.save_alarms(&[alarm(2, 0)], &[]).await?;
    let open = registry.open_alarms("n").await?;
    assert_eq!((open.len(), open[0].id, open[0].value), (1, 2, Some(1.5)));
    let filter = AlarmFilter {
        device: Some("pump".to_owned()),
        states: vec!["cleared".to_owned()],
        ..AlarmFilter::default()
    };
    let page = PageRequest::first(2);
    let found = registry.alarms(&filter, &page).await?;
    let ids: Vec<i64> = found.items.iter().map(|alarm| alarm.id).collect();
    assert_eq!(ids, [4, 3]);
    let kept = AlarmsKept {
        age_ms: 1_000,
        alarms: 1,
    };
    assert_eq!(registry.trim_alarms(kept, 2_500).await?, 2);
    let remaining = registry.alarms(&AlarmFilter::default(), &page).await?;
    let ids: Vec<i64> = remaining.items.iter().map(|alarm| alarm.id).collect();
    assert_eq!(ids, [4, 2]);
});

both!(
    messages_about_alarms_are_kept_until_they_are_published,
    registry,
    {
        let message = |node: &str, number: i64| OutboxRow {
            node: node.to_owned(),
            number,
            tenant: 3,
            subject: "hot".to_owned(),
            topic: "a/b".to_owned(),
            payload: format!("{number}"),
            hops: 2,
        };
        let alarm = AlarmRow {
            node: "n".to_owned(),
            id: 1,
            ..AlarmRow::default()
        };
        let all = [message("n", 2), message("n", 1), message("other", 1)];
        registry
            .save_alarms(std::slice::from_ref(&alarm), &all)
            .await?;
        // The answer to the first try was lost.
        registry.save_alarms(&[alarm], &all[..1]).await?;
        let found = registry.outbox("n", 10).await?;
        assert_eq!(found, [message("n", 1), message("n", 2)]);
        assert_eq!(registry.outbox("n", 1).await?.len(), 1);
        registry.remove_from_outbox("n", &[1, 7]).await?;
        assert_eq!(registry.outbox("n", 10).await?, [message("n", 2)]);
        let more: Vec<OutboxRow> = (3..7).map(|number| message("n", number)).collect();
        registry.save_alarms(&[], &more).await?;
        assert_eq!(registry.trim_outbox("n", 5).await?, 0);
        assert_eq!(registry.trim_outbox("n", 2).await?, 3);
        assert_eq!(registry.outbox("n", 10).await?, more[2..]);
        assert_eq!(registry.last_of_outbox("n").await?, 6);
        assert_eq!(registry.last_of_outbox("none").await?, 0);
        assert_eq!(registry.outbox("other", 10).await?.len(), 1);
    }
);

both!(what_alarms_wait_for_is_kept_by_node, registry, {
    let row = |subject: &str, state: &str| AlarmWatchRow {
        tenant: 3,
        name: "hot".to_owned(),
        subject: subject.to_owned(),
        state: state.to_owned(),
    };
    let rows = [row("a", "{}"), row("b", "{}")];
    registry.save_alarm_watches("n", &rows).await?;
    registry.save_alarm_watches("other", &rows).await?;
    let rows = [row("a", ""), row("b", "{\"last\":1}"), row("none", "")];
    registry.save_alarm_watches("n", &rows).await?;
    let kept = registry.alarm_watches("n", 10).await?;
    assert_eq!(kept, [row("b", "{\"last\":1}")]);
    assert_eq!(registry.alarm_watches("other", 1).await?.len(), 1);
});

both!(
    devices_whose_last_certificate_ends_soon_are_found,
    registry,
    {
        let actor = Actor::local();
        let mut number = 0;
        for (device, ends) in [
            ("soon", &[500, 700][..]),
            ("late", &[500, 2_000]),
            ("never", &[500, 0]),
            ("none", &[]),
        ] {
            let new = NewDevice {
                id: Some(device.to_owned()),
                ..NewDevice::unnamed()
            };
            registry.create_device(&actor, new).await?;
            for ends_ms in ends {
                number += 1;
                let new = NewCredential::Certificate([number; 32]);
                let added = registry.add_credential(&actor, device.into(), "", new, *ends_ms);
                added.await?;
            }
        }
        let found = registry.certificate_ends(1_000, 10).await?;
        let found: Vec<(&str, i64)> = found
            .iter()
            .map(|one| (one.device.as_str(), one.ends_ms))
            .collect();
        assert_eq!(found, [("soon", 700)]);
        assert!(registry.certificate_ends(600, 10).await?.is_empty());
    }
);
