//! A publisher's second offer on the same connection: an ICE restart, a new peer connection, or something that cannot be
//! done. And what is read from descriptions besides: candidates, and which section is which. Pure.

use super::protocol::RelayedCandidate;
use crate::signaling::fragment::{FragmentError, IceFragment};

/// What an offer is to the one before it.
#[derive(Debug, PartialEq)]
pub(super) enum Second {
    /// The same peer connection with new ICE credentials.
    Restart(IceFragment),
    /// Another peer connection: its certificate is another one.
    Another,
    /// The same one, changed in another way.
    Changed,
}

/// Compares an offer with the one that was answered.
pub(super) fn compare(first: &str, second: &str) -> Result<Second, FragmentError> {
    if values(first, "a=fingerprint:") != values(second, "a=fingerprint:") {
        return Ok(Second::Another);
    }
    let sections = |sdp| (values(sdp, "m=").len(), values(sdp, "a=mid:"));
    if sections(first) != sections(second) || values(first, "a=ice-ufrag:") == values(second, "a=ice-ufrag:") {
        return Ok(Second::Changed);
    }
    fragment(second).map(Second::Restart)
}

/// What an offer says of ICE.
fn fragment(sdp: &str) -> Result<IceFragment, FragmentError> {
    let of_ice = ["m=", "a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates"];
    let lines = sdp.lines().filter(|line| of_ice.iter().any(|start| line.starts_with(start)));
    let text: String = lines.flat_map(|line| [line, "\r\n"]).collect();
    IceFragment::parse(text.as_bytes())
}

/// The answer after a restart: the one from before with our new credentials and candidates.
pub(super) fn restarted(answer: &str, ours: &IceFragment) -> String {
    let credentials = ours.credentials.as_ref();
    let mut out = String::with_capacity(answer.len());
    let mut push = |line: &str| {
        out.push_str(line);
        out.push_str("\r\n");
    };
    for line in answer.lines() {
        let replaced = match line.split_once(':') {
            Some(("a=ice-ufrag", _)) => credentials.map(|ours| format!("a=ice-ufrag:{}", ours.ufrag)),
            Some(("a=ice-pwd", _)) => {
                credentials.and_then(|ours| ours.password.as_ref()).map(|password| format!("a=ice-pwd:{password}"))
            }
            Some(("a=candidate", _)) => continue,
            _ if line == "a=end-of-candidates" => continue,
            _ => next_version(line),
        };
        push(replaced.as_deref().unwrap_or(line));
        // Every section of a bundle has the same candidates.
        if line.starts_with("m=") {
            ours.candidates.iter().for_each(|candidate| push(&format!("a={}", candidate.line)));
        }
    }
    out
}

/// The origin of a changed description has a version one higher (RFC 8866 section 5.2).
fn next_version(line: &str) -> Option<String> {
    let mut fields: Vec<String> = line.strip_prefix("o=")?.split(' ').map(str::to_owned).collect();
    let version = fields.get_mut(2)?;
    *version = version.parse::<u64>().ok()?.wrapping_add(1).to_string();
    Some(format!("o={}", fields.join(" ")))
}

/// The candidates of a description as messages of their own, and that there are no more.
pub(super) fn candidates(sdp: &str) -> Vec<RelayedCandidate> {
    let ufrag = values(sdp, "a=ice-ufrag:").first().map(|ufrag| (*ufrag).to_owned());
    let message = |section: &Section<'_>, candidate: &str| RelayedCandidate {
        from: None,
        candidate: candidate.to_owned(),
        sdp_mid: section.mid.map(str::to_owned),
        sdp_m_line_index: section.index,
        username_fragment: ufrag.clone(),
    };
    // With BUNDLE the first section's are everybody's.
    let Some(first) = sections(sdp).into_iter().find(|section| !section.candidates.is_empty()) else {
        return Vec::new();
    };
    let ours = first.candidates.iter().map(|candidate| message(&first, candidate));
    ours.chain([message(&first, "")]).collect()
}

/// The tag of the section at this place.
pub(super) fn mid_at(sdp: &str, index: u16) -> Option<String> {
    sections(sdp).into_iter().find(|section| section.index == Some(index))?.mid.map(str::to_owned)
}

