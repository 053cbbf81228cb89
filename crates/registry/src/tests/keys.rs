use super::bans::all_bans;
use super::{all, both, is_not_found, new_device, of_team};
use crate::secret::digest_text;
use crate::{
    ApiKeyChange, BanKind, Claim, CredentialUse, Exists, Expected, NewApiKey, NewBan, NewGroup,
    NewProvisioningKey, NewTeam, Refused, Registry, RegistryError, Renewed, RepeatableRequest,
    Secret, Snapshot, Visibility,
};

both!(an_api_key_is_good_until_something_ends_it, registry, {
    let team = NewTeam {
        name: "one".to_owned(),
        ..NewTeam::default()
    };
    let team = registry.add_team(&all(), team).await?;
    registry.add_user("ann", "user", "secret").await?;
    let new = NewApiKey {
        name: "ci".to_owned(),
        scopes: vec!["devices:read".to_owned(), "publish".to_owned()],
        owner: "ann".to_owned(),
        expires_ms: i64::MAX,
        ..NewApiKey::default()
    };
    let (key, secret) = registry.add_api_key(&all(), new.clone()).await?;
    assert!(secret.text().starts_with("mk_") && secret.text().len() > 24);
    assert_eq!(
        registry.api_key_of(secret.text(), 1).await?,
        Some(key.clone())
    );
    assert_eq!(
        registry.api_key_of(secret.text(), i64::MAX).await?,
        None,
        "it has expired"
    );
    assert_eq!(registry.api_key_of("mk_guess", 1).await?, None);
    let uses = [CredentialUse {
        id: key.id.clone(),
        at_ms: 9,
        uses: 2,
    }];
    registry.write_api_key_uses(&uses).await?;
    let found = registry
        .api_key_of(secret.text(), 1)
        .await?
        .expect("it is good");
    assert_eq!((found.last_used_ms, found.uses), (9, 2));
    registry.set_user("ann", None, Some(false)).await?;
    assert_eq!(
        registry.api_key_of(secret.text(), 1).await?,
        None,
        "its owner is disabled"
    );
    registry.set_user("ann", None, Some(true)).await?;
    let scopes = ["publish".to_owned()];
    let change = ApiKeyChange {
        name: Some("ci".to_owned()),
        scopes: Some(scopes.to_vec()),
    };
    let changed = registry
        .change_api_key(&all(), &key.id, change, Expected::from(1))
        .await?;
    assert_eq!((changed.scopes, changed.revision), (scopes.to_vec(), 2));
    let bob = of_team(&team.id);
    assert!(registry.api_keys(&bob.visibility).await?.is_empty());
    assert!(is_not_found(registry.revoke_api_key(&bob, &key.id).await));
    registry.revoke_api_key(&all(), &key.id).await?;
    assert_eq!(registry.api_key_of(secret.text(), 1).await?, None);
    assert!(is_not_found(registry.revoke_api_key(&all(), &key.id).await));
    let odd = NewApiKey {
        scopes: vec!["two words".to_owned()],
        ..new
    };
    assert!(matches!(
        registry.add_api_key(&all(), odd).await,
        Err(RegistryError::Refused(_))
    ));
});

