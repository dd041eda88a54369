//! A NAT as homes and clouds have it: two network namespaces, one behind the other, with masquerading between. Made with
//! ip and nft, which needs root; a machine that does not let us is an error, as what is shown here nothing else shows.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

/// The role in which a test runs itself again inside.
const ROLE: &str = "WEBRTCBRIDGE_TEST_INSIDE";

/// A network behind a NAT, and the NAT. Outside is where the test itself is.
pub struct Nat {
    inside: String,
    router: String,
    /// The machine that is behind it.
    pub inside_address: String,
    /// As which it is seen.
    pub outside_address: String,
    /// Where the test is, as seen through it.
    pub test_address: String,
}

impl Nat {
    /// Gives each connection another port for each destination (fully random), and lets these ports of the machine inside
    /// be reached from outside: `udp 5000`, `tcp 8080`.
    pub fn open(forwarded: &[&str]) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, SeqCst);
        let id = format!("{:x}{number}", std::process::id() % 0xFFFF);
        // Each test process has networks of its own.
        let (a, b) = (std::process::id() / 50 % 200, std::process::id() % 50 * 4 + number % 4);
        let (inner, outer) = (format!("10.{a}.{b}"), format!("10.{}.{b}", 205 + a % 50));
        let nat = Self {
            inside: format!("wbi{id}"),
            router: format!("wbr{id}"),
            inside_address: format!("{inner}.2"),
            outside_address: format!("{outer}.2"),
            test_address: format!("{outer}.1"),
        };
        let (inside, router) = (&nat.inside, &nat.router);
        for line in [
            format!("netns add {inside}"),
            format!("netns add {router}"),
            format!("link add in netns {router} type veth peer name eth netns {inside}"),
            format!("link add out netns {router} type veth peer name wbo{id}"),
            format!("-n {inside} addr add {inner}.2/24 dev eth"),
            format!("-n {inside} link set eth up"),
            format!("-n {inside} link set lo up"),
            format!("-n {inside} route add default via {inner}.1"),
            format!("-n {router} addr add {inner}.1/24 dev in"),
            format!("-n {router} addr add {outer}.2/24 dev out"),
            format!("-n {router} link set in up"),
            format!("-n {router} link set lo up"),
            format!("-n {router} link set out up"),
            format!("addr add {outer}.1/24 dev wbo{id}"),
            format!("link set wbo{id} up"),
            format!("-n {router} route add default via {outer}.1"),
        ] {
            run("ip", &line, "");
        }
        run("ip", &format!("netns exec {router} sysctl -qw net.ipv4.ip_forward=1"), "");
        let forwarded = forwarded.iter().map(|port| {
            let (protocol, number) = port.split_once(' ').expect("udp or tcp, and a port");
            format!("iifname \"out\" {protocol} dport {number} dnat to {inner}.2\n")
        });
        let rules = format!(
            "table ip nat {{\nchain post {{\ntype nat hook postrouting priority 100\n\
             oifname \"out\" masquerade fully-random\n}}\n\
             chain pre {{\ntype nat hook prerouting priority -100\n{}}}\n}}\n",
            forwarded.collect::<String>()
        );
        run("ip", &format!("netns exec {router} nft -f -"), &rules);
        nat
    }

    /// Makes the NAT forget, as after a restart of the router: what was one port is another one from now on.
    pub fn forget(&self) {
        run("ip", &format!("-n {} link set out down", self.router), "");
        run("ip", &format!("-n {} link set out up", self.router), "");
        run("ip", &format!("-n {} route add default via {}", self.router, self.test_address), "");
    }

    /// Runs this very test again as another process inside, which finds out by [`role`].
    pub fn run_inside(&self, test: &str, role: &str) -> Inside {
        run_in(&self.inside, test, role)
    }
}

fn run_in(namespace: &str, test: &str, role: &str) -> Inside {
    let program = std::env::current_exe().expect("this program");
    let mut command = root();
    command.args(["ip", "netns", "exec", namespace]).arg(program);
    command.args(["--exact", test, "--nocapture"]).env(ROLE, role).stdin(Stdio::null());
    Inside(command.spawn().expect("the test once more"))
}

