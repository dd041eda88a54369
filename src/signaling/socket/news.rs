//! What the registry tells, passed on to whom it concerns: counts to those in a channel, lists to those who follow them.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until},
};

use super::{Shared, member::STOPPED, protocol::ChannelEntry};
use crate::channel::{Change, ChannelId};

/// Lists go out no more often: with a hundred channels each has some 20 KiB.
const LIST_INTERVAL: Duration = Duration::from_millis(250);

/// Passes news on until the server or its registry goes.
pub(super) async fn pass_on(shared: Weak<Shared>, mut changes: Receiver<Change>) {
    let mut next_list = Instant::now();
    let mut list_is_due = false;
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
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
            Ok(Change::Changed(id)) => tell_viewers(&shared, &id).await,
            Ok(Change::Gone(id)) => shared.hub().close_room(&id, STOPPED),
            Err(RecvError::Lagged(_)) => catch_up(&shared).await,
            Err(RecvError::Closed) => return,
        }
    }
}

async fn tell_list(shared: &Arc<Shared>) {
    if shared.hub().has_followers() {
        let channels = shared.registry.list().await.into_iter().map(ChannelEntry::from).collect();
        shared.hub().tell_list(channels);
    }
}

async fn tell_viewers(shared: &Arc<Shared>, id: &ChannelId) {
    if let Some(info) = shared.registry.get(id).await {
        shared.hub().tell_viewers(id, info.viewers);
    }
}

/// Some news has been missed: whatever is so now.
async fn catch_up(shared: &Arc<Shared>) {
    let channels = shared.registry.list().await;
    let there: HashSet<_> = channels.iter().map(|info| &info.id).collect();
    let mut hub = shared.hub();
    for gone in hub.rooms().into_iter().filter(|room| !there.contains(room)) {
        hub.close_room(&gone, STOPPED);
    }
    for info in &channels {
        hub.tell_viewers(&info.id, info.viewers);
    }
}
