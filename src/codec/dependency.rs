//! The dependency descriptor (appendix A of AOM's "RTP Payload Format For AV1"), a header extension that tells of a frame
//! which layer it is of and who can go on with it, without a look into the payload; and how that is told anew where frames
//! were left out.
//!
//! What a stream's layers are stands in its keyframes only ([`LayerStructure`]): who reads other packets has to know it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::picture::{LayerPlace, PictureInfo};

/// What the extension is called in SDP.
pub const DEPENDENCY_DESCRIPTOR_URI: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// A template is named by 6 bits.
const MOST_TEMPLATES: usize = 64;
/// AV1 has no more layers (3 and 2 bits in its obu_extension_header, section 5.3.3); a structure could name more.
const MOST_TEMPORAL: u8 = 8;
const MOST_SPATIAL: u8 = 4;
/// Frames that a frame refers to: references have 4 bits each and follow while a bit says so. AV1 has 7.
const MOST_REFERENCES: usize = 16;
/// The fields that every descriptor has: flags, template, number.
const HEAD: usize = 24;

/// The layers of a stream, and what can be made of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerStructure {
    /// The number of the first template.
    first: u8,
    templates: Vec<Template>,
    /// What can be decoded (decode targets): the highest spatial and temporal layer of each.
    targets: Vec<(u8, u8)>,
    /// The pictures' sizes, by spatial layer.
    sizes: Vec<(u16, u16)>,
}

/// What frames have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Template {
    spatial: u8,
    temporal: u8,
    /// Two bits for each decode target, the first one's lowest.
    indications: u64,
}

/// What a frame is to a decode target.
mod indication {
    pub(super) const NOT_PRESENT: u64 = 0;
    /// Who has this frame can decode the target from here on.
    pub(super) const SWITCH: u64 = 2;
}

/// What one packet tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependencyDescriptor {
    /// As it came.
    raw: Bytes,
    /// The first packet of its frame.
    pub begins: bool,
    /// The last one.
    pub ends: bool,
    /// The frame's number: each layer's frame of a picture has its own.
    pub frame: u16,
    /// Which layer it is of.
    pub layer: LayerPlace,
    /// The layers, as they are from this frame on or were told before.
    pub structure: Arc<LayerStructure>,
    /// It tells the layers itself.
    pub attaches: bool,
    /// The decode targets that are sent, the first one's bit lowest; `None`: as before.
    pub active: Option<u32>,
    /// Where the bits of `active` are or would be.
    active_at: usize,
}

impl LayerStructure {
    /// The pictures' sizes, the smallest layer's first; empty if they are not told.
    pub fn sizes(&self) -> &[(u16, u16)] {
        &self.sizes
    }

    /// All decode targets.
    pub fn all(&self) -> u32 {
        u32::MAX >> (32 - self.targets.len().clamp(1, 32))
    }

    /// The decode targets that need no more than these layers.
    pub fn within(&self, temporal: u8, spatial: u8) -> u32 {
        let targets = self.targets.iter().enumerate();
        let within = targets.filter(|(_, (own_spatial, own))| *own_spatial <= spatial && *own <= temporal);
        within.fold(0, |bits, (target, _)| bits | 1 << target)
    }

    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let first = bits.take(6)? as u8;
        let targets = bits.take(5)? as usize + 1;
        let mut templates = vec![Template::default()];
        loop {
            let mut next = *templates.last()?;
            match bits.take(2)? {
                0 => {}
                1 => next.temporal += 1,
                2 => (next.temporal, next.spatial) = (0, next.spatial + 1),
                _ => break,
            }
            if templates.len() == MOST_TEMPLATES || next.temporal >= MOST_TEMPORAL || next.spatial >= MOST_SPATIAL {
                return None;
            }
            templates.push(next);
        }
        for template in &mut templates {
            template.indications = bits.indications(targets)?;
        }
        for _ in &templates {
            let mut references = 0;
            while bits.take(1)? == 1 {
                bits.take(4)?;
                references += 1;
                (references <= MOST_REFERENCES).then_some(())?;
            }
        }
        let chains = bits.of_range(targets as u32 + 1)?;
        if chains > 0 {
            for _ in 0..targets {
                bits.of_range(chains)?;
            }
            for _ in 0..templates.len() as u32 * chains {
                bits.take(4)?;
            }
        }
        let layers_of = |target: usize| {
            let used = templates.iter().filter(|template| template.is_to(target) != indication::NOT_PRESENT);
            used.fold((0, 0), |(spatial, temporal), template| {
                (template.spatial.max(spatial), template.temporal.max(temporal))
            })
        };
        let targets = (0..targets).map(layers_of).collect();
        let mut sizes = Vec::new();
        if bits.take(1)? == 1 {
            for _ in 0..=templates.last()?.spatial {
                let side = |less_one: u32| u16::try_from(less_one + 1).unwrap_or(u16::MAX);
                sizes.push((side(bits.take(16)?), side(bits.take(16)?)));
            }
        }
        Some(Self { first, templates, targets, sizes })
    }

    fn template(&self, number: u8) -> Option<&Template> {
        self.templates.get(usize::from(number.wrapping_sub(self.first) & 0x3F))
    }

    /// The highest layer in time that can be gone up to with a frame of this spatial layer.
    fn opened(&self, spatial: u8, indications: u64) -> Option<u8> {
        let opened = self
            .targets
            .iter()
            .enumerate()
            .filter(|(target, (own, _))| *own == spatial && of_target(indications, *target) == indication::SWITCH);
        opened.map(|(_, (_, temporal))| *temporal).max()
    }
}