impl Drop for Nat {
    fn drop(&mut self) {
        for namespace in [&self.inside, &self.router] {
            let _ = root().args(["ip", "netns", "del", namespace]).status(); // with its interfaces
        }
    }
}

/// A machine that two networks lead to, both from where the test is.
pub struct TwoLinks {
    inside: String,
    outside: [String; 2],
    /// The test's address in each.
    pub test_addresses: [String; 2],
}

impl TwoLinks {
    /// The second one lets no UDP through until [it does](Self::let_udp_through).
    pub fn open() -> Self {
        let id = format!("{:x}", std::process::id() % 0xFFFFF);
        let (a, b) = (std::process::id() / 100 % 250, std::process::id() % 100 * 2);
        let networks = [format!("10.{a}.{b}"), format!("10.{a}.{}", b + 1)];
        let links = Self {
            inside: format!("wbl{id}"),
            outside: [format!("wba{id}"), format!("wbb{id}")],
            test_addresses: networks.each_ref().map(|network| format!("{network}.1")),
        };
        let inside = &links.inside;
        run("ip", &format!("netns add {inside}"), "");
        run("ip", &format!("-n {inside} link set lo up"), "");
        for (number, (network, outside)) in networks.iter().zip(&links.outside).enumerate() {
            for line in [
                format!("link add eth{number} netns {inside} type veth peer name {outside}"),
                format!("-n {inside} addr add {network}.2/24 dev eth{number}"),
                format!("-n {inside} link set eth{number} up"),
                format!("addr add {network}.1/24 dev {outside}"),
                format!("link set {outside} up"),
            ] {
                run("ip", &line, "");
            }
        }
        let rules = "table ip silent {\nchain out {\ntype filter hook output priority 0\n\
                     oifname \"eth1\" meta l4proto udp drop\n}\n}\n";
        run("ip", &format!("netns exec {inside} nft -f -"), rules);
        links
    }

    /// The second network is as good as the first.
    pub fn let_udp_through(&self) {
        run("ip", &format!("netns exec {} nft delete table ip silent", self.inside), "");
    }

    /// The first network is gone, for both ends.
    pub fn first_goes_down(&self) {
        run("ip", &format!("link set {} down", self.outside[0]), "");
    }

    /// As [`Nat::run_inside`].
    pub fn run_inside(&self, test: &str, role: &str) -> Inside {
        run_in(&self.inside, test, role)
    }
}

impl Drop for TwoLinks {
    fn drop(&mut self) {
        let _ = root().args(["ip", "netns", "del", &self.inside]).status(); // with its interfaces
    }
}

/// What this process is to be inside of a [`Nat`]; `None` for the test itself.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// This very test again as another process, which finds out by [`role`].
pub fn again(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).env(ROLE, role).stdin(Stdio::null());
    command
}

/// The same in a network of its own, where there is but a loopback interface, which is down.
pub fn again_alone(test: &str, role: &str) -> Command {
    let mut command = root();
    command.args(["unshare", "--net"]).arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).env(ROLE, role).stdin(Stdio::null());
    command
}

/// Runs a command as root, which makes networks.
pub fn as_root(line: &str) {
    let (program, arguments) = line.split_once(' ').expect("a program and its arguments");
    run(program, arguments, "");
}

/// A process inside; it ends with this.
pub struct Inside(Child);

impl Inside {
    /// Whether it still does what it shall.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn root() -> Command {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"));
    match is_root {
        true => Command::new("env"),
        false => {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "-E", "env"]);
            sudo
        }
    }
}

fn run(program: &str, arguments: &str, input: &str) {
    let mut command = root();
    command.arg(program).args(arguments.split(' ')).stdin(Stdio::piped());
    let why = "network namespaces need root, or sudo without a password, and the packages iproute2 and nftables";
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; {why}"));
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("its input");
    let status = child.wait().expect("its end");
    assert!(status.success(), "{program} {arguments}: {status}; {why}");
}
