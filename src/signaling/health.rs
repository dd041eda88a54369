//! Whether the server is alive (`/healthz`) and takes new sessions (`/readyz`), for whoever restarts it or sends it work.
//! Open to all: it tells nothing else.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};

use super::{answerer::AnswerError, api::doc, problem::Refusal, table::Table};

/// Whether the server runs.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "monitoring",
    operation_id = "health",
    responses((status = 200, description = "It runs", body = String, content_type = "text/plain")),
)]
pub(crate) async fn healthz() -> Response {
    say("ok\n")
}

/// Whether the server takes new sessions.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "monitoring",
    operation_id = "readiness",
    responses(
        (status = 200, description = "It does", body = String, content_type = "text/plain"),
        (status = 503, response = doc::Unavailable),
    ),
)]
pub(crate) async fn readyz(State(table): State<Arc<Table>>) -> Result<Response, Refusal> {
    match table.site() {
        Some(site) if site.reports.is_draining() => Err(Refusal::Draining),
        Some(site) if !site.reports.takes_offers() => {
            Err(AnswerError::Unavailable("the server is not playing".into()).into())
        }
        None if table.endpoints().is_empty() => Err(Refusal::Draining),
        _ => Ok(say("ready\n")),
    }
}

fn say(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], text).into_response()
}
