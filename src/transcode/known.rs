//! What is known of H.264 encoders: which are better, in which unit each counts bits, and how each is told what live
//! streaming needs. Data only.
//!
//! From their documentation and sources: property names differ between versions, so a setting that an element does not
//! have is left out, and all spellings can stand side by side.

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

/// Hardware, best first: the vendors' own interfaces before the general ones, newer elements before those that they
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

/// Software, best first.
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
    let family = family(factory);
    HARDWARE.iter().chain(SOFTWARE).chain(OTHERS).find(|known| known.factory == family).copied().unwrap_or(UNKNOWN)
}

/// Its place among the hardware; what is not in the table comes after it.
pub(super) fn place(factory: &str) -> usize {
    let family = family(factory);
    HARDWARE.iter().position(|known| known.factory == family).unwrap_or(HARDWARE.len())
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
