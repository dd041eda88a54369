//! What is known of video encoders: which are better, in which unit each counts bits, and how each is told what live
//! streaming needs. Data only.
//!
//! From their documentation and sources: property names differ between versions, so a setting that an element does not
//! have is left out, and all spellings can stand side by side.

use crate::codec::Codec;

/// Where an encoder likes its frames best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    System,
    Cuda,
    Va,
    Nvmm,
    D3d11,
    D3d12,
    Gl,
}

/// How an encoder is told its bitrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bitrate {
    /// By a property, in units of so many bits.
    Property(&'static str, u32),
    /// By the `extra-controls` of Video4Linux, in bit/s; the group of pictures goes there too.
    Controls,
}

/// One encoder's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) factory: &'static str,
    pub(super) bitrate: Bitrate,
    /// Its longest-GOP properties, in frames: all that it has.
    pub(super) gop: &'static [&'static str],
    /// Constant bitrate, low latency, no frame reordering.
    pub(super) extra: &'static [(&'static str, &'static str)],
    pub(super) memory: Memory,
    /// Caps to ask of it where its own choice is a bad one.
    pub(super) output: Option<&'static str>,
}

const KBIT: Bitrate = Bitrate::Property("bitrate", 1000);
const BIT: Bitrate = Bitrate::Property("bitrate", 1);

const fn row(
    factory: &'static str,
    bitrate: Bitrate,
    gop: &'static [&'static str],
    memory: Memory,
    extra: &'static [(&'static str, &'static str)],
) -> Known {
    Known { factory, bitrate, gop, extra, memory, output: None }
}

const NVIDIA: &[(&str, &str)] = &[
    ("preset", "low-latency-hq"),
    ("preset", "p4"),
    ("tune", "low-latency"),
    ("rc-mode", "cbr"),
    ("rate-control", "cbr"),
    ("zerolatency", "true"),
    ("zero-reorder-delay", "true"),
    ("bframes", "0"),
    ("b-frames", "0"),
    ("rc-lookahead", "0"),
    ("repeat-sequence-header", "true"),
];
const VA: &[(&str, &str)] = &[("rate-control", "cbr"), ("b-frames", "0")];

