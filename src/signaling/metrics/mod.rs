//! `GET /metrics`: everything that is counted, for Prometheus.
//!
//! Written as OpenMetrics 1.0, or for clients that do not ask for it in Prometheus' older text format. All numbers are
//! read when they are asked for and none is kept: a session's series end with it, so there are never more of them than
//! sessions, whatever channels clients name.

mod families;
pub(crate) mod process;
pub(crate) mod requests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use axum::{
    Extension,
    extract::{ConnectInfo, State},
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use prometheus_client::{encoding::text, registry::Registry};

use self::{families::Numbers, requests::Requests};
use super::{
    answerer::AnswerError,
    api::{BridgeServer, as_admin, doc},
    connection::Peer,
    problem::Refusal,
    table::Table,
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "monitoring",
    operation_id = "metrics",
    responses(
        (status = 200, description = "OpenMetrics 1.0, or Prometheus' text format", content(
            (String = "application/openmetrics-text"), (String = "text/plain")
        )),
        (status = 401, response = doc::Unauthorized),
        (status = 403, response = doc::Forbidden),
        (status = 429, response = doc::TooOften),
        (status = 500, response = doc::Internal),
    ),
    security(("token" = [])),
)]
pub(crate) async fn metrics(
    State(table): State<Arc<Table>>,
    BridgeServer(site): BridgeServer,
    Extension(requests): Extension<Arc<Requests>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    as_admin(&site, &headers, peer).await?;
    let numbers = Numbers {
        report: site.reports.latest().await?,
        channels: site.registry.list().await,
        answers: requests.all(),
        process: process::read(),
        draining: site.reports.is_draining(),
        auth: site.auth.read(),
        sockets: site.sockets.counts(),
        tls: table.tls.clone(),
        turned_away: table.connections.turned_away.load(Relaxed),
        accept_failures: table.connections.failed.load(Relaxed),
    };
    let text = write(numbers).map_err(|error| AnswerError::Internal(error.to_string()))?;
    let (content_type, text) = match takes_open_metrics(&headers) {
        true => (OPEN_METRICS, text),
        false => (PLAIN_TEXT, in_plain_text(&text)),
    };
    Ok(([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], text).into_response())
}

fn write(numbers: Numbers) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(numbers));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Prometheus names the formats that it takes; curl and browsers name none, and show plain text.
fn takes_open_metrics(headers: &HeaderMap) -> bool {
    let accepts =
        |value: &header::HeaderValue| value.to_str().is_ok_and(|v| v.contains("application/openmetrics-text"));
    headers.get_all(header::ACCEPT).iter().any(accepts)
}

/// The same in the older format: counters and infos are described under the names of their samples, and units are not told.
fn in_plain_text(open_metrics: &str) -> String {
    let typed = |line: &'_ str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => return None,
        };
        Some((name.to_owned(), suffix))
    };
    let suffixes: HashMap<String, &str> = open_metrics.lines().filter_map(typed).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let line = match words[..] {
            ["#", what @ ("HELP" | "TYPE"), name, rest] => {
                let suffix = suffixes.get(name).copied().unwrap_or_default();
                let rest = if (what, rest) == ("TYPE", "info") { "gauge" } else { rest };
                format!("# {what} {name}{suffix} {rest}")
            }
            ["#", ..] => continue,
            _ => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}
