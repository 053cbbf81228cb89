use std::path::Path;
use std::time::Duration;

use martlet_permission::{Actions, RevokedClients};
use sqlx::Connection as _;

use super::{all, both, is_not_found, new_device, postgres};
use crate::snapshot::tests::TemporaryDirectory;
use crate::{
    DatabaseUrl, DeviceFilter, DeviceOrder, Location, Owner, PageRequest, Registry, RegistryError,
    Renewed, Snapshot, Visibility, wait,
};

both!(a_snapshot_follows_what_changes, registry, {
    let location = registry.location().clone();
    let secret = registry.add_device("d1").await?;
    let snapshot = Snapshot::load(&location).await?.expect("it is there");
    assert!(
        snapshot
            .check_device(0, "d1", "d1", secret.text().as_bytes(), 1)
            .is_some()
    );
    assert!(matches!(snapshot.renew().await?, Renewed::Same));
    registry.add_device("d2").await?;
    registry.add_user("ann", "user", "secret").await?;
    // What is undone leaves no gap.
    assert!(registry.add_device("d1").await.is_err());
    registry.rotate("d1", Duration::ZERO).await?;
    let Renewed::Changed(crate::Changed {
        tables: newer,
        mut names,
        ..
    }) = snapshot.renew().await?
    else {
        panic!("everything");
    };
    names.sort_unstable();
    assert_eq!(
        names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["ann", "d1", "d2"]
    );
    let invalid = snapshot.no_longer_valid(0, &newer);
    assert_eq!(
        invalid,
        [RevokedClients::Credential(
            "d1".into(),
            snapshot.mark_of_secret(secret.text().as_bytes())
        )]
    );
    let many = (0..2_500).map(|number| new_device(&format!("m{number}")));
    registry
        .add_devices(&all(), many.collect(), crate::Import::AllOrNone)
        .await?;
    assert!(matches!(newer.renew().await?, Renewed::Everything));
    let whole = Snapshot::load(&location).await?.expect("it is there");
    assert_eq!(whole.names(0).count(), 2_503);
});

both!(writers_wait_for_each_other, registry, {
    let location = registry.location().clone();
    std::thread::scope(|scope| {
        let add = |thread: usize| {
            let location = &location;
            move || {
                wait(async move {
                    let mut registry = Registry::open(location).await?;
                    for number in 0..20 {
                        let id = format!("t{thread}-{number}");
                        registry.add_device(&id).await?;
                    }
                    registry.close().await
                })
            }
        };
        let all: Vec<_> = (0..4).map(|thread| scope.spawn(add(thread))).collect();
        for one in all {
            one.join().expect("no panic").expect("they are added");
        }
    });
    let mut numbers: Vec<_> = registry
        .devices()
        .await?
        .iter()
        .map(|one| one.number)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=80).collect::<Vec<_>>());
});

#[test]
fn processes_that_come_at_once_make_one_set_of_tables() {
    let location = Location::Url(postgres::new_database());
    std::thread::scope(|scope| {
        let open = || wait(async { Registry::open(&location).await?.close().await });
        let all: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
        for one in all {
            one.join().expect("no panic").expect("it is opened");
        }
    });
}

#[test]
fn a_connection_that_broke_is_opened_anew() {
    let location = Location::Url(postgres::new_database());
    wait(async {
        let mut registry = Registry::open(&location).await?;
        registry.add_device("before").await?;
        let snapshot = Snapshot::read(&mut registry).await?;
        let break_all = || async {
            let mut other = Registry::open(&location).await?;
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            let done = sqlx::query(sql).execute(&mut other.connection).await;
            done.expect("they are ended");
            other.close().await
        };
        break_all().await?;
        registry.add_device("after").await?;
        break_all().await?;
        assert_eq!(registry.devices().await?.len(), 2);
        break_all().await?;
        assert!(matches!(
            snapshot.renew_from(&mut registry).await?,
            Renewed::Changed(..)
        ));
        registry.close().await
    })
    .expect("it goes on");
}

#[test]
fn another_database_in_the_place_of_one_is_read_as_a_whole() {
    let url = postgres::new_database();
    wait(async {
        let mut registry = Registry::open(url.clone()).await?;
        registry.add_device("d").await?;
        let held = Snapshot::read(&mut registry).await?;
        let made_anew = "UPDATE settings SET value = 'another' WHERE name = 'database'; \
                         DELETE FROM changes WHERE kind = 'all'; \
                         UPDATE change_counter SET last = last - 1";
        registry.run_sql(made_anew).await?;
        assert!(matches!(held.renew().await?, Renewed::Everything));
        registry.close().await
    })
    .expect("it is read");
}

