//! Cheap checks of an offer before anyone parses it: they bound the work, and name what is missing.
//!
//! What the offer means is the session's business.

/// What is wrong with an offer at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SdpError {
    #[error("it is not UTF-8")]
    NotText,
    #[error("it does not start with v=0")]
    Version,
    #[error("line {0} is not of the form x=value")]
    Line(usize),
    #[error("it has no m= line")]
    Media,
    #[error("a={0} is missing")]
    Attribute(&'static str),
    #[error("it has more than {MAX_CANDIDATES} candidates")]
    Candidates,
    #[error("it has more than {MAX_LINES} lines")]
    Lines,
    #[error("it has more than {MAX_SECTIONS} m= lines")]
    Sections,
    #[error("an m= line has more than {MAX_FORMATS} formats")]
    Formats,
}

/// Browsers send a dozen; each one costs connectivity checks to an address that the offer chose.
pub(crate) const MAX_CANDIDATES: usize = 100;

/// Parsing costs lines times formats, so that 64 KiB could cost gigabytes. Browsers' offers have some 300 lines, 60 formats
/// and a few sections.
const MAX_LINES: usize = 1000;
const MAX_FORMATS: usize = 100;
const MAX_SECTIONS: usize = 16;

/// Passes an offer on as text if it could be one.
pub(crate) fn check(body: &[u8]) -> Result<&str, SdpError> {
    let sdp = str::from_utf8(body).map_err(|_| SdpError::NotText)?;
    if sdp.lines().next() != Some("v=0") {
        return Err(SdpError::Version);
    }
    if sdp.lines().count() > MAX_LINES {
        return Err(SdpError::Lines);
    }
    let sections = || sdp.lines().filter(|line| line.starts_with("m="));
    if sections().next().is_none() {
        return Err(SdpError::Media);
    }
    if sections().count() > MAX_SECTIONS {
        return Err(SdpError::Sections);
    }
    // What comes before the formats: media, port and protocol (RFC 8866 section 5.14).
    if sections().any(|line| line.split_ascii_whitespace().count() > 3 + MAX_FORMATS) {
        return Err(SdpError::Formats);
    }
    for attribute in ["ice-ufrag", "ice-pwd", "fingerprint"] {
        if attributes(sdp, attribute).next().is_none() {
            return Err(SdpError::Attribute(attribute));
        }
    }
    if attributes(sdp, "candidate").count() > MAX_CANDIDATES {
        return Err(SdpError::Candidates);
    }
    if let Some(index) = sdp.lines().position(|line| !is_line(line)) {
        return Err(SdpError::Line(index + 1));
    }
    Ok(sdp)
}

/// Whether a line reads the same to everybody: `x=value` (RFC 8866 section 9). Parsers differ in what else they pass over,
/// such as stray carriage returns, and what we do not see would go by all our limits.
fn is_line(line: &str) -> bool {
    match line.as_bytes() {
        [] => true,
        [typ, b'=', value @ ..] => {
            typ.is_ascii_lowercase()
                && !value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
                && (*typ == b's' || line.chars().nth(2).is_some_and(|first| !first.is_whitespace()))
        }
        _ => false,
    }
}

/// The values of `a=name:value` lines.
fn attributes<'a>(sdp: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    sdp.lines().filter_map(move |line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA\r\n\
                         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789\r\n";

    #[test]
    fn an_offer_that_would_cost_much_to_parse_is_refused() {
        let lines = format!("{OFFER}{}", "a=rtcp-fb:* nack\r\n".repeat(MAX_LINES));
        assert_eq!(check(lines.as_bytes()), Err(SdpError::Lines));
        let formats = OFFER.replace(" 111", &" 111".repeat(MAX_FORMATS + 1));
        assert_eq!(check(formats.as_bytes()), Err(SdpError::Formats));
        let sections = format!("{OFFER}{}", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n".repeat(MAX_SECTIONS));
        assert_eq!(check(sections.as_bytes()), Err(SdpError::Sections));
    }

    #[test]
    fn lines_that_only_some_parsers_see_are_refused() {
        for hidden in [
            "\ra=candidate:1 1 udp 1 127.0.0.1 53 typ host",
            "a= candidate:2",
            "a=\u{b}candidate:2",
            "a=\u{a0}candidate:2",
            "a=x\rm=video 9 x 96",
            " m=video",
            "m",
        ] {
            let offer = format!("{OFFER}{hidden}\r\n");
            assert_eq!(check(offer.as_bytes()), Err(SdpError::Line(OFFER.lines().count() + 1)), "{hidden:?}");
        }
        let blank = OFFER.replace("s=-", "s= ");
        assert_eq!(check(blank.as_bytes()), Ok(blank.as_str()), "an empty session name");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(check(OFFER.as_bytes()), Ok(OFFER));
        assert_eq!(check(b"\xff"), Err(SdpError::NotText));
        assert_eq!(check(b""), Err(SdpError::Version));
        assert_eq!(check(OFFER.replace("m=audio", "x=audio").as_bytes()), Err(SdpError::Media));
        for name in ["ice-ufrag", "ice-pwd", "fingerprint"] {
            let sdp = OFFER.replace(&format!("a={name}:"), "a=other:");
            assert_eq!(check(sdp.as_bytes()), Err(SdpError::Attribute(name)));
        }
    }

    #[test]
    fn hundred_candidates_pass_and_one_more_does_not() {
        let candidate = "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n";
        let offer = |n| format!("{OFFER}{}", candidate.repeat(n));
        assert!(check(offer(100).as_bytes()).is_ok());
        assert_eq!(check(offer(101).as_bytes()), Err(SdpError::Candidates));
    }
}
