//! A bridge server in a process of its own that pushes each channel to two RTMP servers, of which the second may be troubled;
//! and a show on it that must not notice what happens to its neighbours.

use serde_json::Value;

use super::{SOON, flv::FlvFile, free_port, http, launch::Launch, nginx::Nginx, publisher::Publisher, wait_until};

/// The server with both RTMP servers.
pub struct Stand {
    pub launch: Launch,
    pub nginx: Nginx,
    pub troubled: Nginx,
    pub port: u16,
}

impl Stand {
    pub fn start(environment: &[(&str, &str)]) -> Self {
        let (nginx, troubled) = (Nginx::start(), Nginx::start_with("record off;"));
        let port = free_port();
        let listen = format!("listen=127.0.0.1:{port}");
        // Two backslashes: the word is taken apart twice.
        let session = format!(
            "session=webrtcingest : rtmpbridgesink location={}\\\\ {} reconnect-min=100 reconnect-max=1000 \
             stall-timeout=2000",
            nginx.url("{channel}"),
            troubled.url("{channel}")
        );
        let mut launch = Launch::start_words_with(&["webrtcbridgebin", &listen, &session], environment);
        launch.wait_listening(port);
        launch.wait_for_line("Setting pipeline to PLAYING", SOON);
        Self { launch, nginx, troubled, port }
    }

    /// Where it is called, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where to publish to a channel.
    pub fn whip(&self, channel: &str) -> String {
        format!("{}/whip/{channel}", self.url())
    }

    pub fn metrics(&self) -> String {
        let mut answer = http().get(format!("{}/metrics", self.url())).call().expect("an answer");
        answer.body_mut().read_to_string().expect("text")
    }

    pub fn status(&self) -> Value {
        let mut answer = http().get(format!("{}/api/v1/status", self.url())).call().expect("an answer");
        serde_json::from_str(&answer.body_mut().read_to_string().expect("text")).expect("JSON")
    }

    /// A destination of a channel's session, from the status.
    pub fn destination(&self, channel: &str, index: usize) -> Option<Value> {
        let status = self.status();
        let session = status["sessions"].as_array()?.iter().find(|session| session["channel"] == channel)?;
        Some(session["destinations"].get(index)?.clone())
    }

    pub fn wait_destination(&self, channel: &str, index: usize, state: &str) {
        wait_until(&format!("destination {index} of {channel} to be {state}"), SOON, || {
            (self.destination(channel, index)?["state"] == state).then_some(())
        });
    }
}

/// The value of the one series of a name whose labels hold all of these.
pub fn value(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|l| line.contains(l))
    };
    metrics.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
}

/// A show at full rate that is recorded.
pub struct Show {
    publisher: Publisher,
    key: &'static str,
}

/// Pictures come every 33 ms and sounds every 21: a machine that is busy with other tests may bunch them, but nothing is
/// missing.
const WIDEST: u32 = 500;

impl Show {
    /// Begins on a channel of the same name as its key, and is under way when this returns.
    pub fn start(url: &str, nginx: &Nginx, key: &'static str) -> Self {
        let publisher = Publisher::start(url);
        nginx.wait_recorded(key, SOON, |flv| flv.has_seconds(1, 1));
        Self { publisher, key }
    }

    /// Two more seconds of it are recorded.
    pub fn goes_on(&self, nginx: &Nginx) {
        let end = |flv: &FlvFile| flv.tags.last().map_or(0, |tag| tag.timestamp);
        let now = end(&FlvFile::read(&nginx.recordings(self.key)[0]));
        nginx.wait_recorded(self.key, SOON, |flv| end(flv) > now + 2000);
    }

    /// All of it is in one recording, bit for bit and in order, from its first picture that came there on.
    pub fn assert_perfect(&self, nginx: &Nginx) {
        self.publisher.assert_unharmed();
        let recordings = nginx.recordings(self.key);
        assert_eq!(recordings.len(), 1, "one connection to its server");
        let flv = FlvFile::read(&recordings[0]);
        let arrived: Vec<u64> = flv.pictures().map(|tag| tag.slices()).collect();
        let sent = self.publisher.sent();
        let place = |picture: &u64| sent.iter().position(|sent| sent == picture);
        let Some(first) = place(&arrived[0]) else {
            let next = arrived.iter().position(|picture| place(picture).is_some());
            let (tag, at) = (flv.pictures().next().expect("a picture"), next.and_then(|next| place(&arrived[next])));
            panic!(
                "the first of {} pictures, {} bytes, keyframe: {}, was not sent so; of {} that were, number {at:?} arrived \
                 as number {next:?}",
                arrived.len(),
                tag.data.len(),
                tag.data[0] >> 4 == 1,
                sent.len(),
            )
        };
        let expected = &sent[first..first + arrived.len()];
        let wrong = arrived.iter().zip(expected).position(|(arrived, sent)| arrived != sent);
        assert_eq!(wrong, None, "of {} pictures this one is another than the one that was sent", arrived.len());
        let times = |tags: Vec<u32>| tags.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0);
        let pictures = times(flv.pictures().map(|tag| tag.timestamp).collect());
        let sounds = times(flv.sounds().map(|tag| tag.timestamp).collect());
        assert!(pictures < WIDEST && sounds < WIDEST, "gaps of {pictures} ms in pictures, {sounds} ms in sounds");
    }

    /// Ends it as WHIP wants it.
    pub fn end(self) {
        self.publisher.delete();
    }
}
