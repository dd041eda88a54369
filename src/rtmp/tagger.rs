//! Units become the FLV tags of one connection: metadata, sequence headers where they are due, then the data. Pure.

use std::sync::Arc;

use bytes::Bytes;

use super::{Format, Track, Unit};
use crate::flv::{self, Metadata};

/// Named in onMetaData.
const ENCODER: &str = concat!("gst-plugin-webrtcbridge ", env!("CARGO_PKG_VERSION"));
const NS_PER_MS: i64 = 1_000_000;

/// What has been sent on one connection.
#[derive(Debug, Default)]
pub struct Tagger {
    metadata: Metadata,
    metadata_sent: bool,
    video: Option<Arc<Format>>,
    audio: Option<Arc<Format>>,
}

impl Tagger {
    /// Takes note of a format before its first unit, so that the metadata can tell both tracks from the start.
    pub fn announce(&mut self, format: &Format) {
        let before = self.metadata.clone();
        match format {
            Format::Video(_, info) => self.metadata.video = Some(info.clone()),
            Format::Audio(_, info) => self.metadata.audio = Some(info.clone()),
        }
        self.metadata_sent &= before == self.metadata;
    }

    /// The tags for a unit; `base` is the running time at which this connection began.
    pub fn tags(&mut self, unit: &Unit, base: i64) -> Vec<Bytes> {
        let dts_ms = (unit.dts - base).max(0) / NS_PER_MS;
        let pts_ms = (unit.pts - base).max(0) / NS_PER_MS;
        // Wraps after 49.7 days, as RTMP's clock does.
        let timestamp = dts_ms as u32;
        let mut tags = Vec::new();

        let sent = match unit.track() {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        if sent.as_ref() != Some(&unit.format) {
            *sent = Some(unit.format.clone());
            self.announce(&unit.format);
            if !self.metadata_sent {
                self.metadata_sent = true;
                tags.extend(self.metadata.tag(timestamp, ENCODER));
            }
            tags.extend(match &*unit.format {
                Format::Video(configuration, info) => flv::video_sequence_header(info.codec, timestamp, configuration),
                Format::Audio(configuration, info) => flv::audio_sequence_header(info.codec, timestamp, configuration),
            });
        }
        tags.extend(match &*unit.format {
            Format::Video(_, info) => {
                let composition = i32::try_from(pts_ms - dts_ms).unwrap_or_default();
                flv::video_access_unit(info.codec, timestamp, composition, unit.keyframe, &unit.data)
            }
            Format::Audio(_, info) => flv::audio_frame(info.codec, timestamp, &unit.data),
        });
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flv::{AudioInfo, VideoInfo};

    fn video(configuration: &'static [u8], dts_ms: i64, pts_ms: i64) -> Unit {
        let format = Arc::new(Format::Video(Bytes::from_static(configuration), VideoInfo::default()));
        let (dts, pts) = (dts_ms * NS_PER_MS, pts_ms * NS_PER_MS);
        Unit { format, dts, pts, keyframe: true, data: Bytes::from_static(&[9]) }
    }

    fn audio(dts_ms: i64) -> Unit {
        let format = Arc::new(Format::Audio(Bytes::from_static(&[0x11]), AudioInfo::default()));
        let dts = dts_ms * NS_PER_MS;
        Unit { format, dts, pts: dts, keyframe: true, data: Bytes::from_static(&[9]) }
    }

    /// Tag type, and packet type for audio and video.
    fn kinds(tags: &[Bytes]) -> Vec<(u8, u8)> {
        tags.iter().map(|tag| (tag[0], if tag[0] == 18 { 0 } else { tag[12] })).collect()
    }

    #[test]
    fn headers_come_once_and_before_the_data() {
        let mut tagger = Tagger::default();
        assert_eq!(kinds(&tagger.tags(&video(&[1], 50, 50), 50 * NS_PER_MS)), [(18, 0), (9, 0), (9, 1)]);
        assert_eq!(kinds(&tagger.tags(&video(&[1], 83, 83), 50 * NS_PER_MS)), [(9, 1)]);
        // Audio that was not announced: its header comes first, with new metadata.
        assert_eq!(kinds(&tagger.tags(&audio(90), 50 * NS_PER_MS)), [(18, 0), (8, 0), (8, 1)]);
    }

    #[test]
    fn announced_audio_is_in_the_first_metadata() {
        let mut tagger = Tagger::default();
        tagger.announce(&audio(0).format);
        assert_eq!(kinds(&tagger.tags(&video(&[1], 0, 0), 0)), [(18, 0), (9, 0), (9, 1)]);
        assert_eq!(kinds(&tagger.tags(&audio(10), 0)), [(8, 0), (8, 1)]);
    }

    #[test]
    fn new_configuration_makes_a_new_sequence_header() {
        let mut tagger = Tagger::default();
        tagger.tags(&video(&[1], 0, 0), 0);
        assert_eq!(kinds(&tagger.tags(&video(&[2], 33, 33), 0)), [(9, 0), (9, 1)]);
    }

    #[test]
    fn timestamps_count_from_the_base() {
        let tags = Tagger::default().tags(&video(&[1], 3_600_033, 3_600_100), 3_600_000 * NS_PER_MS);
        let data = &tags[2];
        assert_eq!(data[4..8], [0, 0, 33, 0]);
        assert_eq!(data[13..16], [0, 0, 67]);
    }
}
