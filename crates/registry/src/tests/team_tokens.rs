use martlet_permission::{RefusalCause, RevokedClients};

use super::{all, both, is_not_found, new_device, of_team};
use crate::{
    COMMON_TENANT, DeviceChange, DeviceRef, Expected, LoginNumbers, NewDevice, NewTeam, Registry,
    RegistryError, Renewed, Snapshot, Team, TeamTokenLogin, Visibility,
};

async fn add_team(registry: &mut Registry, name: &str) -> Result<Team, RegistryError> {
    let team = NewTeam {
        name: name.to_owned(),
        ..NewTeam::default()
    };
    registry.add_team(&all(), team).await
}

/// Adds a device of a team.
async fn add_device(registry: &mut Registry, id: &str, team: &str) -> Result<i64, RegistryError> {
    let device = NewDevice {
        team: Some(team.to_owned()),
        ..new_device(id)
    };
    Ok(registry.create_device(&all(), device).await?.number)
}

/// The tables as they are now, by what has changed in them.
async fn renewed(older: &Snapshot, registry: &mut Registry) -> Result<Snapshot, RegistryError> {
    match older.renew_from(registry).await? {
        Renewed::Changed(changed) => Ok((*changed.tables).clone()),
        other => panic!("something has changed: {other:?}"),
    }
}

type Login<'a> = (&'a str, &'a str, &'a str);

fn cause(tables: &Snapshot, (key, secret, client_id): Login<'_>) -> Option<RefusalCause> {
    let found = tables.check_team_token(COMMON_TENANT, key, client_id, secret.as_bytes());
    found.and_then(Result::err).map(|refusal| refusal.cause)
}

fn login(tables: &Snapshot, (key, secret, client_id): Login<'_>) -> Option<TeamTokenLogin> {
    let found = tables.check_team_token(COMMON_TENANT, key, client_id, secret.as_bytes());
    found.and_then(Result::ok)
}

both!(a_token_lets_the_devices_of_its_team_in, registry, {
    let (one, two) = (
        add_team(registry, "one").await?,
        add_team(registry, "two").await?,
    );
    let number = add_device(registry, "pump", "one").await?;
    add_device(registry, "other", "two").await?;
    registry.create_device(&all(), new_device("free")).await?;
    let before = Snapshot::read(registry).await?;
    let added = registry.add_team_token(&all(), "one", "panel").await?;
    let (key, secret) = (added.key.text(), added.secret.text());
    assert_eq!((key.len(), secret.len()), (24, 32));
    assert_eq!((&added.token.team, added.token.number), (&one.id, 1));
    let tables = renewed(&before, registry).await?;
    let found = login(&tables, (key, secret, "pump")).expect("it is accepted");
    assert_eq!(&*found.device, "pump");
    let numbers = tables.login_numbers(COMMON_TENANT, key, "pump");
    let team = numbers.team;
    assert!(team > 0);
    let expected = LoginNumbers {
        team,
        token: 1,
        device: number,
    };
    assert_eq!(numbers, expected);
    for client_id in ["other", "free", "nobody", ""] {
        assert_eq!(
            cause(&tables, (key, secret, client_id)),
            Some(RefusalCause::NotItsClientId)
        );
    }
    assert_eq!(
        cause(&tables, (key, "wrong", "pump")),
        Some(RefusalCause::WrongSecret)
    );
    assert_eq!(
        cause(&tables, (key, key, "pump")),
        Some(RefusalCause::WrongSecret)
    );
    assert!(
        tables.tenant_of_team_token(secret).is_none(),
        "it is not a key"
    );
    // Of another team nobody sees, revokes or adds any.
    let bob = of_team(&two.id);
    assert!(is_not_found(
        registry.team_tokens(&bob.visibility, "one").await
    ));
    assert!(is_not_found(
        registry.add_team_token(&bob, "one", "x").await
    ));
    let id = added.token.id.clone();
    for team in ["one", "two"] {
        assert!(is_not_found(
            registry.revoke_team_token(&bob, team, &id).await
        ));
    }
    assert!(is_not_found(
        registry.revoke_team_token(&all(), "two", &id).await
    ));
    assert_eq!(
        registry.team_tokens(&Visibility::All, &one.id).await?,
        [added.token]
    );
});

