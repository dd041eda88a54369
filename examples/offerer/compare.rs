//! Whether what came back is what was sent: pictures by their signal-to-noise ratio, sound by correlation. Codecs lose a little
//! of both, so neither is ever the same bit for bit.

use std::fmt;

use crate::recording::Recording;

/// The longest way there and back.
const LONGEST: u64 = 2_000_000_000;
/// What comes back is timed by when it comes and by what its sender reports, which puts it a little too early at times.
const EARLY: u64 = 300_000_000;
/// A picture with less than this (PSNR, in dB) is another picture; video at a good bitrate has 35 and more.
const TRUE_PICTURE: f64 = 27.0;
/// Waveforms that correlate less are other sounds.
const TRUE_SOUND: f64 = 0.8;
/// So much of the pictures, and of the sound, must come back: a machine that does other things at the same time leaves pictures out.
const MOST: f64 = 0.7;
/// Sound is compared in pieces of 125 ms.
const PIECE: usize = 250;
const RATE: u64 = 2000;
/// So many pieces at most, from everywhere in the file.
const PIECES: usize = 8;

/// How it went.
pub(crate) struct Verdict {
    sent: usize,
    back: usize,
    unit: &'static str,
    /// In the median.
    likeness: f64,
    delay: i64,
    least: f64,
}

impl Verdict {
    /// Whether enough came back, and like it was; what there was none of cannot be wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.sent == 0 || self.back as f64 >= MOST * self.sent as f64 && self.likeness >= self.least
    }

    /// `found`: of some of what came back, the likeness to the best match, and how much earlier that was sent.
    fn new(sent: usize, back: usize, least: f64, unit: &'static str, mut found: Vec<(f64, i64)>) -> Self {
        found.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (likeness, delay) = found.get(found.len() / 2).copied().unwrap_or_default();
        Self { sent, back, unit, likeness, delay, least }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, back, unit, likeness, delay, least } = self;
        write!(f, "{back} of {sent} came back, likeness {likeness:.2}{unit} (at least {least}{unit})")?;
        write!(f, ", {} ms later", delay / 1_000_000)
    }
}

/// Each picture that came back is held against those that were sent at about that time, and is taken for the likest of them.
pub(crate) fn pictures(sent: &Recording, back: &Recording) -> Verdict {
    let (sent, back) = (sent.kept(), back.kept());
    let likest = |(time, picture): &(u64, Vec<u8>)| {
        let near = sent.iter().filter(|(then, _)| (time.saturating_sub(LONGEST)..=time + EARLY).contains(then));
        near.map(|(then, original)| (psnr(original, picture), *time as i64 - *then as i64))
            .max_by(|one, other| one.0.total_cmp(&other.0))
    };
    // One that is like nothing counts as such.
    let found = back.iter().map(|picture| likest(picture).unwrap_or_default()).collect();
    Verdict::new(sent.len(), back.len(), TRUE_PICTURE, " dB", found)
}

/// Peak signal-to-noise ratio.
fn psnr(one: &[u8], other: &[u8]) -> f64 {
    let squares: u64 = one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    let mean = squares as f64 / one.len().max(1) as f64;
    10.0 * (255.0 * 255.0 / mean.max(0.01)).log10()
}

/// Pieces of what came back are shifted along what was sent, to where they fit best.
pub(crate) fn sound(sent: &Recording, back: &Recording) -> Verdict {
    let (sent_from, sent) = samples(&sent.kept());
    let (back_from, back) = samples(&back.kept());
    let count = |time: u64| (time * RATE / 1_000_000_000) as usize;
    let pieces =
        back.chunks_exact(PIECE).enumerate().filter(|(_, piece)| piece.iter().any(|sample| sample.abs() > 0.01));
    let step = (back.len() / PIECE / PIECES).max(1);
    let likest = |(number, piece): (usize, &[f32])| {
        let at = count(back_from.saturating_sub(sent_from)) + number * PIECE;
        let (earliest, latest) = (at.saturating_sub(count(LONGEST)), at + count(EARLY));
        let fits = (earliest..=latest).filter_map(|then| {
            let delay = (at as i64 - then as i64) * 1_000_000_000 / RATE as i64;
            Some((correlation(sent.get(then..then + PIECE)?, piece), delay))
        });
        fits.max_by(|one, other| one.0.total_cmp(&other.0))
    };
    let found = pieces.step_by(step).map(|piece| likest(piece).unwrap_or_default()).collect();
    Verdict::new(sent.len(), back.len(), TRUE_SOUND, "", found)
}

/// When it began, and all of it from -1 to 1.
fn samples(buffers: &[(u64, Vec<u8>)]) -> (u64, Vec<f32>) {
    let bytes = buffers.iter().flat_map(|(_, bytes)| bytes.chunks_exact(2));
    let samples = bytes.map(|bytes| f32::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32768.0);
    (buffers.first().map_or(0, |(time, _)| *time), samples.collect())
}

/// 1 for the same waveform, however loud; 0 for another one.
fn correlation(one: &[f32], other: &[f32]) -> f64 {
    let sums = one
        .iter()
        .zip(other)
        .fold((0.0, 0.0, 0.0), |(both, ones, others), (a, b)| (both + a * b, ones + a * a, others + b * b));
    let (both, ones, others) = sums;
    f64::from(both / (ones * others).sqrt().max(1e-9))
}
