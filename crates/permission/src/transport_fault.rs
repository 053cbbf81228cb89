//! Faults below MQTT: TLS, WebSocket and the PROXY header, each a closed list.
//!
//! The driver detects the faults. This module has only their names and texts.

macro_rules! faults {
    ($(#[$what:meta])* $name:ident { $($variant:ident = $text:literal;)* }) => {
        $(#[$what])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            /// All faults of this list.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Description of the fault, for operators and for the client.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

faults! {
    /// Why a TLS handshake or connection failed.
    TlsFault {
        NotTls = "the received data is not TLS: this listener expects TLS (mqtts or wss)";
        PlainMqtt = "plain MQTT was received at a port of TLS";
        NoVersion = "no TLS version in common: the client's is older than the listener accepts";
        NoCipherSuite = "no TLS cipher suite in common";
        OnlyRsa = "no TLS cipher suite in common: the client's suites are for RSA, and the key of the listener's certificate is ECDSA";
        OnlyEcdsa = "no TLS cipher suite in common: the client's suites are for ECDSA, and the key of the listener's certificate is RSA";
        NoKeyExchange = "no TLS key exchange group in common";
        NoSignatureOfServer = "no signature scheme in common with the server's certificate";
        NoSignatureOfClient = "no signature scheme in common with the client's certificate";
        NoExtension = "the client's TLS lacks an extension that the server needs";
        NoApplicationProtocol = "no application protocol (ALPN) in common";
        CertificateMissing = "the listener requires a client certificate, none came";
        CertificateExpired = "the client's certificate has expired";
        CertificateNotYetValid = "the client's certificate is not valid yet";
        CertificateRevoked = "the client's certificate is revoked";
        CertificateOfCa = "the client shows the certificate of a CA, or one that it signed itself, not one that a CA issued to it";
        CertificateForeign = "the client's certificate is of another CA";
        CertificateNotForClients = "the client's certificate is not for clients";
        CertificateNotSigned = "the client's certificate is not signed by the CA that it names";
        CertificateVersion = "the client's certificate is not of X.509 version 3: issue a new one, or accept version 1 with x509_version1";
        CertificateInvalid = "the client's certificate is not valid";
        RevocationListExpired = "the revocation list has expired: renew it";
        ServerNotTrusted = "the client does not trust the server's certificate";
        ServerExpired = "the client reports that the server's certificate has expired";
        EndedByClient = "the client ended the TLS handshake";
        LeftHandshake = "the client ended the connection in the TLS handshake, without an alert";
        LeftAfterHandshake = "the client ended the connection after the TLS handshake, before it sent anything";
        RecordTooLong = "the client sent more than a TLS record may contain";
        EmptyRecords = "too many TLS records without data in a row, such as key updates";
        Undecryptable = "the received data cannot be decrypted";
        Failed = "the TLS connection failed";
    }
}

faults! {
    /// Why a WebSocket request was refused, or a frame ended the connection.
    WebSocketFault {
        NotHttp = "not an HTTP request";
        Malformed = "malformed HTTP request";
        HeadTooLong = "request head longer than 8 KiB";
        TooManyHeaders = "more than 64 headers";
        NotGet = "method is not GET";
        HttpVersion = "HTTP version is not 1.1";
        UnknownPath = "unknown path";
        NoHost = "no Host header";
        HasBody = "request with a body";
        HeaderTwice = "header given twice";
        HeaderNotUtf8 = "header is not UTF-8";
        NotWebSocket = "not a request for a WebSocket connection";
        Version = "WebSocket version is not 13";
        Key = "Sec-WebSocket-Key is not 16 bytes in base64";
        OriginNotAllowed = "the origin of the page is not allowed";
        NoSubprotocol = "subprotocol mqtt is not offered";
        ReservedBits = "reserved bits set without an extension";
        TextFrame = "text frame; MQTT needs binary frames";
        ReservedOpcode = "reserved opcode";
        NotMasked = "frame of a client is not masked";
        FragmentedControl = "fragmented control frame";
        ControlTooLong = "control frame longer than 125 bytes";
        NothingToContinue = "continuation without a message to continue";
        MessageUnfinished = "new message before the last fragment of another";
        LengthForm = "payload length not in its only valid form";
        FrameTooLong = "frame longer than the largest packet allowed";
        EmptyFrames = "too many empty frames";
        CloseHalfCode = "Close frame with half a status code";
        CloseCode = "Close frame with a forbidden code";
        CloseNotUtf8 = "Close frame with a reason that is not UTF-8";
    }
}

faults! {
    /// Why a connection through a proxy was refused.
    ProxyFault {
        Missing = "the connection did not begin with a PROXY header: this listener accepts only proxies";
        Malformed = "the PROXY header is malformed";
        TooLong = "the PROXY header is longer than 4096 bytes";
        Unexpected = "a PROXY header was received: this listener does not accept proxies";
        NotTrusted = "this listener accepts only proxies, and this address is not one of them";
    }
}
