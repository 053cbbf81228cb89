//! Effects of the limit of open files: how many clients may connect, and the message if the limit
//! is too low.

use std::io;

use martlet_reactor::Descriptors;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::config::NodeConfig;

/// Error of a node that could not open one more file or socket, and so did not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "too few file descriptors: this process may have {limit} files open (ulimit -n), and a node \
     with {threads} threads needs at least {least}, and one more for each client; raise the limit: \
     `ulimit -n 65536` in this shell, or LimitNOFILE=65536 in the unit of systemd"
)]
struct TooFewOpenFiles {
    limit: String,
    threads: usize,
    least: u64,
}

/// Descriptors of a node with one MQTT listener and one HTTP listener before the first client
/// connects, including the reserve.
fn least(threads: usize) -> u64 {
    const OF_NODE: u64 = 56;
    const OF_THREAD: u64 = 3;
    let threads = u64::try_from(threads).unwrap_or(u64::MAX);
    OF_NODE.saturating_add(OF_THREAD.saturating_mul(threads))
}

/// Replaces the error of a start that failed for lack of descriptors by one with the cause and the
/// remedy: the last file to be opened is not the cause.
pub(super) fn explained(error: anyhow::Error, threads: usize) -> anyhow::Error {
    let few = Some(Errno::MFILE.raw_os_error());
    let is_few = error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.raw_os_error() == few)
    });
    if !is_few {
        return error;
    }
    let limit = getrlimit(Resource::Nofile).current;
    anyhow::Error::new(TooFewOpenFiles {
        limit: limit.map_or_else(|| "few".to_owned(), |limit| limit.to_string()),
        threads,
        least: least(threads),
    })
}

/// The number of possible connections and the limit that determines it.
pub(super) fn connections_line(node: &NodeConfig, most: u64, descriptors: &Descriptors) -> String {
    let Some(limit) = descriptors
        .limit
        .filter(|_| most < u64::from(node.settings.limits.connections))
    else {
        return format!("at most {most} connections (limits.connections)");
    };
    let kept = descriptors.reserved;
    let open = limit.saturating_sub(kept.saturating_add(descriptors.connections));
    match descriptors.connections {
        0 | 1 => format!(
            "at most {most} connections: {limit} files may be open (ulimit -n), which is too few: \
             a node needs at least {}, and one more for each client",
            least(node.threads)
        ),
        _ => format!(
            "at most {most} connections: {limit} files may be open (ulimit -n); the node has \
             opened {open} of them, and keeps {kept} for the store, the tables, HTTP and \
             admin.sock"
        ),
    }
}
