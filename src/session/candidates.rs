//! The candidates that an answer announces: our addresses on the shared port, in place of the stack's placeholder.

use std::net::IpAddr;

/// Addresses announced at most; each costs the peer connectivity checks.
const MOST_ADDRESSES: usize = 8;

/// This machine's addresses that a peer may reach us at, loopback last; else the two families in turn, so that neither
/// is cut off by a limit (RFC 8421 section 4). No link-local ones: without its interface such an address says nothing.
pub fn local_addresses() -> Vec<IpAddr> {
    let all: Vec<IpAddr> = if_addrs::get_if_addrs().unwrap_or_default().iter().map(if_addrs::Interface::ip).collect();
    in_order(all)
}

fn in_order(mut all: Vec<IpAddr>) -> Vec<IpAddr> {
    all.retain(|address| match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    });
    let mut ordered = Vec::with_capacity(all.len());
    for loopback in [false, true] {
        let of = |v6: bool| all.iter().filter(move |a| a.is_ipv6() == v6 && a.is_loopback() == loopback);
        let (mut v4, mut v6) = (of(false), of(true));
        loop {
            let before = ordered.len();
            ordered.extend(v4.next());
            ordered.extend(v6.next());
            if ordered.len() == before {
                break;
            }
        }
    }
    ordered
}

/// The addresses to announce to one peer: those that were configured, else this machine's, and loopback only where the
/// request itself came over loopback (the peer, or a proxy in front of us, is on this machine).
pub(super) fn announced(configured: &[IpAddr], peer_is_local: bool, ipv6: bool) -> Vec<IpAddr> {
    let mut addresses = if configured.is_empty() { local_addresses() } else { configured.to_vec() };
    if configured.is_empty() {
        addresses.retain(|address| ipv6 || address.is_ipv4());
        if !peer_is_local && addresses.iter().any(|address| !address.is_loopback()) {
            addresses.retain(|address| !address.is_loopback());
        }
    }
    addresses.truncate(MOST_ADDRESSES);
    addresses
}

/// The host candidates for these addresses, as `candidate:…` (RFC 8839 section 5.1).
pub(super) fn lines(addresses: &[IpAddr], port: u16) -> Vec<String> {
    let line = |(index, address): (usize, &IpAddr)| {
        // Type preference of host candidates, local preference, component (RFC 8445 section 5.1.2.1): first come, first tried.
        let priority = (126_u32 << 24) | ((65_535 - index as u32) << 8) | 255;
        format!("candidate:{} 1 udp {priority} {address} {port} typ host", index + 1)
    };
    addresses.iter().enumerate().map(line).collect()
}

/// Replaces the placeholder host candidates of each media section by ours; RTP and RTCP share the one component (RFC 8843
/// section 9.3).
pub(super) fn rewrite(answer: &str, addresses: &[IpAddr], port: u16) -> String {
    let ours: String = lines(addresses, port).iter().map(|line| format!("a={line}\r\n")).collect();
    let mut out = String::with_capacity(answer.len() + 512);
    let mut replaced = false;
    for line in answer.lines() {
        if line.starts_with("m=") {
            replaced = false;
        }
        if !line.starts_with("a=candidate:") {
            out.push_str(line);
            out.push_str("\r\n");
        } else if !std::mem::replace(&mut replaced, true) {
            out.push_str(&ours);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_section_gets_every_address_once_in_falling_priority() {
        let placeholder = "a=candidate:1 1 udp 2130706431 127.0.0.1 4000 typ host\r\n";
        let other = "a=candidate:2 1 udp 2130706431 ::1 4001 typ host\r\n";
        let rtcp = "a=candidate:1 2 udp 2130706431 127.0.0.1 4000 typ host\r\n";
        let answer = format!("v=0\r\nm=audio 9 x 0\r\n{placeholder}{other}{rtcp}a=mid:0\r\nm=video 9 x 96\r\n{other}");
        let addresses = [IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap()];
        let expected = "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n\
                        a=candidate:2 1 udp 2130706175 2001:db8::1 5000 typ host\r\n";
        assert_eq!(
            rewrite(&answer, &addresses, 5000),
            format!("v=0\r\nm=audio 9 x 0\r\n{expected}a=mid:0\r\nm=video 9 x 96\r\n{expected}")
        );
    }

    #[test]
    fn loopback_is_announced_to_local_peers_only() {
        assert!(announced(&[], true, true).iter().any(IpAddr::is_loopback));
        let remote = announced(&[], false, true);
        assert!(remote.iter().all(|address| !address.is_loopback()) || remote.iter().all(IpAddr::is_loopback));
    }

    #[test]
    fn configured_addresses_are_announced_as_they_are() {
        let configured = [IpAddr::from([203, 0, 113, 7])];
        assert_eq!(announced(&configured, true, false), configured);
    }

    #[test]
    fn the_families_take_turns_and_link_local_is_left_out() {
        let given = ["127.0.0.1", "::1", "192.0.2.1", "192.0.2.2", "169.254.0.1", "fe80::1", "fd00::1", "2001:db8::1"];
        let given = given.iter().map(|address| address.parse().unwrap()).collect();
        let ordered: Vec<String> = in_order(given).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["192.0.2.1", "fd00::1", "192.0.2.2", "2001:db8::1", "127.0.0.1", "::1"]);
    }

    #[test]
    fn a_port_without_ipv6_announces_none() {
        assert!(announced(&[], true, false).iter().all(IpAddr::is_ipv4));
    }
}
