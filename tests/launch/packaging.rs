//! What is in packaging/, and what meson installs: systemd takes the unit, its settings are those of the file beside it, the list
//! of what the plugin is built of has what it is built of, and GStreamer finds the plugin where meson has put it. Leaves it to
//! `tests/long install` that meson has it built by cargo for real, which takes minutes.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::plugin_dir;

fn packaging(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)).expect("the file")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = folder.path().join("webrtcbridge.service");
    fs::write(&unit, packaging("webrtcbridge.service")).expect("a file");
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    let verified = verified.expect("systemd-analyze runs (Debian package systemd)");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("webrtcbridge.service:"), "{said}");
}

#[test]
fn each_setting_of_the_unit_is_in_its_file_and_no_other_one_is() {
    let unit = packaging("webrtcbridge.service");
    let unit: String = unit.lines().filter(|line| !line.starts_with('#')).collect();
    let used: BTreeSet<&str> = unit.split("${").skip(1).filter_map(|rest| rest.split('}').next()).collect();
    let settings = packaging("webrtcbridge.env");
    let lines = settings.lines().filter(|line| !line.starts_with('#'));
    let set: BTreeSet<&str> = lines.filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
    assert_eq!(used, set);
}

#[test]
fn a_setting_that_is_empty_does_not_take_the_next_argument_for_its_value() {
    let unit = packaging("webrtcbridge.service");
    for line in packaging("webrtcbridge.env").lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once('=').expect("a setting");
        assert!(!value.is_empty() || unit.contains(&format!("\"${{{key}}}\"")), "{key} stands in no quotes");
    }
}

#[test]
fn the_list_of_what_is_built_in_has_that_and_nothing_that_is_for_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(root.join("packaging/sbom")).arg("--offline").output().expect("python3 runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let list: serde_json::Value = serde_json::from_slice(&made.stdout).expect("JSON");
    assert_eq!((list["bomFormat"].as_str(), list["specVersion"].as_str()), (Some("CycloneDX"), Some("1.5")));
    let components = list["components"].as_array().expect("components");
    let has = |name: &str| components.iter().any(|component| component["name"] == name);
    assert!(has("webrtc") && has("rustls") && has("gstreamer"));
    assert!(!has("jsonschema") && !has("tempfile") && !has("proptest"));
    let locked = fs::read_to_string(root.join("Cargo.lock")).expect("Cargo.lock");
    for component in components {
        let text = |key: &str| component[key].as_str().unwrap_or_default().to_owned();
        let entry = format!("name = \"{}\"\nversion = \"{}\"\n", text("name"), text("version"));
        assert!(locked.contains(&entry), "{entry}");
        assert!(component["licenses"].is_array() && component["hashes"].is_array(), "{entry}");
    }
}

#[test]
fn meson_installs_what_gst_inspect_finds_into_a_prefix() {
    let folder = tempfile::tempdir().expect("a folder");
    let prefix = folder.path().join("prefix");
    meson_install(folder.path(), &["--prefix".as_ref(), prefix.as_os_str()], None);
    let inspected = |name: &str| inspect(&plugins_of(&prefix), folder.path(), name);
    let plugin = inspected("webrtcbridge");
    for element in ["webrtcingest", "webrtcegress", "rtmpbridgesink", "webrtcbridgebin"] {
        assert!(plugin.contains(element) && inspected(element).contains("Factory Details"), "{element}: {plugin}");
    }
    assert!(plugin.contains(prefix.to_str().expect("UTF-8")), "another one was found: {plugin}");
}

#[test]
fn meson_installs_every_pipeline_and_keeps_to_destdir() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    meson_install(folder.path(), &["--prefix=/opt/bridge".as_ref()], Some(&image));
    let launch_files = |folder: PathBuf| -> BTreeSet<String> {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
        names.filter(|name| name.ends_with(".launch")).collect()
    };
    let ours = launch_files(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines"));
    let root = image.join("opt/bridge");
    assert_eq!(launch_files(root.join("share/gst-plugin-webrtcbridge/pipelines")), ours);
    assert!(plugins_of(&root).join("libgstwebrtcbridge.so").exists());
}

/// `meson setup` with these options, then `meson install`; with a cargo that gives the plugin of this build.
fn meson_install(folder: &Path, options: &[&std::ffi::OsStr], image: Option<&Path>) {
    let tools = folder.join("tools");
    fs::create_dir(&tools).expect("a folder");
    let built = plugin_dir().join("libgstwebrtcbridge.so");
    let cargo = format!(
        "#!/bin/sh\nset -e\n[ \"$1 $2 $3 $4 $5\" = 'build --locked --profile dev --lib' ]\n\
         while [ \"$1\" != --target-dir ]; do shift; done\nmkdir -p \"$2/debug\"\ncp '{}' \"$2/debug\"\n",
        built.display()
    );
    let path = tools.join("cargo");
    fs::write(&path, cargo).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    let build = folder.join("build");
    let meson = |arguments: &mut Command| {
        let others = std::env::var("PATH").unwrap_or_default();
        let done = arguments.env("PATH", format!("{}:{others}", tools.display())).env_remove("DESTDIR");
        let done = image.iter().fold(done, |command, image| command.env("DESTDIR", image)).output();
        let done = done.expect("meson runs (Debian packages meson and ninja-build)");
        let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        assert!(done.status.success(), "{}", said.concat());
    };
    let root = env!("CARGO_MANIFEST_DIR");
    meson(Command::new("meson").arg("setup").args(options).arg("-Dprofile=dev").arg(&build).arg(root));
    meson(Command::new("meson").arg("install").arg("-C").arg(&build));
}

/// The one folder called gstreamer-1.0 below: its parents' names are the distribution's choice.
fn plugins_of(prefix: &Path) -> PathBuf {
    let mut folders = vec![prefix.join("lib")];
    while let Some(folder) = folders.pop() {
        if folder.ends_with("gstreamer-1.0") {
            return folder;
        }
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        folders.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()));
    }
    panic!("no folder gstreamer-1.0 in {}", prefix.display());
}

/// What gst-inspect-1.0 says when it knows no plugins but those of this folder.
fn inspect(plugins: &Path, registry: &Path, name: &str) -> String {
    let done = Command::new("gst-inspect-1.0")
        .arg(name)
        .env_remove("GST_PLUGIN_PATH")
        .env("GST_PLUGIN_SYSTEM_PATH", plugins)
        .env("GST_REGISTRY", registry.join("registry.bin"))
        .output()
        .expect("gst-inspect-1.0 runs");
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
