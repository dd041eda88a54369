//! Enhanced RTMP: what is asked for arrives at a receiver that understands it, and can be decoded.

#![allow(clippy::unwrap_used)]

use crate::receiver::Receiver;
use crate::rtmp_support::{Pipeline, Tag};
use gst::prelude::*;

const RAW: &str =
    "videotestsrc is-live=true num-buffers=75 ! video/x-raw,format=I420,width=320,height=180,framerate=30/1";
const OPUS: &str = "audiotestsrc is-live=true num-buffers=125 samplesperbuffer=960 \
    ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

/// `video-codec`, FourCC, an encoder, a decoder with the caps that it needs before it.
struct Codec {
    name: &'static str,
    four_cc: &'static [u8; 4],
    encoder: &'static str,
    factory: &'static str,
    decoder: &'static str,
}

const CODECS: [Codec; 3] = [
    Codec {
        name: "h265",
        four_cc: b"hvc1",
        encoder: "x265enc tune=zerolatency speed-preset=ultrafast",
        factory: "x265enc",
        decoder: "video/x-h265,stream-format=hvc1,alignment=au,width=320,height=180 ! avdec_h265",
    },
    Codec {
        name: "av1",
        four_cc: b"av01",
        encoder: "av1enc usage-profile=realtime cpu-used=10 lag-in-frames=0 target-bitrate=500 max-quantizer=63",
        factory: "av1enc",
        decoder: "video/x-av1,stream-format=obu-stream,alignment=tu ! av1parse ! av1dec",
    },
    Codec {
        name: "vp9",
        four_cc: b"vp09",
        encoder: "vp9enc deadline=1 cpu-used=8 lag-in-frames=0",
        factory: "vp9enc",
        decoder: "video/x-vp9,width=320,height=180 ! vp9dec",
    },
];

fn run(receiver: &Receiver, codec: &Codec, video: &str) -> (Vec<Tag>, gst::Structure) {
    let (name, location) = (codec.name, receiver.url(codec.name));
    let sink = format!("rtmpbridgesink name=sink video-codec={name} audio-codec=opus location={location}");
    let mut pipeline = Pipeline::start(&format!("{video} ! sink.video {OPUS} {sink}"));
    pipeline.wait_for_state("live");
    let tags = receiver.play(codec.name);
    pipeline.wait_for_eos();
    (tags, pipeline.sink().property("stats"))
}

/// The tags of one kind and packet types, each without its header of 5 bytes and composition time.
fn payloads<'a>(tags: &'a [Tag], kind: u8, packets: &'a [(u8, usize)]) -> Vec<(&'a Tag, &'a [u8])> {
    let of_kind = tags.iter().filter(move |tag| tag.kind == kind);
    of_kind
        .filter_map(|tag| {
            let (_, skip) = packets.iter().find(|(packet, _)| tag.body[0] & 0x0f == *packet)?;
            Some((tag, &tag.body[5 + skip..]))
        })
        .collect()
}

