//! Plays streams over HTTP-FLV: `GET /{app}/{key}.flv`.

use std::{collections::VecDeque, io, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::stream;
use tokio::{net::TcpListener, sync::broadcast};
use tower_http::cors::CorsLayer;

use crate::{
    flv::{self, Kind, Role, Tag},
    store::{Player, Store},
};

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, store: Arc<Store>) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/{*path}", get(play))
        .layer(CorsLayer::permissive())
        .with_state(store);
    axum::serve(listener, router).await
}

async fn play(State(store): State<Arc<Store>>, Path(path): Path<String>) -> Response {
    let Some(name) = path.strip_suffix(".flv") else {
        return (StatusCode::NOT_FOUND, "ask for /{app}/{key}.flv\n").into_response();
    };
    let Some(player) = store.play(name) else {
        return (StatusCode::NOT_FOUND, format!("{name} is not being published\n")).into_response();
    };
    let headers = [(header::CONTENT_TYPE, "video/x-flv"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(Follow::new(player).into_stream())).into_response()
}

/// A player on its way through a stream.
struct Follow {
    /// Written before what is live.
    first: VecDeque<Bytes>,
    live: broadcast::Receiver<Tag>,
    /// The RTMP timestamp that is 0 for this player.
    base: Option<u32>,
    /// Pictures cannot be decoded before a keyframe.
    needs_keyframe: bool,
}

impl Follow {
    fn new(player: Player) -> Self {
        let base = player.gop.first().map(|tag| tag.timestamp);
        let mut follow = Self {
            first: VecDeque::from([flv::file_header(player.has_audio, player.has_video)]),
            live: player.live,
            base,
            needs_keyframe: player.has_video && base.is_none(),
        };
        follow.first.extend(player.headers.iter().map(|tag| tag.write(0)));
        let gop: Vec<_> = player.gop.iter().filter_map(|tag| follow.write(tag)).collect();
        follow.first.extend(gop);
        follow
    }

    /// Ends with the stream, or when the player is too slow for it.
    fn into_stream(self) -> impl stream::Stream<Item = Result<Bytes, std::convert::Infallible>> {
        stream::unfold(self, async |mut follow| {
            if let Some(bytes) = follow.first.pop_front() {
                return Some((Ok(bytes), follow));
            }
            loop {
                let tag = follow.live.recv().await.ok()?;
                if let Some(bytes) = follow.write(&tag) {
                    return Some((Ok(bytes), follow));
                }
            }
        })
    }

    fn write(&mut self, tag: &Tag) -> Option<Bytes> {
        let role = tag.role();
        if self.needs_keyframe && role != Role::SequenceHeader && tag.kind != Kind::Script {
            if role != Role::Keyframe {
                return None;
            }
            self.needs_keyframe = false;
        }
        // Headers may come early, with a timestamp of their own; media is what counts.
        let base = match role {
            Role::SequenceHeader => self.base.unwrap_or(tag.timestamp),
            _ if tag.kind == Kind::Script => self.base.unwrap_or(tag.timestamp),
            _ => *self.base.get_or_insert(tag.timestamp),
        };
        // Timestamps wrap after 49 days; audio may be a little older than the keyframe that was first.
        let since = tag.timestamp.wrapping_sub(base);
        Some(tag.write(if since > u32::MAX / 2 { 0 } else { since }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: Kind, timestamp: u32, data: &'static [u8]) -> Tag {
        Tag { kind, timestamp, data: Bytes::from_static(data) }
    }

    fn follow(gop: Vec<Tag>) -> Follow {
        let live = broadcast::channel(1).1;
        Follow::new(Player { has_audio: true, has_video: true, headers: vec![], gop, live })
    }

    /// The timestamp that a written tag bears.
    fn at(bytes: &Bytes) -> u32 {
        u32::from_be_bytes([bytes[7], bytes[4], bytes[5], bytes[6]])
    }

    #[test]
    fn timestamps_start_at_zero_and_never_before() {
        let key = tag(Kind::Video, 5000, &[0x17, 1]);
        let mut follow = follow(vec![key, tag(Kind::Audio, 4990, &[0xaf, 1])]);
        assert_eq!(follow.first.iter().skip(1).map(at).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(follow.write(&tag(Kind::Video, 5033, &[0x27, 1])).as_ref().map(at), Some(33));
    }

    #[test]
    fn without_a_gop_it_waits_for_a_keyframe() {
        let mut follow = follow(vec![]);
        assert!(follow.write(&tag(Kind::Video, 10, &[0x27, 1])).is_none());
        assert!(follow.write(&tag(Kind::Audio, 10, &[0xaf, 1])).is_none());
        assert!(follow.write(&tag(Kind::Video, 20, &[0x17, 0])).is_some(), "a sequence header passes");
        assert_eq!(follow.write(&tag(Kind::Video, 20, &[0x17, 1])).as_ref().map(at), Some(0));
        assert_eq!(follow.write(&tag(Kind::Audio, 30, &[0xaf, 1])).as_ref().map(at), Some(10));
    }
}
