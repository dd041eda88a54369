//! `pipelines/run`: values are filled in as data, secrets stay secret, and signals end the stream cleanly.
//!
//! What runs a pipeline does so from a copy of pipelines/ with a .launch of its own and a cargo that builds nothing.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use crate::common::{
    SOON, free_port,
    nginx::Nginx,
    publisher::{Options, Publisher},
    recording::Recording,
    signal, wait_exit,
};

#[test]
fn defaults_are_filled_in_and_empty_properties_left_out() {
    let line = dry_run(&["whip-to-rtmp", "RTMP_URL=rtmp://h/a/k"]);
    assert!(line.starts_with("gst-launch-1.0 -e webrtcingest uri=whip://127.0.0.1:8080/whip/live "), "{line}");
    assert!(line.contains(" : rtmpbridgesink location="), "{line}");
    assert!(!line.contains("auth-token=") && !line.contains("tls-key="), "{line}");
}

#[test]
fn values_are_data() {
    for value in ["a*b", "[x]?", "#x", "$(id)", "${LISTEN}", "a;b|c&d", "~", "a=b", "{a,b}", "!x", "%41"] {
        let line = dry_run(&["whip-to-rtmp", &format!("LISTEN={value}")]);
        assert!(line.contains(&format!("uri=whip://{value}/whip/live")), "{value}: {line}");
    }
}

#[test]
fn secrets_are_masked() {
    let secret = "rtmp://h/live/hush?a=1";
    let line = dry_run(&["whip-to-rtmp", &format!("RTMP_URL={secret}"), "AUTH_TOKEN=hush"]);
    assert!(!line.contains("hush"), "{line}");
    assert!(line.contains("location=<RTMP_URL>") && line.contains("auth-token=<AUTH_TOKEN>"), "{line}");
}

#[test]
fn what_a_peer_is_reached_by_has_keys_and_turn_servers_are_secret() {
    for name in
        ["whip-to-rtmp", "whep-to-rtmp", "multi-destination", "bridge-server", "broadcast", "echo", "testsrc-to-whep"]
    {
        let line = dry_run(&[&[name][..], needed(name)].concat());
        for property in ["turn-servers=", "stun-server=", "ice-tcp=", "ice-transport-policy="] {
            assert!(!line.contains(property), "{name}: {line}");
        }
        let keys = ["STUN_SERVER=stun://s:1", "TURN_SERVERS=turn://me:hush@h:1?transport=udp", "ICE_TCP=true"];
        let line = dry_run(&[&[name][..], &keys, &["ICE_TRANSPORT_POLICY=all"], needed(name)].concat());
        assert!(line.contains(" turn-servers=<(string)\"<TURN_SERVERS>\"> ") && !line.contains("hush"), "{line}");
        assert!(line.contains(" stun-server=stun://s:1 ") && line.contains(" ice-tcp=true"), "{line}");
        assert!(line.contains(" ice-transport-policy=all "), "{line}");
    }
}

/// The keys without which a pipeline is not run.
fn needed(name: &str) -> &'static [&'static str] {
    if name == "whep-to-rtmp" { &["WHEP_URL=whep://h/whep/x"] } else { &[] }
}

#[test]
fn several_destinations_are_one_value_in_quotes() {
    let line = dry_run(&["multi-destination", "RTMP_URL=rtmp://h/live/hush", "RTMP_URL_2=rtmp://g/live/hush"]);
    assert!(line.contains("location=\"<RTMP_URL> <RTMP_URL_2>") && !line.contains("hush"), "{line}");
}

#[test]
fn a_value_comes_from_a_file_or_from_the_environment() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("listen");
    fs::write(&file, "[::]:1234\n").expect("file");
    // From a file it is taken for a secret.
    let line = dry_run(&["whip-to-rtmp", &format!("LISTEN=@{}", file.display())]);
    assert!(line.contains("uri=whip://<LISTEN>/whip/live"), "{line}");

    let output = script().env("LISTEN", "[::]:77").args(["--dry-run", "whip-to-rtmp"]).output().expect("run");
    assert!(text(&output).contains("uri=whip://[::]:77/whip/live"), "{}", text(&output));
    let output =
        script().env("LISTEN", "[::]:77").args(["--dry-run", "whip-to-rtmp", "LISTEN=a:1"]).output().expect("run");
    assert!(text(&output).contains("uri=whip://a:1/whip/live"), "an argument goes before the environment");
}

