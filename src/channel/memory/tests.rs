//! The registry as its users see it, on a clock that stands still unless a test moves it.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use proptest::prelude::*;
use tokio::{task::JoinSet, time::advance};

use super::*;
use crate::channel::{Credential, SILENCE};

const TTL: Duration = Duration::from_secs(60);

fn registry(max_channels: usize) -> Arc<MemoryRegistry> {
    Arc::new(MemoryRegistry::new(ChannelLimits { max_channels, ttl: TTL }, &Handle::current()))
}

fn id(name: &str) -> ChannelId {
    name.parse().unwrap()
}

/// Of a publisher who never sends anything.
fn claim(credential: Credential) -> Claim {
    Claim { credential, last_media: Arc::new(|| None), is_private: false }
}

/// Of a publisher who sends without a pause.
fn sending(credential: Credential) -> Claim {
    Claim { credential, last_media: Arc::new(|| Some(TokioInstant::now().into_std())), is_private: false }
}

fn stranger() -> Claim {
    sending(Credential::Anonymous)
}

#[tokio::test(start_paused = true)]
async fn a_created_channel_is_listed_and_its_key_fits_alone() {
    let registry = registry(10);
    let about = NewChannel { title: Some("Talk".into()), category: Some("tech".into()), metadata: Some("{}".into()) };
    let made = registry.create(about).await.unwrap();
    let other = registry.create(NewChannel::default()).await.unwrap();
    assert!(made.key.len() >= 22, "128 bits");
    assert_ne!(made.key, other.key);
    let listed: Vec<_> = registry.list().await.into_iter().map(|info| info.id).collect();
    assert_eq!(listed, [made.id.clone(), other.id.clone()], "in order of creation");
    let info = registry.get(&made.id).await.unwrap();
    assert_eq!((info.title.as_deref(), info.category.as_deref(), info.is_live), (Some("Talk"), Some("tech"), false));
    assert_eq!(registry.key_fits(&made.id, Some(&made.key)).await, KeyFit::Right);
    for wrong in [None, Some(""), Some(other.key.as_str())] {
        assert_eq!(registry.key_fits(&made.id, wrong).await, KeyFit::Wrong);
    }
    assert_eq!(registry.key_fits(&id("nowhere"), Some(&made.key)).await, KeyFit::NoKey);
    assert!(!format!("{made:?}").contains(&made.key));
}

#[tokio::test(start_paused = true)]
async fn publishing_makes_a_channel_without_a_key_that_is_live_until_the_lease_goes() {
    let registry = registry(10);
    let lease = registry.publish(&id("a"), stranger()).await.unwrap();
    let info = registry.get(&id("a")).await.unwrap();
    assert!(info.is_live && !info.has_key);
    drop(lease);
    assert!(!registry.get(&id("a")).await.unwrap().is_live);
}

