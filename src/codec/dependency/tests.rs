//! Tests of the dependency descriptor.

use proptest::prelude::*;

use super::*;

/// Three layers in time as libwebrtc's L1T3 describes them: templates of T0 (keyframe), T0, T1, T2, T2.
fn three_in_time(first: u8, size: Option<(u16, u16)>) -> Writer {
    let mut bits = Writer::default();
    bits.put(6, u32::from(first));
    bits.put(5, 2); // three decode targets
    for next in [0, 1, 1, 0, 3] {
        bits.put(2, next);
    }
    for indications in ["SSS", "SSS", "-DS", "--D", "--D"] {
        for indication in indications.bytes() {
            bits.put(
                2,
                match indication {
                    b'-' => 0,
                    b'D' => 1,
                    b'S' => 2,
                    _ => 3,
                },
            );
        }
    }
    for references in [&[][..], &[4], &[2], &[1], &[1]] {
        for reference in references {
            bits.put(1, 1);
            bits.put(4, reference - 1);
        }
        bits.put(1, 0);
    }
    bits.put(2, 1); // one chain of 0 to 3: ns(4)
    // Which of one chain protects a target takes no bits.
    for chain in [0, 4, 2, 1, 3] {
        bits.put(4, chain);
    }
    bits.put(1, u32::from(size.is_some()));
    if let Some((width, height)) = size {
        bits.put(16, u32::from(width) - 1);
        bits.put(16, u32::from(height) - 1);
    }
    bits
}

fn head(template: u8, frame: u16) -> Writer {
    let mut bits = Writer::default();
    bits.put(2, 0b11);
    bits.put(6, u32::from(template));
    bits.put(16, u32::from(frame));
    bits
}

fn keyframe(first: u8, frame: u16, size: Option<(u16, u16)>) -> Bytes {
    let mut bits = head(first, frame);
    bits.put(5, 0b10000);
    let structure = three_in_time(first, size);
    bits.copy(&structure.bytes, 0..structure.length);
    Bytes::from(bits.bytes)
}

fn structure() -> Arc<LayerStructure> {
    DependencyDescriptor::parse(&keyframe(60, 1, Some((640, 360))), None).unwrap().structure
}

fn short(template: u8, frame: u16) -> Bytes {
    Bytes::from(head(template, frame).bytes)
}

