use super::both;
use crate::{
    Actor, AlarmFilter, AlarmRow, AlarmsKept, NewDevice, PageRequest, RegistryError, Scope,
};

both!(a_rule_is_changed_by_who_knows_it, registry, {
    let actor = Actor::local();
    let of = ("hot", "");
    assert!(registry.set_rule(&actor, of, "{}", Some(0)).await?);
    let again = registry.set_rule(&actor, of, "{}", Some(0)).await;
    assert!(matches!(again, Err(RegistryError::Exists(_))), "{again:?}");
    assert!(
        !registry
            .set_rule(&actor, of, "{\"own\":true}", Some(1))
            .await?
    );
    let stale = registry.set_rule(&actor, of, "{}", Some(1)).await;
    assert!(
        matches!(stale, Err(RegistryError::Stale { .. })),
        "{stale:?}"
    );
    let all = registry.stored_rules(&Scope::All).await?;
    assert_eq!((all.len(), all[0].revision), (1, 2));
    assert_eq!(all[0].definition, "{\"own\":true}");
    let team = Scope::Team("t".to_owned());
    assert!(registry.stored_rules(&team).await?.is_empty());
    assert_eq!(registry.rules_stamp().await?.0, 1);
    registry.remove_rule(&actor, "hot").await?;
    let gone = registry.remove_rule(&actor, "hot").await;
    assert!(matches!(gone, Err(RegistryError::NotFound(_))), "{gone:?}");
});

both!(rules_know_types_and_tags_of_devices, registry, {
    let new = NewDevice {
        id: Some("pump".to_owned()),
        tags: vec!["north".to_owned(), "old".to_owned()],
        ..NewDevice::unnamed()
    };
    registry.create_device(&Actor::local(), new).await?;
    let wanted = [(0, "pump".to_owned()), (0, "none".to_owned())];
    let found = registry.rule_devices(&wanted).await?;
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
    registry.save_alarms(&all).await?;
    registry.save_alarms(&[alarm(2, 0)]).await?;
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
    let left = registry.alarms(&AlarmFilter::default(), &page).await?;
    let ids: Vec<i64> = left.items.iter().map(|alarm| alarm.id).collect();
    assert_eq!(ids, [4, 2]);
});
