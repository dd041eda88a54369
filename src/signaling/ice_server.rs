//! STUN and TURN servers that clients are told of: read as webrtcbin writes them, sent as Link headers (RFC 9725
//! section 4.6).

use axum::http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

/// A server that an ICE agent can use.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    /// RFC 7064 or RFC 7065: `stun:host:port`, `turn:host:port?transport=udp`.
    uri: String,
    /// Username and credential, for TURN.
    login: Option<(String, String)>,
}

/// What is wrong with the description of a server. It never repeats the credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IceServerError {
    /// No URL.
    #[error("it is no URL: {0}")]
    Url(url::ParseError),
    /// Another scheme.
    #[error("its scheme must be {expected}, not {0}", expected = "stun, turn or turns")]
    Scheme(String),
    /// No host.
    #[error("it has no host")]
    Host,
    /// A path, or something else than the transport.
    #[error("behind host and port it may have ?transport=udp or ?transport=tcp (TURN only) and nothing else")]
    Rest,
    /// TURN without credentials.
    #[error("it needs user:password@ before the host")]
    Login,
    /// Could not be sent so that every client reads it.
    #[error("user and password may have ASCII characters only, and no comma, quote, backslash or control character")]
    Characters,
}

impl IceServer {
    /// Reads `stun://host:port` or `turn(s)://user:password@host:port?transport=udp`, percent-encoded where needed.
    pub fn parse(text: &str) -> Result<Self, IceServerError> {
        let url = Url::parse(text).map_err(IceServerError::Url)?;
        let scheme = url.scheme();
        if !matches!(scheme, "stun" | "turn" | "turns") {
            return Err(IceServerError::Scheme(scheme.to_owned()));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(IceServerError::Host)?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let is_transport = |query| matches!(query, "transport=udp" | "transport=tcp") && scheme != "stun";
        let has_rest = !matches!(url.path(), "" | "/") || url.fragment().is_some();
        if has_rest || url.query().is_some_and(|query| !is_transport(query)) {
            return Err(IceServerError::Rest);
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let login = match (scheme, url.username(), url.password()) {
            ("stun", _, _) => None,
            (_, "", _) | (_, _, None) => return Err(IceServerError::Login),
            (_, user, Some(password)) => Some((decoded(user)?, decoded(password)?)),
        };
        Ok(Self { uri: format!("{scheme}:{host}{port}{query}"), login })
    }

    /// The servers of a text that names several, with commas between: no part of one may hold a comma.
    pub fn several(text: &str) -> impl Iterator<Item = &str> {
        let mut rest = Some(text).filter(|text| !text.is_empty());
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let end = [",stun:", ",turn:", ",turns:"].iter().filter_map(|next| text.find(next)).min();
            rest = end.and_then(|end| text.get(end + 1..));
            end.map_or(Some(text), |end| text.get(..end))
        })
    }

    /// As a server named it in a Link header; taken at its word, and used only by a client that checks it.
    pub(super) fn named(uri: &str, login: Option<(String, String)>) -> Self {
        Self { uri: uri.to_owned(), login }
    }

    /// RFC 7064 or RFC 7065.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Username and credential, for TURN.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(username, credential)| (username.as_str(), credential.as_str()))
    }

    /// The value of a Link header. It has no comma, at which some clients split header values.
    pub fn link(&self) -> Option<HeaderValue> {
        let mut link = format!("<{}>; rel=\"ice-server\"", self.uri);
        if let Some((username, credential)) = &self.login {
            link += &format!("; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\"");
        }
        let mut value = HeaderValue::try_from(link).ok().filter(|_| !self.uri.contains([',', '>', '"']))?;
        value.set_sensitive(self.login.is_some());
        Some(value)
    }

    /// As it was described, without the credential: for logs and for reading a property back.
    pub fn redacted(text: &str) -> String {
        Self::several(text).map(Self::redacted_one).collect::<Vec<_>>().join(",")
    }

    fn redacted_one(text: &str) -> String {
        match Url::parse(text) {
            Ok(mut url) if url.password().is_some() => {
                let _ = url.set_password(Some("***"));
                url.into()
            }
            Ok(url) => url.into(),
            Err(_) => "***".to_owned(),
        }
    }
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceServer({})", self.uri) // never the credential
    }
}

fn decoded(text: &str) -> Result<String, IceServerError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| IceServerError::Characters)?;
    match text.chars().any(|c| matches!(c, ',' | '"' | '\\') || !c.is_ascii() || c.is_control()) {
        true => Err(IceServerError::Characters),
        false => Ok(text.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str) -> String {
        IceServer::parse(text).unwrap().link().unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn servers_become_links_as_the_rfc_writes_them() {
        assert_eq!(link("stun://stun.example.net:3478"), "<stun:stun.example.net:3478>; rel=\"ice-server\"");
        assert_eq!(
            link("turn://me:p%40ss@turn.example.net:3478?transport=udp"),
            "<turn:turn.example.net:3478?transport=udp>; rel=\"ice-server\"; username=\"me\"; credential=\"p@ss\"; \
             credential-type=\"password\""
        );
        assert!(link("turns://me:pw@[2001:db8::1]:5349?transport=tcp").starts_with("<turns:[2001:db8::1]:5349?tr"));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_credential() {
        let error = |text| IceServer::parse(text).unwrap_err();
        assert!(matches!(error("stun.example.net"), IceServerError::Url(_)));
        assert_eq!(error("http://x"), IceServerError::Scheme("http".into()));
        assert_eq!(error("turn://turn.example.net"), IceServerError::Login);
        assert_eq!(error("turn://me:s3,cret@h"), IceServerError::Characters);
        assert_eq!(error("turn://me:s3%2Ccret@h"), IceServerError::Characters);
        // Header fields have no agreed encoding beyond ASCII: each client would read another password.
        assert_eq!(error("turn://me:s\u{e9}cret@h"), IceServerError::Characters);
        assert!(!error("turn://me:s3,cret@h").to_string().contains("s3"));
    }

    #[test]
    fn what_stands_behind_a_server_is_no_server_of_ours() {
        for text in
            ["turn://me:pw@h?transport=sctp", "turn://me:pw@h/path", "stun://h?transport=udp", "turn://me:pw@h#x"]
        {
            assert_eq!(IceServer::parse(text), Err(IceServerError::Rest), "{text}");
        }
    }

    #[test]
    fn several_servers_may_stand_in_one_text() {
        let several = |text| IceServer::several(text).collect::<Vec<_>>();
        assert_eq!(several(""), [""; 0]);
        assert_eq!(several("turn://a:b@h"), ["turn://a:b@h"]);
        assert_eq!(
            several("turn://a:b@h,turns://c:d@i,turn://e:f@j"),
            ["turn://a:b@h", "turns://c:d@i", "turn://e:f@j"]
        );
        assert_eq!(several("turn://a:b,c@h"), ["turn://a:b,c@h"], "a comma of its own is no end");
    }

    #[test]
    fn a_property_is_read_back_without_the_credential() {
        assert_eq!(IceServer::redacted("turn://me:secret@h:1?transport=udp"), "turn://me:***@h:1?transport=udp");
        assert_eq!(IceServer::redacted("stun://h:1"), "stun://h:1");
        let two = IceServer::redacted("turn://me:secret@h:1?transport=udp,turns://me:secret@h");
        assert_eq!(two, "turn://me:***@h:1?transport=udp,turns://me:***@h");
        assert!(!format!("{:?}", IceServer::parse("turn://me:secret@h").unwrap()).contains("secret"));
    }
}
