//! `martlet cert`: a certificate authority in a directory, for servers and devices.

mod check;
mod readers;
mod shown;
mod time;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use martlet_certificates::Facts;
use martlet_certificates::authority::{
    Authority, AuthorityError, CA_CERTIFICATE, Issued, KeyKind, Purpose, REVOKED,
};
use martlet_control::text::typed;
use martlet_text_file::owned;

use crate::cmd::argv;
use crate::cmd::columns::columns;
use crate::cmd::listing;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::print::{errln, out};
use crate::cmd::reach;
use shown::{entry_json, facts_text, json};
use time::now_secs;

/// Arguments of `martlet cert`.
#[derive(Args, Debug)]
pub(crate) struct CertCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Create a certificate authority: ca.crt and ca.key
    Ca(CaOptions),
    /// Issue a certificate for a server: NAME.crt and NAME.key
    Server(ServerOptions),
    /// Issue a certificate for a client, such as a device: NAME.crt and NAME.key
    Client(ClientOptions),
    /// Issue a new certificate for the existing key
    Renew(RenewOptions),
    /// Revoke certificates, and update crl.pem
    ///
    /// A name means all its unexpired certificates, including those that `renew` has replaced:
    /// issued.txt lists the certificates that the authority has issued. A file or a serial number
    /// means one certificate, which needs no file in the directory.
    Revoke(RevokeOptions),
    /// Renew the revocation list: it is valid for another year
    Crl(DirectoryOptions),
    /// List all certificates, with the time until each expires
    ///
    /// Certificates that `renew` has replaced are listed too until they expire.
    ///
    /// Exit code 0. With --expiring 1, if a certificate expires within this number of days, or has
    /// expired.
    #[command(name = "ls", alias = "list")]
    List(ListOptions),
    /// Show the contents of certificate files
    Show(ShowOptions),
    /// Connect to a server and check its certificate
    ///
    /// Exit code 0: it is trusted, and valid for this host. 1: it is not, or the server rejects
    /// this client, for example because it requires a client certificate. 2: no connection.
    Check(check::CheckOptions),
    /// Replacement for the script generate_certs.sh: a CA and a server's certificate in
    /// config/certs
    #[command(hide = true)]
    Script,
}

#[derive(Args, Debug)]
struct DirectoryOptions {
    /// Directory of the authority
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct KeyOptions {
    /// An RSA key of this number of bits (2048, 3072 or 4096) instead of one on P-256
    #[arg(long, value_name = "BITS")]
    rsa: Option<u16>,
}

impl KeyOptions {
    fn kind(&self) -> KeyKind {
        self.rsa.map_or(KeyKind::EcP256, KeyKind::Rsa)
    }
}

#[derive(Args, Debug)]
struct CaOptions {
    #[command(flatten)]
    directory: DirectoryOptions,
    #[command(flatten)]
    key: KeyOptions,
    /// Name of the authority
    #[arg(long, default_value = "Martlet CA")]
    name: String,
    /// Validity in days
    #[arg(long, default_value_t = 3650)]
    days: u32,
}

#[derive(Args, Debug)]
struct ServerOptions {
    /// DNS names and addresses by which clients reach it; the first names the files
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    directory: DirectoryOptions,
    #[command(flatten)]
    key: KeyOptions,
    /// Validity in days
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// Name of the files
    #[arg(long, value_name = "NAME", default_value = "server")]
    file: String,
}

#[derive(Args, Debug)]
struct ClientOptions {
    /// The client's name: its Common Name, and the name of the files
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    directory: DirectoryOptions,
    #[command(flatten)]
    key: KeyOptions,
    /// Validity in days
    #[arg(long, default_value_t = 365)]
    days: u32,
}

#[derive(Args, Debug)]
struct NamedOptions {
    /// Name of the files, without .crt
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    directory: DirectoryOptions,
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("which").required(true).args(["what", "serial"])))]
struct RevokeOptions {
    /// Name of the files, without .crt, or a certificate's file
    #[arg(value_name = "NAME|FILE")]
    what: Option<String>,
    /// The certificate with this serial number, in hexadecimal
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    #[command(flatten)]
    directory: DirectoryOptions,
    /// The node that is to reject them: it is asked whether it reads the list [default: that of the
    /// configuration beside the directory, as martlet init writes it, else the usual one]
    #[command(flatten)]
    node: NodeOptions,
}

#[derive(Args, Debug)]
struct RenewOptions {
    #[command(flatten)]
    named: NamedOptions,
    /// Validity in days
    #[arg(long, default_value_t = 365)]
    days: u32,
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    directory: DirectoryOptions,
    /// Only certificates that expire within this number of days
    #[arg(long, value_name = "DAYS")]
    expiring: Option<i64>,
}

