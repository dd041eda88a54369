//! What the scripted publisher does: what it offers, what it answers to, what it leaves out.

use std::time::Duration;

use super::super::{lossy::LossyPath, publisher::Video};

/// The whole script. The default is a well-behaved browser with one layer.
#[derive(Clone, Debug)]
pub struct Script {
    pub video: Option<Video>,
    pub audio: bool,
    /// The layers to offer, lowest first; none: one stream without rid.
    pub layers: Vec<Layer>,
    /// Whether the layers' RTP timestamps are of one base; libwebrtc's and libdatachannel's are not.
    pub one_time_base: bool,
    /// Whether the offer names candidates; OBS's names none.
    pub candidates: bool,
    pub repairs: Repairs,
    pub audio_nack: bool,
    /// Feedback that the offer has for keyframes, and what is done about it.
    pub keyframes: Keyframes,
    /// No keyframe comes by itself but the first (H.264 only).
    pub sparse: bool,
    /// Sender reports; none if `None`.
    pub reports: Option<Reports>,
    /// Every video packet is sent once more by RTX though nobody asked, as browsers do to probe for bandwidth. (What is sent
    /// twice as it is, SRTP's replay protection drops.)
    pub duplicates: bool,
    /// Whether the offer tells the streams' SSRCs (RFC 8829 does not need it).
    pub numbered: bool,
    pub token: Option<String>,
    pub path: Option<LossyPath>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            video: Some(Video::H264),
            audio: true,
            layers: Vec::new(),
            one_time_base: false,
            candidates: true,
            repairs: Repairs::Rtx,
            audio_nack: false,
            keyframes: Keyframes::Pli,
            sparse: false,
            reports: Some(Reports::default()),
            duplicates: false,
            numbered: true,
            token: None,
            path: None,
        }
    }
}

impl Script {
    /// OBS Studio on libdatachannel, as its source has it: no candidates, NACK without RTX, PLI offered and ignored.
    pub fn obs() -> Self {
        Self {
            candidates: false,
            repairs: Repairs::Plain,
            audio_nack: true,
            keyframes: Keyframes::Deaf,
            ..Self::default()
        }
    }

    /// Three layers as browsers name them.
    pub fn with_layers(self) -> Self {
        let layers = vec![
            Layer { rid: "q", size: (160, 90) },
            Layer { rid: "h", size: (320, 180) },
            Layer { rid: "f", size: (640, 360) },
        ];
        Self { layers, ..self }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Layer {
    pub rid: &'static str,
    pub size: (u32, u32),
}

/// How a NACK is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repairs {
    /// Not offered.
    None,
    /// By the packet itself once more.
    Plain,
    /// RFC 4588.
    Rtx,
}

/// How requests for keyframes are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyframes {
    /// PLI is offered and answered.
    Pli,
    /// Both are offered, only FIR is answered.
    FirOnly,
    /// PLI is offered, nothing is answered.
    Deaf,
    /// Nothing is offered, nothing is answered.
    NotOffered,
}

/// The clocks that sender reports tell of.
#[derive(Clone, Copy, Debug)]
pub struct Reports {
    pub interval: Duration,
    /// So much later than the video's is the audio's report of the same instant: a delayed audio path.
    pub audio_late: Duration,
}

impl Default for Reports {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), audio_late: Duration::ZERO }
    }
}
