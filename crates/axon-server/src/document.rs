//! The OpenAPI document: what the routes say of themselves, and the kernel's own schemas.

use axum::response::IntoResponse;
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Document};
use utoipa::{Modify, OpenApi};

use crate::openai::{self, ChatErrorBody};
use crate::problem::{Problem, ProblemBody};
use crate::{agents, ask, decide, probes, runs, schemas, watch};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Axon",
        description = "Runs of agents, routers and pipelines; their events, decisions and records. \
                       An accepted run is answered with its outcome, failed ones too; what is \
                       refused is `application/problem+json` with a `code`.",
    ),
    paths(
        probes::healthz, probes::readyz, probes::metrics, show,
        agents::list, agents::start, agents::show, agents::stop, agents::restart, agents::drain,
        ask::ask, runs::list, runs::show, runs::cancel, runs::events, runs::tell,
        decide::approve, decide::resolve, decide::resume,
        watch::tree, watch::events, watch::ticket, watch::conversation,
        openai::models, openai::model, openai::complete,
    ),
    components(schemas(ProblemBody, ChatErrorBody, schemas::Sequenced)),
    security((), ("token" = [])),
    modifiers(&Tokens),
)]
struct Routes;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_with(Components::new);
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let bearer = bearer.description(Some("Not needed where the service has no token."));
        components.add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    }
}

/// Returns the OpenAPI document of the routes.
#[must_use]
pub fn openapi() -> Value {
    let mut document = serde_json::to_value(Routes::openapi()).unwrap_or_default();
    // The licence and the authors of the crate are not those of the service.
    if let Some(info) = document["info"].as_object_mut() {
        info.retain(|key, _| matches!(key.as_str(), "title" | "description" | "version"));
    }
    if let Some(known) = document["components"]["schemas"].as_object_mut() {
        known.extend(schemas::all());
    }
    document
}

/// Gives this document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service", operation_id = "openapi",
    responses((status = 200, description = "This document.", body = Object), Problem),
)]
pub(crate) async fn show() -> impl IntoResponse {
    axum::Json(openapi())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Says that the document on disk is to be written anew.
    const ACCEPT: &str = "AXON_ACCEPT_OPENAPI";

    fn refs<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| refs(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| refs(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn the_document_is_the_one_that_is_checked_in() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let text = serde_json::to_string_pretty(&openapi()).unwrap() + "\n";
        if std::env::var_os(ACCEPT).is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(known == text, "{} is another one: {ACCEPT}=1 writes it", file.display());
    }

    #[test]
    fn no_schema_takes_the_place_of_another_one() {
        let own = serde_json::to_value(Routes::openapi()).unwrap();
        let own = own["components"]["schemas"].as_object().unwrap();
        let kernels = schemas::all();
        let both: Vec<&String> = own.keys().filter(|name| kernels.contains_key(*name)).collect();
        // These stand for the kernel's, and are filled in by them.
        assert_eq!(both, ["Failure", "Paused", "RunSummary", "Sequenced"]);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document = openapi();
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = Vec::new();
        refs(&document, &mut found);
        assert!(found.len() > 50, "{found:?}");
        for reference in found {
            let place = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
        }
    }
}
