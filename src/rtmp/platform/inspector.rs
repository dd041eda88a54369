//! Watches a stream, measures what no format tells, and tells of each broken rule once.

use std::{collections::HashSet, time::Duration};

use super::{Platform, Rule, Violation};
use crate::{
    flv::{AudioInfo, VideoInfo},
    rtmp::{Format, Track},
};

/// What is measured over such a time is neither one large keyframe nor an encoder that still finds its way.
const WINDOW_NS: i64 = 10_000_000_000;
/// So many windows in a row have too few bits before that is told: publishers begin low, and still scenes need little.
const LOW_WINDOWS: u32 = 3;
/// How long a track may be alone: longer than the other one may take to begin.
const ALONE_NS: i64 = 5_000_000_000;

/// The inspector of one stream.
#[derive(Debug)]
pub struct Inspector {
    platform: &'static Platform,
    /// A track that is missing is made up, which is not seen here.
    made_up: bool,
    told: HashSet<Rule>,
    video: Option<VideoInfo>,
    audio: Option<AudioInfo>,
    last_keyframe: Option<i64>,
    first: Option<i64>,
    window: Option<Window>,
    low_windows: u32,
    frame_rate: Option<f64>,
}

#[derive(Debug)]
struct Window {
    since: i64,
    pictures: u32,
    video_bits: u64,
    audio_bits: u64,
}

impl Inspector {
    /// For one platform's rules. `made_up`: a track that is missing is made up behind us.
    pub fn new(platform: &'static Platform, made_up: bool) -> Self {
        Self {
            platform,
            made_up,
            told: HashSet::new(),
            video: None,
            audio: None,
            last_keyframe: None,
            first: None,
            window: None,
            low_windows: 0,
            frame_rate: None,
        }
    }

    /// The rules in force.
    pub fn platform(&self) -> &'static Platform {
        self.platform
    }

    /// What has not been told of before.
    pub fn fresh(&mut self, violations: impl IntoIterator<Item = Violation>) -> Vec<Violation> {
        violations.into_iter().filter(|violation| self.told.insert(violation.rule)).collect()
    }

    /// Looks at one unit, in the order of decoding within its track: its decoding time in ns, and its size.
    pub fn unit(&mut self, format: &Format, dts: i64, keyframe: bool, bytes: usize) -> Vec<Violation> {
        let mut broken = Vec::new();
        match format {
            Format::Video(_, info) => {
                if self.video.as_ref() != Some(info) {
                    broken.extend(self.platform.check_video(info, self.frame_rate));
                    if self.video.replace(info.clone()).is_some_and(|before| is_other_picture(&before, info)) {
                        broken.extend(self.platform.check_change("the picture size or video codec"));
                    }
                }
                if keyframe && let Some(last) = self.last_keyframe.replace(dts) {
                    broken.extend(self.platform.check_keyframe_interval(nanoseconds(dts - last)));
                }
            }
            Format::Audio(configuration, info) => {
                if self.audio.as_ref() != Some(info) {
                    broken.extend(self.platform.check_audio(info, configuration));
                    if self.audio.replace(info.clone()).is_some_and(|before| is_other_sound(&before, info)) {
                        broken.extend(self.platform.check_change("the audio format"));
                    }
                }
            }
        }
        let track = if matches!(format, Format::Video(..)) { Track::Video } else { Track::Audio };
        broken.extend(self.measure(track, dts, bytes));
        self.fresh(broken)
    }

    fn measure(&mut self, track: Track, dts: i64, bytes: usize) -> Vec<Violation> {
        let mut broken = Vec::new();
        if dts - *self.first.get_or_insert(dts) >= ALONE_NS && !self.made_up {
            broken.extend(self.platform.check_tracks(self.video.is_some(), self.audio.is_some()));
        }
        // Both tracks are a little apart; only a step back in time begins anew.
        let fits = |window: &Window| (-WINDOW_NS..2 * WINDOW_NS).contains(&(dts - window.since));
        let mut window = self.window.take().filter(fits).unwrap_or(Window::new(dts));
        if dts - window.since >= WINDOW_NS {
            broken.extend(self.judge(&window, (dts - window.since) as f64 / 1e9));
            window = Window::new(dts);
        }
        let bits = 8 * bytes as u64;
        match track {
            Track::Video => (window.pictures, window.video_bits) = (window.pictures + 1, window.video_bits + bits),
            Track::Audio => window.audio_bits += bits,
        }
        self.window = Some(window);
        broken
    }

    fn judge(&mut self, window: &Window, seconds: f64) -> Vec<Violation> {
        let mut broken: Vec<_> =
            self.platform.check_audio_bitrate(window.audio_bits as f64 / seconds).into_iter().collect();
        let Some(video) = self.video.as_ref().filter(|_| window.pictures > 0) else { return broken };
        self.frame_rate = Some(f64::from(window.pictures) / seconds);
        broken.extend(self.platform.check_video(video, self.frame_rate));
        let bitrate = self.platform.check_video_bitrate(video, self.frame_rate, window.video_bits as f64 / seconds);
        let low = bitrate.iter().any(|violation| violation.rule == Rule::LowBitrate);
        self.low_windows = if low { self.low_windows + 1 } else { 0 };
        if !low || self.low_windows >= LOW_WINDOWS {
            broken.extend(bitrate);
        }
        broken
    }
}

