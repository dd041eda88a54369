//! Tests of the switch, with made-up senders.

use bytes::Bytes;

use super::*;

const MEANS: Means = Means { pli: true, fir: false };
const FRAME: u64 = 33;

/// A VP8 sender with layers of growing size, numbered by their SSRC.
struct Sender {
    start: Instant,
    sequence: [u16; 4],
    key: [bool; 4],
}

impl Sender {
    fn new() -> Self {
        Self { start: Instant::now(), sequence: [65_530, 200, 40_000, 9], key: [true; 4] }
    }

    /// A packet of a frame that has two, at its time.
    fn packet(&mut self, layer: usize, frame: u64, is_last: bool) -> RtpPacket {
        let sequence_number = self.sequence[layer];
        self.sequence[layer] = sequence_number.wrapping_add(1);
        let width = 160_u16 << layer;
        let mut payload = vec![0x00, 0xAA];
        if !is_last {
            payload = vec![0x10, u8::from(!std::mem::take(&mut self.key[layer])), 0, 0, 0x9D, 0x01, 0x2A];
            payload.extend(width.to_le_bytes());
            payload.extend(90_u16.to_le_bytes());
        }
        RtpPacket {
            dependencies: None,
            marker: is_last,
            payload_type: 96,
            sequence_number,
            timestamp: (layer as u32 * 1_000_000).wrapping_add(frame as u32 * 2970),
            ssrc: layer as u32 + 1,
            payload: Bytes::from(payload),
            arrival: self.start + Duration::from_millis(frame * FRAME + layer as u64 * 2 + u64::from(is_last)),
        }
    }
}

/// What came out, checked to be one continuous stream.
#[derive(Default)]
struct Out {
    packets: Vec<RtpPacket>,
    asked: Vec<u32>,
}

impl Out {
    /// Sends whole frames, packets of the layers interleaved; a PLI is answered with the next frame.
    fn run(&mut self, switch: &mut Switch, sender: &mut Sender, frames: std::ops::Range<u64>, layers: &[usize]) {
        for frame in frames {
            for is_last in [false, true] {
                for &layer in layers {
                    let packet = sender.packet(layer, frame, is_last);
                    let now = packet.arrival;
                    assert!(switch.take(packet, &mut self.packets));
                    if let Some((ssrc, Ask::Pli)) = switch.poll(MEANS, now) {
                        self.asked.push(ssrc);
                        sender.key[ssrc as usize - 1] = true;
                    }
                }
            }
        }
    }

    fn assert_continuous(&self) {
        for pair in self.packets.windows(2) {
            let [before, after] = pair else { continue };
            assert_eq!(after.sequence_number, before.sequence_number.wrapping_add(1));
            assert_eq!(after.ssrc, before.ssrc);
            let step = after.timestamp.wrapping_sub(before.timestamp).cast_signed();
            // Half a second and some frames, where a layer has to die first.
            assert!(if before.marker { (1..60_000).contains(&step) } else { step == 0 }, "{step} in {pair:?}");
            assert_ne!(before.marker, after.marker, "a frame has two packets");
        }
    }

    fn widths(&self) -> Vec<u16> {
        let mut widths: Vec<u16> = self
            .packets
            .iter()
            .filter_map(|packet| packet.payload.get(7..9).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]])))
            .collect();
        widths.dedup();
        widths
    }
}

#[test]
fn with_all_layers_there_the_largest_goes_out_from_the_first_frame_on() {
    let (mut switch, mut sender, mut out) = (Switch::new(Codec::Vp8, 3), Sender::new(), Out::default());
    out.run(&mut switch, &mut sender, 0..60, &[0, 1, 2]);
    out.assert_continuous();
    assert_eq!((out.widths(), out.packets.len(), out.asked.len()), (vec![640], 120, 0));
}

#[test]
fn up_and_down_at_keyframes_that_were_asked_for() {
    let (mut switch, mut sender, mut out) = (Switch::new(Codec::Vp8, 3), Sender::new(), Out::default());
    out.run(&mut switch, &mut sender, 0..60, &[0]);
    assert_eq!(out.widths(), [160]);
    out.run(&mut switch, &mut sender, 60..120, &[0, 1, 2]);
    assert_eq!((out.widths(), out.asked.as_slice()), (vec![160, 640], &[3][..]));
    out.run(&mut switch, &mut sender, 120..180, &[0, 1]);
    assert_eq!((out.widths(), out.asked.as_slice()), (vec![160, 640, 320], &[3, 2][..]));
    out.run(&mut switch, &mut sender, 180..240, &[0, 1, 2]);
    assert_eq!((out.widths(), out.asked.as_slice()), (vec![160, 640, 320, 640], &[3, 2, 3][..]));
    out.assert_continuous();
    assert_eq!((switch.switches(), switch.active(), switch.is_switching()), (3, Some(3), false));
}

