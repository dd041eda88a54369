//! What a WHEP player says: an offer, an answer to a counter-offer, new ICE credentials, goodbye.

use std::path::PathBuf;

use axum::body::Bytes;
use hyper::{HeaderMap, Method, StatusCode, header};

use super::{
    error::{self, ClientError},
    http::{self, Http, Outgoing, Reply},
    link,
    target::ServerUrl,
    tls,
};
use crate::signaling::{
    IceServer,
    fragment::{IceFragment, MEDIA_TYPE as FRAGMENT},
    sdp,
};

/// Servers that one offer is passed on to.
const MOST_REDIRECTS: usize = 5;

const SDP: &str = "application/sdp";

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

/// Calls one endpoint.
#[derive(Clone)]
pub struct WhepClient {
    http: Http,
    server: ServerUrl,
}

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

/// A session at the server, known by its URL.
#[derive(Clone)]
pub struct Resource {
    http: Http,
    /// `None`: the server named none, so nothing more can be said to it.
    url: Option<ServerUrl>,
    with_token: bool,
    ice_servers: Vec<IceServer>,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not its URL: who knows it can end the session.
        f.debug_struct("Resource").field("ice_servers", &self.ice_servers).finish_non_exhaustive()
    }
}

impl WhepClient {
    /// Reads the files that `config` names; the error says which one is wrong, and why.
    pub fn new(config: &ClientConfig) -> Result<Self, String> {
        let tls = tls::config(config.trusted.as_deref())
            .map_err(|bad| format!("tls-certificate: {}: {}", bad.path.display(), bad.what))?;
        let token = match &config.auth_token {
            None => None,
            Some(token) => {
                let mut value = header::HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| "auth-token holds a character that HTTP cannot carry".to_owned())?;
                value.set_sensitive(true); // not printed with the headers
                Some(value)
            }
        };
        Ok(Self { http: Http::new(tls, token), server: config.server.clone() })
    }

    /// Whether the server is on this machine.
    pub async fn is_local(&self) -> bool {
        http::is_local(&self.server).await
    }

    /// Makes an offer. Redirections are followed as draft-ietf-wish-whep-03 section 4.6 wants it: by 307 and 308, which
    /// keep the method. The token goes to the origin that it was given for and not to one that it redirects to.
    pub async fn offer(&self, sdp: &str) -> Result<Negotiated, ClientError> {
        let mut server = self.server.clone();
        for _ in 0..=MOST_REDIRECTS {
            let with_token = self.server.shares_secrets_with(&server);
            let reply = self.http.send(&server, outgoing(Method::POST, SDP, sdp), with_token).await?;
            if reply.status.is_redirection() {
                server = redirected(&server, &reply)?;
                continue;
            }
            return match reply.status {
                StatusCode::CREATED | StatusCode::OK => {
                    let sdp = description(&server, &reply)?;
                    Ok(Negotiated::Answer { sdp, resource: self.resource(&server, &reply.headers) })
                }
                StatusCode::NOT_ACCEPTABLE if has_type(&reply.headers, SDP) => {
                    let sdp = description(&server, &reply)?;
                    let resource = self.resource(&server, &reply.headers);
                    if resource.url.is_none() {
                        let why = "a counter-offer (406) without a Location to send the answer to".into();
                        return Err(ClientError::Reply { server, why });
                    }
                    Ok(Negotiated::CounterOffer { sdp, resource })
                }
                _ => Err(refused(&self.http, &server, &reply, with_token)),
            };
        }
        let why = "one redirection leads to the next";
        Err(ClientError::Redirect { server, status: StatusCode::TEMPORARY_REDIRECT, why })
    }

    fn resource(&self, server: &ServerUrl, headers: &HeaderMap) -> Resource {
        let url = text(headers, &header::LOCATION).and_then(|location| server.join(location));
        if url.is_none() {
            tracing::warn!(%server, "the reply names no session (Location): the server will not be told when it is over");
        }
        let fields = headers.get_all(header::LINK).into_iter().filter_map(|value| value.to_str().ok());
        // The token goes with every request on a session (draft-ietf-wish-whep-03 section 4.8), also where the server
        // that it was given for keeps its sessions elsewhere; only not from TLS to plain text.
        let with_token = self.server.shares_secrets_with(server)
            && url.as_ref().is_some_and(|url| url.is_secure() || !server.is_secure());
        Resource { http: self.http.clone(), url, with_token, ice_servers: link::ice_servers(fields) }
    }
}

