//! The help of `martlet --help`: commands in groups by what one wants to do.

use clap::Command;

use super::examples;

/// Headings, and the commands below each. Every command of the program is in exactly one group.
pub(crate) const GROUPS: &[(&str, &[&str])] = &[
    (
        "Run a broker",
        &[
            "init", "serve", "config", "reload", "stop", "backup", "store", "import",
        ],
    ),
    (
        "See what happens",
        &[
            "status", "health", "why", "top", "logs", "log", "events", "trace", "audit",
        ],
    ),
    (
        "Clients and their messages",
        &["clients", "client", "session", "retained", "topic"],
    ),
    (
        "Devices",
        &[
            "device",
            "group",
            "provision",
            "telemetry",
            "command",
            "alarm",
            "firmware",
            "rollout",
        ],
    ),
    (
        "People and access",
        &[
            "user", "team", "role", "key", "ban", "lockout", "acl", "cert", "passwd",
        ],
    ),
    (
        "Rules and other systems",
        &["rule", "integration", "secret"],
    ),
    ("MQTT clients", &["pub", "sub", "rr", "agent", "bench"]),
    ("This program", &["completions", "man", "version"]),
];

/// Adds groups, examples and pages of the documentation to the help of all commands.
pub(crate) fn add_to(cli: Command) -> Command {
    in_groups(examples::add_to(cli))
}

fn in_groups(mut cli: Command) -> Command {
    let names = GROUPS.iter().flat_map(|(_, names)| *names);
    for (order, name) in names.enumerate() {
        cli = cli.mut_subcommand(name, |command| command.display_order(order));
    }
    let mut entries = entries_of_list(&cli).into_iter();
    let header = *cli.get_styles().get_header();
    let mut list = String::new();
    for (heading, names) in GROUPS {
        list.push_str(&format!("\n{header}{heading}:{header:#}\n"));
        list.extend(entries.by_ref().take(names.len()));
    }
    // The command `help`, which clap adds.
    list.extend(entries);
    cli.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{list}\n\
         {header}Options:{header:#}\n{{options}}{{after-help}}"
    ))
}

/// Lines of each command in the list that clap makes, which aligns and wraps them.
fn entries_of_list(cli: &Command) -> Vec<String> {
    let list = cli.clone().help_template("{subcommands}").render_help();
    let mut entries: Vec<String> = Vec::new();
    for line in list
        .ansi()
        .to_string()
        .lines()
        .filter(|line| !line.is_empty())
    {
        match entries.last_mut() {
            Some(entry) if line.starts_with("   ") => entry.push_str(&format!("{line}\n")),
            _ => entries.push(format!("{line}\n")),
        }
    }
    entries
}
