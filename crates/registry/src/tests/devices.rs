use std::time::Duration;

use martlet_permission::{CredentialMark, RefusalCause, RevokedClients};
use sqlx::{Column as _, Row as _};

use super::{all, both, is_not_found, new_device};
use crate::devices::column_names;
use crate::secret::digest_text;
use crate::{
    CredentialUse, DataType, DeviceChange, DeviceFilter, DeviceOrder, DeviceSecret, Exists,
    Expected, Import, NewCredential, NewDevice, NewGroup, ObjectKind, Owner, PageRequest, Presence,
    RegistryError, RowOutcome, Secret, Snapshot, Status, Visibility,
};

both!(a_device_has_all_its_fields, registry, {
    let actor = all();
    registry.add_user("ann", "user", "secret").await?;
    let group = NewGroup {
        name: "hall".to_owned(),
        ..NewGroup::default()
    };
    let group = registry.add_group(&actor, group).await?;
    let new = NewDevice {
        name: Some("Pümpe".to_owned()),
        kind: "water pump".to_owned(),
        description: "two\nlines".to_owned(),
        location: "roof".to_owned(),
        firmware_version: "1.2".to_owned(),
        hardware_version: "B".to_owned(),
        owner: "ann".to_owned(),
        tags: vec!["wet".to_owned(), "blue".to_owned(), "wet".to_owned()],
        groups: vec![group.id.clone()],
        ..new_device("p1")
    };
    let added = registry.create_device(&actor, new).await?;
    let found = registry.device(&Visibility::All, "p1".into()).await?;
    assert_eq!(
        found,
        registry
            .device(&Visibility::All, added.number.into())
            .await?
    );
    assert_eq!((&*found.name, &*found.description), ("Pümpe", "two\nlines"));
    assert_eq!(found.kind, "water pump");
    assert_eq!((&*found.location, &*found.owner), ("roof", "ann"));
    assert_eq!(
        (&*found.firmware_version, &*found.hardware_version),
        ("1.2", "B")
    );
    assert_eq!(found.tags, ["blue", "wet"]);
    assert_eq!(found.groups, [group.id]);
    assert_eq!(
        (found.revision, found.credentials, found.deleted_ms),
        (1, 1, 0)
    );
});

both!(
    a_change_of_what_has_changed_meanwhile_is_refused,
    registry,
    {
        let actor = all();
        registry.create_device(&actor, new_device("d")).await?;
        let rename = |name: &str| DeviceChange {
            name: Some(name.to_owned()),
            ..DeviceChange::default()
        };
        let changed = registry
            .change_device(&actor, "d".into(), rename("a"), Expected::from(1))
            .await?;
        assert_eq!((&*changed.name, changed.revision), ("a", 2));
        let late = registry
            .change_device(&actor, "d".into(), rename("b"), Expected::from(1))
            .await;
        assert!(matches!(
            late,
            Err(RegistryError::Stale { expected, found: 2, .. }) if expected == Expected::from(1)
        ));
        let either = Expected::from_iter([1, 2]);
        registry
            .change_device(&actor, "d".into(), rename("a"), either)
            .await?;
        let late = registry
            .delete_device(&actor, "d".into(), Expected::from(1))
            .await;
        assert!(matches!(late, Err(RegistryError::Stale { .. })));
        // Nothing is different.
        let same = registry
            .change_device(&actor, "d".into(), rename("a"), Expected::any())
            .await?;
        assert_eq!(same.revision, 2);
    }
);

