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
mod tests;
