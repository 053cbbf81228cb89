//! Keys with a fixed list of values, and the meaning of these.

use martlet_access::Subscribing;
use martlet_broker::{QueueFull, RateExceeded};
use martlet_certificates::{ClientCertificates, NameFrom};
use martlet_control::authentication::sources::{Algorithm, HookForm};
use martlet_control::telemetry::{MissingTime, Skew, TimeUnit};
use martlet_settings::words;

/// The owner of the words of this crate, see [`martlet_settings::Setting`].
pub(super) struct Here;

/// Guarantee of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreDurability {
    /// The record is on the disk, synced.
    Sync,
    /// The record is written.
    Interval,
    /// Nothing is written.
    Memory,
}

words! {
    StoreDurability {
        "sync" => Sync,
        "interval" => Interval,
        "memory" => Memory,
    }
}

/// Oldest version of TLS that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

words! {
    TlsVersion {
        "1.2" => V12,
        "1.3" => V13,
    }
}

/// Whether a feature is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enabled {
    /// Depends on other keys.
    Auto,
    /// Used.
    On,
    /// Not used.
    Off,
}

words! {
    Enabled {
        "auto" => Auto,
        "on" => On,
        "off" => Off,
    }
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

words! {
    LogFormat {
        "text" => Text,
        "json" => Json,
    }
}

/// Format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsForm {
    Prometheus,
    Json,
}

words! {
    MetricsForm {
        "prometheus" => Prometheus,
        "json" => Json,
    }
}

/// How devices may register on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiscoveryMode {
    /// Registration is disabled.
    Off,
    /// The provisioning key is used as the password.
    Password,
    /// The provisioning key may also be in the payload.
    Payload,
}

words! {
    DiscoveryMode {
        "off" => Off,
        "password" => Password,
        "payload" => Payload,
    }
}

words! {
    ClientCertificates {
        "off" => Off,
        "optional" => Optional,
        "required" => Required,
    }
}

words! {
    NameFrom or "off" {
        "common-name" => CommonName,
        "san-dns" => SanDns,
        "san-uri" => SanUri,
        "san-email" => SanEmail,
        "subject" => Subject,
    }
}

words! {
    Algorithm or "of the set" {
        "HS256" => HS256,
        "HS384" => HS384,
        "HS512" => HS512,
        "RS256" => RS256,
        "RS384" => RS384,
        "RS512" => RS512,
        "PS256" => PS256,
        "PS384" => PS384,
        "PS512" => PS512,
        "ES256" => ES256,
        "ES384" => ES384,
        "EdDSA" => EdDSA,
    }
}

words! {
    HookForm {
        "panel" => Panel,
        "status" => Status,
        "go-auth" => GoAuth,
        "result" => Result,
    }
}

words! {
    Subscribing {
        "at_delivery" => AtDelivery,
        "refuse" => Refuse,
    }
}

words! {
    QueueFull {
        "drop-oldest" => DropOldest,
        "drop-newest" => DropNewest,
        "disconnect" => Disconnect,
    }
}

words! {
    RateExceeded {
        "delay" => Delay,
        "drop-qos0" => DropQos0,
        "disconnect" => Disconnect,
    }
}

/// Format of a telemetry payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadFormat {
    Json,
    Line,
    Value,
}

words! {
    PayloadFormat {
        "json" => Json,
        "line" => Line,
        "value" => Value,
    }
}

words! {
    MissingTime {
        "received" => Received,
        "reject" => Reject,
    }
}

words! {
    Skew {
        "received" => Received,
        "reject" => Reject,
        "keep" => Keep,
    }
}

words! {
    TimeUnit {
        "auto" => Auto,
        "s" => Seconds,
        "ms" => Millis,
        "us" => Micros,
        "ns" => Nanos,
    }
}
