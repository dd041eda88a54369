//! RTMP URLs: parsed once, and shown only without their secrets.

use std::fmt;

/// What stands for a secret wherever a location is shown.
const REDACTED: &str = "***";
/// Shown with every complaint about a location.
const EXAMPLE: &str = "rtmp://a.rtmp.youtube.com/live2/STREAM-KEY";

/// A parsed RTMP URL: `rtmp[s]://[user:password@]host[:port]/application/stream-key[?query]`.
///
/// The key is the last segment of the path with the query. `Display` and `Debug` give the redacted form.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// Whether the connection is wrapped in TLS.
    pub tls: bool,
    /// Host name or address, without the brackets of IPv6.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The application: the path without its last segment.
    pub application: String,
    /// The stream key with the query. A secret.
    pub stream: String,
    /// User name and password, for servers that ask for them. Secrets.
    pub credentials: Option<(String, String)>,
}

/// What is wrong with a location. The text holds nothing of the location but its scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing was set.
    #[error("location is not set; set it to an RTMP URL such as {EXAMPLE}")]
    Missing,
    /// White space or control characters.
    #[error("location holds white space or control characters; it has to be one RTMP URL such as {EXAMPLE}")]
    Characters,
    /// No `scheme://` in front.
    #[error("location has no scheme; it has to start with rtmp:// or rtmps://, such as {EXAMPLE}")]
    NoScheme,
    /// Some other protocol.
    #[error("location has the scheme {0}, which is not supported; use rtmp:// or rtmps://, such as {EXAMPLE}")]
    Scheme(String),
    /// No host between `//` and `/`.
    #[error("location names no host; it has to look like {EXAMPLE}")]
    NoHost,
    /// The port is not a number from 1 to 65535.
    #[error("the port in location is not a number from 1 to 65535; location has to look like {EXAMPLE}")]
    Port,
    /// The path has no application.
    #[error("location has no application and no stream key after the host; it has to look like {EXAMPLE}")]
    NoApplication,
    /// The path has an application only.
    #[error("location has no stream key after the application; it has to look like {EXAMPLE}")]
    NoStream,
}

impl Location {
    /// Parses a URL as a user writes it. The key is taken to the letter: servers compare it undecoded.
    pub fn parse(url: &str) -> Result<Self, LocationError> {
        let url = url.trim();
        if url.is_empty() {
            return Err(LocationError::Missing);
        }
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(LocationError::Characters);
        }
        let (scheme, rest) = url.split_once("://").ok_or(LocationError::NoScheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => false,
            "rtmps" => true,
            // A key pasted in front of "://" must not be shown: only what looks like a scheme is.
            other if other.len() <= 8 && other.chars().all(|c| c.is_ascii_alphanumeric()) => {
                return Err(LocationError::Scheme(other.to_owned()));
            }
            _ => return Err(LocationError::NoScheme),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, host_port) = match authority.rsplit_once('@') {
            Some((user_info, host_port)) => (Some(parse_user_info(user_info)), host_port),
            None => (None, authority),
        };
        let (host, port) = parse_host_port(host_port, if tls { 443 } else { 1935 })?;
        let (application, stream) = parse_path(path)?;
        Ok(Self { tls, host, port, application, stream, credentials })
    }

    /// Replaces every secret of this location in `text`: for words that come from elsewhere, such as a server's.
    pub fn sanitise(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets() {
            text = text.replace(&secret, REDACTED);
        }
        text
    }

    /// The secrets, longest first so that no part of one is left standing.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = vec![self.stream.clone()];
        let mut queries = Vec::new();
        if let Some((key, query)) = self.stream.split_once('?') {
            secrets.push(key.to_owned());
            queries.push(query);
        }
        queries.extend(self.application.split_once('?').map(|(_, query)| query));
        for query in queries {
            secrets.push(query.to_owned());
            let values = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1.to_owned()));
            // A value of a few characters is a switch; hiding it would hide the same characters everywhere.
            secrets.extend(values.filter(|value| value.len() >= SHORTEST_SECRET_VALUE));
        }
        if let Some((user, password)) = &self.credentials {
            secrets.extend([user.clone(), password.clone()]);
        }
        for secret in secrets.clone() {
            secrets.extend(percent_encoding::percent_decode_str(&secret).decode_utf8().map(String::from));
        }
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

