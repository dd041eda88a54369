//! Format parameters (`a=fmtp`): which variants of a codec are of use, and what is answered to them.
//!
//! Most parameters tell what their sender can *receive*, which is no business of one who sends it nothing. An answer
//! therefore holds what makes the variant what it is, which RFC 6184 section 8.2.2 and its kin want unchanged, and what we
//! want of Opus. An offered level is repeated: that is legal whether or not `level-asymmetry-allowed` is, and nobody here
//! is known to keep frames small for it.

use super::Codec;

/// What identifies the variant; the offer's own values are answered.
fn identity(codec: Codec) -> &'static [&'static str] {
    match codec {
        Codec::H264 => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
        Codec::H265 => &["level-id", "profile-id", "tier-flag", "tx-mode"],
        Codec::Av1 => &["level-idx", "profile", "tier"],
        Codec::Vp9 => &["profile-id"],
        Codec::Vp8 | Codec::Opus | Codec::Pcmu | Codec::Pcma => &[],
    }
}

/// What we want of an Opus sender (RFC 7587 section 6.1): stereo if it has it, which costs a mono one nothing that
/// matters, and the redundancy from which the decoder fills the place of a lost packet.
const OPUS: &str = "minptime=10;useinbandfec=1;stereo=1";

/// `profile_idc` of H.264 profiles beyond 8-bit 4:2:0: High 10, High 4:2:2, High 4:4:4 Predictive, CAVLC 4:4:4 Intra. It
/// would be passed on untouched, and RTMP servers and players refuse it.
const DEEP_H264: [&str; 4] = ["6e", "7a", "f4", "2c"];

pub(super) fn rank(codec: Codec, fmtp: &str) -> Option<u8> {
    let is = |name, default: &str, wanted: &str| parameter(fmtp, name).unwrap_or(default) == wanted;
    match codec {
        Codec::H264 => {
            let profile = parameter(fmtp, "profile-level-id").and_then(|id| id.get(..2)).unwrap_or("42");
            if DEEP_H264.iter().any(|deep| deep.eq_ignore_ascii_case(profile)) {
                return None;
            }
            match parameter(fmtp, "packetization-mode").unwrap_or("0") {
                "1" => Some(0),
                "0" => Some(1), // every frame in packets of whole slices
                _ => None,      // interleaved, which WebRTC does not use
            }
        }
        // Main profile; all layers in one stream (RFC 7798 section 7.1).
        Codec::H265 => (is("profile-id", "1", "1")
            && parameter(fmtp, "tx-mode").unwrap_or("SRST").eq_ignore_ascii_case("SRST")
            && is("sprop-max-don-diff", "0", "0"))
        .then_some(0),
        // 8-bit 4:2:0 is what decoders everywhere take.
        Codec::Av1 => is("profile", "0", "0").then_some(0),
        Codec::Vp9 => is("profile-id", "0", "0").then_some(0),
        Codec::Vp8 | Codec::Opus | Codec::Pcmu | Codec::Pcma => Some(0),
    }
}

pub(super) fn answer(codec: Codec, offered: &str) -> String {
    if codec == Codec::Opus {
        return OPUS.to_owned();
    }
    let kept: Vec<String> = identity(codec)
        .iter()
        .filter_map(|name| parameter(offered, name).map(|value| format!("{name}={value}")))
        .collect();
    kept.join(";")
}

/// How well a stream in this variant goes to a peer that offers to receive that one, 0 the best; `None` if not at all.
pub(super) fn fit(codec: Codec, ours: &str, offered: &str) -> Option<u8> {
    let same = |name, default: &str| {
        let value = |fmtp| parameter(fmtp, name).unwrap_or(default);
        value(ours).eq_ignore_ascii_case(value(offered))
    };
    match codec {
        Codec::H264 => {
            let mode = |fmtp| parameter(fmtp, "packetization-mode").unwrap_or("0").to_owned();
            let modes = match (mode(ours).as_str(), mode(offered).as_str()) {
                (ours, offered) if ours == offered => 0,
                ("0", "1") => 1, // mode 1 has single units as well (RFC 6184 section 6.3)
                _ if parameter(offered, "packetization-mode").is_none() => UNSAID,
                _ => return None,
            };
            Some(modes + 2 * h264_profile_fit(ours, offered))
        }
        Codec::H265 => (same("profile-id", "1") && same("tx-mode", "SRST")).then_some(0),
        Codec::Av1 => same("profile", "0").then_some(0),
        Codec::Vp9 => same("profile-id", "0").then_some(0),
        Codec::Vp8 | Codec::Opus | Codec::Pcmu | Codec::Pcma => Some(0),
    }
}

/// Who names no packetization mode would want single units by the letter (RFC 6184 section 8.1), and has only not thought
/// of it: browsers name both, gst-plugins-rs' whepclientsrc neither, and takes fragments. Worse than what anybody has named.
const UNSAID: u8 = 8;

/// 0 for the same profile, 1 for one that contains ours, 2 for another. That is no reason to send nothing: a browser names
/// what its encoder makes, and its decoder takes more (Firefox names constrained baseline only, and plays High).
fn h264_profile_fit(ours: &str, offered: &str) -> u8 {
    // profile_idc, and constraint_set1_flag, which makes baseline "constrained" (RFC 6184 section 8.1).
    let profile = |fmtp| {
        let id =
            parameter(fmtp, "profile-level-id").and_then(|id| u32::from_str_radix(id, 16).ok()).unwrap_or(0x42_0000);
        (id >> 16 & 0xFF, id >> 14 & 1 == 1)
    };
    match (profile(ours), profile(offered)) {
        (ours, offered) if ours == offered => 0,
        ((0x42, true), (0x42 | 0x4D | 0x58 | 0x64, _)) | ((0x42, false), (0x58, _)) | ((0x4D, _), (0x64, _)) => 1,
        _ => 2,
    }
}

