//! What the fuzz targets in `fuzz/` do with an input, and the same in the ordinary tests: the committed seeds, and inputs
//! made of them. No other use.
//!
//! The tests know nothing of coverage. They find what a few changes of real input bring about, in seconds and without
//! another build; how to fuzz for longer says `fuzz/Cargo.toml`.

use crate::{codec, forward, rtmp_client, session, signaling};

/// An offer, as it comes by WHIP.
pub fn offer(body: &[u8]) {
    if let Some(offer) = signaling::fuzzing::offer(body) {
        session::fuzzing::offer(offer);
    }
}

/// An answer, as a WHEP server gives it.
pub fn answer(body: &[u8]) {
    if let Some(answer) = signaling::fuzzing::answer(body) {
        session::fuzzing::answer(answer);
    }
}

/// A fragment, as it comes by PATCH.
pub fn fragment(body: &[u8]) {
    let Ok(fragment) = signaling::IceFragment::parse(body) else { return };
    let printed = fragment.to_string();
    assert_eq!(signaling::IceFragment::parse(printed.as_bytes()).as_ref(), Ok(&fragment), "written as {printed:?}");
    for candidate in &fragment.candidates {
        session::fuzzing::candidate(&candidate.line);
    }
}

/// A Link header field.
pub fn link(field: &[u8]) {
    if let Ok(text) = str::from_utf8(field) {
        signaling::fuzzing::link(text);
    }
}

/// A datagram for the shared port.
pub fn stun(datagram: &[u8]) {
    session::fuzzing::route(datagram);
}

/// A datagram of the DTLS handshake.
pub fn handshake(datagram: &[u8]) {
    session::fuzzing::handshake(datagram);
}

/// What comes by TCP in the place of datagrams.
pub fn frames(stream: &[u8]) {
    session::fuzzing::frames(stream);
}

/// What a TURN server answers.
pub fn relay(messages: &[u8]) {
    session::fuzzing::relay(messages);
}

/// Changes of a DTLS handshake on its way.
pub fn dtls(changes: &[u8]) {
    session::fuzzing::dtls(changes);
}

/// Changes of an SCTP association's packets on their way.
pub fn sctp(changes: &[u8]) {
    session::fuzzing::sctp(changes);
}

/// RTP and RTCP of a peer.
pub fn media(datagrams: &[u8]) {
    session::fuzzing::media(datagrams);
}

/// Media of a publisher, on its way to a viewer.
pub fn rewrite(packets: &[u8]) {
    forward::fuzzing::rewrite(packets);
}

/// A request's path and headers.
pub fn headers(text: &[u8]) {
    if let Ok(text) = str::from_utf8(text) {
        signaling::fuzzing::headers(text);
    }
}

/// A URL, of whatever kind.
pub fn url(text: &[u8]) {
    if let Ok(text) = str::from_utf8(text) {
        signaling::fuzzing::url(text);
    }
}

/// Packets of redundant audio.
pub fn red(packets: &[u8]) {
    session::fuzzing::red(packets);
}

/// What an RTMP server sends to a publisher.
pub fn rtmp(bytes: &[u8]) {
    rtmp_client::fuzzing::server(bytes);
}

