//! What is on the machine itself: GStreamer's elements by Debian's package names, encoders that work, TLS files.

use gstwebrtcbridge::{signaling::TlsFiles, transcode};

use crate::finding::Finding;

/// Elements by the package that has them; what they are for; whether nothing works without them.
const PACKAGES: &[(&str, &[&str], &str, bool)] = &[
    (
        "gstreamer1.0-plugins-base",
        &["appsrc", "appsink", "audioconvert", "videoconvert", "opusdec", "opusenc"],
        "conversion, Opus",
        true,
    ),
    (
        "gstreamer1.0-plugins-good",
        &["rtph264depay", "rtpopusdepay", "rtpvp8depay", "rtpvp9depay", "vp8dec", "vp9dec"],
        "RTP, VP8 and VP9",
        true,
    ),
    ("gstreamer1.0-plugins-bad", &["h264parse", "h265parse", "aacparse", "voaacenc"], "parsers, AAC", true),
    ("gstreamer1.0-plugins-ugly", &["x264enc"], "H.264 in software: for publishers who send something else", false),
    ("gstreamer1.0-libav", &["avdec_h264"], "a decoder for H.264: for a canvas, or other codecs", false),
    ("gstreamer1.0-tools", &[], "gst-launch-1.0", false),
];

pub(crate) fn plugins() -> Vec<Finding> {
    PACKAGES.iter().map(|(package, elements, purpose, needed)| plugin(package, elements, purpose, *needed)).collect()
}

fn plugin(package: &str, elements: &[&str], purpose: &str, needed: bool) -> Finding {
    let missing: Vec<&str> =
        elements.iter().copied().filter(|element| gst::ElementFactory::find(element).is_none()).collect();
    let program_is_missing =
        elements.is_empty() && std::process::Command::new("gst-launch-1.0").arg("--version").output().is_err();
    if missing.is_empty() && !program_is_missing {
        return Finding::fine(package, purpose);
    }
    let found = match program_is_missing {
        true => format!("not there ({purpose})"),
        false => format!("{} not there ({purpose})", missing.join(", ")),
    };
    let advice = format!("apt-get install {package}; with another distribution, the package of these elements");
    if needed { Finding::problem(package, found, advice) } else { Finding::warning(package, found, advice) }
}

/// Each encoder by trying it. One that works for H.264 is what transcoding needs.
pub(crate) fn encoders() -> Vec<Finding> {
    let surveyed = transcode::survey();
    let has_h264 = surveyed.iter().any(|one| one.codec.name() == "H264" && one.works.is_ok());
    let kind = |is_hardware| if is_hardware { "hardware" } else { "software" };
    let mut findings: Vec<Finding> = surveyed
        .into_iter()
        .map(|one| {
            let what = format!("encoder {}", one.name);
            match one.works {
                Ok(()) => Finding::fine(what, format!("{} by {} works", one.codec, kind(one.is_hardware))),
                Err(why) => Finding::warning(
                    what,
                    format!("{} by {} does not work: {why}", one.codec, kind(one.is_hardware)),
                    "it is passed over; if it should work, look at its driver and at who may open /dev/dri and /dev/video*",
                ),
            }
        })
        .collect();
    if !has_h264 {
        findings.push(Finding::warning(
            "H.264 encoder",
            "none works: only publishers who send H.264 themselves reach RTMP",
            "apt-get install gstreamer1.0-plugins-ugly",
        ));
    }
    findings
}

pub(crate) fn tls(certificate: &str, key: &str) -> Finding {
    let files = TlsFiles { certificate: certificate.into(), key: key.into() };
    match files.check() {
        Ok(()) => Finding::fine("TLS", format!("{certificate} and {key} belong together")),
        Err(why) => {
            Finding::problem("TLS", why, "name a PEM certificate chain and its private key without a passphrase")
        }
    }
}
