//! The metric families: names, helps, units, and where each number comes from.
//!
//! Names follow Prometheus' conventions: base units, `_total` for what only grows. What only grows within a session is a
//! counter labelled with it, and ends with it.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue},
    metrics::MetricType,
    registry::Unit,
};

use super::{process::Process, requests::Answers};
use crate::{
    channel::ChannelInfo,
    signaling::{
        auth::counters::AuthCounts,
        monitor::{
            ConnectionState, DestinationReport, DestinationState, PortReport, Report, SessionReport, TrackReport,
            ViewersReport,
        },
        socket::SocketCounts,
        tls_reload::TlsCounters,
    },
};

/// All there is to tell, at one time.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) report: Arc<Report>,
    pub(super) channels: Vec<ChannelInfo>,
    pub(super) answers: Vec<Answers>,
    pub(super) process: Option<Process>,
    pub(super) draining: bool,
    pub(super) auth: AuthCounts,
    pub(super) sockets: SocketCounts,
    pub(super) tls: Arc<TlsCounters>,
    pub(super) turned_away: u64,
    pub(super) accept_failures: u64,
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families { encoder };
        self.of_the_server(&mut families)?;
        self.of_admission(&mut families)?;
        self.of_sessions(&mut families)?;
        self.of_tracks(&mut families)?;
        self.of_destinations(&mut families)?;
        self.of_ports(&mut families)?;
        self.of_viewers(&mut families)?;
        match &self.process {
            Some(process) => of_the_process(process, &mut families),
            None => Ok(()),
        }
    }
}

impl Numbers {
    fn of_the_server(&self, to: &mut Families<'_>) -> fmt::Result {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        to.info("webrtcbridge_build", "The version that runs", [version])?;
        to.gauge(
            "webrtcbridge_draining",
            "1 while no new sessions are taken",
            None,
            [(none(), f64::from(self.draining))],
        )?;
        let live = self.channels.iter().filter(|channel| channel.is_live).count();
        let viewers: u64 = self.channels.iter().map(|channel| u64::from(channel.viewers)).sum();
        to.gauge("webrtcbridge_channels", "Channels that exist", None, [(none(), self.channels.len() as f64)])?;
        to.gauge("webrtcbridge_live_channels", "Channels with a publisher", None, [(none(), live as f64)])?;
        to.gauge("webrtcbridge_viewers", "Viewers of all channels", None, [(none(), viewers as f64)])?;
        let count = |state| self.report.sessions.iter().filter(|session| session.state == state).count() as f64;
        let by_state = ConnectionState::ALL.map(|state| (vec![("state", state.as_str().into())], count(state)));
        to.gauge("webrtcbridge_sessions", "Sessions by the state of their connection", None, by_state)?;
        let totals = self.report.totals;
        to.counter("webrtcbridge_sessions_started", "Sessions begun", None, [(none(), totals.sessions_started)])?;
        let ended = [
            (vec![("reason", "ended".into())], totals.sessions_ended),
            (vec![("reason", "failed".into())], totals.sessions_failed),
        ];
        to.counter("webrtcbridge_sessions_ended", "Sessions that ended, by whether something failed", None, ended)?;
        let answer = |answers: &Answers| {
            let Answers { route, method, status, count } = answers;
            let labels =
                vec![("route", route.clone()), ("method", (*method).to_owned()), ("status", status.to_string())];
            (labels, *count)
        };
        let help = "HTTP requests answered, refused ones included";
        to.counter("webrtcbridge_http_responses", help, None, self.answers.iter().map(answer))
    }

