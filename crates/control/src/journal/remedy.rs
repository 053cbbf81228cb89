//! Remedies for what was refused: as text and, where there is one, as a command.

use martlet_broker::{DropReason, Event, EventHead, RefusalCause};
use martlet_integrate::CLIENT_IDS;

use super::commands::Commands;
use super::refused;
use super::texts::{self, by_drop, by_limit};
use super::worded_remedy::WordedRemedy;
use crate::event::{NodeEvent, NodeNotice};

impl Commands {
    /// Remedy of a problem, if anything is known to help. Commands name the team of the tenant:
    /// without it they would change another user, so there is no command if the team is unknown.
    pub(crate) fn remedy(&self, notice: &NodeNotice) -> Option<WordedRemedy> {
        let tenant = notice.head.tenant;
        let WordedRemedy { text, command } = match self.in_tenant(tenant) {
            Some(commands) => remedy_of_event(notice, &commands)?,
            None => {
                let commands = Self {
                    tenant,
                    ..self.clone()
                };
                WordedRemedy::words(remedy_of_event(notice, &commands)?.text)
            }
        };
        let text = self.variables.named(&text).into_owned();
        Some(WordedRemedy { text, command })
    }
}

fn remedy_of_event(notice: &NodeNotice, commands: &Commands) -> Option<WordedRemedy> {
    let NodeNotice { head, event } = notice;
    let event = match event {
        NodeEvent::Shard(event) => event,
        NodeEvent::RequestRefused { why, key } => {
            let lacking = key.as_ref().and_then(|key| key.lacking);
            let is_forbidden = why.cause == RefusalCause::Forbidden.into();
            return match lacking.filter(|_| !is_forbidden) {
                Some(scope) => Some(WordedRemedy::words(format!(
                    "give the program a key that has the scope {scope} too (martlet key add, or \
                     http.api_keys)"
                ))),
                None => refused::http(commands, notice, why),
            };
        }
        NodeEvent::ProvisioningRefused { why, key } => {
            return refused::provisioning(commands, why, key.as_deref());
        }
        NodeEvent::ConnectionRefused { why } => return refused::http(commands, notice, why),
        _ => return None,
    };
    match event {
        Event::Refused { why, .. } | Event::ReauthenticationRefused { why, .. } => {
            refused::connect(commands, notice, why)
        }
        Event::PublishRefused { why, .. } if refused::is_of_provisioning_key(why.cause) => {
            refused::provisioning(commands, why, None)
        }
        Event::PublishRefused { topic, reason, why } => {
            refused::request(|| commands.forbidden(head, "publish", topic), *reason, why)
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
        Event::RateExceeded { limit, waited, .. } => {
            let option = limit.limit.option();
            Some(WordedRemedy::words(match waited {
                true => format!(
                    "have the client stay connected until its messages are received (QoS 1: until \
                     it has each PUBACK), or publish less; or raise {option}, and restart the node"
                ),
                false => format!(
                    "have the client publish less; or raise {option}, or set mqtt.rate_exceeded = \
                     \"delay\", and restart the node"
                ),
            }))
        }
        Event::PublishesDelayed { limit, .. } | Event::QueueFull { limit, .. } => {
            Some(WordedRemedy::words(by_limit(limit.limit)))
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
        | Event::Packet { .. } => None,
    }
}

/// Remedy of messages that were dropped for this reason.
fn lost(notice: &NodeNotice, reason: DropReason, commands: &Commands) -> Option<WordedRemedy> {
    let NodeNotice { head, event } = notice;
    let topic = event.topic().filter(|topic| !topic.is_empty());
    if let Some(topic) = topic.filter(|_| reason == DropReason::NotPermitted) {
        return Some(receiving(commands, head, topic));
    }
    if let Some(reached) = event.reached() {
        return Some(WordedRemedy::words(by_limit(reached.limit)));
    }
    let is_of_integration = head.client_id.starts_with(CLIENT_IDS);
    match event.shard() {
        Some(Event::MessagesLost {
            ended: Some(cause), ..
        }) => texts::of_session_end(*cause).worded(),
        Some(Event::Dropped {
            refused: Some(_), ..
        }) => commands.letters_of(&head.client_id),
        _ if reason == DropReason::RefusedByReceiver && is_of_integration => {
            commands.letters_of(&head.client_id)
        }
        _ => by_drop(reason).map(WordedRemedy::words),
    }
}

/// Where it is permitted that a client receives a topic.
fn receiving(commands: &Commands, head: &EventHead, topic: &str) -> WordedRemedy {
    let worded = commands.forbidden(head, "receive", topic);
    let text = format!("if it should be received, {}", worded.text);
    WordedRemedy { text, ..worded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_broker::{Refusal, RefusalCause, TenantId};
    use martlet_codec::ReasonCode;

    #[test]
    fn what_is_about_a_team_has_no_command_that_would_be_about_another() {
        let event = Event::Refused {
            will_topic: None,
            reason: ReasonCode::BadUserNameOrPassword,
            why: Refusal::operators_only(
                RefusalCause::WrongSecret,
                "wrong credential for device d1",
            )
            .about("d1"),
        };
        let notice = |tenant| NodeNotice {
            head: EventHead::new(TenantId(tenant), "d1"),
            event: event.clone().into(),
        };
        let of = |tenant| {
            Commands::default()
                .remedy(&notice(tenant))
                .unwrap_or_default()
        };
        assert_eq!(of(0).command.as_deref(), Some("martlet device rotate d1"));
        assert_eq!(
            of(3),
            WordedRemedy {
                command: None,
                ..of(0)
            }
        );
        let commands = Commands {
            team: Some("north".to_owned()),
            ..Commands::default()
        };
        let command = remedy_of_event(&notice(0), &commands).and_then(|worded| worded.command);
        let expected = "martlet device rotate --team=north d1";
        assert_eq!(command.as_deref(), Some(expected));
    }
}
