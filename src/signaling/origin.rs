//! Which web pages may use a server, and by which names it is called.
//!
//! A browser sends a page's requests wherever the page wants, so what is open to who can reach it would be open to every
//! page that somebody on this machine or its network looks at. Where no token is needed only pages of the server itself
//! and of this machine are served; and as a page can make its own name point here (DNS rebinding), only names that are
//! really ours count as the server itself. Programs that are no browsers send no Origin, and pass.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tracing::debug;
use url::{Host, Url};

use super::{
    auth::{Door, Role, bearer, websocket_token},
    cors,
    problem::Refusal,
    table::{Table, Target},
    uri::normalise_path,
};

/// Pages that may use a server beside its own and those of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    any: bool,
    listed: BTreeSet<Origin>,
}

/// A text that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no origin; write https://HOST or https://HOST:PORT, or * for all")]
pub struct BadOrigin(String);

impl AllowedOrigins {
    /// Reads `https://example.com`, `http://example.com:8080`, or `*` for all.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, BadOrigin> {
        let mut allowed = Self::default();
        for text in texts {
            match text.trim() {
                "*" => allowed.any = true,
                text => {
                    let origin = text.strip_suffix('/').unwrap_or(text).parse();
                    allowed.listed.insert(origin.map_err(|NoOrigin| BadOrigin(text.to_owned()))?);
                }
            }
        }
        Ok(allowed)
    }

    fn is_empty(&self) -> bool {
        !self.any && self.listed.is_empty()
    }

    fn has(&self, origin: &Origin) -> bool {
        self.any || self.listed.contains(origin)
    }

    fn names(&self, host: &Host) -> bool {
        self.any || self.listed.iter().any(|origin| origin.host == *host)
    }
}

/// Where a page is from (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    scheme: String,
    host: Host,
    port: Option<u16>,
}

/// Not an origin, such as `null`.
#[derive(Debug)]
pub(crate) struct NoOrigin;

impl FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(NoOrigin)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if scheme.is_empty() || !scheme.chars().all(fits) {
            return Err(NoOrigin);
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = authority_of(authority, &scheme)?;
        Ok(Self { scheme, host, port })
    }
}

/// Host and port of `HOST[:PORT]`, with the port that the scheme implies.
fn authority_of(text: &str, scheme: &str) -> Result<(Host, Option<u16>), NoOrigin> {
    // Nothing that would make a URL's parser find the host elsewhere.
    if text.is_empty()
        || text.len() > 300
        || text.contains(|c: char| "/\\?#@%".contains(c) || c <= ' ' || !c.is_ascii())
    {
        return Err(NoOrigin);
    }
    // Other schemes' hosts are not normalised and have no ports by default.
    let parsed = Url::parse(&format!("{}://{text}/", if scheme == "https" { "https" } else { "http" }));
    let url = parsed.map_err(|_| NoOrigin)?;
    let host = url.host().ok_or(NoOrigin)?.to_owned();
    let host = match host {
        Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_owned()),
        address => address,
    };
    Ok((host, url.port_or_known_default()))
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).to_canonical().is_loopback(),
    }
}

/// Where a request comes from, as its headers tell.
struct Visit<'a> {
    /// `None`: no browser, or one that just opens an address.
    origin: Option<&'a str>,
    /// `None`: no browser at all.
    host: Option<&'a str>,
}

impl<'a> Visit<'a> {
    /// A header that is there twice, or is no text, is one that fits nothing.
    fn of(headers: &'a HeaderMap) -> Self {
        let only = |name| {
            let mut values = headers.get_all(name).iter();
            let first = values.next().map(|value: &HeaderValue| value.to_str().unwrap_or(""))?;
            Some(if values.next().is_some() { "" } else { first })
        };
        Self { origin: only(header::ORIGIN), host: only(header::HOST) }
    }
}

/// What is asked of requests to one path.
struct Rules<'a> {
    allowed: &'a AllowedOrigins,
    /// Names that the server is called by, beside addresses and localhost.
    names: &'a BTreeSet<String>,
    /// Whether nobody gets in here without a token.
    is_locked: bool,
    /// Whether the Host matters where there is no Origin, as where something can be read.
    always_by_host: bool,
}

impl Rules<'_> {
    fn judge(&self, visit: &Visit<'_>) -> Result<(), Refusal> {
        if self.is_locked && (self.allowed.is_empty() || self.allowed.any) {
            return Ok(()); // a page without the token can do nothing here
        }
        let by_host = || match visit.host {
            Some(host) if !self.knows(host) => Err(Refusal::ForeignHost { host: shown(host) }),
            _ => Ok(()),
        };
        let host_matters = self.always_by_host && !self.is_locked;
        let Some(text) = visit.origin else {
            return if host_matters { by_host() } else { Ok(()) };
        };
        let origin = text.parse::<Origin>().ok();
        if origin.as_ref().is_some_and(|origin| self.allowed.has(origin)) || self.allowed.any {
            return Ok(());
        }
        let own = origin.as_ref().is_some_and(|origin| is_own(origin, visit.host));
        match origin {
            Some(_) if own && self.is_locked => Ok(()),
            Some(_) if own => by_host(),
            Some(origin) if is_loopback(&origin.host) => {
                if host_matters {
                    by_host()
                } else {
                    Ok(())
                }
            }
            _ => Err(Refusal::ForeignOrigin { origin: shown(text) }),
        }
    }

    /// Whether a Host is this server, and not a name that somebody made point here.
    fn knows(&self, host: &str) -> bool {
        match authority_of(host, "http") {
            Ok((Host::Domain(name), _)) => {
                let host = Host::Domain(name);
                is_loopback(&host) || self.allowed.names(&host) || self.has_name(&host)
            }
            Ok(_) => true, // an address points nowhere else
            Err(NoOrigin) => false,
        }
    }

    fn has_name(&self, host: &Host) -> bool {
        matches!(host, Host::Domain(name) if self.names.contains(name) || MACHINE.contains(name))
    }
}

