//! What RFC 9725 asks of an offer beyond being SDP, and of the answer to it; and what WHEP asks of a viewer's.
//!
//! An offer is taken as a whole or not at all (section 4.4.3): whatever we could not answer is refused before anyone
//! makes a session for it.

use super::answerer::AnswerError;

/// A media section, or what stands before the first.
struct Section<'a> {
    lines: Vec<&'a str>,
}

impl<'a> Section<'a> {
    fn of(sdp: &'a str) -> (Self, Vec<Self>) {
        let mut session = Self { lines: Vec::new() };
        let mut sections: Vec<Self> = Vec::new();
        for line in sdp.lines() {
            if line.starts_with("m=") {
                sections.push(Self { lines: Vec::new() });
            }
            sections.last_mut().unwrap_or(&mut session).lines.push(line);
        }
        (session, sections)
    }

    fn has(&self, attribute: &str) -> bool {
        self.values(attribute).next().is_some()
    }

    /// The values of an attribute, empty ones for flags.
    fn values(&self, attribute: &str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(move |line| {
            let (name, value) = line.strip_prefix("a=")?.split_once(':').unwrap_or((line.get(2..)?, ""));
            (name == attribute).then_some(value)
        })
    }

    fn media(&self) -> &'a str {
        let line = self.lines.first().and_then(|line| line.strip_prefix("m=")).unwrap_or_default();
        line.split(' ').next().unwrap_or_default()
    }

    /// Port 0 means not used, unless it is a part of a bundle (RFC 9143 section 6).
    fn is_rejected(&self) -> bool {
        let port = self.lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        port == "0" && !self.has("bundle-only")
    }

    fn direction(&self) -> Option<&'static str> {
        ["sendrecv", "sendonly", "recvonly", "inactive"].into_iter().find(|direction| self.has(direction))
    }
}

/// What is asked of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// WHIP: media goes to the server.
    Ingest,
    /// Media goes wherever there is some.
    BothWays,
    /// The same, and nobody else is told of it.
    Private,
}

/// Refuses what cannot be answered in full.
pub(crate) fn check_offer(offer: &str, terms: Terms) -> Result<(), AnswerError> {
    let (session, sections) = Section::of(offer);
    let unacceptable = |why: String| Err(AnswerError::Unacceptable(why));
    for section in &sections {
        let media = section.media();
        if section.is_rejected() {
            return unacceptable(format!("a {media} section has port 0; offer only what is sent"));
        }
        // Section 4.2: only sendonly and sendrecv.
        let direction = section.direction().or(session.direction()).unwrap_or("sendrecv");
        let sends_nothing = matches!(media, "audio" | "video") && matches!(direction, "recvonly" | "inactive");
        if sends_nothing && terms == Terms::Ingest {
            return unacceptable(format!("a {media} section is {direction}; an endpoint only receives"));
        }
        check_setup(&session, section)?;
    }
    check_bundle(&session, &sections)?;
    check_single_stream(&sections)
}

/// Refuses what no viewer may offer (draft-ietf-wish-whep-03 sections 4.3.5 and 4.6).
pub(crate) fn check_viewers_offer(offer: &str) -> Result<(), AnswerError> {
    let (session, sections) = Section::of(offer);
    for section in &sections {
        let media = section.media();
        let direction = section.direction().or(session.direction()).unwrap_or("sendrecv");
        // A section that is not used harms nobody: browsers have some after a transceiver was stopped.
        if matches!(media, "audio" | "video") && direction == "sendonly" && !section.is_rejected() {
            return Err(AnswerError::Unacceptable(format!("a {media} section is sendonly; an endpoint only sends")));
        }
        check_setup(&session, section)?;
    }
    check_bundle(&session, &sections)
}

/// Section 4.4.4 and RFC 8842 section 5.1: actpass, or active from those that can be nothing else.
fn check_setup(session: &Section<'_>, section: &Section<'_>) -> Result<(), AnswerError> {
    match section.values("setup").chain(session.values("setup")).next() {
        Some(setup) if !matches!(setup, "actpass" | "active" | "passive") => {
            Err(AnswerError::Malformed(format!("a=setup:{setup} is no role of DTLS; offer actpass")))
        }
        _ => Ok(()),
    }
}

/// Section 4.4.1: every section is part of one BUNDLE group.
fn check_bundle(session: &Section<'_>, sections: &[Section<'_>]) -> Result<(), AnswerError> {
    let bundles: Vec<Vec<&str>> = session
        .values("group")
        .filter_map(|group| group.strip_prefix("BUNDLE"))
        .map(|mids| mids.split_ascii_whitespace().collect())
        .collect();
    let all_in = |bundle: &Vec<&str>| {
        sections.iter().all(|section| section.values("mid").next().is_some_and(|mid| bundle.contains(&mid.trim())))
    };
    match sections.len() < 2 || bundles.iter().any(all_in) {
        true => Ok(()),
        false => Err(AnswerError::Unacceptable("the sections are not all in one a=group:BUNDLE".into())),
    }
}

