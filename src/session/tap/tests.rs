//! Tests of what is kept of streams.

use super::*;

#[test]
fn layers_that_have_vanished_make_room_for_those_that_there_are() {
    let state = TapState::new(1);
    let now = Instant::now();
    let asked = |ssrc: u32| {
        state.with_layer(0, ssrc, KeyframePolicy::want);
        let (due, _) = state.due_layers(|_| Means { pli: true, fir: false }, now);
        due.iter().any(|(_, of, _)| *of == ssrc)
    };
    let vanished: Vec<u32> = (0..MOST_STREAMS as u32).collect();
    assert!(vanished.iter().all(|ssrc| asked(*ssrc)));
    for ssrc in [1000, 1001] {
        state.record().stream(ssrc, 0).unwrap();
    }
    assert!(asked(1000), "keyframes that never come were waited for");
    assert!(asked(1001));
    assert_eq!(state.layers.lock().unwrap().len(), 2);
}