/// H.264 hardware, and with it that for other codecs, which has the same properties under a name of its own; best first: the vendors' own interfaces before the general ones, newer elements before those that they
/// replaced, single-board computers last, where there is seldom a choice.
pub(super) const HARDWARE: &[Known] = &[
    row("nvautogpuh264enc", KBIT, &["gop-size"], Memory::Cuda, NVIDIA),
    row("nvcudah264enc", KBIT, &["gop-size"], Memory::Cuda, NVIDIA),
    row("nvh264enc", KBIT, &["gop-size"], Memory::Cuda, NVIDIA),
    row("nvd3d11h264enc", KBIT, &["gop-size"], Memory::D3d11, NVIDIA),
    row(
        "nvv4l2h264enc",
        BIT,
        &["idrinterval", "iframeinterval"],
        Memory::Nvmm,
        &[
            ("control-rate", "1"), // constant
            ("preset-level", "1"), // ultra fast
            ("preset-id", "1"),
            ("insert-sps-pps", "true"),
            ("num-B-Frames", "0"),
            ("maxperf-enable", "true"),
        ],
    ),
    row(
        "vtenc_h264_hw",
        KBIT,
        &["max-keyframe-interval"],
        Memory::System,
        &[("realtime", "true"), ("allow-frame-reordering", "false"), ("rate-control", "cbr")],
    ),
    row(
        "qsvh264enc",
        KBIT,
        &["gop-size", "idr-interval"],
        if cfg!(windows) { Memory::D3d11 } else { Memory::Va },
        &[("rate-control", "cbr"), ("low-latency", "true"), ("b-frames", "0")],
    ),
    row("vah264enc", KBIT, &["key-int-max"], Memory::Va, VA),
    row("vah264lpenc", KBIT, &["key-int-max"], Memory::Va, VA),
    row(
        "amfh264enc",
        KBIT,
        &["gop-size"],
        Memory::D3d11,
        &[("usage", "ultra-low-latency"), ("rate-control", "cbr"), ("b-frames", "0"), ("preset", "balanced")],
    ),
    row("d3d12h264enc", KBIT, &["gop-size"], Memory::D3d12, &[("rate-control", "cbr")]),
    row(
        "mfh264enc",
        KBIT,
        &["gop-size"],
        Memory::D3d11,
        &[("rc-mode", "cbr"), ("low-latency", "true"), ("bframes", "0")],
    ),
    row(
        "msdkh264enc",
        KBIT,
        &["gop-size"],
        Memory::Va,
        &[("rate-control", "cbr"), ("b-frames", "0"), ("async-depth", "1"), ("rc-lookahead", "0")],
    ),
    row(
        "vaapih264enc",
        KBIT,
        &["keyframe-period"],
        Memory::System,
        &[("rate-control", "cbr"), ("max-bframes", "0"), ("tune", "none")],
    ),
    row("vulkanh264enc", KBIT, &["idr-period"], Memory::System, &[("rate-control", "cbr"), ("b-frames", "0")]),
    row(
        "mpph264enc",
        Bitrate::Property("bps", 1),
        &["gop"],
        Memory::System,
        &[("rc-mode", "cbr"), ("header-mode", "each-idr")],
    ),
    Known {
        // Without a level the drivers of single-board computers offer 1.0, and then refuse any picture larger than a stamp.
        output: Some("video/x-h264,level=(string)4"),
        ..row("v4l2h264enc", Bitrate::Controls, &[], Memory::System, &[])
    },
    row(
        "omxh264enc",
        Bitrate::Property("target-bitrate", 1),
        &["interval-intraframes", "periodicty-idr", "gop-length"], // the second one is spelt like that
        Memory::System,
        &[("control-rate", "constant"), ("b-frames", "0")],
    ),
];

/// Software, best first for each codec.
pub(super) const SOFTWARE: &[Known] = &[
    Known {
        // It would choose High, whose 8x8 transform some hardware players do without.
        output: Some("video/x-h264,profile=(string)main"),
        ..row(
            "x264enc",
            KBIT,
            &["key-int-max"],
            Memory::System,
            &[
                ("tune", "zerolatency"),
                ("speed-preset", "superfast"),
                ("pass", "cbr"),
                ("vbv-buf-capacity", "1000"),
                ("bframes", "0"),
                ("byte-stream", "false"),
                ("option-string", "scenecut=0"),
            ],
        )
    },
    row(
        "openh264enc",
        BIT,
        &["gop-size"],
        Memory::System,
        &[("rate-control", "bitrate"), ("complexity", "low"), ("scene-change-detection", "false")],
    ),
    row(
        "x265enc",
        KBIT,
        &["key-int-max"],
        Memory::System,
        &[
            ("tune", "zerolatency"),
            ("speed-preset", "ultrafast"),
            ("log-level", "error"),
            ("option-string", "scenecut=0:bframes=0:open-gop=0"),
        ],
    ),
    row(
        "av1enc",
        Bitrate::Property("target-bitrate", 1000),
        &["keyframe-max-dist"],
        Memory::System,
        &[
            ("usage-profile", "realtime"),
            ("end-usage", "cbr"),
            ("cpu-used", "10"),
            ("lag-in-frames", "0"),
            ("row-mt", "true"),
            ("buf-sz", "1000"),
            // Its own defaults leave constant bitrate no choice, and libaom ends the process over that.
            ("min-quantizer", "2"),
            ("max-quantizer", "63"),
        ],
    ),
    row(
        "svtav1enc",
        Bitrate::Property("target-bitrate", 1000),
        &["intra-period-length"],
        Memory::System,
        // Behind av1enc, because it holds pictures back. Constant bitrate it has only with low-delay prediction, and there GStreamer
        // 1.26 and 1.28 ask SVT-AV1 for a second picture until it has one, which is for ever.
        &[("preset", "10"), ("parameters-string", "rc=1")],
    ),
    row(
        "rav1enc",
        BIT,
        &["max-key-frame-interval"],
        Memory::System,
        &[("speed-preset", "10"), ("low-latency", "true")],
    ),
    row(
        "vp9enc",
        Bitrate::Property("target-bitrate", 1),
        &["keyframe-max-dist"],
        Memory::System,
        &[
            ("deadline", "1"),
            ("cpu-used", "8"),
            ("end-usage", "cbr"),
            ("lag-in-frames", "0"),
            ("row-mt", "true"),
            ("buffer-size", "1000"),
            // Otherwise it puts invisible frames in, which few RTMP servers expect.
            ("auto-alt-ref", "false"),
        ],
    ),
    row(
        "vp8enc",
        Bitrate::Property("target-bitrate", 1),
        &["keyframe-max-dist"],
        Memory::System,
        &[
            ("deadline", "1"),
            ("cpu-used", "-10"), // a fixed speed: by a positive one it guesses
            ("end-usage", "cbr"),
            ("lag-in-frames", "0"),
            ("buffer-size", "1000"),
            ("auto-alt-ref", "false"),
            ("error-resilient", "default"),
            ("min-quantizer", "2"),
            ("max-quantizer", "56"),
        ],
    ),
];

