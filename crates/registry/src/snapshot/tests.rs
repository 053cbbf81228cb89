//! Tests of logins against a snapshot, as the tables are and as they change.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use martlet_access::RuleLine;
use martlet_permission::{Actions, Names, RevokedClients};

use super::*;
use crate::sql::Fault;
use crate::{
    Actor, DeviceChange, Expected, GroupChange, NewDevice, NewGroup, Owner, Registry,
    Remedies as _, Remedy, Renewed, now_ms, wait,
};

/// A directory that is gone with the test.
pub(crate) struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("martlet-registry-{}-{number} {name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.0.join(crate::FILE)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn rule(line: &str) -> RuleLine {
    RuleLine::parse(line).unwrap()
}

#[test]
fn a_users_role_is_what_they_may_do() {
    let place = TemporaryDirectory::new("users");
    let snapshot = wait(async {
        let mut registry = Registry::open(&place.db()).await?;
        assert!(!Snapshot::read(&mut registry).await?.is_in_use());
        let rules = [
            rule("topic deny a/secret"),
            rule("topic read a/#"),
            rule("pattern write own/%u/#"),
        ];
        registry.add_rule_set(Owner::Role, "reader", &rules).await?;
        let found = registry.rule_sets(Owner::Role).await?;
        let found = found.iter().find(|set| set.name == "reader");
        assert_eq!(found.map(|set| &*set.rules), Some(&rules[..]));
        registry.add_user("ann", "reader", "secret").await?;
        registry.add_user("root", "administrator", "secret").await?;
        let again = registry.add_user("ann", "user", "other").await;
        let again = again.unwrap_err();
        assert_eq!(again.remedies(), [Remedy::SetPassword("ann".to_owned())]);
        let unknown = registry.add_user("bob", "nothing", "x").await;
        assert!(unknown.unwrap_err().to_string().contains("no role nothing"));
        let used = registry.remove_rule_set(Owner::Role, "reader").await;
        assert!(used.unwrap_err().to_string().starts_with("ann has"));
        Snapshot::read(&mut registry).await
    })
    .unwrap();
    assert!(snapshot.is_in_use());
    assert!(
        snapshot
            .check_user(0, "ann", "c", b"secret")
            .unwrap()
            .is_ok()
    );
    assert!(
        snapshot
            .check_user(0, "ann", "c", b"Secret")
            .unwrap()
            .is_err()
    );
    assert!(snapshot.check_user(0, "bob", "c", b"x").is_none());
    let names = Names {
        client_id: "c",
        user_name: "ann",
    };
    let rules = snapshot.rules_of(0, "ann").unwrap();
    assert!(rules.topic(Actions::RECEIVE, "a/b", names).allowed);
    assert!(!rules.topic(Actions::RECEIVE, "a/secret", names).allowed);
    assert!(rules.topic(Actions::PUBLISH, "own/ann/x", names).allowed);
    assert!(!rules.topic(Actions::PUBLISH, "own/bob/x", names).allowed);
    assert!(rules.filter("a/#", names).allowed && !rules.filter("#", names).allowed);
    let everything = snapshot.rules_of(0, "root").unwrap();
    assert!(everything.filter("$SYS/#", names).allowed);
}

