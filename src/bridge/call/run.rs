//! One pipeline for one call, from joining the channel to the end: what [`WebRtcServer::run_with_signaling`] is.
//!
//! [`WebRtcServer::run_with_signaling`]: crate::bridge::WebRtcServer::run_with_signaling

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst::prelude::*;
use tokio::{
    sync::mpsc,
    task::{JoinError, spawn_blocking},
};

use super::{Call, CallConfig, CallObserver, CallState};
use crate::{
    bridge::{
        Description, DescriptionError, Peer,
        pipeline::{Event, SessionPipeline, Timing},
        placeholders::Names,
        properties,
    },
    forward::Source,
    runtime,
    session::{CodecPreferences, Mux, SessionConfig, UdpPorts},
    signaling::client::socket::{SocketConfig, SocketUrlError},
};

/// For what is on its way when the call is over.
const ENDING: Duration = Duration::from_secs(10);

/// Why a call did not come about, or did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The URL is none of a signaling server's channel.
    #[error("the URL: {0}")]
    Url(#[from] SocketUrlError),
    /// The description is none.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// Something of this machine is missing, or its pipeline does not start.
    #[error("{0}")]
    Start(String),
    /// The server, or the other peer, cannot be talked to.
    #[error("{0}")]
    Refused(String),
    /// The pipeline has failed.
    #[error("the pipeline has failed: {0}")]
    Failed(String),
}

impl From<JoinError> for RunError {
    fn from(error: JoinError) -> Self {
        Self::Start(format!("running failed: {error}"))
    }
}

/// Joins, runs, and returns at the end of the call or of the pipeline.
pub(crate) async fn run(url: &str, description: &str) -> Result<(), RunError> {
    let http = runtime::signaling().map_err(thread)?;
    let (url, description) = (url.to_owned(), description.to_owned());
    // Whoever awaits this may have any executor, or go away: then the call ends too.
    let running = AbortOnDrop(http.spawn(async move { Box::pin(on_runtime(&url, &description)).await }));
    running.joined().await?
}

async fn on_runtime(url: &str, description: &str) -> Result<(), RunError> {
    let socket = SocketConfig { url: url.parse()?, auth_token: None, trusted: None };
    let description = Description::parse(description)?;
    let media = runtime::media().map_err(thread)?;
    let mux = Mux::shared(media, UdpPorts::Any).map_err(|error| RunError::Start(error.to_string()))?;
    let (codecs, _) = properties::receivable(CodecPreferences::default()).map_err(RunError::Start)?;
    let names = Names::new(socket.url.channel(), "call");
    let peer = Peer::new(names, media.clone(), mux.clone(), Arc::new(Source::new(media)));
    let session = SessionConfig {
        mux,
        codecs: codecs.clone(),
        public_addresses: Vec::new(),
        connect_timeout: Duration::from_secs(10),
        max_bitrate: 0,
        reach: None,
    };
    let config = CallConfig {
        socket,
        session,
        codecs: Arc::new(move || codecs.clone()),
        ends: true,
        media: media.clone(),
        http: runtime::signaling().map_err(thread)?.clone(),
    };
    let clock = gst::SystemClock::obtain();
    let timing = Timing { base_time: clock.time(), clock };
    let for_pipeline = peer.clone();
    let (pipeline, mut events) = spawn_blocking(move || {
        let element = description.build()?;
        SessionPipeline::start(element, &for_pipeline, &timing)
    })
    .await?
    .map_err(RunError::Start)?;
    // From here on its elements have said what they send and receive.
    let call = Call::new(peer, Arc::new(Mutex::new(config))).map_err(RunError::Start)?;
    let (ended, mut ends) = mpsc::channel(1);
    call.observe(Arc::new(Ends(ended)));
    call.begin();
    let mut deadline = None;
    let result = loop {
        tokio::select! {
            () = at(deadline) => break Ok(()),
            event = events.recv() => match event {
                Some(Event::Failed(why)) => break Err(RunError::Failed(why)),
                Some(Event::Ended) | None => break Ok(()),
                Some(Event::Warned(why)) => tracing::warn!(why, "the pipeline has a warning"),
                Some(Event::Latency) => {}
            },
            end = ends.recv() => match end {
                Some(CallState::Refused { reason }) => break Err(RunError::Refused(reason)),
                // What is on its way through the pipeline comes to its end first, where there is an end to wait for.
                Some(_) if deadline.is_none() && pipeline.end_of_stream() => deadline = Some(Instant::now() + ENDING),
                _ => break Ok(()),
            },
        }
    };
    spawn_blocking(move || {
        pipeline.stop();
        call.stop();
        call.wait();
    })
    .await?;
    result
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// Passes the call's end on.
struct Ends(mpsc::Sender<CallState>);

impl CallObserver for Ends {
    fn changed(&self, state: &CallState) {
        // There is no bus to tell it to: whoever waits in vain finds it in the log.
        let (name, reason) = (state.name(), state.reason().unwrap_or_default());
        match state {
            CallState::Retrying { .. } => tracing::warn!(state = name, reason, "call"),
            _ => tracing::info!(state = name, reason, "call"),
        }
        if matches!(state, CallState::Refused { .. } | CallState::Stopped { .. }) {
            let _ = self.0.try_send(state.clone());
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn joined(mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn thread(error: std::io::Error) -> RunError {
    RunError::Start(format!("a thread could not be started: {error}"))
}