both!(
    a_deleted_device_is_gone_for_everybody_until_it_is_restored,
    registry,
    {
        let actor = all();
        let first = registry.create_device(&actor, new_device("d")).await?;
        let secret = first.secret.expect("one was made up");
        registry
            .delete_device(&actor, "d".into(), Expected::any())
            .await?;
        assert!(is_not_found(
            registry.device(&Visibility::All, "d".into()).await
        ));
        assert!(registry.devices().await?.is_empty());
        assert!(registry.device_of_secret(secret.text()).await?.is_none());
        let snapshot = Snapshot::read(registry).await?;
        assert!(snapshot.account_kind(0, "d").is_none() && snapshot.is_in_use());
        let refused = snapshot.admits(0, "d", "d");
        assert!(matches!(refused, Err(why) if why.cause == RefusalCause::Deleted));
        let taken = registry.create_device(&actor, new_device("d")).await;
        assert!(matches!(
            taken,
            Err(RegistryError::Exists(Exists::Deleted(
                ObjectKind::Device,
                _
            )))
        ));
        let back = registry.restore_device(&actor, "d".into()).await?;
        assert_eq!((back.number, back.deleted_ms), (first.number, 0));
        let (device, credential) = registry
            .device_of_secret(secret.text())
            .await?
            .expect("it is back");
        assert_eq!(
            (&*device.id, credential.is_good(device.updated_ms)),
            ("d", true)
        );
        registry
            .delete_device(&actor, "d".into(), Expected::any())
            .await?;
        registry.purge_device(&actor, "d".into(), false).await?;
        assert!(is_not_found(
            registry.restore_device(&actor, "d".into()).await
        ));
        assert_eq!(Snapshot::read(registry).await?.admits(0, "d", "d"), Ok(()));
        let second = registry.create_device(&actor, new_device("d")).await?;
        assert!(second.number > first.number, "numbers are never used again");
    }
);

both!(many_are_added_all_or_each_by_itself, registry, {
    let actor = all();
    registry.create_device(&actor, new_device("old")).await?;
    registry.add_user("ann", "user", "secret").await?;
    let many = || {
        let ids = ["a", "old", "b/c", "a", "ann", "z"];
        let mut many: Vec<_> = ids.map(new_device).into();
        many.push(NewDevice {
            device_type: "none".to_owned(),
            ..new_device("y")
        });
        many.push(NewDevice {
            secret: DeviceSecret::Given(Secret::given("0123456789abcdef").expect("long enough")),
            ..new_device("given")
        });
        many
    };
    let outcomes = registry
        .add_devices(&actor, many(), Import::AllOrNone)
        .await?;
    assert!(
        !outcomes
            .iter()
            .any(|one| matches!(one, RowOutcome::Added(_)))
    );
    assert_eq!(registry.devices().await?.len(), 1);
    let outcomes = registry
        .add_devices(&actor, many(), Import::EachByItself)
        .await?;
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            RowOutcome::Added(added) => added.id.clone(),
            RowOutcome::Exists(_) => "exists".to_owned(),
            other => format!("{other:?}")[..7].to_owned(),
        })
        .collect();
    let expected = [
        "a", "exists", "Refused", "exists", "exists", "z", "Refused", "given",
    ];
    assert_eq!(kinds, expected);
    let many = (0..1_500)
        .map(|number| new_device(&format!("m{number:04}")))
        .collect();
    let outcomes = registry
        .add_devices(&actor, many, Import::AllOrNone)
        .await?;
    assert!(
        outcomes
            .iter()
            .all(|one| matches!(one, RowOutcome::Added(_)))
    );
    let snapshot = Snapshot::read(registry).await?;
    let RowOutcome::Added(last) = &outcomes[1_499] else {
        panic!("it was added");
    };
    let secret = last
        .secret
        .as_ref()
        .expect("one was made up")
        .text()
        .as_bytes();
    assert_eq!(
        snapshot.check_device(0, "m1499", "m1499", secret, 1),
        Some(Ok(0))
    );
    let given = snapshot.check_device(0, "given", "given", b"0123456789abcdef", 1);
    assert_eq!(given, Some(Ok(0)));
});

both!(nobody_owns_more_devices_than_they_may, registry, {
    let actor = all();
    registry.settings.devices_per_user_max = Some(2);
    registry.add_user("ann", "user", "secret").await?;
    let of_ann = |id: &str| NewDevice {
        owner: "ann".to_owned(),
        ..new_device(id)
    };
    let three = ["a", "b", "c"].map(of_ann).into();
    let outcomes = registry
        .add_devices(&actor, three, Import::EachByItself)
        .await?;
    assert!(matches!(outcomes[2], RowOutcome::Conflict(_)));
    let fourth = registry.create_device(&actor, of_ann("d")).await;
    assert!(matches!(fourth, Err(RegistryError::Conflict(_))));
    registry.create_device(&actor, new_device("d")).await?;
    let own = DeviceChange {
        owner: Some("ann".to_owned()),
        ..DeviceChange::default()
    };
    let taken = registry
        .change_device(&actor, "d".into(), own.clone(), Expected::any())
        .await;
    assert!(matches!(taken, Err(RegistryError::Conflict(_))));
    registry
        .delete_device(&actor, "a".into(), Expected::any())
        .await?;
    registry
        .change_device(&actor, "d".into(), own, Expected::any())
        .await?;
    let back = registry.restore_device(&actor, "a".into()).await;
    assert!(matches!(back, Err(RegistryError::Conflict(_))));
});