#[test]
fn what_cannot_be_reached_is_told_without_a_password() {
    for url in [
        "postgres://u:geheim@127.0.0.1:1/d",
        "postgres://u:geheim@h:notaport/d",
        "postgres://h/d?password=geheim&sslmode=odd",
    ] {
        let url = DatabaseUrl::parse(url).expect("it is one");
        let found = wait(Registry::open(url))
            .map(drop)
            .expect_err("nobody is there");
        assert!(
            !format!("{found} {found:?}").contains("geheim"),
            "{found:?}"
        );
        assert!(matches!(found, RegistryError::Database { .. }));
    }
}

/// A database as version 0.1 has left it.
async fn write_old(path: &Path) {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut connection = sqlx::AnyConnection::connect(&url).await.expect("a file");
    for sql in [
        include_str!("../../migrations/0001_users_devices_roles.sql"),
        include_str!("../../migrations/0002_changes.sql"),
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, \
         checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)",
        "INSERT INTO device_types (name, is_builtin, created_ms) VALUES ('meter', 0, 3)",
        "INSERT INTO devices (id, name, type, status, created_ms) VALUES \
         ('b', 'Second', 'meter', 'inactive', 20), ('a', 'First', 'device', 'active', 10)",
        "INSERT INTO device_credentials (id, device_id, digest, created_ms, expires_ms, \
         revoked_ms) VALUES ('c1', 'a', 'x', 1, 0, 0), ('c2', 'a', 'y', 2, 99, 0), \
         ('c3', 'b', 'z', 3, 0, 5)",
    ] {
        let done = sqlx::raw_sql(sql).execute(&mut connection).await;
        done.expect("it is written");
    }
    for (version, sql) in [
        (
            1_i64,
            include_str!("../../migrations/0001_users_devices_roles.sql"),
        ),
        (2, include_str!("../../migrations/0002_changes.sql")),
    ] {
        let of = sqlx::migrate::Migration::new(
            version,
            "".into(),
            sqlx::migrate::MigrationType::Simple,
            sqlx::SqlSafeStr::into_sql_str(sql),
            false,
        );
        let query = sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
             execution_time) VALUES ($1, '', TRUE, $2, 1)",
        );
        let done = query.bind(version).bind(of.checksum.to_vec());
        done.execute(&mut connection).await.expect("it is written");
    }
    connection.close().await.expect("it is closed");
}

#[test]
fn what_an_older_version_has_left_is_kept() {
    let place = TemporaryDirectory::new("older");
    wait(async {
        write_old(&place.db()).await;
        let mut registry = Registry::open(&place.db()).await?;
        let page = PageRequest::first(10);
        let (filter, order) = (DeviceFilter::default(), DeviceOrder::Id);
        let found = registry
            .list_devices(&Visibility::All, &filter, order, &page)
            .await?;
        let found: Vec<_> = found
            .items
            .iter()
            .map(|one| {
                (
                    &*one.id,
                    &*one.name,
                    &*one.device_type,
                    one.number,
                    one.credentials,
                )
            })
            .collect();
        let expected = [
            ("a", "First", "device-before-v11", 1, 1),
            ("b", "Second", "meter", 2, 0),
        ];
        assert_eq!(found, expected);
        // What its type permitted then, which the type `device` does not permit any more.
        let types = registry.rule_sets(Owner::DeviceType).await?;
        let kept = types.iter().find(|set| set.name == "device-before-v11");
        let kept = kept.expect("it is added for devices that are there");
        assert!(!kept.is_builtin && kept.rules.len() == 19);
        let reads = |filter: &str| {
            let rule = kept.rules.iter().find(|rule| *rule.filter == *filter);
            rule.is_some_and(|rule| rule.allows && rule.actions == Actions::READ)
        };
        assert!(reads("iotflow/fleet/commands/#") && reads("iotflow/devices/%c/config/#"));
        assert_eq!(
            registry
                .credentials(&Visibility::All, "a".into())
                .await?
                .len(),
            2
        );
        let next = registry.create_device(&all(), new_device("c")).await?;
        assert_eq!(next.number, 3);
        registry.close().await
    })
    .expect("it is kept");
}

#[test]
fn a_dry_run_changes_a_copy_of_the_file_and_hinders_nobody() {
    let place = TemporaryDirectory::new("dry-run");
    let location = Location::from(place.db());
    let done = wait(async {
        let mut registry = Registry::open(&location).await?;
        registry.add_device("pump").await?;
        let mut dry = Registry::open(&location).await?;
        dry.begin_dry_run().await?;
        dry.remove_device("pump").await?;
        dry.add_device("fan").await?;
        registry.add_device("valve").await?;
        dry.close().await?;
        assert!(is_not_found(registry.remove_device("fan").await));
        registry.remove_device("valve").await?;
        registry.remove_device("pump").await?;
        registry.close().await
    });
    done.expect("all of it can be done");
    let path = place.db();
    let names = path.parent().expect("a directory").read_dir();
    let names = names
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["martlet.db"]);
}
