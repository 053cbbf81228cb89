use martlet_access::RuleLine;
use martlet_permission::{Actions, Names, Whose};

use super::{all, both, is_not_found, new_device, of_team};
use crate::{
    Actor, ApiRole, BanKind, DeviceChange, DeviceFilter, DeviceOrder, GroupChange, Known, NO_ROLE,
    NewBan, NewDevice, NewGroup, NewProvisioningKey, NewTeam, NewUser, Owner, PageRequest,
    Registry, RegistryError, Renewed, Scope, Snapshot, USER_ROLE, UserChange,
};

fn new_team(name: &str, owns_tenant: bool) -> NewTeam {
    NewTeam {
        name: name.to_owned(),
        owns_tenant,
        ..NewTeam::default()
    }
}

fn new_group(name: &str) -> NewGroup {
    NewGroup {
        name: name.to_owned(),
        ..NewGroup::default()
    }
}

both!(
    what_is_another_teams_is_as_if_it_were_not_there,
    registry,
    {
        let one = registry.add_team(&all(), new_team("one", false)).await?;
        let two = registry.add_team(&all(), new_team("two", false)).await?;
        let (ann, bob) = (of_team(&one.id), of_team(&two.id));
        registry.create_device(&ann, new_device("d1")).await?;
        let group = registry.add_group(&ann, new_group("hall")).await?;
        // Of the same name, since it is another team's.
        let theirs = registry.add_group(&bob, new_group("hall")).await?;
        registry
            .add_to_group(&ann, &group.id, &["d1".into()])
            .await?;
        assert!(is_not_found(registry.device(&bob.scope, "d1".into()).await));
        let change = DeviceChange::default();
        assert!(is_not_found(
            registry
                .change_device(&bob, "d1".into(), change, None)
                .await
        ));
        assert!(is_not_found(
            registry.delete_device(&bob, "d1".into(), None).await
        ));
        assert!(is_not_found(registry.purge_device(&bob, 1.into()).await));
        assert!(is_not_found(
            registry.credentials(&bob.scope, "d1".into()).await
        ));
        assert!(is_not_found(
            registry.configuration(&bob.scope, "d1".into()).await
        ));
        assert!(is_not_found(
            registry.group_named(&bob.scope, &group.id).await
        ));
        let rename = GroupChange::default();
        assert!(is_not_found(
            registry.change_group(&bob, &group.id, rename, None).await
        ));
        assert!(is_not_found(
            registry.remove_group(&bob, &group.id, None).await
        ));
        assert!(is_not_found(
            registry
                .add_to_group(&bob, &theirs.id, &["d1".into()])
                .await
        ));
        assert!(is_not_found(registry.team(&bob.scope, &one.id).await));
        assert!(is_not_found(registry.members(&bob.scope, &one.id).await));
        assert!(is_not_found(
            registry
                .change_rules(&bob, Owner::Group, &group.id, &[], (None, None))
                .await
        ));
        let page = PageRequest::first(10);
        let (filter, order) = (DeviceFilter::default(), DeviceOrder::Id);
        assert!(
            registry
                .list_devices(&bob.scope, &filter, order, &page)
                .await?
                .items
                .is_empty()
        );
        assert_eq!(
            registry
                .list_devices(&ann.scope, &filter, order, &page)
                .await?
                .items
                .len(),
            1
        );
        assert_eq!(registry.groups(&bob.scope).await?, [theirs]);
        // An id is one device's in the common tenant, though they do not see whose.
        let taken = registry.create_device(&bob, new_device("d1")).await;
        assert!(matches!(taken, Err(RegistryError::Exists(_))));
        for name in ["roles", "types"] {
            let owner = if name == "roles" {
                Owner::Role
            } else {
                Owner::DeviceType
            };
            let made = registry
                .create_rule_set(&bob, owner, "mine", &[], None)
                .await;
            assert!(matches!(made, Err(RegistryError::Refused(_))));
        }
        let others = NewDevice {
            team: Some(one.id.clone()),
            ..new_device("d2")
        };
        assert!(registry.create_device(&bob, others).await.is_err());
    }
);

