//! The API of a node, for commands: that of the running node, through `admin.sock`, or, while no
//! node runs, the same routes in this process, on the node's tables.

mod no_shards;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use martlet_api::{Api, HttpConnection, ListenerKind, NodeParts, Settings, router};
use martlet_broker::Limits;
use martlet_control::event_outbox::EventOutbox;
use martlet_control::facts::NodeFacts;
use martlet_control::shared_registry::SharedRegistry;
use martlet_control::{Control, ControlParts, NodeInfo, OwnTopics, ReloadRequest, Reloaded};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tower::ServiceExt as _;

use crate::cmd::admin::{self, AdminRequest, NodeRefusal};
use crate::cmd::node_options::NodeOptions;
use crate::cmd::tables;
use crate::cmd::view::text;
use crate::config::{self, Effective};
use no_shards::NoShards;

/// The way to the API of a node.
pub(crate) struct Door<'n> {
    node: &'n NodeOptions,
    way: Way,
    team_names: OnceCell<HashMap<String, String>>,
}

enum Way {
    /// The node of this data directory runs.
    Node(PathBuf),
    /// No node runs.
    Process(Box<InProcess>),
}

/// The routes of a node that does not run, as far as they need only its tables.
struct InProcess {
    runtime: Runtime,
    routes: Router,
    tables: Arc<SharedRegistry>,
    data_dir: PathBuf,
}

/// Time limit for a request about many objects.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(600);

/// Items of a page that are asked for.
const PAGE: usize = 1_000;

impl<'n> Door<'n> {
    /// The API of a node, running or not.
    ///
    /// # Errors
    /// This user may not connect to the node, or its configuration is faulty or that of another
    /// node.
    pub(crate) fn of(node: &'n NodeOptions) -> anyhow::Result<Self> {
        let data_dir = node.data_dir()?;
        let way = match admin::may_ask(&data_dir)? {
            true => Way::Node(data_dir),
            false => Way::Process(Box::new(InProcess::of(node, data_dir)?)),
        };
        Ok(Self {
            node,
            way,
            team_names: OnceCell::new(),
        })
    }

    /// The answer to a request; null if it has no body.
    ///
    /// # Errors
    /// [`NodeRefusal`], or the node does not respond.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let body = body.map(ToString::to_string);
        self.send(&AdminRequest {
            method,
            body: body.as_deref(),
            if_match: (method != "GET").then_some("*"),
            ..AdminRequest::get(path)
        })
    }

    /// Changes an object, with PATCH, if it still has this revision.
    pub(crate) fn change(
        &self,
        path: &str,
        body: &Value,
        revision: &Value,
    ) -> anyhow::Result<Value> {
        self.send(&AdminRequest {
            method: "PATCH",
            body: Some(&body.to_string()),
            if_match: Some(&format!("\"{revision}\"")),
            ..AdminRequest::get(path)
        })
    }

    fn send(&self, request: &AdminRequest<'_>) -> anyhow::Result<Value> {
        let text = self.text(request, admin::PATIENCE)?;
        match text.is_empty() {
            true => Ok(Value::Null),
            false => Ok(serde_json::from_str(&text)?),
        }
    }

    /// The text of the answer to a request about many objects, which may take minutes.
    ///
    /// # Errors
    /// [`NodeRefusal`], or the node does not respond.
    pub(crate) fn transfer(&self, request: &AdminRequest<'_>) -> anyhow::Result<String> {
        self.text(request, TRANSFER_PATIENCE)
    }

    fn text(&self, request: &AdminRequest<'_>, patience: Duration) -> anyhow::Result<String> {
        let path = request.path.split('?').next().unwrap_or_default();
        if path.ends_with('/') || path.contains("//") {
            anyhow::bail!("a name or id is empty");
        }
        match &self.way {
            Way::Node(data_dir) => admin::answer(data_dir, *request, patience),
            Way::Process(process) => process.ask(request).map_err(|error| {
                // The routes do not tell callers why tables cannot be used.
                match process.tables.trouble() {
                    Some(why) => anyhow::Error::msg(why),
                    None => error,
                }
            }),
        }
    }

    /// Like [`Door::ask`], with GET.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, None)
    }

    /// The object at a path; `None` if there is none.
    pub(crate) fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        match self.get(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if NodeRefusal::is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first `limit` items of a list, read page by page, and the total number of items.
    pub(crate) fn items(
        &self,
        path: &str,
        filters: &[(&str, &str)],
        limit: usize,
    ) -> anyhow::Result<(Vec<Value>, u64)> {
        let (mut items, mut total, mut cursor) = (Vec::new(), 0, None::<String>);
        loop {
            let wanted = (limit - items.len()).clamp(1, PAGE);
            let query = admin::page_query(filters, wanted, cursor.as_deref());
            let mut page = self.get(&format!("{path}{query}"))?;
            if let Value::Array(more) = page["items"].take() {
                items.extend(more);
            }
            total = page["total"].as_u64().unwrap_or(total);
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() || items.len() >= limit {
                items.truncate(limit);
                return Ok((items, total));
            }
        }
    }

    /// All items of a list.
    pub(crate) fn all(&self, path: &str, filters: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
        Ok(self.items(path, filters, usize::MAX)?.0)
    }

    /// Items of a list that has no pages.
    pub(crate) fn whole(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        match self.get(path)?["items"].take() {
            Value::Array(items) => Ok(items),
            _ => anyhow::bail!("the answer of {path} is no list"),
        }
    }

    /// Name of the team of an object; empty: it has none.
    pub(crate) fn team_of(&self, object: &Value) -> String {
        let names = self.team_names.get_or_init(|| {
            let teams = self.all("/api/v1/teams", &[]).unwrap_or_default();
            let name = |team: &Value| Some((team["id"].as_str()?.to_owned(), text(team, "name")));
            teams.iter().filter_map(name).collect()
        });
        let id = object["team"].as_str().unwrap_or_default();
        names.get(id).cloned().unwrap_or_default()
    }

    /// Lines about when a change is in force.
    pub(crate) fn note(&self) -> String {
        match &self.way {
            Way::Node(_) => tables::applied(self.node),
            Way::Process(process) => tables::not_running(self.node, &process.data_dir),
        }
    }
}