#[test]
fn values_that_a_launch_line_cannot_carry_are_refused_by_name() {
    for value in ["hush hush", "hush\thush", "hush\nhush", "hush\"", "'hush'", "hush\\"] {
        let output = refused(&["whip-to-rtmp", &format!("RTMP_URL={value}")]);
        assert!(output.contains("RTMP_URL"), "{output}");
        assert!(!output.contains("hush"), "the value is not shown: {output}");
    }
}

#[test]
fn mistakes_are_answered_with_what_there_is() {
    let unknown_key = refused(&["whip-to-rtmp", "LISTNE=x"]);
    assert!(unknown_key.contains("LISTNE") && unknown_key.contains("LISTEN"), "{unknown_key}");
    let unknown_name = refused(&["whip-to-rtsp"]);
    assert!(unknown_name.contains("whip-to-rtsp") && unknown_name.contains("whip-to-rtmp:"), "{unknown_name}");
    assert!(refused(&["whip-to-rtmp", "LISTEN"]).contains("KEY=VALUE"));
    assert!(refused(&["whip-to-rtmp", "LISTEN=@/nonexistent/file"]).contains("/nonexistent/file"));
    assert!(refused(&["../pipelines/whip-to-rtmp"]).contains("there is no pipeline"));
    assert!(refused(&["--nonsense"]).contains("--nonsense"));
    assert!(refused(&[]).contains("usage:"));
}

#[test]
fn the_list_explains_every_pipeline() {
    let output = script().arg("--list").output().expect("run");
    let list = text(&output);
    for entry in fs::read_dir(pipelines()).expect("pipelines").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "launch") {
            let name = path.file_stem().expect("name").to_string_lossy().into_owned();
            let row = list.lines().find_map(|l| l.strip_prefix(&format!("{name}: "))).unwrap_or_default();
            assert!(row.len() > 20, "{name} has no row in pipelines/README.md:\n{list}");
            let plain = fs::read_to_string(&path).expect("description");
            assert!(!plain.contains(['*', '[', '#', '\\']), "{name}: $(cat) would not take it");
        }
    }
    let help = script().arg("--help").output().expect("run");
    assert!(help.status.success() && text(&help).contains("KEY=@FILE"));
}

#[test]
fn interrupt_term_and_hangup_end_the_stream_with_its_exit_code() {
    for name in ["INT", "TERM", "HUP"] {
        let stand = Stand::new(
            "videotestsrc is-live=true\n! progressreport name=playing update-freq=1\n! fakesink name=${NAME:-x}\n",
        );
        let mut run = stand.start();
        // Only now: EOS sent to videotestsrc while the pipeline is on its way to PLAYING is lost at times (GStreamer 1.22).
        let seen = wait_for_line(&mut run.0, "playing (");
        signal(&run.0, name);
        let status = wait_exit("pipelines/run", &mut run.0, Duration::from_secs(3));
        assert!(status.success(), "{name}: {status}; {seen}");
    }
}

#[test]
fn a_second_interrupt_kills_what_does_not_end() {
    let stand = Stand::new("fakesrc ! fakesink");
    stand.program("gst-launch-1.0", "trap 'echo interrupted' INT; echo playing; while :; do sleep 0.2; done");
    let mut run = stand.start();
    let mut lines = BufReader::new(run.0.stdout.take().expect("stdout")).lines();
    assert!(lines.any(|l| l.is_ok_and(|l| l == "playing")));
    signal(&run.0, "INT");
    assert!(lines.any(|l| l.is_ok_and(|l| l == "interrupted")));
    signal(&run.0, "INT");
    let status = wait_exit("pipelines/run", &mut run.0, SOON);
    assert_eq!(status.code(), Some(128 + 9), "{status}");
}

