//! Requests that a proxy hands on: who the client is, and by which name and below which path it calls.
//!
//! What a proxy says of it (`X-Forwarded-For`, `-Host`, `-Prefix`; `Forwarded`, RFC 7239) is believed of proxies that were
//! named and of nobody else, or everybody could be whoever he likes. A request from this machine that some other proxy has
//! handed on loses what this machine's own programs may do: anybody may be behind it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

use super::{connection::Peer, table::Table, uri::normalise_path};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// What proxies leave behind, each some of it. One that leaves nothing cannot be told from a program of this machine.
const HANDED_ON: [HeaderName; 9] = [
    FOR,
    HOST,
    PREFIX,
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
    header::FORWARDED,
    header::VIA,
];

/// Hops that are looked at; more proxies in a row are not a set-up but an attempt.
const MOST_HOPS: usize = 32;
/// A path that a server is below.
const LONGEST_PREFIX: usize = 200;

/// Whose word on a client's address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

/// A text that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither an IP address nor a network; write for example 127.0.0.1, 10.0.0.0/8 or fd00::/8")]
pub struct BadNetwork(String);

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let bad = || BadNetwork(text.to_owned());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.trim().parse().map_err(|_| bad())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), |bits| bits.trim().parse().map_err(|_| bad()))?;
        if bits > all { Err(bad()) } else { Ok(Self { address, bits }) }
    }
}

impl Network {
    fn has(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                (ours.to_bits() ^ other.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                (ours.to_bits() ^ other.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromIterator<TrustedProxies> for TrustedProxies {
    fn from_iter<T: IntoIterator<Item = Self>>(all: T) -> Self {
        Self(all.into_iter().flat_map(|proxies| proxies.0).collect())
    }
}

impl TrustedProxies {
    /// Reads addresses and networks: `127.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, BadNetwork> {
        texts.into_iter().map(|text| text.trim().parse()).collect::<Result<_, _>>().map(Self)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address.to_canonical()))
    }

    /// The client of a request that came from there: the last hop that is not ours, as each one is only known by the word of
    /// the next. False if that is a proxy which does not say for whom it asks.
    fn client(&self, from: IpAddr, headers: &HeaderMap) -> (IpAddr, bool) {
        let (mut client, mut is_told) = (from, false);
        for hop in hops(headers).into_iter().rev().take(MOST_HOPS) {
            if !self.has(client) {
                break;
            }
            match hop {
                Some(address) => (client, is_told) = (address, true),
                // "unknown", or what is no address: the last one known is a proxy.
                None => {
                    is_told = false;
                    break;
                }
            }
        }
        (client, is_told)
    }
}

/// The addresses that a request was handed on for, the client's first. Who writes `X-Forwarded-For` passes a client's own
/// `Forwarded` on unseen more often than the other way round, so the first counts where there are both.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let texts = |name: &HeaderName| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(str::trim).filter(|text| !text.is_empty()).collect::<Vec<_>>()
    };
    match texts(&FOR) {
        none if none.is_empty() => {
            texts(&header::FORWARDED).into_iter().map(|hop| node(parameter(hop, "for")?)).collect()
        }
        listed => listed.into_iter().map(node).collect(),
    }
}

/// A parameter of one element of `Forwarded` (RFC 7239 section 4).
fn parameter<'a>(hop: &'a str, wanted: &str) -> Option<&'a str> {
    hop.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
}

