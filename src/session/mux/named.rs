//! Who has named a STUN or TURN server, and to which addresses that may lead.
//!
//! An operator may name any. A server that we call as a client names some with its answer: it must not be able to aim us at what
//! only this machine or its network can reach, as cloud metadata services are. Decided for the address that a name was
//! resolved to, and that is then used.

use std::net::SocketAddr;

use crate::reachable::is_reachable;

/// Who has named a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamedBy {
    /// Whoever runs this.
    #[default]
    Operator,
    /// A server that was called.
    Server {
        /// It is on this machine, so that what it names may be there.
        is_local: bool,
    },
}

impl NamedBy {
    /// Whether it may lead there.
    pub(super) fn admits(self, address: SocketAddr) -> bool {
        match self {
            Self::Operator => true,
            Self::Server { is_local } => is_reachable(address.ip(), is_local),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(by: NamedBy, address: &str) -> bool {
        by.admits(address.parse().unwrap())
    }

    #[test]
    fn an_operator_may_name_any_and_a_server_none_that_only_we_can_reach() {
        let (far, near) = (NamedBy::Server { is_local: false }, NamedBy::Server { is_local: true });
        for address in ["192.0.2.1:3478", "10.0.0.1:3478", "[2001:db8::1]:443"] {
            assert!(admits(NamedBy::Operator, address) && admits(far, address) && admits(near, address), "{address}");
        }
        for address in ["169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.169.254]:80", "0.0.0.0:1", "224.0.0.1:1"]
        {
            assert!(admits(NamedBy::Operator, address) && !admits(far, address) && !admits(near, address), "{address}");
        }
        for address in ["127.0.0.1:6379", "[::1]:25", "[::ffff:127.0.0.1]:25"] {
            assert!(admits(NamedBy::Operator, address) && !admits(far, address) && admits(near, address), "{address}");
        }
    }
}
