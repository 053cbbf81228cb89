//! `martlet-sim`: runs seeds, prints their results, and repeats one with its log.

use std::process::ExitCode;
use std::time::Instant;

use martlet_sim::{Kind, Line, Outcome, Scenario};

const USAGE: &str = "\
martlet-sim: the whole broker in virtual time

  --seeds N       run N seeds (default 1000)
  --hours H       run seeds until H hours of real time have passed
  --first S       the first seed (default 0)
  --seed S        run this one
  --log           with --seed: print every fact
  --scenario K    everything, sharing, retaining, wills, bounded, churn,
                  arriving, backlog, parts, rules or steady (default: by seed)
  --help          print this

Exit code 0: nothing was found. 1: a seed failed. 2: wrong arguments.";

/// Options that are followed by a value.
const WITH_VALUE: [&str; 5] = ["--seeds", "--hours", "--first", "--seed", "--scenario"];

struct Options {
    seeds: u64,
    hours: Option<f64>,
    first: u64,
    seed: Option<u64>,
    log: bool,
    kind: Option<Kind>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match options.seed {
        Some(seed) => run_one(seed, &options),
        None => run_many(&options),
    }
}

/// The parsed options; `None` if help was requested.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        seeds: 1000,
        hours: None,
        first: 0,
        seed: None,
        log: false,
        kind: None,
    };
    while let Some(name) = args.next() {
        if name == "--log" {
            options.log = true;
            continue;
        }
        if name == "--help" || name == "-h" {
            return Ok(None);
        }
        if !WITH_VALUE.contains(&name.as_str()) {
            return Err(format!("unknown option {name}"));
        }
        let value = args.next().ok_or(format!("{name} needs a value"))?;
        let number = || {
            value
                .parse()
                .map_err(|_| format!("{name}: {value} is not a number"))
        };
        match name.as_str() {
            "--seeds" => options.seeds = number()?,
            "--first" => options.first = number()?,
            "--seed" => options.seed = Some(number()?),
            "--hours" => {
                let hours = value
                    .parse()
                    .map_err(|_| format!("{value} is not a number"))?;
                options.hours = Some(hours);
            }
            // The remaining option with a value: --scenario.
            _ => {
                let kind = Kind::from_name(&value).ok_or(format!("no scenario {value}"))?;
                options.kind = Some(kind);
            }
        }
    }
    Ok(Some(options))
}

fn scenario(seed: u64, options: &Options) -> Scenario {
    Scenario::new(options.kind.unwrap_or(Kind::of_seed(seed)), seed)
}

fn run_one(seed: u64, options: &Options) -> ExitCode {
    let begun = Instant::now();
    let outcome = scenario(seed, options).run(options.log);
    for (at_us, line) in outcome.observer.log.iter().flatten() {
        match line {
            Line::Fact(fact) => println!("{}", fact.line(*at_us, &outcome.observer.ledger)),
            Line::Note(what) => println!("{:>12.6}{what}", *at_us as f64 / 1e6),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let virtual_seconds = outcome.virtual_us as f64 / 1e6;
    println!(
        "seed {seed}: {virtual_seconds:.0} s in {seconds:.3} s ({:.0} times real time), \
         {} events, {} messages",
        virtual_seconds / seconds,
        outcome.events,
        outcome.messages,
    );
    match report(seed, &outcome, options) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn run_many(options: &Options) -> ExitCode {
    let begun = Instant::now();
    let (mut done, mut failed, mut virtual_us, mut messages) = (0_u64, 0_u64, 0_u64, 0_usize);
    let mut seed = options.first;
    loop {
        let more = match options.hours {
            Some(hours) => begun.elapsed().as_secs_f64() < hours * 3600.0,
            None => done < options.seeds,
        };
        if !more {
            break;
        }
        let outcome = scenario(seed, options).run(false);
        failed += u64::from(!report(seed, &outcome, options));
        virtual_us += outcome.virtual_us;
        messages += outcome.messages;
        done += 1;
        seed += 1;
        if done.is_multiple_of(500) {
            eprintln!(
                "{done} seeds, {failed} failed, {:.0} s",
                begun.elapsed().as_secs_f64()
            );
        }
    }
    let hours = begun.elapsed().as_secs_f64() / 3600.0;
    let virtual_hours = virtual_us as f64 / 3.6e9;
    println!(
        "{done} seeds, {failed} failed, {messages} messages; {virtual_hours:.1} simulated hours \
         in {:.1} s: {:.0} per real hour",
        hours * 3600.0,
        virtual_hours / hours,
    );
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Prints the violation and the command to repeat it; true if there is none.
fn report(seed: u64, outcome: &Outcome, options: &Options) -> bool {
    let Some(first) = outcome.observer.findings.violations.first() else {
        return true;
    };
    let seconds = first.at_us as f64 / 1e6;
    let kind = options.kind.unwrap_or(Kind::of_seed(seed)).name();
    println!(
        "seed {seed} failed at {seconds:.6} s: {}: {}\n  \
         cargo run --release -p martlet-sim -- --seed {seed} --scenario {kind} --log",
        first.check, first.what,
    );
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_no_error_and_an_unknown_option_is_named() {
        let parse = |args: &[&str]| parse(args.iter().map(|arg| (*arg).to_owned()));
        assert!(parse(&["--log", "--help"]).is_ok_and(|options| options.is_none()));
        assert!(
            parse(&["--seeds", "7"]).is_ok_and(|options| options.is_some_and(|o| o.seeds == 7))
        );
        for args in [&["--sedes"][..], &["--sedes", "7"]] {
            assert_eq!(parse(args).err().as_deref(), Some("unknown option --sedes"));
        }
    }
}
