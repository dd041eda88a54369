//! Decoding times for pictures that have none, as those of Matroska files. Pure.

/// H.264 reorders no more than that.
const DEEPEST: usize = 16;

/// The latest pictures, in the order in which they are shown.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    recent: Vec<i64>,
    /// How many pictures come before one that is shown earlier; learned from the pictures themselves.
    depth: usize,
}

impl Reorder {
    /// The decoding time of the next picture: as many pictures before the latest as decoders hold back.
    pub(super) fn decoded_at(&mut self, pts: i64) -> i64 {
        let place = self.recent.partition_point(|shown| *shown <= pts);
        self.depth = self.depth.max(self.recent.len() - place).min(DEEPEST);
        self.recent.insert(place, pts);
        let surplus = self.recent.len().saturating_sub(self.depth + 1);
        self.recent.drain(..surplus);
        self.recent.first().map_or(pts, |first| pts.min(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_in_order_are_decoded_when_they_are_shown() {
        let mut reorder = Reorder::default();
        assert!((0..100).all(|at| reorder.decoded_at(at * 33) == at * 33));
    }

    #[test]
    fn pictures_out_of_order_are_decoded_in_time_once_the_depth_is_known() {
        let mut reorder = Reorder::default();
        // I, then P B B again and again.
        let shown = |group: i64| [group + 120, group + 40, group + 80];
        let pts: Vec<_> = std::iter::once(0).chain((0..20).flat_map(|group| shown(group * 120))).collect();
        let dts: Vec<_> = pts.iter().map(|pts| reorder.decoded_at(*pts)).collect();
        assert!(pts.iter().zip(&dts).all(|(pts, dts)| dts <= pts));
        assert!(dts[4..].is_sorted_by(|a, b| a < b), "{dts:?}");
    }
}
