//! One WebSocket: reads frames for its member, writes what waits for it, and ends when either side is silent, slow or done.

use std::{fmt, time::Duration};

use axum::extract::ws::{CloseFrame, Message, close_code};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::{
    sync::watch,
    time::{Instant, interval_at, timeout},
};
use tracing::debug;

use super::{
    Shared,
    limits::Verdict,
    member::Member,
    outbox::{Next, Outbox, Outgoing},
    protocol::{Code, ServerMessage},
    refused::Refused,
};

/// A ping this often keeps NATs and proxies from forgetting the connection, and shows whether the peer is there.
const PING: Duration = Duration::from_secs(20);
/// Three pings unanswered.
const SILENCE: Duration = Duration::from_secs(60);
/// What a peer gets to take its last messages.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a connection came to its end.
enum End {
    /// The peer closed it, or the network did.
    Gone,
    /// We close it, and say why.
    Close { code: u16, reason: &'static str },
}

/// Serves one connection until it ends.
pub(super) async fn run<S, E>(socket: S, mut member: Member, outbox: Outbox, outgoing: Outgoing, room: Room<'_>)
where
    S: Stream<Item = Result<Message, E>> + Sink<Message>,
    E: fmt::Display,
{
    let (sink, mut stream) = socket.split();
    let writing = write(sink, outgoing);
    tokio::pin!(writing);
    let end = tokio::select! {
        end = read(&mut stream, &mut member, &outbox, &room) => end,
        () = &mut writing => End::Gone,
        // A goodbye would wait behind what is not read.
        () = outbox.overflown() => {
            room.shared.counters.too_slow();
            End::Gone
        }
    };
    member.vanish().await;
    if let End::Close { code, reason } = end {
        debug!(reason, "WebSocket closed by us");
        outbox.close(CloseFrame { code, reason: reason.into() });
        // Reading goes on: closing on a peer that still writes makes it see a reset instead of the reason.
        let drain = async { while matches!(stream.next().await, Some(Ok(_))) {} };
        let _ = timeout(FAREWELL, async { tokio::join!(writing, drain) }).await;
    }
}

/// Where a connection is.
#[derive(Clone, Copy)]
pub(super) struct Room<'a> {
    pub(super) shared: &'a Shared,
    /// Ends with the server.
    pub(super) open: &'a watch::Receiver<()>,
}

async fn read<S, E>(stream: &mut S, member: &mut Member, outbox: &Outbox, room: &Room<'_>) -> End
where
    S: Stream<Item = Result<Message, E>> + Unpin,
    E: fmt::Display,
{
    let mut open = room.open.clone();
    loop {
        let frame = tokio::select! {
            frame = timeout(SILENCE, stream.next()) => frame,
            () = member.session_news() => continue,
            _ = open.changed() => {
                outbox.push(ServerMessage::Closed { reason: "shutdown".into() }.to_json(None).into());
                return End::Close { code: close_code::AWAY, reason: "the server is closing" };
            }
        };
        let message = match frame {
            Err(_) => {
                room.shared.counters.idle();
                return End::Close { code: close_code::POLICY, reason: "nothing was heard for 60 s" };
            }
            Ok(None) => return End::Gone,
            Ok(Some(Err(error))) => return broken(&error.to_string(), member),
            Ok(Some(Ok(message))) => message,
        };
        match member.pace_of_frame() {
            Verdict::Take => (),
            Verdict::TooOften => {
                member.refuse(Refused::new(Code::TooOften, "too many messages; slow down"), None);
                continue;
            }
            Verdict::Flood => {
                room.shared.counters.flood();
                return End::Close { code: close_code::POLICY, reason: "too many messages" };
            }
        }
        match message {
            Message::Text(text) => member.hear(text.as_str()).await,
            Message::Binary(_) => {
                member.refuse(Refused::new(Code::BadMessage, "binary frames are not understood; send JSON text"), None);
            }
            Message::Ping(_) | Message::Pong(_) => (),
            Message::Close(_) => {
                member.say_goodbye().await;
                return End::Gone;
            }
        }
    }
}

/// What cannot be read as frames ends the connection, with a word if the peer may still listen.
fn broken(error: &str, member: &Member) -> End {
    debug!(error, "WebSocket failed");
    // The library tells its errors apart by type; axum passes on only their text.
    if error.contains("Message too long") {
        member.refuse(Refused::new(Code::TooLarge, "a message has more than 64 KiB"), None);
        return End::Close { code: close_code::SIZE, reason: "a message has more than 64 KiB" };
    }
    if error.contains("UTF-8") {
        return End::Close { code: close_code::INVALID, reason: "a text frame is not UTF-8" };
    }
    if error.contains("protocol error") {
        return End::Close { code: close_code::PROTOCOL, reason: "a frame is malformed" };
    }
    End::Gone
}

/// Writes until everything is told, or nobody takes it any more.
async fn write<S: Sink<Message> + Unpin>(mut sink: S, mut outgoing: Outgoing) {
    let mut pings = interval_at(Instant::now() + PING, PING);
    loop {
        let sent = tokio::select! {
            next = outgoing.next() => match next {
                Next::Message(text) => sink.send(Message::Text(text)).await,
                Next::Close(frame) => {
                    let _ = sink.send(Message::Close(Some(frame))).await; // whoever is gone needs no goodbye
                    return;
                }
            },
            _ = pings.tick() => sink.send(Message::Ping(bytes::Bytes::new())).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
