//! What the kernel has dropped because a socket was not read in time: nobody else knows. Linux alone tells it, in the tables of
//! proc(5), where datagrams that came together (GRO) count as one.

use std::{
    fs,
    net::UdpSocket,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The column of the socket's inode, and the last one, of what was dropped.
const INODE: usize = 9;
const DROPS: usize = 12;

/// How long it is not looked again: each of many sessions asks, and the tables may be long.
const FRESH: Duration = Duration::from_secs(1);

/// Which socket to look for, and what was seen of it.
#[derive(Debug)]
pub(super) struct Watched {
    inode: u64,
    latest: Mutex<(Option<Instant>, u64)>,
}

impl Watched {
    /// `None` where there is no such table.
    pub(super) fn new(socket: &UdpSocket) -> Option<Self> {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
            Some(Self { inode, latest: Mutex::default() })
        }
        #[cfg(not(target_os = "linux"))]
        {
            _ = socket;
            None
        }
    }

    /// Datagrams dropped since the socket was opened, at least; a second old at most, and never less than before: where no file
    /// can be opened it is what was seen last.
    pub(super) fn drops(&self) -> u64 {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, drops) = &mut *latest;
        if at.is_none_or(|at| at.elapsed() >= FRESH) {
            *at = Some(Instant::now());
            *drops = (*drops).max(self.look());
        }
        *drops
    }

    fn look(&self) -> u64 {
        let tables = ["/proc/self/net/udp6", "/proc/self/net/udp"];
        tables.iter().filter_map(|table| drops_in(&fs::read_to_string(table).ok()?, self.inode)).sum()
    }
}

fn drops_in(table: &str, inode: u64) -> Option<u64> {
    let rows = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let row = rows.into_iter().find(|row| row.get(INODE).and_then(|cell| cell.parse().ok()) == Some(inode))?;
    row.get(DROPS)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_reads_drops_what_there_is_no_room_for_and_another_does_not() {
        let (flooded, idle) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0"));
        let watched = Watched::new(&flooded).unwrap();
        assert_eq!(watched.look(), 0);
        let to = flooded.local_addr().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2000 {
            sender.send_to(&[0; 1200], to).unwrap();
        }
        flooded.set_nonblocking(true).unwrap();
        let mut taken = 0;
        while flooded.recv(&mut [0; 1500]).is_ok() {
            taken += 1;
        }
        assert_eq!(watched.look() + taken, 2000);
        let seen = watched.drops();
        assert!(seen > 0);
        let gone = Watched { inode: 1, ..watched };
        *gone.latest.lock().unwrap() = (None, seen);
        assert_eq!(gone.drops(), seen, "what was seen is not forgotten");
        if let Ok(idle) = idle {
            assert_eq!(Watched::new(&idle).unwrap().look(), 0);
        }
    }

    #[test]
    fn a_table_without_the_socket_or_of_another_form_says_nothing() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                     1: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 4711 2 0000000000000000 12\n";
        assert_eq!(drops_in(table, 4711), Some(12));
        assert_eq!(drops_in(table, 4712), None);
        assert_eq!(drops_in("x\n1 2 3\n", 3), None);
        assert_eq!(drops_in("", 0), None);
    }
}
