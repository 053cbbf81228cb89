//! The way to mend what was refused, as a line that can be typed or a key that can be set.

use martlet_broker::{DropReason, Event, UserName};
use martlet_codec::ReasonCode;

/// What to do about it, if anything is known to help.
pub(super) fn way(event: &Event) -> Option<String> {
    match event {
        Event::Refused {
            user, reason, why, ..
        } => connect_refused(user.as_ref().map(UserName::as_str), *reason, why),
        Event::ReauthenticationRefused {
            user, reason, why, ..
        } => connect_refused(user.as_ref().map(UserName::as_str), *reason, why),
        Event::PublishRefused {
            client_id,
            topic,
            reason,
            why,
            ..
        } => refused(client_id, "publish", topic, *reason, why),
        Event::SubscribeRefused {
            client_id,
            filter,
            reason,
            why,
            ..
        } => refused(client_id, "subscribe", filter, *reason, why),
        Event::Dropped { reason, .. } => dropped(*reason).map(str::to_owned),
        Event::QueueFull { .. } => Some(
            "a client that is away for long: let its session expire sooner, or raise \
             limits.queued_messages and limits.queued_bytes"
                .to_owned(),
        ),
        Event::Disconnected { reason, why, .. } => disconnected(*reason, why),
        Event::Connected { .. } => None,
    }
}

fn connect_refused(user: Option<&str>, reason: ReasonCode, why: &str) -> Option<String> {
    if let Some(way) = by_limit(why) {
        return Some(way);
    }
    let user = user.unwrap_or("USER");
    let has = |text: &str| why.contains(text);
    let way = match () {
        () if has("the password is not that of") || has("its password is wrong") => {
            format!("set it again: martlet user passwd {}", typed(user))
        }
        () if has("nobody of that name") => {
            format!("martlet user add {}", typed(user))
        }
        () if has("locked out") => "it ends by itself; find who tries wrong passwords from there, \
                                    and see auth.lockout_failures"
            .to_owned(),
        () if has("it has no credentials") || has("does not permit anonymous") => {
            "give the client a user name and password (martlet user add), or the listener \
             allow_anonymous = true"
                .to_owned()
        }
        () if has("certificate has expired") => {
            "martlet cert renew NAME, and give the client the new certificate".to_owned()
        }
        () if has("is revoked") => {
            "give the client a new certificate: martlet cert client".to_owned()
        }
        () if has("revocation list has expired") => "martlet cert crl writes a new one".to_owned(),
        () if has("of another CA") => {
            "give the client a certificate of the listener's client_ca, or add its CA there"
                .to_owned()
        }
        () if has("requires a client certificate") => {
            "give the client a certificate (martlet cert client), or set client_certificates = \
             \"optional\""
                .to_owned()
        }
        () if has("does not trust the server's certificate") => {
            "give the client the CA of the server's certificate: --cafile".to_owned()
        }
        () if has("what came is not TLS") => {
            "the client speaks without TLS: switch it on there, or use another port".to_owned()
        }
        () if has("the first packet is not CONNECT") => {
            "the client speaks TLS, HTTP or something else to a port of plain MQTT".to_owned()
        }
        () if has("no PROXY header") => {
            "connect by the proxy, or to a listener without proxy_from".to_owned()
        }
        () if has("none of theirs") => "add the address to the listener's proxy_from".to_owned(),
        () if has("another user's") => {
            "two clients have the same Client Identifier: give each its own".to_owned()
        }
        () if has("the hook answered") || has("no answer within") => {
            "see the program behind auth.hook_url".to_owned()
        }
        () if has("its token") => "give the client a new token".to_owned(),
        () if has("the Will on") => {
            format!(
                "permit it: martlet acl explain {} publish TOPIC says by which rule",
                typed(user)
            )
        }
        () if reason == ReasonCode::UnsupportedProtocolVersion => {
            "the client has to speak MQTT 3.1, 3.1.1 or 5.0".to_owned()
        }
        () => return None,
    };
    Some(way)
}

fn refused(
    client_id: &str,
    action: &str,
    topic: &str,
    reason: ReasonCode,
    why: &str,
) -> Option<String> {
    if let Some(way) = by_limit(why) {
        return Some(way);
    }
    if why.contains("one of the server's own") {
        return Some("clients publish to no topic that begins with $SYS".to_owned());
    }
    (reason == ReasonCode::NotAuthorized).then(|| {
        format!(
            "permit it in the ACL file or role; martlet acl explain {} {action} {} shows all rules",
            typed(client_id),
            typed(topic)
        )
    })
}

fn disconnected(reason: ReasonCode, why: &str) -> Option<String> {
    if let Some(way) = by_limit(why) {
        return Some(way);
    }
    let way = match reason {
        ReasonCode::SessionTakenOver => {
            "if it happens again and again, two clients have the same Client Identifier: give each \
             its own"
        }
        ReasonCode::KeepAliveTimeout => {
            "the client, or the network to it, has gone silent; a longer Keep Alive bears longer \
             gaps"
        }
        _ => return None,
    };
    Some(way.to_owned())
}

fn dropped(reason: DropReason) -> Option<&'static str> {
    Some(match reason {
        DropReason::ClientAway => {
            "publish and subscribe with QoS 1 and a session that persists, to have it kept"
        }
        DropReason::OutputFull => {
            "the client reads too slowly: QoS 1 waits in its queue; limits.output_bytes bounds QoS 0"
        }
        DropReason::QueueFull => "raise limits.queued_messages or limits.queued_bytes",
        DropReason::PacketTooLarge => {
            "the client's Maximum Packet Size is smaller than the message"
        }
        DropReason::MemoryFull => "raise limits.memory_bytes, or give the machine more memory",
        DropReason::NotPermitted => "permit it in the ACL file or role, if it should be received",
        DropReason::StoreDamaged => "martlet store check says what else is damaged",
        _ => return None,
    })
}

/// `limit NAME` is a key of the configuration.
fn by_limit(why: &str) -> Option<String> {
    let (_, rest) = why.split_once("limit ")?;
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let name: String = rest.chars().take_while(|c| is_of_name(*c)).collect();
    match name.as_str() {
        "" => None,
        "max_connections" => Some("raise max_connections of the listener".to_owned()),
        name => Some(format!("raise limits.{name}, or find who needs so much")),
    }
}

/// A text from outside as it may be typed in a shell.
fn typed(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./@:".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('-') {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_by_its_key() {
        let said = |why| by_limit(why).unwrap_or_default();
        assert!(said("limit connections").contains("limits.connections"));
        let why = "no complete CONNECT before the deadline (limit connect_timeout_secs)";
        assert!(said(why).starts_with("raise limits.connect_timeout_secs"));
        assert_eq!(said("the password is wrong"), "");
    }

    #[test]
    fn names_from_outside_cannot_leave_their_quotes() {
        assert_eq!(typed("alice"), "alice");
        assert_eq!(typed("a; rm -rf /"), "'a; rm -rf /'");
        assert_eq!(typed("a' b"), r"'a'\'' b'");
        assert_eq!(typed("-x"), "'-x'");
    }
}
