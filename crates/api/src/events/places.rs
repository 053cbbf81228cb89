//! How many streams of events there are at once: of one caller, of one team and of all, so that
//! none of them keeps the others from reading.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use martlet_control::principal::{Principal, PrincipalKind, Scopes};

use crate::problem::Problem;

/// Streams at once.
const ALL_MAX: usize = 256;
/// Of one key, user or other caller.
const OF_CALLER_MAX: usize = 32;
/// Of all keys and users of one team.
const OF_TEAM_MAX: usize = 64;
/// Left for administrators and `admin.sock` by all others.
const FOR_ADMINISTRATORS: usize = 48;
/// Left for `admin.sock` by administrators, too.
const FOR_SOCKET: usize = 16;

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    all: usize,
    of_caller: HashMap<String, usize>,
    of_team: HashMap<String, usize>,
}

/// A stream that is open, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    streams: Arc<Streams>,
    caller: String,
    team: Option<String>,
}

/// How many streams there may be when this caller opens one.
fn most(principal: &Principal) -> usize {
    let is_administrator = principal.team.is_none() && principal.scopes == Scopes::all();
    match principal.kind {
        PrincipalKind::Socket => ALL_MAX,
        _ if is_administrator => ALL_MAX - FOR_SOCKET,
        _ => ALL_MAX - FOR_ADMINISTRATORS,
    }
}

impl Streams {
    /// A place for one more.
    ///
    /// # Errors
    /// Which limit is reached.
    pub(super) fn open(self: &Arc<Self>, principal: &Principal) -> Result<Place, Problem> {
        let (caller, team) = (principal.to_string(), principal.team.clone());
        let mut open = self.lock();
        let count = |of: &HashMap<String, usize>, name: &str| of.get(name).copied().unwrap_or(0);
        let own = count(&open.of_caller, &caller);
        let of_team = team.as_deref().map_or(0, |team| count(&open.of_team, team));
        let is_socket = principal.kind == PrincipalKind::Socket;
        let why = match () {
            () if own >= OF_CALLER_MAX && !is_socket => {
                format!("{caller} has {OF_CALLER_MAX} streams of events open")
            }
            () if of_team >= OF_TEAM_MAX => {
                format!("the team has {OF_TEAM_MAX} streams of events open")
            }
            () if open.all >= most(principal) => {
                format!("{} streams of events are open", open.all)
            }
            () => {
                open.all += 1;
                *open.of_caller.entry(caller.clone()).or_default() += 1;
                if let Some(team) = &team {
                    *open.of_team.entry(team.clone()).or_default() += 1;
                }
                let streams = Arc::clone(self);
                return Ok(Place {
                    streams,
                    caller,
                    team,
                });
            }
        };
        let detail = format!("{why}, which is the limit; close one of them first");
        Err(Problem::unavailable(detail))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn give_back(of: &mut HashMap<String, usize>, name: &str) {
    if let Some(count) = of.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            of.remove(name);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        open.all -= 1;
        give_back(&mut open.of_caller, &self.caller);
        if let Some(team) = &self.team {
            give_back(&mut open.of_team, team);
        }
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::TenantId;
    use martlet_control::principal::Scope;

    use super::*;

    fn key(id: usize, team: Option<&str>, scopes: Scopes) -> Principal {
        Principal {
            kind: PrincipalKind::ApiKey { id: id.to_string() },
            scopes,
            team: team.map(str::to_owned),
            tenant: TenantId::default(),
        }
    }

    /// Opens streams of this caller until there is no place.
    fn fill(streams: &Arc<Streams>, principal: &Principal) -> Vec<Place> {
        std::iter::from_fn(|| streams.open(principal).ok()).collect()
    }

    #[test]
    fn neither_a_key_nor_a_team_nor_all_others_take_every_stream() {
        let streams = Arc::new(Streams::default());
        let reads: Scopes = [Scope::EventsRead].into();
        let mut all = Vec::new();
        let one = fill(&streams, &key(0, Some("north"), reads));
        assert_eq!(one.len(), OF_CALLER_MAX);
        all.extend(one);
        for id in 1..9 {
            all.extend(fill(&streams, &key(id, Some("north"), reads)));
        }
        assert_eq!(all.len(), OF_TEAM_MAX, "whatever keys the team has");
        for id in 10..30 {
            all.extend(fill(&streams, &key(id, None, reads)));
        }
        assert_eq!(all.len(), ALL_MAX - FOR_ADMINISTRATORS);
        let by_administrators = fill(&streams, &key(40, None, Scopes::all()));
        assert_eq!(by_administrators.len(), OF_CALLER_MAX);
        let by_socket = fill(&streams, &Principal::socket());
        assert_eq!(by_socket.len(), FOR_SOCKET);
        drop((all, by_administrators, by_socket));
        let open = streams.lock();
        assert_eq!(open.all, 0);
        assert!(open.of_caller.is_empty() && open.of_team.is_empty());
    }
}
