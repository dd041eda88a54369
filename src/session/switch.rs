//! One track: of its layers the best one goes out, as one continuous stream, changed at keyframes only. Pure.
//!
//! Which layer is the best is the policy of `layers`; how numbers go on is `splice`'s. Here is when: the layer to come is
//! asked for a keyframe, and with its first packet takes over as soon as the frame that is going out has ended.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    RtpPacket, SenderReport,
    keyframe::{Ask, KeyframePolicy, Means},
    layers::{Layers, MOST_LAYERS, SILENCE},
    splice::Splice,
};
use crate::codec::{Codec, MediaKind, picture_size, starts_keyframe};

/// How long a sender of several layers has to show them before one is chosen: its first frames come at once.
const FIRST_CHOICE: Duration = Duration::from_millis(100);
/// How long the end of a frame is waited for before it is cut off.
const FRAME_END: Duration = Duration::from_millis(100);
/// When the layer that goes out has died and the next has shown no keyframe for so long, there is none that can be told:
/// it takes over as it is, and what decodes waits for one itself.
const UNTOLD: Duration = Duration::from_secs(2);
/// Packets held meanwhile: a keyframe of each layer at 20 Mbit/s.
const MOST_HELD: usize = 512;

/// A layer in the order in which they were met.
#[derive(Debug, Default)]
struct Met {
    ssrc: u32,
    newest: Option<u16>,
    report: Option<SenderReport>,
    size: Option<(u16, u16)>,
}

/// What is held back.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    /// Everything, until the first choice.
    Start { since: Instant, packets: VecDeque<(usize, RtpPacket, bool)> },
    /// The layer to come, until the frame that goes out has ended.
    Next { since: Instant, layer: usize, is_clean: bool, packets: VecDeque<RtpPacket> },
}

/// A layer to be switched to, and the asking for its keyframe.
#[derive(Debug)]
struct Wanted {
    layer: usize,
    since: Instant,
    policy: KeyframePolicy,
}

/// The state of one track.
#[derive(Debug)]
pub(super) struct Switch {
    codec: Codec,
    /// How many layers the offer has; 1 where it names none.
    announced: usize,
    met: Vec<Met>,
    layers: Layers,
    splice: Splice,
    active: Option<usize>,
    /// The layer that was left last.
    previous: Option<usize>,
    /// The layer to be switched to.
    wanted: Option<Wanted>,
    held: Held,
    switches: u64,
}

impl Switch {
    pub(super) fn new(codec: Codec, announced: usize) -> Self {
        Self {
            codec,
            announced,
            met: Vec::new(),
            layers: Layers::default(),
            splice: Splice::new(codec.clock_rate()),
            active: None,
            previous: None,
            wanted: None,
            held: Held::Nothing,
            switches: 0,
        }
    }

    /// Takes a packet of any layer; what goes out now is appended to `out`. False if there is no place for its layer.
    pub(super) fn take(&mut self, packet: RtpPacket, out: &mut Vec<RtpPacket>) -> bool {
        let Some(layer) = self.layer(packet.ssrc) else { return false };
        let now = packet.arrival;
        self.layers.heard(layer, packet.payload.len(), now);
        let starts = self.notice(layer, &packet);
        if self.active.is_none() && !self.choose_first(layer, &packet, starts, out) {
            return true;
        }
        self.aim(now);
        self.give(layer, packet, starts, out);
        self.end_of_wait(now, out);
        true
    }

    /// A sender report; returned in outgoing time if it is of the layer that goes out.
    pub(super) fn report(&mut self, ssrc: u32, report: SenderReport) -> Option<SenderReport> {
        let layer = self.met.iter().position(|met| met.ssrc == ssrc)?;
        self.met.get_mut(layer)?.report = Some(report);
        (self.active == Some(layer)).then(|| self.splice.report(report))
    }

    /// The SSRC that goes out.
    pub(super) fn active(&self) -> Option<u32> {
        self.met.get(self.active?).map(|met| met.ssrc)
    }

    /// The SSRC to ask for a keyframe of this track: of one that is silent there is nothing to be had.
    pub(super) fn asked(&self) -> Option<u32> {
        let active = self.active.filter(|active| self.layers.is_live(*active))?;
        self.met.get(active).map(|met| met.ssrc)
    }

    /// The request that is due for the layer to come.
    pub(super) fn poll(&mut self, means: Means, now: Instant) -> Option<(u32, Ask)> {
        let wanted = self.wanted.as_mut()?;
        let ask = wanted.policy.poll(means, now)?;
        Some((self.met.get(wanted.layer)?.ssrc, ask))
    }

    /// Whether the keyframe of a layer to come is waited for.
    pub(super) fn is_switching(&self) -> bool {
        self.wanted.is_some()
    }

    /// How often another layer has taken over.
    pub(super) fn switches(&self) -> u64 {
        self.switches
    }

    /// The size of a layer's pictures, as far as its keyframes tell.
    pub(super) fn size(&self, ssrc: u32) -> Option<(u16, u16)> {
        self.met.iter().find(|met| met.ssrc == ssrc)?.size
    }

    /// Whether a stream has a place here.
    pub(super) fn has(&self, ssrc: u32) -> bool {
        self.met.iter().any(|met| met.ssrc == ssrc)
    }

    /// Forgets a stream that the stack has ended.
    pub(super) fn forget(&mut self, ssrc: u32) {
        if let Some(layer) = self.met.iter().position(|met| met.ssrc == ssrc) {
            self.layers.remove(layer);
        }
    }

