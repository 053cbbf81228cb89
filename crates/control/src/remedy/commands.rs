//! Command lines about this node.

use martlet_broker::TenantId;

use crate::control::Control;
use crate::text::typed;

impl Control {
    /// A command of this program with the options that name the node.
    pub(crate) fn command_with_options(&self, command: &str, arguments: &str) -> String {
        let options = match &*self.info.command_options {
            "" => String::new(),
            options => format!("{options} "),
        };
        format!("martlet {command} {options}{arguments}")
    }

    /// A command that needs no arguments.
    pub(crate) fn listing_command(&self, command: &str) -> String {
        self.command_with_options(command, "").trim_end().to_owned()
    }

    /// The same about an object of a tenant, which may be that of a team.
    pub(crate) fn command_of_tenant(
        &self,
        command: &str,
        tenant: TenantId,
        arguments: &str,
    ) -> String {
        let team = self.team_of_tenant(tenant).unwrap_or_default();
        self.command_of_team(command, &team, arguments)
    }

    /// The same about an object of a team; empty: of none.
    pub(crate) fn command_of_team(&self, command: &str, team: &str, arguments: &str) -> String {
        let team = match team {
            "" => String::new(),
            team => format!("--team {} ", typed(team)),
        };
        self.command_with_options(command, &format!("{team}{arguments}"))
    }
}
