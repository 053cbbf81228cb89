//! Bans.

use super::{all, both, new_team, of_team};
use crate::{Ban, BanKind, NewBan, NewUser, PageRequest, Registry, RegistryError, Visibility};

/// All bans, by id; those that have ended too.
pub(super) async fn all_bans(
    registry: &mut Registry,
    visibility: &Visibility,
) -> Result<Vec<Ban>, RegistryError> {
    let request = PageRequest::first(1_000);
    let page = registry.bans_page(visibility, None, &request).await?;
    Ok(page.items)
}

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
        let added = registry.add_ban(&actor, ban).await?.ban;
        assert_eq!(
            (added.tenant, added.team.as_ref(), &*added.value),
            (north.tenant, Some(&north.id), value)
        );
    }
    for ban in [
        new(client, "p", None),
        new(client, "ann", None),
        new(user, "p@example.org", None),
    ] {
        let added = registry.add_ban(&all(), ban.clone()).await?.ban;
        assert_eq!((added.tenant, &added.value), (0, &ban.value));
    }
    for ban in [
        new(client, "p", Some("plain")),
        new(client, "p", Some("nowhere")),
        new(client, "p", Some("")),
        new(user, "p@nowhere", None),
        new(user, "p@plain", None),
    ] {
        let refused = registry.add_ban(&all(), ban).await;
        assert!(matches!(refused, Err(RegistryError::Refused(_))));
    }
    let (actor, ban) = (of_team(&plain.id), new(client, "p", Some(&north.id)));
    let other = registry.add_ban(&actor, ban).await;
    assert!(matches!(other, Err(RegistryError::Refused(_))));
    // The same again is one: `p` by two names, `p@plain`, `ann` and an address.
    let own = all_bans(registry, &of_team(&north.id).visibility).await?;
    assert_eq!(own.len(), 5, "{own:#?}");
    assert!(own.iter().all(|ban| ban.team.as_ref() == Some(&north.id)));
    assert_eq!(all_bans(registry, &Visibility::All).await?.len(), 8);
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
    for (visibility, count) in [(Visibility::All, 5), (ann.visibility, 2)] {
        let mut request = PageRequest {
            with_total: true,
            ..PageRequest::first(2)
        };
        let mut names = Vec::new();
        loop {
            let page = registry.users_page(&visibility, false, &request).await?;
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
            let page = registry.bans_page(&visibility, None, &request).await?;
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
    let expired = registry
        .users_page(&Visibility::All, true, &PageRequest::first(9))
        .await?;
    assert!(expired.items.is_empty());
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
        let outcome = registry.add_ban(&all(), ban(over)).await;
        assert!(matches!(outcome, Err(RegistryError::Refused(_))), "{over}");
    }
    let later = crate::now_ms() + 60_000;
    assert_eq!(
        registry.add_ban(&all(), ban(later)).await?.ban.until_ms,
        later
    );
});