impl InProcess {
    fn of(node: &NodeOptions, data_dir: PathBuf) -> anyhow::Result<Self> {
        // The routes do not tell callers why tables cannot be used.
        tables::read(node, async |_| Ok(()))?;
        let effective = node.load()?;
        let settings = tables::settings(node, &effective)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let control = control(&runtime, &effective, &data_dir);
        let outbox = EventOutbox::new(Arc::clone(&control), "", None);
        let tables = Arc::new(SharedRegistry::new(settings, Arc::clone(&control), outbox));
        let parts = NodeParts {
            tables: Some(Arc::clone(&tables)),
            ..NodeParts::default()
        };
        let callers = Arc::new(Arc::clone(&tables));
        let api = Api::new(control, callers, parts, Settings::default());
        let api = api.context("no source of randomness")?;
        Ok(Self {
            runtime,
            routes: router(api),
            tables,
            data_dir,
        })
    }

    fn ask(&self, asked: &AdminRequest<'_>) -> anyhow::Result<String> {
        if asked.method != "GET" {
            tables::make_data_dir(&self.data_dir)?;
        }
        let body = asked.body.unwrap_or_default().to_owned();
        let mut request = asked.head().body(Body::from(body))?;
        request.extensions_mut().insert(HttpConnection {
            listener: ListenerKind::Socket {
                uid: rustix::process::geteuid().as_raw(),
            },
            peer: None,
        });
        self.runtime.block_on(async {
            let answer = self.routes.clone().oneshot(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            match status.is_success() {
                true => Ok(text),
                false => Err(NodeRefusal::new(status, text).into()),
            }
        })
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.runtime.block_on(self.tables.close());
    }
}

/// A control plane without shards. What the tables change is in force at the next start.
fn control(runtime: &Runtime, effective: &Effective, data_dir: &std::path::Path) -> Arc<Control> {
    let (reloads, mut asked) = unbounded_channel::<ReloadRequest>();
    runtime.spawn(async move {
        while let Some(request) = asked.recv().await {
            request.answer(Ok(Reloaded::default()));
        }
    });
    let info = NodeInfo {
        version: env!("CARGO_PKG_VERSION"),
        listeners: Vec::new(),
        data_dir: data_dir.display().to_string(),
        command_options: config::command_options(Some(data_dir), effective.own_file.as_deref()),
        durability: "",
        interval_ms: None,
        connections_max: 0,
        anonymous_beyond_loopback: false,
        limits: Limits::default(),
        own_topics: OwnTopics::default(),
        restored: None,
    };
    Arc::new(Control::new(ControlParts {
        facts: NodeFacts {
            variables: effective.foreign_variables(),
            ..NodeFacts::default()
        },
        ..ControlParts::new(Box::new(NoShards), info, reloads)
    }))
}
