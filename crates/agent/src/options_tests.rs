use super::*;
use clap::Parser;
use martlet_client::Password;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: AgentOptions,
}

fn settings(args: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
    let args = ["agent", "--queue", "/tmp/q"].iter().chain(args);
    let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
    let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: Vec<_> = variables.iter().map(text).collect();
    cli.options.run.settings(&variables)
}

#[test]
fn defaults_are_those_of_device_programs() {
    let found = settings(&[], &[]).unwrap();
    assert_eq!(
        (found.endpoint.host.as_str(), found.endpoint.port),
        ("localhost", 1883)
    );
    let connect = &found.connect;
    assert_eq!((connect.keep_alive_secs, connect.clean_start), (60, false));
    assert_eq!(connect.version, ProtocolVersion::V5);
    assert_eq!(found.queue.limits.messages, 10_000);
    assert_eq!(found.queue.limits.bytes, 64 << 20);
    assert_eq!(
        (found.rate, found.topic.as_str()),
        (1_000, "device/data/{device_id}")
    );
    assert!(found.inputs.is_stdin_alone());
    let other = settings(&["--metrics", "5", "--stdin"], &[]).unwrap();
    assert!(other.inputs.stdin && !other.inputs.is_stdin_alone());
    assert!(!settings(&["--folder", "/x"], &[]).unwrap().inputs.stdin);
}

#[test]
fn variables_are_those_of_device_programs_and_options_are_stronger() {
    let variables = [
        ("MQTT_BROKER_HOST", "broker.example"),
        ("MQTT_BROKER_PORT", "1884"),
        ("MQTT_USERNAME", "device"),
        ("MQTT_PASSWORD", "secret"),
        ("MQTT_CLIENT_ID", "device-7"),
    ];
    let found = settings(&[], &variables).unwrap();
    assert_eq!(found.endpoint.host, "broker.example");
    assert_eq!(found.endpoint.port, 1884);
    assert_eq!(found.connect.client_id, "device-7");
    assert_eq!(found.connect.password, Some(Password(b"secret".to_vec())));
    let args = ["--host", "other", "--port", "7", "--id", "x"];
    let found = settings(&args, &variables).unwrap();
    assert_eq!(
        (found.endpoint.host.as_str(), found.endpoint.port),
        ("other", 7)
    );
    assert_eq!(found.connect.client_id, "x");
}

#[test]
fn with_tls_the_port_is_another_one_and_the_ca_file_is_needed() {
    let variables = [("MQTT_USE_TLS", "true"), ("MQTT_TLS_INSECURE", "true")];
    let found = settings(&[], &variables).unwrap();
    assert!(found.endpoint.tls.is_some());
    assert_eq!(found.endpoint.port, 8883);
    let error = settings(&["--cafile", "/nowhere/ca.crt"], &[]).unwrap_err();
    assert!(error.contains("/nowhere/ca.crt"), "{error}");
}

#[test]
fn a_password_comes_from_a_file_and_belongs_to_its_name() {
    let path = std::env::temp_dir().join(format!("martlet-agent-password-{}", std::process::id()));
    fs::write(&path, "hunter2\nnot this\n").unwrap();
    let file = path.display().to_string();
    let args = ["--username", "u", "--password-file", &file];
    let variables = [("MQTT_USERNAME", "v"), ("MQTT_PASSWORD", "w")];
    let found = settings(&args, &variables).unwrap();
    assert_eq!(found.connect.username.as_deref(), Some("u"));
    assert_eq!(found.connect.password, Some(Password(b"hunter2".to_vec())));
    let error = settings(&["--username", "u"], &variables).unwrap_err();
    assert!(
        error.contains("both or none") && !error.contains('w'),
        "{error}"
    );
    fs::write(&path, "\n").unwrap();
    let error = settings(&args, &[]).unwrap_err();
    assert!(error.contains("no password in its first line"), "{error}");
    fs::remove_file(&path).unwrap();
}

#[test]
fn no_option_takes_a_password() {
    for option in ["-P", "--pw", "--password"] {
        assert!(settings(&[option, "hunter2"], &[]).is_err());
    }
}

#[test]
fn topics_and_sizes_are_checked() {
    for topic in ["a/#", "", "a/{nothing}", "a/+"] {
        assert!(settings(&["--topic", topic], &[]).is_err(), "{topic}");
    }
    assert!(settings(&["--topic", "a/{file}/{hostname}"], &[]).is_ok());
    assert_eq!((size("2M"), size("4096")), (Ok(2 << 20), Ok(4096)));
    for wrong in ["", "M", "5", "-1M", "99999999G", "1.5M"] {
        assert!(size(wrong).is_err(), "{wrong}");
    }
    assert_eq!((line_size("10"), line_size("1M")), (Ok(10), Ok(1 << 20)));
    assert!(line_size("5M").is_err() && line_size("0").is_err());
}
