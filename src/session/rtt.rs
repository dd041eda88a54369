//! Asks the stack now and then for the round trip time that ICE measures: receivers learn none by RTCP.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use webrtc::peer_connection::{PeerConnection, StatsSelector};

use super::{tap::TapState, time};

/// ICE checks every two seconds.
const INTERVAL: Duration = Duration::from_secs(2);

/// Runs as long as the connection is there.
pub(super) async fn measure(connection: Weak<dyn PeerConnection>, tap: Arc<TapState>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(connection) = connection.upgrade() else { return };
        let report = Box::pin(connection.get_stats(time::now(), StatsSelector::None)).await;
        let pairs = report.candidate_pairs().filter(|pair| pair.responses_received > 0);
        let newest = pairs.max_by_key(|pair| (pair.nominated, pair.responses_received));
        if let Some(pair) = newest {
            tap.record().round_trip = Duration::try_from_secs_f64(pair.current_round_trip_time).ok();
        }
    }
}
