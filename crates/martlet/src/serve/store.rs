//! The message store: checks before it is opened, and its notices.

use std::path::Path;

use martlet_control::backup::unfinished_restore;
use martlet_reactor::{Restored, Running, StoreNotice};
use martlet_store::RealDisk;
use tracing::{error, info, warn};

/// Rejects an interrupted restore, which may have left a part of the backup, or nothing.
pub(crate) fn check_restored(data_dir: &Path) -> anyhow::Result<()> {
    match unfinished_restore(data_dir) {
        None => Ok(()),
        Some(unfinished) => anyhow::bail!(
            "a restore into {} was interrupted: run martlet backup restore again, or move the \
             directory away to start without data ({} shows this)",
            data_dir.display(),
            unfinished.display()
        ),
    }
}

/// Logs what the start has restored, and what it could not restore. Returns a note for operators
/// that remains visible longer than a log line.
pub(super) fn tell_restored(running: &Running) -> Option<String> {
    let Restored {
        opened,
        damage,
        restored,
        took,
    } = running.restored()?;
    for damage in damage {
        error!("the store is damaged: {damage}");
    }
    if let Some(torn) = &opened.torn {
        info!(
            file = torn.file,
            offset = torn.offset,
            "the end of the log was not synced: cut off"
        );
    }
    for damaged in &restored.damage {
        error!("cannot restore: {damaged}");
    }
    if restored.clock_behind_ms > 0 {
        warn!(
            secs = restored.clock_behind_ms as f64 / 1000.0,
            "the clock is behind its value when the node last ran: the expiry of sessions and \
             messages does not count the time when the node was not running"
        );
    }
    info!(
        run = restored.start,
        sessions = restored.sessions,
        subscriptions = restored.subscriptions,
        messages = restored.entries,
        retained = restored.retained,
        wills = restored.wills,
        routed_again = restored.routed_again,
        ms = took.as_millis() as u64,
        "restored"
    );
    let places = damage.len() + restored.damage.len();
    (places > 0).then(|| {
        format!(
            "The store was found damaged at the start ({}); the log of the start shows where, and \
             what is lost.",
            counted(places, "place")
        )
    })
}

/// Forwards notices of the store to the log. Ends with the store.
pub(super) fn pump_store_notices(running: &Running) {
    let Some(health) = running.store_health() else {
        return;
    };
    let notices = health.notices();
    std::thread::spawn(move || {
        for notice in notices {
            match notice {
                StoreNotice::Failing { error } => {
                    error!("the store cannot write, acknowledgements wait: {error}");
                }
                StoreNotice::Recovered { after } => {
                    let secs = after.as_secs_f32();
                    info!("the store writes again, after {secs:.1} s");
                }
                StoreNotice::Low { why } => error!("nothing more is stored: {why}"),
                StoreNotice::RoomAgain => info!("the store has room again"),
                StoreNotice::Unread { what } => {
                    error!("cannot read from the disk; retrying for some minutes: {what}");
                }
                StoreNotice::Unreadable { what } => error!("a message is lost: {what}"),
                StoreNotice::Unwritten { error } => {
                    error!("the store was closed before all was written: {error}");
                }
                other => warn!("the store: {other:?}"),
            }
        }
    });
}

/// Opens the directory of a store that no other process has open.
pub(crate) fn claim_store(directory: &Path) -> anyhow::Result<RealDisk> {
    claimed(directory, RealDisk::open(directory))
}

/// Opens the directory of such a store for reading only, even if the directory is read-only.
pub(crate) fn claim_store_to_read(directory: &Path) -> anyhow::Result<RealDisk> {
    claimed(directory, RealDisk::open_to_read(directory))
}

fn claimed(directory: &Path, opened: std::io::Result<RealDisk>) -> anyhow::Result<RealDisk> {
    opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => anyhow::anyhow!(
            "the store {} is in use; stop that process first",
            directory.display()
        ),
        _ => anyhow::Error::new(error).context(format!("cannot open {}", directory.display())),
    })
}

/// A count with its noun in the right number.
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
