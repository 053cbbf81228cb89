use super::{all, both, is_not_found, new_device, new_group, new_team, of_team};
use crate::{
    Actor, Command, CommandAnswer, CommandFilter, CommandKey, CommandOutcome, CommandState,
    CommandStep, CommandUpdate, CommandsKept, DeviceFilter, FleetTarget, NewCommand, PageRequest,
    Registry, RegistryError, Status, Visibility,
};

fn new(id: &str) -> NewCommand {
    NewCommand {
        id: Some(id.to_owned()),
        kind: "control".to_owned(),
        name: "open".to_owned(),
        parameters: "{}".to_owned(),
        qos: None,
        time_ms: 60_000,
        hops: 0,
    }
}

async fn add(registry: &mut Registry, device: &str, id: &str) -> Result<Command, RegistryError> {
    let actor = Actor::local();
    registry.add_command(&actor, device.into(), new(id)).await
}

async fn state(
    registry: &mut Registry,
    device: &str,
    id: &str,
) -> Result<CommandState, RegistryError> {
    let found = registry
        .command(&Visibility::All, device.into(), id)
        .await?;
    Ok(found.state)
}

fn update(command: CommandKey, step: CommandStep) -> CommandUpdate {
    CommandUpdate {
        command,
        step,
        at_ms: 5,
    }
}

both!(steps_of_several_commands_are_applied_in_order, registry, {
    registry.add_device("pump").await?;
    let one = add(registry, "pump", "one").await?;
    add(registry, "pump", "two").await?;
    assert!(matches!(
        add(registry, "pump", "one").await,
        Err(RegistryError::Exists(_))
    ));
    let due = registry.due_commands(0, 10).await?;
    assert_eq!(due.len(), 2);
    let message = u64::MAX - 1;
    let answer = CommandAnswer {
        outcome: CommandOutcome::Succeeded,
        progress: Some(100),
        result: "done".to_owned(),
    };
    let by_message = |receiver: &str| CommandKey::Message(message, receiver.to_owned());
    let sent = update(
        CommandKey::Number(one.number),
        CommandStep::Sent { message },
    );
    assert_eq!(registry.update_commands(&[sent]).await?.len(), 1);
    // A receipt of another client than the device does not count.
    let others = update(by_message("monitor"), CommandStep::Delivered);
    assert!(registry.update_commands(&[others]).await?.is_empty());
    let two = CommandKey::Id(0, "pump".to_owned(), "two".to_owned());
    let none = CommandKey::Id(1, "pump".to_owned(), "two".to_owned());
    let updates = [
        update(by_message("pump"), CommandStep::Delivered),
        update(two, CommandStep::Answered(answer.clone())),
        update(none, CommandStep::Answered(answer)),
    ];
    assert_eq!(registry.update_commands(&updates).await?.len(), 2);
    assert_eq!(
        state(registry, "pump", "one").await?,
        CommandState::Delivered
    );
    let two = registry
        .command(&Visibility::All, "pump".into(), "two")
        .await?;
    assert_eq!(two.state, CommandState::Succeeded);
    assert_eq!(
        (two.progress, &*two.result, two.finished_ms),
        (Some(100), "done", 5)
    );
    assert!(registry.due_commands(0, 10).await?.is_empty());
});

both!(
    a_device_that_subscribes_has_its_commands_published,
    registry,
    {
        registry.add_device("pump").await?;
        let one = add(registry, "pump", "one").await?;
        let nobody = update(
            CommandKey::Number(one.number),
            CommandStep::NoReceiver { again: false },
        );
        registry.update_commands(&[nobody]).await?;
        assert!(registry.due_commands(0, 10).await?.is_empty());
        let pump = [(0, "pump".to_owned())];
        assert_eq!(registry.devices_subscribed(&pump, None).await?, 1);
        assert_eq!(registry.due_commands(0, 10).await?.len(), 1);
        assert_eq!(registry.tenants_with_commands().await?, [0]);
    }
);

both!(commands_are_found_by_device_and_by_id, registry, {
    for device in ["pump", "valve"] {
        registry.add_device(device).await?;
        add(registry, device, "same").await?;
    }
    add(registry, "pump", "other").await?;
    let ids = |commands: Vec<Command>| {
        let ids = commands.into_iter();
        ids.map(|one| format!("{} {}", one.device, one.id))
            .collect::<Vec<_>>()
    };
    let all = &Visibility::All;
    let team = &Visibility::Team("another".to_owned());
    let same = registry.commands_of_id(all, "same", 10).await?;
    assert_eq!(ids(same), ["valve same", "pump same"]);
    let others = registry.commands_of_id(team, "same", 10).await?;
    assert_eq!(ids(others), [""; 0]);
    registry.expire_commands(i64::MAX).await?;
    add(registry, "pump", "open").await?;
    let found = registry
        .recent_commands_of(all, 0, "pump", i64::MAX, 10)
        .await?;
    assert_eq!(ids(found), ["pump open", "pump other", "pump same"]);
    let found = registry.recent_commands_of(team, 0, "pump", 0, 10).await?;
    assert!(found.is_empty());
    let found = registry.recent_commands_of(all, 1, "pump", 0, 10).await?;
    assert!(found.is_empty());
});

