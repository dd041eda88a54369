//! Which video encoders there are on this machine and which of them work: for programs that advise its owner.

use std::time::Duration;

use super::{
    candidates, proof,
    unit::{Style, Tuning},
};
use crate::codec::{Codec, MediaKind};

/// One encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Its factory.
    pub name: String,
    /// What it makes.
    pub codec: Codec,
    /// Whether it is hardware.
    pub is_hardware: bool,
    /// Whether it works here, and why not.
    pub works: Result<(), String>,
}

/// Tries all that could be chosen, in the order in which they would be. Takes some seconds for each that hangs.
pub fn survey() -> Vec<Surveyed> {
    let tuning = Tuning {
        bitrate: 2_500_000,
        keyframe_interval: Duration::from_secs(2),
        frame_rate: Some(30.0),
        style: Style::Broadcast,
    };
    let video = Codec::ALL.into_iter().filter(|codec| codec.kind() == MediaKind::Video);
    let of_codec = |codec| candidates::all(codec).into_iter().map(move |candidate| (codec, candidate));
    let surveyed = video.flat_map(of_codec).map(|(codec, candidate)| Surveyed {
        name: candidate.name(),
        codec,
        is_hardware: candidate.hardware,
        works: proof::prove(&candidate, &tuning),
    });
    surveyed.collect()
}