const SHORTEST_SECRET_VALUE: usize = 3;

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rtmps" } else { "rtmp" };
        let user = if self.credentials.is_some() { "***:***@" } else { "" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = match (self.tls, self.port) {
            (true, 443) | (false, 1935) => String::new(),
            (_, port) => format!(":{port}"),
        };
        // An application may hold secrets of its own after a '?' (vhost and token before the last '/').
        let application = self.application.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{user}{host}{port}/{application}/{REDACTED}")
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

/// Redacts a location that may be malformed: what cannot be parsed is not shown at all.
pub fn redact(url: &str) -> String {
    Location::parse(url).map_or_else(|_| REDACTED.to_owned(), |location| location.to_string())
}

fn parse_user_info(user_info: &str) -> (String, String) {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    (decode(user), decode(password))
}

fn parse_host_port(text: &str, default_port: u16) -> Result<(String, u16), LocationError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(LocationError::NoHost)?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(LocationError::Port)?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(LocationError::NoHost);
    }
    let port = match port {
        None => default_port,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(LocationError::Port)?,
    };
    Ok((host.to_owned(), port))
}

fn parse_path(path: &str) -> Result<(String, String), LocationError> {
    let (segments, query) = path.split_once('?').map_or((path, None), |(segments, query)| (segments, Some(query)));
    let (application, stream) = match (segments.rsplit_once('/'), query) {
        (Some((application, key)), Some(query)) => (application.to_owned(), format!("{key}?{query}")),
        (Some((application, key)), None) => (application.to_owned(), key.to_owned()),
        // SRS writes rtmp://host/app?vhost=name/key.
        (None, Some(query)) if query.contains('/') => {
            let (before, key) = query.rsplit_once('/').unwrap_or_default();
            (format!("{segments}?{before}"), key.to_owned())
        }
        (None, _) => (segments.to_owned(), String::new()),
    };
    let application = application.trim_matches('/').to_owned();
    if application.is_empty() || application.starts_with('?') {
        return Err(LocationError::NoApplication);
    }
    if stream.is_empty() || stream.starts_with('?') {
        return Err(LocationError::NoStream);
    }
    Ok((application, stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Location {
        Location::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn key_is_the_last_segment_with_the_query() {
        let location = parse("rtmps://live-api-s.facebook.com:443/rtmp/FB-1-key?s_bl=1&a=Ab/c");
        assert_eq!((location.tls, location.host.as_str(), location.port), (true, "live-api-s.facebook.com", 443));
        assert_eq!((location.application.as_str(), location.stream.as_str()), ("rtmp", "FB-1-key?s_bl=1&a=Ab/c"));
        assert_eq!(parse("rtmp://h/app/instance/key").application, "app/instance");
        assert_eq!(parse("rtmp://h/app?vhost=v/key").stream, "key");
        assert_eq!(parse("rtmp://h/app/key").port, 1935);
        assert_eq!(parse("rtmps://h/app/key").port, 443);
        assert_eq!(parse("rtmp://bob:p%40ss@h/app/key").credentials, Some(("bob".into(), "p@ss".into())));
        assert_eq!(parse("rtmp://[::1]:1936/app/key").host, "::1");
    }

    #[test]
    fn redacted_form_holds_no_secret() {
        let location = parse("rtmp://bob:p4ss@h:1936/app/s3cret?token=t0k");
        assert_eq!(location.to_string(), "rtmp://***:***@h:1936/app/***");
        assert_eq!(format!("{location:?}"), "Location(rtmp://***:***@h:1936/app/***)");
        assert_eq!(parse("rtmp://h/app?auth=zz/key").to_string(), "rtmp://h/app/***");
        assert_eq!(redact("rtmp:/h/app/s3cret"), "***");
    }

    #[test]
    fn foreign_text_is_sanitised() {
        let location = parse("rtmp://bob:p4ss@h/app/s3cret?token=t0k");
        let text = location.sanitise("s3cret?token=t0k refused, s3cret busy, t0k bad, bob:p4ss too");
        assert_eq!(text, "*** refused, *** busy, *** bad, ***:*** too");
        let location = parse("rtmp://10.1.1.1/app?auth=zzz/s3cret?s_bl=1");
        assert_eq!(location.sanitise("10.1.1.1 refused app?auth=zzz: s3cret"), "10.1.1.1 refused app?***: ***");
    }

    #[test]
    fn malformed_locations_are_named_without_being_shown() {
        for (url, error) in [
            ("", LocationError::Missing),
            ("rtmp://h/app/key rtmp://g/app/key", LocationError::Characters),
            ("h/app/s3cret", LocationError::NoScheme),
            ("http://h/app/s3cret", LocationError::Scheme("http".into())),
            ("rtmp:///app/s3cret", LocationError::NoHost),
            ("rtmp://h:port/app/s3cret", LocationError::Port),
            ("rtmp://h:0/app/s3cret", LocationError::Port),
            ("rtmp://h", LocationError::NoApplication),
            ("rtmp://h/app", LocationError::NoStream),
            ("rtmp://h/app/?s3cret", LocationError::NoStream),
        ] {
            let found = Location::parse(url);
            assert_eq!(found, Err(error.clone()), "{url}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }
}
