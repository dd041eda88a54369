//! What the big platforms ask of a stream: one table, and pure checks of a stream against a row of it.
//!
//! [`Platform`] says what to set, `rules` what is broken, [`Inspector`] watches a stream and tells each rule once. A broken
//! rule is never an error: platforms change theirs, and often take more than they say.

mod inspector;
mod rules;
mod table;

use std::{borrow::Cow, time::Duration};

pub use inspector::Inspector;
pub use rules::{Rule, Violation};
pub use table::{FACEBOOK, KICK, TWITCH, YOUTUBE};

use crate::flv::{AudioCodec, VideoCodec};

/// One platform's rules.
#[derive(Debug, PartialEq)]
pub struct Platform {
    /// As people write it.
    pub name: &'static str,
    /// Where its rules are written.
    pub source: &'static str,
    /// The URL that a stream key is appended to when only the key is given.
    pub ingest: &'static str,
    /// Ends of the host names that it takes streams at.
    pub hosts: &'static [&'static str],
    /// The application in its URLs.
    pub application: &'static str,
    /// Whether it takes nothing without TLS.
    pub tls_required: bool,
    /// What it takes as video.
    pub video_codecs: &'static [VideoCodec],
    /// What it takes as audio.
    pub audio_codecs: &'static [AudioCodec],
    /// Sizes and frame rates with their bitrates, smallest first.
    pub tiers: &'static [Tier],
    /// What video is encoded with when nobody says, in bit/s: inside the range of usual sizes.
    pub video_bitrate: u32,
    /// How far apart keyframes are when nobody says.
    pub keyframe_interval: Duration,
    /// How far apart they may be.
    pub longest_keyframe_interval: Duration,
    /// What audio is encoded with when nobody says, in bit/s.
    pub audio_bitrate: u32,
    /// Most that it takes, in bit/s.
    pub most_audio_bitrate: u32,
    /// Samples a second that it takes.
    pub sample_rates: &'static [u32],
    /// Most channels.
    pub most_channels: u32,
    /// Whether it needs audio as well as video.
    pub both_tracks: bool,
    /// Whether a stream may change its format.
    pub may_change: bool,
}

/// Pictures up to a size and rate, and the bitrates that a platform wants for them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tier {
    /// The shorter side, at most.
    pub lines: u32,
    /// Frames a second, at most.
    pub frame_rate: f64,
    /// Least bit/s.
    pub least: u32,
    /// Most bit/s.
    pub most: u32,
}

impl Platform {
    /// The URL for what a user gave: his own, or the platform's with his key appended.
    pub fn url<'a>(&self, location: &'a str) -> Cow<'a, str> {
        let location = location.trim();
        // Anything with a scheme is the user's, and so are typing errors of one: no key has a colon or a slash up front.
        let key = location.split('?').next().unwrap_or_default();
        if location.is_empty() || key.contains([':', '/']) || location.contains(char::is_whitespace) {
            return Cow::Borrowed(location);
        }
        Cow::Owned(format!("{}{location}", self.ingest))
    }

    /// The first tier that a picture fits in.
    pub(super) fn tier(&self, size: (u32, u32), frame_rate: f64) -> Option<&Tier> {
        // 29.97 and 59.94 are counted as what they are called; measured rates are not exact.
        self.tiers.iter().find(|tier| size.0.min(size.1) <= tier.lines && frame_rate <= tier.frame_rate * 1.05)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::Location;

    #[test]
    fn a_key_alone_goes_to_the_platforms_own_server() {
        for (platform, key, host) in [
            (&YOUTUBE, "abcd-efgh-ijkl", "a.rtmps.youtube.com"),
            (&TWITCH, "live_123_AbC?bandwidthtest=true", "ingest.global-contribute.live-video.net"),
            (&FACEBOOK, "FB-123-0-AbC?s_bl=1&s_psm=1&a=Ab/c:d", "live-api-s.facebook.com"),
            (&KICK, "sk_us-west-2_AbC", "fa723fc1b171.global-contribute.live-video.net"),
        ] {
            let url = platform.url(key);
            let location = Location::parse(&url).unwrap_or_else(|error| panic!("{}: {error}", platform.name));
            assert_eq!((location.host.as_str(), location.stream.as_str()), (host, key));
            assert_eq!((location.tls, location.port), (true, 443), "{}", platform.name);
            assert_eq!(location.application, platform.application);
        }
    }

    #[test]
    fn a_url_stays_the_users() {
        for url in ["rtmp://127.0.0.1/live/key", "rtmps:/typo/key", "", "host/app/key", "two keys", "http://h/?a"] {
            assert_eq!(YOUTUBE.url(url), url);
        }
        assert_eq!(YOUTUBE.url("  rtmp://h/app/key "), "rtmp://h/app/key");
    }

    #[test]
    fn tiers_rise_and_defaults_keep_the_rules() {
        for platform in [&YOUTUBE, &TWITCH, &FACEBOOK, &KICK] {
            let name = platform.name;
            assert!(platform.tiers.windows(2).all(|pair| pair[0].lines <= pair[1].lines), "{name}");
            assert!(platform.tiers.iter().all(|tier| tier.least < tier.most), "{name}");
            assert!(platform.keyframe_interval <= platform.longest_keyframe_interval, "{name}");
            assert!(platform.audio_bitrate <= platform.most_audio_bitrate, "{name}");
            for lines in [720, 1080] {
                let tier = platform.tier((lines * 16 / 9, lines), 30.0).expect("everybody takes 720p30 and 1080p30");
                assert!((tier.least..=tier.most).contains(&platform.video_bitrate), "{name} {lines}");
            }
        }
    }
}
