//! Teams, and what is theirs.

use martlet_permission::RevokedClients;

use super::{all, both, is_not_found, new_device, new_group, new_team, of_team};
use crate::{
    AccountKind, ApiRole, Conflict, DeviceChange, DeviceFilter, DeviceOrder, Expected, GroupChange,
    NewDevice, NewGroup, NewProvisioningKey, NewUser, NotFound, Owner, PageRequest, RegistryError,
    Renewed, Snapshot, TypeSettings, UserChange, Visibility,
};

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
        assert!(is_not_found(
            registry.device(&bob.visibility, "d1".into()).await
        ));
        let change = DeviceChange::default();
        assert!(is_not_found(
            registry
                .change_device(&bob, "d1".into(), change, Expected::any())
                .await
        ));
        assert!(is_not_found(
            registry
                .delete_device(&bob, "d1".into(), Expected::any())
                .await
        ));
        assert!(is_not_found(
            registry.purge_device(&bob, 1.into(), false).await
        ));
        assert!(is_not_found(
            registry.credentials(&bob.visibility, "d1".into()).await
        ));
        assert!(is_not_found(
            registry.configuration(&bob.visibility, "d1".into()).await
        ));
        assert!(is_not_found(
            registry.group_named(&bob.visibility, &group.id).await
        ));
        let rename = GroupChange::default();
        assert!(is_not_found(
            registry
                .change_group(&bob, &group.id, rename, Expected::any())
                .await
        ));
        assert!(is_not_found(
            registry
                .remove_group(&bob, &group.id, Expected::any())
                .await
        ));
        assert!(is_not_found(
            registry
                .add_to_group(&bob, &theirs.id, &["d1".into()])
                .await
        ));
        assert!(is_not_found(registry.team(&bob.visibility, &one.id).await));
        assert!(is_not_found(
            registry.members(&bob.visibility, &one.id).await
        ));
        assert!(is_not_found(
            registry
                .change_rules(&bob, Owner::Group, &group.id, &[], Expected::any())
                .await
        ));
        let page = PageRequest::first(10);
        let (filter, order) = (DeviceFilter::default(), DeviceOrder::Id);
        assert!(
            registry
                .list_devices(&bob.visibility, &filter, order, &page)
                .await?
                .items
                .is_empty()
        );
        assert_eq!(
            registry
                .list_devices(&ann.visibility, &filter, order, &page)
                .await?
                .items
                .len(),
            1
        );
        assert_eq!(registry.groups(&bob.visibility).await?, [theirs]);
        // An id is one device's in the common tenant, though they do not see whose.
        let taken = registry.create_device(&bob, new_device("d1")).await;
        assert!(matches!(taken, Err(RegistryError::Exists(_))));
        for name in ["roles", "types"] {
            let owner = if name == "roles" {
                Owner::Role
            } else {
                Owner::DeviceType
            };
            let created = registry
                .create_rule_set(&bob, owner, "mine", &[], TypeSettings::default())
                .await;
            assert!(matches!(created, Err(RegistryError::Refused(_))));
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
    // A change of one does not change the other.
    let inactive = DeviceChange {
        status: Some(crate::Status::Inactive),
        ..DeviceChange::default()
    };
    registry
        .change_device(&of_team(&one.id), "d".into(), inactive, Expected::any())
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
        .change_device(&all(), first.number.into(), to_two, Expected::any())
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
            .delete_device(&ann, "gone before".into(), Expected::any())
            .await?;
        let deleted = registry.devices().await?;
        assert!(deleted.is_empty());
        registry
            .delete_team(&all(), &team.id, Expected::from(1))
            .await?;
        assert!(is_not_found(
            registry.team(&Visibility::All, &team.id).await
        ));
        assert!(
            Snapshot::read(registry)
                .await?
                .account_kind(team.tenant, "stays")
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
            let deletion = registry.deletion(tenant, name).await?.expect("it is gone");
            assert_eq!(deletion.kind, Some(AccountKind::Device), "{name}");
            let with = deletion.team.expect("its team is gone");
            let brings_back = name != "gone before";
            let expected = (&team.id, "one", brings_back);
            assert_eq!((&with.id, &*with.name, with.brings_back), expected);
        }
        assert_eq!(registry.deletion(0, "stays").await?, None);
        assert_eq!(registry.deleted_with_teams("stays").await?, ["stays@one"]);
        assert!(registry.deleted_with_teams("other").await?.is_empty());
        assert_eq!(registry.deletion(0, "stays@two").await?, None);
        registry.restore_team(&all(), &team.id).await?;
        let snapshot = Snapshot::read(registry).await?;
        assert!(snapshot.account_kind(team.tenant, "stays").is_some());
        assert!(snapshot.account_kind(team.tenant, "gone before").is_none());
        assert!(registry.deleted_with_teams("stays").await?.is_empty());
        registry
            .delete_team(&all(), &team.id, Expected::any())
            .await?;
        assert_eq!(registry.purge_deleted(1).await?, 0);
        assert_eq!(registry.purge_deleted(0).await?, 2 + 1);
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
    assert_eq!(registry.user(&Visibility::All, "ann").await?, user);
    assert!(is_not_found(
        registry
            .user(&Visibility::Team(team.id.clone()), "ann")
            .await
    ));
    let operator = Some(ApiRole::Operator);
    registry
        .set_member(&all(), &team.id, "ann", operator)
        .await?;
    assert_eq!(
        registry.members(&Visibility::All, &team.id).await?[0].role,
        ApiRole::Operator
    );
    assert_eq!(registry.teams_of("ann").await?.len(), 1);
    let seen = Visibility::Team(team.id.clone());
    assert_eq!(registry.list_users(&seen, false).await?.len(), 1);
    let before = Snapshot::read(registry).await?;
    let change = UserChange {
        email: Some("a@example.org".to_owned()),
        api_role: Some(ApiRole::Administrator),
        ..UserChange::default()
    };
    let changed = registry
        .change_user(&all(), "ann", change.clone(), Expected::from(1))
        .await?;
    assert_eq!(changed.revision, 2);
    let late = registry
        .change_user(&all(), "ann", change, Expected::from(1))
        .await;
    assert!(matches!(late, Err(RegistryError::Stale { .. })));
    // What the gate does not ask about is no change for nodes.
    assert!(matches!(before.renew_from(registry).await?, Renewed::Same));
    assert!(registry.log_in("ann", "secret").await?.is_some());
    assert!(registry.log_in("ann", "guess").await?.is_none());
    registry.delete_user(&all(), "ann", Expected::any()).await?;
    assert!(registry.log_in("ann", "secret").await?.is_none());
    assert!(
        registry
            .members(&Visibility::All, &team.id)
            .await?
            .is_empty()
    );
    let after = Snapshot::read(registry).await?;
    assert_eq!(
        before.no_longer_valid(0, &after),
        [RevokedClients::User("ann".into())]
    );
    let taken = registry.add_user("ann", "user", "x").await;
    assert!(matches!(taken, Err(RegistryError::Exists(_))));
    registry.restore_user(&all(), "ann").await?;
    assert!(registry.log_in("ann", "secret").await?.is_some());
    registry.set_member(&all(), &team.id, "ann", None).await?;
    assert!(registry.teams_of("ann").await?.is_empty());
});

