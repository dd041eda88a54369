//! The candidates that an answer announces: our addresses on the shared port, in place of the stack's placeholder.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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

/// The same for peers that connect by TCP (RFC 6544 section 4.5): after all that UDP can do. Of its local preference the
/// upper three bits are for who opens the connection: 2 stands for the other side.
pub(super) fn over_tcp(addresses: &[IpAddr], port: u16) -> Vec<String> {
    let line = |(index, address): (usize, &IpAddr)| {
        let preference = (2_u32 << 13) | (8191 - index as u32);
        let priority = (90_u32 << 24) | (preference << 8) | 255;
        format!("candidate:{} 1 tcp {priority} {address} {port} typ host tcptype passive", index + 21)
    };
    addresses.iter().enumerate().map(line).collect()
}

/// The candidate of the address that a STUN server sees. It does not tell which one is behind it, as browsers do not.
pub(super) fn reflexive(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    let any = if ip.is_ipv6() { "::" } else { "0.0.0.0" };
    let priority = (100_u32 << 24) | (65_535 << 8) | 255;
    format!("candidate:41 1 udp {priority} {ip} {port} typ srflx raddr {any} rport 9")
}

/// The candidates of relays, each with its preference among relays.
pub(super) fn relayed(relays: &[(SocketAddr, u32)]) -> Vec<String> {
    let line = |(index, (address, preference)): (usize, &(SocketAddr, u32))| {
        let (ip, port) = (address.ip(), address.port());
        let any = if ip.is_ipv6() { "::" } else { "0.0.0.0" };
        let priority = (preference << 24) | ((65_535 - index as u32) << 8) | 255;
        format!("candidate:{} 1 udp {priority} {ip} {port} typ relay raddr {any} rport 9", index + 61)
    };
    relays.iter().enumerate().map(line).collect()
}

/// A peer's candidate as one that is checked by a detour, after what is direct.
pub(super) fn by_way_of(candidate: &str, detour: Ipv4Addr) -> String {
    let field = |(place, field): (usize, &str)| match place {
        0 => format!("r{field}"),
        3 => field.parse::<u32>().map_or_else(|_| field.to_owned(), |priority| (priority & 0x00FF_FFFF).to_string()),
        4 => detour.to_string(),
        7 => "host".to_owned(),
        _ => field.to_owned(),
    };
    candidate.split_ascii_whitespace().enumerate().take(8).map(field).collect::<Vec<_>>().join(" ")
}

/// Replaces the placeholder host candidates of each media section by ours; RTP and RTCP share the one component (RFC 8843
/// section 9.3).
pub(super) fn rewrite(answer: &str, lines: &[String]) -> String {
    let ours: String = lines.iter().map(|line| format!("a={line}\r\n")).collect();
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
            rewrite(&answer, &lines(&addresses, 5000)),
            format!("v=0\r\nm=audio 9 x 0\r\n{expected}a=mid:0\r\nm=video 9 x 96\r\n{expected}")
        );
    }

    #[test]
    fn other_ways_come_after_the_direct_one_in_the_order_of_their_cost() {
        let address = [IpAddr::from([192, 0, 2, 1])];
        let relays = [([203, 0, 113, 1], 4000, 2), ([203, 0, 113, 1], 4001, 0)];
        let relays = relays.map(|(ip, port, preference)| (SocketAddr::from((ip, port)), preference));
        let all = [lines(&address, 5000), vec![reflexive(relays[0].0)], over_tcp(&address, 5000), relayed(&relays)];
        let all: Vec<String> = all.into_iter().flatten().collect();
        let priority = |line: &String| line.split(' ').nth(3).unwrap().parse::<u32>().unwrap();
        assert!(all.iter().map(priority).is_sorted_by(|a, b| a > b), "{all:#?}");
        assert!(all[2].ends_with(" 192.0.2.1 5000 typ host tcptype passive"), "{all:#?}");
        assert!(all[1].ends_with(" 203.0.113.1 4000 typ srflx raddr 0.0.0.0 rport 9"), "{all:#?}");
        assert!(all[3].ends_with(" 203.0.113.1 4000 typ relay raddr 0.0.0.0 rport 9"), "{all:#?}");
        let foundation = |line: &String| line.split(' ').next().unwrap().to_owned();
        assert_eq!(all.iter().map(foundation).collect::<std::collections::HashSet<_>>().len(), all.len());
    }

    #[test]
    fn a_candidate_by_a_detour_is_another_one_and_tried_later() {
        let given = "1 1 udp 2130706431 192.0.2.1 5000 typ srflx raddr 10.0.0.1 rport 9 generation 0";
        let expected = "r1 1 udp 16777215 240.0.0.3 5000 typ host";
        assert_eq!(by_way_of(given, Ipv4Addr::new(240, 0, 0, 3)), expected);
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
