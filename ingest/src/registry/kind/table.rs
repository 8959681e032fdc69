use serde::{Deserialize, Serialize};

use super::KindSpec;
use crate::registry::Faults;

/// A table that stays as it is, for queries to join with: who owns an application, which
/// networks are one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its rows as CSV (RFC 4180), with the names of its columns in the first line; up to
    /// 200,000 bytes. A file `tables/NAME.csv` in the directory of the configuration is the
    /// table of that name.
    pub csv: String,
}

impl Table {
    /// The longest text, in bytes.
    pub const CSV_BYTES_MAX: usize = 200_000;
}

impl KindSpec for Table {
    fn validate(&self, faults: &mut Faults) {
        let bytes = self.csv.len();
        if bytes > Self::CSV_BYTES_MAX {
            let mend = format!(
                "use up to {}, or give each analytics node a larger one in analytics.queries_dir",
                Self::CSV_BYTES_MAX
            );
            faults.add("csv", format!("has {bytes} bytes"), mend);
        }
    }
}
