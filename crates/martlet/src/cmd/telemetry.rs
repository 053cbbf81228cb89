//! `martlet telemetry`: shows, follows and exports values sent by devices.

use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use martlet_control::text::printable;
use serde_json::Value;

use crate::cmd::admin::{AdminOptions, ask, download, finish_as, follow};
use crate::cmd::chart::chart;
use crate::cmd::columns::columns;
use crate::cmd::errors::error_text;
use crate::cmd::node_options::{NodeOptions, for_node, json_for_node};
use crate::cmd::print::{errln, out, piped};
use crate::cmd::query::encoded;

/// Arguments of `martlet telemetry`.
#[derive(Args, Debug)]
pub(crate) struct TelemetryCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show values or aggregates, with a chart of each key
    Query(QueryOptions),
    /// Print values as they are stored
    Tail(TailOptions),
    /// Write values as CSV, JSON lines or InfluxDB line protocol
    Export(ExportOptions),
    /// List payloads that were not stored, with the reason
    Rejected(RejectedOptions),
}

/// Which devices and keys.
#[derive(Args, Debug)]
struct Selection {
    /// Comma-separated ids of devices
    #[arg(value_name = "DEVICE")]
    device: Option<String>,
    /// Devices of this group, by id or name
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Devices with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Devices of this type
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
    /// Devices of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Comma-separated keys [default: all]
    #[arg(long, short = 'k', value_name = "KEYS")]
    keys: Option<String>,
}

/// Which time.
#[derive(Args, Debug)]
struct Span {
    /// Start of the time range: 2026-11-21T14:00:00Z, or an age: 90s, 30m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h")]
    from: String,
    /// End of the time range, which is not included
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

#[derive(Args, Debug)]
struct QueryOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: Selection,
    #[command(flatten)]
    span: Span,
    /// Aggregate in buckets of this length: 30s, 15m, 1h, 7d, or minute, hour, day, week, month,
    /// quarter, year
    #[arg(long, short = 'b', value_name = "BUCKET")]
    bucket: Option<String>,
    /// Comma-separated functions: avg, min, max, sum, count, first, last, p50, p95, delta, rate
    #[arg(long, short = 'f', value_name = "FUNCTIONS", requires = "bucket")]
    functions: Option<String>,
    /// Time zone of the calendar, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "bucket")]
    zone: Option<String>,
    /// How buckets without values are filled: none, null, previous or linear
    #[arg(long, value_name = "FILL", requires = "bucket")]
    fill: Option<String>,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Print a table, without charts
    #[arg(long)]
    table: bool,
}

#[derive(Args, Debug)]
struct TailOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: Selection,
    /// Exit after this number of values
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

#[derive(Args, Debug)]
struct ExportOptions {
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    of: Selection,
    #[command(flatten)]
    span: Span,
    /// csv, ndjson or line
    #[arg(long, value_name = "FORMAT", default_value = "csv",
        value_parser = ["csv", "ndjson", "line"])]
    format: String,
}

#[derive(Args, Debug)]
struct RejectedOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Only payloads with values of this device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
}

/// Default width and height of a chart, in characters.
const CHART: (usize, usize) = (80, 14);
/// Colour of charts on terminals.
const COLOUR: (&str, &str) = ("\x1b[36m", "\x1b[0m");

/// Runs the command.
pub(crate) fn run(command: &TelemetryCommand) -> ExitCode {
    match &command.action {
        Action::Query(options) => finish_as(options.admin.json, query(options)),
        Action::Rejected(options) => finish_as(options.admin.json, rejected(options)),
        Action::Tail(options) => finish(tail(options)),
        Action::Export(options) => finish(export(options)),
    }
}

fn finish(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = error_text(&error);
            errln!("martlet: {}", printable(&error));
            ExitCode::FAILURE
        }
    }
}

/// Adds a parameter to a path and query.
fn put(target: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        let mark = if target.contains('?') { '&' } else { '?' };
        target.push_str(&format!("{mark}{name}={}", encoded(value)));
    }
}

impl Selection {
    fn put(&self, target: &mut String) {
        put(target, "device", self.device.as_deref());
        put(target, "group", self.group.as_deref());
        put(target, "tag", self.tag.as_deref());
        put(target, "type", self.device_type.as_deref());
        put(target, "team", self.team.as_deref());
        put(target, "keys", self.keys.as_deref());
    }
}

impl Span {
    fn put(&self, target: &mut String) {
        put(target, "from", Some(&moment(&self.from)));
        put(target, "to", self.to.as_deref().map(moment).as_deref());
    }
}

/// A time in the API's format: `24h` means 24 hours ago.
fn moment(text: &str) -> String {
    let is_ago = text.ends_with(['s', 'm', 'h', 'd', 'w']);
    match is_ago && text.starts_with(|first: char| first.is_ascii_digit()) {
        true => format!("-{text}"),
        false => text.to_owned(),
    }
}

