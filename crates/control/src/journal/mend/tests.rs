use super::*;

#[test]
fn a_command_names_the_node_the_user_and_the_client() {
    let commands = Commands::of_node("--data-dir='/var/lib/my node'".to_owned());
    let trace = |client_id: &str| commands.trace(client_id).unwrap_or_default();
    let expected = "martlet trace --data-dir='/var/lib/my node' 'c d'";
    assert_eq!(trace("c d"), expected);
    assert!(trace("-x;y").ends_with(" -- '-x;y'"));
    assert_eq!(trace(&"t".repeat(WORD_BYTES_MAX + 1)), "");
    assert_eq!(trace(&martlet_broker::shortened(&"t".repeat(300))), "");
}

#[test]
fn a_lockout_is_lifted_by_the_name_or_the_address_that_it_is_for() {
    let commands = Commands::default();
    let address = Some(IpAddr::from([192, 0, 2, 1]));
    let of = |user, address| commands.lockout(user, address).command;
    let expected = Some("martlet lockout rm 'a b'".to_owned());
    assert_eq!(of(Some("a b"), address), expected);
    let expected = Some("martlet lockout rm 192.0.2.1".to_owned());
    assert_eq!(of(None, address), expected);
    assert_eq!(of(None, None), None);
}

#[test]
fn what_is_about_a_team_has_no_command_that_would_be_about_another() {
    let event = Event::Refused {
        client_id: "d1".to_owned(),
        user: None,
        will_topic: None,
        address: None,
        reason: ReasonCode::BadUserNameOrPassword,
        why: "wrong credential for device d1".into(),
    };
    let of = |tenant| way(TenantId(tenant), &event, &Commands::default()).unwrap_or_default();
    assert_eq!(of(0).command.as_deref(), Some("martlet device rotate d1"));
    assert_eq!(
        of(3),
        Way {
            command: None,
            ..of(0)
        }
    );
    let commands = Commands {
        team: Some("north".to_owned()),
        ..Commands::default()
    };
    let command = way_of(&event, &commands).and_then(|way| way.command);
    let expected = "martlet device rotate --team=north d1";
    assert_eq!(command.as_deref(), Some(expected));
}

#[test]
fn names_of_the_tables_are_taken_from_between_fixed_words() {
    let commands = Commands::default();
    let said = |why| by_tables(&commands, why).and_then(|way| way.command);
    let expected = "martlet user set --enable 'a is disabled'";
    assert_eq!(
        said("user a is disabled is disabled").as_deref(),
        Some(expected)
    );
    let expected = "martlet device set --status=active 'x is y'";
    assert_eq!(
        said("device x is y is maintenance").as_deref(),
        Some(expected)
    );
    assert_eq!(said("device x is not what it seems"), None);
    let spent = "this credential of the device d 1 has expired, or is revoked";
    assert_eq!(said(spent).as_deref(), Some("martlet device rotate 'd 1'"));
}

#[test]
fn who_is_nobody_may_be_a_device() {
    let commands = Commands::default();
    let way = commands.unknown("the registry /data/martlet.db", "p 1");
    assert_eq!(way.command.as_deref(), Some("martlet device add 'p 1'"));
    let user = "martlet user add --role=ROLE 'p 1', with a role";
    assert!(way.text.contains(user), "{}", way.text);
    let way = commands.unknown("the password file /etc/passwd", "p1");
    let command = "martlet user add --file=/etc/passwd p1";
    assert_eq!(way.command.as_deref(), Some(command));
}

#[test]
fn a_wrong_client_identifier_is_told_what_it_has_to_be() {
    let said = |why| by_client_id(why).unwrap_or_default().text;
    let why = "the Client Identifier of the device d 1 must be d 1, since its topics are named \
               after it; it is \"x\"";
    assert!(said(why).contains("to d 1: by its MQTT library's"));
    let why = "the Client Identifier d1 is the device's of that id alone";
    assert!(said(why).contains("the User Name d1 and its secret"));
    assert_eq!(said("the Client Identifier"), "");
}

#[test]
fn a_packet_that_breaks_a_rule_is_to_be_traced() {
    let event = |reason| Event::Disconnected {
        client_id: "-x".to_owned(),
        user: None,
        reason,
        why: "a second CONNECT".into(),
    };
    let told = |reason| way_of(&event(reason), &Commands::default()).unwrap_or_default();
    for reason in [ReasonCode::ProtocolError, ReasonCode::MalformedPacket] {
        let way = told(reason);
        assert!(way.text.contains("MQTT library"), "{}", way.text);
        assert_eq!(way.command.as_deref(), Some("martlet trace -- -x"));
    }
    assert_eq!(told(ReasonCode::Success), Way::default());
}

#[test]
fn who_is_in_no_tables_has_rules_in_files() {
    let way = Commands::default().permit(&Lacking {
        client_id: "c",
        user: Some("ann"),
        action: "publish",
        topic: "a/b",
    });
    assert!(way.text.contains("auth.acl_file") && way.command.is_none());
    // No token and no hook is configured.
    assert!(!way.text.contains("hook"), "{}", way.text);
    let of_team = Commands {
        team: Some("north".to_owned()),
        ..Commands::default()
    };
    let line = |name| of_team.line(name, &[], &["x"]).unwrap_or_default();
    assert_eq!(line("device type rules"), "martlet device type rules x");
    assert_eq!(line("trace"), "martlet trace --team=north x");
}
