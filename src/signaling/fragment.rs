//! Trickled ICE (RFC 8840 section 9): the body of a PATCH, `application/trickle-ice-sdpfrag`, read and written.
//!
//! What a fragment means, more candidates or a restart, is decided where the session's credentials are known.

use std::fmt::Write as _;

use super::sdp::MAX_CANDIDATES;

/// The media type of a fragment (RFC 8840 section 9.2).
pub(crate) const MEDIA_TYPE: &str = "application/trickle-ice-sdpfrag";

/// ICE parameters and candidates of one side, as a fragment carries them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IceFragment {
    /// User fragment and password (RFC 8839 section 5.4), where the fragment names them.
    pub credentials: Option<IceCredentials>,
    /// Candidates, in the order that they came in.
    pub candidates: Vec<IceCandidate>,
    /// No further candidates will come (RFC 8838 section 13).
    pub end_of_candidates: bool,
}

/// The user fragment and the password of one ICE session.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// 4 to 256 characters.
    pub ufrag: String,
    /// 22 to 256 characters. A fragment that only adds candidates may leave it out.
    pub password: Option<String>,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceCredentials({})", self.ufrag) // never the password
    }
}

/// One candidate and the media section that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceCandidate {
    /// The section's identification tag, where the fragment has one.
    pub mid: Option<String>,
    /// The candidate as it stands after `a=`: `candidate:…` (RFC 8839 section 5.1).
    pub line: String,
}

/// What is wrong with a fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// Not text.
    #[error("it is not UTF-8")]
    NotText,
    /// Neither `a=` nor `m=` nor another line of SDP.
    #[error("line {0} is not of the form x=value")]
    Line(usize),
    /// An attribute's value breaks its grammar.
    #[error("line {line}: a={name} must have {must}")]
    Value {
        /// Counted from 1.
        line: usize,
        /// The attribute.
        name: &'static str,
        /// The rule.
        must: &'static str,
    },
    /// A password without user fragment.
    #[error("a=ice-pwd stands without a=ice-ufrag")]
    PasswordAlone,
    /// Sections with different credentials, which BUNDLE rules out (RFC 9143 section 7.1).
    #[error("it has two different values of a={0}")]
    Contradiction(&'static str),
    /// Too many.
    #[error("it has more than {MAX_CANDIDATES} candidates")]
    Candidates,
    /// Too many.
    #[error("it has more than {MAX_LINES} lines")]
    Lines,
    /// Nothing that one could act on.
    #[error("it has neither ICE credentials nor candidates")]
    Empty,
}

/// What a browser with many interfaces sends has some 60.
const MAX_LINES: usize = 500;

impl IceFragment {
    /// Reads a fragment; lines of other attributes are passed over (RFC 8840 section 9.1).
    pub fn parse(body: &[u8]) -> Result<Self, FragmentError> {
        let text = str::from_utf8(body).map_err(|_| FragmentError::NotText)?;
        let (mut ufrag, mut password) = (None, None);
        let mut fragment = Self::default();
        let mut mid: Option<String> = None;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if number > MAX_LINES {
                return Err(FragmentError::Lines);
            }
            let line = line.trim_end();
            if line.is_empty() {
                continue;
            }
            let bytes = line.as_bytes();
            if !(bytes.first().is_some_and(u8::is_ascii_lowercase) && bytes.get(1) == Some(&b'=')) {
                return Err(FragmentError::Line(number));
            }
            if line.starts_with("m=") {
                mid = None;
            }
            let Some(attribute) = line.strip_prefix("a=") else { continue };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                "ice-ufrag" => once(&mut ufrag, "ice-ufrag", ice_chars(number, "ice-ufrag", value, 4)?)?,
                "ice-pwd" => once(&mut password, "ice-pwd", ice_chars(number, "ice-pwd", value, 22)?)?,
                "mid" => mid = Some(value.to_owned()),
                "candidate" if value.is_empty() => {
                    return Err(FragmentError::Value { line: number, name: "candidate", must: "a value" });
                }
                "candidate" if fragment.candidates.len() >= MAX_CANDIDATES => return Err(FragmentError::Candidates),
                "candidate" => {
                    fragment.candidates.push(IceCandidate { mid: mid.clone(), line: attribute.to_owned() });
                }
                "end-of-candidates" => fragment.end_of_candidates = true,
                _ => {}
            }
        }
        fragment.credentials = match (ufrag, password) {
            (Some(ufrag), password) => Some(IceCredentials { ufrag, password }),
            (None, Some(_)) => return Err(FragmentError::PasswordAlone),
            (None, None) => None,
        };
        if fragment.credentials.is_none() && fragment.candidates.is_empty() && !fragment.end_of_candidates {
            return Err(FragmentError::Empty);
        }
        Ok(fragment)
    }
}

