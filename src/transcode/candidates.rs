//! Which encoders are tried, in which order, and why some were passed over.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::{
    ChainError, known, proof,
    unit::{Tuning, Unit},
};
use crate::codec::Codec;

/// How long all proofs of one choice may take: it is a streaming thread that waits for them. Software follows at once.
const PATIENCE: Duration = Duration::from_secs(8);

/// An encoder that exists here.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) factory: gst::ElementFactory,
    pub(super) hardware: bool,
    pub(super) codec: Codec,
}

impl Candidate {
    pub(super) fn name(&self) -> String {
        self.factory.name().to_string()
    }
}

/// Those that have not been tried yet, best first.
#[derive(Debug)]
pub(super) struct Candidates {
    choice: String,
    codec: Codec,
    waiting: VecDeque<Candidate>,
    /// How many of them `encoder` allows from the start. The rest steps in when one fails: the show goes on.
    allowed: usize,
    passed_over: Vec<String>,
}

impl Default for Candidates {
    /// None.
    fn default() -> Self {
        let (choice, waiting, passed_over) = Default::default();
        Self { choice, codec: Codec::H264, waiting, allowed: 0, passed_over }
    }
}

impl Candidates {
    /// For the `encoder` property.
    pub(super) fn of(choice: &str, codec: Codec) -> Result<Self, ChainError> {
        let (allowed, reserve) = match choice {
            "auto" => (all(codec), Vec::new()),
            "hardware" => (hardware(codec), software(codec)),
            "software" => (software(codec), Vec::new()),
            name => {
                let unknown = || ChainError::NotAnEncoder { encoder: name.to_owned(), codec: known::spoken(codec) };
                let named = named(name, codec).ok_or_else(unknown)?;
                (vec![named], software(codec).into_iter().filter(|candidate| candidate.name() != name).collect())
            }
        };
        let count = allowed.len();
        let waiting = allowed.into_iter().chain(reserve).collect();
        Ok(Self { choice: choice.to_owned(), codec, waiting, allowed: count, passed_over: Vec::new() })
    }

    /// The best that works, of those that may be chosen from the start.
    pub(super) fn first(&mut self, tuning: &Tuning) -> Result<Unit, ChainError> {
        let reserve = self.waiting.split_off(self.allowed.min(self.waiting.len()));
        let unit = self.next(tuning);
        self.waiting.extend(reserve);
        unit.ok_or_else(|| match self.choice.as_str() {
            "auto" | "software" => {
                ChainError::NoEncoder { kind: known::spoken(self.codec), package: known::package(self.codec) }
            }
            choice => {
                let none = "there is none".to_owned();
                let reasons = Some(self.passed_over.join("; ")).filter(|reasons| !reasons.is_empty()).unwrap_or(none);
                ChainError::NoneWorks { choice: choice.to_owned(), reasons }
            }
        })
    }

    /// The next best that works.
    pub(super) fn next(&mut self, tuning: &Tuning) -> Option<Unit> {
        let until = Instant::now() + PATIENCE;
        while let Some(candidate) = self.waiting.pop_front() {
            let result = if candidate.hardware && Instant::now() >= until {
                Err("not tried: those before it took too long".to_owned())
            } else {
                let proof = proof::prove(&candidate, tuning);
                proof.and_then(|()| Unit::build(&candidate, tuning).map_err(|error| error.to_string()))
            };
            match result {
                Ok(unit) => return Some(unit),
                Err(reason) => self.pass_over(&candidate, &reason),
            }
        }
        None
    }

    /// Whether there is any left.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes note of one that does not do.
    pub(super) fn pass_over(&mut self, candidate: &Candidate, reason: &str) {
        self.passed_over.push(format!("{}: {reason}", candidate.name()));
    }

    /// Each encoder that does not do, with the reason.
    pub(super) fn passed_over(&self) -> &[String] {
        &self.passed_over
    }
}

/// Whether there is any encoder for a codec that `choice` allows. Whether it works is another question.
pub(super) fn any(choice: &str, codec: Codec) -> bool {
    Candidates::of(choice, codec).is_ok_and(|candidates| candidates.allowed > 0)
}

/// All that could be chosen, best first.
pub(super) fn all(codec: Codec) -> Vec<Candidate> {
    hardware(codec).into_iter().chain(software(codec)).collect()
}

/// Ranks do not tell which hardware encoder is better, nor does every one have a rank.
fn hardware(codec: Codec) -> Vec<Candidate> {
    let mut found: Vec<_> = encoders(codec).into_iter().filter(|candidate| candidate.hardware).collect();
    found.sort_by_key(|candidate| {
        let (name, rank) = (candidate.name(), candidate.factory.rank());
        (known::place(&name), std::cmp::Reverse(rank), name)
    });
    found
}

fn software(codec: Codec) -> Vec<Candidate> {
    known::SOFTWARE.iter().filter_map(|known| named(known.factory, codec)).collect()
}

fn named(name: &str, codec: Codec) -> Option<Candidate> {
    encoders(codec).into_iter().find(|candidate| candidate.factory.name() == name)
}

fn encoders(codec: Codec) -> Vec<Candidate> {
    let caps = gst::Caps::new_empty_simple(codec.caps_name());
    let encoder = gst::ElementFactoryType::ENCODER | gst::ElementFactoryType::MEDIA_VIDEO;
    gst::ElementFactory::factories_with_type(encoder, gst::Rank::NONE)
        .into_iter()
        .filter(|factory| factory.can_src_any_caps(&caps))
        .map(|factory| {
            let name = factory.name();
            let in_table = known::place(&name) < known::HARDWARE.len();
            let hardware = in_table || factory.has_type(gst::ElementFactoryType::HARDWARE);
            Candidate { factory, hardware, codec }
        })
        .collect()
}
