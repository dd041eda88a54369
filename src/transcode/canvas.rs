//! The canvas: which size a picture gets. Pure.

/// What was asked for. Zero leaves a number open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Canvas {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Frames a second, as a fraction.
    pub framerate: Option<(i32, i32)>,
}

/// A size in pixels, and how wide a pixel is to its height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixel: (u32, u32),
}

/// Less than one macroblock is more trouble than it is worth to encoders; more than this none takes.
const SIDE: std::ops::RangeInclusive<u128> = 16..=16_384;

impl Canvas {
    /// Whether anything was asked for, so that video cannot pass as it is.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// The size in which a picture with square pixels is shown.
    pub fn size_for(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let picture = self.picture(Picture { width, height, pixel: (1, 1) });
        (picture.width, picture.height)
    }

    /// The picture that is encoded when this one comes in first. Sides are even, because 4:2:0 halves them.
    pub(super) fn picture(&self, input: Picture) -> Picture {
        let (wide, high) = input.pixel;
        // Both sides as they are to be shown.
        let shown_width = u128::from(input.width.max(1)) * u128::from(wide.max(1));
        let shown_height = u128::from(input.height.max(1)) * u128::from(high.max(1));
        let (width, height, pixel) = match (self.width, self.height) {
            (0, 0) => (input.width.into(), input.height.into(), (wide.max(1), high.max(1))),
            (width, 0) => (width.into(), nearest(u128::from(width) * shown_height, shown_width), (1, 1)),
            (0, height) => (nearest(u128::from(height) * shown_width, shown_height), height.into(), (1, 1)),
            (width, height) => (width.into(), height.into(), (1, 1)),
        };
        Picture { width: even(width), height: even(height), pixel }
    }
}

fn nearest(numerator: u128, denominator: u128) -> u128 {
    (numerator + denominator / 2) / denominator
}

/// The nearest even side below, within what encoders take.
fn even(side: u128) -> u32 {
    let side = side.clamp(*SIDE.start(), *SIDE.end());
    u32::try_from(side - side % 2).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(canvas: (u32, u32), input: (u32, u32), pixel: (u32, u32)) -> (u32, u32, (u32, u32)) {
        let canvas = Canvas { width: canvas.0, height: canvas.1, framerate: None };
        let Picture { width, height, pixel } = canvas.picture(Picture { width: input.0, height: input.1, pixel });
        (width, height, pixel)
    }

    #[test]
    fn without_a_size_the_pictures_own_is_kept_and_made_even() {
        assert_eq!(picture((0, 0), (640, 360), (1, 1)), (640, 360, (1, 1)));
        assert_eq!(picture((0, 0), (641, 361), (4, 3)), (640, 360, (4, 3)));
        assert_eq!(picture((0, 0), (1, 1), (0, 0)), (16, 16, (1, 1)));
    }

    #[test]
    fn one_side_alone_keeps_the_aspect() {
        assert_eq!(picture((1280, 0), (640, 360), (1, 1)), (1280, 720, (1, 1)));
        assert_eq!(picture((0, 720), (640, 360), (1, 1)), (1280, 720, (1, 1)));
        assert_eq!(picture((0, 480), (1080, 1920), (1, 1)), (270, 480, (1, 1)));
        // 480 x 480 pixels, each twice as wide as it is high.
        assert_eq!(picture((640, 0), (480, 480), (2, 1)), (640, 320, (1, 1)));
        assert_eq!(picture((853, 0), (1280, 720), (1, 1)), (852, 480, (1, 1)));
    }

    #[test]
    fn both_sides_are_what_was_asked_for() {
        assert_eq!(picture((1920, 1080), (640, 480), (8, 9)), (1920, 1080, (1, 1)));
        assert_eq!(picture((641, 361), (640, 480), (1, 1)), (640, 360, (1, 1)));
    }

    #[test]
    fn absurd_sizes_stay_in_bounds() {
        assert_eq!(picture((1280, 0), (1, u32::MAX), (1, u32::MAX)), (1280, 16_384, (1, 1)));
        assert_eq!(picture((1280, 0), (u32::MAX, 1), (u32::MAX, 1)), (1280, 16, (1, 1)));
    }
}
