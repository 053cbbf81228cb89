use super::{all, both, new_device};
use crate::{
    AuditFilter, BanKind, Import, Location, NewBan, PageRequest, Presence, Registry, RegistryError,
    RowOutcome, Scope, Snapshot, now_ms,
};

both!(a_word_of_the_paths_is_no_id, registry, {
    for id in ["summary", "register", "mqtt-credentials", "bulk"] {
        let told = registry.create_device(&all(), new_device(id)).await;
        let Err(RegistryError::Refused(why)) = told else {
            panic!("{id}: {told:?}");
        };
        assert!(why.contains(&format!("{id}-1")), "{why}");
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
    let sql = "UPDATE devices SET id = $1, search = $2 WHERE id = $3";
    let query = sqlx::query(sql).bind(to.to_owned());
    let query = query
        .bind(format!("{to}\nname\n\nhall"))
        .bind(from.to_owned());
    let done = query.execute(&mut registry.connection).await;
    done.expect("it is renamed");
}

/// Runs the migration of reserved ids again.
async fn migrate(location: &Location) -> Result<Registry, RegistryError> {
    let mut other = Registry::open(location).await?;
    let sql = "DELETE FROM _sqlx_migrations WHERE version = 12";
    let done = sqlx::query(sql).execute(&mut other.connection).await;
    done.expect("it is as if it had not been run");
    other.close().await?;
    Registry::open(location).await
}

both!(devices_with_a_reserved_id_are_renamed, registry, {
    let (actor, location) = (all(), registry.location().clone());
    let secret = registry.add_device("old").await?;
    registry.add_device("summary-1").await?;
    registry.add_user("summary-2", "user", "secret").await?;
    registry.add_device("gone").await?;
    registry.delete_device(&actor, "gone".into(), None).await?;
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
        address: "192.0.2.7".to_owned(),
        listener: String::new(),
        is_told: true,
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
    let found = migrated.device(&Scope::All, "summary-3".into()).await?;
    assert_eq!((found.number, &*found.name), (1, "old"));
    assert!(found.presence.is_some_and(|one| one.address == "192.0.2.7"));
    migrated.restore_device(&actor, "status-1".into()).await?;
    let bans = migrated.bans(&Scope::All).await?;
    assert_eq!(bans[0].value, "summary-3");
    let tables = Snapshot::load(&location).await?;
    let tables = tables.expect("they are there");
    let secret = secret.text().as_bytes();
    let check = |id| tables.check_device(0, id, id, secret, 1);
    assert!(matches!(check("summary-3"), Some(Ok(_))));
    assert!(check("summary").is_none());
    let (search, known) = ("SELECT search FROM devices WHERE number = 1", "summary-3\n");
    let search: Result<String, _> = sqlx::query_scalar(search)
        .fetch_one(&mut migrated.connection)
        .await;
    assert!(search.expect("it is there").starts_with(known));

    let filter = AuditFilter {
        action: Some("device.rename".to_owned()),
        ..AuditFilter::default()
    };
    let page = PageRequest::first(9);
    let log = migrated.audit_log(&Scope::All, &filter, &page).await?;
    let told: Vec<_> = log
        .items
        .iter()
        .map(|line| (&*line.who, &*line.entry.object_id, &*line.entry.changed))
        .collect();
    assert_eq!(
        told,
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
    let sql = "UPDATE devices SET last_seen_ms = $1 WHERE id = 'summary-3'";
    let query = sqlx::query(sql).bind(now_ms() + 1);
    query
        .execute(&mut migrated.connection)
        .await
        .expect("it was connected");
    assert_eq!(migrated.renamed_devices().await?.len(), 1);
    migrated.close().await?;
});
