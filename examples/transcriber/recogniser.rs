//! Who listens: the trait, a recogniser of speech, and a detector of loudness that stands in where there is none.

use std::{error::Error, path::Path};

use gst::prelude::*;

/// 16 kHz, mono.
const RATE: usize = 16_000;

/// Turns sound into text.
pub(crate) trait Recogniser: Send {
    /// The next piece of sound; the text of what was said, where that has just come to its end. Called for every piece, in
    /// silence as well, and may not take longer than the piece is: who needs more time has a thread of his own.
    fn hear(&mut self, samples: &[i16]) -> Option<String>;
}

/// CMU PocketSphinx, by its GStreamer element: it has a pipeline of its own, so that sound is not held up by it.
pub(crate) struct PocketSphinx {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
}

impl PocketSphinx {
    /// Loads the model, which takes about a second.
    pub(crate) fn new(grammar: Option<&Path>) -> Result<Self, Box<dyn Error>> {
        let pipeline = gst::Pipeline::new();
        let caps = gst::Caps::builder("audio/x-raw").field("format", "S16LE").field("layout", "interleaved");
        let source = gst_app::AppSrc::builder()
            .caps(&caps.field("rate", RATE as i32).field("channels", 1).build())
            .format(gst::Format::Time)
            .is_live(true)
            .do_timestamp(true)
            // What it cannot follow is lost, rather than heard later and later.
            .max_time(gst::ClockTime::from_seconds(10))
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        let listener = gst::ElementFactory::make("pocketsphinx").build().map_err(
            |_| "there is no element \"pocketsphinx\": apt-get install gstreamer1.0-pocketsphinx pocketsphinx-en-us",
        )?;
        if let Some(grammar) = grammar {
            listener.set_property("fsg", grammar.to_str().ok_or("the grammar's name is not UTF-8")?);
        }
        let end = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
        pipeline.add_many([source.upcast_ref(), &listener, &end])?;
        gst::Element::link_many([source.upcast_ref(), &listener, &end])?;
        pipeline.set_state(gst::State::Playing)?;
        Ok(Self { pipeline, source })
    }
}

impl Recogniser for PocketSphinx {
    fn hear(&mut self, samples: &[i16]) -> Option<String> {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let _ = self.source.push_buffer(gst::Buffer::from_mut_slice(bytes));
        // It tells of each guess; the final one comes when there has been silence for a while.
        while let Some(message) = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Element]) {
            let guess = message.structure().filter(|structure| structure.name() == "pocketsphinx");
            if let Some(guess) = guess.filter(|guess| guess.get("final") == Ok(true)) {
                return guess.get::<String>("hypothesis").ok().filter(|text| !text.is_empty());
            }
        }
        None
    }
}

impl Drop for PocketSphinx {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// No recogniser: knows no words, and tells when it was loud, and for how long.
#[derive(Default)]
pub(crate) struct LoudnessDetector {
    loud: usize,
    quiet: usize,
}

/// Of 32768: louder than a room, softer than a voice.
const LOUD: f64 = 500.0;
/// What is shorter is a click.
const SHORTEST: usize = RATE / 10;
/// A pause between two words is shorter.
const PAUSE: usize = RATE / 2;

impl Recogniser for LoudnessDetector {
    fn hear(&mut self, samples: &[i16]) -> Option<String> {
        let squares: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        if (squares / samples.len().max(1) as f64).sqrt() > LOUD {
            self.loud += samples.len() + std::mem::take(&mut self.quiet);
        } else if self.loud > 0 {
            self.quiet += samples.len();
        }
        let has_ended = self.quiet >= PAUSE;
        let Self { loud, .. } = if has_ended { std::mem::take(self) } else { return None };
        (loud >= SHORTEST).then(|| format!("[loud for {:.1} s]", loud as f64 / RATE as f64))
    }
}
