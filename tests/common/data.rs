//! Two sessions of our own that talk by data channels, each on a media thread of its own.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use gstwebrtcbridge::session::{
    Answered, ChannelEnd, CodecPreferences, DataChannel, DataMessage, DataSink, Offering, Session, SessionConfig, Terms,
};
use tokio::sync::watch;

use super::{
    SOON,
    media::{Media, Nowhere},
};

/// What a sink was told.
#[derive(Debug)]
pub enum Told {
    Opened(DataChannel),
    Message(DataChannel, DataMessage),
    Closed(DataChannel, ChannelEnd),
    Low,
}

/// A sink that remembers what it is told, and that can be made to wait with each message.
pub struct Listener {
    told: mpsc::Sender<Told>,
    heard: Mutex<mpsc::Receiver<Told>>,
    takes: watch::Sender<bool>,
}

impl Listener {
    pub fn new() -> Arc<Self> {
        let (told, heard) = mpsc::channel();
        Arc::new(Self { told, heard: Mutex::new(heard), takes: watch::Sender::new(true) })
    }

    /// Whether it takes messages, or waits.
    pub fn take(&self, takes: bool) {
        self.takes.send_replace(takes);
    }

    /// The next thing that it is told.
    pub fn next(&self) -> Told {
        self.heard.lock().expect("a listener").recv_timeout(SOON).expect("something to be told in time")
    }

    /// What it is told within this time, if anything.
    pub fn next_within(&self, time: Duration) -> Option<Told> {
        self.heard.lock().expect("a listener").recv_timeout(time).ok()
    }

    pub fn opened(&self) -> DataChannel {
        loop {
            match self.next() {
                Told::Opened(channel) => return channel,
                Told::Low => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn message(&self) -> DataMessage {
        loop {
            match self.next() {
                Told::Message(_, message) => return message,
                Told::Low => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn closed(&self) -> ChannelEnd {
        loop {
            match self.next() {
                Told::Closed(_, end) => return end,
                Told::Low => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[async_trait]
impl DataSink for Listener {
    fn opened(&self, channel: &DataChannel) {
        let _ = self.told.send(Told::Opened(channel.clone()));
    }

    async fn message(&self, channel: &DataChannel, message: DataMessage) {
        let mut takes = self.takes.subscribe();
        let _ = takes.wait_for(|takes| *takes).await;
        let _ = self.told.send(Told::Message(channel.clone(), message));
    }

    fn closed(&self, channel: &DataChannel, end: ChannelEnd) {
        let _ = self.told.send(Told::Closed(channel.clone(), end));
    }

    fn buffered_low(&self, _: &DataChannel) {
        let _ = self.told.send(Told::Low);
    }
}

/// One end.
pub struct End {
    pub media: Media,
    pub session: Session,
    pub listener: Arc<Listener>,
}

/// The end that offers data and nothing else.
pub fn offer_data(media: &Media, listener: Arc<Listener>) -> Offering {
    let config = SessionConfig { codecs: CodecPreferences { video: vec![], audio: vec![] }, ..media.config.clone() };
    let terms = Terms { sends: None, data: Some(listener) };
    run(media, async move { Offering::with(&config, true, terms).await.expect("an offer") })
}

/// The end that answers.
pub fn answer(media: &Media, offer: String, terms: Terms) -> Answered {
    let config = media.config.clone();
    let answering = async move { Session::exchange(&config, &offer, true, terms, |_| Arc::new(Nowhere), ()).await };
    run(media, async move { Box::pin(answering).await.expect("an answer") })
}

/// The end that offered gets the answer.
pub fn answered(media: &Media, offering: Offering, answer: String) -> Session {
    let answered = async move { offering.answered(&answer, Arc::new(Nowhere), |_, _| (), ()).await };
    run(media, async move { Box::pin(answered).await.expect("a session") })
}

/// Runs on the media thread.
pub fn run<T: Send + 'static>(media: &Media, doing: impl Future<Output = T> + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    media.runtime.spawn(async move {
        let _ = done.send(Box::pin(doing).await);
    });
    result.recv_timeout(SOON).expect("it to be done in time")
}

/// Two ends that have agreed on data alone: who offered, who answered. What is said is changed on its way.
pub fn pair_with(change: impl Fn(String) -> String) -> (End, End) {
    let (here, there) = (Media::start(), Media::start());
    let (asking, replying) = (Listener::new(), Listener::new());
    let offering = offer_data(&here, asking.clone());
    let terms = Terms { sends: None, data: Some(replying.clone()) };
    let answer = answer(&there, change(offering.sdp().to_owned()), terms);
    let session = answered(&here, offering, change(answer.sdp));
    (End { media: here, session, listener: asking }, End { media: there, session: answer.session, listener: replying })
}

/// Two ends that have agreed on data alone: who offered, who answered.
pub fn pair() -> (End, End) {
    pair_with(|sdp| sdp)
}
