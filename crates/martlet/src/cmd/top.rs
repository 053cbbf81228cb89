//! `martlet top`: shows the load of a running node and its busiest clients, repeatedly.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use martlet_api::{ClientView, HistoryView, Status};
use martlet_control::text::{harmless, printable};
use serde::Serialize;

use crate::cmd::admin::{AdminOptions, ask, pages};
use crate::cmd::errors::error_text;
use crate::cmd::node_options::for_node;
use crate::cmd::print::{errln, outln, write_out};

/// Arguments of `martlet top`.
#[derive(Args, Debug)]
pub(crate) struct TopOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Print once and exit
    #[arg(long)]
    once: bool,
    /// Seconds between two updates
    #[arg(long, short = 'd', value_name = "SECONDS", default_value_t = 2,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Order of the clients
    #[arg(long, value_enum, default_value_t = Order::Rate)]
    sort: Order,
    /// Number of clients that are shown [default: as many as fit; 20 if the output is not a
    /// terminal]
    #[arg(long, short = 'n', value_name = "N")]
    clients: Option<usize>,
}

/// An order of clients, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Messages delivered to the client per second
    Rate,
    /// Messages that wait in the client's queue
    Queued,
    /// Messages dropped for the client per second
    Dropped,
}

/// Most clients that are queried. A query of more clients would affect the measurement.
const LOOKED_AT: usize = 5_000;
/// Number of clients shown if the size of the terminal is unknown.
const SHOWN: usize = 20;
/// Lines of the screen other than clients.
const HEAD_LINES: usize = 8;

/// One measurement of a node.
#[derive(Debug, Serialize)]
struct Look {
    status: Status,
    /// The last value of each series of `/api/v1/metrics/history`; `None` if it is unknown.
    now: HashMap<String, Option<f32>>,
    /// The busiest clients of those queried.
    clients: Vec<Busy>,
    /// Number of clients queried.
    looked_at: usize,
    /// Number of all clients.
    total: u64,
}

/// Load of a client.
#[derive(Debug, Serialize)]
struct Busy {
    client_id: String,
    address: Option<String>,
    connected: bool,
    delivered_per_sec: f64,
    dropped_per_sec: f64,
    queued: usize,
    in_flight: usize,
}

/// Counters of each client at one time.
struct ClientCounts {
    at: Instant,
    clients: HashMap<String, (u64, u64)>,
}

/// Runs the command.
pub(crate) fn run(options: &TopOptions) -> ExitCode {
    match show(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = error_text(&error);
            errln!("martlet: {}", printable(&error));
            ExitCode::FAILURE
        }
    }
}

fn show(options: &TopOptions) -> anyhow::Result<()> {
    let data_dir = options.admin.node.data_dir()?;
    let every = Duration::from_secs(options.interval);
    let out = std::io::stdout();
    let is_live = out.is_terminal() && !options.once && !options.admin.json;
    // Rates need two measurements.
    let mut before = counted(&clients(&data_dir)?.0);
    std::thread::sleep(Duration::from_secs(1).min(every));
    loop {
        let (rows, columns) = size(is_live);
        let shown = options.clients.unwrap_or(rows.saturating_sub(HEAD_LINES));
        let (look, now) = look(&data_dir, &before, options.sort, shown)?;
        before = now;
        let text = match options.admin.json {
            true => serde_json::to_string(&look)? + "\n",
            false => screen(&look, columns),
        };
        // Moves to the top and clears the screen.
        let clear = if is_live { "\x1b[H\x1b[2J" } else { "" };
        let is_read = write_out(format!("{clear}{}", harmless(&text)).as_bytes());
        // The reader may have closed the output.
        if options.once || !is_read {
            return Ok(());
        }
        if !is_live && !options.admin.json {
            outln!("");
        }
        std::thread::sleep(every);
    }
}

/// Rows and columns of the display.
fn size(is_live: bool) -> (usize, usize) {
    let found = is_live.then(|| rustix::termios::tcgetwinsize(std::io::stdout()));
    match found {
        Some(Ok(size)) if size.ws_row > 0 => (usize::from(size.ws_row), usize::from(size.ws_col)),
        _ => (SHOWN + HEAD_LINES, usize::MAX),
    }
}

fn clients(data_dir: &Path) -> anyhow::Result<(Vec<ClientView>, u64)> {
    pages(data_dir, "/api/v1/clients", &[], LOOKED_AT)
}

fn counted(clients: &[ClientView]) -> ClientCounts {
    let counts = clients.iter().map(|client| {
        let counts = (client.delivered, client.dropped);
        (client.client_id.clone(), counts)
    });
    ClientCounts {
        at: Instant::now(),
        clients: counts.collect(),
    }
}

