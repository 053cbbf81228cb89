use serde_json::json;

use super::{all, both, new_device, of_team};
use crate::{
    Actor, AuditFilter, AuditKept, AuditLine, DeviceChange, Expected, NewApiKey, NewAuditEntry,
    NewTeam, Owner, PageRequest, Status, Visibility,
};

both!(
    every_change_says_who_made_it_and_nothing_secret,
    registry,
    {
        let team = NewTeam {
            name: "one".to_owned(),
            ..NewTeam::default()
        };
        let team = registry.add_team(&all(), team).await?;
        let ann = of_team(&team.id);
        let added = registry.create_device(&ann, new_device("d1")).await?;
        let change = DeviceChange {
            status: Some(Status::Inactive),
            ..DeviceChange::default()
        };
        registry
            .change_device(&ann, "d1".into(), change, Expected::any())
            .await?;
        registry.add_user("eve", "user", "password-of-eve").await?;
        let key = NewApiKey {
            name: "k".to_owned(),
            ..NewApiKey::default()
        };
        let (_, key) = registry.add_api_key(&all(), key).await?;
        // What was refused has changed nothing.
        assert!(
            registry
                .create_device(&ann, new_device("d1"))
                .await
                .is_err()
        );
        let page = PageRequest::first(100);
        let log = registry
            .audit_log(&Visibility::All, &AuditFilter::default(), &page)
            .await?;
        let actions: Vec<_> = log.items.iter().map(|row| &*row.entry.action).collect();
        let expected = [
            "api_key.add",
            "user.add",
            "device.change",
            "device.add",
            "team.add",
        ];
        assert_eq!(actions, expected);
        let changed = &log.items[2];
        assert_eq!(
            changed.entry.changed,
            "{\"status\":[\"active\",\"inactive\"]}"
        );
        assert_eq!((&*changed.who, &*changed.by), ("ann", "session 1"));
        assert_eq!(
            (&*changed.address, &*changed.request_id),
            ("192.0.2.1", "r-1")
        );
        assert!(
            log.items[1].who.starts_with("uid "),
            "the command line's user is known"
        );
        let whole = format!("{log:?}");
        let secret = added.secret.expect("one was made up");
        for hidden in [
            secret.text(),
            key.text(),
            "password-of-eve",
            "argon2",
            "HMAC",
        ] {
            assert!(!whole.contains(hidden), "{hidden}");
        }
        let theirs = registry
            .audit_log(&ann.visibility, &AuditFilter::default(), &page)
            .await?;
        assert_eq!(theirs.items.len(), 3);
        for (filter, expected) in [
            (
                AuditFilter {
                    action: Some("device.".to_owned()),
                    ..AuditFilter::default()
                },
                2,
            ),
            (
                AuditFilter {
                    action: Some("device.add".to_owned()),
                    ..AuditFilter::default()
                },
                1,
            ),
            (
                AuditFilter {
                    who: Some("root".to_owned()),
                    ..AuditFilter::default()
                },
                2,
            ),
            (
                AuditFilter {
                    object_id: Some("d1".to_owned()),
                    ..AuditFilter::default()
                },
                2,
            ),
            (
                AuditFilter {
                    before_ms: Some(1),
                    ..AuditFilter::default()
                },
                0,
            ),
        ] {
            let found = registry.audit_log(&Visibility::All, &filter, &page).await?;
            assert_eq!(found.items.len(), expected, "{filter:?}");
        }
        let mut small = PageRequest::first(2);
        small.with_total = true;
        let first = registry
            .audit_log(&Visibility::All, &AuditFilter::default(), &small)
            .await?;
        assert_eq!((first.total, first.items.len()), (Some(5), 2));
        small.cursor = first.next;
        let second = registry
            .audit_log(&Visibility::All, &AuditFilter::default(), &small)
            .await?;
        assert_eq!(second.items[0].number, log.items[2].number);
        let refused = NewAuditEntry {
            team: String::new(),
            action: "log_in".to_owned(),
            object_kind: "user".to_owned(),
            object_id: "eve".to_owned(),
            changed: "{}".to_owned(),
            outcome: "wrong password".to_owned(),
        };
        registry.audit(&all(), &refused).await?;
        let kept = |days, lines| AuditKept { days, lines };
        for all in [kept(0, 0), kept(90, 0), kept(0, 6), kept(90, 1_000)] {
            assert_eq!(registry.trim_audit(all, 10).await?, 0, "{all:?}");
        }
        // No more at once than is asked for.
        assert_eq!(registry.trim_audit(kept(0, 2), 3).await?, 3);
        assert_eq!(registry.trim_audit(kept(0, 2), 3).await?, 1);
        let old = AuditLine {
            actor: all(),
            at_ms: 1,
            entry: refused,
        };
        registry.write_audit_lines(&[old]).await?;
        assert_eq!(registry.trim_audit(kept(90, 0), 10).await?, 1);
        let left = registry
            .audit_log(&Visibility::All, &AuditFilter::default(), &page)
            .await?;
        assert_eq!(left.items.len(), 2);
        // Who it was goes without the kind of name too.
        let by = |who: &str| AuditLine {
            actor: Actor {
                who: who.to_owned(),
                ..all()
            },
            at_ms: crate::now_ms(),
            entry: left.items[0].entry.clone(),
        };
        let lines = [by("user:ada"), by("key:ada"), by("user:adam")];
        registry.write_audit_lines(&lines).await?;
        for (who, expected) in [("ada", 2), ("user:ada", 1), ("adam", 1), ("user:", 0)] {
            let filter = AuditFilter {
                who: Some(who.to_owned()),
                ..AuditFilter::default()
            };
            let found = registry.audit_log(&Visibility::All, &filter, &page).await?;
            assert_eq!(found.items.len(), expected, "{who}");
        }
    }
);

both!(
    the_audit_log_tells_each_column_that_operators_change,
    registry,
    {
        let actor = all();
        registry.add_user("ann", "user", "secret").await?;
        registry
            .add_rule_set(Owner::DeviceType, "meter", &[])
            .await?;
        registry.create_device(&actor, new_device("d")).await?;
        let text = |text: &str| Some(text.to_owned());
        let change = DeviceChange {
            name: text("n"),
            device_type: text("meter"),
            kind: text("k"),
            status: Some(Status::Inactive),
            description: text("x"),
            location: text("l"),
            firmware_version: text("1"),
            hardware_version: text("2"),
            owner: text("ann"),
            tags: Some(vec!["t".to_owned()]),
            ..DeviceChange::default()
        };
        let changed = registry.change_device(&actor, "d".into(), change, Expected::any());
        let changed = changed.await?;
        assert_eq!(
            changed,
            registry.device(&Visibility::All, "d".into()).await?
        );
        let page = PageRequest::first(1);
        let filter = AuditFilter::default();
        let mut log = registry.audit_log(&Visibility::All, &filter, &page).await?;
        let changed = log.items.remove(0).entry.changed;
        let changed: serde_json::Value = serde_json::from_str(&changed).expect("it is JSON");
        let expected = json!({
            "name": ["d", "n"], "type": ["device", "meter"], "kind": ["", "k"],
            "status": ["active", "inactive"], "description": ["", "x"], "location": ["", "l"],
            "firmware_version": ["", "1"], "hardware_version": ["", "2"], "owner": ["", "ann"],
            "tags": [[], ["t"]],
        });
        assert_eq!(changed, expected);
    }
);