/// Chosen only by name, or because their class says hardware.
const OTHERS: &[Known] = &[row(
    "vtenc_h264",
    KBIT,
    &["max-keyframe-interval"],
    Memory::System,
    &[("realtime", "true"), ("allow-frame-reordering", "false"), ("rate-control", "cbr")],
)];

/// Every encoder that we have not heard of counts in kbit/s, as most do.
const UNKNOWN: Known = row("", KBIT, &["gop-size", "key-int-max"], Memory::System, &[]);

/// The row of an encoder. Those of a machine's second graphics card have its number in their names.
pub(super) fn known(factory: &str) -> Known {
    let row = |name: &str| HARDWARE.iter().chain(SOFTWARE).chain(OTHERS).find(|known| known.factory == name).copied();
    let family = family(factory);
    let sibling = || Some(Known { output: None, ..row(&sibling(&family)?)? });
    row(&family).or_else(sibling).unwrap_or(UNKNOWN)
}

/// The Debian package with the best software for a codec.
pub(super) fn package(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "gstreamer1.0-plugins-ugly",
        Codec::H265 | Codec::Av1 => "gstreamer1.0-plugins-bad",
        Codec::Vp8 | Codec::Vp9 => "gstreamer1.0-plugins-good",
        Codec::Opus | Codec::Pcmu | Codec::Pcma => "gstreamer1.0-plugins-base",
    }
}

/// A codec as people write it.
pub(super) fn spoken(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "H.264",
        Codec::H265 => "H.265",
        other => other.name(),
    }
}

/// What an encoder is told on top of its row where people talk to each other: a smaller buffer, so that a keyframe or a
/// lower rate gets through sooner.
pub(super) fn conversation(factory: &str) -> &'static [(&'static str, &'static str)] {
    match factory {
        "x264enc" => &[("vbv-buf-capacity", "400")],
        "vp8enc" | "vp9enc" => {
            &[("buffer-size", "400"), ("buffer-initial-size", "200"), ("buffer-optimal-size", "300")]
        }
        "av1enc" => &[("buf-sz", "400"), ("buf-initial-sz", "200"), ("buf-optimal-sz", "300")],
        _ => &[],
    }
}

/// Whether an encoder hears of requests for keyframes and does nothing: a new one begins with one. Measured with 1.22.
pub(super) fn is_deaf(factory: &str) -> bool {
    factory == "av1enc"
}