fn look(
    data_dir: &Path,
    before: &ClientCounts,
    order: Order,
    shown: usize,
) -> anyhow::Result<(Look, ClientCounts)> {
    let status: Status = serde_json::from_str(&ask(data_dir, "GET", "/api/v1/status")?)?;
    let history = ask(data_dir, "GET", "/api/v1/metrics/history")?;
    let history: HistoryView = serde_json::from_str(&history)?;
    let series = history.series.into_iter();
    let now = series.map(|one| (one.name, one.values.last().copied().flatten()));
    let (clients, total) = clients(data_dir)?;
    let counts = counted(&clients);
    let look = Look {
        status,
        now: now.collect(),
        looked_at: clients.len(),
        clients: busiest(clients, before, counts.at, order, shown),
        total,
    };
    Ok((look, counts))
}

fn busiest(
    clients: Vec<ClientView>,
    before: &ClientCounts,
    now: Instant,
    order: Order,
    shown: usize,
) -> Vec<Busy> {
    let secs = (now - before.at).as_secs_f64().max(0.001);
    let busy = clients.into_iter().map(|client| {
        // A new session began with zeros.
        let known = before.clients.get(&client.client_id);
        let (delivered, dropped) = known.copied().unwrap_or_default();
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / secs;
        Busy {
            delivered_per_sec: rate(client.delivered, delivered),
            dropped_per_sec: rate(client.dropped, dropped),
            client_id: client.client_id,
            address: client.address,
            connected: client.connected,
            queued: client.queued,
            in_flight: client.in_flight,
        }
    });
    let mut busy: Vec<Busy> = busy.collect();
    let key = |one: &Busy| match order {
        Order::Rate => one.delivered_per_sec,
        Order::Queued => one.queued as f64,
        Order::Dropped => one.dropped_per_sec,
    };
    // The sort is stable, so equal ones stay sorted by name.
    busy.sort_by(|a, b| key(b).total_cmp(&key(a)));
    busy.truncate(shown);
    busy
}

fn screen(look: &Look, columns: usize) -> String {
    let Look { status, now, .. } = look;
    let number = |name: &str| now.get(name).copied().flatten();
    let rate = |name: &str| number(name).map_or("-".to_owned(), |value| short(f64::from(value)));
    let ms = |name: &str| number(name).map_or("-".to_owned(), |value| format!("{value:.2}"));
    let mut text = format!(
        "martlet {}: {}, up {}\n",
        status.version,
        status.status,
        duration(status.uptime_secs)
    );
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}{}", printable(&value));
    };
    line(
        "clients",
        format!(
            "{} connected, {}, {}/s connect, {}/s refused",
            status.connections,
            martlet_integrate::counted(status.sessions, "session"),
            rate("connects"),
            rate("refused")
        ),
    );
    line(
        "messages",
        format!(
            "{}/s in, {}/s out, {}/s dropped; {} queued",
            rate("messages_in"),
            rate("messages_out"),
            rate("dropped"),
            status.messages_held
        ),
    );
    line(
        "bytes",
        format!("{}/s in, {}/s out", rate("bytes_in"), rate("bytes_out")),
    );
    line(
        "latency",
        format!("p50 {} ms, p99 {} ms", ms("latency_p50"), ms("latency_p99")),
    );
    let cpu = number("cpu").map_or("-".to_owned(), |cores| format!("{cores:.2}"));
    line(
        "process",
        format!("{cpu} cores, {}B memory", rate("memory")),
    );
    for warning in &status.warnings {
        line("warning", for_node(warning).into_owned());
    }
    let _ = writeln!(
        text,
        "{:<32} {:>9} {:>9} {:>8} {:>9}  ADDRESS",
        "CLIENT", "OUT/S", "DROPPED/S", "QUEUED", "IN FLIGHT"
    );
    for one in &look.clients {
        let address = match (&one.address, one.connected) {
            (Some(address), _) => address,
            (None, true) => "this machine",
            (None, false) => "away",
        };
        let _ = writeln!(
            text,
            "{:<32} {:>9} {:>9} {:>8} {:>9}  {address}",
            printable(&one.client_id),
            short(one.delivered_per_sec),
            short(one.dropped_per_sec),
            one.queued,
            one.in_flight
        );
    }
    if look.total > look.looked_at as u64 {
        let _ = writeln!(text, "{} of {} clients", look.looked_at, look.total);
    }
    let lines = text.lines();
    let cut = |line: &str| line.chars().take(columns).collect::<String>() + "\n";
    lines.map(cut).collect()
}

/// `950`, `12.3k`, `4.5M`
fn short(value: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, name)) => format!("{:.1}{name}", value / unit),
        None if value > 0.0 && value < 10.0 => format!("{value:.1}"),
        None => format!("{value:.0}"),
    }
}

fn duration(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, shown) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (999.0, "999"),
            (12_345.0, "12.3k"),
            (4_500_000.0, "4.5M"),
        ] {
            assert_eq!(short(value), shown);
        }
        assert_eq!(duration(90_061), "1 d 1 h");
        assert_eq!(duration(59), "59 s");
    }
}
