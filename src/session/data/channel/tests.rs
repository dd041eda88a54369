//! Tests of a channel's end.

use std::time::Duration;

use super::*;
use crate::session::data::DataMessage;

struct Unheard;

#[async_trait::async_trait]
impl DataSink for Unheard {
    fn opened(&self, _: &DataChannel) {}
    async fn message(&self, _: &DataChannel, _: DataMessage) {}
    fn closed(&self, _: &DataChannel, _: ChannelEnd) {}
}

fn channel() -> (DataChannel, Work) {
    let (session, sink) = (Arc::<Counts>::default(), Arc::new(Unheard));
    DataChannel::new(1, "label".into(), DataOptions::default(), 65_536, session, sink)
}

/// What is put into the queue between the last look at it and its end was counted by nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_as_a_channel_ends_is_counted_as_dropped() {
    for round in 0..2000 {
        let (channel, work) = channel();
        let sender = channel.clone();
        let sending = std::thread::spawn(move || {
            let mut tried = 0;
            loop {
                tried += 1;
                if sender.try_send("message") == Err(DataError::Closed) {
                    return tried;
                }
            }
        });
        work.end(ChannelEnd::ByPeer).await;
        let tried = sending.join().unwrap();
        assert_eq!(channel.stats().dropped, tried, "round {round}");
    }
}

/// The same for who waits until the peer has what was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_flushes_as_a_channel_ends_is_not_left_waiting() {
    for round in 0..20_000 {
        let (channel, work) = channel();
        channel.try_send("message").unwrap(); // so that there is something to wait for
        let flushing = tokio::spawn(async move {
            if let Some(flushed) = channel.flushed() {
                let _ = flushed.await; // only that it ends counts
            }
        });
        work.end(ChannelEnd::ByPeer).await;
        let ended = tokio::time::timeout(Duration::from_secs(10), flushing).await;
        assert!(ended.is_ok(), "no end in round {round}");
    }
}
