//! From a host name to a TCP connection, and to TLS over it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rustls::{ClientConnection, pki_types::ServerName};
use tokio::net::TcpStream;

use super::{Error, Target, tls};

/// After so long without an answer the next address is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// What the kernel keeps beyond what the network takes: enough that it never waits for us. Without a limit it is megabytes,
/// and a server that stopped reading would go unnoticed for seconds.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 64 << 10;
/// More than any server has; each costs a socket.
const MOST_ADDRESSES: usize = 8;

/// Connects; the TLS handshake is still to come.
pub(super) async fn dial(target: &Target) -> Result<(TcpStream, Option<ClientConnection>), Error> {
    let tls = match target.tls {
        true => Some(client(target).await?),
        false => None,
    };
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let addresses = interleave(found.map_err(|error| Error::of_opening(&error, Error::Resolve))?.collect());
    let stream = connect(addresses).await.map_err(|error| Error::of_opening(&error, Error::Unreachable))?;
    // A picture's last piece must not wait for the acknowledgement of what went before.
    stream.set_nodelay(true).map_err(|error| Error::Io(error.to_string()))?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT); // lag shows later on kernels without it
    Ok((stream, tls))
}

async fn client(target: &Target) -> Result<ClientConnection, Error> {
    let flags = target.tls_validation_flags;
    let config = tokio::task::spawn_blocking(move || tls::config(flags)).await;
    let config = config.map_err(|error| Error::Io(error.to_string()))??;
    let name = ServerName::try_from(target.host.clone()).map_err(|error| Error::Tls(error.to_string()))?;
    ClientConnection::new(Arc::clone(&config), name).map_err(|error| Error::of_tls(&error))
}

/// Both families by turns, the one that the resolver prefers first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    std::iter::from_fn(|| Some([first.next(), second.next()]))
        .take_while(|pair| pair.iter().any(Option::is_some))
        .flat_map(|pair| pair.into_iter().flatten())
        .take(MOST_ADDRESSES)
        .collect()
}

/// The first that answers.
async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let mut next = addresses.next();
    loop {
        let more = next.is_some();
        attempts.extend(next.take().map(TcpStream::connect));
        if attempts.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if more => {}
        }
        next = addresses.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"]);
        assert_eq!(interleave(found), parse(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"]));
        assert!(interleave(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn address_that_refuses_gives_way_to_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listening = listener.local_addr().unwrap();
        let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stream = connect(vec![refusing, refusing, listening]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listening);
        let error = connect(vec![refusing]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(Vec::new()).await.is_err());
    }
}