fn query(options: &QueryOptions) -> anyhow::Result<String> {
    let mut target = "/api/v1/query".to_owned();
    options.of.put(&mut target);
    options.span.put(&mut target);
    put(&mut target, "bucket", options.bucket.as_deref());
    put(&mut target, "functions", options.functions.as_deref());
    put(&mut target, "zone", options.zone.as_deref());
    put(&mut target, "fill", options.fill.as_deref());
    put(&mut target, "limit", Some(&options.limit.to_string()));
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(body);
    }
    let answer: Value = serde_json::from_str(&body)?;
    let none = Vec::new();
    let items = answer["items"].as_array().unwrap_or(&none);
    if items.is_empty() {
        return Ok("There are no values.".to_owned());
    }
    let names: Vec<&str> = match (&options.bucket, &options.functions) {
        (None, _) => vec!["value"],
        (Some(_), None) => vec!["avg"],
        (Some(_), Some(functions)) => functions.split(',').map(str::trim).collect(),
    };
    let mut text = match (options.table, names.as_slice()) {
        (false, [name]) => charts_and_table(items, name),
        _ => table(items, &names),
    };
    if answer["truncated"] == true {
        text.push_str(&format!(
            "There are more than {} values: raise --limit, or use --bucket or martlet telemetry \
             export.\n",
            options.limit
        ));
    }
    Ok(text)
}

fn table<'a>(items: impl IntoIterator<Item = &'a Value>, names: &[&str]) -> String {
    let row = |one: &Value| {
        let values = names.iter().map(|name| shown(&one[*name]));
        let values: Vec<String> = values.collect();
        [
            text_of(&one["time"]),
            text_of(&one["device"]),
            text_of(&one["key"]),
            values.join("  "),
        ]
    };
    let heads = names.join("  ").to_uppercase();
    columns(
        ["TIME", "DEVICE", "KEY", &heads],
        items.into_iter().map(row),
        "",
    )
}

fn text_of(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default()).to_string()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text).to_string(),
        other => printable(&other.to_string()).to_string(),
    }
}

/// A value in a chart.
struct Point {
    at: Timestamp,
    number: f64,
    /// As it is written; `true` is 1 in the chart.
    text: String,
}

impl Point {
    /// The value of this name of an item; `None` if it is not in charts.
    fn of(item: &Value, name: &str) -> Option<Self> {
        let at = item["time"].as_str()?.parse().ok()?;
        let (number, text) = match (item[name].as_bool(), item[name].as_f64()) {
            (Some(state), _) => (f64::from(state), state.to_string()),
            // As a float a large whole number is another one.
            (None, Some(number)) if item[name].is_f64() => (number, number.to_string()),
            (None, number) => (number?, item[name].to_string()),
        };
        Some(Self { at, number, text })
    }
}

/// A chart for each device and key whose values are all numbers, and a table of the others. Nulls
/// alone are no chart.
fn charts_and_table(items: &[Value], name: &str) -> String {
    let series = |item: &Value| (text_of(&item["device"]), text_of(&item["key"]));
    let has_point = |item: &&Value| Point::of(item, name).is_some();
    let is_other = |item: &&Value| !item[name].is_null() && !has_point(item);
    let of_points: HashSet<_> = items.iter().filter(has_point).map(series).collect();
    let of_others: HashSet<_> = items.iter().filter(is_other).map(series).collect();
    let is_drawn = |item: &&Value| {
        let series = series(item);
        of_points.contains(&series) && !of_others.contains(&series)
    };
    let (drawn, in_table): (Vec<&Value>, Vec<&Value>) = items.iter().partition(is_drawn);
    let mut text = charts(drawn.iter().copied(), name);
    if !in_table.is_empty() || text.is_empty() {
        text.push_str(&table(in_table, &[name]));
    }
    text
}

/// A chart for each device and key, a line if it has one value.
fn charts<'a>(items: impl IntoIterator<Item = &'a Value>, name: &str) -> String {
    let mut series: Vec<(String, Vec<Point>)> = Vec::new();
    for item in items {
        let Some(point) = Point::of(item, name) else {
            continue;
        };
        let title = format!("{} {}", text_of(&item["device"]), text_of(&item["key"]));
        match series.iter_mut().find(|(known, _)| *known == title) {
            Some((_, points)) => points.push(point),
            None => series.push((title, vec![point])),
        }
    }
    let (on, off) = match has_colours() {
        true => COLOUR,
        false => ("", ""),
    };
    let mut text = String::new();
    for (title, mut points) in series {
        points.sort_by_key(|point| point.at);
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            continue;
        };
        let (ends, newest) = ((clock(first.at), clock(last.at)), &last.text);
        if points.len() == 1 {
            text.push_str(&format!("{title} (1 value): {newest} at {}\n\n", ends.1));
            continue;
        }
        let dots = points.iter();
        let dots = dots.map(|point| (point.at.as_microsecond() as f64, point.number));
        let dots: Vec<(f64, f64)> = dots.collect();
        let drawn = chart(&dots, size(), (&ends.0, &ends.1));
        let many = points.len();
        text.push_str(&format!(
            "{title} ({many} values, last {newest})\n{on}{drawn}{off}\n"
        ));
    }
    text
}

fn has_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stdout().is_terminal()
}

