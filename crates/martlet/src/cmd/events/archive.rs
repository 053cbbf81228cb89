//! `martlet events --archive`: archived events of a running or stopped node.

use std::ops::ControlFlow;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use martlet_control::event_archive::{ArchiveQuery, DIRECTORY, read_files};
use martlet_control::feed::Kinds;
use serde_json::Value;

use super::moment::moment;
use super::options::EventsOptions;
use super::printer::Printer;
use crate::cmd::admin::{ask, is_running};
use crate::cmd::query::encoded;

/// Events of one page.
const PAGE: usize = 1_000;
/// Default start of the period.
const SINCE: SignedDuration = SignedDuration::from_hours(24);

/// Prints the events that match, the oldest one first.
pub(super) fn show(options: &EventsOptions, printer: &mut Printer) -> anyhow::Result<()> {
    let data_dir = options.admin.node.data_dir()?;
    let from = match &options.since {
        Some(text) => moment(text)?,
        None => Timestamp::now() - SINCE,
    };
    let until = options.until.as_deref().map(moment).transpose()?;
    match is_running(&data_dir) {
        true => of_node(options, &data_dir, from, until, printer),
        false => of_files(options, &data_dir, from, until, printer),
    }
}

/// Requests the events from the node, page by page.
fn of_node(
    options: &EventsOptions,
    data_dir: &Path,
    from: Timestamp,
    until: Option<Timestamp>,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let mut target = format!("/api/v1/events/archive?limit={PAGE}");
    let until = until.map(|until| until.to_string());
    let kinds = (!options.kinds.is_empty()).then(|| options.kinds.join(","));
    for (name, value) in [
        ("from", Some(&from.to_string())),
        ("to", until.as_ref()),
        ("kinds", kinds.as_ref()),
        ("client", options.client.as_ref()),
        ("topic", options.topic.as_ref()),
        ("team", options.team.as_ref()),
    ] {
        if let Some(value) = value {
            target.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    let mut cursor = String::new();
    loop {
        let page = ask(data_dir, "GET", &format!("{target}{cursor}"))?;
        let page: Value = serde_json::from_str(&page)?;
        for event in page["items"].as_array().into_iter().flatten() {
            if printer.print(event, &event.to_string()) == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => return Ok(()),
        }
    }
}

/// Reads the files of a node that does not run.
fn of_files(
    options: &EventsOptions,
    data_dir: &Path,
    from: Timestamp,
    until: Option<Timestamp>,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let directory = data_dir.join(DIRECTORY);
    if options.team.is_some() {
        anyhow::bail!("--team: the node does not run, so teams are not known; leave it out");
    }
    if !directory.is_dir() {
        anyhow::bail!(
            "{}: there are no archived events; a node archives them if events.archive_kinds is set",
            directory.display()
        );
    }
    let ms = |at: Timestamp| u64::try_from(at.as_millisecond()).unwrap_or(0);
    let kinds = match options.kinds.is_empty() {
        true => Kinds::all(),
        false => Kinds::parse(&options.kinds.join(","))?,
    };
    let mut query = ArchiveQuery {
        tenant: None,
        from_ms: ms(from),
        until_ms: until.map_or(u64::MAX, ms),
        kinds,
        client: options.client.clone(),
        topic: options.topic.clone(),
        limit: PAGE,
        after: None,
    };
    loop {
        let page = read_files(&directory, &query)?;
        for event in &page.events {
            if printer.print(event, &event.to_string()) == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        if page.next.is_none() {
            return Ok(());
        }
        query.after = page.next;
    }
}
