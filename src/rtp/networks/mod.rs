//! Media over simulated networks: from a sender's session to the receiver's pads, thousands of times, each with other troubles.
//!
//! A run is made of its seed (`session/simulation`): the network, what goes wrong on it, and who sends. The clock is virtual, no
//! socket carries anything, and no thread does anything but this one. Which seeds, and how they are run, is in `campaign`.

mod campaign;
pub(super) mod pictures;
mod receiver;
mod source;

use std::{
    sync::{Arc, Mutex, OnceLock, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::{
    receiver::{Feed, LATENCY, Receiver, Shown},
    source::{FRAME, Sent, Wishes, send},
};
use crate::{
    codec::{Codec, MediaKind},
    session::{
        Outgoing, Sends, Track, TrackStats,
        simulation::{
            Pair, now,
            scenario::{CALM_AFTER, CALM_BEFORE, Scenario},
        },
    },
};

/// When the last trouble is over, everything is as before within the rest of [`CALM_AFTER`].
const SETTLED: Duration = Duration::from_secs(2);
/// By how much the slowest picture may be slower than before: it is on its way for a tick of the network's and the pacer's.
const SLACK: Duration = Duration::from_millis(60);

/// What came of a run.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Summary {
    connected_in: Duration,
    /// Pictures sent, and shown.
    pictures: (usize, usize),
    sounds: (usize, usize),
    packets_lost: u64,
    datagrams: u64,
    datagrams_lost: u64,
    /// Of the slowest picture before and after the troubles.
    latency: (Duration, Duration),
    most_waiting: usize,
    keyframes_asked: u64,
    rebinds: u64,
    /// Of all datagrams and when they were sent.
    trace: u64,
}

fn run(scenario: &Scenario) -> Result<Summary, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(Box::pin(media(scenario)))
}

