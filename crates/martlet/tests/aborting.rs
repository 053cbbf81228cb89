//! Tests of panics in a program built with `panic = "abort"`, like the release profile: a caught
//! panic ends its thread, every other panic ends the process.
//!
//! Tests are always built with unwinding panics. So a small program is compiled here, with this
//! program's panic hook and the libraries of the tests.

#![allow(clippy::unwrap_used)] // A panic here is a failed assertion.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SIGABRT: i32 = 6;
const CRATE: &str = "martlet_integrate";

/// The program: it panics inside a catch, or outside of it if it has an argument.
fn source() -> String {
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/panics.rs");
    format!(
        r#"
        #[path = {hook:?}]
        mod panics;

        fn main() {{
            assert!(cfg!(panic = "abort"));
            panics::end_the_process();
            for at in 0..2 {{
                let lost = martlet_integrate::apart::<()>(move || panic!("at {{at}}"));
                assert_eq!(lost, Err(format!("at {{at}}")));
            }}
            if std::env::args().count() > 1 {{
                panic!("not caught");
            }}
            println!("reached");
        }}
        "#
    )
}

/// Libraries of this name next to this test. An earlier build may have left others.
fn libraries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.starts_with(&format!("lib{CRATE}-")) && name.ends_with(".rlib")
    };
    entries.map(|entry| entry.path()).filter(is_ours).collect()
}

fn compile(source: &Path, library: &Path, program: &Path) -> Output {
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    let compiler = cargo.map(|cargo| cargo.with_file_name("rustc"));
    let compiler = compiler.filter(|path| path.exists());
    let directory = library.parent().unwrap();
    let mut command = Command::new(compiler.unwrap_or_else(|| "rustc".into()));
    command
        .args([
            "--edition",
            "2024",
            "-C",
            "panic=abort",
            "-C",
            "debuginfo=0",
        ])
        .arg(source)
        .arg("-o")
        .arg(program)
        .arg("--extern")
        .arg(format!("{CRATE}={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", directory.display()));
    command.output().unwrap()
}

#[test]
fn a_caught_panic_costs_its_thread_where_panics_are_not_unwound() {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("aborting");
    fs::create_dir_all(&place).unwrap();
    let (text, program) = (place.join("main.rs"), place.join("program"));
    fs::write(&text, source()).unwrap();
    let test = std::env::current_exe().unwrap();
    let libraries = libraries(test.parent().unwrap());
    let mut told = String::new();
    let is_compiled = libraries.iter().any(|library| {
        let done = compile(&text, library, &program);
        told.push_str(&String::from_utf8_lossy(&done.stderr));
        done.status.success()
    });
    assert!(is_compiled, "{libraries:?}: {told}");
    let caught = Command::new(&program).output().unwrap();
    assert!(caught.status.success(), "{caught:?}");
    assert_eq!(String::from_utf8_lossy(&caught.stdout).trim(), "reached");
    let ended = Command::new(&program).arg("more").output().unwrap();
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{ended:?}");
}
