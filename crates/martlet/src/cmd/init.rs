//! `martlet init`: creates a directory with everything for a secured node, and prints commands that
//! show that it works.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use martlet_access::hash;
use martlet_certificates::authority::{Authority, CA_CERTIFICATE, KeyKind, Purpose, REVOKED};
use martlet_control::text::{printable, typed};
use martlet_text_file::owned;

use crate::cmd::print::{errln, out};
use crate::cmd::{tables, user};
use crate::private_file;
use crate::serve::{ConfigOptions, program_name};

/// Validity of certificates in days. A server's certificate must be renewed; the authority's
/// outlives it.
const CA_DAYS: u32 = 3650;
const SERVER_DAYS: u32 = 365;

/// Options of `martlet init`.
#[derive(Args, Debug)]
pub(crate) struct InitOptions {
    /// Directory of all files; created if it does not exist
    #[arg(value_name = "DIR", default_value = "martlet")]
    dir: PathBuf,
    /// Another name or address by which clients reach the server, repeatable: the certificate is
    /// valid for this host's name, localhost, 127.0.0.1 and ::1
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// User name of the administrator
    #[arg(long, value_name = "USER", default_value = "admin")]
    admin: String,
    /// Port of MQTT over TLS, for other machines
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    tls_port: u16,
    /// Port of MQTT without TLS, only on this machine
    #[arg(long, value_name = "PORT", default_value_t = 1883)]
    port: u16,
    /// Port of MQTT over WebSocket, only on this machine
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    websocket_port: u16,
    /// Address of health and metrics, or off
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: String,
    /// Also use a directory with other files; no file is overwritten
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(options: &InitOptions) -> ExitCode {
    match init(options) {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            errln!("martlet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Paths of the created files.
struct InitPaths {
    config: PathBuf,
    certificates: PathBuf,
    data: PathBuf,
}

fn init(options: &InitOptions) -> anyhow::Result<String> {
    // The node may be started from another directory.
    let dir = std::path::absolute(&options.dir)?;
    if dir.to_str().is_none() {
        bail!("{}: the path is not UTF-8", dir.display());
    }
    let paths = InitPaths {
        config: dir.join("martlet.toml"),
        certificates: dir.join("certs"),
        data: dir.join("data"),
    };
    for path in [&paths.config, &paths.certificates, &paths.data] {
        if path.symlink_metadata().is_ok() {
            bail!(
                "{} already exists and is not overwritten: name another directory",
                path.display()
            );
        }
    }
    if !options.force && has_files(&dir)? {
        bail!(
            "{} is not empty: init would add martlet.toml, certs and data to its files; name another \
             directory, or use --force",
            dir.display()
        );
    }
    owned::check_directory(&dir)?;
    check(options)?;
    let names = names(&options.name);
    let text = config_text(options, &paths);
    make_directory(&dir, true)?;
    make_directory(&paths.certificates, false)?;
    let now = now_secs();
    Authority::create(
        &paths.certificates,
        "Martlet CA",
        CA_DAYS,
        KeyKind::EcP256,
        now,
        super::cert::waits,
    )?;
    let authority = Authority::open(&paths.certificates, super::cert::waits)?;
    let (purpose, kind) = (Purpose::Server(names.clone()), KeyKind::EcP256);
    authority.issue("server", &names[0], &purpose, SERVER_DAYS, kind, now)?;
    let password = hash::made_up_password().map_err(anyhow::Error::msg)?;
    make_directory(&paths.data, false)?;
    let add = user::administrator(&options.admin, &password);
    tables::with_tables_of(&paths.data, async |open| open.run(add).await)?;
    write_new(&paths.config, text.as_bytes())?;
    warn_of_other_tables(&paths.config);
    Ok(match options.json {
        true => format!("{}\n", json(options, &paths, &names, &password)),
        false => report(options, &paths, &names, &password),
    })
}

/// Warns if a variable names another database: the administrator is not in it.
fn warn_of_other_tables(config: &Path) {
    let options = ConfigOptions {
        config: Some(config.to_owned()),
        ..ConfigOptions::default()
    };
    let loaded = options.load();
    for warning in loaded.iter().flat_map(|loaded| &loaded.unused_addresses) {
        errln!("martlet: warning: {}", printable(warning));
    }
}

/// Whether a directory exists and has files, other than what a new file system has.
fn has_files(dir: &Path) -> anyhow::Result<bool> {
    let reading = || format!("cannot read {}", dir.display());
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(reading),
    };
    for entry in entries {
        if entry.with_context(reading)?.file_name() != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Checks the options, so that nothing is written with which the node would not start or no client
/// could connect.
fn check(options: &InitOptions) -> anyhow::Result<()> {
    let http = match options.http.as_str() {
        "off" => None,
        text => {
            let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
            Some(found.with_context(|| {
                format!("--http {text}: expected HOST:PORT such as 127.0.0.1:8080, or off")
            })?)
        }
    };
    let mut ports = vec![options.tls_port, options.port, options.websocket_port];
    ports.extend(http.map(|address| address.port()));
    ports.sort_unstable();
    if let Some(twice) = ports.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!(
            "port {} is named twice: --tls-port, --port, --websocket-port and --http each need their \
             own",
            twice[0]
        );
    }
    for name in &options.name {
        if name.parse::<IpAddr>().is_err() && !is_host_name(name) {
            bail!("--name {name:?}: expected a name of a host, or an address");
        }
    }
    Ok(())
}

/// Whether a certificate may contain the name: its first label may be a wildcard.
fn is_host_name(name: &str) -> bool {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let is_label =
        |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(letter);
    let rest = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= 253 && rest.split('.').all(is_label)
}

/// Names of this machine that clients may use.
fn names(more: &[String]) -> Vec<String> {
    let host = rustix::system::uname();
    let host = host.nodename().to_str().unwrap_or_default().to_owned();
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '.';
    let mut names: Vec<String> = Vec::new();
    let host = Some(host).filter(|host| !host.is_empty() && host.chars().all(is_name));
    let usual = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    for name in host.into_iter().chain(usual).chain(more.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Creates a directory and syncs its name: otherwise files that a node later syncs in it could be
/// lost.
fn make_directory(path: &Path, may_be_there: bool) -> anyhow::Result<()> {
    let made = match may_be_there {
        true => martlet_store::make_directory(path),
        false => DirBuilder::new()
            .mode(0o700)
            .create(path)
            .and_then(|()| File::open(path.join(".."))?.sync_all()),
    };
    made.with_context(|| format!("cannot make {}", path.display()))
}

fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut file = private_file::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Seconds since the Unix epoch.
fn now_secs() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Converts to a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn config_text(options: &InitOptions, paths: &InitPaths) -> String {
    let path = |path: PathBuf| quoted(&path.display().to_string());
    let InitOptions {
        tls_port,
        port,
        websocket_port,
        ..
    } = options;
    format!(
        r#"# Martlet, as `martlet init` has set it up. Every key: `martlet config show`.

[node]
# Everything that the node keeps: messages, sessions, and martlet.db with users and devices.
data_dir = {data}

[mqtt]
# Clients need credentials, also on this machine.
allow_anonymous = false

[tls]
# Good for a year; `martlet cert renew server --dir DIR` renews it, and the node reads it by itself.
certificate = {certificate}
key = {key}
# "optional" or "required" accepts devices with certificates of this authority
# (`martlet cert client NAME --dir DIR`), but none that `martlet cert revoke` has put on client_crl.
client_certificates = "off"
client_ca = {ca}
client_crl = {crl}

[auth]
# Users and devices of martlet.db: `martlet user`, `martlet device`, `martlet role`.
registry = "on"
# With client certificates, their names are user names:
# certificate_user_name = "common-name"

[http]
# Health and metrics, without credentials: for this machine.
listen = {http}

# MQTT over TLS, for all machines.
[[listeners]]
url = "mqtts://:{tls_port}"

# MQTT without TLS, for programs on this machine; they need credentials too.
[[listeners]]
url = "mqtt://127.0.0.1:{port}"

# MQTT over WebSocket, for a web server on this machine that speaks TLS to browsers.
[[listeners]]
url = "ws://127.0.0.1:{websocket_port}/mqtt"
"#,
        data = path(paths.data.clone()),
        certificate = path(paths.certificates.join("server.crt")),
        key = path(paths.certificates.join("server.key")),
        ca = path(paths.certificates.join(CA_CERTIFICATE)),
        crl = path(paths.certificates.join(REVOKED)),
        http = quoted(&options.http),
    )
}

/// The command that starts the node, and those that show that it works: the administrator is
/// admitted over TLS, and clients without credentials are refused.
fn commands(options: &InitOptions, paths: &InitPaths, password: &str) -> [String; 2] {
    let program = typed(&program_name());
    let config = typed(&paths.config.display().to_string());
    let ca = typed(
        &paths
            .certificates
            .join(CA_CERTIFICATE)
            .display()
            .to_string(),
    );
    let admin = typed(&options.admin);
    let port = options.tls_port;
    [
        format!("{program} serve -c {config}"),
        format!(
            "{program} pub --cafile {ca} -h localhost -p {port} -u {admin} -P {password} -t hello \
             -m 'it works' -q 1 -d"
        ),
    ]
}

fn report(options: &InitOptions, paths: &InitPaths, names: &[String], password: &str) -> String {
    let [start, prove] = commands(options, paths, password);
    let config = typed(&paths.config.display().to_string());
    let mut text = String::new();
    let rows = [
        ("configuration", paths.config.display().to_string()),
        ("certificates", paths.certificates.display().to_string()),
        ("  for", names.join(", ")),
        ("data", paths.data.display().to_string()),
        ("administrator", options.admin.clone()),
        ("password", format!("{password}   (shown this once)")),
    ];
    for (what, is) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what:<14} {is}");
    }
    let program = typed(&program_name());
    let _ = write!(
        text,
        "\nStart it:\n  {start}\nTest it in another terminal:\n  {prove}\nThen add a device:\n  \
         {program} device add sensor-1 -c {config}\n"
    );
    if rustix::process::geteuid().is_root() {
        text.push_str(
            "All files belong to root, and no other user can read them. To run the node as another \
             user, run init as that user: runuser -u USER -- martlet init DIR\n",
        );
    }
    text
}

fn json(
    options: &InitOptions,
    paths: &InitPaths,
    names: &[String],
    password: &str,
) -> serde_json::Value {
    let commands = commands(options, paths, password);
    serde_json::json!({
        "config": paths.config.display().to_string(),
        "ca": paths.certificates.join(CA_CERTIFICATE).display().to_string(),
        "names": names,
        "data_dir": paths.data.display().to_string(),
        "user": options.admin,
        "password": password,
        "commands": commands,
    })
}
