//! Silent publishers, the device in the question or one that the topic names; clients that are
//! away without a session; and Wills that were not published.

mod facts;
mod wills;

use martlet_broker::{ClientDetail, ClientQuery, TenantId};
use martlet_registry::AccountKind;

use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::event_kind::EventKind;
use crate::remedy::form;
use crate::rfc3339;
use crate::shared_registry::SharedRegistry;
use crate::wall_clock::unsigned;
use crate::why::{Asked, Examine, Finding, Findings, LEVELS_MAX, Side};
#[cfg(test)]
pub(crate) use facts::WillBeside;
pub(crate) use facts::{AbsentWill, NamedInTopic, NamedStanding, SilenceFacts};
pub(crate) use wills::with_will;

/// Who is silent, or away.
pub(crate) struct Silence<'a>(pub(crate) Option<&'a SharedRegistry>);

/// Time after which the tables have the last message of a device.
const NOTED_MS: u64 = 60_000;

/// Time without a packet after which a client without a Keep Alive is worth a remark.
const QUIET_MS: u64 = 60_000;

impl Examine for Silence<'_> {
    type Facts = SilenceFacts;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<SilenceFacts, ControlError> {
        let tenant = asked.question.tenant.0;
        let mut facts = SilenceFacts {
            last_message_ms: None,
            named: control.named_in_topic(asked).await?,
            will_beside: control.will_beside(asked).await?,
        };
        let Some(tables) = self.0 else {
            return Ok(facts);
        };
        let nonzero = |ms: i64| Some(unsigned(ms)).filter(|ms| *ms > 0);
        let own = asked.user.as_ref().unwrap_or(&asked.question.name);
        let own = tables.last_activity(tenant, own).await;
        facts.last_message_ms = own.and_then(|active| nonzero(active.message_ms));
        for one in facts.named.iter_mut().filter(|one| one.is_device) {
            let active = tables.last_activity(tenant, &one.client_id).await;
            let Some(active) = active else { continue };
            one.last_message_ms = nonzero(active.message_ms);
            let seen_ms = nonzero(active.seen_ms);
            if one.standing == NamedStanding::NeverConnected && seen_ms.is_some() {
                one.standing = NamedStanding::Away(seen_ms);
            }
        }
        Ok(facts)
    }

    fn judge(facts: &SilenceFacts, asked: &Asked, findings: &mut Findings) {
        findings.silence = last_publish(asked, facts);
        let found = &mut findings.found;
        found.extend(without_keep_alive(asked).map(|finding| (Bearing::Remark, finding)));
        // Where anonymous clients are accepted, any name would have the rules of those.
        if asked.is_client() {
            found.extend(no_session(asked).map(|finding| (Bearing::Aside, finding)));
            found.extend(wills::of_others(facts));
            let beside = facts.will_beside.as_ref();
            found.extend(beside.map(|one| wills::beside(asked, one)));
            found.extend(publisher_absent(asked, facts).map(|finding| (Bearing::Remark, finding)));
        }
    }
}

