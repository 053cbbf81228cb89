//! An MQTT client session (3.1, 3.1.1 and 5.0) without I/O, and its adapter for tokio.
//!
//! [`Session`] is the protocol. Its input is received bytes, requests and the time; its output is
//! bytes to send and [`Event`]s. It opens no socket and reads no clock, so it can be tested without
//! either. [`Client`] drives one session over TCP or WebSocket.
//!
//! The crate does not depend on the broker, and does not decide when to reconnect; that is up to
//! its user. A session outlives its connections; call [`Session::connect`] for the next one.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use martlet_client::{Client, ConnectOptions, Endpoint, Event, Session, SubscribeRequest};
//! use martlet_codec::QoS;
//!
//! let mut client = Client::new(Session::new());
//! client.connect(&Endpoint::tcp("localhost", 1883), &ConnectOptions::default()).await?;
//! loop {
//!     match client.next_event().await? {
//!         Event::Connected(_) => {
//!             let now = client.now();
//!             let request = SubscribeRequest::one("sensors/#", QoS::AtLeastOnce);
//!             client.session().subscribe(&request, now)?;
//!         }
//!         Event::Message(message) => println!("{}: {:?}", message.topic, message.payload),
//!         _ => {}
//!     }
//! }
//! # }
//! ```
#![forbid(unsafe_code)]

mod message;
mod net;
mod options;
mod session;

pub use message::{Message, MessageProperties, UserPropertyList};
pub use net::{Client, Endpoint, NetError, Transport};
pub use options::{ConnectOptions, Password, SubscribeRequest, UnsubscribeRequest, Will};
pub use session::{
    Acknowledgement, Authentication, ConnAckInfo, Direction, Event, PacketSummary, RequestError,
    RequestId, Session, SessionError, TracedPacket,
};
