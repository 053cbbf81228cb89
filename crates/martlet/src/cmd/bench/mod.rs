//! bench
use std::process::ExitCode;
mod histogram;
mod process;
mod sequence;
#[derive(clap::Args, Debug)]
pub(crate) struct BenchOptions {}
pub(crate) fn run(_: BenchOptions) -> ExitCode {
    ExitCode::SUCCESS
}
