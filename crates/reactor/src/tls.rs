//! A TLS connection without I/O. Input: bytes read from the socket. Output: decrypted bytes, and
//! bytes to be written to the socket. rustls does the work.
//!
//! Has no packets and no sockets, and does not load certificates.

mod fault;

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use martlet_broker::TlsFault;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Accepted, Acceptor};
use rustls::{CipherSuite, ServerConfig, ServerConnection};

use fault::{fault_of, only_other_keys};

/// Limit for bytes that wait to be written, and for bytes that are buffered before they can be
/// encrypted. A write takes no more than that; the rest stays with the caller.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// TLS configuration of a listener. It can be replaced while the node runs; established connections
/// keep the old one.
#[derive(Clone)]
pub struct TlsSettings(Arc<Mutex<Settings>>);

#[derive(Clone)]
struct Settings {
    /// Uses the server's order of cipher suites.
    config: Arc<ServerConfig>,
    /// Configuration, likewise, with the client's order of cipher suites, for clients that prefer
    /// ChaCha20.
    by_client: Arc<ServerConfig>,
    /// Verifier of client certificates, if the listener requests them.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl TlsSettings {
    /// Creates settings for new connections. `clients` verifies client certificates; `config`
    /// already contains it.
    pub fn new(config: Arc<ServerConfig>, clients: Option<Arc<dyn ClientCertVerifier>>) -> Self {
        let mut by_client = ServerConfig::clone(&config);
        by_client.ignore_client_order = false;
        let settings = Settings {
            config,
            by_client: Arc::new(by_client),
            clients,
        };
        Self(Arc::new(Mutex::new(settings)))
    }

    /// Replaces the settings of this value and all its clones with those of `newer`. Applies to new
    /// connections.
    pub fn replace(&self, newer: &Self) {
        let newer = newer.now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = newer;
    }

    /// Returns the current configuration for new connections.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.now().config
    }

    /// Chooses the configuration for this client. A client that lists ChaCha20 first has no AES
    /// instructions; ChaCha20 is several times faster there.
    fn config_for(&self, hello: &Accepted) -> Arc<ServerConfig> {
        let hello = hello.client_hello();
        let now = self.now();
        let known = &now.config.crypto_provider().cipher_suites;
        let mut offered = hello.cipher_suites().iter();
        let first = offered.find(|offer| known.iter().any(|known| known.suite() == **offer));
        match first.is_some_and(is_chacha20) {
            true => now.by_client,
            false => now.config,
        }
    }

    fn now(&self) -> Settings {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSettings")
    }
}

/// State of one TLS connection.
#[derive(Debug)]
pub(crate) struct Tls {
    stage: Stage,
    /// The settings that verify the client, until the handshake has completed.
    verified_by: Weak<ServerConfig>,
    /// Whether the handshake had completed at the last read.
    is_open: bool,
    /// Whether close_notify has been sent.
    is_closed: bool,
    /// Bytes of the handshake that have been received.
    handshake_bytes: usize,
    /// Whether data has been received after the handshake.
    has_data: bool,
    records: Records,
    empty_records: EmptyRecords,
    /// Bytes that have been accepted and wait to be written.
    unwritten: usize,
}

/// Counts records without data. TLS never needs many of them, and some, such as key updates, cost
/// as much as ten others. rustls permits 32 key updates per record with data, which is too many.
#[derive(Debug, Default)]
struct EmptyRecords(usize);

impl EmptyRecords {
    /// Limit for consecutive records without data.
    const MAX: usize = 32;
    /// Number of records with data that offset one record without data.
    const DATA_FOR_ONE: usize = 16;

    /// Counts records received after the handshake, without data and with data. Returns whether
    /// there were too many without data.
    fn count(&mut self, empty: usize, with_data: usize) -> bool {
        self.0 = (self.0 + empty * Self::DATA_FOR_ONE).saturating_sub(with_data);
        self.0 > Self::MAX * Self::DATA_FOR_ONE
    }
}

