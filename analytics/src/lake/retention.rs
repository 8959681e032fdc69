//! Old events go, whole files at a time.

use deltalake::kernel::Action;
use deltalake::protocol::DeltaOperation;
use jiff::{SignedDuration, Timestamp};

use super::Error;
use super::rows::EVENT_DATE;
use super::table::Table;

impl Table {
    /// Takes the files out of the table that are of days which ended longer ago than `kept`,
    /// and were written longer ago than that: so a replay of old traffic stays as long as
    /// other events. Those who read by an earlier snapshot have them for 6 hours more. Answers
    /// how many they were.
    ///
    /// # Errors
    /// [`Error::Overtaken`] if another process has changed files meanwhile; [`Error::Table`];
    /// then nothing has gone.
    pub async fn forget(&mut self, now: Timestamp, kept: SignedDuration) -> Result<usize, Error> {
        let Ok(before) = now.checked_sub(kept) else { return Ok(0) };
        let day = before.strftime("%Y-%m-%d").to_string();
        let snapshot = self.table.snapshot().map_err(self.fail("the reading"))?;
        let log_data = snapshot.log_data();
        let directory = format!("{EVENT_DATE}=");
        let old = log_data.iter().filter(|file| {
            let path = file.path();
            let of = path.strip_prefix(&directory).and_then(|path| path.get(..day.len()));
            // Dates of four-digit years stand in the order of their texts.
            of.is_some_and(|of| *of < *day) && file.modification_time() < before.as_millisecond()
        });
        let gone: Vec<Action> = old.map(|file| Action::Remove(file.remove_action(true))).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        let count = gone.len();
        let predicate = Some(format!("{EVENT_DATE} < '{day}'"));
        self.rewrite(gone, DeltaOperation::Delete { predicate }).await?;
        tracing::info!(files = count, before = day, "old events of the lake are gone");
        self.clean().await?;
        Ok(count)
    }
}