both!(a_tenant_has_ids_of_its_own, registry, {
    let one = registry.add_team(&all(), new_team("one", true)).await?;
    let two = registry.add_team(&all(), new_team("two", true)).await?;
    assert!(one.tenant > 0 && two.tenant > 0 && one.tenant != two.tenant);
    let first = registry
        .create_device(&of_team(&one.id), new_device("d"))
        .await?;
    let second = registry
        .create_device(&of_team(&two.id), new_device("d"))
        .await?;
    registry.add_device("d").await?;
    let snapshot = Snapshot::read(registry).await?;
    let check = |tenant: u32, of: &crate::AddedDevice| {
        let secret = of.secret.as_ref().expect("one was made up").text();
        let found = snapshot.check_device(tenant, "d", "d", secret.as_bytes(), 1);
        matches!(found, Some(Ok(_)))
    };
    assert!(check(one.tenant, &first) && check(two.tenant, &second));
    assert!(!check(two.tenant, &first) && !check(0, &first));
    assert_eq!(snapshot.tenant_named("two"), Some(two.tenant));
    assert_eq!(snapshot.tenant_named("three"), None);
    // A change of one is no change of the other.
    let inactive = DeviceChange {
        status: Some(crate::Status::Inactive),
        ..DeviceChange::default()
    };
    registry
        .change_device(&of_team(&one.id), "d".into(), inactive, None)
        .await?;
    let Renewed::Changed(crate::Changed { tables: newer, .. }) =
        snapshot.renew_from(registry).await?
    else {
        panic!("one device has changed");
    };
    assert!(newer.admits(one.tenant, "d", "d").is_err());
    assert!(newer.admits(two.tenant, "d", "d").is_ok() && newer.admits(0, "d", "d").is_ok());
    // Moved to where there is one of that id it would take its place.
    let to_two = DeviceChange {
        team: Some(two.id.clone()),
        ..DeviceChange::default()
    };
    let moved = registry
        .change_device(&all(), first.number.into(), to_two, None)
        .await;
    assert!(matches!(moved, Err(RegistryError::Exists(_))));
    // A user of one tenant is nobody in the other.
    let ann = NewUser {
        team: one.id.clone(),
        ..NewUser::new("ann")
    };
    registry.create_user(&all(), ann, "secret").await?;
    let snapshot = Snapshot::read(registry).await?;
    assert_eq!(snapshot.tenant_of("ann"), Some(one.tenant));
    assert!(
        snapshot
            .check_user(one.tenant, "ann", "c", b"secret")
            .is_some()
    );
    assert!(snapshot.check_user(0, "ann", "c", b"secret").is_none());
});

both!(
    a_team_goes_with_its_devices_and_comes_back_with_them,
    registry,
    {
        let team = registry.add_team(&all(), new_team("one", true)).await?;
        let ann = of_team(&team.id);
        registry.create_device(&ann, new_device("stays")).await?;
        registry
            .create_device(&ann, new_device("gone before"))
            .await?;
        registry
            .delete_device(&ann, "gone before".into(), None)
            .await?;
        let deleted = registry.devices().await?;
        assert!(deleted.is_empty());
        registry.delete_team(&all(), &team.id, Some(1)).await?;
        assert!(is_not_found(registry.team(&Scope::All, &team.id).await));
        assert!(
            Snapshot::read(registry)
                .await?
                .known(team.tenant, "stays")
                .is_none()
        );
        let again = registry.add_team(&all(), new_team("one", false)).await;
        assert!(matches!(again, Err(RegistryError::Exists(_))));
        // By its name in the tenant, and by the one that it came with.
        for (tenant, name) in [
            (team.tenant, "stays"),
            (0, "stays@one"),
            (0, &format!("stays@{}", team.id)),
            (team.tenant, "gone before"),
        ] {
            let gone = registry.gone(tenant, name).await?.expect("it is gone");
            assert_eq!(gone.known, Some(Known::Device), "{name}");
            let with = gone.team.expect("its team is gone");
            let brings_back = name != "gone before";
            let expected = (&team.id, "one", brings_back);
            assert_eq!((&with.id, &*with.name, with.brings_back), expected);
        }
        assert_eq!(registry.gone(0, "stays").await?, None);
        assert_eq!(registry.gone_with_teams("stays").await?, ["stays@one"]);
        assert!(registry.gone_with_teams("other").await?.is_empty());
        assert_eq!(registry.gone(0, "stays@two").await?, None);
        registry.restore_team(&all(), &team.id).await?;
        let snapshot = Snapshot::read(registry).await?;
        assert!(snapshot.known(team.tenant, "stays").is_some());
        assert!(snapshot.known(team.tenant, "gone before").is_none());
        assert!(registry.gone_with_teams("stays").await?.is_empty());
        registry.delete_team(&all(), &team.id, None).await?;
        assert_eq!(registry.purge_deleted(&all(), i64::MAX).await?, 2 + 1);
        let next = registry.add_team(&all(), new_team("one", true)).await?;
        assert_ne!(
            next.tenant, team.tenant,
            "what is left of one is not for another"
        );
    }
);

