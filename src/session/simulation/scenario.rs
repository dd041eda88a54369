//! What a seed stands for: a network, what goes wrong on it and when, and who sends.

use std::time::Duration;

use super::dice::Dice;
use crate::codec::MediaKind;

/// Before anything goes wrong, so that it is known what is usual.
pub(crate) const CALM_BEFORE: Duration = Duration::from_secs(3);
/// Behind it: as long as the longest pause between keyframe requests that a scenario brings about, and some.
pub(crate) const CALM_AFTER: Duration = Duration::from_secs(9);

/// One way of the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    /// How long a datagram takes.
    pub(crate) delay: Duration,
    /// And by how much longer at most, which keeps the order.
    pub(crate) jitter: Duration,
    /// Lost, of a thousand.
    pub(crate) lost: u32,
    /// How many are lost in a row, when one is.
    pub(crate) burst: u32,
    /// Come twice, of a thousand.
    pub(crate) twice: u32,
    /// Held up, so that others overtake them, of a thousand; and for how long at most.
    pub(crate) overtaken: (u32, Duration),
    /// Bits per second that get through, by a queue of [`QUEUE`](super::network::QUEUE).
    pub(crate) rate: Option<u32>,
    /// The largest datagram that gets through. Nobody is told of the others.
    pub(crate) largest: usize,
    /// Nothing gets through.
    pub(crate) dead: bool,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Loss {
        permille: u32,
        burst: u32,
    },
    Disorder {
        permille: u32,
        by: Duration,
    },
    Duplicates {
        permille: u32,
    },
    Delay {
        more: Duration,
        jitter: Duration,
    },
    Bottleneck {
        rate: u32,
    },
    BlackHole {
        largest: usize,
    },
    Outage,
    /// The client's NAT forgets it, and gives it another port.
    Rebinding,
}

/// A trouble, and from when to when after the connection there is, in which directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Episode {
    pub(crate) trouble: Trouble,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) up: bool,
    pub(crate) down: bool,
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) usual: Conditions,
    /// While it connects.
    pub(crate) connecting: Conditions,
    pub(crate) episodes: Vec<Episode>,
    /// The client, which makes the offer, is who sends; else the server does.
    pub(crate) client_sends: bool,
    pub(crate) behind_nat: bool,
    /// Of video, as long as the network takes it.
    pub(crate) bitrate: u32,
    /// Slices of a picture.
    pub(crate) slices: u32,
    /// A keyframe every so many pictures; 0 for only those that are asked for.
    pub(crate) keyframes: u32,
    /// What is lost comes again as another stream (RFC 4588); else it is the packet itself, as with OBS.
    pub(crate) rtx: bool,
    /// The end of a picture is thrown away now and then, before its packets have numbers, as a keyframe comes; Chromium does so.
    pub(crate) cuts: bool,
}

impl Scenario {
    pub(crate) fn new(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let usual = Conditions {
            delay: ms(dice.pick(&[2, 10, 30, 60, 120])),
            jitter: ms(dice.pick(&[0, 2, 8])),
            lost: 0,
            burst: 1,
            twice: 0,
            overtaken: (0, Duration::ZERO),
            rate: None,
            // Every path of IPv6 carries so much (RFC 8200 section 5), and of IPv4 nearly every one: less 20 and 8 for the
            // headers that we do not see, with room for a tunnel.
            largest: 1280 - 28,
            dead: false,
        };
        let connecting = Conditions {
            lost: dice.pick(&[0, 0, 20, 80, 150]),
            twice: dice.pick(&[0, 0, 50]),
            overtaken: (dice.pick(&[0, 0, 100]), ms(40)),
            ..usual
        };
        let behind_nat = dice.permille(500);
        let episodes = (0..dice.between(0, 3)).map(|_| episode(behind_nat, dice)).collect();
        let mut scenario = Self {
            seed,
            usual,
            connecting,
            episodes,
            client_sends: dice.permille(500),
            behind_nat,
            bitrate: dice.pick(&[300_000, 800_000, 1_500_000]),
            slices: dice.pick(&[1, 1, 3]),
            keyframes: dice.pick(&[0, 0, 45, 7]),
            rtx: dice.permille(700),
            // By dice of its own: seeds mean what they meant before there was this.
            cuts: Dice::new(!seed).permille(250),
        };
        if !scenario.rtx {
            scenario.bitrate *= 2;
        }
        scenario
    }

    /// When the last trouble is over.
    pub(crate) fn calm_from(&self) -> Duration {
        self.episodes.iter().map(|episode| episode.until).max().unwrap_or(CALM_BEFORE)
    }

    /// What the network is like at a time after the connection, or before it.
    pub(crate) fn conditions(&self, up: bool, connected_for: Option<Duration>) -> Conditions {
        let Some(time) = connected_for else { return self.connecting };
        let now = |episode: &&Episode| {
            (episode.from..episode.until).contains(&time) && (if up { episode.up } else { episode.down })
        };
        self.episodes.iter().filter(now).fold(self.usual, |conditions, episode| episode.trouble.upon(conditions))
    }

