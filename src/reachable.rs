//! Which addresses somebody who is not trusted may name: a peer by its candidates, a server by what it refers to. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where clouds tell their machines' secrets, beside link-local addresses: Alibaba, Oracle, Amazon by IPv6.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// None that is nobody's, or that only this machine or its link answers at, as cloud metadata services are; those of this machine
/// only by who `is_local`, there itself.
pub(crate) fn is_reachable(ip: IpAddr, is_local: bool) -> bool {
    let ip = without_nat64(ip.to_canonical());
    let of_nobody = match ip {
        // 0.0.0.0/8 is "this network", 240.0.0.0/4 reserved up to the broadcast address (RFC 6890 section 2.2.2).
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240 || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let of_no_peer = of_nobody || ip.is_unspecified() || ip.is_multicast() || METADATA.contains(&ip);
    !of_no_peer && (is_local || !ip.is_loopback())
}

/// Where a NAT64 leads (RFC 6052 section 2.1).
fn without_nat64(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) if v6.octets().starts_with(&[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_or_its_link_or_its_cloud_answers_at_is_nobodys_to_name() {
        let reachable = |ip: &str, is_local| is_reachable(ip.parse().unwrap(), is_local);
        for ip in ["192.0.2.1", "10.0.0.1", "100.100.100.201", "2001:db8::1", "fd00::1", "64:ff9b::c000:201"] {
            assert!(reachable(ip, false) && reachable(ip, true), "{ip}");
        }
        for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            assert!(!reachable(ip, false) && reachable(ip, true), "{ip}");
        }
        for ip in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "192.0.0.192",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!reachable(ip, false) && !reachable(ip, true), "{ip}");
        }
    }
}
