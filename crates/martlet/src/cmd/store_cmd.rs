//! `martlet store`: inspects and repairs the message store of a node that is not running.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use martlet_persistence::DamageWords;
use martlet_store::{Damage, Options, RealDisk, Stats};

use crate::cmd::node_options::NodeOptions;
use crate::cmd::print::{errln, outln};
use crate::serve::{check_restored, claim_store, claim_store_to_read, give_files_to_owner_of};

/// Arguments of `martlet store`.
#[derive(Args, Debug)]
pub(crate) struct StoreCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Read the whole store and report each damaged place
    ///
    /// Nothing is changed. Files whose names end with .damaged are not read: see repair.
    ///
    /// Exit code 0: nothing is damaged. 1: something is damaged. 2: the store cannot be read, or a
    /// process has it open.
    Check(StoreOptions),
    /// Remove only the damaged data, so that the store opens without errors
    ///
    /// An unusable checkpoint, or an unusable segment of another node, is not removed but renamed
    /// with the suffix .damaged, by this command and at a start. No program reads such a file
    /// again: keep it to analyse the damage, or remove it. Copy the directory first if its data are
    /// valuable.
    ///
    /// Exit code 0: the store opens without errors now, and all losses were reported. 1: it opens
    /// without errors, but a checkpoint was lost: messages may be repeated, and more messages may
    /// be lost than can be reported. 2: it was not repaired.
    Repair(StoreOptions),
    /// Print the contents and the size of the store
    ///
    /// Exit code 0: they were printed. 2: the store cannot be read, or a process has it open.
    Stats(StoreOptions),
}

/// Which store, and how to print.
#[derive(Args, Debug)]
struct StoreOptions {
    #[command(flatten)]
    node: NodeOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(command: &StoreCommand) -> ExitCode {
    let mut is_guessed = false;
    let outcome = match &command.action {
        Action::Check(options) => {
            inspect(options, claim_store_to_read, "damaged", |disk, print| {
                let mut words = DamageWords::default();
                Ok(martlet_store::check_with(disk, |engine, damage| {
                    print(&damage, words.describe(engine, &damage));
                })?)
            })
        }
        Action::Repair(options) => inspect(options, claim_store, REPAIRED, |disk, print| {
            let mut words = DamageWords::default();
            let options = Options {
                tenant_of: Some(martlet_persistence::tenant_of),
                ..Options::default()
            };
            martlet_store::repair_with(disk, options, |engine, damage| {
                is_guessed |= damage.lost.is_unnamed();
                print(&damage, words.describe(engine, &damage));
            })?;
            Ok(Stats::default())
        })
        .and_then(|code| give_store(options).map(|()| code))
        .map(|_| match is_guessed {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        }),
        Action::Stats(options) => stats(options),
    };
    outcome.unwrap_or_else(|error| {
        errln!("martlet: {error:#}");
        ExitCode::from(2)
    })
}

/// Files that root has created in the store get the owner of the store.
fn give_store(options: &StoreOptions) -> anyhow::Result<()> {
    let store = options
        .node
        .data_dir_at_rest()?
        .join(martlet_control::backup::STORE);
    give_files_to_owner_of(&store, &store)
}

/// How a store is opened: for changes or read-only.
type Claim = fn(&Path) -> anyhow::Result<RealDisk>;

fn opened(options: &StoreOptions, claim: Claim) -> anyhow::Result<RealDisk> {
    let data_dir = options.node.data_dir_at_rest()?;
    check_restored(&data_dir)?;
    let store = data_dir.join(martlet_control::backup::STORE);
    if !store.is_dir() {
        bail!(
            "{} has no store: nothing has been kept there yet",
            data_dir.display()
        );
    }
    claim(&store)
}

/// Text of [`inspect`] for damaged places that have been repaired.
const REPAIRED: &str =
    "damaged parts removed; everything else is kept, and the store opens without errors";

/// Prints each damaged place found by `look`, then their number and state. Returns exit code 1 if
/// there are any.
fn inspect(
    options: &StoreOptions,
    claim: Claim,
    are: &str,
    look: impl FnOnce(RealDisk, &mut dyn FnMut(&Damage, String)) -> anyhow::Result<Stats>,
) -> anyhow::Result<ExitCode> {
    let disk = opened(options, claim)?;
    let path = disk.path().to_owned();
    let mut found = 0_u64;
    let mut print = |damage: &Damage, text: String| {
        found += 1;
        if options.json {
            let line = serde_json::json!({
                "file": damage.file,
                "offset": damage.offset,
                "error": damage.error,
                "text": text,
            });
            outln!("{line}");
        } else {
            outln!("{text}");
        }
    };
    look(disk, &mut print).with_context(|| format!("store {}", path.display()))?;
    if !options.json {
        match found {
            0 => outln!("{}: no damage", path.display()),
            found => outln!("{}: {found} {are}", path.display()),
        };
    }
    Ok(match found {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn stats(options: &StoreOptions) -> anyhow::Result<ExitCode> {
    let disk = opened(options, claim_store_to_read)?;
    let stats = martlet_store::stats(disk)?;
    let rows = rows(&stats);
    if options.json {
        let object: serde_json::Map<_, _> = rows
            .iter()
            .map(|(name, value, _)| ((*name).to_owned(), (*value).into()))
            .collect();
        outln!("{}", serde_json::Value::Object(object));
    } else {
        for (name, value, what) in rows {
            outln!("{name:<18} {value:>14}  {what}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(stats: &Stats) -> [(&'static str, u64, &'static str); 11] {
    [
        ("segments", stats.segments as u64, "files of the log"),
        (
            "disk_bytes",
            stats.disk_bytes,
            "all files, with what is free in them",
        ),
        (
            "live_bytes",
            stats.live_bytes,
            "messages and states that are needed",
        ),
        ("dead_bytes", stats.dead_bytes, "to be reclaimed"),
        ("messages", stats.bodies as u64, "each stored once"),
        (
            "entries",
            stats.entries as u64,
            "messages in queues and in flight",
        ),
        (
            "queues",
            stats.queues as u64,
            "sessions and share groups with messages to receive",
        ),
        (
            "states",
            stats.states as u64,
            "sessions, subscriptions, Wills, share groups",
        ),
        (
            "tail_bytes",
            stats.tail_bytes,
            "read at a start, after the checkpoint",
        ),
        (
            "checkpoint_bytes",
            stats.checkpoint_bytes,
            "of one of its two copies",
        ),
        (
            "index_bytes",
            stats.index_bytes as u64,
            "in memory, near enough",
        ),
    ]
}