#[derive(Args, Debug)]
struct ShowOptions {
    /// Certificate files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(command: &CertCommand) -> ExitCode {
    let outcome = match &command.action {
        Action::Ca(options) => ca(options),
        Action::Server(options) => server(options),
        Action::Client(options) => client(options),
        Action::Renew(options) => renew(options),
        Action::Revoke(options) => revoke(options),
        Action::Crl(options) => crl(options),
        Action::List(options) => return list(options),
        Action::Show(options) => show(options),
        Action::Check(options) => return check::run(options),
        Action::Script => script(),
    };
    match outcome {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    errln!("martlet: {error:#}");
    ExitCode::FAILURE
}

/// Opens the authority of a directory. If there is none, the error contains the command that
/// creates one.
fn opened(directory: &Path) -> anyhow::Result<Authority> {
    Authority::open(directory, waits).map_err(|error| match error {
        AuthorityError::Missing(_) => {
            let dir = typed(&directory.display().to_string());
            anyhow::anyhow!(
                "{error}; if one exists, such as that of martlet init in DIR/certs, give its \
                 directory with --dir; otherwise create one: martlet cert ca --dir {dir}"
            )
        }
        error => error.into(),
    })
}

/// Prints what the command is waiting for.
pub(crate) fn waits(directory: &Path) {
    errln!(
        "martlet: waiting for another command that changes {}",
        directory.display()
    );
}

fn ca(options: &CaOptions) -> anyhow::Result<String> {
    let CaOptions {
        directory,
        name,
        days,
        ..
    } = options;
    owned::check_directory(&directory.dir)?;
    let made = Authority::create(
        &directory.dir,
        name,
        *days,
        options.key.kind(),
        now_secs(),
        waits,
    )?;
    let dir = directory.dir.display();
    report(
        &made,
        directory.json,
        &format!("martlet cert server --dir {dir} localhost 127.0.0.1"),
    )
}

fn server(options: &ServerOptions) -> anyhow::Result<String> {
    let ServerOptions {
        names,
        directory,
        days,
        file,
        ..
    } = options;
    let authority = opened(&directory.dir)?;
    let purpose = Purpose::Server(names.clone());
    let (kind, now) = (options.key.kind(), now_secs());
    let made = authority.issue(file, &names[0], &purpose, *days, kind, now)?;
    let (certificate, key) = (made.certificate.display(), made.key.display());
    let ca = directory.dir.join(CA_CERTIFICATE);
    let next = format!(
        "martlet serve --listen mqtts://127.0.0.1:8883 --set tls.certificate={certificate} --set \
         tls.key={key}\n      mosquitto_sub --cafile {} -h {} -p 8883 -t '#' -v",
        ca.display(),
        names[0]
    );
    report(&made, directory.json, &next)
}

fn client(options: &ClientOptions) -> anyhow::Result<String> {
    let ClientOptions {
        name,
        directory,
        days,
        ..
    } = options;
    let authority = opened(&directory.dir)?;
    let (kind, now) = (options.key.kind(), now_secs());
    let made = authority.issue(name, name, &Purpose::Client, *days, kind, now)?;
    let list = directory.dir.join(REVOKED);
    // Next to the configuration written by `martlet init`.
    let of_node = readers::beside(&list).and_then(|config| {
        let node = NodeOptions::of_file(config);
        reach::lines_of_certificate(&node, name, &made.certificate, &made.key)
    });
    let next = match of_node {
        Some(lines) => lines.join("\n      "),
        None => {
            let file = |path: &Path| typed(&path.display().to_string());
            let ca = file(&directory.dir.join(CA_CERTIFICATE));
            format!(
                "martlet pub --cafile {ca} --cert {} --key {} -h localhost -p 8883 -i {} -t test -m \
                 hello -q 1\n      (the broker: --set tls.client_certificates=required --set \
                 tls.client_ca={ca} --set tls.client_crl={})",
                file(&made.certificate),
                file(&made.key),
                typed(name),
                file(&list)
            )
        }
    };
    report(&made, directory.json, &next)
}

fn renew(options: &RenewOptions) -> anyhow::Result<String> {
    let NamedOptions { name, directory } = &options.named;
    let authority = opened(&directory.dir)?;
    let made = authority.renew(name, options.days, now_secs())?;
    report(
        &made,
        directory.json,
        "a running node reads it by itself; martlet reload does it at once",
    )
}

fn revoke(options: &RevokeOptions) -> anyhow::Result<String> {
    let RevokeOptions {
        what,
        serial,
        directory,
        node,
    } = options;
    let authority = opened(&directory.dir)?;
    let (what, revoked) = match (what, serial) {
        (Some(what), _) => (what, authority.revoke(what, now_secs())?),
        (None, Some(serial)) => (serial, authority.revoke_serial(serial, now_secs())?),
        // Clap requires one of them.
        (None, None) => anyhow::bail!("name a certificate, its file or its serial number"),
    };
    let reading = readers::of(&revoked.list, node);
    let list = revoked.list.display();
    if directory.json {
        let others = revoked.others.iter().map(entry_json);
        let value = serde_json::json!({
            "revoked": what,
            "serials": revoked.serials,
            "crl": list.to_string(),
            "still_good": others.collect::<Vec<_>>(),
            "note": revoked.note,
            "is_read_by_node": reading.is_read,
            "reader": reading.text,
        });
        return Ok(format!("{value}\n"));
    }
    let mut text = format!("revoked {what} in {list}\n");
    for serial in &revoked.serials {
        text.push_str(&format!("  serial       {serial}\n"));
    }
    for other in &revoked.others {
        text.push_str(&format!(
            "note: another certificate of {} is still valid: serial {}\n",
            other.name, other.serial
        ));
    }
    if let Some(note) = &revoked.note {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&format!("{}\n", reading.text));
    Ok(text)
}

fn crl(options: &DirectoryOptions) -> anyhow::Result<String> {
    let list = opened(&options.dir)?.refresh_list(now_secs())?;
    Ok(match options.json {
        true => format!(
            "{}\n",
            serde_json::json!({ "crl": list.display().to_string() })
        ),
        false => format!("wrote {}, valid for a year\n", list.display()),
    })
}

fn list(options: &ListOptions) -> ExitCode {
    let all = Authority::list(&options.directory.dir);
    let all = match all {
        Ok(all) => all,
        Err(error) => return failed(&error.into()),
    };
    let now = now_secs();
    // This query selects certificates to be renewed, and these have been renewed.
    let others = match options.expiring {
        Some(_) => Ok(Vec::new()),
        None => Authority::without_file(&options.directory.dir, now),
    };
    let others = match others {
        Ok(others) => others,
        Err(error) => return failed(&error.into()),
    };
    let days_to = |end: i64| (end - now).div_euclid(86_400);
    let left = |facts: &Facts| days_to(facts.not_after_secs);
    let wanted = |facts: &Facts| options.expiring.is_none_or(|days| left(facts) < days);
    let shown: Vec<_> = all.iter().filter(|(_, facts, _)| wanted(facts)).collect();
    if options.directory.json {
        let all = shown.iter().map(|(path, facts, is_revoked)| {
            let mut value = json(path, facts);
            value["revoked"] = (*is_revoked).into();
            value
        });
        let others = others.iter().map(entry_json);
        out!("{}", listing::items(all.chain(others)));
    } else if options.expiring.is_none() || !shown.is_empty() {
        // A scheduled job that lists expiring certificates prints nothing if there are none.
        let known = shown.iter().map(|(path, facts, is_revoked)| {
            let state = match (is_revoked, left(facts)) {
                (true, _) => "revoked".to_owned(),
                (false, days) if days < 0 => "has expired".to_owned(),
                (false, days) => format!("{days} days left"),
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let subject = facts.subject.clone();
            [name.into_owned(), state, facts.purposes.join("+"), subject]
        });
        let without_file = others.iter().map(|entry| {
            let left = format!("{} days left", days_to(entry.not_after_secs));
            let serial = format!("without a file: serial {}", entry.serial);
            [entry.name.clone(), left, String::new(), serial]
        });
        let headers = ["FILE", "STATE", "FOR", "SUBJECT"];
        let none = "There are no certificates.";
        out!("{}", columns(headers, known.chain(without_file), none));
    }
    match options.expiring.is_some() && !shown.is_empty() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn show(options: &ShowOptions) -> anyhow::Result<String> {
    let mut text = String::new();
    for path in &options.files {
        let facts = Facts::of_file(path)?;
        match options.json {
            true => text.push_str(&format!("{}\n", json(path, &facts))),
            false => text.push_str(&format!("{}\n{}", path.display(), facts_text(&facts))),
        }
    }
    Ok(text)
}

/// The output at the end of the script.
const SCRIPT_DONE: &str = "\
Certificates generated in config/certs:
  ca.crt, ca.key          the CA
  server.crt, server.key  the server: localhost, mosquitto, 127.0.0.1; 365 days
Next steps:
  martlet serve --listen mqtts://127.0.0.1:8883 \\
    --set tls.certificate=config/certs/server.crt --set tls.key=config/certs/server.key
  mosquitto_pub --cafile config/certs/ca.crt -h localhost -p 8883 -t test/topic -m 'Hello TLS'
";

/// Works like the script of that name, but overwrites nothing.
fn script() -> anyhow::Result<String> {
    // In the guide, the certificates have a separate directory.
    let beside = argv::link_directory("generate_certs.sh").unwrap_or_default();
    let directory = &beside.join("config/certs");
    let (days, kind, now) = (365, KeyKind::Rsa(2048), now_secs());
    if !directory.join(CA_CERTIFICATE).exists() {
        owned::check_directory(directory)?;
        Authority::create(directory, "MQTT-CA", days, kind, now, waits)?;
    }
    let names = ["localhost", "mosquitto", "127.0.0.1"].map(str::to_owned);
    let purpose = Purpose::Server(names.to_vec());
    opened(directory)?.issue("server", "mosquitto", &purpose, days, kind, now)?;
    let place = typed(&directory.display().to_string());
    Ok(SCRIPT_DONE.replace("config/certs", &place))
}

fn report(made: &Issued, is_json: bool, next: &str) -> anyhow::Result<String> {
    if is_json {
        let mut value = json(&made.certificate, &made.facts);
        value["key"] = made.key.display().to_string().into();
        return Ok(format!("{value}\n"));
    }
    Ok(format!(
        "wrote {}\nkey   {}\n{}next: {next}\n",
        made.certificate.display(),
        made.key.display(),
        facts_text(&made.facts)
    ))
}
