//! The list of what all teams share: `docs/teams.md` has the same list, with what happens beyond a
//! share.

/// Who has a share of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PoolOwner {
    /// The clients of a tenant.
    Tenant,
    /// A team, with a tenant of its own or without.
    Team,
}

macro_rules! pools {
    ($($pool:ident $name:literal $unit:literal $owner:ident $meaning:literal;)*) => {
        /// Pool that all teams share; each team may use a part of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Pool {
            $(#[doc = concat!($meaning, ".")] $pool,)*
        }

        impl Pool {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$pool),*];

            /// The name, as in the API and in metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$pool => $name),* }
            }

            /// Returns what is counted: `bytes`, or `count` for a number of things.
            pub fn unit(self) -> &'static str {
                match self { $(Self::$pool => $unit),* }
            }

            /// Returns what is shared, as in the documentation.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$pool => $meaning),* }
            }

            pub(super) fn owner(self) -> PoolOwner {
                match self { $(Self::$pool => PoolOwner::$owner),* }
            }
        }
    };
}

pools! {
    Connections "connections" "count" Tenant "Connections of clients";
    Sessions "sessions" "count" Tenant "Sessions of clients";
    RetainedMessages "retained_messages" "count" Tenant "Retained messages";
    RetainedBytes "retained_bytes" "bytes" Tenant "Bytes of retained messages";
    StoredBytes "stored_bytes" "bytes" Tenant "Bytes of stored messages";
    SubscriptionBytes "subscription_bytes" "bytes" Tenant "Memory of subscriptions";
    WillBytes "will_bytes" "bytes" Tenant "Bytes of Wills";
    TelemetryKeys "telemetry_keys" "count" Tenant "Keys of devices in telemetry";
    TelemetryBytes "telemetry_bytes" "bytes" Tenant "Bytes of telemetry on the disk";
    TelemetryQueries "telemetry_queries" "count" Team "Queries of telemetry that run at once";
    TelemetryResultBytes "telemetry_result_bytes" "bytes" Team "Memory for the results of these";
    TelemetryStreams "telemetry_streams" "count" Team
        "Streams that follow telemetry (`/telemetry/tail`)";
    PreviousValues "previous_values" "count" Tenant "Values that rules remember for `previous`";
    Alarms "alarms" "count" Tenant "Alarms, and devices that one may come of";
    WaitingRequests "waiting_requests" "count" Tenant "Requests that wait for their response";
    FirmwareBytes "firmware_bytes" "bytes" Team "Bytes of firmware files";
    Rules "rules" "count" Team "Rules added through the API";
    Webhooks "webhooks" "count" Team "Webhooks added through the API";
    Bridges "bridges" "count" Team "Bridges added through the API";
    Rollouts "rollouts" "count" Team "Rollouts that have not ended";
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn the_documentation_lists_the_same_pools() {
        let page = include_str!("../../../../docs/teams.md");
        let table = page.split("\n## What teams share\n").nth(1).unwrap();
        let table = table.split("\n## ").next().unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| "));
        let listed = rows.skip(1).map(|row| {
            let mut cells = row.split('|').skip(1).map(str::trim);
            let (meaning, name) = (cells.next().unwrap(), cells.next().unwrap());
            (meaning.to_owned(), name.trim_matches('`').to_owned())
        });
        let pools = Pool::ALL.iter();
        let pools = pools.map(|pool| (pool.meaning().to_owned(), pool.name().to_owned()));
        assert_eq!(listed.collect::<Vec<_>>(), pools.collect::<Vec<_>>());
    }
}
