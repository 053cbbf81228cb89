//! `martlet stop`: stops a running node, and waits until it has ended.
//!
//! A node has ended when its data directory is unlocked: then its store is closed, and another node
//! may start there. Unlike process ids, the lock works across containers.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use martlet_api::Status;

use crate::cmd::admin::{self, AdminOptions};
use crate::cmd::print::{errln, outln};
use crate::serve::data_dir;

/// Exit code if the node has not ended in time.
const STILL_RUNNING: u8 = 2;

/// Interval at which the command checks whether the node has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Interval of progress reports.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Options of `martlet stop`.
#[derive(Args, Debug)]
pub(crate) struct StopOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Seconds to wait until it has ended; the default is that of systemd; with 0 it does not wait
    #[arg(long, value_name = "SECS", default_value_t = 90)]
    timeout: u64,
}

/// `martlet stop`.
pub(crate) fn run(options: &StopOptions) -> ExitCode {
    stop(options).unwrap_or_else(|error| {
        errln!("martlet: {error:#}");
        ExitCode::FAILURE
    })
}

fn stop(options: &StopOptions) -> anyhow::Result<ExitCode> {
    let data_dir = options.admin.node.data_dir()?;
    let claim = data_dir::claimed(&data_dir);
    admin::ask(&data_dir, "POST", "/api/v1/shutdown")?;
    let json = options.admin.json;
    let began = Instant::now();
    if options.timeout == 0 {
        print(json, "stopping", began);
        return Ok(ExitCode::SUCCESS);
    }
    let mut reported = began;
    let runs = || match &claim {
        Some(claim) => data_dir::claimed(&data_dir).as_ref() == Some(claim),
        // The file system has no locks: the socket is removed when the store is closed.
        None => admin::is_running(&data_dir),
    };
    while runs() {
        if began.elapsed() >= Duration::from_secs(options.timeout) {
            print(json, "still stopping", began);
            return Ok(ExitCode::from(STILL_RUNNING));
        }
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            errln!("{}", progress(&data_dir, began.elapsed()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    print(json, "stopped", began);
    Ok(ExitCode::SUCCESS)
}

/// Describes what the node is waiting for, as far as it still responds.
fn progress(data_dir: &Path, waited: Duration) -> String {
    let secs = waited.as_secs();
    let status = admin::ask(data_dir, "GET", "/api/v1/status");
    let status = status.and_then(|body| Ok(serde_json::from_str::<Status>(&body)?));
    let what = match status.map_or(0, |status| status.sockets_open) {
        // It no longer responds, or has no clients left to wait for.
        0 => "until the store is written and closed".to_owned(),
        1 => "for 1 client to receive its last output".to_owned(),
        count => format!("for {count} clients to receive their last output"),
    };
    format!("stopping for {secs} s: waiting {what}")
}

fn print(json: bool, state: &str, began: Instant) {
    let secs = began.elapsed().as_secs_f64();
    let line = match json {
        true => serde_json::json!({ "status": state, "secs": secs }).to_string(),
        false => format!("{state} ({secs:.1} s)"),
    };
    // The reader may have closed the pipe.
    outln!("{line}");
}
