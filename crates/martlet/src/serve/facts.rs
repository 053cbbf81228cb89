//! Facts about the setup of a node for operators, collected at the start and at each reload.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use martlet_certificates::Facts as Certificate;
use martlet_control::facts::{CertificateFacts, ListenerFacts, NodeFacts};
use martlet_reactor::ListenerConfig;

use crate::config::{Effective, NodeConfig};

/// The facts of a node with these listener URLs, in the order of its listeners, and these HTTP
/// URLs.
pub(super) fn of(
    node: &NodeConfig,
    effective: &Effective,
    urls: &[String],
    http: &[String],
) -> NodeFacts {
    NodeFacts {
        listeners: listeners(&node.listeners, urls, http),
        certificates: certificates(node, effective),
        configuration: effective.shown(false),
        variables: effective.foreign_variables(),
    }
}

fn listeners(all: &[ListenerConfig], urls: &[String], http: &[String]) -> Vec<ListenerFacts> {
    let mqtt = all.iter().zip(urls).map(|(listener, url)| ListenerFacts {
        url: url.clone(),
        protocol: "mqtt",
        is_secure: listener.tls.is_some(),
        needs_credentials: !listener.policy.allow_anonymous,
        connections: None,
        realm: listener.policy.realm,
    });
    let http = http.iter().map(|url| ListenerFacts {
        url: url.clone(),
        protocol: "http",
        is_secure: url.starts_with("https:"),
        needs_credentials: true,
        connections: None,
        realm: Default::default(),
    });
    mqtt.chain(http).collect()
}

/// The certificates in the files of TLS listeners.
fn certificates(node: &NodeConfig, effective: &Effective) -> Vec<CertificateFacts> {
    let mut files: BTreeSet<(PathBuf, &'static str)> = BTreeSet::new();
    if node.listeners.iter().any(|listener| listener.tls.is_some()) {
        let own = effective.paths(|tls| &tls.certificate, |listener| &listener.certificate);
        files.extend(own.into_iter().map(|path| (path, "server")));
        let of_clients = effective.paths(|tls| &tls.client_ca, |listener| &listener.client_ca);
        files.extend(of_clients.into_iter().map(|path| (path, "client_ca")));
    }
    if node.http.iter().any(|listener| listener.tls.is_some()) {
        let own = &effective.settings().http.tls_certificate;
        let general = &effective.settings().tls.certificate;
        let used = if own.is_empty() { general } else { own };
        files.insert((PathBuf::from(used), "server"));
    }
    let found = files.iter().flat_map(|(path, used_as)| {
        let all = files_of(path).into_iter();
        all.filter_map(|file| fact(&file, used_as))
    });
    found.collect()
}

/// The files in a directory, or the file itself.
fn files_of(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return vec![path.to_owned()];
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn fact(file: &Path, used_as: &'static str) -> Option<CertificateFacts> {
    // An unreadable file has already prevented the start or the reload.
    let found = Certificate::of_file(file).ok()?;
    Some(CertificateFacts {
        file: file.display().to_string(),
        used_as,
        subject: found.subject,
        issuer: found.issuer,
        names: found.names,
        serial: found.serial,
        fingerprint: found.fingerprint,
        not_before_secs: found.not_before_secs,
        not_after_secs: found.not_after_secs,
    })
}