/// Width and height of a chart, in characters.
fn size() -> (usize, usize) {
    let out = std::io::stdout();
    match rustix::termios::tcgetwinsize(&out) {
        Ok(size) if size.ws_col > 0 => (usize::from(size.ws_col), CHART.1),
        _ => CHART,
    }
}

/// A time in the machine's time zone.
fn clock(at: Timestamp) -> String {
    let zoned = at.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn tail(options: &TailOptions) -> anyhow::Result<()> {
    let mut target = "/api/v1/telemetry/tail".to_owned();
    options.of.put(&mut target);
    let data_dir = options.admin.node.data_dir()?;
    let mut left = options.count.unwrap_or(u64::MAX);
    let ended = follow(&data_dir, &target, |json| {
        let Ok(one) = serde_json::from_str::<Value>(json) else {
            return ControlFlow::Continue(());
        };
        let line = match (options.admin.json, one["why"].as_str()) {
            (true, None) => format!("{json}\n"),
            (true, Some(_)) => format!("{}\n", json_for_node(json)),
            (false, Some(why)) => format!("-- {}\n", printable(&for_node(why))),
            (false, None) => {
                let (device, key) = (text_of(&one["device"]), text_of(&one["key"]));
                format!(
                    "{} {device} {key} {}\n",
                    text_of(&one["time"]),
                    shown(&one["value"])
                )
            }
        };
        if one["why"].is_null() {
            left -= 1;
        }
        // The reader may have closed the output.
        let is_read = out!("{line}");
        match (is_read, left) {
            (true, 1..) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })?;
    match ended {
        true => anyhow::bail!("the node has ended the stream"),
        false => Ok(()),
    }
}

fn export(options: &ExportOptions) -> anyhow::Result<()> {
    let mut target = "/api/v1/query".to_owned();
    options.of.put(&mut target);
    options.span.put(&mut target);
    put(&mut target, "format", Some(&options.format));
    let data_dir = options.node.data_dir()?;
    piped(|out| download(&data_dir, &target, out).map(drop))
}

fn rejected(options: &RejectedOptions) -> anyhow::Result<String> {
    let mut target = format!("/api/v1/telemetry/rejected?limit={}", options.limit);
    put(&mut target, "device", options.device.as_deref());
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(json_for_node(&body).into_owned());
    }
    let answer: Value = serde_json::from_str(&body)?;
    let none = Vec::new();
    let items = answer["items"].as_array().unwrap_or(&none);
    let row = |one: &Value| {
        [
            text_of(&one["at"]),
            one["count"].to_string(),
            text_of(&one["client_id"]),
            text_of(&one["device"]),
            text_of(&one["topic"]),
            for_node(&text_of(&one["detail"])).into_owned(),
        ]
    };
    let headers = ["LAST", ">COUNT", "CLIENT", "DEVICE", "TOPIC", "WHY"];
    Ok(columns(
        headers,
        items.iter().map(row),
        "No payload was rejected.",
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(key: &str, second: u32, value: Value) -> Value {
        let time = format!("2026-11-21T14:00:{second:02}Z");
        json!({"time": time, "device": "pump", "key": key, "value": value})
    }

    #[test]
    fn a_single_value_is_a_line_and_several_are_a_chart() {
        let items = [
            item("on", 0, json!(true)),
            item("speed", 0, json!(70)),
            item("speed", 1, json!(71.5)),
            item("large", 0, json!(i64::MAX)),
        ];
        let text = charts(&items, "value");
        let large = format!("pump large (1 value): {} at 2026-11-2", i64::MAX);
        assert!(text.contains(&large), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("pump on (1 value): true at 2026-11-2"),
            "{text}"
        );
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "pump speed (2 values, last 71.5)");
        assert_eq!(lines.len(), 3 + CHART.1 + 3, "{text}");
    }

    #[test]
    fn values_that_are_no_numbers_are_in_a_table_with_all_of_their_key() {
        let items = [
            item("state", 0, json!("on")),
            item("state", 1, json!(7)),
            item("state", 2, json!("off")),
            item("speed", 0, json!(70)),
        ];
        let text = charts_and_table(&items, "value");
        assert!(text.starts_with("pump speed (1 value): 70 at "), "{text}");
        assert_eq!(text.matches("state").count(), 3, "{text}");
        assert!(text.contains("  7"), "{text}");
    }

    #[test]
    fn texts_beside_numbers_are_shown_where_buckets_have_no_mean_of_them() {
        let items = [
            item("state", 0, Value::Null),
            item("speed", 0, json!(70)),
            item("speed", 1, Value::Null),
        ];
        let text = charts_and_table(&items, "value");
        assert!(text.starts_with("pump speed (1 value): 70 at "), "{text}");
        assert_eq!(text.matches("state").count(), 1, "{text}");
    }

    #[test]
    fn the_last_value_of_a_switch_is_a_word() {
        let items = [item("on", 0, json!(true)), item("on", 1, json!(false))];
        let text = charts(&items, "value");
        assert!(
            text.starts_with("pump on (2 values, last false)\n"),
            "{text}"
        );
    }
}
