//! `cargo xtask docs [--check]`, `cargo xtask tidy`, `cargo xtask lines` and `cargo xtask test`.

use std::io::{Result, Write};
use std::process::ExitCode;

use xtask::Form;

/// Number of test programs that run at once.
const AT_ONCE: usize = 2;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  docs           Generate the pages below docs/, and list statements without a test
  docs --check   Fail if one of them is stale
  tidy           Check the rules about the repository
  lines          Count the lines of `martlet why`, without tests
  test [FORM]    Run tests of crates, two programs at a time: quick, all (default) or long
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["docs"] => write_docs(),
        ["docs", "--check"] => check_docs(),
        ["tidy"] => tidy(),
        ["lines"] => count_lines(),
        ["test"] => xtask::run_tests(Form::All, AT_ONCE),
        ["test", name] if let Some(form) = Form::of_name(name) => xtask::run_tests(form, AT_ONCE),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_docs() -> Result<bool> {
    let (pages, conformance) = xtask::all_pages()?;
    for page in pages.iter().filter(|page| page.is_stale()) {
        page.write()?;
        eprintln!("{} written", page.path);
    }
    let untested = conformance.untested();
    let (count, lines) = (untested.len(), untested.join("\n  "));
    let text = format!("{count} statements that bind a server have no test:\n  {lines}\n");
    // The reader may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(true)
}

fn check_docs() -> Result<bool> {
    let (pages, _) = xtask::all_pages()?;
    let stale: Vec<_> = pages.iter().filter(|page| page.is_stale()).collect();
    for page in &stale {
        eprintln!("{} is stale: run `cargo xtask docs`", page.path);
    }
    Ok(stale.is_empty())
}

fn tidy() -> Result<bool> {
    let problems = xtask::problems(&xtask::source_files()?);
    for problem in &problems {
        eprintln!("{problem}");
    }
    Ok(problems.is_empty())
}

fn count_lines() -> Result<bool> {
    let all = xtask::why_lines(&xtask::source_files()?);
    let sum: usize = all.iter().map(|(_, count)| count).sum();
    for (what, count) in all.into_iter().chain([("together", sum)]) {
        println!("{count:6} {what}");
    }
    Ok(true)
}