impl Resource {
    /// STUN and TURN servers that the server offers.
    pub fn ice_servers(&self) -> &[IceServer] {
        &self.ice_servers
    }

    /// Answers a counter-offer.
    pub async fn answer(&self, sdp: &str) -> Result<(), ClientError> {
        let Some(url) = &self.url else { return Ok(()) };
        let reply = self.http.send(url, outgoing(Method::PATCH, SDP, sdp), self.with_token).await?;
        match reply.status.is_success() {
            true => Ok(()),
            false => Err(refused(&self.http, url, &reply, self.with_token)),
        }
    }

    /// Restarts ICE: our new credentials and candidates as an SDP fragment (RFC 8840), and the server's in return.
    /// `None`: the server cannot do that.
    pub async fn restart_ice(&self, fragment: &IceFragment) -> Result<Option<IceFragment>, ClientError> {
        let Some(url) = &self.url else { return Ok(None) };
        let mut patch = outgoing(Method::PATCH, FRAGMENT, &fragment.to_string());
        // Whatever ICE session it has is to be replaced (section 4.4.3), so its entity tag does not matter.
        patch.if_match = Some("*".to_owned());
        let reply = self.http.send(url, patch, self.with_token).await?;
        match reply.status.as_u16() {
            200 if !reply.body.is_empty() => match IceFragment::parse(&reply.body) {
                Ok(fragment) => Ok(Some(fragment)),
                Err(error) => {
                    Err(ClientError::Reply { server: url.clone(), why: format!("its fragment is malformed: {error}") })
                }
            },
            // Not there, not supported, not now: the session goes on without.
            200..=299 | 405 | 415 | 422 | 501 => Ok(None),
            _ => Err(refused(&self.http, url, &reply, self.with_token)),
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
            false => Err(refused(&self.http, url, &reply, self.with_token)),
        }
    }
}

fn outgoing(method: Method, content_type: &'static str, body: &str) -> Outgoing {
    let body = Bytes::copy_from_slice(body.as_bytes());
    Outgoing { method, content_type: Some(content_type), if_match: None, body }
}

fn redirected(server: &ServerUrl, reply: &Reply) -> Result<ServerUrl, ClientError> {
    let wrong = |why| ClientError::Redirect { server: server.clone(), status: reply.status, why };
    if !matches!(reply.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return Err(wrong("only 307 and 308 keep a POST a POST"));
    }
    let location = text(&reply.headers, &header::LOCATION).ok_or_else(|| wrong("there is no Location in it"))?;
    let target = server.join(location).ok_or_else(|| wrong("its Location is no HTTP URL"))?;
    if server.is_secure() && !target.is_secure() {
        return Err(wrong("it leads from HTTPS to plain HTTP"));
    }
    tracing::debug!(%server, %target, "redirected");
    Ok(target)
}

fn refused(http: &Http, server: &ServerUrl, reply: &Reply, with_token: bool) -> ClientError {
    ClientError::Refused {
        server: server.clone(),
        status: reply.status,
        detail: error::detail(&reply.body),
        token: http.token(with_token),
        retry_after: error::retry_after(&reply.headers),
    }
}

fn description(server: &ServerUrl, reply: &Reply) -> Result<String, ClientError> {
    sdp::check(&reply.body).map(str::to_owned).map_err(|error| ClientError::sdp(server, error))
}

fn has_type(headers: &HeaderMap, wanted: &str) -> bool {
    text(headers, &header::CONTENT_TYPE)
        .is_some_and(|value| value.split(';').next().is_some_and(|typ| typ.trim().eq_ignore_ascii_case(wanted)))
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
