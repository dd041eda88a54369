//! What can go wrong between a client and its server, said so that it helps, and what that means for another try.

use std::time::Duration;

use hyper::StatusCode;

use super::target::ServerUrl;
use crate::signaling::sdp::SdpError;

/// Why a request came to nothing. Names the server without its query, and never a token.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No TCP connection, no TLS, or it broke.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// Which one.
        server: ServerUrl,
        /// The system's words.
        why: String,
    },
    /// It took too long.
    #[error("{server} did not answer within {seconds} s")]
    Timeout {
        /// Which one.
        server: ServerUrl,
        /// How long was waited.
        seconds: u64,
    },
    /// Its certificate is not trusted.
    #[error(
        "the certificate of {server} is not trusted: {why}; for a self-signed one set tls-certificate to a PEM file that holds it"
    )]
    Untrusted {
        /// Which one.
        server: ServerUrl,
        /// rustls's words.
        why: String,
    },
    /// A redirection that is not followed.
    #[error("{server} redirects ({status}) in a way that is not followed: {why}")]
    Redirect {
        /// Which one.
        server: ServerUrl,
        /// Its status.
        status: StatusCode,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It said no.
    #[error("{}", refusal(.server, *.status, .detail, *.token))]
    Refused {
        /// Which one.
        server: ServerUrl,
        /// Its status.
        status: StatusCode,
        /// What it said in the body.
        detail: String,
        /// Whether a token went with the request.
        token: Token,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It let us speak, and not into the channel.
    #[error("{server} does not let us join: {message}")]
    TurnedAway {
        /// Which one.
        server: ServerUrl,
        /// What it said.
        message: String,
        /// What that means for another try.
        verdict: Verdict,
    },
    /// It said yes, with something that cannot be used.
    #[error("the reply of {server} cannot be used: {why}")]
    Reply {
        /// Which one.
        server: ServerUrl,
        /// What is wrong.
        why: String,
    },
}

/// What became of the bearer token in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// There is none.
    None,
    /// It was sent.
    Sent,
    /// It was kept back: the server is not the one that it was given for.
    KeptBack,
}

/// What an error means for another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go away by itself. A server's own wish comes with it.
    Retry(Option<Duration>),
    /// There is no such stream: not yet, or no more.
    NoStream,
    /// Nothing will change unless somebody changes a setting.
    Final,
}

impl ClientError {
    /// What the error means for another try.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => Verdict::Retry(None),
            Self::Untrusted { .. } | Self::Redirect { .. } | Self::Reply { .. } => Verdict::Final,
            Self::TurnedAway { verdict, .. } => *verdict,
            Self::Refused { status, retry_after, .. } => match status.as_u16() {
                404 | 410 => Verdict::NoStream,
                // 409: nobody publishes yet (draft-03); 408, 425, 429: not now.
                408 | 409 | 425 | 429 | 500..=599 => Verdict::Retry(*retry_after),
                _ => Verdict::Final,
            },
        }
    }
}

/// What a refusal's body says of the reason, in one short line: problem details (RFC 9457), common JSON, or text.
pub(super) fn detail(body: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(body);
    let from_json = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|json| {
        ["detail", "error", "message", "title"].iter().find_map(|key| json.get(key)?.as_str().map(str::to_owned))
    });
    let is_page = text.trim_start().starts_with('<');
    let line = from_json
        .unwrap_or_else(|| if is_page { String::new() } else { text.lines().next().unwrap_or_default().to_owned() });
    line.chars().filter(|c| !c.is_control()).take(LONGEST).collect::<String>().trim().to_owned()
}

fn refusal(server: &ServerUrl, status: StatusCode, detail: &str, token: Token) -> String {
    let said = if detail.is_empty() { String::new() } else { format!(" (\"{detail}\")") };
    let what = match (status.as_u16(), token) {
        (401 | 403, Token::None) => "wants a bearer token: set auth-token",
        (401 | 403, Token::Sent) => "does not accept the bearer token: set auth-token to the right one",
        (401 | 403, Token::KeptBack) => {
            "wants a bearer token, which is not sent to a server that another one redirects to: set uri to this one"
        }
        (404 | 410, _) => "has no such stream",
        (405 | 415, _) => "is no WHEP endpoint: check the path of uri",
        (409, _) => "has no live stream there",
        (422, _) => "cannot serve what was asked for",
        (429 | 503, _) => "is too busy",
        (400..=499, _) => "refuses the request",
        (500..=599, _) => "has failed",
        _ => "answers with something that is not understood",
    };
    format!("{server} {what}: {status}{said}")
}

impl ClientError {
    pub(super) fn sdp(server: &ServerUrl, error: SdpError) -> Self {
        Self::Reply { server: server.clone(), why: format!("its SDP is malformed: {error}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, token: Token) -> ClientError {
        ClientError::Refused {
            server: "whep://h/live?key=s3cret".parse().unwrap(),
            status: StatusCode::from_u16(status).unwrap(),
            detail: "because".into(),
            token,
            retry_after: Some(Duration::from_secs(3)),
        }
    }

    #[test]
    fn what_may_go_away_is_tried_again_and_what_may_not_is_final() {
        let verdict = |status| refused(status, Token::None).verdict();
        for status in [408, 409, 425, 429, 500, 502, 503, 599] {
            assert_eq!(verdict(status), Verdict::Retry(Some(Duration::from_secs(3))), "{status}");
        }
        assert_eq!((verdict(404), verdict(410)), (Verdict::NoStream, Verdict::NoStream));
        for status in [400, 401, 403, 405, 415, 422, 499, 204, 303] {
            assert_eq!(verdict(status), Verdict::Final, "{status}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_and_holds_no_secret() {
        assert_eq!(
            refused(401, Token::Sent).to_string(),
            "http://h/live?… does not accept the bearer token: set auth-token to the right one: 401 Unauthorized (\"because\")"
        );
        assert!(refused(403, Token::None).to_string().contains("wants a bearer token: set auth-token"));
        assert!(refused(401, Token::KeptBack).to_string().contains("set uri to this one"));
        assert!(refused(451, Token::None).to_string().contains("refuses the request"));
    }

    #[test]
    fn the_reason_is_found_in_a_body_of_any_kind() {
        assert_eq!(detail(br#"{"title":"t","detail":"no such channel"}"#), "no such channel");
        assert_eq!(detail(br#"{"status":"error","error":"no stream"}"#), "no stream");
        assert_eq!(detail(b"stream\x1b[2J not found\nmore"), "stream[2J not found");
        assert_eq!(detail(b"<html><body>404</body></html>"), "");
        assert_eq!(detail(b""), "");
        assert_eq!(detail("ü".repeat(1000).as_bytes()).chars().count(), 200);
    }
}
