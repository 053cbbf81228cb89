use super::bans::all_bans;
use super::{all, both, new_device};
use crate::{
    AuditFilter, BanKind, DeviceChange, Expected, Import, Location, NewBan, NewDevice, NewTeam,
    PageRequest, Presence, Refused, Registry, RegistryError, Renewed, RowOutcome, Snapshot,
    Visibility, now_ms,
};

both!(a_word_of_the_paths_is_no_id, registry, {
    for id in ["summary", "register", "mqtt-credentials", "bulk"] {
        let outcome = registry.create_device(&all(), new_device(id)).await;
        match &outcome {
            Err(RegistryError::Refused(Refused::ReservedId(word))) => assert_eq!(word, id),
            other => panic!("{id}: {other:?}"),
        }
    }
    let devices = vec![new_device("a"), new_device("export")];
    let outcomes = registry
        .add_devices(&all(), devices, Import::EachByItself)
        .await?;
    assert!(matches!(
        outcomes[..],
        [RowOutcome::Added(_), RowOutcome::Refused(_)]
    ));
    registry.add_device("summary-1").await?;
    registry.add_device("Summary").await?;
});

/// Makes a device have an id that is none any more, as an older version allowed.
async fn rename(registry: &mut Registry, from: &str, to: &str) {
    let search = format!("{to}\nname\n\nhall");
    let sql = format!("UPDATE devices SET id = '{to}', search = '{search}' WHERE id = '{from}'");
    registry.run_sql(&sql).await.expect("it is renamed");
}

/// Runs the migration of reserved ids again.
async fn migrate(location: &Location) -> Result<Registry, RegistryError> {
    let mut other = Registry::open(location).await?;
    let sql = "DELETE FROM _sqlx_migrations WHERE version = 12";
    other.run_sql(sql).await?;
    other.close().await?;
    Registry::open(location).await
}