/// One parameter of an `a=fmtp` value such as `packetization-mode=1;profile-level-id=42e01f`. Names are read in any case
/// (RFC 6838 section 4.3).
fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = fmtp.split(';').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h264_prefers_packetization_mode_1_and_refuses_interleaving() {
        let rank = |fmtp| rank(Codec::H264, fmtp);
        assert!(rank("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f") < rank(""));
        assert_eq!(rank("packetization-mode=2"), None);
    }

    #[test]
    fn h264_is_taken_in_every_profile_that_browsers_and_obs_offer_and_in_no_deeper_one() {
        for profile in ["42001f", "42e01f", "42C01E", "4d001f", "4d0032", "58A01E", "64001f", "640c1f", "640032"] {
            let fmtp = format!("packetization-mode=1; profile-level-id={profile}");
            assert_eq!(rank(Codec::H264, &fmtp), Some(0), "{profile}");
        }
        for profile in ["6e001f", "7A0034", "f4001f"] {
            assert_eq!(
                rank(Codec::H264, &format!("packetization-mode=1;profile-level-id={profile}")),
                None,
                "{profile}"
            );
        }
        assert_eq!(rank(Codec::H264, "packetization-mode=1;profile-level-id=6"), Some(0), "nonsense says nothing");
    }

    #[test]
    fn an_h264_answer_keeps_the_configuration_and_leaves_out_what_describes_the_offerers_stream() {
        let offered = "packetization-mode=1;sprop-parameter-sets=Z0LAH9oB4AiflwFqAgICgAAB9AAB1MAHsGDKgA==,aM4G4g==;\
                       profile-level-id=42c01f;level-asymmetry-allowed=1;max-fs=8192";
        let answered = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42c01f";
        assert_eq!(answer(Codec::H264, offered), answered);
        assert_eq!(answer(Codec::H264, "packetization-mode=0"), "packetization-mode=0");
    }

    #[test]
    fn only_main_profile_h265_in_one_stream_is_taken() {
        let rank = |fmtp| rank(Codec::H265, fmtp);
        assert_eq!(rank("level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST"), Some(0));
        assert_eq!(rank(""), Some(0));
        assert_eq!(rank("profile-id=2"), None);
        assert_eq!(rank("tx-mode=MRST"), None);
        assert_eq!(rank("sprop-max-don-diff=2"), None);
        assert_eq!(answer(Codec::H265, "profile-id=1;level-id=93;sprop-vps=QAEM"), "level-id=93;profile-id=1");
    }

    #[test]
    fn vp9_and_av1_are_taken_in_profile_0_only() {
        assert_eq!(rank(Codec::Vp9, "profile-id=2"), None);
        assert_eq!(rank(Codec::Vp9, ""), Some(0));
        assert_eq!(rank(Codec::Av1, "level-idx=5;profile=0;tier=0"), Some(0));
        assert_eq!(rank(Codec::Av1, "profile=1"), None);
        assert_eq!(answer(Codec::Av1, "level-idx=5;profile=0;tier=0"), "level-idx=5;profile=0;tier=0");
    }

    #[test]
    fn a_stream_goes_to_the_format_that_is_nearest_to_it() {
        let h264 = |mode: u8, profile: &str| format!("packetization-mode={mode};profile-level-id={profile}");
        let fit = |ours: (u8, &str), offered: (u8, &str)| {
            super::fit(Codec::H264, &h264(ours.0, ours.1), &h264(offered.0, offered.1))
        };
        let baseline = (1, "42e01f");
        assert_eq!(fit(baseline, (1, "42e034")), Some(0), "the level binds nobody");
        assert!(fit(baseline, (1, "42001f")) < fit(baseline, (1, "f4001f")));
        assert!(fit(baseline, (1, "640c1f")) < fit((1, "640c1f"), (1, "42e01f")), "downwards only if need be");
        assert_eq!(fit(baseline, (0, "42e01f")), None, "it cannot put fragments together");
        assert_eq!(fit((0, "42e01f"), (1, "42e01f")), Some(1));
        let unsaid = super::fit(Codec::H264, &h264(1, "42e01f"), "");
        assert!(unsaid.is_some() && unsaid > fit(baseline, (1, "f4001f")));
        assert!(super::fit(Codec::H264, &h264(1, "42e01f"), "profile-level-id=42e016").is_some());
        assert_eq!(super::fit(Codec::Vp9, "", "profile-id=2"), None);
        assert_eq!(super::fit(Codec::Vp9, "profile-id=0", ""), Some(0));
        assert_eq!(super::fit(Codec::Opus, "stereo=1", "minptime=10"), Some(0));
    }

    #[test]
    fn what_a_peer_can_receive_is_not_handed_back_to_it() {
        assert_eq!(answer(Codec::Vp8, "max-fs=12288;max-fr=60"), "");
        assert_eq!(answer(Codec::Vp9, "profile-id=0;max-fs=12288"), "profile-id=0");
        assert_eq!(answer(Codec::Opus, "maxplaybackrate=16000;sprop-stereo=0"), OPUS);
    }
}
