//! The live streams: for each, what a new player must get first, and a bounded way to follow.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::broadcast;

use crate::flv::{Kind, Role, Tag};

/// A GOP of 10 s at 10 Mbit/s fits; a longer one is not kept, and players wait for the next keyframe.
const MAX_GOP_BYTES: usize = 16 * 1024 * 1024;
/// 10 s of 60 pictures and 50 audio frames a second, and as much again.
const MAX_GOP_TAGS: usize = 2048;
/// How many tags a player may lag behind: 4 s or so. Then it is dropped.
const MAX_LAG: usize = 512;

/// The live streams, by `app/key`.
#[derive(Default)]
pub(crate) struct Store {
    streams: Mutex<HashMap<String, Arc<Stream>>>,
}

impl Store {
    /// Starts a stream, unless there is one of this name already.
    pub(crate) fn publish(self: &Arc<Self>, name: &str) -> Option<Publication> {
        let mut streams = lock(&self.streams);
        if streams.contains_key(name) {
            return None;
        }
        let stream = Arc::new(Stream { state: Mutex::default(), sender: broadcast::Sender::new(MAX_LAG) });
        streams.insert(name.to_owned(), stream.clone());
        Some(Publication { store: self.clone(), name: name.to_owned(), stream })
    }

    /// Follows a stream, once it has media.
    pub(crate) fn play(&self, name: &str) -> Option<Player> {
        let stream = lock(&self.streams).get(name)?.clone();
        stream.play()
    }
}

/// A stream that is being published; it ends when this is dropped.
pub(crate) struct Publication {
    store: Arc<Store>,
    name: String,
    stream: Arc<Stream>,
}

impl Publication {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn push(&self, tag: Tag) {
        let mut state = lock(&self.stream.state);
        state.keep(&tag);
        // Under the lock, so that a player that joins gets each tag once: kept or sent. No receiver is no error.
        let _ = self.stream.sender.send(tag);
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        lock(&self.store.streams).remove(&self.name);
    }
}

/// What a player gets: first this, then that.
pub(crate) struct Player {
    pub(crate) has_audio: bool,
    pub(crate) has_video: bool,
    /// Metadata and sequence headers, whose timestamps mean nothing.
    pub(crate) headers: Vec<Tag>,
    /// Since the last keyframe.
    pub(crate) gop: Vec<Tag>,
    pub(crate) live: broadcast::Receiver<Tag>,
}

struct Stream {
    state: Mutex<State>,
    sender: broadcast::Sender<Tag>,
}

impl Stream {
    fn play(&self) -> Option<Player> {
        let state = lock(&self.state);
        let headers: Vec<_> =
            [&state.metadata, &state.video_header, &state.audio_header].into_iter().flatten().cloned().collect();
        (state.has_audio || state.has_video).then(|| Player {
            has_audio: state.has_audio,
            has_video: state.has_video,
            headers,
            gop: state.gop.clone(),
            live: self.sender.subscribe(),
        })
    }
}

#[derive(Default)]
struct State {
    metadata: Option<Tag>,
    video_header: Option<Tag>,
    audio_header: Option<Tag>,
    has_audio: bool,
    has_video: bool,
    /// Starts with a keyframe, or is empty.
    gop: Vec<Tag>,
    gop_bytes: usize,
}

impl State {
    fn keep(&mut self, tag: &Tag) {
        match tag.kind {
            Kind::Audio => self.has_audio = true,
            Kind::Video => self.has_video = true,
            Kind::Script => {}
        }
        match (tag.kind, tag.role()) {
            (Kind::Script, _) => self.metadata = Some(tag.clone()),
            (Kind::Audio, Role::SequenceHeader) => self.audio_header = Some(tag.clone()),
            (Kind::Video, Role::SequenceHeader) => {
                // What was kept belongs to the old one.
                if self.video_header.as_ref().map(|old| &old.data) != Some(&tag.data) {
                    self.clear();
                }
                self.video_header = Some(tag.clone());
            }
            (_, Role::Keyframe) => {
                self.clear();
                self.append(tag);
            }
            (_, Role::Frame) if !self.gop.is_empty() => self.append(tag),
            (_, Role::Frame) => {}
        }
    }