/// Whether an encoder takes another bitrate while it runs without saying so of its property: libvpx's do.
pub(super) fn takes_bitrate_at_any_time(factory: &str) -> bool {
    matches!(factory, "vp8enc" | "vp9enc")
}

/// The profiles that every peer decodes, the preferred first. Encoders that are left the choice take the most costly.
const CONVERSATION_H264: [&str; 4] = ["constrained-baseline", "baseline", "main", "high"];

/// What an H.264 encoder is to make for a peer: the first of these profiles that it has.
pub(super) fn conversation_h264(encoder: &gst::ElementFactory) -> Option<gst::Caps> {
    let caps = |profile: &str| gst::Caps::builder("video/x-h264").field("profile", profile).build();
    CONVERSATION_H264.map(caps).into_iter().find(|caps| encoder.can_src_any_caps(caps))
}

/// Its place among the hardware; what is not in the table comes after it.
pub(super) fn place(factory: &str) -> usize {
    let family = family(factory);
    let place = |name: &str| HARDWARE.iter().position(|known| known.factory == name);
    place(&family).or_else(|| place(&sibling(&family)?)).unwrap_or(HARDWARE.len())
}

/// What the same hardware's encoder for H.264 is called.
fn sibling(family: &str) -> Option<String> {
    let codec = ["h265", "av1", "vp9", "vp8"].into_iter().find(|codec| family.contains(codec))?;
    Some(family.replace(codec, "h264"))
}

/// `nvh264device1enc` is a `nvh264enc`, `varenderD129h264enc` a `vah264enc`.
fn family(factory: &str) -> String {
    let mut family = factory.to_owned();
    for mark in ["device", "renderD"] {
        if let Some((before, after)) = factory.split_once(mark)
            && after.starts_with(|c: char| c.is_ascii_digit())
        {
            family = format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_of_further_graphics_cards_belong_to_their_family() {
        for (name, family) in [
            ("nvh264device1enc", "nvh264enc"),
            ("varenderD129h264enc", "vah264enc"),
            ("varenderD129h264lpenc", "vah264lpenc"),
            ("qsvh264device1enc", "qsvh264enc"),
            ("v4l2h264enc", "v4l2h264enc"),
        ] {
            assert_eq!(known(name).factory, family);
        }
    }

    #[test]
    fn hardware_for_other_codecs_is_told_what_its_sibling_is() {
        for (name, sibling) in
            [("nvh265enc", "nvh264enc"), ("vaav1enc", "vah264enc"), ("varenderD129vp9enc", "vah264enc")]
        {
            assert_eq!((known(name).factory, place(name)), (sibling, place(sibling)), "{name}");
        }
        assert_eq!(known("v4l2h265enc").output, None, "a level of H.264");
        for software in ["x265enc", "av1enc", "svtav1enc", "rav1enc", "vp9enc"] {
            assert_eq!((known(software).factory, place(software)), (software, HARDWARE.len()));
        }
        let at = |name: &str| SOFTWARE.iter().position(|known| known.factory == name);
        assert!(at("av1enc") < at("svtav1enc"), "that one holds pictures back");
    }

    #[test]
    fn units_are_those_of_each_encoder() {
        for (name, bitrate) in [
            ("nvh264enc", KBIT),
            ("vah264lpenc", KBIT),
            ("nvv4l2h264enc", BIT),
            ("openh264enc", BIT),
            ("omxh264enc", Bitrate::Property("target-bitrate", 1)),
            ("mpph264enc", Bitrate::Property("bps", 1)),
            ("v4l2h264enc", Bitrate::Controls),
            ("neverheardof", KBIT),
        ] {
            assert_eq!(known(name).bitrate, bitrate, "{name}");
        }
    }

    #[test]
    fn no_encoder_stands_in_the_table_twice() {
        let mut names: Vec<_> = HARDWARE.iter().chain(SOFTWARE).chain(OTHERS).map(|known| known.factory).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
