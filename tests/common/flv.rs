//! Reads an FLV file that may still be growing, tag by tag; and hashes the slices of H.264 access units.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

/// The complete tags of a file.
pub struct FlvFile {
    pub tags: Vec<Tag>,
}

/// One tag.
pub struct Tag {
    pub kind: Kind,
    /// In ms.
    pub timestamp: u32,
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Audio,
    Video,
    Script,
}

impl FlvFile {
    /// What is there of the file by now.
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("FLV file");
        let mut tags = Vec::new();
        let mut rest = bytes.get(13..).unwrap_or_default();
        while let Some((header, body)) = rest.split_at_checked(11) {
            let size = usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
            let Some(data) = body.get(..size) else { break };
            let kind = match header[0] & 31 {
                8 => Kind::Audio,
                9 => Kind::Video,
                _ => Kind::Script,
            };
            let timestamp = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
            tags.push(Tag { kind, timestamp, data: data.to_vec() });
            rest = body.get(size + 4..).unwrap_or_default();
        }
        Self { tags }
    }

    /// Pictures, without sequence headers.
    pub fn pictures(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|t| t.kind == Kind::Video && !t.is_header())
    }

    /// AAC frames, without sequence headers.
    pub fn sounds(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|t| t.kind == Kind::Audio && !t.is_header())
    }

    /// H.264 sequence headers.
    pub fn video_headers(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|t| t.kind == Kind::Video && t.is_header())
    }

    /// AAC sequence headers.
    pub fn audio_headers(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|t| t.kind == Kind::Audio && t.is_header())
    }

    /// Whether there are this many seconds of each of them.
    pub fn has_seconds(&self, video: u32, audio: u32) -> bool {
        let span = |mut tags: Box<dyn Iterator<Item = &Tag> + '_>| {
            let first = tags.next().map(|t| t.timestamp);
            let last = tags.last().map(|t| t.timestamp);
            first.zip(last).map_or(0, |(first, last)| last.saturating_sub(first))
        };
        span(Box::new(self.pictures())) >= video * 1000 && span(Box::new(self.sounds())) >= audio * 1000
    }

    /// For messages.
    pub fn summary(&self) -> String {
        format!(
            "{} pictures, {} AAC frames, {}+{} sequence headers, last timestamp {:?}",
            self.pictures().count(),
            self.sounds().count(),
            self.video_headers().count(),
            self.audio_headers().count(),
            self.tags.last().map(|t| t.timestamp)
        )
    }
}

impl Tag {
    /// An AVC or AAC sequence header.
    pub fn is_header(&self) -> bool {
        match self.kind {
            Kind::Video => self.data.first().is_some_and(|b| b & 15 == 7) && self.data.get(1) == Some(&0),
            Kind::Audio => self.data.first().is_some_and(|b| b >> 4 == 10) && self.data.get(1) == Some(&0),
            Kind::Script => false,
        }
    }

    /// A keyframe.
    pub fn is_key(&self) -> bool {
        self.kind == Kind::Video && self.data.first().is_some_and(|b| b >> 4 == 1)
    }

    /// Hash of the slices of an H.264 picture.
    pub fn slices(&self) -> u64 {
        let mut nals = Vec::new();
        let mut rest = self.data.get(5..).unwrap_or_default();
        while let Some((length, body)) = rest.split_at_checked(4) {
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            let Some(nal) = body.get(..length) else { break };
            nals.push(nal);
            rest = &body[length..];
        }
        hash_slices(&nals)
    }
}

/// Splits an Annex B byte stream at its start codes.
pub fn annexb_nals(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = bytes.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i).collect();
    starts
        .iter()
        .enumerate()
        .map(|(k, start)| {
            let end = starts.get(k + 1).copied().unwrap_or(bytes.len());
            let mut nal = &bytes[start + 3..end];
            // Zeros before a start code belong to it.
            while k + 1 < starts.len() && nal.last() == Some(&0) {
                nal = &nal[..nal.len() - 1];
            }
            nal
        })
        .collect()
}

/// Hash of the slices (NAL unit types 1 and 5) among these: the same however parameter sets are carried.
pub fn hash_slices(nals: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for nal in nals.iter().filter(|n| n.first().is_some_and(|b| matches!(b & 31, 1 | 5))) {
        nal.hash(&mut hasher);
    }
    hasher.finish()
}
