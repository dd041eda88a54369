//! Two sessions on a simulated network, under tokio's virtual clock: a second takes as long as the work in it, and everything
//! runs on one thread. No socket carries anything.
//!
//! Here are the network and the connecting; what is sent, and what is asked of what arrives, is whoever's who has a
//! [`Pair`] (`rtp/networks`). Chance comes from the scenario's seed, but for what the stack draws itself: keys and names.

pub(crate) mod dice;
mod network;
pub(crate) mod scenario;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use dice::Dice;
pub(crate) use network::Carried;
use network::{CLIENT, Network, SERVER};
use scenario::Scenario;

use super::{
    Answered, CodecPreferences, ConnectionState, EndReason, Mux, Offering, Outlet, PacketSink, RtpPacket, SenderReport,
    Sends, Session, SessionConfig, Terms, Track, time,
};
use crate::codec::MediaKind;

/// A publisher that is not connected by then has gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

std::thread_local! {
    static FIRST_NUMBERS: std::cell::Cell<Option<[(u16, u16); 2]>> = const { std::cell::Cell::new(None) };
    static BEGAN: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// An instant and the time that the wall clock has then, since 1970.
pub(crate) fn wall_clock() -> Option<(Instant, Duration)> {
    BEGAN.get().map(|began| (began, Duration::from_secs(1_750_000_000)))
}

/// What a stream of a simulation and its repairs begin with: half of them go round while something goes wrong.
pub(crate) fn first_numbers(kind: MediaKind) -> Option<(u16, u16)> {
    FIRST_NUMBERS.get().map(|[audio, video]| if kind == MediaKind::Audio { audio } else { video })
}

/// Two sessions with each other.
pub(crate) struct Pair {
    pub(crate) sender: Session,
    pub(crate) receiver: Session,
    pub(crate) outlet: Outlet,
    /// How long connecting took.
    pub(crate) took: Duration,
    network: Arc<Network>,
    muxes: [Arc<Mux>; 2],
    running: tokio::task::AbortHandle,
}

/// What came of a pair.
#[derive(Debug)]
pub(crate) struct Aftermath {
    /// Up, and down.
    pub(crate) carried: [Carried; 2],
    /// Datagrams that found a session's queue full.
    pub(crate) overflowed: u64,
    /// Moves of the client to another address.
    pub(crate) rebinds: u64,
    /// Nobody is routed to any more.
    pub(crate) nobody_left: bool,
    /// Another one if anything was sent at another time.
    pub(crate) trace: u64,
}

impl Pair {
    /// Connects; `sink` gets what comes, once it knows of which tracks.
    pub(crate) async fn connect(
        scenario: &Scenario,
        sends: Sends,
        make_sink: impl FnOnce(&[Track]) -> Arc<dyn PacketSink> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let dice = &mut Dice::new(scenario.seed ^ 0xF125);
        FIRST_NUMBERS.set(Some([MediaKind::Audio, MediaKind::Video].map(|kind| scenario.first_numbers(kind, dice))));
        BEGAN.set(Some(time::now()));
        let network = Network::new(scenario);
        let running = tokio::spawn(network.clone().run()).abort_handle();
        let (client, server) = network.ports().map_err(|error| error.to_string())?;
        let (at_client, at_server) = (config(&client, CLIENT.0.into()), config(&server, SERVER.0.into()));
        let start = time::now();
        let (sender, receiver) = if scenario.client_sends {
            publish(&at_client, &at_server, sends, scenario.rtx, make_sink).await
        } else {
            watch(&at_client, &at_server, sends, scenario.rtx, make_sink).await
        }?;
        let outlet = sender.outlet().ok_or("nothing is sent")?.clone();
        for session in [&sender, &receiver] {
            let mut states = session.states();
            let over = |state: &ConnectionState| *state == ConnectionState::Connected || state.is_over();
            let state = *states.wait_for(over).await.map_err(|_| "a session is gone")?;
            if state != ConnectionState::Connected {
                return Err(format!("{state:?} instead of connected"));
            }
        }
        network.connected();
        let took = time::now() - start;
        Ok(Self { sender, receiver, outlet, took, network, muxes: [client, server], running })
    }

    /// The client's NAT forgets it.
    pub(crate) fn rebind(&self) {
        self.network.rebind();
    }

    /// Ends both, and tells what became of everything.
    pub(crate) async fn end(self) -> Aftermath {
        self.sender.close(EndReason::Shutdown).await;
        self.receiver.close(EndReason::Shutdown).await;
        // Tasks end, and what is on its way arrives.
        while self.network.flying() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.running.abort();
        let stats = self.muxes.each_ref().map(|mux| mux.stats());
        Aftermath {
            carried: self.network.carried(),
            overflowed: stats.iter().map(|stats| stats.overflowed).sum(),
            rebinds: stats.iter().map(|stats| stats.rebinds).sum(),
            trace: self.network.trace(),
            nobody_left: self.muxes.iter().all(|mux| mux.is_empty()),
        }
    }
}

fn config(mux: &Arc<Mux>, address: IpAddr) -> SessionConfig {
    SessionConfig {
        mux: mux.clone(),
        codecs: CodecPreferences::default(),
        public_addresses: vec![address],
        connect_timeout: CONNECT_TIMEOUT,
        max_bitrate: 0,
        reach: None,
    }
}

type Ends = Result<(Session, Session), String>;

/// As by WHIP: who sends makes the offer. Returns the sender and the receiver.
async fn publish(
    client: &SessionConfig,
    server: &SessionConfig,
    sends: Sends,
    rtx: bool,
    make_sink: impl FnOnce(&[Track]) -> Arc<dyn PacketSink>,
) -> Ends {
    let text = |error: super::SessionError| error.to_string();
    let offering = Offering::with(client, false, Terms::from(Some(sends))).await.map_err(text)?;
    let offer = offered(offering.sdp(), rtx);
    let answered = Session::answer(server, &offer, false, make_sink, ()).await.map_err(text)?;
    let Answered { session: receiver, sdp, .. } = answered;
    let sender = offering.answered(&sdp, Arc::new(Nothing), |_, _| (), ()).await.map_err(text)?;
    Ok((sender, receiver))
}

/// As by WHEP: who receives makes the offer.
async fn watch(
    client: &SessionConfig,
    server: &SessionConfig,
    sends: Sends,
    rtx: bool,
    make_sink: impl FnOnce(&[Track]) -> Arc<dyn PacketSink> + Send + Sync + 'static,
) -> Ends {
    let text = |error: super::SessionError| error.to_string();
    let offering = Offering::new(client, false).await.map_err(text)?;
    let (offer, terms) = (offered(offering.sdp(), rtx), Some(sends));
    let answered = Session::exchange(server, &offer, false, terms, |_| Arc::new(Nothing), ()).await.map_err(text)?;
    let Answered { session: sender, sdp, .. } = answered;
    let late = Arc::<Late>::default();
    let filled = late.clone();
    let begin = move |_, tracks: Vec<Track>| _ = filled.0.set(make_sink(&tracks));
    let receiver = offering.answered(&sdp, late, begin, ()).await.map_err(text)?;
    Ok((sender, receiver))
}

/// The offer, or one of somebody who knows nothing of retransmission streams: their formats are others that nobody knows.
fn offered(offer: &str, rtx: bool) -> String {
    if rtx {
        return offer.to_owned();
    }
    let lines = offer.split_inclusive("\r\n").filter(|line| !line.starts_with("a=ssrc-group:FID"));
    lines.collect::<String>().replace(" rtx/90000", " unknown/90000")
}

/// Receives nothing.
struct Nothing;

impl PacketSink for Nothing {
    fn rtp(&self, _: usize, _: RtpPacket) {}
    fn sender_report(&self, _: usize, _: SenderReport) {}
    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, _: EndReason) {}
    fn resumed(&self) {}
}

/// What is told of the tracks only when they are known.
#[derive(Default)]
struct Late(OnceLock<Arc<dyn PacketSink>>);

impl PacketSink for Late {
    fn rtp(&self, track: usize, packet: RtpPacket) {
        if let Some(sink) = self.0.get() {
            sink.rtp(track, packet);
        }
    }

    fn sender_report(&self, track: usize, report: SenderReport) {
        if let Some(sink) = self.0.get() {
            sink.sender_report(track, report);
        }
    }

    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, _: EndReason) {}
    fn resumed(&self) {}
}

/// Now, on the clock that the sessions have.
pub(crate) fn now() -> Instant {
    time::now()
}
