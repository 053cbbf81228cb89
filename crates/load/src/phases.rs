//! The scenarios retained and offline: a given number of messages is first stored and then fetched.
//!
//! Responsible for the two phases, for the costs of each, and for removing all their state from the
//! broker. MQTT 5.0 §3.3.1.3, §4.1.

use std::time::{Duration, Instant};

use super::course::Course;
use super::driver::{Driver, Purpose, SessionLife};
use super::histogram::Histogram;
use super::interrupt;
use super::options::{Options, Scenario};
use super::plan::Plan;
use super::progress::Progress;
use super::publishing::Form;
use super::report::{Phase, Report};
use super::traffic::Traffic;
use super::{
    STALL, UsageSample, connections::Silence, expect_measurable, idle_purposes, judge, run_name,
    usages,
};

use crate::notes::errln;

/// How long CPU time is counted after a phase, for work that a broker defers.
const AFTERMATH: Duration = Duration::from_millis(100);

/// Names of the two phases.
fn names(scenario: Scenario) -> (&'static str, &'static str) {
    match scenario {
        Scenario::Retained => ("store", "fetch"),
        _ => ("fill", "drain"),
    }
}

/// Runs the scenario retained or offline.
pub(super) fn measure(options: &Options) -> anyhow::Result<Report> {
    let run = run_name();
    let plan = Plan::new(options, &run);
    let is_offline = options.scenario == Scenario::Offline;
    let mut driver = Driver::new(options)?;
    let mut progress = Progress::new(options);
    driver.connect_all(&idle_purposes(options, &run), &mut progress, &mut Silence)?;
    let first_subscriber = driver.connections.len();
    if is_offline {
        driver.connect_all(
            &subscribers(&plan, &run, SessionLife::Kept),
            &mut progress,
            &mut Silence,
        )?;
        let end = driver.connections.len();
        driver.disconnect(first_subscriber..end, &mut Silence)?;
    }
    let first_publisher = driver.connections.len();
    driver.connect_all(&publishers(&plan, &run), &mut progress, &mut Silence)?;
    give_up_without_connections(&driver)?;
    expect_measurable("while it connected")?;
    let mut traffic = Traffic::new(options, &plan, driver.receive_maximum, Instant::now());
    traffic.set_connections(first_publisher, first_publisher + plan.publisher_count);
    let mut course = Course::new(options, driver, traffic);

    let begun = UsageSample::take(options, Some(&course.traffic))?;
    let stored = store(options, &plan, &mut course)?;
    if interrupt::is_to_end() {
        remove(options, &plan, &run, &mut course);
        anyhow::bail!("interrupted while messages were stored: nothing was measured");
    }
    if !course.traffic.is_settled() {
        // Unacknowledged messages are not lost, and a rate would be meaningless.
        course.progress.clear();
        let why = course.driver.first_error.take();
        let why = why.unwrap_or_else(|| format!("no answer for {STALL:?}"));
        anyhow::bail!("not all messages were acknowledged while they were stored: {why}");
    }
    let phases = vec![stored, fetch(options, &plan, &run, &mut course)?];
    let ended = UsageSample::take(options, Some(&course.traffic))?;
    let (messages, faults) = judge(&course, &begun, &ended);
    if faults.is_empty() {
        remove(options, &plan, &run, &mut course);
    }
    let usages = usages(&begun, &ended);
    let measured = ended.at - begun.at;
    let mut report = Report::new(
        options,
        measured,
        &Histogram::new(),
        &usages,
        messages.delivered,
    );
    report.messages = Some(messages);
    report.faults = faults;
    report.phases = phases;
    Ok(report)
}

/// Removes what was stored, unless it is to be kept.
fn remove(options: &Options, plan: &Plan, run: &str, course: &mut Course) {
    if options.keep {
        return;
    }
    if interrupt::is_to_end() {
        errln!("Interrupted: what was stored is removed; interrupt again to leave it.");
        interrupt::go_on();
    }
    if let Err(error) = clean_up(options, plan, run, course) {
        errln!("Warning: what was stored was not removed: {error:#}");
    }
}

