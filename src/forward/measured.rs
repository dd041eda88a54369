//! What `benches/hot_paths` measures of forwarding: a publisher's packet on its way to one viewer, without a network. No other use.

use super::{rewrite::Rewrite, streams::Streams, thin::Verdict};
use crate::{codec::Codec, session::RtpPacket};

/// One stream to one viewer.
#[derive(Debug)]
pub struct OneViewer {
    streams: Streams,
    rewrite: Rewrite,
    streams_seen: u64,
}

impl OneViewer {
    /// A stream of this codec.
    pub fn new(codec: Codec) -> Self {
        Self { streams: Streams::new(codec), rewrite: Rewrite::new(codec), streams_seen: 0 }
    }

    /// The number under which a packet goes out.
    pub fn forward(&mut self, packet: RtpPacket) -> Option<u64> {
        let packet = self.streams.take(packet, &mut self.streams_seen, |_| 0)?;
        if self.rewrite.stream().is_none() {
            self.rewrite.begin(&packet, false);
        }
        self.rewrite.rewrite(&packet, Verdict { keeps: true, ends: false }).map(|rewritten| rewritten.number)
    }
}