both!(users_have_roles_and_are_members, registry, {
    let team = registry.add_team(&all(), new_team("one", false)).await?;
    let new = NewUser {
        api_role: ApiRole::Viewer,
        email: "ann@example.org".to_owned(),
        full_name: "Ann".to_owned(),
        ..NewUser::new("ann")
    };
    let user = registry.create_user(&all(), new, "secret").await?;
    assert_eq!((user.api_role, user.revision), (ApiRole::Viewer, 1));
    assert_eq!(registry.user(&Scope::All, "ann").await?, user);
    assert!(is_not_found(
        registry.user(&Scope::Team(team.id.clone()), "ann").await
    ));
    let operator = Some(ApiRole::Operator);
    registry
        .set_member(&all(), &team.id, "ann", operator)
        .await?;
    assert_eq!(
        registry.members(&Scope::All, &team.id).await?[0].role,
        ApiRole::Operator
    );
    assert_eq!(registry.teams_of("ann").await?.len(), 1);
    let seen = Scope::Team(team.id.clone());
    assert_eq!(registry.list_users(&seen, false).await?.len(), 1);
    let before = Snapshot::read(registry).await?;
    let change = UserChange {
        email: Some("a@example.org".to_owned()),
        api_role: Some(ApiRole::Administrator),
        ..UserChange::default()
    };
    let changed = registry
        .change_user(&all(), "ann", change.clone(), Some(1))
        .await?;
    assert_eq!(changed.revision, 2);
    let late = registry.change_user(&all(), "ann", change, Some(1)).await;
    assert!(matches!(late, Err(RegistryError::Stale { .. })));
    // What the gate does not ask about is no change for nodes.
    assert!(matches!(before.renew_from(registry).await?, Renewed::Same));
    assert!(registry.log_in("ann", "secret").await?.is_some());
    assert!(registry.log_in("ann", "guess").await?.is_none());
    registry.delete_user(&all(), "ann", None).await?;
    assert!(registry.log_in("ann", "secret").await?.is_none());
    assert!(registry.members(&Scope::All, &team.id).await?.is_empty());
    let after = Snapshot::read(registry).await?;
    assert_eq!(
        before.no_longer_valid(0, &after),
        [Whose::User("ann".into())]
    );
    let taken = registry.add_user("ann", "user", "x").await;
    assert!(matches!(taken, Err(RegistryError::Exists(_))));
    registry.restore_user(&all(), "ann").await?;
    assert!(registry.log_in("ann", "secret").await?.is_some());
    registry.set_member(&all(), &team.id, "ann", None).await?;
    assert!(registry.teams_of("ann").await?.is_empty());
});