both!(
    a_provisioning_key_makes_so_many_devices_and_no_others,
    registry,
    {
        let team = NewTeam {
            name: "one".to_owned(),
            owns_tenant: true,
            ..NewTeam::default()
        };
        let team = registry.add_team(&all(), team).await?;
        let group = NewGroup {
            name: "new".to_owned(),
            team: Some(team.id.clone()),
            ..NewGroup::default()
        };
        let group = registry.add_group(&all(), group).await?;
        let new = NewProvisioningKey {
            team: Some(team.id.clone()),
            groups: vec![group.id.clone()],
            id_pattern: "m-*".to_owned(),
            devices_max: 2,
            ..NewProvisioningKey::new("line 1")
        };
        let (key, secret) = registry.add_provisioning_key(&all(), new.clone()).await?;
        let asks = all();
        let created = registry
            .provision(&asks, secret.text(), new_device("m-1"), None)
            .await?;
        assert_eq!(
            (created.device.tenant, created.is_again),
            (team.tenant, false)
        );
        let found = registry
            .device(&Visibility::Team(team.id.clone()), "m-1".into())
            .await?;
        assert_eq!(
            (found.groups, found.team),
            (vec![group.id], team.id.clone())
        );
        let odd = registry
            .provision(&asks, secret.text(), new_device("x-1"), None)
            .await;
        assert!(matches!(odd, Err(RegistryError::Refused(_))));
        let twice = registry
            .provision(&asks, secret.text(), new_device("m-1"), None)
            .await;
        assert!(matches!(twice, Err(RegistryError::Exists(_))));
        registry
            .provision(&asks, secret.text(), new_device("m-2"), None)
            .await?;
        let third = registry
            .provision(&asks, secret.text(), new_device("m-3"), None)
            .await;
        assert!(matches!(third, Err(RegistryError::Conflict(_))));
        assert_eq!(
            registry.provisioning_keys(&Visibility::All).await?[0].devices_made,
            2
        );
        assert!(is_not_found(
            registry
                .provision(&asks, "mp_guess", new_device("m-4"), None)
                .await
        ));
        let old = NewProvisioningKey {
            expires_ms: 1,
            ..new.clone()
        };
        let (_, old) = registry.add_provisioning_key(&all(), old).await?;
        again_while_unused(registry, &team.id).await?;
        let late = registry
            .provision(&asks, old.text(), new_device("m-5"), None)
            .await;
        assert!(matches!(
            late,
            Err(RegistryError::Refused(Refused::KeyExpired))
        ));
        registry.revoke_provisioning_key(&all(), &key.id).await?;
        assert!(is_not_found(
            registry.revoke_provisioning_key(&all(), &key.id).await
        ));
    }
);

/// The answer may not have arrived.
async fn again_while_unused(registry: &mut Registry, team: &str) -> Result<(), RegistryError> {
    let new = NewProvisioningKey {
        team: Some(team.to_owned()),
        devices_max: 1,
        ..NewProvisioningKey::new("once")
    };
    let (_, key) = registry.add_provisioning_key(&all(), new).await?;
    let request = |digest: &str| RepeatableRequest {
        key: "k".to_owned(),
        digest: digest.to_owned(),
    };
    let asks = all();
    let mut secrets = Vec::new();
    for is_again in [false, true, true] {
        let request = request("one");
        let device = new_device("again-1");
        let created = registry.provision(&asks, key.text(), device, Some(&request));
        let created = created.await?;
        assert_eq!(created.is_again, is_again);
        secrets.push(created.device.secret.expect("it is shown"));
    }
    let owner = async |registry: &mut Registry, secret: &Secret| {
        let found = registry.device_of_secret(secret.text()).await?;
        Ok::<_, RegistryError>(found.map(|(_, credential)| credential.revoked_ms == 0))
    };
    assert_ne!(owner(registry, &secrets[0]).await?, Some(true));
    assert_eq!(owner(registry, &secrets[2]).await?, Some(true));
    let other = request("two");
    let device = new_device("again-2");
    let outcome = registry.provision(&asks, key.text(), device, Some(&other));
    assert!(matches!(
        outcome.await,
        Err(RegistryError::Refused(Refused::OtherRequest))
    ));
    let digest = registry.digest_key().await?;
    let uses = [CredentialUse {
        id: digest_text(&digest.digest(secrets[2].text().as_bytes())),
        uses: 1,
        at_ms: 5,
    }];
    registry.write_secret_uses(&uses).await?;
    let (device, one) = (new_device("again-1"), request("one"));
    let outcome = registry.provision(&asks, key.text(), device, Some(&one));
    assert!(matches!(
        outcome.await,
        Err(RegistryError::Exists(Exists::InUse(_)))
    ));
    Ok(())
}

