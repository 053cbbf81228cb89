//! Remedies for limits that were reached: each names the option of the configuration.

use martlet_broker::Limit;

use super::worded_remedy::WordedRemedy;

/// Remedy for a limit that was reached.
// Table: the remedy of each limit.
pub(crate) fn by_limit(limit: Limit) -> Option<WordedRemedy> {
    let option = limit.option();
    let raise = match limit {
        // Of the tables, and of none but integrations.
        Limit::UserSessions | Limit::PartQueue => format!("raise {option}"),
        _ if option.starts_with("auth.") => format!("raise {option} (martlet reload reads it)"),
        _ => format!("raise {option} and restart the node"),
    };
    WordedRemedy::words(match limit {
        Limit::ListenerConnections => {
            "raise max_connections of the listener and restart the node, or find the clients \
             that use the most connections (martlet client ls)"
                .to_owned()
        }
        Limit::MaximumQos => format!(
            "have the client use a lower QoS, or {raise} (max_qos, if its listener sets it)"
        ),
        Limit::RetainAvailable
        | Limit::WildcardSubscriptions
        | Limit::SharedSubscriptions
        | Limit::SubscriptionIdentifiers => {
            let key = option.rsplit('.').next().unwrap_or_default();
            format!(
                "have the client not use it, or set {option} = true and restart the node ({key}, \
                 if its listener sets it)"
            )
        }
        Limit::PacketBytes | Limit::ConnectPacketBytes | Limit::PayloadBytes | Limit::WillBytes => {
            format!("{raise}, or have the client send less at once")
        }
        Limit::ClientIdBytes | Limit::TopicBytes | Limit::TopicLevels => {
            format!("{raise}, or give the client a shorter one")
        }
        Limit::TopicAliasMaximum | Limit::ReceiveMaximum => format!(
            "have the client keep to what CONNACK permits: look at its MQTT library; or raise \
             {option}"
        ),
        Limit::ConnectTimeout => format!(
            "find out what connects from that address: an MQTT client sends CONNECT immediately; a \
             port scanner, a health check or a program that speaks TLS or another protocol does \
             not; on a slow network, {raise} (connect_timeout_secs, if its listener sets it)"
        ),
        Limit::AuthenticateTimeout => format!(
            "find out what delays the login: the program behind auth.hook_url, the server with the \
             keys of tokens, or a client that does not answer; or {raise}"
        ),
        Limit::PublishRate | Limit::PublishBytesRate => {
            format!("have the client publish less, or {raise}")
        }
        Limit::QueuedMessages | Limit::QueuedBytes | Limit::MemoryShare => of_queue(option),
        Limit::PartQueue => {
            format!(
                "find out why the integration delivers its messages too late, or raise its \
                 {option} (and restart the node, if the configuration has it)"
            )
        }
        Limit::UserSessions => format!(
            "have the device connect with the same Client Identifier each time, so that it resumes its \
             session, let its sessions expire sooner, or {raise} of its device type"
        ),
        Limit::DiscoverySecs => format!(
            "have the device register as soon as it is connected, and connect again with its \
             secret; or {raise}"
        ),
        Limit::OutputBytes => format!(
            "have the client read faster, or subscribe with QoS 1, so that messages wait in its \
             queue; or {raise}"
        ),
        Limit::OutputStalled => {
            format!("check the client and the network to it: it reads nothing; or {raise}")
        }
        Limit::KeepAliveMax => format!(
            "the client, or the network to it, is silent for too long: have it ping more often, or \
             {raise}"
        ),
        Limit::TeamStore => format!(
            "make room: have the clients of the team connect whose messages are queued, end their \
             sessions (martlet session ls), or delete retained messages; or {raise}; martlet team \
             show has what each team uses"
        ),
        Limit::StoreBytes => format!(
            "{raise}, or make room: have the clients connect whose messages are queued, or end \
             their sessions (martlet session ls); martlet health shows when there is room again"
        ),
        Limit::DiskFull => {
            "make room on the disk of the data directory: martlet health shows when there is room \
             again"
                .to_owned()
        }
        Limit::StoreStalled => {
            "check the disk of the message store; for details, run martlet status".to_owned()
        }
        Limit::Memory | Limit::MemoryOfLogins | Limit::MemoryOfClient => {
            format!("{raise}, or give the machine more memory")
        }
        Limit::Sessions => format!(
            "end the sessions of clients that do not connect again (martlet session ls, martlet \
             session rm CLIENT), let them expire sooner (limits.session_expiry_max_secs), or \
             {raise}"
        ),
        Limit::WillsBytes => format!(
            "{raise}, which the shards (node.threads) share in equal parts, or have the clients \
             set shorter Wills (limits.will_bytes limits each)"
        ),
        Limit::MemoryKept => format!(
            "martlet health shows what uses the memory: remove some of it, limit it \
             (limits.retained_bytes, limits.wills_bytes, limits.sessions), or {raise}"
        ),
        _ => format!("{raise}, or find the clients that use the most"),
    })
}

/// Remedy for a queue that is full, by these options.
pub(super) fn of_queue(options: &str) -> String {
    format!(
        "have the client connect more often or read faster, let the session of a client that does \
         not connect again expire sooner, or raise {options} and restart the node"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_names_the_option_of_the_limit() {
        for limit in Limit::ALL {
            let worded = by_limit(*limit).unwrap_or_default();
            let is_named = worded.text.contains(limit.option());
            let of_disk = matches!(limit, Limit::StoreStalled | Limit::DiskFull);
            assert!(is_named || of_disk, "{}", worded.text);
        }
    }
}
