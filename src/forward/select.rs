//! Which layer a viewer gets: the largest that its network carries. Pure.
//!
//! Down at once, up only when there has been room for a while: every change costs a keyframe, and estimates vary.

use std::time::{Duration, Instant};

use super::streams::Layer;

/// What a viewer wants at most; nothing set: what its network carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerLimits {
    /// The largest layer, counted from the smallest.
    pub layer: Option<usize>,
    /// The highest temporal layer.
    pub temporal: Option<u8>,
    /// The widest pictures.
    pub width: Option<u16>,
    /// The highest pictures.
    pub height: Option<u16>,
}

impl LayerLimits {
    /// How many of these layers are within them; the smallest always is, as it is better than nothing.
    fn allowed(&self, layers: &[Layer]) -> usize {
        let fits = |(index, layer): (usize, &Layer)| {
            let within = |limit: Option<u16>, side: u16| limit.is_none_or(|limit| side <= limit);
            let is_small =
                layer.size.is_none_or(|(width, height)| within(self.width, width) && within(self.height, height));
            index == 0 || (self.layer.is_none_or(|most| index <= most) && is_small)
        };
        layers.iter().enumerate().take_while(|(index, layer)| fits((*index, layer))).count()
    }
}

/// A layer goes on as long as it is no more than this of what is estimated.
pub(super) const KEEP: f64 = 1.0;
/// A larger one needs this much room.
pub(super) const ROOM: f64 = 0.8;
/// For so long.
const STEADY: Duration = Duration::from_millis(800);

/// Down at once, up when there has been room for a while.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Since when there has been room for this one.
    room: Option<(u64, Instant)>,
}

impl Patience {
    /// Which of several goes out when `current` did: `kept` is the largest that fits, `upper` the largest with room to
    /// spare. `key` names them for next time.
    pub(super) fn choose(
        &mut self,
        current: usize,
        kept: usize,
        upper: usize,
        key: impl Fn(usize) -> Option<u64>,
        now: Instant,
    ) -> usize {
        if kept < current {
            self.room = None;
            kept
        } else if upper > current {
            let target = key(upper);
            let since = self.room.filter(|(stream, _)| Some(*stream) == target).map_or(now, |(_, since)| since);
            self.room = target.map(|target| (target, since));
            if now.saturating_duration_since(since) >= STEADY { upper } else { current }
        } else {
            self.room = None;
            current
        }
    }
}

/// The choice for one viewer.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// The stream that it shall get.
    wanted: Option<u64>,
    patience: Patience,
    /// What the viewer wants.
    pub(super) limits: LayerLimits,
}

impl Selection {
    /// Decides anew; `layers` from the smallest to the largest.
    pub(super) fn decide(&mut self, layers: &[Layer], estimate: Option<u64>, now: Instant) -> Option<u64> {
        let layers = layers.get(..self.limits.allowed(layers)).unwrap_or_default();
        let current = self.wanted.and_then(|wanted| layers.iter().position(|layer| layer.stream == wanted));
        let fits = |share: f64| {
            let Some(estimate) = estimate else { return layers.len().saturating_sub(1) };
            let fitting = layers.iter().rposition(|layer| layer.rate as f64 <= estimate as f64 * share);
            fitting.unwrap_or(0) // the smallest is better than nothing
        };
        let chosen = match current {
            None => fits(ROOM),
            Some(current) => {
                let key = |index: usize| layers.get(index).map(|layer| layer.stream);
                self.patience.choose(current, fits(KEEP), fits(ROOM), key, now)
            }
        };
        self.wanted = layers.get(chosen).map(|layer| layer.stream).or(self.wanted);
        self.wanted
    }

    /// The stream that it shall get, as decided last.
    pub(super) fn wanted(&self) -> Option<u64> {
        self.wanted
    }