both!(a_request_that_comes_twice_is_answered_once, registry, {
    assert_eq!(registry.claim("ann", "k", "digest").await?, Claim::New);
    assert_eq!(registry.claim("ann", "k", "digest").await?, Claim::Pending);
    assert_eq!(registry.claim("bob", "k", "digest").await?, Claim::New);
    registry.answer("ann", "k", "digest", 201, "{}").await?;
    let answered = Claim::Answered {
        status: 201,
        answer: "{}".to_owned(),
    };
    assert_eq!(registry.claim("ann", "k", "digest").await?, answered);
    assert_eq!(
        registry.claim("ann", "k", "another").await?,
        Claim::Different
    );
    registry.answer("ann", "k", "digest", 0, "").await?;
    assert_eq!(registry.claim("ann", "k", "another").await?, Claim::New);
    let old = "UPDATE idempotency_keys SET created_ms = 1";
    registry.run_sql(old).await?;
    assert_eq!(
        registry.claim("ann", "k", "digest").await?,
        Claim::New,
        "a day is over"
    );
    // One that was not claimed, as where the tables were not there yet.
    registry.answer("ann", "new", "digest", 201, "{}").await?;
    assert_eq!(registry.claim("ann", "new", "digest").await?, answered);
    let old = "UPDATE idempotency_keys SET created_ms = 1 WHERE key = 'k'";
    registry.run_sql(old).await?;
    registry.answer("ann", "k", "digest", 201, "{}").await?;
    assert_eq!(registry.forget_answers(2, 2).await?, 0);
    assert_eq!(registry.forget_answers(1, 2).await?, 1);
    // The answer is no longer kept, and the key is good for nothing else.
    let without = Claim::Answered {
        status: 201,
        answer: String::new(),
    };
    let soon = "UPDATE idempotency_keys SET created_ms = (SELECT MAX(created_ms) FROM \
                idempotency_keys) - 1 WHERE key = 'k'";
    registry.run_sql(soon).await?;
    assert_eq!(registry.claim("ann", "k", "digest").await?, without);
    // Who has most loses its oldest one.
    assert_eq!(registry.claim("bob", "k", "digest").await?, Claim::New);
    assert_eq!(registry.forget_answers(2, 2).await?, 1);
    assert_eq!(registry.claim("ann", "new", "digest").await?, answered);
    assert_eq!(registry.claim("bob", "k", "digest").await?, Claim::Pending);
    assert_eq!(registry.claim("ann", "k", "digest").await?, Claim::New);
});

both!(who_is_banned_is_kept_out_until_the_ban_ends, registry, {
    let before = Snapshot::read(registry).await?;
    let end = crate::now_ms() + 60_000;
    let new = |kind, value: &str, until_ms| NewBan {
        team: None,
        kind,
        value: value.to_owned(),
        why: "noise".to_owned(),
        until_ms,
    };
    registry
        .add_ban(&all(), new(BanKind::ClientId, "c1", 0))
        .await?;
    registry
        .add_ban(&all(), new(BanKind::UserName, "ann", end))
        .await?;
    let network = registry
        .add_ban(&all(), new(BanKind::Address, "192.0.2.0/24", 0))
        .await?;
    let odd = registry
        .add_ban(&all(), new(BanKind::Address, "here", 0))
        .await;
    assert!(matches!(odd, Err(RegistryError::Refused(_))));
    let Renewed::Changed(crate::Changed {
        tables: snapshot,
        names,
        ..
    }) = before.renew_from(registry).await?
    else {
        panic!("bans have changed");
    };
    assert!(names.is_empty());
    let is_out = |snapshot: &Snapshot, client: &str, user: &str, from: &str, now| {
        let address = from.parse().ok();
        snapshot.ban_of(0, client, user, address, now).is_some()
    };
    assert!(is_out(&snapshot, "c1", "bob", "198.51.100.1", 1));
    assert!(is_out(&snapshot, "c2", "ann", "198.51.100.1", end - 1));
    assert!(!is_out(&snapshot, "c2", "ann", "198.51.100.1", end));
    assert!(is_out(&snapshot, "c2", "bob", "192.0.2.200", 1));
    assert!(!is_out(&snapshot, "c2", "bob", "198.51.100.1", 1));
    registry.remove_ban(&all(), &network.ban.id).await?;
    assert!(is_not_found(
        registry.remove_ban(&all(), &network.ban.id).await
    ));
    // One that ends later stays, and so does one that has ended today.
    assert_eq!(registry.remove_ended_bans().await?, 0);
    for value in ["c3", "c4"] {
        registry
            .add_ban(&all(), new(BanKind::ClientId, value, end))
            .await?;
    }
    let ended = "UPDATE bans SET until_ms = until_ms - 3600000 * CASE value WHEN 'c3' THEN 25 \
                 ELSE 23 END WHERE value IN ('c3', 'c4')";
    registry.run_sql(ended).await?;
    assert_eq!(registry.remove_ended_bans().await?, 1);
    assert_eq!(all_bans(registry, &Visibility::All).await?.len(), 3);
    let after = Snapshot::read(registry).await?;
    assert!(is_out(&after, "c2", "ann", "192.0.2.200", 1));
    assert!(!is_out(&after, "c2", "bob", "192.0.2.200", 1));
});