/// Nothing has come from a client with Keep Alive 0, which MQTT does not expect to send anything.
/// The times are those of `reactor::listen`, which has the system probe silent connections.
fn without_keep_alive(asked: &Asked) -> Option<Finding> {
    let session = asked.session.as_ref()?;
    let last_ms = session.last_packet_ms.filter(|_| session.connected)?;
    if session.keep_alive_secs > 0 || asked.now_ms.saturating_sub(last_ms) < QUIET_MS {
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
    let finding = Finding::new(Cause::NoKeepAlive, sentence).since(last_ms);
    Some(finding.remedy(
        "set a Keep Alive above 0 in the client, such as 60 s; limits.keep_alive_max_secs sets \
             one for all clients that have none",
    ))
}

/// The clients that the topic names are not connected, and one that is subscribed gets nothing.
fn publisher_absent(asked: &Asked, facts: &SilenceFacts) -> Option<Finding> {
    if !asked.is_connected || !asked.is_subscribed() || !asked.may_read() {
        return None;
    }
    let named = || facts.named.iter().filter(|one| !one.is_own);
    let first = named().find(|one| one.is_device).or(named().next())?;
    let is_there = |one: &NamedInTopic| matches!(one.standing, NamedStanding::Connected { .. });
    // A topic of Wills is one that a client publishes to when it goes.
    if named().any(is_there) || first.will.is_some() {
        return None;
    }
    let (is, since_ms) = match first.standing {
        NamedStanding::Away(since_ms) => ("is not connected", since_ms),
        _ => ("has never connected", None),
    };
    let sentence = format!("{}, named in the topic, {is}", first.in_words());
    let remedy = "if it should publish to the topic, find out why it is not connected";
    let cause = Cause::PublisherAbsent;
    Some(Finding {
        since_ms,
        ..Finding::advised(cause, sentence, remedy, &first.command)
    })
}

/// Words for what a connected client published last, that follow a sentence; of one that is
/// subscribed to the topic, what the device published that the topic names.
fn last_publish(asked: &Asked, facts: &SilenceFacts) -> String {
    if asked.is_subscribed() {
        let mut named = facts.named.iter().filter(|one| !one.is_own);
        let words = named.find_map(|one| {
            let NamedStanding::Connected {
                since_ms,
                has_published,
            } = one.standing
            else {
                return None;
            };
            let words = words(asked, since_ms, has_published, one.last_message_ms)?;
            Some(format!("; {}, named in the topic, {words}", one.in_words()))
        });
        return words.unwrap_or_default();
    }
    let words = asked.session.as_ref().and_then(|session| {
        words(
            asked,
            session.since_ms?,
            session.has_published,
            facts.last_message_ms,
        )
    });
    words.map_or_else(String::new, |words| format!("; it {words}"))
}

/// Since when a device is connected, and whether it has published since; and when it last did.
fn words(
    asked: &Asked,
    since_ms: u64,
    has_published: Option<bool>,
    last_ms: Option<u64>,
) -> Option<String> {
    let last_ms = last_ms.filter(|last_ms| *last_ms >= since_ms);
    match (has_published?, last_ms) {
        (false, None) => Some(format!(
            "has published nothing since it connected on {}",
            rfc3339::in_words(since_ms)
        )),
        (_, Some(last_ms)) if asked.now_ms.saturating_sub(last_ms) >= NOTED_MS => {
            Some(format!("published last on {}", rfc3339::in_words(last_ms)))
        }
        _ => None,
    }
}

/// The client was connected and has no session any more, and either the question names a topic that
/// it may read, or messages with its name in their topics reached nobody.
fn no_session(asked: &Asked) -> Option<Finding> {
    let mut runs = asked.runs.iter();
    let was_connected = runs.any(|run| run.last.what == EventKind::Disconnected);
    let is_missed = match asked.question.topic {
        Some(_) => asked.side != Side::Publisher,
        None => {
            let mut all = asked.unmatched.iter();
            all.any(|one| asked.is_named_in(&one.topic) && !asked.published(one))
        }
    };
    if asked.session.is_some() || !was_connected || !is_missed {
        return None;
    }
    let sentence = "no session is kept for it while it is away, so messages for it do not wait: \
                    its last connection had the Session Expiry Interval 0 (before MQTT 5: Clean \
                    Session 1), or its session has expired since";
    Some(Finding::new(Cause::NotKept, sentence).remedy(
        "if messages should wait for it, have the client connect with Clean Start 0 and a Session \
         Expiry Interval (before MQTT 5: Clean Session 0), and subscribe with QoS 1",
    ))
}

impl Control {
    /// The clients and devices whose names are levels of the topic that was asked about.
    async fn named_in_topic(&self, asked: &Asked) -> Result<Vec<NamedInTopic>, ControlError> {
        let question = &asked.question;
        let mut found: Vec<NamedInTopic> = Vec::new();
        let Some(topic) = asked.topic_name() else {
            return Ok(found);
        };
        for level in topic.split('/').take(LEVELS_MAX) {
            let is_reported = found.iter().any(|one| one.client_id == level);
            if level.is_empty() || *level == *question.name || is_reported {
                continue;
            }
            let Some(mut named) = self.named(question.tenant, level).await? else {
                continue;
            };
            named.is_own = asked.client_id == level
                || asked.user.as_deref() == Some(level)
                || asked.clients.iter().any(|own| own == level);
            let will = self.will_of(question.tenant, level).await?;
            let will = will.filter(|will| will.topic() == topic);
            let presence = self.presence(question.tenant, level);
            let left = presence.filter(|presence| !presence.online);
            named.will = will.zip(left.map(|presence| presence.since_ms));
            found.push(named);
        }
        Ok(found)
    }

    /// The client or device of a tenant with this name, if there is one.
    async fn named(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<NamedInTopic>, ControlError> {
        let known = self.account_kind(tenant, name);
        let is_device = matches!(known, Some(AccountKind::Device));
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
            is_own: false,
            will: None,
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
