//! How a WHEP player calls a server: an offer, redirections, and what the server makes of it. What follows on the session
//! that it made is [`Resource`]'s.

use std::{path::PathBuf, time::Duration};

use hyper::{HeaderMap, StatusCode, header};
use tokio::time::timeout;

use super::{
    caller::{Caller, Posted, text},
    error::ClientError,
    http::Reply,
    resource::Resource,
    target::ServerUrl,
};
use crate::signaling::sdp;

pub(super) const SDP: &str = "application/sdp";

/// What the end of a session that is of no use may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// How a server is called.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Its endpoint.
    pub server: ServerUrl,
    /// Bearer token to send.
    pub auth_token: Option<String>,
    /// PEM file with certificates to trust beside the system's.
    pub trusted: Option<PathBuf>,
}

impl Negotiated {
    /// The session that the server made.
    pub fn resource(&self) -> &Resource {
        match self {
            Self::Answer { resource, .. } | Self::CounterOffer { resource, .. } => resource,
        }
    }
}

/// Calls one endpoint.
#[derive(Clone)]
pub struct WhepClient(Caller);

/// What a server made of an offer.
#[derive(Debug)]
pub enum Negotiated {
    /// It answered.
    Answer {
        /// The SDP answer.
        sdp: String,
        /// The session that it made.
        resource: Resource,
    },
    /// It offers something else instead (406); [`Resource::answer`] takes it.
    CounterOffer {
        /// Its SDP offer.
        sdp: String,
        /// The session that it made.
        resource: Resource,
    },
}

impl WhepClient {
    /// Reads the files that `config` names; the error says which one is wrong, and why.
    pub fn new(config: &ClientConfig) -> Result<Self, String> {
        Caller::new(config).map(Self)
    }

    /// Whether the server is on this machine.
    pub async fn is_local(&self) -> bool {
        self.0.is_local().await
    }

    /// Makes an offer.
    pub async fn offer(&self, sdp: &str) -> Result<Negotiated, ClientError> {
        let Posted { server, reply, with_token } = self.0.post(sdp).await?;
        match reply.status {
            StatusCode::CREATED | StatusCode::OK => {
                let resource = self.0.resource(&server, &reply);
                let sdp = description(&server, &reply, &resource).await?;
                if !resource.is_named() {
                    tracing::warn!(%server, "the reply names no session (Location): the server will not be told when it is over");
                }
                Ok(Negotiated::Answer { sdp, resource })
            }
            StatusCode::NOT_ACCEPTABLE if has_type(&reply.headers, SDP) => {
                let resource = self.0.resource(&server, &reply);
                let sdp = description(&server, &reply, &resource).await?;
                if !resource.is_named() {
                    let why = "a counter-offer (406) without a Location to send the answer to".into();
                    return Err(ClientError::Reply { server, why });
                }
                Ok(Negotiated::CounterOffer { sdp, resource })
            }
            _ => Err(self.0.refused(&server, &reply, with_token)),
        }
    }
}

/// The description in a reply. If there is none that can be used, the session that the server has made all the same is ended.
pub(super) async fn description(server: &ServerUrl, reply: &Reply, resource: &Resource) -> Result<String, ClientError> {
    let sdp = sdp::check(&reply.body).map(str::to_owned).map_err(|error| ClientError::sdp(server, error));
    if sdp.is_err() {
        let _ = timeout(GOODBYE, resource.delete()).await; // that it could not be ended is the lesser news
    }
    sdp
}

fn has_type(headers: &HeaderMap, wanted: &str) -> bool {
    text(headers, &header::CONTENT_TYPE)
        .is_some_and(|value| value.split(';').next().is_some_and(|typ| typ.trim().eq_ignore_ascii_case(wanted)))
}