    fn of_admission(&self, to: &mut Families<'_>) -> fmt::Result {
        let AuthCounts { admitted, missing, wrong, expired, undecided, forbidden, slowed, unanswered } = self.auth;
        let outcomes = [
            ("admitted", admitted),
            ("missing", missing),
            ("wrong", wrong),
            ("expired", expired),
            ("undecided", undecided),
            ("forbidden", forbidden),
            ("slowed", slowed),
        ];
        let help = "Requests that asked for something by what became of their token";
        to.counter(
            "webrtcbridge_auth_requests",
            help,
            None,
            outcomes.map(|(outcome, count)| (of("outcome", outcome), count)),
        )?;
        let help = "Questions to auth-url, the application and for key sets that came to nothing";
        to.counter("webrtcbridge_auth_unanswered", help, None, [(none(), unanswered)])?;
        let help = "TCP connections closed at once, as there were too many from one address";
        to.counter("webrtcbridge_connections_turned_away", help, None, [(none(), self.turned_away)])?;
        let help = "Times that no TCP connection could be taken, as the process has no room for it (open files)";
        to.counter("webrtcbridge_accept_failures", help, None, [(none(), self.accept_failures)])?;
        let SocketCounts { open, opened, turned_away, refused, too_slow, floods, idle } = self.sockets;
        to.gauge("webrtcbridge_websockets", "WebSockets that are open", None, [(none(), open as f64)])?;
        to.counter("webrtcbridge_websockets_opened", "WebSockets so far", None, [(none(), opened)])?;
        let closed = [("turned_away", turned_away), ("too_slow", too_slow), ("flood", floods), ("idle", idle)];
        let help = "WebSockets that the server closed or did not take, by why";
        to.counter(
            "webrtcbridge_websockets_closed",
            help,
            None,
            closed.map(|(reason, count)| (of("reason", reason), count)),
        )?;
        let help = "Messages on WebSockets that were answered by an error";
        to.counter("webrtcbridge_websocket_refused_messages", help, None, [(none(), refused)])?;
        let reloads = [(of("result", "taken"), self.tls.reloaded()), (of("result", "refused"), self.tls.failed())];
        to.counter("webrtcbridge_tls_reloads", "Changed certificates, by whether they were of use", None, reloads)
    }

    fn of_sessions(&self, to: &mut Families<'_>) -> fmt::Result {
        let sessions = || self.report.sessions.iter();
        let of = |session: &SessionReport| of_session(session);
        let ages = sessions().map(|session| (of(session), session.age_seconds));
        to.gauge("webrtcbridge_session_age", "Since the session began", Some(Unit::Seconds), ages)?;
        let trips = sessions().filter_map(|session| Some((of(session), session.round_trip_seconds?)));
        let help = "Round trip time, as ICE measured it last";
        to.gauge("webrtcbridge_session_round_trip", help, Some(Unit::Seconds), trips)?;
        let encoders = sessions().flat_map(|session| {
            let named = [("video", &session.video_encoder), ("audio", &session.audio_encoder)];
            named
                .into_iter()
                .filter_map(|(kind, name)| Some(with(with(of(session), "kind", kind), "encoder", name.as_deref()?)))
        });
        to.info("webrtcbridge_session_encoder", "Encoders in use, or passthrough", encoders)?;
        let packets = sessions().flat_map(|session| {
            let dropped = session.dropped;
            let reasons = [
                ("ignored", dropped.packets_ignored),
                ("not_taken", dropped.packets_not_taken),
                ("backlog", dropped.packets_backlog),
            ];
            reasons.map(|(reason, count)| (with(of(session), "reason", reason), count))
        });
        to.counter("webrtcbridge_session_dropped_packets", "RTP packets dropped after they came", None, packets)?;
        let frames = sessions().flat_map(|session| {
            let dropped = session.dropped;
            let reasons =
                [("waiting_for_keyframe", dropped.frames_waiting_for_keyframe), ("unlinked", dropped.frames_unlinked)];
            reasons.map(|(reason, count)| (with(of(session), "reason", reason), count))
        });
        to.counter("webrtcbridge_session_dropped_frames", "Frames dropped in front of the pipeline", None, frames)
    }

    fn of_tracks(&self, to: &mut Families<'_>) -> fmt::Result {
        type Count = fn(&TrackReport) -> u64;
        type Gauge = fn(&TrackReport) -> f64;
        let counters: [(&str, &str, Option<Unit>, Count); 7] = [
            ("received_packets", "RTP packets received, without duplicates", None, |track| track.packets),
            ("received", "RTP payload received", Some(Unit::Bytes), |track| track.bytes),
            ("recovered_packets", "RTP packets that came after a NACK", None, |track| track.recovered),
            ("duplicate_packets", "RTP packets that came once more unneeded", None, |track| track.duplicates),
            ("nacks_sent", "NACK messages sent", None, |track| track.nacks),
            ("plis_sent", "Picture Loss Indications sent", None, |track| track.plis),
            ("firs_sent", "Full Intra Requests sent", None, |track| track.firs),
        ];
        let gauges: [(&str, &str, Option<Unit>, Gauge); 5] = [
            ("lost_packets", "RTP packets missing so far; falls when one comes late", None, |track| track.lost as f64),
            ("bitrate_bits_per_second", "RTP payload received now", None, |track| track.bitrate as f64),
            ("frames_per_second", "Frames in the last second", None, |track| track.frames_per_second as f64),
            ("jitter", "Jitter of arrival (RFC 3550)", Some(Unit::Seconds), |track| track.jitter_seconds),
            ("waiting_for_keyframe", "1 while nothing can be shown without a keyframe", None, |track| {
                f64::from(track.waiting_for_keyframe)
            }),
        ];
        let tracks =
            || self.report.sessions.iter().flat_map(|session| session.tracks.iter().map(move |track| (session, track)));
        for (name, help, unit, of) in counters {
            let samples = tracks().map(|(session, track)| (of_track(session, track), of(track)));
            to.counter(&format!("webrtcbridge_track_{name}"), help, unit, samples)?;
        }
        for (name, help, unit, of) in gauges {
            let samples = tracks().map(|(session, track)| (of_track(session, track), of(track)));
            to.gauge(&format!("webrtcbridge_track_{name}"), help, unit, samples)?;
        }
        Ok(())
    }

