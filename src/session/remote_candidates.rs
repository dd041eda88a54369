//! Which of a peer's candidates are checked: pure, for its offer and for what it trickles.
//!
//! A candidate is an address that we shall send to because somebody who may post an offer says so. Those that no WebRTC
//! peer has, or that only this machine or its network segment would answer at, are left out, and so is what goes beyond
//! [`MOST_CANDIDATES`]. How often the rest is checked is the shared port's business.

use std::net::{IpAddr, SocketAddr};

use crate::reachable::is_reachable;

/// Candidates of one peer: browsers on machines with many interfaces name about a dozen.
const MOST_CANDIDATES: usize = 20;
/// No peer's media comes from a port below; what listens there is somebody's service (RFC 6335 section 6).
const LOWEST_PORT: u16 = 1024;

/// Counts the candidates of one peer, from its offer or its latest ICE restart on.
#[derive(Clone, Debug)]
pub(super) struct RemoteCandidates {
    peer_is_local: bool,
    lowest_port: u16,
    admitted: Vec<SocketAddr>,
}

impl RemoteCandidates {
    /// `peer_is_local`: its offer came over loopback, so that its candidates may be there.
    pub(super) fn new(peer_is_local: bool) -> Self {
        Self { peer_is_local, lowest_port: LOWEST_PORT, admitted: Vec::new() }
    }

    /// Those of a server that we have called. It was not the one who chose to begin, and servers take ports that firewalls
    /// let through, such as 443.
    pub(super) fn of_server(server_is_local: bool) -> Self {
        Self { lowest_port: 1, ..Self::new(server_is_local) }
    }

    /// The same peer after an ICE restart, which begins with none.
    pub(super) fn restarted(&self) -> Self {
        Self { admitted: Vec::new(), ..*self }
    }

    /// A description, or a trickled fragment of one, without the candidates that are not checked.
    pub(super) fn keep_admitted(&mut self, sdp: &str) -> String {
        // The stack passes over whatever is white in Unicode, at either end of a value.
        let attribute = |line: &'_ str| line.trim().strip_prefix("a=").map(str::trim_start).map(str::to_owned);
        let kept = sdp.split_inclusive('\n').filter(|line| {
            match attribute(line).as_deref().and_then(|attribute| attribute.strip_prefix("candidate:")) {
                Some(candidate) => self.admits(candidate),
                None => true,
            }
        });
        kept.collect()
    }

    /// Whether a candidate is checked; what follows `candidate:` in its attribute (RFC 8839 section 5.1).
    pub(super) fn admits(&mut self, candidate: &str) -> bool {
        let Some(address) = udp_address(candidate) else { return false };
        if self.admitted.contains(&address) {
            return true; // each section of a bundle names the same ones
        }
        let admits = self.admitted.len() < MOST_CANDIDATES
            && address.port() >= self.lowest_port
            && is_reachable(address.ip(), self.peer_is_local);
        if admits {
            self.admitted.push(address);
        } else {
            tracing::debug!(%address, "candidate left out");
        }
        admits
    }
}