impl Template {
    fn is_to(&self, target: usize) -> u64 {
        of_target(self.indications, target)
    }
}

fn of_target(indications: u64, target: usize) -> u64 {
    indications.checked_shr(2 * target as u32).unwrap_or(0) & 0b11
}

impl DependencyDescriptor {
    /// Reads a descriptor. `known` is what the stream's last keyframe told of its layers. `None` if it makes no sense, or is
    /// of layers that are not known.
    pub fn parse(raw: &Bytes, known: Option<&Arc<LayerStructure>>) -> Option<Self> {
        let mut bits = Bits { bytes: raw, position: 0 };
        let (begins, ends) = (bits.take(1)? == 1, bits.take(1)? == 1);
        let template = bits.take(6)? as u8;
        let frame = bits.take(16)? as u16;
        let (mut attaches, mut has_active, mut has_indications) = (false, false, false);
        let mut own = None;
        if raw.len() * 8 > HEAD {
            (attaches, has_active, has_indications) = (bits.take(1)? == 1, bits.take(1)? == 1, bits.take(1)? == 1);
            bits.take(2)?; // references and chains of its own
            if attaches {
                own = Some(Arc::new(LayerStructure::read(&mut bits)?));
            }
        }
        let structure = own.or_else(|| known.cloned())?;
        let active_at = bits.position;
        let targets = structure.targets.len();
        let told = if has_active { Some(bits.take(targets as u32)?) } else { None };
        let active = told.or_else(|| attaches.then(|| structure.all()));
        let template = *structure.template(template)?;
        let indications = if has_indications { bits.indications(targets)? } else { template.indications };
        let Template { spatial, temporal, .. } = template;
        let opens = structure.opened(spatial, indications);
        let layer = LayerPlace { temporal, spatial, joins: false, opens, ends };
        Some(Self { raw: raw.clone(), begins, ends, frame, layer, structure, attaches, active, active_at })
    }

    /// What it tells of the packet's picture.
    pub fn info(&self) -> PictureInfo {
        PictureInfo { picture: Some((self.frame, true)), layer_zero: None, counts_pictures: false, layer: self.layer }
    }

    /// The same with another number, and with these decode targets where they are to be told.
    pub fn retold(&self, frame: u16, active: Option<u32>) -> Bytes {
        let Some(active) = active else {
            if frame == self.frame {
                return self.raw.clone();
            }
            let mut changed = BytesMut::from(&self.raw[..]);
            put_frame(&mut changed, frame);
            return changed.freeze();
        };
        const ATTACHES: u32 = 0b10000;
        const ACTIVE: u32 = 0b01000;
        let mut bits = Bits { bytes: &self.raw, position: HEAD };
        let flags = bits.take(5).unwrap_or(0);
        let mut out = Writer::default();
        out.copy(&self.raw, 0..HEAD);
        out.put(5, flags | ACTIVE);
        // What tells the layers, if it does.
        let start = HEAD + 5;
        if flags & ATTACHES != 0 {
            out.copy(&self.raw, start..self.active_at);
        }
        let targets = self.structure.targets.len();
        out.put(targets as u32, active);
        let rest = self.active_at + if flags & ACTIVE != 0 { targets } else { 0 };
        out.copy(&self.raw, rest.max(start)..self.raw.len() * 8);
        let mut changed = BytesMut::from(&out.bytes[..]);
        put_frame(&mut changed, frame);
        changed.freeze()
    }
}

/// The number stands behind the flags and the template.
fn put_frame(descriptor: &mut BytesMut, frame: u16) {
    if let Some(mut place) = descriptor.get_mut(1..3) {
        place.put_u16(frame);
    }
}

/// Reads bits, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.position / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.position % 8) & 1);
            self.position += 1;
        }
        Some(value)
    }

    fn indications(&mut self, targets: usize) -> Option<u64> {
        let mut indications = 0;
        for target in 0..targets.min(32) {
            indications |= u64::from(self.take(2)?) << (2 * target);
        }
        Some(indications)
    }

    /// A number below this, in as few bits as it takes (`ns(n)`).
    fn of_range(&mut self, range: u32) -> Option<u32> {
        let width = range.checked_ilog2()? + 1;
        let short = (1 << width) - range;
        let value = self.take(width - 1)?;
        Some(if value < short { value } else { (value << 1 | self.take(1)?) - short })
    }
}

/// Writes bits, the highest first; what is left of the last byte is zero.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    length: usize,
}

impl Writer {
    fn put(&mut self, count: u32, value: u32) {
        for bit in (0..count).rev() {
            if self.length.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (7 - self.length % 8);
            }
            self.length += 1;
        }
    }

    fn copy(&mut self, from: &[u8], places: std::ops::Range<usize>) {
        let mut bits = Bits { bytes: from, position: places.start };
        while bits.position < places.end
            && let Some(bit) = bits.take(1)
        {
            self.put(1, bit);
        }
    }
}

#[cfg(test)]
mod tests;
