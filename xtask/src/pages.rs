//! The reference pages below `docs/`, generated from the code.

use std::fmt::Write;
use std::io::{Error, Result};
use std::process::Command;

use martlet_broker::{Counters, DropReason, MetricKind};

use crate::conformance::Conformance;
use crate::sources::{root, source_files};

/// A generated page.
#[derive(Debug)]
pub struct Page {
    /// Path from the repository's root.
    pub path: &'static str,
    /// Generated text of the page.
    pub text: String,
}

impl Page {
    /// Whether the file differs from the generated page, or is missing.
    pub fn is_stale(&self) -> bool {
        std::fs::read_to_string(root().join(self.path)).ok() != Some(self.text.clone())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> Result<()> {
        let path = root().join(self.path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, &self.text)
    }
}

/// Generates all pages, and returns the conformance report for further checks.
///
/// # Errors
/// A source cannot be read, or `martlet` does not build.
pub fn all_pages() -> Result<(Vec<Page>, Conformance)> {
    let conformance = Conformance::new(&source_files()?).map_err(Error::other)?;
    let page = |path, text| Page { path, text };
    let pages = vec![
        page("docs/conformance.md", conformance.page()),
        page("docs/metrics.md", metrics()),
        page("docs/configuration.md", martlet(&["config", "reference"])?),
        page("docs/cli.md", command_line()?),
    ];
    Ok((pages, conformance))
}

/// Output of a command of the binary. `MARTLET_BIN` names a binary other than cargo's.
fn martlet(args: &[&str]) -> Result<String> {
    let mut command = match std::env::var_os("MARTLET_BIN") {
        Some(binary) => Command::new(binary),
        None => {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut command = Command::new(cargo);
            command.args(["run", "--quiet", "--package", "martlet", "--"]);
            command
        }
    };
    // The environment must not affect a page.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("MARTLET_") || name.starts_with("MQTT_") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(args)
        .env("COLUMNS", "100")
        .current_dir(root())
        .output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::other(format!("martlet {}: {error}", args.join(" "))));
    }
    String::from_utf8(output.stdout).map_err(Error::other)
}

fn command_line() -> Result<String> {
    let mut page = String::from(
        "# Command line\n\nShow the help of a command:\n\n```sh\nmartlet device add --help\n```\n\n\
         What `martlet COMMAND --help` prints. `martlet man DIR` writes the same as manual pages,\n\
         `martlet completions SHELL` prints completions for a shell.\n",
    );
    describe_command(&mut page, &[])?;
    Ok(page)
}

fn describe_command(page: &mut String, path: &[&str]) -> Result<()> {
    let help = martlet(&[path, &["--help"]].concat())?;
    let title = [&["martlet"], path].concat().join(" ");
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    let text = lines.join("\n");
    let _ = write!(
        page,
        "\n## `{title}`\n\n```text\n{}\n```\n",
        text.trim_end()
    );
    // The program's own commands are below several headings, up to its options.
    let (before, end) = match path {
        [] => ("Usage: martlet <COMMAND>", "Options:"),
        _ => ("Commands:", ""),
    };
    let commands = help.lines().skip_while(|line| *line != before).skip(1);
    for line in commands.take_while(|line| *line != end) {
        // A name is indented by two columns; its description may continue further to the right.
        let name = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '));
        let name = name.and_then(|rest| rest.split_whitespace().next());
        if let Some(name) = name.filter(|name| *name != "help") {
            describe_command(page, &[path, &[name]].concat())?;
        }
    }
    Ok(())
}

fn metrics() -> String {
    let mut page = String::from(METRICS_HEAD);
    page.push_str("| Metric | Kind | What it means |\n|---|---|---|\n");
    Counters::default().each(|metric| {
        let (suffix, kind) = match metric.kind {
            MetricKind::Counter => ("_total", "counter"),
            MetricKind::Gauge => ("", "gauge"),
        };
        let (name, meaning) = (metric.name, metric.meaning);
        if name == "memory_bytes" {
            // Listed below, together with memory outside the shards.
            return;
        }
        let _ = writeln!(page, "| `martlet_{name}{suffix}` | {kind} | {meaning} |");
    });
    page.push_str(METRICS_OF_NODE);
    page.push_str(MEMORY);
    page.push_str(
        "\n## Why messages are dropped\n\n`martlet_messages_dropped_total{reason=\"…\"}` counts by reason:\n\n\
         | Reason | What it means |\n|---|---|\n",
    );
    for reason in DropReason::ALL {
        let _ = writeln!(page, "| `{}` | {} |", reason.name(), reason.meaning());
    }
    page.push_str(
        "| `rate_exceeded` | A QoS 0 message above `limits.publish_rate` or \
         `limits.publish_bytes_rate`, with `mqtt.rate_exceeded = \"drop-qos0\"`. It is dropped before \
         its receivers are known. |\n",
    );
    page
}

const METRICS_HEAD: &str = "\
# Metrics

Read the metrics of a running node:

```sh
curl http://127.0.0.1:8080/metrics
martlet top
```