#[test]
fn a_keyframe_waits_for_the_end_of_the_frame_that_goes_out() {
    let (mut switch, mut sender, mut out) = (Switch::new(Codec::Vp8, 2), Sender::new(), Out::default());
    out.run(&mut switch, &mut sender, 0..10, &[0]);
    out.run(&mut switch, &mut sender, 10..40, &[0, 1]);
    // The new keyframe comes whole between the packets of the old layer's frame.
    sender.key[1] = true;
    switch.take(sender.packet(0, 40, false), &mut out.packets);
    switch.take(sender.packet(1, 40, false), &mut out.packets);
    switch.take(sender.packet(1, 40, true), &mut out.packets);
    switch.take(sender.packet(0, 40, true), &mut out.packets);
    out.run(&mut switch, &mut sender, 41..60, &[0, 1]);
    out.assert_continuous();
    assert_eq!(out.widths(), [160, 320]);
}

#[test]
fn a_frame_that_never_ends_is_cut_off_with_a_gap() {
    let (mut switch, mut sender, mut out) = (Switch::new(Codec::Vp8, 2), Sender::new(), Out::default());
    out.run(&mut switch, &mut sender, 0..30, &[0, 1]);
    switch.take(sender.packet(1, 30, false), &mut out.packets); // and then nothing more of it
    let cut = out.packets.len();
    out.run(&mut switch, &mut sender, 30..90, &[0]);
    let skipped = out.packets[cut].sequence_number.wrapping_sub(out.packets[cut - 1].sequence_number);
    assert_eq!((out.widths(), skipped), (vec![320, 160], 2));
}

#[test]
fn a_keyframe_whose_first_packet_comes_late_is_not_taken() {
    let (mut switch, mut sender, mut out) = (Switch::new(Codec::Vp8, 2), Sender::new(), Out::default());
    out.run(&mut switch, &mut sender, 0..10, &[0]);
    out.run(&mut switch, &mut sender, 10..20, &[0, 1]);
    sender.key[1] = true;
    let (first, last) = (sender.packet(1, 40, false), sender.packet(1, 40, true));
    out.run(&mut switch, &mut sender, 20..40, &[0]);
    switch.take(last, &mut out.packets);
    switch.take(first, &mut out.packets);
    assert_eq!((out.widths(), switch.switches()), (vec![160], 0));
}

#[test]
fn an_unannounced_second_stream_waits_for_the_first_to_end() {
    let (mut switch, mut sender, mut out) = (Switch::new(Codec::Vp8, 1), Sender::new(), Out::default());
    out.run(&mut switch, &mut sender, 0..60, &[0, 1]);
    assert_eq!(out.widths(), [160]);
    out.run(&mut switch, &mut sender, 60..120, &[1]);
    assert_eq!(out.widths(), [160, 320]);
    out.assert_continuous();
}

#[test]
fn a_stream_whose_keyframes_cannot_be_told_takes_over_when_the_first_is_dead() {
    let (mut switch, mut sender, mut out) = (Switch::new(Codec::H264, 1), Sender::new(), Out::default());
    out.run(&mut switch, &mut sender, 0..60, &[0]); // VP8 payloads: no parameter sets to be found in them
    let before = out.packets.len();
    out.run(&mut switch, &mut sender, 60..120, &[1]);
    assert_eq!(out.packets.len(), before, "a keyframe may still come");
    out.run(&mut switch, &mut sender, 120..180, &[1]);
    assert!(out.packets.len() > before + 60);
    let skipped = out.packets[before].sequence_number.wrapping_sub(out.packets[before - 1].sequence_number);
    assert_eq!(skipped, 2, "with a gap, so that nothing damaged is shown");
}

#[test]
fn sound_goes_on_under_another_number_at_once_when_the_first_is_silent() {
    let (mut switch, mut sender, mut out) = (Switch::new(Codec::Opus, 1), Sender::new(), Out::default());
    out.run(&mut switch, &mut sender, 0..60, &[0]);
    let before = out.packets.len();
    out.run(&mut switch, &mut sender, 60..90, &[1]);
    assert!(out.packets.len() > before + 20);
    assert!(out.packets.windows(2).all(|pair| pair[1].sequence_number == pair[0].sequence_number.wrapping_add(1)));
}

#[test]
fn made_up_streams_find_no_place_and_disturb_nothing() {
    let (mut switch, mut sender, mut out) = (Switch::new(Codec::Vp8, 1), Sender::new(), Out::default());
    for number in 0..60 {
        out.run(&mut switch, &mut sender, number..number + 1, &[0]);
        let forged = RtpPacket { ssrc: 1000 + number as u32, ..sender.packet(3, number, true) };
        assert_eq!(switch.take(forged, &mut out.packets), number < MOST_LAYERS as u64 - 1);
    }
    out.assert_continuous();
    assert_eq!(out.packets.len(), 120);
}
