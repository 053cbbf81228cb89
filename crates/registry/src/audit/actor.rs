//! The caller of a change, and the teams whose objects it sees.

/// Which objects a call sees. All others are as if they did not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Visibility {
    /// Everybody's.
    All,
    /// Objects of the team of this id.
    Team(String),
}

impl Visibility {
    /// The objects of the team of this id, if there is one; else everybody's.
    pub fn of(team: Option<&str>) -> Self {
        team.map_or(Self::All, |team| Self::Team(team.to_owned()))
    }

    /// The team, if it is one's.
    pub fn team(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Team(team) => Some(team),
        }
    }

    /// Whether objects of this team are seen; empty: objects without a team.
    pub(crate) fn sees(&self, team: &str) -> bool {
        self.team().is_none_or(|own| own == team)
    }
}

/// The caller as the audit log names it, and what it may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// A user or another caller.
    pub who: String,
    /// How: by an API key, a session or the command line.
    pub by: String,
    /// From where; empty: from this machine.
    pub address: String,
    /// The request, if it has an id.
    pub request_id: String,
    /// Objects that they may see and change.
    pub visibility: Visibility,
}

impl Actor {
    /// The user of this process, at the command line, with all rights.
    pub fn local() -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata("/proc/self");
        Self {
            who: found.map_or_else(|_| String::new(), |own| format!("uid {}", own.uid())),
            by: "command".to_owned(),
            address: String::new(),
            request_id: String::new(),
            visibility: Visibility::All,
        }
    }
}
