//! A shared port without a socket: in simulations its datagrams are handed over from both sides.

use std::net::SocketAddr;

use super::{Mux, MuxError, reader, wire::Wire};
use crate::session::time;

impl Mux {
    /// `carry` takes what is sent.
    pub(in crate::session) fn simulated(
        port: u16,
        carry: impl Fn(SocketAddr, &[u8]) + Send + Sync + 'static,
    ) -> Result<Self, MuxError> {
        Self::on(Wire::Simulated { port, carry: Box::new(carry) }, false)
    }

    /// A datagram arrives.
    pub(in crate::session) fn deliver(&self, from: SocketAddr, datagram: &[u8]) {
        reader::deliver(&self.shared, from, datagram, time::now());
    }

    /// Whether nobody is routed to any more.
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.shared.routes().is_empty()
    }
}
