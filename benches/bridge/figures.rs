//! What was measured, as a row of a table.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use crate::receiver::Picture;

/// Of one number of streams.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Cores that the bridge took.
    pub(crate) cores: f64,
    /// Bytes that the bridge took beyond what it had without streams.
    pub(crate) memory: u64,
    pub(crate) threads: usize,
    /// From the POST to the first keyframe at the RTMP server.
    pub(crate) first_keyframe: Vec<Duration>,
    latency: Vec<Duration>,
    sent: usize,
    received: usize,
    exact: usize,
}

impl Figures {
    /// Adds a stream: what was sent in a span of time, and what has come of it.
    pub(crate) fn compare(&mut self, sent: &[(Instant, u64)], got: &[Picture], from: Instant, until: Instant) {
        let mut arrivals: HashMap<u64, Vec<Instant>> = HashMap::new();
        for picture in got {
            arrivals.entry(picture.slices).or_default().push(picture.at);
        }
        self.received += got.iter().filter(|picture| (from..until).contains(&picture.at)).count();
        for (at, slices) in sent.iter().filter(|(at, _)| (from..until).contains(at)) {
            self.sent += 1;
            // The clip comes round: the first that came after this one was sent.
            let arrival = arrivals.get(slices).and_then(|arrivals| arrivals.iter().find(|arrival| *arrival >= at));
            if let Some(arrival) = arrival {
                self.exact += 1;
                self.latency.push(*arrival - *at);
            }
        }
        self.latency.sort_unstable();
    }
}

/// A row.
pub(crate) struct Row {
    pub(crate) count: usize,
    pub(crate) figures: Figures,
}

impl Row {
    pub(crate) fn heading() -> &'static str {
        "| streams | core a stream | latency med / p95 / p99 ms | POST → first keyframe ms | RSS a stream MB | threads | pictures \
         received of sent, bit exact |\n| --- | --- | --- | --- | --- | --- | --- |"
    }

    /// Cores a stream.
    pub(crate) fn cost(&self) -> f64 {
        self.figures.cores / self.count as f64
    }

    /// The latency that this share of pictures did not exceed, in ms; `None` where pictures are not what was sent.
    pub(crate) fn latency(&self, share: f64) -> Option<f64> {
        let latency = &self.figures.latency;
        let index = (latency.len().checked_sub(1)? as f64 * share) as usize;
        latency.get(index).map(|latency| latency.as_secs_f64() * 1e3)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { memory, threads, first_keyframe, sent, received, exact, .. } = &self.figures;
        write!(f, "| {} | {:.4} | ", self.count, self.cost())?;
        for (share, end) in [(0.5, " / "), (0.95, " / "), (0.99, " | ")] {
            match self.latency(share) {
                Some(latency) => write!(f, "{latency:.1}{end}")?,
                None => write!(f, "–{end}")?,
            }
        }
        let ms = |of: Option<&Duration>| of.map_or(0, Duration::as_millis);
        write!(f, "{}–{} | ", ms(first_keyframe.iter().min()), ms(first_keyframe.iter().max()))?;
        write!(f, "{:.1} | {threads} | {received} of {sent}, {exact} |", *memory as f64 / 1e6 / self.count as f64)
    }
}
