//! Many devices at once: added from JSON or CSV, and written out.

use std::fmt;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use martlet_control::callers::Caller;
use martlet_control::csv::{self, LineEnd};
use martlet_control::remedy::{Remedy, in_requests};
use martlet_control::use_cases::{AddDevices, PageOfDevices, ReadExportNames, TryDevices};
use martlet_registry::{
    Device, DeviceOrder, ExportedValue, Import, NewDevice, PageRequest, Remedies, RowOutcome,
};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::CalledBy;
use super::devices::{DeviceParams, DeviceView, OfExport, set_by_node};
use crate::api::Api;
use crate::body::large::BodyReader;
use crate::extract::{JsonOrList, QueryOf, from_value};
use crate::problem::{Problem, ProblemKind};
use crate::shown_once::{JsonWithSecrets, ShownOnce};

/// Devices of one request.
const DEVICES_MAX: usize = 10_000;

/// How many devices are added.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct How {
    /// If one cannot be added, none is. Else those that can be are.
    all_or_none: Option<bool>,
    /// Nothing is added: what would become of each is answered.
    dry_run: Option<bool>,
}

/// Devices to be added: those of an export too, which is a list without more around it.
#[derive(Debug, ToSchema)]
pub(crate) struct Many {
    /// The devices. Fields that the node sets itself, such as the number and whether it is online,
    /// are ignored.
    #[schema(value_type = Vec<NewDevice>, max_items = 10_000)]
    devices: Vec<InBody>,
}

impl<'de> Deserialize<'de> for Many {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct ExportFile {
            devices: Vec<InBody>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Vec<InBody>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with devices, or a list of devices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, all: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, all: A) -> Result<Self::Value, A::Error> {
                let named = ExportFile::deserialize(MapAccessDeserializer::new(all))?;
                Ok(named.devices)
            }
        }

        let devices = from.deserialize_any(Either)?;
        Ok(Self { devices })
    }
}

/// A device in a body: its id, and what it is or why it is none. Members that only the node sets
/// are left out.
#[derive(Debug)]
struct InBody {
    id: String,
    read: Result<NewDevice, Problem>,
}

impl<'de> Deserialize<'de> for InBody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut device = Map::deserialize(from)?;
        set_by_node().for_each(|name| drop(device.remove(name)));
        let id = device.get("id").and_then(Value::as_str);
        Ok(Self {
            id: id.unwrap_or_default().to_owned(),
            read: from_value(device.into(), ""),
        })
    }
}

/// Outcome of one device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Row {
    /// Place of the device in the request, from 1; in a table, the line.
    row: usize,
    /// Id of the device.
    id: String,
    /// `added`, `exists`, `refused`, `limit_reached` or `not_done`; `would_add` in a dry run.
    outcome: &'static str,
    /// Why it is none, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Why it is none, if `why` also has what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Remedies, the best first; `why` has them in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remedies: Vec<Remedy>,
    /// The User Name that it connects with.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<String>,
    /// Secret that it logs in with, shown only once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    secret: Option<ShownOnce<String>>,
}

impl Row {
    /// Notes why the device is none. Returns the outcome.
    fn refused(&mut self, outcome: &'static str, why: &dyn Remedies) -> &'static str {
        let remedies = why.remedies();
        self.why = Some(in_requests(why));
        self.reason = (!remedies.is_empty()).then(|| why.to_string());
        let remedies = remedies.iter().map(|one| Remedy::of_tables(one, ""));
        self.remedies = remedies.collect();
        outcome
    }
}

/// Result for all devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Done {
    /// Number of devices that were added.
    added: usize,
    /// Number of devices that were not added; each of them has the reason beside it.
    refused: usize,
    /// Nothing was added.
    dry_run: bool,
    /// In the order of the request.
    rows: Vec<Row>,
}

/// Each to be added, or why it cannot be read.
type Read = (usize, String, Result<NewDevice, Problem>);

