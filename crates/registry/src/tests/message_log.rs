use super::both;
use crate::{LoggedMessage, MessageLogQuery, MessagesKept};

const KEPT: MessagesKept = MessagesKept {
    messages: 5,
    bytes: 1 << 20,
    age_ms: 1_000,
};

const ALL: MessageLogQuery = MessageLogQuery {
    confirmed: false,
    limit: 100,
    bytes: 1 << 20,
};

fn message(tenant: u32, id: &str, received_ms: u64) -> LoggedMessage {
    LoggedMessage {
        id: id.to_owned(),
        tenant,
        topic: "a/b".to_owned(),
        payload: vec![0, 1, 255],
        qos: 2,
        retain: true,
        received_ms,
        confirmed: false,
    }
}

fn ids(found: &[LoggedMessage]) -> Vec<&str> {
    found.iter().map(|message| &*message.id).collect()
}

both!(a_message_is_logged_once_and_read_as_it_was, registry, {
    let both = [message(0, "x", 1), message(0, "y", 2)];
    assert_eq!(registry.log_messages(&both).await?, 2);
    assert_eq!(registry.log_messages(&both[..1]).await?, 0);
    assert_eq!(
        registry.logged_message(0, "x").await?,
        Some(both[0].clone())
    );
    assert_eq!(registry.logged_message(1, "x").await?, None);
    let found = registry.logged_messages(0, ALL).await?;
    assert_eq!(ids(&found), ["y", "x"]);
    assert!(registry.logged_messages(1, ALL).await?.is_empty());
});

both!(
    messages_are_confirmed_and_deleted_by_their_tenant,
    registry,
    {
        let three = [message(0, "x", 1), message(0, "y", 2), message(1, "z", 3)];
        registry.log_messages(&three).await?;
        assert!(registry.confirm_message(0, "x").await?);
        assert!(registry.confirm_message(0, "x").await?);
        assert!(!registry.confirm_message(0, "z").await?);
        assert!(!registry.delete_message(0, "z").await?);
        assert_eq!(ids(&registry.logged_messages(0, ALL).await?), ["y"]);
        let confirmed = MessageLogQuery {
            confirmed: true,
            ..ALL
        };
        assert_eq!(ids(&registry.logged_messages(0, confirmed).await?), ["x"]);
        assert_eq!(registry.delete_confirmed_messages(1).await?, 0);
        assert_eq!(registry.delete_confirmed_messages(0).await?, 1);
        assert!(registry.delete_message(0, "y").await?);
        assert!(registry.logged_message(1, "z").await?.is_some());
    }
);

both!(a_page_has_no_more_bytes_than_asked_for, registry, {
    let all: Vec<_> = (1..=4).map(|n| message(0, &n.to_string(), n)).collect();
    registry.log_messages(&all).await?;
    let of = |bytes| MessageLogQuery { bytes, ..ALL };
    assert_eq!(ids(&registry.logged_messages(0, of(0)).await?), ["4"]);
    let found = registry.logged_messages(0, of(2 * 262)).await?;
    assert_eq!(ids(&found), ["4", "3"]);
});

both!(the_tenant_that_has_most_loses_its_oldest, registry, {
    registry.log_messages(&[message(1, "other", 10)]).await?;
    let all: Vec<_> = (0..8).map(|n| message(0, &n.to_string(), 10)).collect();
    registry.log_messages(&all).await?;
    assert_eq!(registry.trim_message_log(KEPT, 10).await?, 4);
    let found = registry.logged_messages(0, ALL).await?;
    assert_eq!(ids(&found), ["7", "6", "5", "4"]);
    assert!(registry.logged_message(1, "other").await?.is_some());
    // By bytes, and by age.
    let small = MessagesKept { bytes: 600, ..KEPT };
    assert_eq!(registry.trim_message_log(small, 10).await?, 3);
    assert_eq!(registry.trim_message_log(KEPT, 1_011).await?, 2);
});
