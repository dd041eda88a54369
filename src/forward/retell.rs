//! What one viewer is told of frames' layers in dependency descriptors: the numbers that its frames have, and which of what
//! could be decoded it is sent. Pure.
//!
//! Frames that are left out leave gaps in the numbers, as they may. A viewer that was told nothing of a stream's layers would
//! drop what refers to them: it gets descriptors from the first keyframe on that tells.

use bytes::Bytes;

use crate::codec::DependencyDescriptor;

/// The state of one track of one viewer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retelling {
    /// The streams of which the viewer was told the layers: the one that goes out and the one before it.
    told: [Option<u64>; 2],
    /// It was told that not all goes out, and has to hear when all does again.
    is_less: bool,
}

impl Retelling {
    /// The descriptor of a packet that goes out with this number of its frame; `top` is the highest layer in time and in
    /// size that goes out of its picture. `None` where the viewer cannot read it.
    pub(super) fn retell(
        &mut self,
        stream: u64,
        descriptor: &DependencyDescriptor,
        frame: u16,
        (temporal, spatial): (u8, u8),
    ) -> Option<Bytes> {
        let [current, _] = self.told;
        if descriptor.attaches && current != Some(stream) {
            self.told = [Some(stream), current];
        }
        if !self.told.contains(&Some(stream)) {
            return None;
        }
        let (all, within) = (descriptor.structure.all(), descriptor.structure.within(temporal, spatial));
        // With a structure all is sent unless it says otherwise; from then on what was said last holds.
        self.is_less = within != all || (self.is_less && !descriptor.attaches);
        let active = descriptor.active.unwrap_or(all) & within;
        Some(descriptor.retold(frame, self.is_less.then_some(active)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::LayerStructure;

    /// Two layers in time with a target each, templates T0 (keyframe), T0, T1; nothing refers to anything.
    const KEYFRAME: [u8; 8] = [0xC0, 0x12, 0x34, 0x80, 0x01, 0x1E, 0xA8, 0x40];

    fn keyframe() -> DependencyDescriptor {
        DependencyDescriptor::parse(&Bytes::from_static(&KEYFRAME), None).unwrap()
    }

    fn later(structure: &Arc<LayerStructure>) -> DependencyDescriptor {
        DependencyDescriptor::parse(&Bytes::from_static(&[0xC1, 0x12, 0x35]), Some(structure)).unwrap()
    }

    fn active(told: &Bytes, structure: &Arc<LayerStructure>) -> Option<u32> {
        DependencyDescriptor::parse(told, Some(structure)).unwrap().active
    }

    #[test]
    fn who_was_not_told_the_layers_is_told_nothing() {
        let (mut retelling, key) = (Retelling::default(), keyframe());
        let later = later(&key.structure);
        assert_eq!(retelling.retell(1, &later, 5, (9, 9)), None);
        assert_eq!(retelling.retell(1, &key, 0x1234, (9, 9)), Some(Bytes::from_static(&KEYFRAME)));
        assert_eq!(retelling.retell(1, &later, 5, (9, 9)).unwrap()[..], [0xC1, 0, 5]);
        assert_eq!(retelling.retell(2, &later, 5, (9, 9)), None, "another stream");
        assert!(retelling.retell(2, &key, 6, (9, 9)).is_some());
        assert!(retelling.retell(1, &later, 5, (9, 9)).is_some(), "what it still owes");
        assert!(retelling.retell(3, &key, 7, (9, 9)).is_some());
        assert_eq!(retelling.retell(1, &later, 5, (9, 9)), None);
    }

    #[test]
    fn what_is_left_out_is_told_until_a_keyframe_of_all() {
        let (mut retelling, key) = (Retelling::default(), keyframe());
        let (structure, later) = (&key.structure, later(&key.structure));
        assert_eq!((structure.all(), structure.within(0, 0)), (0b11, 0b01));
        let mut told = |descriptor: &DependencyDescriptor, temporal: u8| {
            active(&retelling.retell(1, descriptor, 5, (temporal, 0)).unwrap(), structure)
        };
        assert_eq!((told(&key, 9), told(&later, 9)), (Some(0b11), None), "nothing to be told");
        assert_eq!((told(&later, 0), told(&later, 0)), (Some(0b01), Some(0b01)));
        assert_eq!((told(&later, 9), told(&later, 9)), (Some(0b11), Some(0b11)), "all again");
        assert_eq!((told(&key, 9), told(&later, 9)), (Some(0b11), None));
        assert_eq!((told(&key, 0), told(&later, 0)), (Some(0b01), Some(0b01)));
    }

    #[test]
    fn what_the_publisher_does_not_send_is_not_promised() {
        let (mut retelling, key) = (Retelling::default(), keyframe());
        let mut less = later(&key.structure);
        less.active = Some(0b10);
        retelling.retell(1, &key, 1, (9, 9));
        let told = retelling.retell(1, &less, 2, (0, 0)).unwrap();
        assert_eq!(active(&told, &key.structure), Some(0));
    }
}
