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
        let session = format!(
            "session=webrtcingest : rtmpbridgesink location='{} {}' reconnect-min=100 reconnect-max=1000 \
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

    /// What was counted of a channel, and on the media port.
    fn counted_of(&self, channel: &str) -> String {
        let (metrics, channel) = (self.metrics(), format!("channel=\"{channel}\""));
        let is_about = |line: &&str| {
            line.contains(&channel) || line.contains("webrtcbridge_udp") || line.contains("accept_failures")
        };
        metrics.lines().filter(is_about).collect::<Vec<_>>().join("\n")
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
    pub fn assert_perfect(&self, stand: &Stand) {
        self.publisher.assert_unharmed();
        let recordings = stand.nginx.recordings(self.key);
        assert_eq!(recordings.len(), 1, "one connection to its server");
        let flv = FlvFile::read(&recordings[0]);
        let arrived: Vec<u64> = flv.pictures().map(|tag| tag.slices()).collect();
        let sent = self.publisher.sent();
        let first = sent.iter().position(|sent| *sent == arrived[0]);
        let expected = first.map_or(&[][..], |first| &sent[first..]);
        if let Some(wrong) = (0..arrived.len()).find(|number| expected.get(*number) != Some(&arrived[*number])) {
            panic!("{}\n{}", self.differs(&flv, &arrived, wrong), stand.counted_of(self.key));
        }
        let times = |tags: Vec<u32>| tags.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0);
        let pictures = times(flv.pictures().map(|tag| tag.timestamp).collect());
        let sounds = times(flv.sounds().map(|tag| tag.timestamp).collect());
        assert!(pictures < WIDEST && sounds < WIDEST, "gaps of {pictures} ms in pictures, {sounds} ms in sounds");
    }

    /// What is wrong from a picture of the recording on: the pictures around it by their numbers in what was sent.
    fn differs(&self, flv: &FlvFile, arrived: &[u64], wrong: usize) -> String {
        let sent = self.publisher.sent();
        // The clip is sent again and again: a picture's number is the one that goes on from those before.
        let mut next = 0;
        let numbers: Vec<Option<usize>> = arrived
            .iter()
            .map(|picture| {
                let found = sent[next..].iter().position(|sent| sent == picture).map(|ahead| next + ahead);
                next = found.map_or(next, |found| found + 1);
                found
            })
            .collect();
        let around: Vec<_> = flv
            .pictures()
            .zip(&numbers)
            .skip(wrong.saturating_sub(2))
            .take(8)
            .map(|(tag, number)| (number, tag.timestamp, tag.data.len(), tag.data[0] >> 4 == 1))
            .collect();
        let (unsent, total) = (numbers.iter().filter(|number| number.is_none()).count(), arrived.len());
        format!(
            "of {total} pictures number {wrong} is another than the one that was sent; {unsent} were not sent so; around it \
             (number sent, ms, bytes, keyframe): {around:?}"
        )
    }

    /// Ends it as WHIP wants it.
    pub fn end(self) {
        self.publisher.delete();
    }
}
