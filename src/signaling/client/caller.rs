//! What players and publishers have in common when they call a server: an offer by POST, redirections, and the session that
//! the reply names.

use hyper::{HeaderMap, Method, StatusCode, header};

use super::{
    error::ClientError,
    http::{self, Http, Outgoing, Reply},
    link,
    resource::Resource,
    target::ServerUrl,
    tls,
    whep::{ClientConfig, SDP},
};

/// Servers that one offer is passed on to.
const MOST_REDIRECTS: usize = 5;

/// Calls one endpoint.
#[derive(Clone)]
pub(super) struct Caller {
    http: Http,
    server: ServerUrl,
}

/// An offer, and what was said to it.
pub(super) struct Posted {
    /// Who said it.
    pub(super) server: ServerUrl,
    pub(super) reply: Reply,
    pub(super) with_token: bool,
}

impl Caller {
    /// Reads the files that `config` names; the error says which one is wrong, and why.
    pub(super) fn new(config: &ClientConfig) -> Result<Self, String> {
        let tls = tls::config(config.trusted.as_deref())
            .map_err(|bad| format!("tls-certificate: {}: {}", bad.path.display(), bad.what))?;
        let token = config.auth_token.as_deref().map(bearer).transpose()?;
        Ok(Self { http: Http::new(tls, token), server: config.server.clone() })
    }

    /// Whether the server is on this machine.
    pub(super) async fn is_local(&self) -> bool {
        http::is_local(&self.server).await
    }

    /// Makes an offer. Redirections are followed by 307 and 308, which keep the method (RFC 9725 section 4.5,
    /// draft-ietf-wish-whep-03 section 4.6). The token goes to the origin that it was given for and not to one that it
    /// redirects to.
    pub(super) async fn post(&self, sdp: &str) -> Result<Posted, ClientError> {
        let mut server = self.server.clone();
        for _ in 0..=MOST_REDIRECTS {
            let with_token = self.server.shares_secrets_with(&server);
            let reply = self.http.send(&server, Outgoing::new(Method::POST, SDP, sdp), with_token).await?;
            if !reply.status.is_redirection() {
                return Ok(Posted { server, reply, with_token });
            }
            server = redirected(&server, &reply)?;
        }
        let why = "one redirection leads to the next";
        Err(ClientError::Redirect { server, status: StatusCode::TEMPORARY_REDIRECT, why })
    }

    /// What a reply that is none of the expected ones means.
    pub(super) fn refused(&self, server: &ServerUrl, reply: &Reply, with_token: bool) -> ClientError {
        self.http.refused(server, reply, with_token)
    }

    /// The session that a reply names.
    pub(super) fn resource(&self, server: &ServerUrl, reply: &Reply) -> Resource {
        let headers = &reply.headers;
        let url = text(headers, &header::LOCATION).and_then(|location| server.join(location, reply.from));
        let fields = headers.get_all(header::LINK).into_iter().filter_map(|value| value.to_str().ok());
        // The token goes with every request on a session (RFC 9725 section 4.7, draft-ietf-wish-whep-03 section 4.8), also
        // where the server that it was given for keeps its sessions elsewhere; only not from TLS to plain text.
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
    let target = server.join(location, reply.from).ok_or_else(|| wrong("its Location is no HTTP URL"))?;
    if server.is_secure() && !target.is_secure() {
        return Err(wrong("it leads from HTTPS to plain HTTP"));
    }
    tracing::debug!(%server, %target, "redirected");
    Ok(target)
}

/// A header field that is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