/// An address with or without a port; IPv6 ones in brackets where there is a port (RFC 7239 section 6).
fn node(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
    let address = text.parse().or_else(|_| bracketed.unwrap_or_default().parse());
    let address = address.or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// Stands before everything that looks at who asks.
pub(crate) async fn resolve(State(table): State<Arc<Table>>, mut request: Request, next: Next) -> Response {
    let Some(ConnectInfo(Peer(from))) = request.extensions().get::<ConnectInfo<Peer>>().copied() else {
        return next.run(request).await;
    };
    let headers = request.headers();
    let trusted = table.trusted_proxies(&normalise_path(request.uri().path()));
    if !trusted.has(from.ip()) {
        let is_handed_on = HANDED_ON.iter().any(|name| headers.contains_key(name));
        if is_handed_on && from.ip().to_canonical().is_loopback() {
            request.extensions_mut().insert(ConnectInfo(Peer(nobody())));
        }
        return next.run(request).await;
    }
    let (client, is_told) = trusted.client(from.ip(), headers);
    let prefix = headers.get(&PREFIX).and_then(|prefix| usable_prefix(prefix.to_str().ok()?));
    let host = last(headers, &HOST).or_else(|| forwarded_host(headers));
    // A proxy of this machine that does not say for whom asks for somebody, and not for this machine.
    let client = if client.to_canonical().is_loopback() && !is_told { nobody().ip() } else { client };
    request.extensions_mut().insert(ConnectInfo(Peer(SocketAddr::new(client, 0))));
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    let mut response = next.run(request).await;
    if let Some(prefix) = prefix {
        below(response.headers_mut(), &prefix);
    }
    response
}

/// Who has no address that anything is allowed to.
fn nobody() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

/// What the nearest proxy says.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let text = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    HeaderValue::from_str(text.rsplit(',').next()?.trim()).ok().filter(|value| !value.is_empty())
}

fn forwarded_host(headers: &HeaderMap) -> Option<HeaderValue> {
    if headers.contains_key(&FOR) {
        return None;
    }
    let text = headers.get_all(header::FORWARDED).iter().next_back()?.to_str().ok()?;
    HeaderValue::from_str(parameter(text.rsplit(',').next()?, "host")?).ok()
}

/// A path without what would make it another server's.
fn usable_prefix(text: &str) -> Option<String> {
    let prefix = text.trim().trim_end_matches('/');
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let is_path = prefix.starts_with('/') && !prefix.contains("//") && prefix.chars().all(fits);
    (is_path && prefix.len() <= LONGEST_PREFIX).then(|| prefix.to_owned())
}

/// Puts the prefix before the paths of this server that a response names.
fn below(headers: &mut HeaderMap, prefix: &str) {
    let is_ours = |path: &str| path.starts_with('/') && !path.starts_with("//");
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.filter(|path| is_ours(path)).map(|path| format!("{prefix}{path}"));
    if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
        headers.insert(header::LOCATION, location);
    }
    let links: Vec<HeaderValue> = headers.get_all(header::LINK).iter().map(|link| linked(link, prefix)).collect();
    headers.remove(header::LINK);
    for link in links {
        headers.append(header::LINK, link);
    }
}

fn linked(link: &HeaderValue, prefix: &str) -> HeaderValue {
    let ours = link.to_str().ok().and_then(|text| text.strip_prefix("</")).filter(|rest| !rest.starts_with('/'));
    let new = ours.and_then(|rest| HeaderValue::try_from(format!("<{prefix}/{rest}")).ok());
    let mut new = new.unwrap_or_else(|| link.clone());
    new.set_sensitive(link.is_sensitive());
    new
}

