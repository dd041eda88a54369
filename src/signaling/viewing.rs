//! What a viewer's session can do beyond ending and moving: take the answer to an offer of ours, tell what is on, change
//! layers. And the seats that viewers have.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::answerer::AnswerError;
use crate::channel::Registry;

/// A session of somebody who watches; behind [`SignaledSession::viewing`](super::SignaledSession::viewing).
#[async_trait]
pub trait Viewing: Send + Sync {
    /// Takes the answer to an offer of ours. On an error nothing has changed.
    async fn answered(&self, sdp: &str) -> Result<(), AnswerError>;

    /// What is on.
    fn program(&self) -> watch::Receiver<Program>;

    /// Which layers the viewer wants at most.
    fn limit_layers(&self, limits: LayerLimits);
}

/// What is on, for a viewer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Somebody publishes.
    pub is_active: bool,
    /// The layers of the video, the smallest first.
    pub layers: Vec<VideoLayer>,
    /// Where the video stands in the viewer's description.
    pub video_section: usize,
    /// The session is about to end, and a new one would be good.
    pub reconnect: bool,
}

/// One of the video's layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VideoLayer {
    /// Its place, from the smallest on.
    pub index: usize,
    /// Of its pictures, if they have told.
    pub size: Option<(u16, u16)>,
    /// Bits per second.
    pub bitrate: u64,
}

/// What a viewer wants at most; nothing set: what its network carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerLimits {
    /// The index of the largest layer.
    pub layer: Option<usize>,
    /// The highest temporal layer.
    pub temporal: Option<u8>,
    /// The widest pictures.
    pub width: Option<u16>,
    /// The highest pictures.
    pub height: Option<u16>,
}

/// Who watches at an endpoint, and how many there may be.
pub(crate) struct Seating {
    pub(crate) seats: Arc<Seats>,
    /// Where viewers are counted by their channel, if there are channels.
    pub(crate) registry: Option<Arc<dyn Registry>>,
}

/// Places for viewers, however they come.
#[derive(Default)]
pub(crate) struct Seats {
    /// 0 for no limit.
    most: u32,
    taken: watch::Sender<u32>,
}

/// A viewer's place; given up when dropped.
pub(crate) struct Seat(Arc<Seats>);

/// There is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {0} viewers already, which is the most that are served")]
pub(crate) struct NoSeat(pub(crate) u32);

impl Seats {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, taken: watch::Sender::new(0) })
    }

    /// Takes a place.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Seat, NoSeat> {
        let mut is_free = false;
        self.taken.send_if_modified(|taken| {
            is_free = self.most == 0 || *taken < self.most;
            *taken += u32::from(is_free);
            is_free
        });
        if is_free { Ok(Seat(self.clone())) } else { Err(NoSeat(self.most)) }
    }

    /// Whether there is a place.
    pub(crate) fn check(&self) -> Result<(), NoSeat> {
        if self.most == 0 || *self.taken.borrow() < self.most { Ok(()) } else { Err(NoSeat(self.most)) }
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> watch::Receiver<u32> {
        self.taken.subscribe()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.send_modify(|taken| *taken -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_that_is_left_is_free_and_without_a_limit_all_are() {
        let seats = Seats::new(2);
        let first = seats.take().unwrap();
        let _second = seats.take().unwrap();
        assert_eq!((seats.take().err(), seats.check()), (Some(NoSeat(2)), Err(NoSeat(2))));
        drop(first);
        assert_eq!(*seats.taken().borrow(), 1);
        assert!(seats.take().is_ok());
        let any = Seats::new(0);
        let all: Vec<_> = (0..5000).map(|_| any.take().unwrap()).collect();
        assert_eq!(*any.taken().borrow(), all.len() as u32);
    }
}
