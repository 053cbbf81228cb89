//! Commands of operators and of the control plane.

use martlet_codec::{QoS, ReasonCode};
use martlet_permission::{RefusalCause, TenantId};

use crate::command::{Command, SysTopic};
use crate::connection::Phase;
use crate::message::Publication;
use crate::node::{Cx, Node};
use crate::report::{Answer, Report};
use crate::review::reviews::Affected;
use crate::routing::Origin;
use crate::shard::Shard;
use crate::shard::end::{Ending, WillAtEnd};
use crate::work::COMMAND;

impl Shard {
    /// Runs a command.
    pub fn command<N: Node>(&mut self, cx: &mut Cx<'_, N>, command: Command) {
        self.work.add(COMMAND);
        match command {
            Command::Snapshot { request } => self.begin_counters(cx, request),
            Command::SessionRules {
                request,
                tenant,
                client_id,
            } => {
                let answer = Answer::SessionRules(self.session_rules(tenant, &client_id));
                cx.effects.reports.push(Report { request, answer });
            }
            Command::PublishSys(topics) => {
                for topic in &topics {
                    self.publish_sys(cx, topic);
                }
            }
            Command::Revoke(revocations) => self.revoke(cx.now.mono_ms, &revocations),
            Command::SetRules(book) => self.set_rule_book(book),
            Command::Ask(listeners) => self.require_authentication_at(listeners),
            Command::CheckBans(on) => self.lobby.authentications.checks_bans = on,
            Command::SetRulesOf { book, users } => {
                self.new_rule_book(book, Affected::Users(users));
            }
            Command::SetEvents(interest) => self.set_events(cx, interest),
            Command::Shutdown => self.shut_down(cx),
            Command::Clients { .. }
            | Command::ClientDetail { .. }
            | Command::GroupDetails { .. }
            | Command::Unmatched { .. }
            | Command::RetainedEnded { .. }
            | Command::ActiveDevices { .. }
            | Command::TenantUses { .. }
            | Command::Subscriptions { .. }
            | Command::Retained { .. }
            | Command::Traffic { .. }
            | Command::Publish { .. }
            | Command::DeleteRetained { .. }
            | Command::Disconnect { .. }
            | Command::EndSession { .. }
            | Command::Subscribe { .. }
            | Command::Unsubscribe { .. } => self.operate(cx, command),
        }
        self.settle(cx);
    }

    fn shut_down<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        self.lobby.stopping = true;
        for id in self.connections.ids() {
            let cause = RefusalCause::ServerStopping;
            match self.connections.at(id.index).phase {
                Phase::Accepted => {
                    let ending = Ending {
                        will: WillAtEnd::Kept,
                        ..Ending::with_disconnect(ReasonCode::ServerShuttingDown, cause)
                    };
                    self.end_connection(cx, id.index, ending);
                }
                Phase::Lobby | Phase::Authenticating | Phase::Challenged => {
                    self.refuse(cx, id.index, None, ReasonCode::ServerUnavailable, cause);
                }
                Phase::Closing => {}
            }
        }
    }

    fn publish_sys<N: Node>(&mut self, cx: &mut Cx<'_, N>, topic: &SysTopic) {
        let publication = Publication {
            id: self.next_message_id(),
            tenant: TenantId(0),
            publisher: None,
            topic: &topic.topic,
            forwarded: &[],
            payload: topic.payload.as_bytes(),
            qos: QoS::AtMostOnce,
            retain: true,
            received_wall_ms: cx.now.wall_ms,
            expires_at_ms: u64::MAX,
            received_mono_ms: cx.now.mono_ms,
            hops: 0,
            is_will: false,
        };
        self.route(cx, publication, Origin::default());
    }
}
