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
fn scripts_of_completions_are_small() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (success, script) = martlet(&["completions", shell]);
        assert!(success && script.contains("martlet"), "{shell}: {script}");
        assert!(script.len() <= 60_000, "{shell}: {} bytes", script.len());
    }
}

/// Completes the last of its arguments, as bash does when TAB is pressed.
const COMPLETE_IN_BASH: &str = r#"
    source <("$PROGRAM" completions bash)
    [[ $(complete -p martlet) =~ \ -F\ ([^ ]+) ]]
    COMP_WORDS=(martlet "$@"); COMP_CWORD=$#; COMP_TYPE=9
    "${BASH_REMATCH[1]}" martlet "${@: -1}" ""
    printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_commands_options_and_values() {
    for (words, expected) in [
        (&["dev"][..], &["device"][..]),
        (&["device", "rest"], &["restore"]),
        (&["device", "ls", "--on"], &["--online"]),
        (&["device", "ls", "--status", "main"], &["maintenance"]),
        (&["pub", "--will-to"], &["--will-topic"]),
        (&["sub", "--retained-o"], &["--retained-only"]),
        (&["cert", "re"], &["renew", "revoke"]),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["-c", COMPLETE_IN_BASH, "bash"]).args(words);
        bash.env("PROGRAM", env!("CARGO_BIN_EXE_martlet"));
        let output = bash.output().expect("bash starts");
        let candidates = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.stderr.is_empty(), "{words:?}: {output:?}");
        assert_eq!(
            candidates.lines().collect::<Vec<_>>(),
            expected,
            "{words:?}"
        );
    }
}

#[test]
fn help_has_groups_examples_and_a_page() {
    let (success, help) = martlet(&["--help"]);
    assert!(
        success && help.contains("\nSee what happens:\n  status "),
        "{help}"
    );
    assert!(
        !help.contains("\nCommands:\n") && !help.contains('\x1b'),
        "{help}"
    );
    for arguments in [&["device", "add", "-h"][..], &["help", "device", "add"]] {
        let (success, help) = martlet(arguments);
        assert!(success, "{help}");
        assert!(
            help.contains("\nExamples:\n  martlet device add "),
            "{help}"
        );
        assert!(
            help.ends_with("\nDocumentation: docs/devices.md\n"),
            "{help}"
        );
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
        let text = std::fs::read_to_string(path.join(page)).expect(page);
        assert!(text.contains(".SH EXAMPLES\n  martlet "), "{page}: {text}");
    }
}

#[test]
fn help_is_long_only_on_mosquittos_commands() {
    for command in ["pub", "sub", "rr"] {
        let (success, help) = martlet(&[command, "--help"]);
        assert!(success && help.contains("-h, --host <host>"), "{help}");
    }
}