both!(a_groups_rules_come_after_the_types_by_name, registry, {
    let rule = |line: &str| RuleLine::parse(line).expect("it is a rule");
    let rules = [rule("topic deny a/secret"), rule("topic read a/#")];
    registry
        .add_rule_set(Owner::DeviceType, "meter", &rules)
        .await?;
    let mut groups = Vec::new();
    for (name, line) in [
        ("b", "topic deny b/#"),
        ("a", "topic read b/open"),
        ("c", "topic read a/secret"),
    ] {
        let group = registry.add_group(&all(), new_group(name)).await?;
        registry
            .set_rules(Owner::Group, &group.id, &[rule(line)])
            .await?;
        groups.push(group.id);
    }
    for id in ["d1", "d2"] {
        let device = NewDevice {
            device_type: "meter".to_owned(),
            groups: groups.clone(),
            ..new_device(id)
        };
        registry.create_device(&all(), device).await?;
    }
    let snapshot = Snapshot::read(registry).await?;
    let reads = |snapshot: &Snapshot, topic: &str| {
        let names = Names {
            client_id: "d1",
            user_name: "d1",
        };
        let rules = snapshot.rules_of(0, "d1").expect("it is known");
        rules.topic(Actions::RECEIVE, topic, names).allowed
    };
    assert!(reads(&snapshot, "a/x") && !reads(&snapshot, "a/secret"));
    assert!(reads(&snapshot, "b/open") && !reads(&snapshot, "b/x"));
    let rules = |id| snapshot.rules_of(0, id).expect("it is known");
    assert!(
        std::sync::Arc::ptr_eq(rules("d1"), rules("d2")),
        "they are shared"
    );
    registry
        .remove_from_group(&all(), &groups[1], &["d1".into()])
        .await?;
    let Renewed::Changed(crate::Changed {
        tables: newer,
        names,
        ..
    }) = snapshot.renew_from(registry).await?
    else {
        panic!("one device has changed");
    };
    assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["d1"]);
    assert!(!reads(&newer, "b/open") && reads(&newer, "a/x"));
    registry.remove_group(&all(), &groups[0], None).await?;
    let Renewed::Changed(crate::Changed { tables: newer, .. }) = newer.renew_from(registry).await?
    else {
        panic!("a group has gone");
    };
    let whole = Snapshot::read(registry).await?;
    for id in ["d1", "d2"] {
        let rules = |tables: &Snapshot| tables.rules_of(0, id).map(|all| all.rules().to_vec());
        assert_eq!(rules(&newer), rules(&whole));
    }
});

both!(who_sees_one_team_gives_nobody_more_than_that, registry, {
    let shared = registry.add_team(&all(), new_team("shared", false)).await?;
    let own = registry.add_team(&all(), new_team("own", true)).await?;
    let (ann, bob) = (of_team(&shared.id), of_team(&own.id));
    let is_refused =
        |told: Result<(), RegistryError>| matches!(told, Err(RegistryError::Refused(_)));
    let with = |name: &str, role: &str, api_role| NewUser {
        role: Some(role.to_owned()),
        api_role,
        ..NewUser::new(name)
    };
    let none = ApiRole::None;
    let made = registry
        .create_user(&ann, with("u1", "user", ApiRole::Administrator), "x")
        .await;
    assert!(is_refused(made.map(drop)));
    let made = registry
        .create_user(&ann, with("u1", "administrator", none), "x")
        .await;
    assert!(is_refused(made.map(drop)));
    let made = registry
        .create_user(&ann, with("u1", "user", none), "x")
        .await;
    assert!(is_refused(made.map(drop)), "those are everybody's topics");
    let made = registry.create_user(&ann, NewUser::new("u1"), "x").await?;
    assert_eq!((made.team, made.tenant), (shared.id.clone(), 0));
    assert_eq!(made.role, NO_ROLE);
    let made = registry.create_user(&bob, NewUser::new("u3"), "x").await?;
    assert_eq!(made.role, USER_ROLE);
    the_types_of_a_team_name_their_devices(registry, &ann, &bob).await?;
    // Everything of a tenant is theirs who own it.
    let made = registry
        .create_user(&bob, with("u2", "administrator", none), "x")
        .await?;
    assert_eq!(made.tenant, own.tenant);
    // A user with a role elsewhere is not taken over by a team of which they are a member.
    registry
        .create_user(&all(), with("root", "user", ApiRole::Administrator), "x")
        .await?;
    registry
        .set_member(&all(), &own.id, "root", Some(ApiRole::Viewer))
        .await?;
    assert!(is_refused(
        registry.change_password(&bob, "root", "y").await
    ));
    assert!(is_refused(registry.delete_user(&bob, "root", None).await));
    assert!(is_refused(registry.purge_user(&bob, "root").await));
    let raised = UserChange {
        api_role: Some(ApiRole::Operator),
        ..UserChange::default()
    };
    assert!(is_refused(
        registry
            .change_user(&bob, "u2", raised, None)
            .await
            .map(drop)
    ));
    registry.change_password(&bob, "u2", "y").await?;
    // What others publish in the common tenant is not theirs to permit.
    let lines = [RuleLine::parse("topic readwrite #").expect("it is a rule")];
    let group = registry.add_group(&ann, new_group("g")).await?;
    let told = registry
        .change_rules(&ann, Owner::Group, &group.id, &lines, (None, None))
        .await;
    assert!(is_refused(told));
    let group = registry.add_group(&bob, new_group("g")).await?;
    registry
        .change_rules(&bob, Owner::Group, &group.id, &lines, (Some(1), None))
        .await?;
    let told = registry
        .change_rules(&bob, Owner::Group, &group.id, &lines, (Some(1), None))
        .await;
    assert!(matches!(told, Err(RegistryError::Stale { .. })));
    assert_eq!(
        registry.group_rules(&bob.scope, &group.id).await?.rules,
        lines
    );
    // Rules that could not be read again are refused before they are written.
    let odd = RuleLine {
        filter: "a/#/b".into(),
        ..lines[0].clone()
    };
    let told = registry
        .change_rules(&bob, Owner::Group, &group.id, &[odd], (None, None))
        .await;
    assert!(is_refused(told));
    Snapshot::read(registry).await?;
});

