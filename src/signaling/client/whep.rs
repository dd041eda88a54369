//! How a WHEP player calls a server: an offer, redirections, and what the server makes of it. What follows on the session
//! that it made is [`Resource`]'s.

use std::path::PathBuf;

use hyper::{HeaderMap, Method, StatusCode, header};

use super::{
    error::ClientError,
    http::{self, Http, Outgoing, Reply},
    link,
    resource::Resource,
    target::ServerUrl,
    tls,
};
use crate::signaling::sdp;

/// Servers that one offer is passed on to.
const MOST_REDIRECTS: usize = 5;

pub(super) const SDP: &str = "application/sdp";

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

impl WhepClient {
    /// Reads the files that `config` names; the error says which one is wrong, and why.
    pub fn new(config: &ClientConfig) -> Result<Self, String> {
        let tls = tls::config(config.trusted.as_deref())
            .map_err(|bad| format!("tls-certificate: {}: {}", bad.path.display(), bad.what))?;
        let token = config.auth_token.as_deref().map(bearer).transpose()?;
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
            let reply = self.http.send(&server, Outgoing::new(Method::POST, SDP, sdp), with_token).await?;
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
                    if !resource.is_named() {
                        let why = "a counter-offer (406) without a Location to send the answer to".into();
                        return Err(ClientError::Reply { server, why });
                    }
                    Ok(Negotiated::CounterOffer { sdp, resource })
                }
                _ => Err(self.http.refused(&server, &reply, with_token)),
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
        let tag = text(headers, &header::ETAG).map(str::to_owned);
        Resource::new(self.http.clone(), url, with_token, link::ice_servers(fields), tag)
    }
}

/// A token as it is sent.
pub(super) fn bearer(token: &str) -> Result<header::HeaderValue, String> {
    let mut value = header::HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "auth-token holds a character that HTTP cannot carry".to_owned())?;
    value.set_sensitive(true); // not printed with the headers
    Ok(value)
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
