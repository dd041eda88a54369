//! What a WHEP player says on the URL of its session: an answer to a counter-offer, further candidates, new ICE
//! credentials, goodbye.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use hyper::{Method, header};

use super::{
    error::ClientError,
    http::{Http, Outgoing, Reply},
    target::ServerUrl,
    whep::SDP,
};
use crate::signaling::{
    IceServer,
    fragment::{IceFragment, MEDIA_TYPE as FRAGMENT},
};

/// Matches whatever the server has (RFC 9110 section 13.1.1).
const ANY: &str = "*";

/// A session at the server, known by its URL.
#[derive(Clone)]
pub struct Resource {
    http: Http,
    /// `None`: the server named none, so nothing more can be said to it.
    url: Option<ServerUrl>,
    with_token: bool,
    ice_servers: Vec<IceServer>,
    /// What the server has told of its ICE; the same for all copies.
    ice: Arc<Mutex<ServerIce>>,
}

struct ServerIce {
    /// Names the present ICE session (RFC 9725 section 4.3.1); servers that cannot restart have none.
    tag: Option<String>,
    /// Not since it has said that it takes no candidates.
    takes_candidates: bool,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not its URL: who knows it can end the session.
        f.debug_struct("Resource").field("ice_servers", &self.ice_servers).finish_non_exhaustive()
    }
}

impl Resource {
    pub(super) fn new(
        http: Http,
        url: Option<ServerUrl>,
        with_token: bool,
        ice_servers: Vec<IceServer>,
        tag: Option<String>,
    ) -> Self {
        let ice = Arc::new(Mutex::new(ServerIce { tag, takes_candidates: true }));
        Self { http, url, with_token, ice_servers, ice }
    }

    /// Whether the server has said where it is.
    pub(super) fn is_named(&self) -> bool {
        self.url.is_some()
    }

    /// STUN and TURN servers that the server offers.
    pub fn ice_servers(&self) -> &[IceServer] {
        &self.ice_servers
    }

    /// Answers a counter-offer.
    pub async fn answer(&self, sdp: &str) -> Result<(), ClientError> {
        let Some(url) = &self.url else { return Ok(()) };
        let reply = self.http.send(url, Outgoing::new(Method::PATCH, SDP, sdp), self.with_token).await?;
        match reply.status.is_success() {
            true => Ok(()),
            false => Err(self.http.refused(url, &reply, self.with_token)),
        }
    }

    /// Names further candidates of the present ICE session (RFC 8840). False where the server has not taken them: it does
    /// not trickle, and is not asked again, or has another ICE session by now.
    pub async fn trickle(&self, fragment: &IceFragment) -> Result<bool, ClientError> {
        let Some(url) = self.url.as_ref().filter(|_| self.ice().takes_candidates) else { return Ok(false) };
        let tag = self.ice().tag.clone();
        let reply = self.patch(url, fragment, tag.unwrap_or_else(|| ANY.to_owned())).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(true),
            412 => Ok(false),
            405 | 415 | 501 => {
                self.ice().takes_candidates = false;
                Ok(false)
            }
            _ => Err(self.http.refused(url, &reply, self.with_token)),
        }
    }

    /// Restarts ICE: our new credentials and candidates as an SDP fragment (RFC 8840), and the server's in return.
    /// `None`: the server cannot do that.
    pub async fn restart_ice(&self, fragment: &IceFragment) -> Result<Option<IceFragment>, ClientError> {
        let Some(url) = &self.url else { return Ok(None) };
        // Whatever ICE session it has is to be replaced (draft-ietf-wish-whep-03 section 4.4.3).
        let reply = self.patch(url, fragment, ANY.to_owned()).await?;
        match reply.status.as_u16() {
            200 if !reply.body.is_empty() => match IceFragment::parse(&reply.body) {
                Ok(fragment) => {
                    let tag = reply.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
                    self.ice().tag = tag.map(str::to_owned);
                    Ok(Some(fragment))
                }
                Err(error) => {
                    Err(ClientError::Reply { server: url.clone(), why: format!("its fragment is malformed: {error}") })
                }
            },
            // Not there, not supported, not now: the session goes on without.
            200..=299 | 405 | 415 | 422 | 501 => Ok(None),
            _ => Err(self.http.refused(url, &reply, self.with_token)),
        }
    }

    /// Ends the session.
    pub async fn delete(&self) -> Result<(), ClientError> {
        let Some(url) = &self.url else { return Ok(()) };
        let delete = Outgoing { method: Method::DELETE, content_type: None, if_match: None, body: Bytes::new() };
        let reply = self.http.send(url, delete, self.with_token).await?;
        // One that is gone already is as good.
        match reply.status.is_success() || matches!(reply.status.as_u16(), 404 | 410) {
            true => Ok(()),
            false => Err(self.http.refused(url, &reply, self.with_token)),
        }
    }

    async fn patch(&self, url: &ServerUrl, fragment: &IceFragment, if_match: String) -> Result<Reply, ClientError> {
        let mut patch = Outgoing::new(Method::PATCH, FRAGMENT, &fragment.to_string());
        patch.if_match = Some(if_match);
        self.http.send(url, patch, self.with_token).await
    }

    fn ice(&self) -> MutexGuard<'_, ServerIce> {
        self.ice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