/// Section 4.4.2: one MediaStream, at most one track of a kind.
fn check_single_stream(sections: &[Section<'_>]) -> Result<(), AnswerError> {
    for kind in ["audio", "video"] {
        let tracks = sections.iter().filter(|section| section.media() == kind).count();
        if tracks > 1 {
            return Err(AnswerError::Unacceptable(format!("{tracks} {kind} tracks are offered; one can be received")));
        }
    }
    let mut streams: Vec<&str> = sections
        .iter()
        .flat_map(|section| section.values("msid"))
        .filter_map(|msid| msid.split_ascii_whitespace().next())
        .filter(|stream| *stream != "-") // in no stream
        .collect();
    streams.sort_unstable();
    streams.dedup();
    match streams.len() < 2 {
        true => Ok(()),
        false => Err(AnswerError::Unacceptable(format!(
            "the tracks are of {} MediaStreams (a=msid); one can be received",
            streams.len()
        ))),
    }
}

/// Adds what section 4.4.1 wants in every bundled section, and makes sure that nothing was left out.
pub(crate) fn complete_answer(answer: &str) -> Result<String, AnswerError> {
    let (session, sections) = Section::of(answer);
    if let Some(rejected) = sections.iter().find(|section| section.is_rejected()) {
        return Err(AnswerError::Unacceptable(format!("a {} section cannot be received", rejected.media())));
    }
    Ok(mux_only(answer, &session, &sections))
}

/// Adds the same to an answer to a viewer, who gets what there is.
pub(crate) fn complete_viewers_answer(answer: &str) -> Result<String, AnswerError> {
    let (session, sections) = Section::of(answer);
    Ok(mux_only(answer, &session, &sections))
}

fn mux_only(answer: &str, session: &Section<'_>, sections: &[Section<'_>]) -> String {
    let mut out = String::with_capacity(answer.len() + 64);
    for section in std::iter::once(session).chain(sections) {
        let incomplete = section.has("rtcp-mux") && !section.has("rtcp-mux-only");
        for line in &section.lines {
            out.push_str(line);
            out.push_str("\r\n");
            if incomplete && *line == "a=rtcp-mux" {
                out.push_str("a=rtcp-mux-only\r\n"); // RFC 8858 section 3
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n";
    const AUDIO: &str =
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=setup:actpass\r\na=sendonly\r\na=rtcp-mux\r\na=msid:s a\r\n";
    const VIDEO: &str =
        "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=bundle-only\r\na=mid:1\r\na=sendrecv\r\na=rtcp-mux\r\na=msid:s v\r\n";

    fn refusal(from: &str, to: &str) -> String {
        let offer = format!("{SESSION}{AUDIO}{VIDEO}");
        assert!(offer.contains(from), "{from}");
        check_offer(&offer.replace(from, to), Terms::Ingest)
            .map_or_else(|refusal| refusal.to_string(), |()| String::new())
    }

    #[test]
    fn a_browsers_offer_passes_and_so_do_its_halves() {
        let check = |offer: &str| check_offer(offer, Terms::Ingest);
        check(&format!("{SESSION}{AUDIO}{VIDEO}")).unwrap();
        check(&format!("{SESSION}{AUDIO}")).unwrap();
        check(&format!("{SESSION}{VIDEO}")).unwrap();
        let receives = format!("{SESSION}{AUDIO}{VIDEO}").replace("sendonly", "recvonly");
        check_offer(&receives, Terms::BothWays).unwrap();
        for fine in ["active", "passive"] {
            assert_eq!(refusal("actpass", fine), "");
        }
        assert_eq!(refusal("a=msid:s v", "a=msid:- v"), "");
    }

    #[test]
    fn what_could_not_be_answered_in_full_is_refused_by_name() {
        for (from, to, why) in [
            ("a=sendonly", "a=recvonly", "audio section is recvonly"),
            ("a=sendrecv", "a=inactive", "video section is inactive"),
            ("actpass", "holdconn", "holdconn"),
            ("BUNDLE 0 1", "BUNDLE 0", "BUNDLE"),
            ("a=group:BUNDLE 0 1\r\n", "", "BUNDLE"),
            ("m=audio", "m=video", "2 video tracks"),
            ("a=msid:s v", "a=msid:other v", "2 MediaStreams"),
            ("a=bundle-only\r\n", "", "port 0"),
        ] {
            assert!(refusal(from, to).contains(why), "{why}: {}", refusal(from, to));
        }
    }

    #[test]
    fn a_viewers_offer_receives_and_may_leave_sections_unused() {
        let offer = |from: &str, to: &str| {
            let offer = format!("{SESSION}{AUDIO}{VIDEO}").replace("a=sendonly", "a=recvonly");
            check_viewers_offer(&offer.replace(from, to)).map_err(|refusal| refusal.to_string())
        };
        for (from, to) in [("", ""), ("a=sendrecv", "a=inactive"), ("a=bundle-only\r\n", ""), ("m=audio", "m=video")] {
            assert_eq!(offer(from, to), Ok(()), "{to}");
        }
        assert!(offer("a=sendrecv", "a=sendonly").unwrap_err().contains("video section is sendonly"));
        assert!(offer("actpass", "holdconn").unwrap_err().contains("holdconn"));
        assert!(offer("BUNDLE 0 1", "BUNDLE 0").unwrap_err().contains("BUNDLE"));
        let answer = format!("{SESSION}{AUDIO}{VIDEO}").replace("a=bundle-only\r\n", "");
        assert_eq!(complete_viewers_answer(&answer).unwrap().matches("a=rtcp-mux-only").count(), 2);
    }

    #[test]
    fn an_answer_gets_rtcp_mux_only_in_every_section_once() {
        let answer = format!("{SESSION}{AUDIO}{VIDEO}");
        let complete = complete_answer(&answer).unwrap();
        assert_eq!(complete.matches("a=rtcp-mux\r\na=rtcp-mux-only\r\n").count(), 2);
        assert_eq!(complete_answer(&complete).unwrap(), complete);
    }

    #[test]
    fn an_answer_that_rejects_a_section_is_none() {
        let answer = format!("{SESSION}{AUDIO}{VIDEO}").replace("a=bundle-only\r\n", "");
        assert!(matches!(complete_answer(&answer), Err(AnswerError::Unacceptable(_))));
    }
}