    /// What is of use to be known of the network: room for the next layer, or for the one that goes out.
    pub(super) fn useful(&self, layers: &[Layer]) -> Option<u64> {
        let layers = layers.get(..self.limits.allowed(layers)).unwrap_or_default();
        let current = self.wanted.and_then(|wanted| layers.iter().position(|layer| layer.stream == wanted))?;
        let next = layers.get(current + 1).or_else(|| layers.get(current))?;
        Some((next.rate as f64 / ROOM * 1.2) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: [Layer; 3] = [
        Layer { stream: 1, ssrc: 1, rate: 150_000, size: Some((320, 180)) },
        Layer { stream: 2, ssrc: 2, rate: 500_000, size: Some((640, 360)) },
        Layer { stream: 3, ssrc: 3, rate: 2_000_000, size: Some((1280, 720)) },
    ];

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_choice_fits_and_without_an_estimate_it_is_the_largest() {
        let now = Instant::now();
        assert_eq!(Selection::default().decide(&LAYERS, None, now), Some(3));
        assert_eq!(Selection::default().decide(&LAYERS, Some(1_000_000), now), Some(2));
        assert_eq!(Selection::default().decide(&LAYERS, Some(100_000), now), Some(1), "better than nothing");
        assert_eq!(Selection::default().decide(&[], Some(100_000), now), None);
    }

    #[test]
    fn down_at_once_and_up_when_there_has_been_room_for_a_while() {
        let (mut selection, now) = (Selection::default(), Instant::now());
        assert_eq!(selection.decide(&LAYERS, Some(3_000_000), now), Some(3));
        assert_eq!(selection.decide(&LAYERS, Some(400_000), now + ms(10)), Some(1));
        assert_eq!(selection.decide(&LAYERS, Some(3_000_000), now + ms(20)), Some(1));
        assert_eq!(selection.decide(&LAYERS, Some(400_000), now + ms(500)), Some(1), "it did not last");
        assert_eq!(selection.decide(&LAYERS, Some(3_000_000), now + ms(600)), Some(1));
        assert_eq!(selection.decide(&LAYERS, Some(3_000_000), now + ms(1500)), Some(3));
    }

    #[test]
    fn an_estimate_that_varies_around_the_rate_changes_nothing() {
        let (mut selection, now) = (Selection::default(), Instant::now());
        selection.decide(&LAYERS, Some(3_000_000), now);
        for step in 0..100 {
            let estimate = if step % 2 == 0 { 2_010_000 } else { 2_600_000 };
            assert_eq!(selection.decide(&LAYERS, Some(estimate), now + ms(50 * step)), Some(3));
        }
    }

    #[test]
    fn a_layer_that_is_gone_is_replaced_at_once() {
        let (mut selection, now) = (Selection::default(), Instant::now());
        selection.decide(&LAYERS, None, now);
        assert_eq!(selection.decide(&LAYERS[..2], None, now + ms(1)), Some(2));
    }

    #[test]
    fn a_viewer_gets_no_more_than_it_wants() {
        let wants = |limits| {
            let (mut selection, now) = (Selection { limits, ..Selection::default() }, Instant::now());
            (selection.decide(&LAYERS, Some(9_000_000), now), selection.useful(&LAYERS))
        };
        let none = LayerLimits::default();
        assert_eq!(wants(LayerLimits { layer: Some(1), ..none }), (Some(2), Some(750_000)));
        assert_eq!(wants(LayerLimits { width: Some(640), height: Some(480), ..none }).0, Some(2));
        assert_eq!(wants(LayerLimits { height: Some(100), ..none }).0, Some(1), "better than nothing");
        assert_eq!(wants(LayerLimits { layer: Some(7), ..none }).0, Some(3));
        let (mut selection, now) = (Selection::default(), Instant::now());
        selection.decide(&LAYERS, None, now);
        selection.limits.layer = Some(0);
        assert_eq!(selection.decide(&LAYERS, None, now), Some(1), "at once");
    }

    #[test]
    fn what_is_useful_to_know_is_whether_the_next_layer_fits() {
        let (mut selection, now) = (Selection::default(), Instant::now());
        selection.decide(&LAYERS, Some(700_000), now);
        assert_eq!(selection.useful(&LAYERS), Some(3_000_000));
    }
}
