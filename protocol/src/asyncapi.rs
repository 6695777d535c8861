//! The socket as an AsyncAPI 3.0 document, made from the frame types; its examples are the golden
//! frames of `testdata/`.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    ClientFrame, CloseReason, Codec, DeviceType, ServerFrame,
    limits::{CLIENT_FRAME_BYTES_MAX, FRAME_DEPTH_MAX},
    schema::Readable,
};

/// A golden frame: its file's name without the ending, and its JSON.
pub type Golden = (&'static str, &'static str);

macro_rules! golden {
    ($side:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../testdata/", $side, "/", $name, ".json")))),*]
    };
}

/// What servers say.
pub const SERVER_FRAMES: &[Golden] = golden!("server":
    "welcome" "message" "message_full" "message_silent" "status_update" "status_update_action" "status_update_by_server" "sync_complete"
    "resync_required" "presence" "token_expiring" "ping" "pong" "error" "error_without_ref" "disconnect");

/// What clients say.
pub const CLIENT_FRAMES: &[Golden] = golden!("client":
    "ping" "ping_with_data" "pong" "device" "ack" "read_ids" "read_up_to" "sync" "join" "leave"
    "refresh");

/// The document.
#[must_use]
pub fn document() -> Value {
    // AsyncAPI reads JSON Schema of draft 7.
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.transforms.push(Box::new(Readable));
    });
    let mut written = settings.clone().for_serialize().into_generator();
    let mut read = settings.for_deserialize().into_generator();
    let server = messages::<ServerFrame>(&mut written, "server", SERVER_FRAMES);
    let client = messages::<ClientFrame>(&mut read, "client", CLIENT_FRAMES);
    let mut schemas = definitions(&mut written);
    schemas.extend(definitions(&mut read));

    let names = |messages: &Map<String, Value>| -> Vec<Value> {
        messages.keys().map(|name| reference("/channels/socket/messages", name)).collect()
    };
    let (said, heard) = (names(&server), names(&client));
    let in_channel: Map<String, Value> = server
        .keys()
        .chain(client.keys())
        .map(|name| (name.clone(), reference("/components/messages", name)))
        .collect();
    let all: Map<String, Value> = server.into_iter().chain(client).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "pushhub socket",
            "version": env!("CARGO_PKG_VERSION"),
            "description": about(),
        },
        "defaultContentType": "application/json",
        "servers": { "here": {
            "host": "localhost:8080",
            "protocol": "ws",
            "description": "The port of the REST API (`USER_SERVER_PORT`); `wss` behind a proxy that speaks TLS.",
        } },
        "channels": { "socket": {
            "address": "/ws",
            "title": "The one socket of a device",
            "messages": in_channel,
            "bindings": { "ws": handshake() },
        } },
        "operations": {
            "receive": {
                "action": "send",
                "channel": { "$ref": "#/channels/socket" },
                "summary": "What the server says.",
                "messages": said,
            },
            "say": {
                "action": "receive",
                "channel": { "$ref": "#/channels/socket" },
                "summary": "What a client may say.",
                "messages": heard,
            },
        },
        "components": { "messages": all, "schemas": schemas },
    })
}

fn about() -> String {
    let protocols = Codec::SUBPROTOCOLS.map(|(name, _)| format!("`{name}`")).join(" and ");
    let mut text = format!(
        "Every frame is `{{\"type\": …, \"data\": {{…}}}}`; frames that change the inbox also carry \
         `seq`, which counts 1, 2, 3 … without holes. Subprotocols: {protocols}, with the same names \
         in both. A client's frame has at most {CLIENT_FRAME_BYTES_MAX} bytes and \
         {FRAME_DEPTH_MAX} levels.\n\nBefore a close the server says `disconnect`. The close code \
         alone says what to do:\n\n| Code | Why | Come back by itself |\n|---|---|---|\n"
    );
    // 1006 stands for "no close frame" and is never sent.
    for reason in CloseReason::ALL.into_iter().filter(|reason| reason.code() != 1006) {
        let back = if reason.reconnect() { "yes, with backoff" } else { "no" };
        text += &format!("| {} | {} | {back} |\n", reason.code(), reason.text());
    }
    text
}

