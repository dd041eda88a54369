//! Chains for peers that show each picture at once: raw media encoded with low latency in the codec that the peers take,
//! encoded media in another one decoded first. What is in the right codec already needs no chain of ours.

use std::time::Duration;

use gst::prelude::*;

use super::{
    Canvas, Chain, ChainError, audio, candidates,
    chain::Encoder,
    factory::{filter, make, set_if_present},
    slot::{Encode, Slot},
    unit::{Style, Tuning},
    video,
};
use crate::codec::{Codec, MediaKind};

/// Keyframes come when a peer asks. This is in case that one asks in vain.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(60);

/// What a chain is to be like.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// `auto`, `hardware`, `software` or the name of a video encoder's factory.
    pub encoder: String,
    /// What comes out.
    pub codec: Codec,
    /// Bit/s.
    pub video_bitrate: u32,
    /// Bit/s, where the codec has a choice.
    pub audio_bitrate: u32,
}

/// Whether there is an encoder for a codec here that `encoder` allows.
pub fn can_encode(encoder: &str, codec: Codec) -> bool {
    match codec.kind() {
        MediaKind::Video => candidates::any(encoder, codec),
        MediaKind::Audio => gst::ElementFactory::find(audio_encoder(codec)).is_some(),
    }
}

impl Chain {
    /// Makes the chain for `caps`, raw or encoded. Takes seconds where a hardware encoder has to be tried first.
    pub fn conversation(caps: &gst::CapsRef, wanted: &Conversation) -> Result<Self, ChainError> {
        let media = caps.structure(0).map(|structure| structure.name().to_string()).unwrap_or_default();
        match wanted.codec.kind() {
            MediaKind::Video => encoded_video(caps, &media, wanted),
            MediaKind::Audio => encoded_audio(caps, &media, wanted),
        }
    }

    /// Makes the encoder begin anew, with a keyframe, if it is one that is deaf to events that ask for it; false if it is not.
    pub fn begin_anew_if_deaf(&self) -> bool {
        if let Encoder::Video(slot) = &self.encoder { slot.begin_anew_if_deaf() } else { false }
    }

    /// Changes an audio encoder's bitrate while it runs, where it takes that.
    pub fn set_audio_bitrate(&self, bitrate: u32) {
        if let Encoder::Audio(encoder) = &self.encoder {
            set_if_present(encoder, "bitrate", &bitrate.to_string());
        }
    }
}

fn encoded_video(caps: &gst::CapsRef, media: &str, wanted: &Conversation) -> Result<Chain, ChainError> {
    let mut elements = video::raw(caps, media)?;
    // Without a canvas: it keeps the size of the first picture, and even sides, which encoders need.
    elements.extend(video::scaler(Canvas::default())?);
    let frame_rate = video::frame_rate(caps).map(|(n, d)| f64::from(n) / f64::from(d));
    let slot = Slot::build(Encode {
        choice: &wanted.encoder,
        codec: wanted.codec,
        tuning: Tuning {
            bitrate: wanted.video_bitrate,
            keyframe_interval: KEYFRAME_INTERVAL,
            frame_rate,
            style: Style::Conversation,
        },
    })?;
    elements.push(slot.clone().upcast());
    let (output, encoder) = (video::output(wanted.codec), Encoder::Video(slot));
    Ok(Chain { elements, output, encoder, bitrate: Some(wanted.video_bitrate) })
}

fn encoded_audio(caps: &gst::CapsRef, media: &str, wanted: &Conversation) -> Result<Chain, ChainError> {
    let mut elements = audio::raw(caps, media)?;
    let caps = gst::Caps::builder("audio/x-raw").field("layout", "interleaved");
    let caps = match wanted.codec {
        Codec::Opus => caps.field("rate", 48_000i32).field("channels", gst::IntRange::new(1i32, 2)),
        _ => caps.field("rate", 8000i32).field("channels", 1i32),
    }
    .build();
    let encoder = make(audio_encoder(wanted.codec))?;
    for (name, value) in [
        ("bitrate", wanted.audio_bitrate.to_string().as_str()),
        ("frame-size", "20"),
        // From the next packet a lost one can be heard.
        ("inband-fec", "true"),
        ("packet-loss-percentage", "5"),
    ] {
        set_if_present(&encoder, name, value);
    }
    elements.extend([make("audioresample")?, filter(&caps)?, encoder.clone()]);
    let output = video::output(wanted.codec);
    Ok(Chain { elements, output, encoder: Encoder::Audio(encoder), bitrate: Some(wanted.audio_bitrate) })
}

fn audio_encoder(codec: Codec) -> &'static str {
    match codec {
        Codec::Pcmu => "mulawenc",
        Codec::Pcma => "alawenc",
        _ => "opusenc",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_of_the_table_can_be_made_here() {
        gst::init().unwrap();
        for codec in Codec::ALL {
            assert!(can_encode("auto", codec), "{codec}");
            let raw = if codec.kind() == MediaKind::Video {
                "video/x-raw,format=I420,width=320,height=240,framerate=30/1"
            } else {
                "audio/x-raw,format=S16LE,rate=44100,channels=2,layout=interleaved"
            };
            let caps: gst::Caps = raw.parse().unwrap();
            let wanted =
                Conversation { encoder: "software".into(), codec, video_bitrate: 500_000, audio_bitrate: 48_000 };
            let chain = Chain::conversation(&caps, &wanted).unwrap();
            assert_ne!(chain.name(), "passthrough", "{codec}");
        }
        assert!(!can_encode("x264enc", Codec::Vp8));
    }
}
