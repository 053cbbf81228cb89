//! The load generator of `martlet bench`: generates load on a broker and measures throughput,
//! latency, CPU time and memory.
//!
//! Responsible for the procedure of a measurement: connect, warm up, measure, wait for outstanding
//! messages, evaluate. One thread and one poll drive all clients, so that the generator costs less
//! than the broker. It works with any broker. Every message is numbered. A lost, repeated or
//! reordered message makes the result a failure.
#![forbid(unsafe_code)]
// A closed pipe must not end the process.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod arrivals;
mod connection;
mod connections;
mod course;
mod driver;
mod fairness;
mod gathering;
mod histogram;
mod interrupt;
mod notes;
mod options;
mod phases;
mod plan;
mod process;
mod progress;
mod publishing;
mod random;
mod report;
mod schedule;
mod sequence;
mod target;
mod traffic;
mod wire;

use std::time::{Duration, Instant};

use connections::Silence;
use course::{Course, STALL};
use driver::{Driver, Purpose, SessionLife};
pub use interrupt::{INTERRUPTED, is_interrupted};
use notes::errln;
pub use options::Options;
use options::Scenario;
use plan::Plan;
use process::Usage;
use progress::Progress;
use report::{Messages, Report, Usages};
pub use target::Target;
use traffic::Traffic;

/// The result of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The figures as text, or one line of JSON.
    pub text: String,
    /// Whether no message was lost, repeated or reordered, no connection failed, and the limits of
    /// the scenario were kept.
    pub is_good: bool,
}

/// Runs the selected scenario against the target. Writes progress and warnings to standard error.
/// SIGINT and SIGTERM end it with what was measured until then.
///
/// # Errors
/// The broker could not be reached or measured. The text has the reason.
pub fn measure(options: &Options) -> anyhow::Result<Measured> {
    match options.scenario {
        Scenario::Fairness => {
            let (text, is_good) = fairness::measure(options)?;
            return Ok(Measured { text, is_good });
        }
        _ => interrupt::watch()?,
    }
    let report = match options.scenario {
        scenario if scenario.has_phases() => phases::measure(options)?,
        scenario if scenario.moves_messages() => measure_traffic(options)?,
        _ => connections::measure(options)?,
    };
    if is_interrupted() {
        errln!("Interrupted: the figures are of the time until then.");
    }
    let text = match options.json {
        true => report.json(),
        false => report.text(),
    };
    Ok(Measured {
        text,
        is_good: report.faults.is_empty(),
    })
}

/// Resource usage of the broker and of this process at one moment.
struct UsageSample {
    at: Instant,
    broker: Option<Usage>,
    generator: Option<Usage>,
    published: u64,
    delivered: u64,
}

impl UsageSample {
    fn take(options: &Options, traffic: Option<&Traffic>) -> anyhow::Result<Self> {
        let counts = traffic.map(|traffic| traffic.counts).unwrap_or_default();
        Ok(Self {
            at: Instant::now(),
            broker: options.pid.map(process::usage).transpose()?,
            generator: process::usage(std::process::id()).ok(),
            published: counts.published,
            delivered: counts.delivered,
        })
    }
}

fn usages(before: &UsageSample, after: &UsageSample) -> Usages {
    Usages {
        broker: before.broker.clone().zip(after.broker.clone()),
        generator: before.generator.clone().zip(after.generator.clone()),
    }
}

