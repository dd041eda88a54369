//! `/api/v1/channels`: the channels that there are, and stopping one.

use std::{sync::Arc, time::UNIX_EPOCH};

use axum::{
    Extension, Json,
    extract::ConnectInfo,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;

use super::{BridgeServer, Segment, admit, as_admin, channel_id, doc, within_limits};
use crate::{
    channel::ChannelInfo,
    signaling::{auth::Role, connection::Peer, limits::Limits, problem::Refusal},
};

/// A channel.
#[derive(Serialize, ToSchema)]
pub(super) struct Channel {
    /// Its id.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    id: String,
    /// For people.
    title: Option<String>,
    /// For lists.
    category: Option<String>,
    /// Whatever its maker wanted to be kept with it.
    metadata: Option<serde_json::Value>,
    /// Whether somebody publishes.
    live: bool,
    /// How many watch.
    viewers: u32,
    /// When it was made, in seconds since 1970.
    created: u64,
    /// Whether publishing takes its stream key, or a token for publishing.
    keyed: bool,
}

/// All channels.
#[derive(Serialize, ToSchema)]
pub(super) struct Channels {
    /// In order of their creation; there are never more than `max-channels`.
    channels: Vec<Channel>,
}

impl From<ChannelInfo> for Channel {
    fn from(info: ChannelInfo) -> Self {
        let ChannelInfo { id, title, category, metadata, is_live, viewers, created, has_key, .. } = info;
        Self {
            id: id.as_str().to_owned(),
            title,
            category,
            // Checked by who took it; if it were no JSON, no metadata is better than no list.
            metadata: metadata.and_then(|text| serde_json::from_str(&text).ok()),
            live: is_live,
            viewers,
            created: created.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            keyed: has_key,
        }
    }
}

/// All channels.
#[utoipa::path(
    get,
    path = "/api/v1/channels",
    tag = "channels",
    operation_id = "listChannels",
    responses(
        (status = 200, description = "The channels", body = Channels),
        (status = 401, response = doc::Unauthorized),
        (status = 403, response = doc::Forbidden),
        (status = 429, response = doc::TooOften),
    ),
    security((), ("token" = [])),
)]
pub(super) async fn list(
    BridgeServer(site): BridgeServer,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    admit(&site, Role::View, None, &headers, peer).await?;
    let channels = site.registry.list().await.into_iter().map(Channel::from).collect();
    Ok(fresh(Channels { channels }))
}

/// One channel.
#[utoipa::path(
    get,
    path = "/api/v1/channels/{id}",
    tag = "channels",
    operation_id = "getChannel",
    params(doc::ChannelPath),
    responses(
        (status = 200, description = "The channel", body = Channel),
        (status = 401, response = doc::Unauthorized),
        (status = 403, response = doc::Forbidden),
        (status = 404, response = doc::NotFound),
        (status = 429, response = doc::TooOften),
    ),
    security((), ("token" = [])),
)]
pub(super) async fn one(
    BridgeServer(site): BridgeServer,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = channel_id(&id)?;
    admit(&site, Role::View, Some(&id), &headers, peer).await?;
    let channel = site.registry.get(&id).await.ok_or(Refusal::NoChannel(id))?;
    Ok(fresh(Channel::from(channel)))
}

/// Ends a channel: its publisher is disconnected, its viewers are told, and the id is free.
#[utoipa::path(
    delete,
    path = "/api/v1/channels/{id}",
    tag = "channels",
    operation_id = "stopChannel",
    params(doc::ChannelPath),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, response = doc::Unauthorized),
        (status = 403, response = doc::Forbidden),
        (status = 404, response = doc::NotFound),
        (status = 429, response = doc::TooOften),
    ),
    security(("token" = [])),
)]
pub(super) async fn stop(
    BridgeServer(site): BridgeServer,
    Extension(limits): Extension<Arc<Limits>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    within_limits(&limits, &Method::DELETE, peer)?;
    as_admin(&site, &headers, peer).await?;
    let id = channel_id(&id)?;
    if !site.registry.stop(&id).await {
        return Err(Refusal::NoChannel(id));
    }
    info!(channel = %id, peer = %peer.0, "channel stopped by an administrator");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// An answer that is true now and not later.
fn fresh(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
