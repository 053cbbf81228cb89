//! The lines of `-d`: packets that a client sends and receives.
//!
//! Responsible for mosquitto's wording. Payloads and credentials are not printed, because a traced
//! packet contains neither.

use martlet_client::{Direction, PacketSummary, TracedPacket};

/// Formats traced packets.
#[derive(Debug, Default)]
pub(crate) struct PacketLog {
    /// The last number assigned to a request. Messages of QoS 0 are counted too, as in mosquitto.
    last_mid: u16,
}

impl PacketLog {
    /// The lines for one packet of the client with this id.
    pub(crate) fn lines(&mut self, client_id: &str, traced: &TracedPacket) -> Vec<String> {
        let what = match traced.direction {
            Direction::Sent => self.sent(&traced.packet),
            Direction::Received => vec![received(&traced.packet)],
        };
        let verb = match traced.direction {
            Direction::Sent => "sending",
            Direction::Received => "received",
        };
        what.into_iter()
            .map(|what| format!("Client {client_id} {verb} {what}"))
            .collect()
    }

    fn sent(&mut self, packet: &PacketSummary) -> Vec<String> {
        use PacketSummary as P;
        let line = match packet {
            P::Publish { packet_id, .. } => {
                self.last_mid = match packet_id {
                    Some(id) => id.get(),
                    None => self.last_mid.wrapping_add(1),
                };
                publish(packet, self.last_mid)
            }
            P::PubAck { packet_id, reason } => {
                format!("PUBACK (m{packet_id}, rc{})", reason.code())
            }
            P::PubRec { packet_id, reason } => {
                format!("PUBREC (m{packet_id}, rc{})", reason.code())
            }
            P::PubRel { packet_id } => format!("PUBREL (m{packet_id})"),
            P::PubComp { packet_id, .. } => format!("PUBCOMP (m{packet_id})"),
            P::Subscribe { packet_id, filters } => {
                self.last_mid = packet_id.get();
                let line = |(filter, options): &(String, u8)| {
                    let (qos, options) = (options & 3, options & 0xfc);
                    format!(
                        "SUBSCRIBE (Mid: {packet_id}, Topic: {filter}, QoS: {qos}, \
                         Options: 0x{options:02x})"
                    )
                };
                return filters.iter().map(line).collect();
            }
            P::Unsubscribe { packet_id, filters } => {
                self.last_mid = packet_id.get();
                let line = |filter| format!("UNSUBSCRIBE (Mid: {packet_id}, Topic: {filter})");
                return filters.iter().map(line).collect();
            }
            other => name(other).to_owned(),
        };
        vec![line]
    }
}

fn received(packet: &PacketSummary) -> String {
    use PacketSummary as P;
    match packet {
        P::ConnAck { code } => format!("CONNACK ({code})"),
        P::Publish { packet_id, .. } => publish(packet, packet_id.map_or(0, |id| id.get())),
        P::PubAck { packet_id, reason } => {
            format!("PUBACK (Mid: {packet_id}, RC:{})", reason.code())
        }
        P::PubRec { packet_id, .. } => format!("PUBREC (Mid: {packet_id})"),
        P::PubRel { packet_id } => format!("PUBREL (Mid: {packet_id})"),
        P::PubComp { packet_id, reason } => {
            format!("PUBCOMP (Mid: {packet_id}, RC:{})", reason.code())
        }
        P::Auth { reason } => format!("AUTH ({})", reason.code()),
        P::Disconnect { reason } => format!("DISCONNECT ({})", reason.code()),
        other => name(other).to_owned(),
    }
}

fn publish(packet: &PacketSummary, mid: u16) -> String {
    let PacketSummary::Publish {
        duplicate,
        qos,
        retain,
        topic,
        payload_len,
        ..
    } = packet
    else {
        return String::new();
    };
    let (duplicate, retain) = (u8::from(*duplicate), u8::from(*retain));
    let topic = if topic.is_empty() { "(null)" } else { topic };
    let qos = qos.bits();
    format!(
        "PUBLISH (d{duplicate}, q{qos}, r{retain}, m{mid}, '{topic}', ... ({payload_len} bytes))"
    )
}

fn name(packet: &PacketSummary) -> &'static str {
    use PacketSummary as P;
    match packet {
        P::Connect => "CONNECT",
        P::ConnAck { .. } => "CONNACK",
        P::Publish { .. } => "PUBLISH",
        P::PubAck { .. } => "PUBACK",
        P::PubRec { .. } => "PUBREC",
        P::PubRel { .. } => "PUBREL",
        P::PubComp { .. } => "PUBCOMP",
        P::Subscribe { .. } => "SUBSCRIBE",
        P::SubAck { .. } => "SUBACK",
        P::Unsubscribe { .. } => "UNSUBSCRIBE",
        P::UnsubAck { .. } => "UNSUBACK",
        P::Auth { .. } => "AUTH",
        P::PingReq => "PINGREQ",
        P::PingResp => "PINGRESP",
        P::Disconnect { .. } => "DISCONNECT",
    }
}
