//! Packets that tests write and read directly, in one protocol version.

use martlet_codec::{
    Connect, OutgoingPublish, Packet, PacketId, ProtocolVersion, QoS, RetainHandling, Subscribe,
    SubscribeFilter, SubscriptionOptions, UserProperties, decode_packet,
};

/// A Packet Identifier; tests use identifiers from 1.
pub(crate) fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("tests use identifiers from 1")
}

/// A CONNECT as bytes.
pub(crate) fn encoded(connect: &Connect<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    bytes
}

/// A SUBSCRIBE with Packet Identifier 1.
pub(crate) fn subscribe<F: AsRef<str>>(
    version: ProtocolVersion,
    filters: &[F],
    qos: QoS,
) -> Vec<u8> {
    let options = SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    };
    let filters: Vec<SubscribeFilter<'_>> = filters
        .iter()
        .map(|filter| SubscribeFilter {
            filter: filter.as_ref(),
            options,
        })
        .collect();
    let (id, none) = (packet_id(1), UserProperties::default());
    let mut bytes = Vec::new();
    Subscribe::encode_parts(version, id, None, none, &filters, &mut bytes);
    bytes
}

/// A PUBLISH; its Packet Identifier is `id` above QoS 0.
pub(crate) fn publish(
    version: ProtocolVersion,
    topic: &str,
    qos: QoS,
    id: u16,
    retain: bool,
    payload: &[u8],
) -> Vec<u8> {
    let packet = OutgoingPublish {
        dup: false,
        qos,
        retain,
        topic: topic.as_bytes(),
        packet_id: (qos > QoS::AtMostOnce).then(|| packet_id(id)),
        topic_alias: None,
        message_expiry_secs: None,
        subscription_ids: &[],
        forwarded: &[],
        payload,
    };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

/// Calls `seen` with each packet that the broker has written. All must be complete.
pub(crate) fn packets(version: ProtocolVersion, bytes: &[u8], mut seen: impl FnMut(Packet<'_>)) {
    let mut rest = bytes;
    while let Some((packet, length)) =
        decode_packet(rest, version).expect("the broker writes well-formed packets")
    {
        seen(packet);
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "the broker writes whole packets");
}