    fn append(&mut self, tag: &Tag) {
        if self.gop.len() >= MAX_GOP_TAGS || self.gop_bytes + tag.data.len() > MAX_GOP_BYTES {
            return self.clear();
        }
        self.gop_bytes += tag.data.len();
        // A tag is a slice of its connection's read buffer, which it would keep alive whole.
        self.gop.push(Tag { data: Bytes::copy_from_slice(&tag.data), ..tag.clone() });
    }

    fn clear(&mut self) {
        self.gop = Vec::new();
        self.gop_bytes = 0;
    }
}

/// The state is whole after every call, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: Kind, timestamp: u32, data: &[u8]) -> Tag {
        Tag { kind, timestamp, data: Bytes::copy_from_slice(data) }
    }

    fn header() -> Tag {
        tag(Kind::Video, 0, &[0x17, 0, 1])
    }

    fn key(timestamp: u32) -> Tag {
        tag(Kind::Video, timestamp, &[0x17, 1])
    }

    fn delta(timestamp: u32) -> Tag {
        tag(Kind::Video, timestamp, &[0x27, 1])
    }

    fn aac(timestamp: u32) -> Tag {
        tag(Kind::Audio, timestamp, &[0xaf, 1])
    }

    fn published(tags: impl IntoIterator<Item = Tag>) -> (Arc<Store>, Publication) {
        let store = Arc::new(Store::default());
        let publication = store.publish("live/key").unwrap();
        tags.into_iter().for_each(|tag| publication.push(tag));
        (store, publication)
    }

    #[test]
    fn new_player_gets_headers_and_everything_since_the_last_keyframe() {
        let metadata = tag(Kind::Script, 0, b"meta");
        let audio_header = tag(Kind::Audio, 0, &[0xaf, 0]);
        let (store, publication) = published([
            metadata.clone(),
            header(),
            audio_header.clone(),
            key(0),
            delta(33),
            key(66),
            aac(70),
            delta(99),
        ]);
        let mut player = store.play("live/key").unwrap();
        assert_eq!(player.headers, [metadata, header(), audio_header]);
        assert_eq!(player.gop, [key(66), aac(70), delta(99)]);
        assert!(player.has_audio && player.has_video);
        publication.push(delta(132));
        assert_eq!(player.live.try_recv().unwrap(), delta(132));
    }

    #[test]
    fn stream_without_media_cannot_be_played_yet() {
        let (store, publication) = published([tag(Kind::Script, 0, b"meta")]);
        assert!(store.play("live/key").is_none());
        publication.push(aac(0));
        let player = store.play("live/key").unwrap();
        assert!(player.has_audio && !player.has_video);
    }

    #[test]
    fn second_publisher_is_refused_until_the_first_has_gone() {
        let (store, publication) = published([aac(0)]);
        let mut player = store.play("live/key").unwrap();
        assert!(store.publish("live/key").is_none());
        assert!(store.publish("live/other").is_some());
        drop(publication);
        assert!(store.play("live/key").is_none());
        assert!(matches!(player.live.try_recv(), Err(broadcast::error::TryRecvError::Closed)));
        assert!(store.publish("live/key").is_some());
    }

    #[test]
    fn endless_gop_is_let_go_until_the_next_keyframe() {
        let (store, publication) = published([header(), key(0)]);
        (1..=MAX_GOP_TAGS as u32).for_each(|at| publication.push(delta(at)));
        assert!(store.play("live/key").unwrap().gop.is_empty());
        publication.push(key(9000));
        assert_eq!(store.play("live/key").unwrap().gop, [key(9000)]);

        let big = vec![0x27; MAX_GOP_BYTES / 2];
        publication.push(tag(Kind::Video, 9001, &big));
        publication.push(tag(Kind::Video, 9002, &big));
        assert!(store.play("live/key").unwrap().gop.is_empty());
    }

    #[test]
    fn new_sequence_header_makes_the_old_gop_useless_and_a_repeated_one_does_not() {
        let (store, publication) = published([header(), key(0)]);
        publication.push(header());
        assert_eq!(store.play("live/key").unwrap().gop, [key(0)]);
        publication.push(tag(Kind::Video, 10, &[0x17, 0, 2]));
        assert!(store.play("live/key").unwrap().gop.is_empty());
    }

    #[test]
    fn slow_player_is_told_that_it_lags() {
        let (store, publication) = published([aac(0)]);
        let mut player = store.play("live/key").unwrap();
        (0..=MAX_LAG as u32).for_each(|at| publication.push(aac(at)));
        assert!(matches!(player.live.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
    }
}
