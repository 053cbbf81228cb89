//! Reads the packet table (`tests/packets/*.txt`, format in its README) and prints packets in the
//! format of the table. Independent of the assertions.
#![allow(dead_code)] // Each test binary uses a part.

use std::fmt::{Display, Write};
use std::path::Path;

use martlet_codec::{
    Ack, Auth, ConnAck, Connect, DecodeError, Disconnect, Packet, PacketType, ProtocolVersion,
    Publish, PublishProperties, QoS, ReasonCode, SubAck, Subscribe, UnsubAck, Unsubscribe,
    UserProperties, decode_fixed_header, decode_packet,
};

/// One block of the table.
#[derive(Debug)]
pub(crate) struct Case {
    pub name: String,
    pub spec: String,
    pub version: ProtocolVersion,
    pub bytes: Vec<u8>,
    pub expect: String,
}

/// All cases of all files, in the order of the files' names.
pub(crate) fn table() -> Vec<Case> {
    // Also found from sibling crates.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../codec/tests/packets");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("the table's folder")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a table file");
        parse(&text, &path.display().to_string(), &mut cases);
    }
    cases
}

fn parse(text: &str, file: &str, cases: &mut Vec<Case>) {
    for (index, line) in text.lines().enumerate() {
        let line = without_comment(line);
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("{file}:{}", index + 1);
        if let Some(name) = line.strip_prefix("name:") {
            cases.push(Case {
                name: name.trim().to_owned(),
                spec: String::new(),
                version: ProtocolVersion::V5,
                bytes: Vec::new(),
                expect: String::new(),
            });
            continue;
        }
        let case = cases
            .last_mut()
            .unwrap_or_else(|| panic!("{place}: no name yet"));
        match line.split_once(':') {
            Some(("spec", value)) => case.spec = value.trim().to_owned(),
            Some(("version", value)) => case.version = parse_version(value.trim(), &place),
            Some(("expect", value)) => case.expect = value.trim().to_owned(),
            Some(("hex", _)) => {}
            _ if line.starts_with(' ') => parse_hex(line, &place, &mut case.bytes),
            _ => panic!("{place}: not understood: {line}"),
        }
    }
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (index, c) in line.char_indices() {
        match c {
            '"' if !line[..index].ends_with('\\') => quoted = !quoted,
            '#' if !quoted => return line[..index].trim_end(),
            _ => {}
        }
    }
    line.trim_end()
}

fn parse_version(text: &str, place: &str) -> ProtocolVersion {
    match text {
        "3.1" => ProtocolVersion::V31,
        "3.1.1" => ProtocolVersion::V311,
        "5.0" => ProtocolVersion::V5,
        _ => panic!("{place}: no version: {text}"),
    }
}

fn parse_hex(line: &str, place: &str, bytes: &mut Vec<u8>) {
    for word in line.split_whitespace() {
        let (group, times) = word.split_once('*').unwrap_or((word, "1"));
        let group: Vec<u8> = group
            .split('.')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{place}: {word}")))
            .collect();
        let times: usize = times.parse().unwrap_or_else(|_| panic!("{place}: {word}"));
        bytes.extend_from_slice(&group.repeat(times));
    }
}

/// The result of decoding `bytes`, in the format of the table.
pub(crate) fn outcome(bytes: &[u8], version: ProtocolVersion) -> String {
    match decode_packet(bytes, version) {
        Ok(None) => "incomplete".to_owned(),
        Ok(Some((packet, len))) if len == bytes.len() => describe(&packet),
        Ok(Some((packet, len))) => format!("{} (and only {len} bytes)", describe(&packet)),
        Err(error) => {
            let mut text = describe_error(&error);
            if let Some(answer) = connect_answer(bytes) {
                let _ = write!(text, " answer={answer}");
            }
            text
        }
    }
}

fn describe_error(error: &DecodeError) -> String {
    let statement = if error.statement.is_empty() {
        "-"
    } else {
        error.statement
    };
    format!("error 0x{:02X} {statement}", error.reason.code())
}

/// The version of the answer to a rejected CONNECT.
fn connect_answer(bytes: &[u8]) -> Option<String> {
    let header = decode_fixed_header(bytes).ok()??;
    if header.packet_type != PacketType::Connect {
        return None;
    }
    let refused = Connect::decode(header.flags, &bytes[usize::from(header.header_len)..]).err()?;
    Some(
        refused
            .version
            .map_or("none".to_owned(), |version| version.to_string()),
    )
}

