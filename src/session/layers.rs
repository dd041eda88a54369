//! Which of a track's layers is the best that is alive: pure policy, fed with what was heard and when.
//!
//! A simulcast sender starts and stops its layers as its bandwidth allows. The largest picture wins; layers of unknown or
//! equal size are told apart by bitrate. Nothing is measured by a clock of our own: a layer is silent when the others
//! have gone on without it, so a still screen at one frame a second, with all its layers, is not.

use std::time::{Duration, Instant};

use super::reception::Rate;

/// A layer that the others have outlived for so long is gone.
pub(super) const SILENCE: Duration = Duration::from_millis(500);
/// A layer is switched up to only after it has been sent for so long: bandwidth that comes and goes would else change the
/// picture's size every second.
const STEADY: Duration = Duration::from_millis(500);
/// Layers kept of one track: three or four are usual, some more come from senders that start anew.
pub(super) const MOST_LAYERS: usize = 8;

/// One layer, as far as the choice is concerned.
#[derive(Debug)]
struct Layer {
    since: Instant,
    last: Instant,
    bytes: Rate,
    /// Pixels of its pictures; 0 as long as no keyframe has told.
    pixels: u32,
}

/// The layers of one track, by index.
#[derive(Debug, Default)]
pub(super) struct Layers {
    layers: Vec<Option<Layer>>,
    newest: Option<Instant>,
}

impl Layers {
    /// A packet of a layer has come.
    pub(super) fn heard(&mut self, index: usize, bytes: usize, now: Instant) {
        if self.layers.len() <= index {
            self.layers.resize_with(index + 1, || None);
        }
        self.newest = Some(now);
        let Some(slot) = self.layers.get_mut(index) else { return };
        let layer = slot.get_or_insert_with(|| Layer { since: now, last: now, bytes: Rate::default(), pixels: 0 });
        if now.saturating_duration_since(layer.last) > SILENCE {
            layer.since = now;
        }
        layer.last = now;
        layer.bytes.add(bytes, now);
    }

    /// A keyframe has told the size of its pictures.
    pub(super) fn sized(&mut self, index: usize, (width, height): (u16, u16)) {
        if let Some(Some(layer)) = self.layers.get_mut(index) {
            layer.pixels = u32::from(width) * u32::from(height);
        }
    }

    /// Forgets a layer: its place is for another.
    pub(super) fn remove(&mut self, index: usize) {
        if let Some(slot) = self.layers.get_mut(index) {
            *slot = None;
        }
    }

    /// Whether a layer is being sent.
    pub(super) fn is_live(&self, index: usize) -> bool {
        let heard = self.layers.get(index).and_then(Option::as_ref);
        heard.is_some_and(|layer| self.age(layer) < SILENCE)
    }

    /// How long nothing has come of a layer while others were heard; `None` for one that was never heard.
    pub(super) fn silence(&self, index: usize) -> Option<Duration> {
        self.layers.get(index)?.as_ref().map(|layer| self.age(layer))
    }

    /// The layer to be taken, given the one that is: that one, unless it has died or a better one is steady.
    pub(super) fn best(&self, active: Option<usize>) -> Option<usize> {
        let alive = active.filter(|&active| self.is_live(active));
        let mut best = alive.and_then(|index| self.of(index));
        for (index, layer) in self.layers.iter().enumerate() {
            let Some(layer) = layer.as_ref().filter(|layer| self.age(layer) < SILENCE) else { continue };
            if best.is_none_or(|(current, other)| layer.is_better_than(other, Some(current) == active)) {
                best = Some((index, layer));
            }
        }
        // Not the second best meanwhile: two changes are worse than a late one.
        let is_steady = |layer: &Layer| layer.last.saturating_duration_since(layer.since) >= STEADY;
        let best = best.filter(|(_, layer)| alive.is_none() || is_steady(layer)).map(|(index, _)| index);
        best.or(active)
    }

    fn of(&self, index: usize) -> Option<(usize, &Layer)> {
        self.layers.get(index)?.as_ref().map(|layer| (index, layer))
    }

    fn age(&self, layer: &Layer) -> Duration {
        self.newest.map_or(Duration::ZERO, |newest| newest.saturating_duration_since(layer.last))
    }
}

