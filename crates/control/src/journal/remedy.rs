//! Remedies for what was refused: as text and, where there is one, as a command.

use martlet_broker::{DropReason, Event, EventHead, EventNotice, Limit, RefusalCause};
use martlet_integrate::CLIENT_IDS;

use super::commands::Commands;
use super::limits::{by_limit, of_queue};
use super::refused;
use super::worded_remedy::WordedRemedy;
use crate::remedy::form;

/// Remedy of a problem, if there is one. Commands name the team of the tenant: without it they
/// would change another user, so there is no command if the team is unknown.
pub(super) fn worded(notice: &EventNotice, commands: &Commands) -> Option<WordedRemedy> {
    let worded = worded_by_keys(notice, commands)?;
    let text = commands.variables.named(&worded.text).into_owned();
    Some(WordedRemedy { text, ..worded })
}

fn worded_by_keys(notice: &EventNotice, commands: &Commands) -> Option<WordedRemedy> {
    let tenant = notice.head.tenant;
    match commands.in_tenant(tenant) {
        Some(commands) => remedy_of_event(notice, &commands),
        None => {
            let commands = Commands {
                tenant,
                ..commands.clone()
            };
            remedy_of_event(notice, &commands).map(|worded| WordedRemedy {
                command: None,
                ..worded
            })
        }
    }
}

fn remedy_of_event(notice: &EventNotice, commands: &Commands) -> Option<WordedRemedy> {
    let EventNotice { head, event } = notice;
    match event {
        Event::Refused { why, .. } | Event::ReauthenticationRefused { why, .. } => {
            refused::connect(commands, notice, why)
        }
        Event::RequestRefused { why, .. } if why.cause == RefusalCause::Forbidden => {
            WordedRemedy::words("have the device send only requests about itself")
        }
        Event::RequestRefused { key: Some(key), .. } if key.lacking.is_some() => {
            let scope = key.lacking.unwrap_or_default();
            WordedRemedy::words(format!(
                "give the program a key that has the scope {scope} too (martlet key add, or \
                 http.api_keys)"
            ))
        }
        Event::RequestRefused { why, .. } if why.cause == RefusalCause::ApiKeyUnknown => {
            WordedRemedy::by(
                "have the program that sends the request use a valid key (martlet key add adds \
                 one); to list them, run",
                commands.line(form::KEY_LS, &[]),
            )
        }
        Event::RequestRefused { why, .. } => refused::connect(commands, notice, why),
        Event::ProvisioningRefused { why, key } => {
            refused::provisioning(commands, why, key.as_deref())
        }
        Event::PublishRefused { topic, reason, why } => {
            let worded = || commands.forbidden(head, "publish", topic);
            match refused::is_of_provisioning_key(why.cause) {
                true => refused::provisioning(commands, why, None),
                false => refused::request(worded, *reason, why),
            }
        }
        Event::SubscribeRefused {
            filter,
            reason,
            why,
        } => {
            let worded = || commands.forbidden(head, "subscribe", filter);
            refused::request(worded, *reason, why)
        }
        Event::Dropped { reason, .. } | Event::MessagesLost { reason, .. } => {
            lost(notice, *reason, commands)
        }
        Event::RateExceeded {
            limit,
            waited: true,
            ..
        } => WordedRemedy::words(format!(
            "have the client stay connected until its messages are received (QoS 1: until it has \
             each PUBACK), or publish less; or raise {}, and restart the node",
            limit.limit.option()
        )),
        Event::RateExceeded { limit, .. } => WordedRemedy::words(format!(
            "have the client publish less; or raise {}, or set mqtt.rate_exceeded = \"delay\", and \
             restart the node",
            limit.limit.option()
        )),
        Event::PublishesDelayed { limit, .. } | Event::QueueFull { limit, .. } => {
            by_limit(limit.limit)
        }
        Event::Disconnected { reason, why, .. } => {
            refused::end(commands, &head.client_id, *reason, why)
        }
        Event::Authenticated { .. }
        | Event::Connected(_)
        | Event::TakenOver { .. }
        | Event::SessionEnded { .. }
        | Event::Subscribed { .. }
        | Event::Unsubscribed { .. }
        | Event::Published(_)
        | Event::Delivered(_)
        | Event::Packet { .. }
        | Event::DeviceInactive { .. }
        | Event::DeviceActive { .. }
        | Event::AlarmRaised(_)
        | Event::AlarmChanged(_)
        | Event::TwinChanged { .. } => None,
    }
}