async fn add_all(
    api: &Api,
    caller: Caller,
    all: Vec<Read>,
    how: How,
) -> Result<JsonWithSecrets<Done>, Problem> {
    if all.len() > DEVICES_MAX {
        let detail = format!("{DEVICES_MAX} devices at most come with one request");
        return Err(Problem::new(ProblemKind::Invalid, detail));
    }
    let is_dry = how.dry_run == Some(true);
    let is_whole = how.all_or_none == Some(true);
    let is_odd = all.iter().any(|(_, _, read)| read.is_err());
    let import = match is_whole {
        true => Import::AllOrNone,
        false => Import::EachByItself,
    };
    let (mut rows, mut new) = (Vec::new(), Vec::new());
    for (row, id, read) in all {
        let (outcome, why) = match read {
            Ok(device) => {
                new.push(device);
                ("not_done", None)
            }
            Err(problem) => ("refused", Some(problem.detail_of_one())),
        };
        rows.push(Row {
            row,
            id,
            outcome,
            why,
            reason: None,
            remedies: Vec::new(),
            user_name: None,
            secret: None,
        });
    }
    let outcomes = match (is_whole && is_odd, is_dry) {
        (true, _) => Vec::new(),
        (false, true) => {
            let devices = TryDevices { devices: new };
            api.run(caller, devices).await?
        }
        (false, false) => {
            let devices = AddDevices {
                devices: new,
                import,
            };
            api.run(caller, devices).await?
        }
    };
    let mut outcomes = outcomes.into_iter();
    for row in rows.iter_mut().filter(|row| row.why.is_none()) {
        let Some(outcome) = outcomes.next() else {
            continue;
        };
        row.outcome = match outcome {
            RowOutcome::Added(added) if !is_dry => {
                row.id = added.id;
                row.user_name = Some(added.user_name);
                row.secret = added.secret.map(ShownOnce::from);
                "added"
            }
            RowOutcome::Added(_) => "would_add",
            RowOutcome::Exists(why) => row.refused("exists", &why),
            RowOutcome::Refused(why) => row.refused("refused", &why),
            RowOutcome::Conflict(why) => row.refused("limit_reached", &why),
            RowOutcome::NotDone => "not_done",
        };
    }
    let added = rows.iter().filter(|row| row.outcome == "added").count();
    let refused = rows.iter().filter(|row| row.why.is_some()).count();
    Ok(JsonWithSecrets(Done {
        added,
        refused,
        dry_run: is_dry,
        rows,
    }))
}

/// Add many devices
///
/// Up to 10,000: an object with `devices`, or the list alone, as an export has it. What has become
/// of each is answered, in their order; those that were added may connect when the answer is there.
#[utoipa::path(post, path = "/api/v1/devices/bulk", tag = "devices", params(How),
    request_body = Many,
    responses((status = 200, description = "The result for each item", body = Done)))]
pub(crate) async fn add(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(how): QueryOf<How>,
    JsonOrList(body): JsonOrList<Many>,
) -> Result<JsonWithSecrets<Done>, Problem> {
    add_all(&api, caller, of_bodies(body), how).await
}

fn of_bodies(many: Many) -> Vec<Read> {
    let all = many.devices.into_iter().enumerate();
    all.map(|(at, device)| (at + 1, device.id, device.read))
        .collect()
}

/// Add devices from a table
///
/// `text/csv`, whose first line names the columns: `id` (an empty one is generated), and any of
/// `name`, `type`, `kind`, `status`,
/// `description`, `location`, `firmware_version`, `hardware_version`, `owner`, `team`, `tags` and
/// `groups` (with `;` between them, `\;` where it is part of one), `secret`. Or JSON, as `POST
/// /devices/bulk` has it. Team and groups stand there by name or id.
#[utoipa::path(post, path = "/api/v1/devices/import", tag = "devices", params(How),
    request_body(content((String = "text/csv"), (Many = "application/json"))),
    responses((status = 200, description = "The result for each item", body = Done)))]
pub(crate) async fn import(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(how): QueryOf<How>,
    Extension(reader): Extension<BodyReader>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<JsonWithSecrets<Done>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let read: fn(&[u8]) -> Result<Vec<Read>, Problem> = match essence.to_ascii_lowercase().as_str()
    {
        "text/csv" => of_table,
        "application/json" => |body| Ok(of_bodies(crate::extract::from_json(body)?)),
        _ => {
            let detail = "send Content-Type: text/csv or application/json";
            return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
        }
    };
    let all = reader.read(body.len(), move || read(&body)).await??;
    add_all(&api, caller, all, how).await
}

fn of_table(body: &[u8]) -> Result<Vec<Read>, Problem> {
    let text = std::str::from_utf8(body);
    let text = text.map_err(|error| {
        let before = body.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Problem::bad_request(format!("the table is not UTF-8 in line {line}"))
    })?;
    let rows = csv::read(text).map_err(Problem::bad_request)?;
    let mut rows = rows.into_iter();
    let Some((_, names)) = rows.next() else {
        return Err(Problem::bad_request(
            "the table is empty: its first line names the columns",
        ));
    };
    let names: Vec<String> = names
        .iter()
        .map(|name| name.trim().to_lowercase())
        .collect();
    let columns = Device::exported_columns();
    let is_known = |name: &&String| columns.contains(&name.as_str()) || *name == "secret";
    if let Some(odd) = names.iter().find(|name| !is_known(name)) {
        let accepted_words = columns.join(", ");
        let detail = format!(
            "there is no column {odd:?}, expected some of {accepted_words}, secret, with a comma between them"
        );
        return Err(Problem::new(ProblemKind::Invalid, detail));
    }
    let mut each = names.iter().enumerate();
    if let Some((_, twice)) = each.find(|(at, name)| names[..*at].contains(name)) {
        let detail = format!("the table has two columns {twice:?}");
        return Err(Problem::new(ProblemKind::Invalid, detail));
    }
    if !names.iter().any(|name| name == "id") {
        let detail = "the table has no column id; its first line names the columns";
        return Err(Problem::new(ProblemKind::Invalid, detail));
    }
    let read = |(line, fields): (usize, Vec<String>)| {
        let id = names.iter().position(|name| name == "id");
        let id = id.and_then(|at| fields.get(at));
        let id = id.map_or("", |id| csv::unmarked(id)).trim().to_owned();
        if fields.len() > names.len() {
            let detail = format!("{} fields, and {} columns", fields.len(), names.len());
            let problem = Problem::new(ProblemKind::Invalid, detail);
            return (line, id, Err(problem));
        }
        let device = of_row(&names, &fields);
        (line, id, device)
    };
    Ok(rows.map(read).collect())
}

