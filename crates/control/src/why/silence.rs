//! Silent publishers, the device in the question or one that the topic names; and clients that are
//! away without a session.

use martlet_broker::{ClientDetail, ClientQuery, EventKind, TenantId};

use super::Finding;
use super::arrival::{LEVELS_MAX, is_published_by_itself, may_read, names_client};
use super::facts::{Facts, NamedInTopic, NamedStanding};
use super::found::{Bearing, Found, is_connected};
use super::side::{Side, is_subscribed, side};
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::remedy::form;
use crate::rfc3339;

/// Time after which the tables have the last message of a device.
const NOTED_MS: u64 = 60_000;

/// Time without a packet after which a client without a Keep Alive is worth a remark.
const QUIET_MS: u64 = 60_000;

/// Nothing has come from a client with Keep Alive 0, which MQTT does not expect to send anything.
/// The times are those of `reactor::listen`, which has the system probe silent connections.
pub(super) fn without_keep_alive(facts: &Facts) -> Option<(Bearing, Finding)> {
    let session = facts.session.as_ref()?;
    let last_ms = session.last_packet_ms.filter(|_| session.connected)?;
    if session.keep_alive_secs > 0 || facts.now_ms.saturating_sub(last_ms) < QUIET_MS {
        return None;
    }
    let otherwise = match session.listener.starts_with("unix://") {
        true => "It is on this machine, and its connection ends with its program",
        false => {
            "If its machine has lost its power, TCP finds that about five minutes after the last \
             packet"
        }
    };
    let sentence = format!(
        "it has sent nothing since {}, and its Keep Alive is 0: the node cannot know by MQTT \
         whether it is still there. {otherwise}",
        rfc3339::in_words(last_ms)
    );
    let finding = Finding::new(Cause::NoKeepAlive, sentence)
        .since(last_ms)
        .remedy(
            "set a Keep Alive above 0 in the client, such as 60 s; limits.keep_alive_max_secs sets \
             one for all clients that have none",
        );
    Some((Bearing::Remark, finding))
}

/// The clients that the topic names are not connected, and one that is subscribed gets nothing.
pub(super) fn publisher_absent(facts: &Facts, found: &mut Found) {
    let named = &facts.named_in_topic;
    let is_there = |one: &NamedInTopic| matches!(one.standing, NamedStanding::Connected { .. });
    if !is_connected(facts) || !is_subscribed(facts) || !may_read(facts) {
        return;
    }
    let first = named.iter().find(|one| one.is_device).or(named.first());
    let first = first.filter(|_| !named.iter().any(is_there));
    // A topic of Wills is one that a client publishes to when it goes.
    let is_of_will = |one: &&NamedInTopic| {
        let mut absent = facts.absent.iter();
        absent.any(|absent| absent.client_id == one.client_id)
    };
    let Some(first) = first.filter(|one| !is_of_will(one)) else {
        return;
    };
    let who = who(first);
    let finding = match first.standing {
        NamedStanding::Connected { .. } => return,
        NamedStanding::NeverConnected => {
            let sentence = format!("{who}, named in the topic, has never connected");
            Finding::new(Cause::PublisherAbsent, sentence)
        }
        NamedStanding::Away(since_ms) => {
            let sentence = format!("{who}, named in the topic, is not connected");
            let mut finding = Finding::new(Cause::PublisherAbsent, sentence);
            finding.since_ms = since_ms;
            finding
        }
    };
    let remedy = "if it should publish to the topic, find out why it is not connected";
    let finding = finding.remedy(remedy).command(&first.command);
    found.push((Bearing::Remark, finding));
}

fn who(one: &NamedInTopic) -> String {
    let what = match one.is_device {
        true => "device",
        false => "client",
    };
    format!("the {what} {}", one.client_id)
}

/// What a connected client published last, in words that follow a sentence; of one that is
/// subscribed to the topic, the same of the device that the topic names.
pub(super) fn last_publish(facts: &Facts) -> String {
    if is_subscribed(facts) {
        let mut named = facts.named_in_topic.iter();
        let words = named.find_map(|one| {
            let NamedStanding::Connected {
                since_ms,
                has_published,
            } = one.standing
            else {
                return None;
            };
            let words = words(facts, (since_ms, has_published), one.last_message_ms)?;
            Some(format!("; {}, named in the topic, {words}", who(one)))
        });
        return words.unwrap_or_default();
    }
    let session = facts.session.as_ref();
    let words = session.and_then(|session| {
        let connection = (session.since_ms?, session.has_published);
        words(facts, connection, facts.last_message_ms)
    });
    words.map_or_else(String::new, |words| format!("; it {words}"))
}

