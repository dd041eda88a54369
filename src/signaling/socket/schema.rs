//! `GET /api/v1/signaling.schema.json`: what is said on `/ws`, generated from the types.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use super::protocol::{ClientMessage, MAX_ID, ServerMessage};

/// Serves the schema.
pub(crate) async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| schema().to_string());
    ([(header::CONTENT_TYPE, "application/schema+json")], TEXT.as_str()).into_response()
}

/// A message of either side; each side's messages are a definition of their own.
pub(crate) fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let (client, server) = (messages::<ClientMessage>(&mut generator), messages::<ServerMessage>(&mut generator));
    let mut definitions = generator.take_definitions(true);
    definitions.insert("ClientMessage".into(), client);
    definitions.insert("ServerMessage".into(), server);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Signaling on /ws",
        "description": "Each text frame is one message; an answer repeats the id of what it answers.",
        "anyOf": [{ "$ref": "#/$defs/ClientMessage" }, { "$ref": "#/$defs/ServerMessage" }],
        "$defs": definitions,
    })
}

/// The messages of one side, each with the id that all have.
fn messages<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let mut schema = T::json_schema(generator).to_value();
    let variants = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for variant in variants.into_iter().flatten() {
        let properties = variant.as_object_mut().map(|object| object.entry("properties").or_insert_with(|| json!({})));
        if let Some(Value::Object(properties)) = properties {
            properties.insert("id".into(), json!({ "type": "integer", "minimum": 0, "maximum": MAX_ID }));
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_every_message_with_its_type_and_id() {
        let schema = schema();
        let types = |side: &str| -> Vec<String> {
            let variants = schema["$defs"][side]["oneOf"].as_array().unwrap().clone();
            variants
                .iter()
                .map(|variant| {
                    assert!(variant["properties"]["id"].is_object(), "{variant}");
                    variant["properties"]["type"]["const"].as_str().unwrap_or_else(|| panic!("{variant}")).to_owned()
                })
                .collect()
        };
        let client =
            ["create", "join", "leave", "offer", "answer", "candidate", "alias", "chat", "list", "layer", "stop"];
        assert_eq!(types("ClientMessage"), client);
        let server = [
            "created",
            "joined",
            "peer-joined",
            "peer-left",
            "offer",
            "answer",
            "candidate",
            "chat",
            "chat-joined",
            "chat-left",
            "channels",
            "viewers",
            "layers",
            "closed",
            "error",
        ];
        assert_eq!(types("ServerMessage"), server);
    }

    #[test]
    fn every_reference_leads_somewhere_and_limits_are_told() {
        let schema = schema();
        let text = schema.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(schema.pointer(reference).is_some(), "{reference}");
        }
        let chat = &schema["$defs"]["ClientMessage"]["oneOf"][7]["properties"]["text"];
        assert_eq!((&chat["minLength"], &chat["maxLength"]), (&json!(1), &json!(500)));
    }
}