#[test]
fn without_rtmp_url_an_embedded_server_is_started_and_the_page_knows_its_playback() {
    let port = crate::common::free_port();
    // What listens here only has to listen; the names of the sinks carry what a WHIP element's properties would.
    let stand = Stand::new(&format!(
        "tcpserversrc host=127.0.0.1 port={port} ! fakesink name=uri=whip://127.0.0.1:{port}/whip/live\n\
         fakesrc ! fakesink name=${{RTMP_URL}}"
    ));
    let ended = stand.dir.path().join("ended");
    stand.receiver(&format!(
        "trap 'echo > {}; exit' TERM\necho 'rtmp-receiver: rtmp://127.0.0.1:1/ http://127.0.0.1:2/'\n\
         while :; do sleep 0.1; done",
        ended.display()
    ));
    let mut run = stand.start();
    let wanted = format!("http://127.0.0.1:{port}/?playback=http://127.0.0.1:2/live/key.flv");
    let mut lines = BufReader::new(run.0.stderr.take().expect("stderr")).lines().map_while(Result::ok);
    assert!(lines.any(|l| l.contains(&wanted)), "no line with {wanted}");
    assert!(crate::common::accepts(port), "printed only when somebody listens");
    signal(&run.0, "INT");
    signal_until_gone(&mut run);
    crate::common::wait_until("the embedded server's end", SOON, || ended.exists().then_some(()));
}

#[test]
fn the_test_picture_reaches_a_server() {
    let nginx = Nginx::start();
    let stand = Stand::of("testsrc-to-rtmp");
    let mut run =
        stand.start_with(&[format!("RTMP_URL={}", nginx.url("key")), "WIDTH=320".into(), "HEIGHT=180".into()]);
    let path = nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    end(&mut run);
    let recording = Recording::probe(&path);
    recording.assert_good();
    assert_eq!(recording.size(), (320, 180));
}

#[test]
fn players_of_the_test_picture_find_it_where_the_script_says() {
    use crate::common::viewer::{Viewer, Wants};
    let port = free_port();
    let stand = Stand::of("testsrc-to-whep");
    let mut run = stand.start_with(&[format!("LISTEN=127.0.0.1:{port}"), "WIDTH=320".into(), "HEIGHT=180".into()]);
    let url = format!("http://127.0.0.1:{port}/whep/live");
    let mut lines = BufReader::new(run.0.stderr.take().expect("stderr")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(&format!("{url} by WHEP"))), "no line with the address");
    assert!(crate::common::accepts(port), "printed only when somebody listens");
    let viewer = Viewer::new(Wants::default());
    let (resource, answer) = crate::common::wait_until("what there is to send", SOON, || {
        crate::common::whip::post(&url, None, viewer.offer()).ok()
    });
    viewer.answered(&answer);
    crate::common::wait_until("pictures", SOON, || (viewer.count(102) > 10).then_some(()));
    resource.delete();
    end(&mut run);
}

#[test]
fn what_a_publisher_sends_reaches_several_servers() {
    let (first, second) = (Nginx::start(), Nginx::start());
    let port = free_port();
    let stand = Stand::of("multi-destination");
    let mut run = stand.start_with(&[
        format!("LISTEN=127.0.0.1:{port}"),
        format!("RTMP_URL={}", first.url("one")),
        format!("RTMP_URL_3={}", second.url("three")),
    ]);
    crate::common::wait_until("the pipeline to listen", SOON, || crate::common::accepts(port).then_some(()));
    let publisher = Publisher::start(&format!("http://127.0.0.1:{port}/whip/live"));
    let recordings = [(&first, "one"), (&second, "three")]
        .map(|(nginx, key)| nginx.wait_recorded(key, SOON, |flv| flv.has_seconds(2, 2)));
    publisher.delete();
    end(&mut run);
    recordings.iter().for_each(|path| Recording::probe(path).assert_good());
}

#[test]
fn a_bridge_server_pushes_each_publisher_under_its_own_name() {
    let nginx = Nginx::start();
    let port = free_port();
    let stand = Stand::of("bridge-server");
    let url = nginx.url("");
    let mut run = stand.start_with(&[
        format!("LISTEN=127.0.0.1:{port}"),
        format!("RTMP_URL={}", url.trim_end_matches('/')),
        "AUTH_TOKEN=s3cret".into(),
    ]);
    crate::common::wait_until("the pipeline to listen", SOON, || crate::common::accepts(port).then_some(()));
    let publish = |channel: &str| {
        let options = Options { token: Some("s3cret".into()), ..Options::default() };
        Publisher::start_with(&format!("http://127.0.0.1:{port}/whip/{channel}"), options)
    };
    let publishers = ["red", "blue"].map(publish);
    let recordings = ["red", "blue"].map(|name| nginx.wait_recorded(name, SOON, |flv| flv.has_seconds(2, 2)));
    publishers.into_iter().for_each(Publisher::delete);
    end(&mut run);
    recordings.iter().for_each(|path| Recording::probe(path).assert_good());
}

