//! What a session's handle asks of its watcher, and how it hears the answer.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{EndReason, IceChange, IceError, LocalIce, RemoteIce, reach::Reach};

/// Commands that wait for the watcher; who has more to say waits.
const WAITING: usize = 4;

/// What the session's handle asks of the watcher.
pub(super) enum Command {
    /// End it; the sender is dropped when that is done.
    Close(EndReason, oneshot::Sender<()>),
    /// The peer tells more of its ICE.
    Ice(RemoteIce, oneshot::Sender<Result<IceChange, IceError>>),
    /// A restart is to be offered to the peer.
    OfferRestart(oneshot::Sender<Result<LocalIce, IceError>>),
    /// Candidates are asked for that the peer does not know.
    NewCandidates(oneshot::Sender<Option<LocalIce>>),
    /// It knows them now.
    CandidatesTold,
    /// There are further ways to the peer, and for it to us.
    Reach(Arc<Reach>),
}

/// The handle's end; the watcher has the other one.
pub(super) struct Commands(mpsc::Sender<Command>);

impl Commands {
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, commands_out) = mpsc::channel(WAITING);
        (Self(commands), commands_out)
    }

    /// Asks for something and waits for the answer; `None` if the session is over, or ends before it has answered.
    pub(super) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.0.send(command(answer)).await.ok()?;
        // What is sent just as the receiver goes can stay in the queue, unread, for as long as there is a sender: whoever
        // waits for its answer alone, with that sender in his hands, waits for ever.
        tokio::select! {
            biased;
            answered = answered => answered.ok(),
            () = self.0.closed() => None,
        }
    }

    /// Says something that has no answer; when the session is over nobody has to know.
    pub(super) async fn tell(&self, command: Command) {
        let _ = self.0.send(command).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A message that is put into the queue between the receiver's last look and its end is dropped by nobody: without the
    /// second half of `ask` this hangs within some ten thousand rounds.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_asks_as_the_session_ends_is_not_left_waiting() {
        for round in 0..50_000 {
            let (commands, inbox) = Commands::new();
            let asking =
                tokio::spawn(async move { commands.ask(|done| Command::Close(EndReason::Shutdown, done)).await });
            drop(inbox);
            let heard = tokio::time::timeout(Duration::from_secs(10), asking).await;
            assert_eq!(heard.unwrap_or_else(|_| panic!("no end in round {round}")).expect("no panic"), None);
        }
    }

    #[tokio::test]
    async fn an_answer_is_heard_also_when_the_session_ends_right_after_it() {
        let (commands, mut inbox) = Commands::new();
        let asking = tokio::spawn(async move { commands.ask(Command::NewCandidates).await });
        match inbox.recv().await {
            Some(Command::NewCandidates(answer)) => drop(answer.send(None)),
            _ => panic!("another command"),
        }
        drop(inbox);
        assert!(asking.await.expect("no panic").is_some());
    }
}
