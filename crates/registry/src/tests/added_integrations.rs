use super::both;
use crate::{ADDED_MAX, Actor, BridgeSubscription, RegistryError, Visibility};

const UP: (&str, &str) = ("bridge", "up");

both!(
    an_integration_is_of_one_node_and_is_changed_by_name,
    registry,
    {
        let actor = Actor::local();
        for (node, of, settings, is_new) in [
            ("n", UP, "{\"a\":1}", true),
            ("n", UP, "{\"a\":2}", false),
            ("n", ("webhook", "up"), "{}", true),
            ("m", UP, "{}", true),
        ] {
            let set = registry.set_added_integration(&actor, node, of.0, of.1, "", settings);
            assert_eq!(set.await?, is_new);
        }
        let all = registry.added_integrations(&Visibility::All, "n").await?;
        assert_eq!((all.len(), &*all[1].kind), (2, "webhook"));
        assert_eq!((&*all[0].name, &*all[0].settings), ("up", "{\"a\":2}"));
        let other = Visibility::Team("t".to_owned());
        assert!(registry.added_integrations(&other, "n").await?.is_empty());
        registry
            .remove_added_integration(&actor, "n", UP.0, UP.1)
            .await?;
        let again = registry
            .remove_added_integration(&actor, "n", UP.0, UP.1)
            .await;
        assert!(
            matches!(again, Err(RegistryError::NotFound(_))),
            "{again:?}"
        );
        assert_eq!(
            registry
                .added_integrations(&Visibility::All, "m")
                .await?
                .len(),
            1
        );
    }
);

both!(a_node_has_so_many_of_a_kind_at_most, registry, {
    let actor = Actor::local();
    for at in 0..ADDED_MAX {
        let name = format!("b{at}");
        let of = ("webhook", name.as_str());
        let set = registry.set_added_integration(&actor, "n", of.0, of.1, "", "{}");
        assert!(set.await?);
    }
    let more = registry
        .set_added_integration(&actor, "n", "webhook", "more", "", "{}")
        .await;
    assert!(matches!(more, Err(RegistryError::Conflict(_))), "{more:?}");
    let same = registry.set_added_integration(&actor, "n", "webhook", "b0", "", "{}");
    assert!(!same.await?);
    // Those of other kinds are counted apart.
    let other = registry.set_added_integration(&actor, "n", UP.0, UP.1, "", "{}");
    assert!(other.await?);
});

both!(subscriptions_go_with_their_bridge, registry, {
    let of = |bridge: &str, filter: &str, qos| BridgeSubscription {
        bridge: bridge.to_owned(),
        filter: filter.to_owned(),
        qos,
    };
    registry
        .set_added_integration(&Actor::local(), "n", UP.0, UP.1, "", "{}")
        .await?;
    for one in [
        of("up", "a/#", 0),
        of("up", "a/#", 2),
        of("up", "b", 1),
        of("other", "a", 1),
    ] {
        registry.add_bridge_subscription("n", &one).await?;
    }
    registry.remove_bridge_subscription("n", "up", "b").await?;
    let all = registry.bridge_subscriptions("n").await?;
    assert_eq!(all, [of("other", "a", 1), of("up", "a/#", 2)]);
    assert!(registry.bridge_subscriptions("m").await?.is_empty());
    registry
        .remove_added_integration(&Actor::local(), "n", UP.0, UP.1)
        .await?;
    assert_eq!(
        registry.bridge_subscriptions("n").await?,
        [of("other", "a", 1)]
    );
});

both!(a_name_is_one_within_a_team, registry, {
    for name in ["north", "south"] {
        let team = crate::NewTeam {
            name: name.to_owned(),
            owns_tenant: true,
            ..crate::NewTeam::default()
        };
        registry.add_team(&Actor::local(), team).await?;
    }
    let actor = Actor::local();
    for (team, expected) in [("north", true), ("south", true), ("south", false)] {
        let set = registry.set_added_integration(&actor, "n", UP.0, UP.1, team, "{}");
        assert_eq!(set.await?, expected);
        let set = registry.set_rule(&actor, "hot", team, "{}", crate::Expected::any());
        assert_eq!(set.await?, expected);
    }
    let all = registry.added_integrations(&Visibility::All, "n").await?;
    let names: Vec<&str> = all.iter().map(|one| &*one.team_name).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"north") && names.contains(&"south"));
    // Who sees both has to name one.
    let several = registry
        .remove_added_integration(&actor, "n", UP.0, UP.1)
        .await;
    assert!(several.is_err_and(|error| error.to_string().contains("several teams")));
    assert!(registry.remove_rule(&actor, "hot").await.is_err());
    let south = all.iter().find(|one| one.team_name == "south");
    let of_south = Actor {
        visibility: Visibility::of(south.map(|one| &*one.team)),
        ..Actor::local()
    };
    let (_, team) = registry
        .remove_added_integration(&of_south, "n", UP.0, UP.1)
        .await?;
    assert_eq!(team, "south");
    registry.remove_rule(&of_south, "hot").await?;
    assert_eq!(registry.stored_rules(&Visibility::All).await?.len(), 1);
    registry
        .remove_added_integration(&actor, "n", UP.0, UP.1)
        .await?;
});
