//! Who sends: a camera of 20 pictures a second that gives keyframes when asked and no more bits than the network takes, and a
//! microphone.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::sleep_until;

use super::pictures::Picture;
use crate::session::{
    ClockPoint, History, OutgoingPacket, Outlet, SendEvents,
    simulation::{dice::Dice, now, scenario::Scenario},
};

pub(super) const FRAME: Duration = Duration::from_millis(50);
const SOUND: Duration = Duration::from_millis(20);

/// What the sending session tells.
#[derive(Default)]
pub(super) struct Wishes {
    ready: AtomicBool,
    keyframe: AtomicBool,
    pub(super) asked: AtomicU64,
}

impl SendEvents for Wishes {
    fn ready(&self) {
        self.ready.store(true, SeqCst);
    }

    fn keyframe_wanted(&self, _: usize) {
        self.keyframe.store(true, SeqCst);
        self.asked.fetch_add(1, SeqCst);
    }
}

/// What was sent, to compare with.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) pictures: Vec<(Instant, Picture)>,
    /// Those of which the end was never sent.
    pub(super) cut_short: HashSet<usize>,
    /// By the first slice.
    pub(super) by_slice: HashMap<Vec<u8>, usize>,
    pub(super) sounds: Vec<(Instant, Bytes)>,
    pub(super) by_sound: HashMap<Bytes, usize>,
}

/// Sends until then.
pub(super) async fn send(scenario: &Scenario, outlet: &Outlet, wishes: &Wishes, sent: &Mutex<Sent>, until: Instant) {
    let (history, mut dice) = (Arc::<History>::default(), Dice::new(scenario.seed ^ 0xFEED));
    outlet.keep_in(0, history.clone());
    let start = now();
    for track in [0, 1] {
        outlet.set_clock(track, ClockPoint { rtp_time: 0, at: start });
    }
    while !wishes.ready.load(SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut camera = Camera {
        number: 0,
        since_keyframe: 0,
        packets: 0,
        rate: scenario.bitrate,
        cuts: Dice::new(scenario.seed ^ 0xC075),
    };
    let (mut picture, mut sound) = (start, start);
    while picture.min(sound) < until {
        sleep_until(picture.min(sound).into()).await;
        if picture <= sound {
            picture += FRAME;
            camera.shoot(scenario, outlet, wishes, &history, start, picture, &mut dice, &mut sent.lock().unwrap());
        } else {
            let mut sent = sent.lock().unwrap();
            let number = sent.sounds.len() as u64;
            let payload: Bytes =
                [&[0x78][..], &number.to_be_bytes(), &[dice.between(0, 255) as u8; 60]].concat().into();
            sent.by_sound.insert(payload.clone(), number as usize);
            sent.sounds.push((now(), payload.clone()));
            drop(sent);
            outlet.send(1, [packet(number, ticks(start, 48_000), true, false, payload, History::NOTHING)]);
            sound += SOUND;
        }
    }
}

struct Camera {
    number: u32,
    since_keyframe: u32,
    packets: u64,
    rate: u32,
    cuts: Dice,
}

impl Camera {
    #[expect(clippy::too_many_arguments, reason = "all that there is")]
    fn shoot(
        &mut self,
        scenario: &Scenario,
        outlet: &Outlet,
        wishes: &Wishes,
        history: &History,
        start: Instant,
        next: Instant,
        dice: &mut Dice,
        sent: &mut Sent,
    ) {
        // Three quarters of what the network takes, as encoders are told.
        let most =
            outlet.bound(now()).map_or(scenario.bitrate, |bound| (bound / 4 * 3).min(scenario.bitrate.into()) as u32);
        self.rate = most.max(50_000).min(self.rate + self.rate / 20);
        let is_due = scenario.keyframes > 0 && self.number.is_multiple_of(scenario.keyframes);
        let is_keyframe = self.number == 0 || wishes.keyframe.swap(false, SeqCst) || is_due;
        self.since_keyframe = if is_keyframe { 0 } else { self.since_keyframe + 1 };
        let mean = self.rate / 8 / (1000 / FRAME.as_millis() as u32);
        let bytes = dice.between(mean / 2, mean) * if is_keyframe { 4 } else { 1 };
        let picture = Picture::new(self.number, is_keyframe, scenario.slices, bytes, self.since_keyframe, dice);
        let payloads = picture.payloads();
        let (count, timestamp, first) = (payloads.len(), ticks(start, 90_000), self.packets);
        // Where the next one has the same time, as a camera's that begins late, nobody could tell that it is another.
        let may_be_cut = scenario.cuts && !is_keyframe && count > 1 && next > now();
        let is_cut = may_be_cut && self.cuts.permille(50);
        let sent_of_it = if is_cut { self.cuts.between(1, count as u32 - 1) as usize } else { count };
        if is_cut {
            wishes.keyframe.store(true, SeqCst);
            sent.cut_short.insert(sent.pictures.len());
        }
        let packets = payloads.into_iter().enumerate().take(sent_of_it).map(|(index, payload)| {
            let stored = history.store(payload.clone());
            packet(first + index as u64, timestamp, index + 1 == count, is_keyframe && index == 0, payload, stored)
        });
        self.packets += sent_of_it as u64;
        self.number += 1;
        let index = sent.pictures.len();
        if !is_cut {
            sent.by_slice.insert(picture.slices[0].clone(), index);
        }
        sent.pictures.push((now(), picture));
        outlet.send(0, packets.collect::<Vec<_>>());
    }
}

fn packet(
    number: u64,
    timestamp: u32,
    marker: bool,
    starts_keyframe: bool,
    payload: Bytes,
    stored: u64,
) -> OutgoingPacket {
    OutgoingPacket { number, timestamp, marker, starts_keyframe, payload, dependencies: None, stored, renumbered: None }
}

fn ticks(start: Instant, rate: u32) -> u32 {
    ((now() - start).as_nanos() * u128::from(rate) / 1_000_000_000) as u32
}
