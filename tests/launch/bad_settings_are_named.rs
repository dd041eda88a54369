//! A setting that cannot work ends the pipeline at once, with an error that names what is wrong.

use std::{fs, net::TcpListener};

use crate::common::{SOON, free_port, launch::Launch};

#[test]
fn an_uri_of_an_unknown_scheme() {
    fails_naming(
        "webrtcingest uri=ftp://127.0.0.1:1/whip/live : rtmpbridgesink location=rtmp://127.0.0.1/live/key",
        "ftp",
    );
}

#[test]
fn an_uri_without_a_port_that_can_be_bound() {
    fails_naming(
        "webrtcingest uri=whip://192.0.2.1:8080/whip/live : rtmpbridgesink location=rtmp://127.0.0.1/live/key",
        "192.0.2.1",
    );
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("port");
    let port = taken.local_addr().expect("address").port();
    fails_naming(
        &format!(
            "webrtcingest uri=whip://127.0.0.1:{port}/whip/live : rtmpbridgesink location=rtmp://127.0.0.1/live/key"
        ),
        &port.to_string(),
    );
}

#[test]
fn the_same_path_twice() {
    let port = free_port();
    let pair = format!(
        "webrtcingest uri=whip://127.0.0.1:{port}/whip/live : rtmpbridgesink location=rtmp://127.0.0.1/live/key "
    );
    fails_naming(&format!("{pair}{pair}"), "/whip/live");
}

#[test]
fn a_tls_file_that_is_not_there() {
    let port = free_port();
    fails_naming(
        &format!(
            "webrtcingest uri=whips://127.0.0.1:{port}/whip/live tls-certificate=/nonexistent/cert.pem \
             tls-key=/nonexistent/key.pem : rtmpbridgesink location=rtmp://127.0.0.1/live/key"
        ),
        "/nonexistent/",
    );
}

#[test]
fn a_tls_file_that_holds_something_else() {
    let dir = tempfile::tempdir().expect("folder");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert, "not a certificate").expect("cert.pem");
    fs::write(&key, "not a key").expect("key.pem");
    let port = free_port();
    fails_naming(
        &format!(
            "webrtcingest uri=whips://127.0.0.1:{port}/whip/live tls-certificate={} tls-key={} \
             : rtmpbridgesink location=rtmp://127.0.0.1/live/key",
            cert.display(),
            key.display()
        ),
        "cert.pem",
    );
}

#[test]
fn a_location_that_is_no_rtmp_url() {
    let port = free_port();
    fails_naming(
        &format!(
            "webrtcingest uri=whip://127.0.0.1:{port}/whip/live : rtmpbridgesink location=http://127.0.0.1/live/key"
        ),
        "http",
    );
}

fn fails_naming(description: &str, name: &str) {
    let mut launch = Launch::start(description);
    let status = launch.wait_exit(SOON);
    let output = launch.output();
    assert!(!status.success(), "exit code 0; output:\n{output}");
    assert!(output.contains("ERROR"), "no error in:\n{output}");
    // The description itself is never printed: what is found comes from the error.
    assert!(output.contains(name), "{name:?} is not named in:\n{output}");
}
