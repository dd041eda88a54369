//! Offers that nobody stands behind: what a peer that never connects, or does not mean to, sends.

use super::http;

/// An offer of VP8 video with these candidates, each as in `a=candidate:`.
pub fn offer(candidates: &[String]) -> String {
    let mut offer = String::from(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
         a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
         a=rtpmap:96 VP8/90000\r\n",
    );
    for candidate in candidates {
        offer.push_str(&format!("a=candidate:{candidate}\r\n"));
    }
    offer
}

/// Posts such an offer; returns the answer.
pub fn post(url: &str, candidates: &[String]) -> String {
    let request = http().post(url).header("Content-Type", "application/sdp");
    let mut response = request.send(offer(candidates)).expect("an answer");
    let body = response.body_mut().read_to_string().expect("a body");
    assert_eq!(response.status().as_u16(), 201, "{body}");
    body
}