#[test]
fn an_echo_answers_an_offer_of_both_directions_with_both() {
    use crate::common::viewer::{Viewer, Wants};
    let port = free_port();
    let stand = Stand::of("echo");
    let mut run = stand.start_with(&[format!("LISTEN=127.0.0.1:{port}")]);
    crate::common::wait_until("the pipeline to listen", SOON, || crate::common::accepts(port).then_some(()));
    let offer = Viewer::new(Wants::default()).offer().replace("a=recvonly", "a=sendrecv");
    let body = serde_json::json!({"type": "offer", "sdp": offer}).to_string();
    let url = format!("http://127.0.0.1:{port}/offer");
    let mut response =
        crate::common::http().post(&url).header("Content-Type", "application/json").send(body).expect("POST");
    let answer = response.body_mut().read_to_string().expect("a body");
    assert_eq!(answer.matches("a=sendrecv").count(), 2, "{answer}");
    end(&mut run);
}

#[test]
fn the_page_of_a_bridge_server_knows_each_channels_playback() {
    let port = crate::common::free_port();
    let stand = Stand::new(&format!(
        "webrtcbridgebin listen=127.0.0.1:{port}\nsession=\"webrtcingest : rtmpbridgesink location=${{RTMP_URL}}/{{channel}}\""
    ));
    stand.receiver("echo 'rtmp-receiver: rtmp://127.0.0.1:1/ http://127.0.0.1:2/'\nexec sleep 60");
    let plugin = "libgstwebrtcbridge.so";
    symlink(crate::common::plugin_dir().join(plugin), stand.dir.path().join("target/release").join(plugin))
        .expect("link");
    stand.know_the_plugin();
    let mut run = stand.start();
    let wanted = format!("http://127.0.0.1:{port}/?playback=http://127.0.0.1:2/live/{{channel}}.flv");
    let mut lines = BufReader::new(run.0.stderr.take().expect("stderr")).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    assert!(
        lines.by_ref().inspect(|l| seen.push(l.clone())).any(|l| l.contains(&wanted)),
        "no line with {wanted}: {seen:#?}"
    );
    end(&mut run);
}

#[test]
fn the_exit_code_of_a_failing_pipeline_is_kept() {
    let stand = Stand::new("filesrc location=/nonexistent\n! fakesink\n");
    let mut run = stand.start();
    let status = wait_exit("pipelines/run", &mut run.0, SOON);
    assert!(!status.success());
}

#[test]
fn env_finds_the_plugin_from_anywhere_and_says_what_to_build_otherwise() {
    let target = tempfile::tempdir().expect("folder");
    let source = |shell: &str| {
        // A plain sh is not told where a sourced file is: it looks upwards from where it stands.
        let script = format!(". {}/env && printf %s \"$GST_PLUGIN_PATH\"", pipelines().display());
        Command::new(shell)
            .args(["-c", &script])
            .current_dir(if shell == "sh" { env!("CARGO_MANIFEST_DIR") } else { "/" })
            .env("CARGO_TARGET_DIR", target.path())
            .env("GST_PLUGIN_PATH", "/elsewhere")
            .output()
            .expect(shell)
    };
    for shell in ["bash", "sh"] {
        let output = source(shell);
        assert!(!output.status.success() && text(&output).contains("cargo build --release"), "{}", text(&output));
    }
    fs::create_dir(target.path().join("release")).expect("folder");
    fs::write(target.path().join("release/libgstwebrtcbridge.so"), "").expect("file");
    for shell in ["bash", "sh"] {
        assert_eq!(text(&source(shell)), format!("{}/release:/elsewhere", target.path().display()), "{shell}");
    }
}

/// A copy of pipelines/ with a description of its own, where building does nothing.
struct Stand {
    dir: tempfile::TempDir,
}