both!(
    lists_are_filtered_and_pages_neither_repeat_nor_hide,
    registry,
    {
        let actor = all();
        registry
            .add_rule_set(Owner::DeviceType, "meter", &[])
            .await?;
        let many = (0..30).map(|number| NewDevice {
            device_type: if number % 2 == 0 { "meter" } else { "device" }.to_owned(),
            location: if number % 3 == 0 { "Zürich" } else { "Bern" }.to_owned(),
            tags: if number < 5 {
                vec!["first".to_owned()]
            } else {
                Vec::new()
            },
            // Capital letters come before small ones, bytewise.
            ..new_device(&format!(
                "{}{number:02}",
                if number % 2 == 0 { 'D' } else { 'd' }
            ))
        });
        registry
            .add_devices(&actor, many.collect(), Import::AllOrNone)
            .await?;
        for order in [DeviceOrder::Id, DeviceOrder::Created, DeviceOrder::LastSeen] {
            let mut ids = Vec::new();
            let mut page = PageRequest {
                with_total: true,
                ..PageRequest::first(7)
            };
            loop {
                let filter = DeviceFilter::default();
                let found = registry
                    .list_devices(&Visibility::All, &filter, order, &page)
                    .await?;
                assert_eq!(found.total, Some(30 - u64::from(!ids.is_empty())));
                ids.extend(found.items.into_iter().map(|device| device.id));
                if ids.len() == 7 {
                    // What was on the first page goes, and hides nothing of the next.
                    registry
                        .delete_device(&actor, (&*ids[3]).into(), Expected::any())
                        .await?;
                }
                match found.next {
                    Some(next) => page.cursor = Some(next),
                    None => break,
                }
            }
            assert_eq!(ids.len(), 30, "{order:?}");
            if order == DeviceOrder::Id {
                assert!(ids.is_sorted() && ids[0] == "D00" && ids[15] == "d01");
            }
            registry.restore_device(&actor, (&*ids[3]).into()).await?;
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 30, "{order:?}");
        }
        let some = |text: Option<&str>| text.map(str::to_owned);
        for (filter, expected) in [
            (
                DeviceFilter {
                    text: some(Some("ZÜRICH")),
                    ..DeviceFilter::default()
                },
                10,
            ),
            (
                DeviceFilter {
                    text: some(Some("%")),
                    ..DeviceFilter::default()
                },
                0,
            ),
            (
                DeviceFilter {
                    text: some(Some("d0")),
                    ..DeviceFilter::default()
                },
                10,
            ),
            (
                DeviceFilter {
                    device_type: some(Some("meter")),
                    ..DeviceFilter::default()
                },
                15,
            ),
            (
                DeviceFilter {
                    tag: some(Some("first")),
                    ..DeviceFilter::default()
                },
                5,
            ),
            (
                DeviceFilter {
                    status: Some(Status::Inactive),
                    ..DeviceFilter::default()
                },
                0,
            ),
            (
                DeviceFilter {
                    owner: some(Some("x\0y")),
                    ..DeviceFilter::default()
                },
                0,
            ),
            (
                DeviceFilter {
                    deleted: true,
                    ..DeviceFilter::default()
                },
                0,
            ),
        ] {
            let page = PageRequest::first(1_000);
            let order = DeviceOrder::Id;
            let found = registry
                .list_devices(&Visibility::All, &filter, order, &page)
                .await?;
            assert_eq!(found.items.len(), expected, "{filter:?}");
            let counted = registry.count_devices(&Visibility::All, &filter).await?;
            assert_eq!(counted, expected as u64, "{filter:?}");
        }
        let odd = PageRequest {
            cursor: Some("***".to_owned()),
            ..PageRequest::first(1)
        };
        let (filter, order) = (DeviceFilter::default(), DeviceOrder::Id);
        let outcome = registry
            .list_devices(&Visibility::All, &filter, order, &odd)
            .await;
        assert!(matches!(outcome, Err(RegistryError::Refused(_))));
    }
);

