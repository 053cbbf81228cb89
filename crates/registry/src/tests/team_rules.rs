//! Rules of groups and teams, and what who sees one team may give.

use martlet_access::RuleLine;
use martlet_permission::{Actions, Names};

use super::{all, both, new_device, new_group, new_team, of_team};
use crate::{
    Actor, ApiRole, Conflict, DeviceChange, Expected, NO_ROLE, NewDevice, NewProvisioningKey,
    NewUser, Owner, Refused, Registry, RegistryError, Renewed, Snapshot, USER_ROLE, UserChange,
};

both!(
    what_groups_forbid_applies_first_and_what_they_permit_last,
    registry,
    {
        let rule = |line: &str| RuleLine::parse(line).expect("it is a rule");
        let rules = [rule("topic deny a/secret"), rule("topic read a/#")];
        registry
            .add_rule_set(Owner::DeviceType, "meter", &rules)
            .await?;
        let mut groups = Vec::new();
        for (name, line) in [
            ("b", "topic deny a/x"),
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
        assert!(reads(&snapshot, "a/y") && !reads(&snapshot, "a/secret"));
        assert!(reads(&snapshot, "b/open") && !reads(&snapshot, "a/x"));
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
        assert!(!reads(&newer, "b/open") && reads(&newer, "a/y"));
        registry
            .remove_group(&all(), &groups[0], Expected::any())
            .await?;
        let Renewed::Changed(crate::Changed { tables: newer, .. }) =
            newer.renew_from(registry).await?
        else {
            panic!("a group has gone");
        };
        let whole = Snapshot::read(registry).await?;
        for id in ["d1", "d2"] {
            let rules = |tables: &Snapshot| tables.rules_of(0, id).map(|all| all.rules().to_vec());
            assert_eq!(rules(&newer), rules(&whole));
        }
    }
);

both!(who_sees_one_team_gives_nobody_more_than_that, registry, {
    let shared = registry.add_team(&all(), new_team("shared", false)).await?;
    let own = registry.add_team(&all(), new_team("own", true)).await?;
    let (ann, bob) = (of_team(&shared.id), of_team(&own.id));
    let is_refused =
        |outcome: Result<(), RegistryError>| matches!(outcome, Err(RegistryError::Refused(_)));
    let with = |name: &str, role: &str, api_role| NewUser {
        role: Some(role.to_owned()),
        api_role,
        ..NewUser::new(name)
    };
    let none = ApiRole::None;
    let created = registry
        .create_user(&ann, with("u1", "user", ApiRole::Administrator), "x")
        .await;
    assert!(is_refused(created.map(drop)));
    let created = registry
        .create_user(&ann, with("u1", "administrator", none), "x")
        .await;
    assert!(is_refused(created.map(drop)));
    let created = registry
        .create_user(&ann, with("u1", "user", none), "x")
        .await;
    assert!(
        is_refused(created.map(drop)),
        "those are everybody's topics"
    );
    let created = registry.create_user(&ann, NewUser::new("u1"), "x").await?;
    assert_eq!((created.team, created.tenant), (shared.id.clone(), 0));
    assert_eq!(created.role, NO_ROLE);
    let created = registry.create_user(&bob, NewUser::new("u3"), "x").await?;
    assert_eq!(created.role, USER_ROLE);
    the_types_of_a_team_name_their_devices(registry, &ann, &bob).await?;
    // Everything of a tenant is theirs who own it.
    let created = registry
        .create_user(&bob, with("u2", "administrator", none), "x")
        .await?;
    assert_eq!(created.tenant, own.tenant);
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
    assert!(is_refused(
        registry.delete_user(&bob, "root", Expected::any()).await
    ));
    assert!(is_refused(registry.purge_user(&bob, "root").await));
    let raised = UserChange {
        api_role: Some(ApiRole::Operator),
        ..UserChange::default()
    };
    assert!(is_refused(
        registry
            .change_user(&bob, "u2", raised, Expected::any())
            .await
            .map(drop)
    ));
    registry.change_password(&bob, "u2", "y").await?;
    // What others publish in the common tenant is not theirs to permit.
    let lines = [RuleLine::parse("topic readwrite #").expect("it is a rule")];
    let group = registry.add_group(&ann, new_group("g")).await?;
    let outcome = registry
        .change_rules(&ann, Owner::Group, &group.id, &lines, Expected::any())
        .await;
    assert!(is_refused(outcome));
    let group = registry.add_group(&bob, new_group("g")).await?;
    registry
        .change_rules(&bob, Owner::Group, &group.id, &lines, Expected::from(1))
        .await?;
    let outcome = registry
        .change_rules(&bob, Owner::Group, &group.id, &lines, Expected::from(1))
        .await;
    assert!(matches!(outcome, Err(RegistryError::Stale { .. })));
    assert_eq!(
        registry
            .group_rules(&bob.visibility, &group.id)
            .await?
            .rules,
        lines
    );
    // Rules that could not be read again are refused before they are written.
    let odd = RuleLine {
        filter: "a/#/b".into(),
        ..lines[0].clone()
    };
    let outcome = registry
        .change_rules(&bob, Owner::Group, &group.id, &[odd], Expected::any())
        .await;
    assert!(is_refused(outcome));
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
    let is_refused = |outcome: Result<(), RegistryError>| matches!(outcome, Err(RegistryError::Refused(Refused::RuleSetOfAll(.., filter))) if filter == "m/#");
    let of_type = |id: &str, device_type: &str| NewDevice {
        device_type: device_type.to_owned(),
        ..new_device(id)
    };
    let created = registry.create_device(ann, of_type("t1", "tap")).await;
    assert!(is_refused(created.map(drop)));
    registry.create_device(bob, of_type("t1", "tap")).await?;
    registry.create_device(ann, of_type("t2", "meter")).await?;
    let change = DeviceChange {
        device_type: Some("tap".to_owned()),
        ..DeviceChange::default()
    };
    let changed = registry
        .change_device(ann, "t2".into(), change.clone(), Expected::any())
        .await;
    assert!(is_refused(changed.map(drop)));
    registry
        .change_device(&all(), "t2".into(), change, Expected::any())
        .await?;
    // What it was given is not taken away by another change.
    let change = DeviceChange {
        device_type: Some("tap".to_owned()),
        name: Some("named".to_owned()),
        ..DeviceChange::default()
    };
    registry
        .change_device(ann, "t2".into(), change, Expected::any())
        .await?;
    let key = NewProvisioningKey {
        device_type: "tap".to_owned(),
        ..NewProvisioningKey::new("line")
    };
    let created = registry.add_provisioning_key(ann, key.clone()).await;
    assert!(is_refused(created.map(drop)));
    let team = ann.visibility.team().map(str::to_owned);
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
    registry
        .change_user(ann, "u1", role, Expected::any())
        .await?;
    let role = UserChange {
        role: Some("tap".to_owned()),
        ..UserChange::default()
    };
    assert!(is_refused(
        registry
            .change_user(ann, "u1", role, Expected::any())
            .await
            .map(drop)
    ));
    Ok(())
}

both!(
    a_role_of_who_was_deleted_stays_and_it_is_said_why,
    registry,
    {
        registry.add_rule_set(Owner::Role, "reader", &[]).await?;
        registry.add_user("ann", "reader", "secret").await?;
        registry.delete_user(&all(), "ann", Expected::any()).await?;
        let outcome = registry.remove_rule_set(Owner::Role, "reader").await;
        assert!(matches!(
            outcome,
            Err(RegistryError::Conflict(Conflict::RuleSetInUse {
                is_deleted: true,
                ..
            }))
        ));
        registry.purge_user(&all(), "ann").await?;
        registry.remove_rule_set(Owner::Role, "reader").await?;
        registry.create_device(&all(), new_device("d")).await?;
        registry
            .add_rule_set(Owner::DeviceType, "meter", &[])
            .await?;
        registry.remove_rule_set(Owner::DeviceType, "meter").await?;
    }
);