`GET /metrics` answers in the text format of Prometheus (0.0.4), or in OpenMetrics if `Accept` asks
for it. Beside what the shards count, summed over all of
them, there are some of the node; those of the store are not there where all is kept in memory. What
the shards count is there for each of them too: `martlet_shard_NAME{shard=\"0\"}`.

`GET /api/v1/metrics/history` has the main numbers of the last week without any of that: every ten
minutes, of the last day every ten seconds, and of the last five minutes every second while there
are 5,000 sessions at most, in memory alone. `martlet top` shows them.

At any moment `matched = delivered + held + dropped + expired`, where `dropped` is the sum over all
reasons: a message that did not arrive is found in one of them.

";

const MEMORY: &str = "
## Memory by use

`martlet_memory_bytes{held_for=\"…\"}` has each part; `martlet status` shows them too. They are \
estimates.

| Part | Contents |
|---|---|
| `shards` | Messages, buffers, sessions, subscriptions and other memory of shards; for each \
shard `martlet_shard_memory_bytes`. |
| `addresses` | Addresses of clients, for `limits.connect_rate_per_address`. |
| `logins` | Wrong credentials, lockouts, cached logins, and checks in progress. |
| `tables` | Users, devices and rules, in memory. |
| `topics` | Last messages: the [topic memory](topics.md). |
| `journal` | Refusals and losses, and the last events of each name: `martlet logs`, \
`martlet why`. |
| `events` | Latest events, events in queues, and frames that wait to be pushed. |
| `event_streams` | Events that wait for readers of streams. |
| `presence` | Clients that are not connected. |
| `log` | The last lines of the log, for `GET /api/v1/logs`. |
| `store` | Records that wait to be written, their buffers, and the index of the \
store. |
| `audit` | Lines of the audit log that wait to be written. |
| `http_answers` | Answers kept for `Idempotency-Key`. |
| `http_callers` | Sessions of users, rates of callers, positions in lists. |
| `http_bodies` | Bodies of requests in progress. |
| `http_output` | Answers in progress. |
| `integrations` | Messages from other systems that wait, and copies of messages that \
bridges send. |

Records that wait to be written have limits of their own. From 16 MiB on, or a sixteenth of \
`limits.memory_bytes`, publishes, subscriptions and long Wills wait. From 32 MiB on, or a quarter, \
the store counts as stuck, and a CONNECT that needs it is refused.

A name of more than 256 bytes is stored and shown as its beginning, its end, its length and a \
digest: `abcd…wxyz (31,000 bytes, sha256 0123456789abcdef)`.
";

/// Metrics of `control`; the tests with foreign clients compare the names.
const METRICS_OF_NODE: &str = "\
| `martlet_memory_bytes` | gauge | Memory in use, by use: see below. It counts against \
 `limits.memory_bytes`. |
| `martlet_memory_used_bytes` | gauge | Sum of all uses, and memory that shards have reserved. |
| `martlet_memory_limit_bytes` | gauge | The limit: `limits.memory_bytes`, or the default \
 part of the machine's memory. |
| `martlet_messages_dropped_total` | counter | Messages dropped, by reason: see below. |
| `martlet_sockets_accepted_total` | counter | Sockets accepted by the listeners. |
| `martlet_accept_pauses_total` | counter | Pauses of accepting because too few \
file descriptors were left. |
| `martlet_connections_max` | gauge | Maximum number of connections, from the limits \
and the file descriptors of the process. |
| `martlet_events_dropped_total` | counter | Events for the log that were dropped \
because their queue was full. |
| `martlet_delivery_latency_seconds` | histogram | Time from reading a PUBLISH to \
 writing it to a subscriber, by shard; without messages that waited for a client. |
| `martlet_events_readers` | gauge | Readers of live events. |
| `martlet_locked_out` | gauge | Addresses and names that are locked out now for too many wrong \
 credentials; `martlet status` names some. |
