//! Hands the version, commit and release date of the plugin to `plugin_define!`.

fn main() {
    gst_plugin_version_helper::info();
}
