//! Remedies for refusals and ended connections, by their cause.

use martlet_broker::{Event, Limit, LockoutScope, PasswordSource, Refusal, RefusalCause};
use martlet_codec::ReasonCode;
use martlet_registry::is_device_id;

use super::commands::{Commands, absolute};
use super::texts::{self, by_limit};
use super::worded_remedy::WordedRemedy;
use crate::event::{NodeNotice, ShownKey};
use crate::http_cause::HttpCause;
use crate::remedy::form;

/// Remedy of a refused connection or re-authentication.
pub(super) fn connect(
    commands: &Commands,
    notice: &NodeNotice,
    why: &Refusal,
) -> Option<WordedRemedy> {
    let (user, address) = (notice.head.user_name(), notice.head.ip());
    match why.cause {
        RefusalCause::Limit(Limit::UserSessions) => Some(too_many_sessions(commands, user)),
        RefusalCause::StoreFull => Some(WordedRemedy::words(by_limit(Limit::DiskFull))),
        RefusalCause::StoreFailing => Some(WordedRemedy::words(by_limit(Limit::StoreStalled))),
        RefusalCause::WillForbidden => by_will(commands, notice),
        RefusalCause::WrongPassword(source) => {
            let file = match source {
                PasswordSource::File => absolute(why.subject()?),
                _ => String::new(),
            };
            commands.worded(texts::of_password(source), &[user?, &file])
        }
        RefusalCause::UnknownUser(sources) if sources.proofs => {
            user?;
            // A user of that name would be asked for a password before its tokens are.
            Some(WordedRemedy::words(
                "give the client a valid token, or, with auth.hook_url, a password that the hook \
                 accepts; if a user of this name is added, the client needs the password of that \
                 user",
            ))
        }
        // A client whose settings are empty, which sends both fields without text.
        RefusalCause::UnknownUser(_) if user == Some("") => Some(WordedRemedy::words(
            "the client sends an empty user name: set a user name and a password in its settings \
             (martlet user add, martlet device add), or switch its authentication off, so that it \
             sends neither",
        )),
        RefusalCause::UnknownUser(sources) => Some(commands.unknown(sources, why.subject(), user?)),
        RefusalCause::ApiKeyAsPassword | RefusalCause::ProvisioningKeyAsPassword => {
            Some(commands.own_password(why.cause, user?))
        }
        cause if is_of_provisioning_key(cause) => provisioning(commands, why, None),
        RefusalCause::LockedOut(scope) => {
            let user = user.filter(|_| scope == LockoutScope::UserName);
            Some(commands.lockout(user, address))
        }
        RefusalCause::Packet(_) => broken(
            commands,
            &notice.head.client_id,
            reason_of(notice.event.shard()?)?,
        ),
        RefusalCause::Banned => Some(commands.lifting_ban(&notice.head)),
        cause => of_transport(cause)
            .or_else(|| of_team_token(commands, notice, why))
            .or_else(|| of_registry(commands, why))
            .or_else(|| texts::of_refusal(cause).worded()),
    }
}

/// Remedy of a refusal by the HTTP server.
pub(super) fn http(
    commands: &Commands,
    notice: &NodeNotice,
    why: &Refusal<HttpCause>,
) -> Option<WordedRemedy> {
    let worded = commands.worded(texts::of_http(why.cause), &[]);
    worded.or_else(|| match why.cause {
        HttpCause::Client(cause) => connect(commands, notice, &why.with_cause(cause)),
        _ => None,
    })
}

/// Remedy of what ends a connection, or refuses it, whatever the client is.
fn of_transport(cause: RefusalCause) -> Option<WordedRemedy> {
    match cause {
        RefusalCause::Limit(limit) => Some(WordedRemedy::words(by_limit(limit))),
        RefusalCause::Tls(fault) => texts::of_tls(fault).worded(),
        RefusalCause::WebSocket(fault) => texts::of_web_socket(fault).worded(),
        _ => None,
    }
}

