//! The plugin's entry point: which elements it registers.
#![allow(missing_docs)] // plugin_define! expands to undocumented items

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    crate::webrtcingest::register(plugin)?;
    crate::webrtcegress::register(plugin)?;
    crate::rtmpbridgesink::register(plugin)?;
    crate::webrtcbridgebin::register(plugin)
}

gst::plugin_define!(
    webrtcbridge,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MPL",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    "Unknown package origin",
    env!("BUILD_REL_DATE")
);