/// A packet in the format of the table.
pub(crate) fn describe(packet: &Packet<'_>) -> String {
    let mut line = Line(packet.packet_type().name().to_owned());
    match packet {
        Packet::Connect(packet) => describe_connect(packet, &mut line),
        Packet::ConnAck(packet) => describe_connack(packet, &mut line),
        Packet::Publish(packet) => describe_publish(packet, &mut line),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            describe_ack(ack, &mut line)
        }
        Packet::Subscribe(packet) => describe_subscribe(packet, &mut line),
        Packet::SubAck(packet) => describe_suback(packet, &mut line),
        Packet::Unsubscribe(packet) => describe_unsubscribe(packet, &mut line),
        Packet::UnsubAck(packet) => describe_unsuback(packet, &mut line),
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(packet) => describe_disconnect(packet, &mut line),
        Packet::Auth(packet) => describe_auth(packet, &mut line),
    }
    line.0
}

/// A line that fields are appended to.
struct Line(String);

impl Line {
    fn flag(&mut self, key: &str, set: bool) {
        if set {
            let _ = write!(self.0, " {key}");
        }
    }

    fn value(&mut self, key: &str, value: impl Display) {
        let _ = write!(self.0, " {key}={value}");
    }

    fn some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.value(key, value);
        }
    }

    fn bytes(&mut self, key: &str, value: &[u8]) {
        self.value(key, quoted(value));
    }

    fn some_text(&mut self, key: &str, value: Option<&str>) {
        self.some(key, value.map(|text| quoted(text.as_bytes())));
    }

    fn some_bytes(&mut self, key: &str, value: Option<&[u8]>) {
        self.some(key, value.map(quoted));
    }

    fn reason(&mut self, reason: ReasonCode) {
        if reason != ReasonCode::Success {
            self.value("reason", format_args!("0x{:02X}", reason.code()));
        }
    }

    fn qos(&mut self, key: &str, qos: QoS) {
        if qos != QoS::AtMostOnce {
            self.value(key, qos.bits());
        }
    }

    fn user_properties(&mut self, key: &str, properties: UserProperties<'_>) {
        if properties.count() > 8 {
            return self.value(key, format_args!("count:{}", properties.count()));
        }
        for (name, value) in properties.iter() {
            let pair = format!("{}:{}", quoted(name.as_bytes()), quoted(value.as_bytes()));
            self.value(key, pair);
        }
    }

    fn codes(&mut self, codes: &[u8]) {
        let texts: Vec<_> = codes.iter().map(|code| format!("{code:02X}")).collect();
        if !texts.is_empty() {
            self.value("codes", texts.join(","));
        }
    }

    fn publish_properties(&mut self, prefix: &str, p: &PublishProperties<'_>) {
        self.some(
            &format!("{prefix}payload_format_utf8"),
            p.payload_format_utf8,
        );
        self.some(&format!("{prefix}message_expiry"), p.message_expiry_secs);
        self.some(&format!("{prefix}topic_alias"), p.topic_alias);
        self.some_text(&format!("{prefix}response_topic"), p.response_topic);
        self.some_bytes(&format!("{prefix}correlation_data"), p.correlation_data);
        self.some_text(&format!("{prefix}content_type"), p.content_type);
        for id in p.subscription_ids.iter() {
            self.value(&format!("{prefix}subscription_id"), id);
        }
        self.user_properties(&format!("{prefix}user"), p.user_properties);
    }
}

fn quoted(bytes: &[u8]) -> String {
    if bytes.len() > 64 {
        return format!("len:{}", bytes.len());
    }
    format!("\"{}\"", bytes.escape_ascii())
}

fn describe_connect(packet: &Connect<'_>, line: &mut Line) {
    line.value("version", packet.version);
    line.flag("bridge", packet.bridge);
    line.flag("clean_start", packet.clean_start);
    if packet.keep_alive_secs != 0 {
        line.value("keep_alive", packet.keep_alive_secs);
    }
    line.bytes("client_id", packet.client_id.as_bytes());
    line.some_text("user_name", packet.user_name);
    line.some_bytes("password", packet.password);
    if let Some(will) = &packet.will {
        line.bytes("will.topic", will.topic.as_bytes());
        line.bytes("will.payload", will.payload);
        line.qos("will.qos", will.qos);
        line.flag("will.retain", will.retain);
        line.some("will.delay", will.delay_secs);
        line.publish_properties("will.", &will.properties);
    }
    let p = &packet.properties;
    line.some("session_expiry", p.session_expiry_secs);
    line.some("receive_maximum", p.receive_maximum);
    line.some("maximum_packet_size", p.maximum_packet_size);
    line.some("topic_alias_maximum", p.topic_alias_maximum);
    line.some(
        "request_response_information",
        p.request_response_information,
    );
    line.some("request_problem_information", p.request_problem_information);
    line.some_text("authentication_method", p.authentication_method);
    line.some_bytes("authentication_data", p.authentication_data);
    line.user_properties("user", p.user_properties);
}

