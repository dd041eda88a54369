//! A small RTMP server for trying the plugin out: it takes any publisher and plays the stream back over HTTP-FLV, which
//! the plugin's page can show. Not a media server: loopback, no recording, no transcoding, no RTMP playback.
//!
//! ```text
//!   publisher ──RTMP──▶ rtmp ──▶ store (metadata, sequence headers, last GOP) ──▶ http ──HTTP-FLV──▶ player
//!                                          flv: what is in a tag, and how it is written
//! ```

mod flv;
mod http;
mod rtmp;
mod store;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::store::Store;

/// Takes RTMP publishers and plays them back over HTTP-FLV.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where to take publishers; port 0 picks a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1935")]
    rtmp: SocketAddr,
    /// Where to serve /{app}/{key}.flv and /healthz; port 0 picks a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    http: SocketAddr,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "rtmp-receiver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let served = runtime.block_on(serve(options));
    // Connections end with the process; nothing of theirs is worth waiting for.
    runtime.shutdown_background();
    served
}

async fn serve(options: Options) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let rtmp = bind("--rtmp", options.rtmp).await?;
    let http = bind("--http", options.http).await?;
    report(&format!("rtmp://{}/ http://{}/", rtmp.local_addr()?, http.local_addr()?));

    let store = Arc::new(Store::default());
    tokio::select! {
        ended = rtmp::serve(rtmp, store.clone()) => ended,
        ended = http::serve(http, store) => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn bind(option: &str, address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| io::Error::new(e.kind(), format!("{option} {address}: {e}")))
}

/// One line for whoever started us, at once even into a pipe. A reader that has gone is no reason to stop.
fn report(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "rtmp-receiver: {line}").and_then(|()| out.flush());
}