#[test]
fn a_device_has_its_secrets_its_client_identifier_and_its_status() {
    let place = TemporaryDirectory::new("devices");
    let (first, second, snapshot) = wait(async {
        let mut registry = Registry::open(&place.db()).await?;
        let first = registry.add_device("d1").await?;
        let clash = registry.add_user("d1", "user", "x").await;
        assert!(clash.unwrap_err().to_string().contains("the device d1"));
        assert!(registry.add_device("a/b").await.is_err());
        let second = registry.rotate("d1", Duration::from_secs(60)).await?;
        Ok((first, second, Snapshot::read(&mut registry).await?))
    })
    .unwrap();
    let check = |client_id: &str, secret: &Secret, now: i64| {
        let found = snapshot.check_device(0, "d1", client_id, secret.text().as_bytes(), now);
        found.unwrap()
    };
    let now = now_ms();
    assert_eq!(check("d1", &second, now), Ok(0));
    let ends = check("d1", &first, now).unwrap();
    assert!((now..=now + 60_000).contains(&ends), "{ends} {now}");
    let spent = check("d1", &first, ends).unwrap_err();
    assert_eq!(spent.cause, RefusalCause::CredentialExpired);
    let other = check("d2", &second, now).unwrap_err();
    assert_eq!(other.cause, RefusalCause::NotItsClientId);
    let taken = snapshot.admits(0, "ann", "d1").unwrap_err();
    assert_eq!(taken.cause, RefusalCause::ClientIdOfDevice);
    assert_eq!(snapshot.admits(0, "ann", "d2"), Ok(()));
    let wrong = snapshot.check_device(0, "d1", "d1", b"guess", now).unwrap();
    assert!(matches!(wrong, Err(why) if why.cause == RefusalCause::WrongSecret));
    assert!(
        snapshot
            .check_device(0, "d2", "d2", b"guess", now)
            .is_none()
    );
}

use crate::Secret;

