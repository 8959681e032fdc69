//! Writers of the embedded log.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::Inner;
use super::request::{Answer, Records, Request};
use crate::log::{Appended, Result, Transaction, Writer};

pub(super) struct EmbeddedWriter {
    log: Arc<Inner>,
    id: String,
    epoch: u64,
}

impl EmbeddedWriter {
    /// Takes the name; whoever had it is refused from now on.
    pub(super) async fn new(log: Arc<Inner>, id: &str) -> Result<Self> {
        match log.submit(Request::Fence { writer: id.to_owned() }).await? {
            Answer::Epoch(epoch) => Ok(Self { log, id: id.to_owned(), epoch }),
            answer => unreachable!("a fence is answered with an epoch, not {answer:?}"),
        }
    }
}

#[async_trait]
impl Writer for EmbeddedWriter {
    async fn commit(&mut self, transaction: Transaction) -> Result<Vec<Appended>> {
        let records = Records::encode(&transaction.records, &self.log.shared.spares)?;
        let (writer, epoch, offsets) = (self.id.clone(), self.epoch, transaction.offsets);
        self.log.submit_records(Request::Transact { writer, epoch, records, offsets }).await
    }
}

impl fmt::Debug for EmbeddedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmbeddedWriter({:?}, epoch {})", self.id, self.epoch)
    }
}
