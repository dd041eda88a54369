//! Which rules of a platform something breaks. Each function looks at one thing, and says what it found, what the platform
//! wants and where that is written.

use std::{fmt, time::Duration};

use super::{Platform, Tier};
use crate::{
    flv::{AudioInfo, VideoInfo},
    rtmp::Location,
};

/// Clocks and encoders are not exact, and neither are measurements of them.
const TOLERANCE: f64 = 1.25;
/// AudioSpecificConfig's object type (ISO/IEC 14496-3, section 1.6.2.1): low complexity.
const AAC_LC: u8 = 2;

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The host is not the platform's.
    Host,
    /// The application in the URL is not the platform's.
    Application,
    /// It has to be RTMPS.
    Tls,
    /// The video codec.
    VideoCodec,
    /// Picture size or frame rate.
    PictureSize,
    /// Too many bits.
    HighBitrate,
    /// Too few bits for such pictures.
    LowBitrate,
    /// Too far from keyframe to keyframe.
    KeyframeInterval,
    /// The audio codec or its profile.
    AudioCodec,
    /// The sample rate.
    SampleRate,
    /// The number of channels.
    Channels,
    /// Too many bits of audio.
    AudioBitrate,
    /// A track is missing.
    MissingTrack,
    /// The format changed while the stream ran.
    Change,
}

/// A broken rule, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    found: String,
    platform: &'static str,
    wanted: String,
    source: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, but {} {} ({})", self.found, self.platform, self.wanted, self.source)
    }
}

