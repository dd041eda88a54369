//! The type of `tls-validation-flags`.
#![allow(missing_docs)] // glib::flags expands to undocumented items

use gst::glib;

/// What of a TLS certificate is checked: GTlsCertificateFlags, which rtmp2sink takes, under a name of our own because
/// this crate does not link GIO.
#[glib::flags(name = "GstRtmpBridgeTlsValidationFlags")]
pub enum TlsValidationFlags {
    /// The signing authority is known.
    #[flags_value(name = "Signing authority", nick = "unknown-ca")]
    UNKNOWN_CA = 1,
    /// The certificate is of the host.
    #[flags_value(name = "Identity", nick = "bad-identity")]
    BAD_IDENTITY = 1 << 1,
    /// Its time has come.
    #[flags_value(name = "Activation", nick = "not-activated")]
    NOT_ACTIVATED = 1 << 2,
    /// Its time has not run out.
    #[flags_value(name = "Expiry", nick = "expired")]
    EXPIRED = 1 << 3,
    /// It has not been revoked.
    #[flags_value(name = "Revocation", nick = "revoked")]
    REVOKED = 1 << 4,
    /// Its algorithm is good enough.
    #[flags_value(name = "Algorithm", nick = "insecure")]
    INSECURE = 1 << 5,
    /// Anything else is right.
    #[flags_value(name = "Other", nick = "generic-error")]
    GENERIC_ERROR = 1 << 6,
    /// All of it.
    #[flags_value(name = "Everything", nick = "validate-all")]
    VALIDATE_ALL = 0x7f,
}
