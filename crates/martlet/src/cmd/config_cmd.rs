//! `martlet config show`, `martlet config check` and `martlet config env`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use martlet_environment::CLIENT_NAMES;

use crate::cmd::columns::columns;
use crate::cmd::node_options::for_node;
use crate::cmd::print::{errln, out};
use martlet_integrate::KINDS;
use martlet_settings::{Key, TableKeys};

use crate::config::{self, HttpListenerKeys, ListenerKeys, Use};
use crate::serve::{self, ConfigOptions, data_dir};

/// Options of `martlet config`.
#[derive(Args, Debug)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Print every value in force and where it came from
    Show {
        #[command(flatten)]
        options: Box<ConfigOptions>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print only values that differ from the default
        #[arg(long)]
        changed: bool,
    },
    /// Print which variables of the environment and of .env a node reads, which it ignores and why,
    /// and which are unknown; their values are not printed
    Env {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the reference of all keys as Markdown
    Reference,
    /// Check whether a node would start with this configuration; its ports are not tried
    ///
    /// Exit code 0: it would, if no other node uses its data directory or its ports. 1: it would
    /// not; the reason is printed. The contents of the store are not read.
    Check {
        #[command(flatten)]
        options: Box<ConfigOptions>,
    },
}

/// Runs the command.
pub(crate) fn run(command: &ConfigCommand) -> ExitCode {
    let outcome = match &command.action {
        Action::Show {
            options,
            json,
            changed,
        } => show(options, *json, *changed),
        Action::Env { json } => env(*json),
        Action::Reference => Ok(reference()),
        Action::Check { options } => check(options),
    };
    match outcome {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            errln!("martlet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(options: &ConfigOptions, json: bool, changed: bool) -> anyhow::Result<String> {
    let effective = options.load()?;
    if json {
        let shown = effective.shown(changed);
        return Ok(format!("{}\n", serde_json::to_string_pretty(&shown)?));
    }
    let values = effective
        .values()
        .iter()
        .filter(|(_, sourced)| !changed || sourced.source != "default");
    let mut text = String::new();
    let mut section = "";
    for (key, sourced) in values {
        let (name, rest) = key.split_once('.').unwrap_or(("", key));
        if name != section {
            text.push_str(&format!(
                "{}[{name}]\n",
                if text.is_empty() { "" } else { "\n" }
            ));
            section = name;
        }
        let line = format!("{rest} = {}", config::shown(&sourced.value));
        text.push_str(&format!("{line:<48} # {}\n", sourced.source));
    }
    text.push_str(&tables("listeners", &effective.listeners));
    if effective.listeners.is_empty() {
        text.push_str(match effective.settings().mqtt.enabled {
            true => "\n# no [[listeners]]: loopback, 1883 and WebSocket 9001\n",
            false => "\n# no [[listeners]]: mqtt.enabled is false\n",
        });
    }
    text.push_str(&tables("http_listeners", &effective.http_listeners));
    text.push_str(&tables("telemetry.rules", &effective.telemetry_rules));
    text.push_str(&tables(
        "telemetry.retention",
        &effective.telemetry_retention,
    ));
    for table in &effective.rules {
        let keys = toml::to_string(&table.keys)?;
        text.push_str(&format!("\n[[rules]] # {}\n{keys}", table.place));
    }
    for sink in &effective.sinks {
        text.push_str(&format!("\n[[{}]]\n", sink.section()));
        for (key, sourced) in &sink.keys {
            let line = format!("{key} = {}", config::shown_of_sink(&sourced.value));
            text.push_str(&format!("{line:<48} # {}\n", sourced.source));
        }
    }
    for note in &effective.notes {
        text.push_str(&format!("# {note}\n"));
    }
    for warning in effective.warnings.iter().chain(&effective.unused_addresses) {
        text.push_str(&format!("# warning: {}\n", for_node(warning)));
    }
    Ok(text)
}

/// The tables of a list in the format of `show`.
fn tables<T: TableKeys>(name: &str, tables: &[config::Table<T>]) -> String {
    let mut text = String::new();
    for table in tables {
        text.push_str(&format!("\n[[{name}]]\n"));
        for (key, sourced) in table.values() {
            let line = format!("{key} = {}", config::shown(&sourced.value));
            text.push_str(&format!("{line:<48} # {}\n", sourced.source));
        }
    }
    text
}

/// One line per variable: its effect, its name, and its meaning or the reason why it has no effect.
fn env(json: bool) -> anyhow::Result<String> {
    let environment = config::environment()?;
    let file = environment.file.as_ref();
    let report = config::Variables::new(&environment.variables, file).report();
    let rows = report.into_iter().map(|(name, used)| {
        let (state, what) = match used {
            Use::Read(what) => ("read", what),
            Use::Ignored(why) => ("ignored", why),
            Use::Unknown => ("unknown", "no such variable"),
        };
        (state, name, what, config::origin_of(file, name))
    });
    if json {
        let all = rows.map(|(state, name, what, place)| {
            serde_json::json!({
                "name": name, "state": state, "what": what, "place": place,
            })
        });
        let all: Vec<serde_json::Value> = all.collect();
        return Ok(format!("{}\n", serde_json::to_string_pretty(&all)?));
    }
    let rows = rows.map(|(state, name, what, place)| {
        [state.to_owned(), name.to_owned(), what.to_owned(), place]
    });
    let none = "no variable of the environment or of .env configures a node";
    Ok(columns(["STATE", "NAME", "WHAT", "PLACE"], rows, none))
}

fn reference() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    let mut section = String::new();
    for key in config::keys() {
        let (name, rest) = key.path.split_once('.').unwrap_or(("", &key.path));
        if name != section {
            let last = if name == "limits" {
                " What happens at it |"
            } else {
                ""
            };
            let rule = if name == "limits" { "---|" } else { "" };
            text.push_str(&format!("\n## `[{name}]`\n\n"));
            text.push_str(&format!(
                "| Key | Default | Value | What it means |{last}\n|---|---|---|---|{rule}\n"
            ));
            section = name.to_owned();
        }
        let at_limit = key
            .at_limit
            .map(|text| format!(" {text} |"))
            .unwrap_or_default();
        text.push_str(&format!(
            "| `{rest}` | `{}` | {} | {} |{at_limit}\n",
            key.default,
            key.expectation(),
            key.what
        ));
    }
    text.push_str(
        "\n## `[[listeners]]`\n\nOne table per listener. Without one, the node listens on ",
    );
    text.push_str(
        "loopback, ports 1883 and 9001 (WebSocket).\n\n| Key | What it means |\n|---|---|\n",
    );
    for key in ListenerKeys::keys() {
        text.push_str(&format!("| `{}` | {} |\n", key.name, key.what));
    }
    text.push_str(HTTP_LISTENERS_HEAD);
    for key in HttpListenerKeys::keys() {
        text.push_str(&format!("| `{}` | {} |\n", key.name, key.what));
    }
    for (name, keys) in config::telemetry_tables() {
        text.push_str(&format!("\n## `[[telemetry.{name}]]`\n\n{TELEMETRY_HEAD}"));
        for key in keys {
            text.push_str(&row_of(&key));
        }
    }
    for known in KINDS {
        let head = match known.section {
            "bridges" => BRIDGES_HEAD,
            _ => SINKS_HEAD,
        };
        text.push_str(&format!("\n## `[[{}]]`\n\n{head}", known.table()));
        for key in (known.keys)() {
            text.push_str(&row_of(&key));
        }
    }
    let list = |names: &[&str]| {
        let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        quoted.join(", ")
    };
    let head = OTHERS_HEAD
        .replace("GENERIC", &list(config::GENERIC_VARIABLES))
        .replace("UNIQUE", &list(config::UNIQUE_VARIABLES));
    text.push_str(&head);
    for (name, what) in config::NAMES_OF_OTHERS {
        text.push_str(&format!("| `{name}` | {what} |\n"));
    }
    for (end, what) in config::ENDS_OF_CONNECTIONS {
        text.push_str(&format!("| `MQTT_<NAME>{end}` | {what} |\n"));
    }
    text.push_str(
        "\n`martlet pub`, `sub`, `rr` and `bench` read these; options override \
                   them:\n\n",
    );
    text.push_str("| Variable | What it means |\n|---|---|\n");
    for (name, what) in CLIENT_NAMES {
        text.push_str(&format!("| `{name}` | {what} |\n"));
    }
    text.push_str(OTHERS_END);
    text
}

/// The row of a key of a table.
fn row_of(key: &Key) -> String {
    let default = key.shown_default();
    let default = default.map(|default| format!("`{default}`"));
    format!(
        "| `{}` | {} | {} | {} |\n",
        key.name,
        default.unwrap_or_default(),
        key.expectation(),
        key.what
    )
}

const REFERENCE_HEAD: &str = "\
# Configuration

Show each value and where it came from, check a file, and make a running node reload it:

```sh
martlet config show
martlet config check -c martlet.toml
martlet reload
```

A value can be set in several places. Later ones override earlier ones:

1. the default
2. the file (`--config FILE`, TOML)
3. a file `.env` in the working directory
4. the environment
5. the command line

In the environment and in `.env`, the name of a key is `MARTLET_` and its path in capitals, with
`__` between the parts: `limits.in_flight` is `MARTLET_LIMITS__IN_FLIGHT`. To read a secret from a
file, add `_FILE` to the name: `MARTLET_REGISTRY__URL_FILE=/run/secrets/registry`. On the command
line, any key can be set by `--set KEY=VALUE`.

A line of `.env` is `NAME=value`, or `NAME: value` as Compose reads it. Lines that set nothing are
named in a warning. A `.env` is rejected if it belongs to neither root nor the user of the process,
or if other users may write to it. The first lines of the node and its health name the `.env` that
it has read.

`martlet config show` prints each value and where it came from. `martlet config check` reports
whether a node would start; its ports are not tried. An unknown key is an error, an unknown
`MARTLET_` variable is a warning; both name the nearest known one. `martlet config check` looks up
the names in the targets of integrations, for 2 s at most, and warns if `integrations.allow_private`
does not permit their addresses. A name without an address is no error.

Keep secrets in files that other users cannot read. `serve`, `config check` and health warn about
the files of the configuration, and the files that it names, if other users of the machine may
write to them (group or all), or if they contain secrets and all users may read them.

`martlet reload` and SIGHUP read the configuration and its files again. Changes of `auth.*`, `tls.*`
and `http.tls_*` apply at once. Other changes are listed, and apply at the next start. If a file of
`auth.*` or `tls.*` changes, a node reads it within a second, without a reload. It reads
`martlet.toml` and the environment only at a reload.

A path that does not begin with `/` is relative to the working directory of the process, not to the
file that contains it. This applies to TOML files, mosquitto.conf with its `include_dir`, the
environment and the command line. A service manager starts nodes in `/`, so use absolute paths
there. `martlet import` does not change paths. `unix:///PATH` is always absolute.
";

const HTTP_LISTENERS_HEAD: &str = "\n## `[[http_listeners]]`\n
One table per further listener of the HTTP server, in addition to `http.listen`; only in the file.
Variables and options of other systems add one each: `HTTP_SERVER_PORT` and `--http-addr`, `-info`,
`PORT`, `LISTEN_ADDR`. One at the default address of `http.listen` replaces it.\n
| Key | What it means |
|---|---|
";

const BRIDGES_HEAD: &str = "\
One table per bridge to another broker, only in the file; see
[bridges.md](bridges.md). Changes apply at the next start.\n
| Key | Default | Value | What it means |
|---|---|---|---|
";

const TELEMETRY_HEAD: &str = "\
One table each, only in the file; see [telemetry.md](telemetry.md). Changes apply at the
next start.\n
| Key | Default | Value | What it means |
|---|---|---|---|
";

const SINKS_HEAD: &str = "\
One table each, only in the file; see [integrations.md](integrations.md). Changes apply at the
next start.\n
| Key | Default | Value | What it means |
|---|---|---|---|
";

const OTHERS_HEAD: &str = "\n## Variables of other programs\n
A node reads these variables as their programs did. They override the file, and Martlet's own
variables override them. Those that name listeners (host, ports, TLS) apply only if nothing else
names a listener. A switch is `true` or `false` (also 1 and 0, yes and no, on and off).
`martlet config env` shows how each variable is used.\n
Many programs use the names GENERIC. They apply in a `.env`, or if a name is set that only one of
these systems has: UNIQUE, or `NATS_URL` beside `LISTEN_ADDR`.\n
| Variable | What it means |
|---|---|
";

const OTHERS_END: &str = "
A node also reads a `.env` in the working directory; the environment overrides it. Other variables
of these programs have no effect; `martlet config env` shows why.
";

fn check(options: &ConfigOptions) -> anyhow::Result<String> {
    let effective = options.load()?;
    let node = config::resolve(&effective)?;
    serve::check(&node)?;
    let refused_targets = refused_targets(&node.sinks)?;
    let mut text = String::new();
    // Users usually check the configuration before they stop the running node.
    let in_use = data_dir::in_use(&node.data_dir);
    let unusable_files = config::unusable_files_of_sinks(&node.sinks);
    for warning in effective
        .warnings
        .iter()
        .chain(&effective.unused_addresses)
        .chain(&node.warnings)
        .chain(&config::exposed_files(&effective))
        .chain(&node.weak_passwords)
        .chain(&node.locked_out)
        .chain(&in_use)
        .chain(&unusable_files)
        .chain(&refused_targets)
    {
        text.push_str(&format!("warning: {}\n", for_node(warning)));
    }
    let names: Vec<&str> = node
        .listeners
        .iter()
        .map(|listener| listener.name.as_str())
        .collect();
    text.push_str(&match names.as_slice() {
        [] => "the configuration is valid; it has no MQTT listeners\n".to_owned(),
        names => format!(
            "the configuration is valid; it listens on {}\n",
            names.join(", ")
        ),
    });
    Ok(text)
}

/// Integrations that may not connect to an address of their target.
fn refused_targets(sinks: &config::SinksConfig) -> anyhow::Result<Vec<String>> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    let refused = runtime.block_on(config::refused_targets(sinks));
    // A look-up that takes too long is not waited for.
    runtime.shutdown_background();
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_reference_has_every_key_once_and_its_section_once() {
        let text = reference();
        let titles: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("## "))
            .collect();
        let different: BTreeSet<&&str> = titles.iter().collect();
        assert_eq!(titles.len(), different.len(), "{titles:?}");
        let rows = text.lines().filter(|line| line.starts_with("| `")).count();
        assert!(rows >= config::keys().len() + ListenerKeys::keys().len());
        let mut lines = text.lines();
        let url = lines.find(|line| line.starts_with("| `url` |"));
        assert!(url.is_some_and(|url| url.contains("| a secret: text in quotes |")));
    }
}
