//! Tests of output generated from the definition of the command line.

use std::process::Command;

use crate::support::TempDir;

fn martlet(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_martlet"))
        .args(args)
        .output();
    let output = output.expect("martlet starts");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[test]
fn completions_know_the_commands_and_their_options() {
    for shell in ["bash", "zsh", "fish"] {
        let (success, script) = martlet(&["completions", shell]);
        assert!(success);
        for word in ["bench", "will-topic", "retained-only"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = TempDir::new();
    let path = directory.0.join("pages");
    let (success, _) = martlet(&["man", &path.display().to_string()]);
    assert!(success);
    for page in [
        "martlet.1",
        "martlet-pub.1",
        "martlet-sub.1",
        "martlet-rr.1",
        "martlet-bench.1",
    ] {
        assert!(path.join(page).is_file(), "{page}");
    }
}

#[test]
fn help_is_long_only_on_mosquittos_commands() {
    for command in ["pub", "sub", "rr"] {
        let (success, help) = martlet(&[command, "--help"]);
        assert!(success && help.contains("-h, --host <host>"), "{help}");
    }
}
