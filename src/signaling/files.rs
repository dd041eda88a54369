//! How many files the process may have open, which every TCP connection is one of. Most systems give a process 1024 and let
//! it ask for more.

use std::sync::OnceLock;

#[cfg(feature = "plugin")]
use socket2::{Domain, Socket, Type};
use tracing::{info, warn};

use super::connection::MAX_CONNECTIONS;

/// What else there is: sockets of publishers' pipelines and of connections on their way in, recordings, libraries.
const OTHERS: u64 = 1024;
/// However few there may be.
const FEWEST_CONNECTIONS: u64 = 64;

/// What a session opens as it begins: the bus of its pipeline, a socket for each destination, placeholders.
#[cfg(feature = "plugin")]
const FOR_A_SESSION: usize = 8;

/// Whether a session could begin: whatever cannot be opened halfway through fails with words of its own, GStreamer's buses with
/// none at all.
#[cfg(feature = "plugin")]
pub(crate) fn are_left() -> bool {
    let socket = || Socket::new(Domain::IPV4, Type::DGRAM, None).ok();
    let opened: Vec<_> = (0..FOR_A_SESSION).map_while(|_| socket()).collect();
    opened.len() == FOR_A_SESSION
}

/// Has the system let us have as many as are needed, once for the process, and returns for how many connections they are
/// enough.
pub(super) fn room_for_connections() -> usize {
    static ROOM: OnceLock<usize> = OnceLock::new();
    *ROOM.get_or_init(|| {
        let limit = raise();
        let room = connections(limit);
        if room < MAX_CONNECTIONS {
            warn!(
                files = limit,
                connections = room,
                "the system lets this process have few files open, so that it takes fewer connections; see ulimit -Hn, \
                 or LimitNOFILE= of systemd"
            );
        }
        room
    })
}

#[cfg(target_os = "linux")]
fn raise() -> Option<u64> {
    use rustix::process::{Resource::Nofile, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Nofile);
    raised(Limit { current, maximum }, |Limit { current, maximum }| {
        setrlimit(Nofile, Rlimit { current, maximum }).is_ok()
    })
}

/// Elsewhere it is left as it is.
#[cfg(not(target_os = "linux"))]
fn raise() -> Option<u64> {
    None
}

/// What the process may have now, and what it may ask for; `None` for no limit.
#[derive(Clone, Copy, Debug)]
struct Limit {
    current: Option<u64>,
    maximum: Option<u64>,
}

/// The limit of files, raised to what is needed as far as it may be; `None` for none.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn raised(limit: Limit, set: impl FnOnce(Limit) -> bool) -> Option<u64> {
    let wanted = MAX_CONNECTIONS as u64 + OTHERS;
    let wanted = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    let current = limit.current?;
    if current < wanted && set(Limit { current: Some(wanted), ..limit }) {
        info!(from = current, to = wanted, "the process may have more files open");
        return Some(wanted);
    }
    Some(current)
}

fn connections(limit: Option<u64>) -> usize {
    let room = limit.map_or(u64::MAX, |limit| {
        // Of few files half are for connections.
        limit.saturating_sub(OTHERS).max(limit / 2).max(FEWEST_CONNECTIONS)
    });
    usize::try_from(room).unwrap_or(usize::MAX).min(MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(current: Option<u64>, maximum: Option<u64>) -> Limit {
        Limit { current, maximum }
    }

    #[test]
    fn as_many_files_as_are_needed_are_asked_for_and_no_more_than_there_may_be() {
        let granted = |limit| raised(limit, |_| true);
        assert_eq!(granted(limit(Some(1024), Some(1_048_576))), Some(5120));
        assert_eq!(granted(limit(Some(1024), None)), Some(5120));
        assert_eq!(granted(limit(Some(1024), Some(4096))), Some(4096));
        let is_unchanged = |limit| raised(limit, |_| panic!("it is enough")) == limit.current;
        assert!(is_unchanged(limit(Some(20_000), Some(20_000))) && is_unchanged(limit(None, None)));
        assert_eq!(raised(limit(Some(1024), Some(9999)), |_| false), Some(1024), "it was not let");
    }

    #[cfg(feature = "plugin")]
    #[test]
    fn there_are_files_for_a_session_where_nobody_has_taken_them() {
        assert!(are_left());
    }

    #[test]
    fn connections_fit_into_the_files_that_there_are() {
        let rooms = [None, Some(5120), Some(2048), Some(1024), Some(10)].map(connections);
        assert_eq!(rooms, [4096, 4096, 1024, 512, 64]);
    }
}
