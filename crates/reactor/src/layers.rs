//! The layers between a socket and MQTT: PROXY header, TLS, WebSocket, in any combination.

use martlet_broker::TlsFault;
use martlet_tick::Layers as _;

use crate::proxy::ProxyHeader;
use crate::tls::Tls;
use crate::websocket::WebSocket;

/// The layers of one connection, from the socket upwards.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Set until the header is complete.
    pub(crate) proxy: Option<ProxyHeader>,
    pub(crate) tls: Option<Tls>,
    pub(crate) web: Option<WebSocket>,
    /// Memory in bytes that was last reported to the shard.
    charged: u32,
}

/// Memory is reported in multiples of this, so that small changes are not reported.
const CHARGED_UNIT: usize = 512;

impl Layers {
    /// Returns `None` if MQTT is used directly over the socket.
    pub(crate) fn new(
        proxy: Option<ProxyHeader>,
        tls: Option<Tls>,
        web: Option<WebSocket>,
    ) -> Option<Box<Self>> {
        let layers = Self {
            proxy,
            tls,
            web,
            charged: 0,
        };
        layers.is_any().then(|| Box::new(layers))
    }
}

impl martlet_tick::Layers for Layers {
    fn is_open(&self) -> bool {
        self.proxy.is_none()
            && self.tls.as_ref().is_none_or(Tls::is_open)
            && self.web.as_ref().is_none_or(WebSocket::is_open)
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.is_open())
    }

    fn fault_at_end(&self) -> Option<TlsFault> {
        self.tls.as_ref()?.fault_at_end()
    }

    fn is_any(&self) -> bool {
        self.proxy.is_some() || self.tls.is_some() || self.web.is_some()
    }

    fn has_output(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::has_output)
            || self.web.as_ref().is_some_and(WebSocket::has_answers)
    }

    fn close(&mut self) {
        if let Some(web) = &mut self.web {
            web.close();
        }
    }

    fn say_end(&mut self) -> bool {
        self.tls.as_mut().is_some_and(Tls::close)
    }

    fn charge(&mut self) -> Option<(u32, u32)> {
        let bytes = size_of::<Self>()
            + self.proxy.as_ref().map_or(0, ProxyHeader::bytes)
            + self.tls.as_ref().map_or(0, Tls::bytes)
            + self.web.as_ref().map_or(0, WebSocket::bytes);
        let bytes = bytes.next_multiple_of(CHARGED_UNIT) as u32;
        let before = std::mem::replace(&mut self.charged, bytes);
        (bytes != before).then_some((bytes, before))
    }

    fn discharge(&mut self) -> u32 {
        std::mem::take(&mut self.charged)
    }
}