async fn media(scenario: &Scenario) -> Result<Summary, String> {
    let (wishes, sent, shown) =
        (Arc::<Wishes>::default(), Arc::<Mutex<Sent>>::default(), Arc::<Mutex<Shown>>::default());
    let h264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
    let tracks = vec![Outgoing::of(Codec::H264, h264), Outgoing::of(Codec::Opus, "")];
    let sends = Sends { tracks, events: wishes.clone(), receives: false };
    let (feed, mut came) = mpsc::unbounded_channel();
    let told = Arc::<OnceLock<Vec<Track>>>::default();
    let tell = told.clone();
    let connecting = Pair::connect(scenario, sends, move |tracks| {
        let _ = tell.set(tracks.to_vec());
        Arc::new(Feed(feed))
    });
    let pair = connecting.await.map_err(|why| format!("it does not connect: {why}"))?;
    let connected = now();

    let calm_from = connected + scenario.calm_from();
    let ends = calm_from + CALM_AFTER;
    let sending = async {
        send(scenario, &pair.outlet, &wishes, &sent, ends).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    let rebinding = async {
        for at in scenario.rebindings() {
            tokio::time::sleep_until((connected + at).into()).await;
            pair.rebind();
        }
    };
    let keyframes = pair.receiver.keyframes();
    let mut receiver = None;
    let receiving = async {
        loop {
            let due = receiver.as_ref().and_then(Receiver::due);
            let at_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                came = came.recv() => match (came, told.get()) {
                    (Some(came), Some(tracks)) => {
                        receiver.get_or_insert_with(|| Receiver::new(tracks, &keyframes, &sent, &shown)).take(came);
                    }
                    _ => return,
                },
                () = at_due => if let Some(receiver) = &mut receiver { receiver.expire() },
            }
        }
    };
    tokio::select! {
        biased;
        ((), ()) = async { tokio::join!(sending, rebinding) } => {}
        () = receiving => return Err("the receiving session has ended".into()),
    }

    let (received, given) = (pair.receiver.stats(), pair.outlet.stats());
    let took = pair.took;
    let after = pair.end().await;
    let (sent, shown) = (sent.lock().unwrap(), shown.lock().unwrap());
    let receiver = receiver.ok_or("nothing has come")?;
    let (counts, mut wrong) = (&receiver.counts, shown.faults.clone());
    let mut check = |holds: bool, why: &dyn Fn() -> String| {
        if !holds {
            wrong.push(why());
        }
    };

    // Everything that went out before and after the troubles has come, as fast as before.
    let latencies = |from: Instant, until: Instant| -> Vec<Option<Duration>> {
        let all = sent
            .pictures
            .iter()
            .enumerate()
            .filter(|(number, (at, _))| (from..until).contains(at) && !sent.cut_short.contains(number));
        let shown_at = |number: usize| shown.pictures.binary_search_by_key(&number, |(number, _)| *number).ok();
        all.map(|(number, (at, _))| shown_at(number).map(|index| shown.pictures[index].1 - *at)).collect()
    };
    // The first second is the connection's: the first keyframe is asked for anew when the first one was lost with the handshake.
    let before = latencies(connected + CALM_BEFORE / 2, connected + CALM_BEFORE - FRAME);
    let afterwards = latencies(ends - SETTLED, ends);
    let slowest = |of: &[Option<Duration>]| of.iter().flatten().max().copied().unwrap_or_default();
    let latency = (slowest(&before), slowest(&afterwards));
    let missing = |of: &[Option<Duration>]| of.iter().filter(|latency| latency.is_none()).count();
    check(missing(&before) == 0, &|| {
        format!("{} pictures of {} are missing before anything went wrong", missing(&before), before.len())
    });
    check(missing(&afterwards) == 0, &|| {
        format!("{} pictures of {} are missing at the end", missing(&afterwards), afterwards.len())
    });
    check(latency.1 <= latency.0 + SLACK, &|| {
        format!("pictures take {:?} at the end, {:?} before", latency.1, latency.0)
    });
    let sounds_at_end: Vec<usize> =
        sent.sounds.iter().enumerate().filter(|(_, (at, _))| *at >= ends - SETTLED).map(|(number, _)| number).collect();
    let silent =
        sounds_at_end.iter().filter(|number| shown.sounds.binary_search_by_key(*number, |(n, _)| *n).is_err()).count();
    check(silent == 0, &|| format!("{silent} sounds of {} are missing at the end", sounds_at_end.len()));

    // What only came late, or in another order, or could be sent again, is not missing.
    let dropped: u64 = given.tracks.iter().flatten().map(|track| track.dropped).sum();
    let meanwhile = latencies(connected + CALM_BEFORE / 2, ends);
    if scenario.loses_nothing() && scenario.longest_disorder() < LATENCY && dropped == 0 {
        check(missing(&meanwhile) == 0, &|| {
            format!("{} pictures of {} are missing, and nothing was lost", missing(&meanwhile), meanwhile.len())
        });
    }
    if scenario.loses_what_can_be_repeated() {
        let media = after.carried[usize::from(!scenario.client_sends)];
        let is_video = |track: &&TrackStats| track.codec.kind() == MediaKind::Video;
        let for_good: u64 = received.tracks.iter().filter(is_video).map(|track| track.lost).sum();
        check(for_good * 4 <= media.lost, &|| {
            format!("of {} datagrams that were lost {for_good} packets of video are missing for good", media.lost)
        });
        // Sound is not asked for again.
        let of_sound: u64 = received.tracks.iter().filter(|track| !is_video(track)).map(|track| track.lost).sum();
        let not_in_time = counts.lost.load(Relaxed) - of_sound;
        check(not_in_time * 4 <= media.lost, &|| {
            format!("of {} datagrams that were lost {not_in_time} packets of video did not come in time", media.lost)
        });
    }

    // What is missing is counted, and nothing else is.
    for (index, track) in received.tracks.iter().enumerate() {
        let Some(Some(out)) = given.tracks.get(index) else { continue };
        check(track.packets + track.lost == out.packets, &|| {
            format!("of {} packets of {} there are {} and {} lost", out.packets, track.codec, track.packets, track.lost)
        });
        if track.codec.kind() == MediaKind::Video {
            check(out.dropped == 0 || out.skips > 0, &|| "packets are left out and it is not said why".into());
        }
    }
    let (lost, late) = (counts.lost.load(Relaxed), counts.late.load(Relaxed));
    let unfilled: u64 = received.tracks.iter().map(|track| track.lost).sum();
    // Single packets from far behind an outage are strays, and those before them come again.
    let strays = counts.stray.load(Relaxed);
    check((unfilled..=unfilled + strays).contains(&(lost - late)), &|| {
        format!("{lost} lost and {late} late of these are not {unfilled}; {strays} strays")
    });
    let (shot, seen) = (sent.pictures.len(), shown.pictures.len());
    let cut_short = counts.cut_short.load(Relaxed);
    check(cut_short <= sent.cut_short.len() as u64, &|| format!("{cut_short} pictures were cut short"));
    let explained = lost + dropped + cut_short + counts.waiting.load(Relaxed) > 0;
    check(shot == seen || explained, &|| format!("{shot} pictures became {seen}, and nothing was counted"));
    check(sent.sounds.len() == shown.sounds.len() || lost > 0, &|| {
        format!("{} sounds became {}, and nothing was lost", sent.sounds.len(), shown.sounds.len())
    });
    for carried in after.carried {
        let fate = carried.delivered + carried.lost + carried.astray;
        check(carried.sent + carried.doubled == fate, &|| format!("the simulation is wrong: {carried:?}"));
        check(carried.largest <= scenario.usual.largest, &|| format!("a datagram of {} bytes", carried.largest));
    }

    // Nothing grows, and nothing is left.
    let at_once = (scenario.longest_outage() + Duration::from_secs(1)).max(Duration::from_secs(2));
    let most = at_once.as_secs_f64() * f64::from(scenario.bitrate) / 8.;
    check(receiver.most_waiting.1 as f64 <= most, &|| {
        format!("{} bytes waited for a missing packet", receiver.most_waiting.1)
    });
    check(receiver.waiting() == (0, 0), &|| format!("{:?} wait at the end", receiver.waiting()));
    check(after.overflowed == 0, &|| format!("{} datagrams found no room", after.overflowed));
    check(given.waiting <= 4, &|| format!("{} packets wait to be sent at the end", given.waiting));
    check(after.nobody_left, &|| "somebody is still routed to".into());
    let expected = scenario.rebindings().count() as u64;
    check(after.rebinds >= u64::from(expected > 0) && after.rebinds <= 4 * expected, &|| {
        format!("{} moves to another address, and there were {expected}", after.rebinds)
    });
    if !wrong.is_empty() {
        wrong.truncate(6);
        return Err(wrong.join("; "));
    }
    Ok(Summary {
        connected_in: took,
        pictures: (shot, seen),
        sounds: (sent.sounds.len(), shown.sounds.len()),
        packets_lost: unfilled,
        datagrams: after.carried.iter().map(|carried| carried.sent).sum(),
        datagrams_lost: after.carried.iter().map(|carried| carried.lost + carried.astray).sum(),
        latency,
        most_waiting: receiver.most_waiting.0,
        keyframes_asked: wishes.asked.load(Relaxed),
        rebinds: after.rebinds,
        trace: after.trace,
    })
}
