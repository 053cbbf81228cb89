use martlet_broker::{Refusal, RefusalCause, TenantId};
use martlet_codec::ReasonCode;

use super::*;

#[test]
fn what_is_about_a_team_has_no_command_that_would_be_about_another() {
    let event = Event::Refused {
        will_topic: None,
        reason: ReasonCode::BadUserNameOrPassword,
        why: Refusal::operators_only(RefusalCause::WrongSecret, "wrong credential for device d1")
            .about("d1"),
    };
    let notice = |tenant| EventNotice {
        head: EventHead::new(TenantId(tenant), "d1"),
        event: event.clone(),
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
