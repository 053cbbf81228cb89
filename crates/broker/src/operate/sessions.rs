//! Sessions, as operators look for them, look into them and end them.

use core::fmt::Write;
use std::sync::Arc;

use martlet_codec::ReasonCode;
use martlet_permission::{Realm, RefusalCause, RevocationReason, TenantId};

use crate::command::{ClientQuery, Search};
use crate::connection::Since;
use crate::id::RecordNumber;
use crate::losses::lost::Losses;
use crate::node::{Cx, Node};
use crate::operate::jobs::clients::ClientScan;
use crate::operate::step::{PAGE_BYTES, STEP_BYTES, Step};
use crate::report::{
    Answer, ClientDetail, ClientPage, ConnectionDetail, GroupDetail, LossTimes, WillInfo,
};
use crate::session::Session;
use crate::shard::{Ending, Shard};
use crate::time::Now;

/// Places of sessions that a step looks at.
const PLACES_PER_STEP: u32 = 1024;
/// Approximate bytes of the texts in one list about a client.
const DETAIL_BYTES: usize = 64 * 1024;

fn end_at((client_id, tenant): &(Arc<str>, TenantId)) -> (Box<str>, TenantId) {
    (client_id.as_ref().into(), *tenant)
}

impl Shard {
    pub(super) fn scan_clients(&self, scan: &mut ClientScan) -> Step {
        let places = self.sessions.places();
        let end = places.min(scan.next.saturating_add(PLACES_PER_STEP));
        let mut text = String::new();
        let mut bytes = 0;
        while scan.next < end && bytes < STEP_BYTES {
            let place = scan.next;
            if let Some(session) = self.sessions.look_at(place) {
                if self.matches_query(session, &scan.query, &mut text) {
                    scan.found(session, self.sessions.id_of(place));
                }
                if scan.query.search.is_some() {
                    bytes += self.name_bytes(session);
                }
            }
            scan.next += 1;
        }
        if scan.next < places {
            return Step::More;
        }
        // Up to the last key that was found nothing is left out, whether or not that session is
        // there yet.
        let last = scan.found.last_key_value().filter(|_| scan.more);
        let mut page = ClientPage {
            clients: Vec::new(),
            total: scan.total,
            end: last.map(|(key, _)| end_at(key)),
        };
        let mut bytes = 0;
        let mut passed = None;
        for (key, id) in &scan.found {
            if let Some(session) = self.sessions.get(*id) {
                let info = self.info(session);
                bytes += info.bytes();
                if bytes > PAGE_BYTES && !page.clients.is_empty() {
                    page.end = passed.map(end_at);
                    break;
                }
                page.clients.push(info);
            }
            passed = Some(key);
        }
        Step::Done(Answer::Clients(page), RecordNumber(0))
    }

    fn matches_query(&self, session: &Session, query: &ClientQuery, text: &mut String) -> bool {
        let is_there = session.connection().is_some();
        let mut without = query.without.iter();
        query.tenant.is_none_or(|tenant| tenant == session.tenant)
            && !without.any(|beginning| session.client_id.starts_with(beginning))
            && query
                .connected
                .is_none_or(|connected| connected == is_there)
            && query
                .user
                .as_deref()
                .is_none_or(|user| self.is_of_user(session, user))
            && query
                .search
                .as_ref()
                .is_none_or(|search| self.finds_session(session, search, text))
    }

    /// The proved identity counts, not the User Name of the CONNECT.
    fn is_of_user(&self, session: &Session, user: &str) -> bool {
        if let Some(name) = session
            .permit
            .as_ref()
            .and_then(|permit| permit.user_name())
        {
            return name == user;
        }
        let connection = session.connection();
        let connection = connection.map(|connection| self.connections.id_of(connection));
        let connection = connection.and_then(|connection| self.connections.get(connection));
        connection.is_some_and(|connection| {
            let name = connection.user_name();
            name.is_some_and(|name| **name == *user)
        })
    }

    /// Bytes of the names that a search looks through.
    fn name_bytes(&self, session: &Session) -> usize {
        let permit = session
            .permit
            .as_ref()
            .and_then(|permit| permit.user_name());
        let connection = session.connection();
        let connection = connection.and_then(|index| self.connections.look_at(index));
        let claimed = connection.and_then(|connection| connection.user_name());
        session.client_id.len() + permit.map_or(0, str::len) + claimed.map_or(0, |name| name.len())
    }

    fn finds_session(&self, session: &Session, search: &Search, text: &mut String) -> bool {
        if search.finds(&session.client_id) {
            return true;
        }
        let permit = session.permit.as_ref();
        if permit
            .and_then(|permit| permit.user_name())
            .is_some_and(|name| search.finds(name))
        {
            return true;
        }
        let Some(connection) = session.connection() else {
            return false;
        };
        let Some(connection) = self.connections.get(self.connections.id_of(connection)) else {
            return false;
        };
        if connection
            .user_name()
            .is_some_and(|name| search.finds(name))
        {
            return true;
        }
        connection.address().is_some_and(|(address, _)| {
            text.clear();
            // Writing to a text does not fail.
            let _ = write!(text, "{address}");
            search.finds(text)
        })
    }