impl Platform {
    /// Where the stream goes.
    pub fn check_location(&self, location: &Location) -> Vec<Violation> {
        let host = location.host.to_ascii_lowercase();
        let is_ours = |end: &&&str| host.strip_suffix(**end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if self.hosts.iter().find(is_ours).is_none() {
            let wanted = format!("takes streams at {} and the like", self.ingest);
            return vec![self.broken(Rule::Host, format!("the host is {}", location.host), wanted)];
        }
        let mut broken = Vec::new();
        if self.tls_required && !location.tls {
            broken.push(self.broken(Rule::Tls, "the URL begins with rtmp://", "takes rtmps:// only"));
        }
        // Backup servers have a query behind it.
        let application = location.application.split('?').next().unwrap_or_default();
        if application != self.application {
            let found = format!("the application in the URL is {application}");
            broken.push(self.broken(
                Rule::Application,
                found,
                format!("has {}, as in {}", self.application, self.ingest),
            ));
        }
        broken
    }

    /// What the video is. `frame_rate` stands in where the format does not tell it.
    pub fn check_video(&self, info: &VideoInfo, frame_rate: Option<f64>) -> Vec<Violation> {
        let mut broken = Vec::new();
        if !self.video_codecs.contains(&info.codec) {
            let taken: Vec<_> = self.video_codecs.iter().map(|codec| codec.name()).collect();
            let wanted = format!("takes {}; set video-codec", taken.join(", "));
            broken.push(self.broken(Rule::VideoCodec, format!("video is {}", info.codec.name()), wanted));
        }
        let rate = info.frame_rate.or(frame_rate);
        if info.width > 0 && self.tier((info.width, info.height), rate.unwrap_or(0.0)).is_none() {
            let most = self.tiers.last().map(|tier| format!("{}p{}", tier.lines, tier.frame_rate)).unwrap_or_default();
            let at = rate.map(|rate| format!(" at {rate:.1} frames a second")).unwrap_or_default();
            let found = format!("video is {}x{}{at}", info.width, info.height);
            broken.push(self.broken(Rule::PictureSize, found, format!("takes up to {most}")));
        }
        broken
    }

    /// What the audio is; `configuration` is AAC's.
    pub fn check_audio(&self, info: &AudioInfo, configuration: &[u8]) -> Vec<Violation> {
        let mut broken = Vec::new();
        if !self.audio_codecs.contains(&info.codec) {
            let taken: Vec<_> = self.audio_codecs.iter().map(|codec| codec.name()).collect();
            let wanted = format!("takes {}; set audio-codec", taken.join(", "));
            broken.push(self.broken(Rule::AudioCodec, format!("audio is {}", info.codec.name()), wanted));
        } else if configuration.first().is_some_and(|first| first >> 3 != AAC_LC) {
            let object = configuration.first().copied().unwrap_or_default() >> 3;
            let found = format!("audio is AAC of object type {object}");
            broken.push(self.broken(Rule::AudioCodec, found, "takes AAC-LC, which is type 2"));
        }
        if !self.sample_rates.contains(&info.sample_rate) {
            let taken: Vec<_> = self.sample_rates.iter().map(|rate| format!("{rate}")).collect();
            let found = format!("audio has {} samples a second", info.sample_rate);
            broken.push(self.broken(Rule::SampleRate, found, format!("takes {}", taken.join(" or "))));
        }
        if info.channels > self.most_channels {
            let found = format!("audio has {} channels", info.channels);
            broken.push(self.broken(Rule::Channels, found, format!("takes {} at most", self.most_channels)));
        }
        broken
    }

    /// How many bits video has, measured or set.
    pub fn check_video_bitrate(&self, info: &VideoInfo, frame_rate: Option<f64>, bitrate: f64) -> Vec<Violation> {
        let rate = info.frame_rate.or(frame_rate).unwrap_or(0.0);
        // One that fits nowhere has been told of by its size.
        let Some(tier) = self.tier((info.width, info.height), rate).filter(|_| info.width > 0) else {
            return Vec::new();
        };
        let found = || format!("video has {}", mbit(bitrate));
        let wanted = || {
            let Tier { lines, frame_rate, least, most } = tier;
            format!("wants {} to {} up to {lines}p{frame_rate}", mbit((*least).into()), mbit((*most).into()))
        };
        if bitrate > f64::from(tier.most) * TOLERANCE {
            vec![self.broken(Rule::HighBitrate, found(), wanted())]
        } else if bitrate < f64::from(tier.least) / TOLERANCE {
            vec![self.broken(Rule::LowBitrate, found(), wanted())]
        } else {
            Vec::new()
        }
    }

    /// How many bits audio has, measured or set.
    pub fn check_audio_bitrate(&self, bitrate: f64) -> Option<Violation> {
        let found = || format!("audio has {:.0} kbit/s", bitrate / 1000.0);
        let wanted = || format!("takes {} kbit/s at most", self.most_audio_bitrate / 1000);
        let too_much = bitrate > f64::from(self.most_audio_bitrate) * TOLERANCE;
        too_much.then(|| self.broken(Rule::AudioBitrate, found(), wanted()))
    }

    /// How far keyframes are apart, measured or set.
    pub fn check_keyframe_interval(&self, interval: Duration) -> Option<Violation> {
        let longest = self.longest_keyframe_interval;
        let found = || format!("keyframes are {:.1} s apart", interval.as_secs_f64());
        let wanted = || format!("takes {} s at most; set keyframe-interval, or the publisher's own", longest.as_secs());
        (interval > longest.mul_f64(TOLERANCE)).then(|| self.broken(Rule::KeyframeInterval, found(), wanted()))
    }

    /// Which tracks there are.
    pub fn check_tracks(&self, video: bool, audio: bool) -> Option<Violation> {
        let missing = match (video, audio) {
            (true, true) => return None,
            (false, _) => "video",
            (true, false) => "audio",
        };
        let broken = || {
            let wanted = "needs audio and video; set missing-track=synthesise";
            self.broken(Rule::MissingTrack, format!("there is no {missing}"), wanted)
        };
        self.both_tracks.then(broken)
    }

    /// A change of what is sent.
    pub fn check_change(&self, what: &str) -> Option<Violation> {
        let broken = || self.broken(Rule::Change, format!("{what} changed"), "takes no change while a stream runs");
        (!self.may_change).then(broken)
    }

    fn broken(&self, rule: Rule, found: impl Into<String>, wanted: impl Into<String>) -> Violation {
        Violation { rule, found: found.into(), platform: self.name, wanted: wanted.into(), source: self.source }
    }
}

fn mbit(bitrate: f64) -> String {
    format!("{:.1} Mbit/s", bitrate / 1e6)
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};
    use crate::flv::{AudioCodec, VideoCodec};

    const HD: VideoInfo =
        VideoInfo { codec: VideoCodec::H264, width: 1280, height: 720, frame_rate: Some(30.0), bitrate: None };
    const STEREO: AudioInfo = AudioInfo { codec: AudioCodec::Aac, sample_rate: 48_000, channels: 2, bitrate: None };
    const LC: [u8; 2] = [0x11, 0x90];

    fn rules(violations: impl IntoIterator<Item = Violation>) -> Vec<Rule> {
        violations.into_iter().map(|violation| violation.rule).collect()
    }

