//! What carries the datagrams of a shared port: a UDP socket. In simulations it is a function, and nobody reads: datagrams are
//! [delivered](super::reader::deliver).

use std::{
    io::{self, IoSliceMut},
    net::UdpSocket,
};

use tokio::io::Interest;
use webrtc::runtime::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use super::kernel_drops::Watched;

/// One port's.
pub(super) enum Wire {
    Udp {
        io: tokio::net::UdpSocket,
        state: UdpSocketState,
        watched: Option<Watched>,
    },
    #[cfg(test)]
    Simulated {
        port: u16,
        carry: Carry,
    },
}

/// Takes a datagram to an address.
#[cfg(test)]
pub(super) type Carry = Box<dyn Fn(std::net::SocketAddr, &[u8]) + Send + Sync>;

impl Wire {
    /// Within the tokio runtime that reads it.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let watched = Watched::new(&socket);
        let io = tokio::net::UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        Ok(Self::Udp { io, state, watched })
    }

    pub(super) fn port(&self) -> io::Result<u16> {
        match self {
            Self::Udp { io, .. } => Ok(io.local_addr()?.port()),
            #[cfg(test)]
            Self::Simulated { port, .. } => Ok(*port),
        }
    }

    /// Sends, or does not if there is no room now.
    pub(super) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self {
            Self::Udp { io, state, .. } => state.try_send(UdpSockRef::from(io), transmit),
            #[cfg(test)]
            Self::Simulated { carry, .. } => {
                let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
                transmit.contents.chunks(size).for_each(|datagram| carry(transmit.destination, datagram));
                Ok(())
            }
        }
    }

    /// Waits until there is something to receive.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Udp { io, .. } => io.readable().await,
            #[cfg(test)]
            Self::Simulated { .. } => std::future::pending().await,
        }
    }

    /// Receives what there is; how many buffers are filled.
    pub(super) fn try_recv(&self, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        match self {
            Self::Udp { io, state, .. } => {
                io.try_io(Interest::READABLE, || state.recv(UdpSockRef::from(io), buffers, meta))
            }
            #[cfg(test)]
            Self::Simulated { .. } => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Datagrams that came and that the kernel had no room for.
    pub(super) fn unread(&self) -> u64 {
        match self {
            Self::Udp { watched, .. } => watched.as_ref().map_or(0, Watched::drops),
            #[cfg(test)]
            Self::Simulated { .. } => 0,
        }
    }

    /// How many datagrams of one size can be sent as one.
    pub(super) fn max_gso_segments(&self) -> usize {
        match self {
            Self::Udp { state, .. } => state.max_gso_segments(),
            #[cfg(test)]
            Self::Simulated { .. } => usize::MAX,
        }
    }

    /// How many datagrams of one size may come as one.
    pub(super) fn gro_segments(&self) -> usize {
        match self {
            Self::Udp { state, .. } => state.gro_segments(),
            #[cfg(test)]
            Self::Simulated { .. } => 1,
        }
    }
}