/// The WebSocket binding: what the request that opens the socket carries.
fn handshake() -> Value {
    let kinds: Vec<_> = DeviceType::ALL.into_iter().map(DeviceType::as_str).collect();
    json!({
        "method": "GET",
        "bindingVersion": "0.1.0",
        "query": { "type": "object", "properties": {
            "token": { "type": "string",
                "description": "The user's token, where headers cannot be set. URLs are logged without their query." },
            "since": { "type": "integer", "minimum": 0,
                "description": "The last `seq` that was seen: what comes after it is sent first. Without it: where this device's acks ended, else at the head." },
            "device_type": { "type": "string", "enum": kinds },
        } },
        "headers": { "type": "object", "properties": {
            "Authorization": { "type": "string", "description": "`Bearer <token>`; wins over the query." },
            "Sec-WebSocket-Protocol": { "type": "string",
                "enum": Codec::SUBPROTOCOLS.map(|(name, _)| name) },
        } },
    })
}

fn reference(folder: &str, name: &str) -> Value {
    json!({ "$ref": format!("#{folder}/{name}") })
}

/// A message for each type of frame, named `<side>_<type>`.
fn messages<T: JsonSchema>(
    generator: &mut SchemaGenerator,
    side: &str,
    golden: &[Golden],
) -> Map<String, Value> {
    let mut whole = T::json_schema(generator);
    for transform in generator.transforms_mut() {
        transform.transform(&mut whole);
    }
    let variants = whole.as_value()["oneOf"].as_array().cloned().unwrap_or_default();
    let mut messages = Map::new();
    for mut payload in variants {
        let kind = payload["properties"]["type"]["const"].as_str().unwrap_or_default().to_owned();
        let about = payload.as_object_mut().and_then(|object| object.remove("description"));
        let examples: Vec<Value> = golden
            .iter()
            .filter_map(|(name, json)| {
                let payload: Value = serde_json::from_str(json).ok()?;
                (payload["type"] == kind).then(|| json!({ "name": name, "payload": payload }))
            })
            .collect();
        let message = json!({
            "name": kind, "title": kind, "summary": about, "payload": payload, "examples": examples,
        });
        messages.insert(format!("{side}_{kind}"), message);
    }
    messages
}

fn definitions(generator: &mut SchemaGenerator) -> Map<String, Value> {
    generator.take_definitions(true).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_golden_file_is_an_example() {
        for (side, golden) in [("server", SERVER_FRAMES), ("client", CLIENT_FRAMES)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(side);
            let files: BTreeSet<String> = fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().path())
                .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            let named: BTreeSet<String> = golden.iter().map(|(name, _)| (*name).into()).collect();
            assert_eq!(named, files, "{side}");
        }
        let document = document();
        let messages = document["components"]["messages"].as_object().unwrap();
        let shown: usize =
            messages.values().map(|message| message["examples"].as_array().unwrap().len()).sum();
        assert_eq!(shown, SERVER_FRAMES.len() + CLIENT_FRAMES.len());
        for name in ClientFrame::NAMES {
            assert!(messages.contains_key(&format!("client_{name}")), "{name}");
        }
    }

    #[test]
    fn examples_are_what_their_schemas_say() {
        let document = document();
        for (name, message) in document["components"]["messages"].as_object().unwrap() {
            let mut schema = message["payload"].clone();
            // Closed here, so that a field that is not described is a failure.
            crate::schema::close(&mut schema);
            let mut components = document["components"].clone();
            crate::schema::close(&mut components["schemas"]);
            schema["components"] = components;
            let validator = jsonschema::draft7::new(&schema).unwrap();
            for example in message["examples"].as_array().unwrap() {
                let found: Vec<_> =
                    validator.iter_errors(&example["payload"]).map(|e| e.to_string()).collect();
                assert!(found.is_empty(), "{name}: {example}: {found:?}");
            }
            let about = message["summary"].as_str().unwrap();
            assert!(!about.is_empty(), "{name} says nothing of itself");
        }
    }
}
