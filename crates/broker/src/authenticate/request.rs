//! Requests to authenticate a client.

use std::sync::Arc;

use crate::authentication::{Authentication, Password, Step};
use crate::connect_request::{ConnectRequest, WaitingConnect};
use crate::connection::Phase;
use crate::exchange::state::Exchange;
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::timer::Timer;

impl Shard {
    /// Requests the authentication of a client before its CONNECT is accepted.
    pub(crate) fn request_authentication<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        request: ConnectRequest,
        password: Option<Password>,
        step: Option<Step>,
    ) {
        let id = self.connections.id_of(index);
        let timeout_ms = u64::from(self.settings.limits.authenticate_timeout_secs) * 1000;
        let timer = Timer::ConnectDeadline(id);
        let timer = self.timers.wheel.arm(cx.now.mono_ms + timeout_ms, timer);
        let connection = self.connections.at(index);
        connection.phase = Phase::Authenticating;
        let certificate = connection
            .lobby_mut()
            .and_then(|state| state.certificate.take());
        // The client has done its part: the authenticator has a deadline of its own.
        if let Some(deadline) = connection.deadline.replace(timer) {
            self.timers.wheel.cancel(deadline);
        }
        let waiting = WaitingConnect::new(request);
        let request = &waiting.request;
        cx.effects.authentications.push(Authentication {
            connection: id,
            listener: Arc::clone(connection.listener()),
            realm: connection.listener().realm,
            address: connection.address(),
            version: request.version,
            client_id: Arc::clone(&request.client_id),
            user_name: request.user_name.clone(),
            password,
            certificate,
            waiter: waiting.waiter(),
            step,
        });
        if let Some(method) = &request.authentication_method {
            let exchange = Exchange::requested(Arc::clone(method));
            connection.make_rare().exchange = Some(Box::new(exchange));
        }
        let bytes = waiting.bytes();
        if let Some(state) = connection.lobby_mut() {
            state.waiting = Some(Box::new(waiting));
        }
        self.change_held(id, |held| held.request = bytes as u32);
    }
}