/// A device has as many sessions as its type permits: the command permits one more.
fn too_many_sessions(commands: &Commands, user: Option<&str>) -> WordedRemedy {
    let command = user.and_then(|user| commands.one_more_session(user));
    let more = if command.is_some() {
        "; to permit one more, run"
    } else {
        ""
    };
    WordedRemedy::new(by_limit(Limit::UserSessions) + more, command)
}

fn reason_of(event: &Event) -> Option<ReasonCode> {
    match event {
        Event::Refused { reason, .. } | Event::ReauthenticationRefused { reason, .. } => {
            Some(*reason)
        }
        _ => None,
    }
}

fn by_will(commands: &Commands, notice: &NodeNotice) -> Option<WordedRemedy> {
    match notice.event.shard() {
        Some(Event::Refused {
            will_topic: Some(topic),
            ..
        }) => Some(commands.forbidden(&notice.head, "publish", topic)),
        _ => None,
    }
}

/// Remedy of a refusal of a client that showed the key of a team token.
fn of_team_token(commands: &Commands, notice: &NodeNotice, why: &Refusal) -> Option<WordedRemedy> {
    match why.subject() {
        None => commands.team_token(why.cause, notice.head.user_name()?, &notice.head.client_id),
        // It is about the device.
        Some(_) => None,
    }
}

/// Remedy of a refusal by the registry, which names a user or device, proved or not.
fn of_registry(commands: &Commands, why: &Refusal) -> Option<WordedRemedy> {
    let name = why.subject()?;
    match why.cause {
        RefusalCause::CertificateNameUnknown if is_device_id(name) => {
            let add = commands.line(form::DEVICE_ADD, &[name]);
            Some(WordedRemedy::new("add it", add))
        }
        RefusalCause::Deleted => commands.deleted(name),
        cause => commands.worded(texts::of_subject(cause), &[name]),
    }
}

/// Remedy of a refused publish or subscription; `forbidden` is where a rule would permit it.
pub(super) fn request(
    forbidden: impl Fn() -> WordedRemedy,
    reason: ReasonCode,
    why: &Refusal,
) -> Option<WordedRemedy> {
    match why.cause {
        RefusalCause::Limit(_) => of_transport(why.cause),
        RefusalCause::ServerTopic | RefusalCause::SharedFilter => Some(forbidden()),
        _ if reason == ReasonCode::TopicFilterInvalid => texts::of_packet(reason).worded(),
        cause => texts::of_screened(cause)
            .worded()
            .or_else(|| (reason == ReasonCode::NotAuthorized).then(forbidden)),
    }
}

/// A provisioning key is not valid, or not any more.
pub(super) fn is_of_provisioning_key(cause: RefusalCause) -> bool {
    !texts::of_provisioning(cause).words.is_empty()
}

/// Remedy of a request to be added by a provisioning key. A key cannot be used again once it has
/// ended: another one of the same kind is added.
pub(super) fn provisioning(
    commands: &Commands,
    why: &Refusal,
    key: Option<&ShownKey>,
) -> Option<WordedRemedy> {
    let is_of_key = is_of_provisioning_key(why.cause);
    match key.filter(|_| is_of_key && why.cause != RefusalCause::ProvisioningKey) {
        Some(key) => Some(WordedRemedy::new(
            "add another provisioning key, which is shown once, and give it to the device",
            commands.provisioning_key(key),
        )),
        None => commands
            .worded(texts::of_provisioning(why.cause), &[])
            .or_else(|| texts::of_screened(why.cause).worded()),
    }
}

/// Remedy of an ended connection.
pub(super) fn end(
    commands: &Commands,
    client_id: &str,
    reason: ReasonCode,
    why: &Refusal,
) -> Option<WordedRemedy> {
    match why.cause {
        RefusalCause::Packet(_) => broken(commands, client_id, reason),
        cause => of_transport(cause).or_else(|| texts::of_end(cause).worded()),
    }
}

/// A packet that broke a rule of MQTT. All that the client does goes to the log for a while.
fn broken(commands: &Commands, client_id: &str, reason: ReasonCode) -> Option<WordedRemedy> {
    match client_id {
        "" => texts::of_packet(reason).worded(),
        id => commands.worded(texts::of_packet(reason), &[id]),
    }
}

#[cfg(test)]
mod tests;