    /// The first sequence numbers of a stream and of its repairs: half of the streams go round while something goes wrong, as
    /// it is then that numbers are needed.
    pub(super) fn first_numbers(&self, kind: MediaKind, dice: &mut Dice) -> (u16, u16) {
        if dice.permille(500) {
            return (dice.between(0, u16::MAX.into()) as u16, dice.between(0, u16::MAX.into()) as u16);
        }
        let from = self.episodes.iter().map(|episode| episode.from).min().unwrap_or(CALM_BEFORE);
        let until = self.calm_from().max(from + Duration::from_millis(200));
        let millis = dice.between(from.as_millis() as u32, until.as_millis() as u32);
        let before = self.packets_per_second(kind) * millis / 1000;
        (u16::MAX - before as u16, u16::MAX - dice.between(0, 100) as u16)
    }

    /// About so many.
    fn packets_per_second(&self, kind: MediaKind) -> u32 {
        match kind {
            MediaKind::Audio => 50,
            // Of 20 pictures, each of which has three quarters of its share on average.
            MediaKind::Video => 20 * self.slices * (self.bitrate / 8 / 20 * 3 / 4 / self.slices).div_ceil(1186),
        }
    }

    /// Whether nothing that is sent is lost, but only late, or there twice.
    pub(crate) fn loses_nothing(&self) -> bool {
        let is_harmless = |episode: &Episode| {
            matches!(episode.trouble, Trouble::Disorder { .. } | Trouble::Duplicates { .. } | Trouble::Delay { .. })
        };
        self.episodes.iter().all(is_harmless)
    }

    /// Whether no more than single packets are lost, and sending them again takes no longer than receivers wait.
    pub(crate) fn loses_what_can_be_repeated(&self) -> bool {
        let is_mild = |episode: &Episode| match episode.trouble {
            Trouble::Loss { permille, burst } => permille <= 100 && burst == 1,
            Trouble::Duplicates { .. } => true,
            Trouble::Disorder { by, .. } => by <= ms(30),
            _ => false,
        };
        self.usual.delay <= ms(30) && self.episodes.iter().all(is_mild)
    }

    /// By how much packets are held up at most, so that others overtake them.
    pub(crate) fn longest_disorder(&self) -> Duration {
        let by = |episode: &Episode| match episode.trouble {
            Trouble::Disorder { by, .. } => by,
            _ => Duration::ZERO,
        };
        self.episodes.iter().map(by).max().unwrap_or_default()
    }

    /// How long nothing passes at most, all of which may be asked for at once when something does again.
    pub(crate) fn longest_outage(&self) -> Duration {
        let of = |episode: &Episode| match episode.trouble {
            Trouble::Outage => episode.until - episode.from,
            _ => Duration::ZERO,
        };
        self.episodes.iter().map(of).max().unwrap_or_default()
    }

    /// When the NAT forgets its client.
    pub(crate) fn rebindings(&self) -> impl Iterator<Item = Duration> {
        let is_one = |episode: &&Episode| episode.trouble == Trouble::Rebinding;
        self.episodes.iter().filter(is_one).map(|episode| episode.from)
    }
}

impl Trouble {
    fn upon(self, conditions: Conditions) -> Conditions {
        match self {
            Self::Loss { permille, burst } => Conditions { lost: permille, burst, ..conditions },
            Self::Disorder { permille, by } => Conditions { overtaken: (permille, by), ..conditions },
            Self::Duplicates { permille } => Conditions { twice: permille, ..conditions },
            Self::Delay { more, jitter } => Conditions { delay: conditions.delay + more, jitter, ..conditions },
            Self::Bottleneck { rate } => Conditions { rate: Some(rate), ..conditions },
            Self::BlackHole { largest } => Conditions { largest, ..conditions },
            Self::Outage => Conditions { dead: true, ..conditions },
            Self::Rebinding => conditions,
        }
    }
}

fn episode(behind_nat: bool, dice: &mut Dice) -> Episode {
    let from = CALM_BEFORE + ms(dice.between(0, 1500));
    let mut until = from + ms(dice.between(200, 3000));
    let trouble = match dice.between(0, if behind_nat { 8 } else { 6 }) {
        0 => Trouble::Loss { permille: dice.pick(&[10, 30, 100, 300]), burst: dice.pick(&[1, 1, 5, 20]) },
        1 => Trouble::Disorder { permille: dice.pick(&[20, 200, 500]), by: ms(dice.pick(&[5, 30, 150, 400])) },
        2 => Trouble::Duplicates { permille: dice.pick(&[20, 300, 1000]) },
        3 => Trouble::Delay { more: ms(dice.pick(&[20, 100, 400])), jitter: ms(dice.pick(&[0, 30, 150])) },
        4 => Trouble::Bottleneck { rate: dice.pick(&[150_000, 400_000, 1_000_000]) },
        5 => Trouble::BlackHole { largest: dice.pick(&[300, 600, 1100]) },
        6 => Trouble::Outage,
        _ => {
            until = from;
            Trouble::Rebinding
        }
    };
    let (up, down) = dice.pick(&[(true, true), (true, true), (true, false), (false, true)]);
    Episode { trouble, from, until, up, down }
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}