both!(a_device_has_several_credentials, registry, {
    let actor = all();
    let added = registry.create_device(&actor, new_device("d")).await?;
    let first = added.secret.expect("one was made up");
    let second = registry.rotate("d", Duration::from_secs(60)).await?;
    let certificate = NewCredential::Certificate([7; 32]);
    let before = Snapshot::read(registry).await?;
    let (held, none) = registry
        .add_credential(&actor, "d".into(), "card", certificate.clone(), 0)
        .await?;
    assert!(none.is_none());
    let twice = registry
        .add_credential(&actor, "d".into(), "", certificate, 0)
        .await;
    assert!(matches!(twice, Err(RegistryError::Exists(_))));
    let all_held = registry.credentials(&Visibility::All, "d".into()).await?;
    assert_eq!(all_held.len(), 3);
    assert!(all_held.contains(&held));
    let snapshot = Snapshot::read(registry).await?;
    // By which certificate it came before, when none was registered, is not known.
    assert_eq!(
        before.no_longer_valid(0, &snapshot),
        [RevokedClients::User("d".into())]
    );
    for secret in [&first, &second] {
        let found = snapshot.check_device(0, "d", "d", secret.text().as_bytes(), 1);
        assert!(matches!(found, Some(Ok(_))));
    }
    assert_eq!(
        snapshot.check_certificate(0, "d", "d", &[7; 32], 1),
        Some(Ok(0))
    );
    // What is a certificate's fingerprint is no password.
    assert!(matches!(
        snapshot.check_device(0, "d", "d", &[7; 32], 1),
        Some(Err(_))
    ));
    let before = Snapshot::read(registry).await?;
    let uses = [CredentialUse {
        id: digest_text(&[7; 32]),
        at_ms: 5,
        uses: 3,
    }];
    registry.write_secret_uses(&uses).await?;
    let renewed = before.renew_from(registry).await?;
    assert!(
        matches!(renewed, crate::Renewed::Same),
        "a use is not a change"
    );
    registry
        .revoke_credential(&actor, "d".into(), &held.id)
        .await?;
    assert!(is_not_found(
        registry
            .revoke_credential(&actor, "d".into(), &held.id)
            .await
    ));
    let all_held = registry.credentials(&Visibility::All, "d".into()).await?;
    let found = all_held.iter().find(|one| one.id == held.id);
    let found = found.expect("it is kept");
    assert_eq!((found.uses, found.last_used_ms), (3, 5));
    assert!(!found.is_good(1));
    let after = Snapshot::read(registry).await?;
    assert_eq!(
        before.no_longer_valid(0, &after),
        [RevokedClients::Credential(
            "d".into(),
            CredentialMark::of_digest(&[7; 32])
        )]
    );
});

both!(a_configuration_has_values_of_their_types, registry, {
    let actor = all();
    registry.create_device(&actor, new_device("d")).await?;
    for (data_type, value, is_one) in [
        (DataType::Integer, "42", true),
        (DataType::Integer, "4.2", false),
        (DataType::Float, "4.2", true),
        (DataType::Float, "inf", false),
        (DataType::Boolean, "true", true),
        (DataType::Boolean, "yes", false),
        (DataType::Json, "{\"a\": [1]}", true),
        (DataType::Json, "{", false),
        (DataType::String, "{", true),
    ] {
        let set = registry
            .set_configuration(
                &actor,
                "d".into(),
                data_type.word(),
                value,
                data_type,
                true,
                Expected::any(),
            )
            .await;
        assert_eq!(set.is_ok(), is_one, "{data_type:?} {value}");
    }
    let read = registry.configuration(&Visibility::All, "d".into()).await?;
    let keys: Vec<_> = read
        .iter()
        .map(|setting| (&*setting.key, setting.revision))
        .collect();
    let expected = [
        ("boolean", 1),
        ("float", 1),
        ("integer", 1),
        ("json", 1),
        ("string", 1),
    ];
    assert_eq!(keys, expected);
    let again = registry
        .set_configuration(
            &actor,
            "d".into(),
            "string",
            "x",
            DataType::String,
            false,
            Expected::from(1),
        )
        .await?;
    assert_eq!((again.revision, again.is_active), (2, false));
    registry
        .remove_configuration(&actor, "d".into(), "string")
        .await?;
    assert!(is_not_found(
        registry
            .remove_configuration(&actor, "d".into(), "string")
            .await
    ));
});