/// The address of a UDP candidate of the first component; `None` for others, and for names: those that browsers make up
/// end in `.local` and say nothing outside of their network. Nor is it one with characters that may part its fields for others
/// and do not for us: the stack would read another address.
fn udp_address(candidate: &str) -> Option<SocketAddr> {
    if !candidate.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return None;
    }
    let mut fields = candidate.split_ascii_whitespace().skip(1);
    let (component, transport) = (fields.next()?, fields.next()?);
    let mut fields = fields.skip(1);
    let address: IpAddr = fields.next()?.parse().ok()?;
    let port = fields.next()?.parse().ok()?;
    (component == "1" && transport.eq_ignore_ascii_case("udp")).then(|| SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(address: &str, port: u16) -> String {
        format!("1 1 udp 2130706431 {address} {port} typ host")
    }

    fn admits(address: &str, port: u16, peer_is_local: bool) -> bool {
        RemoteCandidates::new(peer_is_local).admits(&candidate(address, port))
    }

    #[test]
    fn addresses_of_peers_are_checked() {
        for address in ["192.0.2.1", "10.0.0.1", "100.64.0.1", "2001:db8::1", "fd00::1", "::ffff:192.0.2.1"] {
            assert!(admits(address, 50_000, false), "{address}");
        }
        assert!(admits("192.0.2.1", 1024, false));
    }

    #[test]
    fn a_server_that_was_called_may_take_any_port() {
        let admits = |port| RemoteCandidates::of_server(false).admits(&candidate("192.0.2.1", port));
        assert!(admits(443) && !admits(0));
    }

    #[test]
    fn addresses_of_no_peer_are_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.251",
            "ff02::fb",
            "255.255.255.255",
            "240.0.0.1",
            "169.254.169.254",
            "fe80::1",
            "e0d3a7c2-1111-2222-3333-444455556666.local",
            "example.org",
            "",
        ] {
            assert!(!admits(address, 50_000, true), "{address}");
        }
        for port in [0, 53, 123, 443, 1023] {
            assert!(!admits("192.0.2.1", port, true), "port {port}");
        }
    }

    #[test]
    fn loopback_is_for_peers_on_this_machine() {
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(!admits(address, 50_000, false) && admits(address, 50_000, true), "{address}");
        }
    }

    /// Of these the stack reads what stands in front of the second candidate; what is white to it parts its fields.
    #[test]
    fn candidates_that_others_read_otherwise_are_left_out() {
        for white in ['\u{b}', '\u{85}', '\u{a0}', '\u{2003}', '\u{3000}'] {
            let hidden =
                ["1", "1", "udp", "1", "127.0.0.1", "22", "typ", "host", "generation"].join(&white.to_string());
            let candidate = format!("{hidden} 1 udp 1 192.0.2.1 5000 typ host");
            let read = rtc::ice::candidate::unmarshal_candidate(&candidate).unwrap();
            assert_eq!(read.address(), "127.0.0.1", "{white:?}");
            assert!(!RemoteCandidates::new(false).admits(&candidate), "{white:?}");
            let sdp = format!("v=0\r\na={white}candidate:1 1 udp 1 127.0.0.1 22 typ host\r\na=mid:0\r\n");
            assert_eq!(RemoteCandidates::new(false).keep_admitted(&sdp), "v=0\r\na=mid:0\r\n", "{white:?}");
        }
    }

    #[test]
    fn tcp_and_other_components_are_left_out() {
        let mut candidates = RemoteCandidates::new(false);
        assert!(!candidates.admits("1 1 tcp 2130706431 192.0.2.1 9000 typ host tcptype active"));
        assert!(!candidates.admits("1 2 udp 2130706431 192.0.2.1 9000 typ host"));
        assert!(!candidates.admits("1 1 udp") && !candidates.admits(""));
        assert!(candidates.admits("1 1 UDP 2130706431 192.0.2.1 9000 typ host generation 0"));
    }

    #[test]
    fn the_offer_and_what_is_trickled_share_one_limit() {
        let mut candidates = RemoteCandidates::new(false);
        let offer: String = (0..15).map(|i| format!("a=candidate:{}\r\n", candidate("192.0.2.1", 5000 + i))).collect();
        let offer = format!("v=0\r\nm=audio 9 x 0\r\n{offer}m=video 9 x 96\r\n{offer}a=end-of-candidates\r\n");
        assert_eq!(candidates.keep_admitted(&offer), offer, "bundled sections name the same");
        let admitted = (0..100).filter(|i| candidates.admits(&candidate("192.0.2.2", 5000 + i))).count();
        assert_eq!(admitted, 5);
        assert!(candidates.admits(&candidate("192.0.2.1", 5000)), "one that was admitted stays so");
    }

    #[test]
    fn only_candidates_go_from_a_description() {
        let mut candidates = RemoteCandidates::new(false);
        let sdp = format!(
            "v=0\na=candidate:{}\na=candidate:{}\na=mid:0",
            candidate("abc.local", 5000),
            candidate("192.0.2.1", 5000)
        );
        let kept = format!("v=0\na=candidate:{}\na=mid:0", candidate("192.0.2.1", 5000));
        assert_eq!(candidates.keep_admitted(&sdp), kept);
    }
}
