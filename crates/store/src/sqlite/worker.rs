//! The one thread that has the database. SQLite blocks on disk and locks; this keeps that away from the async threads,
//! and gives every call its turn.

use crate::StoreError;
use crate::limits::QUEUE;
use rusqlite::Connection;
use std::io;
use std::thread::{self, JoinHandle};
use tokio::sync::{mpsc, oneshot};

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

#[derive(Debug)]
pub(super) struct Worker {
    /// Both are taken when the worker is dropped, and only then.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(mut connection: Connection) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut connection);
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has `work` done on the thread and waits for its answer. Work of a caller that is gone before its turn is left out.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        const ENDED: StoreError = StoreError::Unavailable("its thread has ended");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if !answer.is_closed() {
                // A caller that leaves meanwhile does not learn what became of its change; it is committed or not.
                let _ = answer.send(work(connection));
            }
        });
        self.jobs.as_ref().ok_or(ENDED)?.send(job).await.map_err(|_| ENDED)?;
        answered.await.map_err(|_| ENDED)?
    }
}

impl Drop for Worker {
    /// Finishes what is queued and closes the database, so that it can be opened again as soon as this returns.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic in a job has been reported by the thread itself, and its caller was told `Unavailable`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::mpsc as std_mpsc;
    use std::task::{Context, Waker};

    fn worker() -> Worker {
        Worker::start(Connection::open_in_memory().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn work_nobody_waits_for_is_left_out_before_its_turn() {
        let worker = worker();
        let (release, released) = std_mpsc::channel::<()>();
        let (started, has_started) = std_mpsc::channel();
        let (done, did) = std_mpsc::channel();
        let hold = move |_: &mut Connection| {
            started.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        };
        let job = |name: &'static str| {
            let done = done.clone();
            move |_: &mut Connection| {
                done.send(name).unwrap();
                Ok(())
            }
        };
        {
            let mut context = Context::from_waker(Waker::noop());
            let (mut holding, mut abandoned) = (pin!(worker.run(hold)), pin!(worker.run(job("abandoned"))));
            assert!(holding.as_mut().poll(&mut context).is_pending());
            has_started.recv().unwrap();
            assert!(abandoned.as_mut().poll(&mut context).is_pending());
        }
        release.send(()).unwrap();
        worker.run(job("awaited")).await.unwrap();
        assert_eq!(did.try_iter().collect::<Vec<_>>(), ["awaited"]);
    }

    #[tokio::test]
    async fn a_thread_that_has_ended_is_unavailable() {
        let worker = worker();
        let broken = worker.run(|_| -> Result<(), StoreError> { panic!("a bug in a job") }).await;
        assert!(matches!(broken, Err(StoreError::Unavailable(_))), "{broken:?}");
        let after = worker.run(|_| Ok(())).await;
        assert!(matches!(after, Err(StoreError::Unavailable(_))), "{after:?}");
    }
}
