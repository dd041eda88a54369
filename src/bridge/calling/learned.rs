//! STUN and TURN servers that a server names with its answer (`Link`, RFC 9725 section 4.6), for who has been told of none.
//!
//! A session does not wait for them: the ways that the answer leads to are tried at once, and those by relays when there are
//! any. Offers that follow have them from the start.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tracing::debug;

use super::upkeep::{Request, ask};
use crate::{
    bridge::{IceTransportPolicy, reach},
    session::{NamedBy, Reach, ReachConfig, Session, SessionConfig},
    signaling::{IceServer, client::Resource},
};

/// Of those that relay: each costs as many checks again.
const MOST_RELAYS: usize = 3;

/// What a server has named last.
#[derive(Default)]
pub(crate) struct Learned(Mutex<Option<(Vec<IceServer>, Arc<Reach>)>>);

impl Learned {
    /// What an offer is made with.
    pub(crate) fn fill_in(&self, config: &mut SessionConfig) {
        if config.reach.is_none() {
            config.reach = self.lock().as_ref().map(|(_, reach)| reach.clone());
        }
    }

    /// Uses what the server of this session has named, unless `config` has servers of its own. `server_is_local`: it is on
    /// this machine, where it may name others.
    pub(crate) fn take(
        &self,
        config: &SessionConfig,
        server_is_local: bool,
        media: &Handle,
        session: &Session,
        resource: &Resource,
    ) {
        let servers = usable(resource.ice_servers());
        if config.reach.is_some() || servers.is_empty() {
            return;
        }
        let known = self.lock().as_ref().filter(|(known, _)| *known == servers).map(|(_, reach)| reach.clone());
        let reach = match known.map_or_else(|| open(config, &servers, server_is_local), Ok) {
            Ok(reach) => reach,
            Err(why) => return debug!("the ICE servers that the server names are not used: {why}"),
        };
        *self.lock() = Some((servers, reach.clone()));
        let (session, resource) = (session.clone(), resource.clone());
        media.spawn(async move {
            reach.gathered().await;
            session.reach_by(reach).await;
            ask(Request::Trickle, session, resource).await;
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Vec<IceServer>, Arc<Reach>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that can be used: one for STUN, and not too many that relay.
fn usable(servers: &[IceServer]) -> Vec<IceServer> {
    let (mut stun, mut relays) = (0, 0);
    let mut is_usable = |server: &&IceServer| {
        let config = match reach::config(std::slice::from_ref(*server), false, IceTransportPolicy::All) {
            Ok(config) => config,
            Err(why) => {
                debug!("an ICE server that the server names is of no use: {why}");
                return false;
            }
        };
        let (count, most) = if config.stun.is_some() { (&mut stun, 1) } else { (&mut relays, MOST_RELAYS) };
        *count += 1;
        *count <= most
    };
    servers.iter().filter(|server| is_usable(server)).cloned().collect()
}

fn open(config: &SessionConfig, servers: &[IceServer], is_local: bool) -> Result<Arc<Reach>, String> {
    let wanted = reach::config(servers, false, IceTransportPolicy::All)?;
    let wanted = ReachConfig { named_by: NamedBy::Server { is_local }, ..wanted };
    // Whoever is to hear of a server that does not work has not named it: it is in the log.
    reach::open_telling(&config.mux, wanted, |_| ())?.ok_or_else(|| "there are none".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_server_names_so_much_is_used_as_is_of_use() {
        let server = |text: String| IceServer::parse(&text).unwrap();
        let turn = |number: usize| server(format!("turn://me:secret@turn{number}.example.net?transport=udp"));
        let dtls = server("turns://me:secret@turn.example.net?transport=udp".into());
        let stun = |number: usize| server(format!("stun://stun{number}.example.net"));
        let mut named = vec![dtls, stun(1), stun(2)];
        named.extend((0..5).map(turn));
        assert_eq!(usable(&named), [stun(1), turn(0), turn(1), turn(2)]);
    }
}