impl Layer {
    /// With a quarter more bitrate demanded of a challenger, where only that tells them apart.
    fn is_better_than(&self, other: &Self, other_is_active: bool) -> bool {
        if self.pixels > 0 && other.pixels > 0 && self.pixels != other.pixels {
            return self.pixels > other.pixels;
        }
        let (mine, theirs) = (self.bytes.per_second(), other.bytes.per_second());
        if other_is_active { mine > theirs + theirs / 4 } else { mine > theirs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [(u16, u16); 3] = [(320, 180), (640, 360), (1280, 720)];

    /// Layers that send at 30 fps; `sends` says which of them at a time in ms.
    fn run(layers: &mut Layers, start: Instant, ms: std::ops::Range<u64>, sends: impl Fn(usize) -> bool) {
        for tick in ms.step_by(33) {
            let now = start + Duration::from_millis(tick);
            for (index, size) in SIZES.into_iter().enumerate().filter(|(index, _)| sends(*index)) {
                layers.heard(index, 1000 << index, now);
                layers.sized(index, size);
            }
        }
    }

    #[test]
    fn the_largest_that_is_live_is_the_best() {
        let (mut layers, start) = (Layers::default(), Instant::now());
        run(&mut layers, start, 0..1000, |_| true);
        assert_eq!(layers.best(Some(0)), Some(2));
        assert_eq!(layers.best(Some(2)), Some(2));
    }

    #[test]
    fn a_layer_must_be_steady_before_it_is_switched_up_to() {
        let (mut layers, start) = (Layers::default(), Instant::now());
        run(&mut layers, start, 0..2000, |index| index == 0);
        run(&mut layers, start, 2000..2400, |_| true);
        assert_eq!(layers.best(Some(0)), Some(0));
        run(&mut layers, start, 2400..2700, |_| true);
        assert_eq!(layers.best(Some(0)), Some(2));
    }

    #[test]
    fn the_first_choice_does_not_wait() {
        let (mut layers, start) = (Layers::default(), Instant::now());
        run(&mut layers, start, 0..50, |_| true);
        assert_eq!(layers.best(None), Some(2));
    }

    #[test]
    fn half_a_second_after_a_layer_stopped_the_next_best_is_taken() {
        let (mut layers, start) = (Layers::default(), Instant::now());
        run(&mut layers, start, 0..1000, |_| true);
        run(&mut layers, start, 1000..1400, |index| index < 2);
        assert_eq!(layers.best(Some(2)), Some(2));
        run(&mut layers, start, 1400..1600, |index| index < 2);
        assert_eq!(layers.best(Some(2)), Some(1));
    }

    #[test]
    fn a_screen_that_stands_still_is_not_silent() {
        let (mut layers, start) = (Layers::default(), Instant::now());
        for second in 0..10 {
            for (index, size) in SIZES.into_iter().enumerate() {
                layers.heard(index, 1000, start + Duration::from_millis(second * 1000 + index as u64));
                layers.sized(index, size);
            }
            assert_eq!(layers.best(Some(2)), Some(2));
        }
    }

    #[test]
    fn a_sender_that_starts_anew_under_another_number_is_followed() {
        let (mut layers, start) = (Layers::default(), Instant::now());
        run(&mut layers, start, 0..1000, |index| index == 2);
        run(&mut layers, start, 1000..1600, |index| index == 0);
        assert_eq!(layers.best(Some(2)), Some(0), "smaller, but all there is");
    }

    #[test]
    fn layers_of_unknown_size_are_told_apart_by_bitrate_and_not_at_every_turn() {
        let (mut layers, start) = (Layers::default(), Instant::now());
        for tick in (0..3000).step_by(33) {
            let now = start + Duration::from_millis(tick);
            layers.heard(0, 1000, now);
            layers.heard(1, 1100, now);
            layers.heard(2, 2000, now);
        }
        assert_eq!(layers.best(Some(0)), Some(2));
        layers.remove(2);
        assert_eq!(layers.best(Some(0)), Some(0), "a tenth more is not worth a switch");
        assert_eq!(layers.best(Some(1)), Some(1));
    }
}