    /// The place of an SSRC; a new one takes the place of one that has long been silent when all are taken.
    fn layer(&mut self, ssrc: u32) -> Option<usize> {
        if let Some(layer) = self.met.iter().position(|met| met.ssrc == ssrc) {
            return Some(layer);
        }
        let new = Met { ssrc, ..Met::default() };
        if self.met.len() < MOST_LAYERS {
            self.met.push(new);
            return Some(self.met.len() - 1);
        }
        let used = |layer: usize| Some(layer) == self.active || self.is_wanted(layer);
        let silent = |layer: usize| self.layers.silence(layer).is_none_or(|silence| silence > 10 * SILENCE);
        let layer = (0..self.met.len()).find(|layer| !used(*layer) && silent(*layer))?;
        self.layers.remove(layer);
        self.previous = self.previous.filter(|previous| *previous != layer);
        *self.met.get_mut(layer)? = new;
        Some(layer)
    }

    /// Looks at a packet: its layer's size, and whether a keyframe starts here that nothing of the layer has overtaken.
    fn notice(&mut self, layer: usize, packet: &RtpPacket) -> bool {
        let Some(met) = self.met.get_mut(layer) else { return false };
        let is_newest = met.newest.is_none_or(|newest| packet.sequence_number.wrapping_sub(newest).cast_signed() > 0);
        if is_newest {
            met.newest = Some(packet.sequence_number);
        }
        // Where there is but one layer its keyframes are of no interest here.
        let starts = (self.announced > 1 || self.met.len() > 1) && starts_keyframe(self.codec, &packet.payload);
        if starts && let Some(size) = picture_size(self.codec, &packet.payload) {
            self.layers.sized(layer, size);
            if let Some(met) = self.met.get_mut(layer) {
                met.size = Some(size);
            }
        }
        // Packets behind a first one that comes late have been passed over already.
        starts && is_newest
    }

    /// Before the first choice: holds packets back, unless there is nothing to choose from. True if it has been made, and
    /// the packet is still to be dealt with.
    fn choose_first(&mut self, layer: usize, packet: &RtpPacket, starts: bool, out: &mut Vec<RtpPacket>) -> bool {
        if self.announced < 2 || self.codec.kind() == MediaKind::Audio {
            self.active = Some(layer);
            return true;
        }
        if matches!(self.held, Held::Nothing) {
            self.held = Held::Start { since: packet.arrival, packets: VecDeque::new() };
        }
        let Held::Start { since, packets } = &mut self.held else { return true };
        packets.push_back((layer, packet.clone(), starts));
        let sized = self.met.iter().filter(|met| met.size.is_some()).count();
        let is_over = packet.arrival.saturating_duration_since(*since) >= FIRST_CHOICE;
        if sized < self.announced && !is_over && packets.len() < MOST_HELD {
            return false;
        }
        let packets = std::mem::take(packets);
        self.held = Held::Nothing;
        self.active = self.layers.best(None);
        for (layer, packet, starts) in packets {
            self.give(layer, packet, starts, out);
        }
        false
    }

    /// Sets or withdraws the layer to be switched to.
    fn aim(&mut self, now: Instant) {
        // A second stream that nothing announced does not oust the first while that is alive.
        let may_change = self.announced > 1 || self.asked().is_none();
        let best = self.layers.best(self.active).filter(|best| may_change && Some(*best) != self.active);
        match best {
            None if matches!(self.held, Held::Nothing) => self.wanted = None,
            Some(best) if !self.is_wanted(best) && matches!(self.held, Held::Nothing) => {
                let mut policy = KeyframePolicy::default();
                policy.want();
                self.wanted = Some(Wanted { layer: best, since: now, policy });
            }
            _ => {}
        }
    }

    fn is_wanted(&self, layer: usize) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.layer == layer)
    }

    fn give(&mut self, layer: usize, packet: RtpPacket, starts: bool, out: &mut Vec<RtpPacket>) {
        if Some(layer) == self.active {
            out.extend(self.splice.current(packet));
            return;
        }
        let is_wanted = self.is_wanted(layer);
        let is_overdue = self.asked().is_none()
            && self.wanted.as_ref().is_some_and(|w| packet.arrival.saturating_duration_since(w.since) >= UNTOLD);
        match &mut self.held {
            Held::Next { layer: next, packets, .. } if *next == layer => packets.push_back(packet),
            Held::Nothing if is_wanted && (starts || is_overdue) => {
                let packets = VecDeque::from([packet.clone()]);
                self.held = Held::Next { since: packet.arrival, layer, is_clean: starts, packets };
            }
            _ if Some(layer) == self.previous => out.extend(self.splice.tail(packet)),
            _ => {}
        }
    }

    /// Takes over once the frame that goes out has ended, or will not.
    fn end_of_wait(&mut self, now: Instant, out: &mut Vec<RtpPacket>) {
        let Held::Next { since, layer, is_clean, packets } = &mut self.held else { return };
        let patience_ends = now.saturating_duration_since(*since) >= FRAME_END || packets.len() >= MOST_HELD;
        let is_dead = !self.active.is_some_and(|active| self.layers.is_live(active));
        if self.splice.is_open() && !patience_ends && !is_dead {
            return;
        }
        let (layer, is_clean, packets) = (*layer, *is_clean, std::mem::take(packets));
        self.held = Held::Nothing;
        let report = |layer: Option<usize>| self.met.get(layer?).and_then(|met| met.report);
        if let Some(first) = packets.front() {
            self.splice.switch(first, is_clean, (report(self.active), report(Some(layer))));
        }
        (self.previous, self.active, self.wanted) = (self.active, Some(layer), None);
        self.switches += 1;
        out.extend(packets.into_iter().filter_map(|packet| self.splice.current(packet)));
    }
}

#[cfg(test)]
mod tests {
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
}
