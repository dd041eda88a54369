//! The table: what each platform writes in its own help pages, and in OBS Studio's list of services, which they maintain.

use std::time::Duration;

use super::{Platform, Tier};
use crate::flv::{AudioCodec, VideoCodec};

/// As in help pages: a size by its lines, then Mbit/s as thousands of kbit/s.
const fn tier(lines: u32, frame_rate: f64, least_kbit: u32, most_kbit: u32) -> Tier {
    Tier { lines, frame_rate, least: least_kbit * 1000, most: most_kbit * 1000 }
}

const TWO_SECONDS: Duration = Duration::from_secs(2);

/// What most of them have in common; the rest is empty.
const USUAL: Platform = Platform {
    name: "",
    source: "",
    ingest: "",
    hosts: &[],
    application: "app",
    tls_required: false,
    video_codecs: &[VideoCodec::H264],
    audio_codecs: &[AudioCodec::Aac],
    tiers: &[],
    video_bitrate: 0,
    keyframe_interval: TWO_SECONDS,
    longest_keyframe_interval: TWO_SECONDS,
    audio_bitrate: 128_000,
    most_audio_bitrate: 320_000,
    sample_rates: &[44_100, 48_000],
    most_channels: 2,
    both_tracks: false,
    may_change: true,
};

/// YouTube: ranges are those of AV1 and H.265 widened to what is recommended for H.264.
pub const YOUTUBE: Platform = Platform {
    name: "YouTube",
    source: "https://support.google.com/youtube/answer/2853702",
    ingest: "rtmps://a.rtmps.youtube.com/live2/",
    hosts: &["rtmp.youtube.com", "rtmps.youtube.com"],
    application: "live2",
    video_codecs: &[VideoCodec::H264, VideoCodec::H265, VideoCodec::Av1],
    tiers: &[
        tier(480, 30.0, 400, 8_000),
        tier(720, 30.0, 3_000, 8_000),
        tier(720, 60.0, 3_000, 8_000),
        tier(1080, 30.0, 3_000, 10_000),
        tier(1080, 60.0, 4_000, 12_000),
        tier(1440, 30.0, 5_000, 25_000),
        tier(1440, 60.0, 6_000, 30_000),
        tier(2160, 30.0, 8_000, 35_000),
        tier(2160, 60.0, 10_000, 51_000),
    ],
    video_bitrate: 6_000_000,
    longest_keyframe_interval: Duration::from_secs(4),
    most_audio_bitrate: 384_000,
    most_channels: 6,
    both_tracks: true,
    ..USUAL
};

/// Twitch: others than H.264 only by its own Enhanced Broadcasting, which is no plain RTMP.
pub const TWITCH: Platform = Platform {
    name: "Twitch",
    source: "https://help.twitch.tv/s/article/broadcasting-guidelines",
    ingest: "rtmps://ingest.global-contribute.live-video.net/app/",
    hosts: &["twitch.tv", "contribute.live-video.net", "global-contribute.live-video.net"],
    tiers: &[
        tier(480, 60.0, 400, 6_000),
        tier(720, 30.0, 2_500, 6_000),
        tier(720, 60.0, 3_500, 6_000),
        tier(1080, 60.0, 4_000, 6_000),
    ],
    video_bitrate: 4_500_000,
    ..USUAL
};

/// Facebook: the strictest. The key holds a query, which is part of it.
pub const FACEBOOK: Platform = Platform {
    name: "Facebook",
    source: "https://developers.facebook.com/docs/live-video-api/reference",
    ingest: "rtmps://live-api-s.facebook.com/rtmp/",
    hosts: &["facebook.com", "fbcdn.net"],
    application: "rtmp",
    tls_required: true,
    tiers: &[
        tier(360, 60.0, 400, 1_000),
        tier(480, 30.0, 600, 2_000),
        tier(720, 30.0, 1_500, 4_000),
        tier(720, 60.0, 2_250, 6_000),
        tier(1080, 30.0, 3_000, 6_000),
        tier(1080, 60.0, 4_500, 9_000),
    ],
    video_bitrate: 4_000_000,
    longest_keyframe_interval: Duration::from_secs(4),
    most_audio_bitrate: 256_000,
    both_tracks: true,
    may_change: false,
    ..USUAL
};

/// Kick: an Amazon IVS service, which takes RTMPS. Its dashboard shows a URL; this one is the same for all channels.
pub const KICK: Platform = Platform {
    name: "Kick",
    source: "https://help.kick.com",
    ingest: "rtmps://fa723fc1b171.global-contribute.live-video.net/app/",
    hosts: &["global-contribute.live-video.net", "kick.com"],
    tls_required: true,
    tiers: &[tier(720, 60.0, 1_000, 8_000), tier(1080, 60.0, 1_000, 8_000)],
    video_bitrate: 5_000_000,
    ..USUAL
};
