//! The type of `preset`, and what a preset sets: whatever the user has not set himself, in any order.
#![allow(missing_docs)] // glib::Enum expands to undocumented items

use std::collections::HashSet;

use gst::glib;

use super::{missing::MissingTrack, settings::Settings};
use crate::rtmp::platform::{FACEBOOK, KICK, Platform, TWITCH, YOUTUBE};

/// Whose rules the stream keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtmpBridgePreset")]
pub enum Preset {
    /// Nobody's.
    #[default]
    #[enum_value(name = "No platform's rules", nick = "none")]
    None,
    /// YouTube's.
    #[enum_value(name = "YouTube Live", nick = "youtube")]
    Youtube,
    /// Twitch's.
    #[enum_value(name = "Twitch", nick = "twitch")]
    Twitch,
    /// Facebook's.
    #[enum_value(name = "Facebook Live", nick = "facebook")]
    Facebook,
    /// Kick's.
    #[enum_value(name = "Kick", nick = "kick")]
    Kick,
}

impl Preset {
    /// The platform's row.
    pub(super) fn platform(self) -> Option<&'static Platform> {
        match self {
            Self::None => None,
            Self::Youtube => Some(&YOUTUBE),
            Self::Twitch => Some(&TWITCH),
            Self::Facebook => Some(&FACEBOOK),
            Self::Kick => Some(&KICK),
        }
    }
}

/// The properties that the user has set.
#[derive(Clone, Debug, Default)]
pub(super) struct Explicit(HashSet<&'static str>);

/// Those that presets set.
const PRESET: &[&str] = &["video-bitrate", "audio-bitrate", "keyframe-interval", "missing-track"];

impl Settings {
    /// Takes note of a property that was set just now, and has the preset set what is left.
    pub(super) fn was_set(&mut self, property: &str) {
        if let Some(known) = PRESET.iter().find(|known| **known == property) {
            self.explicit.0.insert(known);
        }
        if property == "preset" {
            self.apply_preset();
        }
    }

    fn apply_preset(&mut self) {
        let defaults = Self::default();
        let platform = self.preset.platform();
        let free = |property| !self.explicit.0.contains(property);
        let [video, audio, keyframes] = [free("video-bitrate"), free("audio-bitrate"), free("keyframe-interval")];
        if free("missing-track") {
            let both = platform.is_some_and(|platform| platform.both_tracks);
            self.missing_track = if both { MissingTrack::Synthesise } else { defaults.missing_track };
        }
        if video {
            self.video_bitrate = platform.map_or(defaults.video_bitrate, |platform| platform.video_bitrate);
        }
        if audio {
            self.audio_bitrate = platform.map_or(defaults.audio_bitrate, |platform| platform.audio_bitrate);
        }
        if keyframes {
            let interval = platform.and_then(|platform| u32::try_from(platform.keyframe_interval.as_millis()).ok());
            self.keyframe_interval = interval.unwrap_or(defaults.keyframe_interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_sets_what_the_user_has_not_in_any_order() {
        let mut settings = Settings { preset: Preset::Youtube, ..Settings::default() };
        settings.was_set("preset");
        assert_eq!((settings.video_bitrate, settings.keyframe_interval), (6_000_000, 2000));
        assert_eq!(settings.missing_track, MissingTrack::Synthesise, "YouTube wants both");

        settings.video_bitrate = 3_000_000;
        settings.was_set("video-bitrate");
        settings.preset = Preset::Twitch;
        settings.was_set("preset");
        assert_eq!((settings.video_bitrate, settings.keyframe_interval), (3_000_000, 2000));

        assert_eq!(settings.missing_track, MissingTrack::Ignore, "Twitch does not");

        let mut settings = Settings { keyframe_interval: 1000, ..Settings::default() };
        settings.was_set("keyframe-interval");
        settings.was_set("missing-track");
        settings.preset = Preset::Facebook;
        settings.was_set("preset");
        assert_eq!((settings.video_bitrate, settings.keyframe_interval), (4_000_000, 1000));
        assert_eq!(settings.missing_track, MissingTrack::Ignore, "as the user has set it");

        settings.preset = Preset::None;
        settings.was_set("preset");
        assert_eq!((settings.video_bitrate, settings.keyframe_interval), (2_500_000, 1000));
    }
}