/// In the common tenant a team gives its devices the types that permit what is theirs alone.
async fn the_types_of_a_team_name_their_devices(
    registry: &mut Registry,
    ann: &Actor,
    bob: &Actor,
) -> Result<(), RegistryError> {
    for (name, rule) in [
        ("meter", "pattern readwrite m/%u/#"),
        ("tap", "topic read m/#"),
    ] {
        let rules = [RuleLine::parse(rule).expect("it is a rule")];
        registry
            .add_rule_set(Owner::DeviceType, name, &rules)
            .await?;
        registry.add_rule_set(Owner::Role, name, &rules).await?;
    }
    let is_refused = |told: Result<(), RegistryError>| matches!(told, Err(RegistryError::Refused(why)) if why.contains("m/#"));
    let of_type = |id: &str, device_type: &str| NewDevice {
        device_type: device_type.to_owned(),
        ..new_device(id)
    };
    let made = registry.create_device(ann, of_type("t1", "tap")).await;
    assert!(is_refused(made.map(drop)));
    registry.create_device(bob, of_type("t1", "tap")).await?;
    registry.create_device(ann, of_type("t2", "meter")).await?;
    let change = DeviceChange {
        device_type: Some("tap".to_owned()),
        ..DeviceChange::default()
    };
    let changed = registry
        .change_device(ann, "t2".into(), change.clone(), None)
        .await;
    assert!(is_refused(changed.map(drop)));
    registry
        .change_device(&all(), "t2".into(), change, None)
        .await?;
    // What it was given is not taken away by another change.
    let change = DeviceChange {
        device_type: Some("tap".to_owned()),
        name: Some("named".to_owned()),
        ..DeviceChange::default()
    };
    registry
        .change_device(ann, "t2".into(), change, None)
        .await?;
    let key = NewProvisioningKey {
        device_type: "tap".to_owned(),
        ..NewProvisioningKey::new("line")
    };
    let made = registry.add_provisioning_key(ann, key.clone()).await;
    assert!(is_refused(made.map(drop)));
    let team = ann.scope.team().map(str::to_owned);
    let (_, key) = registry
        .add_provisioning_key(&all(), NewProvisioningKey { team, ..key })
        .await?;
    registry
        .provision(&all(), key.text(), new_device("t3"), None)
        .await?;
    let role = UserChange {
        role: Some("meter".to_owned()),
        ..UserChange::default()
    };
    registry.change_user(ann, "u1", role, None).await?;
    let role = UserChange {
        role: Some("tap".to_owned()),
        ..UserChange::default()
    };
    assert!(is_refused(
        registry.change_user(ann, "u1", role, None).await.map(drop)
    ));
    Ok(())
}

both!(once_administered_a_node_is_nobodys_no_more, registry, {
    assert!(!registry.is_claimed().await?);
    registry.add_user("ann", "user", "x").await?;
    assert!(!registry.is_claimed().await?);
    let role = |api_role| UserChange {
        api_role: Some(api_role),
        ..UserChange::default()
    };
    registry
        .change_user(&all(), "ann", role(ApiRole::Administrator), None)
        .await?;
    registry
        .change_user(&all(), "ann", role(ApiRole::None), None)
        .await?;
    registry.remove_user("ann").await?;
    assert!(registry.is_claimed().await?);
});