/// Publishes all messages and waits until they are acknowledged.
fn store(options: &Options, plan: &Plan, course: &mut Course) -> anyhow::Result<Phase> {
    let form = Form {
        version: options.version,
        qos: options.qos(),
        retain: options.scenario == Scenario::Retained,
        payload_bytes: options.payload as usize,
    };
    let before = UsageSample::take(options, None)?;
    publish_all(options, plan, course, form)?;
    let name = names(options.scenario).0;
    finish(options, name, &before, u64::from(options.messages))
}

fn publish_all(
    options: &Options,
    plan: &Plan,
    course: &mut Course,
    form: Form,
) -> anyhow::Result<()> {
    let count = u64::from(options.messages);
    course.traffic.fill(options, plan, count, form);
    course.drive_while("stored", |traffic| !traffic.is_all_sent())?;
    course.traffic.ping(&mut course.driver);
    course.drive_while("stored", |traffic| !traffic.is_settled())
}

/// Connects the subscribers and waits until they have received all messages.
fn fetch(options: &Options, plan: &Plan, run: &str, course: &mut Course) -> anyhow::Result<Phase> {
    let copies = match options.scenario {
        Scenario::Retained => plan.subscriber_count() as u64,
        _ => 1,
    };
    let count = u64::from(options.messages) * copies;
    course.traffic.undelivered = count;
    let first_subscriber = course.driver.connections.len();
    course.traffic.set_first_subscriber(first_subscriber);
    let before = UsageSample::take(options, None)?;
    let purposes = subscribers(plan, run, session(options));
    let Course {
        driver,
        traffic,
        progress,
        ..
    } = course;
    driver.connect_all(&purposes, progress, traffic)?;
    course.drive_while("fetched", |traffic| !traffic.is_settled())?;
    let at = Instant::now();
    // Waits for the last acknowledgements.
    course.drive_until(at + AFTERMATH)?;
    let after = UsageSample::take(options, None)?;
    let took = at - before.at;
    let name = names(options.scenario).1;
    let fetched = count.saturating_sub(course.traffic.undelivered);
    Ok(Phase::new(name, took, &usages(&before, &after), fetched))
}

fn finish(
    options: &Options,
    name: &'static str,
    before: &UsageSample,
    count: u64,
) -> anyhow::Result<Phase> {
    let took = before.at.elapsed();
    std::thread::sleep(AFTERMATH);
    let after = UsageSample::take(options, None)?;
    Ok(Phase::new(name, took, &usages(before, &after), count))
}

/// Removes the sessions or the retained messages.
fn clean_up(options: &Options, plan: &Plan, run: &str, course: &mut Course) -> anyhow::Result<()> {
    let first = course.traffic.first_subscriber();
    let end = course.driver.connections.len();
    course.driver.disconnect(first..end, &mut course.traffic)?;
    if options.scenario == Scenario::Retained {
        let form = Form {
            version: options.version,
            qos: options.qos(),
            retain: true,
            payload_bytes: 0,
        };
        return publish_all(options, plan, course, form);
    }
    let Course {
        driver, progress, ..
    } = course;
    driver.connect_all(
        &subscribers(plan, run, SessionLife::Passing),
        progress,
        &mut Silence,
    )?;
    let connected = driver.connections.len();
    driver.disconnect(end..connected, &mut Silence)
}

/// The session requested by a fetching subscriber.
fn session(options: &Options) -> SessionLife {
    match options.scenario {
        Scenario::Offline => SessionLife::Kept,
        _ => SessionLife::Passing,
    }
}

fn publishers(plan: &Plan, run: &str) -> Vec<Purpose> {
    (0..plan.publisher_count)
        .map(|index| Purpose {
            client_id: format!("bench-{run}-p{index}"),
            filters: Vec::new(),
            session: SessionLife::Passing,
        })
        .collect()
}

/// The subscribers, with their filters unless the session already contains them.
fn subscribers(plan: &Plan, run: &str, session: SessionLife) -> Vec<Purpose> {
    let filters = plan.filters.iter().enumerate();
    filters
        .map(|(index, filters)| Purpose {
            client_id: format!("bench-{run}-s{index}"),
            filters: filters.clone(),
            session,
        })
        .collect()
}

fn give_up_without_connections(driver: &Driver) -> anyhow::Result<()> {
    match &driver.first_error {
        Some(error) => anyhow::bail!("{} connections failed: {error}", driver.closed_count),
        None => Ok(()),
    }
}