#[test]
fn a_keyframe_tells_the_layers_and_others_name_theirs() {
    let key = DependencyDescriptor::parse(&keyframe(60, 0xABCD, Some((640, 360))), None).unwrap();
    assert_eq!((key.frame, key.attaches, key.active, key.begins, key.ends), (0xABCD, true, Some(0b111), true, true));
    assert_eq!(key.structure.targets, [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(key.structure.sizes(), [(640, 360)]);
    let known = Some(&key.structure);
    // Numbers of templates go round at 64.
    let of =
        |template| DependencyDescriptor::parse(&short(template, 7), known).map(|d| (d.layer.temporal, d.layer.opens));
    assert_eq!([60, 61, 62, 63, 0].map(of), [(0, Some(2)), (0, Some(2)), (1, Some(2)), (2, None), (2, None)].map(Some));
    assert_eq!([1, 59].map(of), [None, None], "there are five");
    assert_eq!(DependencyDescriptor::parse(&short(60, 7), None), None, "the layers are not known");
}

#[test]
fn what_a_frame_says_of_itself_counts_more_than_its_template() {
    let mut bits = head(62, 7);
    bits.put(5, 0b00100);
    for indication in [0, 1, 1] {
        bits.put(2, indication);
    }
    let own = DependencyDescriptor::parse(&Bytes::from(bits.bytes), Some(&structure())).unwrap();
    assert_eq!((own.layer.temporal, own.layer.opens), (1, None));
}

#[test]
fn targets_are_those_that_need_no_layer_above() {
    let structure = structure();
    let within = [0, 1, 2, u8::MAX].map(|temporal| structure.within(temporal, u8::MAX));
    assert_eq!((within, structure.all()), ([0b001, 0b011, 0b111, 0b111], 0b111));
}

#[test]
fn another_number_leaves_all_else_as_it_is() {
    let (raw, known) = (keyframe(60, 1, Some((640, 360))), structure());
    let told = DependencyDescriptor::parse(&raw, None).unwrap();
    assert_eq!(told.retold(1, None), raw);
    let changed = told.retold(0xFEDC, None);
    assert_eq!((changed[..1].to_vec(), changed[3..].to_vec()), (raw[..1].to_vec(), raw[3..].to_vec()));
    assert_eq!(DependencyDescriptor::parse(&changed, None).unwrap().frame, 0xFEDC);
    let told = DependencyDescriptor::parse(&short(61, 9), Some(&known)).unwrap();
    assert_eq!(told.retold(10, None), short(61, 10));
}

#[test]
fn the_targets_that_are_sent_are_told_where_they_belong() {
    let known = structure();
    let mut with_own = head(62, 5);
    with_own.put(5, 0b01100);
    with_own.put(3, 0b111);
    for indication in [0, 1, 2] {
        with_own.put(2, indication);
    }
    for raw in [keyframe(60, 5, Some((640, 360))), keyframe(60, 5, None), short(62, 5), Bytes::from(with_own.bytes)] {
        let told = DependencyDescriptor::parse(&raw, Some(&known)).unwrap();
        let changed = told.retold(6, Some(0b011));
        let again = DependencyDescriptor::parse(&changed, Some(&known)).unwrap();
        assert_eq!((again.frame, again.active, &again.layer), (6, Some(0b011), &told.layer), "{raw:?}");
        assert_eq!((&again.structure, again.attaches), (&told.structure, told.attaches));
        assert!(changed.len() <= raw.len() + 2, "{raw:?} {changed:?}");
        assert_eq!(again.retold(5, told.active).len(), changed.len(), "it does not grow with each time");
    }
}

#[test]
fn structures_are_bounded() {
    let endless = |next: u32| {
        let mut bits = head(0, 1);
        bits.put(5, 0b10000);
        bits.put(11, 0);
        (0..900).for_each(|_| bits.put(2, next));
        DependencyDescriptor::parse(&Bytes::from(bits.bytes), None)
    };
    assert_eq!([0, 1, 2].map(endless), [None, None, None]);
    let mut bits = head(0, 1);
    bits.put(5, 0b10000);
    bits.put(11, 0);
    bits.put(2, 3);
    (0..1900).for_each(|_| bits.put(1, 1));
    assert_eq!(DependencyDescriptor::parse(&Bytes::from(bits.bytes), None), None, "a frame of endless references");
}

#[test]
fn what_is_cut_off_is_no_descriptor() {
    let (whole, known) = (keyframe(60, 1, Some((640, 360))), structure());
    for length in 0..whole.len() {
        let cut = whole.slice(..length);
        // The head alone is one that tells no layers.
        let is_head = length == 3;
        assert_eq!(DependencyDescriptor::parse(&cut, Some(&known)).is_some(), is_head, "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, what is made of it can be read again and says what it shall.
    #[test]
    fn whatever_comes_is_refused_or_can_be_told_anew(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        starts_like_a_keyframe: bool,
        frame: u16,
        active in prop::option::of(any::<u32>()),
    ) {
        let mut bytes = bytes;
        if starts_like_a_keyframe {
            let mut whole = keyframe(60, 1, Some((640, 360))).to_vec();
            let length = whole.len();
            for (index, byte) in bytes.iter().enumerate().take(3) {
                whole[(usize::from(*byte) + index) % length] ^= 1 << (byte % 8);
            }
            bytes = whole;
        }
        let (raw, known) = (Bytes::from(bytes), structure());
        if let Some(told) = DependencyDescriptor::parse(&raw, Some(&known)) {
            prop_assert!(told.structure.templates.len() <= MOST_TEMPLATES && told.structure.targets.len() <= 32);
            let active = active.map(|active| active & told.structure.all());
            let again = DependencyDescriptor::parse(&told.retold(frame, active), Some(&known));
            let again = again.map(|again| (again.frame, again.layer, again.structure, again.active, again.attaches));
            let expected = active.or(told.active);
            prop_assert_eq!(again, Some((frame, told.layer, told.structure.clone(), expected, told.attaches)));
        }
    }
}