struct Section<'a> {
    index: Option<u16>,
    mid: Option<&'a str>,
    candidates: Vec<&'a str>,
}

fn sections(sdp: &str) -> Vec<Section<'_>> {
    let mut all: Vec<Section<'_>> = Vec::new();
    for line in sdp.lines() {
        if line.starts_with("m=") {
            all.push(Section { index: u16::try_from(all.len()).ok(), mid: None, candidates: Vec::new() });
        }
        let Some(section) = all.last_mut() else { continue };
        if let Some(mid) = line.strip_prefix("a=mid:") {
            section.mid = Some(mid);
        }
        if line.starts_with("a=candidate:") {
            section.candidates.extend(line.strip_prefix("a="));
        }
    }
    all
}

fn values<'a>(sdp: &'a str, start: &str) -> Vec<&'a str> {
    sdp.lines().filter_map(|line| line.strip_prefix(start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signaling::fragment::{IceCandidate, IceCredentials};

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

    #[test]
    fn a_second_offer_is_known_for_what_it_is() {
        let compared = |from: &str, to: &str| compare(OFFER, &OFFER.replace(from, to));
        assert_eq!(compared("sha-256 AA", "sha-256 BB"), Ok(Second::Another));
        assert_eq!(compared("", ""), Ok(Second::Changed));
        assert_eq!(compared("a=mid:1", "a=mid:2"), Ok(Second::Changed));
        let line = "candidate:1 1 udp 1 192.0.2.1 9 typ host";
        let Ok(Second::Restart(ice)) = compare(OFFER, &format!("{}a={line}\r\n", OFFER.replace("abcd", "efgh"))) else {
            panic!("no restart");
        };
        assert_eq!(ice.credentials.map(|credentials| credentials.ufrag).as_deref(), Some("efgh"));
        assert_eq!(ice.candidates, [IceCandidate { mid: Some("1".into()), line: line.into() }]);
        let halves = OFFER.replacen("abcd", "efgh", 1);
        assert_eq!(compare(OFFER, &halves), Err(FragmentError::Contradiction("ice-ufrag")));
    }

    #[test]
    fn a_restarted_answer_has_our_new_ice_and_all_else_of_the_old() {
        let answer = OFFER.replace("a=mid:0\r\n", "a=mid:0\r\na=candidate:1 old\r\na=end-of-candidates\r\n");
        let ours = IceFragment {
            credentials: Some(IceCredentials { ufrag: "ours".into(), password: Some("secret".into()) }),
            candidates: vec![IceCandidate { mid: None, line: "candidate:2 new".into() }],
            end_of_candidates: true,
        };
        let expected = OFFER
            .replace("o=- 1 1", "o=- 1 2")
            .replace("abcd", "ours")
            .replace("0123456789012345678901", "secret")
            .replace("111\r\n", "111\r\na=candidate:2 new\r\n")
            .replace("96\r\n", "96\r\na=candidate:2 new\r\n");
        assert_eq!(restarted(&answer, &ours), expected);
    }

    #[test]
    fn an_answers_candidates_are_told_once_and_then_their_end() {
        let answer = OFFER
            .replace("111\r\n", "111\r\na=candidate:1 a\r\na=candidate:2 b\r\n")
            .replace("96\r\n", "96\r\na=candidate:1 a\r\na=candidate:2 b\r\n");
        let told = candidates(&answer);
        let lines: Vec<_> = told.iter().map(|told| told.candidate.as_str()).collect();
        assert_eq!(lines, ["candidate:1 a", "candidate:2 b", ""]);
        assert!(told.iter().all(|told| told.sdp_mid.as_deref() == Some("0") && told.sdp_m_line_index == Some(0)));
        assert_eq!(told[0].username_fragment.as_deref(), Some("abcd"));
        assert!(candidates(OFFER).is_empty());
    }

    #[test]
    fn a_section_is_found_by_its_place() {
        assert_eq!(mid_at(OFFER, 1).as_deref(), Some("1"));
        assert_eq!(mid_at(OFFER, 2), None);
    }
}
