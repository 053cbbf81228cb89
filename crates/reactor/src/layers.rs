//! What lies between a socket and MQTT: what a proxy says, TLS, WebSocket, all or none of them.

use crate::proxy::ProxyHeader;
use crate::tls::Tls;
use crate::websocket::WebSocket;

/// The layers of one connection, from the socket upwards.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Until it has come.
    pub(crate) proxy: Option<ProxyHeader>,
    pub(crate) tls: Option<Tls>,
    pub(crate) web: Option<WebSocket>,
}

impl Layers {
    /// None where MQTT is spoken over the socket itself.
    pub(crate) fn new(
        proxy: Option<ProxyHeader>,
        tls: Option<Tls>,
        web: Option<WebSocket>,
    ) -> Option<Box<Self>> {
        let layers = Self { proxy, tls, web };
        layers.is_any().then(|| Box::new(layers))
    }

    /// There is something between.
    pub(crate) fn is_any(&self) -> bool {
        self.proxy.is_some() || self.tls.is_some() || self.web.is_some()
    }

    /// MQTT may be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.proxy.is_none()
            && self.tls.as_ref().is_none_or(Tls::is_open)
            && self.web.as_ref().is_none_or(WebSocket::is_open)
    }

    /// There is something to be written besides MQTT.
    pub(crate) fn has_output(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::has_output)
            || self.web.as_ref().is_some_and(WebSocket::has_answers)
    }

    /// Ends the layers from the server's side, once all MQTT has been written.
    pub(crate) fn close(&mut self) {
        if let Some(web) = &mut self.web {
            web.close();
        }
    }
}
