//! One transport for all sections, on either side. Pure, from SDP text to SDP text.
//!
//! An offer may have one for each, because its maker could not know that they would be bundled (RFC 8829 section 4.1.1, the
//! policy "balanced"; aiortc offers so). We always bundle, and then only the first section's counts (RFC 9143 section 7.3.1);
//! the stack takes several for a mistake.

use rtc::sdp::{MediaDescription, SessionDescription};

use super::negotiate::{NegotiationError, parse};

/// What describes a transport.
const TRANSPORT: [&str; 7] =
    ["ice-ufrag", "ice-pwd", "ice-options", "fingerprint", "setup", "candidate", "end-of-candidates"];

/// The offer with the transport of its bundle's first section in all of the bundle. One that has no other is left as it is.
pub(super) fn one_transport(offer: &str) -> Result<String, NegotiationError> {
    let mut description = parse(offer)?;
    let Some(mids) = bundle(&description) else { return Ok(offer.to_owned()) };
    let first = mids.first().and_then(|mid| description.media_descriptions.iter().find(|section| is(section, mid)));
    let Some(first) = first else { return Ok(offer.to_owned()) };
    let ufrag = ufrag(first).map(str::to_owned);
    let is_other = |section: &MediaDescription| {
        let is_bundled = mids.iter().any(|mid| is(section, mid));
        is_bundled && self::ufrag(section).is_some_and(|other| Some(other) != ufrag.as_deref())
    };
    if ufrag.is_none() || !description.media_descriptions.iter().any(is_other) {
        return Ok(offer.to_owned());
    }
    let is_transport = |key: &str| TRANSPORT.contains(&key);
    let transport: Vec<_> = first.attributes.iter().filter(|a| is_transport(&a.key)).cloned().collect();
    for section in description.media_descriptions.iter_mut().filter(|section| is_other(section)) {
        section.attributes.retain(|attribute| !is_transport(&attribute.key));
        section.attributes.extend(transport.iter().cloned());
    }
    Ok(description.marshal())
}

/// An answer of ours whose refused sections describe the transport like the others. They need not (RFC 9143 section 7.3.3),
/// but webrtcbin takes no answer in which one does not (1.22).
pub(super) fn transport_everywhere(answer: &str) -> String {
    let Ok(mut description) = parse(answer) else { return answer.to_owned() };
    let has = |section: &MediaDescription| ufrag(section).is_some();
    let Some(one) = description.media_descriptions.iter().find(|section| has(section)) else {
        return answer.to_owned();
    };
    if description.media_descriptions.iter().all(has) {
        return answer.to_owned();
    }
    let is_needed = |key: &str| matches!(key, "ice-ufrag" | "ice-pwd" | "fingerprint" | "setup");
    let transport: Vec<_> = one.attributes.iter().filter(|a| is_needed(&a.key)).cloned().collect();
    for section in description.media_descriptions.iter_mut().filter(|section| !has(section)) {
        section.attributes.retain(|attribute| !is_needed(&attribute.key));
        section.attributes.extend(transport.iter().cloned());
    }
    description.marshal()
}

/// The names of the bundled sections.
fn bundle(description: &SessionDescription) -> Option<Vec<String>> {
    let groups = description.attributes.iter().filter(|attribute| attribute.key == "group");
    let mut groups = groups.filter_map(|attribute| attribute.value.as_deref()?.strip_prefix("BUNDLE "));
    Some(groups.next()?.split_ascii_whitespace().map(str::to_owned).collect())
}

fn is(section: &MediaDescription, mid: &str) -> bool {
    section.attribute("mid").flatten() == Some(mid)
}

fn ufrag(section: &MediaDescription) -> Option<&str> {
    section.attribute("ice-ufrag").flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: &str, mid: u8, ufrag: &str) -> String {
        format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:of{ufrag}\r\n\
             a=candidate:1 1 udp 1 127.0.0.1 500{mid} typ host\r\na=rtpmap:96 x/90000\r\n"
        )
    }

    fn offer(group: &str, second: &str) -> String {
        let head = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{group}");
        head + &section("audio", 0, "first") + &section("video", 1, second)
    }

    #[test]
    fn a_bundle_has_the_transport_of_its_first_section() {
        let one = one_transport(&offer("a=group:BUNDLE 0 1\r\n", "second")).unwrap();
        assert_eq!((one.matches("ice-ufrag:first").count(), one.matches("ice-pwd:offirst").count()), (2, 2), "{one}");
        assert_eq!(one.matches("127.0.0.1 5000 typ host").count(), 2, "{one}");
        assert!(!one.contains("second") && !one.contains("5001"), "{one}");
        assert_eq!(one.matches("a=rtpmap:96").count(), 2, "all else is as it was: {one}");
    }

    #[test]
    fn a_refused_section_of_an_answer_describes_the_transport_too() {
        let refused = "m=video 0 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n";
        let head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n";
        let answer = format!("{head}{}{refused}", section("audio", 0, "ours"));
        let told = transport_everywhere(&answer);
        assert_eq!((told.matches("ice-ufrag:ours").count(), told.matches("ice-pwd:ofours").count()), (2, 2), "{told}");
        assert_eq!(told.matches("a=candidate").count(), 1, "{told}");
        let whole = offer("", "first");
        assert_eq!(transport_everywhere(&whole), whole);
        assert_eq!(transport_everywhere(&format!("{head}{refused}")), format!("{head}{refused}"));
    }

    #[test]
    fn what_has_one_transport_or_is_not_bundled_is_left_alone() {
        for offer in [
            offer("a=group:BUNDLE 0 1\r\n", "first"),
            offer("", "second"),
            offer("a=group:BUNDLE 0\r\n", "second"),
            offer("a=group:BUNDLE \r\n", "second"),
            offer("a=group:BUNDLE 7 1\r\n", "second"),
        ] {
            assert_eq!(one_transport(&offer).unwrap(), offer);
        }
    }
}
