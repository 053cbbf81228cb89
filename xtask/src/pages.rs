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
    /// Its generated text.
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
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in commands.take_while(|line| !line.is_empty()) {
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
## What memory is held for

`martlet_memory_bytes{held_for=\"…\"}` tells each part; `martlet status` shows them too. They are \
estimates.

| Part | What is in it |
|---|---|
| `shards` | Messages, buffers, sessions, subscriptions and whatever else shards charge; for each \
of them `martlet_shard_memory_bytes`. |
| `addresses` | The addresses that clients connect from, for `limits.connect_rate_per_address`. |
| `logins` | Wrong credentials and lockouts, logins that are remembered, and questions under way. |
| `tables` | Users, devices and rules, as they are in memory. |
| `topics` | What was published last: the [topic memory](topics.md). |
| `journal` | What was refused or lost, and what became of each name: `martlet logs`, \
`martlet why`. |
| `events` | The latest events, those on their way there, and frames that wait to be pushed. |
| `event_streams` | Events that wait for the readers of streams. |
| `presence` | Clients that are not connected and are remembered. |
| `log` | The last lines of the log, for `GET /api/v1/logs`. |
| `store` | Records that wait to be written to the disk, buffers for them, and the index of what \
is stored. |
| `audit` | Lines of the audit log that wait to be written. |
| `http_answers` | Answers kept for `Idempotency-Key`. |
| `http_callers` | Sessions of people, rates of callers, positions in lists. |
| `http_bodies` | Bodies of requests that are being read. |
| `http_output` | Answers that are being sent. |
| `integrations` | What other systems have sent and the node has not taken, and copies of what \
bridges send. |

What waits to be written to the disk is bounded before that: from 16 MiB on, or a sixteenth of \
`limits.memory_bytes`, publishes, subscriptions and long Wills wait; from 32 MiB on, or a quarter, \
the store counts as stuck, and a CONNECT that needs it is refused.

A name of more than 256 bytes is kept and shown as its beginning, its end, its length and a \
digest: `abcd…wxyz (31,000 bytes, sha256 0123456789abcdef)`.
";

/// Metrics of `control`; the tests with foreign clients compare the names.
const METRICS_OF_NODE: &str = "\
| `martlet_memory_bytes` | gauge | Bytes that count against `limits.memory_bytes`, by what they \
 are held for: see below. |
| `martlet_memory_used_bytes` | gauge | Their sum, with what shards have reserved and not used \
 yet. |
| `martlet_memory_limit_bytes` | gauge | `limits.memory_bytes`, or the part of the machine's \
 memory that it stands for. |
| `martlet_messages_dropped_total` | counter | Messages dropped, by reason: see below. |
| `martlet_sockets_accepted_total` | counter | Sockets accepted by the listeners. |
| `martlet_accept_pauses_total` | counter | Times that accepting began to pause \
because too few descriptors were left. |
| `martlet_connections_max` | gauge | Connections taken at once, by the limits \
and by the descriptors of the process. |
| `martlet_events_dropped_total` | counter | Events, for the log, that nobody took in time. |
| `martlet_delivery_latency_seconds` | histogram | From the reading of a PUBLISH to its \
 writing to a subscriber, by shard; without what waited for a client. |
| `martlet_events_readers` | gauge | Who reads events as they happen, now. |
| `martlet_locked_out` | gauge | Addresses and names that are locked out now for too many wrong \
 credentials; `martlet status` names some. |
| `martlet_lockouts_total` | counter | How often one was locked out. |
| `martlet_telemetry_values_total` | counter | Values of [telemetry](telemetry.md) that were \
stored, if it is on. |
| `martlet_telemetry_rejected_total` | counter | Payloads, or values of them, that were not \
stored, by [`reason`](telemetry.md#watch-it). |
| `martlet_telemetry_retimed_values_total` | counter | Values that got the time of receipt, as \
their own was too far off. |
| `martlet_telemetry_failed_writes_total` | counter | Batches that the storage did not take; they \
are tried again. |
| `martlet_telemetry_latency_seconds` | histogram | From the time that a device has given its \
newest value to its arrival (`stage` is `received`) and its synced write (`stored`), by \
`device_type`: 50 types, and `other`. |
| `martlet_rollouts` | gauge | [Rollouts](firmware.md) that have been started and have not ended, \
by `state`: `running`, `paused_by_hand`, `paused_by_gate`. |
| `martlet_telemetry_deleted_values_total` | counter | Values that were deleted by their \
retention. |
| `martlet_topic_memory_topics` | gauge | Topics in the [topic memory](topics.md), if there is \
one. |
| `martlet_topic_memory_dropped_total` | counter | Topics that it has dropped, by `reason`: \
`too_many` of a tenant, `memory_full`, `too_old`. |
| `martlet_rules` | gauge | [Rules](rules.md) in force. |
| `martlet_rules_messages_total` | counter | Messages, values and events that a rule has looked \
at, by `rule`, as the next five. |
| `martlet_rules_matched_total` | counter | Of these, those for which the condition was true. |
| `martlet_rules_missing_total` | counter | Of these, those in which a member was missing that \
the condition needs. |
| `martlet_rules_errors_total` | counter | Messages and actions for which a rule has failed. |
| `martlet_rules_loops_total` | counter | Messages that were not looked at, since rules have \
passed them on too often. |
| `martlet_rules_evaluation_seconds_total` | counter | Time that a rule has taken to look at \
messages, without its actions. |
| `martlet_rules_actions_total` | counter | Actions of all rules, by `action` and `outcome`: \
`done`, `refused` or `retried`. |
| `martlet_alarms_open` | gauge | [Alarms](alarms.md) that are not cleared, by `state` and \
`severity`. |
| `martlet_alarms_watched` | gauge | Alarms and devices that are watched for one, in memory. |
| `martlet_alarms_observations_dropped_total` | counter | Observations that were dropped, since \
too many devices are watched. |
| `martlet_alarms_notifications_total` | counter | Changes of alarms for the topic of alerts, \
by `outcome`: `published`, `failed` or `dropped`. |
| `martlet_integration_delivered_total` | counter | Messages that the target has taken; as all \
 of `martlet_integration_…` by `kind` and `name`. |
| `martlet_integration_repeated_total` | counter | Of these, messages that may have been \
 delivered before. |
| `martlet_integration_skipped_total` | counter | Of the delivered ones, messages of a bridge that \
 were not sent, since they came from the other broker. Counted since the start of the node. |
| `martlet_integration_incoming_total` | counter | Messages of the other broker that the node has \
taken from a bridge. |
| `martlet_integration_incoming_dropped_total` | counter | Messages of the other broker that were \
dropped: the node rejects them, or too many wait. |
| `martlet_integration_refused_total` | counter | Messages that the target has refused. |
| `martlet_integration_failed_attempts_total` | counter | Attempts to deliver that failed, each \
 for a batch. |
| `martlet_integration_dead_letters_total` | counter | Dead letters stored since the start. |
| `martlet_integration_dead_letters_dropped_total` | counter | The oldest dead letters, dropped \
 to make room for those of this one. |
| `martlet_integration_dead_letters_stored` | gauge | Dead letters that are stored now. |
| `martlet_integration_lag_messages` | gauge | Messages that wait for it, in its queue and in \
 hand. |
| `martlet_integration_in_hand_messages` | gauge | Messages that it has taken from its queue and \
 not settled. |
| `martlet_integration_oldest_message_age_seconds` | gauge | Age of the oldest message that is \
 not delivered; 0 if there is none. |
| `martlet_integration_state` | gauge | 1 for the state that it is in, by `state`, 0 for the \
 others. |
| `martlet_uptime_seconds` | gauge | Time since the start. |
| `martlet_health_warnings` | gauge | Warnings in health now: `martlet health` tells them. |
| `martlet_http_requests_total` | counter | HTTP requests that were answered, by method and \
 status. |
| `martlet_http_request_duration_seconds` | histogram | Time to their answers, or to the beginning \
 of a stream, by method. |
| `process_cpu_seconds_total` | counter | CPU time, user and system; as all of `process_…` on \
 Linux alone. |
| `process_resident_memory_bytes` | gauge | Resident memory. |
| `process_virtual_memory_bytes` | gauge | Virtual memory. |
| `process_threads` | gauge | Threads. |
| `process_open_fds` | gauge | Open file descriptors: each connection is one. |
| `process_max_fds` | gauge | Most file descriptors that may be open. |
| `process_start_time_seconds` | gauge | When it was started, in seconds since the Unix epoch. |
| `martlet_build_info` | gauge | Always 1; the label `version` says which program it is. |
| `martlet_store_syncs_total` | counter | Groups of records written and synced. |
| `martlet_store_records_total` | counter | Records written and synced. |
| `martlet_store_unreadable_total` | counter | Messages lost: waited for, but not to be read back. |
| `martlet_store_failing` | gauge | 1 while the store cannot write. |
| `martlet_store_behind` | gauge | 1 while publishers with QoS 1 and 2 are held back for it. |
| `martlet_store_waiting_bytes` | gauge | Bytes of records that wait to be written. |
| `martlet_store_disk_bytes` | gauge | Bytes of the store's files. |
| `martlet_store_live_bytes` | gauge | Bytes of messages and states that are needed. |
| `martlet_store_messages` | gauge | Messages in the store, each once. |
| `martlet_store_entries` | gauge | Messages in queues and in flight in the store. |
";