#[tokio::test(start_paused = true)]
async fn a_live_publisher_keeps_its_place_and_a_silent_one_loses_it_after_2_s() {
    let registry = registry(10);
    let _live = registry.publish(&id("live"), stranger()).await.unwrap();
    let mut silent = registry.publish(&id("silent"), claim(Credential::Anonymous)).await.unwrap();
    advance(SILENCE - Duration::from_millis(1)).await;
    assert_eq!(registry.publish(&id("silent"), stranger()).await.unwrap_err(), PublishError::Live);
    advance(Duration::from_millis(1)).await;
    assert_eq!(registry.publish(&id("live"), stranger()).await.unwrap_err(), PublishError::Live);
    let leaves = tokio::spawn(async move {
        assert_eq!(silent.displaced().await, Displaced::Replaced);
    });
    let _new = registry.publish(&id("silent"), stranger()).await.unwrap();
    leaves.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_same_credential_takes_over_at_once_and_waits_for_the_old_one_to_go() {
    let registry = registry(10);
    let key = Credential::of("key");
    let mut old = registry.publish(&id("a"), sending(key)).await.unwrap();
    assert_eq!(registry.publish(&id("a"), sending(Credential::of("other"))).await.unwrap_err(), PublishError::Live);
    let new = tokio::spawn({
        let registry = registry.clone();
        async move { registry.publish(&id("a"), sending(key)).await }
    });
    assert_eq!(old.displaced().await, Displaced::Replaced);
    tokio::task::yield_now().await;
    assert!(!new.is_finished(), "the old one has not gone");
    let before = TokioInstant::now();
    drop(old);
    let _lease = new.await.unwrap().unwrap();
    assert_eq!(TokioInstant::now(), before, "at once");
    assert!(registry.get(&id("a")).await.unwrap().is_live, "the old lease took only itself away");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_go_holds_the_next_up_for_2_s_at_most() {
    let registry = registry(10);
    let key = Credential::of("key");
    let _stuck = registry.publish(&id("a"), sending(key)).await.unwrap();
    let before = TokioInstant::now();
    let _new = registry.publish(&id("a"), sending(key)).await.unwrap();
    assert_eq!(TokioInstant::now() - before, LEAVING);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_given_up_while_it_waits_leaves_the_channel_free() {
    let registry = registry(10);
    let key = Credential::of("key");
    let old = registry.publish(&id("a"), sending(key)).await.unwrap();
    let waiting = tokio::time::timeout(LEAVING / 2, registry.publish(&id("a"), sending(key))).await;
    assert!(waiting.is_err(), "it waits for the old one");
    assert!(!registry.get(&id("a")).await.unwrap().is_live);
    drop(old);
    let _third = registry.publish(&id("a"), stranger()).await.unwrap();
}

/// Interleavings: many claimants of one channel, some with the same credential, each going when it is told to or when it
/// has had enough; the winners' spans of time may never overlap.
#[tokio::test(start_paused = true)]
async fn at_no_time_does_a_channel_have_two_publishers() {
    for seed in 0..40_u64 {
        let registry = registry(10);
        let (on_air, wins) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = JoinSet::new();
        for number in 0..12_u64 {
            let (registry, on_air, wins) = (registry.clone(), on_air.clone(), wins.clone());
            let mut dice = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD134_2543_DE82_EF95);
            let mut roll = move |sides: u64| {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                dice % sides
            };
            let credential = [Credential::of("a"), Credential::of("b"), Credential::Anonymous][number as usize % 3];
            all.spawn(async move {
                for _ in 0..5 {
                    tokio::time::sleep(Duration::from_millis(roll(400))).await;
                    let claim = if roll(2) == 0 { sending(credential) } else { claim(credential) };
                    let Ok(mut lease) = registry.publish(&id("a"), claim).await else { continue };
                    assert_eq!(on_air.fetch_add(1, SeqCst), 0, "seed {seed}: two on air");
                    wins.fetch_add(1, SeqCst);
                    let enough = tokio::time::sleep(Duration::from_millis(roll(5000)));
                    tokio::select! { _ = lease.displaced() => (), () = enough => () }
                    on_air.fetch_sub(1, SeqCst);
                    drop(lease);
                }
            });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
        assert!(wins.load(SeqCst) > 0);
        assert!(!registry.get(&id("a")).await.unwrap().is_live, "every lease was given back");
        assert_eq!(registry.list().await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_that_want_a_silent_ones_place_at_once_exactly_one_gets_it() {
    let registry = registry(10);
    let mut silent = registry.publish(&id("a"), claim(Credential::Anonymous)).await.unwrap();
    tokio::spawn(async move { silent.displaced().await });
    advance(SILENCE).await;
    let mut wanting = JoinSet::new();
    for _ in 0..8 {
        let registry = registry.clone();
        wanting.spawn(async move { registry.publish(&id("a"), stranger()).await });
    }
    let results = wanting.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_tells_the_publisher_and_frees_the_id() {
    let registry = registry(10);
    assert!(!registry.stop(&id("a")).await);
    let made = registry.create(NewChannel::default()).await.unwrap();
    let mut lease = registry.publish(&made.id, stranger()).await.unwrap();
    let told = tokio::spawn(async move { lease.displaced().await });
    assert!(registry.stop(&made.id).await);
    assert_eq!(told.await.unwrap(), Displaced::Stopped);
    assert!(registry.get(&made.id).await.is_none());
    assert_eq!(registry.key_fits(&made.id, Some(&made.key)).await, KeyFit::NoKey);
    let _again = registry.publish(&made.id, stranger()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stopped_channels_next_publisher_waits_for_the_last_one() {
    let registry = registry(10);
    let a = id("a");
    let last = registry.publish(&a, stranger()).await.unwrap();
    tokio::join!(registry.stop(&a), async {
        let next = registry.publish(&a, stranger());
        tokio::pin!(next);
        assert!(tokio::time::timeout(LEAVING / 2, &mut next).await.is_err());
        drop(last);
        next.await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_publisher_and_activity_is_gone_after_its_ttl_and_that_is_told() {
    let registry = registry(10);
    let mut changes = registry.changes();
    let made = registry.create(NewChannel::default()).await.unwrap().id;
    assert_eq!(changes.recv().await, Ok(Change::Changed(made.clone())));
    advance(TTL - Duration::from_secs(1)).await;
    registry.touch(&made).await;
    advance(TTL - Duration::from_secs(1)).await;
    assert!(registry.get(&made).await.is_some(), "touched");
    let before = TokioInstant::now();
    // Nobody asks anything: the sweeper alone tells it.
    assert_eq!(changes.recv().await, Ok(Change::Gone(made.clone())));
    assert!(TokioInstant::now() - before <= Duration::from_secs(1));
    assert!(registry.get(&made).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_published_channel_does_not_expire_until_a_ttl_after_its_publisher() {
    let registry = registry(10);
    let lease = registry.publish(&id("a"), stranger()).await.unwrap();
    advance(TTL * 10).await;
    drop(lease);
    advance(TTL - Duration::from_millis(1)).await;
    assert!(registry.get(&id("a")).await.is_some());
    advance(Duration::from_millis(1)).await;
    assert!(registry.get(&id("a")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn there_are_at_most_so_many_channels_but_abandoned_names_make_room() {
    let registry = registry(2);
    let kept = registry.create(NewChannel::default()).await.unwrap();
    let live = registry.publish(&id("a"), stranger()).await.unwrap();
    assert_eq!(registry.create(NewChannel::default()).await.unwrap_err(), CreateError::Full(2));
    let full = registry.publish(&id("b"), stranger()).await.unwrap_err();
    assert_eq!(full, PublishError::Full(CreateError::Full(2)));
    drop(live);
    let inside = registry.enter(&id("a"), Visitor::Member).await.unwrap();
    assert!(registry.publish(&id("b"), stranger()).await.is_err(), "somebody is in it");
    drop(inside);
    let _b = registry.publish(&id("b"), stranger()).await.unwrap();
    let left: HashSet<_> = registry.list().await.into_iter().map(|info| info.id).collect();
    assert_eq!(left, HashSet::from([kept.id, id("b")]));
}

#[tokio::test(start_paused = true)]
async fn viewers_are_counted_while_they_are_there() {
    let registry = registry(10);
    let nowhere = registry.enter(&id("a"), Visitor::Viewer).await.unwrap_err();
    assert_eq!(nowhere, EnterError::NoChannel(id("a")));
    let _member = registry.enter(&id("a"), Visitor::Member).await.unwrap();
    let mut changes = registry.changes();
    let one = registry.enter(&id("a"), Visitor::Viewer).await.unwrap();
    let two = registry.enter(&id("a"), Visitor::Viewer).await.unwrap();
    assert_eq!(registry.get(&id("a")).await.unwrap().viewers, 2, "members are none");
    assert_eq!(changes.try_recv(), Ok(Change::Changed(id("a"))));
    drop(one);
    assert_eq!(registry.get(&id("a")).await.unwrap().viewers, 1);
    registry.stop(&id("a")).await;
    let _other = registry.enter(&id("a"), Visitor::Member).await.unwrap();
    drop(two);
    assert_eq!(registry.get(&id("a")).await.unwrap().viewers, 0, "the old channel's viewer is none of the new one's");
}

#[tokio::test(start_paused = true)]
async fn a_private_channel_is_in_no_list_and_nobody_watches_it() {
    let registry = registry(2);
    let secret = Claim { is_private: true, ..stranger() };
    let lease = registry.publish(&id("a"), secret.clone()).await.unwrap();
    assert!(registry.list().await.is_empty());
    assert!(matches!(registry.enter(&id("a"), Visitor::Viewer).await, Err(EnterError::NoChannel(_))));
    assert!(registry.get(&id("a")).await.unwrap().is_live, "it counts all the same");
    let _open = registry.publish(&id("b"), stranger()).await.unwrap();
    assert!(matches!(registry.publish(&id("c"), stranger()).await, Err(PublishError::Full(_))));
    drop(lease);
    let made = registry.create(NewChannel::default()).await.unwrap();
    let _lease = registry.publish(&made.id, secret).await.unwrap();
    assert_eq!(registry.list().await.len(), 2, "a channel that others know of stays known");
    assert!(registry.stop(&made.id).await);
}

/// What a claim holds may give a lease up in its turn, as a session does that holds its own.
#[tokio::test(start_paused = true)]
async fn a_claim_may_hold_the_last_lease_of_another_channel() {
    let registry = registry(10);
    let other = registry.publish(&id("other"), stranger()).await.unwrap();
    let holds = Arc::new(other);
    let claim = Claim {
        credential: Credential::Anonymous,
        last_media: Arc::new(move || {
            let _ = &holds;
            None
        }),
        is_private: false,
    };
    let lease = registry.publish(&id("a"), claim).await.unwrap();
    drop(lease);
    assert!(!registry.get(&id("other")).await.unwrap().is_live);
}

/// What may happen to a few channels, each by its number.
#[derive(Clone, Debug)]
enum Event {
    Create,
    /// By a publisher with this credential, who sends or does not.
    Publish(usize, u8, bool),
    Enter(usize),
    /// The lease, or the presence, with this number ends, modulo how many there are.
    Leave(usize),
    Touch(usize),
    Stop(usize),
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let channel = || 0..4_usize;
    let event = prop_oneof![
        1 => Just(Event::Create),
        4 => (channel(), 0..3_u8, any::<bool>()).prop_map(|(channel, who, sends)| Event::Publish(channel, who, sends)),
        2 => channel().prop_map(Event::Enter),
        4 => (0..8_usize).prop_map(Event::Leave),
        1 => channel().prop_map(Event::Touch),
        1 => channel().prop_map(Event::Stop),
        3 => (1..90_u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..60)
}

/// A lease and its channel, for as long as its holder has not been told to go.
struct Held {
    channel: ChannelId,
    ends: tokio::task::JoinHandle<()>,
}

impl Held {
    fn new(channel: &ChannelId, mut lease: PublisherLease) -> Self {
        let ends = tokio::spawn(async move {
            lease.displaced().await;
        });
        Self { channel: channel.clone(), ends }
    }
}

async fn live_through(events: Vec<Event>) -> Result<(), TestCaseError> {
    const MOST: usize = 3;
    let registry = registry(MOST);
    let name = |channel: usize| id(&format!("c{channel}"));
    let (mut leases, mut presences): (Vec<Held>, Vec<(ChannelId, Presence)>) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::Create => _ = registry.create(NewChannel::default()).await,
            Event::Publish(channel, who, sends) => {
                let credential = if who == 0 { Credential::Anonymous } else { Credential::of(&who.to_string()) };
                let claim = if sends { sending(credential) } else { claim(credential) };
                if let Ok(lease) = registry.publish(&name(channel), claim).await {
                    leases.push(Held::new(&name(channel), lease));
                }
            }
            Event::Enter(channel) => {
                if let Ok(presence) = registry.enter(&name(channel), Visitor::Viewer).await {
                    presences.push((name(channel), presence));
                }
            }
            Event::Leave(number) => {
                if !leases.is_empty() {
                    let held = leases.remove(number % leases.len());
                    held.ends.abort();
                    let _ = held.ends.await;
                } else if !presences.is_empty() {
                    drop(presences.remove(number % presences.len()));
                }
            }
            Event::Touch(channel) => registry.touch(&name(channel)).await,
            Event::Stop(channel) => _ = registry.stop(&name(channel)).await,
            Event::Wait(seconds) => advance(Duration::from_secs(seconds)).await,
        }
        // Who was told to go goes.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        leases.retain(|held| !held.ends.is_finished());
        let channels = registry.list().await;
        prop_assert!(channels.len() <= MOST, "{} channels", channels.len());
        for held in &leases {
            let of_channel = leases.iter().filter(|other| other.channel == held.channel).count();
            prop_assert_eq!(of_channel, 1, "two publish on {}", &held.channel);
        }
        for info in &channels {
            let is_held = leases.iter().any(|held| held.channel == info.id);
            prop_assert_eq!(info.is_live, is_held, "{:?}", &info.id);
        }
        for held in &leases {
            prop_assert!(channels.iter().any(|info| info.id == held.channel), "{} is held and gone", &held.channel);
        }
    }
    for held in leases {
        held.ends.abort();
        let _ = held.ends.await;
    }
    drop(presences);
    advance(TTL + Duration::from_secs(1)).await;
    prop_assert_eq!(registry.list().await, [], "nobody is there, for as long as that may be");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// One publisher a channel at a time, a live channel for each lease, never too many, and nothing left in the end.
    #[test]
    fn leases_and_channels_agree_whatever_happens(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live_through(events))?;
    }
}
