//! The registry under threads of their own, which the other tests' clock does not allow: publishers displace each other,
//! viewers come and go, and the channel is stopped, all at once.

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Instant,
};

use tokio::task::{JoinSet, yield_now};

use super::*;
use crate::channel::Credential;

const PUBLISHERS: usize = 4;
const ROUNDS: usize = 100;

fn claim() -> Claim {
    Claim { credential: Credential::of("key"), last_media: Arc::new(|| None), is_private: false }
}

/// Publishes again and again, and goes when it likes or when the channel is stopped under it.
async fn publish(registry: Arc<MemoryRegistry>, id: ChannelId, on_air: Arc<AtomicU32>) {
    let mut won = 0;
    while won < ROUNDS {
        let began = Instant::now();
        let Ok(mut lease) = registry.publish(&id, claim()).await else { continue };
        let others = on_air.fetch_add(1, SeqCst);
        assert!(others == 0 || began.elapsed() >= LEAVING, "{others} publish beside this one");
        won += 1;
        if won % 3 == 0 {
            let leaves = async {
                lease.displaced().await;
                on_air.fetch_sub(1, SeqCst);
                drop(lease);
            };
            tokio::join!(leaves, registry.stop(&id));
        } else {
            yield_now().await;
            assert!(registry.list().await.len() <= 1);
            on_air.fetch_sub(1, SeqCst);
            drop(lease);
        }
    }
}

async fn visit(registry: Arc<MemoryRegistry>, id: ChannelId) {
    for round in 0..ROUNDS * 2 {
        let visitor = if round % 2 == 0 { Visitor::Member } else { Visitor::Viewer };
        let presence = registry.enter(&id, visitor).await;
        registry.touch(&id).await;
        yield_now().await;
        drop(presence);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_on_threads_of_their_own_never_share_a_channel_and_leave_nothing_behind() {
    let limits = ChannelLimits { max_channels: 10, ttl: Duration::from_secs(60) };
    let registry = Arc::new(MemoryRegistry::new(limits, &Handle::current()));
    let id: ChannelId = "a".parse().unwrap();
    let mut changes = registry.changes();
    let on_air = Arc::<AtomicU32>::default();
    let mut all = JoinSet::new();
    for _ in 0..PUBLISHERS {
        all.spawn(publish(registry.clone(), id.clone(), on_air.clone()));
    }
    all.spawn(visit(registry.clone(), id.clone()));
    all.join_all().await;

    assert_eq!(on_air.load(SeqCst), 0);
    let left = registry.get(&id).await;
    assert!(left.as_ref().is_none_or(|info| !info.is_live && info.viewers == 0), "{left:?}");
    // Who listens ends with what is there.
    let last = loop {
        match changes.try_recv() {
            Ok(change) => assert!(matches!(&change, Change::Changed(of) | Change::Gone(of) if *of == id)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(last, broadcast::error::TryRecvError::Empty);
    drop(registry.publish(&id, claim()).await.unwrap());
}