both!(commands_end_by_time_and_with_their_device, registry, {
    for device in ["pump", "valve"] {
        registry.add_device(device).await?;
        add(registry, device, "c").await?;
    }
    assert_eq!(registry.expire_commands(0).await?, 0);
    registry.set_status("pump", Status::Maintenance).await?;
    assert_eq!(state(registry, "pump", "c").await?, CommandState::Cancelled);
    assert_eq!(registry.expire_commands(i64::MAX).await?, 1);
    assert_eq!(state(registry, "valve", "c").await?, CommandState::Expired);
    let actor = Actor::local();
    let retried = registry.retry_command(&actor, "valve".into(), "c");
    assert_eq!(retried.await?.state, CommandState::Pending);
    let kept = CommandsKept {
        commands: 0,
        age_ms: u64::MAX,
    };
    assert_eq!(registry.trim_commands(kept, 0).await?, 1);
    let missing = registry.command(&Visibility::All, "pump".into(), "c").await;
    assert!(is_not_found(missing));
    let filter = CommandFilter::default();
    let page = PageRequest::first(10);
    let listed = registry.commands(&Visibility::All, "valve".into(), &filter, &page);
    assert_eq!(listed.await?.items.len(), 1);
});

both!(a_command_to_a_group_has_a_state_per_device, registry, {
    let actor = Actor::local();
    let group = crate::NewGroup {
        name: "pumps".to_owned(),
        ..crate::NewGroup::default()
    };
    let group = registry.add_group(&actor, group).await?;
    for device in ["a", "b", "c"] {
        let mut new = new_device(device);
        new.groups = vec![group.id.clone()];
        registry.create_device(&actor, new).await?;
    }
    registry.set_status("c", Status::Inactive).await?;
    let sent = registry
        .add_fleet_command(&actor, FleetTarget::Group("pumps".to_owned()), new("all"))
        .await?;
    assert_eq!((sent.devices, sent.left_out), (2, 1));
    let cancelled = registry.cancel_command(&actor, "a".into(), "all");
    cancelled.await?;
    let found = registry
        .fleet_reports(&Visibility::All, "pumps", None, 10)
        .await?;
    let expected = vec![(CommandState::Pending, 1), (CommandState::Cancelled, 1)];
    assert_eq!(found.1[0].states, expected);
});

both!(a_command_to_a_filter_is_one_of_its_own, registry, {
    let actor = Actor::local();
    for (device, tag) in [("a", "cold"), ("b", "cold"), ("c", "warm")] {
        let mut new = new_device(device);
        new.tags = vec![tag.to_owned()];
        registry.create_device(&actor, new).await?;
    }
    let cold = || {
        FleetTarget::Filter(DeviceFilter {
            tag: Some("cold".to_owned()),
            ..DeviceFilter::default()
        })
    };
    let sent = registry.add_fleet_command(&actor, cold(), new("x")).await?;
    assert_eq!((sent.devices, sent.left_out, sent.group), (2, 0, None));
    let again = registry.add_fleet_command(&actor, cold(), new("x")).await;
    assert!(matches!(again, Err(RegistryError::Exists(_))));
    let reports = registry
        .filter_reports(&Visibility::All, Some("x"), 10)
        .await?;
    assert_eq!(reports[0].states, [(CommandState::Pending, 2)]);
    for id in ["+", "a#"] {
        let sent = registry.add_fleet_command(&actor, cold(), new(id)).await;
        assert!(matches!(sent, Err(RegistryError::Refused(_))), "{id}");
    }
    registry.add_group(&actor, new_group("pumps")).await?;
    let as_group = registry.add_fleet_command(&actor, cold(), new("pumps"));
    assert!(matches!(as_group.await, Err(RegistryError::Exists(_))));
    let team = Visibility::Team("other".to_owned());
    assert!(registry.filter_reports(&team, None, 10).await?.is_empty());
    let (filter, page) = (CommandFilter::default(), PageRequest::first(1));
    let listed = registry.fleet_commands(&Visibility::All, None, "x", &filter, &page);
    let listed = listed.await?;
    assert_eq!(listed.items[0].device, "a");
    assert!(listed.next.is_some());
    let none = registry.fleet_commands(&team, None, "x", &filter, &page);
    assert!(is_not_found(none.await));
});

both!(commands_of_two_teams_with_one_id_are_two, registry, {
    let mut teams = Vec::new();
    for (name, owns_tenant) in [
        ("north", true),
        ("south", true),
        ("plain", false),
        ("bare", false),
    ] {
        let team = registry
            .add_team(&all(), new_team(name, owns_tenant))
            .await?;
        let device = new_device(&format!("{name}-1"));
        registry.create_device(&of_team(&team.id), device).await?;
        teams.push(team.id);
    }
    let everything = || FleetTarget::Filter(DeviceFilter::default());
    for team in &teams[..3] {
        let new = NewCommand {
            name: format!("go {team}"),
            ..new("same")
        };
        let sent = registry
            .add_fleet_command(&of_team(team), everything(), new)
            .await?;
        assert_eq!((sent.devices, sent.left_out), (1, 0));
    }
    // It has the tenant of `plain`, and so the topic for the sum of its states.
    let bare = of_team(&teams[3]);
    let as_plain = registry.add_fleet_command(&bare, everything(), new("same"));
    assert!(matches!(as_plain.await, Err(RegistryError::Exists(_))));
    let reports = registry
        .filter_reports(&Visibility::All, Some("same"), 10)
        .await?;
    let states = [(CommandState::Pending, 1)];
    assert_eq!(reports.len(), 3);
    assert!(reports.iter().all(|report| report.states == states));
    let own = registry
        .filter_reports(&Visibility::Team(teams[1].clone()), None, 10)
        .await?;
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].name, format!("go {}", teams[1]));
});
