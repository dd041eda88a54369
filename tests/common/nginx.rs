//! nginx with its RTMP module as the server at the far end. Records every publisher; its log tells what it was sent.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{flv::FlvFile, free_port, signal, wait_listening, wait_until};

/// A running nginx; killed when dropped.
pub struct Nginx {
    dir: tempfile::TempDir,
    port: u16,
    starts: usize,
    child: Option<Child>,
    directives: String,
}

impl Nginx {
    /// Starts one on a port of its own.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with more directives for its application.
    pub fn start_with(directives: &str) -> Self {
        let mut nginx = Self::stopped();
        nginx.directives = directives.to_owned();
        nginx.restart();
        nginx
    }

    /// A port and URL of a server that does not run (yet).
    pub fn stopped() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        Self { dir, port: free_port(), starts: 0, child: None, directives: String::new() }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it from doing anything, with its connections open, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        signal(self.child.as_ref().expect("a running nginx"), if frozen { "STOP" } else { "CONT" });
    }

    /// Where to push to.
    pub fn url(&self, key: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{key}", self.port)
    }

    /// Kills it as a crash would: connections are reset, nobody is told.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill nginx");
            child.wait().expect("wait for nginx");
        }
    }

    /// Starts it (again) on the same port, with an empty folder for recordings and an empty log.
    pub fn restart(&mut self) {
        self.stop();
        self.starts += 1;
        let dir = self.run_dir();
        fs::create_dir_all(dir.join("recordings")).expect("folder for recordings");
        let conf = dir.join("nginx.conf");
        fs::write(&conf, self.conf()).expect("nginx.conf");
        let errors = fs::File::create(dir.join("stderr")).expect("stderr");
        let mut child = Command::new("nginx")
            .arg("-p")
            .arg(&dir)
            .arg("-c")
            .arg(&conf)
            .args(["-e", "startup.log"])
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("nginx starts");
        wait_listening("nginx", &mut child, self.port);
        self.child = Some(child);
    }

    /// What nginx logged since it was started last.
    pub fn log(&self) -> String {
        fs::read(self.run_dir().join("error.log")).map(|l| String::from_utf8_lossy(&l).into_owned()).unwrap_or_default()
    }

    /// Waits for a line of the log that holds `text`.
    pub fn wait_for_log(&self, text: &str, deadline: Duration) -> String {
        wait_until(&format!("{text:?} in nginx's log"), deadline, || {
            self.log().lines().find(|l| l.contains(text)).map(str::to_owned)
        })
    }

    /// How often publishing to `key` began since it was started last.
    pub fn publishes(&self, key: &str) -> usize {
        let wanted = format!("publish: name='{key}'");
        self.log().lines().filter(|l| l.contains(&wanted) && !l.contains("live: ")).count()
    }

    /// Whether a publisher said goodbye (FCUnpublish) since it was started last.
    pub fn saw_goodbye(&self) -> bool {
        self.log().contains("FCUnpublish")
    }

    /// The recordings of a key since it was started last, oldest first.
    pub fn recordings(&self, key: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.run_dir().join("recordings"))
            .expect("folder of recordings")
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{key}-"))))
            .collect();
        files.sort();
        files
    }

    /// The recordings of every key since it was started first, oldest first.
    pub fn all_recordings(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for run in 1..=self.starts {
            let folder = self.dir.path().join(format!("run{run}")).join("recordings");
            let mut of_run: Vec<PathBuf> =
                fs::read_dir(folder).expect("folder of recordings").filter_map(|e| Some(e.ok()?.path())).collect();
            // Names hold the key and the second: neither tells the order.
            of_run.sort_by_key(|p| fs::metadata(p).and_then(|meta| meta.created()).expect("time of creation"));
            files.extend(of_run);
        }
        files
    }

    /// The newest recording of a key, once it holds what `enough` asks for.
    pub fn wait_recorded(&self, key: &str, deadline: Duration, enough: impl Fn(&FlvFile) -> bool) -> PathBuf {
        let mut had = String::from("no file");
        let end = std::time::Instant::now() + deadline;
        while std::time::Instant::now() < end {
            if let Some(path) = self.recordings(key).pop() {
                let flv = FlvFile::read(&path);
                if enough(&flv) {
                    return path;
                }
                had = flv.summary();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("recording of {key:?} not as wanted within {deadline:?}: {had}");
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join(format!("run{}", self.starts))
    }

    fn conf(&self) -> String {
        let (port, directives) = (self.port, &self.directives);
        let module = module().display().to_string();
        // One process in the foreground: killing it is all there is to clean up. Level "debug" logs every AMF command.
        format!(
            "load_module {module};
daemon off;
master_process off;
pid nginx.pid;
error_log error.log debug;
events {{ worker_connections 64; }}
rtmp {{
  access_log off;
  server {{
    listen 127.0.0.1:{port};
    chunk_size 4096;
    application live {{
      live on;
      record all;
      record_path recordings;
      record_unique on;
      record_append off;
      {directives}
    }}
  }}
}}
"
        )
        .replace("record_path recordings", &format!("record_path {}", self.run_dir().join("recordings").display()))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

fn module() -> &'static Path {
    ["/usr/lib/nginx/modules/ngx_rtmp_module.so", "/usr/lib64/nginx/modules/ngx_rtmp_module.so"]
        .iter()
        .map(Path::new)
        .find(|p| p.exists())
        .expect("nginx's RTMP module (libnginx-mod-rtmp)")
}