both!(once_administered_a_node_is_nobodys_no_more, registry, {
    assert!(!registry.is_claimed().await?);
    registry.add_user("ann", "user", "x").await?;
    assert!(!registry.is_claimed().await?);
    let role = |api_role| UserChange {
        api_role: Some(api_role),
        ..UserChange::default()
    };
    registry
        .change_user(&all(), "ann", role(ApiRole::Administrator), Expected::any())
        .await?;
    registry
        .change_user(&all(), "ann", role(ApiRole::None), Expected::any())
        .await?;
    registry.remove_user("ann").await?;
    assert!(registry.is_claimed().await?);
});

both!(
    a_team_that_comes_back_leaves_nobody_more_than_they_may_own,
    registry,
    {
        registry.settings.devices_per_user_max = Some(2);
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
        registry
            .delete_team(&all(), &team.id, Expected::any())
            .await?;
        registry.create_device(&all(), owned("d3", "")).await?;
        let outcome = registry.restore_team(&all(), &team.id).await;
        assert!(
            matches!(outcome, Err(RegistryError::Conflict(Conflict::DevicesOfUserAgain(owner, _))) if owner == "ann")
        );
        registry.remove_device("d3").await?;
        registry.restore_team(&all(), &team.id).await?;
    }
);

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
        let created = registry
            .create_device(&all(), device("d", "north", &["hall", "yard", &hall.id]))
            .await?;
        let found = registry
            .device(&Visibility::All, created.number.into())
            .await?;
        assert_eq!((&found.team, found.tenant), (&north.id, north.tenant));
        assert_eq!(found.groups, [hall.id.clone(), yard.id.clone()]);
        // Those of another team are none, by whichever name.
        for group in ["x", &other.id] {
            let outcome = registry
                .create_device(&all(), device("e", "north", &[group]))
                .await;
            assert!(matches!(outcome, Err(RegistryError::Refused(_))));
        }
        let change = DeviceChange {
            team: Some("south".to_owned()),
            groups: Some(vec!["hall".to_owned()]),
            ..DeviceChange::default()
        };
        let moved = registry
            .change_device(&all(), created.number.into(), change, Expected::any())
            .await?;
        assert_eq!((moved.team, moved.tenant), (south.id.clone(), 0));
        assert_eq!(moved.groups, std::slice::from_ref(&other.id));
        let same = DeviceChange {
            team: Some("south".to_owned()),
            ..DeviceChange::default()
        };
        let same = registry
            .change_device(&all(), "d".into(), same, Expected::any())
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
        let two = registry.group_named(&Visibility::All, "hall").await;
        assert!(matches!(
            two,
            Err(RegistryError::NotFound(NotFound::SeveralGroups(_)))
        ));
        let own = Visibility::Team(north.id.clone());
        assert_eq!(registry.group_named(&own, "hall").await?.id, hall.id);
        registry
            .set_member(&all(), "north", "ann", Some(ApiRole::Viewer))
            .await?;
        assert_eq!(registry.members(&Visibility::All, "north").await?.len(), 1);
    }
);

