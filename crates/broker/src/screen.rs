//! Messages that the control plane looks at before they are routed: registrations of devices, and
//! messages that name their device by `api_key` in the payload.
//!
//! The packet stays in the input of its connection until the answer is there, and what came behind
//! it waits too, so that a client's messages keep their order. Then the packet is worked off with
//! the answer. Clients whose messages are not screened are not looked at here: their rules permit
//! what they publish, or forbid it.

pub(crate) mod screenings;

use core::hash::BuildHasher;
use std::sync::Arc;

use martlet_codec::{FixedHeader, QoS};
use martlet_permission::{Actions, Names, Refusal, RefusalCause, TenantId};

use crate::node::{Cx, Node};
use crate::part::hold::looked_at;
use crate::screen::screenings::PendingScreening;
use crate::screening::{Screened, Screening, ScreeningKind};
use crate::session::permit::Permit;
use crate::shard::Shard;

/// Flags of PUBLISH that do not describe the message: DUP.
const DUP: u8 = 0b1000;

impl Shard {
    /// Whether a PUBLISH waits until the control plane has looked at it. It is asked here.
    #[cold]
    #[inline(never)]
    pub(crate) fn waits_for_screening<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        header: &FixedHeader,
        body: &[u8],
    ) -> bool {
        let Some(session) = self.connections.at(index).session() else {
            return false;
        };
        let screens = self.sessions.at(session).permit.as_ref();
        let screens = screens.map_or_else(Default::default, |permit| permit.identity.screens);
        if !screens.any() {
            return false;
        }
        let packet = self.seed.hash_one((header.flags & !DUP, body));
        let connection = self.connections.at(index);
        if let Some(pending) = connection.screening() {
            if pending.is_of(packet) {
                return pending.waits();
            }
            // It is another message's.
            if let Some(pending) = connection.take_rare(|rare| rare.screening.take()) {
                self.screenings.ended(&pending);
            }
        }
        // What is wrong with a packet is found when it is worked off.
        let Some(publish) = looked_at(header, body, connection.version) else {
            return false;
        };
        let aliased = connection.topic_of_alias(&publish);
        let Some(topic) = publish
            .topic
            .map(|topic| topic.as_str())
            .or(aliased.as_deref())
        else {
            return false;
        };
        let discovery = connection.listener().discovery.as_ref();
        let is_registration = screens.registrations
            && discovery.is_some_and(|discovery| discovery.id_of(topic).is_some());
        let kind = match is_registration {
            true => ScreeningKind::Registration,
            false if screens.payload_keys && may_have_key(publish.payload) => {
                ScreeningKind::PayloadKey
            }
            false => return false,
        };
        let is_repeated = publish.qos == QoS::ExactlyOnce
            && publish
                .packet_id
                .is_some_and(|id| self.sessions.at(session).receipts.receipt(id).is_some());
        if is_repeated || self.settings.limits.is_payload_too_long(publish.payload) {
            return false;
        }
        let id = self.connections.id_of(index);
        let pending = self.screenings.begin(id, packet, body.len());
        let is_requested = pending.is_requested();
        self.connections.at(index).make_rare().screening = Some(Box::new(pending));
        if is_requested {
            let screening = self.screening(index, session, kind, topic, publish.payload);
            cx.effects.screenings.push(screening);
        }
        true
    }

    pub(crate) fn screening(
        &mut self,
        index: u32,
        session: u32,
        kind: ScreeningKind,
        topic: &str,
        payload: &[u8],
    ) -> Screening {
        let session = self.sessions.at(session);
        let identity = session.permit.as_ref().map(|permit| &permit.identity);
        let (tenant, client_id) = (session.tenant, Arc::clone(&session.client_id));
        let user_name = identity.and_then(|identity| identity.user_name.clone());
        let is_applicant = identity.is_some_and(|identity| identity.is_applicant);
        let connection = self.connections.id_of(index);
        let found = self.connections.at(index);
        Screening {
            connection,
            kind,
            listener: Arc::clone(found.listener()),
            address: found.address(),
            version: found.version,
            tenant,
            client_id,
            user_name,
            is_applicant,
            topic: topic.into(),
            payload: payload.into(),
        }
    }

    /// A connection has ended, or what it has sent is not worked off: its message, if one is looked
    /// at, leaves room for others.
    pub(crate) fn end_screening(&mut self, pending: Option<Box<PendingScreening>>) {
        if self.screenings.is_used {
            if let Some(pending) = pending {
                self.screenings.ended(&pending);
            }
            self.screen_queued();
        }
    }

    /// There is room for messages that wait: their clients go on.
    fn screen_queued(&mut self) {
        while let Some(id) = self.screenings.next_queued() {
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            let queued =
                connection.take_rare(|rare| rare.screening.take_if(|pending| pending.is_queued()));
            if queued.is_some() {
                self.queue_input(id.index);
            }
        }
    }

    /// Takes the answer of the control plane to the message at the front of the input, if it was
    /// asked.
    pub(crate) fn take_screened(&mut self, index: u32) -> Option<Screened> {
        let connection = self.connections.at(index);
        let pending =
            connection.take_rare(|rare| rare.screening.take_if(|pending| !pending.waits()));
        if let Some(pending) = &pending {
            self.screenings.ended(pending);
        }
        self.screen_queued();
        pending.and_then(|pending| pending.into_answer())
    }

    /// Why a device may not publish to this topic; none: it may.
    pub(crate) fn why_not_of_device(
        &self,
        tenant: TenantId,
        topic: &str,
        permit: &Permit,
    ) -> Option<Refusal> {
        if permit.identity.tenant != tenant {
            let detail = "the device is in another tenant than its client";
            return Some(Refusal::operators_only(RefusalCause::Forbidden, detail));
        }
        if let Some(reason) = self
            .lobby
            .authentications
            .revocation_of(&permit.identity, permit.last_revocation)
        {
            return Some(RefusalCause::Revoked(reason).into());
        }
        let name = permit.user_name().unwrap_or_default();
        let names = Names {
            client_id: name,
            user_name: name,
        };
        permit.may(Actions::PUBLISH, topic, names).err()
    }
}

/// Whether a payload may have a member `api_key`. Its name may be written with an escape.
pub(crate) fn may_have_key(payload: &[u8]) -> bool {
    let has = |text: &[u8]| payload.windows(text.len()).any(|window| window == text);
    has(b"api_key") || has(b"\\u")
}