/// Decodes units by GStreamer, with `configuration` where the caps need one; returns how many frames came out.
fn decoded<'a>(decoder: &str, configuration: &[u8], units: impl Iterator<Item = &'a [u8]>) -> usize {
    let (caps, elements) = decoder.split_once(" ! ").unwrap();
    let description = format!("appsrc name=in format=time ! {elements} ! appsink name=out sync=false");
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let mut caps = caps.parse::<gst::Caps>().unwrap();
    if !configuration.is_empty() {
        caps.make_mut().set("codec_data", gst::Buffer::from_slice(configuration.to_vec()));
    }
    source.set_caps(Some(&caps));
    for (index, unit) in units.enumerate() {
        let mut buffer = gst::Buffer::from_slice(unit.to_vec());
        buffer.get_mut().unwrap().set_pts(index as u64 * 33.mseconds());
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let frames = std::iter::from_fn(|| sink.try_pull_sample(10.seconds())).count();
    pipeline.set_state(gst::State::Null).unwrap();
    frames
}

fn check(codec: &Codec, tags: &[Tag]) {
    let name = codec.name;
    let video: Vec<_> = tags.iter().filter(|tag| tag.kind == 9).collect();
    assert_eq!(video[0].body[..5], [b"\x90".as_slice(), codec.four_cc].concat(), "{name}: the sequence starts");
    assert!(video.iter().all(|tag| tag.body[0] & 0x80 != 0 && tag.body[1..5] == *codec.four_cc), "{name}");
    assert_eq!(video[1].body[0] >> 4, 9, "{name}: the first picture is a keyframe");
    assert!(video.windows(2).all(|pair| pair[0].timestamp <= pair[1].timestamp), "{name}: timestamps rise");

    let configuration = payloads(tags, 9, &[(0, 0)])[0].1.to_vec();
    // Composition times are H.265's alone, and packet type 3 has none.
    let packets: &[_] = if name == "h265" { &[(1, 3), (3, 0)] } else { &[(1, 0)] };
    let units = payloads(tags, 9, packets);
    assert!(units.len() >= 60, "{name}: {} pictures", units.len());
    let in_caps = if name == "h265" { configuration.as_slice() } else { &[] };
    let frames = decoded(codec.decoder, in_caps, units.iter().map(|(_, unit)| *unit));
    assert_eq!(frames, units.len(), "{name}: every picture decodes");
    match name {
        "av1" => {
            let header = &configuration[4..];
            assert!(units[0].1.windows(header.len()).any(|bytes| bytes == header), "the header is the stream's own");
            assert_ne!(units[0].1[0] >> 3 & 15, 2, "no temporal delimiter");
        }
        "vp9" => assert_eq!(configuration, [1, 0, 0, 0, 0, 11, 0x82, 2, 2, 2, 0, 0]),
        _ => assert_eq!(configuration[0], 1, "HEVCDecoderConfigurationRecord"),
    }

    let head = payloads(tags, 8, &[(0, 0)]);
    assert!(head[0].0.body.starts_with(b"\x90OpusOpusHead\x01\x02"), "{name}: {:?}", head[0].0.body);
    let packets = payloads(tags, 8, &[(1, 0)]);
    assert!(packets.len() >= 90 && packets[0].0.body.starts_with(b"\x91Opus"), "{name}: {} packets", packets.len());
    let caps = "audio/x-opus,channel-mapping-family=0,channels=2,rate=48000 ! opusdec";
    let frames = decoded(caps, &[], packets.iter().map(|(_, packet)| *packet));
    assert!(frames >= packets.len() - 2, "{name}: {frames} of {} packets decode", packets.len());
}

#[test]
fn what_was_asked_for_passes_through() {
    let receiver = Receiver::start();
    for codec in &CODECS {
        let (tags, stats) = run(&receiver, codec, &format!("{RAW} ! {}", codec.encoder));
        check(codec, &tags);
        assert_eq!(stats.get::<bool>("passthrough"), Ok(true), "{stats}");
        assert_eq!(stats.get::<&str>("audio-encoder"), Ok("passthrough"), "{stats}");
    }
}

#[test]
fn anything_else_is_transcoded_to_it() {
    let receiver = Receiver::start();
    for codec in &CODECS {
        let (tags, stats) = run(&receiver, codec, RAW);
        check(codec, &tags);
        assert_eq!(stats.get::<&str>("video-encoder"), Ok(codec.factory), "{stats}");
    }
}

#[test]
fn metadata_names_the_codecs() {
    let receiver = Receiver::start();
    let (tags, _) = run(&receiver, &CODECS[0], RAW);
    let script = &tags.iter().find(|tag| tag.kind == 18).unwrap().body;
    for (name, number) in [("videocodecid", 1_752_589_105.0f64), ("audiocodecid", 1_332_770_163.0)] {
        let entry = [name.as_bytes(), &[0], &number.to_be_bytes()].concat();
        assert!(script.windows(entry.len()).any(|bytes| bytes == entry), "{name} in {script:?}");
    }
}
