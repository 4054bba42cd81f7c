//! One request in a group: what it does in the transaction, and to whom its answer goes once the group has committed.

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::fault::{Fault, failed};
use super::session::Tx;
use crate::state::leave::Leave;
use crate::state::{Error, Put, Recorded, Result, WriteError};

/// Where the answer to a request will come.
pub(super) type Answer<T> = oneshot::Receiver<Result<T, WriteError>>;

pub(in crate::state::postgres) enum Job {
    /// A new object and nothing else: many of them are one statement.
    Record(Box<Record>),
    Other(Box<dyn Work>),
}

impl Job {
    /// A new object, and where its answer will come.
    pub(super) fn record(leave: Leave, put: Put, since: u64) -> (Self, Answer<Recorded>) {
        let (reply, answer) = oneshot::channel();
        let record = Record {
            leave,
            put,
            since,
            result: None,
            reply,
        };
        (Self::Record(Box::new(record)), answer)
    }

    /// Any other change, and where its answer will come.
    pub(super) fn of<T, F>(work: F) -> (Self, Answer<T>)
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Tx) -> BoxFuture<'a, Result<T, Fault>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task = Task {
            work: Some(work),
            result: None,
            reply,
        };
        (Self::Other(Box::new(task)), answer)
    }

    pub(super) fn answer(self, committed: Result<()>) {
        match self {
            Self::Record(record) => answer(record.reply, record.result, committed),
            Self::Other(work) => work.answer(committed),
        }
    }
}

pub(in crate::state::postgres) struct Record {
    pub leave: Leave,
    pub put: Put,
    /// Where the journal stood before the object was published.
    pub since: u64,
    pub result: Option<Result<Recorded, WriteError>>,
    reply: oneshot::Sender<Result<Recorded, WriteError>>,
}

pub(in crate::state::postgres) trait Work: Send {
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, Ran>;
    fn answer(self: Box<Self>, committed: Result<()>);
}

pub(in crate::state::postgres) enum Ran {
    Kept,
    /// The request's changes are to be taken back.
    Undone,
}

struct Task<T, F> {
    work: Option<F>,
    result: Option<Result<T, WriteError>>,
    reply: oneshot::Sender<Result<T, WriteError>>,
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: for<'a> FnOnce(&'a mut Tx) -> BoxFuture<'a, Result<T, Fault>> + Send,
{
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, Ran> {
        Box::pin(async move {
            let Some(work) = self.work.take() else {
                return Ran::Kept;
            };
            let (result, ran) = match work(tx).await {
                Ok(value) => (Ok(value), Ran::Kept),
                Err(Fault::Refused(e)) => (Err(e), Ran::Undone),
                Err(Fault::Sql(e)) => (Err(failed(&e).into()), Ran::Undone),
            };
            self.result = Some(result);
            ran
        })
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        answer(self.reply, self.result, committed);
    }
}

fn answer<T>(
    reply: oneshot::Sender<Result<T, WriteError>>,
    result: Option<Result<T, WriteError>>,
    committed: Result<()>,
) {
    let result = match (committed, result) {
        (Ok(()), Some(result)) => result,
        (Err(e), _) => Err(e.into()),
        (Ok(()), None) => Err(Error::Closed.into()),
    };
    // The caller may have gone away; the change is made all the same.
    drop(reply.send(result));
}
