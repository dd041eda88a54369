//! Units become the FLV tags of one connection: metadata, sequence headers where they are due, then the data. Pure.

use std::sync::Arc;

use super::{Format, Track, Unit};
use crate::flv::{self, Metadata, SharedTag};

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

    /// A track has left: the metadata is told anew without it, and its headers when it comes back.
    pub fn forget(&mut self, track: Track) {
        match track {
            Track::Video => (self.video, self.metadata.video) = (None, None),
            Track::Audio => (self.audio, self.metadata.audio) = (None, None),
        }
        self.metadata_sent = false;
    }

    /// The tags for a unit, whose data they share; `base` is the running time at which this connection began.
    pub fn tags(&mut self, unit: &Unit, base: i64) -> Vec<SharedTag> {
        let dts_ms = (unit.dts - base).max(0) / NS_PER_MS;
        let pts_ms = (unit.pts - base).max(0) / NS_PER_MS;
        // Wraps after 49.7 days, as RTMP's clock does.
        let timestamp = dts_ms as u32;
        let mut tags = Vec::new();

        let sent = match unit.track() {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        let is_new = sent.as_ref() != Some(&unit.format);
        if is_new {
            *sent = Some(unit.format.clone());
            self.announce(&unit.format);
        }
        if !std::mem::replace(&mut self.metadata_sent, true) {
            tags.extend(self.metadata.tag(timestamp, ENCODER).map(SharedTag::from));
        }
        if is_new {
            let header = match &*unit.format {
                Format::Video(configuration, info) => flv::video_sequence_header(info.codec, timestamp, configuration),
                Format::Audio(configuration, info) => flv::audio_sequence_header(info.codec, timestamp, configuration),
            };
            tags.extend(header.map(SharedTag::from));
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
    use bytes::Bytes;
    use proptest::prelude::*;

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
    fn kinds(tags: &[SharedTag]) -> Vec<(u8, u8)> {
        tags.iter().map(|tag| (tag.head[0], if tag.head[0] == 18 { 0 } else { tag.head[12] })).collect()
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
    fn destinations_share_the_data_and_not_the_time() {
        let unit = video(&[1], 5000, 5000);
        let (early, late) = (Tagger::default().tags(&unit, 0), Tagger::default().tags(&unit, 5000 * NS_PER_MS));
        assert!(early[2].data.as_ptr() == late[2].data.as_ptr() && early[2].head != late[2].head);
    }

    #[test]
    fn track_that_left_is_in_no_metadata_and_comes_back_with_its_headers() {
        let names_audio = |tag: &SharedTag| String::from_utf8_lossy(&tag.head).contains("audiocodecid");
        let mut tagger = Tagger::default();
        tagger.announce(&audio(0).format);
        assert!(names_audio(&tagger.tags(&video(&[1], 0, 0), 0)[0]));
        tagger.tags(&audio(10), 0);
        tagger.forget(Track::Audio);
        let tags = tagger.tags(&video(&[1], 33, 33), 0);
        assert_eq!(kinds(&tags), [(18, 0), (9, 1)]);
        assert!(!names_audio(&tags[0]));
        assert_eq!(kinds(&tagger.tags(&audio(40), 0)), [(18, 0), (8, 0), (8, 1)]);
    }

    #[test]
    fn time_goes_on_beyond_thirty_two_bits_by_wrapping() {
        let wrap = 1i64 << 32;
        let timestamp = |at_ms: i64| {
            let tags = Tagger::default().tags(&video(&[1], at_ms, at_ms), 0);
            let tag = &tags[2].head;
            u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]])
        };
        assert_eq!([wrap - 1, wrap, wrap + 33].map(timestamp), [u32::MAX, 0, 33]);
    }

    #[test]
    fn timestamps_count_from_the_base() {
        let tags = Tagger::default().tags(&video(&[1], 3_600_033, 3_600_100), 3_600_000 * NS_PER_MS);
        let data = &tags[2].head;
        assert_eq!(data[4..8], [0, 0, 33, 0]);
        assert_eq!(data[13..16], [0, 0, 67]);
    }

    /// The time of a tag and, of video, how much later it is shown.
    fn times(tag: &SharedTag) -> (u32, i32) {
        let head = &tag.head;
        let composition = i32::from_be_bytes([0, head[13], head[14], head[15]]) << 8 >> 8;
        (u32::from_be_bytes([head[7], head[4], head[5], head[6]]), composition)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Up to four months: the clock of RTMP goes round after 49.7 days.
        #[test]
        fn times_go_round_as_rtmp_does_and_only_what_lies_between_them_counts(
            base_ms in 0..10_000_000_000_i64,
            since_ms in 0..10_000_000_000_i64,
            shown_later_ms in 0..8_000_i64,
            within_ns in 0..NS_PER_MS,
        ) {
            let mut tagger = Tagger::default();
            let mut unit = video(&[1], base_ms + since_ms, base_ms + since_ms + shown_later_ms);
            (unit.dts, unit.pts) = (unit.dts + within_ns, unit.pts + within_ns);
            let tags = tagger.tags(&unit, base_ms * NS_PER_MS);
            let expected = (since_ms as u64 % (1 << 32)) as u32;
            for tag in &tags {
                prop_assert_eq!(times(tag).0, expected);
            }
            prop_assert_eq!(times(&tags[2]).1, shown_later_ms as i32);
        }

        #[test]
        fn nothing_is_before_the_beginning(base_ms in 0..1_000_000_i64, early_ms in 0..1_000_000_i64) {
            let tags = Tagger::default().tags(&video(&[1], base_ms - early_ms, base_ms - early_ms), base_ms * NS_PER_MS);
            prop_assert!(tags.iter().all(|tag| times(tag).0 == 0));
        }
    }
}