/// Remedy of messages that were dropped for this reason.
fn lost(notice: &EventNotice, reason: DropReason, commands: &Commands) -> Option<WordedRemedy> {
    let EventNotice { head, event } = notice;
    let topic = event.topic().filter(|topic| !topic.is_empty());
    if let Some(topic) = topic.filter(|_| reason == DropReason::NotPermitted) {
        return Some(receiving(commands, head, topic));
    }
    if let Some(reached) = event.reached() {
        return by_limit(reached.limit);
    }
    match event {
        Event::MessagesLost {
            ended: Some(cause), ..
        } => WordedRemedy::words(with_session(*cause)?),
        Event::Dropped {
            refused: Some(_), ..
        } => commands.letters_of(&head.client_id),
        _ if reason == DropReason::RefusedByReceiver && head.client_id.starts_with(CLIENT_IDS) => {
            commands.letters_of(&head.client_id)
        }
        _ => WordedRemedy::words(dropped(reason)?),
    }
}

/// Remedy for messages that were dropped with their session, which ended for this cause.
fn with_session(cause: RefusalCause) -> Option<&'static str> {
    Some(match cause {
        RefusalCause::SessionExpired => {
            "have the client connect more often, or with a longer Session Expiry Interval (at most \
             limits.session_expiry_max_secs); publish again what it needs"
        }
        RefusalCause::CleanStart => {
            "have the client connect with Clean Start 0 (before MQTT 5: Clean Session 0), so that \
             it gets what waits for it; publish again what it needs"
        }
        RefusalCause::EndsWithConnection => {
            "have the client connect with a Session Expiry Interval above 0 (before MQTT 5: Clean \
             Session 0)"
        }
        RefusalCause::EndedByOperator => "publish again what the client needs",
        _ => return None,
    })
}

/// Where it is permitted that a client receives a topic.
fn receiving(commands: &Commands, head: &EventHead, topic: &str) -> WordedRemedy {
    let worded = commands.forbidden(head, "receive", topic);
    let text = format!("if it should be received, {}", worded.text);
    WordedRemedy { text, ..worded }
}

/// Remedy for messages that were dropped for this reason. Where a limit is the reason, the remedy
/// is that of the limit.
pub(crate) fn dropped(reason: DropReason) -> Option<String> {
    let limit = match reason {
        DropReason::OutputFull => Some(Limit::OutputBytes),
        DropReason::MemoryFull => Some(Limit::Memory),
        _ => None,
    };
    if let Some(limit) = limit {
        return by_limit(limit).map(|worded| worded.text);
    }
    let text = match reason {
        DropReason::ClientAway => {
            "publish and subscribe with QoS 1 and a session that persists, to have it kept"
        }
        DropReason::PartBusy => {
            "set keep_qos0 = true for the integration in the configuration, or publish with QoS 1"
        }
        DropReason::QueueFull => {
            return Some(of_queue("limits.queued_messages or limits.queued_bytes"));
        }
        DropReason::PacketTooLarge => {
            "have the client announce a larger Maximum Packet Size, or have smaller messages published"
        }
        DropReason::NotPermitted => {
            "permit it in its rules, if it should be received: martlet why with the topic shows \
             where they are"
        }
        DropReason::TooOld => {
            "find out why the integration delivers its messages too late, or raise its max_age_secs"
        }
        DropReason::StoreFull => {
            "make room on the disk of the message store, or raise limits.store_bytes and \
             restart the node"
        }
        DropReason::StoreStalled => "martlet health shows why the message store writes slowly",
        DropReason::StoreDamaged => {
            "stop the node; martlet store check then shows what else is damaged"
        }
        DropReason::RefusedByReceiver => {
            "check the receiver, which answers with a reason code of 0x80 or above: its own log \
             shows why"
        }
        DropReason::NoMember => {
            "have a member of the share group connect, or publish and subscribe with QoS 1, so that \
             messages wait for one"
        }
        DropReason::OutputFull
        | DropReason::MemoryFull
        | DropReason::SessionEnded
        | DropReason::ConnectionLost => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests;