fn describe_connack(packet: &ConnAck<'_>, line: &mut Line) {
    line.flag("session_present", packet.session_present);
    line.reason(packet.reason);
    let p = &packet.properties;
    line.some("session_expiry", p.session_expiry_secs);
    line.some("receive_maximum", p.receive_maximum);
    line.some("maximum_qos", p.maximum_qos.map(QoS::bits));
    line.some("retain_available", p.retain_available);
    line.some("maximum_packet_size", p.maximum_packet_size);
    line.some_text("assigned_client_id", p.assigned_client_id);
    line.some("topic_alias_maximum", p.topic_alias_maximum);
    line.some_text("reason_string", p.reason_string);
    line.user_properties("user", p.user_properties);
    line.some(
        "wildcard_subscription_available",
        p.wildcard_subscription_available,
    );
    line.some("subscription_ids_available", p.subscription_ids_available);
    line.some(
        "shared_subscription_available",
        p.shared_subscription_available,
    );
    line.some("server_keep_alive", p.server_keep_alive_secs);
    line.some_text("response_information", p.response_information);
    line.some_text("server_reference", p.server_reference);
    line.some_text("authentication_method", p.authentication_method);
    line.some_bytes("authentication_data", p.authentication_data);
}

fn describe_publish(packet: &Publish<'_>, line: &mut Line) {
    line.flag("dup", packet.dup);
    line.qos("qos", packet.qos);
    line.flag("retain", packet.retain);
    line.some_text("topic", packet.topic.map(|topic| topic.as_str()));
    line.some("id", packet.packet_id);
    line.publish_properties("", &packet.properties);
    line.bytes("payload", packet.payload);
}

fn describe_ack(packet: &Ack<'_>, line: &mut Line) {
    line.value("id", packet.packet_id);
    line.reason(packet.reason);
    line.some_text("reason_string", packet.reason_string);
    line.user_properties("user", packet.user_properties);
}

fn describe_subscribe(packet: &Subscribe<'_>, line: &mut Line) {
    line.value("id", packet.packet_id);
    line.some("subscription_id", packet.subscription_id);
    line.user_properties("user", packet.user_properties);
    if packet.filter_count() > 8 {
        return line.value("filters", format_args!("count:{}", packet.filter_count()));
    }
    for filter in packet.filters() {
        line.bytes("filter", filter.filter.as_bytes());
        line.qos("qos", filter.options.qos);
        line.flag("no_local", filter.options.no_local);
        line.flag("retain_as_published", filter.options.retain_as_published);
        let retain_handling = filter.options.retain_handling as u8;
        line.some(
            "retain_handling",
            (retain_handling > 0).then_some(retain_handling),
        );
    }
}

fn describe_suback(packet: &SubAck<'_>, line: &mut Line) {
    line.value("id", packet.packet_id);
    line.codes(packet.reason_codes);
    line.some_text("reason_string", packet.reason_string);
    line.user_properties("user", packet.user_properties);
}

fn describe_unsubscribe(packet: &Unsubscribe<'_>, line: &mut Line) {
    line.value("id", packet.packet_id);
    line.user_properties("user", packet.user_properties);
    for filter in packet.filters() {
        line.bytes("filter", filter.as_bytes());
    }
}

fn describe_unsuback(packet: &UnsubAck<'_>, line: &mut Line) {
    line.value("id", packet.packet_id);
    line.codes(packet.reason_codes);
    line.some_text("reason_string", packet.reason_string);
    line.user_properties("user", packet.user_properties);
}

fn describe_disconnect(packet: &Disconnect<'_>, line: &mut Line) {
    line.reason(packet.reason);
    line.some("session_expiry", packet.session_expiry_secs);
    line.some_text("reason_string", packet.reason_string);
    line.some_text("server_reference", packet.server_reference);
    line.user_properties("user", packet.user_properties);
}

fn describe_auth(packet: &Auth<'_>, line: &mut Line) {
    line.reason(packet.reason);
    line.some_text("authentication_method", packet.authentication_method);
    line.some_bytes("authentication_data", packet.authentication_data);
    line.some_text("reason_string", packet.reason_string);
    line.user_properties("user", packet.user_properties);
}
