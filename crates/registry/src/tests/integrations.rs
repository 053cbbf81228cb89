use super::both;
use crate::{DeadLetterRow, DeadLettersKept, IntegrationState, StoredDeadLetter};

const KEPT: DeadLettersKept = DeadLettersKept {
    letters: 3,
    bytes: 1 << 20,
};

fn letter(message_id: u64) -> DeadLetterRow {
    DeadLetterRow {
        kind: "file".to_owned(),
        name: "audit".to_owned(),
        tenant: 7,
        message_id,
        topic: "a/b".to_owned(),
        payload_bytes: 3,
        qos: 1,
        retain: true,
        received_ms: 1_000 + message_id % 10,
        refused_ms: 2_000,
        reason: "too large".to_owned(),
        refusals: 1,
        publisher: "{}".to_owned(),
        properties: vec![1, 0, 255],
        payload: vec![0, 1, 255],
        ..DeadLetterRow::default()
    }
}

both!(a_dead_letter_is_read_as_it_was_written, registry, {
    let one = [letter(u64::MAX)];
    assert_eq!(registry.put_dead_letters("n", &one, KEPT).await?, 0);
    let heads = registry.dead_letters("n", None, 0, 10).await?;
    let id = heads[0].id;
    assert!(heads[0].payload.is_empty() && heads[0].payload_bytes == 3);
    let whole = registry.dead_letter("n", id).await?;
    let expected = DeadLetterRow {
        id,
        ..letter(u64::MAX)
    };
    assert_eq!(whole, Some(StoredDeadLetter::Whole(expected)));
    assert_eq!(registry.dead_letter("another", id).await?, None);
    assert_eq!(registry.remove_dead_letters("n", &[id, 99]).await?, 1);
    assert_eq!(registry.dead_letter("n", id).await?, None);
});

both!(
    a_dead_letter_that_has_changed_by_itself_is_named,
    registry,
    {
        let letters = [letter(1), letter(2), letter(3)];
        registry.put_dead_letters("n", &letters, KEPT).await?;
        let heads = registry.dead_letters("n", None, 0, 10).await?;
        let changes = [
            "UPDATE dead_letters SET topic = 'a/c' WHERE message_id = '1'",
            "UPDATE dead_letters SET payload = 'AAH+' WHERE message_id = '2'",
            // As those of a program that had no checksums.
            "UPDATE dead_letters SET topic = 'old', checksum = -1 WHERE message_id = '3'",
        ];
        for sql in changes {
            let changed = sqlx::query(sql).execute(&mut registry.connection).await;
            assert_eq!(changed.expect("it is changed").rows_affected(), 1);
        }
        for head in &heads[..2] {
            let found = registry.dead_letter("n", head.id).await?;
            let is_damaged = matches!(found, Some(StoredDeadLetter::Damaged(_)));
            assert!(is_damaged, "{found:?}");
        }
        let old = registry.dead_letter("n", heads[2].id).await?;
        let Some(StoredDeadLetter::Whole(old)) = old else {
            panic!("{old:?}");
        };
        assert_eq!(old.topic, "old");
        // It holds up no other, and can be removed.
        let ids = [heads[0].id, heads[2].id];
        registry.mark_dead_letters("n", &ids, true).await?;
        registry.note_damaged_letter("n", ids[0], "damaged").await?;
        let of = (&*heads[0].kind, &*heads[0].name);
        assert_eq!(
            registry.dead_letters_to_send("n", of.0, of.1).await?,
            [ids[1]]
        );
        let heads = registry.dead_letters("n", None, 0, 10).await?;
        assert_eq!(heads[0].reason, "damaged");
        assert_eq!(registry.remove_dead_letters("n", &ids).await?, 2);
    }
);

both!(a_letter_that_is_refused_again_is_there_once, registry, {
    registry.put_dead_letters("n", &[letter(1)], KEPT).await?;
    let again = DeadLetterRow {
        reason: "still too large".to_owned(),
        refused_ms: 3_000,
        ..letter(1)
    };
    registry.put_dead_letters("n", &[again], KEPT).await?;
    let heads = registry.dead_letters("n", None, 0, 10).await?;
    assert_eq!(heads.len(), 1);
    let found = (heads[0].refusals, heads[0].refused_ms, &*heads[0].reason);
    assert_eq!(found, (2, 3_000, "still too large"));
});

both!(
    a_letter_is_sent_again_until_it_is_refused_again_or_removed,
    registry,
    {
        let all: Vec<_> = (1..=3).map(letter).collect();
        registry.put_dead_letters("n", &all, KEPT).await?;
        let heads = registry.dead_letters("n", None, 0, 10).await?;
        let ids: Vec<u64> = heads.iter().map(|head| head.id).collect();
        assert_eq!(
            registry.mark_dead_letters("n", &ids[..1], true).await?,
            ids[..1]
        );
        assert_eq!(registry.mark_dead_letters("n", &ids, true).await?, ids[1..]);
        assert!(
            registry
                .mark_dead_letters("m", &ids, true)
                .await?
                .is_empty()
        );
        let of = ("file", "audit");
        assert_eq!(registry.dead_letters_to_send("n", of.0, of.1).await?, ids);
        registry.mark_dead_letters("n", &ids[1..2], false).await?;
        registry.put_dead_letters("n", &[letter(1)], KEPT).await?;
        assert_eq!(
            registry.dead_letters_to_send("n", of.0, of.1).await?,
            ids[2..]
        );
        registry.remove_dead_letters("n", &ids).await?;
        assert!(
            registry
                .dead_letters_to_send("n", of.0, of.1)
                .await?
                .is_empty()
        );
    }
);

