//! The section of a bridge, and its conversion to a table `[[bridges]]`.

use std::net::IpAddr;

use martlet_codec::QoS;
use martlet_integrate::bridge::TopicRule;

use super::lines::Outcome;
use crate::config::load::{KeyValues, SinkTable, Sourced};
use martlet_integrate::bridge;
use martlet_settings::Value;

use crate::config::schema::shown;

/// Default port of an address.
const PORT: u16 = 1883;

/// A bridge.
pub(super) struct Bridge {
    place: String,
    keys: KeyValues,
    /// Hosts and ports, and the place of their line.
    addresses: Vec<(String, u16)>,
    address_place: String,
    topics: Vec<String>,
    is_tls: bool,
    /// Whether any line of it is invalid.
    is_broken: bool,
}

type Read = Result<(Outcome, String), String>;

impl Bridge {
    /// Parses the line `connection NAME`.
    pub(super) fn begin(name: &str, place: &str) -> Result<Self, String> {
        if name.is_empty() {
            return Err("the bridge has no name".to_owned());
        }
        let mut bridge = Self {
            place: place.to_owned(),
            keys: KeyValues::new(),
            addresses: Vec::new(),
            address_place: place.to_owned(),
            topics: Vec::new(),
            is_tls: false,
            is_broken: false,
        };
        bridge.set("name", Value::Text(name.to_owned()), place);
        // Mosquitto's default.
        bridge.set("protocol", Value::Text("3.1.1".to_owned()), place);
        Ok(bridge)
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    fn set(&mut self, key: &str, value: Value, place: &str) -> String {
        let note = format!("{key} = {}", shown(&value));
        let source = place.to_owned();
        self.keys.insert(key.to_owned(), Sourced { value, source });
        note
    }

    /// Whether a line of it is invalid. Then apparently missing settings may be in that line.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Reads a line of the section.
    pub(super) fn read(&mut self, keyword: &str, value: &str, place: &str) -> Read {
        let read = self.read_line(keyword, value, place);
        self.is_broken |= read.is_err();
        read
    }

    fn read_line(&mut self, keyword: &str, value: &str, place: &str) -> Read {
        let text = |key| Some((key, Value::Text(value.to_owned())));
        let mapped = match keyword {
            "address" | "addresses" => return self.read_addresses(value, place),
            "topic" => return self.read_topic(value),
            "restart_timeout" => return self.read_pauses(value, place),
            "cleansession" => Some(("clean_session", switch(value)?)),
            "clientid" | "remote_clientid" => text("client_id"),
            "username" | "remote_username" => text("user"),
            "password" | "remote_password" => {
                Some(("password", Value::Secret(value.to_owned().into())))
            }
            "keepalive_interval" => Some(("keep_alive_secs", Value::Integer(number(value)?))),
            "start_type" if ["automatic", "lazy", "once"].contains(&value) => text("start"),
            "start_type" => return Err("expected automatic, lazy or once".to_owned()),
            "idle_timeout" => Some(("idle_secs", Value::Integer(number(value)?.max(1)))),
            "notifications" => Some(("notifications", switch(value)?)),
            "notifications_local_only" => Some(("notifications_local_only", switch(value)?)),
            "notification_topic" => text("notification_topic"),
            "try_private" => Some(("try_private", switch(value)?)),
            "bridge_outgoing_retain" => Some(("outgoing_retain", switch(value)?)),
            "bridge_protocol_version" => {
                let version = match value {
                    "mqttv311" => "3.1.1",
                    "mqttv50" => "5.0",
                    "mqttv31" => return Err("set mqttv311 or mqttv50".to_owned()),
                    _ => return Err("expected mqttv311 or mqttv50".to_owned()),
                };
                Some(("protocol", Value::Text(version.to_owned())))
            }
            "bridge_cafile" => self.tls(text("ca_file")),
            "bridge_capath" => self.tls(text("ca_directory")),
            "bridge_certfile" => text("certificate_file"),
            "bridge_keyfile" => text("key_file"),
            "bridge_insecure" => Some(("any_server_name", switch(value)?)),
            "bridge_tls_use_os_certs" => {
                self.is_tls |= switch(value)? == Value::Boolean(true);
                return Ok((
                    Outcome::Mapped,
                    "TLS, with the CAs that the system trusts".into(),
                ));
            }
            other => return unmapped(other, value),
        };
        match mapped {
            Some((key, value)) => Ok((Outcome::Mapped, self.set(key, value, place))),
            None => Ok((Outcome::NotNeeded, String::new())),
        }
    }

    fn tls<T>(&mut self, key: T) -> T {
        self.is_tls = true;
        key
    }

    fn read_addresses(&mut self, value: &str, place: &str) -> Read {
        for word in value.split_whitespace() {
            let (host, port) = match word.rsplit_once(':') {
                // An IPv6 address without a port contains several colons.
                Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                    let number = port.parse().ok().filter(|port| *port > 0);
                    let number = number.ok_or_else(|| {
                        format!(
                            "{port:?} in {word} is not a port: expected HOST:PORT, with a port \
                                 from 1 to 65535"
                        )
                    })?;
                    (host, number)
                }
                _ => (word, PORT),
            };
            let host = host.trim_start_matches('[').trim_end_matches(']');
            self.addresses.push((host.to_owned(), port));
        }
        self.address_place = place.to_owned();
        match self.addresses.is_empty() {
            true => Err("expected HOST:PORT".to_owned()),
            false => Ok((Outcome::Mapped, "url".to_owned())),
        }
    }

