//! The client of a session: who it is, where it is, and the heads of events about it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::connected_client::UserName;
use crate::event_head::EventHead;
use crate::shard::Shard;

impl Shard {
    /// Where the client of a session is, if it is connected.
    pub(crate) fn peer_of(&mut self, session: u32) -> Option<(IpAddr, u16)> {
        let connection = self.sessions.at(session).connection()?;
        self.connections.at(connection).address()
    }

    /// Head of an event about the client of this session.
    pub(crate) fn head_of(&mut self, session: u32) -> EventHead {
        let session = self.sessions.at(session);
        EventHead::new(session.tenant, Arc::clone(&session.client_id))
    }

    /// Head of an event about the client of this session, with its user.
    pub(crate) fn head_with_user(&mut self, session: u32) -> EventHead {
        let user = self.user_of(session);
        self.head_of(session).with_user(user)
    }

    /// The user of a session: the name that its client has proved, or, where no proof is asked for,
    /// the one that it gives while it is connected.
    pub(crate) fn user_of(&mut self, session: u32) -> Option<UserName> {
        let session = self.sessions.at(session);
        if let Some(permit) = &session.permit {
            return permit.identity.user_name.clone().map(UserName::Proved);
        }
        let connection = session.connection()?;
        let claimed = self.connections.at(connection).user_name().cloned();
        claimed.map(UserName::Claimed)
    }

    /// Where packets of a session may go: before its CONNACK nothing does [MQTT-3.2.0-1].
    pub(crate) fn admitted_connection(&mut self, index: u32) -> Option<u32> {
        let connection = self.sessions.at(index).connection()?;
        let admitted = self.connections.at(connection).flags.admitted();
        admitted.then_some(connection)
    }
}
