//! Which UDP port the sessions share: any, one, or the first free one of a range; for both families where there are both.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    str::FromStr,
};

use socket2::{Domain, Socket, Type};

/// What a socket buffer should hold: half a second of a hundred 2 Mbit/s streams, and a keyframe of each at once.
const SOCKET_BUFFER: usize = 8 << 20;

/// How many ports are looked at for one that is free for TCP as well.
const ATTEMPTS: usize = 32;

/// The ports that may be taken. Whoever says the same shares the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UdpPorts {
    /// Any that is free.
    #[default]
    Any,
    /// This one.
    One(u16),
    /// The first free one from the first to the second, both included.
    Range(u16, u16),
}

/// Why a text is no range of ports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    /// It does not have the form.
    #[error("\"{0}\" is no range of ports; write from-to, for example 50000-50100")]
    Malformed(String),
    /// It has no end, or begins where no port is.
    #[error("the range of ports {0}-{1} is empty: it must begin at 1 or above and not end before")]
    Empty(u16, u16),
}

impl FromStr for UdpPorts {
    type Err = PortRangeError;

    /// Reads a range, `from-to`.
    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let malformed = || PortRangeError::Malformed(text.to_owned());
        let (from, to) = text.split_once('-').ok_or_else(malformed)?;
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| malformed());
        let (from, to) = (port(from)?, port(to)?);
        if from == 0 || to < from {
            return Err(PortRangeError::Empty(from, to));
        }
        Ok(Self::Range(from, to))
    }
}

/// No socket.
#[derive(Debug, thiserror::Error)]
#[error("{ports} for media: {source}")]
pub struct PortsInUse {
    ports: UdpPorts,
    source: io::Error,
}

impl fmt::Display for UdpPorts {
    /// As the beginning of an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("no UDP port can be used"),
            Self::One(port) => write!(f, "UDP port {port} cannot be used"),
            Self::Range(from, to) => write!(f, "none of the UDP ports {from}-{to} can be used"),
        }
    }
}

/// A bound socket, and whether it takes IPv6 as well.
pub(super) struct Bound {
    pub(super) socket: UdpSocket,
    pub(super) dual_stack: bool,
}

impl UdpPorts {
    pub(super) fn bind(self) -> Result<Bound, PortsInUse> {
        let failed = |source| PortsInUse { ports: self, source };
        let (from, to) = match self {
            Self::Any => (0, 0),
            Self::One(port) => (port, port),
            Self::Range(from, to) => (from, to),
        };
        if self == Self::Any {
            return bind_any().map_err(failed);
        }
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for port in from..=to {
            match bind(port) {
                Ok(bound) => return Ok(bound),
                // Ports that belong to others; anything else would be the same for the next.
                Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                    last = error;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(last))
    }
}

/// A port that is free for TCP as well, where there is one: `ice-tcp` takes the same number, which on a machine with many
/// connections often belongs to one of them.
fn bind_any() -> io::Result<Bound> {
    // Those that will not do are held meanwhile, so that the next one is another.
    let mut held = Vec::new();
    loop {
        let bound = bind(0)?;
        if held.len() == ATTEMPTS || is_free_for_tcp(bound.socket.local_addr()?, bound.dual_stack)? {
            return Ok(bound);
        }
        held.push(bound);
    }
}

fn is_free_for_tcp(address: SocketAddr, dual_stack: bool) -> io::Result<bool> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if dual_stack {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?; // as the listener does
    Ok(socket.bind(&address.into()).is_ok())
}

fn bind(port: u16) -> io::Result<Bound> {
    // Without its loopback address there is no IPv6 that could be used: a session's placeholder is bound to it.
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        match bind_to(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Ok(socket) => return Ok(Bound { socket, dual_stack: true }),
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                return Err(error);
            }
            Err(error) => tracing::debug!(%error, "media is received over IPv4 only"),
        }
    }
    Ok(Bound { socket: bind_to(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?, dual_stack: false })
}

fn bind_to(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // The kernel clamps these to rmem_max and wmem_max, which is not an error.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_ports_in_order() {
        assert_eq!("50000-50100".parse(), Ok(UdpPorts::Range(50_000, 50_100)));
        assert_eq!(" 1 - 65535 ".parse(), Ok(UdpPorts::Range(1, 65_535)));
        assert_eq!("7-7".parse(), Ok(UdpPorts::Range(7, 7)));
        for text in ["", "50000", "50000-", "-1", "a-b", "1-2-3", "50000-70000", "50000:50100"] {
            assert_eq!(text.parse::<UdpPorts>(), Err(PortRangeError::Malformed(text.to_owned())));
        }
        assert_eq!("9-8".parse::<UdpPorts>(), Err(PortRangeError::Empty(9, 8)));
        assert_eq!("0-8".parse::<UdpPorts>(), Err(PortRangeError::Empty(0, 8)));
    }

    /// A port that is taken, with a free one after it.
    fn taken() -> (UdpSocket, u16) {
        loop {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let port = socket.local_addr().unwrap().port();
            if port < u16::MAX && bind(port + 1).is_ok() {
                return (socket, port);
            }
        }
    }

    #[test]
    fn the_first_free_port_of_a_range_is_taken() {
        let (_socket, port) = taken();
        let bound = UdpPorts::Range(port, port + 1).bind().unwrap();
        assert_eq!(bound.socket.local_addr().unwrap().port(), port + 1);
    }

    #[test]
    fn a_range_without_a_free_port_is_named() {
        let (_socket, port) = taken();
        let error = UdpPorts::Range(port, port).bind().err().unwrap().to_string();
        assert!(error.starts_with(&format!("none of the UDP ports {port}-{port} can be used for media: ")), "{error}");
        let error = UdpPorts::One(port).bind().err().unwrap().to_string();
        assert!(error.starts_with(&format!("UDP port {port} cannot be used for media: ")), "{error}");
    }

    #[test]
    fn any_port_is_one_that_is_free_for_tcp_as_well() {
        let listeners: Vec<_> =
            (0..500).map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let taken: std::collections::HashSet<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        // One in sixty ports is taken: of 400 some would be.
        for _ in 0..400 {
            let port = UdpPorts::Any.bind().unwrap().socket.local_addr().unwrap().port();
            assert!(!taken.contains(&port), "{port}");
        }
    }

    #[test]
    fn one_socket_takes_both_families_where_there_are_both() {
        let bound = UdpPorts::Any.bind().unwrap();
        bound.socket.set_nonblocking(false).unwrap();
        let port = bound.socket.local_addr().unwrap().port();
        let mut buffer = [0; 8];
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"four", ("127.0.0.1", port)).unwrap();
        assert_eq!(bound.socket.recv(&mut buffer).unwrap(), 4);
        if bound.dual_stack {
            UdpSocket::bind("[::1]:0").unwrap().send_to(b"six", ("::1", port)).unwrap();
            assert_eq!(bound.socket.recv(&mut buffer).unwrap(), 3);
        }
    }
}