impl Stand {
    fn new(description: &str) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let copy = dir.path().join("pipelines");
        fs::create_dir(&copy).expect("folder");
        for name in ["run", "setup.sh", "README.md"] {
            fs::copy(pipelines().join(name), copy.join(name)).expect("copy");
        }
        fs::write(copy.join("stand-in.launch"), description).expect("description");
        fs::create_dir(dir.path().join("bin")).expect("folder");
        // The system's plugins are known already: no scan in each test.
        let registry = crate::common::target_tmp().join("run-registry");
        fs::create_dir_all(&registry).expect("folder");
        fs::create_dir(dir.path().join("target")).expect("folder");
        symlink(registry, dir.path().join("target/gst-registry")).expect("link");
        let stand = Self { dir };
        stand.program("cargo", "exit 0");
        stand
    }

    /// One of ours, as it is, with the plugin of this build.
    fn of(name: &str) -> Self {
        let description = fs::read_to_string(pipelines().join(format!("{name}.launch"))).expect("description");
        let stand = Self::new(&description);
        let target = stand.dir.path().join("target");
        symlink(crate::common::plugin_dir(), target.join("release")).expect("link");
        stand.know_the_plugin();
        stand
    }

    /// Not the registry of those that have no plugin: they would make it forget ours.
    fn know_the_plugin(&self) {
        let target = self.dir.path().join("target");
        let registry = crate::common::target_tmp().join("run-registry-with-plugin");
        fs::create_dir_all(&registry).expect("folder");
        fs::remove_file(target.join("gst-registry")).expect("link");
        symlink(registry, target.join("gst-registry")).expect("link");
    }

    /// Puts a shell script in the place of a program.
    fn program(&self, name: &str, script: &str) {
        let path = self.dir.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// The embedded RTMP server's stand-in, where the build would have put it.
    fn receiver(&self, script: &str) {
        let release = self.dir.path().join("target/release");
        fs::create_dir(&release).expect("folder");
        let path = release.join("rtmp-receiver");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("receiver");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn start(&self) -> Running {
        self.start_with(&[])
    }

    fn start_with(&self, values: &[String]) -> Running {
        let path = format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").expect("PATH"));
        let child = Command::new(self.dir.path().join("pipelines/run"))
            .arg("stand-in")
            .args(values)
            .env("PATH", path)
            .env_remove("RTMP_URL")
            .env("CARGO_TARGET_DIR", self.dir.path().join("target"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run");
        Running(child)
    }
}

/// A script that does not outlive its test; what it started ends with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ctrl-C, and the clean end that it leads to.
fn end(run: &mut Running) {
    signal(&run.0, "INT");
    let status = wait_exit("pipelines/run", &mut run.0, SOON);
    assert!(status.success(), "{status}");
}

/// Interrupts again until the script has ended.
fn signal_until_gone(run: &mut Running) {
    crate::common::wait_until("pipelines/run to end", SOON, || {
        let ended = run.0.try_wait().expect("wait");
        if ended.is_none() {
            signal(&run.0, "INT");
        }
        ended
    });
}

fn wait_for_line(run: &mut Child, wanted: &str) -> String {
    let mut seen = String::new();
    for line in BufReader::new(run.stdout.as_mut().expect("stdout")).lines().map_while(Result::ok) {
        seen.push_str(&line);
        seen.push('\n');
        if line.contains(wanted) {
            return seen;
        }
    }
    panic!("no {wanted:?} in:\n{seen}");
}

fn pipelines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

fn script() -> Command {
    let mut command = Command::new(pipelines().join("run"));
    // What the developer's shell happens to hold is no value of a key here.
    for key in [
        "RTMP_URL",
        "RTMP_URL_2",
        "RTMP_URL_3",
        "RTMP_URL_4",
        "LISTEN",
        "SCHEME",
        "AUTH_TOKEN",
        "STUN_SERVER",
        "TLS_CERTIFICATE",
        "TLS_KEY",
    ] {
        command.env_remove(key);
    }
    command.current_dir("/");
    command
}

fn dry_run(arguments: &[&str]) -> String {
    let output = script().arg("--dry-run").args(arguments).output().expect("run");
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn refused(arguments: &[&str]) -> String {
    let output = script().args(arguments).output().expect("run");
    assert!(!output.status.success(), "{}", text(&output));
    text(&output)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