/// If a read brings more records than this, each is decrypted separately, so that records without
/// data can be counted.
const RECORDS_TOGETHER: usize = 8;

/// Progress in the current incomplete record; rustls buffers it until it is complete.
#[derive(Clone, Copy, Debug, Default)]
struct Records {
    header: [u8; 5],
    header_len: u8,
    /// Bytes received after its header, and bytes still to come.
    come: u16,
    left: u16,
}

/// Contents of the received bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Number of records completed.
    pub(crate) records: usize,
    /// Number of bytes.
    pub(crate) bytes: usize,
}

impl Records {
    /// Processes received bytes. Returns how many records they complete.
    fn take(&mut self, mut bytes: &[u8]) -> usize {
        let mut ended = 0;
        while let Some(end) = self.next_end(bytes) {
            bytes = &bytes[end..];
            ended += 1;
        }
        ended
    }

    /// Consumes the bytes up to the end of the current record. Returns where the record ends, or
    /// `None` if all bytes are consumed and the record is incomplete.
    fn next_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let count = (bytes.len() - at).min(usize::from(self.left));
                at += count;
                self.left -= count as u16;
                self.come += count as u16;
                if self.left > 0 {
                    return None;
                }
                self.come = 0;
                return Some(at);
            }
            self.header[usize::from(self.header_len)] = bytes[at];
            self.header_len += 1;
            at += 1;
            if usize::from(self.header_len) == self.header.len() {
                let [.., high, low] = self.header;
                (self.header_len, self.left) = (0, u16::from_be_bytes([high, low]));
                if self.left == 0 {
                    return Some(at);
                }
            }
        }
        None
    }

    /// Bytes of the incomplete record that have been received.
    fn unfinished(&self) -> usize {
        usize::from(self.come) + usize::from(self.header_len)
    }
}

/// The first bytes of a connection: enough to distinguish a CONNECT packet from other protocols.
#[derive(Clone, Copy, Debug, Default)]
struct FirstBytes {
    bytes: [u8; 13],
    len: usize,
}

impl FirstBytes {
    /// Appends received bytes, as far as they fit.
    fn add(&mut self, received: &[u8]) {
        let room = &mut self.bytes[self.len..];
        let count = room.len().min(received.len());
        room[..count].copy_from_slice(&received[..count]);
        self.len += count;
    }

    /// Returns whether the bytes received so far begin a CONNECT packet: packet type, Remaining
    /// Length and Protocol Name.
    fn begin_connect(&self) -> bool {
        const CONNECT: u8 = 0x10;
        const PROTOCOL_NAMES: [&[u8]; 2] = [b"\x00\x04MQTT", b"\x00\x06MQIsdp"];
        let [CONNECT, behind @ ..] = &self.bytes[..self.len] else {
            return false;
        };
        // All bytes of the Remaining Length but the last have the highest bit.
        let Some(last) = behind.iter().take(4).position(|byte| *byte < 0x80) else {
            return false;
        };
        let name = &behind[last + 1..];
        let mut known = PROTOCOL_NAMES.iter();
        name.len() >= 2 && known.any(|known| name.starts_with(known) || known.starts_with(name))
    }
}

/// Approximate memory of a TLS connection in bytes, without buffered data: keys and session state.
const CONNECTION_BYTES: usize = 8 * 1024;
/// Approximate memory of a TLS connection in bytes before any bytes have been received.
const ACCEPTOR_BYTES: usize = 1024;

enum Stage {
    /// The ClientHello is missing or incomplete.
    Hello {
        acceptor: Acceptor,
        settings: TlsSettings,
        first: FirstBytes,
    },
    /// The received bytes are no acceptable ClientHello. Holds the unsent bytes of the alert.
    Refused(Vec<u8>),
    /// The handshake, and everything after it.
    Answered(ServerConnection),
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello { .. } => "Hello",
            Self::Refused(_) => "Refused",
            Self::Answered(_) => "Answered",
        })
    }
}