    fn of_destinations(&self, to: &mut Families<'_>) -> fmt::Result {
        type Count = fn(&DestinationReport) -> u64;
        let counters: [(&str, &str, Option<Unit>, Count); 4] = [
            ("sent", "FLV sent", Some(Unit::Bytes), |destination| destination.bytes),
            ("sent_frames", "Frames sent", None, |destination| destination.frames),
            ("dropped_frames", "Frames dropped because it lagged or was away", None, |destination| destination.dropped),
            ("reconnects", "Connections after the first", None, |destination| destination.reconnects),
        ];
        let all = || {
            self.report.sessions.iter().flat_map(|session| {
                session.destinations.iter().map(move |destination| (of_destination(session, destination), destination))
            })
        };
        for (name, help, unit, of) in counters {
            let samples = all().map(|(labels, destination)| (labels, of(destination)));
            to.counter(&format!("webrtcbridge_destination_{name}"), help, unit, samples)?;
        }
        let failures = all().flat_map(|(labels, destination)| {
            destination.failures.iter().map(move |(reason, count)| (with(labels.clone(), "reason", reason), *count))
        });
        to.counter(
            "webrtcbridge_destination_failures",
            "Attempts and connections that failed, by why",
            None,
            failures,
        )?;
        let lags = all().map(|(labels, destination)| (labels, destination.lag_seconds));
        to.gauge("webrtcbridge_destination_lag", "How far it is behind", Some(Unit::Seconds), lags)?;
        let states = all().flat_map(|(labels, destination)| {
            DestinationState::ALL
                .map(|state| (with(labels.clone(), "state", state.as_str()), f64::from(destination.state == state)))
        });
        to.gauge("webrtcbridge_destination_state", "1 for the state that it is in", None, states)
    }

    fn of_viewers(&self, to: &mut Families<'_>) -> fmt::Result {
        let ViewersReport { present, started, sent, estimates } = &self.report.viewers;
        let count = |state| present.iter().filter(|present| **present == state).count() as f64;
        let by_state = ConnectionState::ALL.map(|state| (of("state", state.as_str()), count(state)));
        let help = "Viewers whom the server sends media to, by the state of their connection";
        to.gauge("webrtcbridge_forwarded_viewers", help, None, by_state)?;
        to.counter("webrtcbridge_viewers_started", "Viewers whom it has answered", None, [(none(), *started)])?;
        let counters = [
            ("sent_packets", "RTP packets sent, without repairs", None, sent.packets),
            ("sent", "RTP payload sent, without repairs", Some(Unit::Bytes), sent.bytes),
            ("nacked_packets", "RTP packets that viewers asked for again", None, sent.nacked),
            ("retransmitted_packets", "RTP packets sent again", None, sent.retransmitted),
            ("probe_packets", "RTP packets sent once more to measure a network", None, sent.probes),
            ("dropped_packets", "RTP packets left out as a network did not take them", None, sent.dropped),
            ("keyframe_requests", "Requests for keyframes that viewers sent", None, sent.keyframe_requests),
        ];
        for (name, help, unit, value) in counters {
            to.counter(&format!("webrtcbridge_viewer_{name}"), help, unit, [(none(), value)])?;
        }
        let quantiles = estimates.iter().flat_map(|(channel, estimates)| {
            let of_channel = of("channel", channel);
            [("0", 0.0), ("0.5", 0.5), ("1", 1.0)].into_iter().filter_map(move |(name, share)| {
                let at = ((estimates.len().checked_sub(1)? as f64) * share) as usize;
                Some((with(of_channel.clone(), "quantile", name), *estimates.get(at)? as f64))
            })
        });
        let help = "What viewers' networks carry, as far as it is of use to be known";
        to.gauge("webrtcbridge_viewer_estimate_bits_per_second", help, None, quantiles)
    }

