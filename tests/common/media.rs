//! The session layer without any element or server: a media thread of the test's own, and what exchanges descriptions.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, OnceLock, mpsc},
};

use gstwebrtcbridge::{
    forward::{Publication, Source, Viewer as Watching},
    session::{
        Answered, CodecPreferences, ConnectionState, EndReason, Mux, PacketSink, RtpPacket, SenderReport, Sends,
        Session, SessionConfig, SessionError, UdpPorts,
    },
};

use super::{
    SOON,
    peer::{Peer, Script},
    viewer::{Viewer, Wants},
};

/// The media thread with its port.
pub struct Media {
    pub runtime: tokio::runtime::Handle,
    pub config: SessionConfig,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Media {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        });
        let guard = handle.enter();
        let mux = Arc::new(Mux::bind(UdpPorts::Any).expect("a port"));
        drop(guard);
        let config = SessionConfig {
            mux,
            codecs: CodecPreferences::default(),
            public_addresses: Vec::new(),
            connect_timeout: SOON,
            max_bitrate: 0,
            reach: None,
        };
        Self { runtime: handle, config, _stop: stop }
    }

    /// Answers an offer to receive.
    pub fn exchange(&self, offer: &str, sends: Sends) -> Result<Answered, SessionError> {
        let (config, offer) = (self.config.clone(), offer.to_owned());
        let (done, answered) = mpsc::channel();
        self.runtime.spawn(async move {
            let answering = Session::exchange(&config, &offer, true, Some(sends), |_| Arc::new(Nowhere), ());
            let _ = done.send(Box::pin(answering).await);
        });
        answered.recv_timeout(SOON).expect("an answer in time")
    }

    /// Lets somebody publish to a source; returns the session, which lives as long as the peer does.
    pub fn publish(&self, source: &Arc<Source>, script: Script) -> (Peer, Session) {
        let (config, runtime, source) = (self.config.clone(), self.runtime.clone(), source.clone());
        let (session, sessions) = mpsc::channel();
        let url = serve_once(move |offer| {
            let (done, answered) = mpsc::channel();
            runtime.spawn(async move {
                let published = Arc::new(OnceLock::<Arc<Publication>>::new());
                let publishing = published.clone();
                let sink = move |tracks: &[_]| -> Arc<dyn PacketSink> {
                    let publication = source.publish(tracks, None);
                    let _ = publishing.set(publication.clone());
                    publication
                };
                let answering = Session::exchange(&config, &offer, true, None, sink, ());
                let answered = Box::pin(answering).await.expect("an answer");
                published.get().expect("a publication").begin(answered.session.keyframes());
                let _ = done.send(answered);
            });
            let answered = answered.recv_timeout(SOON).expect("an answer in time");
            let _ = session.send(answered.session);
            answered.sdp
        });
        let peer = Peer::start(&url, script);
        (peer, sessions.recv_timeout(SOON).expect("a session"))
    }

    /// Lets somebody view a source.
    pub fn view(&self, source: &Source, wants: Wants) -> Watched {
        let viewer = Viewer::new(wants);
        let joining = source.join();
        let sends = Sends { tracks: joining.tracks().to_vec(), events: joining.events(), receives: false };
        let answered = self.exchange(viewer.offer(), sends).expect("an answer");
        let watching = joining.begin(&answered).expect("something to watch");
        viewer.answered(&answered.sdp);
        Watched { viewer, answered, watching }
    }
}

/// A viewer of a source, with both ends.
pub struct Watched {
    pub viewer: Viewer,
    pub answered: Answered,
    pub watching: Watching,
}

/// Takes what a session receives and does nothing with it.
pub struct Nowhere;

impl PacketSink for Nowhere {
    fn rtp(&self, _: usize, _: RtpPacket) {}
    fn sender_report(&self, _: usize, _: SenderReport) {}
    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, _: EndReason) {}
    fn resumed(&self) {}
}

/// An HTTP server for one POST of an offer; returns its URL.
fn serve_once(answer: impl FnOnce(String) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/whip/x", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                if body.len() >= length.expect("a length") {
                    let sdp = answer(body.to_owned());
                    let head = "HTTP/1.1 201 Created\r\nLocation: /whip/x/1\r\nContent-Type: application/sdp\r\nConnection: close";
                    let response = format!("{head}\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
                    stream.write_all(response.as_bytes()).expect("a response");
                    return;
                }
            }
            let count = stream.read(&mut buffer).expect("a request");
            assert!(count > 0, "half a request");
            request.extend_from_slice(&buffer[..count]);
        }
    });
    url
}
