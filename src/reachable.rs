//! Which addresses somebody who is not trusted may name: a peer by its candidates, a server by what it refers to. Pure.

use std::net::IpAddr;

/// None that is nobody's, or that only this machine or its link answers at, as cloud metadata services are; those of this machine
/// only by who `is_local`, there itself.
pub(crate) fn is_reachable(ip: IpAddr, is_local: bool) -> bool {
    let ip = ip.to_canonical();
    let of_nobody = match ip {
        // 0.0.0.0/8 is "this network", 240.0.0.0/4 reserved up to the broadcast address (RFC 6890 section 2.2.2).
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240 || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !of_nobody && !ip.is_unspecified() && !ip.is_multicast() && (is_local || !ip.is_loopback())
}
