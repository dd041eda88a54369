//! How a publisher calls a WHIP server (RFC 9725): an offer, and what follows on the session that the server made of it.

use hyper::StatusCode;

use super::{
    caller::{Caller, Posted},
    error::ClientError,
    resource::Resource,
    whep::{ClientConfig, description},
};

/// Calls one endpoint.
#[derive(Clone)]
pub struct WhipClient(Caller);

/// A server's answer to an offer.
#[derive(Debug)]
pub struct Accepted {
    /// The SDP answer.
    pub sdp: String,
    /// The session that it made.
    pub resource: Resource,
}

impl WhipClient {
    /// Reads the files that `config` names; the error says which one is wrong, and why.
    pub fn new(config: &ClientConfig) -> Result<Self, String> {
        Caller::new(config).map(Self)
    }

    /// Whether the server is on this machine.
    pub async fn is_local(&self) -> bool {
        self.0.is_local().await
    }

    /// Makes an offer. Only 201 with the session's URL is an answer (section 4.2).
    pub async fn offer(&self, sdp: &str) -> Result<Accepted, ClientError> {
        let Posted { server, reply, with_token } = self.0.post(sdp).await?;
        if reply.status != StatusCode::CREATED {
            return Err(self.0.refused(&server, &reply, with_token));
        }
        let resource = self.0.resource(&server, &reply);
        if !resource.is_named() {
            let why = "an answer (201) without a Location: the session that it made could never be ended".into();
            return Err(ClientError::Reply { server, why });
        }
        Ok(Accepted { sdp: description(&server, &reply, &resource).await?, resource })
    }
}