both!(
    a_team_that_comes_back_leaves_nobody_more_than_they_may_own,
    registry,
    {
        registry.limit_devices_per_user(Some(2));
        registry.add_user("ann", "user", "x").await?;
        let team = registry.add_team(&all(), new_team("t", false)).await?;
        let owned = |id: &str, team: &str| NewDevice {
            team: Some(team.to_owned()),
            owner: "ann".to_owned(),
            ..new_device(id)
        };
        registry
            .create_device(&all(), owned("d1", &team.id))
            .await?;
        registry
            .create_device(&all(), owned("d2", &team.id))
            .await?;
        registry.delete_team(&all(), &team.id, None).await?;
        registry.create_device(&all(), owned("d3", "")).await?;
        let told = registry.restore_team(&all(), &team.id).await;
        assert!(matches!(told, Err(RegistryError::LimitReached(why)) if why.contains("ann")));
        registry.remove_device("d3").await?;
        registry.restore_team(&all(), &team.id).await?;
    }
);

both!(a_ban_is_of_the_tenant_that_its_name_is_in, registry, {
    let north = registry.add_team(&all(), new_team("north", true)).await?;
    let plain = registry.add_team(&all(), new_team("plain", false)).await?;
    let ann = NewUser::new("ann");
    registry
        .create_user(&of_team(&north.id), ann, "0123456789")
        .await?;
    let new = |kind, value: &str, team: Option<&str>| NewBan {
        kind,
        value: value.to_owned(),
        team: team.map(str::to_owned),
        why: String::new(),
        until_ms: 0,
    };
    let (client, user) = (BanKind::ClientId, BanKind::UserName);
    for (actor, ban, value) in [
        (of_team(&north.id), new(client, "p", None), "p"),
        (of_team(&north.id), new(user, "p@north", None), "p"),
        // Of another tenant it is nobody's name here.
        (of_team(&north.id), new(user, "p@plain", None), "p@plain"),
        (
            of_team(&north.id),
            new(BanKind::Address, "::/0", None),
            "::/0",
        ),
        (all(), new(client, "p@north", None), "p"),
        (all(), new(user, "ann", None), "ann"),
        (all(), new(user, "p", Some("north")), "p"),
        (all(), new(user, "p@north", Some(&north.id)), "p"),
    ] {
        let made = registry.add_ban(&actor, ban).await?;
        assert_eq!(
            (made.tenant, &*made.team, &*made.value),
            (north.tenant, &*north.id, value)
        );
    }
    for ban in [
        new(client, "p", None),
        new(client, "ann", None),
        new(user, "p@nowhere", None),
        new(user, "p@plain", None),
    ] {
        let made = registry.add_ban(&all(), ban.clone()).await?;
        assert_eq!((made.tenant, &made.value), (0, &ban.value));
    }
    for ban in [
        new(client, "p", Some("plain")),
        new(client, "p", Some("nowhere")),
        new(client, "p", Some("")),
    ] {
        let refused = registry.add_ban(&all(), ban).await;
        assert!(matches!(refused, Err(RegistryError::Refused(_))));
    }
    let (actor, ban) = (of_team(&plain.id), new(client, "p", Some(&north.id)));
    let other = registry.add_ban(&actor, ban).await;
    assert!(matches!(other, Err(RegistryError::Refused(_))));
    // The same again is one: `p` by two names, `p@plain`, `ann` and an address.
    let own = registry.bans(&of_team(&north.id).scope).await?;
    assert_eq!(own.len(), 5, "{own:#?}");
    assert!(own.iter().all(|ban| ban.team == north.id));
    assert_eq!(registry.bans(&Scope::All).await?.len(), 9);
});

