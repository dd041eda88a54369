//! How far apart two recordings are to the ear, roughly: the distance of their spectra.

use rustfft::{FftPlanner, num_complex::Complex};

/// 43 ms at 48 kHz: as long as encoders look.
const WINDOW: usize = 2048;
const CHANNELS: usize = 2;
/// What is this much weaker than full scale is not heard.
const FLOOR_DB: f32 = -80.0;
/// Encoders and decoders delay by less.
const LONGEST_DELAY: usize = 4096;
/// Bins up to 16 kHz.
const BINS: usize = WINDOW / 3;

/// The log-spectral distance in dB, in the mean over time, of interleaved stereo samples. Delays are found and taken out.
pub(crate) fn distance(sent: &[f32], got: &[f32]) -> f64 {
    let (sent, got) = (left(sent), left(got));
    let got = &got[delay(&sent, &got)..];
    let mut planner = FftPlanner::new();
    let fft = planner.plan_fft_forward(WINDOW);
    let spectrum = |samples: &[f32]| -> Vec<f32> {
        let hann = |at: usize| 0.5 - 0.5 * (std::f32::consts::TAU * at as f32 / WINDOW as f32).cos();
        let mut bins: Vec<Complex<f32>> =
            samples.iter().enumerate().map(|(at, sample)| Complex::new(sample * hann(at), 0.0)).collect();
        fft.process(&mut bins);
        let decibels = |bin: &Complex<f32>| (20.0 * (bin.norm() / (WINDOW as f32 / 4.0)).log10()).max(FLOOR_DB);
        bins[..BINS].iter().map(decibels).collect()
    };
    let windows = sent.chunks_exact(WINDOW).zip(got.chunks_exact(WINDOW));
    let distances: Vec<f64> = windows
        .map(|(sent, got)| {
            let (sent, got) = (spectrum(sent), spectrum(got));
            let squares = sent.iter().zip(&got).map(|(sent, got)| f64::from(sent - got).powi(2)).sum::<f64>();
            (squares / BINS as f64).sqrt()
        })
        .collect();
    distances.iter().sum::<f64>() / distances.len().max(1) as f64
}

fn left(samples: &[f32]) -> Vec<f32> {
    samples.iter().step_by(CHANNELS).copied().collect()
}

/// By how many samples `got` is later: where both are most alike.
fn delay(sent: &[f32], got: &[f32]) -> usize {
    // A second from the middle of the first ten.
    let part = 5 * 48_000..6 * 48_000;
    let alike = |delay: &usize| -> f32 {
        let got = &got[part.start + delay..part.end + delay];
        sent[part.clone()].iter().zip(got).map(|(sent, got)| sent * got).sum()
    };
    let best = (0..LONGEST_DELAY).map(|delay| (delay, alike(&delay))).max_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(0, |(delay, _)| delay)
}
