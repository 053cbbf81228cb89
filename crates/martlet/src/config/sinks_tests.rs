use martlet_integrate::{OnReject, Order};

use super::*;
use crate::config::{Overlay, load};

/// The sinks of a file, or the error.
fn from_file(name: &str, text: &str) -> Result<SinksConfig, String> {
    let file = format!("martlet-sinks-{name}-{}.toml", std::process::id());
    let path = std::env::temp_dir().join(file);
    std::fs::write(&path, text).unwrap();
    let overlay = Overlay {
        file: Some(path.clone()),
        ..Overlay::default()
    };
    let loaded = load(&overlay, &[]);
    std::fs::remove_file(&path).unwrap();
    let effective = loaded.map_err(|error| error.to_string())?;
    sinks(&effective, Path::new("/data")).map_err(|error| error.to_string())
}

fn sink(name: &str, path: &str, more: &str) -> String {
    format!("[[sinks.file]]\nname = {name:?}\nfilters = [\"a/#\"]\npath = {path:?}\n{more}\n")
}

#[test]
fn a_sink_has_its_keys_and_the_defaults_of_the_others() {
    let text =
        "[[sinks.file]]\nname = \"audit\"\nfilters = [\"a,b/#\", \"+/c\"]\npath = \"out/a.json\"\n";
    let config = from_file("defaults", text).unwrap();
    let [sink_of_file] = &*config.sinks else {
        panic!("{config:?}");
    };
    let settings = &sink_of_file.settings;
    assert_eq!((settings.kind, &*settings.name), ("file", "audit"));
    let filters: Vec<&str> = settings.filters.iter().map(|filter| &**filter).collect();
    assert_eq!(filters, ["a,b/#", "+/c"]);
    assert!(!settings.keeps_qos0 && settings.tenant.is_empty());
    assert_eq!(settings.on_reject, OnReject::DeadLetter);
    assert_eq!(settings.order, Order::Publisher);
    assert_eq!(sink_of_file.files(), [Path::new("/data/out/a.json")]);
    let more = "keep_qos0 = true\ntenant = \"one\"\non_reject = \"stop\"\nfile_bytes = 0\nfiles_kept = 3\norder = \"user\"";
    let config = from_file("set", &sink("b", "/b.json", more)).unwrap();
    let settings = &config.sinks[0].settings;
    assert!(settings.keeps_qos0 && &*settings.tenant == "one");
    assert_eq!(settings.on_reject, OnReject::Stop);
    assert_eq!(settings.order, Order::User);
}

