//! The configuration of a device, as it reads and sets it itself.

use axum::Json;
use axum::extract::{Extension, State};
use martlet_control::devices::DeviceName;
use martlet_control::use_cases::{ReadConfiguration, SetConfiguration};
use martlet_registry::{DataType, Expected, Setting};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::body::{Body, expect_members};
use crate::api::Api;
use crate::compat::time::MomentUs;
use crate::extensions::OwnDevice;
use crate::problem::Problem;
use crate::registry::CalledBy;

/// The configuration of the device itself
#[utoipa::path(get, path = "/api/v1/devices/config",
    responses((status = 200, description = "The values by key", body = Value)))]
pub(super) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    Extension(OwnDevice(device)): Extension<OwnDevice>,
) -> Result<Json<Value>, Problem> {
    let read = ReadConfiguration {
        device: DeviceName::Number(device.number),
    };
    let found = api.run(caller, read).await?;
    Ok(Json(json!({
        "status": "success",
        "device_id": device.number,
        "configuration": values_of(found),
    })))
}

/// Active settings, by key.
pub(super) fn values_of(settings: Vec<Setting>) -> Value {
    let active = settings.into_iter().filter(|setting| setting.is_active);
    active
        .map(|setting| {
            let value = json!({
                "value": value_of(setting.data_type, &setting.value),
                "data_type": setting.data_type.word(),
                "updated_at": MomentUs::of_tables(setting.updated_ms),
            });
            (setting.key, value)
        })
        .collect::<Map<_, _>>()
        .into()
}

/// A value as JSON of its type. What was set was read by this once.
fn value_of(data_type: DataType, text: &str) -> Value {
    match data_type {
        DataType::String => Value::String(text.to_owned()),
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}

/// A key of the configuration.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Configuration)]
pub(super) struct ConfigurationBody {
    /// The key.
    #[schema(value_type = String)]
    config_key: Option<String>,
    /// The value.
    #[schema(value_type = Value)]
    config_value: Option<Value>,
    /// `string`, as by default, `integer`, `float`, `boolean` or `json`.
    data_type: Option<String>,
}

/// Set a key of the configuration of the device itself
#[utoipa::path(post, path = "/api/v1/devices/config",
    request_body = ConfigurationBody,
    responses((status = 200, description = "Set", body = Value)))]
pub(super) async fn set(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    Extension(OwnDevice(device)): Extension<OwnDevice>,
    Body(body): Body<ConfigurationBody>,
) -> Result<Json<Value>, Problem> {
    expect_members(&[
        ("config_key", body.config_key.is_some()),
        ("config_value", body.config_value.is_some()),
    ])?;
    let word = body.data_type.as_deref().unwrap_or("string");
    let data_type = DataType::from_word(word).ok_or_else(|| {
        let known: Vec<_> = DataType::ALL.iter().map(|one| one.word()).collect();
        let detail = format!("data_type must be one of {}", known.join(", "));
        Problem::bad_request(detail).with_heading("Validation Error")
    })?;
    let set = SetConfiguration {
        device: DeviceName::Number(device.number),
        key: body.config_key.unwrap_or_default(),
        value: text_of(body.config_value.unwrap_or_default(), data_type),
        data_type,
        is_active: true,
        expected_revision: Expected::any(),
    };
    let set = api.run(caller, set).await?;
    Ok(Json(json!({
        "status": "success",
        "message": "Configuration updated successfully",
        "config_key": set.key,
        "config_value": set.value,
        "data_type": set.data_type.word(),
    })))
}

/// A text is the value as it is, everything else as JSON. `True`, `1` and `yes` are true too.
fn text_of(value: Value, data_type: DataType) -> String {
    let text = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    match (data_type, &*text.to_ascii_lowercase()) {
        (DataType::Boolean, "true" | "1" | "yes") => "true".to_owned(),
        (DataType::Boolean, "false" | "0" | "no") => "false".to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_types() {
        assert_eq!(value_of(DataType::Integer, "30"), json!(30));
        assert_eq!(value_of(DataType::Float, "2.5"), json!(2.5));
        assert_eq!(value_of(DataType::Boolean, "true"), json!(true));
        assert_eq!(value_of(DataType::Json, r#"{"a": [1]}"#), json!({"a": [1]}));
        assert_eq!(value_of(DataType::String, "30"), json!("30"));
        assert_eq!(text_of(json!("yes"), DataType::Boolean), "true");
        assert_eq!(text_of(json!(30), DataType::Integer), "30");
        assert_eq!(text_of(json!({"a": 1}), DataType::Json), r#"{"a":1}"#);
    }
}
