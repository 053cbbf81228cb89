use super::both;
use crate::{Actor, BRIDGES_MAX, BridgeSubscription, RegistryError, Scope};

both!(a_bridge_is_of_one_node_and_is_changed_by_name, registry, {
    let actor = Actor::local();
    let up = ("n", "up");
    assert!(registry.set_bridge(&actor, up, "", "{\"a\":1}").await?);
    assert!(!registry.set_bridge(&actor, up, "", "{\"a\":2}").await?);
    assert!(registry.set_bridge(&actor, ("m", "up"), "", "{}").await?);
    let all = registry.bridges(&Scope::All, "n").await?;
    assert_eq!(all.len(), 1);
    assert_eq!((&*all[0].name, &*all[0].settings), ("up", "{\"a\":2}"));
    let other = Scope::Team("t".to_owned());
    assert!(registry.bridges(&other, "n").await?.is_empty());
    registry.remove_bridge(&actor, "n", "up").await?;
    let again = registry.remove_bridge(&actor, "n", "up").await;
    assert!(
        matches!(again, Err(RegistryError::NotFound(_))),
        "{again:?}"
    );
    assert_eq!(registry.bridges(&Scope::All, "m").await?.len(), 1);
});

both!(a_node_has_so_many_bridges_at_most, registry, {
    let actor = Actor::local();
    for at in 0..BRIDGES_MAX {
        let name = format!("b{at}");
        registry.set_bridge(&actor, ("n", &name), "", "{}").await?;
    }
    let more = registry.set_bridge(&actor, ("n", "more"), "", "{}").await;
    assert!(
        matches!(more, Err(RegistryError::LimitReached(_))),
        "{more:?}"
    );
    assert!(!registry.set_bridge(&actor, ("n", "b0"), "", "{}").await?);
});

both!(subscriptions_go_with_their_bridge, registry, {
    let of = |bridge: &str, filter: &str, qos| BridgeSubscription {
        bridge: bridge.to_owned(),
        filter: filter.to_owned(),
        qos,
    };
    registry
        .set_bridge(&Actor::local(), ("n", "up"), "", "{}")
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
    registry.remove_bridge(&Actor::local(), "n", "up").await?;
    assert_eq!(
        registry.bridge_subscriptions("n").await?,
        [of("other", "a", 1)]
    );
});
