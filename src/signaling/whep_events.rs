//! What viewers are told as server-sent events (WHEP's core extensions): whether somebody publishes, which layers there are,
//! how many watch, and when to connect anew. A stream is made by POST, read by GET, and gone with its session.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::response::{
    IntoResponse as _, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    answerer::SessionId,
    connection::Peer,
    places::{self, Places},
    problem::Refusal,
    table::Place,
    viewing::{Program, VideoLayer},
};
use crate::channel::{ChannelId, Registry};

/// What can be asked for, as it stands in the Link header.
pub(crate) const EVENTS: &str = "active,inactive,layers,reconnect,viewercount";

/// Streams of one session; a player needs one.
const MOST_STREAMS: usize = 4;

/// Those who listen at one endpoint: each keeps a TCP connection for as long as it watches. With all WebSockets there may
/// be, some connections are left for requests.
const MOST_LISTENERS: usize = 192;
/// For one address; people behind one NAT.
const MOST_LISTENERS_FROM_ONE: usize = 64;

/// Places for them.
pub(crate) fn places() -> Places {
    Places::new(MOST_LISTENERS, MOST_LISTENERS_FROM_ONE)
}

/// Counts and bitrates are told no more often: they change all the time.
const INTERVAL: Duration = Duration::from_secs(1);

/// The event streams of one session.
#[derive(Default)]
pub(crate) struct Streams(Mutex<HashMap<String, Stream>>);

struct Stream {
    kinds: Vec<String>,
    /// Which reader's turn it is. Going away, it ends the reading.
    turn: watch::Sender<u64>,
}

impl Streams {
    /// Makes a stream of the events that are named in a JSON array, or of all; returns its name.
    pub(crate) fn open(&self, body: &[u8]) -> Result<String, Refusal> {
        let kinds: Vec<String> = match body.iter().all(u8::is_ascii_whitespace) {
            true => EVENTS.split(',').map(str::to_owned).collect(),
            false => serde_json::from_slice(body).map_err(|error| Refusal::Events(error.to_string()))?,
        };
        if let Some(unknown) = kinds.iter().find(|kind| !EVENTS.split(',').any(|known| known == *kind)) {
            let shown: String = unknown.chars().take(40).collect();
            return Err(Refusal::Events(format!("{shown:?} is not")));
        }
        let mut streams = self.lock();
        if streams.len() >= MOST_STREAMS {
            return Err(Refusal::TooManyStreams(MOST_STREAMS));
        }
        let id = SessionId::random().to_string();
        streams.insert(id.clone(), Stream { kinds, turn: watch::Sender::new(0) });
        Ok(id)
    }

