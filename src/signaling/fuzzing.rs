//! Entries for the fuzz targets in `fuzz/`: what takes text from HTTP, without HTTP. No other use.

use super::{IceServer, client::ice_servers, rules, sdp};

/// Checks an offer as WHIP does; returns it as text if a session would get to see it.
pub fn offer(body: &[u8]) -> Option<&str> {
    let offer = sdp::check(body).ok()?;
    if let Ok(complete) = rules::complete_answer(offer) {
        assert_eq!(rules::complete_answer(&complete).ok(), Some(complete), "an answer is completed once");
    }
    rules::check_offer(offer).is_ok().then_some(offer)
}

/// Checks an answer as the WHEP client does; returns it as text if a session would get to see it.
pub fn answer(body: &[u8]) -> Option<&str> {
    sdp::check(body).ok()
}

/// Reads a text frame of `/ws`.
pub fn message(text: &str) {
    super::socket::fuzz_message(text);
}

/// Reads a Link header field, and writes one for the server that the text describes, if it does: it is read as written.
pub fn link(text: &str) {
    let servers = ice_servers(std::iter::once(text));
    assert!(servers.len() <= 16);
    for server in servers {
        assert!(text.contains(server.uri()), "the target was changed");
    }
    if let Ok(server) = IceServer::parse(text)
        && let Some(link) = server.link()
    {
        assert!(!link.as_bytes().contains(&b','), "some clients split it there");
        let field = link.to_str().unwrap_or_default();
        let read = ice_servers(std::iter::once(field));
        assert!(read == [server], "{field} was not read as it was meant");
    }
}