both!(a_revoked_token_can_be_restored, registry, {
    add_team(registry, "one").await?;
    add_device(registry, "pump", "one").await?;
    let added = registry.add_team_token(&all(), "one", "panel").await?;
    let shown = (added.key.text(), added.secret.text(), "pump");
    let (id, good) = (&added.token.id, Snapshot::read(registry).await?);
    let found = login(&good, shown).expect("it is accepted");
    assert!(is_not_found(
        registry.restore_team_token(&all(), "one", id).await
    ));
    let revoked = registry.revoke_team_token(&all(), "one", id).await?;
    assert!(revoked.revoked_ms > 0);
    assert!(is_not_found(
        registry.revoke_team_token(&all(), "one", id).await
    ));
    let removed = renewed(&good, registry).await?;
    assert_eq!(
        cause(&removed, shown),
        Some(RefusalCause::CredentialExpired)
    );
    let guessed = (shown.0, "wrong", shown.2);
    assert_eq!(cause(&removed, guessed), Some(RefusalCause::WrongSecret));
    let named = removed.team_token_named(COMMON_TENANT, shown.0);
    assert!(named.is_some_and(|token| token.is_revoked && token.team == "one"));
    assert!(removed.admits(COMMON_TENANT, shown.0, "pump").is_err());
    assert!(good.admits(COMMON_TENANT, shown.0, "pump").is_ok());
    assert_eq!(
        good.removed_team_tokens(COMMON_TENANT, Some(&removed)),
        [found.token]
    );
    assert!(
        good.removed_team_tokens(COMMON_TENANT, Some(&good))
            .is_empty()
    );
    registry.restore_team_token(&all(), "one", id).await?;
    let back = renewed(&removed, registry).await?;
    assert_eq!(login(&back, shown), Some(found));
    // The token of a team that is deleted opens nothing, until the team is restored.
    registry.delete_team(&all(), "one", Expected::any()).await?;
    let deleted = renewed(&back, registry).await?;
    assert!(deleted.tenant_of_team_token(shown.0).is_none());
    registry.restore_team(&all(), "one").await?;
    let restored = renewed(&deleted, registry).await?;
    assert!(login(&restored, shown).is_some());
    let numbers = |tables: &Snapshot| tables.login_numbers(COMMON_TENANT, shown.0, "pump");
    assert_eq!(numbers(&restored), numbers(&good));
    let purged = registry.purge_team(&all(), "one", true).await?;
    assert_eq!(purged.keys, 1);
    let again = add_team(registry, "one").await?;
    assert!(
        registry
            .team_tokens(&Visibility::All, &again.id)
            .await?
            .is_empty()
    );
    let next = registry.add_team_token(&all(), "one", "panel").await?;
    assert_eq!(next.token.number, 2, "a number is not used again");
});

both!(
    a_device_that_leaves_the_team_is_not_let_in_by_its_token,
    registry,
    {
        add_team(registry, "one").await?;
        add_team(registry, "two").await?;
        add_device(registry, "pump", "one").await?;
        let added = registry.add_team_token(&all(), "one", "panel").await?;
        let shown = (added.key.text(), added.secret.text(), "pump");
        let before = Snapshot::read(registry).await?;
        let found = login(&before, shown).expect("it is accepted");
        let change = DeviceChange {
            team: Some("two".to_owned()),
            ..DeviceChange::default()
        };
        let device = DeviceRef::Id("pump");
        registry
            .change_device(&all(), device, change, Expected::any())
            .await?;
        let after = renewed(&before, registry).await?;
        assert_eq!(cause(&after, shown), Some(RefusalCause::NotItsClientId));
        let removed = before.removed(COMMON_TENANT, &after, "pump");
        assert_eq!(
            removed,
            [RevokedClients::Credential("pump".into(), found.mark)]
        );
    }
);