#[test]
fn who_is_not_let_in_any_more_is_named_and_nobody_else() {
    let place = TemporaryDirectory::new("revoked");
    wait(async {
        let mut registry = Registry::open(&place.db()).await?;
        for name in ["removed", "changed", "disabled", "renewed", "stays"] {
            registry.add_user(name, "user", "secret").await?;
        }
        for id in ["d-removed", "d-inactive", "d-rotated", "d-grace", "d-stays"] {
            registry.add_device(id).await?;
        }
        let before = Snapshot::read(&mut registry).await?;
        registry.remove_user("removed").await?;
        registry.set_password("changed", "other").await?;
        registry.set_user("disabled", None, Some(false)).await?;
        let hash = before.users.get("renewed").unwrap().hash.clone();
        registry.renew_hash("renewed", &hash, b"secret").await?;
        registry
            .set_user("stays", Some("administrator"), None)
            .await?;
        registry.remove_device("d-removed").await?;
        registry.set_status("d-inactive", Status::Inactive).await?;
        registry.rotate("d-rotated", Duration::ZERO).await?;
        registry.rotate("d-grace", Duration::from_secs(60)).await?;
        let after = Snapshot::read(&mut registry).await?;
        let removed = before.no_longer_valid(0, &after);
        let mut removed: Vec<_> = removed.iter().filter_map(RevokedClients::user).collect();
        removed.sort_unstable();
        let expected = [
            "changed",
            "d-inactive",
            "d-removed",
            "d-rotated",
            "disabled",
            "removed",
        ];
        assert_eq!(removed, expected);
        assert_eq!(after.no_longer_valid(0, &after), []);
        assert!(after.users.get("renewed").unwrap().hash != hash);
        assert!(
            after
                .check_user(0, "renewed", "c", b"secret")
                .unwrap()
                .is_ok()
        );
        let why = after.check_user(0, "disabled", "c", b"secret").unwrap();
        assert!(matches!(why, Err(why) if why.cause == RefusalCause::UserDisabled));
        assert!(
            !after
                .rules_of(0, "d-inactive")
                .unwrap()
                .filter(
                    "d/d-inactive/#",
                    Names {
                        client_id: "d-inactive",
                        user_name: "d-inactive",
                    }
                )
                .allowed
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn many_devices_are_read_together_and_none_is_left_out() {
    let place = TemporaryDirectory::new("many");
    let (secrets, snapshot) = wait(async {
        let mut registry = Registry::open(&place.db()).await?;
        let mut secrets = Vec::new();
        for number in 0..500 {
            let id = format!("d {number} \u{e4}|;");
            let secret = registry.add_device(&id).await?;
            secrets.push((id, secret));
        }
        Ok((secrets, Snapshot::read(&mut registry).await?))
    })
    .unwrap();
    assert_eq!(snapshot.names(0).count(), secrets.len());
    for (id, secret) in &secrets {
        let found = snapshot.check_device(0, id, id, secret.text().as_bytes(), now_ms());
        assert_eq!(found, Some(Ok(0)), "{id}");
    }
}

/// Returns what a reading says of everybody, to compare two readings.
fn summary(snapshot: &Snapshot) -> Vec<(String, bool, usize, bool)> {
    let mut names: Vec<_> = snapshot.names(0).map(str::to_owned).collect();
    names.sort_unstable();
    let summary = |name: String| {
        let device = snapshot.device(0, &name);
        let is_let_in = snapshot.admits(0, &name, &name).is_ok();
        let rules = snapshot.rules_of(0, &name).unwrap().rules().len();
        let credentials = device.map_or(0, |device| device.credentials.len());
        let text = format!("{name} {:?} {rules}", snapshot.hash_of(&name));
        (text, is_let_in, credentials, snapshot.has_users())
    };
    names.into_iter().map(summary).collect()
}

#[test]
fn what_is_read_of_changes_is_what_is_read_of_everything() {
    let place = TemporaryDirectory::new("changes");
    wait(async {
        let mut registry = Registry::open(&place.db()).await?;
        for number in 0..5 {
            registry
                .add_user(&format!("u{number}"), "user", "x")
                .await?;
            let id = format!("d{number}");
            registry.add_device(&id).await?;
        }
        let mut held = Arc::new(Snapshot::read(&mut registry).await?);
        assert!(matches!(held.renew().await?, Renewed::Same));
        for step in 0..12 {
            let mut expected = vec!["d1"];
            match step {
                0 => drop(registry.rotate("d1", Duration::from_secs(60)).await?),
                1 => registry.set_status("d1", Status::Inactive).await?,
                2 => registry.remove_device("d1").await?,
                3 => drop(registry.add_device("d1").await?),
                4 => registry.set_password("u1", "other").await?,
                5 => registry.set_user("u1", None, Some(false)).await?,
                6 => registry.remove_user("u1").await?,
                7 => registry.add_user("u1", "administrator", "y").await?,
                // By hand, and two at once.
                8 => {
                    let sql = "UPDATE users SET enabled = 0 WHERE name = 'u1'; \
                               UPDATE devices SET status = 'maintenance' WHERE id = 'd1'";
                    let done = sqlx::raw_sql(sql).execute(&mut registry.connection).await;
                    done.map_err(|error| Fault::Sql(error).at("it"))?;
                    expected = vec!["d1", "u1"];
                }
                _ => {
                    registry.remove_user(&format!("u{}", step - 7)).await?;
                    expected = vec!["u2", "u3", "u4"];
                    expected.retain(|name| *name == format!("u{}", step - 7));
                }
            }
            if (4..8).contains(&step) {
                expected = vec!["u1"];
            }
            let Renewed::Changed(changed) = held.renew().await? else {
                panic!("{step}: everything");
            };
            let (newer, names) = (changed.tables, changed.names);
            let mut names: Vec<_> = names.iter().map(|name| &**name).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{step}");
            let whole = Snapshot::read(&mut registry).await?;
            assert_eq!(summary(&newer), summary(&whole), "{step}");
            // Who looks too early reads for nothing.
            assert!(newer.changes_ms <= whole.changes_ms, "{step}");
            let mut removed = held.no_longer_valid(0, &newer);
            let mut removed_in_whole = held.no_longer_valid(0, &whole);
            removed.sort_unstable();
            removed_in_whole.sort_unstable();
            assert_eq!(removed, removed_in_whole, "{step}");
            held = newer;
        }
        registry.add_rule_set(Owner::Role, "r", &[]).await?;
        registry.set_user("u0", Some("r"), None).await?;
        let Renewed::Changed(changed) = held.renew().await? else {
            panic!("rules have changed, and a user");
        };
        assert!(changed.rules && changed.names == ["u0".into()]);
        let whole = Snapshot::read(&mut registry).await?;
        assert_eq!(summary(&changed.tables), summary(&whole));
        // Users of the role have its present rules.
        let rules = [rule("topic read a"), rule("topic write b")];
        registry.set_rules(Owner::Role, "r", &rules).await?;
        let Renewed::Changed(changed) = changed.tables.renew().await? else {
            panic!("rules have changed");
        };
        assert!(changed.rules && changed.names.is_empty());
        let now = changed
            .tables
            .rules_of(0, "u0")
            .map(|rules| rules.rules().len());
        assert_eq!(now, Some(2));
        Ok(())
    })
    .unwrap();
}

/// Whether the device `d` may read that topic.
fn may_read(snapshot: &Snapshot, topic: &str) -> bool {
    let names = Names {
        client_id: "d",
        user_name: "d",
    };
    let rules = snapshot.rules_of(0, "d").unwrap();
    rules.topic(Actions::RECEIVE, topic, names).allowed
}

#[test]
fn devices_of_iotflow_read_the_commands_of_their_groups_alone() {
    let place = TemporaryDirectory::new("fleet");
    let commands = |group: &str| format!("iotflow/fleet/commands/{group}");
    wait(async {
        let actor = Actor::local();
        let mut registry = Registry::open(&place.db()).await?;
        let device = NewDevice {
            device_type: "iotflow".to_owned(),
            ..NewDevice::new("d")
        };
        registry.create_device(&actor, device).await?;
        for name in ["pumps", "lamps", "a/b"] {
            let group = NewGroup {
                name: name.to_owned(),
                ..NewGroup::default()
            };
            registry.add_group(&actor, group).await?;
        }
        let mut held = Arc::new(Snapshot::read(&mut registry).await?);
        assert!(!may_read(&held, &commands("pumps")));
        for group in ["pumps", "a/b"] {
            let added = registry.add_to_group(&actor, group, &["d".into()]).await?;
            assert_eq!(added, 1);
        }
        let Renewed::Changed(changed) = held.renew().await? else {
            panic!("its groups have changed");
        };
        held = changed.tables;
        for snapshot in [&*held, &Snapshot::read(&mut registry).await?] {
            assert!(may_read(snapshot, &commands("pumps")));
            assert!(!may_read(snapshot, &commands("lamps")));
            assert!(!may_read(snapshot, &commands("a/b")), "it is not a level");
        }
        let change = GroupChange {
            name: Some("valves".to_owned()),
            ..GroupChange::default()
        };
        registry
            .change_group(&actor, "pumps", change, Expected::any())
            .await?;
        let Renewed::Changed(changed) = held.renew().await? else {
            panic!("the name of its group has changed");
        };
        held = changed.tables;
        assert!(may_read(&held, &commands("valves")) && !may_read(&held, &commands("pumps")));
        // For a device of another type, its groups have no rules.
        let change = DeviceChange {
            device_type: Some("device".to_owned()),
            ..DeviceChange::default()
        };
        registry
            .change_device(&actor, "d".into(), change, Expected::any())
            .await?;
        let Renewed::Changed(changed) = held.renew().await? else {
            panic!("its type has changed");
        };
        assert!(!may_read(&changed.tables, &commands("valves")));
        assert!(may_read(&changed.tables, "d/d/x"));
        Ok(())
    })
    .unwrap();
}

#[test]
fn another_database_or_too_much_that_was_missed_is_read_as_a_whole() {
    let place = TemporaryDirectory::new("others");
    wait(async {
        let failed = |error| Fault::Sql(error).at("it");
        let mut registry = Registry::open(&place.db()).await?;
        registry.add_device("d").await?;
        let held = Snapshot::read(&mut registry).await?;
        let forget = "DELETE FROM changes WHERE number = (SELECT MAX(number) FROM changes)";
        let done = sqlx::raw_sql(forget)
            .execute(&mut registry.connection)
            .await;
        done.map_err(&failed)?;
        assert!(matches!(held.renew().await?, Renewed::Everything));
        let held = Snapshot::read(&mut registry).await?;
        // As many changes as before, but others.
        registry.rotate("d", Duration::ZERO).await?;
        let other = Snapshot {
            seen: ChangePosition::default(),
            ..held
        };
        assert!(matches!(other.renew().await?, Renewed::Everything));
        let held = Snapshot::read(&mut registry).await?;
        let mark = "UPDATE changes SET mark = 'another'";
        let done = sqlx::raw_sql(mark).execute(&mut registry.connection).await;
        done.map_err(&failed)?;
        assert!(matches!(held.renew().await?, Renewed::Everything));
        let held = Snapshot::read(&mut registry).await?;
        for round in 0..2_100 {
            let done = sqlx::raw_sql(match round % 2 {
                0 => "UPDATE devices SET status = 'inactive'",
                _ => "UPDATE devices SET status = 'active'",
            });
            let done = done.execute(&mut registry.connection).await;
            done.map_err(&failed)?;
        }
        assert!(matches!(held.renew().await?, Renewed::Everything));
        let held = Snapshot::read(&mut registry).await?;
        registry.close().await?;
        let copy = place.db().with_extension("copy");
        std::fs::copy(place.db(), &copy).unwrap();
        std::fs::rename(&copy, place.db()).unwrap();
        assert!(matches!(held.renew().await?, Renewed::Everything));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_node_stays_closed_when_the_last_user_is_removed() {
    let place = TemporaryDirectory::new("last");
    let snapshot = wait(async {
        let mut registry = Registry::open(&place.db()).await?;
        registry.add_user("one", "user", "secret").await?;
        registry.remove_user("one").await?;
        registry.close().await?;
        Snapshot::load(&place.db()).await
    });
    let snapshot = snapshot.unwrap().unwrap();
    assert!(snapshot.is_in_use() && snapshot.account_kind(0, "one").is_none());
}

#[test]
fn whose_credential_has_ended_is_named_though_nothing_else_has_changed() {
    let place = TemporaryDirectory::new("ended");
    wait(async {
        let mut registry = Registry::open(&place.db()).await?;
        let mut secrets = Vec::new();
        for id in ["d1", "d2"] {
            secrets.push(registry.add_device(id).await?);
        }
        registry.rotate("d1", Duration::from_secs(60)).await?;
        let mut held = Snapshot::read(&mut registry).await?;
        let ends_ms = held.changes_at_ms().expect("one ends in a minute");
        // As if it had been read long ago, before a change of another device and after it.
        let an_hour = 3_600_000;
        let mut of_tenant = held.devices.remove(&0).unwrap_or_default();
        let old = of_tenant.remove("d1").expect("it is there");
        let credentials = old.credentials.iter().cloned().map(|mut held| {
            held.expires_ms -= i64::from(held.expires_ms > 0) * an_hour;
            held
        });
        let changed = DeviceEntry {
            credentials: credentials.collect(),
            ..*old
        };
        of_tenant.insert("d1".into(), Arc::new(changed));
        held.devices.insert(0, of_tenant);
        held.read_ms -= 2 * an_hour;
        held.changes_ms = ends_ms - an_hour;
        let Renewed::Changed(changed) = held.renew_from(&mut registry).await? else {
            panic!("a credential has ended");
        };
        assert_eq!(changed.names, ["d1".into()]);
        assert_eq!(changed.tables.changes_at_ms(), None);
        let mark = held.mark_of_secret(secrets[0].text().as_bytes());
        let removed = held.no_longer_valid(0, &changed.tables);
        assert_eq!(removed, [RevokedClients::Credential("d1".into(), mark)]);
        assert!(matches!(
            changed.tables.renew_from(&mut registry).await?,
            Renewed::Same
        ));
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_the_tables_take_grows_and_shrinks_with_them() {
    let place = TemporaryDirectory::new("bytes");
    let [empty, full, fewer] = wait(async {
        let mut registry = Registry::open(&place.db()).await?;
        let empty = Snapshot::read(&mut registry).await?.memory_bytes();
        registry.add_user("ann", "user", "long enough").await?;
        for number in 0..20 {
            registry.add_device(&format!("d{number}")).await?;
        }
        let full = Snapshot::read(&mut registry).await?.memory_bytes();
        let first = "d1".into();
        registry
            .delete_device(&Actor::local(), first, Expected::any())
            .await?;
        let fewer = Snapshot::read(&mut registry).await?.memory_bytes();
        Ok::<_, crate::RegistryError>([empty, full, fewer])
    })
    .unwrap();
    assert_eq!(full - empty, USER_BYTES + 20 * DEVICE_BYTES);
    assert!((empty..full).contains(&fewer), "{fewer}");
}
