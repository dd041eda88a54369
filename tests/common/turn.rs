//! A TURN server: Debian's coturn on loopback, with ports and a folder of its own.

use std::{
    fs::File,
    net::{TcpListener, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{SOON, wait_until};

pub const USER: &str = "someone";
pub const PASSWORD: &str = "s3cr3t-of-turn";

/// A running coturn; it ends with this.
pub struct Turn {
    child: Child,
    address: String,
    pub port: u16,
    pub tls_port: u16,
    folder: tempfile::TempDir,
}

impl Turn {
    /// Serves STUN and TURN over UDP and TCP, and TURN over TLS with a certificate of its own for its address.
    pub fn start() -> Self {
        Self::listening(&own_address(), &[])
    }

    /// The same at this address of this machine, with these further arguments.
    pub fn listening(address: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let certified = rcgen::generate_simple_self_signed([address.to_owned()]).expect("a certificate");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cert.pem"), certified.cert.pem()).expect("a file");
        std::fs::write(path("key.pem"), certified.signing_key.serialize_pem()).expect("a file");
        let (port, tls_port) = (free_port(address), free_port(address));
        let log = File::create(path("log")).expect("a log");
        let user = format!("--user={USER}:{PASSWORD}");
        let child = Command::new("turnserver")
            .args(["-n", "--no-cli", "--lt-cred-mech", "--realm=test", "--allow-loopback-peers", "--log-file=stdout"])
            .args(["--simple-log", "--verbose", "--no-dtls", "--relay-threads=1", &user])
            .arg(format!("--listening-ip={address}"))
            .arg(format!("--relay-ip={address}"))
            .arg(format!("--listening-port={port}"))
            .arg(format!("--tls-listening-port={tls_port}"))
            .arg(format!("--cert={}", path("cert.pem").display()))
            .arg(format!("--pkey={}", path("key.pem").display()))
            .arg(format!("--pidfile={}", path("pid").display()))
            .arg(format!("--userdb={}", path("db").display()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("turnserver runs (Debian package coturn)");
        let turn = Self { child, address: address.to_owned(), port, tls_port, folder };
        wait_until("coturn listens", SOON, || {
            let connects = |port| std::net::TcpStream::connect((address, port)).is_ok();
            (connects(port) && connects(tls_port)).then_some(())
        });
        turn
    }

    /// As `turn-servers` takes it; `transport` is udp, tcp or tls.
    pub fn url(&self, transport: &str) -> String {
        self.url_for(USER, PASSWORD, transport)
    }

    pub fn url_for(&self, user: &str, password: &str, transport: &str) -> String {
        match transport {
            "tls" => format!("turns://{user}:{password}@{}:{}?transport=tcp", self.address, self.tls_port),
            transport => format!("turn://{user}:{password}@{}:{}?transport={transport}", self.address, self.port),
        }
    }

    /// The file of the certificate that it shows.
    pub fn certificate(&self) -> std::path::PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// As a browser takes it.
    pub fn uri(&self, transport: &str) -> String {
        format!("turn:{}:{}?transport={transport}", self.address, self.port)
    }

    pub fn stun_url(&self) -> String {
        format!("stun://{}:{}", self.address, self.port)
    }

    /// Ends it before its time.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let path: &Path = &self.folder.path().join("log");
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of this machine that is not loopback: libnice never sends there.
pub fn own_address() -> String {
    let mut addresses = gstwebrtcbridge::session::local_addresses().into_iter();
    addresses.find(|address| address.is_ipv4() && !address.is_loopback()).expect("an IPv4 address").to_string()
}

/// A port that is free for UDP and TCP.
fn free_port(address: &str) -> u16 {
    for _ in 0..100 {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        if UdpSocket::bind((address, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free for both");
}
