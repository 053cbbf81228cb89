//! Compares `martlet rr` with `mosquitto_rr`. A request to its own response topic is its own
//! response.

use crate::support::{Broker, FAMILIES};

#[test]
fn a_response_is_printed_the_same() {
    let broker = Broker::open();
    for args in [
        &["-t", "a", "-e", "a", "-m", "hi"][..],
        &["-t", "a", "-e", "a", "-m", "hi", "-v", "-V", "311"],
        &["-t", "a", "-e", "a", "-m", "hi", "-F", "%t %p %R %q"],
        &["-t", "a", "-e", "a", "-n", "-v"],
        &[
            "-t",
            "a",
            "-e",
            "a",
            "-m",
            "hi",
            "-D",
            "publish",
            "correlation-data",
            "7",
            "-F",
            "%D",
        ],
    ] {
        assert_eq!(broker.compare("rr", args).code, 0, "{args:?}");
    }
}

#[test]
fn a_response_from_another_client_carries_what_it_published() {
    let broker = Broker::open();
    broker.publish(&["-t", "answers", "-m", "kept", "-r"]);
    for family in FAMILIES {
        let args = [
            "-t",
            "questions",
            "-e",
            "answers",
            "-m",
            "?",
            "-v",
            "-W",
            "5",
        ];
        let run = broker.run(family, "rr", &args, b"");
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (0, "answers kept"),
            "{family:?}"
        );
    }
}

#[test]
fn without_a_response_the_timeout_ends_it() {
    let broker = Broker::open();
    let run = broker.compare("rr", &["-t", "a", "-e", "b", "-m", "hi", "-W", "1"]);
    assert_eq!(run.code, 27);
}

#[test]
fn wrong_arguments_have_the_same_words_and_codes() {
    let broker = Broker::open();
    for args in [
        &["-t", "a", "-m", "hi"][..],
        &["-e", "a", "-m", "hi"],
        &["-t", "a", "-e", "b"],
        &["-t", "a", "-e", "b/+", "-m", "hi"],
        &["-t", "a", "-e"],
    ] {
        assert_eq!(broker.compare("rr", args).code, 1, "{args:?}");
    }
}