    fn location(url: &str) -> Location {
        Location::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn each_platforms_own_forms_are_in_order() {
        for (platform, url) in [
            (&YOUTUBE, "rtmps://a.rtmps.youtube.com/live2/k"),
            (&YOUTUBE, "rtmps://b.rtmps.youtube.com:443/live2?backup=1/k"),
            (&YOUTUBE, "rtmp://a.rtmp.youtube.com/live2/k"),
            (&TWITCH, "rtmp://live-fra.twitch.tv/app/k"),
            (&TWITCH, "rtmps://ingest.global-contribute.live-video.net/app/k"),
            (&FACEBOOK, "rtmps://live-api-s.facebook.com:443/rtmp/FB-1?s_bl=1"),
            (&KICK, "rtmps://fa723fc1b171.global-contribute.live-video.net:443/app/k"),
        ] {
            assert_eq!(platform.check_location(&location(url)), [], "{url}");
        }
    }

    #[test]
    fn other_hosts_applications_and_plain_rtmp_are_told_of() {
        let check = |platform: &Platform, url| rules(platform.check_location(&location(url)));
        assert_eq!(check(&YOUTUBE, "rtmps://a.rtmps.youtube.com.evil.net/live2/k"), [Rule::Host]);
        assert_eq!(check(&TWITCH, "rtmp://nottwitch.tv/app/k"), [Rule::Host]);
        assert_eq!(check(&YOUTUBE, "rtmp://a.rtmp.youtube.com/live/k"), [Rule::Application]);
        assert_eq!(check(&FACEBOOK, "rtmp://live-api-s.facebook.com/live/k"), [Rule::Tls, Rule::Application]);
        let told = FACEBOOK.check_location(&location("rtmp://live-api-s.facebook.com/rtmp/s3cret?a=t0k"));
        let told = told[0].to_string();
        assert!(told.contains("rtmps://") && told.contains("developers.facebook.com"), "{told}");
        assert!(!told.contains("s3cret") && !told.contains("t0k"), "{told}");
    }

    #[test]
    fn codec_and_size_have_to_be_taken() {
        let of = |codec| VideoInfo { codec, ..HD };
        assert_eq!(YOUTUBE.check_video(&of(VideoCodec::Av1), None), []);
        assert_eq!(rules(YOUTUBE.check_video(&of(VideoCodec::Vp9), None)), [Rule::VideoCodec]);
        assert_eq!(rules(TWITCH.check_video(&of(VideoCodec::H265), None)), [Rule::VideoCodec]);
        let sized = |width, height, rate| VideoInfo { width, height, frame_rate: rate, ..HD };
        assert_eq!(TWITCH.check_video(&sized(1080, 1920, Some(59.94)), None), [], "upright");
        assert_eq!(rules(TWITCH.check_video(&sized(3840, 2160, Some(30.0)), None)), [Rule::PictureSize]);
        assert_eq!(rules(TWITCH.check_video(&sized(1280, 720, None), Some(120.0))), [Rule::PictureSize]);
        assert_eq!(TWITCH.check_video(&sized(0, 0, None), None), [], "nothing is known of it");
    }

    #[test]
    fn bitrates_belong_to_sizes() {
        let check = |info: &VideoInfo, mbit: f64| rules(FACEBOOK.check_video_bitrate(info, None, mbit * 1e6));
        assert_eq!(check(&HD, 4.0), []);
        assert_eq!(check(&HD, 4.9), [], "a little more is no more than encoders do");
        assert_eq!(check(&HD, 6.0), [Rule::HighBitrate]);
        assert_eq!(check(&HD, 1.0), [Rule::LowBitrate]);
        assert_eq!(check(&VideoInfo { frame_rate: Some(60.0), ..HD.clone() }, 6.0), []);
        let told = FACEBOOK.check_video_bitrate(&HD, None, 6e6)[0].to_string();
        assert!(told.contains("6.0 Mbit/s, but Facebook wants 1.5 Mbit/s to 4.0 Mbit/s up to 720p30"), "{told}");
        assert_eq!(FACEBOOK.check_audio_bitrate(256_000.0), None);
        assert_eq!(rules(FACEBOOK.check_audio_bitrate(400_000.0)), [Rule::AudioBitrate]);
    }

    #[test]
    fn audio_has_to_be_what_players_take() {
        assert_eq!(TWITCH.check_audio(&STEREO, &LC), []);
        let opus = AudioInfo { codec: AudioCodec::Opus, ..STEREO };
        assert_eq!(rules(TWITCH.check_audio(&opus, b"OpusHead")), [Rule::AudioCodec]);
        // 5: spectral band replication.
        assert_eq!(rules(TWITCH.check_audio(&STEREO, &[5 << 3, 0])), [Rule::AudioCodec]);
        let odd = AudioInfo { sample_rate: 32_000, channels: 6, ..STEREO };
        assert_eq!(rules(TWITCH.check_audio(&odd, &LC)), [Rule::SampleRate, Rule::Channels]);
    }

    #[test]
    fn keyframes_tracks_and_changes() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(FACEBOOK.check_keyframe_interval(seconds(4.1)), None);
        assert_eq!(rules(FACEBOOK.check_keyframe_interval(seconds(6.0))), [Rule::KeyframeInterval]);
        assert_eq!(rules(TWITCH.check_keyframe_interval(seconds(4.0))), [Rule::KeyframeInterval]);
        assert_eq!(rules(FACEBOOK.check_tracks(true, false)), [Rule::MissingTrack]);
        assert_eq!(TWITCH.check_tracks(true, false), None);
        assert_eq!(rules(FACEBOOK.check_change("the picture size")), [Rule::Change]);
        assert_eq!(YOUTUBE.check_change("the picture size"), None);
    }
}
