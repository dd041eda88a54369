//! What descriptions say of data channels: pure, from SDP text (RFC 8841).

use rtc::sdp::{MediaDescription, SessionDescription, description::common::Attribute};

use super::LARGEST_MESSAGE;
use crate::session::negotiate::{NegotiationError, parse};

const MAX_MESSAGE_SIZE: &str = "max-message-size";

/// What a peer takes that says nothing (RFC 8841 section 6.1).
const UNTOLD: usize = 64 * 1024;

/// What a peer's description says of data channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) struct PeerData {
    /// The largest message that may be sent to it.
    pub(in crate::session) largest: usize,
}

/// What this description says; `None` if it has no section for data channels, or refuses it.
pub(in crate::session) fn peer_data(description: &SessionDescription) -> Option<PeerData> {
    let mut sections = description.media_descriptions.iter();
    let section = sections.find(|section| has_channels(section))?;
    let told = section.attribute(MAX_MESSAGE_SIZE).flatten().and_then(|size| size.trim().parse::<u64>().ok());
    let largest = match told {
        None => UNTOLD,
        Some(0) => LARGEST_MESSAGE, // no limit
        Some(size) => usize::try_from(size).unwrap_or(LARGEST_MESSAGE),
    };
    Some(PeerData { largest: largest.min(LARGEST_MESSAGE) })
}

/// Whether data channels can be had in this section.
fn has_channels(section: &MediaDescription) -> bool {
    let name = &section.media_name;
    let is_used = name.port.value != 0 || section.attribute("bundle-only").is_some();
    is_used && name.media == "application" && name.formats == ["webrtc-datachannel"]
}

/// The description as the stack gets to see it. It takes what the peer can receive for a limit of what it may send as well,
/// and would lose larger messages than that; how much may be sent is looked after here.
pub(in crate::session) fn widen(sdp: &str) -> Result<String, NegotiationError> {
    let mut description = parse(sdp)?;
    if !description.media_descriptions.iter().any(has_channels) {
        return Ok(sdp.to_owned());
    }
    description.media_descriptions.iter_mut().for_each(widen_section);
    Ok(description.marshal())
}

/// The same for one section.
pub(in crate::session) fn widen_section(section: &mut MediaDescription) {
    if has_channels(section) {
        section.attributes.retain(|attribute| attribute.key != MAX_MESSAGE_SIZE);
        let value = Some(LARGEST_MESSAGE.to_string());
        section.attributes.push(Attribute { key: MAX_MESSAGE_SIZE.to_owned(), value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdp(port: u16, attributes: &str) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
             m=application {port} UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n{attributes}"
        )
    }

    fn largest(sdp: &str) -> Option<usize> {
        peer_data(&parse(sdp).unwrap()).map(|data| data.largest)
    }

    #[test]
    fn a_peer_is_sent_no_more_than_it_takes() {
        assert_eq!(largest(&sdp(9, "")), Some(65_536));
        for (told, taken) in [("1000", 1000), ("262144", 262_144), ("1073741823", 262_144), ("0", 262_144)] {
            assert_eq!(largest(&sdp(9, &format!("a=max-message-size:{told}\r\n"))), Some(taken), "{told}");
        }
        for odd in ["-1", "", "99999999999999999999999", "x"] {
            assert_eq!(largest(&sdp(9, &format!("a=max-message-size:{odd}\r\n"))), Some(65_536), "{odd}");
        }
    }

    #[test]
    fn a_section_that_is_refused_or_is_something_else_has_no_channels() {
        assert_eq!(largest(&sdp(0, "")), None);
        assert_eq!(largest(&sdp(0, "a=bundle-only\r\n")), Some(65_536));
        assert_eq!(largest(&sdp(9, "").replace("webrtc-datachannel", "5000")), None);
    }

    #[test]
    fn the_stack_is_told_that_the_peer_takes_what_we_take() {
        for told in ["", "a=max-message-size:1000\r\n", "a=max-message-size:0\r\n"] {
            let widened = widen(&sdp(9, told)).unwrap();
            assert_eq!(widened.matches("a=max-message-size:262144\r\n").count(), 1, "{widened}");
            assert_eq!(widened.matches("max-message-size").count(), 1, "{widened}");
        }
        let audio = sdp(9, "").replace("application", "audio");
        assert_eq!(widen(&audio).unwrap(), audio);
    }
}