/// A dependency descriptor, behind a keyframe's with two layers in time.
pub fn dependency(descriptor: &[u8]) {
    const KEYFRAME: &[u8] = &[0xC0, 0x12, 0x34, 0x80, 0x01, 0x1E, 0xA8, 0x40];
    let known = codec::DependencyDescriptor::parse(&KEYFRAME.into(), None).map(|key| key.structure);
    let Some(told) = codec::DependencyDescriptor::parse(&descriptor.to_vec().into(), known.as_ref()) else { return };
    for active in [None, Some(0), Some(told.structure.all())] {
        let again = codec::DependencyDescriptor::parse(&told.retold(7, active), known.as_ref());
        let again = again.map(|again| (again.frame, again.layer, again.active));
        assert_eq!(again, Some((7, told.layer, active.or(told.active))), "{told:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        panic::{AssertUnwindSafe, catch_unwind},
        path::Path,
    };

    use super::*;

    /// For each target; `FUZZ_INPUTS` says another number.
    const INPUTS: u64 = 5000;
    /// Longer ones tell nothing new.
    const LONGEST: usize = 4096;

    /// xorshift64*: the same inputs every time, so that what is found can be looked into.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides.max(1)
        }

        fn range(&mut self, length: usize) -> std::ops::Range<usize> {
            let start = self.roll(length + 1);
            start..start + self.roll((length - start).min(40) + 1)
        }
    }

    fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
        let range = dice.range(input.len());
        match dice.roll(9) {
            0 => drop(input.drain(range)),
            1 => input.truncate(range.start),
            2 => {
                let copy = input[range.clone()].to_vec();
                input.splice(range.start..range.start, copy);
            }
            3 => {
                let other = &seeds[dice.roll(seeds.len())];
                let from = dice.range(other.len());
                input.splice(range, other[from].iter().copied());
            }
            4 => input.splice(range, [0, 0xFF, 0x80, b'\r', b' ', b':', b'9'].repeat(dice.roll(3))).for_each(drop),
            5 => input[range].reverse(),
            6 => swap_lines(input, dice),
            _ => {
                if let Some(byte) = input.get_mut(range.start) {
                    *byte = match dice.roll(3) {
                        0 => *byte ^ 1 << dice.roll(8),
                        1 => byte.wrapping_add(1),
                        _ => dice.roll(256) as u8,
                    };
                }
            }
        }
        input.truncate(LONGEST);
    }

    /// What is made of text by whoever writes it in another order, or says the same twice.
    fn swap_lines(input: &mut Vec<u8>, dice: &mut Dice) {
        let mut lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
        let (a, b) = (dice.roll(lines.len()), dice.roll(lines.len()));
        match dice.roll(3) {
            _ if lines.is_empty() => {}
            0 => lines.swap(a, b),
            1 => lines.insert(a, lines[b]),
            _ => drop(lines.remove(a)),
        }
        *input = lines.concat();
    }

    /// Runs the files of a folder through a target, and what comes of changing them.
    fn run(folder: &str, target: impl Fn(&[u8])) {
        run_one_in(1, folder, target);
    }

    /// The same with one in so many inputs, for what takes longer.
    fn run_one_in(one: u64, folder: &str, target: impl Fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
        let inputs = std::env::var("FUZZ_INPUTS").map_or(INPUTS, |number| number.parse().expect("FUZZ_INPUTS"));
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let made = (0..inputs / one).map(|_| {
            let mut input = seeds[dice.roll(seeds.len())].clone();
            for _ in 0..=dice.roll(5) {
                change(&mut input, &seeds, &mut dice);
            }
            input
        });
        for input in seeds.iter().cloned().chain(made) {
            if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                panic!("this input does it: {}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn offers_like_real_ones_do_no_harm() {
        run("tests/data/offers", offer);
    }

    #[test]
    fn answers_like_real_ones_do_no_harm() {
        run("fuzz/seeds/answer", answer);
    }

    #[test]
    fn fragments_like_real_ones_do_no_harm() {
        run("fuzz/seeds/fragment", fragment);
    }

    #[test]
    fn link_fields_like_real_ones_do_no_harm() {
        run("fuzz/seeds/link", link);
    }

    #[test]
    fn datagrams_like_real_ones_are_routed_or_dropped() {
        run("fuzz/seeds/stun", stun);
    }

    #[test]
    fn handshakes_like_real_ones_do_no_harm() {
        run("fuzz/seeds/handshake", handshake);
    }

    #[test]
    fn streams_like_real_ones_hold_the_same_datagrams_in_any_portions() {
        run("fuzz/seeds/frames", frames);
    }

    #[test]
    fn turn_servers_like_real_ones_do_no_harm() {
        run("fuzz/seeds/relay", relay);
    }

    #[test]
    fn dtls_changed_on_its_way_does_no_harm() {
        run_one_in(20, "fuzz/seeds/dtls", dtls);
    }

    #[test]
    fn sctp_changed_on_its_way_does_no_harm() {
        run_one_in(4, "fuzz/seeds/sctp", sctp);
    }

    #[test]
    fn rtp_and_rtcp_like_real_ones_do_no_harm() {
        run_one_in(20, "fuzz/seeds/media", media);
    }

    #[test]
    fn redundant_audio_like_real_one_does_no_harm() {
        run("fuzz/seeds/red", red);
    }

    #[test]
    fn rtmp_servers_like_real_ones_do_no_harm() {
        run("fuzz/seeds/rtmp", rtmp);
    }

    #[test]
    fn dependency_descriptors_like_real_ones_do_no_harm() {
        run("fuzz/seeds/dependency", dependency);
    }

    #[test]
    fn media_like_real_one_is_told_anew_without_a_number_twice() {
        run("fuzz/seeds/rewrite", rewrite);
    }

    #[test]
    fn paths_and_headers_like_real_ones_do_no_harm() {
        run("fuzz/seeds/headers", headers);
    }

    #[test]
    fn urls_like_real_ones_are_read_or_refused_and_keep_their_secrets() {
        run("fuzz/seeds/url", url);
    }

    #[cfg(feature = "plugin")]
    #[test]
    fn destinations_like_real_ones_keep_their_secrets() {
        run("fuzz/seeds/location", |text| {
            if let Ok(text) = str::from_utf8(text) {
                crate::rtmp::fuzzing::location(text);
            }
        });
    }

    #[cfg(feature = "plugin")]
    #[test]
    fn av1_like_real_one_does_no_harm() {
        run("fuzz/seeds/av1", crate::rtp::fuzzing::av1);
    }
}