both!(a_team_is_removed_for_good_and_its_name_is_free, registry, {
    let team = registry.add_team(&all(), new_team("north", true)).await?;
    let ann = of_team(&team.id);
    registry.create_device(&ann, new_device("d1")).await?;
    registry.create_device(&ann, new_device("d2")).await?;
    registry
        .delete_device(&all(), 2.into(), Expected::any())
        .await?;
    registry.add_group(&ann, new_group("hall")).await?;
    let user = NewUser::new("bob");
    registry.create_user(&ann, user, "0123456789").await?;
    let outcome = registry.purge_team(&all(), "north", false).await;
    assert!(
        matches!(
            &outcome,
            Err(RegistryError::Conflict(Conflict::TeamHasMembers(_, 1, 1)))
        ),
        "{outcome:?}"
    );
    assert!(registry.purge_team(&ann, "north", true).await.is_err());
    let purged = registry.purge_team(&all(), "north", true).await?;
    assert_eq!((purged.devices, purged.users, purged.groups), (2, 1, 1));
    assert!(is_not_found(registry.user(&Visibility::All, "bob").await));
    assert!(registry.teams(&Visibility::All, true).await?.is_empty());
    assert!(is_not_found(
        registry.device(&Visibility::All, 1.into()).await
    ));
    // Deleted first, it goes without more ado.
    let again = registry.add_team(&all(), new_team("north", true)).await?;
    assert_ne!((&again.id, again.tenant), (&team.id, team.tenant));
    registry
        .create_device(&of_team(&again.id), new_device("d1"))
        .await?;
    registry
        .delete_team(&all(), &again.id, Expected::any())
        .await?;
    assert_eq!(
        registry.purge_team(&all(), "north", false).await?.devices,
        1
    );
    assert!(is_not_found(
        registry.purge_team(&all(), "north", true).await
    ));
});

both!(names_that_look_like_others_are_refused, registry, {
    for name in [".", "..", "pump\u{202E}7", "\u{200F}pump", "a\u{2066}b"] {
        let team = registry.add_team(&all(), new_team(name, false)).await;
        let group = registry.add_group(&all(), new_group(name)).await;
        let device = registry.create_device(&all(), new_device(name)).await;
        let role = registry
            .create_rule_set(&all(), Owner::Role, name, &[], TypeSettings::default())
            .await;
        let outcome = [
            team.err(),
            group.err(),
            device.map(drop).err(),
            role.err(),
            registry.add_user(name, "user", "secret").await.err(),
        ];
        for error in outcome {
            let error = error.expect(name).to_string();
            assert!(error.contains("cannot be the name of a"), "{error}");
        }
    }
    // Right-to-left letters need no control characters.
    registry
        .create_device(&all(), new_device("\u{5D0}\u{5D1}.7"))
        .await?;
});