/// Whether a page comes from the server that it calls. A proxy in front may add TLS: the scheme is the page's.
fn is_own(origin: &Origin, host: Option<&str>) -> bool {
    let called = host.and_then(|host| authority_of(host, &origin.scheme).ok());
    matches!(origin.scheme.as_str(), "http" | "https") && called == Some((origin.host.clone(), origin.port))
}

/// What this machine is called, in its network too.
static MACHINE: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let name = gethostname::gethostname().to_string_lossy().to_ascii_lowercase();
    let short = name.split('.').next().unwrap_or_default().to_owned();
    [format!("{short}.local"), short, name].into_iter().filter(|name| !name.starts_with('.')).collect()
});

/// What a client sent, short enough to be repeated.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Stands before every route: refuses pages that may not use it, and tells browsers which may.
pub(crate) async fn guard(State(table): State<Arc<Table>>, request: Request, next: Next) -> Response {
    let (headers, method) = (request.headers(), request.method());
    let preflight = match *method {
        Method::OPTIONS => headers.get(header::ACCESS_CONTROL_REQUEST_METHOD),
        _ => None,
    };
    let meant = preflight.and_then(|meant| Method::from_bytes(meant.as_bytes()).ok());
    let verdict = judge(&table, request.uri(), meant.as_ref().unwrap_or(method), headers);
    let is_preflight = preflight.is_some() && headers.contains_key(header::ORIGIN);
    let origin = headers.get(header::ORIGIN).cloned();
    let mut response = match verdict {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            debug!(%refusal, "refused");
            let mut response = refusal.into_response();
            cors::vary(response.headers_mut());
            return response;
        }
    };
    if is_preflight && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        // A route that does not know OPTIONS: what matters of the answer follows.
        response = StatusCode::NO_CONTENT.into_response();
    }
    cors::describe(response.headers_mut(), origin);
    response
}

fn judge(table: &Table, uri: &Uri, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let path = normalise_path(uri.path());
    let visit = Visit::of(headers);
    let names = table.names();
    let shows_token = || carries_token(&path, uri, headers);
    let is_locked = |door| match door {
        Door::Open => false,
        Door::Asked => shows_token(), // who is asked may go by the address, which is the browser's
        Door::Locked => true,
    };
    if let Ok(Target::Endpoint(place) | Target::Session(place, _) | Target::Extension(place, ..)) = table.find(&path)
        && place.channel.is_none()
    {
        let is_locked = is_locked(place.endpoint.gate.door(place.endpoint.role));
        let allowed = &AllowedOrigins::default();
        return Rules { allowed, names: &names, is_locked, always_by_host: false }.judge(&visit);
    }
    let Some(site) = table.site() else { return Ok(()) }; // files of the page, for everybody
    let roles = roles(&path, method);
    let is_locked = roles.iter().all(|role| is_locked(site.gate.door(*role)));
    Rules { allowed: &site.allowed_origins, names: &names, is_locked, always_by_host: true }.judge(&visit)
}

/// The roles that one may have need of at a path. Where it is not known, all that could be.
fn roles(path: &str, method: &Method) -> &'static [Role] {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match path.split('/').nth(1).unwrap_or_default() {
        "whip" | "offer" => &[Role::Publish],
        "whep" => &[Role::View],
        "metrics" | "status" => &[Role::Admin],
        "healthz" | "readyz" => &[], // asked for by whatever name, and tell nothing
        // Over a WebSocket an administrator may stop channels.
        "ws" => &[Role::Publish, Role::View, Role::Admin],
        "api" if !reads => &[Role::Publish, Role::View, Role::Admin],
        _ => &[Role::Publish, Role::View],
    }
}

/// Whether a request shows a token, or is the preflight of one that will.
fn carries_token(path: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let announced = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|names| names.to_str().ok());
    let will = announced.is_some_and(|names| {
        names.split(',').any(|name| name.trim().eq_ignore_ascii_case(header::AUTHORIZATION.as_str()))
    });
    will || bearer(headers).is_some() || (path == "/ws" && websocket_token(headers, uri.query()).is_some())
}

/// Whether an origin is one that a list of it holds.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_same(origin: &str, allowed: &AllowedOrigins) -> bool {
    origin.parse().is_ok_and(|origin| allowed.has(&origin))
}

/// Judges a page and a name that a client made up. Whoever is let in without a token is of this machine, or of the server.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(page: &str, host: &str) {
    let (allowed, names) = (AllowedOrigins::default(), BTreeSet::new());
    let rules = Rules { allowed: &allowed, names: &names, is_locked: false, always_by_host: true };
    if rules.judge(&Visit { origin: Some(page), host: Some(host) }).is_ok() {
        let origin: Origin = page.parse().unwrap_or_else(|NoOrigin| panic!("{page:?} is no origin"));
        assert!(is_loopback(&origin.host) || is_own(&origin, Some(host)), "{page:?} at {host:?}");
        assert!(!matches!(&origin.host, Host::Domain(name) if name.ends_with(".example")), "{page:?} at {host:?}");
    }
}

#[cfg(test)]
mod tests;