impl std::fmt::Display for IceFragment {
    /// Writes a fragment: credentials first, then candidates under a pseudo media line a section (RFC 8840 section 9.2).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        if let Some(IceCredentials { ufrag, password }) = &self.credentials {
            write!(text, "a=ice-ufrag:{ufrag}\r\n")?;
            if let Some(password) = password {
                write!(text, "a=ice-pwd:{password}\r\n")?;
            }
        }
        let mut section: Option<&Option<String>> = None;
        for IceCandidate { mid, line } in &self.candidates {
            if section != Some(mid) {
                text.push_str("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n");
                if let Some(mid) = mid {
                    write!(text, "a=mid:{mid}\r\n")?;
                }
                section = Some(mid);
            }
            write!(text, "a={line}\r\n")?;
        }
        if self.end_of_candidates {
            text.push_str("a=end-of-candidates\r\n");
        }
        f.write_str(&text)
    }
}

/// Sections repeat the credentials; they may not contradict each other.
fn once(place: &mut Option<String>, name: &'static str, value: String) -> Result<(), FragmentError> {
    match place {
        Some(present) if *present != value => Err(FragmentError::Contradiction(name)),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

/// `4*256ice-char` or `22*256ice-char` (RFC 8839 section 5.4).
fn ice_chars(line: usize, name: &'static str, value: &str, least: usize) -> Result<String, FragmentError> {
    let fits = (least..=256).contains(&value.len());
    match fits && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')) {
        true => Ok(value.to_owned()),
        false => {
            let must = if least == 4 { "4 to 256 ICE characters" } else { "22 to 256 ICE characters" };
            Err(FragmentError::Value { line, name, must })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRICKLE: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        m=video 9 RTP/AVP 0\r\na=mid:1\r\na=candidate:2 1 udp 1 192.0.2.1 61765 typ host\r\na=end-of-candidates\r\n";

    #[test]
    fn the_rfcs_own_example_is_read_and_written() {
        let fragment = IceFragment::parse(TRICKLE.as_bytes()).unwrap();
        assert_eq!(fragment.credentials.as_ref().unwrap().ufrag, "EsAw");
        assert_eq!(fragment.candidates.iter().map(|c| c.mid.as_deref()).collect::<Vec<_>>(), [Some("0"), Some("1")]);
        assert!(fragment.candidates[0].line.starts_with("candidate:1387637174 1 udp"));
        assert!(fragment.end_of_candidates);
        assert_eq!(IceFragment::parse(fragment.to_string().as_bytes()).unwrap(), fragment);
    }

    #[test]
    fn credentials_alone_and_candidates_alone_are_fragments() {
        let restart = IceFragment::parse(b"a=ice-ufrag:ysXw\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\n").unwrap();
        assert!(restart.candidates.is_empty());
        let trickle = IceFragment::parse(b"a=candidate:1 1 udp 1 192.0.2.1 9 typ host").unwrap();
        assert_eq!((trickle.credentials, trickle.candidates[0].mid.as_deref()), (None, None));
        assert!(IceFragment::parse(b"a=end-of-candidates").unwrap().end_of_candidates);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| IceFragment::parse(text.as_bytes()).unwrap_err();
        assert_eq!(IceFragment::parse(b"\xff"), Err(FragmentError::NotText));
        assert_eq!(error(""), FragmentError::Empty);
        assert_eq!(error("a=ice-lite\r\n"), FragmentError::Empty);
        assert_eq!(error("hello"), FragmentError::Line(1));
        assert_eq!(error("{\"candidate\": 1}"), FragmentError::Line(1));
        assert_eq!(error("a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k"), FragmentError::PasswordAlone);
        assert_eq!(error("a=ice-ufrag:abcd\r\na=ice-ufrag:abce"), FragmentError::Contradiction("ice-ufrag"));
        for bad in ["a=ice-ufrag:abc", "a=ice-ufrag:ab cd", "a=ice-ufrag:abcd\r\na=ice-pwd:short", "a=candidate:"] {
            assert!(matches!(error(bad), FragmentError::Value { .. }), "{bad}");
        }
        let candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
        assert!(IceFragment::parse(candidate.repeat(MAX_CANDIDATES).as_bytes()).is_ok());
        assert_eq!(error(&candidate.repeat(MAX_CANDIDATES + 1)), FragmentError::Candidates);
        assert_eq!(error(&"a=x\r\n".repeat(MAX_LINES + 1)), FragmentError::Lines);
    }

    #[test]
    fn every_truncation_is_a_fragment_or_an_error() {
        for length in 0..TRICKLE.len() {
            let _ = IceFragment::parse(&TRICKLE.as_bytes()[..length]);
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        assert!(!format!("{:?}", IceFragment::parse(TRICKLE.as_bytes()).unwrap()).contains("P2uY"));
    }
}