/// Runs a scenario that sends messages for some time.
fn measure_traffic(options: &Options) -> anyhow::Result<Report> {
    let run = run_name();
    let plan = Plan::new(options, &run);
    let mut driver = Driver::new(options)?;
    let mut progress = Progress::new(options);
    driver.connect_all(&idle_purposes(options, &run), &mut progress, &mut Silence)?;
    let first_publisher = driver.connections.len();
    driver.connect_all(&purposes(options, &plan, &run), &mut progress, &mut Silence)?;
    if let Some(error) = driver.first_error.take() {
        anyhow::bail!("{} connections failed: {error}", driver.closed_count);
    }
    expect_measurable("while it connected")?;
    let epoch = Instant::now();
    let mut traffic = Traffic::new(options, &plan, driver.receive_maximum, epoch);
    traffic.set_connections(first_publisher, first_publisher + plan.publisher_count);
    let measure_from = epoch + Duration::from_secs_f64(options.warmup);
    let measure_to = measure_from + Duration::from_secs_f64(options.duration);
    traffic.measure_from = traffic.stamp(measure_from);
    traffic.measure_to = traffic.stamp(measure_to);
    traffic.credit_all();
    let mut course = Course::new(options, driver, traffic);
    course.drive_until(measure_from)?;
    expect_measurable("before the measurement began")?;
    let before = UsageSample::take(options, Some(&course.traffic))?;
    course.drive_until(measure_to)?;
    let after = UsageSample::take(options, Some(&course.traffic))?;
    course.settle()?;
    let (messages, faults) = judge(&course, &before, &after);
    let latencies = &course.traffic.latencies;
    let measured = after.at - before.at;
    let usages = usages(&before, &after);
    let mut report = Report::new(options, measured, latencies, &usages, messages.delivered);
    report.faults = faults;
    report.messages = Some(messages);
    // Behind the last acknowledgements: a session that ends before them has lost messages.
    let all = 0..course.driver.connections.len();
    if let Err(error) = course.driver.disconnect(all, &mut course.traffic) {
        errln!("Warning: {error:#}");
    }
    Ok(report)
}

/// Fails if a signal has come too early for figures.
fn expect_measurable(when: &str) -> anyhow::Result<()> {
    match interrupt::is_to_end() {
        true => anyhow::bail!("interrupted {when}: nothing was measured"),
        false => Ok(()),
    }
}

/// The connections of a plan, publishers first.
fn purposes(options: &Options, plan: &Plan, run: &str) -> Vec<Purpose> {
    let session = match options.persistent {
        true => SessionLife::Lasting,
        false => SessionLife::Passing,
    };
    let publishers = (0..plan.publisher_count).map(|index| Purpose {
        client_id: format!("bench-{run}-p{index}"),
        filters: Vec::new(),
        session,
    });
    let subscribers = plan.filters.iter().enumerate();
    let subscribers = subscribers.map(|(index, filters)| Purpose {
        client_id: format!("bench-{run}-s{index}"),
        filters: filters.clone(),
        session,
    });
    publishers.chain(subscribers).collect()
}

/// The additional idle connections.
fn idle_purposes(options: &Options, run: &str) -> Vec<Purpose> {
    (0..options.idle)
        .map(|index| Purpose {
            client_id: format!("bench-{run}-i{index}"),
            filters: Vec::new(),
            session: SessionLife::Passing,
        })
        .collect()
}

/// Evaluates the messages between two samples, and all faults of the whole run.
fn judge(course: &Course, before: &UsageSample, after: &UsageSample) -> (Messages, Vec<String>) {
    let (driver, traffic) = (&course.driver, &course.traffic);
    let secs = (after.at - before.at).as_secs_f64().max(1e-9);
    let published = after.published - before.published;
    let delivered = after.delivered - before.delivered;
    let messages = Messages {
        published,
        delivered,
        published_per_sec: published as f64 / secs,
        delivered_per_sec: delivered as f64 / secs,
        // What was cut short has messages on their way.
        lost: match interrupt::is_to_end() && !traffic.is_settled() {
            true => 0,
            false => traffic.lost(),
        },
        duplicated: traffic.counts.duplicated,
        reordered: traffic.counts.reordered,
        redelivered: traffic.counts.redelivered,
        refused: traffic.counts.refused,
    };
    let counted = [
        ("lost", messages.lost),
        ("duplicated", messages.duplicated),
        ("reordered", messages.reordered),
        ("refused", messages.refused),
    ];
    let mut faults: Vec<_> = counted
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} messages {what}"))
        .collect();
    if let Some(error) = &driver.first_error {
        faults.push(format!("{} connections lost: {error}", driver.closed_count));
    }
    if course.stalled {
        faults.push(format!("nothing moved for {STALL:?}"));
    }
    (messages, faults)
}

/// A unique name for a run, used in topics and client ids.
fn run_name() -> String {
    format!("{:08x}", random::number() as u32)
}
