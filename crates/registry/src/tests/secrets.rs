use super::{all, both};
use crate::{Actor, NewTeam, RegistryError, SealedSecret, Visibility};

fn sealed(text: &str, key_id: &str) -> SealedSecret {
    SealedSecret {
        sealed: text.to_owned(),
        key_id: key_id.to_owned(),
    }
}

fn of_team(team: &str) -> Actor {
    Actor {
        visibility: Visibility::Team(team.to_owned()),
        ..all()
    }
}

both!(a_secret_is_read_as_it_was_written, registry, {
    let value = sealed("abc", "k");
    assert!(registry.set_secret(&all(), "", "token", &value).await?);
    assert_eq!(registry.sealed_secret("", "token").await?, Some(value));
    let value = sealed("def", "k");
    assert!(!registry.set_secret(&all(), "", "token", &value).await?);
    assert_eq!(registry.sealed_secret("", "token").await?, Some(value));
    let heads = registry.secrets(&Visibility::All).await?;
    assert_eq!((heads.len(), &*heads[0].name), (1, "token"));
    registry.remove_secret(&all(), "", "token").await?;
    assert_eq!(registry.secret_count().await?, 0);
    let again = registry.remove_secret(&all(), "", "token").await;
    assert!(matches!(again, Err(RegistryError::NotFound(_))));
});

both!(a_value_under_another_key_is_refused, registry, {
    let one = sealed("abc", "k");
    registry.set_secret(&all(), "", "one", &one).await?;
    let other = sealed("abc", "another");
    let refused = registry.set_secret(&all(), "", "two", &other).await;
    let text = refused.expect_err("it is another key").to_string();
    assert!(text.contains("copy the key file"), "{text}");
    assert_eq!(registry.secret_count().await?, 1);
});

both!(a_team_sees_and_changes_its_own_secrets_only, registry, {
    let mut ids = Vec::new();
    for name in ["red", "blue"] {
        let team = NewTeam {
            name: name.to_owned(),
            ..NewTeam::default()
        };
        ids.push(registry.add_team(&all(), team).await?.id);
    }
    let (red, blue) = (&*ids[0], &*ids[1]);
    let value = sealed("abc", "k");
    for team in ["", red, blue] {
        registry.set_secret(&all(), team, "token", &value).await?;
    }
    let own = of_team(red);
    let seen = registry.secrets(&own.visibility).await?;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].team, red);
    let refused = registry.set_secret(&own, blue, "token", &value).await;
    assert!(matches!(refused, Err(RegistryError::NotFound(_))));
    for team in ["", blue] {
        let refused = registry.remove_secret(&own, team, "token").await;
        assert!(matches!(refused, Err(RegistryError::NotFound(_))));
    }
    registry.purge_team(&all(), red, true).await?;
    assert_eq!(registry.sealed_secret(red, "token").await?, None);
    assert_eq!(registry.secret_count().await?, 2);
});

both!(the_audit_log_has_no_value, registry, {
    let value = sealed("known-sealed-text", "k");
    registry.set_secret(&all(), "", "token", &value).await?;
    let page = crate::PageRequest::first(10);
    let log = registry
        .audit_log(&Visibility::All, &crate::AuditFilter::default(), &page)
        .await?;
    let text = format!("{log:?}");
    assert!(text.contains("secret.add") && !text.contains("known-sealed-text"));
});