/// Result of processing one read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decrypted {
    /// The handshake completed in this read.
    pub(crate) opened: bool,
    /// The records and bytes received.
    pub(crate) arrived: Arrived,
    /// Set if the connection ended; data decrypted before the end is still valid.
    pub(crate) end: Option<TlsEnd>,
}

/// How a TLS connection ends from the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsEnd {
    /// The client sent close_notify.
    Closed,
    /// The handshake failed, or a record cannot be decrypted.
    Failed(TlsFault),
}

impl Tls {
    /// Waits for a handshake with these settings, or with those that replace them before it begins.
    pub(crate) fn new(settings: &TlsSettings) -> Self {
        let stage = Stage::Hello {
            acceptor: Acceptor::default(),
            settings: settings.clone(),
            first: FirstBytes::default(),
        };
        Self {
            stage,
            verified_by: Weak::new(),
            is_open: false,
            is_closed: false,
            handshake_bytes: 0,
            has_data: false,
            records: Records::default(),
            empty_records: EmptyRecords::default(),
            unwritten: 0,
        }
    }

    /// Approximate memory use in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let unfinished = match self.is_open {
            true => self.records.unfinished(),
            false => self.handshake_bytes,
        };
        match &self.stage {
            Stage::Hello { .. } => ACCEPTOR_BYTES + unfinished,
            Stage::Refused(alert) => alert.capacity(),
            Stage::Answered(_) => CONNECTION_BYTES + unfinished + self.unwritten,
        }
    }

    fn connection(&self) -> Option<&ServerConnection> {
        match &self.stage {
            Stage::Answered(connection) => Some(connection),
            Stage::Hello { .. } | Stage::Refused(_) => None,
        }
    }

    /// Whether the handshake has completed and close_notify has not been sent.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open && !self.is_closed
    }

    /// The verified certificate of the client, in DER.
    pub(crate) fn certificate(&self) -> Option<Arc<[u8]>> {
        let certificates = self.connection()?.peer_certificates()?;
        certificates.first().map(|leaf| Arc::from(&**leaf))
    }

    /// Whether the handshake resumed an earlier session.
    fn is_resumed(&self) -> bool {
        let kind = self
            .connection()
            .and_then(|connection| connection.handshake_kind());
        kind == Some(rustls::HandshakeKind::Resumed)
    }

    /// Whether [`Tls::recheck`] is needed after the handshake. A resumed session does not verify
    /// the certificate again, and a full handshake verifies it with the settings from its
    /// beginning, which may have been replaced.
    pub(crate) fn needs_recheck(&self, settings: &TlsSettings) -> bool {
        let now = settings.now();
        let is_of_now =
            |config: &Arc<ServerConfig>| Weak::as_ptr(&self.verified_by) == Arc::as_ptr(config);
        self.is_resumed() || !(is_of_now(&now.config) || is_of_now(&now.by_client))
    }

    /// Checks whether the client's certificate, if any, is valid under these settings.
    ///
    /// # Errors
    /// The reason why the certificate is invalid.
    pub(crate) fn recheck(&self, settings: &TlsSettings) -> Result<(), TlsFault> {
        let chain = self
            .connection()
            .and_then(|connection| connection.peer_certificates());
        // During the handshake nothing is checked; the check follows when it has completed.
        let Some(clients) = settings.now().clients.filter(|_| self.is_open) else {
            return Ok(());
        };
        let Some((own, others)) = chain.and_then(|chain| chain.split_first()) else {
            return match clients.client_auth_mandatory() {
                true => Err(fault_of(&rustls::Error::NoCertificatesPresented, false)),
                false => Ok(()),
            };
        };
        let verified = clients.verify_client_cert(own, others, UnixTime::now());
        verified
            .map(|_| ())
            .map_err(|error| fault_of(&error, false))
    }

    /// Whether bytes wait to be written.
    pub(crate) fn has_output(&self) -> bool {
        match &self.stage {
            Stage::Hello { .. } => false,
            Stage::Refused(alert) => !alert.is_empty(),
            Stage::Answered(connection) => connection.wants_write(),
        }
    }

    /// The fault of a client that ends the connection now; none: it has sent nothing yet, or what
    /// it came for.
    pub(crate) fn fault_at_end(&self) -> Option<TlsFault> {
        match self.stage {
            Stage::Answered(_) if !self.is_open => Some(TlsFault::LeftHandshake),
            Stage::Answered(_) if !self.has_data => Some(TlsFault::LeftAfterHandshake),
            _ => None,
        }
    }

    /// Decrypts bytes read from the socket and appends the plaintext to `plain`.
    pub(crate) fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Decrypted {
        let mut ends = self.records;
        let before = plain.len();
        let mut decrypted = Decrypted {
            arrived: Arrived {
                records: self.records.take(bytes),
                bytes: bytes.len(),
            },
            ..Decrypted::default()
        };
        let records = decrypted.arrived.records;
        if !self.is_open {
            self.handshake_bytes += bytes.len();
        }
        while !bytes.is_empty() && decrypted.end.is_none() && !self.is_closed {
            let received = match &mut self.stage {
                Stage::Hello { .. } => self.receive_hello(&mut bytes, plain),
                Stage::Refused(_) => break,
                Stage::Answered(connection) if !self.is_open => {
                    receive_some(connection, &mut bytes, plain)
                }
                Stage::Answered(connection) => {
                    let (end, count) = match records > RECORDS_TOGETHER {
                        true => (ends.next_end(bytes).unwrap_or(bytes.len()), 1),
                        false => (bytes.len(), records),
                    };
                    let (part, rest) = bytes.split_at(end);
                    bytes = rest;
                    receive_part(connection, part, count, plain, &mut self.empty_records)
                }
            };
            match received {
                Ok(false) => {}
                Ok(true) => decrypted.end = Some(TlsEnd::Closed),
                Err(fault) => decrypted.end = Some(TlsEnd::Failed(fault)),
            }
        }
        let is_open = |connection: &ServerConnection| !connection.is_handshaking();
        decrypted.opened = !self.is_open && self.connection().is_some_and(is_open);
        self.is_open |= decrypted.opened;
        self.has_data |= plain.len() > before;
        decrypted
    }

    /// Processes bytes of a ClientHello. Returns true when it is complete.
    fn receive_hello(&mut self, bytes: &mut &[u8], plain: &mut Vec<u8>) -> Result<bool, TlsFault> {
        let Stage::Hello {
            acceptor,
            settings,
            first,
        } = &mut self.stage
        else {
            return Ok(false);
        };
        first.add(bytes);
        let taken = acceptor.read_tls(bytes);
        if !taken.is_ok_and(|taken| taken > 0) {
            return Err(TlsFault::RecordTooLong);
        }
        let mut kind_of_suites = None;
        let answered = match acceptor.accept() {
            Ok(None) => return Ok(false),
            Ok(Some(hello)) => {
                let config = settings.config_for(&hello);
                self.verified_by = Arc::downgrade(&config);
                kind_of_suites = only_other_keys(&hello, &config);
                hello.into_connection(config)
            }
            Err(refused) => Err(refused),
        };
        match answered {
            Ok(mut connection) => {
                connection.set_buffer_limit(Some(BUFFER_BYTES_MAX));
                // The client may have sent data right after the ClientHello.
                let closed = take_plain(&mut connection, plain);
                self.stage = Stage::Answered(connection);
                closed
            }
            Err((error, mut alert)) => {
                let fault = match fault_of(&error, true) {
                    TlsFault::NotTls if first.begin_connect() => TlsFault::PlainMqtt,
                    TlsFault::NoCipherSuite => kind_of_suites.unwrap_or(TlsFault::NoCipherSuite),
                    fault => fault,
                };
                let mut unsent = Vec::new();
                // Writing to a vector cannot fail.
                let _ = alert.write_all(&mut unsent);
                self.stage = Stage::Refused(unsent);
                Err(fault)
            }
        }
    }

    /// Sends close_notify, once. Returns true if it must be written now.
    pub(crate) fn close(&mut self) -> bool {
        if std::mem::replace(&mut self.is_closed, true) {
            return false;
        }
        if let Stage::Answered(connection) = &mut self.stage {
            connection.send_close_notify();
        }
        self.has_output()
    }

    /// Encrypts these parts and writes what is pending. Returns how many of their bytes were
    /// accepted, how many the transport took, and whether it is blocked.
    pub(crate) fn write(
        &mut self,
        transport: &mut impl Write,
        parts: &[IoSlice<'_>],
    ) -> io::Result<TlsWrote> {
        let wrote = self.write_parts(transport, parts)?;
        self.unwritten = match self.has_output() {
            true => (self.unwritten + wrote.taken).saturating_sub(wrote.written),
            false => 0,
        };
        Ok(wrote)
    }

    fn write_parts(
        &mut self,
        transport: &mut impl Write,
        parts: &[IoSlice<'_>],
    ) -> io::Result<TlsWrote> {
        let mut wrote = TlsWrote::default();
        let connection = match &mut self.stage {
            Stage::Hello { .. } => return Ok(wrote),
            Stage::Refused(alert) => {
                write_alert(alert, transport, &mut wrote)?;
                return Ok(wrote);
            }
            Stage::Answered(connection) => connection,
        };
        for part in parts {
            let mut rest = &part[..];
            let mut is_full = false;
            while !rest.is_empty() {
                let taken = connection.writer().write(rest)?;
                wrote.taken += taken;
                rest = &rest[taken..];
                if rest.is_empty() {
                    break;
                }
                flush(connection, transport, &mut wrote)?;
                if wrote.blocked || is_full && taken == 0 {
                    return Ok(wrote);
                }
                is_full = taken == 0;
            }
        }
        flush(connection, transport, &mut wrote)?;
        Ok(wrote)
    }
}

/// Processes bytes that complete this number of records. Returns true if the client sent
/// close_notify.
fn receive_part(
    connection: &mut ServerConnection,
    mut bytes: &[u8],
    records: usize,
    plain: &mut Vec<u8>,
    empty_records: &mut EmptyRecords,
) -> Result<bool, TlsFault> {
    let before = plain.len();
    let mut is_closed = false;
    while !bytes.is_empty() && !is_closed {
        is_closed = receive_some(connection, &mut bytes, plain)?;
    }
    // Each record with data has at least one byte of it.
    let with_data = records.min(plain.len() - before);
    match empty_records.count(records - with_data, with_data) {
        true => Err(TlsFault::EmptyRecords),
        false => Ok(is_closed),
    }
}

/// Processes some of the bytes. Returns true if the client sent close_notify.
fn receive_some(
    connection: &mut ServerConnection,
    bytes: &mut &[u8],
    plain: &mut Vec<u8>,
) -> Result<bool, TlsFault> {
    // This fails only if the buffer is full, and the buffer is emptied each time.
    let taken = connection.read_tls(bytes);
    if !taken.is_ok_and(|taken| taken > 0) {
        return Err(TlsFault::RecordTooLong);
    }
    take_plain(connection, plain)
}

fn take_plain(connection: &mut ServerConnection, plain: &mut Vec<u8>) -> Result<bool, TlsFault> {
    let was_handshaking = connection.is_handshaking();
    let state = connection.process_new_packets();
    let state = state.map_err(|error| fault_of(&error, was_handshaking))?;
    let start = plain.len();
    plain.resize(start + state.plaintext_bytes_to_read(), 0);
    let read = connection.reader().read_exact(&mut plain[start..]);
    if read.is_err() {
        plain.truncate(start);
    }
    Ok(state.peer_has_closed())
}

fn flush(
    connection: &mut ServerConnection,
    transport: &mut impl Write,
    wrote: &mut TlsWrote,
) -> io::Result<()> {
    while connection.wants_write() && count(connection.write_tls(transport), wrote)? > 0 {}
    Ok(())
}

fn write_alert(
    alert: &mut Vec<u8>,
    transport: &mut impl Write,
    wrote: &mut TlsWrote,
) -> io::Result<()> {
    while !alert.is_empty() {
        match count(transport.write(alert), wrote)? {
            0 => break,
            written => drop(alert.drain(..written)),
        }
    }
    Ok(())
}

/// Counts the bytes that a write took. If it would block, marks the transport as blocked.
fn count(written: io::Result<usize>, wrote: &mut TlsWrote) -> io::Result<usize> {
    let written = match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        written => written?,
    };
    wrote.written += written;
    wrote.blocked |= written == 0;
    Ok(written)
}

