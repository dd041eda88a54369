//! Entries for the fuzz targets in `fuzz/`: what takes text from HTTP, without HTTP. No other use.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::{
    AllowedOrigins, EndpointUri, IceServer, ListenAddress,
    auth::{
        Role, bearer,
        claims::Claims,
        jwks::{self, KeyRing},
        jwt::{self, Finding},
        signatures, websocket_token,
    },
    client::{ServerUrl, ice_servers, retry_after, socket::SocketUrl},
    forwarded, origin, rules, sdp,
    uri::normalise_path,
    whip_session,
};

/// Checks an offer as WHIP does; returns it as text if a session would get to see it.
pub fn offer(body: &[u8]) -> Option<&str> {
    let offer = sdp::check(body).ok()?;
    if let Ok(complete) = rules::complete_answer(offer) {
        assert_eq!(rules::complete_answer(&complete).ok(), Some(complete), "an answer is completed once");
    }
    rules::check_offer(offer, rules::Terms::Ingest).is_ok().then_some(offer)
}

/// Checks an answer as the WHEP client does; returns it as text if a session would get to see it.
pub fn answer(body: &[u8]) -> Option<&str> {
    sdp::check(body).ok()
}

/// Reads a text frame of `/ws`.
pub fn message(text: &str) {
    super::socket::fuzz_message(text);
}

/// Reads a path, then the headers of a request and of a response, of which each line is one.
pub fn headers(text: &str) {
    let (path, rest) = text.split_once('\n').unwrap_or((text, ""));
    let spelled = normalise_path(path);
    assert!(spelled.starts_with('/'), "{spelled:?}");
    assert_eq!(normalise_path(&spelled), spelled, "two spellings");
    let mut headers = HeaderMap::new();
    for line in rest.lines().take(64) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.trim())) {
            headers.append(name, value);
        }
    }
    forwarded::fuzz(&headers, path);
    whip_session::fuzz(&headers);
    let wait = retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(800_000_000));
    assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(120)), "{wait:?}");
    let fields = headers.get_all(header::LINK).iter().filter_map(|field| field.to_str().ok());
    assert!(ice_servers(fields).len() <= 16);
}

/// Reads a line as whatever a user or a server may name by a URL. What is shown of it has no password and no query.
pub fn url(text: &str) {
    if let Ok(uri) = text.parse::<EndpointUri>() {
        assert_eq!(uri.to_string().parse().as_ref(), Ok(&uri), "{uri}");
    }
    if let Ok(listen) = text.parse::<ListenAddress>() {
        assert_eq!(listen.to_string().parse().as_ref(), Ok(&listen), "{listen}");
    }
    let is_shown_bare = |shown: String| {
        let (_, query) = shown.split_once('?').unwrap_or_default();
        assert!(["", "…"].contains(&query), "{shown}");
    };
    if let Ok(url) = text.parse::<ServerUrl>() {
        is_shown_bare(url.to_string());
    }
    if let Ok(url) = text.parse::<SocketUrl>() {
        is_shown_bare(url.to_string());
        assert!((1..=64).contains(&url.channel().len()));
    }
    for one in IceServer::several(text).take(8) {
        if let Ok(server) = IceServer::parse(one) {
            assert!(server.uri().starts_with("stun") || server.uri().starts_with("turn"));
            // Whatever the password is, the same is shown.
            let shown = IceServer::redacted(one);
            let told = IceServer::parse(&shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
            let login = server.login().map(|(user, _)| (user, "***"));
            assert_eq!((told.uri(), told.login()), (server.uri(), login), "{shown}");
        }
    }
}

/// Reads a Link header field, and writes one for the server that the text describes, if it does: it is read as written.
pub fn link(text: &str) {
    let servers = ice_servers(std::iter::once(text));
    assert!(servers.len() <= 16);
    for server in servers {
        assert!(text.contains(server.uri()), "the target was changed");
    }
    if let Ok(server) = IceServer::parse(text)
        && let Some(link) = server.link()
    {
        assert!(!link.as_bytes().contains(&b','), "some clients split it there");
        let field = link.to_str().unwrap_or_default();
        let read = ice_servers(std::iter::once(field));
        assert!(read == [server], "{field} was not read as it was meant");
    }
}

/// Reads what a request shows and a key set, of which the first line is a token, the second a URL's path and query, the
/// third a page's origin, the fourth the server's name, and the rest the set. Nothing that was not signed gets in.
pub fn token(text: &str) {
    let mut lines = text.splitn(5, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (shown, uri, page, host, set) = (line(), line(), line(), line(), line());
    if let Ok(value) = HeaderValue::try_from(format!("Bearer {shown}")) {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        let uri = uri.parse::<Uri>().unwrap_or_default();
        let read = bearer(&headers).map(str::to_owned);
        assert!(read.is_none() || websocket_token(&headers, uri.query()) == read, "a header counts before a query");
        let _ = websocket_token(&HeaderMap::new(), uri.query());
    }
    if let Ok(allowed) = AllowedOrigins::parse([page]) {
        assert!(page.trim() == "*" || origin::is_same(page.trim().trim_end_matches('/'), &allowed), "{page}");
    }
    origin::fuzz(page, host);

    let channel = "live".parse().ok();
    if let Ok(claims) = serde_json::from_str::<Claims>(set) {
        let (publishes, views) = (claims.permit(Role::Publish, channel.as_ref()), claims.permit(Role::View, None));
        assert!(claims.permit(Role::Admin, channel.as_ref()).is_err() || (publishes.is_ok() && views.is_ok()));
        let _ = claims.credential(shown);
    }
    static SECRET: LazyLock<DecodingKey> = LazyLock::new(|| {
        signatures::install();
        DecodingKey::from_secret(&rand::random::<[u8; 32]>())
    });
    let Some(header) = jwt::header(shown) else { return };
    let secret = std::slice::from_ref(&*SECRET);
    let finding = jwt::examine(shown, Algorithm::HS256, secret, Role::View, channel.as_ref());
    assert_eq!(finding, Finding::Unknown, "the secret is known to nobody");
    if let Ok(keys) = jwks::keys(set.as_bytes()) {
        let (mut ring, now) = (KeyRing::default(), std::time::Instant::now());
        ring.fill(keys, now);
        assert!(ring.find(Algorithm::HS256, header.kid.as_deref(), now).is_empty(), "what is public is no secret");
        for algorithm in [Algorithm::RS256, Algorithm::ES256] {
            let keys = ring.find(algorithm, header.kid.as_deref(), now);
            let _ = jwt::examine(shown, algorithm, &keys, Role::View, channel.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_of_tokens_are_read_or_refused() {
        let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/token");
        let all: Vec<_> = std::fs::read_dir(seeds).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(all.len() >= 5);
        for seed in all {
            super::token(&std::fs::read_to_string(seed).unwrap());
        }
    }
}