/// Reads what a client may write in a request's head: headers, one a line. Who asks is whom a proxy of ours has named, and a
/// path stays below its prefix.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(headers: &HeaderMap, prefix: &str) {
    let Ok(trusted) = TrustedProxies::parse(["10.0.0.0/8"]) else { return };
    let (proxy, stranger) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
    assert_eq!(trusted.client(stranger, headers), (stranger, false), "a stranger's word counts");
    let (client, is_told) = trusted.client(proxy, headers);
    assert!(client == proxy || hops(headers).contains(&Some(client)), "{client} was named by nobody");
    assert!(!is_told || hops(headers).contains(&Some(client)), "{client} was told by nobody");
    let _ = forwarded_host(headers);
    for name in [FOR, HOST, PREFIX] {
        let _ = last(headers, &name);
    }
    let Some(prefix) = usable_prefix(prefix) else { return };
    assert!(prefix.is_empty() || prefix.starts_with('/') && !prefix.contains("//"), "{prefix}");
    let mut answered = headers.clone();
    below(&mut answered, &prefix);
    let count = |headers: &HeaderMap| headers.get_all(header::LINK).iter().count();
    assert_eq!(count(&answered), count(headers), "a Link is gone");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn client(trusted: &[&str], from: &str, pairs: &[(&str, &str)]) -> String {
        let trusted = TrustedProxies::parse(trusted.iter().copied()).unwrap();
        trusted.client(from.parse().unwrap(), &headers(pairs)).0.to_string()
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_proxy_of_ours() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        let handed_on = |value| client(&trusted, "10.0.0.1", &[("x-forwarded-for", value)]);
        assert_eq!(handed_on("192.0.2.7"), "192.0.2.7");
        assert_eq!(handed_on("192.0.2.66, 192.0.2.7, 10.2.3.4"), "192.0.2.7", "what stands before it anybody can say");
        assert_eq!(handed_on("192.0.2.7:4711"), "192.0.2.7");
        assert_eq!(handed_on("[2001:db8::7]:4711, [fd00::1]"), "2001:db8::7");
        assert_eq!(handed_on("unknown"), "10.0.0.1");
        assert_eq!(client(&trusted, "192.0.2.1", &[("x-forwarded-for", "127.0.0.1")]), "192.0.2.1", "no proxy of ours");
        let twice = [("x-forwarded-for", "192.0.2.66"), ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(client(&trusted, "10.0.0.1", &twice), "192.0.2.7");
    }

    #[test]
    fn the_standard_header_is_read_where_the_other_one_is_not_there() {
        let forwarded = ("forwarded", "for=192.0.2.66, for=\"[2001:db8::7]:4711\";proto=https;Host=example.net");
        assert_eq!(client(&["::1"], "::1", &[forwarded]), "2001:db8::7");
        assert_eq!(client(&["::1"], "::1", &[forwarded, ("x-forwarded-for", "192.0.2.8")]), "192.0.2.8");
        assert_eq!(forwarded_host(&headers(&[forwarded])).unwrap(), "example.net");
    }

    #[test]
    fn networks_have_their_addresses_and_no_others() {
        let has = |network: &str, address: &str| network.parse::<Network>().unwrap().has(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.255.0.1") && !has("10.0.0.0/8", "11.0.0.1"));
        assert!(has("0.0.0.0/0", "203.0.113.1") && !has("0.0.0.0/0", "::1"));
        assert!(has("127.0.0.1", "127.0.0.1") && !has("127.0.0.1", "127.0.0.2"));
        assert!(has("2001:db8::/32", "2001:db8:1::1") && !has("2001:db8::/32", "2001:db9::1"));
        for bad in ["", "host", "10.0.0.0/33", "10.0.0.0/x", "::/129"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_of_ours_get_the_prefix_and_others_stay() {
        let mut named = headers(&[
            ("location", "/whip/live/1"),
            ("link", "</whep/live/1/layer>; rel=\"x\""),
            ("link", "<stun:stun.example.net>; rel=\"ice-server\""),
        ]);
        below(&mut named, "/bridge");
        assert_eq!(named[header::LOCATION], "/bridge/whip/live/1");
        let links: Vec<_> = named.get_all(header::LINK).iter().collect();
        assert_eq!(links, ["</bridge/whep/live/1/layer>; rel=\"x\"", "<stun:stun.example.net>; rel=\"ice-server\""]);
        for bad in ["", "/", "bridge", "//evil.example", "/a//b", "/a\"b", "/a b", "/a?b"] {
            assert_eq!(usable_prefix(bad), None, "{bad}");
        }
        assert_eq!(usable_prefix("/a/b/").as_deref(), Some("/a/b"));
    }
}
