//! `martlet events`: events of clients, one per line, live or from the archive.

mod archive;
mod moment;
mod options;
mod printer;

use std::ops::ControlFlow;
use std::process::ExitCode;

use martlet_control::event_kind::EventKind;
use martlet_control::text::printable;
use serde_json::Value;

use crate::cmd::admin::follow;
use crate::cmd::errors::error_text;
use crate::cmd::print::errln;
use crate::cmd::query::encoded;
use moment::moment;
pub(crate) use options::EventsOptions;
use printer::{Printer, at};

/// Kinds of events about messages. There may be very many, and they are created only while they
/// have a reader.
const OF_MESSAGES: &[EventKind] = &[
    EventKind::Published,
    EventKind::Delivered,
    EventKind::Packet,
];

/// The event for each dropped message; `dropped` combines them.
const EACH: EventKind = EventKind::DroppedMessage;

/// More events than the node keeps.
const ALL_KEPT: usize = 1_000_000;

/// Runs the command.
pub(crate) fn run(options: &EventsOptions) -> ExitCode {
    match show(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = error_text(&error);
            errln!("martlet: {}", printable(&error));
            ExitCode::FAILURE
        }
    }
}

fn show(options: &EventsOptions) -> anyhow::Result<()> {
    let mut printer = Printer::new(options);
    if options.archive {
        return archive::show(options, &mut printer);
    }
    let data_dir = options.admin.node.data_dir()?;
    let since = options.since.as_deref().map(moment).transpose()?;
    let target = target(options);
    let ended = follow(&data_dir, &target, |json| {
        let Ok(event) = serde_json::from_str::<Value>(json) else {
            return ControlFlow::Continue(());
        };
        // Events about losses have no time.
        if at(&event).is_some_and(|at| since.is_some_and(|since| at < since)) {
            return ControlFlow::Continue(());
        }
        printer.print(&event, json)
    })?;
    match ended {
        true => anyhow::bail!("the node has ended the stream"),
        false => Ok(()),
    }
}

fn target(options: &EventsOptions) -> String {
    let mut target = "/api/v1/events?".to_owned();
    let mut put = |name: &str, value: &str| {
        target.push_str(&format!("{name}={}&", encoded(value)));
    };
    let usual = || {
        let all = EventKind::ALL.iter();
        let of_clients = all.filter(|kind| options.topic.is_some() || !OF_MESSAGES.contains(kind));
        let names: Vec<&str> = of_clients
            .filter(|kind| **kind != EventKind::Packet && (**kind != EACH || options.each))
            .map(|kind| kind.name())
            .collect();
        names.join(",")
    };
    let kinds = match options.kinds.is_empty() {
        true => usual(),
        false => {
            let mut kinds = options.kinds.clone();
            kinds.extend(options.each.then(|| EACH.name().to_owned()));
            kinds.join(",")
        }
    };
    put("kinds", &kinds);
    if let Some(client) = &options.client {
        put("client", client);
    }
    if let Some(topic) = &options.topic {
        put("topic", topic);
    }
    if let Some(team) = &options.team {
        put("team", team);
    }
    if options.trouble {
        put("trouble", "true");
    }
    if options.since.is_some() {
        put("tail", &ALL_KEPT.to_string());
    }
    target.pop();
    target
}