both!(
    the_oldest_letters_are_dropped_by_number_and_by_bytes,
    registry,
    {
        let all: Vec<_> = (1..=5).map(letter).collect();
        assert_eq!(registry.put_dead_letters("n", &all, KEPT).await?, 2);
        let heads = registry.dead_letters("n", None, 0, 10).await?;
        let ids: Vec<u64> = heads.iter().map(|head| head.message_id).collect();
        assert_eq!(ids, [3, 4, 5]);
        // Another node's letters have bounds of their own.
        assert_eq!(registry.put_dead_letters("m", &all[..1], KEPT).await?, 0);
        let few_bytes = DeadLettersKept { bytes: 1, ..KEPT };
        let one = [letter(6)];
        assert_eq!(registry.put_dead_letters("n", &one, few_bytes).await?, 3);
        let heads = registry.dead_letters("n", None, 0, 10).await?;
        assert_eq!(heads.len(), 1);
        assert_eq!(heads[0].message_id, 6);
    }
);

both!(who_has_most_letters_loses_the_oldest_of_them, registry, {
    let of = |tenant: u32, name: &str, message_id: u64| DeadLetterRow {
        tenant,
        name: name.to_owned(),
        ..letter(message_id)
    };
    let kept = DeadLettersKept { letters: 6, ..KEPT };
    // Tenant 2 has two integrations. One of them has many letters.
    let few = [of(1, "a", 1), of(1, "a", 2), of(2, "b", 3)];
    assert_eq!(registry.put_dead_letters("n", &few, kept).await?, 0);
    let flood: Vec<_> = (10..20).map(|id| of(2, "c", id)).collect();
    assert_eq!(registry.put_dead_letters("n", &flood, kept).await?, 7);
    let heads = registry.dead_letters("n", None, 0, 100).await?;
    let ids: Vec<u64> = heads.iter().map(|head| head.message_id).collect();
    assert_eq!(ids, [1, 2, 3, 17, 18, 19]);
    // One that comes when all have little costs the one that has most.
    let one = [of(1, "a", 30)];
    assert_eq!(registry.put_dead_letters("n", &one, kept).await?, 1);
    let heads = registry.dead_letters("n", None, 0, 100).await?;
    let ids: Vec<u64> = heads.iter().map(|head| head.message_id).collect();
    assert_eq!(ids, [1, 2, 3, 18, 19, 30]);
});

both!(
    two_integrations_that_refuse_the_same_messages_keep_as_many,
    registry,
    {
        let of = |name: &str, message_id: u64| DeadLetterRow {
            name: name.to_owned(),
            ..letter(message_id)
        };
        let kept = DeadLettersKept { letters: 2, ..KEPT };
        for message in 1..=4 {
            for name in ["w", "v"] {
                let one = [of(name, message)];
                registry.put_dead_letters("n", &one, kept).await?;
            }
        }
        let heads = registry.dead_letters("n", None, 0, 10).await?;
        let left = heads.iter().map(|head| (&*head.name, head.message_id));
        assert_eq!(left.collect::<Vec<_>>(), [("w", 4), ("v", 4)]);
    }
);

both!(letters_are_listed_by_page_and_by_integration, registry, {
    let kept = DeadLettersKept {
        letters: 100,
        ..KEPT
    };
    let mut all: Vec<_> = (1..=4).map(letter).collect();
    all[1].name = "other".to_owned();
    registry.put_dead_letters("n", &all, kept).await?;
    let first = registry.dead_letters("n", None, 0, 2).await?;
    let rest = registry.dead_letters("n", None, first[1].id, 10).await?;
    let ids = first.iter().chain(&rest).map(|head| head.message_id);
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3, 4]);
    let own = registry.dead_letters("n", Some(("file", "audit")), 0, 10);
    assert_eq!(own.await?.len(), 3);
});

both!(
    states_of_integrations_are_kept_until_they_are_removed,
    registry,
    {
        assert_eq!(registry.integration_state("n", "file", "a").await?, None);
        let state = |state: &str| IntegrationState {
            state: state.to_owned(),
            reason: "r".to_owned(),
            since_ms: 7,
        };
        for name in ["a", "b"] {
            for word in ["running", "paused"] {
                registry
                    .write_integration_state("n", "file", name, &state(word))
                    .await?;
            }
        }
        let kept = [("file".to_owned(), "a".to_owned())];
        registry.forget_integration_states("n", &kept).await?;
        let found = registry.integration_state("n", "file", "a").await?;
        assert_eq!(found, Some(state("paused")));
        assert_eq!(registry.integration_state("n", "file", "b").await?, None);
    }
);
