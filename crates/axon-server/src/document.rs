//! The OpenAPI document: what the routes say of themselves, and the kernel's own schemas.

use axum::response::IntoResponse;
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Document};
use utoipa::{Modify, OpenApi};

use crate::openai::{self, ChatErrorBody};
use crate::problem::ProblemBody;
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
        agents::list, agents::show, agents::restart, agents::drain,
        ask::ask, runs::list, runs::show, runs::cancel, runs::events, runs::tell,
        decide::approve, decide::resolve,
        watch::tree, watch::events, watch::ticket, watch::conversation,
        openai::models, openai::model, openai::complete,
    ),
    components(schemas(ProblemBody, ChatErrorBody)),
    security(("token" = [])),
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
    responses((status = 200, description = "This document.", body = Object)),
)]
pub(crate) async fn show() -> impl IntoResponse {
    axum::Json(openapi())
}