/// Since when a device is connected, and whether it has published since; and when it last did.
fn words(
    facts: &Facts,
    (since_ms, has_published): (u64, Option<bool>),
    last_ms: Option<u64>,
) -> Option<String> {
    let last_ms = last_ms.filter(|last_ms| *last_ms >= since_ms);
    match (has_published?, last_ms) {
        (false, None) => Some(format!(
            "has published nothing since it connected on {}",
            rfc3339::in_words(since_ms)
        )),
        (_, Some(last_ms)) if facts.now_ms.saturating_sub(last_ms) >= NOTED_MS => {
            Some(format!("published last on {}", rfc3339::in_words(last_ms)))
        }
        _ => None,
    }
}

/// Reports it if the client was connected and has no session any more, and either the question
/// names a topic that it may read, or messages with its name in their topics reached nobody.
pub(super) fn no_session(facts: &Facts, found: &mut Found) {
    let mut runs = facts.runs.iter();
    let was_connected = runs.any(|run| run.last.what == EventKind::Disconnected);
    if facts.session.is_some() || !was_connected {
        return;
    }
    let is_missed = match facts.question.topic {
        Some(_) => side(facts) != Side::Publisher,
        None => {
            let mut all = facts.unmatched.iter();
            all.any(|one| names_client(facts, &one.topic) && !is_published_by_itself(facts, one))
        }
    };
    if !is_missed {
        return;
    }
    let sentence = "no session is kept for it while it is away, so messages for it do not wait: \
                    its last connection had the Session Expiry Interval 0 (before MQTT 5: Clean \
                    Session 1), or its session has expired since";
    let finding = Finding::new(Cause::NotKept, sentence).remedy(
        "if messages should wait for it, have the client connect with Clean Start 0 and a Session \
         Expiry Interval (before MQTT 5: Clean Session 0), and subscribe with QoS 1",
    );
    found.push((Bearing::Aside, finding));
}

impl Control {
    /// The clients and devices whose names are levels of the topic that was asked about, without
    /// the clients that the question is about.
    pub(super) async fn named_in_topic(
        &self,
        facts: &Facts,
    ) -> Result<Vec<NamedInTopic>, ControlError> {
        let question = &facts.question;
        let topic = question.topic.as_deref().unwrap_or_default();
        if question.is_about_filter() {
            return Ok(Vec::new());
        }
        let is_own = |level: &str| {
            let own = [&*question.name, &*facts.client_id];
            let mut clients = facts.clients.iter();
            own.contains(&level)
                || facts.user.as_deref() == Some(level)
                || clients.any(|client| client.client_id == level)
        };
        let mut found: Vec<NamedInTopic> = Vec::new();
        for level in topic.split('/').take(LEVELS_MAX) {
            let is_reported = found.iter().any(|one| one.client_id == level);
            if !level.is_empty() && !is_own(level) && !is_reported {
                found.extend(self.named(question.tenant, level).await?);
            }
        }
        Ok(found)
    }

    /// The client or device of a tenant with this name, if there is one.
    async fn named(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<NamedInTopic>, ControlError> {
        let policy = self.policy();
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        let known = tables.and_then(|tables| tables.account_kind(tenant.0, name));
        let is_device = matches!(known, Some(martlet_registry::AccountKind::Device));
        let mut client = self.client(tenant, name, 0).await?;
        let is_connected = client.as_ref().is_some_and(|client| client.info.connected);
        if is_device && !is_connected {
            // Its type may permit it any Client Identifier.
            client = self.connected_client_of(tenant, name).await?.or(client);
        }
        let presence = self.presence(tenant, name);
        let standing = match (client, presence) {
            (Some(client), _) if client.info.connected => NamedStanding::Connected {
                since_ms: client.info.connected_at_ms,
                has_published: client.has_published,
            },
            (_, Some(presence)) if !presence.online => NamedStanding::Away(Some(presence.since_ms)),
            (Some(client), _) => NamedStanding::Away(client.left_ms),
            (None, Some(_)) => NamedStanding::Away(None),
            (None, None) if is_device => NamedStanding::NeverConnected,
            (None, None) => return Ok(None),
        };
        Ok(Some(NamedInTopic {
            client_id: name.to_owned(),
            is_device,
            standing,
            last_message_ms: None,
            command: self.command_of_tenant(form::WHY, tenant, &[name]),
        }))
    }

    async fn connected_client_of(
        &self,
        tenant: TenantId,
        user: &str,
    ) -> Result<Option<ClientDetail>, ControlError> {
        let query = ClientQuery {
            tenant: Some(tenant),
            user: Some(user.into()),
            connected: Some(true),
            limit: 1,
            ..ClientQuery::default()
        };
        match self.clients(&query).await?.clients.first() {
            Some(first) => self.client(tenant, &first.client_id, 0).await,
            None => Ok(None),
        }
    }
}
