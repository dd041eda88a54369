//! `GET /api/v1/status`: everything that is counted, as JSON, for the page at `/status`.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Json,
    extract::ConnectInfo,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{BridgeServer, as_admin, doc};
use crate::signaling::{
    auth::counters::AuthCounts,
    connection::Peer,
    metrics::{
        process::{self, Process},
        requests::{Answers, Requests},
    },
    monitor::{PortReport, SessionReport, Totals},
    problem::Refusal,
    socket::SocketCounts,
};

/// What the server is doing.
#[derive(Serialize, ToSchema)]
pub(super) struct Status<'a> {
    /// When this was true, in seconds since 1970.
    at: f64,
    /// The version that runs.
    version: &'static str,
    /// Whether no new sessions are taken because the server is about to end.
    draining: bool,
    /// Channels that exist.
    channels: usize,
    /// Channels with a publisher.
    live_channels: usize,
    /// Viewers of all channels.
    viewers: u64,
    /// The sessions that are there, in order of their start.
    sessions: &'a [SessionReport],
    /// What has happened since the server started.
    totals: Totals,
    /// The UDP ports that carry media.
    ports: &'a [PortReport],
    /// What the process uses, where the system tells.
    process: Option<Process>,
    /// HTTP requests answered, refused ones included.
    http: Vec<Answers>,
    /// What became of requests that asked for something.
    auth: AuthCounts,
    /// What has happened on WebSockets.
    websockets: SocketCounts,
}

/// What the server is doing.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "monitoring",
    operation_id = "getStatus",
    responses(
        (status = 200, description = "Everything that is counted", body = Status<'_>),
        (status = 401, response = doc::Unauthorized),
        (status = 403, response = doc::Forbidden),
        (status = 429, response = doc::TooOften),
        (status = 500, response = doc::Internal),
    ),
    security(("token" = [])),
)]
pub(super) async fn status(
    BridgeServer(site): BridgeServer,
    Extension(requests): Extension<Arc<Requests>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    as_admin(&site, &headers, peer).await?;
    let (report, channels) = (site.reports.latest().await?, site.registry.list().await);
    let status = Status {
        at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        version: env!("CARGO_PKG_VERSION"),
        draining: site.reports.is_draining(),
        channels: channels.len(),
        live_channels: channels.iter().filter(|channel| channel.is_live).count(),
        viewers: channels.iter().map(|channel| u64::from(channel.viewers)).sum(),
        sessions: &report.sessions,
        totals: report.totals,
        ports: &report.ports,
        process: process::read(),
        http: requests.all(),
        auth: site.auth.read(),
        websockets: site.sockets.counts(),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(status)).into_response())
}
