//! How many viewers this process serves. From a crowd on, waking each one's connection is what most of the work is, and sound
//! is most of the wakings: its packets wait for those of the next picture then, or for the next sound.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// So many are a crowd. Fewer are woken for each packet: they cost a tenth of a core at most.
const CROWD: usize = 32;

static VIEWERS: AtomicUsize = AtomicUsize::new(0);

/// One viewer, as long as it is there.
pub(super) struct Counted(());

impl Counted {
    pub(super) fn new() -> Self {
        VIEWERS.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        VIEWERS.fetch_sub(1, Relaxed);
    }
}

/// Whether there is a crowd.
pub(super) fn is_crowd() -> bool {
    VIEWERS.load(Relaxed) >= CROWD
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use tokio::{runtime::Handle, task::yield_now};

    use super::{super::*, *};
    use crate::codec::Codec;

    fn track(index: usize, codec: Codec) -> Track {
        Track {
            index,
            mid: None,
            codec,
            payload_type: 96,
            channels: 0,
            fmtp: String::new(),
            rtx: None,
            red: None,
            ssrcs: Vec::new(),
            feedback: Vec::new(),
        }
    }

    fn packet() -> RtpPacket {
        RtpPacket {
            dependencies: None,
            marker: true,
            payload_type: 96,
            sequence_number: 1,
            timestamp: 1,
            ssrc: 1,
            payload: Bytes::from_static(&[1]),
            arrival: Instant::now(),
        }
    }

    /// How many events wait, after the source's task could have taken them.
    async fn waiting(source: &Source) -> usize {
        for _ in 0..4 {
            yield_now().await;
        }
        lock(&source.inner.queue).len()
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_crowd_sound_goes_out_with_a_picture_with_the_next_sound_or_by_itself_in_the_end() {
        const SOUND: usize = 1;
        let source = Source::new(&Handle::current());
        let publication = source.publish(&[track(0, Codec::Vp8), track(SOUND, Codec::Opus)], None);
        let alone = Source::new(&Handle::current());
        let radio = alone.publish(&[track(0, Codec::Opus)], None);
        assert_eq!(waiting(&source).await, 0);

        publication.rtp(SOUND, packet());
        assert_eq!(waiting(&source).await, 0, "few are served at once");

        let _crowd: Vec<Counted> = (0..CROWD).map(|_| Counted::new()).collect();
        publication.rtp(0, packet());
        assert_eq!(waiting(&source).await, 0, "pictures are");
        publication.rtp(SOUND, packet());
        assert_eq!(waiting(&source).await, 1);
        publication.rtp(0, packet());
        assert_eq!(waiting(&source).await, 0, "with a picture");
        publication.rtp(SOUND, packet());
        assert_eq!(waiting(&source).await, 1);
        publication.rtp(SOUND, packet());
        assert_eq!(waiting(&source).await, 0, "with the next sound");
        publication.rtp(SOUND, packet());
        tokio::time::sleep(SOUND_WAITS + Duration::from_millis(1)).await;
        assert_eq!(waiting(&source).await, 0, "by itself");
        radio.rtp(0, packet());
        assert_eq!(waiting(&alone).await, 0, "without pictures there is nothing to wait for");
    }
}
