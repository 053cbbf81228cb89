//! Properties: a length, then identifier and value until the length is used up.
//!
//! [`Block`] iterates over a packet's properties. It checks that identifiers exist, that they are
//! allowed in the packet, and that all but a few occur only once. Each packet reads the values.
//! MQTT 5.0 §2.2.2.

mod block;
mod connack;
mod connect;
mod id;
mod publish;
mod subscription_ids;
mod user;

pub(crate) use block::Block;
pub use connack::ConnAckProperties;
pub use connect::ConnectProperties;
pub(crate) use connect::check_authentication;
pub(crate) use id::Owner;
pub use id::PropertyId;
pub use publish::PublishProperties;
pub(crate) use subscription_ids::decode_subscription_id;
pub use subscription_ids::{SubscriptionIds, SubscriptionIdsIter};
pub use user::{UserProperties, UserPropertiesIter, encode_user_property};

pub(crate) use block::{
    decode_reason_properties, put_binary_property, put_reason_properties, put_string_property,
    put_u32_property, put_varint_property,
};
