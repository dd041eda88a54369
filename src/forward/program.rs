//! What is on at a source, for those who choose what to watch.

/// What is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Somebody publishes.
    pub is_live: bool,
    /// The layers of the video, the smallest first.
    pub layers: Vec<VideoLayer>,
}

/// One of the video's layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VideoLayer {
    /// Its place, from the smallest on.
    pub index: usize,
    /// Of its pictures, if they have told.
    pub size: Option<(u16, u16)>,
    /// Bits per second.
    pub bitrate: u64,
}

impl Program {
    /// Whether another is worth telling: bitrates vary all the time.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let same = |(a, b): (&VideoLayer, &VideoLayer)| {
            (a.index, a.size) == (b.index, b.size) && a.bitrate.abs_diff(b.bitrate) <= a.bitrate / 4
        };
        self.is_live != other.is_live
            || self.layers.len() != other.layers.len()
            || !self.layers.iter().zip(&other.layers).all(same)
    }
}