both!(pages_of_users_and_bans_follow_each_other, registry, {
    let team = registry.add_team(&all(), new_team("t", true)).await?;
    let ann = of_team(&team.id);
    for number in 0..5 {
        let user = NewUser::new(&format!("u{number}"));
        let actor = if number < 2 { &ann } else { &all() };
        registry.create_user(actor, user, "x").await?;
        let ban = NewBan {
            kind: BanKind::ClientId,
            value: format!("c{number}"),
            team: None,
            why: String::new(),
            until_ms: 0,
        };
        registry.add_ban(actor, ban).await?;
    }
    for (scope, count) in [(Scope::All, 5), (ann.scope, 2)] {
        let mut request = PageRequest {
            with_total: true,
            ..PageRequest::first(2)
        };
        let mut names = Vec::new();
        loop {
            let page = registry.users_page(&scope, false, &request).await?;
            assert_eq!(page.total, Some(count));
            names.extend(page.items.into_iter().map(|user| user.name));
            request.cursor = page.next;
            if request.cursor.is_none() {
                break;
            }
        }
        let expected: Vec<String> = (0..count).map(|number| format!("u{number}")).collect();
        assert_eq!(names, expected);
        let mut values = Vec::new();
        loop {
            let page = registry.bans_page(&scope, &request).await?;
            assert_eq!(page.total, Some(count));
            values.extend(page.items.into_iter().map(|ban| ban.value));
            request.cursor = page.next;
            if request.cursor.is_none() {
                break;
            }
        }
        values.sort();
        let expected: Vec<String> = (0..count).map(|number| format!("c{number}")).collect();
        assert_eq!(values, expected);
    }
    let gone = registry
        .users_page(&Scope::All, true, &PageRequest::first(9))
        .await?;
    assert!(gone.items.is_empty());
});

both!(
    names_of_teams_and_groups_stand_where_their_ids_do,
    registry,
    {
        let north = registry.add_team(&all(), new_team("north", true)).await?;
        let south = registry.add_team(&all(), new_team("south", false)).await?;
        let of_team = |team: &str, group: &str| NewGroup {
            team: Some(team.to_owned()),
            ..new_group(group)
        };
        // Of the same name in both, and the one of no team.
        let hall = registry.add_group(&all(), of_team("north", "hall")).await?;
        assert_eq!(hall.team, north.id);
        let other = registry.add_group(&all(), of_team("south", "hall")).await?;
        let yard = registry.add_group(&all(), of_team("", "yard")).await?;
        let device = |id: &str, team: &str, groups: &[&str]| NewDevice {
            team: Some(team.to_owned()),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..new_device(id)
        };
        let made = registry
            .create_device(&all(), device("d", "north", &["hall", "yard", &hall.id]))
            .await?;
        let found = registry.device(&Scope::All, made.number.into()).await?;
        assert_eq!((&found.team, found.tenant), (&north.id, north.tenant));
        assert_eq!(found.groups, [hall.id.clone(), yard.id.clone()]);
        // Those of another team are none, by whichever name.
        for group in ["x", &other.id] {
            let told = registry
                .create_device(&all(), device("e", "north", &[group]))
                .await;
            assert!(matches!(told, Err(RegistryError::Refused(_))));
        }
        let change = DeviceChange {
            team: Some("south".to_owned()),
            groups: Some(vec!["hall".to_owned()]),
            ..DeviceChange::default()
        };
        let moved = registry
            .change_device(&all(), made.number.into(), change, None)
            .await?;
        assert_eq!((moved.team, moved.tenant), (south.id.clone(), 0));
        assert_eq!(moved.groups, std::slice::from_ref(&other.id));
        let same = DeviceChange {
            team: Some("south".to_owned()),
            ..DeviceChange::default()
        };
        let same = registry
            .change_device(&all(), "d".into(), same, None)
            .await?;
        assert_eq!(same.revision, moved.revision, "nothing is different");
        let user = NewUser {
            team: "north".to_owned(),
            ..NewUser::new("ann")
        };
        let user = registry.create_user(&all(), user, "0123456789").await?;
        assert_eq!((user.team, user.tenant), (north.id.clone(), north.tenant));
        let key = NewProvisioningKey {
            team: Some("south".to_owned()),
            groups: vec!["hall".to_owned()],
            ..NewProvisioningKey::new("line")
        };
        let (key, _) = registry.add_provisioning_key(&all(), key).await?;
        assert_eq!((key.team, key.groups), (south.id, vec![other.id]));
        // Of two groups of one name neither is meant, but by who sees one.
        let two = registry.group_named(&Scope::All, "hall").await;
        assert!(matches!(two, Err(RegistryError::NotFound(why)) if why.contains("several")));
        let own = Scope::Team(north.id.clone());
        assert_eq!(registry.group_named(&own, "hall").await?.id, hall.id);
        registry
            .set_member(&all(), "north", "ann", Some(ApiRole::Viewer))
            .await?;
        assert_eq!(registry.members(&Scope::All, "north").await?.len(), 1);
    }
);