    fn of_ports(&self, to: &mut Families<'_>) -> fmt::Result {
        type Count = fn(&PortReport) -> u64;
        let counters: [(&str, &str, Count); 5] = [
            ("received_datagrams", "Datagrams received", |port| port.received),
            ("sent_datagrams", "Datagrams sent", |port| port.sent),
            ("held_checks", "Connectivity checks not sent to addresses that do not answer", |port| port.checks_held),
            ("repeated_handshakes", "Handshake datagrams sent again", |port| port.handshakes_repeated),
            ("rebinds", "Sessions whose peer went on from another address", |port| port.rebinds),
        ];
        let of = |port: &PortReport| vec![("port", port.port.to_string())];
        for (name, help, count) in counters {
            let samples = self.report.ports.iter().map(|port| (of(port), count(port)));
            to.counter(&format!("webrtcbridge_udp_{name}"), help, None, samples)?;
        }
        let dropped = self.report.ports.iter().flat_map(|port| {
            let reasons = [
                ("unknown", port.dropped_unknown),
                ("forged", port.dropped_forged),
                ("overflow", port.dropped_overflow),
                ("unread", port.dropped_unread),
                ("send", port.dropped_send),
            ];
            reasons.map(|(reason, count)| (with(of(port), "reason", reason), count))
        });
        to.counter("webrtcbridge_udp_dropped_datagrams", "Datagrams dropped, by why", None, dropped)
    }
}

/// Under the names that all Prometheus clients use.
fn of_the_process(process: &Process, to: &mut Families<'_>) -> fmt::Result {
    let cpu = [(none(), process.cpu_seconds)];
    to.counter("process_cpu", "CPU time in the program and in the kernel", Some(Unit::Seconds), cpu)?;
    let memory = [(none(), process.resident_bytes as f64)];
    to.gauge("process_resident_memory", "Memory that is in RAM", Some(Unit::Bytes), memory)?;
    to.gauge("process_open_fds", "Open file descriptors", None, [(none(), process.open_fds as f64)])?;
    let most = process.max_fds.map(|most| (none(), most as f64));
    to.gauge("process_max_fds", "The most file descriptors that there may be", None, most)?;
    to.gauge("process_threads", "Threads", None, [(none(), process.threads as f64)])?;
    let start = [(none(), process.start_seconds)];
    to.gauge("process_start_time", "Start of the process since 1970", Some(Unit::Seconds), start)
}

type Label = (&'static str, String);
type Labels = Vec<Label>;

/// A label alone.
fn of(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

fn none() -> Labels {
    Vec::new()
}

fn of_session(session: &SessionReport) -> Labels {
    vec![("channel", session.channel.clone()), ("session", session.id.clone())]
}

fn of_track(session: &SessionReport, track: &TrackReport) -> Labels {
    let labels = with(of_session(session), "track", &track.index.to_string());
    with(with(labels, "kind", track.kind.as_str()), "codec", &track.codec)
}

fn of_destination(session: &SessionReport, destination: &DestinationReport) -> Labels {
    with(of_session(session), "destination", &destination.index.to_string())
}

/// One label more.
fn with(mut labels: Labels, name: &'static str, value: &str) -> Labels {
    labels.push((name, value.to_owned()));
    labels
}

/// Writes families.
struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Families<'_> {
    fn counter<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        samples.into_iter().try_for_each(|(labels, value)| match labels[..] {
            [] => metric.encode_counter::<Labels, _, f64>(&value, None),
            _ => metric.encode_family(&labels)?.encode_counter::<Labels, _, f64>(&value, None),
        })
    }

    fn gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        samples.into_iter().try_for_each(|(labels, value)| match labels[..] {
            [] => metric.encode_gauge(&value),
            _ => metric.encode_family(&labels)?.encode_gauge(&value),
        })
    }

    fn info(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Labels>) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        samples.into_iter().try_for_each(|labels| metric.encode_info(&labels))
    }
}