#[test]
fn several_addresses_are_a_list_or_separated_by_commas() {
    let tables = |url: &str| {
        format!(
            "[[bridges]]\nname = \"b\"\nurl = {url}\ntopics = [\"a/#\"]\n\
             [[sinks.nats]]\nname = \"n\"\nfilters = [\"a/#\"]\nurl = {}\n\
             [[sources.nats]]\nname = \"s\"\nurl = {}\nstream = \"S\"\n",
            url.replace("mqtt", "nats"),
            url.replace("mqtt", "nats"),
        )
    };
    for (number, url) in [
        "[\"mqtt://192.0.2.1\", \"mqtt://192.0.2.2\"]",
        "\"mqtt://192.0.2.1, mqtt://192.0.2.2\"",
    ]
    .into_iter()
    .enumerate()
    {
        let found = from_file(&format!("addresses-{number}"), &tables(url));
        assert_eq!(found.map(|config| config.sinks.len()), Ok(3), "{url}");
    }
    let error = from_file("addresses-bad", &tables("[\"mqtt://a\", 7]")).unwrap_err();
    let expected = "expected a list of texts without commas";
    assert!(error.ends_with(expected), "{error}");
    for (number, text) in [
        "[http]\ncompat = [1, 2]\n",
        "[messages]\nkeep = [\"a,b\"]\n",
    ]
    .into_iter()
    .enumerate()
    {
        let error = from_file(&format!("list-bad-{number}"), text).unwrap_err();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_sink_is_named_with_its_line() {
    for (number, (text, expected)) in [
        (sink("a b", "/a", ""), "`name` is \"a b\""),
        (sink("", "/a", ""), "`name` is \"\""),
        (sink(".", "/a", ""), "`name` is \".\""),
        (sink("..", "/a", ""), "neither . nor .."),
        (sink("-a", "/a", ""), "not - first"),
        (sink("a", "", ""), "`path` is missing"),
        (sink("a", "../a", ""), "leave out `..`"),
        (sink("a", "/", ""), "expected the path of a file"),
        (sink("a", "secrets.key", ""), "a file of the node itself"),
        (sink("a", "/data/store/1", ""), "a file of the node itself"),
        (sink("a", "/a", "topic = \"a\""), "unknown key `topic`"),
        (
            sink("a", "/a", "on_reject = \"drop\""),
            "one of dead-letter, stop",
        ),
        (
            sink("a", "/a", "order = \"session\""),
            "one of publisher, user, topic",
        ),
        (
            sink("a", "/a", "order = \"user\"\ntenant = \"*\""),
            "a queue subscribes for one tenant",
        ),
        (
            sink("a", "/a", "file_bytes = 10"),
            "0, or a whole number of at least 1000",
        ),
        (
            "[[sinks.file]]\nname = \"a\"\npath = \"/a\"\n".to_owned(),
            "`filters` is missing",
        ),
        (
            "[[sinks.fiel]]\nname = \"a\"\n".to_owned(),
            "did you mean `[[sinks.file]]`?",
        ),
        (
            "[[sinks.influx]]\nname = \"a\"\n".to_owned(),
            "unknown kind `[[sinks.influx]]`; there are ",
        ),
        (
            "[sinks]\nfile = 3\n".to_owned(),
            "expected [[sinks.file]] tables",
        ),
        (
            "[[sinks.file]]\nname = \"a\"\npath = \"/a\"\nfilters = [\"a/#/b\"]\n".to_owned(),
            "not a valid Topic Filter",
        ),
        (
            "[[sinks.file]]\nname = \"a\"\npath = \"/a\"\nfilters = [\"$share/g/a\"]\n".to_owned(),
            "joins no share group",
        ),
        (
            "[[sinks.file]]\nname = \"a\"\npath = \"/a\"\nfilters = [\"a\", \"a\"]\n".to_owned(),
            "name it once",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let error = from_file(&format!("wrong{number}"), &text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains(" line "), "{error}");
    }
}

#[test]
fn two_sinks_have_names_and_files_of_their_own() {
    for (number, (second, expected)) in [
        (sink("a", "/b", ""), "it has the name \"a\""),
        (
            sink("a", "/b", "tenant = \"north\""),
            "which only one file sink of the node may have, of whatever team",
        ),
        (sink("b", "/a.json", ""), "it writes the file /a.json"),
        (sink("b", "/./a.json", ""), "it writes the file /a.json"),
        (sink("b", "/a.json.2", ""), "it writes the file /a.json.2"),
        (
            sink("b", "/a.json.synced", ""),
            "it writes the file /a.json.synced",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let text = sink("a", "/a.json", "") + &second;
        let error = from_file(&format!("two{number}"), &text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let text = sink("a", "/a.json", "") + &sink("b", "/a.json.x", "");
    assert_eq!(from_file("both", &text).unwrap().sinks.len(), 2);
}

#[test]
fn a_sink_does_not_write_files_of_the_node_nor_rename_its_own_over_them() {
    for path in ["/rules.acl", "/data/martlet.pid", "/data/martlet.db"] {
        // `PATH` is rotated to `PATH.1`.
        for text in [
            format!("[auth]\nacl_file = \"{path}.1\"\n") + &sink("a", path, ""),
            "[auth]\nacl_file = \"/rules.acl\"\n".to_owned() + &sink("a", path, ""),
        ] {
            let error = from_file("own", &text).unwrap_err();
            assert!(error.contains("a file of the node itself"), "{error}");
        }
    }
}

#[test]
fn a_sink_whose_directory_is_missing_is_named_and_stops_no_start() {
    let text = sink("audit", "/no/such/directory/a.json", "");
    let config = from_file("missing", &text).unwrap();
    let told = unusable_files(&config);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("\"audit\"") && told[0].contains("/no/such/directory"),
        "{told:?}"
    );
}

#[test]
fn what_cannot_work_with_nats_is_refused_at_the_start() {
    let sink = |more: &str| {
        format!(
            "[[sinks.nats]]\nname = \"n\"\nfilters = [\"#\"]\nurl = \"nats://h:4222\"\n{more}\n"
        )
    };
    let source = |more: &str| {
        format!("[[sources.nats]]\nname = \"n\"\nurl = \"nats://h:4222\"\nstream = \"S\"\n{more}\n")
    };
    for (number, (text, expected)) in [
        (sink("nkey = \"SUNOSEED\""), "`nkey` is not the seed"),
        (sink("subject = \"_INBOX\""), "_INBOX belong to the server"),
        (
            sink("retry_first_ms = 5000\nretry_longest_ms = 100"),
            "`retry_first_ms` is more than",
        ),
        (source("filter_subject = \"a..b\""), "`filter_subject` is"),
        (source("filter_subject = \"a.>.b\""), "> is the last one"),
        (source("filter_subject = \"a*.b\""), "tokens of their own"),
    ]
    .iter()
    .enumerate()
    {
        let error = from_file(&format!("nats-{number}"), text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let secret = sink("nkey = \"${secret:SEED}\"\nsubject = \"_INBOXES\"");
    assert!(from_file("nats-secret", &secret).is_ok());
    assert!(from_file("nats-filter", &source("filter_subject = \"a.*.>\"")).is_ok());
}

#[test]
fn files_that_an_integration_cannot_read_are_named_and_stop_no_start() {
    let text = "[[bridges]]\nname = \"up\"\nurl = \"mqtts://h\"\ntopics = [\"# out\"]\n\
                ca_file = \"/no/such/ca.pem\"\n\
                [[sinks.nats]]\nname = \"n\"\nfilters = [\"#\"]\nurl = \"tls://h:4222\"\n\
                credentials_file = \"no.creds\"\n";
    let told = unusable_files(&from_file("files", text).unwrap());
    assert_eq!(told.len(), 2, "{told:?}");
    let has = |words: [&str; 2]| {
        let all = |one: &String| words.iter().all(|word| one.contains(word));
        told.iter().any(all)
    };
    assert!(has(["\"up\"", "/no/such/ca.pem"]) && has(["\"n\"", "/data/no.creds"]));
}