impl Window {
    fn new(since: i64) -> Self {
        Self { since, pictures: 0, video_bits: 0, audio_bits: 0 }
    }
}

/// Whether a decoder has to begin anew; a frame rate that becomes known is no change.
fn is_other_picture(before: &VideoInfo, now: &VideoInfo) -> bool {
    (before.codec, before.width, before.height) != (now.codec, now.width, now.height)
}

fn is_other_sound(before: &AudioInfo, now: &AudioInfo) -> bool {
    (before.codec, before.sample_rate, before.channels) != (now.codec, now.sample_rate, now.channels)
}

fn nanoseconds(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::rtmp::platform::FACEBOOK;

    const MS: i64 = 1_000_000;

    fn video(width: u32, height: u32) -> Format {
        Format::Video(Bytes::new(), VideoInfo { width, height, ..VideoInfo::default() })
    }

    fn audio() -> Format {
        let info = AudioInfo { sample_rate: 48_000, channels: 2, ..AudioInfo::default() };
        Format::Audio(Bytes::from_static(&[0x11, 0x90]), info)
    }

    /// What is told of a stream at 30 frames a second, with the second in which it is.
    fn told(seconds: i64, kbit: usize, gop: i64, with_audio: bool) -> Vec<(i64, Rule)> {
        told_by(Inspector::new(&FACEBOOK, false), seconds, kbit, gop, with_audio)
    }

    fn told_by(mut inspector: Inspector, seconds: i64, kbit: usize, gop: i64, with_audio: bool) -> Vec<(i64, Rule)> {
        let mut told = Vec::new();
        for frame in 0..seconds * 30 {
            let at = frame * 1000 / 30 * MS;
            let mut all = inspector.unit(&video(1280, 720), at, frame % gop == 0, kbit * 1000 / 8 / 30);
            if with_audio {
                all.extend(inspector.unit(&audio(), at, true, 128_000 / 8 / 30));
            }
            told.extend(all.into_iter().map(|violation| (frame / 30, violation.rule)));
        }
        told
    }

    #[test]
    fn nothing_is_told_of_a_good_stream() {
        assert_eq!(told(60, 3000, 60, true), []);
    }

    #[test]
    fn each_rule_is_told_once() {
        assert_eq!(told(60, 6000, 180, true), [(6, Rule::KeyframeInterval), (10, Rule::HighBitrate)]);
    }

    #[test]
    fn too_few_bits_are_told_of_only_when_they_stay_few() {
        assert_eq!(told(25, 500, 60, true), []);
        assert_eq!(told(60, 500, 60, true), [(30, Rule::LowBitrate)]);
    }

    #[test]
    fn a_track_that_stays_away_is_missed() {
        assert_eq!(told(4, 3000, 60, false), []);
        assert_eq!(told(60, 3000, 60, false), [(5, Rule::MissingTrack)]);
        assert_eq!(told_by(Inspector::new(&FACEBOOK, true), 60, 3000, 60, false), [], "it is made up");
    }

    #[test]
    fn frame_rate_is_measured_where_caps_do_not_tell_it() {
        let mut inspector = Inspector::new(&FACEBOOK, false);
        let told: Vec<_> = (0..11 * 120)
            .flat_map(|frame| inspector.unit(&video(1280, 720), frame * 1000 / 120 * MS, frame % 240 == 0, 2500))
            .map(|violation| violation.rule)
            .collect();
        assert_eq!(told, [Rule::MissingTrack, Rule::PictureSize], "120 a second");
    }

    #[test]
    fn a_new_size_is_a_change_and_a_known_frame_rate_is_none() {
        let mut inspector = Inspector::new(&FACEBOOK, false);
        let mut rules = |format: &Format| -> Vec<Rule> {
            inspector.unit(format, 0, true, 1).into_iter().map(|violation| violation.rule).collect()
        };
        assert_eq!(rules(&video(1280, 720)), []);
        let info = VideoInfo { width: 1280, height: 720, frame_rate: Some(30.0), ..VideoInfo::default() };
        assert_eq!(rules(&Format::Video(Bytes::new(), info)), []);
        assert_eq!(rules(&video(640, 360)), [Rule::Change]);
        assert_eq!(rules(&video(1280, 720)), [], "told before");
    }

    #[test]
    fn broken_time_is_survived() {
        let mut inspector = Inspector::new(&FACEBOOK, false);
        for at in [0, i64::MAX / 2, -1, i64::MIN / 4, 3_600_000 * MS, 0] {
            inspector.unit(&video(1280, 720), at, true, usize::MAX / 16);
        }
    }
}