both!(presence_is_written_in_batches_and_is_no_change, registry, {
    registry.create_device(&all(), new_device("d")).await?;
    let before = Snapshot::read(registry).await?;
    let began = registry
        .device(&Visibility::All, "d".into())
        .await?
        .created_ms;
    let seen = |client_id: &str, online, last_seen_ms| Presence {
        tenant: 0,
        client_id: client_id.to_owned(),
        online,
        since_ms: last_seen_ms,
        last_seen_ms,
        why_offline: String::new(),
        sent_disconnect: false,
        address: "192.0.2.7".to_owned(),
        listener: "mqtt://192.0.2.1:1883".to_owned(),
        is_reported: true,
    };
    let batch = [
        seen("d", true, began + 10),
        seen("other", true, began + 11),
        seen("d", false, began + 12),
    ];
    registry.write_presence("n", &batch).await?;
    let last = seen("d", false, began + 12);
    assert_eq!(registry.presence(0, "d").await?, Some(last));
    assert_eq!(
        registry
            .device(&Visibility::All, "d".into())
            .await?
            .last_seen_ms,
        began + 12
    );
    assert_eq!(registry.presence(0, "nobody").await?, None);
    for (online, expected) in [(true, 0), (false, 1)] {
        let filter = DeviceFilter {
            online: Some(online),
            ..DeviceFilter::default()
        };
        assert_eq!(
            registry.count_devices(&Visibility::All, &filter).await?,
            expected
        );
    }
    assert!(matches!(
        before.renew_from(registry).await?,
        crate::Renewed::Same
    ));
});

/// Returns what is known of a client of the common tenant, which came or went then.
fn client(client_id: &str, online: bool, at_ms: i64) -> Presence {
    Presence {
        tenant: 0,
        client_id: client_id.to_owned(),
        online,
        since_ms: at_ms,
        last_seen_ms: at_ms,
        why_offline: String::new(),
        sent_disconnect: false,
        address: String::new(),
        listener: String::new(),
        is_reported: true,
    }
}

both!(
    who_was_connected_to_a_node_that_ended_is_not_any_more,
    registry,
    {
        registry.create_device(&all(), new_device("d")).await?;
        let began = registry
            .device(&Visibility::All, "d".into())
            .await?
            .created_ms;
        let client = |id: &str, online, at_ms| client(id, online, began + at_ms);
        let batch = [
            client("d", true, 10),
            client("later", true, 30),
            client("gone", false, 5),
            Presence {
                is_reported: false,
                ..client("untold", false, 6)
            },
        ];
        registry.write_presence("a", &batch).await?;
        let batch = [client("elsewhere", true, 10)];
        registry.write_presence("b", &batch).await?;
        let mut ended = registry
            .all_offline("a", began + 20, "the node ended")
            .await?;
        ended.sort_by(|one, other| one.client_id.cmp(&other.client_id));
        let times = |one: &Presence| (one.client_id.clone(), one.since_ms, one.last_seen_ms);
        let times: Vec<_> = ended.iter().map(times).collect();
        let expected = [("d", 20, 20), ("later", 30, 30), ("untold", 6, 6)];
        let expected = expected
            .map(|(id, since_ms, seen_ms)| (id.to_owned(), began + since_ms, began + seen_ms));
        assert_eq!(times, expected);
        assert_eq!(ended[0].why_offline, "the node ended");
        let device = registry.device(&Visibility::All, "d".into()).await?;
        assert_eq!(device.presence, Some(ended[0].clone()));
        // Until they are told of.
        assert_eq!(
            registry.all_offline("a", began + 40, "again").await?.len(),
            3
        );
        let outcome = ended.into_iter().map(|one| Presence {
            is_reported: true,
            ..one
        });
        let outcome: Vec<_> = outcome.collect();
        registry.write_presence("a", &outcome).await?;
        assert!(
            registry
                .all_offline("a", began + 40, "again")
                .await?
                .is_empty()
        );
        // A client that has connected to another node since is online, whatever the first node
        // says.
        let online = registry.presence(0, "elsewhere").await?;
        assert!(online.expect("it is known").online);
        let batch = [client("elsewhere", false, 50)];
        registry.write_presence("a", &batch).await?;
        let online = registry.presence(0, "elsewhere").await?;
        assert!(online.expect("it is known").online);
    }
);