    fn read_topic(&mut self, value: &str) -> Read {
        let rule = TopicRule::parse(value, QoS::AtMostOnce)?;
        let line = rule.to_string();
        self.topics.push(line.clone());
        Ok((Outcome::Mapped, format!("topics: {line:?}")))
    }

    /// Parses `BASE [CAP]`, in seconds.
    fn read_pauses(&mut self, value: &str, place: &str) -> Read {
        let mut words = value.split_whitespace();
        let base = number(words.next().unwrap_or_default())?.max(1);
        let cap = words.next().map(number).transpose()?.unwrap_or(base);
        let (base, cap) = (base, cap.max(base));
        let first = self.set("reconnect_min_secs", Value::Integer(base), place);
        let longest = self.set("reconnect_max_secs", Value::Integer(cap), place);
        Ok((Outcome::Mapped, format!("{first}, {longest}")))
    }

    /// Private addresses of the bridge except link-local ones, in the form of
    /// `integrations.allow_private`.
    pub(super) fn private_hosts(&self) -> Vec<String> {
        let mut hosts = Vec::new();
        for (host, _) in &self.addresses {
            match (&**host, host.parse()) {
                ("localhost", _) => hosts.extend(["127.0.0.1".to_owned(), "::1".to_owned()]),
                (_, Ok(address)) if !is_link_local(address) => hosts.push(host.clone()),
                _ => {}
            }
        }
        hosts
    }

    /// Link-local addresses of the bridge.
    pub(super) fn link_local_hosts(&self) -> impl Iterator<Item = &str> {
        let hosts = self.addresses.iter().map(|(host, _)| &**host);
        hosts.filter(|host| host.parse().is_ok_and(is_link_local))
    }

    /// Converts the bridge to a table.
    pub(super) fn table(mut self) -> Result<SinkTable, String> {
        if self.addresses.is_empty() {
            return Err("the bridge has no `address`".to_owned());
        }
        if self.topics.is_empty() {
            return Err("the bridge has no `topic`".to_owned());
        }
        let scheme = if self.is_tls { "mqtts" } else { "mqtt" };
        let urls = self
            .addresses
            .iter()
            .map(|(host, port)| match host.contains(':') {
                true => format!("{scheme}://[{host}]:{port}"),
                false => format!("{scheme}://{host}:{port}"),
            });
        let url = urls.collect::<Vec<_>>().join(", ");
        let (topics, place) = (std::mem::take(&mut self.topics), self.place.clone());
        let address_place = self.address_place.clone();
        self.set("url", Value::Text(url), &address_place);
        self.set("topics", Value::Texts(topics), &place);
        Ok(SinkTable {
            kind: bridge::NAME.to_owned(),
            place: self.place,
            may_be_private: false,
            keys: self.keys,
        })
    }
}

/// Whether an address is link-local. Cloud services that issue credentials have such addresses, so
/// an address in the file is not sufficient permission.
fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Keywords that have no effect here, or are not supported.
fn unmapped(keyword: &str, value: &str) -> Read {
    let is_false = value == "false";
    let (outcome, note) = match keyword {
        "bridge_identity" | "bridge_psk" => {
            return Err("TLS without certificates is not supported; use bridge_cafile".to_owned());
        }
        "bridge_require_ocsp" if !is_false => {
            return Err("certificate revocation is not checked".to_owned());
        }
        "round_robin" if !is_false => (
            Outcome::Unsupported,
            "the addresses are tried in their order at each connection",
        ),
        "local_username" | "local_password" => (
            Outcome::Unsupported,
            "the bridge publishes all messages of its topics here; the rules of this user are \
             ignored",
        ),
        "threshold" => (
            Outcome::Unsupported,
            "a lazy bridge connects with the first message",
        ),
        "bridge_max_packet_size" | "bridge_bind_address" | "bridge_alpn" | "bridge_tls_version" => {
            (Outcome::Unsupported, "a bridge has no such setting")
        }
        _ => (Outcome::NotNeeded, "the bridge needs no such setting"),
    };
    Ok((outcome, note.to_owned()))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| "expected a whole number".to_owned())
}