fn is_chacha20(suite: &CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// Result of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsWrote {
    /// Input bytes that were accepted and must not be offered again.
    pub(crate) taken: usize,
    /// Bytes that the transport took.
    pub(crate) written: usize,
    /// The transport is blocked.
    pub(crate) blocked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_of_a_connect_packet_are_known() {
        let is_connect = |pieces: &[&[u8]]| {
            let mut first = FirstBytes::default();
            pieces.iter().for_each(|piece| first.add(piece));
            first.begin_connect()
        };
        assert!(is_connect(&[
            b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
        ]));
        assert!(is_connect(&[b"\x10\xff\xff\xff\x01\x00\x06MQIsdp\x03"]));
        assert!(is_connect(&[b"\x10", b"\x80\x01\x00", b"\x04"]));
        assert!(!is_connect(&[b"\x10\x0c\x00\x04M", &[0; 64]]));
        for other in [
            &b""[..],
            b"\x10",
            b"\x10\x0c\x00",
            b"\x10\x0c\x00\x05MQTT",
            b"\x30\x0c\x00\x04MQTT",
            b"\x10\xff\xff\xff\xff\x00\x04MQTT",
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01\x02\x00\x01",
        ] {
            assert!(!is_connect(&[other]), "{other:?}");
        }
    }

    #[test]
    fn records_without_data_are_few_in_a_row_and_few_among_others() {
        let mut empty = EmptyRecords::default();
        assert!(!empty.count(EmptyRecords::MAX, 0));
        assert!(empty.count(1, 0));
        let mut empty = EmptyRecords::default();
        let few = |empty: &mut EmptyRecords| empty.count(1, EmptyRecords::DATA_FOR_ONE);
        assert!((0..1000).all(|_| !few(&mut empty)));
        let many = |empty: &mut EmptyRecords| empty.count(2, EmptyRecords::DATA_FOR_ONE);
        assert!((0..1000).any(|_| many(&mut empty)));
    }

    #[test]
    fn of_records_that_come_in_pieces_what_is_unfinished_is_known() {
        let record = |len: u16| {
            let [high, low] = len.to_be_bytes();
            let mut bytes = vec![23, 3, 3, high, low];
            bytes.resize(5 + usize::from(len), 0);
            bytes
        };
        let all = [record(3), record(0), record(16_000), record(1)].concat();
        let ends = [0, 8, 13, 16_018, 16_024];
        for piece in [1, 2, 7, 1000, all.len()] {
            let mut records = Records::default();
            let mut come = 0;
            for bytes in all.chunks(piece) {
                records.take(bytes);
                come += bytes.len();
                let end = ends.iter().rev().find(|end| **end <= come);
                let behind = come - end.copied().unwrap_or_default();
                let (whole, found) = (behind.saturating_sub(5), records.unfinished());
                // A complete header is not counted.
                assert_eq!(found, if behind < 5 { behind } else { whole }, "{come}");
            }
        }
    }
}