| `martlet_lockouts_total` | counter | Lockouts. |
| `martlet_telemetry_values_total` | counter | Values of [telemetry](telemetry.md) that were \
stored, if it is on. |
| `martlet_telemetry_rejected_total` | counter | Payloads or values that were not \
stored, by [`reason`](telemetry.md#watch-it). |
| `martlet_telemetry_retimed_values_total` | counter | Values stored with the time of receipt, \
because their own time was too far off. |
| `martlet_telemetry_failed_writes_total` | counter | Batches that the storage did not accept; \
they are retried. |
| `martlet_telemetry_latency_seconds` | histogram | Time from the timestamp of the newest \
value to its arrival (`stage` is `received`) and to its synced write (`stored`), by \
`device_type`: 50 types, and `other`. |
| `martlet_rollouts` | gauge | [Rollouts](firmware.md) that were started and have not ended, \
by `state`: `running`, `paused_by_hand`, `paused_by_gate`. |
| `martlet_telemetry_deleted_values_total` | counter | Values deleted by retention. |
| `martlet_topic_memory_topics` | gauge | Topics in the [topic memory](topics.md), if there is \
one. |
| `martlet_topic_memory_dropped_total` | counter | Topics dropped from it, by `reason`: \
`too_many` of a tenant, `memory_full`, `too_old`. |
| `martlet_rules` | gauge | [Rules](rules.md) in force. |
| `martlet_rules_previous_dropped_total` | counter | Values that rules remembered for \
`previous`, dropped to make room for others. |
| `martlet_rules_messages_total` | counter | Messages, values and events examined, by \
`rule`, like the next five. |
| `martlet_rules_matched_total` | counter | Of these, those for which the condition was true. |
| `martlet_rules_missing_total` | counter | Of these, those without a member that \
the condition needs. |
| `martlet_rules_errors_total` | counter | Messages and actions for which a rule failed. |
| `martlet_rules_loops_total` | counter | Messages that were not examined because rules \
had forwarded them too often. |
| `martlet_rules_evaluation_seconds_total` | counter | Time spent on the conditions of a \
rule, without its actions. |
| `martlet_rules_actions_total` | counter | Actions of all rules, by `action` and `outcome`: \
`done`, `refused` or `retried`. |
| `martlet_team_share_used_ratio` | gauge | Used part of the share of a team of \
[what all teams share](teams.md#what-teams-share), by `team` and `pool`: the 1,000 fullest, of \
pools in use. `team` is empty for what belongs to no team. Keys of devices in telemetry are \
counted once in a minute. Without teams there is no such metric. |
| `martlet_alarms_open` | gauge | [Alarms](alarms.md) that are not cleared, by `state` and \
`severity`. |
| `martlet_alarms_watched` | gauge | Alarms, and devices watched for an alarm, in \
memory. |
| `martlet_alarms_observations_dropped_total` | counter | Observations dropped because \
too many devices are watched. |
| `martlet_alarms_notifications_total` | counter | Changes of alarms to be published, \
by `outcome`: `published`, `failed` or `dropped`. |
| `martlet_integration_delivered_total` | counter | Messages delivered to the target; like all \
 of `martlet_integration_…` by `kind` and `name`. |
| `martlet_integration_repeated_total` | counter | Of these, messages that may have been \
 delivered before. |
| `martlet_integration_skipped_total` | counter | Messages of a bridge that were not sent, \
 because they came from the other broker. Counted since the start of the node. |
| `martlet_integration_incoming_total` | counter | Messages received from the other broker \
of a bridge. |
| `martlet_integration_incoming_dropped_total` | counter | Messages of the other broker that were \
dropped: the node rejected them, or too many waited. |
| `martlet_integration_refused_total` | counter | Messages that the target refused. |
| `martlet_integration_failed_attempts_total` | counter | Failed attempts to deliver a \
 batch. |
| `martlet_integration_dead_letters_total` | counter | Dead letters stored since the start. |
| `martlet_integration_dead_letters_dropped_total` | counter | Oldest dead letters dropped \
 to make room for new ones. |
| `martlet_integration_dead_letters_stored` | gauge | Dead letters stored now. |
| `martlet_integration_lag_messages` | gauge | Messages that wait, in its queue and in \
 flight. |
| `martlet_integration_in_hand_messages` | gauge | Messages taken from its queue and \
 not delivered yet. |
| `martlet_integration_oldest_message_age_seconds` | gauge | Age of the oldest message that is \
 not delivered; 0 if there is none. |
| `martlet_integration_state` | gauge | 1 for its present state, by `state`; 0 for the \
 others. |
| `martlet_uptime_seconds` | gauge | Time since the start. |
| `martlet_health_warnings` | gauge | Health warnings now: `martlet health` lists them. |
| `martlet_http_requests_total` | counter | HTTP requests answered, by method and \
 status. |
| `martlet_http_request_duration_seconds` | histogram | Time to the answer, or to the beginning \
 of a stream, by method. |
| `process_cpu_seconds_total` | counter | CPU time, user and system; like all of `process_…` \
 only on Linux. |
| `process_resident_memory_bytes` | gauge | Resident memory. |
| `process_virtual_memory_bytes` | gauge | Virtual memory. |
| `process_threads` | gauge | Threads. |
| `process_open_fds` | gauge | Open file descriptors: each connection is one. |
| `process_max_fds` | gauge | Maximum number of open file descriptors. |
| `process_start_time_seconds` | gauge | Start time, seconds since the Unix epoch. |
| `martlet_build_info` | gauge | Always 1; the label `version` has the version. |
| `martlet_store_syncs_total` | counter | Groups of records written and synced. |
| `martlet_store_records_total` | counter | Records written and synced. |
| `martlet_store_unreadable_total` | counter | Messages lost because the store could not read \
 them back. |
| `martlet_store_failing` | gauge | 1 while the store cannot write. |
| `martlet_store_behind` | gauge | 1 while publishers with QoS 1 and 2 wait for it. |
| `martlet_store_waiting_bytes` | gauge | Bytes of records that wait to be written. |
| `martlet_store_disk_bytes` | gauge | Bytes of the store's files. |
| `martlet_store_live_bytes` | gauge | Bytes of messages and states in use. |
| `martlet_store_messages` | gauge | Messages in the store, each once. |
| `martlet_store_entries` | gauge | Messages in queues and in flight in the store. |
";