fn switch(text: &str) -> Result<Value, String> {
    match text {
        "true" => Ok(Value::Boolean(true)),
        "false" => Ok(Value::Boolean(false)),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    fn texts(values: &[&str]) -> Value {
        Value::Texts(values.iter().map(|one| (*one).to_owned()).collect())
    }

    /// The table of a bridge with these lines, `KEYWORD VALUE` each, after an address and a topic.
    fn table(lines: &[&str]) -> SinkTable {
        let mut bridge = Bridge::begin("b", "line 1").expect("a name");
        for line in [&["address h", "topic a out 1"], lines].concat() {
            let (keyword, value) = line.split_once(' ').expect("keyword and value");
            let read = bridge.read(keyword, value, "line 2");
            assert_eq!(read.map(|read| read.0), Ok(Outcome::Mapped), "{line}");
        }
        bridge.table().expect("a table")
    }

    #[test]
    fn each_line_is_a_key_of_a_bridge() {
        let (yes, no) = (Value::Boolean(true), Value::Boolean(false));
        for (lines, key, expected) in [
            (
                &["address 10.0.0.1"][..],
                "url",
                text("mqtt://h:1883, mqtt://10.0.0.1:1883"),
            ),
            (
                &["addresses [::1]:1884 x:9"],
                "url",
                text("mqtt://h:1883, mqtt://[::1]:1884, mqtt://x:9"),
            ),
            (
                &["topic # both 2 l/ r/"],
                "topics",
                texts(&["a out 1", "# both 2 l/ r/"]),
            ),
            // Mosquitto's defaults.
            (&["topic b"], "topics", texts(&["a out 1", "b out 0"])),
            (&[], "protocol", text("3.1.1")),
            (
                &["bridge_protocol_version mqttv311"],
                "protocol",
                text("3.1.1"),
            ),
            (
                &["bridge_protocol_version mqttv50"],
                "protocol",
                text("5.0"),
            ),
            (&["start_type automatic"], "start", text("automatic")),
            (&["start_type lazy"], "start", text("lazy")),
            (&["start_type once"], "start", text("once")),
            (&["idle_timeout 7"], "idle_secs", Value::Integer(7)),
            (&["notifications false"], "notifications", no.clone()),
            (
                &["notifications_local_only true"],
                "notifications_local_only",
                yes.clone(),
            ),
            (
                &["notification_topic s/t"],
                "notification_topic",
                text("s/t"),
            ),
            (&["cleansession true"], "clean_session", yes.clone()),
            (&["try_private false"], "try_private", no.clone()),
            (
                &["bridge_outgoing_retain false"],
                "outgoing_retain",
                no.clone(),
            ),
            (&["remote_clientid c"], "client_id", text("c")),
            (&["clientid c"], "client_id", text("c")),
            (&["remote_username u"], "user", text("u")),
            (
                &["remote_password p"],
                "password",
                Value::Secret("p".to_owned().into()),
            ),
            (
                &["keepalive_interval 30"],
                "keep_alive_secs",
                Value::Integer(30),
            ),
            (
                &["restart_timeout 2 9"],
                "reconnect_min_secs",
                Value::Integer(2),
            ),
            (
                &["restart_timeout 2 9"],
                "reconnect_max_secs",
                Value::Integer(9),
            ),
            (&["bridge_cafile ca.pem"], "ca_file", text("ca.pem")),
            (&["bridge_cafile ca.pem"], "url", text("mqtts://h:1883")),
            (&["bridge_capath cas"], "ca_directory", text("cas")),
            (&["bridge_capath cas"], "url", text("mqtts://h:1883")),
            (
                &["bridge_tls_use_os_certs true"],
                "url",
                text("mqtts://h:1883"),
            ),
            (
                &["bridge_certfile c.pem"],
                "certificate_file",
                text("c.pem"),
            ),
            (&["bridge_keyfile k.pem"], "key_file", text("k.pem")),
            (&["bridge_insecure true"], "any_server_name", yes.clone()),
        ] {
            let table = table(lines);
            let found = table.keys.get(key).map(|sourced| &sourced.value);
            assert_eq!(found, Some(&expected), "{lines:?}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_an_error() {
        let mut bridge = Bridge::begin("b", "line 1").expect("a name");
        for line in [
            "start_type manual",
            "bridge_protocol_version mqttv31",
            "notifications perhaps",
            "cleansession 1",
            "keepalive_interval soon",
            "address h:port",
            "topic a sideways",
            "topic a/#/b both",
            "bridge_psk 1234",
            "bridge_require_ocsp true",
        ] {
            let (keyword, value) = line.split_once(' ').expect("keyword and value");
            assert!(bridge.read(keyword, value, "line 2").is_err(), "{line}");
        }
        assert!(bridge.table().is_err(), "it has no address");
    }

    #[test]
    fn link_local_addresses_are_not_permitted_by_their_line() {
        let mut bridge = Bridge::begin("up", "a:1").expect("a bridge");
        let addresses = "10.1.2.3 169.254.169.254:1884 [fe80::1]:1885 ::ffff:169.254.0.1 localhost";
        bridge.read("addresses", addresses, "a:2").expect("a line");
        assert_eq!(bridge.private_hosts(), ["10.1.2.3", "127.0.0.1", "::1"]);
        let link_local: Vec<&str> = bridge.link_local_hosts().collect();
        assert_eq!(
            link_local,
            ["169.254.169.254", "fe80::1", "::ffff:169.254.0.1"]
        );
    }
}
