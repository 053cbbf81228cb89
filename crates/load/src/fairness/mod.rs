//! `martlet bench fairness`: measures how much heavy clients affect other clients.
//!
//! Responsible for the procedure: quiet clients continuously ping and exchange messages, while each
//! load runs alone. The result is a table with the waiting times of the quiet clients. Modules:
//! `loads` has the loads, `left_behind` what they leave in the broker, `left` its removal, `quiet`
//! the quiet clients, and `peer` a blocking client for all of them.

mod left;
mod left_behind;
mod loads;
mod peer;
mod quiet;

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use self::left::take_away;
pub(super) use self::loads::names;
use self::loads::{LOADS, Load};
use self::peer::Broker;
use self::quiet::Quiet;
use super::driver::expect_open_files;
use super::histogram::Histogram;
use super::interrupt;
use super::options::Options;
use crate::notes::{err, errln};

/// Limit of the p99 of other clients, in milliseconds.
const P99_MS: f64 = 5.0;

/// The results.
#[derive(Debug, Serialize)]
struct Table {
    scenario: &'static str,
    /// Scale of the loads' amounts; 1 for full amounts.
    scale: f64,
    /// The limit of every p99 in milliseconds.
    limit_ms: f64,
    rows: Vec<Row>,
}

/// Result of the loads: the text to print, or `None` if the run was interrupted.
type Over = Option<anyhow::Result<(String, bool)>>;

/// Results of the quiet clients during one load.
#[derive(Debug, Serialize)]
struct Row {
    load: &'static str,
    /// Description of the load's amount.
    amount: String,
    /// Duration of the load in seconds.
    secs: f64,
    pings: Waits,
    messages: Waits,
    /// Whether both p99 values are within the limit.
    within_limit: bool,
}

/// Round-trip times in milliseconds.
#[derive(Debug, Serialize)]
struct Waits {
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Waits {
    fn of(histogram: &Histogram, count: u64) -> Self {
        let ms = |ns: u64| ns as f64 / 1e6;
        Self {
            count,
            p50_ms: ms(histogram.percentile(50.0)),
            p99_ms: ms(histogram.percentile(99.0)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// Runs all loads, one after the other. Returns the text to print, and whether every p99 is within
/// its limit. Removes what the loads leave in the broker, even if the run is interrupted.
pub(super) fn measure(options: &Options) -> anyhow::Result<(String, bool)> {
    let broker = Broker::new(&options.target)?;
    let (over, ends) = mpsc::channel();
    // `None` at each signal.
    let interrupts = over.clone();
    interrupt::on_each(move |_| interrupts.send(None).is_ok())?;
    let (of_run, with) = (broker.clone(), options.clone());
    thread::spawn(move || {
        // Without a receiver the run has already ended.
        let _ = over.send(Some(run_all(&of_run, &with)));
    });
    let over = ends.recv()?;
    if over.is_none() {
        errln!(
            "Interrupted: retained messages and sessions are removed from the broker; interrupt \
             again to leave them."
        );
        interrupts_exit(ends);
    }
    broker.left.close();
    let done = take_away(&broker);
    match over {
        Some(result) => {
            let table = result?;
            done.map(|()| table)
        }
        None => done.and_then(|()| bail!("interrupted")),
    }
}

/// Makes the next interrupt end the process.
fn interrupts_exit(ends: mpsc::Receiver<Over>) {
    thread::spawn(move || {
        while let Ok(over) = ends.recv() {
            if over.is_none() {
                std::process::exit(interrupt::INTERRUPTED.into());
            }
        }
    });
}

fn run_all(broker: &Broker, options: &Options) -> anyhow::Result<(String, bool)> {
    let scale = options.scale;
    let chosen = &options.loads;
    let is_chosen = |load: &&Load| chosen.is_empty() || chosen.iter().any(|name| name == load.name);
    let sockets = LOADS.iter().filter(is_chosen);
    let sockets = sockets.map(|load| (load.sockets)(scale)).max();
    expect_open_files(sockets.unwrap_or_default() as u64 + loads::OTHER_SOCKETS)?;
    let mut rows = Vec::new();
    rows.push(run(broker, &loads::NOTHING, options)?);
    for load in LOADS.iter().filter(is_chosen) {
        rows.push(run(broker, load, options)?);
    }
    let is_good = rows.iter().all(|row| row.within_limit);
    let table = Table {
        scenario: "fairness",
        scale,
        limit_ms: P99_MS,
        rows,
    };
    let text = match options.json {
        true => serde_json::to_string(&table)?,
        false => text(&table),
    };
    Ok((text, is_good))
}

fn run(broker: &Broker, load: &Load, options: &Options) -> anyhow::Result<Row> {
    let say = |what: &str| {
        if std::io::stderr().is_terminal() && !options.json {
            err!("\r\x1b[K{}: {what}", load.name);
        }
    };
    say("preparing");
    let least = Duration::from_secs_f64(options.duration);
    let mut prepared = (load.prepare)(broker, options.scale)?;
    let quiet = Quiet::start(broker)?;
    say("measuring");
    let began = Instant::now();
    let amount = (prepared.go)(least)?;
    let secs = began.elapsed().as_secs_f64();
    if let Some(rest) = least.checked_sub(began.elapsed()) {
        thread::sleep(rest);
    }
    let seen = quiet.stop()?;
    say("cleaning up");
    drop(prepared);
    take_away(broker)?;
    say("");
    let pings = Waits::of(&seen.pings, seen.ping_count);
    let messages = Waits::of(&seen.messages, seen.message_count);
    Ok(Row {
        load: load.what,
        amount,
        secs,
        within_limit: pings.p99_ms <= P99_MS && messages.p99_ms <= P99_MS,
        pings,
        messages,
    })
}

fn text(table: &Table) -> String {
    let mut text = String::from(
        "Round trips of quiet clients beside each load, milliseconds: a ping, a QoS 1 message.\n\n",
    );
    let _ = writeln!(
        text,
        "{:<44}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}  amount",
        "load", "ping p50", "p99", "max", "msg p50", "p99", "max"
    );
    for row in &table.rows {
        let _ = writeln!(
            text,
            "{:<44}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}  {} in {:.1} s",
            row.load,
            row.pings.p50_ms,
            row.pings.p99_ms,
            row.pings.max_ms,
            row.messages.p50_ms,
            row.messages.p99_ms,
            row.messages.max_ms,
            row.amount,
            row.secs,
        );
    }
    for row in table.rows.iter().filter(|row| !row.within_limit) {
        let _ = write!(text, "\nA p99 above {} ms: {}", table.limit_ms, row.load);
    }
    if table.rows.iter().any(|row| !row.within_limit) {
        text.push_str("\nOther programs on this machine count too: repeat it while none works.");
    }
    text.trim_end().to_owned()
}
