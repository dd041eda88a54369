//! What the registry tells, passed on to whom it concerns: counts to those in a channel, lists to those who follow them.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{
        Notify,
        broadcast::{Receiver, error::RecvError},
    },
    time::{Instant, sleep_until},
};

use super::{Shared, hub::Watched, member::STOPPED, protocol::ChannelEntry};
use crate::channel::{Change, ChannelId, ChannelInfo};

/// Lists go out no more often: with a hundred channels each has some 20 KiB.
const LIST_INTERVAL: Duration = Duration::from_millis(250);

/// Passes news on until the server or its registry goes.
pub(super) async fn pass_on(shared: Weak<Shared>, relist: Arc<Notify>, mut changes: Receiver<Change>) {
    let mut next_list = Instant::now();
    let mut list_is_due = false;
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            () = relist.notified() => {
                list_is_due = true;
                continue;
            }
            () = sleep_until(next_list), if list_is_due => {
                let Some(shared) = shared.upgrade() else { return };
                tell_list(&shared).await;
                (list_is_due, next_list) = (false, Instant::now() + LIST_INTERVAL);
                continue;
            }
        };
        let Some(shared) = shared.upgrade() else { return };
        list_is_due = true;
        match change {
            Ok(Change::Changed(id)) => settle(&shared, &id).await,
            Ok(Change::Gone(id)) => {
                shared.limits.unused.remove(&id);
                shared.hub().close_room(&id, STOPPED);
            }
            Err(RecvError::Lagged(_)) => catch_up(&shared).await,
            Err(RecvError::Closed) => return,
        }
    }
}

async fn tell_list(shared: &Arc<Shared>) {
    if shared.hub().has_followers() {
        let channels = list(shared).await;
        shared.hub().tell_list(channels);
    }
}

/// All channels as they are told to clients.
pub(super) async fn list(shared: &Shared) -> Vec<ChannelEntry> {
    let channels = shared.registry.list().await;
    let hub = shared.hub();
    let entry = |info: ChannelInfo| {
        let is_hosted = hub.is_hosted(&info.id);
        let ChannelInfo { id, title, category, is_live, is_private, viewers, .. } = info;
        let live = (is_live && !is_private) || is_hosted;
        ChannelEntry { id: id.to_string(), title, category, live, viewers }
    };
    channels.into_iter().map(entry).collect()
}

/// Tells those in a channel how many watch, and its viewers when the broadcast is over.
pub(super) async fn settle(shared: &Shared, id: &ChannelId) {
    let _one_after_the_other = shared.settling.lock().await;
    if let Some(info) = shared.registry.get(id).await {
        // What came into being by being joined needs no place when nobody is in it any more.
        if info.is_live || (!info.has_key && !shared.hub().is_entered(id)) {
            shared.limits.unused.remove(id);
        }
        shared.hub().settle(id, Watched { viewers: info.viewers, is_live: info.is_live });
    }
}

/// Some news has been missed: whatever is so now.
async fn catch_up(shared: &Arc<Shared>) {
    let _one_after_the_other = shared.settling.lock().await;
    let channels = shared.registry.list().await;
    let there: HashSet<_> = channels.iter().map(|info| &info.id).collect();
    let idle: HashSet<_> = channels.iter().filter(|info| !info.is_live).map(|info| &info.id).collect();
    shared.limits.unused.retain(|id| idle.contains(id));
    let mut hub = shared.hub();
    for gone in hub.rooms().into_iter().filter(|room| !there.contains(room)) {
        hub.close_room(&gone, STOPPED);
    }
    for info in &channels {
        hub.settle(&info.id, Watched { viewers: info.viewers, is_live: info.is_live });
    }
}