both!(devices_with_a_reserved_id_are_renamed, registry, {
    let (actor, location) = (all(), registry.location().clone());
    let secret = registry.add_device("old").await?;
    registry.add_device("summary-1").await?;
    registry.add_user("summary-2", "user", "secret").await?;
    registry.add_device("gone").await?;
    registry
        .delete_device(&actor, "gone".into(), Expected::any())
        .await?;
    registry.add_device("stays").await?;
    rename(registry, "old", "summary").await;
    rename(registry, "gone", "status").await;
    let seen = Presence {
        tenant: 0,
        client_id: "summary".to_owned(),
        online: false,
        since_ms: 1,
        last_seen_ms: now_ms(),
        why_offline: String::new(),
        sent_disconnect: false,
        address: "192.0.2.7".to_owned(),
        listener: String::new(),
        is_reported: true,
    };
    registry.write_presence("node", &[seen]).await?;
    let ban = NewBan {
        kind: BanKind::ClientId,
        value: "summary".to_owned(),
        team: None,
        why: String::new(),
        until_ms: 0,
    };
    registry.add_ban(&actor, ban).await?;

    let mut migrated = migrate(&location).await?;
    let found = migrated
        .device(&Visibility::All, "summary-3".into())
        .await?;
    assert_eq!((found.number, &*found.name), (1, "old"));
    assert!(found.presence.is_some_and(|one| one.address == "192.0.2.7"));
    migrated.restore_device(&actor, "status-1".into()).await?;
    let bans = all_bans(&mut migrated, &Visibility::All).await?;
    assert_eq!(bans[0].value, "summary-3");
    let tables = Snapshot::load(&location).await?;
    let tables = tables.expect("they are there");
    let secret = secret.text().as_bytes();
    let check = |id| tables.check_device(0, id, id, secret, 1);
    assert!(matches!(check("summary-3"), Some(Ok(_))));
    assert!(check("summary").is_none());
    let (search, stored) = ("SELECT search FROM devices WHERE number = 1", "summary-3\n");
    let mut reading = migrated.reading().await?;
    let search = sqlx::query_scalar::<_, String>(search).fetch_one(reading.connection());
    let search = search.await;
    assert!(reading.end(search).await?.starts_with(stored));

    let filter = AuditFilter {
        action: Some("device.rename".to_owned()),
        ..AuditFilter::default()
    };
    let page = PageRequest::first(9);
    let log = migrated.audit_log(&Visibility::All, &filter, &page).await?;
    let outcome: Vec<_> = log
        .items
        .iter()
        .map(|line| (&*line.who, &*line.entry.object_id, &*line.entry.changed))
        .collect();
    assert_eq!(
        outcome,
        [
            ("martlet", "status-1", r#"{"id":["status","status-1"]}"#),
            ("martlet", "summary-3", r#"{"id":["summary","summary-3"]}"#),
        ]
    );
    assert!(now_ms().abs_diff(log.items[0].at_ms) < 600_000);

    // Reported until the device has been connected by its new id.
    let renamed = migrated.renamed_devices().await?;
    let renamed: Vec<_> = renamed
        .iter()
        .map(|one| (&*one.old_id, &*one.new_id))
        .collect();
    assert_eq!(renamed, [("status", "status-1"), ("summary", "summary-3")]);
    let now_ms = now_ms() + 1;
    let sql = format!("UPDATE devices SET last_seen_ms = {now_ms} WHERE id = 'summary-3'");
    migrated.run_sql(&sql).await?;
    assert_eq!(migrated.renamed_devices().await?.len(), 1);
    migrated.close().await?;
});

both!(an_id_is_generated_if_none_is_given, registry, {
    let unnamed = || NewDevice {
        kind: "sensor".to_owned(),
        ..NewDevice::unnamed()
    };
    let added = registry.create_device(&all(), unnamed()).await?;
    let is_base32 = |letter: char| matches!(letter, 'A'..='Z' | '2'..='7');
    assert!(
        added.id.len() == 16 && added.id.chars().all(is_base32),
        "{added:?}"
    );
    let found = registry
        .device(&Visibility::All, (&*added.id).into())
        .await?;
    assert_eq!((&*found.name, &*found.kind), (&*added.id, "sensor"));
    let others = registry
        .add_devices(&all(), vec![unnamed(), unnamed()], Import::AllOrNone)
        .await?;
    assert!(matches!(&others[..], [RowOutcome::Added(a), RowOutcome::Added(b)] if a.id != b.id));
});

both!(digits_alone_are_the_number_of_the_device, registry, {
    let refused = |outcome: Result<_, RegistryError>| match outcome {
        Err(RegistryError::Refused(why)) => why,
        outcome => panic!("{outcome:?}"),
    };
    let why = refused(registry.add_device("7").await);
    assert_eq!(why, Refused::IdOfDigits("7".to_owned(), 1));
    refused(registry.add_device("01").await);
    refused(registry.add_device("0").await);
    registry.add_device("1").await?;
    assert_eq!(
        registry.device(&Visibility::All, "1".into()).await?.number,
        1
    );
    registry.add_device("1a").await?;
    let rows = ["9", "3", "x", "5", "4", "6"].map(new_device);
    let outcomes = registry
        .add_devices(&all(), rows.into(), Import::EachByItself)
        .await?;
    // Of those that are added, each has the next number.
    let added: Vec<_> = outcomes
        .iter()
        .map(|one| match one {
            RowOutcome::Added(added) => Some(added.number),
            _ => None,
        })
        .collect();
    assert_eq!(added, [None, Some(3), Some(4), Some(5), None, Some(6)]);
});

both!(a_device_is_known_by_its_number, registry, {
    let actor = all();
    registry.add_device("pump").await?;
    registry.add_device("valve").await?;
    let tables = Snapshot::read(registry).await?;
    let found = |tables: &Snapshot, tenant, name: &str| {
        let id = tables.device_numbered(tenant, name);
        id.map(|id| id.to_string())
    };
    assert_eq!(found(&tables, 0, "1").as_deref(), Some("pump"));
    for odd in ["01", "+1", "1 ", "3", "0", "", "99999999999999999999"] {
        assert_eq!(found(&tables, 0, odd), None, "{odd}");
    }
    assert_eq!(found(&tables, 1, "1"), None, "of another tenant");

    // A name takes precedence, also that of a deleted device that can be restored.
    registry.add_user("1", "user", "secret").await?;
    rename(registry, "valve", "9").await;
    registry.add_device("third").await?;
    registry.add_device("fourth").await?;
    rename(registry, "fourth", "3").await;
    registry
        .delete_device(&actor, "3".into(), Expected::any())
        .await?;
    let Renewed::Changed(changed) = tables.renew_from(registry).await? else {
        panic!("something has changed");
    };
    for tables in [&changed.tables, &Snapshot::read(registry).await?.into()] {
        assert_eq!(found(tables, 0, "1"), None, "a user");
        assert_eq!(found(tables, 0, "2").as_deref(), Some("9"));
        assert_eq!(found(tables, 0, "9"), None, "a device");
        assert_eq!(found(tables, 0, "3"), None, "a deleted device");
        assert_eq!(found(tables, 0, "4"), None, "it is deleted");
    }

    // In a team's tenant it has the same number.
    let team = NewTeam {
        name: "north".to_owned(),
        description: String::new(),
        owns_tenant: true,
    };
    registry.add_team(&actor, team).await?;
    let change = DeviceChange {
        team: Some("north".to_owned()),
        ..DeviceChange::default()
    };
    let moved = registry
        .change_device(&actor, "9".into(), change, Expected::any())
        .await?;
    let Renewed::Changed(changed) = changed.tables.renew_from(registry).await? else {
        panic!("something has changed");
    };
    assert_eq!(found(&changed.tables, 0, "2"), None);
    let found = found(&changed.tables, moved.tenant, "2");
    assert_eq!(found.as_deref(), Some("9"));
});
