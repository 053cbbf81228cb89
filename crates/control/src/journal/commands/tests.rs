use martlet_broker::NAME_BYTES_MAX;

use super::*;

#[test]
fn a_command_names_the_node_the_user_and_the_client() {
    let commands = Commands {
        node: "--data-dir='/var/lib/my node'".to_owned(),
        ..Commands::default()
    };
    let trace = |client_id: &str| {
        let line = commands.line(form::TRACE, &[client_id]);
        line.unwrap_or_default()
    };
    let expected = "martlet trace --data-dir='/var/lib/my node' 'c d'";
    assert_eq!(&*trace("c d"), expected);
    assert!(trace("-x;y").ends_with(" -- '-x;y'"));
    assert_eq!(&*trace(&"t".repeat(2 * NAME_BYTES_MAX + 1)), "");
    assert_eq!(&*trace(&martlet_broker::shortened(&"t".repeat(300))), "");
}

#[test]
fn a_lockout_is_lifted_by_the_name_or_the_address_that_it_is_for() {
    let commands = Commands::default();
    let address = Some(IpAddr::from([192, 0, 2, 1]));
    let of = |user, address| commands.lockout(user, address).command.map(String::from);
    let expected = Some("martlet lockout rm 'a b'".to_owned());
    assert_eq!(of(Some("a b"), address), expected);
    let expected = Some("martlet lockout rm 192.0.2.1".to_owned());
    assert_eq!(of(None, address), expected);
    assert_eq!(of(None, None), None);
}

#[test]
fn who_is_nobody_may_be_a_device() {
    let commands = Commands::default();
    let registry = UserSources {
        registry: true,
        proofs: false,
    };
    let worded = commands.unknown(registry, None, "p 1");
    assert_eq!(worded.command.as_deref(), Some("martlet device add 'p 1'"));
    let user = "martlet user add --role=ROLE 'p 1', with a role";
    assert!(worded.text.contains(user), "{}", worded.text);
    let worded = commands.unknown(UserSources::default(), Some("/etc/passwd"), "p1");
    let command = "martlet user add --file=/etc/passwd p1";
    assert_eq!(worded.command.as_deref(), Some(command));
}

#[test]
fn who_is_in_no_tables_has_rules_in_files() {
    let lacking = Lacking {
        client_id: "c",
        user: Some("ann"),
        action: "publish",
        topic: "a/b",
    };
    let worded = Commands::default().permitting(TenantId::default(), &lacking, None);
    assert!(worded.text.contains("auth.acl_file") && worded.command.is_none());
    // No token and no hook is configured.
    assert!(!worded.text.contains("hook"), "{}", worded.text);
    let of_team = Commands {
        team: Some("north".to_owned()),
        ..Commands::default()
    };
    let line = |form| of_team.line(form, &["x"]).unwrap_or_default();
    // Users' names are unique, whatever team they are of.
    assert_eq!(&*line(form::USER_ENABLE), "martlet user set --enable x");
    assert_eq!(&*line(form::TRACE), "martlet trace --team=north x");
}
