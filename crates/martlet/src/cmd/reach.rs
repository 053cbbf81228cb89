//! How clients reach a node: command lines that try a credential.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use martlet_access::RuleLine;
use martlet_broker::Actions;
use martlet_certificates::ClientCertificates;
use martlet_control::text::{typed, typed_names};
use martlet_registry::DEVICE_TYPE;
use serde_json::Value;

use crate::cmd::door::Door;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::query::{device_path, encoded};
use crate::cmd::tables;
use crate::cmd::view::text;
use crate::config::{self, Effective};
use crate::serve::program_name;

/// A device with a new credential.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) id: &'a str,
    pub(crate) user_name: &'a str,
    pub(crate) device_type: &'a str,
    pub(crate) secret: &'a str,
}

/// A command line that shows that a device can log in and publish.
pub(crate) fn line_to_try(node: &NodeOptions, given: &Given<'_>) -> String {
    let Given {
        id,
        user_name,
        device_type,
        secret,
    } = given;
    let way = node.load().map(|effective| way_in(node, &effective));
    let way = way.unwrap_or_default();
    let (program, name, user) = (program_name(), typed(id), typed(user_name));
    let topic = typed(&topic_of(node, id, device_type));
    format!("{program} pub{way} -i {name} -u {user} -P {secret} -t {topic} -m hello -q 1")
}

/// A topic that a device of this type may publish to.
fn topic_of(node: &NodeOptions, id: &str, device_type: &str) -> String {
    let path = format!("/api/v1/device-types/{}", encoded(device_type));
    let known = Door::of(node).and_then(|door| door.get(&path));
    let topic = known.ok().and_then(|known| {
        let rules = known["rules"].as_array()?.iter().filter_map(Value::as_str);
        let mut rules = rules.filter_map(|line| RuleLine::parse_known(line).ok());
        let rule = rules.find(|rule| rule.allows && rule.actions.has(Actions::PUBLISH))?;
        let topic = rule.filter.replace("%c", id).replace("%u", id);
        Some(topic.replace(['#', '+'], "test"))
    });
    topic.unwrap_or_else(|| format!("d/{id}/test"))
}

/// The command lines by which a device publishes to this node with its certificate: one line for
/// each remaining step; the last one publishes. `None` if the node does not respond, or has no
/// suitable listener.
pub(crate) fn lines_of_certificate(
    node: &NodeOptions,
    id: &str,
    certificate: &Path,
    key: &Path,
) -> Option<Vec<String>> {
    let effective = node.load().ok()?;
    let data_dir = node.data_dir().ok()?;
    let urls = listening(&data_dir).unwrap_or_else(|| configured(&effective));
    let url = urls.iter().find(|url| url.starts_with("mqtts://"))?;
    let way = config::way_in(&effective, url);
    let options = config::command_options(Some(&data_dir), effective.own_file.as_deref());
    let program = program_name();
    let door = Door::of(node).ok();
    let device = door.and_then(|door| door.get(&device_path(id)).ok());
    let device_type = match &device {
        Some(device) => text(device, "type"),
        None => DEVICE_TYPE.to_owned(),
    };
    let topic = topic_of(node, id, &device_type);
    let mut lines = Vec::new();
    if device.is_none() {
        lines.push(format!(
            "{program} device add {options} {}",
            typed_names(&[id])
        ));
    }
    let settings = effective.settings();
    let mut missing = String::new();
    if settings.tls.client_certificates == ClientCertificates::Off {
        missing.push_str(" --set tls.client_certificates=optional");
    }
    if settings.auth.certificate_user_name.is_none() {
        missing.push_str(" --set auth.certificate_user_name=common-name");
    }
    if !missing.is_empty() {
        lines.push(format!("{program} serve {options}{missing}"));
    }
    let file = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        typed(&path.display().to_string())
    };
    lines.push(format!(
        "{program} pub{way} --cert {} --key {} -i {} -t {} -m hello -q 1",
        file(certificate),
        file(key),
        typed(id),
        typed(&topic)
    ));
    Some(lines)
}

/// Host and port of the node's first listener for plain MQTT over TCP; `None` if there is none.
pub(crate) fn plain_address(node: &NodeOptions) -> Option<(String, u16)> {
    let effective = node.load().ok()?;
    let running = node
        .data_dir()
        .ok()
        .and_then(|directory| listening(&directory));
    let urls = running.unwrap_or_else(|| configured(&effective));
    let address = urls.iter().find_map(|url| url.strip_prefix("mqtt://"))?;
    let address: SocketAddr = address.parse().ok()?;
    let host = match address.ip() {
        ip if ip.is_unspecified() || ip == IpAddr::from([127, 0, 0, 1]) => "localhost".to_owned(),
        ip => ip.to_string(),
    };
    Some((host, address.port()))
}

/// Client options that select the node, each preceded by a space; empty if the defaults are
/// sufficient.
fn way_in(node: &NodeOptions, effective: &Effective) -> String {
    let urls = node
        .data_dir()
        .ok()
        .and_then(|directory| listening(&directory));
    let urls = urls.unwrap_or_else(|| configured(effective));
    let scheme = |scheme: &str| urls.iter().find(|url| url.starts_with(scheme));
    let mut best = ["mqtt://", "mqtts://", "unix://", "ws://", "wss://"].into_iter();
    let Some(url) = best.find_map(scheme) else {
        return String::new();
    };
    config::way_in(effective, url)
}

/// The listeners of the running node; `None` if no node runs.
fn listening(data_dir: &Path) -> Option<Vec<String>> {
    let status = tables::status(data_dir).ok()?;
    status.map(|status| status.listeners)
}

/// The configured listeners.
fn configured(effective: &Effective) -> Vec<String> {
    let node = config::resolve(effective);
    let listeners = node.map(|node| node.listeners).unwrap_or_default();
    let urls = listeners.iter().map(|listener| {
        config::listener_url(
            &listener.address,
            &listener.transport,
            listener.tls.is_some(),
        )
    });
    urls.collect()
}