    pub(super) fn client_detail(
        &mut self,
        now: Now,
        tenant: TenantId,
        client_id: &str,
        limit: usize,
    ) -> Option<ClientDetail> {
        let now_ms = now.mono_ms;
        let index = self.sessions.find(tenant, client_id)?;
        let (subscriptions, _) = self.subscriptions_behind(index, None, limit, DETAIL_BYTES);
        let user = self.user_of(index);
        let bound = self.limit_of_queue(index);
        let bounds = self.bounds_of_queue(self.sessions.id_of(index));
        let session = self.sessions.look_at(index)?;
        let outbound = &session.outbound;
        let is_full = outbound.queue().is_full(bounds.messages, bounds.bytes);
        let losses = session.accounting.losses();
        let drops = losses.into_iter().flat_map(Losses::by_reason);
        let (drops, dropped_at) = drops
            .map(|(reason, count, at)| ((reason, count), at))
            .unzip();
        let permit = session.permit.as_ref();
        Some(ClientDetail {
            info: self.info(session),
            user,
            has_own_rules: permit.map(|permit| permit.identity.realm == Realm::OWN_RULES),
            durable: session.durable,
            left_ms: session.left_wall_ms(),
            connection: self.connection_detail(now, session),
            will: session.will.as_ref().map(|will| WillInfo {
                topic: will.topic.clone(),
                qos: will.qos,
                retain: will.retain,
                payload_bytes: will.payload.len(),
                delay_secs: will.delay_secs,
            }),
            subscriptions,
            queued_bytes: outbound.queue().bytes(),
            queue: outbound.queue().head(limit, DETAIL_BYTES),
            in_flight: outbound.messages_in_flight(limit, DETAIL_BYTES, now_ms),
            receipts: session.receipts.receipt_count(),
            dropped_at,
            expired_at: losses.map_or_else(LossTimes::default, Losses::expired_at),
            drops,
            queue_full: is_full.then(|| self.reached(bound, None)),
            has_published: permit
                .and_then(|permit| self.noted.active_devices.has_published(permit)),
        })
    }

    fn connection_detail(&self, now: Now, session: &Session) -> Option<ConnectionDetail> {
        let connection = self.connections.id_of(session.connection()?);
        let connection = self.connections.get(connection)?;
        let aliases = connection.rare().and_then(|rare| rare.aliases.as_ref());
        Some(ConnectionDetail {
            listener: connection.listener().name.clone(),
            clean_start: connection.client().flags.clean_start(),
            admitted: connection.flags.admitted(),
            receive_maximum: connection.send_quota,
            maximum_packet_size: Some(connection.packet_bytes_max).filter(|max| *max < u32::MAX),
            topic_alias_maximum: aliases.map_or(0, |aliases| aliases.outbound_max),
            output_bytes: connection.output_len(),
            input_bytes: connection.input_len(),
            answers_gated: connection.answers_gated,
            last_packet_ms: (!connection.flags.part()).then(|| {
                let quiet_ms = connection.quiet_ms(now.mono_ms);
                let last_ms = now.wall_ms.saturating_sub(quiet_ms.into());
                // The clocks are rounded apart, and CONNECT is a packet.
                last_ms.max(session.connected_at_wall_ms())
            }),
            waits_for_store: connection.held_for_store_since != Since::NONE,
        })
    }

    /// Ends the connection of a client; false if there is none.
    pub(super) fn disconnect_client<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        client_id: &str,
        reason: ReasonCode,
    ) -> bool {
        let session = self.sessions.find(tenant, client_id);
        let connection = session.and_then(|session| self.sessions.at(session).connection());
        if let Some(connection) = connection {
            let permit = session.and_then(|session| self.sessions.at(session).permit.as_deref());
            // Revocations of the tables are checked before its rules.
            let revoked = permit.and_then(|permit| {
                self.lobby
                    .authentications
                    .revocation_of(&permit.identity, permit.last_revocation)
            });
            // DISCONNECT has no code of its own for a ban.
            let is_banned = reason == ReasonCode::Banned;
            let revoked = revoked.or(is_banned.then_some(RevocationReason::Banned));
            let ending = match revoked {
                Some(revoked) => Ending::with_disconnect(
                    ReasonCode::NotAuthorized,
                    RefusalCause::Revoked(revoked),
                ),
                None => Ending::with_disconnect(reason, RefusalCause::EndedByOperator),
            };
            self.end_connection(cx, connection, ending);
        }
        connection.is_some()
    }

    /// Ends a session, and its connection before it. Answers whether there was one, and the record
    /// of its end.
    pub(super) fn end_session_of<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        client_id: &str,
    ) -> (bool, RecordNumber) {
        let found = self.sessions.find(tenant, client_id).is_some();
        let reason = ReasonCode::AdministrativeAction;
        self.disconnect_client(cx, tenant, client_id, reason);
        // It may have ended with its connection.
        if let Some(session) = self.sessions.find(tenant, client_id) {
            self.end_session(cx, session, RefusalCause::EndedByOperator);
        }
        (found, self.end_under_way(tenant, client_id))
    }

    /// Details of the share groups with these Topic Filters that are on this shard.
    pub(super) fn group_details(&self, tenant: TenantId, filters: &[Box<str>]) -> Vec<GroupDetail> {
        let limits = &self.settings.limits;
        let (count_max, bytes_max) = (limits.queued_messages, limits.queued_bytes);
        let found = filters.iter().filter_map(|filter| {
            let (id, losses, queue) = self.groups.detail_of(tenant, filter)?;
            let bound = self.limit_of_group(id);
            let bound = bound.filter(|_| queue.is_full(count_max, bytes_max));
            Some(GroupDetail {
                filter: filter.clone(),
                queued: queue.len(),
                waiting_since_ms: queue.oldest_wall_ms(),
                drops: losses.into_iter().flat_map(Losses::by_reason).collect(),
                queue_full: bound.map(|limit| self.reached(limit, None)),
            })
        });
        found.collect()
    }
}
