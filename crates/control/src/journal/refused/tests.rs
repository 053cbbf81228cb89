use std::net::IpAddr;

use martlet_broker::{
    EventHead, ProxyFault, TenantId, TlsFault, UserName, UserSources, WebSocketFault,
};

use super::*;
use crate::cause::tests::WORDS_OF_OLD;

fn refused(user: &str, why: Refusal) -> NodeNotice {
    let event = Event::Refused {
        will_topic: None,
        reason: ReasonCode::NotAuthorized,
        why,
    };
    notice(user, Some(UserName::Claimed(user.into())), event)
}

fn notice(client_id: &str, user: Option<UserName>, event: Event) -> NodeNotice {
    let address = Some((IpAddr::from([192, 0, 2, 1]), 1));
    let head = EventHead::new(TenantId(0), client_id);
    let head = head.with_user(user).with_address(address);
    NodeNotice {
        head,
        event: event.into(),
    }
}

fn worded(notice: &NodeNotice) -> WordedRemedy {
    Commands::default().remedy(notice).unwrap_or_default()
}

fn about(cause: RefusalCause, subject: &str) -> WordedRemedy {
    worded(&refused(
        "c",
        Refusal::operators_only(cause, "any words").about(subject),
    ))
}

#[test]
fn a_command_names_what_the_refusal_is_about() {
    let command = |cause, subject| {
        let command = about(cause, subject).command;
        command.map_or_else(String::new, String::from)
    };
    let expected = "martlet user set --enable 'a is disabled'";
    assert_eq!(
        command(RefusalCause::UserDisabled, "a is disabled"),
        expected
    );
    let expected = "martlet device set --status=active 'x is y'";
    assert_eq!(command(RefusalCause::DeviceMaintenance, "x is y"), expected);
    assert_eq!(command(RefusalCause::DeviceInactive, "x is y"), expected);
    for cause in [RefusalCause::CredentialExpired, RefusalCause::WrongSecret] {
        assert_eq!(command(cause, "d 1"), "martlet device rotate 'd 1'");
    }
    let expected = "martlet device add 'd 1'";
    assert_eq!(
        command(RefusalCause::CertificateNameUnknown, "d 1"),
        expected
    );
}

#[test]
fn a_wrong_password_is_set_again_where_it_is_kept() {
    let of = |source, subject: Option<&str>| {
        let why = Refusal::operators_only(RefusalCause::WrongPassword(source), "any words");
        let why = match subject {
            Some(path) => why.about(path),
            None => why,
        };
        worded(&refused("ann", why))
    };
    let file = of(PasswordSource::File, Some("/etc/passwd")).command;
    let expected = "martlet user passwd --file=/etc/passwd ann";
    assert_eq!(file.as_deref(), Some(expected));
    let registry = of(PasswordSource::Registry, None).command;
    assert_eq!(registry.as_deref(), Some("martlet user passwd ann"));
    let configured = of(PasswordSource::Configuration, None);
    assert!(configured.text.contains("auth.credentials") && configured.command.is_none());
}

#[test]
fn a_wrong_client_identifier_is_told_what_it_has_to_be() {
    let text = |cause| about(cause, "d 1").text;
    assert!(text(RefusalCause::NotItsClientId).contains("to d 1: by its MQTT library's"));
    assert!(text(RefusalCause::ClientIdOfDevice).contains("the User Name d 1 and its secret"));
}

#[test]
fn a_lockout_is_lifted_for_what_is_locked_out() {
    let of = |scope| {
        let why = Refusal::operators_only(RefusalCause::LockedOut(scope), "any words");
        let command = worded(&refused("ann", why)).command;
        command.map_or_else(String::new, String::from)
    };
    assert_eq!(of(LockoutScope::UserName), "martlet lockout rm ann");
    assert_eq!(of(LockoutScope::Address), "martlet lockout rm 192.0.2.1");
}

#[test]
fn a_packet_that_breaks_a_rule_is_to_be_traced() {
    let ended = |reason, cause: RefusalCause| {
        let why = cause.into();
        worded(&notice(
            "-x",
            None,
            Event::Disconnected {
                reason,
                why,
                will: None,
            },
        ))
    };
    let rule = RefusalCause::Packet("a second CONNECT");
    for reason in [ReasonCode::ProtocolError, ReasonCode::MalformedPacket] {
        let worded = ended(reason, rule);
        assert!(worded.text.contains("MQTT library"), "{}", worded.text);
        assert_eq!(worded.command.as_deref(), Some("martlet trace -- -x"));
    }
    let goodbye = RefusalCause::Goodbye;
    assert_eq!(ended(ReasonCode::Success, goodbye), WordedRemedy::default());
    // The client itself may say that the server broke a rule.
    assert_eq!(
        ended(ReasonCode::ProtocolError, goodbye),
        WordedRemedy::default()
    );
}

#[test]
fn what_fails_below_mqtt_has_a_remedy_of_its_own() {
    let packet = RefusalCause::Packet("a second CONNECT");
    let library = worded(&refused("c", packet.into())).text;
    let tls = TlsFault::ALL.iter().map(|fault| RefusalCause::Tls(*fault));
    let web = WebSocketFault::ALL.iter();
    let web = web.map(|fault| RefusalCause::WebSocket(*fault));
    let proxy = ProxyFault::ALL.iter();
    let proxy = proxy.map(|fault| RefusalCause::Proxy(*fault));
    for cause in tls.chain(web).chain(proxy) {
        let text = worded(&refused("c", cause.into())).text;
        assert!(!text.is_empty() && text != library, "{cause:?}");
    }
    let text = worded(&refused("c", RefusalCause::Tls(TlsFault::NoVersion).into())).text;
    assert!(text.contains("tls.version"));
}

/// A client chooses its Client Identifier, its user name and its topics.
#[test]
fn names_that_clients_choose_are_no_reason_for_a_remedy() {
    for name in WORDS_OF_OLD {
        let detail = format!("the Will on {name:?} is refused: no rule permits it");
        let event = Event::Refused {
            will_topic: Some((*name).into()),
            reason: ReasonCode::NotAuthorized,
            why: Refusal::operators_only(RefusalCause::WillForbidden, detail),
        };
        let claimed = Some(UserName::Claimed((*name).into()));
        let text = worded(&notice(name, claimed, event)).text;
        assert!(text.contains("auth.acl_file"), "{name}: {text}");
        let unknown = RefusalCause::UnknownUser(UserSources::default());
        let text = worded(&refused(name, Refusal::operators_only(unknown, *name))).text;
        assert_eq!(text, "add it", "{name}");
        let event = Event::PublishRefused {
            topic: (*name).to_owned(),
            reason: ReasonCode::NotAuthorized,
            why: Refusal::operators_only(RefusalCause::Forbidden, *name),
        };
        let proved = Some(UserName::Proved((*name).into()));
        let text = worded(&notice(name, proved, event)).text;
        assert!(text.contains("auth.acl_file"), "{name}: {text}");
    }
}