both!(
    of_clients_that_are_no_devices_the_last_are_remembered,
    registry,
    {
        registry.create_device(&all(), new_device("d")).await?;
        let mut batch = vec![client("d", false, 1), client("there", true, 1)];
        for number in 2..10 {
            batch.push(client(&format!("passing-{number}"), false, number));
        }
        registry.write_presence("a", &batch).await?;
        assert_eq!(registry.forget_passing(2).await?, 5);
        assert_eq!(registry.forget_passing(2).await?, 0);
        for (client_id, is_known) in [
            ("d", true),
            ("there", true),
            ("passing-6", false),
            ("passing-7", true),
            ("passing-9", true),
        ] {
            let found = registry.presence(0, client_id).await?;
            assert_eq!(found.is_some(), is_known, "{client_id}");
        }
    }
);

both!(who_has_an_id_next_was_never_connected, registry, {
    let of = |online, seen_ms| Presence {
        tenant: 0,
        client_id: "d".to_owned(),
        online,
        since_ms: seen_ms,
        last_seen_ms: seen_ms,
        why_offline: "x".to_owned(),
        sent_disconnect: false,
        address: "192.0.2.1:1".to_owned(),
        listener: String::new(),
        is_reported: true,
    };
    registry.add_device("d").await?;
    let seen = crate::now_ms();
    registry.write_presence("n", &[of(false, seen)]).await?;
    let found = registry.device(&Visibility::All, "d".into()).await?;
    assert!(found.presence.is_some() && found.last_seen_ms == seen);
    registry.remove_device("d").await?;
    assert!(registry.presence(0, "d").await?.is_none(), "nobody has it");
    registry.add_device("d").await?;
    // The end of its connection may be written later than that.
    let before = registry
        .device(&Visibility::All, "d".into())
        .await?
        .created_ms
        - 1;
    registry.write_presence("n", &[of(false, before)]).await?;
    let found = registry.device(&Visibility::All, "d".into()).await?;
    assert!(found.presence.is_none() && found.last_seen_ms == 0);
    registry
        .write_presence("n", &[of(true, before + 2)])
        .await?;
    let found = registry.device(&Visibility::All, "d".into()).await?;
    assert!(found.presence.is_some_and(|seen| seen.online));
});

both!(devices_have_a_kind_that_is_free_text, registry, {
    let actor = all();
    for (id, kind) in [("a", "pump"), ("b", "Pumpe für Öl"), ("c", "pump")] {
        let new = NewDevice {
            kind: kind.to_owned(),
            ..new_device(id)
        };
        registry.create_device(&actor, new).await?;
    }
    let change = |kind: &str| DeviceChange {
        kind: Some(kind.to_owned()),
        ..DeviceChange::default()
    };
    let changed = registry
        .change_device(&actor, "c".into(), change("valve"), Expected::any())
        .await?;
    assert_eq!((&*changed.kind, changed.revision), ("valve", 2));
    for odd in ["x".repeat(257), "two\nlines".to_owned()] {
        let outcome = registry
            .change_device(&actor, "c".into(), change(&odd), Expected::any())
            .await;
        assert!(
            matches!(outcome, Err(RegistryError::Refused(_))),
            "{outcome:?}"
        );
    }
    for (kind, expected) in [("pump", &["a"][..]), ("Pumpe für Öl", &["b"]), ("", &[])] {
        let filter = DeviceFilter {
            kind: Some(kind.to_owned()),
            ..DeviceFilter::default()
        };
        let (order, page) = (DeviceOrder::Id, PageRequest::first(9));
        let found = registry
            .list_devices(&Visibility::All, &filter, order, &page)
            .await?;
        let ids: Vec<_> = found.items.iter().map(|device| &*device.id).collect();
        assert_eq!(ids, expected);
    }
});

both!(each_column_of_the_table_is_declared, registry, {
    registry.add_device("d").await?;
    let mut reading = registry.reading().await?;
    let row = sqlx::query("SELECT * FROM devices")
        .fetch_one(reading.connection())
        .await;
    let row = reading.end(row).await?;
    let mut there: Vec<&str> = row.columns().iter().map(|column| column.name()).collect();
    let mut declared = column_names();
    // What a search looks into is made of other columns.
    declared.push("search");
    there.sort_unstable();
    declared.sort_unstable();
    assert_eq!(declared, there);
});