/// A row of a table as the body of a request. An empty field is not in it.
fn of_row(names: &[String], fields: &[String]) -> Result<NewDevice, Problem> {
    let mut body = Map::new();
    for (name, field) in names.iter().zip(fields) {
        let value: Value = match name.as_str() {
            // Each of its letters counts.
            "secret" => field.as_str().into(),
            "tags" | "groups" => csv::unlisted(csv::unmarked(field)).into(),
            "id" => csv::unmarked(field).trim().into(),
            _ => csv::unmarked(field).into(),
        };
        if value != "" && !body.contains_key(name) {
            body.insert(name.clone(), value);
        }
    }
    from_value(body.into(), "")
}

/// Devices as a table, which an import reads again.
fn table_of_devices(devices: &[Device]) -> String {
    let mut text = csv::line(Device::exported_columns(), LineEnd::CrLf);
    for device in devices {
        let text_of = |value| match value {
            ExportedValue::Text(text) => text,
            ExportedValue::List(all) => csv::list(all.iter().map(String::as_str)).into(),
        };
        let fields: Vec<_> = device.exported_values().into_iter().map(text_of).collect();
        let fields = fields.iter().map(|field| &**field);
        text.push_str(&csv::line(fields, LineEnd::CrLf));
    }
    text
}

/// Devices as a table
///
/// All that are asked for, on one page: CSV, or JSON with `format=json`, which an import takes as
/// they are. Team and groups are there by name, or by id where a name is not enough. Secrets are in
/// neither.
#[utoipa::path(get, path = "/api/v1/devices/export", tag = "devices", params(OfExport),
    responses((status = 200, description = "The devices",
        content((String = "text/csv"), (Vec<DeviceView> = "application/json")))))]
pub(crate) async fn export(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<DeviceParams>,
) -> Result<Response, Problem> {
    params.check_export()?;
    let is_json = match params.format.as_deref() {
        None | Some("csv") => false,
        Some("json") => true,
        Some(other) => {
            let detail = format!("{other:?} is not one of csv, json");
            return Err(Problem::of_query("format", detail));
        }
    };
    let filter = params.filter(&api, &caller).await?;
    let names = api.run(caller.clone(), ReadExportNames).await?;
    let mut all: Vec<Device> = Vec::new();
    let mut cursor = None;
    loop {
        let page = PageOfDevices {
            filter: filter.clone(),
            order: DeviceOrder::Id,
            page: PageRequest {
                cursor,
                ..PageRequest::first(1_000)
            },
        };
        let page = api.run(caller.clone(), page).await?;
        all.extend(page.items.into_iter().map(|device| names.named(device)));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if is_json {
        let views = all.into_iter().map(|device| DeviceView::now(&api, device));
        return Ok(axum::Json(views.collect::<Vec<_>>()).into_response());
    }
    let mut text = table_of_devices(&all);
    if params.bom == Some(true) {
        text.insert(0, csv::BYTE_ORDER_MARK);
    }
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/csv; charset=utf-8"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"devices.csv\""),
        ),
    ];
    Ok((headers, text).into_response())
}

#[cfg(test)]
mod tests {
    use martlet_registry::{DeviceSecret, Secret};

    use super::*;

    #[test]
    fn each_column_of_a_table_can_be_imported() {
        for column in Device::exported_columns().into_iter().chain(["secret"]) {
            let names = ["id", column].map(str::to_owned);
            let value = match column {
                "status" => "maintenance",
                _ => "sixteen-letters-",
            };
            let fields = ["pump-7", value].map(str::to_owned);
            assert!(of_row(&names, &fields).is_ok(), "{column}");
        }
    }

    #[test]
    fn a_column_is_named_once() {
        for (table, twice) in [("id,id\na,b\n", "id"), ("id,Name,name\n", "name")] {
            let problem = of_table(table.as_bytes()).unwrap_err();
            assert_eq!(
                problem.detail(),
                format!("the table has two columns {twice:?}")
            );
        }
    }

    #[test]
    fn the_fields_of_a_row_are_those_of_a_body() {
        let table = "id,type,tags,secret,location\n p1 ,'=meter,a;b\\;c, sixteen-letters-,\n";
        let (line, id, device) = of_table(table.as_bytes()).unwrap().remove(0);
        assert_eq!((line, &*id), (2, "p1"));
        let device = device.unwrap();
        let expected = Secret::given(" sixteen-letters-").unwrap();
        assert_eq!(device.secret, DeviceSecret::Given(expected));
        assert_eq!((&*device.device_type, &*device.location), ("=meter", ""));
        assert_eq!(device.tags, ["a", "b;c"]);
    }
}
