//! What destinations report, on threads that may wait: an application's handlers run there, and one that takes its time must
//! hold up neither its own destination's media nor any other destination.

use std::{
    cell::Cell,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::mpsc};

use super::destination::Reports;

/// Reports that nobody has heard yet. A destination whose reports are not heard waits with its next change.
const MOST_UNHEARD: usize = 64;

/// How long the end waits for a report that is being made, should its handler never return.
const LAST_WORD: Duration = Duration::from_secs(2);

type Report = Box<dyn FnOnce(&dyn Reports) + Send>;

/// Where a destination's task leaves its reports, in their order.
pub(super) struct News(mpsc::Sender<Report>);

/// The other end: with its owner's end no more reports are made.
pub(super) struct Reporter {
    id: usize,
    silenced: Arc<AtomicBool>,
    /// Never holds anything: it is disconnected when all has been said.
    done: Mutex<blocking::Receiver<Infallible>>,
}

thread_local! {
    /// The reporter whose report this thread is making.
    static REPORTING: Cell<usize> = const { Cell::new(0) };
}

/// Begins to report.
pub(super) fn start(handle: &Handle, reports: Arc<dyn Reports>) -> (News, Reporter) {
    let (news, mut unheard) = mpsc::channel::<Report>(MOST_UNHEARD);
    let (done, is_done) = blocking::channel();
    let silenced = Arc::new(AtomicBool::new(false));
    let id = Arc::as_ptr(&silenced) as usize; // no other has it as long as anybody can ask
    handle.spawn({
        let silenced = silenced.clone();
        async move {
            let _done = done;
            while let Some(report) = unheard.recv().await {
                let (reports, silenced) = (reports.clone(), silenced.clone());
                let told = tokio::task::spawn_blocking(move || {
                    REPORTING.set(id);
                    if !silenced.load(Ordering::SeqCst) {
                        report(&*reports);
                    }
                    REPORTING.set(0);
                });
                let _ = told.await; // a handler that panics is not for us to handle
            }
        }
    });
    (News(news), Reporter { id, silenced, done: Mutex::new(is_done) })
}

impl News {
    /// Leaves a report.
    pub(super) async fn tell(&self, report: impl FnOnce(&dyn Reports) + Send + 'static) {
        let _ = self.0.send(Box::new(report)).await; // nobody is left to hear it
    }
}

impl Reporter {
    /// No report is made from now on; one that is being made goes on.
    pub(super) fn silence(&self) {
        self.silenced.store(true, Ordering::SeqCst);
    }

    /// Whether the task has ended and all has been said.
    pub(super) fn is_done(&self) -> bool {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(done.try_recv(), Err(blocking::TryRecvError::Disconnected))
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.silence();
        // An application may stop its pipeline from a handler that a report of this one runs: it cannot wait for itself.
        if REPORTING.get() != self.id {
            let _ = self.done.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(LAST_WORD);
        }
    }
}