    /// Ends a stream.
    pub(crate) fn delete(&self, id: &str) -> Result<(), Refusal> {
        let gone = self.lock().remove(id);
        gone.map(drop).ok_or(Refusal::NoStream)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a stream; a reader that was there before is ended.
pub(crate) fn read(
    streams: &Streams,
    id: &str,
    program: watch::Receiver<Program>,
    place: &Place,
    Peer(from): Peer,
) -> Result<Response, Refusal> {
    let listening = place.endpoint.listening.take(from.ip());
    let listening = listening.map_err(|_| Refusal::TooManyConnections("as many listen to events as there may be"))?;
    let reader = {
        let streams = streams.lock();
        let Stream { kinds, turn } = streams.get(id).ok_or(Refusal::NoStream)?;
        turn.send_modify(|turn| *turn += 1);
        let (mut turn, kinds) = (turn.subscribe(), kinds.clone());
        turn.mark_unchanged();
        let (told, queue) = (Told::default(), VecDeque::new());
        Reader { kinds, turn, program, audience: Audience::of(place), told, queue, _listening: listening }
    };
    let events = stream::unfold(reader, |mut reader| async {
        let (kind, data) = reader.next().await?;
        Some((Ok::<_, Infallible>(Event::default().event(kind).data(data.to_string())), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

struct Reader {
    kinds: Vec<String>,
    turn: watch::Receiver<u64>,
    program: watch::Receiver<Program>,
    audience: Option<Audience>,
    told: Told,
    queue: VecDeque<(&'static str, Value)>,
    _listening: places::Place,
}

impl Reader {
    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(&'static str, Value)> {
        let mut is_over = false;
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if is_over {
                return None;
            }
            // The last words of a session that is over are heard as well.
            is_over = self.turn.has_changed().unwrap_or(true);
            let program = self.program.borrow_and_update().clone();
            let viewers = match &self.audience {
                Some(audience) => audience.count().await,
                None => None,
            };
            self.told.news(&program, viewers, &mut self.queue);
            self.queue.retain(|(kind, _)| self.kinds.iter().any(|wanted| wanted == kind));
            if is_over || !self.queue.is_empty() {
                continue;
            }
            tokio::select! {
                // Whatever it is: looked at above.
                changed = self.program.changed() => is_over = changed.is_err(),
                _ = self.turn.changed() => {
                    self.turn.mark_changed();
                }
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }
}

/// Who knows how many watch.
enum Audience {
    Channel(Arc<dyn Registry>, ChannelId),
    Seats(watch::Receiver<u32>),
}

impl Audience {
    fn of(place: &Place) -> Option<Self> {
        let seating = place.endpoint.seating.as_ref()?;
        Some(match (&seating.registry, &place.channel) {
            (Some(registry), Some(channel)) => Self::Channel(registry.clone(), channel.clone()),
            _ => Self::Seats(seating.seats.taken()),
        })
    }

    async fn count(&self) -> Option<u32> {
        match self {
            Self::Channel(registry, channel) => registry.get(channel).await.map(|info| info.viewers),
            Self::Seats(taken) => Some(*taken.borrow()),
        }
    }
}

/// What a reader knows.
#[derive(Default)]
struct Told {
    is_active: bool,
    layers: Vec<VideoLayer>,
    viewers: Option<u32>,
    reconnect: bool,
}

impl Told {
    /// The events of what is news.
    fn news(&mut self, now: &Program, viewers: Option<u32>, out: &mut VecDeque<(&'static str, Value)>) {
        if now.is_active != self.is_active {
            self.is_active = now.is_active;
            out.push_back((if now.is_active { "active" } else { "inactive" }, json!({})));
        }
        if differ(&self.layers, &now.layers) {
            self.layers.clone_from(&now.layers);
            out.push_back(("layers", layers(now)));
        }
        if let Some(count) = viewers.filter(|_| viewers != self.viewers) {
            self.viewers = viewers;
            out.push_back(("viewercount", json!({ "viewercount": count })));
        }
        if now.reconnect && !self.reconnect {
            self.reconnect = true;
            out.push_back(("reconnect", json!({})));
        }
    }
}

/// Whether layers are others, or of a bitrate that is worth telling.
fn differ(before: &[VideoLayer], now: &[VideoLayer]) -> bool {
    let same = |(a, b): (&VideoLayer, &VideoLayer)| {
        (a.index, a.size) == (b.index, b.size) && a.bitrate.abs_diff(b.bitrate) <= a.bitrate / 4
    };
    before.len() != now.len() || !before.iter().zip(now).all(same)
}

/// Layers by their section, the largest first, as the draft has them in its examples.
fn layers(program: &Program) -> Value {
    let layer = |layer: &VideoLayer| {
        let mut entry =
            json!({ "rid": layer.index.to_string(), "spatialLayerId": layer.index, "bitrate": layer.bitrate });
        if let (Some((width, height)), Value::Object(entry)) = (layer.size, &mut entry) {
            entry.insert("width".into(), width.into());
            entry.insert("height".into(), height.into());
        }
        entry
    };
    let all: Vec<Value> = program.layers.iter().rev().map(layer).collect();
    Value::Object([(program.video_section.to_string(), Value::Array(all))].into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signaling::{
        Answer, AnswerError, Offer, OfferAnswerer, TrustedProxies,
        auth::{Role, TokenGate},
        endpoint::{Endpoint, EndpointParts},
        viewing::{Seating, Seats},
    };

    fn news(told: &mut Told, now: &Program, viewers: u32) -> Vec<(&'static str, Value)> {
        let mut out = VecDeque::new();
        told.news(now, Some(viewers), &mut out);
        out.into()
    }

    #[test]
    fn what_has_changed_is_told_once() {
        let mut told = Told::default();
        let layer = |index, bitrate| VideoLayer { index, size: Some((320, 180)), bitrate };
        let mut now = Program { video_section: 1, ..Program::default() };
        assert_eq!(news(&mut told, &now, 1), [("viewercount", json!({"viewercount": 1}))], "and no inactive at first");
        now.is_active = true;
        now.layers = vec![layer(0, 100), layer(1, 400)];
        let entry = |index: usize, bitrate| json!({"rid": index.to_string(), "spatialLayerId": index, "bitrate": bitrate, "width": 320, "height": 180});
        let layers = json!({"1": [entry(1, 400), entry(0, 100)]});
        assert_eq!(news(&mut told, &now, 1), [("active", json!({})), ("layers", layers)]);
        now.layers[1].bitrate = 450;
        assert_eq!(news(&mut told, &now, 1), []);
        now.layers[1].bitrate = 600;
        assert_eq!(news(&mut told, &now, 2)[0].0, "layers");
        (now.is_active, now.reconnect) = (false, true);
        assert_eq!(news(&mut told, &now, 2), [("inactive", json!({})), ("reconnect", json!({}))]);
        assert_eq!(news(&mut told, &now, 2), []);
    }

    struct Never;

    #[async_trait::async_trait]
    impl OfferAnswerer for Never {
        async fn answer(&self, _: Offer) -> Result<Answer, AnswerError> {
            Err(AnswerError::NotLive)
        }
    }

    #[tokio::test]
    async fn one_address_cannot_listen_on_all_connections_and_who_stops_leaves_his_place() {
        let seating = Some(Seating { seats: Seats::new(0), registry: None });
        let (gate, answerer) = (Arc::new(TokenGate::new(None)), Arc::new(Never));
        let parts = EndpointParts {
            path: "/whep/a".into(),
            role: Role::View,
            gate,
            answerer,
            links: Vec::new(),
            seating,
            most_sessions: 1,
            trusted_proxies: TrustedProxies::default(),
        };
        let place = Place { endpoint: Arc::new(Endpoint::new(parts)), channel: None };
        let program = watch::Sender::new(Program::default());
        // A session each.
        let listen = |from: [u8; 4]| {
            let streams = Streams::default();
            let id = streams.open(b"").unwrap();
            read(&streams, &id, program.subscribe(), &place, Peer((from, 9).into()))
        };
        let mut listening: Vec<Response> = (0..1000).map_while(|_| listen([192, 0, 2, 1]).ok()).collect();
        assert_eq!(listening.len(), MOST_LISTENERS_FROM_ONE);
        assert!(matches!(listen([192, 0, 2, 1]), Err(Refusal::TooManyConnections(_))));
        listening.extend((0..1000).map_while(|number: u16| listen([10, 0, (number >> 8) as u8, number as u8]).ok()));
        assert_eq!(listening.len(), MOST_LISTENERS, "and all of them leave room for others");
        listening.clear();
        assert!(listen([192, 0, 2, 1]).is_ok());
    }

    #[test]
    fn only_events_that_there_are_can_be_asked_for() {
        let streams = Streams::default();
        for bad in ["[\"scte35\"]", "{}", "[1]", "[", "\"active\""] {
            assert!(matches!(streams.open(bad.as_bytes()), Err(Refusal::Events(_))), "{bad}");
        }
        let first = streams.open(b"[\"active\"]").unwrap();
        assert!((1..MOST_STREAMS).all(|_| streams.open(b" ").is_ok()));
        assert!(matches!(streams.open(b"[]"), Err(Refusal::TooManyStreams(_))));
        streams.delete(&first).unwrap();
        assert!(matches!(streams.delete(&first), Err(Refusal::NoStream)));
        assert!(streams.open(b"[]").is_ok());
    }
}