both!(a_team_is_removed_for_good_and_its_name_is_free, registry, {
    let team = registry.add_team(&all(), new_team("north", true)).await?;
    let ann = of_team(&team.id);
    registry.create_device(&ann, new_device("d1")).await?;
    registry.create_device(&ann, new_device("d2")).await?;
    registry.delete_device(&all(), 2.into(), None).await?;
    registry.add_group(&ann, new_group("hall")).await?;
    let user = NewUser::new("bob");
    registry.create_user(&ann, user, "0123456789").await?;
    let told = registry.purge_team(&all(), "north", false).await;
    assert!(
        matches!(&told, Err(RegistryError::Refused(why)) if why.contains("1 devices and 1 users")),
        "{told:?}"
    );
    assert!(registry.purge_team(&ann, "north", true).await.is_err());
    let gone = registry.purge_team(&all(), "north", true).await?;
    assert_eq!((gone.devices, gone.users, gone.groups), (2, 1, 1));
    assert!(is_not_found(registry.user(&Scope::All, "bob").await));
    assert!(registry.teams(&Scope::All, true).await?.is_empty());
    assert!(is_not_found(registry.device(&Scope::All, 1.into()).await));
    // Deleted first, it goes without more ado.
    let again = registry.add_team(&all(), new_team("north", true)).await?;
    assert_ne!((&again.id, again.tenant), (&team.id, team.tenant));
    registry
        .create_device(&of_team(&again.id), new_device("d1"))
        .await?;
    registry.delete_team(&all(), &again.id, None).await?;
    assert_eq!(
        registry.purge_team(&all(), "north", false).await?.devices,
        1
    );
    assert!(is_not_found(
        registry.purge_team(&all(), "north", true).await
    ));
});

both!(a_ban_that_would_be_over_already_is_refused, registry, {
    let ban = |until_ms| NewBan {
        kind: BanKind::ClientId,
        value: "d".to_owned(),
        team: None,
        why: String::new(),
        until_ms,
    };
    for over in [1, crate::now_ms(), -1] {
        let told = registry.add_ban(&all(), ban(over)).await;
        assert!(matches!(told, Err(RegistryError::Refused(_))), "{over}");
    }
    let later = crate::now_ms() + 60_000;
    assert_eq!(registry.add_ban(&all(), ban(later)).await?.until_ms, later);
});

both!(
    a_role_of_who_was_deleted_stays_and_it_is_said_why,
    registry,
    {
        registry.add_rule_set(Owner::Role, "reader", &[]).await?;
        registry.add_user("ann", "reader", "secret").await?;
        registry.delete_user(&all(), "ann", None).await?;
        let told = registry.remove_rule_set(Owner::Role, "reader").await;
        assert!(
            matches!(told, Err(RegistryError::Refused(why)) if why.contains("remove it for good first"))
        );
        registry.purge_user(&all(), "ann").await?;
        registry.remove_rule_set(Owner::Role, "reader").await?;
        registry.create_device(&all(), new_device("d")).await?;
        registry
            .add_rule_set(Owner::DeviceType, "meter", &[])
            .await?;
        registry.remove_rule_set(Owner::DeviceType, "meter").await?;
    }
);

both!(names_that_look_like_others_are_refused, registry, {
    for name in [".", "..", "pump\u{202E}7", "\u{200F}pump", "a\u{2066}b"] {
        let team = registry.add_team(&all(), new_team(name, false)).await;
        let group = registry.add_group(&all(), new_group(name)).await;
        let device = registry.create_device(&all(), new_device(name)).await;
        let role = registry
            .create_rule_set(&all(), Owner::Role, name, &[], None)
            .await;
        let told = [
            team.err(),
            group.err(),
            device.map(drop).err(),
            role.err(),
            registry.add_user(name, "user", "secret").await.err(),
        ];
        for error in told {
            let error = error.expect(name).to_string();
            assert!(error.contains("cannot be the name of a"), "{error}");
        }
    }
    // Right-to-left letters need no control characters.
    registry
        .create_device(&all(), new_device("\u{5D0}\u{5D1}.7"))
        .await?;
});
