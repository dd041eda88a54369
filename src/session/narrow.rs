//! The offer as the stack gets to see it: of each section that we use only the formats that the answer shall name, and only
//! the directions that it shall have.
//!
//! The stack matches codecs by name and parameters, loosely where it finds no equal, and would answer one format for
//! another of the same codec; it also wants an rtpmap where RFC 3551 needs none. With nothing else to choose from it
//! answers what [`exchange`](super::exchange) decided. Of data channels see [`widen_section`].

use rtc::sdp::{MediaDescription, description::common::Attribute};

use super::{
    Track,
    data::widen_section,
    exchange::Section,
    negotiate::{NegotiationError, parse},
};

/// The offer with the formats and directions of these sections, which were negotiated from it, and no other.
pub(super) fn narrow(offer: &str, sections: &[Section]) -> Result<String, NegotiationError> {
    let mut description = parse(offer)?;
    for (media, section) in description.media_descriptions.iter_mut().zip(sections) {
        match section {
            Section::AsItIs => widen_section(media),
            Section::Silent => direct(media, "inactive"),
            Section::Carries { track, direction } => {
                keep(media, track);
                leave_unnamed(media);
                direct(media, direction);
            }
        }
    }
    Ok(description.marshal())
}

/// An answer to an offer of ours, with the same left out.
pub(super) fn unnamed(answer: &str) -> Result<String, NegotiationError> {
    let mut description = parse(answer)?;
    description.media_descriptions.iter_mut().for_each(leave_unnamed);
    Ok(description.marshal())
}

/// The stack makes a track of a section that names its stream (`a=msid`) and neither numbers it nor names layers, and then refuses the
/// offer; of one that does not name it either it makes none. RFC 8829 needs no numbers.
fn leave_unnamed(section: &mut MediaDescription) {
    if !section.attributes.iter().any(|attribute| matches!(attribute.key.as_str(), "ssrc" | "rid")) {
        section.attributes.retain(|attribute| attribute.key != "msid");
    }
}

fn direct(section: &mut MediaDescription, direction: &str) {
    let is_direction = |key: &str| matches!(key, "sendrecv" | "sendonly" | "recvonly" | "inactive");
    section.attributes.retain(|attribute| !is_direction(&attribute.key));
    section.attributes.push(Attribute { key: direction.to_owned(), value: None });
}

fn keep(section: &mut MediaDescription, track: &Track) {
    let formats = track.codec_parameters();
    section.attributes.retain(|attribute| !matches!(attribute.key.as_str(), "rtpmap" | "fmtp" | "rtcp-fb"));
    section.media_name.formats.clear();
    for format in formats {
        let (number, codec) = (format.payload_type, format.rtp_codec);
        section.media_name.formats.push(number.to_string());
        let name = codec.mime_type.rsplit('/').next().unwrap_or_default();
        let channels = if codec.channels > 1 { format!("/{}", codec.channels) } else { String::new() };
        let mut attribute = |key: &str, value: String| {
            section.attributes.push(Attribute { key: key.to_owned(), value: Some(format!("{number} {value}")) });
        };
        attribute("rtpmap", format!("{name}/{}{channels}", codec.clock_rate));
        if !codec.sdp_fmtp_line.is_empty() {
            attribute("fmtp", codec.sdp_fmtp_line);
        }
        for feedback in codec.rtcp_feedback {
            attribute("rtcp-fb", format!("{} {}", feedback.typ, feedback.parameter).trim_end().to_owned());
        }
    }
}
